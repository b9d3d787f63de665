//! The classic WebSocket server.

use std::sync::Arc;
use std::time::Duration;

use super::{
    MESSAGE_SIZE, check_auto_pong, code_of, endpoint, limits, timeouts, ws_connection, ws_message,
};
use crate::compat::config::{ServerConfig, refuse};
use crate::compat::result::{Result, VoidResult, error};
use crate::compat::server::{ListenOn, classic_server};
use crate::config::Limits;
use crate::error::{CloseReason, ErrorCode};
use crate::message::Message;
use crate::server::{Server, ServerBuilder};
use crate::websocket::{Accept, MSGI, Reject, Upgrade, WebSocketServer};

/// A server over WebSocket.
///
/// ```
/// use network_system::compat::{messaging_ws_client, messaging_ws_server, ws_client_config, ws_server_config};
///
/// let mut config = ws_server_config::default();
/// config.bind_address = "127.0.0.1".to_owned();
/// config.port = 0;
/// config.path = "/chat".to_owned();
/// let server = messaging_ws_server::new("ws_server");
/// server.set_text_message_callback(|connection, text| {
///     let _ = connection.send_text(format!("Echo: {text}"));
/// });
/// server.start_server(config)?;
///
/// let mut config = ws_client_config::default();
/// config.host = "localhost".to_owned();
/// config.port = server.port();
/// config.path = "/chat".to_owned();
/// let client = messaging_ws_client::new("ws_client");
/// let (tell, told) = std::sync::mpsc::channel();
/// client.set_text_message_callback(move |text| {
///     let _ = tell.send(text.to_owned());
/// });
/// client.start_client(config)?;
/// client.send_text("hello")?;
/// assert_eq!(told.recv()?, "Echo: hello");
///
/// client.stop_client()?;
/// server.stop_server()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type messaging_ws_server = classic_server<ws_server_config>;

/// How a [`messaging_ws_server`] is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ws_server_config {
    /// The port to listen on; 0 takes a free one. Default 8080.
    pub port: u16,
    /// The address to listen on. Default `0.0.0.0`, every interface of the machine.
    pub bind_address: String,
    /// The only path at which there is something; others are answered by 404. Default `/`.
    pub path: String,
    /// Connections at a time; 0 for no limit. Default 1,000.
    pub max_connections: usize,
    /// A connection on which nothing was sent for this long is sent a ping; one from which nothing has
    /// come for three times this long is given up. Zero: neither. Default 30 s.
    pub ping_interval: Duration,
    /// Whether pings are answered. Default on; off is refused with `not_supported`.
    pub auto_pong: bool,
    /// The longest message in bytes, received or sent. Default 10 MiB.
    pub max_message_size: usize,
    /// The subprotocols that are spoken. The first of a client's that is one of them is chosen; a client
    /// that names only others, or none, is let in without. Default: none.
    pub subprotocols: Vec<String>,
    /// Web pages of these origins may connect, such as `https://example.org`; `*` is all. Without any,
    /// the default, those of the same host may. Clients that are no browsers may always.
    pub allowed_origins: Vec<String>,
}

impl Default for ws_server_config {
    fn default() -> Self {
        ws_server_config {
            port: 8080,
            bind_address: "0.0.0.0".to_owned(),
            path: "/".to_owned(),
            max_connections: 1_000,
            ping_interval: Duration::from_secs(30),
            auto_pong: true,
            max_message_size: MESSAGE_SIZE,
            subprotocols: Vec::new(),
            allowed_origins: Vec::new(),
        }
    }
}

impl ServerConfig for ws_server_config {
    fn place(&self) -> (&str, u16) {
        (&self.bind_address, self.port)
    }

    fn place_mut(&mut self) -> (&mut String, &mut u16) {
        (&mut self.bind_address, &mut self.port)
    }

    fn builder(&self) -> Result<ServerBuilder> {
        check_auto_pong(self.auto_pong)?;
        if self.path.contains('?') {
            let text = "a server has a path without a query";
            return Err(refuse(ErrorCode::InvalidConfiguration, "path", text));
        }
        if self.subprotocols.iter().any(|name| name == MSGI) {
            let text = "msgi.v1 is always spoken with clients that ask for nothing else";
            return Err(refuse(
                ErrorCode::InvalidConfiguration,
                "subprotocols",
                text,
            ));
        }
        let limits = Limits {
            max_connections: self.max_connections,
            ..limits(self.max_message_size)
        };
        Ok(Server::builder()
            .listen_on(endpoint(&self.bind_address, self.port, &self.path)?)
            .limits(limits)
            .timeouts(timeouts(self.ping_interval))
            .websocket(self.websocket()))
    }
}

impl ws_server_config {
    fn websocket(&self) -> WebSocketServer {
        let (path, spoken) = (self.path.clone(), self.subprotocols.clone());
        let judge = move |upgrade: &Upgrade<'_>| {
            if upgrade.request.path() != path {
                return Err(Reject::new(404, "there is nothing here"));
            }
            let offered = upgrade.request.subprotocols();
            let chosen = offered
                .iter()
                .find(|name| spoken.iter().any(|own| own == *name));
            Ok(match chosen {
                Some(name) => Accept::new().subprotocol(*name),
                None => Accept::new(),
            })
        };
        let websocket = WebSocketServer::new().on_upgrade(judge);
        self.allowed_origins
            .iter()
            .fold(websocket, |websocket, origin| match origin.as_str() {
                "*" => websocket.allow_any_origin(),
                origin => websocket.allow_origin(origin),
            })
    }
}

impl ListenOn<ws_server_config> for (u16, &str) {
    fn apply(self, config: &mut ws_server_config) {
        config.port = self.0;
        config.path = self.1.to_owned();
    }
}

impl classic_server<ws_server_config> {
    /// Sends a text to every connection, as [`broadcast_message`](Self::broadcast_message).
    ///
    /// # Errors
    /// As [`broadcast_message`](Self::broadcast_message).
    pub fn broadcast_text(&self, text: impl Into<String>) -> VoidResult {
        self.broadcast(Message::text(text))
    }

    /// Sends bytes to every connection, as [`broadcast_message`](Self::broadcast_message).
    ///
    /// # Errors
    /// As [`broadcast_message`](Self::broadcast_message).
    pub fn broadcast_binary(&self, data: Vec<u8>) -> VoidResult {
        self.broadcast(Message::binary(data))
    }

    /// The same as [`get_session`](Self::get_session).
    pub fn get_connection(&self, connection_id: &str) -> Option<Arc<ws_connection>> {
        self.get_session(connection_id)
    }

    /// The ids of all open connections, in no particular order.
    pub fn get_all_connections(&self) -> Vec<String> {
        let sessions = self.get_all_sessions();
        sessions
            .iter()
            .map(|session| session.session_id())
            .collect()
    }

    /// The same as [`set_connect_handler`](Self::set_connect_handler).
    pub fn set_connection_callback(
        &self,
        callback: impl Fn(Arc<ws_connection>) + Send + Sync + 'static,
    ) {
        self.set_connect_handler(callback);
    }

    /// Sets what happens when a connection has ended, with its id, the close code and the reason.
    ///
    /// The code is that of the peer, or the one that this side gave; 1000 when this side gave none, and
    /// 1006 when the connection ended without a close frame of the peer. Peers that speak `msgi.v1` say
    /// goodbye in other words and count as such.
    ///
    /// It is the same callback as that of [`set_disconnect_handler`](Self::set_disconnect_handler).
    pub fn set_disconnection_callback(
        &self,
        callback: impl Fn(&str, u16, &str) + Send + Sync + 'static,
    ) {
        let callback = move |connection: &Arc<ws_connection>, reason: &CloseReason| {
            callback(&connection.session_id(), code_of(reason), reason.text());
        };
        self.handlers.disconnect.set(Arc::new(callback));
    }

    /// Sets what happens to messages of both kinds, before the callback of the kind.
    ///
    /// It is the same callback as that of [`set_message_handler`](Self::set_message_handler).
    pub fn set_message_callback(
        &self,
        callback: impl Fn(Arc<ws_connection>, &ws_message) + Send + Sync + 'static,
    ) {
        let callback = move |connection: &Arc<ws_connection>, message: &Message| {
            callback(Arc::clone(connection), message);
        };
        self.handlers.message.set(Arc::new(callback));
    }

    /// Sets what happens to texts.
    pub fn set_text_message_callback(
        &self,
        callback: impl Fn(Arc<ws_connection>, &str) + Send + Sync + 'static,
    ) {
        let callback = move |connection: &Arc<ws_connection>, message: &Message| {
            if let Some(text) = message.as_text() {
                callback(Arc::clone(connection), text);
            }
        };
        self.handlers.text.set(Arc::new(callback));
    }

    /// Sets what happens to messages that are no texts.
    pub fn set_binary_message_callback(
        &self,
        callback: impl Fn(Arc<ws_connection>, &[u8]) + Send + Sync + 'static,
    ) {
        let callback = move |connection: &Arc<ws_connection>, message: &Message| {
            callback(Arc::clone(connection), message.payload());
        };
        self.handlers.binary.set(Arc::new(callback));
    }

    /// Sets what is called with the id of a connection when something goes wrong on it.
    ///
    /// It is the same callback as that of [`set_error_handler`](Self::set_error_handler).
    pub fn set_error_callback(&self, callback: impl Fn(&str, &error) + Send + Sync + 'static) {
        let callback = move |connection: &Arc<ws_connection>, error: &error| {
            callback(&connection.session_id(), error);
        };
        self.handlers.error.set(Arc::new(callback));
    }
}
