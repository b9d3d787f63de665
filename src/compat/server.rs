//! The classic server.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::callback::{Inside, Lane, Pending, Slot, Threads, Unique, thread_pool_interface};
use super::config::server_config;
use super::result::{VoidResult, error, reason_text};
use super::runtime;
use super::session::{messaging_session, not_found};
use crate::endpoint::{CodecKind, Endpoint};
use crate::error::{CloseReason, ErrorCode};
use crate::group::GroupName;
use crate::handler::Handler;
use crate::message::Message;
use crate::server::{Server, StopReport};
use crate::session::shared::lock;
use crate::session::{Session, SessionId};

type OnSession = dyn Fn(Arc<messaging_session>) + Send + Sync;
type OnMessage = dyn Fn(Arc<messaging_session>, &[u8]) + Send + Sync;
type OnDisconnect = dyn Fn(Arc<messaging_session>, &str) + Send + Sync;
type OnError = dyn Fn(&str, i32) + Send + Sync;

/// Counters of a server at one moment, over all its runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct server_statistics {
    /// Sessions that were opened.
    pub total_connections: u64,
    /// Sessions that are open.
    pub current_connections: u64,
    /// Messages sent.
    pub messages_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Bytes of the messages sent, without framing.
    pub bytes_sent: u64,
    /// Bytes of the messages received, without framing.
    pub bytes_received: u64,
    /// When the server was last started; `None` before.
    pub start_time: Option<Instant>,
    /// When a message was last sent or received since then.
    pub last_activity: Option<Instant>,
}

/// Where [`messaging_server::start_server`] listens: `()` for what the configuration says, a port, or an
/// address and a port. Port 0 takes a free one; [`messaging_server::port`] says which.
pub trait ListenOn: sealed::Sealed {
    /// The address, if it is given, and the port, if it is given.
    #[doc(hidden)]
    fn parts(self) -> (Option<String>, Option<u16>);
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for () {}
    impl Sealed for u16 {}
    impl Sealed for (&str, u16) {}
    impl Sealed for (String, u16) {}
}

impl ListenOn for () {
    fn parts(self) -> (Option<String>, Option<u16>) {
        (None, None)
    }
}

impl ListenOn for u16 {
    fn parts(self) -> (Option<String>, Option<u16>) {
        (None, Some(self))
    }
}

impl ListenOn for (&str, u16) {
    fn parts(self) -> (Option<String>, Option<u16>) {
        (Some(self.0.to_owned()), Some(self.1))
    }
}

impl ListenOn for (String, u16) {
    fn parts(self) -> (Option<String>, Option<u16>) {
        (Some(self.0), Some(self.1))
    }
}

/// A server with the classic names, which blocks and calls back.
///
/// ```
/// use network_system::compat::{messaging_client, messaging_server};
///
/// let server = messaging_server::new("main_server");
/// server.set_message_handler(|session, message| {
///     let _ = session.send_message([b"Echo: ", message].concat());
/// });
/// server.start_server(("127.0.0.1", 0))?;
///
/// let client = messaging_client::new("client_01");
/// let (tell, told) = std::sync::mpsc::channel();
/// client.set_message_handler(move |message| {
///     let _ = tell.send(message.to_vec());
/// });
/// client.start_client("127.0.0.1", server.port())?;
/// client.send_message("hello")?;
/// assert_eq!(told.recv()?, b"Echo: hello");
///
/// client.stop_client()?;
/// server.stop_server()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Handlers can be set and replaced at any time; the configuration takes effect at the next start.
/// Where callbacks run, and what they may do, is on the page of the [module](super#callbacks).
///
/// Dropping the server stops it, as [`stop_server`](Self::stop_server) does. To share it, put it into an
/// `Arc`, as [`network_module::create_server`](super::network_module::create_server) does; a callback
/// that keeps such an `Arc` of its own server keeps it alive, a `Weak` does not.
pub struct messaging_server {
    id: String,
    owner: Unique,
    config: Mutex<server_config>,
    handlers: Arc<Handlers>,
    threads: Threads,
    stage: Mutex<Stage>,
    /// What the runs before the current one have counted.
    carried: Mutex<server_statistics>,
}

#[derive(Default)]
struct Handlers {
    connect: Slot<OnSession>,
    message: Slot<OnMessage>,
    disconnect: Slot<OnDisconnect>,
    error: Slot<OnError>,
}

enum Stage {
    Idle,
    Starting,
    Started(Arc<Run>),
}

/// From a start to the end of its stop.
struct Run {
    id: Unique,
    server: Server,
    adapter: Arc<Adapter>,
    /// Set when a stop begins.
    stopping: watch::Sender<bool>,
    /// Sessions whose callbacks wait in a stop.
    stoppers: watch::Sender<Vec<SessionId>>,
    /// Set when a stop has returned.
    stopped: AtomicBool,
}

impl Run {
    fn is_running(&self) -> bool {
        !self.stopped.load(Ordering::Acquire) && self.server.is_running()
    }

    /// Waits until every session has closed but those whose callbacks wait in a stop.
    async fn others_closed(&self) {
        let mut stoppers = self.stoppers.subscribe();
        loop {
            let waiting = stoppers.borrow_and_update().clone();
            let mut sessions = self.server.sessions().into_iter();
            let open = sessions.find(|session| {
                session.close_reason().is_none() && !waiting.contains(&session.id())
            });
            let Some(open) = open else { return };
            tokio::select! {
                _ = open.closed() => {}
                // The sender is here, so that it cannot fail.
                _ = stoppers.changed() => {}
            }
        }
    }
}

impl messaging_server {
    /// A server with the default configuration. The id is for the application and for logs.
    pub fn new(server_id: impl Into<String>) -> Self {
        Self::with_config(server_id, server_config::default())
    }

    /// A server with a configuration, which is checked when the server starts.
    pub fn with_config(server_id: impl Into<String>, config: server_config) -> Self {
        Self::with_pool(server_id, config, None)
    }

    pub(super) fn with_pool(
        server_id: impl Into<String>,
        config: server_config,
        pool: Option<Arc<dyn thread_pool_interface>>,
    ) -> Self {
        messaging_server {
            id: server_id.into(),
            owner: Unique::new(),
            config: Mutex::new(config),
            handlers: Arc::default(),
            threads: Threads::new(pool),
            stage: Mutex::new(Stage::Idle),
            carried: Mutex::default(),
        }
    }

    // Lifecycle

    /// Starts the server: `start_server(())` where the configuration says, `start_server(8080)` on a
    /// port, `start_server(("127.0.0.1", 8080))` on an address and port.
    ///
    /// When this returns, clients can connect. A server that was stopped can be started again. Outside
    /// of its callbacks, a start first waits until everything of a stop has ended.
    ///
    /// # Errors
    /// `server_already_running`, `bind_failed`, or `invalid_configuration` with the field and what is
    /// valid. Nothing is left running then.
    pub fn start_server(&self, listen_on: impl ListenOn) -> VoidResult {
        let previous = {
            let mut stage = lock(&self.stage);
            let previous = match &*stage {
                Stage::Starting => return Err(already_running()),
                Stage::Started(run) if run.is_running() => return Err(already_running()),
                Stage::Started(run) => Some(Arc::clone(run)),
                Stage::Idle => None,
            };
            *stage = Stage::Starting;
            previous
        };
        let result = self.start(listen_on.parts(), previous.as_deref());
        let (stage, result) = match result {
            Ok(run) => (Stage::Started(run), Ok(())),
            Err(error) => (previous.map_or(Stage::Idle, Stage::Started), Err(error)),
        };
        *lock(&self.stage) = stage;
        result
    }

    fn start(
        &self,
        (address, port): (Option<String>, Option<u16>),
        previous: Option<&Run>,
    ) -> Result<Arc<Run>, error> {
        let config = self.get_config();
        let address = address.unwrap_or_else(|| config.bind_address.clone());
        let port = port.unwrap_or(config.port);
        let endpoint = Endpoint::tcp(&address, port)?.with_codec(config.codec)?;
        let adapter = Arc::new(Adapter {
            owner: self.owner,
            run: Unique::new(),
            threads: self.threads.clone(),
            handlers: Arc::clone(&self.handlers),
            sessions: Mutex::default(),
            pending: Pending::new(),
        });
        let server = Server::builder()
            .listen_on(endpoint)
            .limits(config.limits())
            .timeouts(config.timeouts())
            .socket(config.socket())
            .handler(Hand(Arc::clone(&adapter)))
            .executor(self.threads.clone())
            .build()?;
        if let Some(previous) = previous
            && !Inside::is_of(self.owner)
        {
            let server = previous.server.clone();
            runtime::wait(async move { server.wait_for_stop().await })?;
        }
        let started = server.clone();
        runtime::wait(async move { started.start().await })??;
        if let Some(previous) = previous {
            let mut carried = lock(&self.carried);
            *carried = sum(&carried, &previous.server);
        }
        if address
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_unspecified())
        {
            tracing::warn!(
                server = self.id,
                address,
                "listening on every interface of the machine; set bind_address to choose one"
            );
        }
        Ok(Arc::new(Run {
            id: adapter.run,
            server,
            adapter,
            stopping: watch::Sender::new(false),
            stoppers: watch::Sender::new(Vec::new()),
            stopped: AtomicBool::new(false),
        }))
    }

    /// Stops the server in order: it accepts no more, callbacks that are running finish, what was sent
    /// leaves, clients are told, and the connections close. What is left after 10 seconds is cut off.
    ///
    /// When this returns, no callback runs any more, unless one was cut off; in a callback of the server
    /// itself it waits for all sessions but that callback's own.
    ///
    /// # Errors
    /// `server_not_started`.
    pub fn stop_server(&self) -> VoidResult {
        let run = self
            .run()
            .filter(|run| run.is_running())
            .ok_or_else(|| error::new(ErrorCode::ServerNotStarted, "the server is not running"))?;
        run.stopping.send_replace(true);
        let report = self.stop(Arc::clone(&run));
        if !Inside::is_of(self.owner) {
            let pending = run.adapter.pending.clone();
            let within = lock(&self.config).timeouts().drain;
            let _ =
                runtime::wait(
                    async move { tokio::time::timeout(within, pending.none()).await.is_ok() },
                );
        }
        run.stopped.store(true, Ordering::Release);
        let report = report?;
        if report.aborted > 0 {
            tracing::warn!(
                server = self.id,
                sessions = report.aborted,
                "sessions were cut off"
            );
        }
        Ok(())
    }

    fn stop(&self, run: Arc<Run>) -> Result<StopReport, error> {
        let server = run.server.clone();
        let Some(own) = Inside::session_of(run.id) else {
            return Ok(runtime::wait(async move { server.stop().await })??);
        };
        // The server waits for the callback that calls this: only the others can be waited for here.
        run.stoppers.send_modify(|stoppers| stoppers.push(own));
        Ok(runtime::wait(async move {
            tokio::select! {
                biased;
                // It begins first. That it is dropped does not take it back.
                report = server.stop() => report,
                () = run.others_closed() => Ok(StopReport::default()),
            }
        })??)
    }

    /// Blocks until the server has stopped; returns at once when it does not run.
    ///
    /// In a callback of the server itself it returns when a stop has begun.
    pub fn wait_for_stop(&self) {
        let Some(run) = self.run() else { return };
        let inside = Inside::is_of(self.owner);
        let result = runtime::wait(async move {
            if inside {
                let mut stopping = run.stopping.subscribe();
                let _ = stopping.wait_for(|stopping| *stopping).await;
            } else {
                run.server.wait_for_stop().await;
            }
        });
        if let Err(error) = result {
            tracing::error!(%error, "cannot wait for the server");
        }
    }

    /// Whether the server runs: from a start that succeeded until a stop has returned.
    pub fn is_running(&self) -> bool {
        self.run().is_some_and(|run| run.is_running())
    }

    fn run(&self) -> Option<Arc<Run>> {
        match &*lock(&self.stage) {
            Stage::Started(run) => Some(Arc::clone(run)),
            Stage::Idle | Stage::Starting => None,
        }
    }

    // Identity and configuration

    /// The id that the server was made with.
    pub fn server_id(&self) -> String {
        self.id.clone()
    }

    /// The port that the server listens on; while it does not run, the configured one.
    pub fn port(&self) -> u16 {
        self.listens_on()
            .map_or_else(|| lock(&self.config).port, |addr| addr.port())
    }

    /// The address that the server listens on; while it does not run, the configured one.
    pub fn bind_address(&self) -> String {
        match self.listens_on() {
            Some(addr) => addr.ip().to_string(),
            None => lock(&self.config).bind_address.clone(),
        }
    }

    fn listens_on(&self) -> Option<std::net::SocketAddr> {
        self.run()?.server.local_addrs().first().copied()
    }

    /// Replaces the configuration. It takes effect at the next start.
    pub fn set_config(&self, config: server_config) {
        self.configure(|current| *current = config);
    }

    /// The configuration for the next start.
    pub fn get_config(&self) -> server_config {
        lock(&self.config).clone()
    }

    /// Sets [`server_config::max_connections`] for the next start.
    pub fn set_max_connections(&self, max_connections: usize) {
        self.configure(|config| config.max_connections = max_connections);
    }

    /// Sets [`server_config::message_size_limit`] for the next start.
    pub fn set_message_size_limit(&self, bytes: usize) {
        self.configure(|config| config.message_size_limit = bytes);
    }

    /// Sets [`server_config::timeout`] for the next start; 0: never.
    pub fn set_timeout_seconds(&self, seconds: u64) {
        self.configure(|config| config.timeout = Duration::from_secs(seconds));
    }

    /// Sets [`server_config::codec`] for the next start.
    pub fn set_codec(&self, codec: CodecKind) {
        self.configure(|config| config.codec = codec);
    }

    fn configure(&self, change: impl FnOnce(&mut server_config)) {
        change(&mut lock(&self.config));
        if self.is_running() {
            tracing::warn!(
                server = self.id,
                "the configuration takes effect at the next start"
            );
        }
    }

    // Handlers

    /// Sets what happens to messages. Those of one session are handled in order, one at a time;
    /// those of different sessions side by side.
    pub fn set_message_handler(
        &self,
        handler: impl Fn(Arc<messaging_session>, &[u8]) + Send + Sync + 'static,
    ) {
        self.handlers.message.set(Arc::new(handler));
    }

    /// The same as [`set_message_handler`](Self::set_message_handler).
    pub fn on_receive(
        &self,
        handler: impl Fn(Arc<messaging_session>, &[u8]) + Send + Sync + 'static,
    ) {
        self.set_message_handler(handler);
    }

    /// Sets what happens when a session opens. Its messages wait until this returns.
    pub fn set_connect_handler(
        &self,
        handler: impl Fn(Arc<messaging_session>) + Send + Sync + 'static,
    ) {
        self.handlers.connect.set(Arc::new(handler));
    }

    /// Sets what happens when a session has ended, with the reason as a text: what the closing side
    /// said, or the name of an error code.
    pub fn set_disconnect_handler(
        &self,
        handler: impl Fn(Arc<messaging_session>, &str) + Send + Sync + 'static,
    ) {
        self.handlers.disconnect.set(Arc::new(handler));
    }

    /// Sets what is called with a text and a code when something goes wrong on a session.
    ///
    /// Calls about one session come in order, but beside its other callbacks. When more than 256 wait,
    /// further ones are dropped and logged.
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

    // Sending

    /// Sends a message to every session. Blocks while the outbox of one is full, after the others have
    /// the message.
    ///
    /// # Errors
    /// `server_not_started`, `message_too_large`. That some sessions were closing is no error.
    pub fn broadcast_message(&self, message: impl AsRef<[u8]>) -> VoidResult {
        let server = self.server()?;
        let message = Message::binary(message.as_ref().to_vec());
        runtime::wait(async move { server.broadcast(message).await })??;
        Ok(())
    }

    /// Sends a message to the sessions in a group, as [`broadcast_message`](Self::broadcast_message). A
    /// group that nobody is in is no error.
    ///
    /// # Errors
    /// As [`broadcast_message`](Self::broadcast_message), and `request_failed` when the name is empty or
    /// longer than 128 bytes.
    pub fn broadcast_to_group(&self, group_id: &str, message: impl AsRef<[u8]>) -> VoidResult {
        let server = self.server()?;
        let group = GroupName::new(group_id)?;
        let message = Message::binary(message.as_ref().to_vec());
        runtime::wait(async move { server.broadcast_to(&group, message, &[]).await })??;
        Ok(())
    }

    fn server(&self) -> Result<Server, error> {
        match self.run() {
            Some(run) => Ok(run.server.clone()),
            None => Err(error::new(
                ErrorCode::ServerNotStarted,
                "the server is not running",
            )),
        }
    }

    // Sessions

    /// How many sessions are open.
    pub fn connection_count(&self) -> usize {
        self.run().map_or(0, |run| run.server.session_count())
    }

    /// The open session with this id.
    pub fn get_session(&self, session_id: &str) -> Option<Arc<messaging_session>> {
        self.session(session_id.parse().ok()?)
    }

    pub(super) fn session(&self, id: SessionId) -> Option<Arc<messaging_session>> {
        let run = self.run()?;
        let session = run.server.session(id)?;
        Some(run.adapter.find(&session))
    }

    /// All open sessions, in no particular order.
    pub fn get_all_sessions(&self) -> Vec<Arc<messaging_session>> {
        let Some(run) = self.run() else {
            return Vec::new();
        };
        let sessions = run.server.sessions();
        sessions
            .iter()
            .map(|session| run.adapter.find(session))
            .collect()
    }

    fn find(&self, session_id: &str) -> Result<Arc<messaging_session>, error> {
        self.get_session(session_id)
            .ok_or_else(|| not_found(session_id))
    }

    /// Ends a session in order. Returns at once.
    ///
    /// # Errors
    /// `session_not_found`.
    pub fn disconnect_session(&self, session_id: &str) -> VoidResult {
        self.find(session_id)?.disconnect(BY_SERVER);
        Ok(())
    }

    /// Ends all open sessions in order. Returns at once; the server goes on accepting.
    pub fn disconnect_all_sessions(&self) {
        if let Some(run) = self.run() {
            run.server.disconnect_all(CloseReason::new(BY_SERVER));
        }
    }

    // Groups

    /// Puts a session into a group, as [`messaging_session::join_group`].
    ///
    /// # Errors
    /// `session_not_found`, and as [`messaging_session::join_group`].
    pub fn add_session_to_group(&self, session_id: &str, group_id: &str) -> VoidResult {
        self.find(session_id)?.join_group(group_id)
    }

    /// Takes a session out of a group. A session that was not in it stays as it is.
    ///
    /// # Errors
    /// `session_not_found`.
    pub fn remove_session_from_group(&self, session_id: &str, group_id: &str) -> VoidResult {
        self.find(session_id)?.leave_group(group_id);
        Ok(())
    }

    /// The groups that a session is in; none when there is no such session.
    pub fn get_session_groups(&self, session_id: &str) -> Vec<String> {
        self.get_session(session_id)
            .map(|session| session.get_groups())
            .unwrap_or_default()
    }

    // Statistics

    /// Counters at this moment.
    pub fn get_statistics(&self) -> server_statistics {
        let carried = lock(&self.carried);
        match self.run() {
            Some(run) => sum(&carried, &run.server),
            None => *carried,
        }
    }

    /// Counts from zero again.
    pub fn reset_statistics(&self) {
        let mut carried = lock(&self.carried);
        *carried = server_statistics::default();
        if let Some(run) = self.run() {
            run.server.reset_stats();
        }
    }
}

/// What a client's disconnect handler gets when the server's application ends its session.
const BY_SERVER: &str = "disconnected by the server";

fn already_running() -> error {
    error::new(
        ErrorCode::ServerAlreadyRunning,
        "the server is running already",
    )
}

/// What earlier runs have counted, and this one.
fn sum(carried: &server_statistics, server: &Server) -> server_statistics {
    let stats = server.stats();
    server_statistics {
        total_connections: carried.total_connections + stats.total_connections,
        current_connections: stats.current_connections as u64,
        messages_sent: carried.messages_sent + stats.messages_sent,
        messages_received: carried.messages_received + stats.messages_received,
        bytes_sent: carried.bytes_sent + stats.bytes_sent,
        bytes_received: carried.bytes_received + stats.bytes_received,
        start_time: stats.started_at.map(tokio::time::Instant::into_std),
        last_activity: stats.last_activity.map(tokio::time::Instant::into_std),
    }
}

impl Drop for messaging_server {
    fn drop(&mut self) {
        // That it does not run is as good.
        let _ = self.stop_server();
    }
}

impl fmt::Debug for messaging_server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("messaging_server")
            .field("id", &self.id)
            .field("running", &self.is_running())
            .finish_non_exhaustive()
    }
}

/// Calls the callbacks of one run. Its methods run on the threads for callbacks.
struct Adapter {
    owner: Unique,
    run: Unique,
    threads: Threads,
    handlers: Arc<Handlers>,
    /// The classic sessions, until after their disconnect handlers.
    sessions: Mutex<HashMap<SessionId, Arc<messaging_session>>>,
    pending: Pending,
}

impl Adapter {
    fn inside(&self, session: &Session) -> Inside {
        Inside {
            owner: self.owner,
            run: self.run,
            session: Some(session.id()),
        }
    }

    fn make(&self, session: &Session) -> Arc<messaging_session> {
        let lane = Lane::new(
            self.threads.clone(),
            self.inside(session),
            self.pending.clone(),
        );
        messaging_session::new(session.clone(), lane)
    }

    /// The classic session. It is kept if the session is connected: only then the disconnect handler,
    /// which removes it, is certain to come.
    fn find(&self, session: &Session) -> Arc<messaging_session> {
        let mut sessions = lock(&self.sessions);
        if let Some(classic) = sessions.get(&session.id()) {
            return Arc::clone(classic);
        }
        let classic = self.make(session);
        if session.is_connected() {
            sessions.insert(session.id(), Arc::clone(&classic));
        }
        classic
    }

    fn connect(&self, session: &Session) {
        let classic = {
            let mut sessions = lock(&self.sessions);
            let classic = sessions
                .entry(session.id())
                .or_insert_with(|| self.make(session));
            Arc::clone(classic)
        };
        if let Some(handler) = self.handlers.connect.get() {
            self.inside(session).call(|| handler(classic));
        }
    }

    fn message(&self, session: &Session, message: &Message) {
        let classic = self.find(session);
        let inside = self.inside(session);
        if let Some(handler) = classic.message_handler() {
            inside.call(|| handler(message.payload()));
        } else if let Some(handler) = self.handlers.message.get() {
            inside.call(|| handler(classic, message.payload()));
        }
    }

    fn disconnect(&self, session: &Session, reason: &CloseReason) {
        /// Removes the session even when the handler panics.
        struct Ended<'a>(&'a Adapter, SessionId);
        impl Drop for Ended<'_> {
            fn drop(&mut self) {
                let _ended = lock(&self.0.sessions).remove(&self.1);
            }
        }
        let classic = self.find(session);
        let _ended = Ended(self, session.id());
        if let Some(handler) = self.handlers.disconnect.get() {
            let reason = reason_text(reason);
            self.inside(session).call(|| handler(classic, &reason));
        }
    }
}

/// The native handler. Its futures are never pending.
struct Hand(Arc<Adapter>);

impl Handler for Hand {
    async fn on_connect(&self, session: &Session) {
        self.0.connect(session);
    }

    async fn on_message(&self, session: &Session, message: &Message) {
        self.0.message(session, message);
    }

    async fn on_disconnect(&self, session: &Session, reason: &CloseReason) {
        self.0.disconnect(session, reason);
    }

    /// Called where bytes are moved.
    fn on_error(&self, session: &Session, code: ErrorCode, text: &str) {
        let classic = self.0.find(session);
        let Some(handler) = classic
            .error_handler()
            .or_else(|| self.0.handlers.error.get())
        else {
            return;
        };
        let text = text.to_owned();
        let callback = move || handler(&text, code.as_i32());
        classic.lane().push(session, Box::new(callback));
    }
}
