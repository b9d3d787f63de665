//! What stands between a socket and its session: a codec, or WebSocket, each with or without TLS.
//!
//! Listeners and connectors of byte streams make links here, so that each transport only has to say how
//! its sockets are made.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::stream::{Stream, StreamLink};
use super::tls::Tls;
use super::websocket::{ClientSide, ServerSide, WebSocketLink};
use super::{ClientOptions, LinkConfig, ServerOptions};
use crate::codec::{Decoder, Framing};
use crate::endpoint::{Address, CodecKind, Endpoint, Host};
use crate::error::{ConfigError, ErrorCode};
use crate::session::Transport;
use crate::session::link::Link;
use crate::tls::{Alpn, TlsServer};

/// What stands above the sockets of one listener.
#[derive(Debug)]
pub(crate) struct Accepting {
    endpoint: Endpoint,
    tls: Option<(TlsServer, Alpn)>,
    above: Above<ServerSide>,
    message_limit: usize,
}

/// What stands above the socket of one connection that is made.
#[derive(Debug)]
pub(crate) struct Dialing {
    transport: Transport,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    above: Above<ClientSide>,
    message_limit: usize,
}

#[derive(Debug)]
enum Above<W> {
    Codec(CodecKind),
    WebSocket(Arc<W>),
}

/// The transport of an endpoint's sessions.
pub(crate) fn transport_of(endpoint: &Endpoint) -> Transport {
    match endpoint.address() {
        Address::Tcp { .. } => Transport::Tcp,
        Address::Tls { .. } => Transport::Tls,
        Address::Unix(_) => Transport::Unix,
        Address::WebSocket { secure: true, .. } => Transport::SecureWebSocket,
        Address::WebSocket { .. } | Address::WebSocketUnix { .. } => Transport::WebSocket,
        Address::Udp { .. } => Transport::Udp,
        Address::Memory(_) => Transport::Memory,
    }
}

/// What a WebSocket endpoint asks for.
fn target_of(endpoint: &Endpoint) -> Option<&str> {
    match endpoint.address() {
        Address::WebSocket { target, .. } | Address::WebSocketUnix { target, .. } => Some(target),
        _ => None,
    }
}

/// What is spoken inside TLS, and at which host, when an endpoint has TLS.
pub(crate) fn alpn_of(endpoint: &Endpoint) -> Option<(Alpn, &Host)> {
    match endpoint.address() {
        Address::Tls { host, .. } => Some((Alpn::Stream, host)),
        Address::WebSocket {
            secure: true, host, ..
        } => Some((Alpn::Http, host)),
        _ => None,
    }
}

/// The error for a listener that cannot show who it is.
pub(crate) fn no_certificate(endpoint: &Endpoint) -> ConfigError {
    ConfigError::new(
        ErrorCode::InvalidConfiguration,
        format!("tls: `{endpoint}` needs a certificate and its key"),
    )
}

/// rustls refused a connection before its first byte, which concerns no other.
fn unusable(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, error)
}

impl Accepting {
    /// `bound` is where the listener is, when it has an address.
    pub(crate) fn new(
        endpoint: &Endpoint,
        bound: Option<SocketAddr>,
        config: &LinkConfig,
        options: &ServerOptions,
    ) -> Result<Self, ConfigError> {
        let endpoint = match bound {
            Some(bound) => endpoint.at(bound),
            None => endpoint.clone(),
        };
        let tls = match (alpn_of(&endpoint), &options.tls) {
            (None, _) => None,
            (Some((alpn, _)), Some(tls)) => Some((tls.clone(), alpn)),
            (Some(_), None) => return Err(no_certificate(&endpoint)),
        };
        let above = match target_of(&endpoint) {
            Some(target) => {
                Above::WebSocket(Arc::new(ServerSide::new(options, target, bound, config)))
            }
            None => Above::Codec(endpoint.codec().unwrap_or_default()),
        };
        Ok(Accepting {
            endpoint,
            tls,
            above,
            message_limit: config.message_limit,
        })
    }

    /// The URL, with the real port.
    pub(crate) fn url(&self) -> String {
        self.endpoint.to_string()
    }

    pub(crate) fn transport(&self) -> Transport {
        transport_of(&self.endpoint)
    }

    /// Makes a link of a connection that was accepted.
    pub(crate) fn link<S: Stream>(
        &self,
        stream: S,
        remote: Option<SocketAddr>,
    ) -> io::Result<Box<dyn Link>> {
        let Some((tls, alpn)) = &self.tls else {
            return Ok(self.above(stream, remote));
        };
        let stream = Tls::server(stream, tls.config(*alpn)).map_err(unusable)?;
        Ok(self.above(stream, remote))
    }

    fn above<S: Stream>(&self, stream: S, remote: Option<SocketAddr>) -> Box<dyn Link> {
        match &self.above {
            Above::Codec(codec) => codec_link(stream, *codec, self.message_limit),
            Above::WebSocket(side) => {
                Box::new(WebSocketLink::server(stream, Arc::clone(side), remote))
            }
        }
    }
}

impl Dialing {
    pub(crate) fn new(
        endpoint: &Endpoint,
        config: &LinkConfig,
        options: &ClientOptions,
    ) -> Result<Self, ConfigError> {
        let tls = match (alpn_of(endpoint), &options.tls) {
            (Some((alpn, host)), Some(tls)) => Some((tls.config(alpn), tls.server_name(host)?)),
            _ => None,
        };
        let above = match target_of(endpoint) {
            Some(target) => Above::WebSocket(Arc::new(ClientSide::new(
                options, endpoint, target, config,
            )?)),
            None => Above::Codec(endpoint.codec().unwrap_or_default()),
        };
        Ok(Dialing {
            transport: transport_of(endpoint),
            tls,
            above,
            message_limit: config.message_limit,
        })
    }

    pub(crate) fn transport(&self) -> Transport {
        self.transport
    }

    /// Makes a link of a connection that was made.
    pub(crate) fn link<S: Stream>(&self, stream: S) -> io::Result<Box<dyn Link>> {
        let Some((config, name)) = &self.tls else {
            return Ok(self.above(stream));
        };
        let stream = Tls::client(stream, Arc::clone(config), name.clone()).map_err(unusable)?;
        Ok(self.above(stream))
    }

    fn above<S: Stream>(&self, stream: S) -> Box<dyn Link> {
        match &self.above {
            Above::Codec(codec) => codec_link(stream, *codec, self.message_limit),
            Above::WebSocket(side) => Box::new(WebSocketLink::client(stream, Arc::clone(side))),
        }
    }
}

fn codec_link<S: Stream>(stream: S, codec: CodecKind, message_limit: usize) -> Box<dyn Link> {
    let decoder = Decoder::new(Framing::from(codec), message_limit);
    Box::new(StreamLink::new(stream, decoder))
}
