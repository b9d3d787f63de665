//! How long peers take to answer, over many sessions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Times between a PING or a request and its answer.
#[derive(Debug)]
pub(crate) struct RoundTrips {
    count: AtomicU64,
    sum: AtomicU64,
    min: AtomicU64,
    max: AtomicU64,
    timed_out: AtomicU64,
}

/// The same at one moment, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RoundTripStats {
    /// 0 when nothing was answered.
    pub(crate) average: u64,
    /// `u64::MAX` when nothing was answered.
    pub(crate) min: u64,
    /// 0 when nothing was answered.
    pub(crate) max: u64,
    /// Requests that were not answered in time.
    pub(crate) timed_out: u64,
}

impl Default for RoundTrips {
    fn default() -> Self {
        RoundTrips {
            count: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            min: AtomicU64::new(u64::MAX),
            max: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
        }
    }
}

impl RoundTrips {
    /// An answer came.
    pub(crate) fn record(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(micros, Ordering::Relaxed);
        self.min.fetch_min(micros, Ordering::Relaxed);
        self.max.fetch_max(micros, Ordering::Relaxed);
    }

    /// No answer came in time.
    pub(crate) fn record_timeout(&self) {
        self.timed_out.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> RoundTripStats {
        let count = self.count.load(Ordering::Relaxed);
        let sum = self.sum.load(Ordering::Relaxed);
        RoundTripStats {
            average: sum.checked_div(count).unwrap_or(0),
            min: self.min.load(Ordering::Relaxed),
            max: self.max.load(Ordering::Relaxed),
            timed_out: self.timed_out.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn reset(&self) {
        self.count.store(0, Ordering::Relaxed);
        self.sum.store(0, Ordering::Relaxed);
        self.min.store(u64::MAX, Ordering::Relaxed);
        self.max.store(0, Ordering::Relaxed);
        self.timed_out.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_averaged_bounded_and_forgotten() {
        let empty = RoundTripStats {
            average: 0,
            min: u64::MAX,
            max: 0,
            timed_out: 0,
        };
        let times = RoundTrips::default();
        assert_eq!(times.read(), empty);
        for micros in [300, 100, 200] {
            times.record(Duration::from_micros(micros));
        }
        times.record_timeout();
        let stats = times.read();
        assert_eq!((stats.average, stats.min, stats.max), (200, 100, 300));
        assert_eq!(stats.timed_out, 1);
        times.reset();
        assert_eq!(times.read(), empty);
    }
}
