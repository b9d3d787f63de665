//! What a bridge counts.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::client::Client;
use crate::error::ErrorCode;
use crate::server::Server;
use crate::session::round_trips::RoundTripStats;
use crate::session::shared::lock;

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
    /// the first.
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

/// What servers and clients count by themselves.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    total: u64,
    active: u64,
    failed: u64,
    messages_sent: u64,
    messages_received: u64,
    bytes_sent: u64,
    bytes_received: u64,
    last: Option<tokio::time::Instant>,
}

impl Counts {
    fn of(source: &Source) -> Self {
        match source {
            Source::Server(server) => {
                let stats = server.lifetime_stats();
                Counts {
                    total: stats.total_connections,
                    active: stats.current_connections as u64,
                    failed: stats.refused_connections,
                    messages_sent: stats.messages_sent,
                    messages_received: stats.messages_received,
                    bytes_sent: stats.bytes_sent,
                    bytes_received: stats.bytes_received,
                    last: stats.last_activity,
                }
            }
            Source::Client(client) => {
                let stats = client.lifetime_stats();
                Counts {
                    total: stats.connections,
                    active: client.is_connected().into(),
                    failed: stats.failed_attempts,
                    messages_sent: stats.messages_sent,
                    messages_received: stats.messages_received,
                    bytes_sent: stats.bytes_sent,
                    bytes_received: stats.bytes_received,
                    last: stats.last_activity,
                }
            }
        }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Counts {
            total: self.total + other.total,
            active: self.active + other.active,
            failed: self.failed + other.failed,
            messages_sent: self.messages_sent + other.messages_sent,
            messages_received: self.messages_received + other.messages_received,
            bytes_sent: self.bytes_sent + other.bytes_sent,
            bytes_received: self.bytes_received + other.bytes_received,
            last: self.last.max(other.last),
        }
    }

    /// What will not be counted again: connections that are open end.
    fn past(self) -> Self {
        Counts { active: 0, ..self }
    }
}

/// What counts in a run of a server or client.
pub(in crate::compat) enum Source {
    Server(Server),
    Client(Client),
}

/// What one server or client has counted, over all its runs.
#[derive(Default)]
pub(super) struct Tally(Mutex<(Counts, Option<Source>)>);

impl Tally {
    /// Another run begins.
    pub(super) fn follow(&self, source: Source) {
        let mut tally = lock(&self.0);
        let replaced = tally.1.replace(source);
        if let Some(ended) = &replaced {
            tally.0 = tally.0.and(Counts::of(ended).past());
        }
    }

    pub(super) fn read(&self) -> Counts {
        let tally = lock(&self.0);
        match &tally.1 {
            Some(source) => tally.0.and(Counts::of(source)),
            None => tally.0,
        }
    }

    /// The server or client is gone.
    pub(super) fn total(&self) -> Counts {
        self.read().past()
    }
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
            ErrorCode::ConnectionTimeout
            | ErrorCode::IdleTimeout
            | ErrorCode::HeartbeatTimeout
            | ErrorCode::RequestTimeout => &self.timeout,
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

/// Where counting began.
pub(super) struct Baseline {
    counts: Counts,
    at: tokio::time::Instant,
}

impl Baseline {
    /// Counts from zero, when `counts` has been counted so far.
    pub(super) fn new(counts: Counts, errors: &Errors) -> Self {
        errors.reset();
        Baseline {
            counts,
            at: tokio::time::Instant::now(),
        }
    }

    /// What has been counted since, when `now` has been counted in all.
    pub(super) fn metrics(
        &self,
        now: Counts,
        latency: RoundTripStats,
        errors: &Errors,
    ) -> performance_metrics {
        let since = |now: u64, then: u64| now.saturating_sub(then);
        let then = self.counts;
        let last = now.last.filter(|last| *last > self.at);
        performance_metrics {
            total_connections: since(now.total, then.total),
            active_connections: now.active,
            failed_connections: since(now.failed, then.failed),
            messages_sent: since(now.messages_sent, then.messages_sent),
            messages_received: since(now.messages_received, then.messages_received),
            bytes_sent: since(now.bytes_sent, then.bytes_sent),
            bytes_received: since(now.bytes_received, then.bytes_received),
            avg_latency_us: latency.average,
            max_latency_us: latency.max,
            min_latency_us: latency.min,
            send_errors: errors.send.load(Ordering::Relaxed),
            receive_errors: errors.receive.load(Ordering::Relaxed),
            timeout_errors: errors.timeout.load(Ordering::Relaxed) + latency.timed_out,
            start_time: self.at.into_std(),
            last_update: last.unwrap_or(self.at).into_std(),
        }
    }
}
