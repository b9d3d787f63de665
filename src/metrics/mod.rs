//! What servers and clients do, in numbers.
//!
//! ```text
//! drivers, workers ── count once a read or write ──▶ Recorder (one for each server or client)
//!                                                       │ attached by `monitor`
//! application ── record_… ──▶ PerformanceMonitor ◀──────┘
//!                                   └──▶ PerformanceMetrics: values, JSON, text, Prometheus
//! ```
//!
//! Messages and bytes are always counted, once for all messages of a read or write. A server or client that is
//! attached to a [`PerformanceMonitor`] also takes times: how long its handlers need, sampled once a read, and
//! how long PINGs and requests wait for their answer.

#[cfg_attr(not(feature = "counting-allocator"), path = "allocator_missing.rs")]
mod allocator;
mod counts;
mod interval;
mod latency;
mod memory;
mod monitor;
mod process;
mod prometheus;
mod rates;
mod recent;
mod recorded;
mod recorder;
mod report;
mod snapshot;

#[cfg(feature = "counting-allocator")]
pub use self::allocator::CountingAllocator;
pub use self::interval::{IntervalLatency, LatencyIntervals};
pub(crate) use self::latency::Distribution;
pub use self::latency::Latency;
pub(crate) use self::memory::{Held, MemberMemory, PoolAccount, QueueAccount, queue};
pub use self::memory::{MemoryProfiler, MemoryStatistics};
pub use self::monitor::PerformanceMonitor;
pub(crate) use self::recent::Note;
pub use self::recent::{Event, EventLevel, RecentEvents};
pub(crate) use self::recorder::{Recorder, WorkerRecorder};
pub use self::snapshot::{
    ErrorCounts, MemberMetrics, MemoryMetrics, PerformanceMetrics, Role, TransportMetrics,
};

#[cfg(test)]
mod tests;
