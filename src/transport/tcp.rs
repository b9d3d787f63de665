//! TCP.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::layers::{Accepting, Dialing};
use super::network::{Families, canonical};
use super::stream::socket_stream;
use super::{Incoming, LinkConfig, Listener, ServerOptions};
use crate::config::SocketOptions;
use crate::endpoint::Endpoint;
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

impl Listener for Tcp {
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Incoming>> {
        let (stream, remote) = ready!(self.listener.poll_accept(context))?;
        if !INHERITS_OPTIONS {
            apply(&SockRef::from(&stream), &self.config.socket)?;
        }
        let local = match self.local.ip().is_unspecified() {
            true => stream.local_addr().unwrap_or(self.local),
            false => self.local,
        };
        let (remote, local) = (canonical(remote), canonical(local));
        let peer = PeerInfo {
            transport: self.layers.transport(),
            remote: Some(canonical(remote)),
            local: Some(canonical(local)),
        };
        Poll::Ready(Ok(Incoming {
            link: self.layers.link(stream, peer.remote)?,
            peer,
        }))
    }

    fn url(&self) -> String {
        self.layers.url()
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        Some(self.local)
    }
}

/// Connects to one address.
pub(crate) async fn connect(
    addr: SocketAddr,
    layers: &Dialing,
    config: &LinkConfig,
) -> io::Result<(Box<dyn Link>, PeerInfo)> {
    let stream = TcpStream::connect(addr).await?;
    apply(&SockRef::from(&stream), &config.socket)?;
    let peer = PeerInfo {
        transport: layers.transport(),
        remote: Some(addr),
        local: stream.local_addr().ok(),
    };
    Ok((layers.link(stream)?, peer))
}

socket_stream!(TcpStream);
