//! The states of a breaker, as a function of calls, verdicts and time.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::verdict::{Verdict, Wait};
use super::window::Window;
use crate::client::backoff::{Jitter, Random, nanos};

/// Changes that wait to be told, should whoever is told take long. What is beyond is not told.
const CHANGES: usize = 64;

/// The most successes that wait to be counted.
const MOST_WAITING: u64 = 64;

/// Where a breaker stands.
///
/// ```text
///          too many failures             its time is over
/// Closed ──────────────────────▶ Open ──────────────────────▶ HalfOpen
///    ▲                            ▲                            │    │
///    │                            └──────── a failure ─────────┘    │
///    └────────────────────── enough successes ──────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CircuitState {
    /// Calls are let through, and counted.
    Closed,
    /// Calls are refused.
    Open,
    /// A few calls are let through, to find out.
    HalfOpen,
}

/// What a breaker has counted, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CircuitStats {
    /// Where it stands.
    pub state: CircuitState,
    /// Whether it is held there by hand.
    pub forced: bool,
    /// Calls that were let through and have ended.
    pub calls: u64,
    /// Those that succeeded.
    pub successes: u64,
    /// Those that failed.
    pub failures: u64,
    /// Those that say nothing, or were given up.
    pub neutral: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// How often it opened.
    pub opened: u64,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// Calls within the window, those without a verdict left out.
    pub window_calls: u64,
    /// Failures within the window.
    pub window_failures: u64,
    /// How long it is still open; `None` when it is not, or by hand.
    pub open_for: Option<Duration>,
}

/// When a breaker opens and closes. Checked by the builder.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) consecutive: Option<u32>,
    pub(super) rate: Option<f64>,
    pub(super) window: Duration,
    pub(super) minimum: u64,
    pub(super) open: Duration,
    pub(super) cap: Duration,
    pub(super) jitter: f64,
    pub(super) probes: u32,
    pub(super) successes: u32,
}

/// A change of state, to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) from: CircuitState,
    pub(super) to: CircuitState,
    /// How long it is to be open, if it knows.
    pub(super) open_for: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed,
    /// Closed by hand, whatever happens.
    Held,
    /// By hand when there is no end.
    Open {
        until: Option<Instant>,
    },
    HalfOpen {
        under_way: u32,
        successes: u32,
    },
}

#[derive(Debug)]
pub(super) struct Circuit {
    settings: Settings,
    phase: Phase,
    /// Grows with each change. Verdicts of calls of an earlier one change nothing.
    generation: u64,
    window: Window,
    consecutive: u32,
    random: Jitter,
    /// How often it opened without having been well in between.
    row: u32,
    /// How long it was open last, and when it closed.
    closed: Option<(Duration, Instant)>,
    last_open: Duration,
    successes: u64,
    failures: u64,
    neutral: u64,
    refused: u64,
    opened: u64,
    pub(super) changes: VecDeque<Change>,
    /// Whether somebody tells of the changes at this moment.
    pub(super) is_telling: bool,
}

impl Circuit {
    pub(super) fn new(settings: Settings, now: Instant) -> Self {
        Circuit {
            window: Window::new(settings.window, now),
            settings,
            phase: Phase::Closed,
            generation: 0,
            consecutive: 0,
            random: Jitter::from_system(),
            row: 0,
            closed: None,
            last_open: Duration::ZERO,
            successes: 0,
            failures: 0,
            neutral: 0,
            refused: 0,
            opened: 0,
            changes: VecDeque::new(),
            is_telling: false,
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether every call is let through.
    pub(super) fn lets_all_through(&self) -> bool {
        matches!(self.phase, Phase::Closed | Phase::Held)
    }

    /// Whether a success changes nothing but counters.
    pub(super) fn is_well(&self) -> bool {
        self.phase == Phase::Closed && self.consecutive == 0 && self.window.is_unmarked()
    }

    /// How many successes may wait to be counted while it is well: few beside what the failure rate needs.
    pub(super) fn batch(&self) -> u64 {
        match self.settings.rate {
            Some(_) => (self.settings.minimum / 4).clamp(1, MOST_WAITING),
            None => MOST_WAITING,
        }
    }

    /// Counts successes that have waited.
    pub(super) fn count_successes(&mut self, successes: u64, now: Instant) {
        self.successes += successes;
        if self.phase == Phase::Closed {
            self.window.add(now, successes, 0);
        }
    }

    pub(super) fn state(&self) -> CircuitState {
        match self.phase {
            Phase::Closed | Phase::Held => CircuitState::Closed,
            Phase::Open { .. } => CircuitState::Open,
            Phase::HalfOpen { .. } => CircuitState::HalfOpen,
        }
    }

    /// Notices that the time of an open circuit is over.
    pub(super) fn advance(&mut self, now: Instant) {
        if let Phase::Open { until: Some(until) } = self.phase
            && now >= until
        {
            self.change(Phase::HalfOpen {
                under_way: 0,
                successes: 0,
            });
        }
    }

    /// Whether a call would be let through; if not, until when.
    pub(super) fn look(&mut self, now: Instant) -> Result<(), Wait> {
        self.advance(now);
        match self.phase {
            Phase::Closed | Phase::Held => Ok(()),
            Phase::Open { until: None } => Err(Wait::Forced),
            Phase::Open { until: Some(until) } => {
                Err(Wait::For(until.saturating_duration_since(now)))
            }
            Phase::HalfOpen { under_way, .. } if under_way < self.settings.probes => Ok(()),
            Phase::HalfOpen { .. } => Err(Wait::Probes),
        }
    }

    /// As [`look`](Self::look), and counts who is refused.
    pub(super) fn check(&mut self, now: Instant) -> Result<(), Wait> {
        let result = self.look(now);
        self.refused += u64::from(result.is_err());
        result
    }

    /// Lets a call through, or refuses it. Gives the generation that it belongs to.
    pub(super) fn acquire(&mut self, now: Instant) -> Result<u64, Wait> {
        self.check(now)?;
        if let Phase::HalfOpen { under_way, .. } = &mut self.phase {
            *under_way += 1;
        }
        Ok(self.generation)
    }

    /// A call of this generation has ended. Says whether another one may be let through in its place.
    pub(super) fn end(&mut self, generation: u64, verdict: Verdict, now: Instant) -> bool {
        match verdict {
            Verdict::Success => self.successes += 1,
            Verdict::Failure => self.failures += 1,
            Verdict::Neutral => self.neutral += 1,
        }
        if generation != self.generation {
            return false;
        }
        match &mut self.phase {
            Phase::Held | Phase::Open { .. } => false,
            Phase::Closed => {
                self.count(verdict, now);
                false
            }
            Phase::HalfOpen {
                under_way,
                successes,
            } => {
                *under_way -= 1;
                match verdict {
                    Verdict::Neutral => {}
                    Verdict::Failure => self.open(now),
                    Verdict::Success => {
                        *successes += 1;
                        if *successes >= self.settings.successes {
                            self.close(now);
                        }
                    }
                }
                true
            }
        }
    }

    fn count(&mut self, verdict: Verdict, now: Instant) {
        match verdict {
            Verdict::Neutral => return,
            Verdict::Success => {
                self.consecutive = 0;
                self.window.add(now, 1, 0);
            }
            Verdict::Failure => {
                self.consecutive = self.consecutive.saturating_add(1);
                self.window.add(now, 1, 1);
            }
        }
        if self.is_too_much(now) {
            let well = |(open, since)| now.saturating_duration_since(since) >= open;
            if self.closed.is_none_or(well) {
                self.row = 0;
            }
            self.open(now);
        }
    }

    fn is_too_much(&mut self, now: Instant) -> bool {
        let settings = &self.settings;
        if settings
            .consecutive
            .is_some_and(|most| self.consecutive >= most)
        {
            return true;
        }
        settings.rate.is_some_and(|rate| {
            let counts = self.window.total(now);
            counts.marked > 0
                && counts.calls >= settings.minimum
                && counts.marked as f64 >= rate * counts.calls as f64
        })
    }

    /// Opens for its time, which is twice as long as the last one unless it was well in between.
    fn open(&mut self, now: Instant) {
        let cap = nanos(self.settings.cap);
        let longest = nanos(self.settings.open).saturating_mul(1 << self.row.min(63));
        let longest = longest.min(cap);
        let shortest = (longest as f64 * (1.0 - self.settings.jitter)) as u64;
        let duration = self.random.between(shortest.min(longest), longest);
        self.row = self.row.saturating_add(1);
        self.opened += 1;
        self.last_open = duration;
        self.change(Phase::Open {
            until: Some(now + duration),
        });
    }

    fn close(&mut self, now: Instant) {
        self.closed = Some((self.last_open, now));
        self.forget();
        self.change(Phase::Closed);
    }

    fn forget(&mut self) {
        self.consecutive = 0;
        self.window.clear();
    }

    /// Opens until told otherwise.
    pub(super) fn force_open(&mut self) {
        self.opened += u64::from(self.state() != CircuitState::Open);
        self.change(Phase::Open { until: None });
    }

    /// Closes until told otherwise.
    pub(super) fn force_close(&mut self) {
        self.forget();
        self.change(Phase::Held);
    }

    /// Closes as if nothing had happened.
    pub(super) fn reset(&mut self) {
        self.forget();
        self.row = 0;
        self.closed = None;
        self.change(Phase::Closed);
    }

    fn change(&mut self, phase: Phase) {
        let from = self.state();
        self.phase = phase;
        self.generation += 1;
        let to = self.state();
        if from == to {
            return;
        }
        if self.changes.len() == CHANGES {
            self.changes.pop_front();
        }
        let open_for = match phase {
            Phase::Open { until: Some(_) } => Some(self.last_open),
            _ => None,
        };
        self.changes.push_back(Change { from, to, open_for });
    }

    pub(super) fn stats(&mut self, now: Instant) -> CircuitStats {
        self.advance(now);
        let counts = self.window.total(now);
        CircuitStats {
            state: self.state(),
            forced: matches!(self.phase, Phase::Held | Phase::Open { until: None }),
            calls: self.successes + self.failures + self.neutral,
            successes: self.successes,
            failures: self.failures,
            neutral: self.neutral,
            refused: self.refused,
            opened: self.opened,
            consecutive_failures: self.consecutive,
            window_calls: counts.calls,
            window_failures: counts.marked,
            open_for: match self.phase {
                Phase::Open { until: Some(until) } => Some(until.saturating_duration_since(now)),
                _ => None,
            },
        }
    }
}
