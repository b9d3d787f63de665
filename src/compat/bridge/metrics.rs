//! What a bridge counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::compat::utils::{Micros, performance_monitor};
use crate::error::ErrorCode;
use crate::metrics::PerformanceMonitor;

/// Counters over all that a bridge has made, at one moment.
///
/// A connection between a server and a client of the same bridge has two ends, and each counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct performance_metrics {
    /// Connections that were opened.
    pub total_connections: u64,
    /// Connections that are open.
    pub active_connections: u64,
    /// Connections that a server refused, and attempts of clients that failed.
    pub failed_connections: u64,
    /// Messages sent.
    pub messages_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Bytes of the messages sent, without framing.
    pub bytes_sent: u64,
    /// Bytes of the messages received, without framing.
    pub bytes_received: u64,
    /// How long heartbeats and native requests waited for their answer, on average, in microseconds; 0 before
    /// the first. These times are right within 1 %.
    pub avg_latency_us: u64,
    /// The longest of these times; 0 before the first.
    pub max_latency_us: u64,
    /// The shortest of these times; `u64::MAX` before the first, as in C++.
    pub min_latency_us: u64,
    /// Messages that could not be sent.
    pub send_errors: u64,
    /// Frames and messages that were refused, and messages that should have been containers.
    pub receive_errors: u64,
    /// What took too long: connecting, sending, a native request, a peer that is silent.
    pub timeout_errors: u64,
    /// When counting began.
    pub start_time: Instant,
    /// When a message was last sent or received; `start_time` before the first.
    pub last_update: Instant,
}

/// What nobody counts but the bridge.
#[derive(Default)]
pub(super) struct Errors {
    send: AtomicU64,
    receive: AtomicU64,
    timeout: AtomicU64,
}

impl Errors {
    /// A message could not be sent; `late` when it waited for too long.
    pub(super) fn send(&self, late: bool) {
        self.send.fetch_add(1, Ordering::Relaxed);
        if late {
            self.timeout.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A message was no container.
    pub(super) fn receive(&self) {
        self.receive.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection was not made in time.
    pub(super) fn timeout(&self) {
        self.timeout.fetch_add(1, Ordering::Relaxed);
    }

    /// Something went wrong on a session.
    pub(super) fn on_session(&self, code: ErrorCode) {
        let counter = match code {
            ErrorCode::ConnectionTimeout | ErrorCode::IdleTimeout | ErrorCode::HeartbeatTimeout => {
                &self.timeout
            }
            // The monitor counts it.
            ErrorCode::RequestTimeout => return,
            ErrorCode::SendFailed | ErrorCode::SlowConsumer | ErrorCode::QueueFull => &self.send,
            // A callback panicked: nothing is wrong with what was received.
            ErrorCode::RequestFailed => return,
            _ => &self.receive,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn reset(&self) {
        self.send.store(0, Ordering::Relaxed);
        self.receive.store(0, Ordering::Relaxed);
        self.timeout.store(0, Ordering::Relaxed);
    }
}

/// What a bridge counts: what its servers and clients do, and its own errors.
pub(super) struct Metrics {
    /// It watches what the bridge has made, as the monitor of the process does.
    monitor: PerformanceMonitor,
    pub(super) errors: Errors,
}

impl Metrics {
    pub(super) fn new() -> Self {
        Metrics {
            monitor: PerformanceMonitor::within(performance_monitor::instance().native()),
            errors: Errors::default(),
        }
    }

    pub(super) fn monitor(&self) -> &PerformanceMonitor {
        &self.monitor
    }

    pub(super) fn reset(&self) {
        self.monitor.reset();
        self.errors.reset();
    }

    pub(super) fn read(&self) -> performance_metrics {
        let (metrics, since, last) = self.monitor.metrics_since();
        let latency = Micros::of(&[metrics.request_latency, metrics.ping_latency]);
        let timed_out = metrics.errors.by_code.get(ErrorCode::RequestTimeout.name());
        let errors = &self.errors;
        performance_metrics {
            total_connections: metrics.total_connections,
            active_connections: metrics.active_connections,
            failed_connections: metrics.failed_connections,
            messages_sent: metrics.messages_sent,
            messages_received: metrics.messages_received,
            bytes_sent: metrics.bytes_sent,
            bytes_received: metrics.bytes_received,
            avg_latency_us: latency.average,
            max_latency_us: latency.max,
            min_latency_us: latency.min,
            send_errors: errors.send.load(Ordering::Relaxed),
            receive_errors: errors.receive.load(Ordering::Relaxed),
            timeout_errors: errors.timeout.load(Ordering::Relaxed)
                + timed_out.copied().unwrap_or(0),
            start_time: since.into_std(),
            last_update: last.map_or(since, |last| last.max(since)).into_std(),
        }
    }
}
