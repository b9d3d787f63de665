//! The transports of a run, named as in URLs.

use std::fmt;
use std::str::FromStr;

/// What carries the messages of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// MSGI frames on TCP.
    Tcp,
    /// WebSocket messages without a subprotocol.
    Ws,
    /// MSGI frames inside TLS.
    Tls,
    /// WebSocket messages inside TLS.
    Wss,
    /// Datagrams, each of which is one message.
    Udp,
}

impl Scheme {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Tcp, Self::Ws, Self::Tls, Self::Wss, Self::Udp];

    /// The name that stands before `://`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Ws => "ws",
            Self::Tls => "tls",
            Self::Wss => "wss",
            Self::Udp => "udp",
        }
    }

    /// Whether messages are WebSocket's.
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    /// Whether bytes are encrypted.
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scheme {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|scheme| scheme.name() == name)
            .ok_or_else(|| format!("\"{name}\" is not a scheme"))
    }
}
