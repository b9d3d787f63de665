//! What a monitor knows at one moment.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::latency::Latency;
use crate::error::ErrorCode;
use crate::pipeline::StageStats;

/// Which side of a connection somebody is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Role {
    /// Accepts connections.
    #[default]
    Server,
    /// Makes connections.
    Client,
}

impl Role {
    /// The side as a word: `server` or `client`.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Server => "server",
            Role::Client => "client",
        }
    }
}

/// What all that is attached to a monitor has done, and what the application has recorded, since the last reset.
///
/// Times and rates are as JSON in the units that their names say.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PerformanceMetrics {
    /// Connections that were opened.
    pub total_connections: u64,
    /// Connections that are open.
    pub active_connections: u64,
    /// Connections that a limit refused, and attempts that failed.
    pub failed_connections: u64,
    /// Connections opened a second, lately.
    pub connections_per_second: f64,
    /// Messages, requests and answers sent.
    pub messages_sent: u64,
    /// Messages, requests and answers received.
    pub messages_received: u64,
    /// Messages a second in both directions, lately.
    pub messages_per_second: f64,
    /// Bytes of the messages sent, without framing.
    pub bytes_sent: u64,
    /// Bytes of the messages received, without framing.
    pub bytes_received: u64,
    /// Bytes a second in both directions, lately.
    pub bytes_per_second: f64,
    /// All times together: the four that follow. They are different things, so look at each of them too.
    pub latency: Latency,
    /// How long requests of this side waited for their answer.
    pub request_latency: Latency,
    /// How long PINGs of this side waited for their PONG.
    pub ping_latency: Latency,
    /// How long handlers needed for a message, sampled once a read; with the time that they waited.
    pub handler_time: Latency,
    /// What the application recorded.
    pub recorded_latency: Latency,
    /// What went wrong, by kind and by code.
    pub errors: ErrorCounts,
    /// Messages that the policy of a full queue dropped.
    pub messages_dropped: u64,
    /// Messages that waited to be sent when their session ended.
    pub messages_lost: u64,
    /// Messages that were not let in because of a [`Rate`](crate::Rate).
    pub messages_rate_limited: u64,
    /// How often a session had to wait because of a [`Rate`](crate::Rate).
    pub sessions_throttled: u64,
    /// Sessions that were closed because a [`MemoryBudget`](crate::MemoryBudget) was used up.
    pub sessions_shed: u64,
    /// Reliable sessions that have no connection at the moment. They count among the open ones.
    pub sessions_suspended: u64,
    /// How often reliable sessions went on with another connection.
    pub sessions_resumed: u64,
    /// Reliable sessions that were given up because nobody came back for them.
    pub sessions_expired: u64,
    /// Messages of reliable sessions that were sent and not acknowledged when their session ended.
    pub messages_unacknowledged: u64,
    /// Memory in buffers and queues.
    pub memory: MemoryMetrics,
    /// For how long this has been counted: since the monitor was made or reset.
    #[serde(rename = "uptime_seconds", serialize_with = "seconds")]
    pub uptime: Duration,
    /// How long ago a message was last sent or received; `None` before the first.
    #[serde(rename = "last_update_seconds_ago", serialize_with = "seconds_ago")]
    pub last_update: Option<Duration>,
    /// The same for each server and client, by side and name.
    pub members: Vec<MemberMetrics>,
}

impl PerformanceMetrics {
    /// What the servers or clients with this name have done.
    pub fn member(&self, role: Role, name: &str) -> Option<&MemberMetrics> {
        let mut members = self.members.iter();
        members.find(|member| member.role == role && member.name == name)
    }
}

/// What went wrong.
///
/// The kinds follow from the codes, and one error may be of more than one kind: a connection that ends because its
/// peer is silent is both a timeout and an error of connecting. `by_code` has each once. Codes that are of no kind:
/// −620 to −622, −647, −648, −660, −663 and −664.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ErrorCounts {
    /// Messages that could not be sent: −640, −644, −649.
    pub send_errors: u64,
    /// What was received and refused: −641 to −643, −646.
    pub receive_errors: u64,
    /// What took too long: −602, −608, −609, −645.
    pub timeout_errors: u64,
    /// Connections that were not made, not let in, or broke: −600 to −609, −623 to −625, −661 and −662.
    pub connection_errors: u64,
    /// Each by the name of its code, and what the application recorded by the name that it gave.
    pub by_code: BTreeMap<String, u64>,
}

impl ErrorCounts {
    /// Counts errors of a code.
    pub(super) fn count(&mut self, code: ErrorCode, count: u64) {
        if count == 0 {
            return;
        }
        let kinds = ErrorKind::of(code);
        let fields = [
            (ErrorKind::Send, &mut self.send_errors),
            (ErrorKind::Receive, &mut self.receive_errors),
            (ErrorKind::Timeout, &mut self.timeout_errors),
            (ErrorKind::Connection, &mut self.connection_errors),
        ];
        for (kind, field) in fields {
            if kinds.contains(&kind) {
                *field += count;
            }
        }
        *self.by_code.entry(code.name().to_owned()).or_default() += count;
    }

    /// Counts what the application recorded.
    pub(super) fn record(&mut self, recorded: &BTreeMap<String, u64>) {
        for (kind, &count) in recorded {
            match ErrorCode::ALL.iter().find(|code| code.name() == kind) {
                Some(&code) => self.count(code, count),
                None => *self.by_code.entry(kind.clone()).or_default() += count,
            }
        }
    }
}

/// What an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorKind {
    Send,
    Receive,
    Timeout,
    Connection,
}

impl ErrorKind {
    /// The kinds that a code is of.
    pub(super) fn of(code: ErrorCode) -> &'static [ErrorKind] {
        use ErrorKind::{Connection, Receive, Send, Timeout};
        match code {
            ErrorCode::SendFailed | ErrorCode::QueueFull | ErrorCode::SlowConsumer => &[Send],
            ErrorCode::ReceiveFailed
            | ErrorCode::MessageTooLarge
            | ErrorCode::InvalidFrame
            | ErrorCode::PipelineFailed => &[Receive],
            ErrorCode::ConnectionTimeout | ErrorCode::IdleTimeout | ErrorCode::HeartbeatTimeout => {
                &[Timeout, Connection]
            }
            ErrorCode::RequestTimeout => &[Timeout],
            ErrorCode::ConnectionFailed
            | ErrorCode::ConnectionRefused
            | ErrorCode::ConnectionClosed
            | ErrorCode::CircuitOpen
            | ErrorCode::TlsHandshakeFailed
            | ErrorCode::RateLimited
            | ErrorCode::TooManyConnections
            | ErrorCode::AuthenticationFailed
            | ErrorCode::AccessDenied
            | ErrorCode::UnsupportedVersion
            | ErrorCode::ServerAlreadyRunning
            | ErrorCode::BindFailed => &[Connection],
            ErrorCode::SessionNotFound
            | ErrorCode::SessionExpired
            | ErrorCode::InvalidSession
            | ErrorCode::RequestFailed
            | ErrorCode::NotSupported
            | ErrorCode::ServerNotStarted
            | ErrorCode::InvalidConfiguration
            | ErrorCode::ShuttingDown => &[],
        }
    }
}

/// Memory in buffers and queues, measured: changed where it is taken and given back. Each figure is exact for its
/// moment, and each peak for the time since the monitor was made or reset.
///
/// Members with the same side and name are one. What is about the process is 0 or `None` in members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MemoryMetrics {
    /// Bytes of messages that wait in queues: outboxes of sessions, a client's queue while it is not connected, and
    /// its message stream.
    pub queued_bytes: u64,
    /// The most that there were at a time.
    pub queued_bytes_peak: u64,
    /// Bytes in buffers of sessions: unfinished frames, messages that wait for a handler or are handled, what a link
    /// has not taken. As of the end of each session's last turn. [`SessionStats::buffered_bytes`] has it for each
    /// session, and says what does not count.
    ///
    /// [`SessionStats::buffered_bytes`]: crate::SessionStats::buffered_bytes
    pub session_buffer_bytes: u64,
    /// The most that there were at a time.
    pub session_buffer_bytes_peak: u64,
    /// Bytes in buffers that worker threads lend to one session after the other. Of the whole process: a thread may
    /// serve several servers and clients, and its buffers count once.
    pub buffer_pool_bytes: u64,
    /// The most that there were at a time, since the process began.
    pub buffer_pool_bytes_peak: u64,
    /// How many queues and buffers hold something, with those of worker threads.
    pub active_buffers: u64,
    /// Sessions that are open.
    pub active_sessions: u64,
    /// Bytes that a session takes on average: what waits in queues and buffers of sessions, divided by the open
    /// sessions, and the structures that each has while it is idle (its driver, what it shares with its handles,
    /// and its entries in the lists of its worker and server). What the link itself consists of (socket, TLS
    /// state, compressors), and what the application keeps, is not in it. 0 without sessions.
    pub bytes_per_session: u64,
    /// Bytes that the [`MemoryBudget`](crate::MemoryBudget)s of these servers and clients count, each budget once. One
    /// that is shared with others counts theirs too, watched or not. Without servers and clients, that of the process.
    pub budget_bytes: u64,
    /// What these budgets allow.
    pub budget_limit_bytes: u64,
    /// What the application recorded last as its use of memory, in bytes.
    pub recorded_bytes: u64,
    /// The most that it recorded.
    pub recorded_bytes_peak: u64,
    /// Bytes that the process has allocated and not freed. `None` unless its allocator is `CountingAllocator`, which
    /// is there with the feature `counting-allocator`.
    pub allocated_bytes: Option<u64>,
    /// The most that it had at a time, since it began.
    pub allocated_bytes_peak: Option<u64>,
    /// How often it has allocated.
    pub allocations: Option<u64>,
    /// Bytes of the process that are in memory, as the system says; `None` where it does not.
    pub resident_bytes: Option<u64>,
}

/// What one server or client has done. Those with the same side and name are one.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MemberMetrics {
    /// Which side it is.
    pub role: Role,
    /// Its name, from its builder.
    pub name: String,
    /// Connections that a limit refused, and attempts that failed.
    pub failed_connections: u64,
    /// By what carried the sessions; those that carried none are left out.
    pub transports: Vec<TransportMetrics>,
    /// Stages of its pipeline.
    pub stages: Vec<StageStats>,
    /// How long its requests waited for their answer.
    pub request_latency: Latency,
    /// How long its PINGs waited for their PONG.
    pub ping_latency: Latency,
    /// How long its handlers needed for a message, sampled once a read.
    pub handler_time: Latency,
    /// What went wrong.
    pub errors: ErrorCounts,
    /// Messages that the policy of a full queue dropped.
    pub messages_dropped: u64,
    /// Messages that waited to be sent when their session ended.
    pub messages_lost: u64,
    /// Messages that were not let in because of a [`Rate`](crate::Rate).
    pub messages_rate_limited: u64,
    /// How often a session had to wait because of a [`Rate`](crate::Rate).
    pub sessions_throttled: u64,
    /// Sessions that were closed because a [`MemoryBudget`](crate::MemoryBudget) was used up.
    pub sessions_shed: u64,
    /// Reliable sessions that have no connection at the moment. They count among the open ones.
    pub sessions_suspended: u64,
    /// How often reliable sessions went on with another connection.
    pub sessions_resumed: u64,
    /// Reliable sessions that were given up because nobody came back for them.
    pub sessions_expired: u64,
    /// Messages of reliable sessions that were sent and not acknowledged when their session ended.
    pub messages_unacknowledged: u64,
    /// Memory in its buffers and queues. What is about the process is only in the sum.
    pub memory: MemoryMetrics,
}

/// What went over one kind of transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TransportMetrics {
    /// The scheme of its URLs.
    pub transport: &'static str,
    /// Connections that were opened.
    pub total_connections: u64,
    /// Connections that are open.
    pub active_connections: u64,
    /// Messages, requests and answers sent.
    pub messages_sent: u64,
    /// Messages, requests and answers received.
    pub messages_received: u64,
    /// Bytes of the messages sent, without framing.
    pub bytes_sent: u64,
    /// Bytes of the messages received, without framing.
    pub bytes_received: u64,
}

pub(super) fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

impl TransportMetrics {
    /// Whether it ever carried anything.
    pub(super) fn is_used(&self) -> bool {
        let carried = [
            self.total_connections,
            self.active_connections,
            self.messages_sent,
            self.messages_received,
        ];
        carried.iter().any(|&count| count > 0)
    }
}

fn seconds_ago<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.serialize_some(&time.as_secs_f64()),
        None => serializer.serialize_none(),
    }
}
