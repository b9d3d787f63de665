//! Counts over the last so many seconds.

use std::time::Duration;

use tokio::time::Instant;

/// Parts of a window. What is counted leaves it a part at a time, so up to a tenth early.
const SLICES: usize = 10;

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// All calls, or all requests.
    pub(super) calls: u64,
    /// Those that failed, or that were retries.
    pub(super) marked: u64,
}

/// Counts of a time that slides.
#[derive(Debug)]
pub(super) struct Window {
    slice: Duration,
    slices: [Counts; SLICES],
    /// Where in `slices` is counted.
    at: usize,
    /// When the next slice begins.
    ends: Instant,
    total: Counts,
}

impl Window {
    /// `length` is at least a millisecond, which whoever configures it checks.
    pub(super) fn new(length: Duration, now: Instant) -> Self {
        let slice = (length / SLICES as u32).max(Duration::from_micros(1));
        Window {
            slice,
            slices: [Counts::default(); SLICES],
            at: 0,
            ends: now + slice,
            total: Counts::default(),
        }
    }

    /// Counts.
    pub(super) fn add(&mut self, now: Instant, calls: u64, marked: u64) {
        self.advance(now);
        let slice = &mut self.slices[self.at];
        slice.calls += calls;
        slice.marked += marked;
        self.total.calls += calls;
        self.total.marked += marked;
    }

    /// What was counted within the window.
    pub(super) fn total(&mut self, now: Instant) -> Counts {
        self.advance(now);
        self.total
    }

    /// Whether nothing marked was counted when it was last looked at.
    pub(super) fn is_unmarked(&self) -> bool {
        self.total.marked == 0
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.slices = [Counts::default(); SLICES];
        self.total = Counts::default();
    }

    fn advance(&mut self, now: Instant) {
        if now >= self.ends {
            self.slide(now);
        }
    }

    #[cold]
    fn slide(&mut self, now: Instant) {
        let late = now.saturating_duration_since(self.ends).as_nanos();
        let passed = late / self.slice.as_nanos() + 1;
        if passed >= SLICES as u128 {
            self.clear();
            self.ends = now + self.slice;
            return;
        }
        for _ in 0..passed {
            self.at = (self.at + 1) % SLICES;
            let gone = std::mem::take(&mut self.slices[self.at]);
            self.total.calls -= gone.calls;
            self.total.marked -= gone.marked;
            self.ends += self.slice;
        }
    }
}
