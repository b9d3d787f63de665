//! Peers, and others in between, that break what the stages are there for.

use std::sync::Arc;
use std::time::Duration;

use network_system::pipeline::{
    CustomStage, Encryption, HmacSha256, OnFailure, Stage, StageDefinition, StageError,
};
use network_system::{Client, ErrorCode, Message, Server, Session};
use tokio::net::TcpListener;

use super::wire::Cipher;
use super::{Numbered, hello, keys, numbered_as, requiring, secret, with_fate};
use crate::support::{
    Event, Events, Frame, Net, Over, Peer, eventually, kind, log, record, serve, within,
};

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

#[tokio::test]
async fn what_a_stage_of_this_side_refuses_is_not_sent_and_what_follows_depends() {
    for fate in [OnFailure::Disconnect, OnFailure::Drop] {
        let (log, mut events) = log();
        let net = serve(Over::Tcp, |builder| {
            builder
                .on_error(move |_, code, _| drop(log.send(Event::Error(code))))
                .pipeline(with_fate(fate, vec![Numbered::stage(7).into()]))
        })
        .await;
        let mut peer = net.peer().await;
        peer.control(hello(&["numbered"], None)).await;
        peer.expect(kind::CONTROL).await;
        let session = net.server.sessions().remove(0);
        for message in ["one", "unspeakable", "two"] {
            session.send(message).await.unwrap();
        }
        assert_eq!(peer.expect_data().await, numbered_as(0, 7, b"one"));
        if fate == OnFailure::Drop {
            assert_eq!(peer.expect_data().await, numbered_as(1, 7, b"two"));
            // A request ends at its caller; the peer does not hear of it.
            let asked = session
                .request("unspeakable", Duration::from_secs(20))
                .await;
            assert_eq!(asked.unwrap_err().code(), ErrorCode::PipelineFailed);
            session.send("three").await.unwrap();
            assert_eq!(peer.expect_data().await, numbered_as(2, 7, b"three"));
        } else {
            // Nothing that was sent later arrives without it.
            let (code, text) = peer.expect_error_and_end().await;
            assert_eq!((code, text.as_str()), (-646, "numbered: this is not said"));
            peer.shutdown().await;
            let reason = within("the end", session.closed()).await;
            assert_eq!(reason.code(), Some(ErrorCode::PipelineFailed));
        }
        assert!(matches!(
            events.next().await,
            Event::Error(ErrorCode::PipelineFailed)
        ));
        net.stop().await;
    }
}

#[tokio::test]
async fn an_answer_that_a_stage_refuses_becomes_a_failure() {
    let net = serve(Over::Tcp, |builder| {
        builder
            .pipeline(with_fate(OnFailure::Drop, vec![Numbered::stage(7).into()]))
            .on_request(|_: Session, message: Message| async move { Ok(message) })
    })
    .await;
    let mut peer = net.peer().await;
    peer.control(hello(&["numbered"], None)).await;
    peer.expect(kind::CONTROL).await;
    peer.request(1, numbered_as(0, 7, super::UNSPEAKABLE)).await;
    let failure = peer.expect(kind::FAILURE).await;
    assert_eq!((failure.id, failure.code_and_text().0), (1, -646));
    peer.request(2, numbered_as(1, 7, b"fine")).await;
    assert_eq!(
        peer.expect(kind::RESPONSE).await.payload,
        numbered_as(0, 7, b"fine")
    );
    net.stop().await;
}

#[tokio::test]
async fn a_stage_that_panics_ends_its_session_only() {
    for fate in [OnFailure::Disconnect, OnFailure::Drop] {
        let (log, mut events) = log();
        let net = serve(Over::Tcp, |builder| {
            let stages = vec![Numbered::stage(7).into()];
            record(crate::support::echo(builder), &log).pipeline(with_fate(fate, stages))
        })
        .await;
        let connect = async || {
            let mut peer = net.peer().await;
            peer.control(hello(&["numbered"], None)).await;
            peer.expect(kind::CONTROL).await;
            peer
        };
        let mut other = connect().await;
        // When it is sent, and when it is received.
        for (received, is_sent) in [("sent", true), ("received", false)] {
            let known: Vec<_> = net.server.sessions().iter().map(Session::id).collect();
            let mut peer = connect().await;
            let all = net.server.sessions();
            let session = all
                .into_iter()
                .find(|one| !known.contains(&one.id()))
                .unwrap();
            match is_sent {
                true => session.send(super::EXPLOSIVE).await.unwrap(),
                false => peer.data(numbered_as(0, 7, super::MINE)).await,
            }
            let (code, text) = peer.expect_error_and_end().await;
            assert_eq!(code, -646, "{received}: {text}");
            assert_eq!(text, "numbered: the stage panicked");
            drop(peer);
            let reason = events.disconnected().await;
            assert_eq!(reason.code(), Some(ErrorCode::PipelineFailed));
        }
        other.data(numbered_as(0, 7, b"unharmed")).await;
        assert_eq!(other.expect_data().await, numbered_as(0, 7, b"unharmed"));
        net.stop().await;
    }
}

#[tokio::test]
async fn a_stage_that_cannot_be_made_ends_the_connection_only() {
    struct Never;
    impl network_system::pipeline::Stage for Never {
        fn encode(
            &mut self,
            _: &[u8],
            _: &mut Vec<u8>,
        ) -> Result<(), network_system::pipeline::StageError> {
            Ok(())
        }
        fn decode(
            &mut self,
            _: &[u8],
            _: usize,
            _: &mut Vec<u8>,
        ) -> Result<(), network_system::pipeline::StageError> {
            Ok(())
        }
    }
    let made = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = made.clone();
    let stage = network_system::pipeline::CustomStage::with("never", move || -> Never {
        match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            1 => panic!("as asked"),
            _ => Never,
        }
    });
    let net = serve(Over::Tcp, |builder| {
        builder.pipeline(requiring(vec![stage.into()]))
    })
    .await;
    for is_made in [true, false, true] {
        let mut peer = net.peer().await;
        peer.control(hello(&["never"], None)).await;
        match is_made {
            true => drop(peer.expect(kind::CONTROL).await),
            false => assert_eq!(peer.expect_error_and_end().await.0, -646),
        }
    }
    eventually("all three were tried", || {
        made.load(std::sync::atomic::Ordering::Relaxed) == 3
    })
    .await;
    net.stop().await;
}

/// Refuses the second message that is sent.
#[derive(Clone)]
struct Fussy(usize);

impl Stage for Fussy {
    fn encode(&mut self, message: &[u8], output: &mut Vec<u8>) -> Result<(), StageError> {
        self.0 += 1;
        if self.0 == 2 {
            return Err(StageError::new("not this one"));
        }
        output.extend_from_slice(message);
        Ok(())
    }

    fn decode(
        &mut self,
        encoded: &[u8],
        _limit: usize,
        output: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        output.extend_from_slice(encoded);
        Ok(())
    }
}

#[tokio::test]
async fn a_message_that_was_counted_and_not_sent_ends_the_session_whatever_is_configured() {
    // Encryption has counted it, so that the other side would refuse everything after it.
    let stages = || {
        with_fate(
            OnFailure::Drop,
            vec![
                Encryption::aes_256_gcm(&keys(1, 1)).into(),
                CustomStage::new("fussy", Fussy(0)).into(),
            ],
        )
    };
    let net = serve(Over::Tcp, |builder| builder.pipeline(stages())).await;
    let client = Client::builder().endpoint(&net.url).pipeline(stages());
    let client = client.build().unwrap();
    within("connect", client.connect()).await.unwrap();
    let session = client.session().unwrap();
    for message in ["one", "two", "three"] {
        session.send(message).await.unwrap();
    }
    let reason = within("the end", session.closed()).await;
    assert_eq!(reason.code(), Some(ErrorCode::PipelineFailed), "{reason}");
    within("stop", client.stop()).await;
    net.stop().await;
}
