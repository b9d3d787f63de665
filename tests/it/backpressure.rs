//! Readers that are too slow.

use std::time::Duration;

use network_system::{
    ErrorCode, Limits, Message, QueuePolicy, SendError, ServerBuilder, Session, State,
};

use crate::support::{
    Event, Frame, Net, Over, Peer, eventually, kind, limits, log, number_of, numbered, record,
    serve, settle, within,
};

over_all! {
    order:
        a_slow_reader_gets_every_byte_in_order,
        a_slow_reader_gets_answers_in_order_while_others_are_served,
        dropping_the_newest_keeps_order_and_counts,
        dropping_the_oldest_keeps_order_and_counts;
    reliability:
        what_waits_for_a_slow_reader_is_bounded_in_bytes,
        what_waits_for_a_slow_reader_is_bounded_in_messages,
        a_send_that_waits_goes_on_when_there_is_room,
        a_dropped_send_sends_nothing,
        disconnecting_a_slow_consumer_says_so,
        a_slow_receiver_holds_a_broadcast_up_but_nobodys_copy,
        a_broadcast_with_a_dropping_policy_waits_for_nobody,
        a_message_larger_than_the_outbox_passes_alone,
        a_sender_that_waits_learns_of_the_end,
        pongs_overtake_what_waits,
        answers_to_requests_are_never_dropped,
        a_flood_of_requests_by_a_slow_reader_is_held_back,
        a_flood_of_control_frames_by_a_slow_reader_is_held_back;
}

const LEN: usize = 4_000;

fn policy(when_full: QueuePolicy) -> impl FnOnce(ServerBuilder) -> ServerBuilder {
    move |builder| {
        builder.limits(limits(|limits| {
            limits.when_full = when_full;
            limits.outbox_bytes = 100_000;
        }))
    }
}

/// Sends numbered messages until there is no room for `patience` rounds; returns how many were taken.
pub async fn fill(session: &Session) -> u64 {
    let (mut number, mut refused) = (0, 0);
    while refused < 50 {
        match session.try_send(numbered(number, LEN)) {
            Ok(()) => (number, refused) = (number + 1, 0),
            Err(error) => {
                assert!(error.is_full(), "{error}");
                refused += 1;
                settle().await;
            }
        }
        assert!(number < 50_000, "200 MB and still no back-pressure");
    }
    number
}

async fn a_slow_reader_gets_every_byte_in_order(over: Over) {
    let net = serve(over, policy(QueuePolicy::Wait)).await;
    let (mut peer, session) = net.pair().await;
    let sent = fill(&session).await;
    let sender = tokio::spawn({
        let session = session.clone();
        async move {
            for number in sent..sent + 1_000 {
                session.send(numbered(number, LEN)).await.unwrap();
            }
        }
    });
    for number in 0..sent + 1_000 {
        assert_eq!(number_of(&peer.expect_data().await), number);
        if number % 50 == 0 {
            // Slow, and never more than allowed waits.
            settle().await;
            assert!(session.stats().queued_bytes <= 100_000);
        }
    }
    sender.await.unwrap();
    peer.ping_pong(b"and nothing else").await;
    net.stop().await;
}

async fn a_slow_reader_gets_answers_in_order_while_others_are_served(over: Over) {
    let net = serve(over, |builder| {
        policy(QueuePolicy::Wait)(builder).on_message(
            |session: Session, message: Message| async move {
                for number in 0..500 {
                    let number = number_of(message.payload()) * 500 + number;
                    session.send(numbered(number, 10_000)).await.unwrap();
                }
            },
        )
    })
    .await;
    let mut slow = net.open_peer().await;
    for number in 0..4 {
        slow.data(numbered(number, 8)).await;
    }
    // 20 MB are on their way to someone who does not read.
    settle().await;
    for _ in 0..4 {
        let mut quick = net.open_peer().await;
        quick.data(numbered(0, 8)).await;
        for number in 0..500 {
            assert_eq!(number_of(&quick.expect_data().await), number);
        }
    }
    for number in 0..2_000 {
        assert_eq!(number_of(&slow.expect_data().await), number);
    }
    net.stop().await;
}

async fn what_waits_for_a_slow_reader_is_bounded_in_bytes(over: Over) {
    let net = serve(over, policy(QueuePolicy::Wait)).await;
    let (mut peer, session) = net.pair().await;
    let sent = fill(&session).await;
    let stats = session.stats();
    assert!(stats.queued_bytes <= 100_000, "{}", stats.queued_bytes);
    assert!(stats.queued_bytes > 100_000 - LEN, "{}", stats.queued_bytes);
    assert_eq!(stats.dropped, 0);
    let error = session.try_send(numbered(sent, LEN)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::QueueFull);
    assert_eq!(number_of(error.into_message().payload()), sent);
    let error = session
        .send_timeout(numbered(sent, LEN), Duration::from_millis(1))
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::QueueFull);
    assert_eq!(number_of(error.message().payload()), sent);
    for number in 0..sent {
        assert_eq!(number_of(&peer.expect_data().await), number);
    }
    let stats = session.stats();
    assert_eq!((stats.queued_bytes, stats.queued_messages), (0, 0));
    assert_eq!(stats.messages_sent, sent);
    net.stop().await;
}

async fn what_waits_for_a_slow_reader_is_bounded_in_messages(over: Over) {
    let net = serve(over, |builder| {
        builder.limits(limits(|limits| limits.outbox_messages = 10))
    })
    .await;
    let (mut peer, session) = net.pair().await;
    let sent = fill(&session).await;
    assert_eq!(session.stats().queued_messages, 10);
    for number in 0..sent {
        assert_eq!(number_of(&peer.expect_data().await), number);
    }
    net.stop().await;
}

async fn a_send_that_waits_goes_on_when_there_is_room(over: Over) {
    let net = serve(over, policy(QueuePolicy::Wait)).await;
    let (mut peer, session) = net.pair().await;
    let sent = fill(&session).await;
    let waiting: Vec<_> = (sent..sent + 20)
        .map(|number| {
            let session = session.clone();
            tokio::spawn(async move { session.send(numbered(number, LEN)).await })
        })
        .collect();
    settle().await;
    assert!(waiting.iter().all(|send| !send.is_finished()));
    let mut last = Vec::new();
    for number in 0..sent + 20 {
        let found = number_of(&peer.expect_data().await);
        if number < sent {
            assert_eq!(found, number);
        } else {
            last.push(found);
        }
    }
    // Tasks that wait have no order among them.
    last.sort_unstable();
    assert_eq!(last, (sent..sent + 20).collect::<Vec<_>>());
    for send in waiting {
        within("a send", send).await.unwrap().unwrap();
    }
    net.stop().await;
}

async fn a_dropped_send_sends_nothing(over: Over) {
    let net = serve(over, policy(QueuePolicy::Wait)).await;
    let (mut peer, session) = net.pair().await;
    let sent = fill(&session).await;
    let sending = tokio::spawn({
        let session = session.clone();
        async move { session.send(vec![1; LEN]).await }
    });
    settle().await;
    sending.abort();
    assert!(
        within("the task", sending)
            .await
            .unwrap_err()
            .is_cancelled()
    );
    session
        .send_timeout(vec![2; LEN], Duration::from_millis(1))
        .await
        .unwrap_err();
    for number in 0..sent {
        assert_eq!(number_of(&peer.expect_data().await), number);
    }
    session.send("last").await.unwrap();
    assert_eq!(peer.expect_data().await, "last");
    net.stop().await;
}

/// Sends as long as it takes until so many were dropped.
async fn overfill(session: &Session, dropped: u64) -> u64 {
    let mut number = 0;
    while session.stats().dropped < dropped {
        session.send(numbered(number, LEN)).await.unwrap();
        number += 1;
        // Less than an outbox at a time, so that only a full connection makes anything drop.
        if number % 10 == 0 {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        }
        assert!(number < 50_000, "200 MB and nothing was dropped");
    }
    number
}

async fn dropping_the_newest_keeps_order_and_counts(over: Over) {
    let net = serve(over, policy(QueuePolicy::DropNewest)).await;
    let (mut peer, session) = net.pair().await;
    let sent = overfill(&session, 300).await;
    let dropped = session.stats().dropped;
    assert_eq!(net.server.stats().dropped, dropped);
    let mut expected = 0;
    for _ in 0..sent - dropped {
        let number = number_of(&peer.expect_data().await);
        assert!(number >= expected, "{number} after {expected}");
        expected = number + 1;
    }
    peer.ping_pong(b"nothing else").await;
    assert!(session.is_connected());
    net.stop().await;
}

async fn dropping_the_oldest_keeps_order_and_counts(over: Over) {
    let net = serve(over, policy(QueuePolicy::DropOldest)).await;
    let (mut peer, session) = net.pair().await;
    let sent = overfill(&session, 300).await;
    let dropped = session.stats().dropped;
    assert_eq!(net.server.stats().dropped, dropped);
    let mut expected = 0;
    for _ in 0..sent - dropped {
        let number = number_of(&peer.expect_data().await);
        assert!(number >= expected, "{number} after {expected}");
        expected = number + 1;
    }
    assert_eq!(expected, sent, "the newest is there");
    peer.ping_pong(b"nothing else").await;
    net.stop().await;
}

async fn disconnecting_a_slow_consumer_says_so(over: Over) {
    let (log, mut events) = log();
    let net = serve(over, |builder| {
        policy(QueuePolicy::Disconnect)(record(builder, &log))
    })
    .await;
    let (mut peer, session) = net.pair().await;
    let mut other = net.open_peer().await;
    let (mut number, error): (u64, SendError) = (0, loop_until_refused(&session).await);
    assert_eq!(error.code(), ErrorCode::SlowConsumer);
    assert_eq!(
        session.send("late").await.unwrap_err().code(),
        ErrorCode::ConnectionClosed
    );
    other.ping_pong(b"unharmed").await;
    // What had left before arrives, then the reason.
    loop {
        let frame = peer.receive().await.unwrap();
        if frame.kind == kind::ERROR {
            assert_eq!(frame.code_and_text().0, ErrorCode::SlowConsumer.as_i32());
            break;
        }
        assert_eq!(number_of(&frame.payload), number);
        number += 1;
    }
    peer.expect_end().await;
    drop(peer);
    loop {
        match events.next().await {
            Event::Disconnected(ended, reason) => {
                assert_eq!(ended, session);
                assert_eq!(reason.code(), Some(ErrorCode::SlowConsumer));
                break;
            }
            Event::Error(code) => assert_eq!(code, ErrorCode::SlowConsumer),
            _ => {}
        }
    }
    assert_eq!(session.state(), State::Error);
    net.stop().await;
}

async fn loop_until_refused(session: &Session) -> SendError {
    for number in 0..50_000 {
        if let Err(error) = session.send(numbered(number, LEN)).await {
            return error;
        }
        if number % 20 == 0 {
            settle().await;
        }
    }
    panic!("200 MB and still connected");
}

async fn a_slow_receiver_holds_a_broadcast_up_but_nobodys_copy(over: Over) {
    let net = serve(over, policy(QueuePolicy::Wait)).await;
    let (mut slow, session) = net.pair().await;
    let mut quick = Vec::new();
    for _ in 0..3 {
        quick.push(net.open_peer().await);
    }
    let sent = fill(&session).await;
    let broadcast = tokio::spawn({
        let server = net.server.clone();
        async move { server.broadcast(numbered(sent, LEN)).await }
    });
    for peer in &mut quick {
        assert_eq!(number_of(&peer.expect_data().await), sent);
    }
    assert!(!broadcast.is_finished());
    for number in 0..=sent {
        assert_eq!(number_of(&slow.expect_data().await), number);
    }
    let report = within("the broadcast", broadcast).await.unwrap().unwrap();
    assert_eq!((report.sent, report.missed), (4, 0));
    net.stop().await;
}

async fn a_broadcast_with_a_dropping_policy_waits_for_nobody(over: Over) {
    let net = serve(over, policy(QueuePolicy::DropNewest)).await;
    let (_slow, session) = net.pair().await;
    let mut quick = net.open_peer().await;
    overfill(&session, 10).await;
    settle().await;
    let before = session.stats().dropped;
    let report = within("a broadcast", net.server.broadcast(numbered(1, LEN)))
        .await
        .unwrap();
    assert_eq!((report.sent, report.missed), (1, 1));
    assert_eq!(session.stats().dropped, before + 1);
    assert_eq!(number_of(&quick.expect_data().await), 1);
    net.stop().await;
}

async fn a_message_larger_than_the_outbox_passes_alone(over: Over) {
    let net = serve(over, |builder| {
        builder
            .limits(limits(|limits: &mut Limits| limits.outbox_bytes = 1_000))
            .on_message(|session: Session, message: Message| async move {
                session.send(message.clone()).await.unwrap();
                session.send(message).await.unwrap();
            })
    })
    .await;
    let (mut peer, session) = net.pair().await;
    for number in 0..5 {
        session.send(numbered(number, 500_000)).await.unwrap();
        assert_eq!(number_of(&peer.expect_data().await), number);
    }
    peer.data(numbered(9, 500_000)).await;
    assert_eq!(number_of(&peer.expect_data().await), 9);
    assert_eq!(number_of(&peer.expect_data().await), 9);
    net.stop().await;
}

async fn a_sender_that_waits_learns_of_the_end(over: Over) {
    let net = serve(over, policy(QueuePolicy::Wait)).await;
    let (peer, session) = net.pair().await;
    let sent = fill(&session).await;
    let sending = tokio::spawn({
        let session = session.clone();
        async move { session.send(numbered(sent, LEN)).await }
    });
    settle().await;
    drop(peer);
    let error = within("the send", sending).await.unwrap().unwrap_err();
    assert!(error.is_closed());
    assert_eq!(number_of(error.into_message().payload()), sent);
    within("closed", session.closed()).await;
    net.stop().await;
}

async fn pongs_overtake_what_waits(over: Over) {
    let net = serve(over, policy(QueuePolicy::Wait)).await;
    let (mut peer, session) = net.pair().await;
    let sent = fill(&session).await;
    for number in 0..50_u8 {
        peer.send(Frame::new(kind::PING, vec![number])).await;
    }
    settle().await;
    // It waits behind what was encoded already, not behind the outbox, and the newest stands for all.
    let (mut data, mut pongs) = (0, Vec::new());
    while data < sent {
        let frame = peer.receive().await.unwrap();
        match frame.kind {
            kind::DATA => {
                assert_eq!(number_of(&frame.payload), data);
                data += 1;
            }
            kind::PONG => pongs.push((data, frame.payload[0])),
            _ => panic!("{frame:?}"),
        }
    }
    let &(after, newest) = pongs.last().unwrap();
    assert_eq!(newest, 49);
    assert!(after < sent, "PONG came after all {sent} messages");
    assert!(pongs.len() <= 2, "{pongs:?}");
    net.stop().await;
}

async fn answers_to_requests_are_never_dropped(over: Over) {
    for when_full in [QueuePolicy::DropNewest, QueuePolicy::DropOldest] {
        let net = serve(over, |builder| {
            policy(when_full)(builder).on_request(|_, request| async move { Ok(request) })
        })
        .await;
        let (mut peer, session) = net.pair().await;
        overfill(&session, 10).await;
        for id in 0..20 {
            peer.request(id, numbered(id, LEN)).await;
        }
        settle().await;
        overfill(&session, session.stats().dropped + 100).await;
        let mut next = 0;
        while next < 20 {
            let frame = peer.receive().await.unwrap();
            if frame.kind == kind::RESPONSE {
                assert_eq!((frame.id, number_of(&frame.payload)), (next, next));
                next += 1;
            }
        }
        net.stop().await;
    }
}

/// Asks without reading; returns how many frames were taken off the peer's hands.
async fn flood(peer: &mut Peer, most: u64, frame: impl Fn(u64) -> Frame) -> u64 {
    let mut sent = 0;
    while sent < most {
        let mut sending = std::pin::pin!(peer.try_send(frame(sent)));
        tokio::select! {
            biased;
            result = &mut sending => result.unwrap(),
            () = settle() => {
                // It may have left half: the peer cannot take it back.
                return sent;
            }
        }
        sent += 1;
    }
    sent
}

async fn a_flood_of_requests_by_a_slow_reader_is_held_back(over: Over) {
    let net: Net = serve(over, |builder| {
        policy(QueuePolicy::Wait)(builder).on_request(|_, request| async move { Ok(request) })
    })
    .await;
    let (mut peer, session) = net.pair().await;
    let ask = |id| Frame::with_id(kind::REQUEST, id, numbered(id, LEN));
    let sent = flood(&mut peer, 50_000, ask).await;
    assert!(sent < 50_000, "200 MB and still no back-pressure");
    eventually("what waits is bounded", || {
        session.stats().queued_bytes <= 100_000 + 33 * LEN
    })
    .await;
    for id in 0..sent {
        let answer = peer.expect(kind::RESPONSE).await;
        assert_eq!((answer.id, number_of(&answer.payload)), (id, id));
    }
    net.stop().await;
}

async fn a_flood_of_control_frames_by_a_slow_reader_is_held_back(over: Over) {
    let net: Net = serve(over, policy(QueuePolicy::Wait)).await;
    let (mut peer, session) = net.pair().await;
    // Each is answered with about as many bytes, and no policy may drop an answer.
    let join = |number| {
        let group = format!("{number:03000}");
        Frame::new(
            kind::CONTROL,
            serde_json::json!({"op": "join", "group": group}).to_string(),
        )
    };
    let sent = flood(&mut peer, 50_000, join).await;
    assert!(sent < 50_000, "150 MB and still no back-pressure");
    let stats = session.stats();
    assert!(
        stats.queued_bytes < 1024 * 1024,
        "{} bytes of answers wait",
        stats.queued_bytes
    );
    for number in 0..sent {
        let refused = peer.receive().await.unwrap().json();
        assert_eq!(
            refused["group"].as_str().unwrap().parse::<u64>().unwrap(),
            number
        );
    }
    net.stop().await;
}
