//! The clock of a run, and what its threads have counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use network_system::Session;
use tokio::sync::watch;

/// What all threads share. It is written a few times in a run, but for the count of broadcasts.
pub(super) struct Run {
    base: Instant,
    /// From when to when it counts; set when all connections are there.
    measured: OnceLock<(Instant, Instant)>,
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
    pub(super) fn new() -> Self {
        Run {
            base: Instant::now(),
            measured: OnceLock::new(),
            stopped: AtomicBool::new(false),
            ended: OnceLock::new(),
            stages: OnceLock::new(),
            broadcast: Broadcast::default(),
        }
    }

    pub(super) fn start(&self, from: Instant, until: Instant) {
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

    /// A moment as nanoseconds of the run.
    pub(super) fn stamp(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.base))
    }

    pub(super) fn instant(&self, stamp: u64) -> Instant {
        self.base + Duration::from_nanos(stamp)
    }
}

/// What one thread counts. Only the progress line reads it meanwhile.
pub(super) struct Recorder {
    latency: Mutex<Histogram<u64>>,
    /// Messages that count.
    pub(super) messages: AtomicU64,
    /// Messages without an answer, where they may be lost.
    pub(super) lost: AtomicU64,
    errors: AtomicU64,
    first_error: Mutex<Option<String>>,
}

impl Recorder {
    pub(super) fn new() -> Self {
        Recorder {
            latency: Mutex::new(histogram()),
            messages: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            first_error: Mutex::default(),
        }
    }

    /// Something that began, or should have begun, at `begun` is done.
    pub(super) fn done(&self, run: &Run, begun: Instant, now: Instant) {
        if run.counts(now) {
            self.messages.fetch_add(1, Ordering::Relaxed);
        }
        // By its beginning: what is late at the end counts with its whole delay.
        if run.counts(begun) {
            let elapsed = nanos(now.saturating_duration_since(begun));
            lock(&self.latency).saturating_record(elapsed.max(1));
        }
    }

    /// What began at `begun` has no answer.
    pub(super) fn lost(&self, run: &Run, begun: Instant) {
        if run.counts(begun) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A message has left that nobody answers.
    pub(super) fn left(&self, run: &Run, now: Instant) {
        if run.counts(now) {
            self.messages.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn error(&self, text: impl Into<String>) {
        self.errors_of(1, text);
    }

    pub(super) fn errors_of(&self, count: u64, text: impl Into<String>) {
        if count > 0 {
            self.errors.fetch_add(count, Ordering::Relaxed);
            lock(&self.first_error).get_or_insert_with(|| text.into());
        }
    }

    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    pub(super) fn first_error(&self) -> Option<String> {
        lock(&self.first_error).clone()
    }

    pub(super) fn add_latency(&self, total: &mut Histogram<u64>) {
        // They have the same bounds.
        let _ = total.add(&*lock(&self.latency));
    }
}

/// From a nanosecond to an hour, with three digits.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("the bounds are in order")
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
