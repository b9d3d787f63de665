//! The third generation of the classic names: a server and a client that know where they belong when
//! they are made, and sessions that are told apart by their ids.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::callback::thread_pool_interface;
use super::client::messaging_client;
use super::config::server_config;
use super::result::{Result, VoidResult};
use super::server::messaging_server;
use super::session::{messaging_session, not_found};
use crate::endpoint::CodecKind;
use crate::events::{self, shown};
use crate::session::SessionId;

/// Identifies a session of a [`MessagingServer`].
pub type session_id = SessionId;

/// A server whose callbacks get the ids of sessions.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use network_system::compat::{MessagingClient, MessagingServer};
///
/// let server = Arc::new(MessagingServer::new("127.0.0.1", 0, None));
/// let echo = Arc::downgrade(&server);
/// server.on_message_received(move |id, data| {
///     if let Some(server) = echo.upgrade() {
///         let _ = server.send(id, data);
///     }
/// });
/// server.start()?;
///
/// let client = MessagingClient::new("127.0.0.1", server.port());
/// let (tell, told) = std::sync::mpsc::channel();
/// client.on_message_received(move |data| {
///     let _ = tell.send(data.to_vec());
/// });
/// client.enable_auto_reconnect(true, Duration::from_millis(200));
/// client.connect()?;
/// client.send("hello")?;
/// assert_eq!(told.recv()?, b"hello");
/// client.disconnect();
/// server.stop()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MessagingServer {
    server: messaging_server,
}

impl MessagingServer {
    /// A server that will listen on a host and port. Port 0 takes a free one.
    ///
    /// Callbacks run on the threads of `pool`; without one, on threads that are made as needed.
    pub fn new(
        host: impl Into<String>,
        port: u16,
        pool: Option<Arc<dyn thread_pool_interface>>,
    ) -> Self {
        let config = server_config {
            bind_address: host.into(),
            port,
            ..server_config::default()
        };
        MessagingServer {
            server: messaging_server::with_pool("", config, pool),
        }
    }

    /// Starts the server, as [`messaging_server::start_server`].
    ///
    /// # Errors
    /// As [`messaging_server::start_server`].
    pub fn start(&self) -> VoidResult {
        self.server.start_server(())
    }

    /// Stops the server, as [`messaging_server::stop_server`].
    ///
    /// # Errors
    /// `server_not_started`.
    pub fn stop(&self) -> VoidResult {
        self.server.stop_server()
    }

    /// Whether the server runs.
    pub fn is_running(&self) -> bool {
        self.server.is_running()
    }

    /// The port that the server listens on; while it does not run, the configured one.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Sets how bytes are cut into messages, as [`server_config::codec`], for the next start.
    pub fn set_codec(&self, codec: CodecKind) {
        self.server.set_codec(codec);
    }

    /// Sets what happens when a session opens. Its messages wait until this returns.
    pub fn on_client_connected(&self, callback: impl Fn(session_id) + Send + Sync + 'static) {
        self.server
            .set_connect_handler(move |session| callback(session.get_id()));
    }

    /// Sets what happens when a session has ended.
    pub fn on_client_disconnected(&self, callback: impl Fn(session_id) + Send + Sync + 'static) {
        self.server
            .set_disconnect_handler(move |session, _reason| callback(session.get_id()));
    }

    /// Sets what happens to messages. Those of one session are handled in order, one at a time.
    pub fn on_message_received(
        &self,
        callback: impl Fn(session_id, &[u8]) + Send + Sync + 'static,
    ) {
        self.server
            .set_message_handler(move |session, data| callback(session.get_id(), data));
    }

    /// Sends a message to a session. Blocks while its outbox is full.
    ///
    /// # Errors
    /// `session_not_found`, and as [`messaging_session::send_message`].
    pub fn send(&self, id: session_id, data: impl AsRef<[u8]>) -> VoidResult {
        match self.get_session(id) {
            Some(session) => session.send_message(data),
            None => Err(not_found(&id.to_string())),
        }
    }

    /// Sends a message to every session, as [`messaging_server::broadcast_message`].
    ///
    /// # Errors
    /// `server_not_started`, `message_too_large`.
    pub fn broadcast(&self, data: impl AsRef<[u8]>) -> VoidResult {
        self.server.broadcast_message(data)
    }

    /// The open session with this id.
    pub fn get_session(&self, id: session_id) -> Option<Arc<messaging_session>> {
        self.server.session(id)
    }
}

impl fmt::Debug for MessagingServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessagingServer")
            .field("server", &self.server)
            .finish()
    }
}

/// A client that knows its server when it is made. There is an example at [`MessagingServer`].
pub struct MessagingClient {
    host: String,
    port: u16,
    client: messaging_client,
}

impl MessagingClient {
    /// A client of the server at a host and port. The host is a name or an address.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        MessagingClient {
            host: host.into(),
            port,
            client: messaging_client::new(""),
        }
    }

    /// Connects, as [`messaging_client::start_client`].
    ///
    /// # Errors
    /// As [`messaging_client::start_client`].
    pub fn connect(&self) -> Result<()> {
        self.client.start_client(&self.host, self.port)
    }

    /// Ends the connection in order, as [`messaging_client::stop_client`]. It is not made again.
    pub fn disconnect(&self) {
        if let Err(error) = self.client.stop_client() {
            let (id, error) = (&*self.client.client_id(), shown(&error.message));
            events::wait_failed { id, error }.emit();
        }
    }

    /// Whether messages flow.
    pub fn is_connected(&self) -> bool {
        self.client.is_connected()
    }

    /// Sets what happens when a connection is open, the first one and each later one.
    pub fn on_connected(&self, callback: impl Fn() + Send + Sync + 'static) {
        self.client.set_connect_handler(callback);
    }

    /// Sets what happens when a connection has ended.
    pub fn on_disconnected(&self, callback: impl Fn() + Send + Sync + 'static) {
        self.client
            .set_disconnect_handler(move |_reason| callback());
    }

    /// Sets what happens to messages, in the order in which they came, one at a time.
    pub fn on_message_received(&self, callback: impl Fn(&[u8]) + Send + Sync + 'static) {
        self.client.set_message_handler(callback);
    }

    /// Sends a message, as [`messaging_client::send_message`].
    ///
    /// # Errors
    /// As [`messaging_client::send_message`].
    pub fn send(&self, data: impl AsRef<[u8]>) -> Result<()> {
        self.client.send_message(data)
    }

    /// Sets whether a connection that is lost is made again, as
    /// [`messaging_client::enable_auto_reconnect`], for the next [`connect`](Self::connect).
    pub fn enable_auto_reconnect(&self, enable: bool, retry_interval: Duration) {
        self.client.enable_auto_reconnect(enable, retry_interval);
    }

    /// Sets how bytes are cut into messages, as [`server_config::codec`], for the next
    /// [`connect`](Self::connect).
    pub fn set_codec(&self, codec: CodecKind) {
        self.client.set_codec(codec);
    }
}

impl fmt::Debug for MessagingClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessagingClient")
            .field("client", &self.client)
            .finish()
    }
}
