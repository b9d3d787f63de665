//! What stages have done.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// What one stage has done on all links.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StageStats {
    /// The stage's name.
    pub name: String,
    /// Messages that were sent.
    pub sent: DirectionStats,
    /// Messages that were received.
    pub received: DirectionStats,
    /// Messages that the stage refused, in both directions.
    pub failures: u64,
}

/// What one stage has done in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DirectionStats {
    /// Messages that went through the stage.
    pub messages: u64,
    /// Their bytes on the side of the session.
    pub message_bytes: u64,
    /// Their bytes on the side of the link.
    pub encoded_bytes: u64,
}

impl DirectionStats {
    /// How long a message is on the link, on average, for each byte that it has: below 1 where the stage
    /// saves something, 1 before the first message.
    pub fn ratio(&self) -> f64 {
        match self.message_bytes {
            0 => 1.0,
            bytes => self.encoded_bytes as f64 / bytes as f64,
        }
    }

    pub(crate) fn count(&mut self, message_bytes: usize, encoded_bytes: usize) {
        self.messages += 1;
        self.message_bytes += message_bytes as u64;
        self.encoded_bytes += encoded_bytes as u64;
    }
}

/// Counters of a stage, shared by all links, which add to them once for each batch.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    sent: Direction,
    received: Direction,
    failures: AtomicU64,
}

#[derive(Debug, Default)]
struct Direction {
    messages: AtomicU64,
    message_bytes: AtomicU64,
    encoded_bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn add_sent(&self, stats: DirectionStats) {
        self.sent.add(stats);
    }

    pub(crate) fn add_received(&self, stats: DirectionStats) {
        self.received.add(stats);
    }

    pub(crate) fn add_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, name: &str) -> StageStats {
        StageStats {
            name: name.to_owned(),
            sent: self.sent.read(),
            received: self.received.read(),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn reset(&self) {
        self.sent.reset();
        self.received.reset();
        self.failures.store(0, Ordering::Relaxed);
    }
}

impl Direction {
    fn add(&self, stats: DirectionStats) {
        if stats.messages > 0 {
            self.messages.fetch_add(stats.messages, Ordering::Relaxed);
            self.message_bytes
                .fetch_add(stats.message_bytes, Ordering::Relaxed);
            self.encoded_bytes
                .fetch_add(stats.encoded_bytes, Ordering::Relaxed);
        }
    }

    fn read(&self) -> DirectionStats {
        DirectionStats {
            messages: self.messages.load(Ordering::Relaxed),
            message_bytes: self.message_bytes.load(Ordering::Relaxed),
            encoded_bytes: self.encoded_bytes.load(Ordering::Relaxed),
        }
    }

    fn reset(&self) {
        self.messages.store(0, Ordering::Relaxed);
        self.message_bytes.store(0, Ordering::Relaxed);
        self.encoded_bytes.store(0, Ordering::Relaxed);
    }
}
