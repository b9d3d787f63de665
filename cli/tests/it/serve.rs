//! Handlers, limits and options of `netsys serve`.

use std::io::{Read, Write};
use std::time::Instant;

use crate::peer::{
    CONTROL, DATA, ERROR, FAILURE, HEARTBEAT, PATIENCE, Peer, REQUEST, RESPONSE, Terminal, connect,
};
use crate::program::{Running, Serving, address, listening};

fn code_of(payload: &[u8]) -> i32 {
    i32::from_be_bytes(payload[..4].try_into().unwrap())
}

#[test]
fn echo_answers_messages_and_requests() {
    let server = Serving::start(&[]);
    let mut peer = Peer::open(server.address());
    for message in [&b"hello"[..], b"", &[7; 4097], &vec![9; 1024 * 1024]] {
        peer.send(DATA, message);
        assert!(
            peer.receive() == (DATA, message.to_vec()),
            "{} bytes",
            message.len()
        );
    }
    peer.send(REQUEST, b"12345678question");
    assert_eq!(peer.receive(), (RESPONSE, b"12345678question".to_vec()));
}

#[test]
fn echo_keeps_the_boundaries_of_each_codec() {
    for (codec, message) in [
        ("lines", &b"one\ntwo\n"[..]),
        ("length", b"\0\0\0\x03one\0\0\0\0"),
        ("raw", b"anything"),
    ] {
        let server = Serving::with_codec(&format!("?codec={codec}"), &[]);
        let mut stream = connect(server.address());
        stream.write_all(message).unwrap();
        let mut answer = vec![0; message.len()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, message, "{codec}");
    }
}

#[test]
fn one_worker_and_many_do_the_same() {
    for workers in ["1", "3"] {
        let server = Serving::start(&["--workers", workers]);
        for _ in 0..5 {
            let mut peer = Peer::connect(server.address());
            peer.send(DATA, b"x");
            assert_eq!(peer.receive(), (DATA, b"x".to_vec()));
        }
    }
}

#[test]
fn broadcast_sends_to_all_others() {
    let server = Serving::start(&["--handler", "broadcast", "--workers", "2"]);
    let mut peers: Vec<_> = (0..4).map(|_| Peer::open(server.address())).collect();
    peers[0].send(DATA, b"first");
    for peer in &mut peers[1..] {
        assert_eq!(peer.receive(), (DATA, b"first".to_vec()));
    }
    peers[1].send(DATA, b"second");
    assert_eq!(peers[0].receive(), (DATA, b"second".to_vec()));
}

#[test]
fn sink_takes_and_answers_nothing_but_requests() {
    let server = Serving::start(&["--handler", "sink"]);
    let mut peer = Peer::open(server.address());
    for _ in 0..100 {
        peer.send(DATA, b"x");
    }
    peer.send(REQUEST, b"12345678");
    assert_eq!(peer.receive(), (RESPONSE, b"12345678".to_vec()));
}

#[test]
fn chat_has_rooms_names_and_private_messages() {
    let server = Serving::with_codec("?codec=lines", &["--handler", "chat"]);
    let mut anna = Terminal::connect(server.address());
    assert!(anna.line().contains("in lobby"));
    anna.type_line("/nick Anna");
    assert_eq!(anna.line(), "you are now Anna");
    let mut bert = Terminal::connect(server.address());
    assert!(bert.line().contains("welcome"));
    let joined = anna.line();
    assert!(
        joined.starts_with("* guest") && joined.ends_with("joined lobby"),
        "{joined}"
    );

    bert.type_line("/nick ANNA");
    assert!(bert.line().contains("taken"));
    bert.type_line("/nick bert");
    assert_eq!(bert.line(), "you are now bert");
    assert!(anna.line().ends_with("is now bert"));

    bert.type_line("hello there");
    assert_eq!(anna.line(), "bert: hello there");
    anna.type_line("/msg bert only you");
    assert_eq!(bert.line(), "Anna (to you): only you");
    anna.type_line("/who");
    assert_eq!(anna.line(), "in lobby: Anna, bert");

    bert.type_line("/join kitchen");
    assert_eq!(bert.line(), "you are in kitchen with: bert");
    assert_eq!(anna.line(), "* bert left lobby");
    anna.type_line("nobody hears");
    anna.type_line("/join kitchen");
    assert_eq!(anna.line(), "you are in kitchen with: Anna, bert");
    assert_eq!(bert.line(), "* Anna joined kitchen");
    anna.type_line("/leave");
    assert!(anna.line().starts_with("you are in lobby"));
    assert_eq!(bert.line(), "* Anna left kitchen");
    bert.type_line("/leave");
    assert_eq!(anna.line(), "* bert joined lobby");
    assert!(bert.line().starts_with("you are in lobby"));
    drop(bert);
    assert_eq!(anna.line(), "* bert left lobby");
}

#[test]
fn chat_helps_with_bad_input() {
    let server = Serving::with_codec("?codec=lines", &["--handler", "chat"]);
    let mut person = Terminal::connect(server.address());
    person.line();
    for (typed, words) in [
        ("/frob", &["/frob", "/join ROOM"][..]),
        ("/join", &["/join ROOM"]),
        ("/join a b", &["no spaces", "/join ROOM"]),
        ("/join lobby", &["already"]),
        ("/leave", &["already", "/join ROOM"]),
        ("/nick", &["/nick NAME"]),
        ("/nick a b", &["no spaces"]),
        (
            "/nick aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            &["at most 32"],
        ),
        ("/msg", &["/msg NAME TEXT"]),
        ("/msg someone", &["/msg NAME TEXT"]),
        ("/msg someone hello", &["someone", "/who"]),
        ("/help", &["/join ROOM"]),
    ] {
        person.type_line(typed);
        let line = person.line();
        for word in words {
            assert!(line.contains(word), "{typed}: no {word:?} in: {line}");
        }
    }
}

#[test]
fn chat_shows_no_control_characters_and_no_forged_lines() {
    let server = Serving::start(&["--handler", "chat"]);
    let mut anna = Peer::hello(server.address(), r#"{"op":"hello","client_id":"anna"}"#);
    assert!(anna.receive_text().1.contains("you are anna in lobby"));
    let mut bert = Peer::hello(server.address(), r#"{"op":"hello","client_id":"anna"}"#);
    assert!(
        bert.receive_text().1.contains("you are guest"),
        "the name is taken"
    );
    assert!(anna.receive_text().1.ends_with("joined lobby"));
    bert.send(DATA, b"\x1b[31mred\n* anna left lobby\n");
    let (_, line) = anna.receive_text();
    assert!(
        line.starts_with("guest") && line.ends_with(": [31mred"),
        "{line}"
    );
    let (_, line) = anna.receive_text();
    assert!(line.starts_with("guest"), "{line}");
    bert.send(DATA, b"\xff\xfe");
    assert_eq!(bert.receive_text().1, "that is not text (UTF-8)");
}

#[test]
fn the_file_sets_options_and_the_command_line_wins() {
    let path = std::env::temp_dir().join(format!("netsys-serve-{}.toml", std::process::id()));
    let content = r#"
        listen = ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0?codec=lines"]
        handler = "sink"
        max-connections = 1
        message-size-limit = "1KiB"
        outbox-limit = 65536
        idle-timeout = "1m"
        nodelay = false
        groups = true
        reliable = true
        resume-timeout = "5s"
        suspended-sessions = 10
    "#;
    std::fs::write(&path, content).unwrap();
    let path = path.to_str().unwrap();
    let mut server = Running::start(&["serve", "--config", path, "--handler", "echo"]);
    let msgi = listening(&server.line());
    let lines = listening(&server.line());
    assert!(lines.ends_with("?codec=lines"), "{lines}");
    let mut peer = Peer::open(address(&msgi));
    peer.send(DATA, &[1; 1024]);
    assert_eq!(peer.receive(), (DATA, vec![1; 1024]), "the handler is echo");
    let mut other = Peer::connect(address(&msgi));
    assert_eq!(code_of(&other.receive().1), -607, "one connection at most");
    peer.send(DATA, &[1; 1025]);
    let (kind, payload) = peer.receive();
    assert_eq!((kind, code_of(&payload)), (ERROR, -642));

    let mut server = Running::start(&[
        "serve",
        "--listen",
        "tcp://127.0.0.1:0",
        "--config",
        path,
        "--max-connections",
        "0",
    ]);
    let url = listening(&server.line());
    let peers: Vec<_> = (0..3).map(|_| Peer::open(address(&url))).collect();
    assert_eq!(peers.len(), 3);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn max_connections_holds_and_frees_places() {
    let server = Serving::start(&["--max-connections", "2"]);
    let mut first = Peer::open(server.address());
    let mut second = Peer::open(server.address());
    let mut third = Peer::connect(server.address());
    let (kind, payload) = third.receive();
    assert_eq!((kind, code_of(&payload)), (ERROR, -607));
    assert!(third.is_closed());
    first.send(DATA, b"still here");
    assert_eq!(first.receive().0, DATA);
    second.shut_down();
    while second.try_receive().is_ok() {}
    // The place is free a moment after the end of the stream is seen.
    let since = Instant::now();
    loop {
        let mut peer = Peer::connect(server.address());
        peer.send(DATA, b"x");
        if let Ok((DATA, _)) = peer.try_receive() {
            break;
        }
        assert!(since.elapsed() < PATIENCE);
    }
}

#[test]
fn max_connections_per_ip_holds() {
    let server = Serving::start(&["--max-connections-per-ip", "1"]);
    let _first = Peer::open(server.address());
    let mut second = Peer::connect(server.address());
    let (kind, payload) = second.receive();
    assert_eq!((kind, code_of(&payload)), (ERROR, -607));
}

#[test]
fn a_token_is_asked_for() {
    let server = Serving::start(&["--token", "secret"]);
    for wrong in [
        r#"{"op":"hello"}"#,
        r#"{"op":"hello","token":"secre"}"#,
        r#"{"op":"hello","token":""}"#,
    ] {
        let mut peer = Peer::connect(server.address());
        peer.send(CONTROL, wrong.as_bytes());
        let (kind, payload) = peer.receive();
        assert_eq!((kind, code_of(&payload)), (ERROR, -623), "{wrong}");
    }
    let mut peer = Peer::connect(server.address());
    peer.send(DATA, b"without hello");
    assert_eq!(peer.receive().0, ERROR);
    let mut peer = Peer::hello(server.address(), r#"{"op":"hello","token":"secret"}"#);
    peer.send(DATA, b"x");
    assert_eq!(peer.receive(), (DATA, b"x".to_vec()));
}

#[test]
fn clients_join_groups_only_where_that_is_on() {
    for (groups, answer) in [("on", "joined"), ("off", "refused")] {
        let server = Serving::start(&["--groups", groups]);
        let mut peer = Peer::open(server.address());
        peer.send(CONTROL, br#"{"op":"join","group":"news"}"#);
        let (kind, text) = peer.receive_text();
        assert_eq!(kind, CONTROL);
        assert!(text.contains(answer), "{text}");
    }
}

#[test]
fn deadlines_are_kept_and_can_be_off() {
    let server = Serving::start(&["--first-byte-timeout", "50ms", "--idle-timeout", "0"]);
    let mut silent = Peer::connect(server.address());
    while silent.try_receive().is_ok() {}
    assert!(silent.is_closed());

    let server = Serving::start(&["--idle-timeout", "100ms", "--heartbeat", "0"]);
    let mut idle = Peer::connect(server.address());
    idle.send(HEARTBEAT, b"");
    let (kind, payload) = idle.receive();
    assert_eq!((kind, code_of(&payload)), (ERROR, -608));

    let server = Serving::start(&["--mid-frame-timeout", "50ms"]);
    let mut stream = connect(server.address());
    stream.write_all(b"MSGI\0\0").unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
}

#[test]
fn with_json_every_line_is_an_object() {
    let mut server = Running::start(&["serve", "--listen", "tcp://127.0.0.1:0", "--json", "-vv"]);
    let line: serde_json::Value = serde_json::from_str(&server.line()).unwrap();
    assert_eq!(line["event"], "listening");
    let mut peer = Peer::open(address(line["url"].as_str().unwrap()));
    peer.send(REQUEST, b"12345678");
    assert_ne!(peer.receive().0, FAILURE);
    #[cfg(unix)]
    {
        peer.shut_down();
        while peer.try_receive().is_ok() {}
        let ended = server.terminate();
        assert_eq!(ended.code, Some(0));
        let lines = ended.stdout.lines().chain(ended.stderr.lines());
        let lines: Vec<serde_json::Value> = lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let stopped = lines
            .iter()
            .find(|line| line["event"] == "stopped")
            .unwrap();
        assert_eq!(stopped["messages_received"], 1);
        // The log is among them, by the names of its events.
        let opened = lines
            .iter()
            .find(|line| line["event"] == "session_opened")
            .unwrap();
        assert_eq!(
            (&opened["level"], &opened["side"]),
            (&"debug".into(), &"server".into())
        );
        assert!(opened["session"].is_u64() && opened["time"].is_string());
    }
}

#[test]
fn proxies_that_are_trusted_have_to_say_for_whom_they_speak() {
    let server = Serving::with_codec("?codec=lines", &["--proxy-protocol", "127.0.0.0/8"]);
    let mut proxied = connect(server.address());
    proxied
        .write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\nhello\n")
        .unwrap();
    let mut answer = [0; 6];
    proxied.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello\n");
    let mut direct = connect(server.address());
    direct.write_all(b"hello\n").unwrap();
    assert!(matches!(direct.read(&mut answer), Ok(0) | Err(_)));
}
