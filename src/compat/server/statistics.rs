//! What a classic server counts.

use std::time::Instant;

use crate::server::Server;

/// Counters of a server at one moment, over all its runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct server_statistics {
    /// Sessions that were opened.
    pub total_connections: u64,
    /// Sessions that are open.
    pub current_connections: u64,
    /// Messages sent.
    pub messages_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Bytes of the messages sent, without framing.
    pub bytes_sent: u64,
    /// Bytes of the messages received, without framing.
    pub bytes_received: u64,
    /// When the server was last started; `None` before.
    pub start_time: Option<Instant>,
    /// When a message was last sent or received since then.
    pub last_activity: Option<Instant>,
}

impl server_statistics {
    /// What earlier runs have counted, and this one.
    pub(super) fn and(&self, server: &Server) -> Self {
        let stats = server.stats();
        server_statistics {
            total_connections: self.total_connections + stats.total_connections,
            current_connections: stats.current_connections as u64,
            messages_sent: self.messages_sent + stats.messages_sent,
            messages_received: self.messages_received + stats.messages_received,
            bytes_sent: self.bytes_sent + stats.bytes_sent,
            bytes_received: self.bytes_received + stats.bytes_received,
            start_time: stats.started_at.map(tokio::time::Instant::into_std),
            last_activity: stats.last_activity.map(tokio::time::Instant::into_std),
        }
    }
}
