//! WebSocket: what a server accepts, and what a client asks for.
//!
//! A peer that names the subprotocol `msgi.v1` has everything that sessions have: requests, groups,
//! authentication by hello. Any other peer, such as a browser page, exchanges text and binary messages;
//! WebSocket's own ping, pong and close stand for the rest (protocol section 7).
//!
//! ```
//! use network_system::websocket::{Accept, Deflate, Reject, WebSocketServer};
//! use network_system::Server;
//!
//! let websocket = WebSocketServer::new()
//!     .allow_origin("https://example.org")
//!     .deflate(Some(Deflate::default()))
//!     .on_upgrade(|upgrade| match upgrade.request.query() {
//!         Some("room=1") => Ok(Accept::new()),
//!         _ => Err(Reject::new(404, "there is no such room")),
//!     });
//! let server = Server::builder()
//!     .listen("ws://127.0.0.1:0/chat")
//!     .websocket(websocket)
//!     .build()?;
//! # Ok::<(), network_system::ConfigError>(())
//! ```

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

pub use crate::codec::websocket::deflate::Deflate;
use crate::codec::websocket::deflate::negotiation;
use crate::codec::websocket::upgrade::client::{ClientUpgrade, UpgradeError};
pub use crate::codec::websocket::upgrade::request::UpgradeRequest;
use crate::error::{ConfigError, ErrorCode};

/// The subprotocol in which each binary message is a frame of MSGI.
pub const MSGI: &str = "msgi.v1";

/// Decides about an upgrade.
pub(crate) type Hook = dyn Fn(&Upgrade<'_>) -> Result<Accept, Reject> + Send + Sync;

/// How a server treats WebSocket connections.
#[derive(Clone)]
pub struct WebSocketServer {
    /// Origins that may connect beside those that always may; `*` is all.
    pub(crate) origins: Vec<String>,
    pub(crate) deflate: Option<Deflate>,
    pub(crate) fragment_size: usize,
    pub(crate) header_bytes: usize,
    pub(crate) header_count: usize,
    pub(crate) hook: Option<Arc<Hook>>,
}

impl Default for WebSocketServer {
    fn default() -> Self {
        WebSocketServer {
            origins: Vec::new(),
            deflate: Some(Deflate::default()),
            fragment_size: 0,
            header_bytes: 8 * 1024,
            header_count: 64,
            hook: None,
        }
    }
}

impl WebSocketServer {
    /// The defaults: pages of the same host may connect, permessage-deflate is agreed to without context
    /// takeover, and messages are not fragmented.
    pub fn new() -> Self {
        WebSocketServer::default()
    }

    /// Lets pages of another origin connect, such as `https://example.org`. Without any, those of the
    /// same host may, and on a loopback listener those of any loopback origin; clients that are no
    /// browsers send none and may always.
    pub fn allow_origin(mut self, origin: impl Into<String>) -> Self {
        self.origins.push(origin.into());
        self
    }

    /// Lets pages of every origin connect: any page that a user opens can then use the server in that
    /// user's name, so it must not trust cookies or the network that it is in.
    pub fn allow_any_origin(mut self) -> Self {
        self.origins.push("*".to_owned());
        self
    }

    /// Sets what is agreed to about permessage-deflate (RFC 7692); `None` for no compression. By default
    /// it is agreed to when a client offers it, without context takeover either way, so that an idle
    /// connection holds no compressor.
    pub fn deflate(mut self, deflate: Option<Deflate>) -> Self {
        self.deflate = deflate;
        self
    }

    /// Sends messages above this many bytes in fragments of this size. 0, the default: in one piece.
    pub fn fragment_size(mut self, bytes: usize) -> Self {
        self.fragment_size = bytes;
        self
    }

    /// Sets how many bytes and fields the request for the upgrade may have. Default 8 KiB and 64.
    pub fn header_limits(mut self, bytes: usize, count: usize) -> Self {
        self.header_bytes = bytes;
        self.header_count = count;
        self
    }

    /// Sets what decides about each upgrade. It is called on the session's worker and must not block.
    pub fn on_upgrade<F>(mut self, hook: F) -> Self
    where
        F: Fn(&Upgrade<'_>) -> Result<Accept, Reject> + Send + Sync + 'static,
    {
        self.hook = Some(Arc::new(hook));
        self
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check_fragments(self.fragment_size)?;
        if let Some(deflate) = &self.deflate {
            deflate.check()?;
        }
        for (name, value, least, most) in [
            ("header_bytes", self.header_bytes, 512, 64 * 1024),
            ("header_count", self.header_count, 8, 256),
        ] {
            if !(least..=most).contains(&value) {
                let expected = format!("{least} to {most}");
                return Err(ConfigError::option(name, value, &expected));
            }
        }
        Ok(())
    }
}

fn check_fragments(size: usize) -> Result<(), ConfigError> {
    if (1..125).contains(&size) {
        let expected = "0 for no fragments, or at least 125 bytes";
        return Err(ConfigError::option("fragment_size", size, expected));
    }
    Ok(())
}

impl fmt::Debug for WebSocketServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketServer")
            .field("origins", &self.origins)
            .field("deflate", &self.deflate)
            .field("fragment_size", &self.fragment_size)
            .finish_non_exhaustive()
    }
}

/// A request to speak WebSocket, as a hook sees it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Upgrade<'a> {
    /// The request: path, query, Origin, subprotocols and all other fields.
    pub request: &'a UpgradeRequest,
    /// The peer's address, when the transport has addresses.
    pub remote: Option<SocketAddr>,
    /// Whether the peer is going to speak MSGI inside of WebSocket.
    pub msgi: bool,
}

/// An upgrade is let in.
#[derive(Clone, Debug, Default)]
pub struct Accept {
    pub(crate) subprotocol: Option<String>,
    pub(crate) identity: Option<String>,
    pub(crate) data: Vec<(String, String)>,
}

impl Accept {
    /// Lets the peer in as it is.
    pub fn new() -> Self {
        Accept::default()
    }

    /// Chooses one of the subprotocols that the peer has offered. Without a choice it is `msgi.v1` if
    /// that was offered, and otherwise none.
    pub fn subprotocol(mut self, name: impl Into<String>) -> Self {
        self.subprotocol = Some(name.into());
        self
    }

    /// Says who the peer is; [`Session::identity`](crate::Session::identity) then says so. On a server
    /// with an authenticator this is how a peer without hello gets in.
    pub fn identity(mut self, identity: impl Into<String>) -> Self {
        self.identity = Some(identity.into());
        self
    }

    /// Puts a value into the session's data, such as what the request's fields say.
    pub fn data(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.data.push((key.into(), value.into()));
        self
    }
}

/// An upgrade is refused.
#[derive(Clone, Debug)]
pub struct Reject {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Reject {
    /// Refuses with an HTTP status and a text, which the peer is sent. A status that is none of an error
    /// (400 to 599) becomes 403.
    pub fn new(status: u16, text: impl Into<String>) -> Self {
        let status = match status {
            400..=599 => status,
            _ => 403,
        };
        Reject {
            status,
            text: text.into(),
        }
    }
}

/// What a client speaks inside of WebSocket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Speak {
    /// MSGI if the server chooses `msgi.v1`, and plain messages otherwise.
    #[default]
    Either,
    /// MSGI; a server that does not choose it is left.
    Msgi,
    /// Plain messages.
    Plain,
}

/// What a client asks for when it opens a WebSocket connection.
#[derive(Clone, Default)]
pub struct WebSocketClient {
    pub(crate) speak: Speak,
    pub(crate) subprotocols: Vec<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) deflate: Option<Deflate>,
    pub(crate) fragment_size: usize,
}

impl WebSocketClient {
    /// The defaults: MSGI or plain messages, whichever the server speaks, and no compression.
    pub fn new() -> Self {
        WebSocketClient::default()
    }

    /// Sets what is spoken. Default [`Speak::Either`].
    pub fn speak(mut self, speak: Speak) -> Self {
        self.speak = speak;
        self
    }

    /// Offers a subprotocol of the application's; the order is that of preference.
    pub fn subprotocol(mut self, name: impl Into<String>) -> Self {
        self.subprotocols.push(name.into());
        self
    }

    /// Adds a field to the request, such as `Authorization` or `Origin`.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets what is offered about permessage-deflate; `None`, the default, for no compression.
    pub fn deflate(mut self, deflate: Option<Deflate>) -> Self {
        self.deflate = deflate;
        self
    }

    /// Sends messages above this many bytes in fragments of this size. 0, the default: in one piece.
    pub fn fragment_size(mut self, bytes: usize) -> Self {
        self.fragment_size = bytes;
        self
    }

    /// The subprotocols that are offered, in order.
    pub(crate) fn offered(&self) -> Vec<&str> {
        let own = self.subprotocols.iter().map(String::as_str);
        match self.speak {
            Speak::Plain => own.collect(),
            _ => std::iter::once(MSGI).chain(own).collect(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check_fragments(self.fragment_size)?;
        if let Some(deflate) = &self.deflate {
            deflate.check()?;
        }
        if let Some(name) = self.subprotocols.iter().find(|name| *name == MSGI) {
            let expected = "a subprotocol of the application; `speak` decides about this one";
            return Err(ConfigError::option("subprotocol", name, expected));
        }
        self.request(&mut ClientUpgrade::new(), "localhost", "/")
            .map(drop)
            .map_err(|error| ConfigError::new(ErrorCode::InvalidConfiguration, error.text))
    }

    /// The request that asks for all this.
    pub(crate) fn request(
        &self,
        upgrade: &mut ClientUpgrade,
        host: &str,
        target: &str,
    ) -> Result<Vec<u8>, UpgradeError> {
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let offer = self.deflate.as_ref().map(negotiation::offer);
        upgrade.request(host, target, &self.offered(), &headers, offer.as_deref())
    }
}

/// Shows the names of the fields, not their values, which may be secrets.
impl fmt::Debug for WebSocketClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("WebSocketClient")
            .field("speak", &self.speak)
            .field("subprotocols", &self.subprotocols)
            .field("headers", &names)
            .field("deflate", &self.deflate)
            .finish_non_exhaustive()
    }
}

/// What the upgrade of a session's connection came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WebSocketInfo {
    /// What was asked for: the path and, behind a `?`, the query.
    pub target: String,
    /// The subprotocol that was chosen.
    pub subprotocol: Option<String>,
}

impl WebSocketInfo {
    /// The path, without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The query, without the `?`.
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }
}
