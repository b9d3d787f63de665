//! The clock of a run, and what all its threads share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use network_system::Session;
use tokio::sync::watch;

use crate::output;

const NANOSECOND: Duration = Duration::from_nanos(1);

/// What all threads share. It is written a few times in a run, but for the count of broadcasts.
pub(super) struct Run {
    base: Instant,
    /// Of an interval for which there are figures.
    pub(super) width: Duration,
    /// From when to when it counts; set when all connections are there.
    measured: OnceLock<(Instant, Instant)>,
    /// When the load began, as in RFC 3339.
    started_at: OnceLock<String>,
    stopped: AtomicBool,
    /// When it was ended before its time.
    ended: OnceLock<Instant>,
    /// The stages that the first connection has agreed on; all others have the same server.
    pub(super) stages: OnceLock<Vec<String>>,
    pub(super) broadcast: Broadcast,
}

/// What sender and receivers of broadcasts have in common.
#[derive(Default)]
pub(super) struct Broadcast {
    pub(super) sender: OnceLock<Session>,
    pub(super) receivers: OnceLock<u64>,
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    sender_closed: watch::Sender<bool>,
}

impl Broadcast {
    pub(super) fn sender_closed(&self) {
        self.sender_closed.send_replace(true);
    }

    /// Waits until all that was sent is with the receivers' connections.
    pub(super) async fn wait_for_sender(&self) {
        let _ = self
            .sender_closed
            .subscribe()
            .wait_for(|closed| *closed)
            .await;
    }

    /// Messages that receivers should have had and did not.
    pub(super) fn lost(&self) -> u64 {
        let receivers = self.receivers.get().copied().unwrap_or(0);
        let expected = self.sent.load(Ordering::Relaxed) * receivers;
        expected.saturating_sub(self.received.load(Ordering::Relaxed))
    }
}

impl Run {
    pub(super) fn new(width: Duration) -> Self {
        Run {
            base: Instant::now(),
            width,
            measured: OnceLock::new(),
            started_at: OnceLock::new(),
            stopped: AtomicBool::new(false),
            ended: OnceLock::new(),
            stages: OnceLock::new(),
            broadcast: Broadcast::default(),
        }
    }

    pub(super) fn start(&self, from: Instant, until: Instant) {
        let _ = self.started_at.set(output::now());
        let _ = self.measured.set((from, until));
    }

    /// Ends the load before its time.
    pub(super) fn stop(&self) {
        let _ = self.ended.set(Instant::now());
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// When it was ended before its time; now, if it was not.
    pub(super) fn ended(&self) -> Instant {
        self.ended.get().copied().unwrap_or_else(Instant::now)
    }

    /// Whether the load goes on at `now`.
    pub(super) fn is_on(&self, now: Instant) -> bool {
        !self.stopped.load(Ordering::Relaxed)
            && self.measured.get().is_some_and(|&(_, until)| now < until)
    }

    /// Whether what happens at `at` counts.
    pub(super) fn counts(&self, at: Instant) -> bool {
        let over = self.stopped.load(Ordering::Relaxed) && self.ended() <= at;
        !over
            && self
                .measured
                .get()
                .is_some_and(|&(from, until)| from <= at && at < until)
    }

    pub(super) fn measured(&self) -> Option<(Instant, Instant)> {
        self.measured.get().copied()
    }

    /// When the load began, as in RFC 3339.
    pub(super) fn started_at(&self) -> Option<String> {
        self.started_at.get().cloned()
    }

    /// How long it is measured; so far, if it has not ended.
    pub(super) fn elapsed(&self) -> Duration {
        self.measured
            .get()
            .map_or(Duration::ZERO, |&(from, until)| {
                until.min(self.ended()).saturating_duration_since(from)
            })
    }

    /// The interval in which `at` is, from 0. What comes after the end is in the last one.
    pub(super) fn interval(&self, at: Instant) -> usize {
        let Some(&(from, until)) = self.measured.get() else {
            return 0;
        };
        let end = match self.ended.get() {
            Some(&ended) => until.min(ended),
            None => until,
        };
        let at = at.min(end - NANOSECOND).saturating_duration_since(from);
        (at.as_nanos() / self.width.as_nanos()) as usize
    }

    /// When an interval ends.
    pub(super) fn interval_end(&self, interval: usize) -> Option<Instant> {
        let &(from, _) = self.measured.get()?;
        from.checked_add(self.width.checked_mul(u32::try_from(interval).ok()? + 1)?)
    }

    /// A moment as nanoseconds of the run.
    pub(super) fn stamp(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.base))
    }

    pub(super) fn instant(&self, stamp: u64) -> Instant {
        self.base + Duration::from_nanos(stamp)
    }
}

/// From a nanosecond to an hour, with three digits.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("the bounds are in order")
}

pub(super) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
