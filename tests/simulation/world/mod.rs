//! Servers and clients that do what a plan says, and what they promised.

mod handlers;
mod judging;
mod sending;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use network_system::internal::simulation;
use network_system::pipeline::{Compression, Encryption, Keys, Pipeline, Secret};
use network_system::{
    Client, Limits, Message, QueuePolicy, ReconnectPolicy, RequestError, Server, Session, Timeouts,
};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::flow::{ASK, DOWN, FLUSH, Flow, REQUEST, Requests, Tag, UP};
use crate::network::Net;
use crate::plan::{End, Event, Load, Plan, Stages, Transport};
use crate::random::Random;

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const TCP_URL: &str = "tcp://10.0.0.1:1000";
const WEBSOCKET_URL: &str = "ws://10.0.0.1:2000";

/// How long all may take that remains to be done once nothing breaks any more, beyond the time for which sessions are
/// kept.
const PATIENCE: Duration = Duration::from_secs(180);

/// How long anyone waits for an answer: longer than anything is away, and shorter than the run's patience.
const REQUEST_TIME: Duration = Duration::from_secs(120);

/// How much later than its deadline a stop may end: handlers that were begun by it have a little time of their own.
const STOP_SLACK: Duration = Duration::from_millis(1_500);

/// What is known of one run.
#[derive(Default)]
struct Record {
    up: Vec<Flow>,
    requests: Vec<Requests>,
    /// By session of the server.
    down: BTreeMap<u64, Flow>,
    asks: BTreeMap<u64, Requests>,
    server_sessions: Vec<(u64, Session)>,
    client_sessions: Vec<(usize, Session)>,
    pushers: Vec<JoinHandle<()>>,
    /// How often each client and its sessions asked for a last answer.
    flushes: Vec<usize>,
    faults: Vec<String>,
}

struct World {
    plan: Plan,
    net: Net,
    record: Mutex<Record>,
    /// Whether nothing breaks any more. A `watch` would wake its receivers in an order that no seed decides.
    calm: AtomicBool,
    calmed: Notify,
    /// Whether clients are to be stopped, and not to be connected again.
    over: AtomicBool,
}

/// What a run has shown.
#[derive(Debug, Default)]
pub struct Outcome {
    pub hash: u64,
    pub events: u64,
    pub lines: Vec<String>,
    pub faults: Vec<String>,
    pub counts: Counts,
}

impl Outcome {
    /// Of a run that did not get to its end.
    pub fn broken(fault: &str) -> Self {
        Outcome {
            faults: vec![fault.to_owned()],
            ..Outcome::default()
        }
    }
}

/// How much happened, so that it shows when a simulation does nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub connections: u64,
    pub broken: u64,
    pub sessions: u64,
    pub messages: u64,
    pub lost: u64,
    pub answers: u64,
    pub resumes: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        self.connections += other.connections;
        self.broken += other.broken;
        self.sessions += other.sessions;
        self.messages += other.messages;
        self.lost += other.lost;
        self.answers += other.answers;
        self.resumes += other.resumes;
    }
}

/// Runs a plan on a runtime of its own.
pub fn run(plan: &Plan, keep_lines: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let mut outcome = runtime.block_on(async {
        let net = Net::new(plan.links.clone(), Random::new(plan.seed ^ 1), keep_lines);
        let world = Arc::new(World::new(plan.clone(), net.clone()));
        let day = Duration::from_secs(24 * 3_600);
        if timeout(day, world.play()).await.is_err() {
            world.fault("the run did not end within a day".into());
        }
        let mut outcome = world.judge();
        drop(world);
        let tasks = tokio::runtime::Handle::current();
        let mut alive = tasks.metrics().num_alive_tasks();
        for _ in 0..600 {
            if alive == 0 {
                break;
            }
            sleep(Duration::from_millis(100)).await;
            alive = tasks.metrics().num_alive_tasks();
        }
        if alive > 0 {
            outcome.faults.push(format!("{alive} tasks have not ended"));
        }
        let (connections, broken) = net.counts();
        outcome.counts.connections = connections;
        outcome.counts.broken = broken;
        (outcome.hash, outcome.events, outcome.lines) = net.trace();
        outcome
    });
    drop(runtime);
    outcome.faults.truncate(20);
    outcome
}

impl World {
    fn new(plan: Plan, net: Net) -> Self {
        let record = Record {
            up: plan.clients.iter().map(|_| Flow::default()).collect(),
            requests: plan.clients.iter().map(|_| Requests::default()).collect(),
            flushes: vec![0; plan.clients.len()],
            ..Record::default()
        };
        World {
            plan,
            net,
            record: Mutex::new(record),
            calm: AtomicBool::new(false),
            calmed: Notify::new(),
            over: AtomicBool::new(false),
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn fault(&self, fault: String) {
        self.net.note("fault", &[]);
        self.record().faults.push(fault);
    }

    fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        limits.message_size = 64 * 1024;
        limits.outbox_bytes = self.plan.outbox_bytes;
        limits.outbox_messages = self.plan.outbox_messages;
        limits.when_full = QueuePolicy::Wait;
        limits
    }

    fn timeouts(&self, mut timeouts: Timeouts) -> Timeouts {
        timeouts.heartbeat = self.plan.heartbeat;
        timeouts.drain = self.plan.drain;
        timeouts
    }

    fn pipeline(&self) -> Option<Pipeline> {
        let lz4 = || Compression::lz4().threshold(32);
        let aes = || {
            let secret = Secret::new(vec![7_u8; 32]).unwrap();
            Encryption::aes_256_gcm(&Keys::new(1, secret))
        };
        let builder = Pipeline::builder();
        let builder = match self.plan.stages {
            Stages::None => return None,
            Stages::Lz4 => builder.require(lz4()),
            Stages::Aes => builder.require(aes()),
            Stages::Both => builder.require(lz4()).require(aes()),
        };
        Some(builder.build().unwrap())
    }

    fn server(self: &Arc<Self>, generation: u64) -> Server {
        let key = move |session: &Session| generation << 32 | session.id().as_u64();
        let (connected, got, asked) = (Arc::clone(self), Arc::clone(self), Arc::clone(self));
        let mut builder = Server::builder()
            .listen(TCP_URL)
            .listen(WEBSOCKET_URL)
            .limits(self.limits())
            .timeouts(self.timeouts(Timeouts::default()))
            .workers(self.plan.workers)
            .on_connect(move |session| {
                connected.opened(key(&session), session);
                async {}
            })
            .on_message(move |session, message| {
                let (world, key) = (Arc::clone(&got), key(&session));
                async move { world.got_up(key, &session, &message).await }
            })
            .on_request(move |session, message| {
                let (world, key) = (Arc::clone(&asked), key(&session));
                async move { world.answer_up(key, &session, message).await }
            });
        if let Some(pipeline) = self.pipeline() {
            builder = builder.pipeline(pipeline);
        }
        if let Some(reliable) = &self.plan.reliable {
            builder = builder.reliable(reliable.server());
        }
        let network = self.net.host(SERVER, self.plan.seed ^ generation);
        simulation::server(builder, network).build().unwrap()
    }

    fn client(self: &Arc<Self>, index: usize) -> Client {
        let (connected, got, asked) = (Arc::clone(self), Arc::clone(self), Arc::clone(self));
        let reconnect = ReconnectPolicy::new()
            .base(Duration::from_millis(50))
            .cap(Duration::from_secs(1));
        let mut builder = Client::builder()
            .client_id(index.to_string())
            .limits(self.limits())
            .timeouts(self.timeouts(Timeouts::client()))
            .reconnect(reconnect)
            .on_connect(move |session| {
                connected
                    .net
                    .note("client session", &[index as u64, session.id().as_u64()]);
                connected.record().client_sessions.push((index, session));
                async {}
            })
            .on_message(move |_, message| {
                let world = Arc::clone(&got);
                async move { world.got_down(index, &message).await }
            })
            .on_request(move |_, message| {
                let world = Arc::clone(&asked);
                async move { world.answer_down(index, message).await }
            });
        for transport in &self.plan.transports {
            builder = builder.endpoint(match transport {
                Transport::Tcp => TCP_URL,
                Transport::WebSocket => WEBSOCKET_URL,
            });
        }
        if let Some(pipeline) = self.pipeline() {
            builder = builder.pipeline(pipeline);
        }
        if let Some(reliable) = &self.plan.reliable {
            builder = builder.reliable(reliable.client());
        }
        let network = self
            .net
            .host(client_ip(index), self.plan.seed ^ index as u64);
        simulation::client(builder, network).build().unwrap()
    }

    async fn play(self: &Arc<Self>) {
        let began = Instant::now();
        let mut generation = 1;
        let mut server = self.server(generation);
        server.start().await.unwrap();
        let clients: Vec<Client> = (0..self.plan.clients.len())
            .map(|index| self.client(index))
            .collect();
        let users: Vec<_> = clients
            .iter()
            .enumerate()
            .map(|(index, client)| tokio::spawn(Arc::clone(self).use_client(index, client.clone())))
            .collect();
        let watching = tokio::spawn(Arc::clone(self).watch(clients.clone(), began));
        let middle = self.plan.calm / 2;
        for (at, event) in self.plan.events.clone() {
            if self.plan.ends_early() && at > middle {
                break;
            }
            tokio::time::sleep_until(began + at).await;
            match event {
                Event::Partition(client, lasts) => self.net.partition(client_ip(client), lasts),
                Event::BreakAll(how) => self.net.break_all(how),
                Event::Refuse(lasts) => self.net.refuse(lasts),
                Event::Clock(by) => {
                    self.net.note("clock", &[by.as_millis() as u64]);
                    tokio::time::advance(by).await;
                }
                Event::Restart(after) | Event::Cut(after) => {
                    let drain = match event {
                        Event::Cut(_) => Duration::ZERO,
                        _ => self.plan.drain,
                    };
                    self.stop_server(&server, drain).await;
                    sleep(after).await;
                    generation += 1;
                    server = self.server(generation);
                    server.start().await.unwrap();
                }
            }
        }
        if self.plan.ends_early() {
            tokio::time::sleep_until(began + middle).await;
        } else {
            tokio::time::sleep_until(began + self.plan.calm).await;
            self.calm_down();
            let kept = self
                .plan
                .reliable
                .map_or(Duration::ZERO, |reliable| reliable.resume);
            let patience = PATIENCE + kept + self.plan.slowest();
            if timeout(patience, self.all_said(users)).await.is_err() {
                self.stuck(&clients);
            }
        }
        self.over.store(true, Ordering::Relaxed);
        match self.plan.end {
            End::ClientsFirst | End::ClientsEarly => {
                for client in &clients {
                    self.stop_client(client).await;
                }
                self.stop_server(&server, self.plan.drain).await;
            }
            End::ServerFirst | End::ServerEarly => {
                self.stop_server(&server, self.plan.drain).await;
                for client in &clients {
                    self.stop_client(client).await;
                }
            }
            End::Dropped => {}
        }
        self.calm_down();
        watching.abort();
        let _ = watching.await;
        let states: Vec<_> = clients.iter().map(|client| client.take_unsent()).collect();
        for (index, unsent) in states.into_iter().enumerate() {
            self.report_up(index, unsent);
        }
        if self.plan.end == End::Dropped {
            drop(clients);
            sleep(self.plan.drain + STOP_SLACK).await;
            self.stop_server(&server, self.plan.drain).await;
        }
    }

    async fn all_said(&self, users: Vec<JoinHandle<()>>) {
        for user in users {
            if let Err(error) = user.await {
                self.fault(format!("a task of a client: {error}"));
            }
        }
        loop {
            let Some(pusher) = self.record().pushers.pop() else {
                break;
            };
            if let Err(error) = pusher.await {
                self.fault(format!("a task of a session: {error}"));
            }
        }
    }

    fn stuck(&self, clients: &[Client]) {
        let mut text = "not all has been said long after the last fault:".to_owned();
        for (index, client) in clients.iter().enumerate() {
            let session = client
                .session()
                .map(|session| (session.state(), session.stats()));
            text += &format!("\n  client {index}: {:?}, {session:?}", client.state());
        }
        for (key, session) in &self.record().server_sessions {
            if !session.state().is_final() {
                text += &format!(
                    "\n  session {key:x}: {:?}, {:?}",
                    session.state(),
                    session.stats()
                );
            }
        }
        self.fault(text);
    }

    async fn stop_server(&self, server: &Server, drain: Duration) {
        let began = Instant::now();
        self.net.note("stop server", &[drain.as_millis() as u64]);
        match timeout(drain + STOP_SLACK, server.stop_within(drain)).await {
            Ok(Ok(report)) => {
                let numbers = [report.drained as u64, report.aborted as u64];
                self.net.note("server stopped", &numbers);
            }
            Ok(Err(error)) => self.fault(format!("the server does not stop: {error}")),
            Err(_) => self.fault(format!(
                "the server has not stopped after {:?}",
                began.elapsed()
            )),
        }
    }

    async fn stop_client(&self, client: &Client) {
        let began = Instant::now();
        self.net.note("stop client", &[]);
        match timeout(self.plan.drain + STOP_SLACK, client.stop()).await {
            Ok(report) => {
                self.net.note(
                    "client stopped",
                    &[report.in_order.into(), report.unsent as u64],
                );
            }
            Err(_) => self.fault(format!(
                "a client has not stopped after {:?}",
                began.elapsed()
            )),
        }
    }

    /// Looks at the queues from time to time.
    async fn watch(self: Arc<Self>, clients: Vec<Client>, began: Instant) {
        loop {
            let mut sessions: Vec<(usize, Session)> = Vec::new();
            for (index, client) in clients.iter().enumerate() {
                sessions.extend(client.session().map(|session| (index, session)));
            }
            for (_, session) in &self.record().server_sessions {
                if !session.state().is_final() {
                    let index = session.client_id().parse().unwrap_or_default();
                    sessions.push((index, session.clone()));
                }
            }
            for (index, session) in sessions {
                if let Some(fault) = self.beyond_bounds(&session, index) {
                    let id = session.id();
                    let at = began.elapsed();
                    return self.fault(format!("session {id} at {at:?}: {fault}"));
                }
            }
            sleep(Duration::from_millis(150)).await;
        }
    }

    fn beyond_bounds(&self, session: &Session, index: usize) -> Option<String> {
        let stats = session.stats();
        let plan = &self.plan;
        let load = &plan.clients[index];
        // Answers have room of their own, and there is one for each request of the peer.
        let requests = load.requests.max(load.asks) as usize;
        let answers = 1 + requests + self.record().flushes[index];
        let answer_bytes = answers * (load.longest as usize + 100);
        if stats.queued_messages > plan.outbox_messages.max(1) + answers {
            return Some(format!("{} messages in the outbox", stats.queued_messages));
        }
        if stats.queued_messages > 1 && stats.queued_bytes > plan.outbox_bytes + answer_bytes {
            return Some(format!("{} bytes in the outbox", stats.queued_bytes));
        }
        let window = plan
            .reliable
            .map_or(0, |reliable| reliable.window.min(reliable.client_window));
        if stats.unacknowledged_messages > 1 && stats.unacknowledged_bytes > window as u64 {
            return Some(format!(
                "{} messages of {} bytes are unacknowledged, the window is {window}",
                stats.unacknowledged_messages, stats.unacknowledged_bytes
            ));
        }
        None
    }
}

fn client_ip(index: usize) -> IpAddr {
    Ipv4Addr::new(10, 0, 1, index as u8 + 1).into()
}
