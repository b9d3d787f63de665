//! What one thread counts, second by second.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use hdrhistogram::Histogram;

use super::run::{Run, histogram, lock, nanos};

/// What happened in one interval.
pub(super) struct Interval {
    /// From 0.
    pub(super) index: usize,
    pub(super) messages: u64,
    pub(super) lost: u64,
    pub(super) errors: u64,
    /// Nanoseconds.
    pub(super) latency: Histogram<u64>,
}

impl Interval {
    fn new(index: usize, latency: Histogram<u64>) -> Self {
        Interval {
            index,
            messages: 0,
            lost: 0,
            errors: 0,
            latency,
        }
    }

    /// Takes over what another one of the same time has.
    pub(super) fn add(&mut self, other: &Interval) {
        self.messages += other.messages;
        self.lost += other.lost;
        self.errors += other.errors;
        // They have the same bounds.
        let _ = self.latency.add(&other.latency);
    }
}

/// What one thread counts. Others look at it a few times a second; what takes long then, adding up
/// histograms, is done outside of the lock.
pub(super) struct Recorder {
    run: Arc<Run>,
    tally: Mutex<Tally>,
    /// All of them, also while connections are made and closed.
    errors: AtomicU64,
    first_error: Mutex<Option<String>>,
}

struct Tally {
    current: Interval,
    /// When the current one ends, once that is known.
    ends: Option<Instant>,
    finished: Vec<Interval>,
    /// An empty histogram, so that the thread need not make one while it measures.
    spare: Option<Histogram<u64>>,
    /// Those of all intervals.
    messages: u64,
}

impl Tally {
    /// The interval to which belongs what happens at `now`.
    fn at(&mut self, run: &Run, now: Instant) -> &mut Interval {
        if self.ends.is_none_or(|ends| ends <= now) {
            let index = run.interval(now);
            self.ends = run.interval_end(index);
            // A thread that looked at the clock before another one may be late.
            if index > self.current.index {
                let latency = self.spare.take().unwrap_or_else(histogram);
                let next = Interval::new(index, latency);
                self.finished.push(mem::replace(&mut self.current, next));
            }
        }
        &mut self.current
    }
}

impl Recorder {
    pub(super) fn new(run: Arc<Run>) -> Self {
        Recorder {
            run,
            tally: Mutex::new(Tally {
                current: Interval::new(0, histogram()),
                ends: None,
                finished: Vec::new(),
                spare: Some(histogram()),
                messages: 0,
            }),
            errors: AtomicU64::new(0),
            first_error: Mutex::default(),
        }
    }

    /// Something that began, or should have begun, at `begun` is done.
    pub(super) fn done(&self, begun: Instant, now: Instant) {
        let counts = self.run.counts(now);
        // By its beginning: what is late at the end counts with its whole delay.
        let is_timed = self.run.counts(begun);
        if counts || is_timed {
            let mut tally = lock(&self.tally);
            tally.messages += u64::from(counts);
            let interval = tally.at(&self.run, now);
            interval.messages += u64::from(counts);
            if is_timed {
                let elapsed = nanos(now.saturating_duration_since(begun));
                interval.latency.saturating_record(elapsed.max(1));
            }
        }
    }

    /// What began at `begun` has no answer.
    pub(super) fn lost(&self, begun: Instant) {
        if self.run.counts(begun) {
            lock(&self.tally).at(&self.run, Instant::now()).lost += 1;
        }
    }

    /// A message has left that nobody answers.
    pub(super) fn left(&self, now: Instant) {
        if self.run.counts(now) {
            let mut tally = lock(&self.tally);
            tally.messages += 1;
            tally.at(&self.run, now).messages += 1;
        }
    }

    pub(super) fn error(&self, text: impl Into<String>) {
        self.errors_of(1, text);
    }

    pub(super) fn errors_of(&self, count: u64, text: impl Into<String>) {
        if count == 0 {
            return;
        }
        self.errors.fetch_add(count, Ordering::Relaxed);
        lock(&self.first_error).get_or_insert_with(|| text.into());
        let now = Instant::now();
        if self.run.counts(now) {
            lock(&self.tally).at(&self.run, now).errors += count;
        }
    }

    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    pub(super) fn first_error(&self) -> Option<String> {
        lock(&self.first_error).clone()
    }

    /// The messages that count, so far.
    pub(super) fn messages(&self) -> u64 {
        lock(&self.tally).messages
    }

    /// Takes the intervals that are over at `now`.
    pub(super) fn take_finished(&self, now: Instant) -> Vec<Interval> {
        let mut tally = lock(&self.tally);
        if self.run.counts(now) {
            tally.at(&self.run, now);
        }
        // The thread may have gone on since `now`, when others had not been looked at.
        let current = self.run.interval(now);
        let over = tally.finished.partition_point(|it| it.index < current);
        let later = tally.finished.split_off(over);
        mem::replace(&mut tally.finished, later)
    }

    /// Takes all that is left, when nothing comes any more.
    pub(super) fn take_all(&self) -> Vec<Interval> {
        let mut tally = lock(&self.tally);
        let next = Interval::new(tally.current.index, histogram());
        let last = mem::replace(&mut tally.current, next);
        tally.finished.push(last);
        mem::take(&mut tally.finished)
    }

    /// Gives an empty histogram back, to be used again.
    pub(super) fn give_back(&self, empty: Histogram<u64>) {
        lock(&self.tally).spare.get_or_insert(empty);
    }
}
