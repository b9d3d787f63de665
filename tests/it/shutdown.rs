//! The end of a server: nothing that was accepted is lost, nothing is left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use network_system::{ErrorCode, Message, Session, WorkerThreads};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::support::{
    Event, Frame, Over, Peer, echo, eventually, kind, log, number_of, numbered, record, serve,
    settle, within,
};

over_all! {
    session:
        after_its_goodbye_a_server_still_listens_and_says_no_more,
        stopping_tells_every_peer_and_waits_for_it,
        stopping_lets_handlers_finish_and_their_answers_leave,
        stopping_with_no_time_cuts_off_and_says_so,
        a_second_stop_shortens_the_deadline,
        the_disconnect_handler_learns_of_the_stop;
    reliability:
        stopping_flushes_what_was_accepted,
        stopping_delivers_what_peers_still_say,
        stopping_leaves_no_task_and_no_session,
        goaway_comes_before_the_disconnect;
    tcp:
        after_a_stop_nobody_accepts_and_the_port_is_free;
}

const LONG: Duration = Duration::from_secs(3_600);

async fn stopping_tells_every_peer_and_waits_for_it(over: Over) {
    let net = serve(over, echo).await;
    // One that has left before is not of the stop.
    let (early, session) = net.pair().await;
    early.leave().await;
    within("closed", session.closed()).await;
    let mut peers = Vec::new();
    for _ in 0..10 {
        peers.push(net.open_peer().await);
    }
    let server = net.server.clone();
    let stopping = tokio::spawn(async move { server.stop_within(LONG).await });
    for peer in &mut peers {
        assert_eq!(peer.expect(kind::DISCONNECT).await.payload, "shutting down");
        peer.expect_end().await;
    }
    settle().await;
    assert!(!stopping.is_finished(), "the peers have the last word");
    assert!(net.server.is_running());
    for mut peer in peers {
        peer.send(Frame::new(kind::DISCONNECT, "")).await;
        peer.shutdown().await;
    }
    let report = within("stop", stopping).await.unwrap().unwrap();
    assert_eq!((report.drained, report.aborted), (10, 0));
    assert!(!net.server.is_running());
    assert!(net.server.urls().is_empty());
}

async fn after_its_goodbye_a_server_still_listens_and_says_no_more(over: Over) {
    let (log, mut events) = log();
    let gate = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&gate);
    let net = serve(over, |builder| {
        crate::support::record_messages(builder, &log)
            .on_request(move |_, request| {
                let gate = Arc::clone(&waits);
                async move {
                    gate.acquire().await.unwrap().forget();
                    Ok(request)
                }
            })
            .group_guard(|_: &Session, _: &network_system::GroupName| true)
    })
    .await;
    let (mut peer, session) = net.pair().await;
    peer.request(1, "answered too late").await;
    peer.ping_pong(b"it runs").await;
    session.disconnect(network_system::CloseReason::new("bye"));
    peer.expect(kind::DISCONNECT).await;
    peer.expect_end().await;
    // Each of these would be answered otherwise.
    peer.send(Frame::new(kind::PING, "?")).await;
    peer.control(r#"{"op":"join","group":"g"}"#).await;
    gate.add_permits(1);
    settle().await;
    for number in 0..10 {
        peer.data(numbered(number, 1_000)).await;
        settle().await;
    }
    peer.send(Frame::new(kind::DISCONNECT, "")).await;
    peer.shutdown().await;
    for number in 0..10 {
        assert_eq!(number_of(events.message().await.payload()), number);
    }
    within("closed", session.closed()).await;
    assert!(session.close_reason().unwrap().is_orderly());
    net.stop().await;
}

async fn stopping_flushes_what_was_accepted(over: Over) {
    let net = serve(over, |builder| builder).await;
    let (mut peer, session) = net.pair().await;
    let mut sent = 0;
    while session.try_send(numbered(sent, 5_000)).is_ok() {
        sent += 1;
        if sent % 100 == 0 {
            settle().await;
        }
        assert!(sent < 50_000, "no back-pressure");
    }
    assert!(
        session.stats().queued_messages > 0,
        "something has to be flushed"
    );
    let server = net.server.clone();
    let stopping = tokio::spawn(async move { server.stop_within(LONG).await });
    settle().await;
    let refused = session.send("too late").await.unwrap_err();
    assert!(refused.is_closed());
    for number in 0..sent {
        assert_eq!(number_of(&peer.expect_data().await), number);
    }
    peer.expect(kind::DISCONNECT).await;
    peer.expect_end().await;
    peer.shutdown().await;
    let report = within("stop", stopping).await.unwrap().unwrap();
    assert_eq!((report.drained, report.aborted), (1, 0));
}

async fn stopping_delivers_what_peers_still_say(over: Over) {
    let (log, mut events) = log();
    let net = serve(over, |builder| {
        crate::support::record_messages(builder, &log)
    })
    .await;
    let (mut peer, _) = net.pair().await;
    let server = net.server.clone();
    let stopping = tokio::spawn(async move { server.stop_within(LONG).await });
    peer.expect(kind::DISCONNECT).await;
    peer.expect_end().await;
    for number in 0..20 {
        peer.data(numbered(number, 3_000)).await;
    }
    peer.send(Frame::new(kind::DISCONNECT, "")).await;
    peer.shutdown().await;
    within("stop", stopping).await.unwrap().unwrap();
    for number in 0..20 {
        assert_eq!(number_of(events.message().await.payload()), number);
    }
}

async fn stopping_lets_handlers_finish_and_their_answers_leave(over: Over) {
    let gate = Arc::new(Semaphore::new(0));
    let (messages, requests) = (Arc::clone(&gate), Arc::clone(&gate));
    let net = serve(over, |builder| {
        builder
            .on_message(move |session: Session, message: Message| {
                let gate = Arc::clone(&messages);
                async move {
                    gate.acquire().await.unwrap().forget();
                    session.send(message).await.unwrap();
                }
            })
            .on_request(move |_, request| {
                let gate = Arc::clone(&requests);
                async move {
                    gate.acquire().await.unwrap().forget();
                    Ok(request)
                }
            })
    })
    .await;
    let (mut one, _) = net.pair().await;
    let (mut two, _) = net.pair().await;
    one.data("working").await;
    two.request(5, "working").await;
    one.ping_pong(b"it runs").await;
    two.ping_pong(b"it runs").await;
    let server = net.server.clone();
    let stopping = tokio::spawn(async move { server.stop_within(LONG).await });
    settle().await;
    gate.add_permits(2);
    assert_eq!(one.expect_data().await, "working");
    assert_eq!(
        two.receive().await,
        Some(Frame::with_id(kind::RESPONSE, 5, "working"))
    );
    for mut peer in [one, two] {
        peer.expect(kind::DISCONNECT).await;
        peer.expect_end().await;
        peer.shutdown().await;
    }
    let report = within("stop", stopping).await.unwrap().unwrap();
    assert_eq!((report.drained, report.aborted), (2, 0));
}

async fn stopping_leaves_no_task_and_no_session(over: Over) {
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let (log, mut events) = log();
    let net = serve(over, |builder| record(echo(builder), &log)).await;
    let mut peers = Vec::new();
    for number in 0..10 {
        let mut peer = net.peer().await;
        // Some are silent, some are open, the last included: so all have been accepted.
        if number % 2 == 1 {
            peer.data("x").await;
            peer.expect_data().await;
        }
        peers.push(peer);
    }
    assert!(tasks() > before);
    let report = within("stop", net.server.stop_within(Duration::ZERO))
        .await
        .unwrap();
    assert_eq!(report.drained + report.aborted, 10);
    assert_eq!(net.server.session_count(), 0);
    eventually("no task is left", || tasks() == before).await;
    // Every socket is closed.
    for mut peer in peers {
        while let Ok(Some(_)) = within("the end", peer.try_receive()).await {}
    }
    let (mut connected, mut disconnected) = (0, 0);
    while let Some(event) = events.try_next() {
        match event {
            Event::Connected(_) => connected += 1,
            Event::Disconnected(..) => disconnected += 1,
            _ => {}
        }
    }
    assert_eq!((connected, disconnected), (5, 5));
}

async fn stopping_with_no_time_cuts_off_and_says_so(over: Over) {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let sets = Arc::clone(&dropped);
    let net = serve(over, |builder| {
        builder.on_message(move |_, _| {
            let guard = Dropped(Arc::clone(&sets));
            async move {
                std::future::pending::<()>().await;
                drop(guard);
            }
        })
    })
    .await;
    let mut peer = net.open_peer().await;
    peer.data("never answered").await;
    peer.ping_pong(b"it runs").await;
    let report = within("stop", net.server.stop_within(Duration::ZERO))
        .await
        .unwrap();
    assert_eq!((report.drained, report.aborted), (0, 1));
    assert!(dropped.load(Ordering::SeqCst), "the handler is gone");
}

#[tokio::test(start_paused = true)]
async fn a_stop_cuts_off_at_its_deadline_and_tells_peers_before_even_without_time() {
    for time in [Duration::ZERO, Duration::from_secs(3)] {
        let net = serve(Over::Mem, |builder| {
            builder.on_message(|_, _| std::future::pending::<()>())
        })
        .await;
        let mut peers = [net.open_peer().await, net.open_peer().await];
        peers[0].data("never handled to the end").await;
        peers[0].ping_pong(b"it runs").await;
        let began = tokio::time::Instant::now();
        let report = net.server.stop_within(time).await.unwrap();
        let took = began.elapsed();
        assert!(
            took >= time && took < time + Duration::from_millis(50),
            "{took:?}"
        );
        assert_eq!(report.drained + report.aborted, 2);
        // Nothing overtakes what a handler may still send, and the other one hears it even when there is no time.
        let [mut busy, mut idle] = peers;
        idle.expect(kind::DISCONNECT).await;
        assert!(matches!(busy.try_receive().await, Ok(None)));
    }
}

#[tokio::test]
async fn a_session_whose_peer_has_said_goodbye_and_stays_has_drained() {
    let net = serve(Over::Tcp, |builder| builder).await;
    let mut peer = net.open_peer().await;
    let server = net.server.clone();
    let stopping =
        tokio::spawn(async move { server.stop_within(Duration::from_millis(400)).await });
    peer.expect(kind::DISCONNECT).await;
    peer.send(Frame::new(kind::DISCONNECT, "")).await;
    let report = within("stop", stopping).await.unwrap().unwrap();
    assert_eq!((report.drained, report.aborted), (1, 0));
    drop(peer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn stopping_while_peers_connect_takes_no_longer() {
    for round in 0..30 {
        let net = serve([Over::Mem, Over::Tcp][round % 2], echo).await;
        let url = net.url.clone();
        let storm = tokio::spawn(async move {
            while let Ok(mut peer) = Peer::try_connect(&url).await {
                // Polite: it leaves when it is told to.
                let _ = peer.try_send(Frame::new(kind::HEARTBEAT, "")).await;
                tokio::spawn(async move { while let Ok(Some(_)) = peer.try_receive().await {} });
            }
        });
        eventually("some are in", || net.server.session_count() > 5).await;
        let server = net.server.clone();
        let stopping = tokio::spawn(async move { server.stop_within(LONG).await });
        let report = within("stop", stopping).await.unwrap().unwrap();
        assert_eq!(report.aborted, 0);
        within("the storm", storm).await.unwrap();
    }
}

async fn a_second_stop_shortens_the_deadline(over: Over) {
    let net = serve(over, echo).await;
    let mut peer = net.open_peer().await;
    let server = net.server.clone();
    let first = tokio::spawn(async move { server.stop_within(LONG).await });
    peer.expect(kind::DISCONNECT).await;
    settle().await;
    assert!(!first.is_finished());
    let second = within("stop", net.server.stop_within(Duration::ZERO))
        .await
        .unwrap();
    let first = within("the first", first).await.unwrap().unwrap();
    assert_eq!(first, second);
    assert_eq!((first.drained, first.aborted), (0, 1));
}

async fn goaway_comes_before_the_disconnect(over: Over) {
    let net = serve(over, |builder| builder.goaway(Duration::from_millis(1_500))).await;
    let mut peer = net.open_peer().await;
    let mut silent = net.peer().await;
    // Its handshake, if there is one, is over on both sides.
    settle().await;
    let server = net.server.clone();
    let stopping = tokio::spawn(async move { server.stop_within(LONG).await });
    let goaway = peer.receive().await.unwrap().json();
    assert_eq!(
        goaway,
        serde_json::json!({"op": "goaway", "retry_ms": 1_500})
    );
    peer.expect(kind::DISCONNECT).await;
    peer.shutdown().await;
    // One that never opened is not told where to go, only that it is over.
    while let Some(frame) = silent.receive().await {
        assert_eq!(frame.kind, kind::DISCONNECT);
    }
    drop(silent);
    within("stop", stopping).await.unwrap().unwrap();
}

async fn the_disconnect_handler_learns_of_the_stop(over: Over) {
    let (log, mut events) = log();
    let net = serve(over, |builder| record(builder, &log)).await;
    let mut peer = net.open_peer().await;
    let server = net.server.clone();
    let stopping = tokio::spawn(async move { server.stop_within(LONG).await });
    peer.expect(kind::DISCONNECT).await;
    peer.shutdown().await;
    within("stop", stopping).await.unwrap().unwrap();
    assert_eq!(
        events.disconnected().await.code(),
        Some(ErrorCode::ShuttingDown)
    );
}

async fn after_a_stop_nobody_accepts_and_the_port_is_free(over: Over) {
    let net = serve(over, echo).await;
    let addr = net.server.local_addrs()[0];
    let _peer = net.open_peer().await;
    net.stop().await;
    assert!(Peer::try_connect(&net.url).await.is_err());
    drop(std::net::TcpListener::bind(addr).unwrap());
    assert!(net.server.local_addrs().is_empty());
}

/// Echoes until the server says goodbye; returns how many messages came back, each in its place.
async fn chatter(url: String, number: u64) -> u64 {
    let mut peer = Peer::connect(&url).await;
    let (mut sent, mut back) = (0, 0);
    loop {
        // A window of some, so that answers are under way when the end comes.
        while sent < back + 8 {
            let len = 8 + (sent * 31 + number) as usize % 3_000;
            if peer
                .try_send(Frame::new(kind::DATA, numbered(sent, len)))
                .await
                .is_err()
            {
                break;
            }
            sent += 1;
        }
        let frame = peer.receive().await.expect("no goodbye");
        match frame.kind {
            kind::DATA => {
                assert_eq!(number_of(&frame.payload), back);
                back += 1;
            }
            kind::DISCONNECT => break,
            _ => panic!("{frame:?}"),
        }
    }
    // What the server had taken by then has been answered before the goodbye.
    peer.expect_end().await;
    let _ = peer.try_send(Frame::new(kind::DISCONNECT, "")).await;
    peer.shutdown().await;
    back
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_busy_server_on_many_threads_stops_in_order() {
    // Datagrams may be lost, and then a peer waits for its echo.
    for &over in Over::ALL.iter().filter(|&&over| over != Over::Udp) {
        let net = serve(over, |builder| echo(builder).workers(4)).await;
        let peers: Vec<_> = (0..30)
            .map(|number| tokio::spawn(chatter(net.url.clone(), number)))
            .collect();
        eventually("all are busy", || {
            net.server.session_count() == 30 && net.server.stats().messages_sent > 2_000
        })
        .await;
        let report = within("stop", net.server.stop_within(LONG)).await.unwrap();
        assert_eq!((report.drained, report.aborted), (30, 0));
        let received = net.server.stats().messages_received;
        let mut back = 0;
        for peer in peers {
            back += within("a peer", peer).await.unwrap();
        }
        assert!(back > 2_000 && back <= received, "{back} of {received}");
    }
}

#[tokio::test]
async fn connections_that_are_not_open_do_not_keep_a_server_from_stopping() {
    for over in [Over::Tls, Over::Ws, Over::Wss] {
        let net = serve(over, echo).await;
        let address = net.server.local_addrs()[0];
        let mut stuck = Vec::new();
        for number in 0..100 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // Nothing, the beginning of a record or of a request, more than that.
            let begun: &[u8] = match (over, number % 3) {
                (_, 0) => b"",
                (Over::Ws, 1) => b"GET / HT",
                (Over::Ws, _) => b"GET / HTTP/1.1\r\nHost: localhost\r\n",
                (_, 1) => b"\x16\x03",
                _ => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            };
            stream.write_all(begun).await.unwrap();
            stuck.push(stream);
        }
        let mut peer = net.open_peer().await;
        peer.ping_pong(b"it serves").await;
        let stopping = net.server.stop_within(LONG);
        let reading = async {
            while let Ok(Some(_)) = peer.try_receive().await {}
            drop(peer);
            let mut rest = Vec::new();
            for stream in &mut stuck {
                let _ = stream.read_to_end(&mut rest).await;
            }
            rest
        };
        let both = async { tokio::join!(stopping, reading) };
        let (report, rest) = within("stop", both).await;
        assert_eq!(report.unwrap().aborted, 0, "{over:?}");
        assert_eq!(rest.starts_with(b"HTTP/1.1 503"), over == Over::Ws);
    }
}

#[tokio::test]
async fn a_connection_moves_to_the_thread_of_its_worker_on_every_transport() {
    for &over in Over::ALL {
        let net = serve(over, |builder| {
            echo(builder).worker_threads(WorkerThreads::Dedicated)
        })
        .await;
        for _ in 0..4 {
            let mut peer = net.open_peer().await;
            peer.send(Frame::new(kind::DATA, "hello")).await;
            assert_eq!(peer.expect_data().await, "hello", "{over:?}");
        }
        within("stop", net.server.stop_within(Duration::ZERO))
            .await
            .unwrap();
    }
}
