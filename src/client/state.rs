//! Where a client stands, what it has counted, and how it ended.

use std::time::Duration;

use tokio::time::Instant;

/// Where a client stands.
///
/// ```text
/// Idle ─▶ Connecting ─▶ Connected ◀─▶ Reconnecting
///             │             │             │
///             └──────────▶ Stopping ◀─────┘
///                         │        │
///                      Stopped   Failed
/// ```
///
/// A client that has stopped or failed can connect again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientState {
    /// It has not been connected yet.
    Idle,
    /// The first attempt is under way.
    Connecting,
    /// Messages flow.
    Connected,
    /// The connection was lost, and is made again.
    Reconnecting,
    /// It closes what is open and ends its tasks.
    Stopping,
    /// It was stopped, or the connection ended in order and is not made again.
    Stopped,
    /// The first attempt failed, or the client gave up; [`Client::close_reason`](super::Client::close_reason)
    /// says why.
    Failed,
}

impl ClientState {
    /// Whether nothing runs: the client was not connected yet, or has stopped, or has failed.
    pub fn is_ended(self) -> bool {
        matches!(
            self,
            ClientState::Idle | ClientState::Stopped | ClientState::Failed
        )
    }
}

/// How a client ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientStopReport {
    /// Whether nothing had to be cut off: handlers returned, what was sent was written and the server
    /// closed too, all before the deadline.
    pub in_order: bool,
    /// Messages that were accepted for sending and did not leave: they were queued while there was no
    /// connection, and [`Client::take_unsent`](super::Client::take_unsent) gives them back, or they
    /// waited in the session when the deadline cut it off. Those of a reliable session are
    /// [`unacknowledged`](Self::unacknowledged) instead.
    pub unsent: usize,
    /// Messages that a reliable session had accepted and that were not acknowledged when the stop ended it: what
    /// [`Session::take_unacknowledged`](crate::Session::take_unacknowledged) gives back. Some of them may have been
    /// handled. A client that is not connected at the moment does not wait for acknowledgements.
    pub unacknowledged: u64,
}

impl Default for ClientStopReport {
    fn default() -> Self {
        ClientStopReport {
            in_order: true,
            unsent: 0,
            unacknowledged: 0,
        }
    }
}

/// Counters of a client at one moment, over all its connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientStats {
    /// Sessions that were opened. A reliable session counts once, however many connections it has had:
    /// [`SessionStats::resumes`](crate::SessionStats::resumes).
    pub connections: u64,
    /// Attempts that failed.
    pub failed_attempts: u64,
    /// Messages, requests and answers handed to a connection.
    pub messages_sent: u64,
    /// Messages, requests and answers received.
    pub messages_received: u64,
    /// Bytes of those messages, without framing.
    pub bytes_sent: u64,
    /// Bytes of those messages, without framing.
    pub bytes_received: u64,
    /// Errors of all connections.
    pub errors: u64,
    /// Messages dropped by a queue policy, in the queue or in a session, and messages received that had
    /// no room and no reader.
    pub dropped: u64,
    /// Messages that waited in a session when it ended with its connection. Those of a reliable session go to the
    /// next one instead, or are [given back](crate::Session::take_unacknowledged) when there is none.
    pub lost: u64,
    /// Answers to requests that nobody waited for any more.
    pub unknown_responses: u64,
    /// Messages that wait for a connection.
    pub queued_messages: usize,
    /// Bytes that wait for a connection.
    pub queued_bytes: usize,
    /// When the current session was opened.
    pub connected_at: Option<Instant>,
    /// When a message was last sent or received.
    pub last_activity: Option<Instant>,
    /// The round trip of the last PING on the current connection.
    pub round_trip: Option<Duration>,
}
