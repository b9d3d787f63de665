//! Connecting to an endpoint, whatever its transport.

use std::io;
use std::net::SocketAddr;

use super::layers::Dialing;
use super::{ClientOptions, LinkConfig, happy_eyeballs, memory, tcp, udp, unix};
use crate::client::Resolver;
use crate::endpoint::{Address, Endpoint, Host, Place};
use crate::error::ConnectError;
use crate::session::link::Link;
use crate::session::shared::PeerInfo;

/// Connects. There is no deadline here: the caller sets one. Handshakes come later, in the session's own
/// turns.
///
/// Dropping the future ends every attempt that is under way.
///
/// # Errors
/// The failure that tells the most.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    resolver: &dyn Resolver,
    config: &LinkConfig,
    options: &ClientOptions,
) -> Result<(Box<dyn Link>, PeerInfo), ConnectError> {
    let failed = |error| ConnectError::io(Place(endpoint), error);
    let layers = Dialing::new(endpoint, config, options)?;
    match endpoint.address() {
        Address::Tcp { host, port }
        | Address::Tls { host, port }
        | Address::WebSocket { host, port, .. } => {
            if let Some(proxy) = options
                .proxy
                .as_ref()
                .filter(|proxy| proxy.applies_to(host))
            {
                let connect = tcp::connect_through(proxy, host, *port, resolver, &layers, config);
                return connect.await.map_err(failed);
            }
            let addresses = addresses(host, *port, resolver).await.map_err(failed)?;
            let delay = happy_eyeballs::ATTEMPT_DELAY;
            happy_eyeballs::connect_any(addresses, delay, |address| {
                connect_one(address, &layers, config, options)
            })
            .await
            .map_err(failed)
        }
        Address::Unix(path) | Address::WebSocketUnix { socket: path, .. } => {
            unix::connect(path, &layers, config).await.map_err(failed)
        }
        Address::Udp { host, port } => {
            let addresses = addresses(host, *port, resolver).await.map_err(failed)?;
            // Nothing is sent, so the first address that this machine has a way to is as good as any.
            let mut result = Err(failed(io::ErrorKind::AddrNotAvailable.into()));
            for address in addresses {
                result = udp::connect(address, endpoint.codec().unwrap_or_default(), config)
                    .map_err(failed);
                if result.is_ok() {
                    break;
                }
            }
            result
        }
        Address::Memory(name) => memory::connect(name, config).await.map_err(failed),
    }
}

async fn connect_one(
    address: SocketAddr,
    layers: &Dialing,
    config: &LinkConfig,
    options: &ClientOptions,
) -> io::Result<(Box<dyn Link>, PeerInfo)> {
    match &options.network {
        None => tcp::connect(address, layers, config).await,
        Some(network) => network.connect(address, layers).await,
    }
}

async fn addresses(host: &Host, port: u16, resolver: &dyn Resolver) -> io::Result<Vec<SocketAddr>> {
    match host {
        Host::Ip(ip) => Ok(vec![(*ip, port).into()]),
        Host::Name(name) => resolver.resolve(name, port).await,
    }
}
