//! WebSocket byte by byte, over real sockets: what a peer without a library can do to a server, and that a
//! well-formed one does not notice.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use network_system::websocket::WebSocketServer;
use network_system::{Limits, Message, Server, Timeouts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{alloc, eventually, limits, within};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

mod opcode {
    pub const CONTINUATION: u8 = 0;
    pub const TEXT: u8 = 1;
    pub const BINARY: u8 = 2;
    pub const CLOSE: u8 = 8;
    pub const PING: u8 = 9;
    pub const PONG: u8 = 10;
}

const FIN: u8 = 0x80;
const COMPRESSED: u8 = 0x40;

/// A server that sends everything back.
struct Echo(Server);

impl Echo {
    async fn start(limits: Limits, timeouts: Timeouts) -> Self {
        let server = Server::builder()
            .listen("ws://127.0.0.1:0")
            .websocket(WebSocketServer::new())
            .limits(limits)
            .timeouts(timeouts)
            .workers(2)
            .on_message(|session, message| async move {
                let _ = session.send(message).await;
            })
            .build()
            .unwrap();
        server.start().await.unwrap();
        Echo(server)
    }

    async fn new() -> Self {
        Echo::start(Limits::default(), Timeouts::default()).await
    }

    /// A connection that has said nothing.
    async fn raw(&self) -> Raw {
        let stream = TcpStream::connect(self.0.local_addrs()[0]).await.unwrap();
        Raw(stream)
    }

    /// A connection that is upgraded.
    async fn peer(&self) -> Raw {
        self.peer_with("").await
    }

    async fn peer_with(&self, headers: &str) -> Raw {
        let mut raw = self.raw().await;
        raw.write(request(headers).as_bytes()).await;
        let response = raw.response().await;
        assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
        raw
    }

    /// One more connection, to see that the server serves.
    async fn serves(&self, after: &str) {
        let mut peer = self.peer().await;
        peer.frame(FIN | opcode::TEXT, after.as_bytes()).await;
        let (first, payload) = peer.receive().await;
        assert_eq!(
            (first, &payload[..]),
            (FIN | opcode::TEXT, after.as_bytes())
        );
    }

    async fn stop(self) {
        within("stop", self.0.stop_within(Duration::ZERO))
            .await
            .unwrap();
    }
}

fn request(headers: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{headers}\r\n"
    )
}

/// A frame of a client, with the head's first byte as given.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ ..=125 => frame.push(0x80 | len as u8),
        len @ ..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

struct Raw(TcpStream);

impl Raw {
    async fn write(&mut self, bytes: &[u8]) {
        within("a write", self.0.write_all(bytes)).await.unwrap();
    }

    async fn frame(&mut self, first: u8, payload: &[u8]) {
        self.write(&frame(first, payload)).await;
    }

    /// The head of an HTTP response.
    async fn response(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = within("a response", self.0.read_u8()).await;
            head.push(byte.unwrap_or_else(|error| panic!("{error} after {head:?}")));
        }
        String::from_utf8(head).unwrap()
    }

    /// A frame of the server: the head's first byte and the payload.
    async fn receive(&mut self) -> (u8, Bytes) {
        within("a frame", async {
            let first = self.0.read_u8().await.unwrap();
            let len = match self.0.read_u8().await.unwrap() {
                126 => u64::from(self.0.read_u16().await.unwrap()),
                127 => self.0.read_u64().await.unwrap(),
                len => {
                    assert!(len < 126, "a frame of the server is masked");
                    u64::from(len)
                }
            };
            let mut payload = vec![0; usize::try_from(len).unwrap()];
            self.0.read_exact(&mut payload).await.unwrap();
            (first, Bytes::from(payload))
        })
        .await
    }

    /// The code of the close frame that comes next, and then the end.
    async fn expect_close(&mut self, why: &str) -> u16 {
        let (first, payload) = self.receive().await;
        assert_eq!(first, FIN | opcode::CLOSE, "{why}");
        self.expect_end().await;
        let code = payload.first_chunk().unwrap_or_else(|| panic!("{why}"));
        u16::from_be_bytes(*code)
    }

    async fn expect_end(&mut self) {
        let mut rest = Vec::new();
        // Bytes of ours that nobody wanted may turn the end into a reset.
        let _ = within("the end", self.0.read_to_end(&mut rest)).await;
        assert_eq!(rest, b"");
    }
}

#[tokio::test]
async fn a_malformed_upgrade_is_refused_and_the_next_one_served() {
    let server = Echo::new().await;
    let without = |header: &str| {
        let full = request("");
        let begin = full.find(header).unwrap();
        let end = begin + full[begin..].find("\r\n").unwrap() + 2;
        format!("{}{}", &full[..begin], &full[end..])
    };
    let cases = [
        (request("").replace("GET", "POST"), 405),
        (request("").replace("HTTP/1.1", "HTTP/1.0"), 505),
        (request("").replace("HTTP/1.1", "HTTP/9"), 505),
        (request("").replace(": 13", ": 12"), 426),
        (request("").replace(KEY, "c2hvcnQ="), 400),
        (request("").replace(KEY, "not base64!"), 400),
        (without("Host"), 400),
        (without("Upgrade"), 426),
        (without("Connection"), 400),
        (without("Sec-WebSocket-Key"), 400),
        (without("Sec-WebSocket-Version"), 426),
        (request("Host: other\r\n"), 400),
        (request("Content-Length: 1\r\n"), 400),
        (request("Transfer-Encoding: chunked\r\n"), 400),
        (request(" folded: line\r\n"), 400),
        (request("no colon\r\n"), 400),
        (request("a: \0\r\n"), 400),
        (request("Origin: https://evil.example\r\n"), 403),
        (
            request("").replace("Host: 127.0.0.1", "Host: evil.example"),
            403,
        ),
        ("\x16\x03\x01\x02\0\x01\0\x01\u{7C}\x03\x03".to_owned(), 400),
        ("MSGI\0\0\0\x0A\0\x40".to_owned(), 400),
        ("GET http://127.0.0.1/ HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("\r\n\r\n".to_owned(), 400),
    ];
    for (request, status) in cases {
        let mut raw = server.raw().await;
        raw.write(request.as_bytes()).await;
        let response = raw.response().await;
        let line = format!("HTTP/1.1 {status} ");
        assert!(response.starts_with(&line), "{request:?}: {response}");
        server.serves(&request.escape_debug().to_string()).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn an_oversized_upgrade_is_refused_before_its_end() {
    let server = Echo::new().await;
    let fields: String = (0..65).map(|number| format!("X-{number}: x\r\n")).collect();
    for (request, why) in [
        (format!("GET /{}", "x".repeat(9_000)), "an endless path"),
        (
            format!("GET / HTTP/1.1\r\nCookie: {}", "x".repeat(9_000)),
            "an endless field",
        ),
        (request(&fields), "too many fields"),
        (
            request(&format!("Cookie: {}\r\n", "x".repeat(8_192))),
            "a long field",
        ),
    ] {
        let mut raw = server.raw().await;
        raw.write(request.as_bytes()).await;
        let response = raw.response().await;
        assert!(response.starts_with("HTTP/1.1 431 "), "{why}: {response}");
        server.serves(why).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_request_may_arrive_byte_by_byte_together_with_the_first_frame() {
    let server = Echo::new().await;
    let mut raw = server.raw().await;
    raw.0.set_nodelay(true).unwrap();
    let bytes = [
        request("").as_bytes(),
        &frame(FIN | opcode::BINARY, b"first"),
    ]
    .concat();
    for byte in bytes {
        raw.write(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert!(raw.response().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(raw.receive().await, (FIN | opcode::BINARY, "first".into()));
    server.stop().await;
}

#[tokio::test]
async fn a_request_that_only_trickles_ends_at_the_deadline() {
    let mut timeouts = Timeouts::default();
    timeouts.first_byte = Duration::from_millis(300);
    let server = Echo::start(Limits::default(), timeouts).await;
    let mut raw = server.raw().await;
    let (mut reading, mut writing) = raw.0.split();
    let trickle = async {
        let endless = request("").into_bytes();
        let endless = endless[..endless.len() - 4]
            .iter()
            .chain(b"x".iter().cycle());
        let mut ticks = tokio::time::interval(Duration::from_millis(2));
        for byte in endless {
            ticks.tick().await;
            if writing.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
    };
    let answer = async {
        let mut answer = [0; 13];
        reading.read_exact(&mut answer).await.unwrap();
        answer
    };
    let answer = within("an answer", async {
        tokio::select! {
            answer = answer => answer,
            () = trickle => panic!("the connection ended without an answer"),
        }
    })
    .await;
    assert_eq!(&answer, b"HTTP/1.1 408 ");
    server.serves("after a slow one").await;
    server.stop().await;
}

#[tokio::test]
async fn a_frame_that_breaks_the_rules_closes_with_its_code_and_nobody_else_notices() {
    let server = Echo::new().await;
    let length = |first: u8, code: u8, length: &[u8]| [&[first, 0x80 | code], length].concat();
    let close = |code: u16| frame(FIN | opcode::CLOSE, &code.to_be_bytes());
    let cases = [
        (vec![FIN | opcode::TEXT, 1, b'x'], 1002, "no mask"),
        (
            frame(FIN | 0x40 | opcode::TEXT, b"x"),
            1002,
            "RSV1 without an extension",
        ),
        (frame(FIN | 0x20 | opcode::TEXT, b"x"), 1002, "RSV2"),
        (frame(FIN | 0x10 | opcode::TEXT, b"x"), 1002, "RSV3"),
        (frame(FIN | 3, b"x"), 1002, "a reserved opcode"),
        (frame(FIN | 15, b"x"), 1002, "a reserved control opcode"),
        (frame(opcode::PING, b"x"), 1002, "a ping in fragments"),
        (frame(FIN | opcode::PING, &[b'x'; 126]), 1002, "a long ping"),
        (
            frame(FIN | opcode::CONTINUATION, b"x"),
            1002,
            "nothing to continue",
        ),
        (
            [frame(opcode::TEXT, b"x"), frame(FIN | opcode::TEXT, b"x")].concat(),
            1002,
            "a message inside another one",
        ),
        (frame(FIN | opcode::TEXT, b"\xFF"), 1007, "no UTF-8"),
        (
            frame(FIN | opcode::TEXT, b"\xED\xA0\x80"),
            1007,
            "a surrogate",
        ),
        (
            frame(FIN | opcode::TEXT, b"\xE2\x82"),
            1007,
            "half a character",
        ),
        // Judged before the message is complete.
        (
            frame(opcode::TEXT, b"\xC0\x80"),
            1007,
            "no UTF-8 in a fragment",
        ),
        (
            length(FIN | opcode::BINARY, 127, &(1_u64 << 63).to_be_bytes()),
            1002,
            "a length of 2^63",
        ),
        (
            length(FIN | opcode::BINARY, 127, &u64::MAX.to_be_bytes()),
            1002,
            "a length of 2^64 - 1",
        ),
        (
            length(
                FIN | opcode::BINARY,
                127,
                &((1_u64 << 63) - 1).to_be_bytes(),
            ),
            1009,
            "a length of 2^63 - 1",
        ),
        (
            length(FIN | opcode::BINARY, 126, &[0, 125]),
            1002,
            "a length in more bytes than needed",
        ),
        (
            length(FIN | opcode::BINARY, 127, &0xFFFF_u64.to_be_bytes()),
            1002,
            "the same",
        ),
        (frame(FIN | opcode::CLOSE, b"x"), 1002, "half a close code"),
        (close(999), 1002, "a close code that is none"),
        (close(1005), 1002, "a close code for nobody's wire"),
        (close(5000), 1002, "a close code beyond all"),
        (
            frame(FIN | opcode::CLOSE, b"\x03\xE8\xFF"),
            1007,
            "a close text that is no UTF-8",
        ),
    ];
    for (bytes, code, why) in cases {
        let mut peer = server.peer().await;
        let good = frame(FIN | opcode::TEXT, b"good");
        peer.write(&[&good[..], &bytes].concat()).await;
        // What came before counts.
        let echo = peer.receive().await;
        assert_eq!(echo, (FIN | opcode::TEXT, "good".into()), "{why}");
        assert_eq!(peer.expect_close(why).await, code, "{why}");
        server.serves(why).await;
    }
    eventually("all are gone", || server.0.session_count() == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_length_allocates_nothing() {
    // Server, sessions and peers are all on this thread, whose allocations are counted.
    let giant = limits(|limits| limits.message_size = 1024 * 1024 * 1024);
    let server = Echo::start(giant, Timeouts::default()).await;
    server.serves("to warm up").await;
    let length = 1024 * 1024 * 1024_u64;
    let mut peers = Vec::new();
    alloc::reset_largest();
    let held = alloc::held();
    for first in [FIN | opcode::BINARY, opcode::BINARY, opcode::TEXT] {
        let mut peer = server.peer().await;
        let mut bytes = vec![first, 0xFF];
        bytes.extend(length.to_be_bytes());
        bytes.extend([0; 4 + 20]);
        for piece in bytes.chunks(7) {
            peer.write(piece).await;
            server.serves("in between").await;
        }
        peers.push(peer);
    }
    let largest = alloc::largest();
    assert!(largest <= 256 * 1024, "allocated {largest} at once");
    let grown = (alloc::held() - held) / 3;
    assert!(grown < 32 * 1024, "{grown} bytes held for each");
    server.stop().await;
}

/// As much of zeros as `len`, compressed to a thousandth.
fn bomb(len: usize) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![0; len]).unwrap();
    encoder.flush().unwrap();
    let mut bomb = encoder.get_ref().clone();
    // What every message ends with is left out, RFC 7692 section 7.2.1.
    assert!(bomb.ends_with(&[0, 0, 0xFF, 0xFF]));
    bomb.truncate(bomb.len() - 4);
    bomb
}

#[tokio::test]
async fn a_compressed_bomb_goes_off_at_the_message_limit() {
    let server = Echo::new().await;
    let deflate = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let limit = Limits::default().message_size;
    let mut peer = server.peer_with(deflate).await;
    peer.frame(FIN | COMPRESSED | opcode::BINARY, &bomb(limit))
        .await;
    let (first, echo) = peer.receive().await;
    assert_eq!(first & 0x0F, opcode::BINARY);
    assert!(echo.len() < limit / 100, "it goes back compressed");

    let bomb = bomb(64 * limit);
    alloc::reset_largest();
    for pieces in [1, 10] {
        let mut peer = server.peer_with(deflate).await;
        let mut first = COMPRESSED | opcode::BINARY;
        for piece in bomb.chunks(bomb.len().div_ceil(pieces)) {
            let bytes = frame(if pieces == 1 { FIN | first } else { first }, piece);
            // It may have closed already.
            let _ = peer.0.write_all(&bytes).await;
            first = opcode::CONTINUATION;
        }
        assert_eq!(peer.expect_close("a bomb").await, 1009);
        server.serves("after a bomb").await;
    }
    let largest = alloc::largest();
    assert!(largest <= 4 * limit, "allocated {largest} at once");
    server.stop().await;
}

#[tokio::test]
async fn each_of_a_few_pings_at_once_is_answered() {
    let server = Echo::new().await;
    let mut peer = server.peer().await;
    let pings: Vec<u8> = (0..10_u8)
        .flat_map(|number| frame(FIN | opcode::PING, &[number]))
        .collect();
    peer.write(&pings).await;
    for number in 0..10 {
        let pong = peer.receive().await;
        assert_eq!(pong, (FIN | opcode::PONG, Bytes::from(vec![number])));
    }
    server.stop().await;
}

#[tokio::test]
async fn pings_without_number_from_a_peer_that_does_not_read_hold_nothing() {
    let server = Echo::new().await;
    server.serves("to warm up").await;
    let mut peer = server.peer().await;
    let pings = frame(FIN | opcode::PING, &[b'x'; 125]).repeat(2_000);
    let held = alloc::held();
    alloc::reset_largest();
    // More than the sockets between the two hold.
    for _ in 0..64 {
        peer.write(&pings).await;
        server.serves("in between").await;
    }
    let grown = alloc::held() - held;
    assert!(grown < 64 * 1024, "{grown} bytes held");
    let largest = alloc::largest();
    assert!(largest <= 512 * 1024, "allocated {largest} at once");
    // The newest is answered, whatever became of the others.
    peer.frame(FIN | opcode::PING, b"last").await;
    while peer.receive().await.1 != "last" {}
    server.stop().await;
}

#[tokio::test]
async fn connections_that_go_no_further_are_let_go_at_the_deadline() {
    let mut timeouts = Timeouts::default();
    timeouts.first_byte = Duration::from_secs(2);
    let server = Echo::start(Limits::default(), timeouts).await;
    let mut stuck = Vec::new();
    for number in 0..300 {
        let mut raw = server.raw().await;
        let begun = request("");
        raw.write(&begun.as_bytes()[..number % begun.len()]).await;
        stuck.push(raw);
        if number % 100 == 0 {
            server.serves("in between").await;
        }
    }
    server.serves("beside all of them").await;
    for raw in &mut stuck {
        let response = raw.response().await;
        assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
    }
    server.serves("after them").await;
    eventually("all are gone", || server.0.session_count() == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn what_a_read_inflates_to_is_more_than_one_turn() {
    let handled = Arc::new(AtomicUsize::new(0));
    let when_others_ran = Arc::new(AtomicUsize::new(0));
    let (counts, others) = (Arc::clone(&handled), Arc::clone(&when_others_ran));
    let server = Server::builder()
        .listen("ws://127.0.0.1:0")
        .websocket(WebSocketServer::new())
        .workers(1)
        .on_message(move |_, _| {
            let (counts, others) = (Arc::clone(&counts), Arc::clone(&others));
            async move {
                if counts.fetch_add(1, Ordering::Relaxed) == 0 {
                    tokio::spawn(async move {
                        others.store(counts.load(Ordering::Relaxed), Ordering::Relaxed);
                    });
                }
            }
        })
        .build()
        .unwrap();
    server.start().await.unwrap();
    let server = Echo(server);
    let mut peer = server
        .peer_with("Sec-WebSocket-Extensions: permessage-deflate\r\n")
        .await;
    let count = 100;
    let messages = frame(FIN | COMPRESSED | opcode::BINARY, &bomb(256 * 1024)).repeat(count);
    peer.write(&messages).await;
    eventually("all are handled", || {
        handled.load(Ordering::Relaxed) == count
    })
    .await;
    let first = when_others_ran.load(Ordering::Relaxed);
    assert!((1..10).contains(&first), "{first} of {count} in one turn");
    server.stop().await;
}

#[tokio::test]
async fn nothing_but_the_refusal_is_said_to_who_was_never_let_in() {
    let server = Server::builder()
        .listen("ws://127.0.0.1:0")
        .on_error(|session, _, text| {
            let _ = session.try_send(text.to_owned());
        })
        .build()
        .unwrap();
    server.start().await.unwrap();
    let server = Echo(server);
    let mut raw = server.raw().await;
    raw.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    let response = raw.response().await;
    assert!(response.starts_with("HTTP/1.1 4"), "{response:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_inflates_to_much_takes_no_longer_turns_than_what_is_long() {
    const LEN: usize = 64 * 1024;
    const BOMBS: usize = 300;
    let handled = Arc::new(AtomicUsize::new(0));
    let before_other = Arc::new(AtomicUsize::new(usize::MAX));
    let (begun, has_begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let server = Server::builder()
        .listen("ws://127.0.0.1:0")
        .websocket(WebSocketServer::new())
        .workers(1)
        .on_message({
            let (handled, before_other) = (handled.clone(), before_other.clone());
            move |_, message: Message| {
                if message.len() == LEN {
                    if handled.fetch_add(1, Ordering::SeqCst) == 0 {
                        // The worker stands still until the other's message has arrived.
                        begun.send(()).unwrap();
                        may_go_on.lock().unwrap().recv().unwrap();
                    }
                } else {
                    before_other.store(handled.load(Ordering::SeqCst), Ordering::SeqCst);
                }
                async {}
            }
        })
        .build()
        .unwrap();
    server.start().await.unwrap();
    let server = Echo(server);
    let mut other = server.peer().await;
    let mut peer = server
        .peer_with("Sec-WebSocket-Extensions: permessage-deflate\r\n")
        .await;
    let bomb = frame(FIN | COMPRESSED | opcode::BINARY, &bomb(LEN));
    peer.write(&bomb.repeat(BOMBS)).await;
    tokio::task::spawn_blocking(move || has_begun.recv().unwrap())
        .await
        .unwrap();
    other.frame(FIN | opcode::BINARY, b"other").await;
    go_on.send(()).unwrap();
    eventually("both are handled", || {
        handled.load(Ordering::SeqCst) == BOMBS && before_other.load(Ordering::SeqCst) != usize::MAX
    })
    .await;
    let before = before_other.load(Ordering::SeqCst);
    assert!(before <= BOMBS / 4, "{before} bombs were handled first");
    server.stop().await;
}

#[tokio::test]
async fn frames_of_every_kind_in_pieces_of_every_size_are_the_same_messages() {
    let (sender, mut messages) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::builder()
        .listen("ws://127.0.0.1:0")
        .workers(1)
        .on_message(move |_, message: Message| {
            sender.send(message).unwrap();
            async {}
        })
        .build()
        .unwrap();
    server.start().await.unwrap();
    let server = Echo(server);
    for seed in 0..4_u64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as usize % below
        };
        let mut peer = server
            .peer_with("Sec-WebSocket-Extensions: permessage-deflate\r\n")
            .await;
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..120 {
            let len = match random(10) {
                0 => 0,
                1..=5 => random(300),
                6 | 7 => random(10_000),
                8 => random(70_000),
                _ => random(500_000),
            };
            let first = random(256);
            let payload: Vec<u8> = (0..len).map(|at| (at % 251 + first) as u8).collect();
            let is_compressed = random(3) == 0;
            let wire = match is_compressed {
                true => {
                    let mut encoder =
                        DeflateEncoder::new(Vec::new(), Compression::new(random(10) as u32));
                    encoder.write_all(&payload).unwrap();
                    encoder.flush().unwrap();
                    let mut wire = encoder.get_ref().clone();
                    wire.truncate(wire.len() - 4);
                    wire
                }
                false => payload.clone(),
            };
            let mut first = opcode::BINARY | if is_compressed { COMPRESSED } else { 0 };
            let pieces = [1, 1, 1, 2, 5][random(5)];
            let mut rest = &wire[..];
            for piece in (0..pieces).rev() {
                let len = if piece == 0 {
                    rest.len()
                } else {
                    random(rest.len() + 1)
                };
                let fin = if piece == 0 { FIN } else { 0 };
                bytes.extend(frame(fin | first, &rest[..len]));
                rest = &rest[len..];
                first = opcode::CONTINUATION;
                if random(4) == 0 {
                    bytes.extend(frame(FIN | opcode::PONG, &[7; 125][..random(126)]));
                }
            }
            expected.push(payload);
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let most = [1, 20, 5_000, 100_000, 600_000][random(5)];
            let len = (1 + random(most)).min(rest.len());
            peer.write(&rest[..len]).await;
            rest = &rest[len..];
            for _ in 0..random(30) {
                tokio::task::yield_now().await;
            }
        }
        for (index, payload) in expected.iter().enumerate() {
            let message = within("a message", messages.recv()).await.unwrap();
            assert!(
                message.payload() == payload,
                "seed {seed}, message {index}: {} of {} bytes",
                message.len(),
                payload.len()
            );
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_loopback_address_in_the_form_of_ipv6_serves_no_foreign_host() {
    let server = Server::builder()
        .listen("ws://[::ffff:127.0.0.1]:0")
        .build()
        .unwrap();
    server.start().await.unwrap();
    let port = server.local_addrs()[0].port();
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut raw = Raw(stream);
    let foreign =
        request("Origin: http://evil.example\r\n").replace("Host: 127.0.0.1", "Host: evil.example");
    raw.write(foreign.as_bytes()).await;
    let response = raw.response().await;
    assert!(response.starts_with("HTTP/1.1 403 "), "{response}");
    Echo(server).stop().await;
}
