//! What benches of wall time and of instructions measure alike. Everything in a fixture runs on one thread and, unless
//! it says otherwise, over `mem://`, so that the same work is done each time.

pub(crate) mod crowd;
pub(crate) mod throughput;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use network_system::{Limits, Timeouts};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

/// A runtime with one thread, which is the caller's.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// A name on `mem://` that nobody else has.
pub(crate) fn mem_url() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("mem://bench-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// No limit that a bench could meet.
pub(crate) fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_connections = 0;
    limits.max_connections_per_ip = 0;
    limits.message_size = 4 * 1024 * 1024;
    limits
}

/// Nothing happens by the clock.
pub(crate) fn timeouts() -> Timeouts {
    let mut timeouts = Timeouts::default();
    timeouts.idle = Duration::ZERO;
    timeouts.heartbeat = Duration::ZERO;
    timeouts
}

/// Counts, and wakes who waits for a count.
#[derive(Default)]
pub(crate) struct Tally {
    count: AtomicU64,
    wanted: AtomicU64,
    reached: Notify,
}

impl Tally {
    pub(crate) fn add(&self) {
        let count = self.count.fetch_add(1, Ordering::AcqRel) + 1;
        if count == self.wanted.load(Ordering::Acquire) {
            self.reached.notify_one();
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Waits until it has counted to `count`. Only one may wait at a time.
    pub(crate) async fn reach(&self, count: u64) {
        self.wanted.store(count, Ordering::Release);
        while self.count() < count {
            self.reached.notified().await;
        }
    }
}
