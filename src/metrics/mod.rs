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

mod counts;
mod interval;
mod latency;
mod monitor;
mod process;
mod prometheus;
mod rates;
mod recent;
mod recorded;
mod recorder;
mod report;
mod snapshot;

pub use self::interval::{IntervalLatency, LatencyIntervals};
pub use self::latency::Latency;
pub use self::monitor::PerformanceMonitor;
pub(crate) use self::recent::Note;
pub use self::recent::{Event, EventLevel, RecentEvents};
pub(crate) use self::recorder::{Recorder, WorkerRecorder};
pub use self::snapshot::{
    ErrorCounts, MemberMetrics, MemoryMetrics, PerformanceMetrics, Role, TransportMetrics,
};

#[cfg(test)]
mod tests;
