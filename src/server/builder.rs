//! The configuration of a server.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::listen::{Given, Listen};
use super::{Inner, Server, ServerStats, Stage, StopReport};
use crate::config::{Limits, Reliability, SocketOptions, Timeouts, UdpOptions, WorkerThreads};
use crate::endpoint::{CodecKind, Endpoint};
use crate::error::{CloseReason, ConfigError, ErrorCode, RequestError};
use crate::executor::{Execution, Executor};
use crate::group::GroupName;
use crate::handler::{
    Authenticate, Authentication, Authenticator, Closure, Closures, Credentials, Granting,
    GroupGuard, Guard, Handler, HandlerService, Service,
};
use crate::hub::Hub;
use crate::limits::{Handshakes, MemoryBudget};
use crate::message::Message;
use crate::metrics::{PerformanceMonitor, Role};
use crate::pipeline::Pipeline;
use crate::session::Session;
use crate::tls::TlsServer;
use crate::transport::proxy_protocol::ProxyProtocol;
use crate::transport::simulated::Simulated;
use crate::transport::udp::UdpConfig;
use crate::transport::{BoundSocket, ServerOptions};
use crate::websocket::WebSocketServer;

/// Configures a [`Server`].
///
/// Nothing is checked before [`build`](Self::build), which checks everything.
#[must_use = "a builder does nothing before `build`"]
pub struct ServerBuilder {
    listen: Vec<Result<Listen, ConfigError>>,
    limits: Limits,
    timeouts: Timeouts,
    socket: SocketOptions,
    proxy_protocol: Option<ProxyProtocol>,
    tls: Option<TlsServer>,
    websocket: WebSocketServer,
    udp: UdpOptions,
    workers: usize,
    worker_threads: WorkerThreads,
    goaway: Option<Duration>,
    closures: Closures,
    handler: Option<Arc<dyn Service>>,
    authenticator: Option<Arc<dyn Authenticate>>,
    group_guard: Option<Guard>,
    execution: Option<Arc<Execution>>,
    pipeline: Option<Pipeline>,
    reliability: Option<Reliability>,
    memory_budget: Option<MemoryBudget>,
    name: Option<String>,
    monitor: Option<PerformanceMonitor>,
    network: Option<Simulated>,
}

impl ServerBuilder {
    pub(super) fn new() -> Self {
        ServerBuilder {
            listen: Vec::new(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            socket: SocketOptions::default(),
            proxy_protocol: None,
            tls: None,
            websocket: WebSocketServer::default(),
            udp: UdpOptions::default(),
            workers: 0,
            worker_threads: WorkerThreads::Runtime,
            goaway: None,
            closures: Closures::default(),
            handler: None,
            authenticator: None,
            group_guard: None,
            execution: None,
            pipeline: None,
            reliability: None,
            memory_budget: None,
            name: None,
            monitor: None,
            network: None,
        }
    }

    /// Adds a listener by its URL, such as `tcp://127.0.0.1:8080`, `unix:///run/app.sock` or
    /// `mem://name`. Port 0 takes a free port; [`Server::urls`] says which.
    ///
    /// `tcp://[::]:8080` accepts IPv4 as well, where the platform can, and peers then have their IPv4
    /// address. It accepts IPv6 alone when the server has a listener of its own at an IPv4 address with the
    /// same port, such as `tcp://0.0.0.0:8080`.
    ///
    /// Without any listener a server listens on `tcp://127.0.0.1:8080`.
    pub fn listen(mut self, url: impl AsRef<str>) -> Self {
        self.listen
            .push(Endpoint::parse(url.as_ref()).map(Listen::Endpoint));
        self
    }

    /// Adds a listener by its endpoint.
    pub fn listen_on(mut self, endpoint: Endpoint) -> Self {
        self.listen.push(Ok(Listen::Endpoint(endpoint)));
        self
    }

    /// Adds a listener by a TCP socket that is bound and listening. Socket options apply to it.
    ///
    /// Stopping the server closes the socket. A server that is started again binds its address anew.
    #[allow(
        clippy::disallowed_types,
        reason = "handed in by the application, and handed on as it is"
    )]
    pub fn listen_socket(mut self, socket: std::net::TcpListener, codec: CodecKind) -> Self {
        let endpoint = Endpoint::tcp("localhost", 0).and_then(|any| any.with_codec(codec));
        let given = endpoint.and_then(|endpoint| Given::new(BoundSocket::Tcp(socket), &endpoint));
        self.listen.push(given.map(Listen::Socket));
        self
    }

    /// Adds a listener by a socket that is bound already, such as one that systemd has passed on
    /// (`activation`). The URL says what is spoken: its scheme has to be one of the socket's kind, its
    /// host and port are replaced by those of the socket.
    ///
    /// ```no_run
    /// # fn sockets() -> Vec<network_system::BoundSocket> { Vec::new() }
    /// let mut server = network_system::Server::builder();
    /// for socket in sockets() {
    ///     server = server.listen_bound(socket, "ws://localhost/chat");
    /// }
    /// ```
    ///
    /// Stopping the server closes the socket. A server that is started again binds its address anew.
    pub fn listen_bound(mut self, socket: BoundSocket, url: impl AsRef<str>) -> Self {
        let given =
            Endpoint::parse(url.as_ref()).and_then(|endpoint| Given::new(socket, &endpoint));
        self.listen.push(given.map(Listen::Socket));
        self
    }

    /// Sets sizes and counts that are never exceeded.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how long to wait for what.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Sets options of sockets.
    pub fn socket(mut self, socket: SocketOptions) -> Self {
        self.socket = socket;
        self
    }

    /// Takes the addresses of peers from the PROXY protocol, on every listener of TCP, TLS and WebSocket
    /// with an address. Without it the header is no part of any protocol and is refused.
    pub fn proxy_protocol(mut self, proxy_protocol: ProxyProtocol) -> Self {
        self.proxy_protocol = Some(proxy_protocol);
        self
    }

    /// Sets what the server shows to clients on `tls://` and `wss://`. The value can be kept and told to
    /// reload its certificates while the server runs.
    pub fn tls(mut self, tls: TlsServer) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sets how WebSocket connections are treated: origins, compression, what decides about upgrades.
    pub fn websocket(mut self, websocket: WebSocketServer) -> Self {
        self.websocket = websocket;
        self
    }

    /// Sets options of UDP.
    pub fn udp(mut self, udp: UdpOptions) -> Self {
        self.udp = udp;
        self
    }

    /// Sets the number of workers that share the sessions. 0, the default: one for each worker thread of
    /// the runtime.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Sets which threads run the workers. Default [`WorkerThreads::Runtime`].
    pub fn worker_threads(mut self, threads: WorkerThreads) -> Self {
        self.worker_threads = threads;
        self
    }

    /// When the server stops, tells clients to come back after about this long (`goaway`).
    pub fn goaway(mut self, retry: Duration) -> Self {
        self.goaway = Some(retry);
        self
    }

    /// Sets the handler: the fast form, whose messages are lent. It takes the place of all closures.
    pub fn handler<H: Handler>(mut self, handler: H) -> Self {
        self.handler = Some(Arc::new(HandlerService(handler)));
        self
    }

    /// Sets what happens when a session opens. Its messages wait until this returns.
    pub fn on_connect<F, R>(mut self, handler: F) -> Self
    where
        F: Fn(Session) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.closures.on_connect(handler);
        self
    }

    /// Sets what happens to messages, in the order in which they came.
    pub fn on_message<F, R>(mut self, handler: F) -> Self
    where
        F: Fn(Session, Message) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.closures.on_message(handler);
        self
    }

    /// Sets how requests are answered. They start in order; up to 32 of one session run at once.
    pub fn on_request<F, R>(mut self, handler: F) -> Self
    where
        F: Fn(Session, Message) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Message, RequestError>> + Send + 'static,
    {
        self.closures.on_request(handler);
        self
    }

    /// Sets what happens when a session has ended.
    pub fn on_disconnect<F, R>(mut self, handler: F) -> Self
    where
        F: Fn(Session, CloseReason) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.closures.on_disconnect(handler);
        self
    }

    /// Sets what is called when something goes wrong on a session. Must not block.
    pub fn on_error<F>(mut self, handler: F) -> Self
    where
        F: Fn(&Session, ErrorCode, &str) + Send + Sync + 'static,
    {
        self.closures.on_error(handler);
        self
    }

    /// Sets who may open a session, resume one, or go on with one. Peers then have to begin with hello.
    pub fn authenticator<A, G>(mut self, authenticator: A) -> Self
    where
        A: Authenticator<G>,
        G: Into<Authentication> + 'static,
    {
        self.authenticator = Some(Arc::new(Granting::new(authenticator)));
        self
    }

    /// Sets who may open a session, as a closure: what [`authenticator`](Self::authenticator) sets as a trait. It
    /// returns an [`Authentication`], or what converts to one: a name, or none.
    ///
    /// ```
    /// use std::time::Duration;
    /// use network_system::{Authentication, RequestError, Server};
    ///
    /// let server = Server::builder()
    ///     .listen("tcp://127.0.0.1:0")
    ///     .authenticate(|credentials| async move {
    ///         match credentials.token {
    ///             // A real one looks it up, or checks a signature.
    ///             Some(token) if token.starts_with("guest ") => {
    ///                 Ok(Authentication::new("guest").expires_in(Duration::from_secs(600)))
    ///             }
    ///             _ => Err(RequestError::failed("the token is not known")),
    ///         }
    ///     })
    ///     .build()?;
    /// # Ok::<(), network_system::ConfigError>(())
    /// ```
    pub fn authenticate<F, R, G>(mut self, authenticate: F) -> Self
    where
        F: Fn(Credentials) -> R + Send + Sync + 'static,
        R: Future<Output = Result<G, RequestError>> + Send + 'static,
        G: Into<Authentication> + 'static,
    {
        self.authenticator = Some(Arc::new(Closure(authenticate)));
        self
    }

    /// Lets clients join and leave groups by themselves, where the guard allows it. Without a guard they
    /// are refused. It takes the place of [`authorize_join`](Self::authorize_join).
    pub fn group_guard(mut self, guard: impl GroupGuard) -> Self {
        self.group_guard = Some(Guard::AtOnce(Arc::new(guard)));
        self
    }

    /// Lets clients join and leave groups by themselves, where this allows it: a
    /// [`group_guard`](Self::group_guard) that may wait for something. A refusal reaches the client with its code
    /// and text, `request_failed` as `access_denied`.
    ///
    /// Joins and leaves of one session are decided one after the other, in their order, beside its handlers. At most
    /// 64 of a session wait; more are refused with `queue_full`. A decision that takes longer than
    /// [`Timeouts::request`] is given up: the future is dropped, and the join refused with `request_timeout`. Leaving
    /// is never refused.
    pub fn authorize_join<F, R>(mut self, authorize: F) -> Self
    where
        F: Fn(Session, GroupName) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), RequestError>> + Send + 'static,
    {
        self.group_guard = Some(Guard::later(authorize));
        self
    }

    /// Sets what messages go through between sessions and links: compression, encryption and more.
    pub fn pipeline(mut self, pipeline: Pipeline) -> Self {
        self.pipeline = Some(pipeline);
        self
    }

    /// Runs handlers on an executor instead of on the workers: see [`executor`](crate::executor). One that
    /// several share is given in an [`Arc`].
    pub fn executor(mut self, executor: impl Executor) -> Self {
        self.execution = Some(Execution::new(executor));
        self
    }

    /// Counts what sessions hold for a budget of memory of their own, instead of the process's
    /// ([`MemoryBudget::process`]).
    pub fn memory_budget(mut self, budget: &MemoryBudget) -> Self {
        self.memory_budget = Some(budget.clone());
        self
    }

    /// Sets the name of the server in metrics and on the dashboard, `server` by default. Servers of one monitor
    /// that have the same name are counted as one.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Lets a monitor watch the server: it counts what the server counts, and the server takes the times of
    /// handlers, requests and PINGs for it.
    pub fn monitor(mut self, monitor: &PerformanceMonitor) -> Self {
        self.monitor = Some(monitor.clone());
        self
    }

    /// Sets the timeout of requests and leaves the others.
    pub(crate) fn request_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.request = timeout;
        self
    }

    /// Offers reliable sessions to clients that ask for them: what is sent arrives once, in order, also when the
    /// connection breaks in between. Other clients, and links that have no hello, have ordinary sessions. Refused
    /// together with whatever drops messages: queue policies, [`RatePolicy::Drop`](crate::RatePolicy::Drop) and
    /// [`OnFailure::Drop`](crate::pipeline::OnFailure::Drop).
    pub fn reliable(mut self, reliability: Reliability) -> Self {
        self.reliability = Some(reliability);
        self
    }

    /// Listens on another network than the system's.
    pub(crate) fn simulated(mut self, network: Simulated) -> Self {
        self.network = Some(network);
        self
    }

    /// Checks the configuration and makes the server, which does nothing before
    /// [`start`](Server::start).
    ///
    /// # Errors
    /// `invalid_configuration` or `not_supported`, with the option and what is valid.
    pub fn build(self) -> Result<Server, ConfigError> {
        self.limits.check()?;
        self.timeouts.check()?;
        self.socket.check()?;
        self.websocket.check()?;
        if let Some(proxies) = &self.proxy_protocol {
            proxies.check()?;
        }
        self.udp.check()?;
        if self.worker_threads == WorkerThreads::Pinned && !crate::worker::CAN_PIN {
            return Err(ConfigError::new(
                ErrorCode::NotSupported,
                "worker_threads: workers can be pinned to cores on Linux only",
            ));
        }
        let mut listen = self.listen.into_iter().collect::<Result<Vec<_>, _>>()?;
        if listen.is_empty() {
            listen.push(Listen::Endpoint(Endpoint::tcp("127.0.0.1", 8080)?));
        }
        for listen in &listen {
            listen.check(self.tls.is_some())?;
        }
        if let Some(reliability) = &self.reliability {
            reliability.check(self.limits.when_full)?;
            self.limits.check_reliable()?;
            if let Some(pipeline) = &self.pipeline {
                pipeline.check_reliable()?;
            }
        }
        if let Some(pipeline) = &self.pipeline {
            for listen in &listen {
                pipeline.check_endpoint(listen.endpoint())?;
            }
        }
        if self.authenticator.is_some() && listen.iter().any(|listen| !listen.has_hello()) {
            return Err(ConfigError::new(
                ErrorCode::InvalidConfiguration,
                "authenticator: needs hello, which the codecs raw, lines and length do not have",
            ));
        }
        let service = match self.handler {
            Some(_) if !self.closures.is_empty() => {
                return Err(ConfigError::new(
                    ErrorCode::InvalidConfiguration,
                    "handler: takes the place of all closures, so none of them can be set beside it",
                ));
            }
            Some(handler) => handler,
            None => Arc::new(self.closures),
        };
        let service = match &self.execution {
            Some(execution) => execution.of(service),
            None => service,
        };
        let options = ServerOptions {
            proxy_protocol: self.proxy_protocol,
            tls: self.tls,
            websocket: self.websocket,
            needs_hello: self.authenticator.is_some(),
            network: self.network,
        };
        let hub = Hub::new(
            Role::Server,
            self.limits,
            self.timeouts,
            service,
            self.execution,
            self.authenticator,
            self.group_guard,
        )
        .with_pipeline(self.pipeline)
        .with_reliability(self.reliability)
        .with_budget(self.memory_budget)
        .with_recorder(self.name.unwrap_or_else(|| "server".into()), self.monitor);
        let handshakes = Handshakes::new(&hub.limits, hub.clock);
        Ok(Server {
            inner: Arc::new(Inner {
                hub: Arc::new(hub),
                listen,
                socket: self.socket,
                options,
                udp: UdpConfig {
                    options: self.udp,
                    ..UdpConfig::default()
                },
                workers: self.workers,
                worker_threads: self.worker_threads,
                goaway: self.goaway,
                stage: Mutex::new(Stage::Stopped),
                last: Mutex::new(StopReport::default()),
                started_at: Mutex::new(None),
                baseline: Mutex::new(ServerStats::default()),
                per_ip: Mutex::new(HashMap::new()),
                handshakes,
                draining: AtomicBool::new(false),
            }),
        })
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("limits", &self.limits)
            .field("timeouts", &self.timeouts)
            .field("socket", &self.socket)
            .field("udp", &self.udp)
            .finish_non_exhaustive()
    }
}
