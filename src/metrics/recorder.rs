//! What one server or client counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::Role;
use super::latency::{AllTimes, Times};
use super::memory::MemberMemory;
use super::monitor::PerformanceMonitor;
use super::recent::Note;
use crate::error::ErrorCode;
use crate::hub::Clock;
use crate::limits::MemoryBudget;
use crate::pipeline::{Pipeline, StageStats};
use crate::session::Transport;
use crate::session::shared::lock;

/// Counters over all sessions that there are and have been.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// Sessions that were opened, by what carried them.
    opened: [AtomicU64; Transport::ALL.len()],
    /// Those of them that have ended.
    closed: [AtomicU64; Transport::ALL.len()],
    /// Connections that a limit refused.
    pub(crate) refused: AtomicU64,
    /// Attempts of a client that failed.
    pub(crate) failed_attempts: AtomicU64,
    /// Errors of sessions, connections that broke, refused connections, failed attempts, and messages that could
    /// not be sent, by code.
    errors_by_code: ByCode,
    /// Errors of sessions.
    pub(crate) errors: AtomicU64,
    pub(crate) dropped: AtomicU64,
    /// Messages that waited in an outbox when their session ended.
    pub(crate) lost: AtomicU64,
    /// Messages that a rate did not let in.
    pub(crate) rate_limited: AtomicU64,
    /// How often a session had to wait because of a rate.
    pub(crate) throttled: AtomicU64,
    /// Sessions that were ended because the process held too much.
    pub(crate) shed: AtomicU64,
    /// Responses to requests that nobody waited for.
    pub(crate) unknown_responses: AtomicU64,
    /// Sessions that went on with another link, by how they came to another transport.
    pub(crate) resumed: AtomicU64,
    moved: AtomicU64,
    /// Reliable sessions that have no link at the moment.
    pub(crate) suspended: AtomicU64,
    /// Sessions that had lost their link and were given up.
    pub(crate) expired: AtomicU64,
    /// Messages of reliable sessions that were sent and not acknowledged when their session ended.
    pub(crate) unacknowledged: AtomicU64,
}

/// A counter for each code.
#[derive(Debug)]
struct ByCode([AtomicU64; ErrorCode::ALL.len()]);

impl Default for ByCode {
    fn default() -> Self {
        ByCode(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Totals {
    pub(crate) fn session_opened(&self, transport: Transport) {
        self.opened[transport as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn session_closed(&self, transport: Transport) {
        self.closed[transport as usize].fetch_add(1, Relaxed);
    }

    /// A session goes on by another transport.
    pub(crate) fn moved(&self, from: Transport, to: Transport) {
        if from != to {
            self.moved.fetch_add(1, Relaxed);
            self.session_opened(to);
            self.session_closed(from);
        }
    }

    /// Sessions that were opened.
    pub(crate) fn connections(&self) -> u64 {
        let opened: u64 = self.opened.iter().map(|count| count.load(Relaxed)).sum();
        opened.saturating_sub(self.moved.load(Relaxed))
    }

    pub(crate) fn opened(&self, transport: Transport) -> u64 {
        self.opened[transport as usize].load(Relaxed)
    }

    /// Sessions that are open.
    pub(crate) fn open(&self, transport: Transport) -> u64 {
        // In this order, so that a session which ends meanwhile does not count less than nothing.
        let closed = self.closed[transport as usize].load(Relaxed);
        self.opened(transport).saturating_sub(closed)
    }

    /// Sessions that are open on all transports.
    pub(super) fn all_open(&self) -> u64 {
        let transports = Transport::ALL.iter();
        transports.map(|&transport| self.open(transport)).sum()
    }

    /// An error of a session.
    pub(crate) fn session_error(&self, code: ErrorCode) {
        self.errors.fetch_add(1, Relaxed);
        self.error(code);
    }

    /// An error by its code alone.
    pub(crate) fn error(&self, code: ErrorCode) {
        self.errors_by_code.0[code.index()].fetch_add(1, Relaxed);
    }

    /// A message that its sender could not send.
    #[cold]
    pub(crate) fn unsent(&self, code: ErrorCode) {
        self.error(match code {
            ErrorCode::QueueFull => code,
            _ => ErrorCode::SendFailed,
        });
    }

    pub(crate) fn errors_of(&self, code: ErrorCode) -> u64 {
        self.errors_by_code.0[code.index()].load(Relaxed)
    }
}

/// Message counters of one worker and transport, on a cache line of their own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Traffic {
    pub(crate) messages_sent: AtomicU64,
    pub(crate) messages_received: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    /// Milliseconds of the hub's clock.
    pub(crate) last_activity: AtomicU64,
}

impl Traffic {
    pub(crate) fn add_sent(&self, messages: u64, bytes: u64, now: u64) {
        self.messages_sent.fetch_add(messages, Relaxed);
        self.bytes_sent.fetch_add(bytes, Relaxed);
        self.last_activity.store(now, Relaxed);
    }

    pub(crate) fn add_received(&self, messages: u64, bytes: u64, now: u64) {
        self.messages_received.fetch_add(messages, Relaxed);
        self.bytes_received.fetch_add(bytes, Relaxed);
        self.last_activity.store(now, Relaxed);
    }
}

/// What [`Traffic`] says at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TrafficSum {
    pub(crate) messages_sent: u64,
    pub(crate) messages_received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) last_activity: u64,
}

/// What one worker counts.
#[derive(Debug, Default)]
pub(crate) struct WorkerRecorder {
    traffic: [Traffic; Transport::ALL.len()],
    /// How long handlers need for a message, when somebody wants to know.
    handler_times: Option<Times>,
}

impl WorkerRecorder {
    #[inline]
    pub(crate) fn traffic(&self, transport: Transport) -> &Traffic {
        &self.traffic[transport as usize]
    }

    /// What went over all transports.
    pub(crate) fn sum(&self) -> TrafficSum {
        let mut sum = TrafficSum::default();
        for traffic in &self.traffic {
            sum.messages_sent += traffic.messages_sent.load(Relaxed);
            sum.messages_received += traffic.messages_received.load(Relaxed);
            sum.bytes_sent += traffic.bytes_sent.load(Relaxed);
            sum.bytes_received += traffic.bytes_received.load(Relaxed);
            sum.last_activity = sum.last_activity.max(traffic.last_activity.load(Relaxed));
        }
        sum
    }

    /// Where the times of handlers go, when somebody wants to know.
    #[inline]
    pub(crate) fn handler_times(&self) -> Option<&Times> {
        self.handler_times.as_ref()
    }
}

/// What one server or client counts. It outlives its sessions.
#[derive(Default)]
pub(crate) struct Recorder {
    role: Role,
    name: String,
    clock: Clock,
    pub(crate) totals: Totals,
    workers: Mutex<Vec<Arc<WorkerRecorder>>>,
    pipeline: Option<Pipeline>,
    /// What counts the memory of its sessions.
    budget: Option<MemoryBudget>,
    /// Who wants to know.
    monitored: Option<Monitored>,
}

/// What is recorded for a monitor alone.
struct Monitored {
    monitor: PerformanceMonitor,
    /// What the sessions hold.
    memory: Arc<MemberMemory>,
    /// How long requests of this side wait for their answer.
    requests: Times,
    /// How long PINGs of this side wait for their PONG.
    pings: Times,
}

impl Recorder {
    pub(crate) fn new(
        role: Role,
        name: String,
        clock: Clock,
        monitor: Option<PerformanceMonitor>,
        pipeline: Option<Pipeline>,
        budget: MemoryBudget,
    ) -> Arc<Self> {
        let recorder = Arc::new(Recorder {
            role,
            clock,
            pipeline,
            budget: Some(budget),
            monitored: monitor.map(|monitor| Monitored {
                memory: monitor.member_memory(role, &name),
                monitor,
                requests: Times::default(),
                pings: Times::default(),
            }),
            name,
            ..Recorder::default()
        });
        if let Some(monitored) = &recorder.monitored {
            monitored.monitor.attach(Arc::clone(&recorder));
        }
        recorder
    }

    /// Nothing more will be counted.
    pub(crate) fn retire(&self) {
        if let Some(monitored) = &self.monitored {
            monitored.monitor.retire(self);
        }
    }

    /// Where to note what sessions hold, when somebody wants to know.
    #[inline]
    pub(crate) fn memory(&self) -> Option<&Arc<MemberMemory>> {
        self.monitored.as_ref().map(|monitored| &monitored.memory)
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// What counts the memory of its sessions.
    pub(super) fn budget(&self) -> Option<&MemoryBudget> {
        self.budget.as_ref()
    }

    /// What the stages of its pipeline have done.
    pub(super) fn stages(&self) -> Vec<StageStats> {
        let pipeline = self.pipeline.as_ref();
        pipeline.map(Pipeline::stats_apart).unwrap_or_default()
    }

    /// What the workers' clock says; 0 is never.
    pub(super) fn instant(&self, millis: u64) -> Option<Instant> {
        (millis > 0).then(|| self.clock.instant(millis))
    }

    /// The times of requests, of PINGs and of handlers.
    pub(super) fn times(&self) -> AllTimes {
        let mut times = AllTimes::default();
        if let Some(monitored) = &self.monitored {
            monitored.requests.add_to(&mut times.requests);
            monitored.pings.add_to(&mut times.pings);
        }
        for worker in self.workers() {
            if let Some(handlers) = worker.handler_times() {
                handlers.add_to(&mut times.handlers);
            }
        }
        times
    }

    /// The name of the server or client in metrics.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Makes counters for `count` workers; those of an earlier run stay.
    pub(crate) fn ensure_workers(&self, count: usize) {
        let mut workers = lock(&self.workers);
        while workers.len() < count {
            workers.push(Arc::new(self.worker_recorder()));
        }
    }

    fn worker_recorder(&self) -> WorkerRecorder {
        WorkerRecorder {
            handler_times: self.monitored.as_ref().map(|_| Times::default()),
            ..WorkerRecorder::default()
        }
    }

    pub(crate) fn worker(&self, index: usize) -> Arc<WorkerRecorder> {
        self.ensure_workers(index + 1);
        Arc::clone(&lock(&self.workers)[index])
    }

    /// What went over all transports, by all workers.
    pub(crate) fn traffic(&self) -> TrafficSum {
        let mut sum = TrafficSum::default();
        for worker in self.workers() {
            let traffic = worker.sum();
            sum.messages_sent += traffic.messages_sent;
            sum.messages_received += traffic.messages_received;
            sum.bytes_sent += traffic.bytes_sent;
            sum.bytes_received += traffic.bytes_received;
            sum.last_activity = sum.last_activity.max(traffic.last_activity);
        }
        sum
    }

    pub(crate) fn workers(&self) -> Vec<Arc<WorkerRecorder>> {
        lock(&self.workers).clone()
    }

    /// Notes an event for people who look, if there is a monitor.
    #[inline]
    pub(crate) fn note(&self, note: Note<'_>) {
        if let Some(monitored) = &self.monitored {
            monitored.monitor.note(&self.name, note);
        }
    }

    /// Whether requests are timed.
    pub(crate) fn takes_times(&self) -> bool {
        self.monitored.is_some()
    }

    /// An answer to a request of this side came.
    pub(crate) fn request_answered(&self, time: Duration) {
        if let Some(monitored) = &self.monitored {
            monitored.requests.record(nanos(time), 1);
        }
    }

    /// No answer came in time.
    pub(crate) fn request_timed_out(&self) {
        self.totals.error(ErrorCode::RequestTimeout);
    }

    /// A PONG came.
    pub(crate) fn ping_answered(&self, time: Duration) {
        if let Some(monitored) = &self.monitored {
            monitored.pings.record(nanos(time), 1);
        }
    }
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
