//! The configurations of classic servers and clients.

use std::fmt;
use std::time::Duration;

use super::result::{Result, error};
use crate::client::{Client, ClientBuilder, ReconnectPolicy};
use crate::config::{Limits, SocketOptions, Timeouts};
use crate::endpoint::{CodecKind, Endpoint};
use crate::error::ErrorCode;
use crate::server::{Server, ServerBuilder};

/// No wait between attempts to reconnect exceeds this, unless the first one may be longer.
const RECONNECT_CAP: Duration = Duration::from_secs(30);

/// A configuration of servers. It decides what kind of server a [`classic_server`](super::classic_server)
/// is.
pub trait ServerConfig: Clone + fmt::Debug + Send + Sync + 'static {
    /// The address and port to listen on.
    fn place(&self) -> (&str, u16);

    /// The same, to be changed.
    fn place_mut(&mut self) -> (&mut String, &mut u16);

    /// The native server that obeys every field, but for its handler.
    ///
    /// # Errors
    /// A field that cannot be obeyed.
    fn builder(&self) -> Result<ServerBuilder>;

    /// Whether peers can be asked about stages of a pipeline.
    #[doc(hidden)]
    fn has_hello(&self) -> bool {
        true
    }
}

/// A configuration of clients that are told a host and a port when they start.
pub trait ClientConfig: Clone + fmt::Debug + Send + Sync + 'static {
    /// The native client that obeys every field, but for its handler.
    ///
    /// # Errors
    /// A field that cannot be obeyed, or a host that is none.
    fn builder(&self, client_id: &str, host: &str, port: u16) -> Result<ClientBuilder>;

    /// Whether peers can be asked about stages of a pipeline.
    #[doc(hidden)]
    fn has_hello(&self) -> bool {
        true
    }
}

/// The refusal of a field.
pub(super) fn refuse(code: ErrorCode, field: &str, text: &str) -> error {
    error::new(code, format!("{field}: {text}"))
}

/// Whether and when a lost connection is made again.
pub(super) fn reconnect(enable: bool, interval: Duration) -> ReconnectPolicy {
    match enable {
        false => ReconnectPolicy::disabled(),
        true => ReconnectPolicy::new()
            .base(interval)
            .cap(interval.max(RECONNECT_CAP)),
    }
}

/// What the classic buffer sizes are by default, and what means that the system shall choose.
const CLASSIC_BUFFER: usize = 8192;

/// How a [`messaging_server`](super::messaging_server) is set up.
///
/// ```
/// use network_system::compat::server_config;
///
/// let mut config = server_config::default();
/// config.port = 9000;
/// config.max_connections = 50;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct server_config {
    /// The port to listen on; 0 takes a free one. Default 8080.
    pub port: u16,
    /// The address to listen on. The classic default is `0.0.0.0`, every interface of the machine; a
    /// server that does so says it in the log. `127.0.0.1` is reached from the same machine only.
    pub bind_address: String,
    /// Connections at a time; 0 for no limit. Default 1,000.
    pub max_connections: usize,
    /// The longest message in bytes, received or sent. Default 1 MiB.
    pub message_size_limit: usize,
    /// Nothing received for this long ends a session with `idle_timeout`; zero: never. Default 30 s.
    /// Peers that speak MSGI answer heartbeats, which count.
    pub timeout: Duration,
    /// Whether the system probes silent connections. Default on.
    pub enable_keep_alive: bool,
    /// Whether small messages leave at once. Default on.
    pub enable_nodelay: bool,
    /// Bytes of the system's receive buffer for each connection. 0 and the classic default, 8192, leave
    /// it to the system, which does better; other values are obeyed.
    pub receive_buffer_size: usize,
    /// Bytes of the system's send buffer, as [`receive_buffer_size`](Self::receive_buffer_size).
    pub send_buffer_size: usize,
    /// How the bytes of a connection are cut into messages. Default MSGI.
    ///
    /// The C++ library sends messages without any framing today: [`CodecKind::Raw`] talks to it, and
    /// then, as there, what arrives together may be handed over together. The older Rust port puts a
    /// length before each message: [`CodecKind::Length`].
    pub codec: CodecKind,
}

impl Default for server_config {
    fn default() -> Self {
        server_config {
            port: 8080,
            bind_address: "0.0.0.0".to_owned(),
            max_connections: 1_000,
            message_size_limit: 1024 * 1024,
            timeout: Duration::from_secs(30),
            enable_keep_alive: true,
            enable_nodelay: true,
            receive_buffer_size: CLASSIC_BUFFER,
            send_buffer_size: CLASSIC_BUFFER,
            codec: CodecKind::Msgi,
        }
    }
}

impl AsMut<server_config> for server_config {
    fn as_mut(&mut self) -> &mut server_config {
        self
    }
}

impl ServerConfig for server_config {
    fn place(&self) -> (&str, u16) {
        (&self.bind_address, self.port)
    }

    fn place_mut(&mut self) -> (&mut String, &mut u16) {
        (&mut self.bind_address, &mut self.port)
    }

    fn builder(&self) -> Result<ServerBuilder> {
        self.builder_at(Endpoint::tcp(&self.bind_address, self.port)?)
    }

    fn has_hello(&self) -> bool {
        self.codec == CodecKind::Msgi
    }
}

impl server_config {
    /// A server on a stream of bytes.
    pub(super) fn builder_at(&self, endpoint: Endpoint) -> Result<ServerBuilder> {
        Ok(Server::builder()
            .listen_on(endpoint.with_codec(self.codec)?)
            .limits(self.limits())
            .timeouts(self.timeouts())
            .socket(self.socket()))
    }

    fn limits(&self) -> Limits {
        Limits {
            max_connections: self.max_connections,
            message_size: self.message_size_limit,
            ..Limits::default()
        }
    }

    fn timeouts(&self) -> Timeouts {
        Timeouts {
            idle: self.timeout,
            ..Timeouts::default()
        }
    }

    fn socket(&self) -> SocketOptions {
        SocketOptions {
            nodelay: self.enable_nodelay,
            keep_alive: self.enable_keep_alive,
            receive_buffer_size: buffer_size(self.receive_buffer_size),
            send_buffer_size: buffer_size(self.send_buffer_size),
        }
    }
}

/// How a [`messaging_client`](super::messaging_client) is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct client_config {
    /// A connection is made, its opening included, within this time. Default 10 s.
    pub connection_timeout: Duration,
    /// The longest message in bytes, received or sent. Default 1 MiB.
    pub message_size_limit: usize,
    /// Nothing received for this long ends the connection; zero, the default: never. With MSGI a server
    /// that is gone is noticed by its heartbeats.
    pub timeout: Duration,
    /// Whether the system probes a silent connection. Default on.
    pub enable_keep_alive: bool,
    /// Whether small messages leave at once. Default on.
    pub enable_nodelay: bool,
    /// Bytes of the system's receive buffer. 0 and the classic 8192, the default, leave it to the system.
    pub receive_buffer_size: usize,
    /// Bytes of the system's send buffer. 0 and the classic 8192, the default, leave it to the system.
    pub send_buffer_size: usize,
    /// How the bytes of the connection are cut into messages, as [`server_config::codec`]. The client
    /// id reaches the server with MSGI only.
    pub codec: CodecKind,
    /// Whether a connection that is lost is made again. Default off.
    pub auto_reconnect: bool,
    /// The longest wait before the first attempt to make it again. Default 500 ms. See
    /// [`messaging_client::enable_auto_reconnect`](super::messaging_client::enable_auto_reconnect).
    pub reconnect_interval: Duration,
}

impl Default for client_config {
    fn default() -> Self {
        client_config {
            connection_timeout: Duration::from_secs(10),
            message_size_limit: 1024 * 1024,
            timeout: Duration::ZERO,
            enable_keep_alive: true,
            enable_nodelay: true,
            receive_buffer_size: CLASSIC_BUFFER,
            send_buffer_size: CLASSIC_BUFFER,
            codec: CodecKind::Msgi,
            auto_reconnect: false,
            reconnect_interval: Duration::from_millis(500),
        }
    }
}

impl AsMut<client_config> for client_config {
    fn as_mut(&mut self) -> &mut client_config {
        self
    }
}

impl ClientConfig for client_config {
    fn builder(&self, client_id: &str, host: &str, port: u16) -> Result<ClientBuilder> {
        self.builder_to(client_id, Endpoint::tcp(host, port)?)
    }

    fn has_hello(&self) -> bool {
        self.codec == CodecKind::Msgi
    }
}

impl client_config {
    /// A client on a stream of bytes.
    pub(super) fn builder_to(&self, client_id: &str, endpoint: Endpoint) -> Result<ClientBuilder> {
        let builder = Client::builder()
            .add_endpoint(endpoint.with_codec(self.codec)?)
            .limits(self.limits())
            .timeouts(self.timeouts())
            .socket(self.socket())
            .reconnect(reconnect(self.auto_reconnect, self.reconnect_interval));
        Ok(match self.codec {
            CodecKind::Msgi if !client_id.is_empty() => builder.client_id(client_id),
            _ => builder,
        })
    }

    fn limits(&self) -> Limits {
        Limits {
            message_size: self.message_size_limit,
            ..Limits::default()
        }
    }

    fn timeouts(&self) -> Timeouts {
        Timeouts {
            idle: self.timeout,
            connect: self.connection_timeout,
            ..Timeouts::client()
        }
    }

    fn socket(&self) -> SocketOptions {
        SocketOptions {
            nodelay: self.enable_nodelay,
            keep_alive: self.enable_keep_alive,
            receive_buffer_size: buffer_size(self.receive_buffer_size),
            send_buffer_size: buffer_size(self.send_buffer_size),
        }
    }
}

fn buffer_size(classic: usize) -> usize {
    match classic {
        CLASSIC_BUFFER => 0,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_a_server_reaches_the_native_configuration() {
        let config = server_config {
            max_connections: 3,
            message_size_limit: 77,
            timeout: Duration::from_secs(5),
            enable_keep_alive: false,
            enable_nodelay: false,
            receive_buffer_size: 1000,
            send_buffer_size: 2000,
            ..server_config::default()
        };
        assert_eq!(
            (
                config.limits().max_connections,
                config.limits().message_size
            ),
            (3, 77)
        );
        assert_eq!(config.timeouts().idle, Duration::from_secs(5));
        let socket = config.socket();
        assert_eq!((socket.keep_alive, socket.nodelay), (false, false));
        assert_eq!(
            (socket.receive_buffer_size, socket.send_buffer_size),
            (1000, 2000)
        );
    }

    #[test]
    fn classic_buffers_are_the_systems() {
        let socket = server_config::default().socket();
        assert_eq!(
            (socket.receive_buffer_size, socket.send_buffer_size),
            (0, 0)
        );
        assert_eq!(client_config::default().socket(), socket);
    }

    #[test]
    fn every_field_of_a_client_reaches_the_native_configuration() {
        let config = client_config {
            connection_timeout: Duration::from_secs(3),
            message_size_limit: 78,
            timeout: Duration::from_secs(6),
            enable_keep_alive: false,
            enable_nodelay: false,
            receive_buffer_size: 1001,
            send_buffer_size: 2001,
            ..client_config::default()
        };
        assert_eq!(config.limits().message_size, 78);
        let timeouts = config.timeouts();
        assert_eq!(
            (timeouts.connect.as_secs(), timeouts.idle.as_secs()),
            (3, 6)
        );
        let socket = config.socket();
        assert_eq!((socket.keep_alive, socket.nodelay), (false, false));
        assert_eq!(
            (socket.receive_buffer_size, socket.send_buffer_size),
            (1001, 2001)
        );
    }
}
