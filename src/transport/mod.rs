//! The only place that names sockets. Each transport is a small adapter that makes links.

#![allow(clippy::disallowed_types, reason = "sockets belong here")]

#[cfg(unix)]
pub mod activation;
pub(crate) mod dial;
pub(crate) mod happy_eyeballs;
pub(crate) mod head;
pub(crate) mod layers;
pub(crate) mod memory;
pub(crate) mod network;
pub(crate) mod proxy;
pub(crate) mod proxy_protocol;
pub(crate) mod simulated;
pub(crate) mod stream;
pub(crate) mod tcp;
pub(crate) mod tls;
pub(crate) mod udp;
#[cfg_attr(not(unix), path = "unix_missing.rs")]
pub(crate) mod unix;
pub(crate) mod websocket;

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use self::proxy::Proxy;
use self::proxy_protocol::ProxyProtocol;
use self::simulated::Simulated;
use crate::config::SocketOptions;
use crate::session::link::Link;
use crate::session::shared::PeerInfo;
use crate::tls::{TlsClient, TlsServer};
use crate::websocket::{WebSocketClient, WebSocketServer};

/// A socket that somebody else has bound: the application, or the system that started it.
#[derive(Debug)]
#[non_exhaustive]
pub enum BoundSocket {
    /// Listens for connections by TCP.
    Tcp(std::net::TcpListener),
    /// Listens for connections by a Unix socket. Its file belongs to whoever bound it.
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixListener),
    /// Receives datagrams.
    Udp(std::net::UdpSocket),
}

/// A connection that was accepted.
pub(crate) struct Incoming {
    pub(crate) link: Box<dyn Link>,
    pub(crate) peer: PeerInfo,
}

/// Accepts connections of one transport.
pub(crate) trait Listener: Send {
    /// Accepts the next connection.
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Incoming>>;

    /// The URL at which it can be reached, with the real port.
    fn url(&self) -> String;

    /// The address, when the transport has addresses.
    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    /// Whether it limits by itself how many connections there are at a time.
    fn has_own_limit(&self) -> bool {
        false
    }

    /// No more connections are wanted. Does for those that there are what only the listener can do, until
    /// they have ended.
    fn poll_finish(&mut self, _context: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// What a transport needs to know to make links.
#[derive(Clone, Debug)]
pub(crate) struct LinkConfig {
    /// The longest message, in bytes.
    pub(crate) message_limit: usize,
    pub(crate) socket: SocketOptions,
    pub(crate) udp: udp::UdpConfig,
}

/// What the layers above a server's sockets need to know.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerOptions {
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    pub(crate) tls: Option<TlsServer>,
    pub(crate) websocket: WebSocketServer,
    /// Whether a session has to begin with hello, or be let in by the hook of its upgrade.
    pub(crate) needs_hello: bool,
    /// What stands in for the system's TCP.
    pub(crate) network: Option<Simulated>,
}

/// What the layers above a client's sockets need to know.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientOptions {
    pub(crate) proxy: Option<Proxy>,
    /// There when an endpoint needs it.
    pub(crate) tls: Option<TlsClient>,
    pub(crate) websocket: WebSocketClient,
    /// Whether the client has something to say in hello.
    pub(crate) needs_hello: bool,
    /// What stands in for the system's TCP.
    pub(crate) network: Option<Simulated>,
}
