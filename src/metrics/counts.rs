//! What was counted, in plain numbers.

use std::sync::atomic::Ordering::Relaxed;

use tokio::time::Instant;

use super::latency::AllTimes;
use super::recorder::Recorder;
use super::snapshot::{ErrorCounts, TransportMetrics};
use crate::error::ErrorCode;
use crate::pipeline::{DirectionStats, StageStats};
use crate::session::Transport;

/// What went over one kind of transport.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TransportCounts {
    pub(super) opened: u64,
    pub(super) active: u64,
    pub(super) messages_sent: u64,
    pub(super) messages_received: u64,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
}

impl TransportCounts {
    pub(super) fn add(&mut self, other: &TransportCounts) {
        self.opened += other.opened;
        self.active += other.active;
        self.messages_sent += other.messages_sent;
        self.messages_received += other.messages_received;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
    }

    fn since(&mut self, before: &TransportCounts) {
        let less = |now: &mut u64, then: u64| *now = now.saturating_sub(then);
        less(&mut self.opened, before.opened);
        less(&mut self.messages_sent, before.messages_sent);
        less(&mut self.messages_received, before.messages_received);
        less(&mut self.bytes_sent, before.bytes_sent);
        less(&mut self.bytes_received, before.bytes_received);
    }
}

/// How many errors there were of each code, in the order of [`ErrorCode::ALL`].
#[derive(Clone, Debug)]
struct ByCode([u64; ErrorCode::ALL.len()]);

impl Default for ByCode {
    fn default() -> Self {
        ByCode([0; ErrorCode::ALL.len()])
    }
}

/// What one or several servers or clients have counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    transports: [TransportCounts; Transport::ALL.len()],
    /// Refused connections and failed attempts.
    pub(super) failed: u64,
    pub(super) dropped: u64,
    pub(super) lost: u64,
    pub(super) rate_limited: u64,
    pub(super) shed: u64,
    /// How often a session had to wait because of a rate.
    pub(super) throttled: u64,
    /// Reliable sessions that have no link at the moment.
    pub(super) suspended: u64,
    pub(super) resumed: u64,
    pub(super) expired: u64,
    pub(super) unacknowledged: u64,
    errors: ByCode,
    pub(super) stages: Vec<StageStats>,
    /// When a message was last sent or received.
    pub(super) last: Option<Instant>,
}

impl Counts {
    pub(super) fn of(recorder: &Recorder) -> Self {
        let totals = &recorder.totals;
        let mut counts = Counts {
            failed: totals.refused.load(Relaxed) + totals.failed_attempts.load(Relaxed),
            dropped: totals.dropped.load(Relaxed),
            lost: totals.lost.load(Relaxed),
            rate_limited: totals.rate_limited.load(Relaxed),
            shed: totals.shed.load(Relaxed),
            throttled: totals.throttled.load(Relaxed),
            suspended: totals.suspended.load(Relaxed),
            resumed: totals.resumed.load(Relaxed),
            expired: totals.expired.load(Relaxed),
            unacknowledged: totals.unacknowledged.load(Relaxed),
            stages: recorder.stages(),
            ..Counts::default()
        };
        for (count, &code) in counts.errors.0.iter_mut().zip(ErrorCode::ALL) {
            *count = totals.errors_of(code);
        }
        let workers = recorder.workers();
        let mut last = 0;
        for &transport in Transport::ALL {
            let counts = &mut counts.transports[transport as usize];
            counts.active = totals.open(transport);
            counts.opened = totals.opened(transport);
            for worker in &workers {
                let traffic = worker.traffic(transport);
                counts.messages_sent += traffic.messages_sent.load(Relaxed);
                counts.messages_received += traffic.messages_received.load(Relaxed);
                counts.bytes_sent += traffic.bytes_sent.load(Relaxed);
                counts.bytes_received += traffic.bytes_received.load(Relaxed);
                last = last.max(traffic.last_activity.load(Relaxed));
            }
        }
        counts.last = recorder.instant(last);
        counts
    }

    pub(super) fn add(&mut self, other: &Counts) {
        for (sum, other) in self.transports.iter_mut().zip(&other.transports) {
            sum.add(other);
        }
        for (sum, other) in self.errors.0.iter_mut().zip(&other.errors.0) {
            *sum += other;
        }
        self.failed += other.failed;
        self.dropped += other.dropped;
        self.lost += other.lost;
        self.rate_limited += other.rate_limited;
        self.shed += other.shed;
        self.throttled += other.throttled;
        self.suspended += other.suspended;
        self.resumed += other.resumed;
        self.expired += other.expired;
        self.unacknowledged += other.unacknowledged;
        self.last = self.last.max(other.last);
        for stage in &other.stages {
            match self
                .stages
                .iter_mut()
                .find(|known| known.name == stage.name)
            {
                Some(known) => {
                    add_direction(&mut known.sent, stage.sent);
                    add_direction(&mut known.received, stage.received);
                    known.failures += stage.failures;
                }
                None => self.stages.push(stage.clone()),
            }
        }
    }

    /// What was counted after `before`. Connections that are open, and sessions that are suspended, are.
    pub(super) fn since(mut self, before: &Counts) -> Self {
        for (count, before) in self.transports.iter_mut().zip(&before.transports) {
            count.since(before);
        }
        for (count, before) in self.errors.0.iter_mut().zip(&before.errors.0) {
            *count = count.saturating_sub(*before);
        }
        self.failed = self.failed.saturating_sub(before.failed);
        self.dropped = self.dropped.saturating_sub(before.dropped);
        self.lost = self.lost.saturating_sub(before.lost);
        self.rate_limited = self.rate_limited.saturating_sub(before.rate_limited);
        self.shed = self.shed.saturating_sub(before.shed);
        self.throttled = self.throttled.saturating_sub(before.throttled);
        self.resumed = self.resumed.saturating_sub(before.resumed);
        self.expired = self.expired.saturating_sub(before.expired);
        self.unacknowledged = self.unacknowledged.saturating_sub(before.unacknowledged);
        self.last = self.last.filter(|_| self.last > before.last);
        for stage in &mut self.stages {
            let known = before.stages.iter().find(|known| known.name == stage.name);
            if let Some(before) = known {
                since_direction(&mut stage.sent, before.sent);
                since_direction(&mut stage.received, before.received);
                stage.failures = stage.failures.saturating_sub(before.failures);
            }
        }
        self
    }

    /// What went over all transports.
    pub(super) fn sum(&self) -> TransportCounts {
        let mut sum = TransportCounts::default();
        for counts in &self.transports {
            sum.add(counts);
        }
        sum
    }

    /// By transport, those that carried nothing left out.
    pub(super) fn transports(&self) -> Vec<TransportMetrics> {
        let transports = Transport::ALL.iter().map(|&transport| {
            let counts = &self.transports[transport as usize];
            TransportMetrics {
                transport: transport.scheme(),
                total_connections: counts.opened,
                active_connections: counts.active,
                messages_sent: counts.messages_sent,
                messages_received: counts.messages_received,
                bytes_sent: counts.bytes_sent,
                bytes_received: counts.bytes_received,
            }
        });
        transports.filter(TransportMetrics::is_used).collect()
    }

    pub(super) fn errors(&self) -> ErrorCounts {
        let mut errors = ErrorCounts::default();
        for (&count, &code) in self.errors.0.iter().zip(ErrorCode::ALL) {
            errors.count(code, count);
        }
        errors
    }
}

fn add_direction(sum: &mut DirectionStats, other: DirectionStats) {
    sum.messages += other.messages;
    sum.message_bytes += other.message_bytes;
    sum.encoded_bytes += other.encoded_bytes;
}

fn since_direction(now: &mut DirectionStats, before: DirectionStats) {
    now.messages = now.messages.saturating_sub(before.messages);
    now.message_bytes = now.message_bytes.saturating_sub(before.message_bytes);
    now.encoded_bytes = now.encoded_bytes.saturating_sub(before.encoded_bytes);
}

/// What one or several servers or clients have counted and timed.
#[derive(Clone, Debug, Default)]
pub(super) struct Work {
    pub(super) counts: Counts,
    pub(super) times: AllTimes,
}

impl Work {
    pub(super) fn of(recorder: &Recorder) -> Self {
        Work {
            counts: Counts::of(recorder),
            times: recorder.times(),
        }
    }

    /// What was done after `before`, which is an earlier state of the same.
    pub(super) fn since(self, before: &Work) -> Self {
        Work {
            counts: self.counts.since(&before.counts),
            times: self.times.since(&before.times),
        }
    }

    /// What stays of it when there are no connections any more.
    pub(super) fn past(mut self) -> Self {
        for transport in &mut self.counts.transports {
            transport.active = 0;
        }
        self.counts.suspended = 0;
        self
    }

    pub(super) fn add(&mut self, other: &Work) {
        self.counts.add(&other.counts);
        self.times.add(&other.times);
    }
}
