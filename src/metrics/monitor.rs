//! The monitor that applications hold.

use std::fmt;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use super::latency::{Latency, empty};
use super::recent::{Note, RecentEvents, Ring};
use super::recorder::Recorder;
use super::snapshot::{MemberMetrics, PerformanceMetrics, TransportMetrics};
use crate::session::Transport;
use crate::session::shared::lock;

/// Watches servers and clients, and takes what the application records.
///
/// A handle: cheap to clone, all clones are the same monitor. Servers and clients are attached with
/// [`ServerBuilder::monitor`](crate::ServerBuilder::monitor) and
/// [`ClientBuilder::monitor`](crate::ClientBuilder::monitor); what they have counted stays when they are gone.
#[derive(Clone)]
pub struct PerformanceMonitor {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Mutex<Registry>,
    recent: Ring,
}

struct Registry {
    since: Instant,
    members: Vec<Arc<Recorder>>,
}

impl PerformanceMonitor {
    /// A monitor that watches nothing yet.
    pub fn new() -> Self {
        PerformanceMonitor {
            inner: Arc::new(Inner {
                registry: Mutex::new(Registry {
                    since: Instant::now(),
                    members: Vec::new(),
                }),
                recent: Ring::default(),
            }),
        }
    }

    /// A server or client begins to count.
    pub(crate) fn attach(&self, recorder: Arc<Recorder>) {
        lock(&self.inner.registry).members.push(recorder);
    }

    /// A server or client will count nothing more.
    pub(crate) fn retire(&self, recorder: &Recorder) {
        let mut registry = lock(&self.inner.registry);
        registry
            .members
            .retain(|known| !std::ptr::eq(&**known, recorder));
    }

    /// Something happened to a server or client.
    pub(super) fn note(&self, member: &str, note: Note<'_>) {
        self.inner.recent.push(member, note);
    }

    /// The latest events, from number `since` on: sessions that open and end, errors, refusals, drops. At most 512
    /// are kept, and of those at most 100 a second are taken.
    pub fn events(&self, since: u64) -> RecentEvents {
        self.inner.recent.since(since)
    }

    /// What all have done.
    pub fn metrics(&self) -> PerformanceMetrics {
        let registry = lock(&self.inner.registry);
        let mut metrics = PerformanceMetrics {
            uptime: registry.since.elapsed(),
            ..PerformanceMetrics::default()
        };
        let (mut requests, mut pings, mut handlers) = (empty(), empty(), empty());
        for recorder in &registry.members {
            recorder.add_times(&mut requests, &mut pings, &mut handlers);
            let member = member(recorder);
            for transport in &member.transports {
                metrics.total_connections += transport.total_connections;
                metrics.active_connections += transport.active_connections;
                metrics.messages_sent += transport.messages_sent;
                metrics.messages_received += transport.messages_received;
                metrics.bytes_sent += transport.bytes_sent;
                metrics.bytes_received += transport.bytes_received;
            }
            metrics.members.push(member);
        }
        metrics.request_latency = Latency::of(&requests);
        metrics.ping_latency = Latency::of(&pings);
        metrics.handler_time = Latency::of(&handlers);
        metrics
    }
}

fn member(recorder: &Recorder) -> MemberMetrics {
    let transports = Transport::ALL.iter().filter_map(|&transport| {
        let mut metrics = TransportMetrics {
            transport: transport.scheme(),
            total_connections: recorder.totals.opened(transport),
            active_connections: recorder.totals.open(transport),
            ..TransportMetrics::default()
        };
        for worker in recorder.workers() {
            use std::sync::atomic::Ordering::Relaxed;
            let traffic = worker.traffic(transport);
            metrics.messages_sent += traffic.messages_sent.load(Relaxed);
            metrics.messages_received += traffic.messages_received.load(Relaxed);
            metrics.bytes_sent += traffic.bytes_sent.load(Relaxed);
            metrics.bytes_received += traffic.bytes_received.load(Relaxed);
        }
        (metrics.total_connections > 0).then_some(metrics)
    });
    MemberMetrics {
        role: recorder.role(),
        name: recorder.name().to_owned(),
        transports: transports.collect(),
        ..MemberMetrics::default()
    }
}

impl Default for PerformanceMonitor {
    fn default() -> Self {
        PerformanceMonitor::new()
    }
}

impl fmt::Debug for PerformanceMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerformanceMonitor").finish_non_exhaustive()
    }
}
