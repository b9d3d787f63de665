//! What is in queues and buffers is known, and given back. That all of it is, `Net::stop` sees at the end of every
//! other test, too.

use std::sync::Arc;
use std::time::Duration;

use network_system::metrics::{MemoryMetrics, MemoryProfiler, PerformanceMonitor};
use network_system::{Client, CloseReason, Limits, Message, Server, Session};
use tokio::sync::Semaphore;

use crate::backpressure::fill;
use crate::support::{
    Frame, Net, Over, Peer, echo, eventually, kind, limits, number_of, numbered, serve, settle,
    timeouts, within,
};

over_all! {
    session:
        an_idle_session_holds_nothing_after_an_echo,
        messages_count_until_they_are_handled,
        whatever_ends_a_session_gives_everything_back;
    requests:
        requests_count_until_they_are_answered;
    reliability:
        what_a_peer_does_not_read_fills_the_queue_to_its_limit_and_no_further;
    stream:
        half_a_frame_is_a_buffer_until_it_is_complete,
        half_a_frame_goes_with_its_session;
}

const LEN: usize = 4_000;

/// Half of a frame with a payload of this length is kept in a buffer of its own.
const LARGE: usize = 100_000;

impl Net {
    fn memory(&self) -> MemoryMetrics {
        let memory = self.monitor.memory();
        assert!(memory.queued_bytes_peak >= memory.queued_bytes);
        assert!(memory.session_buffer_bytes_peak >= memory.session_buffer_bytes);
        memory
    }
}

/// Bytes in buffers of all sessions of a server, each asked by itself.
fn buffered(server: &Server) -> usize {
    let stats = server.sessions().into_iter().map(|session| session.stats());
    stats.map(|stats| stats.buffered_bytes).sum()
}

/// A server whose handler waits for `gate`.
async fn gated(over: Over, gate: &Arc<Semaphore>) -> Net {
    let gate = Arc::clone(gate);
    serve(over, |builder| {
        let requests = Arc::clone(&gate);
        builder
            .on_message(move |_, _| {
                let gate = Arc::clone(&gate);
                async move { gate.acquire().await.unwrap().forget() }
            })
            .on_request(move |_, request| {
                let gate = Arc::clone(&requests);
                async move {
                    gate.acquire().await.unwrap().forget();
                    Ok(request)
                }
            })
    })
    .await
}

async fn an_idle_session_holds_nothing_after_an_echo(over: Over) {
    let net = serve(over, echo).await;
    let mut peer = net.open_peer().await;
    for len in [8, 1_000] {
        peer.data(numbered(1, len)).await;
        assert_eq!(number_of(&peer.expect_data().await), 1);
    }
    net.holds_nothing().await;
    let memory = net.memory();
    assert_eq!((memory.active_sessions, buffered(&net.server)), (1, 0));
    // Its structures are all that it takes.
    assert!((500..2_000).contains(&memory.bytes_per_session));
    net.stop().await;
    assert_eq!(net.memory().bytes_per_session, 0);
}

async fn what_a_peer_does_not_read_fills_the_queue_to_its_limit_and_no_further(over: Over) {
    let net = serve(over, |builder| {
        builder.limits(limits(|limits| limits.outbox_bytes = 100_000))
    })
    .await;
    let (mut peer, session) = net.pair().await;
    let sent = fill(&session).await;
    let (memory, stats) = (net.memory(), session.stats());
    assert_eq!(memory.queued_bytes, stats.queued_bytes as u64);
    assert!((100_000 - LEN as u64..=100_000).contains(&memory.queued_bytes));
    assert!(memory.queued_bytes_peak <= 100_000);
    // What the link does not take is encoded and kept.
    assert!(stats.buffered_bytes > 0);
    assert_eq!(memory.session_buffer_bytes, stats.buffered_bytes as u64);
    assert!(memory.active_buffers >= 2);
    assert!(memory.bytes_per_session > memory.queued_bytes + memory.session_buffer_bytes);
    for number in 0..sent {
        assert_eq!(number_of(&peer.expect_data().await), number);
    }
    net.holds_nothing().await;
    let memory = net.memory();
    assert!(memory.queued_bytes_peak > 100_000 - LEN as u64);
    net.stop().await;
}

async fn messages_count_until_they_are_handled(over: Over) {
    let gate = Arc::new(Semaphore::new(0));
    let net = gated(over, &gate).await;
    let mut peer = net.open_peer().await;
    for number in 0..4 {
        peer.data(numbered(number, 1_000)).await;
        // One is handled, the others wait for it, whether they were read together or one by one.
        let least = (number as usize + 1) * 1_000;
        eventually("it is noted", || buffered(&net.server) >= least).await;
    }
    assert!(net.memory().session_buffer_bytes >= 4_000);
    assert!(net.memory().session_buffer_bytes < 20_000);
    gate.add_permits(4);
    net.holds_nothing().await;
    assert_eq!(buffered(&net.server), 0);
    net.stop().await;
}

async fn requests_count_until_they_are_answered(over: Over) {
    let gate = Arc::new(Semaphore::new(0));
    let net = gated(over, &gate).await;
    let mut peer = net.open_peer().await;
    for id in 1..4 {
        peer.request(id, vec![0; 1_000]).await;
        let least = id as usize * 1_000;
        eventually("it is noted", || buffered(&net.server) >= least).await;
    }
    gate.add_permits(3);
    for _ in 1..4 {
        peer.expect(kind::RESPONSE).await;
    }
    net.holds_nothing().await;
    net.stop().await;
}

/// Sends the first half of a large frame, and waits until the session has it.
async fn send_half(net: &Net, peer: &mut Peer) -> Vec<u8> {
    let frame = peer.encode(&Frame::new(kind::DATA, numbered(7, LARGE)));
    let (half, rest) = frame.split_at(frame.len() / 2);
    peer.write(half).await;
    eventually("it has arrived", || buffered(&net.server) >= half.len()).await;
    rest.to_vec()
}

async fn half_a_frame_is_a_buffer_until_it_is_complete(over: Over) {
    let net = serve(over, echo).await;
    let mut peer = net.open_peer().await;
    let rest = send_half(&net, &mut peer).await;
    let memory = net.memory();
    assert_eq!(memory.session_buffer_bytes, buffered(&net.server) as u64);
    assert!(memory.active_buffers >= 1);
    peer.write(&rest).await;
    assert_eq!(number_of(&peer.expect_data().await), 7);
    net.holds_nothing().await;
    assert!(net.memory().session_buffer_bytes_peak >= LARGE as u64 / 2);
    net.stop().await;
}

async fn half_a_frame_goes_with_its_session(over: Over) {
    let net = serve(over, echo).await;
    let (mut peer, session) = net.pair().await;
    send_half(&net, &mut peer).await;
    peer.cut_off().await;
    net.holds_nothing().await;
    assert_eq!(session.stats().buffered_bytes, 0);
    let mut peer = net.open_peer().await;
    send_half(&net, &mut peer).await;
    net.stop().await;
}

/// By the application, by the peer, by a panic, by the end of the server.
async fn whatever_ends_a_session_gives_everything_back(over: Over) {
    let gate = Arc::new(Semaphore::new(0));
    let net = gated(over, &gate).await;
    let ends: [fn(&Session); 3] = [
        Session::abort,
        |session| session.disconnect(CloseReason::new("bye")),
        |_| {},
    ];
    for end in ends {
        let (mut peer, session) = net.pair().await;
        for number in 0..3 {
            peer.data(numbered(number, 1_000)).await;
        }
        eventually("they wait", || session.stats().buffered_bytes >= 1_000).await;
        for number in 0..10 {
            let _ = session.try_send(numbered(number, 1_000));
        }
        end(&session);
        drop(peer);
        // The handle is kept: it is the end that counts.
        if !session.is_connected() {
            net.holds_nothing().await;
        }
    }
    net.stop().await;
}

/// The connection is given up while a handler is running. Nobody would ever take its answer out of the queue.
#[tokio::test]
async fn an_answer_after_the_end_of_its_session_is_not_kept() {
    let gate = Arc::new(Semaphore::new(0));
    let requests = Arc::clone(&gate);
    let net = serve(Over::Tcp, |builder| {
        let timeouts = timeouts(|timeouts| timeouts.drain = Duration::from_millis(10));
        builder.timeouts(timeouts).on_request(move |_, request| {
            let gate = Arc::clone(&requests);
            async move {
                gate.acquire().await.unwrap().forget();
                Ok(request)
            }
        })
    })
    .await;
    let (mut peer, session) = net.pair().await;
    peer.request(1, vec![0; 1_000]).await;
    eventually("it is handled", || buffered(&net.server) >= 1_000).await;
    session.disconnect(CloseReason::new("bye"));
    within("the end", session.closed()).await;
    // The handler still has its request.
    assert!(session.stats().buffered_bytes >= 1_000);
    gate.add_permits(1);
    net.holds_nothing().await;
    settle().await;
    assert_eq!(session.stats().queued_bytes, 0);
    net.stop().await;
}

#[tokio::test]
async fn a_panic_gives_everything_back() {
    let net = serve(Over::Tcp, |builder| {
        builder.on_message(|session: Session, message: Message| async move {
            for number in 0..20 {
                let _ = session.try_send(numbered(number, LEN));
            }
            tokio::task::yield_now().await;
            assert!(message.is_empty(), "on purpose");
        })
    })
    .await;
    let (mut peer, session) = net.pair().await;
    for number in 0..3 {
        peer.data(numbered(number, LEN)).await;
    }
    eventually("it panics", || !session.is_connected()).await;
    drop(peer);
    within("the end", session.closed()).await;
    net.holds_nothing().await;
    net.stop().await;
}

#[test]
fn the_end_of_the_runtime_gives_everything_back() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (net, session, peer) = runtime.block_on(async {
        let gate = Arc::new(Semaphore::new(0));
        let net = gated(Over::Tcp, &gate).await;
        let (mut peer, session) = net.pair().await;
        fill(&session).await;
        peer.data(numbered(1, LEN)).await;
        eventually("it is handled", || buffered(&net.server) >= LEN).await;
        (net, session, peer)
    });
    assert!(net.memory().queued_bytes > 0 && net.memory().session_buffer_bytes > 0);
    drop(runtime);
    let memory = net.memory();
    assert_eq!((memory.queued_bytes, memory.session_buffer_bytes), (0, 0));
    assert_eq!(session.stats().queued_bytes, 0);
    drop(peer);
}

/// A session is over, and its handler is still there; what the application drops with it panics.
#[test]
fn a_panic_at_the_end_of_the_runtime_gives_everything_back() {
    struct Grenade;

    impl Drop for Grenade {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (net, peers) = runtime.block_on(async {
        let builder = Over::Tcp.server().workers(1);
        let net = Net::start(builder, |builder| {
            builder.on_disconnect(|_, _| async {
                let grenade = Grenade;
                std::future::pending::<()>().await;
                drop(grenade);
            })
        })
        .await;
        let (first, session) = net.pair().await;
        let others = [net.open_peer().await, net.open_peer().await];
        drop(first);
        within("the end", session.closed()).await;
        settle().await;
        for session in net.server.sessions() {
            fill(&session).await;
        }
        (net, others)
    });
    assert!(net.memory().queued_bytes > 0);
    drop(runtime);
    let memory = net.memory();
    assert_eq!((memory.queued_bytes, memory.session_buffer_bytes), (0, 0));
    assert_eq!(memory.active_sessions, 0);
    assert!(net.server.sessions().is_empty());
    drop(peers);
}

#[tokio::test]
async fn a_thousand_idle_sessions_hold_nothing() {
    let net = serve(Over::Mem, |builder| {
        let limits = limits(|limits: &mut Limits| limits.max_connections = 0);
        echo(builder).limits(limits)
    })
    .await;
    let mut peers = Vec::new();
    for _ in 0..1_000 {
        let mut peer = net.peer().await;
        peer.data(numbered(1, 64)).await;
        assert_eq!(number_of(&peer.expect_data().await), 1);
        peers.push(peer);
    }
    net.holds_nothing().await;
    assert_eq!(net.memory().active_sessions, 1_000);
    assert_eq!(buffered(&net.server), 0);
    assert!(net.memory().bytes_per_session < 2_000);
    net.stop().await;
}

#[tokio::test]
async fn what_waits_for_a_client_to_connect_or_to_read_is_queued() {
    let net = serve(Over::Tcp, echo).await;
    let monitor = PerformanceMonitor::new();
    let client = Client::builder()
        .endpoint(&net.url)
        .monitor(&monitor)
        .build()
        .unwrap();
    let mut messages = client.messages().unwrap();
    client.connect().await.unwrap();
    for number in 0..10 {
        client.send(numbered(number, 1_000)).await.unwrap();
    }
    eventually("they are back", || monitor.memory().queued_bytes == 10_000).await;
    for number in 0..4 {
        assert_eq!(number_of(messages.next().await.unwrap().payload()), number);
    }
    assert_eq!(monitor.memory().queued_bytes, 6_000);
    client.stop().await;
    drop((messages, client));
    eventually("what was not read is given back", || {
        monitor.memory().queued_bytes == 0
    })
    .await;
    assert!(monitor.memory().queued_bytes_peak >= 10_000);
    net.stop().await;
}

#[tokio::test]
async fn a_profiler_says_what_its_monitor_does_and_begins_anew_with_its_peaks() {
    let net = serve(Over::Tcp, |builder| {
        builder.limits(limits(|limits| limits.outbox_bytes = 100_000))
    })
    .await;
    let profiler = MemoryProfiler::new(&net.monitor);
    let (peer, session) = net.pair().await;
    fill(&session).await;
    let (statistics, memory) = (profiler.statistics(), net.memory());
    assert_eq!(
        statistics.total_bytes,
        memory.queued_bytes + memory.session_buffer_bytes
    );
    assert!(statistics.peak_bytes >= statistics.total_bytes);
    assert!(statistics.active_buffers >= 2);
    assert_eq!(statistics.allocated_bytes, None);
    let metrics = net.monitor.metrics();
    assert_eq!(metrics.members[0].memory.queued_bytes, memory.queued_bytes);
    assert_eq!(metrics.members[0].memory.buffer_pool_bytes, 0);
    assert!(metrics.memory.buffer_pool_bytes > 0);
    #[cfg(target_os = "linux")]
    assert!(metrics.memory.resident_bytes > Some(1_000_000));
    drop(peer);
    within("the end", session.closed()).await;
    net.holds_nothing().await;
    assert!(profiler.statistics().peak_bytes >= statistics.total_bytes);
    profiler.reset_peaks();
    assert_eq!(profiler.statistics().peak_bytes, 0);
    assert_eq!(net.memory().queued_bytes_peak, 0);
    net.stop().await;
}

/// Bytes that go from one queue to another are somewhere at every moment, and once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sums_hold_while_many_send_and_read() {
    let net = serve(Over::Mem, echo).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let client = Client::builder()
            .endpoint(&net.url)
            .monitor(&net.monitor)
            .build()
            .unwrap();
        let mut messages = client.messages().unwrap();
        client.connect().await.unwrap();
        let sender = client.clone();
        clients.push(tokio::spawn(async move {
            let sending = async {
                for number in 0..500 {
                    sender.send(numbered(number, 2_000)).await.unwrap();
                }
            };
            let reading = async {
                for number in 0..500 {
                    assert_eq!(number_of(messages.next().await.unwrap().payload()), number);
                }
            };
            tokio::join!(sending, reading);
            client.stop_within(Duration::from_secs(1)).await;
        }));
    }
    while clients.iter().any(|client| !client.is_finished()) {
        let memory = net.memory();
        // Nothing is given back before it was taken: a sum below zero would be a huge one.
        assert!(memory.queued_bytes < 1 << 30 && memory.session_buffer_bytes < 1 << 30);
        assert!(memory.active_buffers < 1_000);
        tokio::task::yield_now().await;
    }
    for client in clients {
        client.await.unwrap();
    }
    net.stop().await;
}
