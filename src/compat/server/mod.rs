//! The classic servers: one for all transports, which its configuration tells apart.

mod adapter;
mod listen_on;
mod run;
mod sessions;
mod setters;
mod statistics;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use self::adapter::{Adapter, Hand};
use self::run::Run;
use super::bridge::Member;
use super::callback::{Inside, Threads, Unique, thread_pool_interface};
use super::config::{ServerConfig, server_config};
use super::handlers::Handlers;
use super::result::{Result, VoidResult, error};
use super::runtime;
use super::session::messaging_session;
use super::utils::performance_monitor;
use tokio::task::JoinHandle;

use crate::config::Timeouts;
use crate::endpoint::CodecKind;
use crate::error::ErrorCode;
use crate::events::{self, shown};
use crate::server::StopReport;
use crate::session::shared::lock;

pub use self::listen_on::ListenOn;
pub use self::statistics::server_statistics;

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
pub type messaging_server = classic_server<server_config>;

/// What all classic servers are. The configuration tells them apart:
///
/// | server | configuration |
/// |---|---|
/// | [`messaging_server`] | [`server_config`] |
/// | [`secure_messaging_server`](super::secure_messaging_server) | [`secure_server_config`](super::secure_server_config) |
/// | [`messaging_ws_server`](super::messaging_ws_server) | [`ws_server_config`](super::ws_server_config) |
/// | [`messaging_udp_server`](super::messaging_udp_server) | [`udp_server_config`](super::udp_server_config) |
///
/// Handlers can be set and replaced at any time; the configuration takes effect at the next start.
/// Where callbacks run, and what they may do, is on the page of the [module](super#callbacks).
///
/// Dropping the server stops it, as [`stop_server`](Self::stop_server) does. To share it, put it into an
/// `Arc`, as [`network_module::create_server`](super::network_module::create_server) does; a callback
/// that keeps such an `Arc` of its own server keeps it alive, a `Weak` does not.
pub struct classic_server<C: ServerConfig> {
    id: String,
    owner: Unique,
    config: Mutex<C>,
    pub(super) handlers: Arc<Handlers<Arc<messaging_session>>>,
    threads: Threads,
    /// Set when a bridge has made the server.
    pub(super) member: Option<Arc<Member>>,
    stage: Mutex<Stage>,
    /// What the runs before the current one have counted.
    carried: Mutex<server_statistics>,
}

enum Stage {
    Idle,
    Starting,
    Started(Arc<Run>),
}

impl<C: ServerConfig + Default> classic_server<C> {
    /// A server with the default configuration. The id is for the application and for logs.
    pub fn new(server_id: impl Into<String>) -> Self {
        Self::with_config(server_id, C::default())
    }
}

impl<C: ServerConfig> classic_server<C> {
    /// A server with a configuration, which is checked when the server starts.
    pub fn with_config(server_id: impl Into<String>, config: C) -> Self {
        Self::with_pool(server_id, config, None)
    }

    pub(super) fn with_pool(
        server_id: impl Into<String>,
        config: C,
        pool: Option<Arc<dyn thread_pool_interface>>,
    ) -> Self {
        classic_server {
            id: server_id.into(),
            owner: Unique::new(),
            config: Mutex::new(config),
            handlers: Arc::default(),
            threads: Threads::new(pool),
            member: None,
            stage: Mutex::new(Stage::Idle),
            carried: Mutex::default(),
        }
    }

    /// A server that a bridge makes.
    pub(super) fn of_bridge(server_id: impl Into<String>, config: C, member: Arc<Member>) -> Self {
        let mut server = Self::with_config(server_id, config);
        server.member = Some(member);
        server
    }

    pub(super) fn unique(&self) -> Unique {
        self.owner
    }

    // Lifecycle

    /// Starts the server: `start_server(())` where the configuration says, `start_server(8080)` on a
    /// port, `start_server(("127.0.0.1", 8080))` on an address and port, `start_server(config)` with
    /// another configuration.
    ///
    /// When this returns, clients can connect. A server that was stopped can be started again. Outside
    /// of its callbacks, a start first waits until everything of a stop has ended.
    ///
    /// # Errors
    /// `server_already_running`, `bind_failed`, `invalid_configuration` or `not_supported` with the field
    /// and what is valid. Nothing is left running then.
    pub fn start_server(&self, listen_on: impl ListenOn<C>) -> VoidResult {
        self.admit()?;
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
        let mut config = self.get_config();
        listen_on.apply(&mut config);
        let result = self.start(&config, previous.as_deref());
        let (stage, result) = match result {
            Ok(run) => (Stage::Started(run), Ok(())),
            Err(error) => (previous.map_or(Stage::Idle, Stage::Started), Err(error)),
        };
        *lock(&self.stage) = stage;
        result?;
        // The bridge may have stopped meanwhile, without this server.
        self.admit().inspect_err(|_| drop(self.stop_server()))
    }

    fn admit(&self) -> VoidResult {
        match &self.member {
            Some(member) => member.admit(),
            None => Ok(()),
        }
    }

    fn start(&self, config: &C, previous: Option<&Run>) -> Result<Arc<Run>> {
        let threads = match &self.member {
            Some(member) => member.threads(),
            None => self.threads.clone(),
        };
        let adapter = Arc::new(Adapter::new(
            self.owner,
            threads.clone(),
            Arc::clone(&self.handlers),
            self.member.clone(),
        ));
        let builder = config.builder()?.handler(Hand(Arc::clone(&adapter)));
        let builder = builder.name(&*self.id);
        let mut builder = match &self.member {
            Some(member) => member.server(builder, config.has_hello())?,
            None => builder.monitor(performance_monitor::instance().native()),
        };
        if !threads.is_inline() {
            builder = builder.executor(threads);
        }
        let server = builder.build()?;
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
            *carried = carried.and(&previous.server);
        }
        let (address, _port) = config.place();
        if address
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_unspecified())
        {
            events::listening_everywhere {
                server: &*self.id,
                address,
            }
            .emit();
        }
        Ok(Arc::new(Run::new(server, adapter)))
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
        if Inside::is_inline() {
            let _beside = self.stop_beside();
            return Ok(());
        }
        let report = self.stop(Arc::clone(&run));
        if !Inside::is_of(self.owner) {
            let pending = run.adapter.pending().clone();
            let within = Timeouts::default().drain;
            let _ =
                runtime::wait(
                    async move { tokio::time::timeout(within, pending.none()).await.is_ok() },
                );
        }
        run.stopped.store(true, Ordering::Release);
        cut_off(&self.id, report?);
        Ok(())
    }

    /// Begins to stop, and returns what ends when the server has stopped; `None` when it does not run.
    pub(super) fn stop_beside(&self) -> Option<JoinHandle<()>> {
        let run = self.run().filter(|run| run.is_running())?;
        run.stopping.send_replace(true);
        let id = self.id.clone();
        let runtime = runtime::runtime().ok()?;
        Some(runtime.spawn(async move {
            if let Ok(report) = run.stop().await {
                cut_off(&id, report);
            }
        }))
    }

    fn stop(&self, run: Arc<Run>) -> Result<StopReport> {
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
        if Inside::is_inline() {
            return;
        }
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
            let (id, error) = (&*self.id, shown(&error.message));
            events::wait_failed { id, error }.emit();
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
            .map_or_else(|| lock(&self.config).place().1, |addr| addr.port())
    }

    /// The address that the server listens on; while it does not run, the configured one.
    pub fn bind_address(&self) -> String {
        match self.listens_on() {
            Some(addr) => addr.ip().to_string(),
            None => lock(&self.config).place().0.to_owned(),
        }
    }

    fn listens_on(&self) -> Option<SocketAddr> {
        self.run()?.server.local_addrs().first().copied()
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
        if self.is_running() {
            events::configuration_deferred { id: &*self.id }.emit();
        }
    }
}

impl<C: ServerConfig + AsMut<server_config>> classic_server<C> {
    /// Sets [`server_config::max_connections`] for the next start.
    pub fn set_max_connections(&self, max_connections: usize) {
        self.configure(|config| config.as_mut().max_connections = max_connections);
    }

    /// Sets [`server_config::message_size_limit`] for the next start.
    pub fn set_message_size_limit(&self, bytes: usize) {
        self.configure(|config| config.as_mut().message_size_limit = bytes);
    }

    /// Sets [`server_config::timeout`] for the next start; 0: never.
    pub fn set_timeout_seconds(&self, seconds: u64) {
        self.configure(|config| config.as_mut().timeout = Duration::from_secs(seconds));
    }

    /// Sets [`server_config::codec`] for the next start.
    pub fn set_codec(&self, codec: CodecKind) {
        self.configure(|config| config.as_mut().codec = codec);
    }
}

fn cut_off(id: &str, report: StopReport) {
    if report.aborted > 0 {
        events::sessions_cut_off {
            server: id,
            sessions: report.aborted,
        }
        .emit();
    }
}

fn already_running() -> error {
    error::new(
        ErrorCode::ServerAlreadyRunning,
        "the server is running already",
    )
}

impl<C: ServerConfig> Drop for classic_server<C> {
    fn drop(&mut self) {
        // That it does not run is as good.
        let _ = self.stop_server();
    }
}

impl<C: ServerConfig> fmt::Debug for classic_server<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("classic_server")
            .field("id", &self.id)
            .field("running", &self.is_running())
            .finish_non_exhaustive()
    }
}
