//! The namespace of the classic utilities: the performance monitor, and results.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub use super::result::{Result, VoidResult, error, error_void, ok};
use crate::metrics::{Latency, MemoryProfiler, PerformanceMonitor};

/// The monitor of the process, which every server and client of this module is attached to by itself.
///
/// In C++ the application feeds it by hand, with the functions that begin with `record_`. Here they are for what the
/// library cannot know of; messages and connections of its own servers and clients are counted already, and would
/// count twice. Those of a bridge count here too, unless its
/// [`enable_performance_monitoring`](super::bridge_config::enable_performance_monitoring) is off.
///
/// [`native`](Self::native) is the monitor below, to attach native servers to, and with everything that the classic
/// one has no name for: percentiles by kind, single servers and clients, Prometheus.
///
/// ```
/// use network_system::compat::performance_monitor;
/// use std::time::Duration;
///
/// let monitor = performance_monitor::instance();
/// monitor.record_latency(Duration::from_millis(5));
/// let metrics = monitor.get_metrics();
/// assert!(metrics.max_latency_us >= 5_000);
/// ```
pub struct performance_monitor {
    native: PerformanceMonitor,
}

/// What a [`performance_monitor`] knows at one moment, in plain numbers: `performance_monitor::metrics` in C++.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct metrics {
    /// Connections that were opened.
    pub total_connections: u64,
    /// Connections that are open.
    pub active_connections: u64,
    /// Connections that a limit refused, and attempts that failed.
    pub failed_connections: u64,
    /// Connections opened a second, lately.
    pub connections_per_second: u64,
    /// Messages sent.
    pub messages_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Messages a second in both directions, lately.
    pub messages_per_second: u64,
    /// Bytes of the messages sent, without framing.
    pub bytes_sent: u64,
    /// Bytes of the messages received, without framing.
    pub bytes_received: u64,
    /// Bytes a second in both directions, lately.
    pub bytes_per_second: u64,
    /// How long heartbeats and native requests waited for their answer, handlers took for a message, and what was
    /// recorded took, on average, in microseconds; 0 before the first. All times are right within 1 %.
    pub avg_latency_us: u64,
    /// The shortest of these times; `u64::MAX` before the first, as in C++.
    pub min_latency_us: u64,
    /// The longest of these times; 0 before the first.
    pub max_latency_us: u64,
    /// 95 % of these times were not longer; 0 before the first.
    pub p95_latency_us: u64,
    /// 99 % of these times were not longer; 0 before the first.
    pub p99_latency_us: u64,
    /// Messages that could not be sent.
    pub send_errors: u64,
    /// Frames and messages that were refused.
    pub receive_errors: u64,
    /// What took too long: connecting, requests, peers that are silent.
    pub timeout_errors: u64,
    /// Connections that were not made, not let in, or broke.
    pub connection_errors: u64,
    /// Bytes of memory that were recorded last; before the first time, bytes in queues and buffers of sessions.
    pub memory_usage_bytes: u64,
    /// Bytes in buffers that workers share among their sessions.
    pub buffer_pool_size: u64,
    /// The most that `memory_usage_bytes` was.
    pub peak_memory_usage: u64,
    /// When counting began.
    pub start_time: Instant,
    /// When a message was last sent or received; `start_time` before the first.
    pub last_update: Instant,
}

impl metrics {
    /// For how long this has been counted.
    pub fn uptime(&self) -> Duration {
        self.start_time.elapsed()
    }
}

/// Times in whole microseconds.
pub(super) struct Micros {
    pub(super) average: u64,
    /// `u64::MAX` without any.
    pub(super) min: u64,
    pub(super) max: u64,
}

impl Micros {
    /// Of several kinds of times as one.
    pub(super) fn of(kinds: &[Latency]) -> Self {
        let taken = kinds.iter().filter(|latency| latency.count > 0);
        let (mut count, mut sum) = (0, 0);
        let mut micros = Micros {
            average: 0,
            min: u64::MAX,
            max: 0,
        };
        for latency in taken {
            count += u128::from(latency.count);
            sum += u128::from(latency.count) * latency.average.as_nanos();
            micros.min = micros.min.min(whole(latency.min));
            micros.max = micros.max.max(whole(latency.max));
        }
        let average = sum.checked_div(count * 1_000).unwrap_or(0);
        if count > 0 {
            let average = u64::try_from(average).unwrap_or(u64::MAX);
            micros.average = average.clamp(micros.min, micros.max);
        }
        micros
    }
}

/// A time that was measured, in microseconds, at least 1.
fn whole(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1)
}

impl performance_monitor {
    /// The monitor of the process.
    pub fn instance() -> &'static performance_monitor {
        static INSTANCE: OnceLock<performance_monitor> = OnceLock::new();
        INSTANCE.get_or_init(|| performance_monitor {
            native: PerformanceMonitor::new(),
        })
    }

    /// The monitor below.
    pub fn native(&self) -> &PerformanceMonitor {
        &self.native
    }

    /// Counts a connection of the application's own that was opened, or an attempt that failed.
    pub fn record_connection(&self, success: bool) {
        self.native.record_connection(success);
    }

    /// Counts the end of a connection that was recorded.
    pub fn record_disconnection(&self) {
        self.native.record_disconnection();
    }

    /// Counts a message of `bytes` bytes that was sent in other ways.
    pub fn record_message_sent(&self, bytes: usize) {
        self.native.record_message_sent(bytes);
    }

    /// Counts a message of `bytes` bytes that was received in other ways.
    pub fn record_message_received(&self, bytes: usize) {
        self.native.record_message_received(bytes);
    }

    /// Records how long something took.
    pub fn record_latency(&self, latency: Duration) {
        self.native.record_latency(latency);
    }

    /// Counts an error by a name of the application's; that of an [error code](super::error_codes) counts as the code.
    pub fn record_error(&self, error_type: &str) {
        self.native.record_error(error_type);
    }

    /// Records how many bytes of memory the application uses.
    pub fn record_memory_usage(&self, bytes: usize) {
        self.native.record_memory_usage(bytes);
    }

    /// What was counted, rates and percentiles included.
    pub fn get_metrics(&self) -> metrics {
        let (now, since, last) = self.native.metrics_since();
        let (latency, memory) = (Micros::of(&[now.latency]), now.memory);
        let percentile = |time: Duration| match now.latency.count {
            0 => 0,
            _ => whole(time),
        };
        let held = MemoryProfiler::new(&self.native).statistics();
        let is_recorded = memory.recorded_bytes_peak > 0;
        metrics {
            total_connections: now.total_connections,
            active_connections: now.active_connections,
            failed_connections: now.failed_connections,
            connections_per_second: now.connections_per_second.round() as u64,
            messages_sent: now.messages_sent,
            messages_received: now.messages_received,
            messages_per_second: now.messages_per_second.round() as u64,
            bytes_sent: now.bytes_sent,
            bytes_received: now.bytes_received,
            bytes_per_second: now.bytes_per_second.round() as u64,
            avg_latency_us: latency.average,
            min_latency_us: latency.min,
            max_latency_us: latency.max,
            p95_latency_us: percentile(now.latency.p95),
            p99_latency_us: percentile(now.latency.p99),
            send_errors: now.errors.send_errors,
            receive_errors: now.errors.receive_errors,
            timeout_errors: now.errors.timeout_errors,
            connection_errors: now.errors.connection_errors,
            memory_usage_bytes: match is_recorded {
                true => memory.recorded_bytes,
                false => held.total_bytes,
            },
            buffer_pool_size: memory.buffer_pool_bytes,
            peak_memory_usage: match is_recorded {
                true => memory.recorded_bytes_peak,
                false => held.peak_bytes,
            },
            start_time: since.into_std(),
            last_update: last.map_or(since, |last| last.max(since)).into_std(),
        }
    }

    /// Counts from zero again. Connections that are open still are; the statistics of servers and sessions and the
    /// metrics of bridges stay.
    pub fn reset_metrics(&self) {
        self.native.reset();
    }

    /// Takes a sample for the rates a second, which are over the time since the newest sample that is at least a
    /// second old. [`get_metrics`](Self::get_metrics) does the same, so that nobody has to call this.
    pub fn update_realtime_stats(&self) {
        let _sampled = self.native.metrics();
    }

    /// The metrics as JSON, with the fields of
    /// [`PerformanceMetrics`](crate::metrics::PerformanceMetrics).
    pub fn to_json(&self) -> String {
        self.native.to_json()
    }

    /// The metrics as a text for people.
    pub fn generate_report(&self) -> String {
        self.native.report()
    }
}

impl fmt::Debug for performance_monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("performance_monitor")
            .finish_non_exhaustive()
    }
}
