//! A network that somebody else makes, in the place of the system's TCP: what simulations run on.
//!
//! Everything above the socket is the real thing: layers, codecs, sessions. What such a network does to the bytes is
//! its own affair.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};

use super::layers::{Accepting, Dialing};
use super::stream::socket_stream;
use super::{Incoming, LinkConfig, Listener, ServerOptions};
use crate::endpoint::Endpoint;
use crate::handler::BoxFuture;
use crate::session::link::Link;
use crate::session::shared::PeerInfo;

/// One end of a connection.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Socket for S {}

/// A connection with the address of its other end.
pub type Connected = (Box<dyn Socket>, SocketAddr);

/// Connections that arrive at one address. The address is free again when this is dropped.
pub trait Arrivals: Send {
    /// The next connection, with the address that it came from.
    ///
    /// # Errors
    /// As accepting from a socket.
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Connected>>;
}

/// A network between servers and clients.
pub trait Network: Send + Sync + 'static {
    /// Listens at an address.
    ///
    /// # Errors
    /// `AddrInUse`.
    fn listen(&self, at: SocketAddr) -> io::Result<Box<dyn Arrivals>>;

    /// Connects to an address; the connection comes with the address of this end. Dropping the future gives up.
    fn connect(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<Connected>>;

    /// What a client's random delays begin with.
    fn seed(&self) -> u64;
}

/// The network of a server or client that has one.
#[derive(Clone)]
pub(crate) struct Simulated(pub(crate) Arc<dyn Network>);

impl fmt::Debug for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Simulated")
    }
}

impl Simulated {
    pub(crate) fn bind(
        &self,
        at: SocketAddr,
        endpoint: &Endpoint,
        config: &LinkConfig,
        options: &ServerOptions,
    ) -> io::Result<Box<dyn Listener>> {
        let layers = Accepting::new(endpoint, Some(at), config, options)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(Box::new(SimulatedListener {
            arrivals: self.0.listen(at)?,
            local: at,
            layers,
        }))
    }

    pub(crate) async fn connect(
        &self,
        to: SocketAddr,
        layers: &Dialing,
    ) -> io::Result<(Box<dyn Link>, PeerInfo)> {
        let (socket, local) = self.0.connect(to).await?;
        let peer = PeerInfo {
            transport: layers.transport(),
            remote: Some(to),
            local: Some(local),
        };
        Ok((layers.link(socket)?, peer))
    }
}

struct SimulatedListener {
    arrivals: Box<dyn Arrivals>,
    local: SocketAddr,
    layers: Accepting,
}

impl Listener for SimulatedListener {
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Incoming>> {
        let (socket, remote) = ready!(self.arrivals.poll_accept(context))?;
        let peer = PeerInfo {
            transport: self.layers.transport(),
            remote: Some(remote),
            local: Some(self.local),
        };
        let link = self.layers.link(socket, Some(remote))?;
        Poll::Ready(Ok(Incoming { link, peer }))
    }

    fn url(&self) -> String {
        self.layers.url()
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        Some(self.local)
    }
}

// It is of no runtime.
socket_stream!(Box<dyn Socket>, |this| Ok(Box::new(|| Ok(this))));
