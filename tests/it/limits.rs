//! Limits on connections.

use std::time::Duration;

use network_system::ErrorCode;

use crate::support::{
    Event, Frame, Net, Over, Peer, echo, eventually, kind, limits, log, record, serve, within,
};

over_all! {
    reliability:
        a_connection_over_the_limit_is_told_why_and_closed,
        a_place_is_free_again_when_its_connection_ends,
        connections_that_say_nothing_count_too,
        beyond_100_refusals_a_second_connections_are_only_closed;
    tcp:
        connections_from_one_address_are_limited;
}

/// A connection is refused, with a text that contains this.
async fn refused(over: Over, net: &Net, why: &str) {
    let mut peer = net.peer().await;
    if over.tells_refusals() {
        let (code, text) = peer.expect_error_and_end().await;
        assert_eq!(code, ErrorCode::TooManyConnections.as_i32());
        assert!(text.contains(why), "{text}");
    } else {
        peer.expect_end().await;
    }
}

async fn a_connection_over_the_limit_is_told_why_and_closed(over: Over) {
    let (log, mut events) = log();
    let net = serve(over, |builder| {
        record(echo(builder), &log).limits(limits(|limits| limits.max_connections = 2))
    })
    .await;
    let mut one = net.open_peer().await;
    let mut two = net.open_peer().await;
    for _ in 0..5 {
        refused(over, &net, "2").await;
    }
    // A refused peer that speaks first is refused the same way, and its message goes nowhere.
    let mut peer = net.peer().await;
    let _ = peer.try_send(Frame::new(kind::DATA, "me first")).await;
    if over.tells_refusals() {
        peer.expect(kind::ERROR).await;
    }
    peer.expect_end().await;
    for peer in [&mut one, &mut two] {
        peer.data("inside").await;
        assert_eq!(peer.expect_data().await, "inside");
    }
    let stats = net.server.stats();
    assert_eq!((stats.refused_connections, stats.total_connections), (6, 2));
    assert_eq!(stats.messages_received, 2);
    net.stop().await;
    let mut connected = 0;
    while let Some(event) = events.try_next() {
        connected += usize::from(matches!(event, Event::Connected(_)));
    }
    assert_eq!(connected, 2);
}

async fn a_place_is_free_again_when_its_connection_ends(over: Over) {
    let net = serve(over, |builder| {
        echo(builder).limits(limits(|limits| limits.max_connections = 1))
    })
    .await;
    for _ in 0..20 {
        let (peer, session) = net.pair().await;
        refused(over, &net, "").await;
        peer.leave().await;
        within("closed", session.closed()).await;
    }
    // Also when it never became a session.
    for _ in 0..20 {
        let mut peer = net.peer().await;
        peer.control("no JSON").await;
        peer.expect_error_and_end().await;
        drop(peer);
        // Refused until the server has seen the end, then not any more.
        loop {
            let mut next = net.peer().await;
            let _ = next.try_send(Frame::new(kind::PING, "")).await;
            match next.receive().await.map(|frame| frame.kind) {
                None | Some(kind::ERROR) => tokio::task::yield_now().await,
                Some(kind::PONG) => {
                    next.leave().await;
                    break;
                }
                Some(other) => panic!("{other}"),
            }
        }
        eventually("nobody is left", || net.server.session_count() == 0).await;
    }
    net.stop().await;
}

async fn connections_that_say_nothing_count_too(over: Over) {
    let net = serve(over, |builder| {
        echo(builder).limits(limits(|limits| limits.max_connections = 3))
    })
    .await;
    let _silent = [net.peer().await, net.peer().await, net.peer().await];
    refused(over, &net, "").await;
    net.stop().await;
}

async fn beyond_100_refusals_a_second_connections_are_only_closed(over: Over) {
    let net = serve(over, |builder| {
        echo(builder).limits(limits(|limits| limits.max_connections = 1))
    })
    .await;
    let mut inside = net.open_peer().await;
    let began = std::time::Instant::now();
    let (mut told, mut closed) = (0, 0);
    for _ in 0..250 {
        let mut peer = net.peer().await;
        match within("an end", peer.try_receive()).await {
            Ok(Some(frame)) => {
                assert_eq!(frame.code_and_text().0, -607);
                told += 1;
            }
            Ok(None) | Err(_) => closed += 1,
        }
    }
    let seconds = began.elapsed().as_secs_f64().ceil() as usize + 1;
    assert!(
        (told >= 100) == over.tells_refusals() && told <= 100 * seconds,
        "{told} told in {seconds} s"
    );
    assert!(closed > 0 || seconds > 2, "{closed} only closed");
    assert_eq!(net.server.stats().refused_connections, 250);
    inside.data("inside").await;
    assert_eq!(inside.expect_data().await, "inside");
    net.stop().await;
}

async fn connections_from_one_address_are_limited(over: Over) {
    let builder = echo(over.server())
        .listen(over.listen_url_at("[::1]"))
        .limits(limits(|limits| limits.max_connections_per_ip = 2));
    let net = Net::start(builder, |builder| builder).await;
    let six = net.server.urls().remove(1);
    let one = net.open_peer().await;
    let _two = net.open_peer().await;
    refused(over, &net, "one address").await;
    // Another address has places of its own.
    let mut other = Peer::connect(&six).await;
    other.ping_pong(b"in").await;
    one.leave().await;
    eventually("a place is free", || net.server.session_count() == 2).await;
    let mut again = net.open_peer().await;
    again.ping_pong(b"in").await;
    refused(over, &net, "").await;
    net.server.stop_within(Duration::ZERO).await.unwrap();
}
