//! Memory in queues and buffers: counted where it is taken and given back.
//!
//! ```text
//! outboxes, a client's queues ──┐
//!                               ├─▶ MemberMemory (one for each name of a monitor) ──▶ Gauges of the monitor
//! buffers of sessions ──────────┘
//! buffers of worker threads ──────▶ POOLS (one for the process)
//! ```
//!
//! Without a monitor only the sessions themselves know what they hold. With one, a change of a queue costs three
//! additions to atomics and the turn of a session that holds the same as before costs none.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use serde::Serialize;

use super::monitor::{Key, PerformanceMonitor};
use super::snapshot::MemoryMetrics;
use super::{allocator, process};
use crate::limits::{BudgetAccount, MemoryBudget};
use crate::message::Message;
use crate::session::shared::lock;
use crate::worker::IDLE_SESSION_BYTES;

/// What the buffers of all worker threads of the process take. They belong to threads, not to servers: a thread
/// may run workers of several, and a worker may move to another thread.
static POOLS: MemoryGauge = MemoryGauge::new();

/// Bytes, and in how many buffers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) bytes: usize,
    pub(crate) buffers: usize,
}

/// How many names are kept before those are forgotten that are gone.
const NAMES_MAX: usize = 64;

/// Bits of a [packed](Held::pack) value for the number of buffers.
const BUFFER_BITS: u32 = 16;

impl Held {
    /// Adds a buffer, unless it takes nothing.
    #[inline]
    pub(crate) fn add(&mut self, bytes: usize) {
        if bytes > 0 {
            self.add_many(bytes, 1);
        }
    }

    #[inline]
    pub(crate) fn add_many(&mut self, bytes: usize, buffers: usize) {
        self.bytes += bytes;
        self.buffers += buffers;
    }

    /// Both as one number: up to 256 TiB in 65,535 buffers.
    #[inline]
    pub(crate) fn pack(self) -> u64 {
        let most = (1 << BUFFER_BITS) - 1;
        let bytes = (self.bytes as u64).min(u64::MAX >> BUFFER_BITS);
        (bytes << BUFFER_BITS) | (self.buffers as u64).min(most)
    }

    #[inline]
    pub(crate) fn unpack(packed: u64) -> Self {
        Held {
            bytes: (packed >> BUFFER_BITS) as usize,
            buffers: (packed & ((1 << BUFFER_BITS) - 1)) as usize,
        }
    }

    /// From `before` to this: bytes and buffers.
    fn since(self, before: Held) -> (i64, i64) {
        (
            self.bytes as i64 - before.bytes as i64,
            self.buffers as i64 - before.buffers as i64,
        )
    }
}

/// Bytes of memory, and in how many buffers, now and at most. On a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct MemoryGauge {
    bytes: AtomicU64,
    peak: AtomicU64,
    buffers: AtomicU64,
}

impl MemoryGauge {
    const fn new() -> Self {
        MemoryGauge {
            bytes: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            buffers: AtomicU64::new(0),
        }
    }

    /// Notes a change. The peak is exact: every sum that there ever was is seen by who brought it about.
    fn change(&self, (bytes, buffers): (i64, i64)) {
        if bytes != 0 {
            let before = self.bytes.fetch_add(bytes as u64, Relaxed);
            let now = before.wrapping_add(bytes as u64);
            if bytes > 0 && now > self.peak.load(Relaxed) {
                self.peak.fetch_max(now, Relaxed);
            }
        }
        if buffers != 0 {
            self.buffers.fetch_add(buffers as u64, Relaxed);
        }
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// At least `now`, which whoever has brought it about may not have entered yet.
    fn peak(&self, now: u64) -> u64 {
        self.peak.load(Relaxed).max(now)
    }

    fn buffers(&self) -> u64 {
        self.buffers.load(Relaxed)
    }

    /// The peak is what there is now.
    fn reset_peak(&self) {
        self.peak.store(self.bytes(), Relaxed);
    }
}

/// What one server or client holds, or all of a monitor.
#[derive(Debug, Default)]
struct Gauges {
    queues: MemoryGauge,
    sessions: MemoryGauge,
    /// Both together, for their common peak.
    total: MemoryGauge,
}

impl Gauges {
    fn reset_peaks(&self) {
        self.queues.reset_peak();
        self.sessions.reset_peak();
        self.total.reset_peak();
    }

    fn metrics(&self, sessions: u64) -> MemoryMetrics {
        let (queued, buffered) = (self.queues.bytes(), self.sessions.bytes());
        let bytes_per_session = match (queued + buffered).checked_div(sessions) {
            Some(bytes) => bytes + IDLE_SESSION_BYTES as u64,
            None => 0,
        };
        MemoryMetrics {
            queued_bytes: queued,
            queued_bytes_peak: self.queues.peak(queued),
            session_buffer_bytes: buffered,
            session_buffer_bytes_peak: self.sessions.peak(buffered),
            active_buffers: self.queues.buffers() + self.sessions.buffers(),
            active_sessions: sessions,
            bytes_per_session,
            ..MemoryMetrics::default()
        }
    }
}

/// Where the servers or clients of one name note what they hold. Those that have gone have given everything
/// back, and their peaks stay.
#[derive(Debug)]
pub(crate) struct MemberMemory {
    own: Gauges,
    /// Of all members of the monitor.
    whole: Arc<Gauges>,
    /// The same member at the monitor that watches all that this one does.
    above: Option<Arc<MemberMemory>>,
}

impl MemberMemory {
    /// A queue has changed.
    pub(crate) fn queue_changed(&self, before: Held, now: Held) {
        let change = now.since(before);
        if change == (0, 0) {
            return;
        }
        let mut member = Some(self);
        while let Some(at) = member {
            at.own.queues.change(change);
            at.whole.queues.change(change);
            at.whole.total.change((change.0, 0));
            member = at.above.as_deref();
        }
    }

    /// What a session holds in buffers has changed.
    pub(crate) fn session_changed(&self, before: Held, now: Held) {
        let change = now.since(before);
        let mut member = Some(self);
        while let Some(at) = member {
            at.own.sessions.change(change);
            at.whole.sessions.change(change);
            at.whole.total.change((change.0, 0));
            member = at.above.as_deref();
        }
    }
}

/// What the members of a monitor hold.
#[derive(Debug, Default)]
pub(crate) struct MonitorMemory {
    whole: Arc<Gauges>,
    /// As many as there are names, and some of those that are gone.
    members: Mutex<BTreeMap<Key, Arc<MemberMemory>>>,
}

impl MonitorMemory {
    /// Where the members of this name note what they hold, and where those of the monitor above do.
    pub(super) fn attach(&self, key: Key, above: Option<Arc<MemberMemory>>) -> Arc<MemberMemory> {
        let mut members = lock(&self.members);
        if members.len() >= NAMES_MAX && !members.contains_key(&key) {
            // The peaks of those that are gone have been there long enough.
            members.retain(|_, member| Arc::strong_count(member) > 1);
        }
        let member = members.entry(key).or_insert_with(|| {
            Arc::new(MemberMemory {
                own: Gauges::default(),
                whole: Arc::clone(&self.whole),
                above,
            })
        });
        Arc::clone(member)
    }

    /// What the members of this name hold, with so many open sessions. What is about the process is left out.
    pub(super) fn of_member(&self, key: &Key, sessions: u64) -> MemoryMetrics {
        let members = lock(&self.members);
        let member = members.get(key);
        member.map_or_else(MemoryMetrics::default, |member| {
            member.own.metrics(sessions)
        })
    }

    /// What all hold, with so many open sessions, and what the process does.
    pub(super) fn metrics(&self, sessions: u64) -> MemoryMetrics {
        let pools = POOLS.bytes();
        let allocated = allocator::allocated();
        let mut metrics = self.whole.metrics(sessions);
        metrics.buffer_pool_bytes = pools;
        metrics.buffer_pool_bytes_peak = POOLS.peak(pools);
        metrics.active_buffers += POOLS.buffers();
        metrics.allocated_bytes = allocated.map(|allocated| allocated.bytes);
        metrics.allocated_bytes_peak = allocated.map(|allocated| allocated.peak);
        metrics.allocations = allocated.map(|allocated| allocated.allocations);
        metrics.resident_bytes = process::resident();
        metrics
    }

    /// Peaks are what there is now. Those of the process stay, which is not the monitor's alone.
    pub(super) fn reset_peaks(&self) {
        self.whole.reset_peaks();
        for member in lock(&self.members).values() {
            member.own.reset_peaks();
        }
    }
}

/// What one queue outside of sessions holds, as it was last noted. Gives it back when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct QueueAccount {
    memory: Option<Arc<MemberMemory>>,
    budget: Option<BudgetAccount>,
    noted: Held,
}

impl QueueAccount {
    pub(crate) fn new(memory: Option<Arc<MemberMemory>>, budget: &MemoryBudget) -> Self {
        QueueAccount {
            memory,
            budget: Some(BudgetAccount::new(budget)),
            noted: Held::default(),
        }
    }

    /// The queue has so many messages, of so many bytes.
    pub(crate) fn note(&mut self, messages: usize, bytes: usize) {
        if let Some(budget) = &mut self.budget {
            budget.note(bytes + messages * size_of::<Message>());
        }
        if let Some(memory) = &self.memory {
            let now = queue(messages, bytes);
            memory.queue_changed(self.noted, now);
            self.noted = now;
        }
    }
}

impl Drop for QueueAccount {
    fn drop(&mut self) {
        self.note(0, 0);
    }
}

/// A queue counts as one buffer while anything is in it.
#[inline]
pub(crate) fn queue(messages: usize, bytes: usize) -> Held {
    Held {
        bytes,
        buffers: usize::from(messages > 0),
    }
}

/// What the buffers of one thread take, as it was last noted. Gives it back when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct PoolAccount {
    noted: Held,
}

impl PoolAccount {
    /// The bytes that were noted last.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.noted.bytes
    }

    #[cold]
    pub(crate) fn note(&mut self, now: Held) {
        POOLS.change(now.since(self.noted));
        self.noted = now;
    }
}

impl Drop for PoolAccount {
    fn drop(&mut self) {
        self.note(Held::default());
    }
}

/// The memory side of a [`PerformanceMonitor`]: a few figures that say it all. What they consist of is in
/// [`PerformanceMonitor::memory`].
///
/// ```
/// use network_system::metrics::{MemoryProfiler, PerformanceMonitor};
///
/// let monitor = PerformanceMonitor::new();
/// let profiler = MemoryProfiler::new(&monitor);
/// let statistics = profiler.statistics();
/// assert!(statistics.peak_bytes >= statistics.total_bytes);
/// ```
#[derive(Clone, Debug)]
pub struct MemoryProfiler {
    monitor: PerformanceMonitor,
}

/// What a [`MemoryProfiler`] says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MemoryStatistics {
    /// Bytes in the queues and buffers of all sessions.
    pub total_bytes: u64,
    /// The most that there were at a time.
    pub peak_bytes: u64,
    /// How many queues and buffers hold something, those of worker threads included.
    pub active_buffers: u64,
    /// Bytes that a session takes on average: [`MemoryMetrics::bytes_per_session`].
    pub bytes_per_session: u64,
    /// Bytes that the process has allocated: [`MemoryMetrics::allocated_bytes`].
    pub allocated_bytes: Option<u64>,
    /// The most that it had at a time.
    pub allocated_bytes_peak: Option<u64>,
}

impl MemoryProfiler {
    /// A profiler of what is attached to `monitor`.
    pub fn new(monitor: &PerformanceMonitor) -> Self {
        MemoryProfiler {
            monitor: monitor.clone(),
        }
    }

    /// What there is at this moment.
    pub fn statistics(&self) -> MemoryStatistics {
        let metrics = self.monitor.memory();
        let total_bytes = metrics.queued_bytes + metrics.session_buffer_bytes;
        MemoryStatistics {
            total_bytes,
            peak_bytes: self.monitor.noted_memory().whole.total.peak(total_bytes),
            active_buffers: metrics.active_buffers,
            bytes_per_session: metrics.bytes_per_session,
            allocated_bytes: metrics.allocated_bytes,
            allocated_bytes_peak: metrics.allocated_bytes_peak,
        }
    }

    /// Peaks of queues and buffers begin with what there is now.
    pub fn reset_peaks(&self) {
        self.monitor.noted_memory().reset_peaks();
    }
}

#[cfg(test)]
mod tests;
