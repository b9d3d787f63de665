//! TCP.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::layers::{Accepting, Dialing};
use super::network::{Families, canonical};
use super::proxy::{self, Proxy};
use super::proxy_protocol::ProxyProtocol;
use super::proxy_protocol::stream::ProxiedStream;
use super::stream::socket_stream;
use super::{Incoming, LinkConfig, Listener, ServerOptions};
use crate::client::Resolver;
use crate::config::SocketOptions;
use crate::endpoint::{Endpoint, Host};
use crate::session::link::Link;
use crate::session::shared::PeerInfo;

/// Connections that the system completes before they are accepted. Linux caps it at `somaxconn`.
const BACKLOG: i32 = 4_096;

/// A listening TCP socket.
#[derive(Debug)]
pub(crate) struct Tcp {
    listener: TcpListener,
    local: SocketAddr,
    layers: Accepting,
    proxy_protocol: Option<ProxyProtocol>,
    config: LinkConfig,
}

impl Tcp {
    /// Binds and listens. Must be called inside a runtime.
    pub(crate) fn bind(
        addr: SocketAddr,
        families: Families,
        endpoint: &Endpoint,
        config: LinkConfig,
        options: &ServerOptions,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        families.apply(&socket, addr)?;
        // On Windows the option would let another process take the port over.
        if cfg!(not(windows)) {
            socket.set_reuse_address(true)?;
        }
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        Self::from_std(socket.into(), endpoint, config, options)
    }

    /// Takes a socket that is bound and listening.
    pub(crate) fn from_std(
        listener: std::net::TcpListener,
        endpoint: &Endpoint,
        config: LinkConfig,
        options: &ServerOptions,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        // Linux hands the options of the listener on to what it accepts: no system calls for each.
        if INHERITS_OPTIONS {
            apply(&SockRef::from(&listener), &config.socket)?;
        }
        let local = listener.local_addr()?;
        let layers = Accepting::new(endpoint, Some(local), &config, options)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(Tcp {
            listener: TcpListener::from_std(listener)?,
            local,
            layers,
            proxy_protocol: options.proxy_protocol.clone(),
            config,
        })
    }
}

/// Whether accepted sockets have the options of the listening one.
const INHERITS_OPTIONS: bool = cfg!(any(target_os = "linux", target_os = "android"));

fn apply(socket: &SockRef<'_>, options: &SocketOptions) -> io::Result<()> {
    socket.set_tcp_nodelay(options.nodelay)?;
    socket.set_keepalive(options.keep_alive)?;
    if options.receive_buffer_size > 0 {
        socket.set_recv_buffer_size(options.receive_buffer_size)?;
    }
    if options.send_buffer_size > 0 {
        socket.set_send_buffer_size(options.send_buffer_size)?;
    }
    Ok(())
}

/// macOS takes no options for a connection that its peer has reset meanwhile. That is no reason to pause
/// accepting.
fn ended(error: io::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, error)
}

impl Listener for Tcp {
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Incoming>> {
        let (stream, remote) = ready!(self.listener.poll_accept(context))?;
        if !INHERITS_OPTIONS {
            apply(&SockRef::from(&stream), &self.config.socket).map_err(ended)?;
        }
        let local = match self.local.ip().is_unspecified() {
            true => stream.local_addr().unwrap_or(self.local),
            false => self.local,
        };
        let (remote, local) = (canonical(remote), canonical(local));
        let (link, remote) = match &self.proxy_protocol {
            None => (self.layers.link(stream, Some(remote))?, Some(remote)),
            Some(proxies) if proxies.trusts(remote.ip()) => {
                let stream = ProxiedStream::new(stream, remote, local);
                // Whose connection it is will be known when it is open.
                (self.layers.link(stream, None)?, None)
            }
            Some(_) => return Poll::Ready(Err(untrusted(remote))),
        };
        let peer = PeerInfo {
            transport: self.layers.transport(),
            remote,
            local: Some(local),
        };
        Poll::Ready(Ok(Incoming { link, peer }))
    }

    fn url(&self) -> String {
        self.layers.url()
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        Some(self.local)
    }
}

/// An error that concerns this connection alone.
fn untrusted(remote: SocketAddr) -> io::Error {
    let text = format!("{remote} is not a trusted proxy");
    io::Error::new(io::ErrorKind::ConnectionRefused, text)
}

/// Connects to one address.
pub(crate) async fn connect(
    addr: SocketAddr,
    layers: &Dialing,
    config: &LinkConfig,
) -> io::Result<(Box<dyn Link>, PeerInfo)> {
    let stream = dial(addr, config).await?;
    linked(stream, Some(addr), layers)
}

/// Connects to a host through a proxy.
pub(crate) async fn connect_through(
    proxy: &Proxy,
    host: &Host,
    port: u16,
    resolver: &dyn Resolver,
    layers: &Dialing,
    config: &LinkConfig,
) -> io::Result<(Box<dyn Link>, PeerInfo)> {
    let stream = proxy::connect(proxy, host, port, resolver, |addr| dial(addr, config)).await?;
    let remote = match host {
        Host::Ip(ip) => Some(SocketAddr::new(*ip, port)),
        Host::Name(_) => None,
    };
    linked(stream, remote, layers)
}

async fn dial(addr: SocketAddr, config: &LinkConfig) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr).await?;
    apply(&SockRef::from(&stream), &config.socket)?;
    Ok(stream)
}

fn linked(
    stream: TcpStream,
    remote: Option<SocketAddr>,
    layers: &Dialing,
) -> io::Result<(Box<dyn Link>, PeerInfo)> {
    let peer = PeerInfo {
        transport: layers.transport(),
        remote,
        local: stream.local_addr().ok(),
    };
    Ok((layers.link(stream)?, peer))
}

socket_stream!(TcpStream);
