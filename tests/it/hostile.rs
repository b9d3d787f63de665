//! Peers that break the protocol, vanish, or use up what the process has.

use std::time::Duration;

use network_system::{CodecKind, ErrorCode, Server};
use socket2::SockRef;
use tokio::net::TcpStream;

use crate::support::{
    Event, Frame, Net, Over, Peer, alloc, echo, eventually, kind, limits, log, record,
    record_messages, serve,
    websocket::{self, Ask},
    within,
};

over_all! {
    requests:
        invalid_utf8_in_a_text_is_replaced;
    errors:
        a_frame_that_breaks_the_rules_is_answered_with_one_error,
        what_came_before_a_bad_frame_is_handled_and_answered,
        what_comes_after_a_bad_frame_is_not_handled,
        an_error_of_the_peer_ends_the_session_without_an_answer;
    reliability:
        a_peer_that_vanishes_in_the_middle_of_everything_is_only_gone;
    size:
        a_message_over_the_limit_is_refused_and_one_of_the_limit_is_not;
    stream:
        bytes_that_are_no_frame_are_answered_with_one_error,
        a_frame_may_arrive_in_any_pieces,
        what_a_peer_sends_after_its_error_is_read_and_forgotten,
        a_stream_that_ends_inside_a_frame_is_connection_closed,
        a_declared_length_allocates_nothing,
        a_large_frame_holds_little_more_than_what_arrived;
    codecs:
        a_bad_header_is_refused_before_its_payload;
    tcp:
        a_burst_of_300_resets_hurts_nobody;
}

/// One more session on each worker, to see that they do not notice.
async fn bystanders(net: &Net) -> (Peer, Peer) {
    (net.open_peer().await, net.open_peer().await)
}

async fn unharmed((one, two): &mut (Peer, Peer)) {
    one.data("unharmed").await;
    assert_eq!(one.expect_data().await, "unharmed");
    two.data("unharmed").await;
    assert_eq!(two.expect_data().await, "unharmed");
}

async fn a_frame_that_breaks_the_rules_is_answered_with_one_error(over: Over) {
    let (log, mut events) = log();
    let net = serve(over, |builder| record(echo(builder), &log)).await;
    let mut others = bystanders(&net).await;
    for (frame, why) in [
        (Frame::new(0x0000, ""), "an unknown type"),
        (Frame::new(0x0003, "x"), "an unknown type"),
        (
            Frame::new(0x7FFF, ""),
            "the last type before the application's",
        ),
        (Frame::new(kind::PING, vec![0; 126]), "a long PING"),
        (Frame::new(kind::PONG, vec![0; 126]), "a long PONG"),
        (
            Frame::new(kind::HEARTBEAT, vec![0; 126]),
            "a long HEARTBEAT",
        ),
        (Frame::new(kind::ERROR, "abc"), "an ERROR without a code"),
        (
            Frame::new(kind::ERROR, vec![b'x'; 4 + 1_025]),
            "a long ERROR",
        ),
        (
            Frame::with_id(kind::FAILURE, 1, "abc"),
            "a FAILURE without a code",
        ),
        (
            Frame::with_id(kind::FAILURE, 1, vec![b'x'; 4 + 1_025]),
            "a long FAILURE",
        ),
        (
            Frame::new(kind::DISCONNECT, vec![b'x'; 1_025]),
            "a long DISCONNECT",
        ),
        (
            Frame::new(kind::CONTROL, vec![b' '; 64 * 1024 + 1]),
            "a long CONTROL",
        ),
    ] {
        for opened in [false, true] {
            let mut peer = net.peer().await;
            if opened {
                peer.data("open").await;
                assert_eq!(peer.expect_data().await, "open");
            }
            peer.send(frame.clone()).await;
            let (code, text) = peer.expect_error_and_end().await;
            assert_eq!(code, -643, "{why}");
            assert!(!text.is_empty() && text.len() <= 1_024, "{why}: {text}");
            drop(peer);
            if opened {
                let reason = events.disconnected().await;
                assert_eq!(reason.code(), Some(ErrorCode::InvalidFrame), "{why}");
                assert_eq!(reason.closed_by(), network_system::ClosedBy::Local);
            }
        }
        unharmed(&mut others).await;
    }
    // The longest that are allowed.
    let mut peer = net.peer().await;
    peer.send(Frame::new(kind::HEARTBEAT, vec![0; 125])).await;
    peer.send(Frame::new(kind::PONG, vec![0; 125])).await;
    let failure = [&(-647_i32).to_be_bytes()[..], &[b'x'; 1_024]].concat();
    peer.send(Frame::with_id(kind::FAILURE, 1, failure)).await;
    peer.ping_pong(&[7; 125]).await;
    peer.send(Frame::new(kind::DISCONNECT, vec![b'x'; 1_024]))
        .await;
    peer.expect(kind::DISCONNECT).await;
    assert_eq!(net.server.stats().errors, 24);
    net.stop().await;
}

async fn what_came_before_a_bad_frame_is_handled_and_answered(over: Over) {
    let net = serve(over, |builder| {
        echo(builder).on_request(|_, request| async move {
            tokio::task::yield_now().await;
            Ok(request)
        })
    })
    .await;
    let mut peer = net.peer().await;
    peer.send_together(vec![
        Frame::new(kind::DATA, "a"),
        Frame::with_id(kind::REQUEST, 4, "b"),
        Frame::new(kind::DATA, "c"),
        Frame::new(0x0099, "?"),
    ])
    .await;
    let mut answers = vec![peer.receive().await.unwrap(), peer.receive().await.unwrap()];
    answers.push(peer.receive().await.unwrap());
    answers.sort_by_key(|frame| frame.kind);
    let expected = [
        Frame::new(kind::DATA, "a"),
        Frame::new(kind::DATA, "c"),
        Frame::with_id(kind::RESPONSE, 4, "b"),
    ];
    assert_eq!(answers, expected);
    assert_eq!(peer.expect_error_and_end().await.0, -643);
    net.stop().await;
}

async fn what_comes_after_a_bad_frame_is_not_handled(over: Over) {
    let (log, mut events) = log();
    let net = serve(over, |builder| record_messages(record(builder, &log), &log)).await;
    // Bad in its header, and bad in its payload.
    for bad in [Frame::new(0x0099, "?"), Frame::new(kind::CONTROL, "?")] {
        let mut peer = net.peer().await;
        peer.send_together(vec![
            Frame::new(kind::DATA, "before"),
            bad,
            Frame::new(kind::DATA, "after"),
            Frame::new(kind::PING, "after"),
        ])
        .await;
        assert_eq!(peer.expect_error_and_end().await.0, -643);
        let _ = peer.try_send(Frame::new(kind::DATA, "much later")).await;
        drop(peer);
        assert_eq!(events.message().await.payload(), b"before");
        loop {
            match events.next().await {
                Event::Message(message) => panic!("handled {message:?}"),
                Event::Disconnected(..) => break,
                _ => {}
            }
        }
    }
    net.stop().await;
}

async fn an_error_of_the_peer_ends_the_session_without_an_answer(over: Over) {
    let (log, mut events) = log();
    let net = serve(over, |builder| record(echo(builder), &log)).await;
    let mut peer = net.open_peer().await;
    let error = [&(-649_i32).to_be_bytes()[..], b"you are slow"].concat();
    peer.send(Frame::new(kind::ERROR, error)).await;
    peer.expect_end().await;
    let reason = events.disconnected().await;
    assert_eq!(reason.code(), Some(ErrorCode::SlowConsumer));
    assert_eq!(reason.text(), "you are slow");
    assert_eq!(reason.closed_by(), network_system::ClosedBy::Remote);
    net.stop().await;
}

async fn a_peer_that_vanishes_in_the_middle_of_everything_is_only_gone(over: Over) {
    let (log, mut events) = log();
    let net = serve(over, |builder| {
        record(echo(builder), &log).on_request(|_, request| async move {
            tokio::task::yield_now().await;
            Ok(request)
        })
    })
    .await;
    let mut others = bystanders(&net).await;
    for round in 0..60_u64 {
        let mut peer = net.open_peer().await;
        for number in 0..round % 7 {
            peer.data(vec![1; 1_000 * round as usize]).await;
            peer.request(number, "?").await;
        }
        drop(peer);
        events.disconnected().await;
    }
    unharmed(&mut others).await;
    assert_eq!(net.server.session_count(), 2);
    net.stop().await;
}

async fn invalid_utf8_in_a_text_is_replaced(over: Over) {
    let (log, mut events) = log();
    let net = serve(over, |builder| record(builder, &log)).await;
    let mut peer = net.open_peer().await;
    peer.send(Frame::new(kind::DISCONNECT, &b"good\xFFbye"[..]))
        .await;
    peer.expect(kind::DISCONNECT).await;
    drop(peer);
    assert_eq!(events.disconnected().await.text(), "good\u{FFFD}bye");
    net.stop().await;
}

async fn a_message_over_the_limit_is_refused_and_one_of_the_limit_is_not(over: Over) {
    const LIMIT: usize = 10_000;
    let net = serve(over, |builder| {
        echo(builder)
            .on_request(|_, request| async move { Ok(request) })
            .limits(limits(|limits| limits.message_size = LIMIT))
    })
    .await;
    let mut others = bystanders(&net).await;
    for kind in [kind::DATA, kind::REQUEST, 0x8001] {
        let mut peer = net.peer().await;
        peer.send(Frame::with_id(kind, 1, vec![1; LIMIT])).await;
        assert_eq!(peer.receive().await.unwrap().payload.len(), LIMIT);
        peer.send(Frame::with_id(kind, 1, vec![1; LIMIT + 1])).await;
        assert_eq!(peer.expect_error_and_end().await.0, -642);
    }
    let mut peer = net.peer().await;
    peer.send(Frame::with_id(kind::RESPONSE, 1, vec![1; LIMIT + 1]))
        .await;
    assert_eq!(peer.expect_error_and_end().await.0, -642);
    unharmed(&mut others).await;
    net.stop().await;
}

async fn bytes_that_are_no_frame_are_answered_with_one_error(over: Over) {
    let net = serve(over, echo).await;
    let mut others = bystanders(&net).await;
    let header = |length: u32, kind: u16| {
        [b"MSGI", &length.to_be_bytes()[..], &kind.to_be_bytes()[..]].concat()
    };
    for bytes in [
        b"X".to_vec(),
        b"MSGX".to_vec(),
        b"MSG\0aaaaaaaaaaaaaaaa".to_vec(),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        header(0, kind::DATA),
        header(9, kind::DATA),
        header(10, 0x0004),
        header(17, kind::REQUEST),
        header(17, kind::RESPONSE),
        header(21, kind::FAILURE),
        header(13, kind::ERROR),
        header(10, kind::HEARTBEAT)
            .into_iter()
            .chain(*b"JUNK")
            .collect(),
    ] {
        let mut peer = net.peer().await;
        peer.write_unit(&bytes).await;
        assert_eq!(peer.expect_error_and_end().await.0, -643, "{bytes:?}");
    }
    for length in [u32::MAX - 10, 1024 * 1024 + 1] {
        let mut peer = net.peer().await;
        let declared = peer.declare(length);
        peer.write(&declared).await;
        assert_eq!(peer.expect_error_and_end().await.0, -642);
    }
    unharmed(&mut others).await;
    net.stop().await;
}

async fn a_frame_may_arrive_in_any_pieces(over: Over) {
    let net = serve(over, |builder| {
        echo(builder).on_request(|_, request| async move { Ok(request) })
    })
    .await;
    // The request is last: requests run beside messages.
    let frames = [
        Frame::new(kind::DATA, ""),
        Frame::new(kind::DATA, "x"),
        Frame::new(0x9000, vec![7; 300]),
        Frame::with_id(kind::REQUEST, 77, "request"),
    ];
    for step in [1, 2, 3, 9, 10, 11, 13, 64, usize::MAX] {
        let mut peer = net.peer().await;
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| peer.encode(frame)).collect();
        for piece in bytes.chunks(step) {
            peer.write(piece).await;
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        }
        for frame in &frames {
            let mut expected = frame.clone();
            if expected.kind == kind::REQUEST {
                expected.kind = kind::RESPONSE;
            }
            assert_eq!(
                peer.receive().await.unwrap(),
                expected,
                "in steps of {step}"
            );
        }
    }
    // A large one, cut where buffers change hands.
    let large: Vec<u8> = (0..700_000_u32).map(|at| (at % 251) as u8).collect();
    let frame = Frame::new(kind::DATA, large.clone());
    for first in [5, 10, 11, 16_383, 16_384, 16_395, 262_144, 699_999] {
        let mut peer = net.peer().await;
        let bytes = peer.encode(&frame);
        peer.write(&bytes[..first]).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        peer.write(&bytes[first..]).await;
        assert!(peer.expect_data().await == large, "cut at {first}");
        peer.ping_pong(b"in step").await;
    }
    net.stop().await;
}

async fn a_bad_header_is_refused_before_its_payload(over: Over) {
    let net = serve(over, echo).await;
    let mut peer = net.peer().await;
    peer.data("one").await;
    // Magic and length are judged as soon as they are there.
    peer.write(b"MSGI\0\0\0\x09").await;
    assert_eq!(peer.expect_data().await, "one");
    assert_eq!(peer.expect_error_and_end().await.0, -643);
    net.stop().await;
}

async fn what_a_peer_sends_after_its_error_is_read_and_forgotten(over: Over) {
    let net = serve(over, echo).await;
    let mut peer = net.peer().await;
    // More than socket buffers hold would do, but less than what is discarded at most.
    let mut bytes = peer.encode(&Frame::new(0x0044, "bad"));
    bytes.extend(vec![0x55; 200 * 1024]);
    peer.write(&bytes).await;
    // The ERROR is not lost to a reset.
    assert_eq!(peer.expect_error_and_end().await.0, -643);
    // Nobody reads for ever.
    let flood = async { while peer.try_write(&[0x55; 64 * 1024]).await.is_ok() {} };
    within("the server closes", flood).await;
    net.stop().await;
}

async fn a_stream_that_ends_inside_a_frame_is_connection_closed(over: Over) {
    let (log, mut events) = log();
    let net = serve(over, |builder| record_messages(record(builder, &log), &log)).await;
    for cut in [3, 9, 10, 12] {
        let mut peer = net.peer().await;
        peer.data("whole").await;
        let half = peer.encode(&Frame::new(kind::DATA, "half"));
        peer.write(&half[..cut]).await;
        peer.cut_off().await;
        peer.expect_end().await;
        assert_eq!(events.message().await.payload(), b"whole");
        let reason = events.disconnected().await;
        assert_eq!(reason.code(), Some(ErrorCode::ConnectionClosed));
        assert_eq!(reason.closed_by(), network_system::ClosedBy::Transport);
    }
    // At a boundary it is an orderly end.
    let mut peer = net.peer().await;
    peer.data("whole").await;
    peer.shutdown().await;
    peer.expect_end().await;
    assert!(events.disconnected().await.is_orderly());
    net.stop().await;
}

async fn a_declared_length_allocates_nothing(over: Over) {
    // Server, sessions and peer are all on this thread, whose allocations are counted.
    let net = serve(over, |builder| {
        echo(builder).limits(limits(|limits| limits.message_size = 1024 * 1024 * 1024))
    })
    .await;
    let mut warm = net.peer().await;
    warm.data(vec![1; 1_000]).await;
    warm.expect_data().await;
    let mut peers = Vec::new();
    alloc::reset_largest();
    let held = alloc::held();
    for _ in 0..8 {
        let mut peer = net.peer().await;
        let mut bytes = peer.declare(1024 * 1024 * 1024);
        bytes.extend([7; 20]);
        for piece in bytes.chunks(7) {
            peer.write(piece).await;
            warm.ping_pong(b"it was read").await;
        }
        peers.push(peer);
    }
    assert!(
        alloc::largest() <= 256 * 1024,
        "allocated {} at once",
        alloc::largest()
    );
    let grown = (alloc::held() - held) / 8;
    assert!(grown < 32 * 1024, "{grown} bytes held for each");
    net.stop().await;
}

async fn a_large_frame_holds_little_more_than_what_arrived(over: Over) {
    let net = serve(over, |builder| {
        echo(builder).limits(limits(|limits| limits.message_size = 1024 * 1024 * 1024))
    })
    .await;
    let mut warm = net.open_peer().await;
    let mut peer = net.peer().await;
    let declared = peer.declare(1024 * 1024 * 1024);
    peer.write(&declared).await;
    let (mut arrived, piece) = (0_usize, vec![7; 50_000]);
    for _ in 0..60 {
        alloc::reset_largest();
        peer.write(&piece).await;
        warm.ping_pong(b"it was read").await;
        arrived += piece.len();
        let most = (arrived * 4 + 1_000).max(512 * 1024);
        assert!(
            alloc::largest() <= most,
            "{} for {arrived} bytes",
            alloc::largest()
        );
    }
    net.stop().await;
}

/// What a peer sends at once.
fn first_words(url: &str) -> Vec<u8> {
    let frame = Frame::new(kind::DATA, vec![1; 100]).encode();
    match url.split_once("://").unwrap() {
        ("ws" | "wss", host) => {
            let host = host.trim_end_matches('/');
            let mut bytes = Ask::msgi().text(host).into_bytes();
            bytes.extend(websocket::encode(true, websocket::BINARY, &frame));
            bytes
        }
        _ => frame,
    }
}

async fn a_burst_of_300_resets_hurts_nobody(over: Over) {
    let (log, mut events) = log();
    let net = serve(over, |builder| record(echo(builder), &log)).await;
    let mut others = bystanders(&net).await;
    let addr = net.server.local_addrs()[0];
    for number in 0..300 {
        let stream = TcpStream::connect(addr).await.unwrap();
        SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        // Some say nothing, some half of a frame, some a whole one.
        let bytes = first_words(&net.url);
        let said = match number % 3 {
            0 => 0,
            1 => bytes.len() / 2,
            _ => bytes.len(),
        };
        let _ = stream.try_write(&bytes[..said]);
        if number % 2 == 0 {
            tokio::task::yield_now().await;
        }
        drop(stream);
        if number % 50 == 0 {
            unharmed(&mut others).await;
        }
    }
    unharmed(&mut others).await;
    eventually("all are gone", || net.server.session_count() == 2).await;
    let mut new = net.open_peer().await;
    new.ping_pong(b"new").await;
    let opened = net.server.stats().total_connections;
    net.stop().await;
    drop(log);
    let (mut connected, mut disconnected) = (0, 0);
    while let Some(event) = events.try_next() {
        match event {
            Event::Connected(_) => connected += 1,
            Event::Disconnected(..) => disconnected += 1,
            _ => {}
        }
    }
    assert_eq!((connected, disconnected), (opened, opened));
}

#[tokio::test]
async fn a_codec_without_control_frames_is_closed_without_a_word() {
    let server = echo(Server::builder())
        .listen("tcp://127.0.0.1:0?codec=length")
        .limits(limits(|limits| limits.message_size = 100))
        .build()
        .unwrap();
    server.start().await.unwrap();
    let mut peer = Peer::connect(&server.urls()[0]).await;
    peer.write(&101_u32.to_be_bytes()).await;
    assert_eq!(peer.read_to_end().await, b"");
    assert_eq!(CodecKind::Length.name(), "length");
    server.stop_within(Duration::ZERO).await.unwrap();
}
