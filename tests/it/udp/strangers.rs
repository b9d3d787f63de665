//! What nobody can do with datagrams: garbage, repeats, false addresses, floods.

use std::net::Ipv4Addr;
use std::time::Duration;

use network_system::{ErrorCode, Session};

use super::{MSGI, Plain, RAW, addr, frame, options, serve_udp};
use crate::support::{echo, eventually, kind, limits, log, numbered, record, timeouts, within};

#[tokio::test]
async fn what_is_no_frame_is_counted_and_never_answered_and_ends_nothing() {
    let (log, mut events) = log();
    let net = serve_udp(MSGI, |builder| record(echo(builder), &log)).await;
    let stranger = Plain::new(addr(&net)).await;
    let peer = Plain::new(addr(&net)).await;
    peer.send(&frame(kind::DATA, b"before")).await;
    assert_eq!(peer.receive().await, frame(kind::DATA, b"before"));
    let mut longer = frame(kind::DATA, b"x");
    longer.push(0);
    let mut two = frame(kind::DATA, b"x");
    two.extend(frame(kind::DATA, b"y"));
    let garbage = [
        b"".to_vec(),
        b"MSG".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        frame(kind::DATA, b"x")[..10].to_vec(),
        longer,
        two,
        frame(0x7fff, b"unknown"),
        frame(kind::REQUEST, b"short"),
        frame(kind::CONTROL, b"{not json"),
        frame(kind::PING, &[0; 126]),
    ];
    for bad in &garbage {
        stranger.send(bad).await;
        peer.send(bad).await;
    }
    let most = 2 * garbage.len() as u64;
    eventually("all are counted", || {
        net.server.stats().udp.malformed == most
    })
    .await;
    assert_eq!(stranger.arrived().await, Vec::<Vec<u8>>::new());
    assert_eq!(peer.arrived().await, Vec::<Vec<u8>>::new());
    peer.send(&frame(kind::DATA, b"after")).await;
    assert_eq!(peer.receive().await, frame(kind::DATA, b"after"));
    assert_eq!(net.server.stats().total_connections, 1);
    assert_eq!(net.server.stats().errors, 0);
    while let Some(event) = events.try_next() {
        assert!(
            matches!(event, crate::support::Event::Connected(_)),
            "{event:?}"
        );
    }
    net.stop().await;
}

#[tokio::test]
async fn last_words_and_answers_of_strangers_open_nothing() {
    let net = serve_udp(MSGI, echo).await;
    let stranger = Plain::new(addr(&net)).await;
    for kind in [kind::PONG, kind::RESPONSE, kind::DISCONNECT, kind::ERROR] {
        stranger.send(&frame(kind, &[0; 12])).await;
    }
    eventually("all are counted", || net.server.stats().udp.dropped == 4).await;
    assert_eq!(net.server.stats().total_connections, 0);
    assert_eq!(stranger.arrived().await.len(), 0);
    net.stop().await;
}

#[tokio::test]
async fn a_hello_that_the_network_repeats_ends_nothing() {
    let net = serve_udp(MSGI, echo).await;
    let peer = Plain::new(addr(&net)).await;
    let mut hello = br#"{"op":"hello","version":1}"#.to_vec();
    hello.resize(512, b' ');
    for _ in 0..2 {
        peer.send(&frame(kind::CONTROL, &hello)).await;
    }
    let welcome = peer.receive().await;
    assert!(String::from_utf8_lossy(&welcome).contains("welcome"));
    peer.send(&frame(kind::DATA, b"still here")).await;
    assert_eq!(peer.receive().await, frame(kind::DATA, b"still here"));
    assert_eq!(net.server.stats().udp.dropped, 1);
    net.stop().await;
}

#[tokio::test]
async fn an_address_that_never_answers_gets_no_more_than_came_from_it() {
    for (url, one) in [(RAW, 40), (MSGI, 30)] {
        let net = serve_udp(url, |builder| {
            builder.on_message(move |session: Session, _| async move {
                for number in 0..100 {
                    let _ = session.send(numbered(number, one)).await;
                }
            })
        })
        .await;
        let peer = Plain::new(addr(&net)).await;
        let first = match url {
            RAW => vec![0; 100],
            _ => frame(kind::DATA, &[0; 90]),
        };
        peer.send(&first).await;
        // 40 bytes each, with the head of a frame.
        let mut got: usize = 0;
        while got < 80 {
            got += peer.receive().await.len();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        got += peer.arrived().await.iter().map(Vec::len).sum::<usize>();
        assert_eq!(got, 80, "100 bytes came, so two of 40 may go");
        // It hears what it is sent: then the rest comes, and what the second one brings.
        peer.send(&first).await;
        let mut count = 2;
        while count < 200 {
            peer.receive().await;
            count += 1;
        }
        net.stop().await;
    }
}

#[tokio::test]
async fn a_flood_of_false_addresses_pushes_nobody_out_who_has_answered() {
    const MOST: usize = 200;
    let net = serve_udp(RAW, |builder| {
        // What the handler says to strangers would wait for them.
        echo(builder)
            .limits(limits(|limits| limits.max_connections = 1))
            .udp(options(|udp| {
                udp.max_sessions = MOST;
                udp.new_sessions = 0;
            }))
    })
    .await;
    let mut peers = Vec::new();
    for _ in 0..50 {
        let peer = Plain::new(addr(&net)).await;
        for _ in 0..2 {
            peer.send(b"here").await;
            assert_eq!(peer.receive().await, b"here");
        }
        peers.push(peer);
    }
    let mut most = 0;
    for source in 0..2_000_u32 {
        let [_, _, high, low] = source.to_be_bytes();
        let stranger = Plain::at(Ipv4Addr::new(127, 1, high, low), addr(&net)).await;
        stranger.send(b"false").await;
        if source % 50 == 0 {
            let peer = &peers[source as usize / 50 % peers.len()];
            peer.send(b"still").await;
            assert_eq!(peer.receive().await, b"still");
            most = most.max(net.server.session_count());
        }
    }
    for peer in &peers {
        peer.send(b"last").await;
        assert_eq!(peer.receive().await, b"last");
    }
    assert!(most <= MOST + 1_024, "{most} sessions");
    eventually("those that gave way are gone", || {
        net.server.session_count() <= MOST
    })
    .await;
    let stats = net.server.stats();
    assert!(stats.total_connections >= 1_000, "{stats:?}");
    net.stop().await;
}

#[tokio::test]
async fn one_address_begins_only_so_many_sessions_a_second() {
    let net = serve_udp(RAW, |builder| {
        echo(builder).udp(options(|udp| udp.new_sessions_per_address = 5))
    })
    .await;
    let mut answered = 0;
    let mut peers = Vec::new();
    for _ in 0..20 {
        let peer = Plain::new(addr(&net)).await;
        peer.send(b"one of many").await;
        peers.push(peer);
    }
    eventually("all are judged", || {
        let stats = net.server.stats();
        stats.udp.refused + stats.total_connections == 20
    })
    .await;
    for peer in &peers {
        answered += peer.arrived().await.len();
    }
    assert!((5..15).contains(&answered), "{answered}");
    // Others are not concerned.
    let other = Plain::at(Ipv4Addr::new(127, 0, 0, 2), addr(&net)).await;
    other.send(b"other").await;
    assert_eq!(other.receive().await, b"other");
    net.stop().await;
}

#[tokio::test]
async fn when_all_sessions_have_answered_a_new_one_is_refused() {
    let net = serve_udp(RAW, |builder| {
        echo(builder).udp(options(|udp| udp.max_sessions = 2))
    })
    .await;
    let mut peers = Vec::new();
    for _ in 0..2 {
        let peer = Plain::new(addr(&net)).await;
        for _ in 0..2 {
            peer.send(b"here").await;
            peer.receive().await;
        }
        peers.push(peer);
    }
    let third = Plain::new(addr(&net)).await;
    third.send(b"no room").await;
    eventually("it is refused", || net.server.stats().udp.refused == 1).await;
    // A place is free again when a session ends.
    let session = &net.server.sessions()[0];
    session.abort();
    within("closed", session.closed()).await;
    third.send(b"room").await;
    assert_eq!(third.receive().await, b"room");
    net.stop().await;
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_forgotten_without_a_word() {
    let (log, mut events) = log();
    let net = serve_udp(RAW, |builder| {
        record(echo(builder), &log).timeouts(timeouts(|timeouts| {
            timeouts.idle = Duration::from_millis(100)
        }))
    })
    .await;
    let peer = Plain::new(addr(&net)).await;
    peer.send(b"here").await;
    peer.receive().await;
    let reason = events.disconnected().await;
    assert_eq!(reason.code(), Some(ErrorCode::IdleTimeout));
    assert_eq!(net.server.session_count(), 0);
    assert_eq!(peer.arrived().await.len(), 0);
    // Its next datagram begins a new session.
    peer.send(b"again").await;
    assert_eq!(peer.receive().await, b"again");
    assert_eq!(net.server.stats().total_connections, 2);
    net.stop().await;
}
