//! The classic bridge: what makes servers and clients that have something in common.

mod config;
mod member;
mod metrics;
mod report;
mod shared;

use std::fmt;
use std::sync::{Arc, Mutex};

use self::config::Settings;
use self::member::Made;
use self::shared::{Phase, Shared};
use super::callback::{Inside, thread_pool_interface};
use super::client::messaging_client;
use super::config::{client_config, refuse, server_config};
use super::container::{value_container, value_factory};
use super::pooling::client_pool;
use super::result::{Result, VoidResult, error};
use super::runtime;
use super::server::messaging_server;
use crate::container::Format;
use crate::error::ErrorCode;
use crate::events;
use crate::pipeline::Keys;
use crate::session::shared::lock;

pub use self::config::bridge_config;
pub(super) use self::member::Member;
pub use self::metrics::performance_metrics;

/// Makes servers and clients that share configuration, metrics, threads, a pipeline and event handlers, and
/// starts and stops with them.
///
/// ```
/// use network_system::compat::{container_system::value_container, messaging_bridge};
///
/// let bridge = messaging_bridge::new("main");
/// bridge.enable_container_serialization(true);
/// let (tell, told) = std::sync::mpsc::channel();
/// bridge.set_container_message_handler(move |container| {
///     let _ = tell.send(container);
/// });
/// bridge.start()?;
///
/// let server = bridge.create_server("server", ());
/// server.start_server(("127.0.0.1", 0))?;
/// let client = bridge.create_client("client", ());
/// client.start_client("127.0.0.1", server.port())?;
///
/// let mut login = value_container::new();
/// login.set_message_type("login");
/// login.set_value("user", "ada");
/// client.send_message(login.serialize()?)?;
/// assert_eq!(told.recv()?.get_string("user").as_deref(), Some("ada"));
/// bridge.stop()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// What [`set_config`](Self::set_config) and [`set_encryption_keys`](Self::set_encryption_keys) say applies
/// to what is made afterwards; [`set_thread_pool`](Self::set_thread_pool) and
/// [`set_async_mode`](Self::set_async_mode) to what starts afterwards; everything else at once.
///
/// The bridge does not keep alive what it has made: a server that nobody holds any more stops. Dropping the
/// bridge stops all that it has made, as [`stop`](Self::stop) does; a callback that keeps an `Arc` of the
/// bridge keeps it alive, a `Weak` does not.
pub struct messaging_bridge {
    shared: Arc<Shared>,
    setup: Mutex<Setup>,
}

struct Setup {
    settings: Arc<Settings>,
    keys: Option<Keys>,
}

/// The id that a classic bridge has when it is given none.
const DEFAULT_ID: &str = "default";

impl Default for messaging_bridge {
    fn default() -> Self {
        messaging_bridge::new(DEFAULT_ID)
    }
}

/// A configuration, or `()` for the default one, where C++ has a default argument.
pub trait OrDefault<C> {
    /// The configuration.
    #[doc(hidden)]
    fn or_default(self) -> C;
}

macro_rules! or_default {
    ($($config:ty),*) => {$(
        impl OrDefault<$config> for () {
            fn or_default(self) -> $config {
                <$config>::default()
            }
        }

        impl OrDefault<$config> for $config {
            fn or_default(self) -> $config {
                self
            }
        }
    )*};
}

or_default!(server_config, client_config);

impl messaging_bridge {
    /// A bridge with the default configuration. The id is for the application, reports and logs; C++ takes
    /// `"default"` when there is none, as [`messaging_bridge::default`] does.
    pub fn new(bridge_id: impl Into<String>) -> Self {
        messaging_bridge {
            shared: Arc::new(Shared::new(bridge_id.into())),
            setup: Mutex::new(Setup {
                settings: Arc::default(),
                keys: None,
            }),
        }
    }

    /// The id that the bridge was made with.
    pub fn bridge_id(&self) -> String {
        self.shared.id().to_owned()
    }

    // Servers and clients

    /// Makes a server of the bridge, with a configuration or `()` for the default one. It is started by
    /// [`start_server`](messaging_server::start_server).
    pub fn create_server(
        &self,
        server_id: impl Into<String>,
        config: impl OrDefault<server_config>,
    ) -> Arc<messaging_server> {
        let (settings, member) = self.member();
        let config = settings.for_server(config.or_default());
        let server = messaging_server::of_bridge(server_id, config, member);
        let server = Arc::new(server);
        let made: Arc<dyn Made> = Arc::clone(&server) as _;
        self.register("server", &server.server_id(), &made);
        server
    }

    /// Makes a client of the bridge, with a configuration or `()` for the default one. It is started by
    /// [`start_client`](messaging_client::start_client).
    pub fn create_client(
        &self,
        client_id: impl Into<String>,
        config: impl OrDefault<client_config>,
    ) -> Arc<messaging_client> {
        let (settings, member) = self.member();
        let config = settings.for_client(config.or_default());
        let client = messaging_client::of_bridge(client_id, config, member);
        let client = Arc::new(client);
        let made: Arc<dyn Made> = Arc::clone(&client) as _;
        self.register("client", &client.client_id(), &made);
        client
    }

    /// The same as [`create_server`](Self::create_server) with the default configuration.
    pub fn make_messaging_server(&self, server_id: impl Into<String>) -> Arc<messaging_server> {
        self.create_server(server_id, ())
    }

    /// The same as [`create_client`](Self::create_client) with the default configuration.
    pub fn make_messaging_client(&self, client_id: impl Into<String>) -> Arc<messaging_client> {
        self.create_client(client_id, ())
    }

    /// Makes a pool of clients of the bridge that are connected to one server, with a configuration or `()` for the
    /// default one. It has up to [`max_connections_per_client`](bridge_config::max_connections_per_client) connections,
    /// which are made when they are needed, and keeps them as
    /// [`enable_connection_pooling`](bridge_config::enable_connection_pooling) says.
    ///
    /// ```
    /// use network_system::compat::messaging_bridge;
    ///
    /// let bridge = messaging_bridge::new("main");
    /// let server = bridge.create_server("server", ());
    /// server.start_server(("127.0.0.1", 0))?;
    /// let pool = bridge.create_client_pool("worker", "127.0.0.1", server.port(), ())?;
    /// let client = pool.acquire().expect("the server is there");
    /// client.send_message("hello")?;
    /// pool.release(client)?;
    /// # Ok::<(), network_system::compat::error>(())
    /// ```
    ///
    /// # Errors
    /// When the threads of the network cannot be started.
    pub fn create_client_pool(
        &self,
        client_id: impl Into<String>,
        host: impl Into<String>,
        port: u16,
        config: impl OrDefault<client_config>,
    ) -> Result<Arc<client_pool>> {
        let (settings, member) = self.member();
        let size = settings.config.max_connections_per_client;
        let keeps = settings.config.enable_connection_pooling;
        let config = settings.for_client(config.or_default());
        let place = (host.into(), port);
        let pool = client_pool::of_bridge(client_id.into(), place, config, member, size, keeps)?;
        Ok(Arc::new(pool))
    }

    fn member(&self) -> (Arc<Settings>, Arc<Member>) {
        let settings = Arc::clone(&lock(&self.setup).settings);
        let shared = Arc::clone(&self.shared);
        let member = Member::new(shared, Arc::clone(&settings));
        (settings, Arc::new(member))
    }

    fn register(&self, kind: &'static str, id: &str, made: &Arc<dyn Made>) {
        self.shared.add(Arc::downgrade(made));
        if self.shared.is_debug() {
            events::bridge_made {
                bridge: self.shared.id(),
                kind,
                id,
            }
            .emit();
        }
    }

    // Configuration

    /// Replaces the configuration. It applies to servers and clients that are made afterwards.
    ///
    /// # Errors
    /// `not_supported` or `invalid_configuration`, with the field and what is valid; the configuration is
    /// then as it was.
    pub fn set_config(&self, config: bridge_config) -> VoidResult {
        let mut setup = lock(&self.setup);
        setup.settings = Arc::new(Settings::new(config, setup.keys.as_ref())?);
        Ok(())
    }

    /// The configuration.
    pub fn get_config(&self) -> bridge_config {
        lock(&self.setup).settings.config.clone()
    }

    /// Sets the keys for [`enable_encryption`](bridge_config::enable_encryption). They can be changed while
    /// everything runs, by the handle that the application keeps ([`Keys::add`], [`Keys::activate`]).
    ///
    /// ```
    /// use network_system::compat::{bridge_config, messaging_bridge};
    /// use network_system::pipeline::{Keys, Secret};
    ///
    /// let bridge = messaging_bridge::new("main");
    /// bridge.set_encryption_keys(Keys::new(1, Secret::random()?))?;
    /// let mut config = bridge_config::default();
    /// config.enable_encryption = true;
    /// bridge.set_config(config)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`set_config`](Self::set_config); the keys are then as they were.
    pub fn set_encryption_keys(&self, keys: Keys) -> VoidResult {
        let mut setup = lock(&self.setup);
        let config = setup.settings.config.clone();
        setup.settings = Arc::new(Settings::new(config, Some(&keys))?);
        setup.keys = Some(keys);
        Ok(())
    }

    // Containers

    /// Sets what reads containers, which says their format and limits. Default: MessagePack, and the limits
    /// of [`DecodeOptions`](crate::container::DecodeOptions).
    ///
    /// # Errors
    /// `not_supported`: a format that can only be written.
    pub fn set_container_factory(&self, factory: Arc<value_factory>) -> VoidResult {
        if factory.format() == Format::Xml {
            let text = "XML can only be written";
            return Err(refuse(
                ErrorCode::NotSupported,
                "set_container_factory",
                text,
            ));
        }
        self.shared.set_factory(factory);
        Ok(())
    }

    /// Sets the format of containers, and leaves their limits. It is never guessed.
    ///
    /// # Errors
    /// As [`set_container_factory`](Self::set_container_factory).
    pub fn set_container_format(&self, format: Format) -> VoidResult {
        let factory = self.shared.factory().in_format(format);
        self.set_container_factory(Arc::new(factory))
    }

    /// Sets whether messages are read as containers. Default off.
    pub fn enable_container_serialization(&self, enable: bool) {
        self.shared.read_containers(enable);
    }

    /// Sets what happens to messages that are containers, while
    /// [`enable_container_serialization`](Self::enable_container_serialization) is on. It is called before
    /// the message handlers of the server or client, which get every message all the same: only those can
    /// answer.
    ///
    /// A message that is no container goes to the error event handler with `invalid_frame`, and then to the
    /// message handlers; its session goes on.
    pub fn set_container_message_handler(
        &self,
        handler: impl Fn(Arc<value_container>) + Send + Sync + 'static,
    ) {
        self.shared.on_container.set(Arc::new(handler));
    }

    // Threads

    /// Sets which threads run the callbacks of what starts afterwards. Without a pool they run on threads
    /// that are made as needed.
    pub fn set_thread_pool(&self, pool: Arc<dyn thread_pool_interface>) {
        self.shared.set_pool(pool);
    }

    /// Sets where callbacks run, for what starts afterwards.
    ///
    /// On, the default: on the threads of the pool. Off: where messages are read, which saves some ten
    /// microseconds for a message that comes alone. A callback must not block then, as it stalls all sessions
    /// of its worker. So what would have to wait there fails: sending to a session without room with
    /// `queue_full`, starting a server or client with `not_supported`. Stopping begins, and returns at once.
    /// Callbacks about errors and states run on other threads in any case.
    pub fn set_async_mode(&self, is_async: bool) {
        self.shared.set_inline(!is_async);
    }

    // Metrics and events

    /// Counters over all that the bridge has made since it was made, or since
    /// [`reset_metrics`](Self::reset_metrics).
    pub fn get_metrics(&self) -> performance_metrics {
        self.shared.metrics().read()
    }

    /// Counts from zero again. The statistics of servers and sessions stay.
    pub fn reset_metrics(&self) {
        self.shared.metrics().reset();
    }

    /// Sets what is called with the address of the peer when a connection of a server or client has opened
    /// (`true`) or ended (`false`). It is called before the connect and disconnect handlers.
    pub fn set_connection_event_handler(
        &self,
        handler: impl Fn(&str, bool) + Send + Sync + 'static,
    ) {
        self.shared.on_connection.set(Arc::new(handler));
    }

    /// Sets what is called with a text and a code when something goes wrong on a session, beside the error
    /// handler of its server or client, and when a message is no container. What a function returns as an
    /// error does not come here too.
    pub fn set_error_event_handler(&self, handler: impl Fn(&str, i32) + Send + Sync + 'static) {
        self.shared.on_error.set(Arc::new(handler));
    }

    // Lifecycle

    /// Starts the bridge. Servers and clients are started one by one; they can be before the first start of
    /// the bridge too, but not after its stop, until it is started again.
    ///
    /// # Errors
    /// `server_already_running`.
    pub fn start(&self) -> VoidResult {
        if self.shared.enter(Phase::Running) == Phase::Running {
            let text = "the bridge is running already";
            return Err(error::new(ErrorCode::ServerAlreadyRunning, text));
        }
        self.debug_state("running");
        Ok(())
    }

    /// Stops all that the bridge has made, in order and side by side: see
    /// [`stop_server`](messaging_server::stop_server) and [`stop_client`](messaging_client::stop_client).
    ///
    /// When this returns, everything has stopped; in a callback of what the bridge has made, it has begun
    /// to.
    ///
    /// # Errors
    /// `server_not_started` when the bridge has been stopped and not started since.
    pub fn stop(&self) -> VoidResult {
        let before = self.shared.enter(Phase::Stopped);
        let made = self.shared.made();
        let stopping: Vec<_> = made.iter().filter_map(|made| made.begin_stop()).collect();
        let inside = Inside::owner();
        let is_own = made.iter().any(|made| Some(made.owner()) == inside);
        if !is_own && !stopping.is_empty() {
            runtime::wait(async move {
                for end in stopping {
                    // That a stop panicked is no reason not to wait for the others.
                    let _ = end.await;
                }
            })?;
        }
        if before == Phase::Stopped {
            let text = "the bridge is not running";
            return Err(error::new(ErrorCode::ServerNotStarted, text));
        }
        self.debug_state("stopped");
        Ok(())
    }

    /// Whether the bridge has been started, and not been stopped since.
    pub fn is_running(&self) -> bool {
        self.shared.phase() == Phase::Running
    }

    // Diagnostics

    /// What there is and what it does, for a person; one thing a line, in this order: bridge, configuration,
    /// metrics, servers, clients.
    pub fn get_status_report(&self) -> String {
        report::report(&self.shared, &self.get_config())
    }

    /// Sets whether the bridge logs what it makes, starts and stops, its connections and errors. Who asks for
    /// it wants to see it: it is at level info, which loggers show by default. Default off.
    pub fn enable_debug_logging(&self, enable: bool) {
        self.shared.set_debug(enable);
    }

    fn debug_state(&self, state: &'static str) {
        if self.shared.is_debug() {
            let bridge = self.shared.id();
            events::bridge_state { bridge, state }.emit();
        }
    }
}

fn keys_missing() -> error {
    let text = "needs keys; set them before with set_encryption_keys";
    refuse(ErrorCode::InvalidConfiguration, "enable_encryption", text)
}

impl Drop for messaging_bridge {
    fn drop(&mut self) {
        // That it does not run is as good.
        let _ = self.stop();
    }
}

impl fmt::Debug for messaging_bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("messaging_bridge")
            .field("id", &self.shared.id())
            .field("running", &self.is_running())
            .finish_non_exhaustive()
    }
}
