//! Whatever happens to servers and clients at random, a monitor that looks on all the time sees sums that agree, and
//! in the end nothing is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use network_system::metrics::{PerformanceMetrics, PerformanceMonitor};
use network_system::{
    Client, CloseReason, Limits, Message, QueuePolicy, ReconnectPolicy, Server, Session, Timeouts,
};

use crate::support::{Frame, Over, Peer, eventually, kind, limits, timeouts, within};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// What the first byte of a message asks the handler of a server to do.
async fn obey(session: Session, message: Message) {
    match message.payload().first() {
        Some(0) => panic!("on purpose"),
        Some(1) => session.abort(),
        Some(2) => session.disconnect(CloseReason::new("as asked")),
        Some(3) => tokio::time::sleep(Duration::from_millis(3)).await,
        Some(4) => {
            for _ in 0..50 {
                let _ = session.try_send(vec![9; 2_000]);
            }
        }
        Some(5) => {
            let _ = session.request("?", Duration::from_millis(5)).await;
        }
        _ => {
            let _ = session.send(message).await;
        }
    }
}

fn small(random: &mut Random) -> (Limits, Timeouts) {
    let policies = [
        QueuePolicy::Wait,
        QueuePolicy::DropNewest,
        QueuePolicy::DropOldest,
        QueuePolicy::Disconnect,
    ];
    let policy = policies[random.below(4) as usize];
    let limits = limits(|limits| {
        limits.max_connections = 4;
        limits.outbox_bytes = 30_000;
        limits.when_full = policy;
    });
    let timeouts = timeouts(|timeouts| timeouts.drain = Duration::from_millis(20));
    (limits, timeouts)
}

fn server(over: Over, random: &mut Random, monitor: &PerformanceMonitor) -> Server {
    let (limits, timeouts) = small(random);
    let builder = over.server().workers(2).limits(limits).timeouts(timeouts);
    let seen = monitor.clone();
    builder
        .name(format!("{over:?}"))
        .monitor(monitor)
        .on_message(obey)
        .on_request(move |session, message: Message| {
            // A handler may look at its own server.
            let active = seen.metrics().active_connections;
            async move {
                assert!(active < 1_000);
                obey(session, message.clone()).await;
                Ok(message)
            }
        })
        .on_disconnect(|_, _| async { tokio::task::yield_now().await })
        .build()
        .unwrap()
}

async fn use_client(over: Over, url: String, seed: u64, monitor: PerformanceMonitor) {
    let mut random = Random(seed);
    let (limits, timeouts) = small(&mut random);
    let reconnect = ReconnectPolicy::default()
        .base(Duration::from_millis(1))
        .cap(Duration::from_millis(5));
    let client = over
        .client(&url)
        .name(format!("client {over:?}"))
        .limits(limits)
        .timeouts(timeouts)
        .reconnect(reconnect)
        .monitor(&monitor)
        .build()
        .unwrap();
    let mut messages = (random.below(2) == 0).then(|| client.messages().unwrap());
    let _ = tokio::time::timeout(Duration::from_millis(200), client.connect()).await;
    for _ in 0..random.below(60) {
        let mut payload = vec![6; 1 + random.below(1_100) as usize];
        if random.below(4) == 0 {
            payload[0] = random.below(6) as u8;
        }
        let brief = Duration::from_millis(random.below(8));
        match random.below(8) {
            0 => {
                let _ = tokio::time::timeout(brief, client.request(payload, brief)).await;
            }
            1 => {
                if let Some(messages) = &mut messages {
                    let _ = tokio::time::timeout(brief, messages.next()).await;
                }
            }
            2 => tokio::time::sleep(brief).await,
            3 => {
                let _ = tokio::time::timeout(brief, client.send(payload)).await;
            }
            _ => {
                let _ = client.try_send(payload);
            }
        }
    }
    finish(client, &mut random).await;
}

async fn finish(client: Client, random: &mut Random) {
    match random.below(3) {
        // Whoever drops the last handle ends it.
        0 => drop(client),
        1 => drop(client.stop_within(Duration::ZERO).await),
        _ => drop(client.stop_within(Duration::from_millis(50)).await),
    }
}

/// A peer that breaks off in the middle of something.
async fn use_peer(over: Over, url: String, seed: u64) {
    let mut random = Random(seed);
    let Ok(mut peer) = Peer::try_connect(&url).await else {
        return;
    };
    for _ in 0..=random.below(4) {
        if peer
            .try_send(Frame::new(kind::HEARTBEAT, ""))
            .await
            .is_err()
        {
            return;
        }
    }
    if !matches!(over, Over::Mem | Over::Udp) {
        let frame = peer.encode(&Frame::new(kind::DATA, vec![6; 900]));
        let _ = peer.try_write(&frame[..frame.len() / 2]).await;
    }
    tokio::time::sleep(Duration::from_millis(random.below(10))).await;
}

/// What the members say is what all say.
fn check_sums(metrics: &PerformanceMetrics) {
    let transports = || metrics.members.iter().flat_map(|member| &member.transports);
    let sum = |of: fn(&network_system::metrics::TransportMetrics) -> u64| -> u64 {
        transports().map(of).sum()
    };
    assert_eq!(metrics.total_connections, sum(|of| of.total_connections));
    assert_eq!(metrics.active_connections, sum(|of| of.active_connections));
    assert_eq!(metrics.messages_sent, sum(|of| of.messages_sent));
    assert_eq!(metrics.messages_received, sum(|of| of.messages_received));
    assert_eq!(metrics.bytes_sent, sum(|of| of.bytes_sent));
    assert_eq!(metrics.bytes_received, sum(|of| of.bytes_received));
    let members = metrics.members.iter();
    let dropped: u64 = members.clone().map(|member| member.messages_dropped).sum();
    let lost: u64 = members.clone().map(|member| member.messages_lost).sum();
    assert_eq!(
        (dropped, lost),
        (metrics.messages_dropped, metrics.messages_lost)
    );
    for (code, &count) in &metrics.errors.by_code {
        let of_members = members.clone().filter_map(|of| of.errors.by_code.get(code));
        assert_eq!(count, of_members.sum::<u64>(), "{code}");
    }
    let handled: u64 = members.map(|member| member.handler_time.count).sum();
    assert_eq!(metrics.handler_time.count, handled);
    assert!(metrics.active_connections <= metrics.total_connections);
}

/// Looks on until told to stop; counters never fall.
fn watch(monitor: &PerformanceMonitor, done: &AtomicBool) {
    let mut before = PerformanceMetrics::default();
    let mut intervals = monitor.intervals();
    let mut next = 0;
    while !done.load(Ordering::Relaxed) {
        let now = monitor.metrics();
        check_sums(&now);
        for (now, before) in [
            (now.total_connections, before.total_connections),
            (now.failed_connections, before.failed_connections),
            (now.messages_sent, before.messages_sent),
            (now.messages_received, before.messages_received),
            (now.bytes_sent, before.bytes_sent),
            (now.bytes_received, before.bytes_received),
            (now.messages_dropped, before.messages_dropped),
            (now.messages_lost, before.messages_lost),
            (now.latency.count, before.latency.count),
            (
                now.memory.queued_bytes_peak,
                before.memory.queued_bytes_peak,
            ),
        ] {
            assert!(now >= before, "{now} {before}");
        }
        for (code, &count) in &before.errors.by_code {
            assert!(now.errors.by_code[code] >= count, "{code}");
        }
        for memory in now.members.iter().map(|member| &member.memory) {
            assert!(memory.queued_bytes < 1 << 30 && memory.session_buffer_bytes < 1 << 30);
            assert!(memory.active_buffers < 100_000);
        }
        assert!(now.memory.active_buffers < 100_000);
        before = now;
        let _ = (monitor.to_prometheus(), monitor.report(), monitor.to_json());
        assert!(intervals.take().handler_time.count < 1 << 30);
        next = monitor.events(next).next;
    }
}

async fn turmoil(seed: u64) {
    let mut random = Random(seed);
    let monitor = PerformanceMonitor::new();
    let done = Arc::new(AtomicBool::new(false));
    let watching = (monitor.clone(), Arc::clone(&done));
    let watcher = std::thread::spawn(move || watch(&watching.0, &watching.1));
    for round in 0..3 {
        let mut servers = Vec::new();
        let mut tasks = Vec::new();
        for &over in Over::ALL {
            let server = server(over, &mut random, &monitor);
            server.start().await.unwrap();
            let url = server.urls().remove(0);
            for _ in 0..6 {
                let (url, monitor) = (url.clone(), monitor.clone());
                tasks.push(tokio::spawn(use_client(over, url, random.next(), monitor)));
            }
            for _ in 0..2 {
                tasks.push(tokio::spawn(use_peer(over, url.clone(), random.next())));
            }
            servers.push(server);
        }
        tokio::time::sleep(Duration::from_millis(random.below(60))).await;
        while !servers.is_empty() {
            let server = servers.swap_remove(random.below(servers.len() as u64) as usize);
            let time = Duration::from_millis(random.below(20));
            within("a stop", server.stop_within(time)).await.unwrap();
        }
        for task in tasks {
            if round == 1 && random.below(2) == 0 {
                task.abort();
            }
            if let Err(error) = within("a task", task).await {
                assert!(error.is_cancelled(), "{error}");
            }
        }
    }
    eventually("all is over", || {
        let now = monitor.metrics();
        let held = |of: &network_system::metrics::MemoryMetrics| {
            of.queued_bytes + of.session_buffer_bytes + of.active_sessions
        };
        now.active_connections == 0
            && held(&now.memory) == 0
            && now
                .members
                .iter()
                .all(|member| held(&member.memory) == 0 && member.memory.active_buffers == 0)
    })
    .await;
    done.store(true, Ordering::Relaxed);
    watcher.join().unwrap();
    let end = monitor.metrics();
    check_sums(&end);
    assert_eq!(end.members.len(), 2 * Over::ALL.len());
    assert!(end.total_connections > 0 && end.messages_received > 0);
    // Peers send no whole message, so that who receives more than was sent has counted something twice.
    assert!(end.messages_received <= end.messages_sent, "{end:?}");
    assert!(end.bytes_received <= end.bytes_sent, "{end:?}");
    // Those that have gone are no longer known then, and none is still there.
    eventually("all have gone", || {
        monitor.reset();
        let reset = monitor.metrics();
        assert_eq!((reset.total_connections, reset.latency.count), (0, 0));
        reset.members.is_empty()
    })
    .await;
}

fn seeds() -> Vec<u64> {
    match std::env::var("TURMOIL_SEEDS") {
        Ok(seeds) => seeds.split(',').map(|seed| seed.parse().unwrap()).collect(),
        Err(_) => vec![1, 2],
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

/// The runtime ends in the middle of everything, and nobody has stopped anything.
fn cut_short(seed: u64) {
    let mut random = Random(seed);
    let monitor = PerformanceMonitor::new();
    let done = Arc::new(AtomicBool::new(false));
    let watching = (monitor.clone(), Arc::clone(&done));
    let watcher = std::thread::spawn(move || watch(&watching.0, &watching.1));
    let runtime = runtime();
    let servers = runtime.block_on(async {
        let mut servers = Vec::new();
        for &over in Over::ALL {
            let server = server(over, &mut random, &monitor);
            server.start().await.unwrap();
            let url = server.urls().remove(0);
            for _ in 0..6 {
                let (url, monitor) = (url.clone(), monitor.clone());
                tokio::spawn(use_client(over, url, random.next(), monitor));
            }
            servers.push(server);
        }
        tokio::time::sleep(Duration::from_millis(random.below(60))).await;
        servers
    });
    drop(runtime);
    let now = monitor.metrics();
    assert_eq!(now.active_connections, 0);
    for memory in now.members.iter().map(|member| member.memory) {
        let held = (memory.queued_bytes, memory.session_buffer_bytes);
        assert_eq!((held, memory.active_buffers), ((0, 0), 0), "{now:?}");
    }
    done.store(true, Ordering::Relaxed);
    watcher.join().unwrap();
    drop(servers);
    monitor.reset();
    assert!(monitor.metrics().members.is_empty(), "all have gone");
}

#[test]
fn the_end_of_the_runtime_leaves_nothing() {
    seeds().into_iter().for_each(cut_short);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_end_nothing_is_left_and_sums_agree() {
    for seed in seeds() {
        turmoil(seed).await;
    }
}
