//! Against tungstenite, another implementation.

use std::io::{self, Cursor, Read, Write};

use proptest::prelude::*;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

use super::*;

/// Bytes to be read, and a place for what is written.
#[derive(Debug)]
struct Both(Cursor<Vec<u8>>, Vec<u8>);

impl Read for Both {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Both {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What tungstenite reads, and whether it refused anything.
fn theirs(stream: &[u8], role: Role) -> (Vec<RawFrame>, bool) {
    let config = WebSocketConfig::default().max_message_size(Some(LIMIT));
    let both = Both(Cursor::new(stream.to_vec()), Vec::new());
    let mut socket = WebSocket::from_raw_socket(both, role, Some(config));
    let mut frames = Vec::new();
    loop {
        let frame = match socket.read() {
            Ok(Message::Text(text)) => found(DATA, true, text.as_bytes()),
            Ok(Message::Binary(bytes)) => found(DATA, false, &bytes),
            Ok(Message::Ping(bytes)) => found(PING, true, &bytes),
            Ok(Message::Pong(bytes)) => found(PONG, true, &bytes),
            Ok(Message::Close(_)) => return (frames, false),
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                let refused = !matches!(error, tungstenite::Error::Io(_))
                    && !error.to_string().contains("without closing handshake");
                return (frames, refused);
            }
        };
        frames.push(frame);
    }
}

fn ours(stream: &[u8], client: bool) -> (Vec<RawFrame>, bool) {
    let (mut frames, ending) = receive(&WebSocketOptions { client, ..SERVER }, stream);
    frames.retain(|frame| frame.frame_type != DISCONNECT);
    (frames, matches!(ending, WebSocketEnding::Invalid(..)))
}

type Frame = (u8, Vec<u8>);

fn any_frame() -> impl Strategy<Value = Frame> {
    let payload = prop_oneof![
        ".{0,30}".prop_map(String::into_bytes),
        "[a-z]{120,400}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..20),
    ];
    let first = prop::sample::select(vec![
        0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x80, 0x89, 0x8A, 0x88,
    ]);
    (first, payload)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Any sequence of frames, one byte changed or none.
    #[test]
    fn both_find_the_same_messages(
        frames in prop::collection::vec(any_frame(), 1..8),
        change in prop::option::of((any::<usize>(), any::<u8>())),
        client: bool,
    ) {
        let mut stream = Vec::new();
        for (first, payload) in &frames {
            push_websocket_frame(&mut stream, *first, MASK.filter(|_| !client), payload);
        }
        if let Some((at, bits)) = change {
            let at = at % stream.len();
            stream[at] ^= bits;
        }
        let role = if client { Role::Client } else { Role::Server };
        let (their_frames, they_refuse) = theirs(&stream, role);
        let (our_frames, we_refuse) = ours(&stream, client);
        let common = our_frames.len().min(their_frames.len());
        prop_assert_eq!(&our_frames[..common], &their_frames[..common]);
        if !we_refuse {
            prop_assert_eq!(our_frames.len(), their_frames.len());
            prop_assert!(!they_refuse);
        }
        // What we refuse and they do not is a length that is not in its shortest form, or what they wait for
        // the end of; what they do find is never more than one message behind.
    }

    #[test]
    fn what_they_write_is_read(
        texts in prop::collection::vec(".{0,200}", 0..5),
        bytes in prop::collection::vec(any::<u8>(), 0..9_000),
        client: bool,
    ) {
        let role = if client { Role::Server } else { Role::Client };
        let mut socket = WebSocket::from_raw_socket(Both(Cursor::default(), Vec::new()), role, None);
        let mut expected = Vec::new();
        for text in &texts {
            socket.send(Message::text(text.clone())).expect("written");
            expected.push(found(DATA, true, text.as_bytes()));
        }
        socket.send(Message::Ping(bytes[..bytes.len().min(125)].to_vec().into())).expect("written");
        socket.send(Message::binary(bytes.clone())).expect("written");
        expected.push(found(PING, true, &bytes[..bytes.len().min(125)]));
        expected.push(found(DATA, false, &bytes));
        let stream = std::mem::take(&mut socket.get_mut().1);
        prop_assert_eq!(ours(&stream, client), (expected, false));
    }

    #[test]
    fn what_we_write_is_read_by_them(
        messages in prop::collection::vec((any::<bool>(), ".{0,300}"), 1..5),
        key: [u8; 4],
        client: bool,
    ) {
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for (text, payload) in &messages {
            let first = if *text { 0x81 } else { 0x82 };
            push_websocket_frame(&mut stream, first, client.then_some(key), payload.as_bytes());
            expected.push(found(DATA, *text, payload.as_bytes()));
        }
        let role = if client { Role::Server } else { Role::Client };
        prop_assert_eq!(theirs(&stream, role), (expected, false));
    }
}

/// Their handshake with ours, both ways.
#[test]
fn handshakes_are_understood_both_ways() {
    use crate::codec::websocket::upgrade::{UpgradeLimits, client::ClientUpgrade, request};
    use tungstenite::handshake::server::create_response;

    let mut upgrade = ClientUpgrade::new();
    let bytes = upgrade
        .request(
            "example.com:80",
            "/chat?room=1",
            &[],
            &[("X-Token", "a b")],
            None,
        )
        .expect("valid");
    let limits = UpgradeLimits::default();
    let (parsed, len) = request::parse_request(&bytes, &limits)
        .expect("valid")
        .expect("complete");
    assert_eq!(len, bytes.len());
    let mut builder = tungstenite::http::Request::builder().uri("/chat?room=1");
    for (name, value) in parsed.headers() {
        builder = builder.header(name, value);
    }
    let their_response = create_response(&builder.body(()).expect("valid")).expect("accepted");
    let mut response = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
    for (name, value) in their_response.headers() {
        let value = value.to_str().expect("text");
        response.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    response.extend_from_slice(b"\r\n");
    let judged = upgrade
        .judge_response(&response, &limits)
        .expect("accepted");
    assert_eq!(judged.expect("complete").1, response.len());

    // Their client reads our answer.
    let answer = request::response_accept(&parsed, None, None);
    let both = Both(Cursor::new(answer), Vec::new());
    let error = tungstenite::client::client("ws://example.com/chat", both)
        .expect_err("the key of another request");
    assert!(error.to_string().contains("Accept"), "{error}");
}
