//! The classic memory profiler.

use std::sync::OnceLock;

use super::utils::performance_monitor;
use crate::metrics::MemoryProfiler;

/// Says what memory the servers and clients of the process hold: those of this module, and native ones that are
/// attached to [`performance_monitor::native`].
///
/// ```
/// use network_system::compat::get_memory_profiler;
///
/// let profiler = get_memory_profiler();
/// let stats = profiler.get_statistics();
/// println!("Peak memory: {} MB", stats.peak_bytes / 1024 / 1024);
/// println!("Active buffers: {}", stats.active_buffers);
/// ```
#[derive(Debug)]
pub struct memory_profiler {
    native: MemoryProfiler,
}

/// What a [`memory_profiler`] says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct memory_statistics {
    /// Bytes that the process has allocated, if its allocator counts
    /// ([`allocated_bytes`](crate::metrics::MemoryStatistics::allocated_bytes)); otherwise bytes in queues and buffers of
    /// sessions.
    pub total_bytes: u64,
    /// The most that there were of them at a time.
    pub peak_bytes: u64,
    /// How many queues and buffers hold something.
    pub active_buffers: u64,
    /// Bytes that a session takes on average, with its structures.
    pub memory_per_session: u64,
}

/// The profiler of the process. `get_memory_profiler().get_statistics()` is what C++ writes with `->`.
pub fn get_memory_profiler() -> &'static memory_profiler {
    static INSTANCE: OnceLock<memory_profiler> = OnceLock::new();
    INSTANCE.get_or_init(|| memory_profiler {
        native: MemoryProfiler::new(performance_monitor::instance().native()),
    })
}

impl memory_profiler {
    /// What there is at this moment.
    pub fn get_statistics(&self) -> memory_statistics {
        let now = self.native.statistics();
        let (total_bytes, peak_bytes) = match (now.allocated_bytes, now.allocated_bytes_peak) {
            (Some(bytes), Some(peak)) => (bytes, peak),
            _ => (now.total_bytes, now.peak_bytes),
        };
        memory_statistics {
            total_bytes,
            peak_bytes,
            active_buffers: now.active_buffers,
            memory_per_session: now.bytes_per_session,
        }
    }
}
