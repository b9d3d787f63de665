//! How much there is a second.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The shortest time that rates are taken over.
const SPAN: Duration = Duration::from_secs(1);

/// Reads that follow each other more closely leave one sample.
const STEP: Duration = Duration::from_millis(100);

/// What rates are taken of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    pub(super) connections: u64,
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

/// What was counted a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct PerSecond {
    pub(super) connections: f64,
    pub(super) messages: f64,
    pub(super) bytes: f64,
}

/// What was counted at earlier reads, the oldest first.
///
/// Only the newest that is [`SPAN`] old and those after it are kept, so there are never more than a dozen.
#[derive(Debug, Default)]
pub(super) struct Rates {
    samples: VecDeque<(Instant, Sample)>,
}

impl Rates {
    /// Counts from zero again.
    pub(super) fn reset(&mut self) {
        self.samples.clear();
    }

    /// Takes a sample, and compares it with the newest one that is at least [`SPAN`] old; without one, with
    /// nothing at `since`.
    pub(super) fn read(&mut self, now: Instant, total: Sample, since: Instant) -> PerSecond {
        let age = |at: Instant| now.saturating_duration_since(at);
        while self.samples.get(1).is_some_and(|next| age(next.0) >= SPAN) {
            self.samples.pop_front();
        }
        let oldest = self.samples.front().copied();
        let (began, before) = oldest
            .filter(|oldest| age(oldest.0) >= SPAN)
            .unwrap_or((since, Sample::default()));
        let is_new = |last: &(Instant, Sample)| age(last.0) >= STEP;
        if self.samples.back().is_none_or(is_new) {
            self.samples.push_back((now, total));
        }
        let seconds = age(began).as_secs_f64();
        let rate = |now: u64, then: u64| match seconds > 0.0 {
            true => now.saturating_sub(then) as f64 / seconds,
            false => 0.0,
        };
        PerSecond {
            connections: rate(total.connections, before.connections),
            messages: rate(total.messages, before.messages),
            bytes: rate(total.bytes, before.bytes),
        }
    }
}

#[cfg(test)]
impl Rates {
    pub(super) fn len(&self) -> usize {
        self.samples.len()
    }
}
