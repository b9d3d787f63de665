//! Sessions over WebSocket: plain ones, and what the frames of those with MSGI stand in.

use std::time::Duration;

use bytes::Bytes;
use network_system::websocket::{Deflate, WebSocketClient, WebSocketServer};
use network_system::{
    Client, CloseReason, ClosedBy, ErrorCode, Message, MessageKind, Server, Session, Transport,
};
use tokio::time::Instant;

use crate::support::websocket::{
    Ask, BINARY, CONTINUATION, PING, TEXT, Ws, WsPeer, encode, encode_with,
};
use crate::support::{
    Event, Frame, Net, Over, Peer, echo, eventually, group, kind, limits, log, record,
    record_messages, serve, timeouts, within,
};

async fn plain(net: &Net) -> (WsPeer, Session) {
    let known: Vec<_> = net.server.sessions().iter().map(Session::id).collect();
    let mut peer = WsPeer::connect(&net.url, &Ask::new("/")).await;
    peer.ping_pong(b"open").await;
    let is_new = |session: &Session| !known.contains(&session.id());
    let session = net.server.sessions().into_iter().find(is_new).unwrap();
    (peer, session)
}

#[tokio::test]
async fn a_plain_session_opens_at_the_upgrade() {
    let (log, mut events) = log();
    let net = serve(Over::Ws, |builder| {
        record(builder, &log).on_connect(|session: Session| async move {
            session.send("welcome").await.unwrap();
        })
    })
    .await;
    let mut peer = WsPeer::connect(&net.url, &Ask::new("/")).await;
    assert_eq!(peer.receive().await, Ws::Text("welcome".into()));
    let session = net.server.sessions().remove(0);
    assert_eq!(session.transport(), Transport::WebSocket);
    assert!(session.is_connected());
    drop(peer);
    // An end between messages is in order without a close frame, as it is on every stream.
    let reason = events.disconnected().await;
    assert_eq!((reason.code(), reason.websocket_code()), (None, None));
    let mut peer = WsPeer::connect(&net.url, &Ask::new("/")).await;
    peer.receive().await;
    peer.write(&encode(false, TEXT, b"half")).await;
    drop(peer);
    let reason = events.disconnected().await;
    assert_eq!(reason.code(), Some(ErrorCode::ConnectionClosed));
    assert_eq!(reason.closed_by(), ClosedBy::Transport);
    net.stop().await;
}

#[tokio::test]
async fn text_and_binary_keep_their_kind() {
    let (log, mut events) = log();
    let net = serve(Over::Ws, |builder| record_messages(builder, &log)).await;
    let (mut peer, session) = plain(&net).await;
    peer.text("grüße").await;
    peer.send(BINARY, b"\xFF\0").await;
    // In fragments, with a control frame between them.
    peer.write(&encode(false, TEXT, "gr".as_bytes())).await;
    peer.write(&encode(false, CONTINUATION, b"\xC3")).await;
    peer.ping_pong(b"between").await;
    peer.write(&encode(true, CONTINUATION, b"\xBCn")).await;
    peer.send(BINARY, b"").await;
    for (kind, payload) in [
        (MessageKind::Text, "grüße".as_bytes()),
        (MessageKind::Binary, b"\xFF\0"),
        (MessageKind::Text, "grün".as_bytes()),
        (MessageKind::Binary, b""),
    ] {
        let message = events.message().await;
        assert_eq!((message.kind(), message.payload()), (kind, payload));
    }
    session.send(Message::text("back")).await.unwrap();
    session.send(Message::binary(vec![7; 3])).await.unwrap();
    assert_eq!(peer.receive().await, Ws::Text("back".into()));
    assert_eq!(peer.receive().await, Ws::Binary(vec![7; 3].into()));
    net.stop().await;
}

#[tokio::test]
async fn messages_of_every_length_class_come_back_in_both_kinds() {
    let net = serve(Over::Ws, echo).await;
    let (mut peer, _) = plain(&net).await;
    for len in [0, 1, 125, 126, 127, 4_095, 4_096, 65_535, 65_536, 300_000] {
        let text = "x".repeat(len);
        peer.text(&text).await;
        assert!(peer.receive().await == Ws::Text(text), "{len}");
        let bytes: Vec<u8> = (0..len).map(|at| (at * 7) as u8).collect();
        peer.send(BINARY, &bytes).await;
        assert!(peer.receive().await == Ws::Binary(bytes.into()), "{len}");
    }
    net.stop().await;
}

#[tokio::test]
async fn a_broadcast_reaches_a_group_on_all_transports_in_the_right_kind() {
    let server = Server::builder()
        .workers(2)
        .listen(Over::Ws.listen_url())
        .listen(Over::Tcp.listen_url())
        .listen(Over::Mem.listen_url())
        .build()
        .unwrap();
    server.start().await.unwrap();
    let urls = server.urls();
    let mut plain = WsPeer::connect(&urls[0], &Ask::new("/")).await;
    let deflate = Ask::new("/").deflate("permessage-deflate");
    let mut compressed = WsPeer::connect(&urls[0], &deflate).await;
    let mut framed = Vec::new();
    for url in &urls {
        let mut peer = Peer::connect(url).await;
        peer.ping_pong(b"open").await;
        framed.push(peer);
    }
    eventually("all are open", || server.session_count() == 5).await;
    let room = group("room");
    for session in server.sessions() {
        session.join(&room).unwrap();
    }
    for payload in ["hi".to_owned(), "0123456789".repeat(1_000)] {
        let text = Message::text(payload.clone());
        let report = server.broadcast_to(&room, text, &[]).await.unwrap();
        assert_eq!((report.sent, report.missed), (5, 0));
        let binary = Message::binary(payload.clone());
        server.broadcast_to(&room, binary, &[]).await.unwrap();
        for peer in [&mut plain, &mut compressed] {
            assert!(peer.receive().await == Ws::Text(payload.clone()));
            assert!(peer.receive().await == Ws::Binary(payload.clone().into()));
        }
        for peer in &mut framed {
            assert_eq!(peer.expect_data().await, payload);
            assert_eq!(peer.expect_data().await, payload);
        }
    }
    server.stop_within(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn close_codes_and_texts_go_both_ways() {
    let (log, mut events) = log();
    let net = serve(Over::Ws, |builder| record(builder, &log)).await;
    for (code, error) in [
        (1000, None),
        (1001, None),
        (1008, Some(ErrorCode::AccessDenied)),
        (1011, Some(ErrorCode::ConnectionClosed)),
        (4321, None),
    ] {
        let (mut peer, _) = plain(&net).await;
        peer.close(code, "so long").await;
        assert_eq!(peer.expect_close().await.0, Some(code));
        let reason = events.disconnected().await;
        assert_eq!(reason.websocket_code(), Some(code));
        assert_eq!((reason.code(), reason.text()), (error, "so long"));
        assert_eq!(reason.closed_by(), ClosedBy::Remote);
    }
    // A close frame may be empty.
    let (mut peer, _) = plain(&net).await;
    peer.write(&encode(true, 8, b"")).await;
    assert!(matches!(peer.receive().await, Ws::Close(..)));
    drop(peer);
    let reason = events.disconnected().await;
    assert_eq!((reason.websocket_code(), reason.code()), (Some(1005), None));
    // From this side.
    for (code, sent) in [(None, 1000), (Some(3000), 3000), (Some(1006), 1000)] {
        let (mut peer, session) = plain(&net).await;
        session.send(Message::text("last words")).await.unwrap();
        let reason = CloseReason::new("enough");
        session.disconnect(match code {
            Some(code) => reason.with_websocket_code(code),
            None => reason,
        });
        assert_eq!(peer.receive().await, Ws::Text("last words".into()));
        let closed = peer.expect_close().await;
        assert_eq!(closed, (Some(sent), "enough".to_owned()));
        let reason = events.disconnected().await;
        assert_eq!((reason.code(), reason.text()), (None, "enough"));
        assert_eq!(reason.closed_by(), ClosedBy::Local);
    }
    net.stop().await;
}

#[tokio::test]
async fn what_needs_control_frames_is_not_supported_on_a_plain_session() {
    let net = serve(Over::Ws, echo).await;
    let (mut peer, session) = plain(&net).await;
    let asked = session.request("?", Duration::from_secs(60)).await;
    assert_eq!(asked.unwrap_err().code(), ErrorCode::NotSupported);
    let typed = Message::application(0x8000, "typed").unwrap();
    let error = session.send(typed.clone()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotSupported);
    assert_eq!(error.into_message().payload(), b"typed");
    let report = net.server.broadcast(typed).await.unwrap();
    assert_eq!((report.sent, report.missed), (0, 1));
    session.send(Message::text("and on")).await.unwrap();
    assert_eq!(peer.receive().await, Ws::Text("and on".into()));
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_quiet_plain_peer_is_pinged_and_one_that_does_not_answer_is_left() {
    let net = serve(Over::Ws, |builder| {
        builder.timeouts(timeouts(|timeouts| {
            timeouts.heartbeat = Duration::from_secs(10);
            timeouts.idle = Duration::from_secs(3_600);
        }))
    })
    .await;
    let (mut peer, session) = plain(&net).await;
    for _ in 0..8 {
        let Ws::Ping(payload) = peer.receive().await else {
            panic!("no ping")
        };
        peer.send(crate::support::websocket::PONG, &payload).await;
    }
    assert!(session.is_connected());
    let began = Instant::now();
    let code = loop {
        match peer.receive().await {
            Ws::Ping(_) => {}
            Ws::Close(code, _) => break code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code, Some(1001));
    let seconds = began.elapsed().as_secs_f64();
    assert!((25.0..45.0).contains(&seconds), "{seconds} s");
    net.stop().await;
}

#[tokio::test]
async fn frames_against_the_rules_are_answered_with_their_close_code() {
    let (log, mut events) = log();
    let net = serve(Over::Ws, |builder| {
        record(builder, &log).limits(limits(|limits| limits.message_size = 1_000))
    })
    .await;
    let unmasked = [&[0x81, 2][..], b"hi"].concat();
    for (bytes, code) in [
        (unmasked, 1002),
        (encode_with(0xC1, b"not agreed"), 1002),
        (encode_with(0xA1, b"reserved"), 1002),
        (encode(true, 3, b"unknown"), 1002),
        (encode(false, PING, b"cut"), 1002),
        (encode(true, PING, &[0; 126]), 1002),
        (encode(true, CONTINUATION, b"of nothing"), 1002),
        (encode(true, 8, b"\x03\xEE"), 1002),
        (encode(true, TEXT, b"\xFF"), 1007),
        (encode(true, BINARY, &[0; 1_001]), 1009),
    ] {
        let (mut peer, _) = plain(&net).await;
        peer.write(&bytes).await;
        let (found, text) = peer.expect_close().await;
        assert_eq!(found, Some(code), "{text}: {bytes:?}");
        let reason = events.disconnected().await;
        assert_eq!(reason.closed_by(), ClosedBy::Local);
        assert!(reason.code().is_some());
    }
    net.stop().await;
}

#[tokio::test]
async fn with_msgi_each_binary_message_is_exactly_one_frame() {
    let net = serve(Over::Ws, echo).await;
    let frame = Frame::new(kind::DATA, "x").encode();
    let mut two = frame.clone();
    two.extend(&frame);
    for (opcode, payload) in [
        (TEXT, &frame[..]),
        (BINARY, &two),
        (BINARY, &frame[..frame.len() - 1]),
        (BINARY, b""),
    ] {
        let mut peer = WsPeer::connect(&net.url, &Ask::msgi()).await;
        peer.send(BINARY, &frame).await;
        assert_eq!(peer.receive().await, Ws::Binary(frame.clone().into()));
        peer.send(opcode, payload).await;
        let Ws::Binary(error) = peer.receive().await else {
            panic!("no ERROR")
        };
        assert_eq!(error[8..10], kind::ERROR.to_be_bytes());
        assert_eq!(
            error[10..14],
            ErrorCode::InvalidFrame.as_i32().to_be_bytes()
        );
        let code = peer.expect_close().await.0.unwrap();
        assert!(code == 1002 || code == 1003, "{code}");
    }
    // Fragments of one message are still one frame, and both kinds of ping are answered.
    let mut peer = WsPeer::connect(&net.url, &Ask::msgi()).await;
    peer.write(&encode(false, BINARY, &frame[..5])).await;
    peer.ping_pong(b"WebSocket's own").await;
    peer.write(&encode(true, CONTINUATION, &frame[5..])).await;
    assert_eq!(peer.receive().await, Ws::Binary(frame.into()));
    let ping = Frame::new(kind::PING, "MSGI's").encode();
    let pong = Frame::new(kind::PONG, "MSGI's").encode();
    peer.send(BINARY, &ping).await;
    assert_eq!(peer.receive().await, Ws::Binary(pong.into()));
    net.stop().await;
}

/// A message of 64 KiB that shrinks, and whose number keeps it apart from the others.
fn story(number: usize) -> String {
    format!("chapter {number}, {}", "once upon a time ".repeat(4_000))
}

#[tokio::test]
async fn messages_are_compressed_as_agreed() {
    for (takeover, offer) in [
        (false, "permessage-deflate"),
        (true, "permessage-deflate"),
        (true, "permessage-deflate; server_max_window_bits=9"),
        (true, "permessage-deflate; server_no_context_takeover"),
    ] {
        let mut deflate = Deflate::default();
        deflate.server_no_context_takeover = !takeover;
        let options = WebSocketServer::new().deflate(Some(deflate));
        let net = serve(Over::Ws, |builder| echo(builder).websocket(options)).await;
        let mut peer = WsPeer::connect(&net.url, &Ask::new("/").deflate(offer)).await;
        peer.ping_pong(b"open").await;
        let mut msgi = WsPeer::connect(&net.url, &Ask::msgi().deflate(offer)).await;
        msgi.send(BINARY, &Frame::new(kind::HEARTBEAT, "").encode())
            .await;
        eventually("both are open", || net.server.session_count() == 2).await;
        for number in 0..4 {
            let text = story(number);
            peer.text(&text).await;
            assert!(peer.receive().await == Ws::Text(text.clone()), "{offer}");
            net.server.broadcast(text.as_str()).await.unwrap();
            assert!(peer.receive().await == Ws::Text(text.clone()));
            let frame = Frame::new(kind::DATA, text).encode();
            assert!(msgi.receive().await == Ws::Binary(frame.into()));
            // Short ones are not worth it.
            peer.text("short").await;
            let short = peer.frame().await.unwrap();
            assert!(!short.compressed && short.payload == "short");
        }
        peer.text(&story(9)).await;
        let long = peer.frame().await.unwrap();
        let len = long.payload.len();
        assert!(long.compressed && len < 4_000, "{len} bytes with {offer}");
        net.stop().await;
    }
}

#[tokio::test]
async fn clients_and_servers_compress_for_each_other() {
    for takeover in [false, true] {
        let mut deflate = Deflate::default();
        deflate.server_no_context_takeover = !takeover;
        deflate.client_no_context_takeover = !takeover;
        let options = WebSocketServer::new().deflate(Some(deflate.clone()));
        let net = serve(Over::Ws, |builder| echo(builder).websocket(options)).await;
        let asks = WebSocketClient::new().deflate(Some(deflate));
        let client = Client::builder()
            .endpoint(&net.url)
            .websocket(asks)
            .build()
            .unwrap();
        within("connect", client.connect()).await.unwrap();
        let mut messages = client.messages().unwrap();
        for number in 0..10 {
            client.send(story(number)).await.unwrap();
        }
        for number in 0..10 {
            let message = within("a message", messages.next()).await.unwrap();
            assert!(message.payload() == story(number).as_bytes());
        }
        client.stop().await;
        net.stop().await;
    }
}

#[tokio::test]
async fn without_agreement_nothing_is_compressed() {
    let options = WebSocketServer::new().deflate(None);
    let net = serve(Over::Ws, |builder| echo(builder).websocket(options)).await;
    let offer = Ask::new("/").deflate("permessage-deflate");
    let mut peer = WsPeer::connect(&net.url, &offer).await;
    assert!(peer.inflate.is_none());
    peer.text(&story(1)).await;
    let frame = peer.frame().await.unwrap();
    assert!(!frame.compressed && frame.payload == story(1));
    net.stop().await;
}

#[tokio::test]
async fn a_compressed_bomb_is_refused_at_the_message_limit() {
    let net = serve(Over::Ws, |builder| {
        echo(builder).limits(limits(|limits| limits.message_size = 100_000))
    })
    .await;
    let offer = Ask::new("/").deflate("permessage-deflate");
    let mut peer = WsPeer::connect(&net.url, &offer).await;
    let mut deflate = flate2::Compress::new(flate2::Compression::best(), false);
    let mut bomb = Vec::with_capacity(1024 * 1024);
    deflate
        .compress_vec(
            &vec![0; 64 * 1024 * 1024],
            &mut bomb,
            flate2::FlushCompress::Sync,
        )
        .unwrap();
    bomb.truncate(bomb.len() - 4);
    assert!(bomb.len() < 100_000);
    peer.write(&encode_with(0xC2, &bomb)).await;
    assert_eq!(peer.expect_close().await.0, Some(1009));
    net.stop().await;
}

#[tokio::test]
async fn long_messages_leave_in_fragments_of_the_configured_size() {
    let options = WebSocketServer::new().fragment_size(1_000).deflate(None);
    let net = serve(Over::Ws, |builder| echo(builder).websocket(options)).await;
    let (mut peer, session) = plain(&net).await;
    peer.text(&"x".repeat(2_500)).await;
    let mut lens = Vec::new();
    for (opcode, fin) in [(TEXT, false), (CONTINUATION, false), (CONTINUATION, true)] {
        let frame = peer.frame().await.unwrap();
        assert_eq!((frame.opcode, frame.fin), (opcode, fin));
        lens.push(frame.payload.len());
    }
    assert_eq!(lens, [1_000, 1_000, 500]);
    // Broadcasts and MSGI too, and what fits stays whole.
    let mut msgi = Peer::connect(&net.url).await;
    msgi.ping_pong(b"open").await;
    net.server.broadcast(vec![5; 10_000]).await.unwrap();
    assert_eq!(peer.receive().await, Ws::Binary(vec![5; 10_000].into()));
    assert_eq!(msgi.expect_data().await, vec![5; 10_000]);
    session.send(Message::binary(vec![6; 1_000])).await.unwrap();
    assert!(peer.frame().await.unwrap().fin);
    net.stop().await;
}

#[tokio::test]
async fn a_stop_tells_plain_peers_and_waits_for_them() {
    let net = serve(Over::Ws, echo).await;
    let (mut peer, session) = plain(&net).await;
    session.send(Message::text("accepted")).await.unwrap();
    let server = net.server.clone();
    let stopping =
        tokio::spawn(async move { server.stop_within(Duration::from_secs(3_600)).await });
    assert_eq!(peer.receive().await, Ws::Text("accepted".into()));
    let (code, _) = peer.expect_close().await;
    assert_eq!(code, Some(1001));
    drop(peer);
    let report = within("stop", stopping).await.unwrap().unwrap();
    assert_eq!((report.drained, report.aborted), (1, 0));
}

#[cfg(unix)]
#[tokio::test]
async fn websocket_runs_on_unix_sockets() {
    let path = crate::support::over::socket_path();
    let server = echo(Server::builder())
        .listen(format!("ws+unix://{}", path.display()))
        .build()
        .unwrap();
    server.start().await.unwrap();
    let url = server.urls().remove(0);
    let mut peer = Peer::connect(&url).await;
    peer.data("framed").await;
    assert_eq!(peer.expect_data().await, "framed");
    let mut peer = WsPeer::connect(&url, &Ask::new("/")).await;
    peer.text("plain").await;
    assert_eq!(peer.receive().await, Ws::Text("plain".into()));
    let client = Client::connect_to(&url).await.unwrap();
    client.send(Bytes::from_static(b"client")).await.unwrap();
    let mut messages = client.messages().unwrap();
    let message = within("a message", messages.next()).await.unwrap();
    assert_eq!(message.payload(), b"client");
    client.stop().await;
    server.stop_within(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_close_frame_ends_a_session_with_msgi_in_order() {
    let (log, mut events) = log();
    let net = serve(Over::Ws, |builder| record(echo(builder), &log)).await;
    let mut peer = net.open_peer().await;
    peer.shutdown().await;
    peer.expect_end().await;
    let reason = events.disconnected().await;
    assert!(reason.is_orderly(), "{reason:?}");
    while let Some(event) = events.try_next() {
        assert!(!matches!(event, Event::Error(_)), "{event:?}");
    }
    net.stop().await;
}
