//! The budget of memory: slow peers are shed, the worst first, and fast ones get everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use network_system::{
    Client, ErrorCode, MemoryBudget, Message, QueuePolicy, Server, Session, Timeouts,
};

use crate::support::{
    Frame, Over, Peer, eventually, kind, limits, log, numbered, record, serve, settle, within,
};

over_all! {
    reliability:
        whoever_reads_nothing_is_shed_and_told_why,
        a_session_with_little_is_never_shed;
    tcp:
        slow_readers_at_any_speed_are_shed_and_fast_ones_get_everything;
    codecs:
        frames_that_never_become_complete_are_shed_too;
}

const LEN: usize = 4_000;

async fn whoever_reads_nothing_is_shed_and_told_why(over: Over) {
    let budget = MemoryBudget::new(1024 * 1024);
    let (log, mut events) = log();
    let net = serve(over, |builder| {
        record(builder, &log)
            .memory_budget(&budget)
            .limits(limits(|limits| {
                limits.outbox_bytes = 64 * 1024 * 1024;
                limits.outbox_messages = 1_000_000;
            }))
    })
    .await;
    let (mut other, other_session) = net.pair().await;
    let (peer, session) = net.pair().await;
    let mut sent = 0;
    while session.is_connected() {
        let _ = session.try_send(numbered(sent, LEN));
        sent += 1;
        if sent % 16 == 0 {
            settle().await;
        }
        assert!(sent < 100_000, "400 MB and still not shed");
    }
    if over != Over::Tcp {
        // It is given a second to read why. Over one transport it does not even leave.
        drop(peer);
    }
    let reason = events.disconnected().await;
    assert_eq!(reason.code(), Some(ErrorCode::SlowConsumer), "{reason}");
    assert_eq!((net.server.stats().shed, budget.shed()), (1, 1));
    assert!(
        budget.peak() <= budget.limit() + 2 * LEN,
        "{}",
        budget.peak()
    );
    other_session.send(numbered(7, LEN)).await.unwrap();
    assert_eq!(other.expect_data().await.len(), LEN);
    eventually("everything is given back", || budget.used() == 0).await;
    net.stop().await;
}

async fn a_session_with_little_is_never_shed(over: Over) {
    let budget = MemoryBudget::new(1024 * 1024);
    let net = serve(over, |builder| {
        builder.memory_budget(&budget).limits(limits(|limits| {
            limits.when_full = QueuePolicy::DropNewest;
            limits.outbox_bytes = 64 * 1024;
        }))
    })
    .await;
    let mut pairs = Vec::new();
    for _ in 0..4 {
        pairs.push(net.pair().await);
    }
    // Together far less than the budget, however long.
    for number in 0..2_000 {
        for (_, session) in &pairs {
            let _ = session.try_send(numbered(number, 100));
        }
        if number % 100 == 0 {
            settle().await;
        }
    }
    assert_eq!((budget.shed(), net.server.session_count()), (0, 4));
    net.stop().await;
}

/// A client that counts what it gets.
async fn subscriber(over: Over, url: &str, budget: &MemoryBudget) -> (Client, Arc<AtomicU64>) {
    let got = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&got);
    let client = over
        .client(url)
        .memory_budget(budget)
        .on_message(move |_: Session, _: Message| {
            count.fetch_add(1, Ordering::Relaxed);
            async {}
        })
        .build()
        .unwrap();
    within("connect", client.connect()).await.unwrap();
    (client, got)
}

async fn publish(server: &Server, fast: &[Arc<AtomicU64>], messages: u64) {
    for number in 0..messages {
        let broadcast = server.broadcast(numbered(number, LEN));
        within("broadcast", broadcast).await.unwrap();
        // Those that read are not to be outrun.
        within("the fast ones", async {
            while fast
                .iter()
                .any(|got| got.load(Ordering::Relaxed) + 8 < number)
            {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

async fn slow_readers_at_any_speed_are_shed_and_fast_ones_get_everything(over: Over) {
    const MESSAGES: u64 = 1_500;
    let (budget, other) = (
        MemoryBudget::new(4 * 1024 * 1024),
        MemoryBudget::new(1 << 30),
    );
    let net = serve(over, |builder| {
        builder
            .memory_budget(&budget)
            .timeouts(Timeouts::default())
            .limits(limits(|limits| {
                limits.when_full = QueuePolicy::DropNewest;
                limits.outbox_bytes = 8 * 1024 * 1024;
                limits.outbox_messages = 100_000;
            }))
    })
    .await;
    let mut slow: Vec<(Peer, u64)> = Vec::new();
    for index in 0..40 {
        slow.push((net.open_peer().await, index));
    }
    let mut fast = Vec::new();
    for _ in 0..5 {
        fast.push(subscriber(over, &net.url, &other).await);
    }
    let counters: Vec<_> = fast.iter().map(|(_, got)| Arc::clone(got)).collect();
    // Slow at various speeds: some never read, some a little now and then.
    let readers: Vec<_> = slow
        .into_iter()
        .map(|(mut peer, index)| {
            tokio::spawn(async move {
                let _ = tokio::time::timeout(Duration::from_secs(120), async {
                    loop {
                        let pause = if index < 10 { 60_000 } else { 20 * index };
                        tokio::time::sleep(Duration::from_millis(pause)).await;
                        if !matches!(peer.try_receive().await, Ok(Some(_))) {
                            return;
                        }
                    }
                })
                .await;
            })
        })
        .collect();
    publish(&net.server, &counters, MESSAGES).await;
    for got in &counters {
        eventually("the fast ones get all", || {
            got.load(Ordering::Relaxed) == MESSAGES
        })
        .await;
    }
    let stats = net.server.stats();
    assert!(stats.shed > 0 && stats.shed == budget.shed(), "{stats:?}");
    let most = budget.limit() + 45 * LEN;
    assert!(budget.peak() <= most, "{} over {most}", budget.peak());
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    for (client, _) in fast {
        client.stop().await;
    }
    net.stop().await;
    assert_eq!(budget.used(), 0);
}

async fn frames_that_never_become_complete_are_shed_too(over: Over) {
    let budget = MemoryBudget::new(2 * 1024 * 1024);
    let net = serve(over, |builder| builder.memory_budget(&budget)).await;
    let mut good = net.open_peer().await;
    let whole = Frame::new(kind::DATA, vec![0; 1_000_000]).encode();
    let mut peers = Vec::new();
    for _ in 0..12 {
        let mut peer = net.peer().await;
        let _ = peer.try_write(&whole[..900_000]).await;
        settle().await;
        peers.push(peer);
    }
    eventually("some are shed", || net.server.stats().shed > 0).await;
    good.ping_pong(b"others do not notice").await;
    let peak = budget.peak();
    // Who has to go gives back what it holds in its next turn. Until then others may read on.
    assert!(peak <= 2 * budget.limit(), "{peak}");
    net.stop().await;
}
