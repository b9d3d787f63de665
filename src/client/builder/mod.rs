//! The configuration of a client.

mod balance;
mod check;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use balance::Balance;
use check::{check_hello, check_proxy, check_queue, check_reliable};

use super::aim::Target;
use super::offline::Offline;
use super::resilient::Guard;
use super::resolve::{Resolver, SystemResolver};
use super::stream::{Inbox, StreamService};
use super::token::{self, Token};
use super::{Client, ClientState, Inner, OnStateChange, ReconnectPolicy};
use crate::balance::{AttemptBudget, Ejection, Endpoints, Strategy};
use crate::config::{Limits, QueuePolicy, Reliability, SocketOptions, Timeouts, UdpOptions};
use crate::endpoint::Endpoint;
use crate::error::{CloseReason, ConfigError, ErrorCode, RequestError};
use crate::executor::{Execution, Executor};
use crate::handler::{Closures, Handler, HandlerService, Service};
use crate::hub::Hub;
use crate::limits::MemoryBudget;
use crate::message::Message;
use crate::metrics::{PerformanceMonitor, Role};
use crate::pipeline::Pipeline;
use crate::resilience::{CircuitBreaker, RetryPolicy};
use crate::session::Session;
use crate::tls::TlsClient;
use crate::transport::layers::alpn_of;
use crate::transport::proxy::Proxy;
use crate::transport::simulated::Simulated;
use crate::transport::udp::UdpConfig;
use crate::transport::{ClientOptions, LinkConfig};
use crate::websocket::WebSocketClient;

/// What is queued while there is no connection, unless the builder says otherwise.
const OFFLINE_BYTES: usize = 1024 * 1024;

/// The most that can be configured.
const OFFLINE_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Configures a [`Client`].
///
/// Nothing is checked before [`build`](Self::build), which checks everything.
#[must_use = "a builder does nothing before `build`"]
pub struct ClientBuilder {
    endpoints: Vec<Result<Endpoint, ConfigError>>,
    shared: Option<Endpoints>,
    balance: Balance,
    client_id: Option<String>,
    token: Option<String>,
    token_source: Option<Box<token::Source>>,
    limits: Limits,
    timeouts: Timeouts,
    socket: SocketOptions,
    proxy: Option<Proxy>,
    tls: Option<TlsClient>,
    websocket: WebSocketClient,
    udp: UdpOptions,
    reconnect: ReconnectPolicy,
    breaker: Option<CircuitBreaker>,
    retry: RetryPolicy,
    offline_bytes: usize,
    offline_policy: QueuePolicy,
    resolver: Arc<dyn Resolver>,
    closures: Closures,
    execution: Option<Arc<Execution>>,
    pipeline: Option<Pipeline>,
    reliability: Option<Reliability>,
    memory_budget: Option<MemoryBudget>,
    name: Option<String>,
    monitor: Option<PerformanceMonitor>,
    handler: Option<Arc<dyn Service>>,
    on_state_change: Option<Box<OnStateChange>>,
    network: Option<Simulated>,
}

impl ClientBuilder {
    pub(super) fn new() -> Self {
        ClientBuilder {
            endpoints: Vec::new(),
            shared: None,
            balance: Balance::default(),
            client_id: None,
            token: None,
            token_source: None,
            limits: Limits::default(),
            timeouts: Timeouts::client(),
            socket: SocketOptions::default(),
            proxy: None,
            tls: None,
            websocket: WebSocketClient::default(),
            udp: UdpOptions::default(),
            reconnect: ReconnectPolicy::default(),
            breaker: None,
            retry: RetryPolicy::default(),
            offline_bytes: OFFLINE_BYTES,
            offline_policy: QueuePolicy::Wait,
            resolver: Arc::new(SystemResolver),
            closures: Closures::default(),
            execution: None,
            pipeline: None,
            reliability: None,
            memory_budget: None,
            name: None,
            monitor: None,
            handler: None,
            on_state_change: None,
            network: None,
        }
    }

    /// Adds a server by its URL, such as `tcp://example.org:8080`.
    ///
    /// With several, the first one that can be reached is used, in the order given; when a connection
    /// or an attempt has failed, the next one has its turn. [`balance`](Self::balance) sets another
    /// [`Strategy`].
    pub fn endpoint(mut self, url: impl AsRef<str>) -> Self {
        self.endpoints.push(Endpoint::parse(url.as_ref()));
        self
    }

    /// Adds a server by its endpoint.
    pub fn add_endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoints.push(Ok(endpoint));
        self
    }

    /// Sets how the next one of several endpoints is chosen, for the first connection and each later one. In order by
    /// default.
    pub fn balance(mut self, strategy: Strategy) -> Self {
        self.balance.strategy = Some(strategy);
        self
    }

    /// Sets when an endpoint that fails is left alone. By default after five failures in a row; a single endpoint never
    /// is.
    pub fn ejection(mut self, ejection: Ejection) -> Self {
        self.balance.ejection = Some(ejection);
        self
    }

    /// Sets what bounds the attempts to connect. Clones of a budget are the same budget, so that many clients can share
    /// one. By default each client has one of its own, of 500 a second.
    pub fn attempt_budget(mut self, budget: AttemptBudget) -> Self {
        self.balance.budget = Some(budget);
        self
    }

    /// Sets a set of endpoints that the client shares with others: they know of each other's load and failures, and have
    /// one budget. It brings its own strategy, ejection and budget, and takes the place of all that
    /// [`endpoint`](Self::endpoint), [`balance`](Self::balance), [`ejection`](Self::ejection) and
    /// [`attempt_budget`](Self::attempt_budget) set.
    ///
    /// What is in the set when the client is built is checked then. Endpoints that are added later are passed over if the
    /// client cannot use them: `tls://` and `wss://`, for instance, without a [`tls`](Self::tls) configuration.
    pub fn endpoints(mut self, endpoints: Endpoints) -> Self {
        self.shared = Some(endpoints);
        self
    }

    /// Sets the key by which [`Strategy::ConsistentHash`] chooses. By default it is the client id, and without one
    /// a random key.
    pub fn balance_key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.balance.key = Some(key.into());
        self
    }

    /// Looks up the name of the server again while connected, about this often, 1 s at least, and moves the connection
    /// when its address has been missing twice in a row: it is closed in order and made again.
    ///
    /// Off by default: then a change in the DNS is seen at the next connection. Names that a proxy looks up are left
    /// alone. Refused with [`reliable`](Self::reliable), whose sessions live on their server.
    pub fn re_resolve(mut self, every: Duration) -> Self {
        self.balance.re_resolve = Some(every);
        self
    }

    /// Sets what messages go through between the session and its link: compression, encryption and more.
    pub fn pipeline(mut self, pipeline: Pipeline) -> Self {
        self.pipeline = Some(pipeline);
        self
    }

    /// Asks for reliable sessions: what is sent arrives once, in order, also when the connection breaks in between.
    /// Refused together with UDP, with codecs that have no hello, with plain WebSocket, and with whatever drops
    /// messages: queue policies, that of [`offline_queue`](Self::offline_queue) included,
    /// [`RatePolicy::Drop`](crate::RatePolicy::Drop) and [`OnFailure::Drop`](crate::pipeline::OnFailure::Drop).
    pub fn reliable(mut self, reliability: Reliability) -> Self {
        self.reliability = Some(reliability);
        self
    }

    pub(crate) fn is_reliable(&self) -> bool {
        self.reliability.is_some()
    }

    /// Sets the id that the client gives itself, 1 to 256 bytes. Servers see it as
    /// [`Session::client_id`]. Without it they use the session id.
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// Sets what the client authenticates with, at most 8 KiB. It is never logged; without TLS it
    /// travels in clear text.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Sets where the client has its tokens from, in place of one that is [set](Self::token). It is asked at every
    /// attempt to connect, and again before the identity expires that the server has told of, so that the session goes
    /// on. A session that has expired all the same is made again.
    ///
    /// It is asked by the client's own task, within [`Timeouts::connect`] or until the identity has expired, and
    /// dropped at the end of that time. An error fails the attempt, with its code; it is asked again as the
    /// [`ReconnectPolicy`] says. A token is at most 8 KiB.
    ///
    /// ```
    /// # async fn from_the_issuer() -> Result<String, network_system::RequestError> { Ok(String::new()) }
    /// let client = network_system::Client::builder()
    ///     .endpoint("tls://example.org:8443")
    ///     .token_source(|| async { from_the_issuer().await })
    ///     .build()?;
    /// # Ok::<(), network_system::ConfigError>(())
    /// ```
    pub fn token_source<F, R>(mut self, source: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<String, RequestError>> + Send + 'static,
    {
        self.token_source = Some(token::source(source));
        self
    }

    /// Sets sizes and counts that are never exceeded. The limits of connections do not concern a client,
    /// which has one.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how long to wait for what. The default is [`Timeouts::client`], which differs from
    /// [`Timeouts::default`] in having no idle timeout.
    ///
    /// [`Timeouts::connect`] bounds a whole call of [`Client::connect`] and each later attempt,
    /// [`Timeouts::first_byte`] the server's answer to hello, and [`Timeouts::request`] the answers to
    /// joins and leaves.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Sets options of sockets.
    pub fn socket(mut self, socket: SocketOptions) -> Self {
        self.socket = socket;
        self
    }

    /// Connects through a proxy: HTTP CONNECT or SOCKS5. It concerns TCP, TLS and WebSocket with an
    /// address; together with UDP it is refused. [`Proxy::from_env`] is the one that the environment names.
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = Some(proxy);
        self
    }

    /// Sets what is trusted and shown on `tls://` and `wss://`. Without it the platform's authorities are
    /// trusted and no certificate is shown.
    pub fn tls(mut self, tls: TlsClient) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sets what is asked for when a WebSocket connection is opened.
    pub fn websocket(mut self, websocket: WebSocketClient) -> Self {
        self.websocket = websocket;
        self
    }

    /// Sets options of UDP.
    pub fn udp(mut self, udp: UdpOptions) -> Self {
        self.udp = udp;
        self
    }

    /// Sets whether and when a lost connection is made again. By default it is, without end, with
    /// delays of up to 500 ms at first and 30 s at last.
    pub fn reconnect(mut self, policy: ReconnectPolicy) -> Self {
        self.reconnect = policy;
        self
    }

    /// Puts a circuit breaker, which others may share, around connecting and requests.
    ///
    /// While it is open, [`Client::connect`], [`Client::request`] and [`Client::request_idempotent`] fail at once with
    /// `circuit_open`, and a lost connection is not made again before the breaker lets an attempt through; that
    /// uses up no attempt of the [`ReconnectPolicy`]. A call of [`Client::connect`] is one call for the breaker,
    /// whatever the number of endpoints, and so is each later attempt.
    ///
    /// Requests count by what became of them, once they have a connection. When a connection breaks, all requests under
    /// way on it together count as one failure. Requests of a [`Session`] itself are not guarded, nor are messages.
    ///
    /// ```
    /// use network_system::Client;
    /// use network_system::resilience::CircuitBreaker;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let breaker = CircuitBreaker::builder()
    ///     .name("orders")
    ///     .failure_rate(Some(0.3))
    ///     .minimum_calls(50)
    ///     .on_change(|from, to| println!("orders: {from:?} -> {to:?}"))
    ///     .build()?;
    /// let client = Client::builder()
    ///     .endpoint("tcp://127.0.0.1:7600")
    ///     .circuit_breaker(&breaker)
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn circuit_breaker(mut self, breaker: &CircuitBreaker) -> Self {
        self.breaker = Some(breaker.clone());
        self
    }

    /// Sets which failures [`Client::request_idempotent`] tries again, how often, and within which budget. The
    /// default is [`RetryPolicy::new`]. [`Client::request`] never does.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Sets how many bytes of messages are queued while a lost connection is made again, and what
    /// happens to messages beyond that. Default 1 MiB and [`QueuePolicy::Wait`].
    ///
    /// One message is always allowed, and never more than 65,536. 0 switches the queue off: sending
    /// then fails while there is no connection. [`QueuePolicy::Disconnect`] has no meaning here and is
    /// refused, and so are policies that drop, beside [`reliable`](Self::reliable).
    pub fn offline_queue(mut self, bytes: usize, policy: QueuePolicy) -> Self {
        self.offline_bytes = bytes;
        self.offline_policy = policy;
        self
    }

    /// Sets how names become addresses. The default asks the operating system.
    pub fn resolver(mut self, resolver: impl Resolver + 'static) -> Self {
        self.resolver = Arc::new(resolver);
        self
    }

    /// Runs handlers on an executor instead of on the client's worker: see [`executor`](crate::executor). One that
    /// several share is given in an [`Arc`].
    pub fn executor(mut self, executor: impl Executor) -> Self {
        self.execution = Some(Execution::new(executor));
        self
    }

    /// Sets the handler: the fast form, whose messages are lent. It takes the place of all closures and
    /// of [`Client::messages`].
    pub fn handler<H: Handler>(mut self, handler: H) -> Self {
        self.handler = Some(Arc::new(HandlerService(handler)));
        self
    }

    /// Sets what happens when a connection is open, the first one and each later one. Its messages wait
    /// until this returns.
    pub fn on_connect<F, R>(mut self, handler: F) -> Self
    where
        F: Fn(Session) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.closures.on_connect(handler);
        self
    }

    /// Sets what happens to messages, in the order in which they came. It takes the place of
    /// [`Client::messages`].
    pub fn on_message<F, R>(mut self, handler: F) -> Self
    where
        F: Fn(Session, Message) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.closures.on_message(handler);
        self
    }

    /// Sets how the server's requests are answered. They start in order; up to 32 run at once.
    pub fn on_request<F, R>(mut self, handler: F) -> Self
    where
        F: Fn(Session, Message) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Message, RequestError>> + Send + 'static,
    {
        self.closures.on_request(handler);
        self
    }

    /// Sets what happens when a connection has ended, whether or not the client reconnects.
    pub fn on_disconnect<F, R>(mut self, handler: F) -> Self
    where
        F: Fn(Session, CloseReason) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.closures.on_disconnect(handler);
        self
    }

    /// Sets what is called when something goes wrong on a connection. Must not block.
    pub fn on_error<F>(mut self, handler: F) -> Self
    where
        F: Fn(&Session, ErrorCode, &str) + Send + Sync + 'static,
    {
        self.closures.on_error(handler);
        self
    }

    /// Sets what is called when the client's state changes, with the old and the new one, in order.
    /// Must not block.
    pub fn on_state_change<F>(mut self, handler: F) -> Self
    where
        F: Fn(ClientState, ClientState) + Send + Sync + 'static,
    {
        self.on_state_change = Some(Box::new(handler));
        self
    }

    /// Sets the timeout of requests and leaves the others.
    pub(crate) fn request_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.request = timeout;
        self
    }

    /// Counts what sessions hold for a budget of memory of their own, instead of the process's
    /// ([`MemoryBudget::process`]).
    pub fn memory_budget(mut self, budget: &MemoryBudget) -> Self {
        self.memory_budget = Some(budget.clone());
        self
    }

    /// Sets the name of the client in metrics, `client` by default. Clients of one monitor that have the same name
    /// are counted as one.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Lets a monitor watch the client: it counts what the client counts, and the client takes the times of
    /// handlers, requests and PINGs for it.
    pub fn monitor(mut self, monitor: &PerformanceMonitor) -> Self {
        self.monitor = Some(monitor.clone());
        self
    }

    /// Connects through another network than the system's.
    pub(crate) fn simulated(mut self, network: Simulated) -> Self {
        self.network = Some(network);
        self
    }

    /// Checks the configuration and makes the client, which does nothing before
    /// [`connect`](Client::connect).
    ///
    /// # Errors
    /// `invalid_configuration` or `not_supported`, with the option and what is valid.
    pub fn build(mut self) -> Result<Client, ConfigError> {
        self.limits.check()?;
        self.timeouts.check()?;
        self.socket.check()?;
        self.websocket.check()?;
        self.udp.check()?;
        self.reconnect.check()?;
        self.retry.check()?;
        check_queue(self.offline_bytes, self.offline_policy)?;
        let own = self.endpoints.into_iter().collect::<Result<Vec<_>, _>>()?;
        let key = self.balance.key(self.client_id.as_deref());
        let re_resolve = self.balance.re_resolve(self.reliability.is_some())?;
        let set = self.balance.endpoints(own, self.shared)?;
        let endpoints = set.endpoints();
        check_proxy(&endpoints, self.proxy.is_some())?;
        check_hello(
            &endpoints,
            self.client_id.as_deref(),
            self.token.as_deref(),
            self.token_source.is_some(),
        )?;
        if let Some(reliability) = &self.reliability {
            reliability.check(self.limits.when_full)?;
            self.limits.check_reliable()?;
            if let Some(pipeline) = &self.pipeline {
                pipeline.check_reliable()?;
            }
            if self.offline_policy != QueuePolicy::Wait {
                // What a session has accepted and never sent waits in that queue, too.
                return Err(ConfigError::option(
                    "offline_queue",
                    self.offline_policy.name(),
                    "wait: a reliable session drops nothing",
                ));
            }
            check_reliable(&endpoints, &self.websocket)?;
        }
        if let Some(pipeline) = &self.pipeline {
            for endpoint in &endpoints {
                pipeline.check_endpoint(endpoint)?;
            }
        }
        let mut inbox = None;
        let service: Arc<dyn Service> = match self.handler {
            Some(_) if !self.closures.is_empty() => {
                return Err(invalid(
                    "handler: takes the place of all closures, so none of them can be set beside it",
                ));
            }
            Some(handler) => handler,
            None if self.closures.wants().message => Arc::new(self.closures),
            None => {
                let stream = inbox.insert(Arc::new(Inbox::default()));
                let inbox = Arc::clone(stream);
                Arc::new(StreamService {
                    closures: Arc::new(self.closures),
                    inbox,
                })
            }
        };
        let service = match &self.execution {
            Some(execution) => execution.of(service),
            None => service,
        };
        let tls = match self.tls {
            None if endpoints.iter().any(|endpoint| alpn_of(endpoint).is_some()) => {
                Some(TlsClient::new()?)
            }
            tls => tls,
        };
        let needs_hello = self.client_id.is_some()
            || self.token.is_some()
            || self.token_source.is_some()
            || self.reliability.is_some()
            || self.pipeline.as_ref().is_some_and(Pipeline::needs_hello);
        let hub = Hub::new(
            Role::Client,
            self.limits,
            self.timeouts,
            service,
            self.execution,
            None,
            None,
        )
        .with_pipeline(self.pipeline)
        .with_reliability(self.reliability)
        .with_budget(self.memory_budget)
        .with_recorder(self.name.unwrap_or_else(|| "client".into()), self.monitor);
        let memory = hub.recorder.memory().cloned();
        if let Some(inbox) = &inbox {
            inbox.account(memory.clone(), &hub.budget);
        }
        let offline = Offline::new(self.offline_bytes, self.offline_policy, memory, &hub.budget);
        let link = LinkConfig {
            message_limit: hub.frame_limit(),
            socket: self.socket,
            udp: UdpConfig {
                options: self.udp,
                ..UdpConfig::default()
            },
        };
        Ok(Client::new(Inner {
            target: Target::new(set, key, re_resolve),
            client_id: self.client_id,
            token: Token::new(self.token, self.token_source),
            link,
            options: ClientOptions {
                proxy: self.proxy,
                tls,
                websocket: self.websocket,
                needs_hello,
                network: self.network,
            },
            reconnect: self.reconnect,
            guard: Guard::new(self.breaker),
            retry: self.retry,
            resolver: self.resolver,
            inbox,
            on_state_change: self.on_state_change,
            ..Inner::new(hub, offline)
        }))
    }
}

/// Shows that there is a token, not which.
impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("endpoints", &self.endpoints)
            .field("shared", &self.shared)
            .field("client_id", &self.client_id)
            .field(
                "token",
                &self.token.as_ref().map(|_| format_args!("[hidden]")),
            )
            .field("limits", &self.limits)
            .field("timeouts", &self.timeouts)
            .field("socket", &self.socket)
            .field("udp", &self.udp)
            .field("reconnect", &self.reconnect)
            .field("breaker", &self.breaker)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

fn invalid(text: &'static str) -> ConfigError {
    ConfigError::new(ErrorCode::InvalidConfiguration, text)
}
