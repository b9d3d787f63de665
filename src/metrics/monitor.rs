//! The monitor that applications hold.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::counts::Work;
use super::interval::LatencyIntervals;
use super::latency::AllTimes;
use super::memory::{MemberMemory, MonitorMemory};
use super::rates::{PerSecond, Rates, Sample};
use super::recent::{Note, RecentEvents, Ring};
use super::recorded::{Recorded, RecordedCounts};
use super::recorder::{Recorder, nanos};
use super::snapshot::{MemberMetrics, MemoryMetrics, PerformanceMetrics, Role};
use crate::limits::MemoryBudget;
use crate::session::shared::lock;

/// How many names of servers and clients that are gone are told apart.
const NAMES_MAX: usize = 64;

/// The name of those that are gone beyond that.
const OTHER: &str = "other";

/// Watches servers and clients, and takes what the application records.
///
/// A handle: cheap to clone, all clones are the same monitor. Servers and clients are attached with
/// [`ServerBuilder::monitor`](crate::ServerBuilder::monitor) and
/// [`ClientBuilder::monitor`](crate::ClientBuilder::monitor); what they have counted stays when they are gone, under
/// their names. Of those that are gone 64 names are kept apart, and further ones count as `other`.
///
/// [`docs/metrics.md`](https://github.com/kcenon/network-system/blob/main/docs/metrics.md) is the guide.
///
/// ```
/// use network_system::metrics::PerformanceMonitor;
///
/// let monitor = PerformanceMonitor::new();
/// monitor.record_message_sent(64);
/// assert_eq!(monitor.metrics().bytes_sent, 64);
/// ```
#[derive(Clone)]
pub struct PerformanceMonitor {
    inner: Arc<Inner>,
}

struct Inner {
    /// A monitor that watches all that this one does, and more.
    parent: Option<PerformanceMonitor>,
    recorded: Recorded,
    memory: MonitorMemory,
    registry: Mutex<Registry>,
    recent: Ring,
}

/// A side and a name: those with the same are one.
pub(super) type Key = (Role, String);

struct Registry {
    since: Instant,
    resets: u64,
    live: Vec<Live>,
    /// What those have done since the last reset that are gone.
    gone: BTreeMap<Key, Work>,
    rates: Rates,
}

/// A server or client that counts.
struct Live {
    recorder: Arc<Recorder>,
    /// What it had done before the last reset.
    before: Work,
}

/// All that is known at one moment.
pub(super) struct Observed {
    pub(super) members: BTreeMap<Key, Work>,
    pub(super) sum: Work,
    pub(super) recorded: RecordedCounts,
    pub(super) memory: MemoryMetrics,
    member_memory: BTreeMap<Key, MemoryMetrics>,
    pub(super) rates: PerSecond,
    pub(super) uptime: Duration,
    since: Instant,
    now: Instant,
}

impl PerformanceMonitor {
    /// A monitor that watches nothing yet.
    pub fn new() -> Self {
        PerformanceMonitor::with_parent(None)
    }

    /// A monitor whose servers and clients are watched by `parent` too, each with resets of its own.
    pub(crate) fn within(parent: &PerformanceMonitor) -> Self {
        PerformanceMonitor::with_parent(Some(parent.clone()))
    }

    fn with_parent(parent: Option<PerformanceMonitor>) -> Self {
        PerformanceMonitor {
            inner: Arc::new(Inner {
                parent,
                recorded: Recorded::new(),
                memory: MonitorMemory::default(),
                registry: Mutex::new(Registry {
                    since: Instant::now(),
                    resets: 0,
                    live: Vec::new(),
                    gone: BTreeMap::new(),
                    rates: Rates::default(),
                }),
                recent: Ring::default(),
            }),
        }
    }

    /// A server or client begins to count.
    pub(crate) fn attach(&self, recorder: Arc<Recorder>) {
        if let Some(parent) = &self.inner.parent {
            parent.attach(Arc::clone(&recorder));
        }
        let before = Work::of(&recorder);
        let live = Live { recorder, before };
        lock(&self.inner.registry).live.push(live);
    }

    /// A server or client will count nothing more.
    pub(crate) fn retire(&self, recorder: &Recorder) {
        if let Some(parent) = &self.inner.parent {
            parent.retire(recorder);
        }
        let mut registry = lock(&self.inner.registry);
        let is_it = |live: &Live| std::ptr::eq(&*live.recorder, recorder);
        if let Some(index) = registry.live.iter().position(is_it) {
            let live = registry.live.swap_remove(index);
            registry.keep(live.key(), &live.work().past());
        }
    }

    /// Where a server or client notes what it holds.
    pub(super) fn member_memory(&self, role: Role, name: &str) -> Arc<MemberMemory> {
        let parent = self.inner.parent.as_ref();
        let above = parent.map(|parent| parent.member_memory(role, name));
        self.inner.memory.attach((role, name.to_owned()), above)
    }

    /// What members note.
    pub(super) fn noted_memory(&self) -> &MonitorMemory {
        &self.inner.memory
    }

    /// Something happened to a server or client.
    pub(super) fn note(&self, member: &str, note: Note<'_>) {
        if let Some(parent) = &self.inner.parent {
            return parent.note(member, note);
        }
        self.inner.recent.push(member, note);
    }

    /// The latest events, from number `since` on: sessions that open and end, errors, refusals, drops. At most 512
    /// are kept, and of those at most 100 a second are taken.
    pub fn events(&self, since: u64) -> RecentEvents {
        self.inner.recent.since(since)
    }

    /// What all have done.
    ///
    /// Rates are over the time since the newest earlier call that was at least a second ago, whoever called; calls
    /// within a tenth of a second count as one. Before there is such a call, they are since the monitor was made or
    /// reset. So who asks once a second gets the rates of that second.
    pub fn metrics(&self) -> PerformanceMetrics {
        self.observe().metrics()
    }

    /// What all hold in queues and buffers, and what the process does: the same as
    /// [`PerformanceMetrics::memory`], for much less work.
    pub fn memory(&self) -> MemoryMetrics {
        let registry = lock(&self.inner.registry);
        let live = registry.live.iter();
        let sessions = live.map(|live| live.recorder.totals.all_open()).sum();
        let budget = registry.budget(|_| true);
        drop(registry);
        self.memory_with(sessions, budget, &self.inner.recorded.read())
    }

    fn memory_with(
        &self,
        sessions: u64,
        budget: BudgetSum,
        recorded: &RecordedCounts,
    ) -> MemoryMetrics {
        // What nobody has counts for all the same.
        let budget = match budget.limit {
            0 => BudgetSum::of([&MemoryBudget::process()]),
            _ => budget,
        };
        MemoryMetrics {
            budget_bytes: budget.used,
            budget_limit_bytes: budget.limit,
            recorded_bytes: recorded.memory,
            recorded_bytes_peak: recorded.memory_peak,
            ..self.inner.memory.metrics(sessions)
        }
    }

    /// The same, when counting began, and when a message was last sent or received.
    pub(crate) fn metrics_since(&self) -> (PerformanceMetrics, Instant, Option<Instant>) {
        let observed = self.observe();
        (observed.metrics(), observed.since, observed.last())
    }
    /// What all have done, as JSON: the fields of [`PerformanceMetrics`].
    pub fn to_json(&self) -> String {
        // Numbers and texts always have a form in JSON.
        serde_json::to_string(&self.metrics()).unwrap_or_default()
    }

    /// What all have done, as a text for people.
    pub fn report(&self) -> String {
        super::report::of(&self.metrics())
    }

    /// What all have done, in the text format 0.0.4 of Prometheus, and what the system says of the process.
    ///
    /// The table in [`docs/metrics.md`](https://github.com/kcenon/network-system/blob/main/docs/metrics.md) has every
    /// name. There are no labels for sessions and groups: their number has no bound, and a time series for each would
    /// bring down what stores them. Counters begin again with [`reset`](Self::reset), as with a restart.
    pub fn to_prometheus(&self) -> String {
        super::prometheus::of(&self.observe())
    }

    /// Percentiles of one interval after the other, the first of which begins now.
    ///
    /// ```
    /// use std::time::Duration;
    /// use network_system::metrics::PerformanceMonitor;
    ///
    /// let monitor = PerformanceMonitor::new();
    /// let mut intervals = monitor.intervals();
    /// monitor.record_latency(Duration::from_millis(5));
    /// assert_eq!(intervals.take().recorded_latency.count, 1);
    /// assert_eq!(intervals.take().recorded_latency.count, 0);
    /// ```
    pub fn intervals(&self) -> LatencyIntervals {
        LatencyIntervals::new(self.clone())
    }

    /// Counts from zero again: counters, times and errors are empty, the peaks of memory are what there is now.
    ///
    /// Connections that are open still are. What servers and clients say of themselves, such as
    /// [`Server::stats`](crate::Server::stats), does not change.
    pub fn reset(&self) {
        let mut registry = lock(&self.inner.registry);
        for live in &mut registry.live {
            live.before = Work::of(&live.recorder);
        }
        registry.gone.clear();
        registry.rates.reset();
        registry.since = Instant::now();
        registry.resets += 1;
        self.inner.recorded.reset();
        self.inner.memory.reset_peaks();
    }

    // What the application records

    /// Counts a connection of the application's own that was opened, or an attempt that failed.
    pub fn record_connection(&self, success: bool) {
        self.inner.recorded.connection(success);
    }

    /// Counts the end of a connection that was recorded.
    pub fn record_disconnection(&self) {
        self.inner.recorded.disconnection();
    }

    /// Counts a message of `bytes` bytes that the application has sent by other ways than the servers and clients of
    /// this library, which count by themselves.
    pub fn record_message_sent(&self, bytes: usize) {
        self.inner.recorded.sent(bytes as u64);
    }

    /// Counts a message of `bytes` bytes that the application has received by other ways.
    pub fn record_message_received(&self, bytes: usize) {
        self.inner.recorded.received(bytes as u64);
    }

    /// Records how long something took, for
    /// [`recorded_latency`](PerformanceMetrics::recorded_latency). Times over an hour count as an hour.
    pub fn record_latency(&self, latency: Duration) {
        self.inner.recorded.times.record(nanos(latency), 1);
    }

    /// Counts an error. The [name](crate::ErrorCode::name) of an error code counts as that code.
    ///
    /// Other names are told apart up to 64, those after that count as `other`. Of a name 128 bytes count.
    pub fn record_error(&self, kind: &str) {
        self.inner.recorded.error(kind);
    }

    /// Records how many bytes of memory the application uses.
    pub fn record_memory_usage(&self, bytes: usize) {
        self.inner.recorded.memory(bytes as u64);
    }

    // What others read

    /// All times since the last reset, and how often there was one.
    pub(super) fn times(&self) -> (AllTimes, u64) {
        let registry = lock(&self.inner.registry);
        let mut times = AllTimes::default();
        for work in registry.gone.values() {
            times.add(&work.times);
        }
        for live in &registry.live {
            times.add(&live.recorder.times().since(&live.before.times));
        }
        self.inner.recorded.times.add_to(&mut times.recorded);
        (times, registry.resets)
    }

    /// All that is known.
    pub(super) fn observe(&self) -> Observed {
        let mut registry = lock(&self.inner.registry);
        let mut members = registry.gone.clone();
        for live in &registry.live {
            members.entry(live.key()).or_default().add(&live.work());
        }
        let mut sum = Work::default();
        for member in members.values() {
            sum.add(member);
        }
        let of_member = |(key, work): (&Key, &Work)| {
            let mut memory = self.inner.memory.of_member(key, work.counts.sum().active);
            let budget = registry.budget(|live| live.key() == *key);
            memory.budget_bytes = budget.used;
            memory.budget_limit_bytes = budget.limit;
            (key.clone(), memory)
        };
        let member_memory = members.iter().map(of_member).collect();
        let recorded = self.inner.recorded.read();
        self.inner.recorded.times.add_to(&mut sum.times.recorded);
        let mut traffic = sum.counts.sum();
        let budget = registry.budget(|_| true);
        let memory = self.memory_with(traffic.active, budget, &recorded);
        traffic.add(&recorded.traffic);
        let sample = Sample {
            connections: traffic.opened,
            messages: traffic.messages_sent + traffic.messages_received,
            bytes: traffic.bytes_sent + traffic.bytes_received,
        };
        let (now, since) = (Instant::now(), registry.since);
        Observed {
            members,
            sum,
            memory,
            member_memory,
            recorded,
            rates: registry.rates.read(now, sample, since),
            uptime: now.saturating_duration_since(since),
            since,
            now,
        }
    }
}

impl Observed {
    /// When a message was last sent or received.
    fn last(&self) -> Option<Instant> {
        self.sum.counts.last.max(self.recorded.last)
    }

    pub(super) fn metrics(&self) -> PerformanceMetrics {
        let (sum, times) = (&self.sum.counts, &self.sum.times);
        let recorded = &self.recorded;
        let mut traffic = sum.sum();
        traffic.add(&recorded.traffic);
        let mut errors = sum.errors();
        errors.record(&recorded.errors);
        PerformanceMetrics {
            total_connections: traffic.opened,
            active_connections: traffic.active,
            failed_connections: sum.failed + recorded.failed,
            connections_per_second: self.rates.connections,
            messages_sent: traffic.messages_sent,
            messages_received: traffic.messages_received,
            messages_per_second: self.rates.messages,
            bytes_sent: traffic.bytes_sent,
            bytes_received: traffic.bytes_received,
            bytes_per_second: self.rates.bytes,
            latency: times.merged().latency(),
            request_latency: times.requests.latency(),
            ping_latency: times.pings.latency(),
            handler_time: times.handlers.latency(),
            recorded_latency: times.recorded.latency(),
            errors,
            messages_dropped: sum.dropped,
            messages_lost: sum.lost,
            messages_rate_limited: sum.rate_limited,
            sessions_throttled: sum.throttled,
            sessions_shed: sum.shed,
            sessions_suspended: sum.suspended,
            sessions_resumed: sum.resumed,
            sessions_expired: sum.expired,
            messages_unacknowledged: sum.unacknowledged,
            memory: self.memory,
            uptime: self.uptime,
            last_update: self
                .last()
                .map(|last| self.now.saturating_duration_since(last)),
            members: self
                .members
                .iter()
                .map(|known| self.member(known))
                .collect(),
        }
    }

    fn member(&self, (key, work): (&Key, &Work)) -> MemberMetrics {
        let ((role, name), counts, times) = (key, &work.counts, &work.times);
        MemberMetrics {
            role: *role,
            name: name.clone(),
            failed_connections: counts.failed,
            transports: counts.transports(),
            stages: counts.stages.clone(),
            request_latency: times.requests.latency(),
            ping_latency: times.pings.latency(),
            handler_time: times.handlers.latency(),
            errors: counts.errors(),
            messages_dropped: counts.dropped,
            messages_lost: counts.lost,
            messages_rate_limited: counts.rate_limited,
            sessions_throttled: counts.throttled,
            sessions_shed: counts.shed,
            sessions_suspended: counts.suspended,
            sessions_resumed: counts.resumed,
            sessions_expired: counts.expired,
            messages_unacknowledged: counts.unacknowledged,
            memory: self.member_memory.get(key).copied().unwrap_or_default(),
        }
    }
}

impl Registry {
    /// Adds what one has done that is gone.
    fn keep(&mut self, mut key: Key, work: &Work) {
        if self.gone.len() >= NAMES_MAX && !self.gone.contains_key(&key) {
            key.1 = OTHER.to_owned();
        }
        self.gone.entry(key).or_default().add(work);
    }

    /// The budgets of those that are chosen, each once.
    fn budget(&self, chosen: impl Fn(&Live) -> bool) -> BudgetSum {
        let chosen = self.live.iter().filter(|live| chosen(live));
        let mut known: Vec<&MemoryBudget> = Vec::new();
        for budget in chosen.filter_map(|live| live.recorder.budget()) {
            if !known.iter().any(|other| other.is(budget)) {
                known.push(budget);
            }
        }
        BudgetSum::of(known)
    }
}

/// What budgets of memory count and allow together.
#[derive(Clone, Copy, Debug, Default)]
struct BudgetSum {
    used: u64,
    limit: u64,
}

impl BudgetSum {
    fn of<'a>(budgets: impl IntoIterator<Item = &'a MemoryBudget>) -> Self {
        let mut sum = BudgetSum::default();
        for budget in budgets {
            sum.used += budget.used() as u64;
            sum.limit = sum.limit.saturating_add(budget.limit() as u64);
        }
        sum
    }
}

impl Live {
    fn key(&self) -> Key {
        (self.recorder.role(), self.recorder.name().to_owned())
    }

    /// What it has done since the last reset.
    fn work(&self) -> Work {
        Work::of(&self.recorder).since(&self.before)
    }
}

impl Default for PerformanceMonitor {
    fn default() -> Self {
        PerformanceMonitor::new()
    }
}

impl fmt::Debug for PerformanceMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerformanceMonitor").finish_non_exhaustive()
    }
}
