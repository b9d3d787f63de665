//! The server: listeners, the sessions they bring, and their end.

mod accept;
mod builder;
mod listen;
mod stats;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use builder::ServerBuilder;
pub use stats::{BroadcastReport, ListenerStats, ServerStats, StopReport, UdpStats};

use self::listen::Listen;
use self::stats::Listening;
use crate::config::{Limits, Reliability, SocketOptions, WorkerThreads};
use crate::error::{CloseReason, ErrorCode, SendError, ServerError};
use crate::events;
use crate::group::{GroupName, GroupStats};
use crate::hub::Hub;
use crate::limits::{Handshakes, MemoryBudget};
use crate::message::{MessageKind, Outgoing};
use crate::metrics::{EventLevel, Note};
use crate::session::shared::lock;
use crate::session::{Session, SessionId, current};
use crate::transport::udp::UdpConfig;
use crate::transport::{self, LinkConfig, ServerOptions};
use crate::worker::BroadcastFrames;
use crate::worker::pool::{KILL_AGAIN, Workers};

/// A server: any number of listeners, and the sessions that they bring.
///
/// A handle: cheap to clone, all clones are the same server. Dropping the last one does not stop it; it
/// runs on its runtime until [`stop`](Self::stop).
///
/// ```
/// use network_system::{Server, Session, Message};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::builder()
///     .listen("tcp://127.0.0.1:0")
///     .on_message(|session: Session, message: Message| async move {
///         let _ = session.send(message).await;
///     })
///     .build()?;
/// server.start().await?;
/// println!("listening {}", server.urls().join(" "));
/// let report = server.stop().await?;
/// assert_eq!(report.aborted, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    hub: Arc<Hub>,
    listen: Vec<Listen>,
    socket: SocketOptions,
    options: ServerOptions,
    udp: UdpConfig,
    workers: usize,
    worker_threads: WorkerThreads,
    goaway: Option<Duration>,
    stage: Mutex<Stage>,
    /// How the last stop went.
    last: Mutex<StopReport>,
    started_at: Mutex<Option<Instant>>,
    /// What the counters were when the statistics were last reset.
    baseline: Mutex<ServerStats>,
    per_ip: Mutex<HashMap<IpAddr, usize>>,
    handshakes: Handshakes,
    draining: AtomicBool,
}

enum Stage {
    Stopped,
    Starting,
    Running(Arc<Running>),
}

/// What exists while a server runs.
struct Running {
    workers: Workers,
    listeners: Vec<Arc<Listening>>,
    /// Set to true when listeners shall stop.
    stop_accepting: watch::Sender<bool>,
    /// Set once, by the first stop.
    stopping: AtomicBool,
    /// How the stop went, once it is over.
    ended: watch::Sender<Option<StopReport>>,
}

impl Server {
    /// Begins the configuration of a server.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }

    /// Binds the listeners and begins to accept, on the current tokio runtime.
    ///
    /// When this fails, nothing is left running. A server that was stopped can be started again.
    ///
    /// # Errors
    /// `server_already_running`, or `bind_failed` with the listener that could not be bound.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn start(&self) -> Result<(), ServerError> {
        let inner = &self.inner;
        {
            let mut stage = lock(&inner.stage);
            if !matches!(*stage, Stage::Stopped) {
                return Err(ServerError::new(
                    ErrorCode::ServerAlreadyRunning,
                    "the server is running already",
                ));
            }
            *stage = Stage::Starting;
        }
        // Whatever happens on the way, the dropped future included, the server can be started again.
        let guard = StartGuard { inner };
        let listeners = inner.bind().await?;
        let mut tasks = JoinSet::new();
        let count = match inner.workers {
            0 => tokio::runtime::Handle::current()
                .metrics()
                .num_workers()
                .max(1),
            count => count,
        };
        inner.hub.recorder.ensure_workers(count);
        inner
            .hub
            .set_drain_millis(inner.hub.timeouts.drain.as_millis() as u64);
        inner.draining.store(false, Ordering::Release);
        let workers = match inner.worker_threads {
            WorkerThreads::Runtime => Workers::start(count, &inner.hub, &mut tasks),
            threads => {
                let pinned = threads == WorkerThreads::Pinned;
                Workers::start_dedicated(count, pinned, &inner.hub, &mut tasks)
                    .map_err(ServerError::threads)?
            }
        };
        let (stop_accepting, stopped) = watch::channel(false);
        let running = Arc::new(Running {
            workers,
            listeners: listeners
                .iter()
                .map(|listener| Listening::of(&**listener))
                .collect(),
            stop_accepting,
            stopping: AtomicBool::new(false),
            ended: watch::Sender::new(None),
        });
        for (listener, listening) in listeners.into_iter().zip(&running.listeners) {
            let accepting = accept::Accepting {
                server: self.clone(),
                running: Arc::clone(&running),
                listening: Arc::clone(listening),
            };
            tasks.spawn(accept::accept(accepting, listener, stopped.clone()));
        }
        *lock(&inner.started_at) = Some(Instant::now());
        *lock(&inner.stage) = Stage::Running(Arc::clone(&running));
        std::mem::forget(guard);
        // The one task that nobody joins: it joins all others and then says that the server has stopped.
        tokio::spawn(supervise(Arc::clone(inner), running, tasks));
        let urls = self.urls();
        for url in &urls {
            events::listener_bound { url: &**url }.emit();
            let text = format_args!("{url}");
            inner.note(EventLevel::Info, "listener_bound", text);
        }
        events::server_started {
            listeners: urls.len(),
            workers: count,
        }
        .emit();
        Ok(())
    }

    /// Starts the server and waits until it has stopped.
    ///
    /// Dropping the future leaves the server running.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn run(&self) -> Result<StopReport, ServerError> {
        self.start().await?;
        Ok(self.wait_for_stop().await)
    }

    /// Stops the server in order, within [`Timeouts::drain`](crate::Timeouts). See
    /// [`stop_within`](Self::stop_within).
    ///
    /// # Errors
    /// `server_not_started`.
    pub async fn stop(&self) -> Result<StopReport, ServerError> {
        self.stop_within(self.inner.hub.timeouts.drain).await
    }

    /// Stops the server in order: it accepts no more, handlers that are running finish, queued messages
    /// leave, every peer is told, and the connections close. What is left at the deadline is cut off.
    ///
    /// Can be awaited in a handler; then it waits for all sessions but the handler's own. Dropping the
    /// future does not take the stop back. A second call can only shorten the deadline.
    ///
    /// # Errors
    /// `server_not_started`.
    pub async fn stop_within(&self, deadline: Duration) -> Result<StopReport, ServerError> {
        let inner = &self.inner;
        let running = inner.running()?;
        // Beyond a year clocks overflow.
        let deadline = deadline.min(Duration::from_secs(365 * 24 * 3_600));
        let at = Instant::now() + deadline;
        let millis = deadline.as_millis() as u64;
        let first = !running.stopping.swap(true, Ordering::AcqRel);
        if first || millis < inner.hub.drain_millis() {
            inner.hub.set_drain_millis(millis);
        }
        inner
            .hub
            .set_goaway(inner.goaway.map(|retry| retry.as_millis() as u64));
        inner.draining.store(true, Ordering::Release);
        let inside = inner
            .hub
            .sessions_with_handlers()
            .into_iter()
            .find(|session| current::is_inside(&session.shared));
        if let Some(session) = &inside {
            session.shared.set_stops_itself();
        }
        if first {
            events::drain_began {
                sessions: inner.hub.live(),
                deadline_ms: millis,
            }
            .emit();
            let text = format_args!("{} sessions, {millis} ms", inner.hub.live());
            inner.note(EventLevel::Info, "drain_began", text);
        }
        running.stop_accepting.send_replace(true);
        running.workers.drain();
        running.workers.stop();
        let kill = Arc::clone(&running);
        let mut ended = running.ended.subscribe();
        // The deadline is enforced whether or not the caller goes on waiting.
        let enforce = tokio::spawn(async move {
            // The sessions have deadlines of their own; this one is for handlers that do not end.
            // Killing a session lets its disconnect handler begin, which must not last for ever either.
            let mut at = at;
            loop {
                if tokio::time::timeout_at(at, ended.wait_for(Option::is_some))
                    .await
                    .is_ok()
                {
                    return;
                }
                kill.workers.abort();
                at += KILL_AGAIN;
            }
        });
        let report = match inside {
            None => running.wait_for_stop().await,
            Some(_) => inner.wait_for_others(&running).await,
        };
        drop(enforce);
        Ok(report)
    }

    /// Waits until the server has stopped; returns at once when it does not run.
    ///
    /// Dropping the future has no effect.
    pub async fn wait_for_stop(&self) -> StopReport {
        match self.inner.running() {
            Ok(running) => running.wait_for_stop().await,
            Err(_) => *lock(&self.inner.last),
        }
    }

    /// Whether the server accepts connections or is still closing those it has.
    pub fn is_running(&self) -> bool {
        matches!(*lock(&self.inner.stage), Stage::Running(_))
    }

    /// The URLs of the listeners, with the real ports; empty when the server does not run.
    pub fn urls(&self) -> Vec<String> {
        self.inner
            .running()
            .map(|running| {
                let urls = running
                    .listeners
                    .iter()
                    .map(|listening| listening.url.clone());
                urls.collect()
            })
            .unwrap_or_default()
    }

    /// The addresses of the listeners that have one; empty when the server does not run.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.inner
            .running()
            .map(|running| {
                let addrs = running
                    .listeners
                    .iter()
                    .filter_map(|listening| listening.addr);
                addrs.collect()
            })
            .unwrap_or_default()
    }

    /// The listeners and what came in by them, in the order in which they were given; empty when the server does
    /// not run.
    pub fn listeners(&self) -> Vec<ListenerStats> {
        let Ok(running) = self.inner.running() else {
            return Vec::new();
        };
        running
            .listeners
            .iter()
            .map(|listening| listening.stats())
            .collect()
    }

    /// Whether the server is closing the sessions that it has, and accepts no more.
    pub fn is_draining(&self) -> bool {
        self.is_running() && self.inner.draining.load(Ordering::Acquire)
    }

    /// The name of the server in metrics.
    pub fn name(&self) -> &str {
        self.inner.hub.recorder.name()
    }

    /// The limits that it was built with.
    pub fn limits(&self) -> &Limits {
        &self.inner.hub.limits
    }

    /// What counts the memory in its queues and buffers: the budget that it was built with, or that of the process.
    pub fn memory_budget(&self) -> &MemoryBudget {
        &self.inner.hub.budget
    }

    /// What it keeps for reliable sessions; `None` when it has none.
    pub fn reliability(&self) -> Option<&Reliability> {
        self.inner.hub.reliability.as_ref()
    }

    // Sessions

    /// The open session with this id.
    pub fn session(&self, id: SessionId) -> Option<Session> {
        self.inner.hub.session(id)
    }

    /// All open sessions, in no particular order.
    pub fn sessions(&self) -> Vec<Session> {
        self.inner.hub.sessions()
    }

    /// How many sessions are open.
    pub fn session_count(&self) -> usize {
        self.inner.hub.session_count()
    }

    /// Ends a session in order.
    ///
    /// # Errors
    /// `session_not_found`.
    pub fn disconnect(&self, id: SessionId, reason: CloseReason) -> Result<(), ServerError> {
        let session = self.session(id).ok_or_else(|| not_found(id))?;
        session.disconnect(reason);
        Ok(())
    }

    /// Ends all open sessions in order and goes on accepting. Returns how many there were.
    pub fn disconnect_all(&self, reason: CloseReason) -> usize {
        let sessions = self.sessions();
        for session in &sessions {
            session.disconnect(reason.clone());
        }
        sessions.len()
    }

    /// Sends a message to the session with this id, as [`Session::send`] does.
    ///
    /// # Errors
    /// `session_not_found`, and as [`Session::send`].
    pub async fn send<M: Outgoing>(&self, id: SessionId, message: M) -> Result<(), SendError> {
        match self.session(id) {
            Some(session) => session.send(message).await,
            None => Err(SendError::new(
                ErrorCode::SessionNotFound,
                format!("there is no session {id}"),
                message.into_message(),
            )),
        }
    }

    // Groups

    /// The ids of the sessions in a group.
    pub fn members(&self, group: &GroupName) -> Vec<SessionId> {
        self.inner.hub.groups.members(group)
    }

    /// The groups that have members, in no particular order.
    pub fn groups(&self) -> Vec<GroupName> {
        self.inner.hub.groups.names()
    }

    /// The groups that have members, with their size and what was sent to them, in no particular order.
    pub fn group_stats(&self) -> Vec<GroupStats> {
        self.inner.hub.groups.stats()
    }

    /// Sends a message to every open session. See [`broadcast_to`](Self::broadcast_to).
    ///
    /// # Errors
    /// `server_not_started`, `message_too_large`. The error gives the message back.
    pub async fn broadcast<M: Outgoing>(&self, message: M) -> Result<BroadcastReport, SendError> {
        self.send_to_many(message, None, &[]).await
    }

    /// Sends a message to every open session but some.
    ///
    /// # Errors
    /// As [`broadcast`](Self::broadcast).
    pub async fn broadcast_except<M: Outgoing>(
        &self,
        message: M,
        except: &[SessionId],
    ) -> Result<BroadcastReport, SendError> {
        self.send_to_many(message, None, except).await
    }

    /// Sends a message to the sessions in a group, but some.
    ///
    /// The frame is encoded once, whatever the number of receivers. With the policy to wait, this waits
    /// until every receiver has room, so the slowest sets the pace; the others have their message
    /// before. With another policy it does not wait for anyone. Dropping the future may leave some
    /// sessions without the message.
    ///
    /// # Errors
    /// As [`broadcast`](Self::broadcast).
    pub async fn broadcast_to<M: Outgoing>(
        &self,
        group: &GroupName,
        message: M,
        except: &[SessionId],
    ) -> Result<BroadcastReport, SendError> {
        self.send_to_many(message, Some(group), except).await
    }

    async fn send_to_many<M: Outgoing>(
        &self,
        message: M,
        group: Option<&GroupName>,
        except: &[SessionId],
    ) -> Result<BroadcastReport, SendError> {
        let hub = &self.inner.hub;
        let message = message.into_message();
        let Ok(running) = self.inner.running() else {
            let text = "the server is not running";
            return Err(SendError::new(ErrorCode::ServerNotStarted, text, message));
        };
        if message.len() > hub.limits.message_size {
            let text = format!(
                "a message of {} bytes is over the limit of {} bytes",
                message.len(),
                hub.limits.message_size
            );
            return Err(SendError::new(ErrorCode::MessageTooLarge, text, message));
        }
        let frame_type = match message.kind() {
            MessageKind::Application(number) => crate::codec::FrameType(number),
            _ => crate::codec::FrameType::DATA,
        };
        let text = message.kind() == MessageKind::Text;
        let payload = message.clone().into_payload();
        let frames = Arc::new(BroadcastFrames::new(frame_type, text, payload));
        let outcome = running.workers.broadcast(hub, frames, group, except).await;
        let mut report = BroadcastReport {
            sent: outcome.sent,
            missed: outcome.missed,
        };
        for session in outcome.full {
            match session.send(message.clone()).await {
                Ok(()) => report.sent += 1,
                Err(_) => report.missed += 1,
            }
        }
        Ok(report)
    }

    // Statistics

    /// Counters at this moment.
    pub fn stats(&self) -> ServerStats {
        let mut stats = self.inner.totals();
        let baseline = lock(&self.inner.baseline).clone();
        stats.total_connections = stats
            .total_connections
            .saturating_sub(baseline.total_connections);
        stats.refused_connections = stats
            .refused_connections
            .saturating_sub(baseline.refused_connections);
        stats.messages_sent = stats.messages_sent.saturating_sub(baseline.messages_sent);
        stats.messages_received = stats
            .messages_received
            .saturating_sub(baseline.messages_received);
        stats.bytes_sent = stats.bytes_sent.saturating_sub(baseline.bytes_sent);
        stats.bytes_received = stats.bytes_received.saturating_sub(baseline.bytes_received);
        stats.errors = stats.errors.saturating_sub(baseline.errors);
        stats.dropped = stats.dropped.saturating_sub(baseline.dropped);
        stats.rate_limited = stats.rate_limited.saturating_sub(baseline.rate_limited);
        stats.throttled = stats.throttled.saturating_sub(baseline.throttled);
        stats.shed = stats.shed.saturating_sub(baseline.shed);
        stats.unknown_responses = stats
            .unknown_responses
            .saturating_sub(baseline.unknown_responses);
        stats.resumed = stats.resumed.saturating_sub(baseline.resumed);
        stats.expired = stats.expired.saturating_sub(baseline.expired);
        stats.unacknowledged = stats.unacknowledged.saturating_sub(baseline.unacknowledged);
        stats.udp = stats.udp.since(baseline.udp);
        stats
    }

    /// Counts from zero again.
    pub fn reset_stats(&self) {
        *lock(&self.inner.baseline) = self.inner.totals();
    }
}

fn not_found(id: SessionId) -> ServerError {
    ServerError::new(
        ErrorCode::SessionNotFound,
        format!("there is no session {id}"),
    )
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("urls", &self.urls())
            .field("sessions", &self.session_count())
            .finish()
    }
}

impl Inner {
    fn running(&self) -> Result<Arc<Running>, ServerError> {
        match &*lock(&self.stage) {
            Stage::Running(running) => Ok(Arc::clone(running)),
            _ => Err(ServerError::new(
                ErrorCode::ServerNotStarted,
                "the server is not running",
            )),
        }
    }

    /// Tells people who look.
    fn note(&self, level: EventLevel, kind: &'static str, text: fmt::Arguments<'_>) {
        self.hub.recorder.note(Note {
            level,
            kind,
            session: None,
            code: None,
            text,
        });
    }

    async fn bind(&self) -> Result<Vec<Box<dyn transport::Listener>>, ServerError> {
        let config = LinkConfig {
            message_limit: self.hub.frame_limit(),
            socket: self.socket.clone(),
            udp: self.udp.clone(),
        };
        let mut listeners = Vec::with_capacity(self.listen.len());
        for listen in &self.listen {
            listeners.extend(listen.bind(&self.listen, &config, &self.options).await?);
        }
        Ok(listeners)
    }

    fn totals(&self) -> ServerStats {
        let hub = &self.hub;
        let mut stats = ServerStats {
            total_connections: hub.recorder.totals.connections(),
            current_connections: hub.session_count(),
            refused_connections: hub.recorder.totals.refused.load(Ordering::Relaxed),
            errors: hub.recorder.totals.errors.load(Ordering::Relaxed),
            dropped: hub.recorder.totals.dropped.load(Ordering::Relaxed),
            rate_limited: hub.recorder.totals.rate_limited.load(Ordering::Relaxed),
            throttled: hub.recorder.totals.throttled.load(Ordering::Relaxed),
            shed: hub.recorder.totals.shed.load(Ordering::Relaxed),
            unknown_responses: hub
                .recorder
                .totals
                .unknown_responses
                .load(Ordering::Relaxed),
            suspended: hub.suspended_count(),
            resumed: hub.recorder.totals.resumed.load(Ordering::Relaxed),
            expired: hub.recorder.totals.expired.load(Ordering::Relaxed),
            unacknowledged: hub.recorder.totals.unacknowledged.load(Ordering::Relaxed),
            udp: UdpStats::of(&self.udp.counters),
            started_at: *lock(&self.started_at),
            ..ServerStats::default()
        };
        let traffic = hub.recorder.traffic();
        stats.messages_sent = traffic.messages_sent;
        stats.messages_received = traffic.messages_received;
        stats.bytes_sent = traffic.bytes_sent;
        stats.bytes_received = traffic.bytes_received;
        let last = traffic.last_activity;
        stats.last_activity = (last > 0).then(|| hub.clock.instant(last));
        stats
    }

    /// Waits until only sessions are left whose own handlers wait for the stop.
    async fn wait_for_others(&self, running: &Running) -> StopReport {
        loop {
            let ended = self.hub.ended.notified();
            let mut ended = std::pin::pin!(ended);
            ended.as_mut().enable();
            let sessions = self.hub.sessions_with_handlers();
            let waiting = sessions
                .iter()
                .filter(|session| session.shared.stops_itself())
                .count();
            if self.hub.live() <= waiting.max(1) {
                return running.report();
            }
            ended.await;
        }
    }
}

impl Running {
    async fn wait_for_stop(&self) -> StopReport {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await {
            Ok(report) => report.unwrap_or_default(),
            // The sender lives as long as this value.
            Err(_) => self.report(),
        }
    }

    fn report(&self) -> StopReport {
        let tally = &self.workers.tally;
        StopReport {
            drained: tally.drained.load(Ordering::Relaxed),
            aborted: tally.aborted.load(Ordering::Relaxed),
            unacknowledged: tally.unacknowledged.load(Ordering::Relaxed),
        }
    }
}

/// Joins everything that the server started, then says that it has stopped.
async fn supervise(inner: Arc<Inner>, running: Arc<Running>, mut tasks: JoinSet<()>) {
    while let Some(joined) = tasks.join_next().await {
        if let Err(error) = joined
            && error.is_panic()
        {
            events::server_task_panicked {}.emit();
        }
    }
    let report = running.report();
    *lock(&inner.last) = report;
    // In this order, so that whoever hears of the end can start the server again.
    *lock(&inner.stage) = Stage::Stopped;
    events::server_stopped {
        drained: report.drained,
        aborted: report.aborted,
    }
    .emit();
    let text = format_args!("{} drained, {} cut off", report.drained, report.aborted);
    inner.note(EventLevel::Info, "server_stopped", text);
    running.ended.send_replace(Some(report));
}

/// Takes a start back that did not come to its end.
struct StartGuard<'a> {
    inner: &'a Inner,
}

impl Drop for StartGuard<'_> {
    fn drop(&mut self) {
        *lock(&self.inner.stage) = Stage::Stopped;
    }
}
