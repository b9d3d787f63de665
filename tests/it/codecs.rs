//! Byte streams without MSGI: raw, lines and length, from end to end.

use std::time::Duration;

use bytes::Bytes;
use network_system::{ErrorCode, Message, MessageKind, Server, Session};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::websocket::{Ask, Ws, WsPeer};
use crate::support::{
    Event, Net, Over, Peer, eventually, limits, log, record, record_messages, within,
};

over_all! {
    codecs:
        raw_messages_are_what_a_read_brings,
        lines_are_text_messages,
        length_prefixed_messages_keep_their_boundaries,
        a_session_without_hello_opens_at_once,
        what_needs_control_frames_is_not_supported,
        what_a_codec_cannot_carry_is_refused_and_comes_back,
        a_broadcast_reaches_sessions_of_every_codec,
        an_orderly_end_flushes_and_ends_the_stream,
        an_authenticator_needs_a_codec_with_hello;
}

const CODECS: [&str; 3] = ["raw", "lines", "length"];

async fn serve(
    over: Over,
    codec: &str,
    configure: impl FnOnce(network_system::ServerBuilder) -> network_system::ServerBuilder,
) -> Net {
    let listen = format!("{}?codec={codec}", over.listen_url());
    let builder = over.configure(Server::builder()).listen(listen);
    let net = Net::start(builder, configure).await;
    let url = &net.url;
    assert!(url.ends_with(&format!("?codec={codec}")), "{url}");
    net
}

fn echo(builder: network_system::ServerBuilder) -> network_system::ServerBuilder {
    crate::support::echo(builder).limits(limits(|limits| limits.message_size = 1_000))
}

async fn raw_messages_are_what_a_read_brings(over: Over) {
    let net = serve(over, "raw", echo).await;
    let mut peer = net.peer().await;
    for text in ["one", "MSGI", "\r\n"] {
        peer.write(text.as_bytes()).await;
        assert_eq!(peer.read_exact(text.len()).await, text.as_bytes());
    }
    // Longer than a message may be: in pieces, with nothing lost.
    let long: Vec<u8> = (0..50_000_u32).map(|at| at as u8).collect();
    peer.write(&long).await;
    assert!(peer.read_exact(long.len()).await == long);
    peer.shutdown().await;
    assert!(peer.read_to_end().await.is_empty());
    net.stop().await;
}

async fn lines_are_text_messages(over: Over) {
    let (log, mut events) = log();
    let net = serve(over, "lines", |builder| {
        record(record_messages(builder, &log), &log)
            .limits(limits(|limits| limits.message_size = 1_000))
    })
    .await;
    let mut peer = net.peer().await;
    peer.write(b"one\ntwo\r\n\nthr").await;
    for expected in ["one", "two", ""] {
        let message = events.message().await;
        assert_eq!(
            (message.kind(), message.as_text()),
            (MessageKind::Text, Some(expected))
        );
    }
    peer.write(b"ee\nlast, without an end").await;
    peer.shutdown().await;
    assert_eq!(events.message().await.as_text(), Some("three"));
    assert_eq!(
        events.message().await.as_text(),
        Some("last, without an end")
    );
    assert!(events.disconnected().await.is_orderly());
    // The limit counts the line, not its end.
    let mut peer = net.peer().await;
    peer.write(&[&[b'x'; 1_000][..], b"\r\n", &[b'y'; 1_001], b"\n"].concat())
        .await;
    assert_eq!(events.message().await.len(), 1_000);
    assert!(peer.read_to_end().await.is_empty());
    drop(peer);
    assert_eq!(
        events.disconnected().await.code(),
        Some(ErrorCode::MessageTooLarge)
    );
    net.stop().await;
}

async fn length_prefixed_messages_keep_their_boundaries(over: Over) {
    let net = serve(over, "length", echo).await;
    let mut peer = net.peer().await;
    let mut bytes = Vec::new();
    for len in [0_usize, 1, 999, 1_000, 0] {
        bytes.extend((len as u32).to_be_bytes());
        bytes.extend(vec![len as u8; len]);
    }
    for piece in bytes.chunks(3) {
        peer.write(piece).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(peer.read_exact(bytes.len()).await, bytes);
    peer.write(&1_001_u32.to_be_bytes()).await;
    assert!(peer.read_to_end().await.is_empty());
    net.stop().await;
}

async fn a_session_without_hello_opens_at_once(over: Over) {
    for codec in CODECS {
        let (log, mut events) = log();
        let net = serve(over, codec, |builder| record(builder, &log)).await;
        let mut peer = net.peer().await;
        let Event::Connected(session) = events.next().await else {
            panic!("not connected")
        };
        assert!(session.is_connected());
        peer.shutdown().await;
        assert!(peer.read_to_end().await.is_empty());
        drop(peer);
        assert!(events.disconnected().await.is_orderly());
        net.stop().await;
    }
}

async fn connected(net: &Net) -> (Peer, Session) {
    let peer = net.peer().await;
    eventually("a session", || net.server.session_count() == 1).await;
    (peer, net.server.sessions().remove(0))
}

async fn what_needs_control_frames_is_not_supported(over: Over) {
    for codec in CODECS {
        let net = serve(over, codec, echo).await;
        let (mut peer, session) = connected(&net).await;
        let error = session
            .request("?", Duration::from_secs(60))
            .await
            .unwrap_err();
        assert_eq!(error.code(), ErrorCode::NotSupported);
        let typed = Message::application(0x8000, "typed").unwrap();
        let error = session.send(typed.clone()).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::NotSupported);
        let report = net.server.broadcast(typed).await.unwrap();
        assert_eq!((report.sent, report.missed), (0, 1));
        session.send("and on").await.unwrap();
        let expected: &[u8] = match codec {
            "raw" => b"and on",
            "lines" => b"and on\n",
            _ => b"\0\0\0\x06and on",
        };
        assert_eq!(peer.read_exact(expected.len()).await, expected);
        net.stop().await;
    }
}

async fn what_a_codec_cannot_carry_is_refused_and_comes_back(over: Over) {
    for (codec, payload) in [("raw", ""), ("lines", "two\nlines")] {
        let net = serve(over, codec, echo).await;
        let (_peer, session) = connected(&net).await;
        let error = session.send(payload).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::NotSupported);
        assert_eq!(error.into_message().payload(), payload.as_bytes());
        assert_eq!(
            session.try_send(payload).unwrap_err().code(),
            ErrorCode::NotSupported
        );
        assert!(session.is_connected());
        net.stop().await;
    }
}

async fn a_broadcast_reaches_sessions_of_every_codec(over: Over) {
    let mut builder = over.server().workers(2);
    for codec in CODECS {
        builder = builder.listen(format!("{}?codec={codec}", over.listen_url()));
    }
    let server = builder.listen(Over::Mem.listen_url()).build().unwrap();
    server.start().await.unwrap();
    let mut peers = Vec::new();
    for url in server.urls() {
        let mut peer = Peer::connect(&url).await;
        if !url.contains("codec") {
            peer.heartbeat().await;
        }
        peers.push(peer);
    }
    eventually("all are open", || server.session_count() == 5).await;
    for payload in ["to all".to_owned(), "x".repeat(5_000)] {
        let report = server.broadcast(payload.as_str()).await.unwrap();
        assert_eq!((report.sent, report.missed), (5, 0));
        let length = (payload.len() as u32).to_be_bytes();
        assert_eq!(peers[0].expect_data().await, payload);
        assert_eq!(peers[4].expect_data().await, payload);
        let raw = payload.as_bytes();
        for (peer, expected) in peers[1..4].iter_mut().zip([
            raw.to_vec(),
            [raw, b"\n"].concat(),
            [&length[..], raw].concat(),
        ]) {
            assert!(peer.read_exact(expected.len()).await == expected);
        }
    }
    server.stop_within(Duration::ZERO).await.unwrap();
}

async fn an_orderly_end_flushes_and_ends_the_stream(over: Over) {
    for codec in CODECS {
        let net = serve(over, codec, echo).await;
        let (mut peer, session) = connected(&net).await;
        for _ in 0..100 {
            session.send("0123456789").await.unwrap();
        }
        let server = net.server.clone();
        let stopping = tokio::spawn(async move { server.stop().await });
        let bytes = peer.read_to_end().await;
        let overhead = match codec {
            "raw" => 0,
            "lines" => 1,
            _ => 4,
        };
        assert_eq!(bytes.len(), 100 * (10 + overhead));
        drop(peer);
        let report = within("stop", stopping).await.unwrap().unwrap();
        assert_eq!((report.drained, report.aborted), (1, 0));
    }
}

async fn an_authenticator_needs_a_codec_with_hello(over: Over) {
    struct Nobody;
    impl network_system::Authenticator for Nobody {
        fn authenticate<'a>(
            &'a self,
            _: &'a Session,
            _: network_system::Credentials,
        ) -> network_system::BoxFuture<'a, Result<Option<String>, network_system::RequestError>>
        {
            Box::pin(async { Ok(None) })
        }
    }
    for codec in CODECS {
        let error = over
            .configure(Server::builder())
            .listen(format!("{}?codec={codec}", over.listen_url()))
            .authenticator(Nobody)
            .build()
            .unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidConfiguration);
    }
}

#[tokio::test]
async fn a_line_that_is_no_text_is_not_passed_on_as_text() {
    let (log, mut events) = log();
    let server = record_messages(Server::builder(), &log)
        .listen("tcp://127.0.0.1:0?codec=lines")
        .listen(Over::Ws.listen_url())
        .build()
        .unwrap();
    server.start().await.unwrap();
    let urls = server.urls();
    let mut page = WsPeer::connect(&urls[1], &Ask::new("/")).await;
    page.ping_pong(b"open").await;
    let mut line = TcpStream::connect(server.local_addrs()[0]).await.unwrap();
    line.write_all(b"gr\xC3\xBCn\n\xFF\xFE\n\xC3\r\nlast \xC3")
        .await
        .unwrap();
    line.shutdown().await.unwrap();
    let kinds = [
        MessageKind::Text,
        MessageKind::Binary,
        MessageKind::Binary,
        MessageKind::Binary,
    ];
    for kind in kinds {
        let message = events.message().await;
        assert_eq!(message.kind(), kind, "{:?}", message.payload());
        let payload = Bytes::copy_from_slice(message.payload());
        server.broadcast(message).await.unwrap();
        let expected = match kind {
            MessageKind::Text => Ws::Text(String::from_utf8(payload.to_vec()).unwrap()),
            _ => Ws::Binary(payload),
        };
        assert_eq!(page.receive().await, expected);
    }
    server.stop_within(Duration::ZERO).await.unwrap();
}
