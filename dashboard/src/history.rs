//! Samples of the last 15 minutes.

use std::collections::VecDeque;
use std::sync::Weak;
use std::time::Duration;

use network_system::metrics::{Latency, LatencyIntervals, PerformanceMetrics, PerformanceMonitor};
use serde::{Serialize, Serializer};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::api::now_millis;
use crate::dashboard::Inner;

/// Samples that are kept: 15 minutes.
pub(crate) const KEPT: usize = 900;

/// Between two samples.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// The latest samples, and what the next one is compared with.
pub(crate) struct History {
    intervals: LatencyIntervals,
    before: Counts,
    taken_at: Instant,
    samples: VecDeque<Sample>,
    /// The number of the next sample.
    next: u64,
}

macro_rules! columns {
    ($($(#[$doc:meta])* $name:ident: $kind:ty,)*) => {
        /// What was at one moment, and what happened in the second before.
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct Sample {
            $($(#[$doc])* $name: $kind,)*
        }

        /// Samples as a plot takes them: one list for each kind of value.
        #[derive(Debug, Default, Serialize)]
        pub(crate) struct Columns {
            $($name: Vec<$kind>,)*
        }

        impl Columns {
            fn push(&mut self, sample: &Sample) {
                $(self.$name.push(sample.$name);)*
            }
        }
    };
}

columns! {
    at: u64,
    messages_received: Rate,
    messages_sent: Rate,
    bytes_received: Rate,
    bytes_sent: Rate,
    connections: u64,
    opened: Rate,
    closed: Rate,
    errors: Rate,
    dropped: Rate,
    lost: Rate,
    rate_limited: Rate,
    throttled: Rate,
    shed: Rate,
    suspended: u64,
    resumed: Rate,
    expired: Rate,
    unacknowledged: Rate,
    queued_bytes: u64,
    buffer_bytes: u64,
    resident_bytes: Option<u64>,
    handler_p50_us: Option<f64>,
    handler_p95_us: Option<f64>,
    handler_p99_us: Option<f64>,
    handler_max_us: Option<f64>,
    ping_p50_us: Option<f64>,
    ping_p99_us: Option<f64>,
    request_p50_us: Option<f64>,
    request_p99_us: Option<f64>,
}

/// Something a second. As text it has one decimal at most: more would make long answers of no use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate(f64);

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rounded = (self.0 * 10.0).round() / 10.0;
        match rounded.fract() == 0.0 {
            true => serializer.serialize_u64(rounded as u64),
            false => serializer.serialize_f64(rounded),
        }
    }
}

/// Counters of which the change is shown.
#[derive(Clone, Copy, Debug)]
struct Counts {
    messages_received: u64,
    messages_sent: u64,
    bytes_received: u64,
    bytes_sent: u64,
    opened: u64,
    closed: u64,
    errors: u64,
    dropped: u64,
    lost: u64,
    rate_limited: u64,
    throttled: u64,
    shed: u64,
    resumed: u64,
    expired: u64,
    unacknowledged: u64,
}

impl Counts {
    fn of(metrics: &PerformanceMetrics) -> Self {
        Counts {
            messages_received: metrics.messages_received,
            messages_sent: metrics.messages_sent,
            bytes_received: metrics.bytes_received,
            bytes_sent: metrics.bytes_sent,
            opened: metrics.total_connections,
            closed: metrics
                .total_connections
                .saturating_sub(metrics.active_connections),
            errors: metrics.errors.by_code.values().sum(),
            dropped: metrics.messages_dropped,
            lost: metrics.messages_lost,
            rate_limited: metrics.messages_rate_limited,
            throttled: metrics.sessions_throttled,
            shed: metrics.sessions_shed,
            resumed: metrics.sessions_resumed,
            expired: metrics.sessions_expired,
            unacknowledged: metrics.messages_unacknowledged,
        }
    }
}

/// An answer to whoever wants samples.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    first: u64,
    next: u64,
    interval_seconds: f64,
    columns: Columns,
}

impl History {
    pub(crate) fn new(monitor: &PerformanceMonitor) -> Self {
        History {
            intervals: monitor.intervals(),
            before: Counts::of(&monitor.metrics()),
            taken_at: Instant::now(),
            samples: VecDeque::with_capacity(KEPT),
            next: 0,
        }
    }

    /// Takes a sample.
    pub(crate) fn take(&mut self, metrics: &PerformanceMetrics) {
        let now = Instant::now();
        let elapsed = now.duration_since(self.taken_at).as_secs_f64().max(0.001);
        let counts = Counts::of(metrics);
        let before = self.before;
        let rate = |now: u64, before: u64| {
            // A monitor that was reset begins at zero again.
            Rate(now.checked_sub(before).unwrap_or(now) as f64 / elapsed)
        };
        let times = self.intervals.take();
        let (handler, ping) = (&times.handler_time, &times.ping_latency);
        let request = &times.request_latency;
        let sample = Sample {
            at: now_millis(),
            messages_received: rate(counts.messages_received, before.messages_received),
            messages_sent: rate(counts.messages_sent, before.messages_sent),
            bytes_received: rate(counts.bytes_received, before.bytes_received),
            bytes_sent: rate(counts.bytes_sent, before.bytes_sent),
            connections: metrics.active_connections,
            opened: rate(counts.opened, before.opened),
            closed: rate(counts.closed, before.closed),
            errors: rate(counts.errors, before.errors),
            dropped: rate(counts.dropped, before.dropped),
            lost: rate(counts.lost, before.lost),
            rate_limited: rate(counts.rate_limited, before.rate_limited),
            throttled: rate(counts.throttled, before.throttled),
            shed: rate(counts.shed, before.shed),
            suspended: metrics.sessions_suspended,
            resumed: rate(counts.resumed, before.resumed),
            expired: rate(counts.expired, before.expired),
            unacknowledged: rate(counts.unacknowledged, before.unacknowledged),
            queued_bytes: metrics.memory.queued_bytes,
            buffer_bytes: metrics.memory.session_buffer_bytes,
            resident_bytes: metrics.memory.resident_bytes,
            handler_p50_us: micros(handler, handler.p50),
            handler_p95_us: micros(handler, handler.p95),
            handler_p99_us: micros(handler, handler.p99),
            handler_max_us: micros(handler, handler.max),
            ping_p50_us: micros(ping, ping.p50),
            ping_p99_us: micros(ping, ping.p99),
            request_p50_us: micros(request, request.p50),
            request_p99_us: micros(request, request.p99),
        };
        if self.samples.len() == KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        self.next += 1;
        self.before = counts;
        self.taken_at = now;
    }

    /// The samples from number `since` on that are kept. Who asks for one that is not yet there has asked another
    /// process before, and gets all.
    pub(crate) fn since(&self, since: u64) -> Answer {
        let oldest = self.next - self.samples.len() as u64;
        let first = match since > self.next {
            true => oldest,
            false => since.max(oldest),
        };
        let mut columns = Columns::default();
        for sample in self.samples.range((first - oldest) as usize..) {
            columns.push(sample);
        }
        Answer {
            first,
            next: self.next,
            interval_seconds: INTERVAL.as_secs_f64(),
            columns,
        }
    }
}

/// A time in microseconds to a tenth; nothing when nothing was timed.
fn micros(latency: &Latency, time: Duration) -> Option<f64> {
    (latency.count > 0).then(|| (time.as_nanos() as f64 / 100.0).round() / 10.0)
}

/// Takes samples for as long as there is somebody to take them for.
pub(crate) async fn sample(inner: Weak<Inner>) {
    let mut ticks = interval(INTERVAL);
    // A process that was stopped for a while needs no samples of that time.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let metrics = inner.monitor.metrics();
        inner.history().take(&metrics);
    }
}
