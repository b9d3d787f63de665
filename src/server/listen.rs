//! Where a server listens.

use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;

use crate::endpoint::{Address, CodecKind, Endpoint, Host};
use crate::error::{ConfigError, ErrorCode, ServerError};
use crate::session::shared::lock;
use crate::transport::layers::{alpn_of, no_certificate};
use crate::transport::network::Families;
use crate::transport::tcp::Tcp;
use crate::transport::udp::Udp;
use crate::transport::{self, BoundSocket, LinkConfig, ServerOptions};

/// Where to listen.
pub(super) enum Listen {
    Endpoint(Endpoint),
    Socket(Given),
}

/// A socket that the application bound. The first start takes it and the stop closes it; a later start
/// binds its address anew.
pub(super) struct Given {
    socket: Mutex<Option<BoundSocket>>,
    /// Where it is bound and what is spoken there.
    endpoint: Endpoint,
}

impl Given {
    /// `endpoint` says what is spoken.
    pub(super) fn new(socket: BoundSocket, endpoint: &Endpoint) -> Result<Self, ConfigError> {
        Ok(Given {
            endpoint: bound_endpoint(&socket, endpoint)?,
            socket: Mutex::new(Some(socket)),
        })
    }
}

fn unusable(error: &io::Error) -> ConfigError {
    ConfigError::new(
        ErrorCode::InvalidConfiguration,
        format!("listen: the socket cannot be used: {error}"),
    )
}

/// The endpoint at the place where the socket is bound.
fn bound_endpoint(socket: &BoundSocket, endpoint: &Endpoint) -> Result<Endpoint, ConfigError> {
    let at = |addr: io::Result<SocketAddr>| match addr {
        Ok(addr) => Ok(endpoint.at(addr)),
        Err(error) => Err(unusable(&error)),
    };
    match (socket, endpoint.address()) {
        (
            BoundSocket::Tcp(socket),
            Address::Tcp { .. } | Address::Tls { .. } | Address::WebSocket { .. },
        ) => at(socket.local_addr()),
        (BoundSocket::Udp(socket), Address::Udp { .. }) => at(socket.local_addr()),
        #[cfg(unix)]
        (BoundSocket::Unix(_), Address::Unix(_) | Address::WebSocketUnix { .. }) => {
            Ok(endpoint.clone())
        }
        _ => Err(ConfigError::option(
            "listen",
            endpoint,
            "a scheme that the given socket can carry",
        )),
    }
}

impl Given {
    /// Takes the socket, if it is still there.
    fn bind(
        &self,
        config: &LinkConfig,
        options: &ServerOptions,
    ) -> Option<io::Result<Box<dyn transport::Listener>>> {
        let socket = lock(&self.socket).take()?;
        let (endpoint, config) = (&self.endpoint, config.clone());
        Some(match socket {
            BoundSocket::Tcp(socket) => boxed(Tcp::from_std(socket, endpoint, config, options)),
            #[cfg(unix)]
            BoundSocket::Unix(socket) => boxed(transport::unix::Unix::from_std(
                socket, endpoint, config, options,
            )),
            BoundSocket::Udp(socket) => boxed(Udp::from_std(
                socket,
                endpoint.codec().unwrap_or_default(),
                config,
            )),
        })
    }
}

impl Listen {
    /// What is spoken, and where.
    pub(super) fn endpoint(&self) -> &Endpoint {
        match self {
            Listen::Endpoint(endpoint) => endpoint,
            Listen::Socket(given) => &given.endpoint,
        }
    }

    pub(super) fn check(&self, has_tls: bool) -> Result<(), ConfigError> {
        let endpoint = self.endpoint();
        if !has_tls && alpn_of(endpoint).is_some() {
            return Err(no_certificate(endpoint));
        }
        if let Address::WebSocket { target, .. } | Address::WebSocketUnix { target, .. } =
            endpoint.address()
            && target.contains('?')
        {
            let expected = "a listener without a query: each client has its own";
            return Err(ConfigError::option("listen", endpoint, expected));
        }
        let is_unix = matches!(
            endpoint.address(),
            Address::Unix(_) | Address::WebSocketUnix { .. }
        );
        if is_unix && !transport::unix::AVAILABLE {
            return Err(ConfigError::new(
                ErrorCode::NotSupported,
                format!("listen: `{endpoint}` needs Unix sockets, which this platform lacks"),
            ));
        }
        Ok(())
    }

    /// Whether peers open with hello there.
    pub(super) fn has_hello(&self) -> bool {
        matches!(self.endpoint().codec(), None | Some(CodecKind::Msgi))
    }

    /// The address of a listener whose port is one of TCP, when it is no name.
    fn tcp_address(&self) -> Option<SocketAddr> {
        match self.endpoint().address() {
            Address::Tcp { host, port }
            | Address::Tls { host, port }
            | Address::WebSocket { host, port, .. } => match host {
                Host::Ip(ip) => Some(SocketAddr::new(*ip, *port)),
                Host::Name(_) => None,
            },
            _ => None,
        }
    }

    /// Binds, as one of `all` listeners of a server. A name may have several addresses; all are bound.
    pub(super) async fn bind(
        &self,
        all: &[Listen],
        config: &LinkConfig,
        options: &ServerOptions,
    ) -> Result<Vec<Box<dyn transport::Listener>>, ServerError> {
        if let Listen::Socket(given) = self
            && let Some(bound) = given.bind(config, options)
        {
            let bound = bound.map_err(|error| ServerError::bind("the given socket", error))?;
            return Ok(vec![bound]);
        }
        let endpoint = self.endpoint();
        let failed = |error: io::Error| ServerError::bind(endpoint, error);
        match endpoint.address() {
            Address::Tcp { host, port }
            | Address::Tls { host, port }
            | Address::WebSocket { host, port, .. } => bind_all(host, *port, |addr| {
                if let Some(network) = &options.network {
                    return network.bind(addr, endpoint, config, options);
                }
                let families = Families::at(addr, all.iter().filter_map(Listen::tcp_address));
                boxed(Tcp::bind(addr, families, endpoint, config.clone(), options))
            })
            .await
            .map_err(failed),
            Address::Udp { host, port } => {
                let codec = endpoint.codec().unwrap_or_default();
                bind_all(host, *port, |addr| {
                    boxed(Udp::bind(addr, codec, config.clone()))
                })
                .await
                .map_err(failed)
            }
            Address::Unix(path) | Address::WebSocketUnix { socket: path, .. } => {
                let listener = transport::unix::Unix::bind(path, endpoint, config.clone(), options);
                Ok(vec![Box::new(listener.map_err(failed)?)])
            }
            Address::Memory(name) => {
                let listener = transport::memory::Memory::bind(name, config.clone());
                Ok(vec![Box::new(listener.map_err(failed)?)])
            }
        }
    }
}

/// Binds at an address, or at all addresses of a name.
async fn bind_all(
    host: &Host,
    port: u16,
    bind: impl Fn(SocketAddr) -> io::Result<Box<dyn transport::Listener>>,
) -> io::Result<Vec<Box<dyn transport::Listener>>> {
    let addrs: Vec<SocketAddr> = match host {
        Host::Ip(ip) => vec![(*ip, port).into()],
        Host::Name(name) => tokio::net::lookup_host((name.as_str(), port))
            .await?
            .collect(),
    };
    addrs.into_iter().map(bind).collect()
}

fn boxed<L: transport::Listener + 'static>(
    bound: io::Result<L>,
) -> io::Result<Box<dyn transport::Listener>> {
    bound.map(|bound| Box::new(bound) as Box<dyn transport::Listener>)
}
