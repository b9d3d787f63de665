//! WebSocket of `netsys connect` against another implementation, and of `netsys serve`.

use std::net::{TcpListener, TcpStream};

use serde_json::Value;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket, accept_hdr};

use crate::peer::PATIENCE;
use crate::program::{Running, Serving, connect};

/// A server in the test that is not the program's.
struct Other {
    listener: TcpListener,
    url: String,
}

impl Other {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        Other { listener, url }
    }

    /// Accepts a client, with this subprotocol if one is given, and returns its request.
    fn accept(&self, subprotocol: Option<&str>) -> (WebSocket<TcpStream>, Request) {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut seen = None;
        #[allow(clippy::result_large_err, reason = "the callback's type")]
        let socket = accept_hdr(stream, |request: &Request, mut response: Response| {
            seen = Some(request.clone());
            if let Some(name) = subprotocol {
                let name = name.parse().unwrap();
                response
                    .headers_mut()
                    .insert("Sec-WebSocket-Protocol", name);
            }
            Ok(response)
        });
        (socket.unwrap(), seen.unwrap())
    }
}

/// Writes to the program and ends its stdin.
fn type_in(client: &mut Running, bytes: &[u8]) {
    let mut stdin = client.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, bytes).unwrap();
}

/// Answers the close of the client, to its end.
fn finish(mut socket: WebSocket<TcpStream>) {
    while socket.read().is_ok() {}
}

#[test]
fn lines_are_sent_as_text_and_bytes_as_binary() {
    let server = Other::new();
    for (options, typed, expected, shown) in [
        (&[][..], &b"h\xc3\xa9\n"[..], Message::text("hé"), "hé\n"),
        (
            &["--hex"],
            b"00 ff\n",
            Message::binary(vec![0, 255]),
            "00ff\n",
        ),
        (&["--binary"], b"abc", Message::binary(&b"abc"[..]), "abc"),
    ] {
        let mut client = Running::start(&[&["connect", &server.url], options].concat());
        let (mut socket, _) = server.accept(None);
        type_in(&mut client, typed);
        let message = socket.read().unwrap();
        assert_eq!(message, expected, "{options:?}");
        socket.send(message).unwrap();
        finish(socket);
        let ended = client.end();
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(0), shown),
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn the_request_has_the_fields_that_were_asked_for() {
    let server = Other::new();
    let url = format!("{}/feed?since=1", server.url);
    let mut client = Running::start(&[
        "connect",
        &url,
        "--plain",
        "--json",
        "--header",
        "Authorization: Bearer 1234",
        "--header",
        "X-Empty:",
        "--origin",
        "https://page.example",
        "--subprotocol",
        "v2.feed",
        "--subprotocol",
        "v1.feed",
        "--compression",
        "on",
    ]);
    let (socket, request) = server.accept(Some("v1.feed"));
    let field = |name: &str| {
        request
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap())
    };
    assert_eq!(request.uri(), "/feed?since=1");
    assert_eq!(field("authorization"), Some("Bearer 1234"));
    assert_eq!(field("x-empty"), Some(""));
    assert_eq!(field("origin"), Some("https://page.example"));
    assert_eq!(field("sec-websocket-protocol"), Some("v2.feed, v1.feed"));
    let extensions = field("sec-websocket-extensions").unwrap_or_default();
    assert!(extensions.contains("permessage-deflate"), "{extensions}");
    let connected: Value = serde_json::from_str(&client.error_line()).unwrap();
    assert_eq!(connected["subprotocol"], "v1.feed", "{connected}");
    drop(client.stdin.take());
    finish(socket);
    assert_eq!(client.end().code, Some(0));
}

#[test]
fn without_being_asked_msgi_is_offered_and_its_lack_accepted_unless_it_is_insisted_on() {
    let server = Other::new();
    let mut client = Running::start(&["connect", &server.url]);
    let (socket, request) = server.accept(None);
    assert_eq!(request.headers()["sec-websocket-protocol"], "msgi.v1");
    drop(client.stdin.take());
    finish(socket);
    assert_eq!(client.end().code, Some(0));

    let client = Running::start(&["connect", &server.url, "--msgi"]);
    let (socket, _) = server.accept(None);
    finish(socket);
    let ended = client.end();
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("msgi"), "{}", ended.stderr);
}

#[test]
fn the_program_speaks_with_itself_both_ways() {
    let server = Serving::at("ws://127.0.0.1:0/path", &["--compression-threshold", "100"]);
    let lines = format!("{}\nshort\n", "long ".repeat(10_000));
    for options in [
        &[][..],
        &["--msgi"],
        &["--plain"],
        &["--plain", "--compression", "on"],
    ] {
        let ended = connect(&server.url, options, lines.as_bytes());
        assert_eq!(ended.code, Some(0), "{options:?}: {}", ended.stderr);
        assert!(ended.stdout == lines, "{options:?}");
    }
    let ended = connect(&server.url, &["--request"], b"question\n");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "question\n"));
    // The path is the listener's.
    let other = server.url.replace("/path", "/other");
    let ended = connect(&other, &[], b"x\n");
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("404"), "{}", ended.stderr);
}

#[test]
fn pages_of_other_origins_are_refused_unless_they_are_allowed() {
    let page = ["--origin", "https://page.example"];
    let server = Serving::at("ws://127.0.0.1:0", &[]);
    let ended = connect(&server.url, &page, b"x\n");
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("403"), "{}", ended.stderr);
    for allowed in ["https://page.example", "*"] {
        let options = ["--origin", "https://a.example", "--origin", allowed];
        let server = Serving::at("ws://127.0.0.1:0", &options);
        let ended = connect(&server.url, &page, b"x\n");
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "x\n"));
    }
}

#[test]
fn ping_prints_round_trips() {
    for (listen, options) in [
        ("ws://127.0.0.1:0", &["--plain"][..]),
        ("tcp://127.0.0.1:0", &[]),
    ] {
        let server = Serving::at(listen, &[]);
        let all = ["connect", &server.url, "--json", "--stay", "--ping", "20ms"];
        let mut client = Running::start(&[&all[..], options].concat());
        assert!(client.error_line().contains("connected"));
        for _ in 0..2 {
            let event: Value = serde_json::from_str(&client.error_line()).unwrap();
            assert_eq!(event["event"], "ping", "{event}");
            assert!(event["round_trip_us"].as_u64() > Some(0), "{event}");
        }
    }
}
