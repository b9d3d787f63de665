//! What a server says of itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::time::Instant;

use crate::transport::Listener;
use crate::transport::udp::Counters;

/// One listener of a running server.
pub(super) struct Listening {
    pub(super) url: String,
    pub(super) addr: Option<SocketAddr>,
    pub(super) accepted: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) closed: AtomicBool,
}

impl Listening {
    pub(super) fn of(listener: &dyn Listener) -> Arc<Self> {
        Arc::new(Listening {
            url: listener.url(),
            addr: listener.local_addr(),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        })
    }

    pub(super) fn stats(&self) -> ListenerStats {
        ListenerStats {
            url: self.url.clone(),
            addr: self.addr,
            accepted: self.accepted.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            is_accepting: !self.closed.load(Ordering::Relaxed),
        }
    }
}

/// A listener of a server at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerStats {
    /// Where it can be reached, with the real port.
    pub url: String,
    /// Its address, when the transport has addresses.
    pub addr: Option<SocketAddr>,
    /// Connections that came in by it and were not refused at once. Their opening may have failed later.
    pub accepted: u64,
    /// Connections that a limit refused at once.
    pub refused: u64,
    /// Whether it still accepts; a server that stops has closed its listeners.
    pub is_accepting: bool,
}

/// How a stop went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StopReport {
    /// Sessions that closed in order, with everything delivered to the link. A reliable session that had no
    /// connection is among them: nobody can come back for it, so it ends at once.
    pub drained: usize,
    /// Sessions that were cut off at the deadline.
    pub aborted: usize,
    /// Messages that reliable sessions, suspended ones included, had accepted and that were not acknowledged when
    /// they ended: what [`Session::take_unacknowledged`](crate::Session::take_unacknowledged) gives back. Some of
    /// them may have been handled.
    pub unacknowledged: u64,
}

/// What became of a broadcast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BroadcastReport {
    /// Sessions that took the message.
    pub sent: usize,
    /// Sessions that did not: their queue policy dropped it, they are closing, or their codec or
    /// message limit cannot carry it.
    pub missed: usize,
}

/// Counters of a server at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Sessions that were opened.
    pub total_connections: u64,
    /// Sessions that are open.
    pub current_connections: usize,
    /// Connections that were refused because of a limit.
    pub refused_connections: u64,
    /// Messages, requests and answers sent.
    pub messages_sent: u64,
    /// Messages, requests and answers received.
    pub messages_received: u64,
    /// Bytes of those messages, without framing.
    pub bytes_sent: u64,
    /// Bytes of those messages, without framing.
    pub bytes_received: u64,
    /// Errors of all sessions.
    pub errors: u64,
    /// Messages dropped by queue policies.
    pub dropped: u64,
    /// Messages that were not let in because of a [`Rate`](crate::Rate): dropped, and requests that were refused.
    pub rate_limited: u64,
    /// How often a session had to wait because of a rate.
    pub throttled: u64,
    /// Sessions that were closed because the [`MemoryBudget`](crate::MemoryBudget) was used up.
    pub shed: u64,
    /// Answers to requests that nobody waited for any more.
    pub unknown_responses: u64,
    /// Reliable sessions that have no connection at the moment. They count among the open ones.
    pub suspended: usize,
    /// How often reliable sessions went on with another connection.
    pub resumed: u64,
    /// Reliable sessions without a connection that were given up: nobody came back for them in time, or before
    /// their identity expired, or too many waited.
    pub expired: u64,
    /// Messages that reliable sessions had accepted and that were not acknowledged when their session ended.
    pub unacknowledged: u64,
    /// What became of datagrams that came to nothing.
    pub udp: UdpStats,
    /// When the server was started.
    pub started_at: Option<Instant>,
    /// When a message was last sent or received.
    pub last_activity: Option<Instant>,
}

/// Datagrams of a server that came to nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpStats {
    /// Received datagrams that were no frame, or over the message limit. They are never answered.
    pub malformed: u64,
    /// Received datagrams for which a session had no room, or that were out of place there.
    pub dropped: u64,
    /// Datagrams of unknown addresses that could not begin a session because of a limit.
    pub refused: u64,
    /// Datagrams that the system did not send.
    pub unsent: u64,
}

impl UdpStats {
    pub(super) fn of(counters: &Counters) -> Self {
        UdpStats {
            malformed: counters.malformed.load(Ordering::Relaxed),
            dropped: counters.dropped.load(Ordering::Relaxed),
            refused: counters.refused.load(Ordering::Relaxed),
            unsent: counters.unsent.load(Ordering::Relaxed),
        }
    }

    pub(super) fn since(self, baseline: Self) -> Self {
        UdpStats {
            malformed: self.malformed.saturating_sub(baseline.malformed),
            dropped: self.dropped.saturating_sub(baseline.dropped),
            refused: self.refused.saturating_sub(baseline.refused),
            unsent: self.unsent.saturating_sub(baseline.unsent),
        }
    }
}
