//! The classic client.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::callback::{Inside, Lane, Pending, Slot, Threads, Unique};
use super::config::client_config;
use super::result::{VoidResult, error, reason_text};
use super::runtime;
use crate::client::{Client, ClientState, ReconnectPolicy};
use crate::endpoint::{CodecKind, Endpoint};
use crate::error::{CloseReason, ErrorCode};
use crate::handler::Handler;
use crate::message::{Message, Outgoing};
use crate::session::shared::lock;
use crate::session::{Session, State};

type OnConnect = dyn Fn() + Send + Sync;
type OnMessage = dyn Fn(&[u8]) + Send + Sync;
type OnDisconnect = dyn Fn(&str) + Send + Sync;
type OnError = dyn Fn(&str, i32) + Send + Sync;

/// No wait between attempts to reconnect exceeds this, unless the first one may be longer.
const RECONNECT_CAP: Duration = Duration::from_secs(30);

/// A client with the classic names, which blocks and calls back. There is an example at
/// [`messaging_server`](super::messaging_server).
///
/// Handlers can be set and replaced at any time; the configuration takes effect at the next start.
/// Where callbacks run, and what they may do, is on the page of the [module](super#callbacks).
///
/// Dropping the client stops it, as [`stop_client`](Self::stop_client) does.
pub struct messaging_client {
    id: String,
    owner: Unique,
    config: Mutex<client_config>,
    handlers: Arc<Handlers>,
    /// The native client of the last start.
    current: Mutex<Option<Current>>,
}

#[derive(Default)]
struct Handlers {
    connect: Slot<OnConnect>,
    message: Slot<OnMessage>,
    disconnect: Slot<OnDisconnect>,
    error: Slot<OnError>,
}

#[derive(Clone)]
struct Current {
    run: Unique,
    client: Client,
    pending: Pending,
}

impl Current {
    /// Whether it is connected, or going to be. One whose connection has just ended may be replaced, so
    /// that a disconnect handler can start anew.
    fn is_in_use(&self) -> bool {
        match self.client.state() {
            ClientState::Connected => self.client.is_connected(),
            ClientState::Connecting | ClientState::Reconnecting => true,
            _ => false,
        }
    }
}

impl messaging_client {
    /// A client with the default configuration.
    ///
    /// Servers see the id as the session's `client_id`; an empty one is not sent, and they use the
    /// session id.
    pub fn new(client_id: impl Into<String>) -> Self {
        Self::with_config(client_id, client_config::default())
    }

    /// A client with a configuration, which is checked when the client starts.
    pub fn with_config(client_id: impl Into<String>, config: client_config) -> Self {
        messaging_client {
            id: client_id.into(),
            owner: Unique::new(),
            config: Mutex::new(config),
            handlers: Arc::default(),
            current: Mutex::new(None),
        }
    }

    // Lifecycle

    /// Connects to a server. The host is a name or an address; every address of a name is tried.
    ///
    /// When this returns `Ok`, the connection is open and messages can be sent. A client that was
    /// stopped, or has lost its connection for good, can be started again.
    ///
    /// # Errors
    /// `connection_refused`, `connection_timeout`, `connection_failed` and the like when there is no
    /// connection, `connection_failed` also when the client is connected already,
    /// `invalid_configuration` with the field and what is valid. Nothing is left running then.
    pub fn start_client(&self, host: &str, port: u16) -> VoidResult {
        let config = self.get_config();
        let endpoint = Endpoint::tcp(host, port)?.with_codec(config.codec)?;
        let pending = Pending::new();
        let run = Unique::new();
        let threads = Threads::default();
        let inside = Inside {
            owner: self.owner,
            run,
            session: None,
        };
        let mut builder = Client::builder()
            .add_endpoint(endpoint)
            .limits(config.limits())
            .timeouts(config.timeouts())
            .socket(config.socket())
            .reconnect(policy(&config))
            .handler(Adapter {
                inside,
                handlers: Arc::clone(&self.handlers),
                lane: Lane::new(threads.clone(), inside, pending.clone()),
            })
            .executor(threads);
        if config.codec == CodecKind::Msgi && !self.id.is_empty() {
            builder = builder.client_id(self.id.clone());
        }
        let client = builder.build()?;
        let replaced = {
            let mut current = lock(&self.current);
            if current.as_ref().is_some_and(Current::is_in_use) {
                let text = "the client is connected already; stop it first";
                return Err(error::new(ErrorCode::ConnectionFailed, text));
            }
            // From here on a stop on another thread ends the attempt.
            current.replace(Current {
                run,
                client: client.clone(),
                pending,
            })
        };
        drop(replaced);
        Ok(runtime::wait(async move { client.connect().await })??)
    }

    /// Stops the client in order: callbacks that are running finish, what was sent leaves, the server is
    /// told, and the connection closes. What is left after 10 seconds is cut off.
    ///
    /// When this returns, no callback runs any more, unless one was cut off; in a callback of the client
    /// itself it returns when the connection is closing. A client that is not started has nothing to stop.
    ///
    /// # Errors
    /// Only when the process has no means to wait.
    pub fn stop_client(&self) -> VoidResult {
        let Some(current) = lock(&self.current).clone() else {
            return Ok(());
        };
        let Current {
            run,
            client,
            pending,
        } = current;
        if Inside::session_of(run).is_some() {
            // The client waits for the callback that calls this: its end cannot be waited for here.
            return runtime::wait(async move {
                let session = client.session();
                let closing = async {
                    if let Some(session) = session {
                        session.state_changed(State::Connected).await;
                    }
                };
                tokio::select! {
                    biased;
                    // It begins first. That it is dropped does not take it back.
                    _ = client.stop() => {}
                    _ = closing => {}
                }
            });
        }
        let within = lock(&self.config).timeouts().drain;
        let inside = Inside::is_of(self.owner);
        runtime::wait(async move {
            client.stop().await;
            if !inside {
                let _ = tokio::time::timeout(within, pending.none()).await;
            }
        })
    }

    /// Blocks until the client has stopped, or has lost its connection for good; returns at once when
    /// it is not started.
    ///
    /// In a callback of the client itself it returns at once too: the client cannot stop before the
    /// callback has returned.
    pub fn wait_for_stop(&self) {
        if Inside::is_of(self.owner) {
            return;
        }
        // A disconnect handler may have started it again.
        while let Some(current) = lock(&self.current).clone() {
            if current.client.state().is_ended() {
                return;
            }
            let client = current.client;
            if let Err(error) = runtime::wait(async move { client.wait_for_stop().await }) {
                tracing::error!(%error, "cannot wait for the client");
                return;
            }
        }
    }

    /// Whether messages flow.
    pub fn is_connected(&self) -> bool {
        lock(&self.current)
            .as_ref()
            .is_some_and(|current| current.client.is_connected())
    }

    // Identity and configuration

    /// The id that the client was made with.
    pub fn client_id(&self) -> String {
        self.id.clone()
    }

    /// Replaces the configuration. It takes effect at the next start.
    pub fn set_config(&self, config: client_config) {
        self.configure(|current| *current = config);
    }

    /// The configuration for the next start.
    pub fn get_config(&self) -> client_config {
        lock(&self.config).clone()
    }

    /// Sets [`client_config::codec`] for the next start.
    pub fn set_codec(&self, codec: CodecKind) {
        self.configure(|config| config.codec = codec);
    }

    /// Sets whether a connection that is lost is made again, for the next start.
    ///
    /// Before the first attempt the client waits at most `retry_interval`, before each further one at
    /// most twice as long, up to 30 seconds. It draws the wait at random from what it may be, so that
    /// clients that have lost the same server do not return all at once. Meanwhile up to 1 MiB of what
    /// is sent is queued; then sending blocks. The connect handler is called for each connection.
    pub fn enable_auto_reconnect(&self, enable: bool, retry_interval: Duration) {
        self.configure(|config| {
            config.auto_reconnect = enable;
            config.reconnect_interval = retry_interval;
        });
    }

    fn configure(&self, change: impl FnOnce(&mut client_config)) {
        change(&mut lock(&self.config));
        if lock(&self.current).as_ref().is_some_and(Current::is_in_use) {
            tracing::warn!(
                client = self.id,
                "the configuration takes effect at the next start"
            );
        }
    }

    // Sending

    /// Sends a message. Blocks while there is no room for it.
    ///
    /// While a lost connection is made again, the message is queued.
    ///
    /// # Errors
    /// `connection_closed` when there is no connection and none is being made, `shutting_down` while the
    /// client stops, `message_too_large`, `not_supported` when the codec cannot carry the message.
    pub fn send_message(&self, message: impl AsRef<[u8]>) -> VoidResult {
        self.send(message.as_ref())
    }

    /// The same as [`send_message`](Self::send_message). Raw messages are messages too: the codec of the
    /// connection frames them.
    ///
    /// # Errors
    /// As [`send_message`](Self::send_message).
    pub fn send_raw_message(&self, data: impl AsRef<[u8]>) -> VoidResult {
        self.send(data.as_ref())
    }

    /// Sends a message that is given away, which spares a copy.
    ///
    /// # Errors
    /// As [`send_message`](Self::send_message).
    pub fn send_packet(&self, data: Vec<u8>) -> VoidResult {
        self.send(data)
    }

    fn send(&self, message: impl Outgoing) -> VoidResult {
        let client = match &*lock(&self.current) {
            Some(current) => current.client.clone(),
            None => {
                let text = "the client is not connected";
                return Err(error::new(ErrorCode::ConnectionClosed, text));
            }
        };
        match client.try_send(message) {
            Err(error) if error.is_full() => {
                let message = error.into_message();
                Ok(runtime::wait(async move { client.send(message).await })??)
            }
            result => Ok(result?),
        }
    }

    // Handlers

    /// Sets what happens to messages, in the order in which they came, one at a time.
    pub fn set_message_handler(&self, handler: impl Fn(&[u8]) + Send + Sync + 'static) {
        self.handlers.message.set(Arc::new(handler));
    }

    /// The same as [`set_message_handler`](Self::set_message_handler).
    pub fn on_receive(&self, handler: impl Fn(&[u8]) + Send + Sync + 'static) {
        self.set_message_handler(handler);
    }

    /// Sets what happens when a connection is open, the first one and each later one. Its messages wait
    /// until this returns.
    pub fn set_connect_handler(&self, handler: impl Fn() + Send + Sync + 'static) {
        self.handlers.connect.set(Arc::new(handler));
    }

    /// Sets what happens when a connection has ended, with the reason as a text: what the closing side
    /// said, or the name of an error code. The handler may start the client again.
    pub fn set_disconnect_handler(&self, handler: impl Fn(&str) + Send + Sync + 'static) {
        self.handlers.disconnect.set(Arc::new(handler));
    }

    /// Sets what is called with a text and a code when something goes wrong on a connection.
    ///
    /// Calls come in order, but beside those of the other handlers. When more than 256 wait, further
    /// ones are dropped and logged. What a method returns as an error does not come here too.
    pub fn set_error_handler(&self, handler: impl Fn(&str, i32) + Send + Sync + 'static) {
        self.handlers.error.set(Arc::new(handler));
    }

    /// The same as [`set_error_handler`](Self::set_error_handler), for a handler that takes the error as
    /// one value.
    pub fn on_error(&self, handler: impl Fn(&error) + Send + Sync + 'static) {
        self.set_error_handler(move |message, code| {
            handler(&error {
                code,
                message: message.to_owned(),
            });
        });
    }
}

fn policy(config: &client_config) -> ReconnectPolicy {
    match config.auto_reconnect {
        false => ReconnectPolicy::disabled(),
        true => ReconnectPolicy::new()
            .base(config.reconnect_interval)
            .cap(config.reconnect_interval.max(RECONNECT_CAP)),
    }
}

impl Drop for messaging_client {
    fn drop(&mut self) {
        // There is nobody to tell.
        let _ = self.stop_client();
    }
}

impl fmt::Debug for messaging_client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("messaging_client")
            .field("id", &self.id)
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

/// The native handler. Its futures are never pending, and run on the threads for callbacks.
struct Adapter {
    inside: Inside,
    handlers: Arc<Handlers>,
    lane: Arc<Lane>,
}

impl Adapter {
    fn call(&self, session: &Session, callback: impl FnOnce()) {
        Inside {
            session: Some(session.id()),
            ..self.inside
        }
        .call(callback);
    }
}

impl Handler for Adapter {
    async fn on_connect(&self, session: &Session) {
        if let Some(handler) = self.handlers.connect.get() {
            self.call(session, || handler());
        }
    }

    async fn on_message(&self, session: &Session, message: &Message) {
        if let Some(handler) = self.handlers.message.get() {
            self.call(session, || handler(message.payload()));
        }
    }

    async fn on_disconnect(&self, session: &Session, reason: &CloseReason) {
        if let Some(handler) = self.handlers.disconnect.get() {
            let reason = reason_text(reason);
            self.call(session, || handler(&reason));
        }
    }

    /// Called where bytes are moved.
    fn on_error(&self, session: &Session, code: ErrorCode, text: &str) {
        let Some(handler) = self.handlers.error.get() else {
            return;
        };
        let text = text.to_owned();
        let callback = move || handler(&text, code.as_i32());
        self.lane.push(session, Box::new(callback));
    }
}
