//! Peers, and others in between, that break what the stages are there for.

use std::time::Duration;

use network_system::pipeline::{Encryption, HmacSha256, OnFailure, StageDefinition};
use network_system::{Client, ErrorCode, Message, Server, Session};
use tokio::net::TcpListener;

use super::wire::Cipher;
use super::{Numbered, hello, keys, numbered_as, requiring, secret, with_fate};
use crate::support::{Event, Events, Frame, Net, Over, Peer, kind, log, record, serve, within};

over_all! {
    errors:
        ciphertext_that_was_tampered_with_ends_the_session,
        a_message_that_was_changed_ends_the_session_where_it_is_authenticated,
        what_came_before_a_refused_message_is_handled_and_answered;
    requests:
        refused_messages_are_dropped_where_that_is_configured,
        a_request_that_cannot_be_read_fails_where_messages_are_dropped;
}

/// How a message is spoilt on its way: what was encrypted first and second, to what arrives.
type Attack = fn(&[u8], &[u8]) -> Vec<Vec<u8>>;

const ATTACKS: &[(&str, Attack)] = &[
    ("replay", |first, _| vec![first.to_vec(), first.to_vec()]),
    ("reordering", |first, second| {
        vec![second.to_vec(), first.to_vec()]
    }),
    ("a message left out", |_, second| vec![second.to_vec()]),
    ("truncation", |first, _| {
        vec![first[..first.len() - 1].to_vec()]
    }),
    ("no tag", |first, _| vec![first[..8].to_vec()]),
    ("no key id", |first, _| vec![first[..3].to_vec()]),
    ("nothing", |_, _| vec![Vec::new()]),
    ("more", |first, _| vec![[first, b"x"].concat()]),
    ("plain text", |_, _| {
        vec![b"this is not encrypted at all".to_vec()]
    }),
    ("an unknown key", |first, _| {
        vec![[b"\0\0\0\x07", &first[4..]].concat()]
    }),
    ("a bit of the text", |first, _| vec![flipped(first, 4)]),
    ("a bit of the tag", |first, _| {
        vec![flipped(first, first.len() - 1)]
    }),
];

fn flipped(message: &[u8], at: usize) -> Vec<u8> {
    let mut spoilt = message.to_vec();
    spoilt[at] ^= 0x10;
    spoilt
}

/// Another session, which must not notice.
struct Bystander(Cipher);

impl Bystander {
    async fn new(net: &Net) -> Self {
        Bystander(Cipher::connect(net, &["aes-256-gcm"], "aes-256-gcm").await)
    }

    async fn is_unharmed(&mut self) {
        self.0.data(b"unharmed").await;
        assert_eq!(self.0.expect_data().await, b"unharmed");
    }
}

fn aes() -> StageDefinition {
    Encryption::aes_256_gcm(&keys(super::wire::KEY_ID, 5)).into()
}

/// A server with this fate for messages that are refused, which echoes.
async fn guarded(over: Over, fate: OnFailure) -> (Net, Events) {
    let (log, events) = log();
    let net = serve(over, |builder| {
        let builder = record(builder, &log).pipeline(with_fate(fate, vec![aes()]));
        let builder = builder.on_request(|_: Session, message: Message| async move { Ok(message) });
        builder.on_message(|session: Session, message: Message| async move {
            let _ = session.send(message).await;
        })
    });
    (net.await, events)
}

async fn ciphertext_that_was_tampered_with_ends_the_session(over: Over) {
    let (net, mut events) = guarded(over, OnFailure::Disconnect).await;
    let mut other = Bystander::new(&net).await;
    for (name, attack) in ATTACKS {
        let mut peer = Cipher::connect(&net, &["aes-256-gcm"], "aes-256-gcm").await;
        peer.data(b"before").await;
        assert_eq!(peer.expect_data().await, b"before", "{name}");
        let (first, second) = (peer.send.seal(b"first"), peer.send.seal(b"second"));
        for spoilt in attack(&first, &second) {
            let _ = peer.peer.try_send(Frame::new(kind::DATA, spoilt)).await;
        }
        if *name == "replay" {
            assert_eq!(peer.expect_data().await, b"first");
        }
        let (code, text) = peer.peer.expect_error_and_end().await;
        assert_eq!(code, ErrorCode::PipelineFailed.as_i32(), "{name}: {text}");
        assert!(text.starts_with("aes-256-gcm: "), "{name}: {text}");
        // The server waits a second for it otherwise.
        drop(peer);
        let reason = events.disconnected().await;
        assert_eq!(reason.code(), Some(ErrorCode::PipelineFailed), "{name}");
        other.is_unharmed().await;
    }
    // The other direction of the same link, and another link, under the same secret.
    let mut peer = Cipher::connect(&net, &["aes-256-gcm"], "aes-256-gcm").await;
    peer.data(b"echoed").await;
    let echo = peer.peer.expect_data().await;
    let mut second = Cipher::connect(&net, &["aes-256-gcm"], "aes-256-gcm").await;
    second.peer.data(peer.send.seal(b"of another link")).await;
    assert_eq!(second.peer.expect_error_and_end().await.0, -646);
    peer.peer.data(echo).await;
    assert_eq!(peer.peer.expect_error_and_end().await.0, -646);
    other.is_unharmed().await;
    net.stop().await;
}

async fn refused_messages_are_dropped_where_that_is_configured(over: Over) {
    let (net, mut events) = guarded(over, OnFailure::Drop).await;
    for (name, attack) in ATTACKS {
        if matches!(*name, "replay" | "reordering" | "a message left out") {
            continue;
        }
        let mut peer = Cipher::connect(&net, &["aes-256-gcm"], "aes-256-gcm").await;
        peer.data(b"before").await;
        assert_eq!(peer.expect_data().await, b"before", "{name}");
        let next = peer.send.seal(b"next");
        for spoilt in attack(&next, &next) {
            peer.peer.data(spoilt).await;
        }
        // What was refused has changed nothing.
        peer.peer.data(next).await;
        assert_eq!(peer.expect_data().await, b"next", "{name}");
        loop {
            match events.next().await {
                Event::Error(code) => break assert_eq!(code, ErrorCode::PipelineFailed, "{name}"),
                Event::Connected(_) | Event::Disconnected(..) => {}
                other => panic!("{name}: {other:?}"),
            }
        }
    }
    assert!(net.server.stats().errors > 0);
    net.stop().await;
}

async fn a_request_that_cannot_be_read_fails_where_messages_are_dropped(over: Over) {
    let (net, _events) = guarded(over, OnFailure::Drop).await;
    let mut peer = Cipher::connect(&net, &["aes-256-gcm"], "aes-256-gcm").await;
    peer.data(b"before").await;
    assert_eq!(peer.expect_data().await, b"before");
    peer.peer
        .request(5, "no ciphertext, though long enough")
        .await;
    let failure = peer.peer.expect(kind::FAILURE).await;
    assert_eq!((failure.id, failure.code_and_text().0), (5, -646));
    // An answer that cannot be read ends the request that it is for, and no other.
    let session = net.server.sessions().remove(0);
    let asking = session.clone();
    let asked = tokio::spawn(async move { asking.request("who?", Duration::from_secs(20)).await });
    let question = peer.peer.expect(kind::REQUEST).await;
    assert_eq!(peer.receive.open(&question.payload), b"who?");
    let nonsense = Frame::with_id(
        kind::RESPONSE,
        question.id,
        "no ciphertext, though long enough",
    );
    peer.peer.send(nonsense).await;
    let error = within("an answer", asked).await.unwrap().unwrap_err();
    assert_eq!(error.code(), ErrorCode::PipelineFailed);
    let question = peer.send.seal(b"still here?");
    peer.peer.request(6, question).await;
    let answer = peer.peer.expect(kind::RESPONSE).await;
    assert_eq!(peer.receive.open(&answer.payload), b"still here?");
    net.stop().await;
}

async fn a_message_that_was_changed_ends_the_session_where_it_is_authenticated(over: Over) {
    let net = serve(over, |builder| {
        builder.pipeline(requiring(vec![HmacSha256::new(secret(6)).into()]))
    })
    .await;
    for spoilt in [&b"short"[..], &[7; 32], &[7; 100]] {
        let mut peer = net.peer().await;
        peer.control(hello(&["hmac-sha256"], None)).await;
        peer.expect(kind::CONTROL).await;
        peer.data(spoilt.to_vec()).await;
        let (code, text) = peer.expect_error_and_end().await;
        assert_eq!(code, -646);
        assert!(text.starts_with("hmac-sha256: "), "{text}");
    }
    net.stop().await;
}

async fn what_came_before_a_refused_message_is_handled_and_answered(over: Over) {
    let net = serve(over, |builder| {
        crate::support::echo(builder).pipeline(requiring(vec![Numbered::stage(7).into()]))
    })
    .await;
    let mut peer = net.peer().await;
    peer.control(hello(&["numbered"], None)).await;
    peer.expect(kind::CONTROL).await;
    peer.send_together(vec![
        Frame::new(kind::DATA, numbered_as(0, 7, b"one")),
        Frame::new(kind::DATA, numbered_as(1, 7, b"two")),
        Frame::new(kind::DATA, numbered_as(9, 7, b"three")),
        Frame::new(kind::DATA, numbered_as(2, 7, b"four")),
    ])
    .await;
    assert_eq!(peer.expect_data().await, numbered_as(0, 7, b"one"));
    assert_eq!(peer.expect_data().await, numbered_as(1, 7, b"two"));
    let (code, text) = peer.expect_error_and_end().await;
    assert_eq!((code, text.as_str()), (-646, "numbered: out of order"));
    net.stop().await;
}

/// Connects through somebody who changes hello and welcome; gives the client's and the server's end.
async fn through(
    change_hello: fn(String) -> String,
    change_welcome: fn(String) -> String,
    at_server: Vec<StageDefinition>,
    at_client: network_system::pipeline::Pipeline,
) -> (Result<(), ErrorCode>, Vec<ErrorCode>) {
    let (log, mut events) = log();
    let server = record(Server::builder().listen("tcp://127.0.0.1:0"), &log);
    let server = server.pipeline(requiring(at_server)).build().unwrap();
    server.start().await.unwrap();
    let url = server.urls().remove(0);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let between = format!("tcp://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut to_client = Peer::of(stream);
        let mut to_server = Peer::connect(&url).await;
        let hello = to_client.expect(kind::CONTROL).await.payload;
        let hello = change_hello(String::from_utf8(hello.to_vec()).unwrap());
        to_server.control(hello).await;
        let Some(welcome) = to_server.receive().await else {
            return;
        };
        let payload = match welcome.kind {
            kind::CONTROL => {
                change_welcome(String::from_utf8(welcome.payload.to_vec()).unwrap()).into()
            }
            _ => welcome.payload,
        };
        to_client.send(Frame::new(welcome.kind, payload)).await;
        // From now on everything passes as it is.
        loop {
            let (passed, to) = tokio::select! {
                frame = to_client.try_receive() => (frame, &mut to_server),
                frame = to_server.try_receive() => (frame, &mut to_client),
            };
            let Ok(Some(frame)) = passed else { return };
            let _ = to.try_send(frame).await;
        }
    });
    let client = Client::builder()
        .endpoint(between)
        .pipeline(at_client)
        .build()
        .unwrap();
    let result = match within("an answer", client.connect()).await {
        Err(error) => Err(error.code()),
        Ok(()) => {
            client.send("secret").await.unwrap();
            let reason = within("the end", client.session().unwrap().closed()).await;
            Err(reason.code().unwrap())
        }
    };
    within("the client to stop", client.stop()).await;
    within("the server to stop", server.stop_within(Duration::ZERO))
        .await
        .unwrap();
    within("the end", task).await.unwrap();
    let mut errors = Vec::new();
    while let Some(event) = events.try_next() {
        if let Event::Error(code) = event {
            errors.push(code);
        }
    }
    (result, errors)
}

#[tokio::test]
async fn a_hello_or_welcome_that_was_changed_on_its_way_is_noticed() {
    let same = |text: String| text;
    let renamed: fn(String) -> String = |text| text.replacen("\"version\":1", "\"version\":2", 1);
    let spaced: fn(String) -> String = |text| format!("{text} ");
    let limited: fn(String) -> String = |text| text.replacen("10000", "10001", 1);
    for (change_hello, change_welcome) in [
        (renamed, same as fn(String) -> String),
        (spaced, same),
        (same, limited),
        (same, spaced),
    ] {
        let (result, errors) = through(
            change_hello,
            change_welcome,
            vec![aes()],
            requiring(vec![aes()]),
        )
        .await;
        assert_eq!(result, Err(ErrorCode::PipelineFailed));
        assert_eq!(errors, [ErrorCode::PipelineFailed]);
    }
}

#[tokio::test]
async fn stages_that_are_taken_out_on_the_way_end_the_connection() {
    let same: fn(String) -> String = |text| text;
    let none: fn(String) -> String = |text| text.replacen("[\"aes-256-gcm\"]", "[]", 1);
    let other: fn(String) -> String = |text| text.replacen("\"aes-256-gcm\"", "\"lz4\"", 1);
    // The server requires it.
    let (result, errors) = through(none, same, vec![aes()], requiring(vec![aes()])).await;
    assert_eq!(result, Err(ErrorCode::PipelineFailed));
    assert_eq!(errors, [ErrorCode::PipelineFailed]);
    // Only the client does.
    let (result, _) = through(none, same, vec![], requiring(vec![aes()])).await;
    assert_eq!(result, Err(ErrorCode::PipelineFailed));
    // The client alone is told so; with a stage that it has not offered, too.
    for change in [none, other] {
        let (result, _) = through(same, change, vec![aes()], requiring(vec![aes()])).await;
        assert_eq!(result, Err(ErrorCode::PipelineFailed));
    }
}

#[tokio::test]
async fn a_wrong_key_is_an_error_on_both_sides() {
    let wrong = || Encryption::aes_256_gcm(&keys(super::wire::KEY_ID, 99)).into();
    let same: fn(String) -> String = |text| text;
    let (result, errors) = through(same, same, vec![aes()], requiring(vec![wrong()])).await;
    assert_eq!(result, Err(ErrorCode::PipelineFailed));
    assert_eq!(errors, [ErrorCode::PipelineFailed]);
}
