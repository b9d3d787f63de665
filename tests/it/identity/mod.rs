//! Who a peer is: what the authenticator sees, until when it holds, how it is renewed, and what it may join.

mod decisions;
mod tokens;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use network_system::websocket::WebSocketClient;
use network_system::{
    Authentication, Client, ClientState, Credentials, ErrorCode, GroupName, Message, Purpose,
    ReconnectPolicy, Reliability, RequestError, ServerBuilder, Session, State, Transport,
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::support::{
    Event, Frame, Net, Over, Peer, echo, eventually, group, kind, log, record, serve, timeouts,
    within,
};

over_all! {
    requests:
        the_authenticator_sees_the_connection,
        an_identity_that_expires_ends_its_session,
        a_refresh_makes_an_identity_last_longer,
        a_refresh_never_changes_who_the_peer_is,
        a_refresh_does_not_hold_messages_up,
        a_second_refresh_is_refused_while_the_first_is_judged,
        after_a_refused_refresh_the_next_one_has_to_wait,
        a_server_without_an_authenticator_knows_no_refresh,
        an_authenticator_that_panics_at_a_refresh_ends_that_session_only,
        a_client_refreshes_its_token,
        joins_are_decided_in_order_and_hold_no_messages_up,
        more_joins_than_can_wait_are_refused,
        a_guard_that_panics_later_ends_that_session_only;
    errors:
        a_resume_is_authenticated_anew,
        a_suspended_session_ends_when_its_identity_does;
}

/// Lets in who has a token `NAME` or `NAME for SECONDS`; `pending` waits for the gate, `panic` panics.
fn doorkeeper(builder: ServerBuilder, gate: &Arc<Semaphore>) -> ServerBuilder {
    let gate = Arc::clone(gate);
    builder.authenticate(move |credentials: Credentials| {
        let gate = Arc::clone(&gate);
        async move {
            let token = credentials.token.clone().unwrap_or_default();
            let (name, seconds) = match token.split_once(" for ") {
                Some((name, seconds)) => (name, Some(seconds.parse().unwrap())),
                None => (&*token, None),
            };
            assert_ne!(name, "panic");
            if name == "pending" {
                drop(gate.acquire().await.unwrap());
                return Ok(Authentication::new("anna"));
            }
            let granted = match name {
                "" => return Err(RequestError::failed("who are you?")),
                "nobody" => Authentication::anonymous(),
                name => Authentication::new(name),
            };
            Ok(match seconds {
                Some(seconds) => granted.expires_in(Duration::from_secs_f64(seconds)),
                None => granted,
            })
        }
    })
}

async fn guarded(over: Over) -> (Net, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let net = serve(over, |builder| doorkeeper(echo(builder), &gate)).await;
    (net, gate)
}

fn hello(token: &str) -> Frame {
    let hello = json!({"op": "hello", "client_id": "eve", "token": token});
    Frame::new(kind::CONTROL, hello.to_string())
}

fn refresh(id: u64, token: &str) -> String {
    json!({"op": "refresh", "id": id, "token": token}).to_string()
}

/// Opens a session with this token; gives what welcome says as well.
async fn open(net: &Net, token: &str) -> (Peer, Session, serde_json::Value) {
    let known: Vec<_> = net.server.sessions().iter().map(Session::id).collect();
    let mut peer = net.peer().await;
    peer.send(hello(token)).await;
    let welcome = peer.receive().await.unwrap().json();
    assert_eq!(welcome["op"], "welcome");
    peer.prove_address().await;
    let mut sessions = net.server.sessions();
    sessions.retain(|session| !known.contains(&session.id()));
    (peer, sessions.remove(0), welcome)
}

async fn the_authenticator_sees_the_connection(over: Over) {
    let seen: Arc<Mutex<Vec<Credentials>>> = Arc::default();
    let net = serve(over, |builder| {
        let seen = Arc::clone(&seen);
        builder.authenticate(move |credentials| {
            seen.lock().unwrap().push(credentials);
            async { Ok("anna") }
        })
    })
    .await;
    let (mut peer, session, _) = open(&net, "a secret").await;
    peer.control(refresh(1, "another secret")).await;
    assert_eq!(peer.receive().await.unwrap().json()["op"], "refreshed");
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    let [first, second] = &seen[..] else {
        panic!("asked {} times", seen.len())
    };
    assert_eq!(
        (first.purpose, second.purpose),
        (Purpose::Open, Purpose::Refresh)
    );
    assert_eq!(first.token.as_deref(), Some("a secret"));
    assert_eq!(second.token.as_deref(), Some("another secret"));
    assert_eq!(
        (first.identity.as_deref(), second.identity.as_deref()),
        (None, Some("anna"))
    );
    for credentials in &seen {
        assert_eq!(credentials.client_id.as_deref(), Some("eve"));
        assert_eq!(credentials.transport, session.transport());
        assert_eq!(credentials.remote, session.remote_addr());
        let is_secure = matches!(over, Over::Tls | Over::Wss);
        assert_eq!(credentials.tls.is_some(), is_secure);
        let shown = format!("{credentials:?}");
        assert!(!shown.contains("secret"), "{shown}");
    }
    // The request is not kept for later.
    let is_upgraded = matches!(over, Over::Ws | Over::Wss);
    assert_eq!(first.upgrade.is_some(), is_upgraded);
    assert!(second.upgrade.is_none());
    net.stop().await;
}

async fn an_identity_that_expires_ends_its_session(over: Over) {
    let (net, _) = guarded(over).await;
    let (mut peer, session, welcome) = open(&net, "anna for 0.2").await;
    let told = welcome["expires_ms"].as_u64().unwrap();
    assert!((1..=200).contains(&told), "{told}");
    assert!(session.expires_at().unwrap() <= Instant::now() + Duration::from_millis(200));
    let (code, text) = peer.expect_error_and_end().await;
    assert_eq!((code, &*text), (-623, "the identity has expired"));
    let reason = within("closed", session.closed()).await;
    assert_eq!(reason.code(), Some(ErrorCode::AuthenticationFailed));
    // What is over already is not let in.
    let mut late = net.peer().await;
    late.send(hello("anna for 0")).await;
    assert_eq!(late.expect_error_and_end().await.0, -623);
    // What does not expire is not said to.
    let (_peer, session, welcome) = open(&net, "anna").await;
    assert_eq!(welcome.get("expires_ms"), None);
    assert_eq!(session.expires_at(), None);
    net.stop().await;
}

async fn a_refresh_makes_an_identity_last_longer(over: Over) {
    let (net, _) = guarded(over).await;
    let (mut peer, session, _) = open(&net, "anna for 3").await;
    let first = session.expires_at().unwrap();
    peer.control(refresh(7, "anna for 3000")).await;
    let answer = peer.receive().await.unwrap().json();
    assert_eq!(
        (&answer["op"], &answer["id"]),
        (&json!("refreshed"), &json!(7))
    );
    let told = answer["expires_ms"].as_u64().unwrap();
    assert!((2_900_000..=3_000_000).contains(&told), "{told}");
    assert!(session.expires_at().unwrap() > first + Duration::from_secs(2_000));
    peer.control(refresh(8, "anna")).await;
    let answer = peer.receive().await.unwrap().json();
    assert_eq!(answer, json!({"op": "refreshed", "id": 8}));
    assert_eq!(session.expires_at(), None);
    peer.data("still here").await;
    assert_eq!(peer.expect_data().await, "still here");
    net.stop().await;
}

async fn a_refresh_never_changes_who_the_peer_is(over: Over) {
    let (net, _) = guarded(over).await;
    for (token, other) in [
        ("anna for 60", "eve"),
        // Nobody may go on in the name of somebody, nor somebody in that of nobody.
        ("anna for 60", "nobody"),
        ("nobody for 60", "anna"),
    ] {
        let (mut peer, session, _) = open(&net, token).await;
        let (identity, until) = (session.identity(), session.expires_at());
        peer.control(refresh(1, other)).await;
        let answer = peer.receive().await.unwrap().json();
        assert_eq!(
            (&answer["op"], &answer["id"], &answer["code"]),
            (&json!("refresh_refused"), &json!(1), &json!(-624))
        );
        assert_eq!(session.identity(), identity);
        assert_eq!(session.expires_at(), until);
        peer.data("as before").await;
        assert_eq!(peer.expect_data().await, "as before");
    }
    let (mut peer, _session, _) = open(&net, "nobody for 60").await;
    peer.control(refresh(1, "nobody")).await;
    assert_eq!(peer.receive().await.unwrap().json()["op"], "refreshed");
    net.stop().await;
}

async fn a_refresh_does_not_hold_messages_up(over: Over) {
    let (net, gate) = guarded(over).await;
    let (mut peer, _session, _) = open(&net, "anna").await;
    peer.control(refresh(1, "pending")).await;
    peer.data("first").await;
    assert_eq!(peer.expect_data().await, "first");
    peer.ping_pong(b"meanwhile").await;
    gate.add_permits(1);
    assert_eq!(peer.receive().await.unwrap().json()["op"], "refreshed");
    // A session that goes away meanwhile takes the decision with it.
    gate.forget_permits(1);
    peer.control(refresh(2, "pending")).await;
    peer.ping_pong(b"asked").await;
    net.stop().await;
}

async fn a_second_refresh_is_refused_while_the_first_is_judged(over: Over) {
    let (net, gate) = guarded(over).await;
    let (mut peer, _session, _) = open(&net, "anna").await;
    peer.control(refresh(1, "pending")).await;
    for id in 2..20 {
        peer.control(refresh(id, "anna")).await;
        let answer = peer.receive().await.unwrap().json();
        assert_eq!(
            (&answer["id"], &answer["code"]),
            (&json!(id), &json!(-606)),
            "rate_limited"
        );
    }
    gate.add_permits(1);
    let answer = peer.receive().await.unwrap().json();
    assert_eq!(answer, json!({"op": "refreshed", "id": 1}));
    net.stop().await;
}

async fn after_a_refused_refresh_the_next_one_has_to_wait(over: Over) {
    let asked = Arc::new(AtomicUsize::new(0));
    let net = serve(over, |builder| {
        let asked = Arc::clone(&asked);
        builder.authenticate(move |credentials| {
            asked.fetch_add(1, Ordering::Relaxed);
            async move {
                match credentials.token.as_deref() {
                    Some("right") => Ok(()),
                    _ => Err(RequestError::failed("no")),
                }
                .map(|()| "anna")
            }
        })
    })
    .await;
    let (mut peer, session, _) = open(&net, "right").await;
    peer.control(refresh(1, "a guess")).await;
    let answer = peer.receive().await.unwrap().json();
    let expected = json!({"op": "refresh_refused", "id": 1, "code": -623, "text": "no"});
    assert_eq!(answer, expected);
    for id in 2..10 {
        peer.control(refresh(id, "a guess")).await;
        assert_eq!(peer.receive().await.unwrap().json()["code"], -606);
    }
    assert!(asked.load(Ordering::Relaxed) <= 3);
    assert!(session.is_connected());
    net.stop().await;
}

async fn a_server_without_an_authenticator_knows_no_refresh(over: Over) {
    let net = serve(over, echo).await;
    let (mut peer, session) = net.pair().await;
    peer.control(refresh(1, "anna")).await;
    let answer = peer.receive().await.unwrap().json();
    assert_eq!(
        (&answer["op"], &answer["code"]),
        (&json!("refresh_refused"), &json!(-648))
    );
    assert!(session.is_connected());
    net.stop().await;
}

async fn an_authenticator_that_panics_at_a_refresh_ends_that_session_only(over: Over) {
    let (net, _) = guarded(over).await;
    let (mut peer, _session, _) = open(&net, "anna").await;
    let (mut other, ..) = open(&net, "ben").await;
    peer.control(refresh(1, "panic")).await;
    assert_eq!(peer.expect_error_and_end().await.0, -647);
    other.data("on").await;
    assert_eq!(other.expect_data().await, "on");
    net.stop().await;
}

async fn a_client_refreshes_its_token(over: Over) {
    let (net, gate) = guarded(over).await;
    let client = over.client(&net.url).token("anna for 60").build().unwrap();
    within("connected", client.connect()).await.unwrap();
    let session = client.session().unwrap();
    let first = session.expires_at().unwrap();
    within("refreshed", client.refresh_token("anna for 600"))
        .await
        .unwrap();
    assert!(session.expires_at().unwrap() > first);
    assert_eq!(client.session(), Some(session.clone()));
    // One at a time.
    let waiting = client.refresh_token("pending");
    let second = async {
        eventually("asked", || net.server.session_count() == 1).await;
        client.refresh_token("anna").await
    };
    let (waited, second) = within("both", async {
        tokio::join!(waiting, async {
            let second = second.await;
            gate.add_permits(1);
            second
        })
    })
    .await;
    waited.unwrap();
    assert_eq!(second.unwrap_err().code(), ErrorCode::RateLimited);
    // A token that is refused changes nothing.
    let error = within("refused", client.refresh_token("eve")).await;
    assert_eq!(error.unwrap_err().code(), ErrorCode::AccessDenied);
    assert!(session.is_connected());
    let error = client.refresh_token("x".repeat(8 * 1024 + 1)).await;
    assert_eq!(error.unwrap_err().code(), ErrorCode::InvalidConfiguration);
    client.stop().await;
    net.stop().await;
}

/// Lets everybody into groups that do not begin with `no`, once the gate is open for `slow` ones.
async fn hall(over: Over) -> (Net, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let inside = Arc::clone(&gate);
    let net = serve(over, |builder| {
        echo(builder).authorize_join(move |_: Session, group: GroupName| {
            let gate = Arc::clone(&inside);
            async move {
                if group.as_str().starts_with("slow") {
                    drop(gate.acquire().await.unwrap());
                }
                match group.as_str() {
                    "no" => Err(RequestError::failed("members only")),
                    "no, never" => Err(RequestError::with_code(ErrorCode::RateLimited, "later")),
                    name => {
                        assert_ne!(name, "panic");
                        Ok(())
                    }
                }
            }
        })
    })
    .await;
    (net, gate)
}

fn change(op: &str, group: &str) -> String {
    json!({"op": op, "group": group}).to_string()
}

async fn joins_are_decided_in_order_and_hold_no_messages_up(over: Over) {
    let (net, gate) = hall(over).await;
    let (mut peer, session) = net.pair().await;
    for (group, code) in [("no", -624), ("no, never", -606)] {
        peer.control(change("join", group)).await;
        let answer = peer.receive().await.unwrap().json();
        assert_eq!(
            (&answer["op"], &answer["code"]),
            (&json!("refused"), &json!(code))
        );
    }
    peer.control(change("join", "slow")).await;
    peer.control(change("join", "quick")).await;
    peer.control(change("leave", "slow")).await;
    peer.control(change("join", "no")).await;
    peer.data("meanwhile").await;
    assert_eq!(peer.expect_data().await, "meanwhile");
    assert!(session.groups().is_empty());
    gate.add_permits(1);
    for (op, name) in [
        ("joined", "slow"),
        ("joined", "quick"),
        ("left", "slow"),
        ("refused", "no"),
    ] {
        let answer = peer.receive().await.unwrap().json();
        assert_eq!(
            (&answer["op"], &answer["group"]),
            (&json!(op), &json!(name))
        );
    }
    assert_eq!(session.groups(), [group("quick")]);
    // A session that goes away meanwhile joins nothing.
    gate.forget_permits(1);
    peer.control(change("join", "slow")).await;
    peer.ping_pong(b"asked").await;
    peer.leave().await;
    within("closed", session.closed()).await;
    assert!(net.server.groups().is_empty());
    net.stop().await;
}

async fn more_joins_than_can_wait_are_refused(over: Over) {
    let (net, gate) = hall(over).await;
    let (mut peer, session) = net.pair().await;
    let mut expected = Vec::new();
    for number in 0..200 {
        peer.control(change("join", &format!("slow {number}")))
            .await;
        if number >= 64 {
            let answer = peer.receive().await.unwrap().json();
            assert_eq!(
                (&answer["op"], &answer["code"]),
                (&json!("refused"), &json!(-644)),
                "queue_full"
            );
        } else {
            expected.push(format!("slow {number}"));
        }
    }
    gate.add_permits(1);
    for name in expected {
        let answer = peer.receive().await.unwrap().json();
        assert_eq!(answer, json!({"op": "joined", "group": name}));
    }
    assert_eq!(session.groups().len(), 64);
    net.stop().await;
}

async fn a_guard_that_panics_later_ends_that_session_only(over: Over) {
    let (net, _) = hall(over).await;
    let (mut peer, _) = net.pair().await;
    let (mut other, _) = net.pair().await;
    peer.control(change("join", "panic")).await;
    assert_eq!(peer.expect_error_and_end().await.0, -647);
    other.data("on").await;
    assert_eq!(other.expect_data().await, "on");
    net.stop().await;
}

/// A hello that asks for a reliable session, and gets back `before` if that is the welcome of one.
fn reliable_hello(token: &str, before: Option<&serde_json::Value>) -> Frame {
    let mut hello = json!({"op": "hello", "token": token, "reliable": true});
    if let Some(welcome) = before {
        hello["resume"] = json!({
            "session_id": welcome["session_id"], "resume_token": welcome["resume_token"], "received": 0,
        });
    }
    Frame::new(kind::CONTROL, hello.to_string())
}

async fn a_resume_is_authenticated_anew(over: Over) {
    let purposes: Arc<Mutex<Vec<_>>> = Arc::default();
    let net = serve(over, |builder| {
        let purposes = Arc::clone(&purposes);
        builder
            .reliable(Reliability::default())
            .authenticate(move |credentials: Credentials| {
                let token = credentials.token.clone().unwrap_or_default();
                let is_upgraded = credentials.upgrade.is_some();
                purposes
                    .lock()
                    .unwrap()
                    .push((credentials.purpose, is_upgraded));
                async move {
                    let (name, seconds) = token.split_once(' ').unwrap();
                    let lasts = Duration::from_secs(seconds.parse().unwrap());
                    let granted = Authentication::new(name).expires_in(lasts);
                    Ok(granted.data("token", token))
                }
            })
    })
    .await;
    let mut first = net.peer().await;
    first.send(reliable_hello("anna 60", None)).await;
    let welcome = first.receive().await.unwrap().json();
    let session = net.server.sessions().remove(0);
    let until = session.expires_at().unwrap();
    drop(first);
    within("suspended", async {
        while session.state() != State::Suspended {
            session.state_changed(session.state()).await;
        }
    })
    .await;
    // Whoever else has the resume token is not let in with another identity.
    let mut thief = net.peer().await;
    thief.send(reliable_hello("eve 60", Some(&welcome))).await;
    assert_eq!(thief.expect_error_and_end().await.0, -621);
    assert_eq!(session.expires_at(), Some(until));
    let mut second = net.peer().await;
    second
        .send(reliable_hello("anna 600", Some(&welcome)))
        .await;
    let resumed = second.receive().await.unwrap().json();
    assert_eq!(resumed["resumed"], true, "{resumed}");
    assert!(resumed["expires_ms"].as_u64().unwrap() > 500_000);
    assert!(session.expires_at().unwrap() > until);
    assert_eq!(session.data("token").as_deref(), Some("anna 600"));
    second.control(refresh(1, "anna 6000")).await;
    assert_eq!(second.receive().await.unwrap().json()["op"], "refreshed");
    let is_upgraded = matches!(over, Over::Ws | Over::Wss);
    assert_eq!(
        *purposes.lock().unwrap(),
        [
            (Purpose::Open, is_upgraded),
            (Purpose::Resume, is_upgraded),
            (Purpose::Resume, is_upgraded),
            (Purpose::Refresh, false),
        ]
    );
    net.stop().await;
}

async fn a_suspended_session_ends_when_its_identity_does(over: Over) {
    let gate = Arc::new(Semaphore::new(0));
    let net = serve(over, |builder| {
        doorkeeper(builder, &gate).reliable(Reliability::default())
    })
    .await;
    let mut peer = net.peer().await;
    peer.send(reliable_hello("anna for 1.5", None)).await;
    let welcome = peer.receive().await.unwrap().json();
    let session = net.server.sessions().remove(0);
    drop(peer);
    eventually("suspended", || net.server.stats().suspended == 1).await;
    let reason = within("closed", session.closed()).await;
    assert_eq!(reason.code(), Some(ErrorCode::AuthenticationFailed));
    let stats = net.server.stats();
    assert_eq!((stats.suspended, stats.expired), (0, 1));
    let mut late = net.peer().await;
    late.send(reliable_hello("anna", Some(&welcome))).await;
    assert_eq!(late.expect_error_and_end().await.0, -621);
    net.stop().await;
}

// On one transport
