//! What a session does, on every transport.

use network_system::{CloseReason, Message, MessageKind, Session, SessionId, State};

use crate::support::{
    Event, Frame, Over, Peer, echo, eventually, group, kind, limits, log, number_of, numbered,
    record, record_messages, serve, settle, within,
};

over_all! {
    session:
        a_broadcast_spares_those_it_is_told_to,
        a_broadcast_to_a_group_reaches_its_members_only,
        the_connect_handler_runs_before_the_first_message,
        the_disconnect_handler_runs_once_with_the_peers_words,
        the_peers_words_are_heard_behind_a_handler_that_is_running,
        what_comes_after_a_disconnect_is_not_handled,
        the_reason_of_a_disconnect_reaches_the_peer,
        a_session_can_be_found_listed_and_ended_by_the_server,
        statistics_count_messages_and_bytes_each_way,
        a_session_keeps_data_and_extensions,
        a_session_says_who_and_where_it_is,
        states_follow_one_another;
    requests:
        ping_is_answered_with_its_payload_and_no_handler_hears_of_it,
        heartbeats_and_unasked_pongs_are_nobodys_messages,
        an_application_type_reaches_the_handler_with_its_number;
    order:
        messages_come_back_in_order_and_undamaged,
        messages_of_two_tasks_and_a_handler_keep_their_own_order,
        a_broadcast_reaches_everyone_once_and_in_order;
    reliability:
        a_session_that_ends_leaves_its_groups,
        an_aborted_session_ends_at_once,
        paused_reading_holds_the_peer_back_and_loses_nothing;
    size:
        messages_of_every_size_are_treated_alike,
        a_message_over_the_limit_cannot_be_sent_and_comes_back;
    addresses:
        a_server_listens_on_ipv6,
        both_ends_of_a_connection_are_known;
}

async fn messages_come_back_in_order_and_undamaged(over: Over) {
    let net = serve(over, echo).await;
    let mut peer = net.peer().await;
    // Windows of 16 messages, so that many share a read and a write.
    for window in 0..60_u64 {
        let numbers = window * 16..(window + 1) * 16;
        let frames = numbers.clone().map(|number| {
            let len = 8 + (number as usize * 97) % 5_000;
            Frame::new(kind::DATA, numbered(number, len))
        });
        peer.send_together(frames.collect()).await;
        for number in numbers {
            let payload = peer.expect_data().await;
            assert_eq!(number_of(&payload), number);
            assert_eq!(payload.len(), 8 + (number as usize * 97) % 5_000);
        }
    }
    peer.leave().await;
    net.stop().await;
}

async fn messages_of_two_tasks_and_a_handler_keep_their_own_order(over: Over) {
    // The first byte says who sent: the handler, or one of two tasks.
    let send = |session: Session, sender: u8| async move {
        for number in 0..200_u64 {
            let mut payload = vec![sender];
            payload.extend(number.to_be_bytes());
            session.send(payload).await.unwrap();
            if number % 17 == 0 {
                tokio::task::yield_now().await;
            }
        }
    };
    let net = serve(over, |builder| {
        builder.on_message(move |session: Session, _| async move {
            let tasks = [1, 2].map(|sender| tokio::spawn(send(session.clone(), sender)));
            send(session, 0).await;
            for task in tasks {
                task.await.unwrap();
            }
        })
    })
    .await;
    let mut peer = net.peer().await;
    peer.data("go").await;
    let mut next = [0_u64; 3];
    for _ in 0..600 {
        let payload = peer.expect_data().await;
        let number = u64::from_be_bytes(payload[1..].try_into().unwrap());
        let expected = &mut next[usize::from(payload[0])];
        assert_eq!(number, *expected, "sender {}", payload[0]);
        *expected += 1;
    }
    net.stop().await;
}

async fn open_peers(net: &crate::support::Net, count: usize) -> Vec<(Peer, SessionId)> {
    let mut peers = Vec::new();
    for _ in 0..count {
        let (peer, session) = net.pair().await;
        peers.push((peer, session.id()));
    }
    peers
}

async fn a_broadcast_reaches_everyone_once_and_in_order(over: Over) {
    let net = serve(over, |builder| builder).await;
    let mut peers = open_peers(&net, 7).await;
    let silent = net.peer().await;
    for number in 0..50 {
        let len = if number % 10 == 0 { 20_000 } else { 10 };
        let report = net.server.broadcast(numbered(number, len)).await.unwrap();
        assert_eq!((report.sent, report.missed), (7, 0));
    }
    for (peer, _) in &mut peers {
        for number in 0..50 {
            assert_eq!(number_of(&peer.expect_data().await), number);
        }
        peer.ping_pong(b"nothing else").await;
    }
    drop(silent);
    net.stop().await;
}

async fn a_broadcast_spares_those_it_is_told_to(over: Over) {
    let net = serve(over, |builder| builder).await;
    let mut peers = open_peers(&net, 4).await;
    let except = [peers[0].1, peers[2].1];
    let report = net.server.broadcast_except("news", &except).await.unwrap();
    assert_eq!(report.sent, 2);
    for (index, (peer, _)) in peers.iter_mut().enumerate() {
        if index % 2 == 1 {
            assert_eq!(peer.expect_data().await, "news");
        }
        peer.ping_pong(b"nothing else").await;
    }
    net.stop().await;
}

async fn a_broadcast_to_a_group_reaches_its_members_only(over: Over) {
    let net = serve(over, |builder| builder).await;
    let mut peers = open_peers(&net, 5).await;
    let (room, other) = (group("room"), group("other"));
    for (_, id) in &peers[..3] {
        let session = net.server.session(*id).unwrap();
        session.join(&room).unwrap();
        session.join(&room).unwrap();
        assert!(session.is_in(&room) && !session.is_in(&other));
    }
    net.server
        .session(peers[4].1)
        .unwrap()
        .join(&other)
        .unwrap();
    assert_eq!(net.server.members(&room).len(), 3);
    assert_eq!(net.server.groups().len(), 2);
    let report = net
        .server
        .broadcast_to(&room, "hi", &[peers[0].1])
        .await
        .unwrap();
    assert_eq!((report.sent, report.missed), (2, 0));
    let left = net.server.session(peers[1].1).unwrap();
    assert!(left.leave(&room));
    assert!(!left.leave(&room));
    let report = net.server.broadcast_to(&room, "again", &[]).await.unwrap();
    assert_eq!(report.sent, 2);
    let expected: [&[&str]; 5] = [&["again"], &["hi"], &["hi", "again"], &[], &[]];
    for ((peer, _), expected) in peers.iter_mut().zip(expected) {
        for text in expected {
            assert_eq!(peer.expect_data().await, *text);
        }
        peer.ping_pong(b"nothing else").await;
    }
    let nobody = net
        .server
        .broadcast_to(&group("empty"), "?", &[])
        .await
        .unwrap();
    assert_eq!((nobody.sent, nobody.missed), (0, 0));
    net.stop().await;
}

async fn a_session_that_ends_leaves_its_groups(over: Over) {
    let (log, mut events) = log();
    let net = serve(over, |builder| record(builder, &log)).await;
    let (peer, session) = net.pair().await;
    let (_stays, other) = net.pair().await;
    let room = group("room");
    session.join(&room).unwrap();
    other.join(&room).unwrap();
    drop(peer);
    events.disconnected().await;
    assert_eq!(net.server.members(&room), [other.id()]);
    assert!(session.groups().is_empty());
    assert!(
        session.join(&room).is_err(),
        "an ended session joins nothing"
    );
    assert_eq!(net.server.members(&room), [other.id()]);
    net.stop().await;
    assert!(net.server.groups().is_empty());
}

async fn the_connect_handler_runs_before_the_first_message(over: Over) {
    let (log, mut events) = log();
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let (connects, opened) = (log.clone(), gate.clone());
    let net = serve(over, |builder| {
        record_messages(builder, &log).on_connect(move |session: Session| {
            let (log, gate) = (connects.clone(), opened.clone());
            async move {
                session.send("welcome").await.unwrap();
                gate.acquire().await.unwrap().forget();
                log.send(Event::Connected(session)).unwrap();
            }
        })
    })
    .await;
    let mut peer = net.peer().await;
    peer.data("first").await;
    assert_eq!(peer.expect_data().await, "welcome");
    peer.ping_pong(b"while the handler waits").await;
    assert!(events.try_next().is_none(), "the message waits");
    gate.add_permits(1);
    assert!(matches!(events.next().await, Event::Connected(_)));
    assert!(
        matches!(events.next().await, Event::Message(message) if message.payload() == b"first")
    );
    net.stop().await;
}

async fn the_disconnect_handler_runs_once_with_the_peers_words(over: Over) {
    let (log, mut events) = log();
    let net = serve(over, |builder| record(builder, &log)).await;
    let (mut peer, session) = net.pair().await;
    peer.send(Frame::new(kind::DISCONNECT, "so long")).await;
    peer.shutdown().await;
    peer.expect(kind::DISCONNECT).await;
    peer.expect_end().await;
    let reason = events.disconnected().await;
    assert_eq!((reason.code(), reason.text()), (None, "so long"));
    assert_eq!(reason.closed_by(), network_system::ClosedBy::Remote);
    assert_eq!(session.closed().await, reason);
    assert_eq!(session.state(), State::Disconnected);
    assert_eq!(
        session.send("late").await.unwrap_err().code(),
        network_system::ErrorCode::ConnectionClosed
    );
    net.stop().await;
    drop(log);
    drop(net);
    settle().await;
    while let Some(event) = events.try_next() {
        assert!(!matches!(event, Event::Disconnected(..)), "once is enough");
    }
}

async fn the_peers_words_are_heard_behind_a_handler_that_is_running(over: Over) {
    let (log, mut events) = log();
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let waits = gate.clone();
    let net = serve(over, |builder| {
        record(builder, &log).on_message(move |session: Session, message: Message| {
            let gate = waits.clone();
            async move {
                gate.acquire().await.unwrap().forget();
                session.send(message).await.unwrap();
            }
        })
    })
    .await;
    let mut peer = net.peer().await;
    peer.data("a").await;
    peer.ping_pong(b"the handler waits").await;
    peer.data("b").await;
    peer.send(Frame::new(kind::DISCONNECT, "so long")).await;
    peer.shutdown().await;
    settle().await;
    gate.add_permits(2);
    assert_eq!(peer.expect_data().await, "a");
    assert_eq!(peer.expect_data().await, "b");
    peer.expect(kind::DISCONNECT).await;
    peer.expect_end().await;
    let reason = events.disconnected().await;
    assert_eq!((reason.code(), reason.text()), (None, "so long"));
    net.stop().await;
}

async fn what_comes_after_a_disconnect_is_not_handled(over: Over) {
    let (log, mut events) = log();
    let net = serve(over, |builder| record_messages(record(builder, &log), &log)).await;
    let mut peer = net.open_peer().await;
    peer.send_together(vec![
        Frame::new(kind::DATA, "before"),
        Frame::new(kind::DISCONNECT, "the last frame"),
        Frame::new(kind::DATA, "after"),
    ])
    .await;
    while let Ok(Some(_)) = within("the end", peer.try_receive()).await {}
    drop(peer);
    assert_eq!(events.message().await.payload(), b"before");
    loop {
        match events.next().await {
            Event::Disconnected(_, reason) => {
                assert_eq!(reason.text(), "the last frame");
                break;
            }
            Event::Message(message) => panic!("handled {message:?}"),
            _ => {}
        }
    }
    net.stop().await;
}

async fn the_reason_of_a_disconnect_reaches_the_peer(over: Over) {
    let (log, mut events) = log();
    let net = serve(over, |builder| record(builder, &log)).await;
    let (mut peer, session) = net.pair().await;
    session.send("last words").await.unwrap();
    session.disconnect(CloseReason::new("maintenance"));
    session.disconnect(CloseReason::new("the first reason counts"));
    let refused = session.send("too late").await.unwrap_err();
    assert_eq!(refused.code(), network_system::ErrorCode::ConnectionClosed);
    assert_eq!(peer.expect_data().await, "last words");
    assert_eq!(peer.expect(kind::DISCONNECT).await.payload, "maintenance");
    peer.expect_end().await;
    // The peer has the last word, and it is delivered.
    peer.send(Frame::new(kind::DISCONNECT, "me too")).await;
    peer.shutdown().await;
    let reason = events.disconnected().await;
    assert_eq!((reason.code(), reason.text()), (None, "maintenance"));
    assert_eq!(reason.closed_by(), network_system::ClosedBy::Local);
    net.stop().await;
}

async fn a_session_can_be_found_listed_and_ended_by_the_server(over: Over) {
    let net = serve(over, |builder| builder).await;
    let (mut one, first) = net.pair().await;
    let (mut two, second) = net.pair().await;
    assert_eq!(net.server.session(first.id()), Some(first.clone()));
    assert_eq!(net.server.session_count(), 2);
    assert_ne!(first.id(), second.id());
    net.server.send(second.id(), "to the second").await.unwrap();
    assert_eq!(two.expect_data().await, "to the second");
    net.server
        .disconnect(first.id(), CloseReason::new("you"))
        .unwrap();
    assert_eq!(one.expect(kind::DISCONNECT).await.payload, "you");
    one.expect_end().await;
    one.shutdown().await;
    within("closed", first.closed()).await;
    assert_eq!(net.server.session(first.id()), None);
    let code = net
        .server
        .disconnect(first.id(), CloseReason::new("again"))
        .unwrap_err()
        .code();
    assert_eq!(code, network_system::ErrorCode::SessionNotFound);
    let unsent = net.server.send(first.id(), "lost?").await.unwrap_err();
    assert_eq!(unsent.code(), network_system::ErrorCode::SessionNotFound);
    assert_eq!(unsent.into_message().payload(), b"lost?");
    assert_eq!(net.server.disconnect_all(CloseReason::new("all")), 1);
    assert_eq!(two.expect(kind::DISCONNECT).await.payload, "all");
    two.shutdown().await;
    within("closed", second.closed()).await;
    // The server goes on.
    let mut three = net.open_peer().await;
    three.ping_pong(b"still here").await;
    net.stop().await;
}

async fn an_aborted_session_ends_at_once(over: Over) {
    let (log, mut events) = log();
    let net = serve(over, |builder| record(builder, &log)).await;
    let (mut peer, session) = net.pair().await;
    session.abort();
    // A stream may see a reset, which is as good as an end.
    let _ = within("the end", peer.try_receive()).await;
    let reason = events.disconnected().await;
    assert_eq!(
        reason.code(),
        Some(network_system::ErrorCode::ConnectionClosed)
    );
    assert_eq!(session.state(), State::Error);
    net.stop().await;
}

async fn paused_reading_holds_the_peer_back_and_loses_nothing(over: Over) {
    let (log, mut events) = log();
    let net = serve(over, |builder| record_messages(builder, &log)).await;
    let (mut peer, session) = net.pair().await;
    session.pause_reading();
    let (mut sent, payload_len) = (0, 64 * 1024);
    loop {
        let frame = Frame::new(kind::DATA, numbered(sent, payload_len));
        let mut sending = std::pin::pin!(peer.try_send(frame));
        let mut turns = 0;
        // The peer is held back when its write makes no progress however often the server runs.
        let held = std::future::poll_fn(|context| {
            turns += 1;
            if sending.as_mut().poll(context).is_ready() {
                return std::task::Poll::Ready(false);
            }
            if turns > 2_000 {
                return std::task::Poll::Ready(true);
            }
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
        if held {
            assert!(
                events.try_next().is_none(),
                "nothing is delivered while reading is paused"
            );
            session.resume_reading();
            within("room again", sending).await.unwrap();
            sent += 1;
            break;
        }
        sent += 1;
        assert!(sent < 1_000, "64 MiB and still no back-pressure");
    }
    for number in 0..sent {
        assert_eq!(number_of(events.message().await.payload()), number);
    }
    net.stop().await;
}

async fn statistics_count_messages_and_bytes_each_way(over: Over) {
    let net = serve(over, echo).await;
    let (mut peer, session) = net.pair().await;
    for len in [0, 10, 100, 1_000] {
        peer.data(vec![1; len]).await;
        assert_eq!(peer.expect_data().await.len(), len);
    }
    peer.ping_pong(b"not a message").await;
    let stats = session.stats();
    assert_eq!((stats.messages_received, stats.bytes_received), (4, 1_110));
    assert_eq!((stats.messages_sent, stats.bytes_sent), (4, 1_110));
    assert_eq!(
        (stats.queued_messages, stats.queued_bytes, stats.dropped),
        (0, 0, 0)
    );
    assert!(stats.last_message.is_some());
    let stats = net.server.stats();
    assert_eq!((stats.messages_received, stats.bytes_received), (4, 1_110));
    assert_eq!((stats.messages_sent, stats.bytes_sent), (4, 1_110));
    assert_eq!((stats.total_connections, stats.current_connections), (1, 1));
    assert_eq!(
        (stats.errors, stats.dropped, stats.refused_connections),
        (0, 0, 0)
    );
    assert!(stats.started_at.is_some() && stats.last_activity.is_some());
    session.reset_stats();
    net.server.reset_stats();
    peer.data("x").await;
    peer.expect_data().await;
    assert_eq!(session.stats().messages_received, 1);
    let stats = net.server.stats();
    assert_eq!((stats.messages_received, stats.messages_sent), (1, 1));
    assert_eq!((stats.total_connections, stats.current_connections), (0, 1));
    peer.leave().await;
    eventually("nobody is left", || {
        net.server.stats().current_connections == 0
    })
    .await;
    net.stop().await;
}

async fn a_session_keeps_data_and_extensions(over: Over) {
    let net = serve(over, |builder| builder).await;
    let (_peer, session) = net.pair().await;
    assert_eq!(session.data("name"), None);
    assert_eq!(session.set_data("name", "one"), None);
    assert_eq!(session.set_data("name", "two"), Some("one".to_owned()));
    assert_eq!(
        net.server
            .session(session.id())
            .unwrap()
            .data("name")
            .unwrap(),
        "two"
    );
    assert_eq!(session.remove_data("name"), Some("two".to_owned()));
    session.set_data("a", "b");
    session.clear_data();
    assert_eq!(session.data("a"), None);
    #[derive(Debug, PartialEq)]
    struct Score(u32);
    assert!(session.extension::<Score>().is_none());
    session.insert_extension(Score(1));
    session.insert_extension(Score(2));
    session.insert_extension(7_u64);
    assert_eq!(*session.extension::<Score>().unwrap(), Score(2));
    assert_eq!(*session.remove_extension::<u64>().unwrap(), 7);
    assert!(session.extension::<u64>().is_none());
    net.stop().await;
}

async fn a_session_says_who_and_where_it_is(over: Over) {
    let net = serve(over, |builder| builder).await;
    let (mut peer, session) = net.pair().await;
    assert_eq!(session.client_id(), session.id().to_string());
    assert_eq!(session.identity(), None);
    assert_eq!(
        format!("{}://", session.transport()),
        &net.url[..net.url.find("//").unwrap() + 2]
    );
    assert!(session.connected_at() <= session.last_activity());
    assert_eq!(session.to_owned(), session);
    assert!(format!("{session:?}").contains("Session"));
    peer.ping_pong(b"x").await;
    net.stop().await;
}

async fn states_follow_one_another(over: Over) {
    let net = serve(over, |builder| builder).await;
    let (mut peer, session) = net.pair().await;
    assert_eq!(session.state(), State::Connected);
    assert!(session.is_connected());
    let waiting = {
        let session = session.clone();
        tokio::spawn(async move { session.state_changed(State::Connected).await })
    };
    settle().await;
    session.disconnect(CloseReason::new("bye"));
    assert_eq!(
        within("a change", waiting).await.unwrap(),
        State::Disconnecting
    );
    peer.expect(kind::DISCONNECT).await;
    peer.shutdown().await;
    within("closed", session.closed()).await;
    assert_eq!(session.state(), State::Disconnected);
    net.stop().await;
}

async fn ping_is_answered_with_its_payload_and_no_handler_hears_of_it(over: Over) {
    let (log, mut events) = log();
    let net = serve(over, |builder| record_messages(builder, &log)).await;
    let mut peer = net.peer().await;
    let longest = vec![9_u8; 125];
    for payload in [&b""[..], b"p", &longest] {
        peer.send(Frame::new(kind::PING, payload.to_vec())).await;
        assert_eq!(peer.expect(kind::PONG).await.payload, payload);
    }
    // In one write with messages around them: the newest PONG may stand for all.
    let ping = |payload: &'static str| Frame::new(kind::PING, payload);
    let data = |payload: &'static str| Frame::new(kind::DATA, payload);
    peer.send_together(vec![data("a"), ping("1"), data("b"), ping("2"), data("c")])
        .await;
    while peer.expect(kind::PONG).await.payload != "2" {}
    for expected in [b"a", b"b", b"c"] {
        assert_eq!(events.message().await.payload(), expected);
    }
    settle().await;
    assert!(events.try_next().is_none());
    net.stop().await;
}

async fn heartbeats_and_unasked_pongs_are_nobodys_messages(over: Over) {
    let (log, mut events) = log();
    let net = serve(over, |builder| record_messages(builder, &log)).await;
    let mut peer = net.peer().await;
    peer.send(Frame::new(kind::HEARTBEAT, "")).await;
    peer.send(Frame::new(kind::HEARTBEAT, "opaque")).await;
    peer.send(Frame::new(kind::PONG, "nobody asked")).await;
    peer.data("a message").await;
    peer.ping_pong(b"end").await;
    assert_eq!(events.message().await.payload(), b"a message");
    assert!(events.try_next().is_none());
    assert_eq!(net.server.stats().messages_received, 1);
    net.stop().await;
}

async fn an_application_type_reaches_the_handler_with_its_number(over: Over) {
    let (log, mut events) = log();
    let net = serve(over, |builder| record_messages(builder, &log)).await;
    let (mut peer, session) = net.pair().await;
    for number in [0x8000, 0xABCD, 0xFFFF] {
        peer.send(Frame::new(number, "typed")).await;
        assert_eq!(
            events.message().await.kind(),
            MessageKind::Application(number)
        );
        session
            .send(Message::application(number, "back").unwrap())
            .await
            .unwrap();
        assert_eq!(peer.receive().await, Some(Frame::new(number, "back")));
    }
    net.server
        .broadcast(Message::application(0x8001, "all").unwrap())
        .await
        .unwrap();
    assert_eq!(peer.receive().await, Some(Frame::new(0x8001, "all")));
    net.stop().await;
}

/// Sizes at which code of this kind is known to change its mind.
const SIZES: &[usize] = &[
    0,
    1,
    2,
    9,
    10,
    11,
    125,
    126,
    127,
    255,
    256,
    1_023,
    1_024,
    4_085,
    4_086,
    4_095,
    4_096,
    4_097,
    16_383,
    16_384,
    16_385,
    65_525,
    65_526,
    65_535,
    65_536,
    65_537,
    131_072,
    262_133,
    262_134,
    262_144,
    262_145,
    524_288,
    LIMIT - 1,
    LIMIT,
];
const LIMIT: usize = 1024 * 1024;

async fn messages_of_every_size_are_treated_alike(over: Over) {
    let (log, mut events) = log();
    let counted = log.clone();
    let net = serve(over, |builder| {
        record(builder, &log).on_message(move |session: Session, message: Message| {
            counted.send(Event::Message(message.clone())).unwrap();
            async move { session.send(message).await.unwrap() }
        })
    })
    .await;
    let (mut peer, session) = net.pair().await;
    for &len in SIZES {
        let payload: Vec<u8> = (0..len).map(|at| (at * 31 + len) as u8).collect();
        peer.data(payload.clone()).await;
        assert!(
            peer.expect_data().await == payload,
            "{len} bytes were damaged"
        );
        assert!(
            events.message().await.payload() == payload,
            "{len} bytes were damaged"
        );
    }
    // And from outside the handler, small ones between large ones.
    let sender = tokio::spawn({
        let session = session.clone();
        async move {
            for &len in SIZES {
                session.send(vec![len as u8; len]).await.unwrap();
                session.send("").await.unwrap();
            }
        }
    });
    for &len in SIZES {
        assert!(
            peer.expect_data().await == vec![len as u8; len],
            "{len} bytes were damaged"
        );
        assert_eq!(peer.expect_data().await, "");
    }
    sender.await.unwrap();
    for &len in SIZES {
        net.server.broadcast(vec![len as u8; len]).await.unwrap();
        assert!(
            peer.expect_data().await == vec![len as u8; len],
            "{len} bytes were damaged"
        );
    }
    let total: usize = SIZES.iter().sum();
    let stats = session.stats();
    let count = SIZES.len() as u64;
    assert_eq!(
        (stats.messages_received, stats.bytes_received),
        (count, total as u64)
    );
    assert_eq!(
        (stats.messages_sent, stats.bytes_sent),
        (4 * count, 3 * total as u64)
    );
    net.stop().await;
}

async fn a_message_over_the_limit_cannot_be_sent_and_comes_back(over: Over) {
    let net = serve(over, |builder| {
        builder.limits(limits(|limits| limits.message_size = 1_000))
    })
    .await;
    let (mut peer, session) = net.pair().await;
    let error = session.send(vec![5; 1_001]).await.unwrap_err();
    assert_eq!(error.code(), network_system::ErrorCode::MessageTooLarge);
    assert_eq!(error.into_message().payload(), vec![5; 1_001]);
    let error = session.try_send(vec![5; 1_001]).unwrap_err();
    assert_eq!(error.code(), network_system::ErrorCode::MessageTooLarge);
    let error = net.server.broadcast(vec![5; 1_001]).await.unwrap_err();
    assert_eq!(error.code(), network_system::ErrorCode::MessageTooLarge);
    session.send(vec![5; 1_000]).await.unwrap();
    assert_eq!(peer.expect_data().await.len(), 1_000);
    net.stop().await;
}

async fn a_server_listens_on_ipv6(over: Over) {
    let server = echo(over.configure(network_system::Server::builder()))
        .listen(over.listen_url_at("[::1]"))
        .build()
        .unwrap();
    server.start().await.unwrap();
    let url = server.urls().remove(0);
    assert!(url.contains("://[::1]:"), "{url}");
    let mut peer = Peer::connect(&url).await;
    peer.data("six").await;
    assert_eq!(peer.expect_data().await, "six");
    assert!(server.sessions()[0].remote_addr().unwrap().is_ipv6());
    server.stop_within(std::time::Duration::ZERO).await.unwrap();
}

async fn both_ends_of_a_connection_are_known(over: Over) {
    let net = serve(over, |builder| builder).await;
    let (_peer, session) = net.pair().await;
    let bound = net.server.local_addrs()[0];
    assert_eq!(session.local_addr(), Some(bound));
    assert_ne!(bound.port(), 0);
    assert!(net.url.contains(&format!("://{bound}")), "{}", net.url);
    let remote = session.remote_addr().unwrap();
    assert!(remote.ip().is_loopback() && remote != bound);
    net.stop().await;
}
