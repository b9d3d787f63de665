//! Reliable sessions, protocol section 4: what is sent arrives once, in order, whatever happens to connections.
//!
//! Most is held to by plain peers, which count for themselves and know nothing of the library.

mod acknowledging;
mod agreement;
mod client;
mod ending;
mod hostile;
mod resuming;
mod stages;
mod stream;
mod window;

use std::time::Duration;

use network_system::{ErrorCode, Reliability, ServerBuilder};
use serde_json::{Value, json};

pub use self::resuming::TESTS;
use crate::support::{Frame, Net, Over, Peer, kind, serve, within};

/// What carries connections.
pub const CONNECTED: &[Over] = &[
    Over::Tcp,
    Over::Tls,
    #[cfg(unix)]
    Over::Unix,
    Over::Mem,
    Over::Ws,
    Over::Wss,
];

/// The part of welcome that the next connection needs.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    pub id: String,
    pub token: String,
}

impl Ticket {
    pub fn of(welcome: &Value) -> Self {
        let text = |name: &str| welcome[name].as_str().expect(name).to_owned();
        Ticket {
            id: text("session_id"),
            token: text("resume_token"),
        }
    }
}

pub fn reliability(change: impl FnOnce(&mut Reliability)) -> Reliability {
    let mut reliability = Reliability::default();
    change(&mut reliability);
    reliability
}

/// A server with reliable sessions as they are by default.
pub async fn serve_reliable(
    over: Over,
    configure: impl FnOnce(ServerBuilder) -> ServerBuilder,
) -> Net {
    serve(over, |builder| {
        configure(builder.reliable(Reliability::default()))
    })
    .await
}

/// Begins a session with a hello of these fields beside `reliable`.
pub async fn begin_with(url: &str, fields: Value) -> (Peer, Value) {
    let mut hello = json!({"op": "hello", "version": 1, "reliable": true});
    let fields = fields.as_object().unwrap().clone();
    hello.as_object_mut().unwrap().extend(fields);
    let mut peer = Peer::connect(url).await;
    peer.control(hello.to_string()).await;
    let welcome = peer.expect(kind::CONTROL).await.json();
    assert_eq!(welcome["op"], "welcome", "{welcome}");
    (peer, welcome)
}

pub async fn begin(url: &str) -> (Peer, Ticket) {
    let (peer, welcome) = begin_with(url, json!({})).await;
    (peer, Ticket::of(&welcome))
}

/// The hello of a client that wants its session back.
pub fn resume_hello(ticket: &Ticket, received: u64) -> Value {
    json!({
        "op": "hello", "version": 1, "reliable": true,
        "resume": {"session_id": ticket.id, "resume_token": ticket.token, "received": received},
    })
}

/// Asks for a session on a new connection.
pub async fn ask(url: &str, ticket: &Ticket, received: u64) -> Peer {
    let mut peer = Peer::connect(url).await;
    peer.control(resume_hello(ticket, received).to_string())
        .await;
    peer
}

/// Goes on with a session on a new connection; says how many frames the server has, and the next ticket.
pub async fn resume(url: &str, ticket: &Ticket, received: u64) -> (Peer, u64, Ticket) {
    let mut peer = ask(url, ticket, received).await;
    let welcome = peer.expect(kind::CONTROL).await.json();
    let (count, next) = resumed(&welcome, ticket);
    (peer, count, next)
}

/// Checks the welcome of a session that goes on.
pub fn resumed(welcome: &Value, ticket: &Ticket) -> (u64, Ticket) {
    assert_eq!(welcome["op"], "welcome", "{welcome}");
    assert_eq!(welcome["resumed"], true, "{welcome}");
    assert_eq!(welcome["reliable"], true, "{welcome}");
    let next = Ticket::of(welcome);
    assert_eq!(next.id, ticket.id);
    assert!(next.token != ticket.token, "a token is good for one link");
    (welcome["received"].as_u64().unwrap(), next)
}

/// Why a session cannot be had back.
pub async fn refused(url: &str, ticket: &Ticket, received: u64) -> ErrorCode {
    let mut peer = ask(url, ticket, received).await;
    code(peer.expect_error_and_end().await)
}

pub fn code((number, text): (i32, String)) -> ErrorCode {
    ErrorCode::from_i32(number).unwrap_or_else(|| panic!("{number}: {text}"))
}

pub async fn ack(peer: &mut Peer, received: u64) {
    peer.control(json!({"op": "ack", "received": received}).to_string())
        .await;
}

/// The count in an acknowledgement.
pub fn acked(frame: &Frame) -> Option<u64> {
    let json = (frame.kind == kind::CONTROL).then(|| frame.json())?;
    (json["op"] == "ack").then(|| json["received"].as_u64().unwrap())
}

/// The next frame, which is an acknowledgement.
pub async fn next_ack(peer: &mut Peer) -> u64 {
    let frame = peer.expect(kind::CONTROL).await;
    acked(&frame).unwrap_or_else(|| panic!("{frame:?}"))
}

/// The next acknowledgement that is at least so high; there are only such before.
pub async fn ack_of(peer: &mut Peer, count: u64) {
    loop {
        let known = next_ack(peer).await;
        assert!(known <= count, "{known} of {count} are acknowledged");
        if known == count {
            return;
        }
    }
}

/// The next frame that is no acknowledgement.
pub async fn next(peer: &mut Peer) -> Frame {
    loop {
        let frame = peer
            .receive()
            .await
            .expect("the server ended the connection");
        if acked(&frame).is_none() {
            assert_ne!(frame.kind, kind::ERROR, "{:?}", frame.code_and_text());
            return frame;
        }
    }
}

/// The next message, behind acknowledgements.
pub async fn next_data(peer: &mut Peer) -> Vec<u8> {
    let frame = next(peer).await;
    assert_eq!(frame.kind, kind::DATA, "{frame:?}");
    frame.payload.to_vec()
}

/// Loses the link without a word. The server has noticed when this returns.
pub async fn lose(net: &Net, peer: Peer) {
    let before = net.server.stats().suspended;
    drop(peer);
    crate::support::eventually("the session is suspended", || {
        net.server.stats().suspended > before
    })
    .await;
}

/// Ends a connection that is about to be closed by the server, whatever is on it.
pub async fn end_of(mut peer: Peer) {
    while let Ok(Some(_)) = within("the end", peer.try_receive()).await {}
}

pub const MS: Duration = Duration::from_millis(1);
