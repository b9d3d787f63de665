//! Clients of the library: against servers of it, over connections that are cut, and against plain ones.

use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Waker};

use network_system::pipeline::{Compression, Encryption};
use network_system::resilience::{CircuitBreaker, CircuitState};
use network_system::{
    Client, ClientBuilder, ClientState, ErrorCode, Message, ReconnectPolicy, Reliability,
    ServerBuilder, Session, State, WorkerThreads,
};
use serde_json::{Value, json};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::{MS, ack, acked, next_data};
use crate::support::{
    Frame, Over, Peer, eventually, group, kind, number_of, numbered, settle, within,
};

/// A way to a server that can be cut.
struct Way {
    url: String,
    cut: watch::Sender<u64>,
}

impl Way {
    async fn to(url: &str) -> Way {
        let (scheme, target) = url.split_once("://").unwrap();
        let target = target.trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let (cut, cuts) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let mut cuts = cuts.clone();
                cuts.mark_unchanged();
                let target = target.clone();
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(target).await else {
                        return;
                    };
                    let (mut near_in, mut near_out) = near.into_split();
                    let (mut far_in, mut far_out) = far.into_split();
                    tokio::select! {
                        _ = tokio::io::copy(&mut near_in, &mut far_out) => {}
                        _ = tokio::io::copy(&mut far_in, &mut near_out) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Way { url, cut }
    }

    fn cut(&self) {
        self.cut.send_modify(|count| *count += 1);
    }
}

fn reliable(builder: ClientBuilder) -> ClientBuilder {
    builder
        .reconnect(ReconnectPolicy::new().base(MS).cap(20 * MS))
        .reliable(Reliability::default())
}

fn client(url: &str) -> ClientBuilder {
    reliable(Client::builder().endpoint(url))
}

/// A plain server: it takes one connection after the other.
struct Plain {
    listener: TcpListener,
    url: String,
}

impl Plain {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("tcp://{}", listener.local_addr().unwrap());
        Plain { listener, url }
    }

    /// The next connection, and its hello.
    async fn accept(&self) -> (Peer, Value) {
        let (stream, _) = within("a connection", self.listener.accept())
            .await
            .unwrap();
        let mut peer = Peer::of(stream);
        let hello = peer.expect(kind::CONTROL).await.json();
        assert_eq!(hello["op"], "hello");
        (peer, hello)
    }
}

fn welcome(fields: Value) -> String {
    let mut welcome = json!({
        "op": "welcome", "version": 1, "session_id": "seven", "reliable": true,
        "window": 1_024, "resume_token": "11".repeat(16), "resume_ms": 30_000, "received": 0,
    });
    let fields = fields.as_object().unwrap().clone();
    welcome.as_object_mut().unwrap().extend(fields);
    welcome.to_string()
}

type Rest = Arc<Mutex<Vec<(Option<ErrorCode>, Vec<u64>)>>>;

/// Notes what was not acknowledged when a session ended.
fn noting(builder: ClientBuilder) -> (ClientBuilder, Rest) {
    let rest = Rest::default();
    let noted = Arc::clone(&rest);
    let builder = builder.on_disconnect(move |session: Session, reason| {
        let unknown = session.take_unacknowledged();
        let numbers = unknown.iter().map(|message| number_of(message.payload()));
        noted
            .lock()
            .unwrap()
            .push((reason.code(), numbers.collect()));
        async {}
    });
    (builder, rest)
}

#[tokio::test]
async fn a_client_asks_for_its_session_and_acknowledges_at_once() {
    let plain = Plain::start().await;
    let (builder, rest) = noting(client(&plain.url));
    let client = builder.on_message(|_, _| async {}).build().unwrap();
    let connecting = tokio::spawn({
        let client = client.clone();
        async move { client.connect().await }
    });
    let (mut peer, hello) = plain.accept().await;
    assert_eq!(
        (&hello["reliable"], &hello["window"]),
        (&json!(true), &json!(1_048_576))
    );
    assert!(hello["resume"].is_null());
    peer.control(welcome(json!({}))).await;
    within("connect", connecting).await.unwrap().unwrap();
    let session = client.session().unwrap();
    for number in 0..10 {
        client.send(numbered(number, 300)).await.unwrap();
    }
    for number in 0..3 {
        assert_eq!(number_of(&next_data(&mut peer).await), number);
    }
    peer.data("a").await;
    peer.data("b").await;
    super::ack_of(&mut peer, 2).await;
    peer.data("c").await;
    peer.ping_pong(b"seen").await;
    drop(peer);
    // The first connection is lost before there is a welcome.
    let (peer, hello) = plain.accept().await;
    assert_eq!(hello["resume"]["session_id"], "seven");
    assert_eq!(hello["resume"]["resume_token"], "11".repeat(16));
    assert_eq!(hello["resume"]["received"], 3);
    assert_eq!(client.state(), ClientState::Reconnecting);
    drop(peer);
    let (mut peer, hello) = plain.accept().await;
    assert_eq!(hello["resume"]["resume_token"], "11".repeat(16));
    let next = json!({"resumed": true, "received": 2, "resume_token": "22".repeat(16)});
    peer.control(welcome(next)).await;
    let first = peer.receive().await.unwrap();
    assert_eq!(acked(&first), Some(3), "the client acknowledges at once");
    // What was missing, and what fits behind it.
    ack(&mut peer, 2).await;
    for number in 2..5 {
        assert_eq!(number_of(&next_data(&mut peer).await), number);
    }
    assert!(peer.is_quiet_for(30 * MS).await);
    drop(peer);
    let (mut peer, hello) = plain.accept().await;
    assert_eq!(hello["resume"]["resume_token"], "22".repeat(16));
    let next = json!({"resumed": true, "received": 5, "resume_token": "33".repeat(16)});
    peer.control(welcome(next)).await;
    let mut taken = 5;
    while taken < 10 {
        ack(&mut peer, taken).await;
        assert_eq!(number_of(&next_data(&mut peer).await), taken);
        taken += 1;
    }
    ack(&mut peer, 10).await;
    assert_eq!(session.stats().resumes, 2);
    assert_eq!(client.session().unwrap().id(), session.id());
    let stopping = tokio::spawn(async move { client.stop().await });
    assert_eq!(super::next(&mut peer).await.kind, kind::DISCONNECT);
    peer.send(Frame::new(kind::DISCONNECT, "")).await;
    peer.shutdown().await;
    assert_eq!(within("stop", stopping).await.unwrap().unsent, 0);
    assert_eq!(rest.lock().unwrap().len(), 1);
    assert!(rest.lock().unwrap()[0].1.is_empty());
}

#[tokio::test]
async fn a_session_is_resumed_through_a_circuit_breaker() {
    let plain = Plain::start().await;
    let breaker = CircuitBreaker::builder()
        .consecutive_failures(Some(2))
        .open_for(100 * MS, 100 * MS)
        .successes(1)
        .build()
        .unwrap();
    let (builder, rest) = noting(client(&plain.url).circuit_breaker(&breaker));
    let client = builder.build().unwrap();
    let connecting = tokio::spawn({
        let client = client.clone();
        async move { client.connect().await }
    });
    let (mut peer, _) = plain.accept().await;
    peer.control(welcome(json!({}))).await;
    within("connect", connecting).await.unwrap().unwrap();
    let session = client.session().unwrap();
    for number in 0..2 {
        client.send(numbered(number, 20)).await.unwrap();
        assert_eq!(number_of(&next_data(&mut peer).await), number);
    }
    drop(peer);
    for _ in 0..2 {
        let (peer, hello) = plain.accept().await;
        assert!(hello["resume"].is_object());
        drop(peer);
    }
    eventually("it opens", || breaker.state() == CircuitState::Open).await;
    assert_eq!(session.state(), State::Suspended);
    // The attempt that it lets through is the one that is to find out.
    let (mut peer, hello) = plain.accept().await;
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    assert!(hello["resume"].is_object());
    let next = json!({"resumed": true, "received": 1, "resume_token": "22".repeat(16)});
    peer.control(welcome(next)).await;
    assert_eq!(acked(&peer.receive().await.unwrap()), Some(0));
    assert_eq!(number_of(&next_data(&mut peer).await), 1);
    eventually("it closes", || breaker.state() == CircuitState::Closed).await;
    eventually("connected", || client.is_connected()).await;
    assert_eq!(client.session().unwrap().id(), session.id());
    assert!(rest.lock().unwrap().is_empty());
    client.stop_within(std::time::Duration::ZERO).await;
}

#[tokio::test]
async fn a_welcome_that_names_no_other_token_leaves_the_one_that_is_known() {
    let plain = Plain::start().await;
    let client = client(&plain.url).build().unwrap();
    let connecting = tokio::spawn({
        let client = client.clone();
        async move { client.connect().await }
    });
    let (mut peer, _) = plain.accept().await;
    peer.control(welcome(json!({}))).await;
    within("connect", connecting).await.unwrap().unwrap();
    drop(peer);
    let (mut peer, _) = plain.accept().await;
    let next = json!({"resumed": true, "session_id": null, "resume_token": null});
    peer.control(welcome(next)).await;
    let first = peer.receive().await.unwrap();
    assert_eq!(acked(&first), Some(0));
    drop(peer);
    let (_peer, hello) = plain.accept().await;
    assert_eq!(hello["resume"]["session_id"], "seven");
    assert_eq!(hello["resume"]["resume_token"], "11".repeat(16));
    client.stop_within(std::time::Duration::ZERO).await;
}

#[tokio::test]
async fn when_the_session_is_gone_its_fate_is_told_and_the_next_one_takes_what_was_never_sent() {
    let plain = Plain::start().await;
    let (builder, rest) = noting(client(&plain.url));
    let client = builder.build().unwrap();
    let connecting = tokio::spawn({
        let client = client.clone();
        async move { client.connect().await }
    });
    let (mut peer, _) = plain.accept().await;
    peer.control(welcome(json!({}))).await;
    within("connect", connecting).await.unwrap().unwrap();
    for number in 0..10 {
        client.send(numbered(number, 300)).await.unwrap();
    }
    for number in 0..3 {
        assert_eq!(number_of(&next_data(&mut peer).await), number);
    }
    ack(&mut peer, 1).await;
    assert_eq!(number_of(&next_data(&mut peer).await), 3);
    drop(peer);
    let (mut peer, hello) = plain.accept().await;
    assert!(hello["resume"].is_object());
    // Sent while there is no connection.
    client.send(numbered(10, 300)).await.unwrap();
    let expired = ErrorCode::SessionExpired.as_i32().to_be_bytes();
    peer.send(Frame::new(kind::ERROR, expired.to_vec())).await;
    peer.shutdown().await;
    let (mut peer, hello) = plain.accept().await;
    assert!(hello["resume"].is_null(), "afresh: {hello}");
    peer.control(welcome(json!({"session_id": "eight", "window": 1 << 20})))
        .await;
    for number in 4..11 {
        assert_eq!(number_of(&next_data(&mut peer).await), number, "in order");
    }
    let told = rest.lock().unwrap().clone();
    assert_eq!(told, [(Some(ErrorCode::SessionExpired), vec![1, 2, 3])]);
    client.stop_within(std::time::Duration::ZERO).await;
}

/// A client with its first session on a plain server.
async fn connected(plain: &Plain, client: &Client, fields: Value) -> Peer {
    let connecting = tokio::spawn({
        let client = client.clone();
        async move { client.connect().await }
    });
    let (mut peer, _) = plain.accept().await;
    peer.control(welcome(fields)).await;
    within("connect", connecting).await.unwrap().unwrap();
    peer
}

#[tokio::test]
async fn what_is_sent_after_a_goaway_is_for_the_next_session() {
    let plain = Plain::start().await;
    let (builder, rest) = noting(client(&plain.url));
    let client = builder.build().unwrap();
    let mut peer = connected(&plain, &client, json!({})).await;
    client.send(numbered(0, 20)).await.unwrap();
    assert_eq!(number_of(&next_data(&mut peer).await), 0);
    peer.control(r#"{"op":"goaway","retry_ms":1}"#).await;
    peer.ping_pong(b"heard").await;
    settle().await;
    for number in 1..4 {
        client.send(numbered(number, 20)).await.unwrap();
    }
    assert_eq!(client.stats().queued_messages, 3);
    ack(&mut peer, 1).await;
    peer.send(Frame::new(kind::DISCONNECT, "")).await;
    assert_eq!(super::next(&mut peer).await.kind, kind::DISCONNECT);
    drop(peer);
    let (mut peer, hello) = plain.accept().await;
    assert!(hello["resume"].is_null(), "afresh: {hello}");
    peer.control(welcome(json!({"session_id": "eight"}))).await;
    for number in 1..4 {
        assert_eq!(number_of(&next_data(&mut peer).await), number);
    }
    assert!(rest.lock().unwrap()[0].1.is_empty());
    client.stop_within(std::time::Duration::ZERO).await;
}

#[tokio::test]
async fn what_waits_for_the_window_when_the_server_leaves_is_for_the_next_session() {
    let plain = Plain::start().await;
    let (builder, rest) = noting(client(&plain.url));
    let client = builder.build().unwrap();
    let mut peer = connected(&plain, &client, json!({})).await;
    for number in 0..6 {
        client.send(numbered(number, 300)).await.unwrap();
    }
    for number in 0..3 {
        assert_eq!(number_of(&next_data(&mut peer).await), number);
    }
    // There is room in the window again, for a server that acknowledges no more.
    let ack = json!({"op": "ack", "received": 2}).to_string();
    let last = vec![
        Frame::new(kind::CONTROL, ack),
        Frame::new(kind::DISCONNECT, ""),
    ];
    peer.send_together(last).await;
    assert_eq!(super::next(&mut peer).await.kind, kind::DISCONNECT);
    drop(peer);
    let (mut peer, hello) = plain.accept().await;
    assert!(hello["resume"].is_null(), "afresh: {hello}");
    peer.control(welcome(json!({"session_id": "eight"}))).await;
    for number in 3..6 {
        assert_eq!(number_of(&next_data(&mut peer).await), number);
    }
    assert_eq!(rest.lock().unwrap()[0].1, [2]);
    client.stop_within(std::time::Duration::ZERO).await;
}

#[tokio::test]
async fn a_client_has_what_waits_for_its_handler_and_asks_again_for_what_was_not_answered() {
    let plain = Plain::start().await;
    let go_on = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&go_on);
    let client = client(&plain.url)
        .on_message(move |_, _| {
            let waits = Arc::clone(&waits);
            async move { waits.acquire().await.unwrap().forget() }
        })
        .build()
        .unwrap();
    let mut peer = connected(&plain, &client, json!({})).await;
    let joining = tokio::spawn({
        let client = client.clone();
        async move { client.join(&group("room")).await }
    });
    let join = json!({"op": "join", "group": "room"});
    assert_eq!(super::next(&mut peer).await.json(), join);
    for _ in 0..3 {
        peer.data("for the handler").await;
        peer.ping_pong(b"seen").await;
    }
    drop(peer);
    let (mut peer, hello) = plain.accept().await;
    assert_eq!(hello["resume"]["received"], 3);
    let next = json!({"resumed": true, "resume_token": "22".repeat(16)});
    peer.control(welcome(next)).await;
    assert_eq!(acked(&peer.receive().await.unwrap()), Some(0));
    assert_eq!(super::next(&mut peer).await.json(), join);
    peer.control(r#"{"op":"joined","group":"room"}"#).await;
    within("the answer", joining).await.unwrap().unwrap();
    go_on.add_permits(3);
    super::ack_of(&mut peer, 3).await;
    client.stop_within(std::time::Duration::ZERO).await;
}

/// It may be another server, and another way to the same one as well.
#[tokio::test]
async fn one_word_of_another_endpoint_does_not_end_a_session() {
    let (home, other) = (Plain::start().await, Plain::start().await);
    let client = reliable(Client::builder().endpoint(&home.url).endpoint(&other.url))
        .build()
        .unwrap();
    drop(connected(&home, &client, json!({})).await);
    // No answer at home, and the wrong one elsewhere.
    drop(home.accept().await);
    let (mut peer, hello) = other.accept().await;
    assert_eq!(hello["resume"]["session_id"], "seven");
    let expired = ErrorCode::SessionExpired.as_i32().to_be_bytes();
    peer.send(Frame::new(kind::ERROR, expired.to_vec())).await;
    peer.shutdown().await;
    let (mut peer, hello) = home.accept().await;
    assert_eq!(hello["resume"]["session_id"], "seven");
    let next = json!({"resumed": true, "resume_token": "22".repeat(16)});
    peer.control(welcome(next)).await;
    assert_eq!(acked(&peer.receive().await.unwrap()), Some(0));
    client.stop_within(std::time::Duration::ZERO).await;
}

#[tokio::test]
async fn a_client_that_stops_while_its_session_is_suspended_says_what_was_not_acknowledged() {
    let plain = Plain::start().await;
    let (builder, rest) = noting(client(&plain.url));
    let client = builder.build().unwrap();
    let connecting = tokio::spawn({
        let client = client.clone();
        async move { client.connect().await }
    });
    let (mut peer, _) = plain.accept().await;
    peer.control(welcome(json!({}))).await;
    within("connect", connecting).await.unwrap().unwrap();
    let session = client.session().unwrap();
    for number in 0..3 {
        client.send(numbered(number, 300)).await.unwrap();
        next_data(&mut peer).await;
    }
    drop(peer);
    within("the loss", session.state_changed(State::Connected)).await;
    let there = client.session().expect("a suspended session is one");
    assert_eq!(
        (there.id(), there.state()),
        (session.id(), State::Suspended)
    );
    assert!(!client.is_connected());
    client.send(numbered(3, 20)).await.unwrap();
    let report = within("stop", client.stop()).await;
    assert_eq!((report.unacknowledged, report.unsent), (4, 0), "{report:?}");
    let told = rest.lock().unwrap().clone();
    assert_eq!(told, [(Some(ErrorCode::ShuttingDown), vec![0, 1, 2, 3])]);
}

#[tokio::test]
async fn a_server_that_cannot_is_refused_if_it_is_required_and_else_not() {
    for required in [true, false] {
        let plain = Plain::start().await;
        let client = Client::builder()
            .endpoint(&plain.url)
            .reliable(super::reliability(|reliability| {
                reliability.required = required
            }))
            .build()
            .unwrap();
        let connecting = tokio::spawn({
            let client = client.clone();
            async move { client.connect().await }
        });
        let (mut peer, _) = plain.accept().await;
        peer.control(r#"{"op":"welcome","version":1,"reliable":false}"#)
            .await;
        if required {
            peer.expect(kind::ERROR).await;
            peer.shutdown().await;
        }
        let result = within("connect", connecting).await.unwrap();
        match required {
            true => assert_eq!(result.unwrap_err().code(), ErrorCode::NotSupported),
            false => {
                result.unwrap();
                assert!(!client.session().unwrap().is_reliable());
            }
        }
        client.stop_within(std::time::Duration::ZERO).await;
    }
}

#[tokio::test]
async fn a_server_that_lies_about_counts_ends_the_session() {
    for (received, expected) in [
        (2, ErrorCode::InvalidSession),
        (0, ErrorCode::SessionExpired),
    ] {
        let plain = Plain::start().await;
        let (builder, rest) = noting(client(&plain.url));
        let client = builder.build().unwrap();
        let connecting = tokio::spawn({
            let client = client.clone();
            async move { client.connect().await }
        });
        let (mut peer, _) = plain.accept().await;
        peer.control(welcome(json!({}))).await;
        within("connect", connecting).await.unwrap().unwrap();
        client.send(numbered(0, 20)).await.unwrap();
        next_data(&mut peer).await;
        ack(&mut peer, 1).await;
        peer.ping_pong(b"seen").await;
        drop(peer);
        let (mut peer, _) = plain.accept().await;
        let lie = json!({"resumed": true, "received": received, "resume_token": "22".repeat(16)});
        peer.control(welcome(lie)).await;
        eventually("it is told", || !rest.lock().unwrap().is_empty()).await;
        assert_eq!(rest.lock().unwrap()[0].0, Some(expected));
        drop(peer);
        let (mut peer, hello) = plain.accept().await;
        assert!(hello["resume"].is_null());
        peer.control(welcome(json!({}))).await;
        client.stop_within(std::time::Duration::ZERO).await;
    }
}

fn server(over: Over) -> ServerBuilder {
    over.server().workers(2).reliable(Reliability::default())
}

#[tokio::test]
async fn messages_both_ways_arrive_once_and_in_order_while_connections_are_cut() {
    for over in [Over::Tcp, Over::Tls, Over::Ws, Over::Wss] {
        for threads in [WorkerThreads::Runtime, WorkerThreads::Dedicated] {
            for has_stages in [false, true] {
                cut_and_go_on(over, threads, has_stages).await;
            }
        }
    }
}

async fn cut_and_go_on(over: Over, threads: WorkerThreads, has_stages: bool) {
    let stages = || {
        let keys = crate::pipeline::keys(1, 4);
        crate::pipeline::requiring(vec![
            Compression::lz4().threshold(32).into(),
            Encryption::aes_256_gcm(&keys).into(),
        ])
    };
    let mut net = server(over).worker_threads(threads);
    if has_stages {
        net = net.pipeline(stages());
    }
    let net = net
        .on_message(|session: Session, message: Message| async move {
            session.send(message).await.unwrap();
        })
        .build()
        .unwrap();
    net.start().await.unwrap();
    let way = Way::to(&net.urls()[0]).await;
    let mut builder = reliable(over.client(&way.url));
    if has_stages {
        builder = builder.pipeline(stages());
    }
    let client = builder.build().unwrap();
    let mut messages = client.messages().unwrap();
    within("connect", client.connect()).await.unwrap();
    let session = client.session().unwrap();
    assert!(session.is_reliable());
    let count = 1_500;
    let sender = {
        let client = client.clone();
        tokio::spawn(async move {
            for number in 0..count {
                client
                    .send(format!("{number} {}", "x".repeat(number % 300)))
                    .await
                    .unwrap();
                if number % 200 == 199 {
                    way.cut();
                    tokio::time::sleep(5 * MS).await;
                }
            }
            way
        })
    };
    for number in 0..count {
        let message = within("an echo", messages.next()).await.unwrap();
        assert_eq!(
            message.as_text(),
            Some(&*format!("{number} {}", "x".repeat(number % 300)))
        );
    }
    let way = sender.await.unwrap();
    assert!(session.stats().resumes >= 2, "{:?}", session.stats());
    assert_eq!(net.stats().total_connections, 1);
    eventually("all is acknowledged", || {
        session.stats().unacknowledged_messages == 0
    })
    .await;
    let report = within("stop", client.stop()).await;
    assert_eq!(report.unsent, 0);
    assert!(session.take_unacknowledged().is_empty());
    drop(way);
    within("stop", net.stop()).await.unwrap();
}

#[tokio::test]
async fn a_server_that_claims_to_have_more_than_was_sent_is_told_so() {
    let plain = Plain::start().await;
    let (builder, rest) = noting(client(&plain.url));
    let client = builder.build().unwrap();
    let connecting = tokio::spawn({
        let client = client.clone();
        async move { client.connect().await }
    });
    let (mut peer, _) = plain.accept().await;
    peer.control(welcome(json!({}))).await;
    within("connect", connecting).await.unwrap().unwrap();
    for number in 0..3 {
        client.send(numbered(number, 300)).await.unwrap();
        next_data(&mut peer).await;
    }
    drop(peer);
    let (mut peer, _) = plain.accept().await;
    peer.control(welcome(json!({"resumed": true, "received": 4})))
        .await;
    let error = peer.expect(kind::ERROR).await;
    assert_eq!(error.code_and_text().0, ErrorCode::InvalidSession.as_i32());
    eventually("the end", || !rest.lock().unwrap().is_empty()).await;
    let told = rest.lock().unwrap().clone();
    assert_eq!(told, [(Some(ErrorCode::InvalidSession), vec![0, 1, 2])]);
}

#[tokio::test]
async fn a_first_welcome_cannot_claim_that_there_was_a_session() {
    let claims = [
        (json!({"resumed": true}), ErrorCode::InvalidFrame),
        (json!({"received": 5}), ErrorCode::InvalidSession),
    ];
    for (claim, code) in claims {
        let plain = Plain::start().await;
        let client = client(&plain.url).build().unwrap();
        let connecting = tokio::spawn(async move { client.connect().await });
        let (mut peer, _) = plain.accept().await;
        peer.control(welcome(claim)).await;
        let error = peer.expect(kind::ERROR).await;
        assert_eq!(error.code_and_text().0, code.as_i32());
        drop(plain);
        drop(peer);
        let result = within("connect", connecting).await.unwrap();
        assert_eq!(result.unwrap_err().code(), code);
    }
}

/// Numbers of messages.
fn numbers(messages: &[Message]) -> Vec<u64> {
    let all = messages.iter();
    all.map(|message| number_of(message.payload())).collect()
}

#[tokio::test]
async fn a_send_and_a_stop_in_the_moment_in_which_a_session_ends_hide_nothing_that_it_has_not_sent()
{
    let plain = Plain::start().await;
    let itself = Arc::new(OnceLock::<Client>::new());
    let known = Arc::clone(&itself);
    let builder = client(&plain.url).on_disconnect(move |_, _| {
        let client = known.get().unwrap();
        // Both before the client's own task hears that the session is over.
        client.try_send(numbered(9, 20)).unwrap();
        let mut stop = Box::pin(client.stop());
        let _ = stop.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        async {}
    });
    let client = builder.build().unwrap();
    itself.set(client.clone()).unwrap();
    let connecting = tokio::spawn({
        let client = client.clone();
        async move { client.connect().await }
    });
    let (mut peer, _) = plain.accept().await;
    peer.control(welcome(json!({"resume_ms": 50}))).await;
    within("connect", connecting).await.unwrap().unwrap();
    let session = client.session().unwrap();
    // The first one fills the window; the others wait for room.
    for (number, len) in [(0, 2_000), (1, 20), (2, 20)] {
        client.send(numbered(number, len)).await.unwrap();
    }
    assert_eq!(number_of(&next_data(&mut peer).await), 0);
    drop((peer, plain));
    within("the end", client.wait_for_stop()).await;
    assert_eq!(numbers(&session.take_unacknowledged()), [0, 1, 2]);
    assert_eq!(numbers(&client.take_unsent()), [9]);
}
