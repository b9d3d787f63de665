//! The classic clients: one for all transports, which its configuration tells apart.

mod adapter;
mod setters;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use self::adapter::Adapter;
use super::bridge::Member;
use super::callback::{Inside, Lane, Pending, Threads, Unique};
use super::config::{ClientConfig, client_config};
use super::handlers::Handlers;
use super::result::{Result, VoidResult, error};
use super::runtime;
use super::utils::performance_monitor;
use tokio::task::JoinHandle;

use crate::client::{Client, ClientBuilder, ClientState};
use crate::config::Timeouts;
use crate::endpoint::CodecKind;
use crate::error::ErrorCode;
use crate::events::{self, shown};
use crate::message::Outgoing;
use crate::session::shared::lock;
use crate::session::{Session, State};

/// A client with the classic names, which blocks and calls back. There is an example at
/// [`messaging_server`](super::messaging_server).
pub type messaging_client = classic_client<client_config>;

/// What all classic clients are. The configuration tells them apart:
///
/// | client | configuration |
/// |---|---|
/// | [`messaging_client`] | [`client_config`] |
/// | [`secure_messaging_client`](super::secure_messaging_client) | [`secure_client_config`](super::secure_client_config) |
/// | [`messaging_ws_client`](super::messaging_ws_client) | [`ws_client_config`](super::ws_client_config) |
/// | [`messaging_udp_client`](super::messaging_udp_client) | [`udp_client_config`](super::udp_client_config) |
///
/// Handlers can be set and replaced at any time; the configuration takes effect at the next start.
/// Where callbacks run, and what they may do, is on the page of the [module](super#callbacks).
///
/// Dropping the client stops it, as [`stop_client`](Self::stop_client) does.
pub struct classic_client<C: Clone> {
    id: String,
    owner: Unique,
    config: Mutex<C>,
    pub(super) handlers: Arc<Handlers<Session>>,
    /// Set when a bridge has made the client.
    pub(super) member: Option<Arc<Member>>,
    /// The native client of the last start.
    current: Mutex<Option<Current>>,
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

impl<C: Clone + Default> classic_client<C> {
    /// A client with the default configuration.
    ///
    /// With MSGI, servers see the id as the session's `client_id`; an empty one is not sent, and they use
    /// the session id.
    pub fn new(client_id: impl Into<String>) -> Self {
        Self::with_config(client_id, C::default())
    }
}

impl<C: ClientConfig> classic_client<C> {
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
        let started = self.start(self.builder_for(host, port)?);
        let Some(member) = &self.member else {
            return started;
        };
        started.inspect_err(|error| member.not_connected(error))?;
        // The bridge may have stopped meanwhile, without this client.
        member.admit().inspect_err(|_| drop(self.stop_client()))
    }

    /// The same for those who can wait without blocking a thread. Who drops the future drops the client too.
    pub(super) async fn start_beside(&self, host: &str, port: u16) -> VoidResult {
        let client = self.prepare(self.builder_for(host, port)?)?;
        let started = client.connect().await.map_err(error::from);
        let Some(member) = &self.member else {
            return started;
        };
        started.inspect_err(|error| member.not_connected(error))?;
        member.admit().inspect_err(|_| drop(self.stop_beside()))
    }

    fn builder_for(&self, host: &str, port: u16) -> Result<ClientBuilder> {
        let config = self.get_config();
        let builder = config.builder(&self.id, host, port)?;
        match &self.member {
            None => Ok(builder),
            Some(member) => {
                member.admit()?;
                member.client(builder, config.has_hello())
            }
        }
    }
}

impl<C: Clone> classic_client<C> {
    /// A client with a configuration, which is checked when the client starts.
    pub fn with_config(client_id: impl Into<String>, config: C) -> Self {
        classic_client {
            id: client_id.into(),
            owner: Unique::new(),
            config: Mutex::new(config),
            handlers: Arc::default(),
            member: None,
            current: Mutex::new(None),
        }
    }

    /// A client that a bridge makes.
    pub(super) fn of_bridge(client_id: impl Into<String>, config: C, member: Arc<Member>) -> Self {
        let mut client = Self::with_config(client_id, config);
        client.member = Some(member);
        client
    }

    pub(super) fn unique(&self) -> Unique {
        self.owner
    }

    // Lifecycle

    /// Connects with what a configuration made.
    pub(super) fn start(&self, builder: ClientBuilder) -> VoidResult {
        let client = self.prepare(builder)?;
        Ok(runtime::wait(async move { client.connect().await })??)
    }

    /// Makes the native client of the next connection.
    fn prepare(&self, builder: ClientBuilder) -> Result<Client> {
        let pending = Pending::new();
        let run = Unique::new();
        let threads = match &self.member {
            Some(member) => member.threads(),
            None => Threads::default(),
        };
        let inside = Inside {
            owner: self.owner,
            run,
            session: None,
            inline: threads.is_inline(),
        };
        let mut builder = builder.handler(Adapter {
            inside,
            handlers: Arc::clone(&self.handlers),
            lane: Lane::new(threads.clone(), inside, pending.clone()),
            member: self.member.clone(),
        });
        builder = builder.name(&*self.id);
        if self.member.is_none() {
            builder = builder.monitor(performance_monitor::instance().native());
        }
        if !threads.is_inline() {
            builder = builder.executor(threads);
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
        Ok(client)
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
        if Inside::is_inline() {
            let _beside = self.stop_beside();
            return Ok(());
        }
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
        let within = Timeouts::default().drain;
        let inside = Inside::is_of(self.owner);
        runtime::wait(async move {
            client.stop().await;
            if !inside {
                let _ = tokio::time::timeout(within, pending.none()).await;
            }
        })
    }

    /// Begins to stop, and returns what ends when the client has stopped; `None` when it is not started.
    pub(super) fn stop_beside(&self) -> Option<JoinHandle<()>> {
        let Current {
            client, pending, ..
        } = lock(&self.current).clone()?;
        let within = Timeouts::default().drain;
        let runtime = runtime::runtime().ok()?;
        Some(runtime.spawn(async move {
            client.stop().await;
            let _late = tokio::time::timeout(within, pending.none()).await;
        }))
    }

    /// Blocks until the client has stopped, or has lost its connection for good; returns at once when
    /// it is not started.
    ///
    /// In a callback of the client itself it returns at once too: the client cannot stop before the
    /// callback has returned.
    pub fn wait_for_stop(&self) {
        if Inside::is_of(self.owner) || Inside::is_inline() {
            return;
        }
        // A disconnect handler may have started it again.
        while let Some(current) = lock(&self.current).clone() {
            if current.client.state().is_ended() {
                return;
            }
            let client = current.client;
            if let Err(error) = runtime::wait(async move { client.wait_for_stop().await }) {
                let (id, error) = (&*self.id, shown(&error.message));
                events::wait_failed { id, error }.emit();
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

    /// Whether the client is connected, or going to be.
    pub fn is_running(&self) -> bool {
        lock(&self.current).as_ref().is_some_and(Current::is_in_use)
    }

    /// The native session of the current connection.
    pub(super) fn session(&self) -> Option<Session> {
        lock(&self.current).as_ref()?.client.session()
    }

    // Identity and configuration

    /// The id that the client was made with.
    pub fn client_id(&self) -> String {
        self.id.clone()
    }

    /// Replaces the configuration. It takes effect at the next start.
    pub fn set_config(&self, config: C) {
        self.configure(|current| *current = config);
    }

    /// The configuration for the next start.
    pub fn get_config(&self) -> C {
        lock(&self.config).clone()
    }

    fn configure(&self, change: impl FnOnce(&mut C)) {
        change(&mut lock(&self.config));
        if lock(&self.current).as_ref().is_some_and(Current::is_in_use) {
            events::configuration_deferred { id: &*self.id }.emit();
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

    pub(super) fn send(&self, message: impl Outgoing) -> VoidResult {
        let client = match &*lock(&self.current) {
            Some(current) => current.client.clone(),
            None => {
                let text = "the client is not connected";
                let refused = error::new(ErrorCode::ConnectionClosed, text);
                return self.sent(Err(refused), false);
            }
        };
        let timeout = self.member.as_ref().map(|member| member.message_timeout());
        match client.try_send(message) {
            Err(error) if error.is_full() => {
                let message = error.into_message();
                let sending = async move { client.send(message).await };
                let sent = runtime::wait_for_room(timeout, sending);
                self.sent(sent, !Inside::is_inline())
            }
            result => self.sent(result.map_err(Into::into), false),
        }
    }

    fn sent(&self, result: VoidResult, waited: bool) -> VoidResult {
        match &self.member {
            Some(member) => member.sent(result, waited),
            None => result,
        }
    }
}

impl<C: Clone + AsMut<client_config>> classic_client<C> {
    /// Sets [`client_config::codec`] for the next start.
    pub fn set_codec(&self, codec: CodecKind) {
        self.configure(|config| config.as_mut().codec = codec);
    }

    /// Sets whether a connection that is lost is made again, for the next start.
    ///
    /// Before the first attempt the client waits at most `retry_interval`, before each further one at
    /// most twice as long, up to 30 seconds. It draws the wait at random from what it may be, so that
    /// clients that have lost the same server do not return all at once. Meanwhile up to 1 MiB of what
    /// is sent is queued; then sending blocks. The connect handler is called for each connection.
    pub fn enable_auto_reconnect(&self, enable: bool, retry_interval: Duration) {
        self.configure(|config| {
            let config = config.as_mut();
            config.auto_reconnect = enable;
            config.reconnect_interval = retry_interval;
        });
    }
}

impl<C: Clone> Drop for classic_client<C> {
    fn drop(&mut self) {
        // There is nobody to tell.
        let _ = self.stop_client();
    }
}

impl<C: Clone> fmt::Debug for classic_client<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("classic_client")
            .field("id", &self.id)
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}
