//! What can be told of a client's configuration before it connects.

use super::{OFFLINE_BYTES_MAX, invalid};
use crate::client::{Inner, token};
use crate::codec::control::CLIENT_ID_MAX;
use crate::config::QueuePolicy;
use crate::endpoint::{Address, CodecKind, Endpoint};
use crate::error::{ConfigError, ErrorCode};
use crate::transport::layers::alpn_of;
use crate::websocket::{Speak, WebSocketClient};

pub(super) fn check_queue(bytes: usize, policy: QueuePolicy) -> Result<(), ConfigError> {
    if bytes > OFFLINE_BYTES_MAX {
        return Err(ConfigError::option("offline_queue", bytes, "at most 1 GiB"));
    }
    if policy == QueuePolicy::Disconnect {
        let expected = "wait, drop-newest or drop-oldest: there is no connection to end";
        return Err(ConfigError::option(
            "offline_queue",
            policy.name(),
            expected,
        ));
    }
    Ok(())
}

impl Inner {
    /// Whether this client can use an endpoint: what [`ClientBuilder::build`] checks, for those that came later.
    pub(in crate::client) fn fits(&self, endpoint: &Endpoint) -> bool {
        let endpoints = std::slice::from_ref(endpoint);
        let (hub, options) = (&self.hub, &self.options);
        check_proxy(endpoints, options.proxy.is_some()).is_ok()
            && check_hello(
                endpoints,
                self.client_id.as_deref(),
                None,
                self.token.is_any(),
            )
            .is_ok()
            && (hub.reliability.is_none() || check_reliable(endpoints, &options.websocket).is_ok())
            && (options.tls.is_some() || alpn_of(endpoint).is_none())
            && hub
                .pipeline
                .as_ref()
                .is_none_or(|pipeline| pipeline.check_endpoint(endpoint).is_ok())
    }
}

pub(super) fn check_proxy(endpoints: &[Endpoint], proxied: bool) -> Result<(), ConfigError> {
    let udp = |endpoint: &&Endpoint| matches!(endpoint.address(), Address::Udp { .. });
    match endpoints.iter().find(udp) {
        Some(udp) if proxied => Err(ConfigError::new(
            ErrorCode::NotSupported,
            format!("proxy: cannot carry `{udp}`, and going past the proxy was not asked for"),
        )),
        _ => Ok(()),
    }
}

fn is_websocket(endpoint: &Endpoint) -> bool {
    matches!(
        endpoint.address(),
        Address::WebSocket { .. } | Address::WebSocketUnix { .. }
    )
}

/// Reliable sessions need frames of the protocol's own, and a link that keeps their order.
pub(super) fn check_reliable(
    endpoints: &[Endpoint],
    websocket: &WebSocketClient,
) -> Result<(), ConfigError> {
    let cannot = |endpoint: &&Endpoint| {
        matches!(endpoint.address(), Address::Udp { .. })
            || !matches!(endpoint.codec(), None | Some(CodecKind::Msgi))
            || (is_websocket(endpoint) && websocket.speak == Speak::Plain)
    };
    match endpoints.iter().find(cannot) {
        None => Ok(()),
        Some(endpoint) => Err(ConfigError::new(
            ErrorCode::NotSupported,
            format!("reliable: there are no acknowledgements over `{endpoint}`"),
        )),
    }
}

/// What is said in hello needs a hello.
pub(super) fn check_hello(
    endpoints: &[Endpoint],
    client_id: Option<&str>,
    token: Option<&str>,
    token_source: bool,
) -> Result<(), ConfigError> {
    let silent = endpoints
        .iter()
        .any(|endpoint| !matches!(endpoint.codec(), None | Some(CodecKind::Msgi)));
    if silent && (client_id.is_some() || token.is_some() || token_source) {
        return Err(invalid(
            "client_id, token: need hello, which the codecs raw, lines and length do not have",
        ));
    }
    if let Some(len) = client_id
        .map(str::len)
        .filter(|len| !(1..=CLIENT_ID_MAX).contains(len))
    {
        let value = format_args!("{len} bytes");
        return Err(ConfigError::option("client_id", value, "1 to 256 bytes"));
    }
    token.map_or(Ok(()), token::check)
}
