//! One thread of the load: its runtime, its connections, and their end.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use network_system::{Client, Limits, ReconnectPolicy, Session, Timeouts};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::handlers::{Common, Echo, InFlight, Passing, Quiet, Receiver};
use super::losses;
use super::pace::Pacer;
use super::plan::{Plan, stamped};
use super::recorder::Recorder;
use super::run::{Run, lock};
use crate::args::BenchMode;
use crate::exit::{ExitStatus, Failure};

/// Connections that a thread makes at the same time: fewer than a server's queue holds.
const RAMP: usize = 64;

/// What a thread tells.
pub(super) enum Event {
    Connected,
    NotConnected(Failure),
    /// It has tried all its connections.
    Ready,
    Finished,
}

/// What threads are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Go {
    Wait,
    Start {
        /// The connections of all threads.
        connected: usize,
    },
    Stop,
}

pub(super) struct Thread {
    pub(super) index: usize,
    pub(super) plan: Arc<Plan>,
    pub(super) run: Arc<Run>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) go: watch::Receiver<Go>,
}

/// A client with its session and what it has sent.
struct Connection {
    client: Client,
    session: Session,
    in_flight: InFlight,
}

impl Connection {
    fn pair(&self) -> (Session, InFlight) {
        (self.session.clone(), Arc::clone(&self.in_flight))
    }
}

impl Thread {
    pub(super) fn run(self) {
        match tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        {
            Ok(runtime) => runtime.block_on(self.drive()),
            Err(error) => self
                .recorder
                .error(format!("cannot make a runtime: {error}")),
        }
    }

    async fn drive(mut self) {
        let connections = self.connect().await;
        let _ = self.events.send(Event::Ready);
        // When the other side has gone, nobody wants the load.
        let started = self.go.wait_for(|go| *go != Go::Wait).await.map(|go| *go);
        if let Ok(Go::Start { connected }) = started {
            self.load(&connections, connected).await;
        }
        self.close(connections).await;
        let _ = self.events.send(Event::Finished);
    }

    fn common(&self) -> Common {
        Common {
            plan: Arc::clone(&self.plan),
            run: Arc::clone(&self.run),
            recorder: Arc::clone(&self.recorder),
        }
    }

    /// Whether this is the thread that sends the broadcasts.
    fn broadcasts(&self) -> bool {
        self.plan.mode == BenchMode::Broadcast && self.index == 0
    }

    /// Makes the connections of this thread.
    async fn connect(&self) -> Vec<Connection> {
        let plan = &self.plan;
        let count = match plan.mode {
            // These come and go; the first one shows whether there is a server.
            BenchMode::Connect => usize::from(self.index == 0),
            _ => plan.share(self.index),
        };
        let places = Arc::new(Semaphore::new(RAMP));
        let mut attempts = JoinSet::new();
        for _ in 0..count {
            let common = self.common();
            let places = Arc::clone(&places);
            attempts.spawn(async move {
                let _place = places.acquire().await;
                connect(common).await
            });
        }
        let mut connections = Vec::with_capacity(count);
        while let Some(attempt) = attempts.join_next().await {
            match attempt {
                Ok(Ok(connection)) => {
                    let stages = || connection.session.pipeline().to_vec();
                    self.run.stages.get_or_init(stages);
                    let _ = self.events.send(Event::Connected);
                    connections.push(connection);
                }
                Ok(Err(error)) => {
                    self.recorder
                        .error(format!("not connected: {}", error.text));
                    let _ = self.events.send(Event::NotConnected(error));
                }
                Err(_) => self.recorder.error("a task ended before it had connected"),
            }
        }
        if self.broadcasts() {
            let common = self.common();
            match open(&self.plan, |builder| builder.handler(Quiet { common })).await {
                Ok(connection) => {
                    let _ = self.run.broadcast.sender.set(connection.session.clone());
                    // Last, so that it is the first to be closed.
                    connections.push(connection);
                }
                Err(error) => {
                    self.recorder
                        .error(format!("the sender is not connected: {}", error.text));
                    let _ = self.events.send(Event::NotConnected(error));
                }
            }
        }
        connections
    }

    /// Keeps the load up until the run is over.
    async fn load(&mut self, connections: &[Connection], connected: usize) {
        let plan = Arc::clone(&self.plan);
        let _ = self.run.broadcast.receivers.set(connected as u64);
        let mut tasks = JoinSet::new();
        let mut pacer = None;
        if plan.counts_lost() {
            let pairs = connections.iter().map(Connection::pair).collect();
            tasks.spawn(losses::give_up_lost(self.common(), pairs));
        }
        match plan.mode {
            BenchMode::Idle => {}
            BenchMode::Connect => {
                for _ in 0..plan.share(self.index) {
                    tasks.spawn(come_and_go(self.common()));
                }
            }
            _ if plan.rate.is_some() => pacer = self.pace(connections, connected),
            BenchMode::Echo => {
                for connection in connections {
                    fill_window(&self.common(), connection).await;
                }
            }
            BenchMode::Oneway => {
                for connection in connections {
                    tasks.spawn(pour(self.common(), connection.session.clone()));
                }
            }
            BenchMode::Broadcast => {
                if let (true, Some(sender)) = (self.broadcasts(), self.run.broadcast.sender.get()) {
                    for _ in 0..plan.window {
                        let payload = stamped(&plan, self.run.stamp(Instant::now()));
                        if sender.send(payload).await.is_ok() {
                            self.run.broadcast.sent.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            }
        }
        if let Some((_, until)) = self.run.measured() {
            let over = tokio::time::sleep_until(until.into());
            let all_gone = async {
                for connection in connections {
                    connection.session.closed().await;
                }
                if connections.is_empty() {
                    std::future::pending::<()>().await;
                }
            };
            let stopped = self.go.wait_for(|go| *go == Go::Stop);
            if plan.mode == BenchMode::Connect {
                tokio::select! {
                    () = over => {}
                    _ = stopped => {}
                }
            } else {
                tokio::select! {
                    () = over => {}
                    _ = stopped => {}
                    () = all_gone => {}
                }
            }
        }
        // Tasks and pacer look at the clock themselves.
        let ended = async { while tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(plan.timeout, ended).await;
        if let Some(pacer) = pacer {
            let _ = pacer.await;
        }
    }

    /// Starts the thread that sends at times; says when it has ended.
    fn pace(
        &self,
        connections: &[Connection],
        connected: usize,
    ) -> Option<impl Future<Output = ()> + use<>> {
        let plan = &self.plan;
        let rate = plan.rate? as f64;
        let targets: Vec<_> = match plan.mode {
            BenchMode::Broadcast if !self.broadcasts() => return None,
            BenchMode::Broadcast => connections.last().into_iter().collect(),
            _ => connections.iter().collect(),
        };
        if targets.is_empty() {
            return None;
        }
        let share = match plan.mode {
            BenchMode::Broadcast => 1.0,
            _ => targets.len() as f64 / connected as f64,
        };
        let interval = Duration::from_secs_f64(1.0 / (rate * share));
        let now = Instant::now();
        let pacer = Pacer {
            common: self.common(),
            targets: targets.into_iter().map(Connection::pair).collect(),
            interval,
            // Threads take turns.
            start: now + interval.mul_f64(self.index as f64 / plan.threads as f64),
        };
        let runtime = tokio::runtime::Handle::current();
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        let recorder = Arc::clone(&self.recorder);
        let thread = std::thread::Builder::new().name(format!("pace-{}", self.index));
        let spawned = thread.spawn(move || {
            pacer.run(&runtime);
            drop(ended);
        });
        if let Err(error) = spawned {
            recorder.error(format!("cannot start a thread: {error}"));
        }
        Some(async move {
            let _ = end.await;
        })
    }

    /// Closes in order, so that what is on its way still comes, and counts what did not.
    async fn close(&self, mut connections: Vec<Connection>) {
        let timeout = self.plan.timeout;
        if self.plan.counts_lost() {
            let pairs: Vec<_> = connections.iter().map(Connection::pair).collect();
            losses::await_last(&self.common(), &pairs).await;
        }
        if self.broadcasts() && !connections.is_empty() {
            // What it has sent is with the receivers when it has closed.
            if self.run.broadcast.sender.get().is_some()
                && let Some(sender) = connections.pop()
            {
                sender.client.stop_within(timeout).await;
            }
            self.run.broadcast.sender_closed();
        }
        if self.plan.mode == BenchMode::Broadcast {
            let _ = tokio::time::timeout(timeout, self.run.broadcast.wait_for_sender()).await;
        }
        // An end can be lost as well; then there is nothing to wait for.
        let is_lossy = self.plan.is_lossy;
        let timeout = match is_lossy {
            true => timeout.min(losses::END),
            false => timeout,
        };
        let mut stops = JoinSet::new();
        for connection in connections {
            stops.spawn(async move {
                let report = connection.client.stop_within(timeout).await;
                let lost = lock(&connection.in_flight).len() + report.unsent;
                (lost, report.in_order)
            });
        }
        while let Some(Ok((lost, in_order))) = stops.join_next().await {
            self.recorder
                .errors_of(lost as u64, format!("messages without an answer: {lost}"));
            if !in_order && !is_lossy {
                self.recorder
                    .error(format!("a connection did not close within {timeout:?}"));
            }
        }
    }
}

async fn connect(common: Common) -> Result<Connection, Failure> {
    let plan = Arc::clone(&common.plan);
    match plan.mode {
        BenchMode::Echo => {
            let in_flight = InFlight::default();
            let handler = Echo {
                common,
                in_flight: Arc::clone(&in_flight),
            };
            let connection = open(&plan, |builder| builder.handler(handler)).await?;
            Ok(Connection {
                in_flight,
                ..connection
            })
        }
        BenchMode::Broadcast => open(&plan, |builder| builder.handler(Receiver { common })).await,
        _ => open(&plan, |builder| builder.handler(Quiet { common })).await,
    }
}

/// Makes a client and connects it.
async fn open(
    plan: &Plan,
    with_handler: impl FnOnce(network_system::ClientBuilder) -> network_system::ClientBuilder,
) -> Result<Connection, Failure> {
    let mut limits = Limits::default();
    limits.message_size = limits.message_size.max(plan.payload.len());
    let mut timeouts = Timeouts::client();
    timeouts.connect = plan.timeout;
    timeouts.drain = plan.timeout;
    let mut builder = plan
        .client
        .apply(Client::builder())
        .add_endpoint(plan.endpoint.clone())
        .limits(limits)
        .timeouts(timeouts)
        .reconnect(ReconnectPolicy::disabled());
    if let Some(token) = &plan.token {
        builder = builder.token(token);
    }
    let client = with_handler(builder).build()?;
    client.connect().await?;
    let session = client.session();
    let session = session.ok_or_else(|| {
        Failure::new(
            ExitStatus::NotConnected,
            "the connection ended as soon as it was made",
        )
    })?;
    Ok(Connection {
        client,
        session,
        in_flight: Arc::new(Mutex::new(VecDeque::new())),
    })
}

async fn fill_window(common: &Common, connection: &Connection) {
    let Common { plan, run, .. } = common;
    for _ in 0..plan.window {
        let now = Instant::now();
        lock(&connection.in_flight).push_back(now);
        let question = plan.question(run, now);
        if connection.session.send(question).await.is_err() {
            lock(&connection.in_flight).pop_back();
            return;
        }
    }
}

/// Sends as fast as the connection takes it.
async fn pour(common: Common, session: Session) {
    let Common {
        plan,
        run,
        recorder,
    } = &common;
    while run.is_on(Instant::now()) {
        if session.send(plan.payload.clone()).await.is_err() {
            return;
        }
        recorder.left(Instant::now());
    }
}

/// Connects and closes, again and again.
async fn come_and_go(common: Common) {
    let Common {
        plan,
        run,
        recorder,
    } = &common;
    loop {
        let begun = Instant::now();
        if !run.is_on(begun) {
            return;
        }
        match open(plan, |builder| builder.handler(Passing)).await {
            Ok(connection) => {
                recorder.done(begun, Instant::now());
                connection.client.stop_within(plan.timeout).await;
            }
            Err(error) => recorder.error(format!("not connected: {}", error.text)),
        }
    }
}
