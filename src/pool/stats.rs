//! What a pool counts, and how it ends.

use crate::metrics::Latency;

/// Why an item was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Broken,
    Check,
    Idle,
    Age,
    Discarded,
    Detached,
    Closing,
}

/// How many items were closed, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolClosed {
    /// Broken, as the manager said or the watch of the item told.
    pub broken: u64,
    /// They did not pass their check, or not in time, or the check was dropped.
    pub failed_check: u64,
    /// Idle for too long.
    pub idle: u64,
    /// Too old.
    pub age: u64,
    /// [`Pooled::discard`](super::Pooled::discard).
    pub discarded: u64,
    /// Taken out with [`Pooled::detach`](super::Pooled::detach): not closed, but the pool's no longer.
    pub detached: u64,
    /// The pool closed.
    pub closing: u64,
}

impl PoolClosed {
    /// All of them.
    pub fn total(&self) -> u64 {
        let PoolClosed {
            broken,
            failed_check,
            idle,
            age,
            discarded,
            detached,
            closing,
        } = self;
        broken + failed_check + idle + age + discarded + detached + closing
    }

    pub(super) fn count(&mut self, why: Why) {
        *match why {
            Why::Broken => &mut self.broken,
            Why::Check => &mut self.failed_check,
            Why::Idle => &mut self.idle,
            Why::Age => &mut self.age,
            Why::Discarded => &mut self.discarded,
            Why::Detached => &mut self.detached,
            Why::Closing => &mut self.closing,
        } += 1;
    }
}

/// What is counted beside that.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) created: u64,
    pub(super) create_failures: u64,
    pub(super) closed: PoolClosed,
    pub(super) acquired: u64,
    pub(super) timeouts: u64,
    pub(super) refused: u64,
}

/// A pool at one moment, and what it has counted since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Items that there are: idle, in use or being checked.
    pub size: usize,
    /// Items that wait to be used.
    pub idle: usize,
    /// Items whose guards are out.
    pub in_use: usize,
    /// Items that are being checked.
    pub checking: usize,
    /// Items that are being made.
    pub creating: usize,
    /// Items that are being closed.
    pub closing: usize,
    /// Callers that wait for an item.
    pub waiting: usize,
    /// Items that were made.
    pub created: u64,
    /// How often an item could not be made.
    pub create_failures: u64,
    /// Items that were closed, by reason.
    pub closed: PoolClosed,
    /// Items that were lent.
    pub acquired: u64,
    /// Callers to whom no item came in time.
    pub timeouts: u64,
    /// Callers who were turned away because too many waited.
    pub refused: u64,
    /// How long those waited who had to wait and got an item.
    pub waits: Latency,
}

/// How a pool closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolReport {
    /// Whether everything was given back and closed before the deadline.
    pub in_order: bool,
    /// Items whose guards were still out. They are closed when their guards are dropped.
    pub left: usize,
}

impl Default for PoolReport {
    fn default() -> Self {
        PoolReport {
            in_order: true,
            left: 0,
        }
    }
}
