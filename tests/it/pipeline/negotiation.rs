//! Which stages a connection has, and when there is none because of them.

use std::time::Duration;

use network_system::pipeline::{Compression, Encryption, Pipeline};
use network_system::{
    Authenticator, BoxFuture, Client, Credentials, ErrorCode, Message, RequestError, Server,
    Session,
};
use serde_json::json;

use super::{Numbered, hello, keys, numbered_as, requiring};
use crate::support::{Frame, Over, echo, kind, limits, serve, within};

over_all! {
    requests:
        the_server_chooses_in_its_own_order_and_one_of_each_kind,
        a_required_stage_comes_before_an_offered_one_of_its_kind,
        encryption_needs_the_nonce_of_the_client,
        nothing_in_common_is_no_stage_where_none_is_required,
        a_peer_without_hello_uses_no_stage_where_none_is_required,
        a_peer_without_hello_uses_every_stage_where_that_is_configured,
        what_an_authenticator_sends_goes_through_the_stages_behind_welcome;
    errors:
        a_required_stage_that_is_not_offered_ends_the_connection,
        a_peer_without_hello_is_refused_where_a_stage_is_required,
        required_encryption_without_a_nonce_ends_the_connection,
        a_message_before_welcome_is_refused,
        a_message_before_the_authenticator_has_answered_is_refused,
        an_offer_that_is_no_list_of_names_is_an_error;
}

const NONCE: [u8; 16] = *b"0123456789abcdef";

fn offering() -> Pipeline {
    Pipeline::builder()
        .offer(Compression::zstd())
        .offer(Compression::lz4())
        .offer(Encryption::chacha20_poly1305(&keys(1, 1)))
        .offer(Encryption::aes_256_gcm(&keys(1, 1)))
        .build()
        .unwrap()
}

async fn the_server_chooses_in_its_own_order_and_one_of_each_kind(over: Over) {
    let net = serve(over, |builder| builder.pipeline(offering())).await;
    let mut peer = net.peer().await;
    let offer = [
        "aes-256-gcm",
        "gzip",
        "lz4",
        "chacha20-poly1305",
        "zstd",
        "x",
    ];
    peer.control(hello(&offer, Some(NONCE))).await;
    let welcome = peer.receive().await.unwrap().json();
    assert_eq!(welcome["pipeline"], json!(["zstd", "chacha20-poly1305"]));
    assert_eq!(welcome["nonce"].as_str().map(str::len), Some(32));
    let session = net.server.sessions().remove(0);
    assert_eq!(*session.pipeline(), ["zstd", "chacha20-poly1305"]);
    net.stop().await;
}

async fn a_required_stage_comes_before_an_offered_one_of_its_kind(over: Over) {
    let pipeline = Pipeline::builder()
        .offer(Compression::zstd())
        .require(Compression::lz4())
        .build();
    let pipeline = pipeline.unwrap();
    let net = serve(over, |builder| builder.pipeline(pipeline)).await;
    let mut peer = net.peer().await;
    peer.control(hello(&["zstd", "lz4"], None)).await;
    let welcome = peer.receive().await.unwrap().json();
    assert_eq!(welcome["pipeline"], json!(["lz4"]));
    net.stop().await;
}

async fn encryption_needs_the_nonce_of_the_client(over: Over) {
    let net = serve(over, |builder| builder.pipeline(offering())).await;
    let mut peer = net.peer().await;
    peer.control(hello(&["lz4", "aes-256-gcm"], None)).await;
    let welcome = peer.receive().await.unwrap().json();
    assert_eq!(welcome["pipeline"], json!(["lz4"]));
    net.stop().await;
}

async fn required_encryption_without_a_nonce_ends_the_connection(over: Over) {
    let net = serve(over, |builder| {
        builder.pipeline(requiring(vec![Encryption::aes_256_gcm(&keys(1, 1)).into()]))
    })
    .await;
    let mut peer = net.peer().await;
    peer.control(hello(&["aes-256-gcm"], None)).await;
    let (code, text) = peer.expect_error_and_end().await;
    assert_eq!(code, -646, "{text}");
    assert!(text.contains("aes-256-gcm"), "{text}");
    net.stop().await;
}

async fn nothing_in_common_is_no_stage_where_none_is_required(over: Over) {
    let net = serve(over, |builder| echo(builder).pipeline(offering())).await;
    let mut peer = net.peer().await;
    // Nothing is agreed on, so that a message may follow at once.
    peer.send_together(vec![
        Frame::new(kind::CONTROL, hello(&["brotli"], Some(NONCE))),
        Frame::new(kind::DATA, "plain"),
    ])
    .await;
    let welcome = peer.receive().await.unwrap().json();
    assert_eq!(welcome["pipeline"], json!([]));
    assert_eq!(peer.expect_data().await, "plain");
    net.stop().await;
}

async fn a_peer_without_hello_uses_no_stage_where_none_is_required(over: Over) {
    let net = serve(over, |builder| echo(builder).pipeline(offering())).await;
    let mut peer = net.open_peer().await;
    peer.data("plain").await;
    assert_eq!(peer.expect_data().await, "plain");
    net.stop().await;
}

async fn a_peer_without_hello_uses_every_stage_where_that_is_configured(over: Over) {
    let pipeline = Pipeline::builder()
        .require(Numbered::stage(7))
        .without_hello()
        .build()
        .unwrap();
    let net = serve(over, |builder| echo(builder).pipeline(pipeline)).await;
    let mut peer = net.peer().await;
    peer.prove_address().await;
    for number in 0..3 {
        peer.data(numbered_as(number, 7, b"fixed")).await;
        assert_eq!(peer.expect_data().await, numbered_as(number, 7, b"fixed"));
    }
    // A peer with hello agrees all the same.
    let mut peer = net.peer().await;
    peer.control(hello(&["numbered"], None)).await;
    let welcome = peer.receive().await.unwrap().json();
    assert_eq!(welcome["pipeline"], json!(["numbered"]));
    peer.data(numbered_as(0, 7, b"agreed")).await;
    assert_eq!(peer.expect_data().await, numbered_as(0, 7, b"agreed"));
    net.stop().await;
}

async fn a_required_stage_that_is_not_offered_ends_the_connection(over: Over) {
    let net = serve(over, |builder| {
        builder.pipeline(requiring(vec![
            Numbered::stage(7).into(),
            Encryption::aes_256_gcm(&keys(1, 1)).into(),
        ]))
    })
    .await;
    let offers: [&[&str]; 3] = [&[], &["numbered"], &["aes-256-gcm"]];
    for offer in offers {
        let mut peer = net.peer().await;
        peer.control(hello(offer, Some(NONCE))).await;
        let (code, text) = peer.expect_error_and_end().await;
        assert_eq!(code, -646, "{text}");
    }
    assert_eq!(net.server.stats().total_connections, 0);
    net.stop().await;
}

async fn a_peer_without_hello_is_refused_where_a_stage_is_required(over: Over) {
    let net = serve(over, |builder| {
        builder.pipeline(requiring(vec![Numbered::stage(7).into()]))
    })
    .await;
    for first in [
        Frame::new(kind::HEARTBEAT, ""),
        Frame::new(kind::DATA, numbered_as(0, 7, b"hi")),
        Frame::new(kind::CONTROL, r#"{"op":"dance"}"#),
    ] {
        let mut peer = net.peer().await;
        peer.send(first).await;
        assert_eq!(peer.expect_error_and_end().await.0, -646);
    }
    assert_eq!(net.server.stats().total_connections, 0);
    net.stop().await;
}

async fn a_message_before_welcome_is_refused(over: Over) {
    let net = serve(over, |builder| {
        builder.pipeline(requiring(vec![Numbered::stage(7).into()]))
    })
    .await;
    for early in [
        Frame::new(kind::DATA, numbered_as(0, 7, b"hi")),
        Frame::with_id(kind::REQUEST, 1, numbered_as(0, 7, b"hi")),
        Frame::new(0x8001, numbered_as(0, 7, b"hi")),
    ] {
        let mut peer = net.peer().await;
        let hello = hello(&["numbered"], None);
        peer.send_together(vec![Frame::new(kind::CONTROL, hello), early])
            .await;
        // Whether it came in the same read is a matter of chance on links that carry frames.
        let answer = peer.receive().await.unwrap();
        if answer.kind == kind::CONTROL {
            let next = peer.receive().await.unwrap();
            assert!(over == Over::Mem || next.kind == kind::ERROR, "{next:?}");
            if next.kind == kind::ERROR {
                assert_eq!(next.code_and_text().0, -643);
            }
        } else {
            assert_eq!(answer.code_and_text().0, -643);
        }
    }
    net.stop().await;
}

/// Lets everybody in, a little later, and says so before that.
struct Slow;

impl Authenticator for Slow {
    fn authenticate<'a>(
        &'a self,
        session: &'a Session,
        _: Credentials,
    ) -> BoxFuture<'a, Result<Option<String>, RequestError>> {
        Box::pin(async move {
            session.send("let me see").await.unwrap();
            tokio::task::yield_now().await;
            session.send("you may come in").await.unwrap();
            Ok(None)
        })
    }
}

async fn what_an_authenticator_sends_goes_through_the_stages_behind_welcome(over: Over) {
    let net = serve(over, |builder| {
        echo(builder)
            .authenticator(Slow)
            .pipeline(requiring(vec![Numbered::stage(7).into()]))
    })
    .await;
    let mut peer = net.peer().await;
    peer.control(hello(&["numbered"], None)).await;
    assert_eq!(peer.receive().await.unwrap().json()["op"], "welcome");
    assert_eq!(peer.expect_data().await, numbered_as(0, 7, b"let me see"));
    let second = peer.expect_data().await;
    assert_eq!(second, numbered_as(1, 7, b"you may come in"));
    peer.data(numbered_as(0, 7, b"thanks")).await;
    assert_eq!(peer.expect_data().await, numbered_as(2, 7, b"thanks"));
    net.stop().await;
}

async fn a_message_before_the_authenticator_has_answered_is_refused(over: Over) {
    let net = serve(over, |builder| {
        echo(builder)
            .authenticator(Slow)
            .pipeline(requiring(vec![Numbered::stage(7).into()]))
    })
    .await;
    let mut peer = net.peer().await;
    peer.send_together(vec![
        Frame::new(kind::CONTROL, hello(&["numbered"], None)),
        Frame::new(kind::PING, "first"),
        Frame::new(kind::DATA, "second"),
    ])
    .await;
    let mut last = peer.receive().await.unwrap();
    while last.kind != kind::ERROR && (over != Over::Mem || last.kind != kind::DATA) {
        last = peer.receive().await.unwrap();
    }
    if over != Over::Mem {
        assert_eq!(last.code_and_text().0, -643, "{last:?}");
    }
    net.stop().await;
}

async fn an_offer_that_is_no_list_of_names_is_an_error(over: Over) {
    let net = serve(over, |builder| builder.pipeline(offering())).await;
    for wrong in [
        r#"{"op":"hello","pipeline":"lz4"}"#,
        r#"{"op":"hello","pipeline":{"lz4":1}}"#,
        r#"{"op":"hello","pipeline":["lz4",1]}"#,
        r#"{"op":"hello","pipeline":["lz4"],"pipeline":[]}"#,
        r#"{"op":"hello","pipeline":[],"nonce":"+0000000000000000000000000000000"}"#,
        r#"{"op":"hello","pipeline":[],"nonce":"00"}"#,
        r#"{"op":"hello","pipeline":[],"nonce":7}"#,
    ] {
        let mut peer = net.peer().await;
        peer.control(wrong).await;
        assert_eq!(peer.expect_error_and_end().await.0, -643, "{wrong}");
    }
    net.stop().await;
}

#[tokio::test]
async fn both_sides_can_be_configured_alike_for_links_without_hello() {
    let pipeline = || {
        Pipeline::builder()
            .require(Compression::lz4().threshold(64))
            .require(Encryption::aes_256_gcm(&keys(9, 3)))
            .without_hello()
            .build()
            .unwrap()
    };
    for (listen, options) in [("tcp", "?codec=length"), ("ws", "")] {
        let server = echo(Server::builder().listen(format!("{listen}://127.0.0.1:0{options}")))
            .limits(limits(|limits| limits.message_size = 100_000))
            .pipeline(pipeline())
            .build()
            .unwrap();
        server.start().await.unwrap();
        let url = server.urls().remove(0);
        let client = Client::builder()
            .endpoint(&url)
            .websocket(
                network_system::websocket::WebSocketClient::new()
                    .speak(network_system::websocket::Speak::Plain),
            )
            .limits(limits(|limits| limits.message_size = 100_000))
            .pipeline(pipeline())
            .build()
            .unwrap();
        let mut stream = client.messages().unwrap();
        within("connect", client.connect()).await.unwrap();
        assert_eq!(
            *client.session().unwrap().pipeline(),
            ["lz4", "aes-256-gcm"],
            "{url}"
        );
        for round in 0..50_usize {
            // The first message has a salt before it, and the largest one fits all the same.
            let len = if round == 0 { 100_000 } else { round * 100 };
            let payload: Vec<u8> = (0..len).map(|at| (at * at * round) as u8).collect();
            client.send(Message::binary(payload.clone())).await.unwrap();
            let echo = within("an echo", stream.next()).await.unwrap();
            assert_eq!(echo.payload(), payload);
        }
        within("stop", client.stop()).await;
        within("stop", server.stop_within(Duration::ZERO))
            .await
            .unwrap();
    }
}

#[test]
fn stages_that_a_codec_cannot_carry_are_refused_when_it_is_configured() {
    let fixed = |stage: network_system::pipeline::StageDefinition| {
        let builder = Pipeline::builder().require(stage).without_hello();
        builder.build().unwrap()
    };
    let lz4 = || fixed(Compression::lz4().into());
    let aes = || fixed(Encryption::aes_256_gcm(&keys(1, 1)).into());
    let agreed = || requiring(vec![Compression::lz4().into()]);
    let not_supported = Some(ErrorCode::NotSupported);
    let invalid = Some(ErrorCode::InvalidConfiguration);
    let offered = || {
        let builder = Pipeline::builder().offer(Compression::lz4());
        builder.build().unwrap()
    };
    for (url, pipeline, expected) in [
        ("tcp://127.0.0.1:1?codec=raw", lz4(), not_supported),
        ("tcp://127.0.0.1:1?codec=lines", lz4(), not_supported),
        ("udp://127.0.0.1:1", aes(), not_supported),
        ("udp://127.0.0.1:1", lz4(), None),
        ("udp://127.0.0.1:1?codec=msgi", agreed(), None),
        ("tcp://127.0.0.1:1?codec=length", lz4(), None),
        ("tcp://127.0.0.1:1?codec=length", agreed(), invalid),
        ("tcp://127.0.0.1:1?codec=raw", agreed(), invalid),
        ("tcp://127.0.0.1:1?codec=raw", offered(), None),
        ("udp://127.0.0.1:1", agreed(), invalid),
        ("tcp://127.0.0.1:1", agreed(), None),
    ] {
        let server = Server::builder().listen(url).pipeline(pipeline.clone());
        let found = server.build().err().map(|error| error.code());
        assert_eq!(found, expected, "a server on {url} with {pipeline:?}");
        let client = Client::builder().endpoint(url).pipeline(pipeline.clone());
        let found = client.build().err().map(|error| error.code());
        assert_eq!(found, expected, "a client of {url} with {pipeline:?}");
    }
}
