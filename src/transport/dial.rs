//! Connecting to an endpoint, whatever its transport.

use crate::client::Resolver;
use crate::endpoint::{Address, Endpoint, Host};
use crate::error::ConnectError;
use crate::session::link::Link;
use crate::session::shared::PeerInfo;
use crate::transport::{LinkConfig, happy_eyeballs, memory, tcp, udp, unix};

/// Connects. There is no deadline here: the caller sets one.
///
/// Dropping the future ends every attempt that is under way.
///
/// # Errors
/// The failure that tells the most.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    resolver: &dyn Resolver,
    config: &LinkConfig,
) -> Result<(Box<dyn Link>, PeerInfo), ConnectError> {
    let failed = |error| ConnectError::io(endpoint, error);
    let codec = endpoint.codec().unwrap_or_default();
    match endpoint.address() {
        Address::Tcp { host, port } => {
            let addresses = match host {
                Host::Ip(ip) => vec![(*ip, *port).into()],
                Host::Name(name) => resolver.resolve(name, *port).await.map_err(failed)?,
            };
            let delay = happy_eyeballs::ATTEMPT_DELAY;
            happy_eyeballs::connect_any(addresses, delay, |address| {
                tcp::connect(address, codec, config)
            })
            .await
            .map_err(failed)
        }
        Address::Unix(path) => unix::connect(path, codec, config).await.map_err(failed),
        Address::Tls { .. } | Address::WebSocket { .. } | Address::WebSocketUnix { .. } => {
            Err(failed(std::io::ErrorKind::Unsupported.into()))
        }
        Address::Udp { host, port } => {
            let addresses = match host {
                Host::Ip(ip) => vec![(*ip, *port).into()],
                Host::Name(name) => resolver.resolve(name, *port).await.map_err(failed)?,
            };
            // Nothing is sent, so the first address that this machine has a way to is as good as any.
            let mut result = Err(failed(std::io::ErrorKind::AddrNotAvailable.into()));
            for address in addresses {
                result = udp::connect(address, codec, config).map_err(failed);
                if result.is_ok() {
                    break;
                }
            }
            result
        }
        Address::Memory(name) => memory::connect(name, config).await.map_err(failed),
    }
}
