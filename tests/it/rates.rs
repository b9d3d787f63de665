//! Limits of rates: messages and bytes a second, and connections a second.

use std::time::Duration;

use network_system::{
    ErrorCode, Limits, Message, Rate, RatePolicy, RequestError, ServerBuilder, Session,
};
use tokio::time::Instant;

use crate::support::{
    Event, Frame, Over, eventually, kind, limits, log, number_of, numbered, record,
    record_messages, serve, within,
};

over_all! {
    reliability:
        messages_beyond_the_rate_wait_and_none_is_lost,
        messages_beyond_the_rate_are_dropped_and_requests_refused,
        whoever_sends_too_fast_is_told_and_disconnected,
        a_peer_that_waits_is_answered_its_pings,
        what_still_waits_at_the_end_is_handed_over,
        a_client_may_limit_what_it_receives_too;
    tcp:
        sessions_of_one_address_share_its_rate,
        connections_beyond_the_rate_of_an_address_are_refused,
        connections_beyond_the_rate_of_the_server_wait;
}

fn session_rate(rate: Rate) -> Limits {
    limits(|limits| limits.session_rate = Some(rate))
}

fn recorded(rate: Rate, log: &crate::support::Log) -> impl FnOnce(ServerBuilder) -> ServerBuilder {
    let log = log.clone();
    move |builder| record_messages(record(builder, &log), &log).limits(session_rate(rate))
}

async fn messages_beyond_the_rate_wait_and_none_is_lost(over: Over) {
    let (log, mut events) = log();
    let rate = Rate::new(1_000, 0).burst(Duration::from_millis(100));
    let net = serve(over, recorded(rate, &log)).await;
    let mut peer = net.open_peer().await;
    let began = Instant::now();
    for number in 0..600 {
        peer.data(numbered(number, 20)).await;
    }
    for number in 0..600 {
        assert_eq!(number_of(events.message().await.payload()), number);
    }
    // 100 at once, and 500 at 1,000 a second.
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(480), "{took:?}");
    let stats = net.server.stats();
    assert_eq!((stats.rate_limited, stats.dropped), (0, 0));
    assert!(stats.throttled > 0);
    net.stop().await;
}

async fn messages_beyond_the_rate_are_dropped_and_requests_refused(over: Over) {
    let (log, mut events) = log();
    let rate = Rate::new(10, 0).when_exceeded(RatePolicy::Drop);
    let net = serve(over, recorded(rate, &log)).await;
    let (mut peer, session) = net.pair().await;
    for number in 0..50 {
        peer.data(numbered(number, 20)).await;
    }
    peer.send(Frame::with_id(kind::REQUEST, 7, "too much"))
        .await;
    let failure = peer.expect(kind::FAILURE).await;
    assert_eq!(failure.id, 7);
    assert_eq!(failure.code_and_text().0, ErrorCode::RateLimited.as_i32());
    let handled = net.server.stats().rate_limited;
    assert!((35..=41).contains(&handled), "{handled}");
    assert_eq!(session.stats().rate_limited, handled);
    let mut last = None;
    while let Some(event) = events.try_next() {
        if let Event::Message(message) = event {
            let number = number_of(message.payload());
            assert!(last < Some(number));
            last = Some(number);
        }
    }
    // The session goes on.
    peer.ping_pong(b"still here").await;
    net.stop().await;
}

async fn whoever_sends_too_fast_is_told_and_disconnected(over: Over) {
    let (log, mut events) = log();
    let rate = Rate::new(10, 0).when_exceeded(RatePolicy::Disconnect);
    let net = serve(over, recorded(rate, &log)).await;
    let mut peer = net.open_peer().await;
    let mut good = net.open_peer().await;
    for number in 0..50 {
        let _ = peer
            .try_send(Frame::new(kind::DATA, numbered(number, 20)))
            .await;
    }
    let (code, _) = peer.expect_error_and_end().await;
    assert_eq!(code, ErrorCode::RateLimited.as_i32());
    drop(peer);
    let reason = events.disconnected().await;
    assert_eq!(reason.code(), Some(ErrorCode::RateLimited));
    good.ping_pong(b"others do not notice").await;
    assert!(net.server.stats().rate_limited > 0);
    net.stop().await;
}

async fn a_peer_that_waits_is_answered_its_pings(over: Over) {
    let (log, _events) = log();
    let net = serve(over, recorded(Rate::new(1, 0), &log)).await;
    let mut peer = net.open_peer().await;
    for number in 0..20 {
        peer.data(numbered(number, 20)).await;
    }
    peer.ping_pong(b"I am only impatient").await;
    assert!(net.server.stats().throttled > 0);
    net.stop().await;
}

async fn what_still_waits_at_the_end_is_handed_over(over: Over) {
    let (log, mut events) = log();
    let net = serve(over, recorded(Rate::new(1, 0), &log)).await;
    let mut peer = net.open_peer().await;
    for number in 0..20 {
        peer.data(numbered(number, 20)).await;
    }
    peer.send(Frame::new(kind::DISCONNECT, "")).await;
    let began = Instant::now();
    peer.shutdown().await;
    for number in 0..20 {
        assert_eq!(number_of(events.message().await.payload()), number);
    }
    assert!(began.elapsed() < Duration::from_secs(10));
    net.stop().await;
}

async fn a_client_may_limit_what_it_receives_too(over: Over) {
    let net = serve(over, |builder| {
        builder.on_connect(|session: Session| async move {
            for number in 0..300 {
                let _ = session.send(Message::binary(numbered(number, 20))).await;
            }
        })
    })
    .await;
    let rate = Rate::new(1_000, 0).burst(Duration::from_millis(100));
    let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
    let client = over
        .client(&net.url)
        .limits(session_rate(rate))
        .on_message(move |_: Session, message: Message| {
            let _ = sender.send(number_of(message.payload()));
            async {}
        })
        .build()
        .unwrap();
    let began = Instant::now();
    within("connect", client.connect()).await.unwrap();
    for number in 0..300 {
        assert_eq!(within("message", received.recv()).await, Some(number));
    }
    assert!(began.elapsed() >= Duration::from_millis(180));
    client.stop().await;
    net.stop().await;
}

async fn sessions_of_one_address_share_its_rate(over: Over) {
    let rate = Rate::new(10, 0).when_exceeded(RatePolicy::Drop);
    let net = serve(over, |builder| {
        builder
            .on_request(
                |_: Session, message: Message| async move { Ok::<_, RequestError>(message) },
            )
            .limits(limits(|limits| limits.ip_rate = Some(rate)))
    })
    .await;
    let mut answered = 0;
    for id in 0..40 {
        // Each on a connection of its own.
        let mut peer = net.open_peer().await;
        peer.send(Frame::with_id(kind::REQUEST, id, "one")).await;
        let frame = peer.receive().await.unwrap();
        answered += usize::from(frame.kind == kind::RESPONSE);
    }
    assert!((10..30).contains(&answered), "{answered}");
    net.stop().await;
}

async fn connections_beyond_the_rate_of_an_address_are_refused(over: Over) {
    let net = serve(over, |builder| {
        builder.limits(limits(|limits| {
            limits.handshakes_per_second_per_ip = 5;
            limits.handshakes_per_second = 1_000;
        }))
    })
    .await;
    let mut first = net.open_peer().await;
    let mut refused = 0;
    for _ in 0..20 {
        let mut peer = net.peer().await;
        let _ = peer.try_send(Frame::new(kind::PING, "in?")).await;
        match within("answer", peer.try_receive()).await {
            Ok(Some(frame)) if frame.kind == kind::PONG => {}
            Ok(Some(frame)) => {
                assert_eq!(frame.code_and_text().0, ErrorCode::RateLimited.as_i32());
                refused += 1;
            }
            // With some transports nothing can be said before their handshake.
            _ => refused += 1,
        }
    }
    assert!(refused >= 10, "{refused}");
    first.ping_pong(b"whoever is in stays").await;
    net.stop().await;
}

async fn connections_beyond_the_rate_of_the_server_wait(over: Over) {
    let net = serve(over, |builder| {
        builder.limits(limits(|limits| limits.handshakes_per_second = 50))
    })
    .await;
    let began = Instant::now();
    let mut peers = Vec::new();
    for _ in 0..30 {
        let mut peer = net.peer().await;
        peer.heartbeat().await;
        peers.push(peer);
    }
    eventually("all are let in", || net.server.session_count() == 30).await;
    // Five at once, and 25 at 50 a second.
    assert!(began.elapsed() >= Duration::from_millis(400));
    assert_eq!(net.server.stats().refused_connections, 0);
    for peer in &mut peers {
        peer.ping_pong(b"in").await;
    }
    net.stop().await;
}

#[test]
fn rates_that_make_no_sense_are_refused() {
    for rate in [
        Rate::new(0, 0),
        Rate::new(2_000_000_000, 0),
        Rate::new(0, u64::MAX),
        Rate::new(1, 1).burst(Duration::ZERO),
        Rate::new(1, 1).burst(Duration::from_secs(4_000)),
    ] {
        let server = network_system::Server::builder()
            .limits(session_rate(rate))
            .build();
        let error = server.err().unwrap();
        assert_eq!(error.code(), ErrorCode::InvalidConfiguration);
        assert!(error.to_string().contains("session_rate"), "{error}");
    }
}
