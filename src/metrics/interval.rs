//! Times of one interval after the other.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::latency::{AllTimes, Latency};
use super::monitor::PerformanceMonitor;

/// Times of one interval after the other: percentiles of the last second, for a plot or an alarm, where those of
/// [`metrics`](PerformanceMonitor::metrics) are of all that was recorded.
///
/// Made by [`PerformanceMonitor::intervals`]. Each is on its own: what one takes, others still see.
pub struct LatencyIntervals {
    monitor: PerformanceMonitor,
    /// What had been recorded when the interval began.
    before: AllTimes,
    /// How often the monitor had been reset by then.
    resets: u64,
    began: Instant,
}

impl LatencyIntervals {
    pub(super) fn new(monitor: PerformanceMonitor) -> Self {
        let (before, resets) = monitor.times();
        LatencyIntervals {
            monitor,
            before,
            resets,
            began: Instant::now(),
        }
    }

    /// Ends the interval, says what was recorded in it, and begins the next.
    ///
    /// When the monitor was [reset](PerformanceMonitor::reset) meanwhile, it is what was recorded after that.
    pub fn take(&mut self) -> IntervalLatency {
        let (times, resets) = self.monitor.times();
        if resets != self.resets {
            self.before = AllTimes::default();
            self.resets = resets;
        }
        let now = Instant::now();
        let recorded = times.since(&self.before);
        let elapsed = now.saturating_duration_since(self.began);
        self.before = times;
        self.began = now;
        IntervalLatency {
            elapsed,
            request_latency: recorded.requests.latency(),
            ping_latency: recorded.pings.latency(),
            handler_time: recorded.handlers.latency(),
            recorded_latency: recorded.recorded.latency(),
        }
    }
}

impl fmt::Debug for LatencyIntervals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LatencyIntervals")
            .field("began", &self.began)
            .finish_non_exhaustive()
    }
}

/// The times that were recorded in an interval. See [`PerformanceMetrics`](super::PerformanceMetrics) for what each
/// is; the `count` of one without times is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct IntervalLatency {
    /// How long the interval was.
    #[serde(
        rename = "elapsed_seconds",
        serialize_with = "super::snapshot::seconds"
    )]
    pub elapsed: Duration,
    /// How long requests of this side waited for their answer.
    pub request_latency: Latency,
    /// How long PINGs of this side waited for their PONG.
    pub ping_latency: Latency,
    /// How long handlers needed for a message, sampled once a read.
    pub handler_time: Latency,
    /// What the application recorded.
    pub recorded_latency: Latency,
}
