//! Another connection for the same session: what was decoded is not sent again, and what was not is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use network_system::executor::ThreadPool;
use network_system::{
    Handler, Message, Reliability, RequestError, Server, ServerBuilder, Session, State, Transport,
    WorkerThreads,
};
use serde_json::json;
use tokio::sync::Semaphore;

use super::{
    CONNECTED, Ticket, ack, ask, begin, begin_with, end_of, lose, next, next_data, reliability,
    resume, resumed, serve_reliable,
};
use crate::support::{
    Event, Frame, Over, echo, eventually, group, kind, limits, log, number_of, numbered, record,
    within,
};

over_all! {
    reliability: the_server_sends_again_what_has_not_arrived_and_nothing_else,
        what_has_arrived_counts_although_its_handler_still_runs,
        a_link_that_looks_alive_is_taken_over,
        requests_survive_in_both_directions,
        what_is_sent_meanwhile_comes_after_what_was_sent_before,
        a_close_without_disconnect_is_a_loss;
    stream: a_frame_that_was_cut_off_is_dropped;
}

async fn the_server_sends_again_what_has_not_arrived_and_nothing_else(over: Over) {
    let net = serve_reliable(over, |builder| builder).await;
    let (mut peer, mut ticket) = begin(&net.url).await;
    let session = net.server.sessions().remove(0);
    let mut sent = 0;
    // Each time it says that it has some of what came.
    for (count, known, acknowledged) in [
        (10, 0, 0),
        (10, 20, 7),
        (0, 13, 13),
        (5, 25, 20),
        (3, 25, 25),
    ] {
        for _ in 0..count {
            session.send(numbered(sent, 50)).await.unwrap();
            sent += 1;
        }
        session.send(vec![]).await.unwrap();
        while !next_data(&mut peer).await.is_empty() {}
        sent += 1;
        let _ = (known, acknowledged);
        lose(&net, peer).await;
        assert_eq!(session.state(), State::Suspended);
        let has = sent.saturating_sub(6);
        (peer, _, ticket) = resume(&net.url, &ticket, has).await;
        assert_eq!(session.state(), State::Connected);
        for number in has..sent {
            let payload = next_data(&mut peer).await;
            assert!(
                payload.is_empty() || number_of(&payload) == number,
                "{over:?}: {number}"
            );
        }
        // Nothing of it comes twice.
        peer.ping_pong(b"all").await;
        ack(&mut peer, has).await;
    }
    assert_eq!(session.stats().resumes, 5);
    assert_eq!(
        (
            net.server.stats().total_connections,
            net.server.stats().resumed
        ),
        (1, 5)
    );
    net.stop().await;
}

async fn what_has_arrived_counts_although_its_handler_still_runs(over: Over) {
    let go_on = Arc::new(Semaphore::new(0));
    let (log, mut events) = log();
    let net = serve_reliable(over, |builder| {
        let go_on = Arc::clone(&go_on);
        builder.on_message(move |_, message| {
            let (go_on, log) = (Arc::clone(&go_on), log.clone());
            async move {
                go_on.acquire().await.unwrap().forget();
                let _ = log.send(Event::Message(message));
            }
        })
    })
    .await;
    let (mut peer, ticket) = begin(&net.url).await;
    // Each comes with a read of its own: the handler has one, the others wait for it.
    for number in 0..5 {
        peer.data(numbered(number, 20)).await;
        peer.ping_pong(b"seen").await;
    }
    lose(&net, peer).await;
    let (mut peer, count, _) = resume(&net.url, &ticket, 0).await;
    assert_eq!(count, 5, "{over:?}");
    peer.data(numbered(5, 20)).await;
    go_on.add_permits(6);
    for number in 0..6 {
        assert_eq!(number_of(events.message().await.payload()), number);
    }
    super::ack_of(&mut peer, 6).await;
    net.stop().await;
    assert!(events.try_next().is_none(), "once each");
}

async fn a_link_that_looks_alive_is_taken_over(over: Over) {
    let (log, mut events) = log();
    let net = serve_reliable(over, |builder| {
        crate::support::record_messages(record(builder, &log), &log)
    })
    .await;
    let (mut old, ticket) = begin(&net.url).await;
    let session = net.server.sessions().remove(0);
    old.data("before").await;
    old.ping_pong(b"seen").await;
    let (mut peer, count, _) = resume(&net.url, &ticket, 0).await;
    assert_eq!(count, 1);
    // Nothing of the old link counts any more, and it ends.
    let _ = old.try_send(Frame::new(kind::DATA, "too late")).await;
    end_of(old).await;
    peer.data("after").await;
    session.send("hello").await.unwrap();
    assert_eq!(next_data(&mut peer).await, b"hello");
    super::ack_of(&mut peer, 2).await;
    assert!(matches!(events.next().await, Event::Connected(_)));
    assert_eq!(events.message().await.payload(), b"before");
    assert_eq!(events.message().await.payload(), b"after");
    assert_eq!(session.state(), State::Connected);
    net.stop().await;
    assert!(
        matches!(events.next().await, Event::Disconnected(..)),
        "neither handler ran in between"
    );
    assert!(events.try_next().is_none());
}

async fn requests_survive_in_both_directions(over: Over) {
    let go_on = Arc::new(Semaphore::new(0));
    let calls = Arc::new(AtomicUsize::new(0));
    let net = serve_reliable(over, |builder| {
        let (go_on, calls) = (Arc::clone(&go_on), Arc::clone(&calls));
        builder.on_request(move |_, message: Message| {
            calls.fetch_add(1, Ordering::Relaxed);
            let go_on = Arc::clone(&go_on);
            async move {
                go_on.acquire().await.unwrap().forget();
                Ok::<_, RequestError>(message)
            }
        })
    })
    .await;
    let (mut peer, ticket) = begin(&net.url).await;
    let session = net.server.sessions().remove(0);
    let asking = tokio::spawn({
        let session = session.clone();
        async move { session.ask("of the peer").await.unwrap() }
    });
    peer.request(7, "of the server").await;
    let asked = next(&mut peer).await;
    assert_eq!(asked.kind, kind::REQUEST);
    eventually("it is asked", || calls.load(Ordering::Relaxed) == 1).await;
    lose(&net, peer).await;
    // The answer is made while there is no link.
    go_on.add_permits(1);
    let (mut peer, count, _) = resume(&net.url, &ticket, 1).await;
    assert_eq!(count, 1);
    peer.send(Frame::with_id(kind::RESPONSE, asked.id, "mine"))
        .await;
    let answer = next(&mut peer).await;
    assert_eq!(
        (answer.kind, answer.id, &answer.payload[..]),
        (kind::RESPONSE, 7, &b"of the server"[..])
    );
    assert_eq!(
        within("the answer", asking).await.unwrap().payload(),
        b"mine"
    );
    super::ack_of(&mut peer, 2).await;
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    net.stop().await;
}

async fn what_is_sent_meanwhile_comes_after_what_was_sent_before(over: Over) {
    let net = serve_reliable(over, |builder| {
        builder
            .reliable(reliability(|reliability| reliability.window = 8 << 20))
            .limits(limits(|limits| {
                limits.outbox_messages = 10_000;
                limits.outbox_bytes = 8 << 20;
            }))
    })
    .await;
    let (mut peer, welcome) = begin_with(&net.url, json!({"window": 8 << 20})).await;
    let ticket = Ticket::of(&welcome);
    let session = net.server.sessions().remove(0);
    // Several chunks, of which the peer acknowledges nothing, and then what waits in the outbox.
    let room = crate::support::group("room");
    session.join(&room).unwrap();
    for number in 0..700 {
        session.send(numbered(number, 5_000)).await.unwrap();
    }
    for number in 0..700 {
        assert_eq!(number_of(&next_data(&mut peer).await), number);
    }
    assert!(session.stats().unacknowledged_bytes > 3 << 20);
    lose(&net, peer).await;
    for number in 700..800 {
        session.send(numbered(number, 500)).await.unwrap();
    }
    assert_eq!(
        net.server.broadcast(numbered(800, 20)).await.unwrap().sent,
        1
    );
    assert_eq!(
        net.server
            .broadcast_to(&room, numbered(801, 20), &[])
            .await
            .unwrap()
            .sent,
        1
    );
    let (mut peer, _, _) = resume(&net.url, &ticket, 3).await;
    session.send(numbered(802, 20)).await.unwrap();
    for number in 3..803 {
        assert_eq!(number_of(&next_data(&mut peer).await), number, "{over:?}");
        if number % 50 == 20 {
            ack(&mut peer, number).await;
        }
    }
    assert!(session.is_in(&room));
    net.stop().await;
}

async fn a_close_without_disconnect_is_a_loss(over: Over) {
    let net = serve_reliable(over, echo).await;
    let (mut peer, ticket) = begin(&net.url).await;
    peer.shutdown().await;
    eventually("suspended", || net.server.stats().suspended == 1).await;
    end_of(peer).await;
    let (mut peer, _, _) = resume(&net.url, &ticket, 0).await;
    peer.data("again").await;
    assert_eq!(next_data(&mut peer).await, b"again");
    assert_eq!(net.server.stats().suspended, 0);
    let session = net.server.sessions().remove(0);
    peer.leave().await;
    within("the end", session.closed()).await;
    net.stop().await;
}

async fn a_frame_that_was_cut_off_is_dropped(over: Over) {
    let (log, mut events) = log();
    let net = serve_reliable(over, |builder| {
        crate::support::record_messages(builder, &log)
    })
    .await;
    let (mut peer, ticket) = begin(&net.url).await;
    peer.data("whole").await;
    let cut = peer.encode(&Frame::new(kind::DATA, vec![7; 1_000]));
    peer.write(&cut[..500]).await;
    assert_eq!(events.message().await.payload(), b"whole");
    let (mut peer2, count, _) = resume(&net.url, &ticket, 0).await;
    assert_eq!(count, 1);
    drop(peer);
    peer2.data(vec![7; 1_000]).await;
    assert_eq!(events.message().await.payload(), vec![7; 1_000]);
    super::ack_of(&mut peer2, 2).await;
    net.stop().await;
    assert!(events.try_next().is_none());
}

/// A session that knows what was done to it before its link was lost.
struct Own(Arc<AtomicUsize>);
impl Handler for Own {
    async fn on_message(&self, session: &Session, message: &Message) {
        self.0.fetch_add(1, Ordering::Relaxed);
        session.send(message.clone()).await.unwrap();
    }
}

fn everywhere(builder: ServerBuilder) -> ServerBuilder {
    CONNECTED.iter().fold(
        builder.tls(crate::support::tls::server()),
        |builder, over| builder.listen(over.listen_url()),
    )
}

#[tokio::test]
async fn a_session_goes_from_transport_to_transport() {
    for threads in [WorkerThreads::Runtime, WorkerThreads::Dedicated] {
        let server = everywhere(Server::builder())
            .workers(3)
            .worker_threads(threads)
            .reliable(Reliability::default())
            .build()
            .unwrap();
        server.start().await.unwrap();
        let urls = server.urls();
        let url = |scheme: &str| {
            urls.iter()
                .find(|url| url.starts_with(&format!("{scheme}://")))
                .unwrap()
        };
        let (mut peer, mut ticket) = begin(url("tcp")).await;
        let session = server.sessions().remove(0);
        let calls = Arc::new(AtomicUsize::new(0));
        session.set_handler(Own(Arc::clone(&calls)));
        session.set_data("key", "value");
        session.insert_extension(7_u64);
        session.join(&group("room")).unwrap();
        let first = session.remote_addr().unwrap();
        let (mut taken, mut given) = (0, 0);
        for (scheme, transport) in [
            ("ws", Transport::WebSocket),
            #[cfg(unix)]
            ("unix", Transport::Unix),
            ("tls", Transport::Tls),
            ("mem", Transport::Memory),
            ("wss", Transport::SecureWebSocket),
            ("tcp", Transport::Tcp),
            ("mem", Transport::Memory),
            ("tcp", Transport::Tcp),
        ] {
            for number in taken..taken + 5 {
                peer.data(numbered(number, 5_000 * (number % 2) as usize + 30))
                    .await;
            }
            taken += 5;
            // It reads some of the answers only.
            for number in given..given + 3 {
                assert_eq!(number_of(&next_data(&mut peer).await), number, "{scheme}");
            }
            given += 3;
            ack(&mut peer, given - 1).await;
            eventually("all is taken", || {
                calls.load(Ordering::Relaxed) == taken as usize
            })
            .await;
            drop(peer);
            let count;
            (peer, count, ticket) = resume(url(scheme), &ticket, given).await;
            assert_eq!(count, taken, "{scheme}");
            assert_eq!(session.transport(), transport);
            eventually("connected", || session.state() == State::Connected).await;
        }
        for number in given..taken {
            assert_eq!(number_of(&next_data(&mut peer).await), number);
        }
        assert_ne!(session.remote_addr().unwrap(), first);
        assert_eq!(session.data("key").as_deref(), Some("value"));
        assert_eq!(session.extension::<u64>().as_deref(), Some(&7));
        assert!(session.is_in(&group("room")));
        assert_eq!(server.session_count(), 1);
        drop(peer);
        within("stop", server.stop_within(std::time::Duration::ZERO))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn handlers_on_an_executor_go_on_while_the_link_is_lost() {
    for &over in CONNECTED {
        for threads in [1, 4] {
            on_an_executor(over, threads).await;
        }
    }
}

async fn on_an_executor(over: Over, threads: usize) {
    let go_on = Arc::new(Semaphore::new(0));
    let (log, mut events) = log();
    let net = serve_reliable(over, |builder| {
        let (go_on, log) = (Arc::clone(&go_on), log.clone());
        builder
            .executor(ThreadPool::new(threads, 16).unwrap())
            .on_message(move |session: Session, message| {
                let (go_on, log) = (Arc::clone(&go_on), log.clone());
                async move {
                    go_on.acquire().await.unwrap().forget();
                    session.send(message.clone()).await.unwrap();
                    let _ = log.send(Event::Message(message));
                }
            })
    })
    .await;
    let (mut peer, mut ticket) = begin(&net.url).await;
    let mut count;
    for round in 0..4 {
        for number in 5 * round..5 * round + 5 {
            peer.data(numbered(number, 30)).await;
        }
        peer.ping_pong(b"seen").await;
        // Some are handled before the link is lost, some while there is none, and some on the next one.
        go_on.add_permits(2);
        for number in 5 * round..5 * round + 2 {
            assert_eq!(number_of(events.message().await.payload()), number);
        }
        lose(&net, peer).await;
        go_on.add_permits(2);
        for number in 5 * round + 2..5 * round + 4 {
            assert_eq!(number_of(events.message().await.payload()), number);
        }
        // It has none of the answers of this round.
        (peer, count, ticket) = resume(&net.url, &ticket, 5 * round).await;
        assert_eq!(count, 5 * round + 5, "{over:?}");
        go_on.add_permits(1);
        assert_eq!(number_of(events.message().await.payload()), 5 * round + 4);
        for number in 5 * round..5 * round + 5 {
            assert_eq!(number_of(&next_data(&mut peer).await), number, "{over:?}");
        }
        ack(&mut peer, 5 * round + 5).await;
    }
    super::ack_of(&mut peer, 20).await;
    net.stop().await;
    assert!(events.try_next().is_none(), "once each");
}

#[tokio::test]
async fn a_token_is_good_until_something_comes_on_the_next_link() {
    let net = serve_reliable(Over::Tcp, echo).await;
    let (peer, first) = begin(&net.url).await;
    drop(peer);
    // Welcome is lost again and again.
    let mut peer = ask(&net.url, &first, 0).await;
    for _ in 0..3 {
        drop(peer);
        let (next, _, _) = resume(&net.url, &first, 0).await;
        peer = next;
    }
    drop(peer);
    let (mut peer, _, second) = resume(&net.url, &first, 0).await;
    peer.ping_pong(b"here").await;
    assert_eq!(
        super::refused(&net.url, &first, 0).await,
        network_system::ErrorCode::SessionExpired
    );
    // Whoever had the session is not disturbed.
    peer.data("mine").await;
    assert_eq!(next_data(&mut peer).await, b"mine");
    drop(peer);
    resume(&net.url, &second, 1).await;
    net.stop().await;
}

#[tokio::test]
async fn the_client_may_say_more_before_it_has_read_welcome_if_it_is_no_message() {
    let net = serve_reliable(Over::Tcp, echo).await;
    let (peer, ticket) = begin(&net.url).await;
    lose(&net, peer).await;
    let mut peer = net.peer().await;
    peer.send_together(vec![
        Frame::new(kind::CONTROL, super::resume_hello(&ticket, 0).to_string()),
        Frame::new(kind::HEARTBEAT, ""),
        Frame::new(kind::PING, "early"),
    ])
    .await;
    let welcome = peer.expect(kind::CONTROL).await.json();
    resumed(&welcome, &ticket);
    assert_eq!(peer.expect(kind::PONG).await.payload, "early");
    net.stop().await;
}
