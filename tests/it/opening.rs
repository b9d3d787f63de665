//! Hello, authentication, welcome, and groups by CONTROL.

use std::sync::Arc;

use network_system::{
    Authenticator, BoxFuture, Credentials, ErrorCode, GroupName, RequestError, Session,
};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::support::{
    Event, Frame, Over, echo, eventually, group, kind, limits, log, record, record_messages, serve,
    within,
};

over_all! {
    requests:
        a_hello_is_answered_with_welcome_before_anything_else,
        a_server_without_stages_and_reliability_says_so,
        a_hello_of_an_unknown_version_is_refused,
        unknown_operations_and_fields_are_ignored,
        a_resume_of_an_unknown_session_is_refused,
        any_frame_opens_a_session_and_the_first_message_is_delivered,
        the_authenticator_decides_and_names_the_peer,
        with_an_authenticator_hello_comes_first,
        what_follows_a_hello_waits_for_the_authenticator,
        an_authenticator_that_panics_lets_nobody_in,
        clients_join_and_leave_groups_where_the_guard_allows_it,
        without_a_guard_clients_are_refused,
        group_names_and_their_number_are_limited;
    errors:
        a_hello_that_is_not_the_first_frame_is_an_error,
        a_control_frame_that_is_not_one_object_with_an_op_is_an_error,
        a_peer_that_leaves_without_opening_is_no_session,
        nothing_of_a_peer_that_was_not_let_in_is_handled;
}

async fn a_hello_is_answered_with_welcome_before_anything_else(over: Over) {
    let net = serve(over, |builder| {
        echo(builder)
            .on_connect(|session: Session| async move { session.send("connected").await.unwrap() })
            .limits(limits(|limits| limits.message_size = 5_000))
    })
    .await;
    let mut peer = net.peer().await;
    let hello = json!({"op": "hello", "version": 3, "client_id": "sensor 7"}).to_string();
    peer.send_together(vec![
        Frame::new(kind::CONTROL, hello),
        Frame::new(kind::DATA, "hi"),
    ])
    .await;
    let welcome = peer.receive().await.unwrap().json();
    assert_eq!(welcome["op"], "welcome");
    assert_eq!(welcome["version"], 1);
    assert_eq!(welcome["heartbeat_ms"], 10_000);
    assert_eq!(welcome["message_limit"], 5_000);
    let session = net.server.sessions().remove(0);
    assert_eq!(welcome["session_id"], session.id().to_string());
    assert_eq!(session.client_id(), "sensor 7");
    assert_eq!(peer.expect_data().await, "connected");
    assert_eq!(peer.expect_data().await, "hi");
    net.stop().await;
}

async fn a_server_without_stages_and_reliability_says_so(over: Over) {
    let net = serve(over, |builder| builder).await;
    let mut peer = net.peer().await;
    let hello = json!({
        "op": "hello", "version": 1, "pipeline": ["lz4"], "reliable": true, "window": 1000,
        "nonce": "000102030405060708090a0b0c0d0e0f",
    });
    peer.control(hello.to_string()).await;
    let welcome = peer.receive().await.unwrap().json();
    assert_eq!(welcome["pipeline"], json!([]));
    assert_eq!(welcome["reliable"], false);
    net.stop().await;
}

async fn a_hello_of_an_unknown_version_is_refused(over: Over) {
    let net = serve(over, |builder| builder).await;
    let mut peer = net.peer().await;
    peer.control(r#"{"op":"hello","version":0}"#).await;
    assert_eq!(peer.expect_error_and_end().await.0, -625);
    net.stop().await;
}

async fn a_hello_that_is_not_the_first_frame_is_an_error(over: Over) {
    for first in [
        Frame::new(kind::CONTROL, r#"{"op":"hello"}"#),
        Frame::new(kind::DATA, "first"),
        Frame::new(kind::HEARTBEAT, ""),
    ] {
        let net = serve(over, |builder| builder).await;
        let mut peer = net.peer().await;
        let answered = first.kind == kind::CONTROL;
        peer.send(first).await;
        if answered {
            peer.expect(kind::CONTROL).await;
        }
        peer.control(r#"{"op":"hello"}"#).await;
        assert_eq!(peer.expect_error_and_end().await.0, -643);
        net.stop().await;
    }
}

async fn unknown_operations_and_fields_are_ignored(over: Over) {
    let net = serve(over, echo).await;
    let mut peer = net.peer().await;
    peer.control(r#"{"op":"hello","later":{"a":[1]}}"#).await;
    assert_eq!(peer.receive().await.unwrap().json()["op"], "welcome");
    for ignored in [
        r#"{"op":"dance"}"#,
        r#"{"op":"ack","received":9}"#,
        r#"{"op":"goaway"}"#,
    ] {
        peer.control(ignored).await;
    }
    peer.ping_pong(b"still here").await;
    net.stop().await;
}

async fn a_control_frame_that_is_not_one_object_with_an_op_is_an_error(over: Over) {
    let net = serve(over, echo).await;
    for wrong in [
        "",
        "{",
        "[]",
        "null",
        "\"hello\"",
        "{}",
        r#"{"op":1}"#,
        r#"{"op":"join","op":"join"}"#,
        r#"{"op":"join","group":"a","group":"b"}"#,
        "\u{0}",
        r#"{"op":"join"} {}"#,
    ] {
        // As the first frame, and later on.
        for opened in [false, true] {
            let mut peer = net.peer().await;
            if opened {
                peer.data("x").await;
                peer.expect_data().await;
            }
            peer.control(wrong).await;
            assert_eq!(peer.expect_error_and_end().await.0, -643, "{wrong}");
        }
    }
    net.stop().await;
}

async fn a_resume_of_an_unknown_session_is_refused(over: Over) {
    let net = serve(over, |builder| builder).await;
    let mut peer = net.peer().await;
    let hello = json!({"op": "hello", "reliable": true,
        "resume": {"session_id": "1", "resume_token": "abc", "received": 0}});
    peer.control(hello.to_string()).await;
    assert_eq!(peer.expect_error_and_end().await.0, -621);
    net.stop().await;
}

async fn any_frame_opens_a_session_and_the_first_message_is_delivered(over: Over) {
    for first in [
        Frame::new(kind::DATA, "message"),
        Frame::new(kind::PING, "ping"),
        Frame::new(kind::PONG, "pong"),
        Frame::new(kind::HEARTBEAT, ""),
        Frame::new(0x8123, "typed"),
        Frame::with_id(kind::RESPONSE, 1, "nobody asked"),
        Frame::with_id(kind::REQUEST, 1, "?"),
        Frame::new(kind::CONTROL, r#"{"op":"unheard of"}"#),
    ] {
        let (log, mut events) = log();
        let net = serve(over, |builder| record_messages(record(builder, &log), &log)).await;
        let mut peer = net.peer().await;
        let is_message = first.kind == kind::DATA || first.kind >= 0x8000;
        let payload = first.payload.clone();
        peer.send(first).await;
        assert!(matches!(events.next().await, Event::Connected(_)));
        if is_message {
            assert_eq!(events.message().await.payload(), payload);
        }
        net.stop().await;
    }
}

async fn a_peer_that_leaves_without_opening_is_no_session(over: Over) {
    let (log, mut events) = log();
    let net = serve(over, |builder| record(builder, &log)).await;
    drop(net.peer().await);
    let mut peer = net.peer().await;
    peer.send(Frame::new(kind::DISCONNECT, "wrong door")).await;
    peer.shutdown().await;
    while let Some(frame) = peer.receive().await {
        assert_eq!(frame.kind, kind::DISCONNECT);
    }
    let mut peer = net.peer().await;
    peer.send(Frame::new(
        kind::ERROR,
        [&(-602_i32).to_be_bytes()[..], b"oops"].concat(),
    ))
    .await;
    // ERROR is never answered by ERROR.
    peer.expect_end().await;
    let mut last = net.open_peer().await;
    last.ping_pong(b"on").await;
    assert!(matches!(events.next().await, Event::Connected(_)));
    assert!(events.try_next().is_none());
    assert_eq!(net.server.stats().total_connections, 1);
    net.stop().await;
}

/// Lets in whoever has the right token, once the gate is open.
struct Doorkeeper {
    gate: Arc<Semaphore>,
}

impl Authenticator for Doorkeeper {
    fn authenticate<'a>(
        &'a self,
        session: &'a Session,
        credentials: Credentials,
    ) -> BoxFuture<'a, Result<Option<String>, RequestError>> {
        Box::pin(async move {
            drop(self.gate.acquire().await.unwrap());
            assert_ne!(credentials.token.as_deref(), Some("panic"));
            assert!(!session.is_connected());
            match credentials.token.as_deref() {
                Some("secret") => Ok(credentials.client_id.map(|id| format!("user {id}"))),
                Some("banned") => Err(RequestError::with_code(ErrorCode::AccessDenied, "not you")),
                _ => Err(RequestError::failed("who are you?")),
            }
        })
    }
}

fn hello(token: &str) -> Frame {
    let hello = json!({"op": "hello", "client_id": "eve", "token": token});
    Frame::new(kind::CONTROL, hello.to_string())
}

async fn the_authenticator_decides_and_names_the_peer(over: Over) {
    let (log, mut events) = log();
    let gate = Arc::new(Semaphore::new(1));
    let net = serve(over, |builder| {
        record(echo(builder), &log).authenticator(Doorkeeper { gate })
    })
    .await;
    let mut peer = net.peer().await;
    peer.send(hello("secret")).await;
    assert_eq!(peer.receive().await.unwrap().json()["op"], "welcome");
    let Event::Connected(session) = events.next().await else {
        panic!("not connected")
    };
    assert_eq!(session.identity().as_deref(), Some("user eve"));
    peer.data("in").await;
    assert_eq!(peer.expect_data().await, "in");
    for (token, code) in [("wrong", -623), ("banned", -624)] {
        let mut peer = net.peer().await;
        peer.send_together(vec![hello(token), Frame::new(kind::DATA, "let me in")])
            .await;
        let (refused, text) = peer.expect_error_and_end().await;
        assert_eq!(refused, code);
        assert!(!text.contains(token), "a token is never shown");
    }
    assert_eq!(net.server.session_count(), 1);
    while let Some(event) = events.try_next() {
        assert!(matches!(event, Event::Error(..)), "{event:?}");
    }
    net.stop().await;
}

async fn with_an_authenticator_hello_comes_first(over: Over) {
    let (log, mut events) = log();
    let gate = Arc::new(Semaphore::new(1));
    let net = serve(over, |builder| {
        record_messages(record(builder, &log), &log).authenticator(Doorkeeper { gate })
    })
    .await;
    for first in [
        Frame::new(kind::DATA, "no hello"),
        Frame::new(kind::HEARTBEAT, ""),
        Frame::new(kind::PING, ""),
        Frame::new(kind::CONTROL, r#"{"op":"join","group":"g"}"#),
        Frame::with_id(kind::REQUEST, 1, "?"),
    ] {
        let mut peer = net.peer().await;
        peer.send(first).await;
        assert_eq!(peer.expect_error_and_end().await.0, -623);
    }
    while let Some(event) = events.try_next() {
        assert!(matches!(event, Event::Error(..)), "{event:?}");
    }
    net.stop().await;
}

async fn what_follows_a_hello_waits_for_the_authenticator(over: Over) {
    let gate = Arc::new(Semaphore::new(0));
    let opens = Arc::clone(&gate);
    let net = serve(over, |builder| {
        echo(builder).authenticator(Doorkeeper { gate })
    })
    .await;
    let mut peer = net.peer().await;
    let first = vec![
        hello("secret"),
        Frame::new(kind::DATA, "a"),
        Frame::new(kind::PING, "p"),
    ];
    peer.send_together(first).await;
    peer.send(Frame::new(kind::DATA, "b")).await;
    crate::support::settle().await;
    assert_eq!(net.server.session_count(), 0);
    opens.add_permits(1);
    assert_eq!(peer.receive().await.unwrap().json()["op"], "welcome");
    let mut data = Vec::new();
    let mut pongs = 0;
    while data.len() < 2 || pongs < 1 {
        let frame = peer.receive().await.unwrap();
        match frame.kind {
            kind::DATA => data.push(frame.payload),
            kind::PONG => pongs += 1,
            _ => panic!("{frame:?}"),
        }
    }
    assert_eq!(data, ["a", "b"]);
    net.stop().await;
}

async fn nothing_of_a_peer_that_was_not_let_in_is_handled(over: Over) {
    for token in ["wrong", "secret"] {
        let (log, mut events) = log();
        let gate = Arc::new(Semaphore::new(0));
        let opens = Arc::clone(&gate);
        let requests = log.clone();
        let net = serve(over, |builder| {
            record_messages(record(builder, &log), &log)
                .authenticator(Doorkeeper { gate })
                .on_request(move |_, request| {
                    let _ = requests.send(Event::Message(request));
                    async { Err(RequestError::failed("handled")) }
                })
        })
        .await;
        let mut peer = net.peer().await;
        // A broken frame, an ERROR or the end come while the authenticator works.
        peer.send_together(vec![
            hello(token),
            Frame::new(kind::DATA, "message"),
            Frame::with_id(kind::REQUEST, 1, "request"),
            Frame::new(0x0077, "broken"),
        ])
        .await;
        crate::support::settle().await;
        opens.add_permits(1);
        while let Some(frame) = peer.receive().await {
            assert!(
                matches!(frame.kind, kind::ERROR | kind::CONTROL),
                "{frame:?}"
            );
        }
        drop(peer);
        net.stop().await;
        while let Some(event) = events.try_next() {
            assert!(!matches!(event, Event::Message(_)), "handled {event:?}");
        }
    }
}

async fn an_authenticator_that_panics_lets_nobody_in(over: Over) {
    let gate = Arc::new(Semaphore::new(1));
    let net = serve(over, |builder| {
        echo(builder).authenticator(Doorkeeper { gate })
    })
    .await;
    let mut other = net.peer().await;
    other.send(hello("secret")).await;
    other.expect(kind::CONTROL).await;
    let mut peer = net.peer().await;
    peer.send_together(vec![hello("panic"), Frame::new(kind::DATA, "x")])
        .await;
    peer.expect_error_and_end().await;
    assert_eq!(net.server.session_count(), 1);
    other.ping_pong(b"nothing happened").await;
    net.stop().await;
}

async fn clients_join_and_leave_groups_where_the_guard_allows_it(over: Over) {
    let net = serve(over, |builder| {
        builder.group_guard(|_: &Session, group: &GroupName| group.as_str().starts_with("open"))
    })
    .await;
    let (mut peer, session) = net.pair().await;
    peer.control(r#"{"op":"join","group":"open-1"}"#).await;
    let joined = peer.receive().await.unwrap().json();
    assert_eq!(joined, json!({"op": "joined", "group": "open-1"}));
    assert!(session.is_in(&group("open-1")));
    peer.control(r#"{"op":"join","group":"secret"}"#).await;
    let refused = peer.receive().await.unwrap().json();
    assert_eq!(
        (&refused["op"], &refused["group"]),
        (&json!("refused"), &json!("secret"))
    );
    assert_eq!(refused["code"], -624);
    assert!(!session.is_in(&group("secret")));
    net.server
        .broadcast_to(&group("open-1"), "to members", &[])
        .await
        .unwrap();
    assert_eq!(peer.expect_data().await, "to members");
    peer.control(r#"{"op":"leave","group":"open-1"}"#).await;
    let left = peer.receive().await.unwrap().json();
    assert_eq!(left, json!({"op": "left", "group": "open-1"}));
    eventually("left", || session.groups().is_empty()).await;
    // CONTROL keeps its place behind messages.
    session.send("before").await.unwrap();
    peer.control(r#"{"op":"join","group":"open-2"}"#).await;
    assert_eq!(peer.expect_data().await, "before");
    assert_eq!(peer.receive().await.unwrap().json()["op"], "joined");
    net.stop().await;
}

async fn without_a_guard_clients_are_refused(over: Over) {
    let net = serve(over, |builder| builder).await;
    let (mut peer, session) = net.pair().await;
    for op in ["join", "leave"] {
        peer.control(json!({"op": op, "group": "g"}).to_string())
            .await;
        let refused = peer.receive().await.unwrap().json();
        assert_eq!(
            (&refused["op"], &refused["code"]),
            (&json!("refused"), &json!(-624))
        );
    }
    assert!(session.groups().is_empty());
    peer.ping_pong(b"on").await;
    net.stop().await;
}

async fn group_names_and_their_number_are_limited(over: Over) {
    let net = serve(over, |builder| {
        builder.group_guard(|_: &Session, _: &GroupName| true)
    })
    .await;
    let (mut peer, session) = net.pair().await;
    for name in [String::new(), "n".repeat(129)] {
        peer.control(json!({"op": "join", "group": name}).to_string())
            .await;
        assert_eq!(peer.receive().await.unwrap().json()["op"], "refused");
    }
    for number in 0..65 {
        let name = format!("{number:0128}");
        peer.control(json!({"op": "join", "group": name}).to_string())
            .await;
        let expected = if number < 64 { "joined" } else { "refused" };
        assert_eq!(peer.receive().await.unwrap().json()["op"], expected);
    }
    assert_eq!(session.groups().len(), 64);
    peer.leave().await;
    within("closed", session.closed()).await;
    assert!(net.server.groups().is_empty());
    net.stop().await;
}
