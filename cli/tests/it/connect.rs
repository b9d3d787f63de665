//! `netsys connect`: stdin to messages, messages to stdout.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use serde_json::Value;

use crate::peer::{CONTROL, Closed, DATA, DISCONNECT, ERROR, Peer};
use crate::program::{Running, Serving, connect, netsys, run};

/// A server in the test, which does what it is told.
struct Script {
    listener: TcpListener,
    url: String,
}

impl Script {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("tcp://{}", listener.local_addr().unwrap());
        Script { listener, url }
    }

    /// Accepts a client and lets it in; also says its hello.
    fn welcome(&self) -> (Peer, String) {
        self.welcome_with(r#"{"op":"welcome","session_id":"1"}"#)
    }

    fn welcome_with(&self, welcome: &str) -> (Peer, String) {
        let mut peer = Peer::accept(&self.listener);
        let (kind, hello) = peer.receive_text();
        assert_eq!(kind, CONTROL, "hello comes first");
        peer.send(CONTROL, welcome.as_bytes());
        (peer, hello)
    }
}

#[test]
fn lines_go_and_come_back_in_order() {
    let lines: String = (0..5_000)
        .map(|number| format!("line {number}\n"))
        .collect();
    for codec in ["", "?codec=lines", "?codec=length"] {
        let server = Serving::with_codec(codec, &[]);
        let ended = connect(&server.url, &[], lines.as_bytes());
        assert_eq!(ended.code, Some(0), "{codec}: {}", ended.stderr);
        assert!(
            ended.stdout == lines,
            "{codec}: {} bytes came back",
            ended.stdout.len()
        );
        assert_eq!(ended.stderr, "", "{codec}");
    }
}

#[test]
fn line_ends_are_not_part_of_messages_and_empty_lines_are_messages() {
    let server = Serving::start(&[]);
    let ended = connect(&server.url, &[], b"one\r\n\nlast");
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "one\n\nlast\n")
    );
}

#[test]
fn binary_is_carried_as_it_is() {
    let bytes: Vec<u8> = (0..3_000_000_u32)
        .map(|number| (number * 7) as u8)
        .collect();
    let server = Serving::start(&[]);
    let output = run(&["connect", &server.url, "--binary"], &bytes);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        output.stdout == bytes,
        "{} bytes came back",
        output.stdout.len()
    );
}

#[test]
fn hexadecimal_goes_both_ways() {
    let server = Serving::start(&[]);
    let ended = connect(&server.url, &["--hex"], b"48 65 79\n00ff\n");
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "486579\n00ff\n")
    );
    let ended = connect(&server.url, &["--hex"], b"48\nxyz\n49\n");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), "48\n49\n"));
    assert_eq!(
        ended.stderr,
        "netsys: line 2 is not hexadecimal digits in pairs\n"
    );
}

#[test]
fn with_json_every_line_is_an_object() {
    let server = Serving::start(&[]);
    let ended = connect(&server.url, &["--json"], b"h\xc3\xa9\n\xff\n");
    assert_eq!(ended.code, Some(0));
    let lines: Vec<Value> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        lines[0],
        serde_json::json!({ "event": "message", "text": "hé" })
    );
    assert_eq!(
        lines[1],
        serde_json::json!({ "event": "message", "hex": "ff" })
    );
    let connected: Value = serde_json::from_str(ended.stderr.lines().next().unwrap()).unwrap();
    assert_eq!(connected["event"], "connected");
}

#[test]
fn requests_are_answered_in_order_and_failures_are_told() {
    let server = Serving::start(&[]);
    let ended = connect(&server.url, &["--request"], b"one\ntwo\n");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "one\ntwo\n"));

    let server = Serving::start(&["--handler", "broadcast"]);
    let ended = connect(&server.url, &["--request"], b"one\ntwo\n");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert_eq!(ended.stderr.lines().count(), 2, "{}", ended.stderr);
    let ended = connect(&server.url, &["--request", "--json"], b"one\n");
    let error: Value = serde_json::from_str(ended.stderr.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&error["code"], &error["name"]),
        (&(-647).into(), &"request_failed".into())
    );
}

#[test]
fn without_a_server_the_exit_code_is_3() {
    let closed = Closed::take();
    let url = format!("tcp://{}", closed.address());
    let ended = connect(&url, &[], b"x\n");
    assert_eq!(ended.code, Some(3));
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains(&url), "{}", ended.stderr);
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", silent.local_addr().unwrap());
    let ended = connect(&url, &["--timeout", "100ms"], b"x\n");
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
}

#[test]
fn a_token_opens_the_door() {
    let server = Serving::start(&["--token", "secret"]);
    for wrong in [&[][..], &["--token", "guess"]] {
        let ended = connect(&server.url, wrong, b"x\n");
        assert_eq!(ended.code, Some(3), "{}", ended.stderr);
        assert!(ended.stderr.contains("token"), "{}", ended.stderr);
        assert!(!ended.stderr.contains("guess"), "{}", ended.stderr);
    }
    let ended = connect(&server.url, &["--token", "secret"], b"x\n");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "x\n"));
    let mut by_variable = netsys(&["connect", &server.url, "--stay"]);
    let mut client = Running::spawn(by_variable.env("NETSYS_TOKEN", "secret"));
    writeln!(client.stdin.as_mut().unwrap(), "y").unwrap();
    assert_eq!(client.line(), "y");
}

#[test]
fn a_message_that_is_too_long_is_named_and_the_others_go() {
    let server = Serving::start(&[]);
    let ended = connect(
        &server.url,
        &["--message-size-limit", "4"],
        b"1234\n12345\n1\n",
    );
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), "1234\n1\n"));
    assert_eq!(
        ended.stderr,
        "netsys: line 2 is over the limit of 4 bytes\n"
    );
    // The server's limit is known from its welcome.
    let server = Serving::start(&["--message-size-limit", "4"]);
    let ended = connect(&server.url, &[], b"1234\n12345\n1\n");
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(1), "1234\n1\n"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("5 bytes"), "{}", ended.stderr);
}

#[test]
fn what_the_server_says_last_is_printed() {
    let script = Script::new();
    let mut client = Running::start(&["connect", &script.url, "--client-id", "me"]);
    let (mut peer, hello) = script.welcome();
    assert!(hello.contains(r#""client_id":"me""#), "{hello}");
    writeln!(client.stdin.as_mut().unwrap(), "goodbye").unwrap();
    drop(client.stdin.take());
    assert_eq!(peer.receive_text(), (DATA, "goodbye".to_owned()));
    assert_eq!(peer.receive().0, DISCONNECT);
    peer.send(DATA, b"see you");
    peer.send(DISCONNECT, b"");
    peer.shut_down();
    let ended = client.end();
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "see you\n"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_server_that_does_not_close_is_not_waited_for() {
    let script = Script::new();
    let client = Running::start(&["connect", &script.url, "--wait", "50ms"]);
    let (_peer, _) = script.welcome();
    let ended = client.end();
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.stderr.contains("within 50ms (--wait)"),
        "{}",
        ended.stderr
    );
}

#[test]
fn when_the_server_closes_the_client_ends() {
    for (reason, code) in [(DISCONNECT, 0), (crate::peer::ERROR, 1)] {
        let script = Script::new();
        let mut client = Running::start(&["connect", &script.url, "--stay"]);
        let (mut peer, _) = script.welcome();
        peer.send(DATA, b"hello");
        assert_eq!(client.line(), "hello");
        peer.send(reason, b"\xff\xff\xfd\x83enough");
        peer.shut_down();
        let ended = client.end();
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert_eq!(
            ended.stderr.contains("enough"),
            code == 1,
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn a_lost_connection_is_made_again_when_asked_for() {
    let script = Script::new();
    let mut client = Running::start(&["connect", &script.url, "--reconnect", "--json"]);
    let (peer, _) = script.welcome();
    assert!(client.error_line().contains(r#""event":"connected""#));
    drop(peer);
    let (mut peer, _) = script.welcome();
    assert!(client.error_line().contains("connect"));
    writeln!(client.stdin.as_mut().unwrap(), "still here").unwrap();
    assert_eq!(peer.receive_text(), (DATA, "still here".to_owned()));
}

#[test]
fn nobody_who_reads_is_no_error() {
    let server = Serving::start(&[]);
    let mut client = Running::start(&["connect", &server.url]);
    let mut stdin = client.stdin.take().unwrap();
    writeln!(stdin, "first").unwrap();
    assert_eq!(client.line(), "first");
    client.close_stdout();
    // Until the program has gone, and its stdin with it.
    while writeln!(stdin, "more").is_ok() {}
    let ended = client.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stderr, "");
}

#[test]
#[cfg(unix)]
fn an_interrupt_closes_in_order() {
    let script = Script::new();
    let mut client = Running::start(&["connect", &script.url]);
    let (mut peer, _) = script.welcome();
    peer.send(DATA, b"hello");
    assert_eq!(client.line(), "hello");
    client.signal(rustix::process::Signal::INT);
    assert_eq!(peer.receive().0, DISCONNECT);
    peer.send(DISCONNECT, b"");
    peer.shut_down();
    assert_eq!(client.end().code, Some(130));
}

#[test]
fn a_proxy_is_asked_for_the_server_and_sees_what_is_typed() {
    for by_variable in [false, true] {
        let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = format!("http://{}", proxy.local_addr().unwrap());
        let option = if by_variable { "env" } else { &at };
        let url = "tcp://server.example:7600?codec=lines";
        let mut command = netsys(&["connect", url, "--proxy", option]);
        let mut client = Running::spawn(command.env("all_proxy", &at));
        let (stream, _) = proxy.accept().unwrap();
        stream
            .set_read_timeout(Some(crate::peer::PATIENCE))
            .unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        assert_eq!(line, "CONNECT server.example:7600 HTTP/1.1\r\n");
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).unwrap();
        }
        let answer = b"HTTP/1.1 200 OK\r\n\r\nwelcome\n";
        stream.get_mut().write_all(answer).unwrap();
        assert_eq!(client.line(), "welcome");
        writeln!(client.stdin.as_mut().unwrap(), "hello").unwrap();
        line.clear();
        stream.read_line(&mut line).unwrap();
        assert_eq!(line, "hello\n");
    }
}

#[test]
fn a_reliable_session_carries_what_any_other_does() {
    let server = Serving::start(&["--reliable"]);
    let ended = connect(&server.url, &["--reliable"], b"one\ntwo\n");
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "one\ntwo\n"),
        "{}",
        ended.stderr
    );

    // A server that has none is left.
    let server = Serving::start(&[]);
    let ended = connect(&server.url, &["--reliable"], b"one\n");
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("reliable"), "{}", ended.stderr);
}

#[test]
fn what_was_not_acknowledged_is_said() {
    let script = Script::new();
    let url = script.url.clone();
    let client = std::thread::spawn(move || connect(&url, &["--reliable"], b"order 4711\n"));
    let token = "0".repeat(32);
    let (mut peer, hello) = script.welcome_with(&format!(
        "{{\"op\":\"welcome\",\"session_id\":\"1\",\"reliable\":true,\"window\":1048576,\
         \"resume_token\":\"{token}\",\"resume_ms\":30000}}"
    ));
    assert!(hello.contains(r#""reliable":true"#), "{hello}");
    assert_eq!(peer.receive(), (DATA, b"order 4711".to_vec()));
    // An end that is final.
    peer.send(ERROR, &(-624_i32).to_be_bytes());
    let ended = client.join().unwrap();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let said = "1 message not acknowledged";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
}

#[test]
fn what_came_from_stdin_is_delivered_although_the_connection_breaks_after_its_end() {
    let script = Script::new();
    let url = script.url.clone();
    let options = ["--reliable", "--wait", "20s"];
    let client = std::thread::spawn(move || connect(&url, &options, b"order 4711\n"));
    let welcome = |token: u8, resumed: bool| {
        format!(
            "{{\"op\":\"welcome\",\"session_id\":\"1\",\"reliable\":true,\"window\":1048576,\
             \"resume_token\":\"{token:032}\",\"resume_ms\":30000,\"resumed\":{resumed},\"received\":0}}"
        )
    };
    let (mut peer, _) = script.welcome_with(&welcome(1, false));
    assert_eq!(peer.receive(), (DATA, b"order 4711".to_vec()));
    // stdin has ended by now, or ends while the client is without a connection.
    std::thread::sleep(std::time::Duration::from_millis(200));
    drop(peer);
    let (mut peer, hello) = script.welcome_with(&welcome(2, true));
    assert!(hello.contains("resume_token"), "{hello}");
    assert_eq!(peer.receive().0, CONTROL, "an acknowledgement");
    assert_eq!(peer.receive(), (DATA, b"order 4711".to_vec()));
    peer.send(CONTROL, br#"{"op":"ack","received":1}"#);
    assert_eq!(peer.receive().0, DISCONNECT);
    peer.send(DISCONNECT, b"");
    drop(peer);
    let ended = client.join().unwrap();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}
