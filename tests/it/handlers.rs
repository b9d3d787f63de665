//! Handlers that panic, wait, or turn against their own session and server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use network_system::{
    CloseReason, ErrorCode, GroupName, Handler, Message, RequestError, Server, Session,
};
use tokio::sync::{Semaphore, mpsc};

use crate::support::{
    Event, Events, Frame, Net, Over, echo, group, kind, limits, log, number_of, numbered, record,
    serve, settle, within,
};

const LONG: Duration = Duration::from_secs(60);

over_all! {
    session:
        a_panic_in_a_message_handler_ends_that_session_only,
        a_panic_in_a_request_handler_ends_that_session_only,
        a_panic_in_a_connect_handler_ends_that_session_only,
        a_panic_in_a_disconnect_handler_hurts_nobody,
        a_panic_in_a_group_guard_ends_that_session_only,
        a_panic_in_a_handler_of_the_trait_ends_that_session_only,
        a_handler_disconnects_its_own_session,
        a_handler_broadcasts_and_is_among_the_receivers,
        a_handler_that_waits_holds_up_only_its_own_session,
        a_handler_that_waits_lets_its_outbox_be_written;
    requests:
        a_handler_awaits_a_request_on_its_own_session,
        a_connect_handler_awaits_a_request_on_its_own_session,
        a_handler_stops_its_own_server,
        a_request_handler_stops_its_own_server,
        a_disconnect_handler_stops_its_own_server;
    errors:
        a_panic_in_an_error_handler_hurts_nobody;
    reliability:
        a_handler_waits_for_the_end_of_its_own_session,
        a_handler_sends_more_to_its_own_session_than_the_outbox_holds,
        a_waiting_handler_bounds_what_is_held_for_it,
        a_waiting_handler_bounds_the_number_of_empty_messages_held_for_it;
    size:
        a_lent_message_can_be_sent_on_and_kept;
}

/// What panics: the call itself, or the future that it returns.
#[derive(Clone, Copy, Debug)]
enum Where {
    Call,
    Future,
}

/// Panics if `at` is here.
fn boom(at: Where, here: Where, wanted: bool) {
    if wanted && std::mem::discriminant(&at) == std::mem::discriminant(&here) {
        panic!("on purpose");
    }
}

/// Another session on the same worker goes on, and new ones are accepted.
async fn others_are_well(net: &Net, others: &mut [crate::support::Peer]) {
    for other in others {
        other.ping_pong(b"well").await;
    }
    let mut new = net.open_peer().await;
    new.ping_pong(b"new").await;
}

async fn bystanders(net: &Net) -> Vec<crate::support::Peer> {
    let mut peers = Vec::new();
    for _ in 0..4 {
        peers.push(net.open_peer().await);
    }
    peers
}

async fn a_panic_in_a_message_handler_ends_that_session_only(over: Over) {
    for at in [Where::Call, Where::Future] {
        let (log, mut events) = log();
        let net = serve(over, |builder| {
            record(builder, &log).on_message(move |session: Session, message: Message| {
                let wanted = message.payload() == b"boom";
                boom(at, Where::Call, wanted);
                async move {
                    session.send("handled").await.unwrap();
                    boom(at, Where::Future, wanted);
                }
            })
        })
        .await;
        let mut others = bystanders(&net).await;
        let mut peer = net.open_peer().await;
        peer.data("fine").await;
        assert_eq!(peer.expect_data().await, "handled");
        peer.data("boom").await;
        peer.data("after").await;
        if matches!(at, Where::Future) {
            // What was sent before the panic leaves.
            assert_eq!(peer.expect_data().await, "handled");
        }
        assert_eq!(peer.expect_error_and_end().await.0, -647);
        drop(peer);
        assert_eq!(
            events.disconnected().await.code(),
            Some(ErrorCode::RequestFailed)
        );
        others_are_well(&net, &mut others).await;
        net.stop().await;
    }
}

async fn a_panic_in_a_request_handler_ends_that_session_only(over: Over) {
    for at in [Where::Call, Where::Future] {
        let (log, mut events) = log();
        let net = serve(over, |builder| {
            record(builder, &log).on_request(move |_, request: Message| {
                let wanted = request.payload() == b"boom";
                boom(at, Where::Call, wanted);
                async move {
                    boom(at, Where::Future, wanted);
                    Ok(request)
                }
            })
        })
        .await;
        let mut others = bystanders(&net).await;
        let mut peer = net.open_peer().await;
        peer.request(1, "fine").await;
        peer.expect(kind::RESPONSE).await;
        peer.request(2, "boom").await;
        assert_eq!(peer.expect_error_and_end().await.0, -647);
        drop(peer);
        assert_eq!(
            events.disconnected().await.code(),
            Some(ErrorCode::RequestFailed)
        );
        others_are_well(&net, &mut others).await;
        net.stop().await;
    }
}

async fn a_panic_in_a_connect_handler_ends_that_session_only(over: Over) {
    for at in [Where::Call, Where::Future] {
        let (log, mut events) = log();
        let count = Arc::new(AtomicUsize::new(0));
        let net = serve(over, |builder| {
            record(builder, &log).on_connect(move |_| {
                let wanted = count.fetch_add(1, Ordering::Relaxed) == 4;
                boom(at, Where::Call, wanted);
                async move { boom(at, Where::Future, wanted) }
            })
        })
        .await;
        let mut others = bystanders(&net).await;
        let mut peer = net.peer().await;
        peer.heartbeat().await;
        assert_eq!(peer.expect_error_and_end().await.0, -647);
        drop(peer);
        assert_eq!(
            events.disconnected().await.code(),
            Some(ErrorCode::RequestFailed)
        );
        others_are_well(&net, &mut others).await;
        net.stop().await;
    }
}

async fn a_panic_in_a_disconnect_handler_hurts_nobody(over: Over) {
    for at in [Where::Call, Where::Future] {
        let (calls, mut called) = mpsc::unbounded_channel();
        let net = serve(over, |builder| {
            builder.on_disconnect(move |_, reason: CloseReason| {
                calls.send(()).unwrap();
                let wanted = reason.text() == "boom";
                boom(at, Where::Call, wanted);
                async move { boom(at, Where::Future, wanted) }
            })
        })
        .await;
        let mut others = bystanders(&net).await;
        let mut peer = net.open_peer().await;
        peer.send(Frame::new(kind::DISCONNECT, "boom")).await;
        peer.expect(kind::DISCONNECT).await;
        peer.expect_end().await;
        drop(peer);
        within("the call", called.recv()).await.unwrap();
        others_are_well(&net, &mut others).await;
        let report = within("stop", net.server.stop_within(Duration::ZERO))
            .await
            .unwrap();
        assert!(report.drained + report.aborted >= 5, "{report:?}");
    }
}

async fn a_panic_in_an_error_handler_hurts_nobody(over: Over) {
    let net = serve(over, |builder| {
        builder.on_error(|_, _, _| panic!("on purpose"))
    })
    .await;
    let mut others = bystanders(&net).await;
    let mut peer = net.open_peer().await;
    peer.control("wrong").await;
    assert_eq!(peer.expect_error_and_end().await.0, -643);
    others_are_well(&net, &mut others).await;
    net.stop().await;
}

async fn a_panic_in_a_group_guard_ends_that_session_only(over: Over) {
    let net = serve(over, |builder| {
        builder.group_guard(|_: &Session, _: &GroupName| panic!("on purpose"))
    })
    .await;
    let mut others = bystanders(&net).await;
    let mut peer = net.open_peer().await;
    peer.control(r#"{"op":"join","group":"g"}"#).await;
    assert_eq!(peer.expect_error_and_end().await.0, -647);
    others_are_well(&net, &mut others).await;
    net.stop().await;
}

struct Trait {
    log: mpsc::UnboundedSender<Event>,
}

impl Handler for Trait {
    async fn on_connect(&self, session: &Session) {
        session.send("hello").await.unwrap();
    }

    async fn on_message(&self, session: &Session, message: &Message) {
        if message.payload() == b"boom" {
            panic!("on purpose");
        }
        session.send(message).await.unwrap();
    }

    async fn on_request(&self, _: &Session, request: &Message) -> Result<Message, RequestError> {
        Ok(request.clone())
    }

    async fn on_disconnect(&self, session: &Session, reason: &CloseReason) {
        self.log
            .send(Event::Disconnected(session.clone(), reason.clone()))
            .unwrap();
    }
}

async fn a_panic_in_a_handler_of_the_trait_ends_that_session_only(over: Over) {
    let (log, mut events) = log();
    let net = serve(over, |builder| builder.handler(Trait { log })).await;
    let mut other = net.open_peer().await;
    assert_eq!(other.expect_data().await, "hello");
    let mut peer = net.open_peer().await;
    assert_eq!(peer.expect_data().await, "hello");
    peer.request(3, "?").await;
    assert_eq!(peer.expect(kind::RESPONSE).await.payload, "?");
    peer.send_together(
        ["a", "b", "boom", "c"]
            .map(|text| Frame::new(kind::DATA, text))
            .into(),
    )
    .await;
    assert_eq!(peer.expect_data().await, "a");
    assert_eq!(peer.expect_data().await, "b");
    assert_eq!(peer.expect_error_and_end().await.0, -647);
    drop(peer);
    assert_eq!(
        events.disconnected().await.code(),
        Some(ErrorCode::RequestFailed)
    );
    other.ping_pong(b"well").await;
    net.stop().await;
}

async fn a_handler_disconnects_its_own_session(over: Over) {
    let (log, mut events) = log();
    let net = serve(over, |builder| {
        record(builder, &log).on_message(|session: Session, _| async move {
            session.send("before").await.unwrap();
            session.disconnect(CloseReason::new("enough"));
            assert!(session.send("after").await.is_err());
        })
    })
    .await;
    let mut peer = net.peer().await;
    peer.data("x").await;
    assert_eq!(peer.expect_data().await, "before");
    assert_eq!(peer.expect(kind::DISCONNECT).await.payload, "enough");
    peer.expect_end().await;
    peer.send(Frame::new(kind::DISCONNECT, "")).await;
    peer.shutdown().await;
    assert_eq!(events.disconnected().await.text(), "enough");
    net.stop().await;
}

async fn a_handler_waits_for_the_end_of_its_own_session(over: Over) {
    let (log, mut events) = log();
    let ended = log.clone();
    let net = serve(over, |builder| {
        builder.on_message(move |session: Session, _| {
            let log = ended.clone();
            async move {
                session.disconnect(CloseReason::new("enough"));
                let reason = session.closed().await;
                log.send(Event::Disconnected(session, reason)).unwrap();
            }
        })
    })
    .await;
    for says_goodbye in [false, true] {
        let mut peer = net.peer().await;
        peer.data("x").await;
        peer.expect(kind::DISCONNECT).await;
        if says_goodbye {
            peer.send(Frame::new(kind::DISCONNECT, "")).await;
        }
        peer.shutdown().await;
        assert_eq!(events.disconnected().await.text(), "enough");
    }
    net.stop().await;
}

async fn a_handler_sends_more_to_its_own_session_than_the_outbox_holds(over: Over) {
    let net = serve(over, |builder| {
        builder
            .limits(limits(|limits| limits.outbox_bytes = 10_000))
            .on_message(|session: Session, _| async move {
                for number in 0..1_000 {
                    session.send(numbered(number, 1_000)).await.unwrap();
                }
                for number in 1_000..2_000 {
                    session.send(numbered(number, 8)).await.unwrap();
                }
            })
    })
    .await;
    let mut peer = net.peer().await;
    peer.data("go").await;
    for number in 0..2_000 {
        assert_eq!(number_of(&peer.expect_data().await), number);
    }
    peer.ping_pong(b"and on").await;
    net.stop().await;
}

/// A server whose handlers can reach it.
async fn with_itself(
    over: Over,
    configure: impl FnOnce(
        network_system::ServerBuilder,
        Arc<std::sync::OnceLock<Server>>,
    ) -> network_system::ServerBuilder,
) -> Net {
    let itself = Arc::new(std::sync::OnceLock::new());
    let handle = Arc::clone(&itself);
    let net = serve(over, |builder| configure(builder, handle)).await;
    itself.set(net.server.clone()).unwrap();
    net
}

async fn a_handler_broadcasts_and_is_among_the_receivers(over: Over) {
    let net = with_itself(over, |builder, itself| {
        builder.on_message(move |session: Session, message: Message| {
            let server = itself.get().unwrap().clone();
            async move {
                session.send("first").await.unwrap();
                let report = server.broadcast(message.clone()).await.unwrap();
                assert_eq!(report.sent, 5);
                session.join(&group("g")).unwrap();
                let report = server
                    .broadcast_to(&group("g"), message, &[])
                    .await
                    .unwrap();
                assert_eq!(report.sent, 1);
                session.send("last").await.unwrap();
            }
        })
    })
    .await;
    let mut others = bystanders(&net).await;
    let mut peer = net.open_peer().await;
    peer.data("all").await;
    for expected in ["first", "all", "all", "last"] {
        assert_eq!(peer.expect_data().await, expected);
    }
    for other in &mut others {
        assert_eq!(other.expect_data().await, "all");
    }
    net.stop().await;
}

async fn a_handler_that_waits_holds_up_only_its_own_session(over: Over) {
    let gate = Arc::new(Semaphore::new(0));
    let opens = Arc::clone(&gate);
    let net = serve(over, |builder| {
        builder.on_message(move |session: Session, message: Message| {
            let gate = Arc::clone(&gate);
            async move {
                if message.payload() == b"wait" {
                    gate.acquire().await.unwrap().forget();
                }
                session.send(message).await.unwrap();
            }
        })
    })
    .await;
    let mut waits = net.open_peer().await;
    waits.data("wait").await;
    waits.data("behind").await;
    waits.ping_pong(b"PING is still answered").await;
    for _ in 0..4 {
        let mut other = net.open_peer().await;
        other.data("at once").await;
        assert_eq!(other.expect_data().await, "at once");
    }
    opens.add_permits(1);
    assert_eq!(waits.expect_data().await, "wait");
    assert_eq!(waits.expect_data().await, "behind");
    net.stop().await;
}

async fn a_handler_that_waits_lets_its_outbox_be_written(over: Over) {
    let gate = Arc::new(Semaphore::new(0));
    let opens = Arc::clone(&gate);
    let net = serve(over, |builder| {
        builder.on_message(move |session: Session, _| {
            let gate = Arc::clone(&gate);
            async move {
                session.send("from the handler").await.unwrap();
                gate.acquire().await.unwrap().forget();
                session.send("after the wait").await.unwrap();
            }
        })
    })
    .await;
    let (mut peer, session) = net.pair().await;
    peer.data("x").await;
    assert_eq!(peer.expect_data().await, "from the handler");
    session.send("from elsewhere").await.unwrap();
    assert_eq!(peer.expect_data().await, "from elsewhere");
    net.server.broadcast("from a broadcast").await.unwrap();
    assert_eq!(peer.expect_data().await, "from a broadcast");
    opens.add_permits(1);
    assert_eq!(peer.expect_data().await, "after the wait");
    net.stop().await;
}

/// Sends while the handler waits; returns how many the server and the connection took.
async fn fill(
    over: Over,
    payload: &[u8],
    most: usize,
) -> (Net, crate::support::Peer, Events, Arc<Semaphore>, usize) {
    let (log, events) = log();
    let gate = Arc::new(Semaphore::new(0));
    let opens = Arc::clone(&gate);
    let net = serve(over, |builder| {
        builder.on_message(move |_, message: Message| {
            let (gate, log) = (Arc::clone(&gate), log.clone());
            async move {
                drop(gate.acquire().await.unwrap());
                log.send(Event::Message(message)).unwrap();
            }
        })
    })
    .await;
    let mut peer = net.open_peer().await;
    let mut sent = 0;
    while sent < most {
        let frames = vec![Frame::new(kind::DATA, payload.to_vec()); 100];
        let sending = async {
            for frame in frames {
                peer.try_send(frame).await.unwrap();
                sent += 1;
            }
        };
        // Held back for as long as the server may do whatever it wants.
        tokio::select! {
            biased;
            () = sending => {}
            () = settle() => break,
        }
    }
    (net, peer, events, opens, sent)
}

async fn a_waiting_handler_bounds_what_is_held_for_it(over: Over) {
    let (net, _peer, mut events, gate, sent) = fill(over, &[1; 10_000], 100_000).await;
    assert!(sent < 100_000, "a gigabyte and still no back-pressure");
    let session = net.server.sessions().remove(0);
    let received = session.stats().bytes_received as usize;
    // What the handler has, 64 KiB, and one read that was on its way.
    assert!(received < 2 * 1024 * 1024, "{received} bytes were taken in");
    gate.add_permits(1);
    for _ in 0..sent {
        assert_eq!(events.message().await.len(), 10_000);
    }
    net.stop().await;
}

async fn a_waiting_handler_bounds_the_number_of_empty_messages_held_for_it(over: Over) {
    let (net, _peer, mut events, gate, sent) = fill(over, b"", 3_000_000).await;
    assert!(
        sent < 3_000_000,
        "three million empty messages and still no back-pressure"
    );
    let session = net.server.sessions().remove(0);
    let received = session.stats().messages_received;
    assert!(received < 100_000, "{received} messages were taken in");
    gate.add_permits(1);
    for _ in 0..sent {
        assert!(events.message().await.is_empty());
    }
    net.stop().await;
}

async fn a_lent_message_can_be_sent_on_and_kept(over: Over) {
    struct Keeps(std::sync::Mutex<Vec<Message>>);
    impl Handler for Keeps {
        async fn on_message(&self, session: &Session, message: &Message) {
            self.0.lock().unwrap().push(message.clone());
            session.send(message).await.unwrap();
            tokio::task::yield_now().await;
            if message.payload() == b"last" {
                let kept = std::mem::take(&mut *self.0.lock().unwrap());
                session.send_all(kept).await.unwrap();
            }
        }
    }
    let net = serve(over, |builder| builder.handler(Keeps(Default::default()))).await;
    let mut peer = net.peer().await;
    let mut payloads: Vec<Vec<u8>> = [8, 4_095, 4_096, 100_000]
        .iter()
        .map(|&len| numbered(len as u64, len))
        .collect();
    payloads.push(b"last".to_vec());
    for payload in &payloads {
        peer.data(payload.clone()).await;
    }
    for payload in payloads.iter().chain(&payloads) {
        assert!(peer.expect_data().await == payload[..]);
    }
    net.stop().await;
}

async fn a_handler_awaits_a_request_on_its_own_session(over: Over) {
    let net = serve(over, |builder| {
        builder.on_message(|session: Session, message: Message| async move {
            let answer = session.request(message, LONG).await.unwrap();
            session.send(answer).await.unwrap();
        })
    })
    .await;
    let mut peer = net.peer().await;
    for _ in 0..3 {
        // The answer comes behind messages that wait for the very handler.
        peer.data("ask me").await;
        let request = peer.expect(kind::REQUEST).await;
        peer.data("meanwhile").await;
        peer.send(Frame::with_id(kind::RESPONSE, request.id, "answer"))
            .await;
        assert_eq!(peer.expect_data().await, "answer");
        let request = peer.expect(kind::REQUEST).await;
        assert_eq!(request.payload, "meanwhile");
        peer.send(Frame::with_id(kind::RESPONSE, request.id, "second"))
            .await;
        assert_eq!(peer.expect_data().await, "second");
    }
    net.stop().await;
}

async fn a_connect_handler_awaits_a_request_on_its_own_session(over: Over) {
    let net = serve(over, |builder| {
        echo(builder).on_connect(|session: Session| async move {
            let answer = session.request("who?", LONG).await.unwrap();
            session.send(answer).await.unwrap();
        })
    })
    .await;
    let mut peer = net.peer().await;
    peer.data("message").await;
    let request = peer.expect(kind::REQUEST).await;
    peer.send(Frame::with_id(kind::RESPONSE, request.id, "me"))
        .await;
    assert_eq!(peer.expect_data().await, "me");
    assert_eq!(peer.expect_data().await, "message");
    net.stop().await;
}

/// The peers of a server that stops: every one is told, and answers.
async fn all_are_told(peers: Vec<crate::support::Peer>) {
    for (index, mut peer) in peers.into_iter().enumerate() {
        peer.expect(kind::DISCONNECT).await;
        peer.expect_end().await;
        if index % 2 == 0 {
            peer.send(Frame::new(kind::DISCONNECT, "")).await;
        }
        peer.shutdown().await;
    }
}

async fn a_handler_stops_its_own_server(over: Over) {
    let (done, mut stopped) = mpsc::unbounded_channel();
    let net = with_itself(over, |builder, itself| {
        builder.on_message(move |session: Session, _| {
            let (server, done) = (itself.get().unwrap().clone(), done.clone());
            async move {
                session.send("stopping").await.unwrap();
                let report = server.stop().await.unwrap();
                done.send(report).unwrap();
            }
        })
    })
    .await;
    let others = bystanders(&net).await;
    let mut peer = net.open_peer().await;
    peer.data("stop").await;
    assert_eq!(peer.expect_data().await, "stopping");
    let mut all = others;
    all.push(peer);
    all_are_told(all).await;
    let report = within("the report", stopped.recv()).await.unwrap();
    assert_eq!((report.drained, report.aborted), (4, 0));
    let report = within("stop", net.server.wait_for_stop()).await;
    assert_eq!((report.drained, report.aborted), (5, 0));
    assert!(!net.server.is_running());
}

async fn a_request_handler_stops_its_own_server(over: Over) {
    let net = with_itself(over, |builder, itself| {
        builder.on_request(move |_, request: Message| {
            let server = itself.get().unwrap().clone();
            async move {
                server.stop().await.unwrap();
                Ok(request)
            }
        })
    })
    .await;
    let others = bystanders(&net).await;
    let mut peer = net.open_peer().await;
    peer.request(1, "stop").await;
    let mut all = others;
    all.push(peer);
    all_are_told(all).await;
    let report = within("stop", net.server.wait_for_stop()).await;
    assert_eq!((report.drained, report.aborted), (5, 0));
}

async fn a_disconnect_handler_stops_its_own_server(over: Over) {
    let net = with_itself(over, |builder, itself| {
        builder.on_disconnect(move |_, reason: CloseReason| {
            let server = itself.get().unwrap().clone();
            async move {
                if reason.text() == "stop" {
                    server.stop().await.unwrap();
                }
            }
        })
    })
    .await;
    let others = bystanders(&net).await;
    let mut peer = net.open_peer().await;
    peer.send(Frame::new(kind::DISCONNECT, "stop")).await;
    peer.expect(kind::DISCONNECT).await;
    peer.expect_end().await;
    drop(peer);
    all_are_told(others).await;
    within("stop", net.server.wait_for_stop()).await;
    assert!(!net.server.is_running());
}
