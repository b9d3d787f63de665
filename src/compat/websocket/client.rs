//! The classic WebSocket client.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{
    MESSAGE_SIZE, check_auto_pong, close_reason, code_of, endpoint, limits, timeouts, ws_message,
};
use crate::client::{Client, ClientBuilder};
use crate::compat::client::classic_client;
use crate::compat::config::reconnect;
use crate::compat::result::{Result, VoidResult, error};
use crate::config::Timeouts;
use crate::error::CloseReason;
use crate::message::Message;
use crate::session::Session;
use crate::websocket::{Speak, WebSocketClient};

/// A client over WebSocket. There is an example at [`messaging_ws_server`](super::messaging_ws_server).
pub type messaging_ws_client = classic_client<ws_client_config>;

/// How a [`messaging_ws_client`] is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ws_client_config {
    /// The host of the server, a name or an address. There is no default.
    pub host: String,
    /// The port of the server. Default 80.
    pub port: u16,
    /// What is asked for: the path, and a query if there is one. Default `/`.
    pub path: String,
    /// Fields that are added to the request, such as `Authorization`. Default: none.
    pub headers: BTreeMap<String, String>,
    /// A connection is made, its upgrade included, within this time. Default 10 s.
    pub connect_timeout: Duration,
    /// When nothing was sent for this long, a ping is; when nothing has come for three times this long,
    /// the server is given up. Zero: neither. Default 30 s.
    pub ping_interval: Duration,
    /// Whether pings are answered. Default on; off is refused with `not_supported`.
    pub auto_pong: bool,
    /// Whether a connection that is lost is made again. Default off.
    pub auto_reconnect: bool,
    /// The longest wait before the first attempt to make it again; later ones grow to 30 s. Default
    /// 500 ms.
    pub reconnect_interval: Duration,
    /// The longest message in bytes, received or sent. Default 10 MiB.
    pub max_message_size: usize,
    /// The subprotocols that are offered, the preferred one first. Default: none.
    pub subprotocols: Vec<String>,
}

impl Default for ws_client_config {
    fn default() -> Self {
        ws_client_config {
            host: String::new(),
            port: 80,
            path: "/".to_owned(),
            headers: BTreeMap::new(),
            connect_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(30),
            auto_pong: true,
            auto_reconnect: false,
            reconnect_interval: Duration::from_millis(500),
            max_message_size: MESSAGE_SIZE,
            subprotocols: Vec::new(),
        }
    }
}

impl ws_client_config {
    fn builder(&self) -> Result<ClientBuilder> {
        check_auto_pong(self.auto_pong)?;
        let mut websocket = WebSocketClient::new().speak(Speak::Plain);
        for name in &self.subprotocols {
            websocket = websocket.subprotocol(name);
        }
        for (name, value) in &self.headers {
            websocket = websocket.header(name, value);
        }
        let timeouts = Timeouts {
            connect: self.connect_timeout,
            ..timeouts(self.ping_interval)
        };
        Ok(Client::builder()
            .add_endpoint(endpoint(&self.host, self.port, &self.path)?)
            .limits(limits(self.max_message_size))
            .timeouts(timeouts)
            .websocket(websocket)
            .reconnect(reconnect(self.auto_reconnect, self.reconnect_interval)))
    }
}

/// Where [`messaging_ws_client::start_client`](classic_client::start_client) connects to: `()` for what the
/// configuration says, a host and a port, these and a path, or a whole configuration for this start.
pub trait ConnectTo {
    /// Says it to the configuration of this start.
    #[doc(hidden)]
    fn apply(self, config: &mut ws_client_config);
}

impl ConnectTo for () {
    fn apply(self, _config: &mut ws_client_config) {}
}

impl ConnectTo for (&str, u16) {
    fn apply(self, config: &mut ws_client_config) {
        (self.0, self.1, "/").apply(config);
    }
}

impl ConnectTo for (&str, u16, &str) {
    fn apply(self, config: &mut ws_client_config) {
        config.host = self.0.to_owned();
        config.port = self.1;
        config.path = self.2.to_owned();
    }
}

impl ConnectTo for ws_client_config {
    fn apply(self, config: &mut ws_client_config) {
        *config = self;
    }
}

impl classic_client<ws_client_config> {
    /// Connects to a server: `start_client(config)`, `start_client(("localhost", 8080))`,
    /// `start_client(("localhost", 8080, "/chat"))`, or `start_client(())` where the configuration says.
    ///
    /// When this returns `Ok`, the connection is open and messages can be sent.
    ///
    /// # Errors
    /// `connection_refused`, `connection_timeout`, `connection_failed` and the like when there is no
    /// connection or the server does not speak WebSocket at this path, `connection_failed` also when the
    /// client is connected already, `invalid_configuration` or `not_supported` with the field and what is
    /// valid. Nothing is left running then.
    pub fn start_client(&self, to: impl ConnectTo) -> VoidResult {
        let mut config = self.get_config();
        to.apply(&mut config);
        self.start(config.builder()?)
    }

    /// Sends a text. Blocks while there is no room for it.
    ///
    /// # Errors
    /// As [`send_message`](Self::send_message).
    pub fn send_text(&self, text: impl Into<String>) -> VoidResult {
        self.send(Message::text(text))
    }

    /// The same as [`send_packet`](Self::send_packet).
    ///
    /// # Errors
    /// As [`send_message`](Self::send_message).
    pub fn send_binary(&self, data: Vec<u8>) -> VoidResult {
        self.send_packet(data)
    }

    /// Stops the client as [`stop_client`](Self::stop_client), with a code of
    /// [`ws_close_code`](super::ws_close_code) or of the application's and a reason for the server.
    ///
    /// # Errors
    /// `invalid_configuration` for a code that must not be sent; the client goes on then.
    pub fn close(&self, code: u16, reason: &str) -> VoidResult {
        let reason = close_reason(code, reason)?;
        if let Some(session) = self.session() {
            session.disconnect(reason);
        }
        self.stop_client()
    }

    /// The same as [`set_connect_handler`](Self::set_connect_handler).
    pub fn set_connected_callback(&self, callback: impl Fn() + Send + Sync + 'static) {
        self.set_connect_handler(callback);
    }

    /// Sets what happens when a connection has ended, with the close code and the reason, as
    /// [`set_disconnection_callback`](super::messaging_ws_server::set_disconnection_callback) of the
    /// server.
    pub fn set_disconnected_callback(&self, callback: impl Fn(u16, &str) + Send + Sync + 'static) {
        let callback =
            move |_: &Session, reason: &CloseReason| callback(code_of(reason), reason.text());
        self.handlers.disconnect.set(Arc::new(callback));
    }

    /// Sets what happens to messages of both kinds, before the callback of the kind.
    ///
    /// It is the same callback as that of [`set_message_handler`](Self::set_message_handler).
    pub fn set_message_callback(&self, callback: impl Fn(&ws_message) + Send + Sync + 'static) {
        let callback = move |_: &Session, message: &Message| callback(message);
        self.handlers.message.set(Arc::new(callback));
    }

    /// Sets what happens to texts.
    pub fn set_text_message_callback(&self, callback: impl Fn(&str) + Send + Sync + 'static) {
        let callback = move |_: &Session, message: &Message| {
            if let Some(text) = message.as_text() {
                callback(text);
            }
        };
        self.handlers.text.set(Arc::new(callback));
    }

    /// Sets what happens to messages that are no texts.
    pub fn set_binary_message_callback(&self, callback: impl Fn(&[u8]) + Send + Sync + 'static) {
        let callback = move |_: &Session, message: &Message| callback(message.payload());
        self.handlers.binary.set(Arc::new(callback));
    }

    /// The same as [`on_error`](Self::on_error).
    pub fn set_error_callback(&self, callback: impl Fn(&error) + Send + Sync + 'static) {
        self.on_error(callback);
    }
}
