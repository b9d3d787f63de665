//! What a session counts.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::Session;

/// Counters of a session at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionStats {
    /// Messages, requests and answers handed to the link.
    pub messages_sent: u64,
    /// Messages, requests and answers received.
    pub messages_received: u64,
    /// Bytes of those messages, without framing.
    pub bytes_sent: u64,
    /// Bytes of those messages, without framing.
    pub bytes_received: u64,
    /// Errors: refused frames, failed handlers, failed requests of the peer.
    pub errors: u64,
    /// Messages dropped by the queue policy.
    pub dropped: u64,
    /// Messages that were not let in because of a [`Rate`](crate::Rate).
    pub rate_limited: u64,
    /// Messages that wait in the outbox.
    pub queued_messages: usize,
    /// Bytes that wait in the outbox.
    pub queued_bytes: usize,
    /// Bytes of memory that the session held in buffers when it last had something to do: an unfinished frame,
    /// messages that wait for a handler or are being handled, encoded frames that the link has not taken, and what
    /// the link has taken and not passed on. 0 while it is idle. What each session has all the time (its
    /// structures, the state of TLS, windows of compressors that are carried over) does not count, nor do
    /// PINGs and PONGs.
    pub buffered_bytes: usize,
    /// Messages, requests and answers of a reliable session that were sent and are not acknowledged.
    pub unacknowledged_messages: u64,
    /// Their bytes, heads included. At most the window, or one message.
    pub unacknowledged_bytes: u64,
    /// How often a reliable session went on with another connection.
    pub resumes: u32,
    /// The round trip of the last PING; `None` before the first.
    pub round_trip: Option<Duration>,
    /// When the last message was sent or received.
    pub last_message: Option<Instant>,
}

impl Session {
    /// Counters at this moment.
    pub fn stats(&self) -> SessionStats {
        let counters = &self.shared.counters;
        let (queued_messages, queued_bytes) = self.shared.queued();
        let round_trip = counters.round_trip.load(Ordering::Relaxed);
        let last_message = counters.last_message.load(Ordering::Relaxed);
        let resumption = self.shared.resumption();
        let (unacknowledged_messages, unacknowledged_bytes) = resumption
            .map(|resumption| resumption.unacknowledged())
            .unwrap_or_default();
        SessionStats {
            unacknowledged_messages,
            unacknowledged_bytes,
            resumes: resumption.map_or(0, |resumption| resumption.resumes()),
            messages_sent: counters.messages_sent.load(Ordering::Relaxed),
            messages_received: counters.messages_received.load(Ordering::Relaxed),
            bytes_sent: counters.bytes_sent.load(Ordering::Relaxed),
            bytes_received: counters.bytes_received.load(Ordering::Relaxed),
            errors: counters.errors.load(Ordering::Relaxed).into(),
            dropped: counters.dropped.load(Ordering::Relaxed).into(),
            rate_limited: counters.rate_limited.load(Ordering::Relaxed).into(),
            queued_messages,
            queued_bytes,
            buffered_bytes: self.shared.buffered_bytes(),
            round_trip: (round_trip > 0).then(|| Duration::from_micros(round_trip.into())),
            last_message: (last_message > 0).then(|| self.shared.hub().clock.instant(last_message)),
        }
    }

    /// Sets the counters to zero. The server's own counters stay.
    pub fn reset_stats(&self) {
        let counters = &self.shared.counters;
        counters.messages_sent.store(0, Ordering::Relaxed);
        counters.messages_received.store(0, Ordering::Relaxed);
        counters.bytes_sent.store(0, Ordering::Relaxed);
        counters.bytes_received.store(0, Ordering::Relaxed);
        counters.errors.store(0, Ordering::Relaxed);
        counters.dropped.store(0, Ordering::Relaxed);
        counters.rate_limited.store(0, Ordering::Relaxed);
    }
}
