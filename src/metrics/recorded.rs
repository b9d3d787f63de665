//! What the application records by itself.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::time::Instant;

use super::counts::TransportCounts;
use super::latency::Times;
use crate::error::ErrorCode;
use crate::session::shared::lock;

/// How many names of errors are told apart.
const KINDS_MAX: usize = 64;

/// What all others count as.
const OTHER: &str = "other";

/// The longest name of an error, in bytes.
const KIND_LEN: usize = 128;

/// What the application has recorded.
#[derive(Debug)]
pub(super) struct Recorded {
    /// When the clock of `last` began.
    epoch: Instant,
    opened: AtomicU64,
    active: AtomicU64,
    failed: AtomicU64,
    messages_sent: AtomicU64,
    messages_received: AtomicU64,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    /// Milliseconds after `epoch`, and 1; 0 for never.
    last: AtomicU64,
    memory: AtomicU64,
    memory_peak: AtomicU64,
    pub(super) times: Times,
    errors: Mutex<BTreeMap<String, u64>>,
}

/// The same at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct RecordedCounts {
    pub(super) traffic: TransportCounts,
    pub(super) failed: u64,
    pub(super) last: Option<Instant>,
    pub(super) memory: u64,
    pub(super) memory_peak: u64,
    pub(super) errors: BTreeMap<String, u64>,
}

impl Recorded {
    pub(super) fn new() -> Self {
        Recorded {
            epoch: Instant::now(),
            opened: AtomicU64::new(0),
            active: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            messages_sent: AtomicU64::new(0),
            messages_received: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            last: AtomicU64::new(0),
            memory: AtomicU64::new(0),
            memory_peak: AtomicU64::new(0),
            times: Times::default(),
            errors: Mutex::default(),
        }
    }

    pub(super) fn connection(&self, success: bool) {
        match success {
            true => {
                self.opened.fetch_add(1, Relaxed);
                self.active.fetch_add(1, Relaxed);
            }
            false => {
                self.failed.fetch_add(1, Relaxed);
            }
        }
    }

    pub(super) fn disconnection(&self) {
        let one_less = |active: u64| active.checked_sub(1);
        // One that was never recorded as open changes nothing.
        let _ = self.active.fetch_update(Relaxed, Relaxed, one_less);
    }

    pub(super) fn sent(&self, bytes: u64) {
        self.messages_sent.fetch_add(1, Relaxed);
        self.bytes_sent.fetch_add(bytes, Relaxed);
        self.touch();
    }

    pub(super) fn received(&self, bytes: u64) {
        self.messages_received.fetch_add(1, Relaxed);
        self.bytes_received.fetch_add(bytes, Relaxed);
        self.touch();
    }

    fn touch(&self) {
        let millis = self.epoch.elapsed().as_millis() as u64 + 1;
        self.last.fetch_max(millis, Relaxed);
    }

    pub(super) fn error(&self, kind: &str) {
        let kind = clip(kind);
        let mut errors = lock(&self.errors);
        if let Some(count) = errors.get_mut(kind) {
            *count += 1;
            return;
        }
        // Codes are few, and always told apart.
        let is_code = ErrorCode::ALL.iter().any(|code| code.name() == kind);
        let kind = match is_code || errors.len() < KINDS_MAX {
            true => kind,
            false => OTHER,
        };
        *errors.entry(kind.to_owned()).or_default() += 1;
    }

    pub(super) fn memory(&self, bytes: u64) {
        self.memory.store(bytes, Relaxed);
        self.memory_peak.fetch_max(bytes, Relaxed);
    }

    pub(super) fn read(&self) -> RecordedCounts {
        let last = self.last.load(Relaxed).checked_sub(1);
        RecordedCounts {
            traffic: TransportCounts {
                opened: self.opened.load(Relaxed),
                active: self.active.load(Relaxed),
                messages_sent: self.messages_sent.load(Relaxed),
                messages_received: self.messages_received.load(Relaxed),
                bytes_sent: self.bytes_sent.load(Relaxed),
                bytes_received: self.bytes_received.load(Relaxed),
            },
            failed: self.failed.load(Relaxed),
            last: last.map(|millis| self.epoch + std::time::Duration::from_millis(millis)),
            memory: self.memory.load(Relaxed),
            memory_peak: self.memory_peak.load(Relaxed),
            errors: lock(&self.errors).clone(),
        }
    }

    /// Counts from zero again. What is open stays open.
    pub(super) fn reset(&self) {
        let counters = [
            &self.opened,
            &self.failed,
            &self.messages_sent,
            &self.messages_received,
            &self.bytes_sent,
            &self.bytes_received,
            &self.last,
        ];
        for counter in counters {
            counter.store(0, Relaxed);
        }
        self.memory_peak.store(self.memory.load(Relaxed), Relaxed);
        self.times.reset();
        lock(&self.errors).clear();
    }
}

/// The beginning of a name that is too long.
fn clip(kind: &str) -> &str {
    &kind[..kind.floor_char_boundary(KIND_LEN)]
}
