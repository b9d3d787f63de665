//! The conversation with one peer, whatever the transport.
//!
//! - [`link`]: what a transport has to be able to do; nothing here knows more of it.
//! - [`driver`]: the one loop that moves frames: link → [`inbound`] → handler → [`output`] → link.
//! - [`handle`]: what applications hold; [`shared`] is what handle and driver have in common.
//! - [`identity`]: who the peer is, and until when.
//! - [`outbox`], [`requests`]: what waits to be sent, what waits to be answered.
//! - [`current`]: how a handler's own answers skip the outbox.
//! - [`liveness`]: deadlines, as pure functions of time.

pub(crate) mod current;
pub(crate) mod driver;
mod handle;
pub(crate) mod identity;
pub(crate) mod inbound;
pub(crate) mod link;
pub(crate) mod liveness;
pub(crate) mod outbox;
pub(crate) mod output;
pub(crate) mod reliable;
pub(crate) mod requests;
pub(crate) mod shared;

pub use handle::{Sending, Session, SessionStats};

use std::fmt;

/// Identifies a session on its server or client. Ids are not reused while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub(crate) u64);

impl SessionId {
    /// The id as a number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The id with this number. Whether a session has it is for the server to say.
    pub const fn from_u64(number: u64) -> Self {
        SessionId(number)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::str::FromStr for SessionId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(SessionId)
    }
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum State {
    /// The link is there, the opening is not complete.
    Connecting = 0,
    /// Messages flow.
    Connected = 1,
    /// The link is gone and the session waits to be resumed.
    Suspended = 2,
    /// The session is closing in order.
    Disconnecting = 3,
    /// The session ended in order.
    Disconnected = 4,
    /// The session ended with an error.
    Error = 5,
}

impl State {
    pub(crate) fn from_u8(value: u8) -> Self {
        match value {
            0 => State::Connecting,
            1 => State::Connected,
            2 => State::Suspended,
            3 => State::Disconnecting,
            4 => State::Disconnected,
            _ => State::Error,
        }
    }

    /// Whether the session is over.
    pub fn is_final(self) -> bool {
        matches!(self, State::Disconnected | State::Error)
    }
}

/// What carries a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// A Unix socket.
    Unix,
    /// WebSocket over TCP or a Unix socket.
    WebSocket,
    /// WebSocket over TLS.
    SecureWebSocket,
    /// UDP.
    Udp,
    /// In-process.
    Memory,
}

impl Transport {
    /// Everything that can carry a session.
    pub const ALL: &'static [Transport] = &[
        Transport::Tcp,
        Transport::Tls,
        Transport::Unix,
        Transport::WebSocket,
        Transport::SecureWebSocket,
        Transport::Udp,
        Transport::Memory,
    ];

    pub(crate) fn from_u8(value: u8) -> Self {
        Transport::ALL
            .get(usize::from(value))
            .copied()
            .unwrap_or(Transport::Memory)
    }

    /// Whether messages can be lost, doubled or overtaken on the way.
    pub(crate) const fn is_lossy(self) -> bool {
        matches!(self, Transport::Udp)
    }

    /// The URL scheme of the transport.
    pub const fn scheme(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Unix => "unix",
            Transport::WebSocket => "ws",
            Transport::SecureWebSocket => "wss",
            Transport::Udp => "udp",
            Transport::Memory => "mem",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme())
    }
}
