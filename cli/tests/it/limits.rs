//! Rates, handshakes a second and the budget of memory: each option does what it says.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::peer::{CONTROL, DATA, ERROR, FAILURE, PATIENCE, Peer, REQUEST, RESPONSE, connect};
use crate::program::{Folder, Running, Serving, address, listening};

const RATE_LIMITED: i32 = -606;

/// The code in an ERROR.
fn code_of(payload: &[u8]) -> i32 {
    i32::from_be_bytes(payload[..4].try_into().unwrap())
}

/// Asks with an id, and comes back with the kind of the answer.
fn request(peer: &mut Peer) -> u16 {
    peer.send(REQUEST, b"12345678 and a question");
    let (kind, payload) = peer.receive();
    if kind == FAILURE {
        assert_eq!(code_of(&payload[8..]), RATE_LIMITED);
    }
    kind
}

/// A server that says as JSON how it was.
fn serve(arguments: &[&str]) -> Serving {
    let mut all = vec!["serve", "--json", "--listen", "tcp://127.0.0.1:0"];
    all.extend(arguments);
    let mut program = Running::start(&all);
    let line: Value = serde_json::from_str(&program.line()).unwrap();
    let url = line["url"].as_str().unwrap().to_owned();
    Serving { program, url }
}

/// What it says at its end.
#[cfg(unix)]
fn stopped(server: Serving) -> Value {
    let ended = server.program.terminate();
    let lines = ended.stderr.lines();
    let mut lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.find(|line| line["event"] == "stopped").unwrap()
}

#[test]
fn what_is_faster_than_a_rate_waits() {
    let server = serve(&["--session-rate", "5msg", "--rate-burst", "200ms"]);
    let mut peer = Peer::open(server.address());
    let began = Instant::now();
    for _ in 0..4 {
        peer.send(DATA, b"x");
    }
    for _ in 0..4 {
        assert_eq!(peer.receive(), (DATA, b"x".to_vec()));
    }
    // One at once, and three more at five a second.
    assert!(began.elapsed() >= Duration::from_millis(500));
    #[cfg(unix)]
    {
        let stopped = stopped(server);
        assert!(stopped["throttled"].as_u64() >= Some(1), "{stopped}");
        assert_eq!(
            (&stopped["rate_limited"], &stopped["messages_received"]),
            (&0.into(), &4.into())
        );
    }
}

#[test]
fn what_is_faster_than_a_rate_is_dropped() {
    let server = serve(&[
        "--session-rate",
        "1msg",
        "--rate-burst",
        "4s",
        "--when-rate-exceeded",
        "drop",
    ]);
    let mut peer = Peer::open(server.address());
    let answers: Vec<_> = (0..20).map(|_| request(&mut peer)).collect();
    let began = answers.iter().filter(|kind| **kind == RESPONSE).count();
    assert!((4..20).contains(&began), "{answers:?}");
    assert_eq!(answers[..4], [RESPONSE; 4]);
    #[cfg(unix)]
    {
        let refused = answers.iter().filter(|kind| **kind == FAILURE).count();
        assert_eq!(stopped(server)["rate_limited"], refused);
    }
}

#[test]
fn what_is_faster_than_a_rate_ends_the_session() {
    // The second exceeds the bytes, not the messages, and would for the next half a minute.
    for rate in ["1KiB", "100msg,1KiB", "1KiB/s, 100msg/s"] {
        let server = serve(&[
            "--session-rate",
            rate,
            "--rate-burst",
            "60s",
            "--when-rate-exceeded",
            "disconnect",
        ]);
        let mut peer = Peer::open(server.address());
        peer.send(DATA, &[1; 50_000]);
        assert_eq!(peer.receive().0, DATA);
        peer.send(DATA, &[1; 50_000]);
        let (kind, payload) = peer.receive();
        assert_eq!((kind, code_of(&payload)), (ERROR, RATE_LIMITED), "{rate}");
    }
}

#[test]
fn rates_are_those_of_a_session_an_address_or_the_server() {
    for (option, second) in [
        ("--session-rate", RESPONSE),
        ("--ip-rate", FAILURE),
        ("--server-rate", FAILURE),
    ] {
        // A message is worth many seconds.
        let rate = ["--rate-burst", "1s", "--when-rate-exceeded", "drop"];
        let server = serve(&[&[option, "1B"], &rate[..]].concat());
        let mut one = Peer::open(server.address());
        let mut other = Peer::open(server.address());
        assert_eq!(request(&mut one), RESPONSE, "{option}");
        assert_eq!(request(&mut other), second, "{option}");
    }
}

#[cfg(unix)]
#[test]
fn the_rate_of_an_address_is_nothing_to_peers_without_one() {
    let folder = Folder::new("limits");
    let socket = format!("unix://{}", folder.path("socket"));
    let rate = ["--ip-rate", "1msg", "--when-rate-exceeded", "disconnect"];
    let server = serve(&[&["--listen", &socket], &rate[..]].concat());
    let ended = crate::program::connect(&socket, &[], b"1\n2\n3\n");
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "1\n2\n3\n"),
        "{}",
        ended.stderr
    );
    drop(server);
}

#[test]
fn connections_are_accepted_at_their_pace() {
    let server = serve(&["--handshakes-per-second", "5"]);
    let began = Instant::now();
    let peers: Vec<_> = (0..4).map(|_| Peer::open(server.address())).collect();
    assert_eq!(peers.len(), 4);
    assert!(began.elapsed() >= Duration::from_millis(500));
}

#[test]
fn connections_of_one_address_beyond_their_pace_are_refused() {
    let server = serve(&["--handshakes-per-second-per-ip", "1"]);
    // All at once: some may wait for a second until they are looked at, but not one after the other.
    let mut peers: Vec<_> = (0..10).map(|_| Peer::connect(server.address())).collect();
    let mut refused = 0;
    for (number, peer) in peers.iter_mut().enumerate() {
        peer.send(CONTROL, br#"{"op":"hello"}"#);
        let (kind, payload) = peer.receive();
        if kind == ERROR {
            assert_eq!(code_of(&payload), RATE_LIMITED);
            assert_ne!(number, 0, "the first is not beyond it");
            refused += 1;
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_peer_that_uses_the_memory_up_is_closed() {
    let server = serve(&["--memory-budget", "256KiB"]);
    let mut idle = Peer::open(server.address());
    let mut greedy = connect(server.address());
    greedy.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut frame = b"MSGI".to_vec();
    frame.extend((10_u32 + 60_000).to_be_bytes());
    frame.extend(DATA.to_be_bytes());
    frame.resize(10 + 60_000, 7);
    // It never reads. Whoever is not closed waits for ever.
    let error = loop {
        if let Err(error) = greedy.write_all(&frame) {
            break error;
        }
    };
    let timed_out = [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut];
    assert!(!timed_out.contains(&error.kind()), "{error}");
    idle.send(DATA, b"still here");
    assert_eq!(idle.receive().0, DATA);
    #[cfg(unix)]
    assert_eq!(stopped(server)["shed"], 1);
}

#[test]
fn the_file_has_rates_and_the_command_line_switches_them_off() {
    let folder = Folder::new("limits-file");
    let path = folder.path("server.toml");
    let content = r#"
        listen = "tcp://127.0.0.1:0"
        session-rate = "1000msg,1B"
        rate-burst = "1s"
        when-rate-exceeded = "drop"
        handshakes-per-second-per-ip = 100
        memory-budget = "64MiB"
    "#;
    std::fs::write(&path, content).unwrap();
    for (more, second) in [
        (&[][..], FAILURE),
        (&["--session-rate", "0"], RESPONSE),
        (&["--session-rate", "100msg"], RESPONSE),
    ] {
        let mut program = Running::start(&[&["serve", "--config", &path], more].concat());
        let mut peer = Peer::open(address(&listening(&program.line())));
        assert_eq!(request(&mut peer), RESPONSE);
        assert_eq!(request(&mut peer), second, "{more:?}");
    }
}

/// A reliable session resumes and is told of: the server's own words at its end.
#[cfg(unix)]
#[test]
fn a_server_says_at_its_end_how_its_reliable_sessions_fared() {
    let mut server = serve(&["--reliable", "--resume-timeout", "1h", "-vv"]);
    let hello = r#"{"op":"hello","reliable":true}"#;
    let mut peer = Peer::connect(server.address());
    peer.send(CONTROL, hello.as_bytes());
    let (_, welcome) = peer.receive();
    let welcome: Value = serde_json::from_slice(&welcome).unwrap();
    peer.send(DATA, b"never acknowledged");
    assert_eq!(peer.receive().0, DATA);
    drop(peer);

    let again = serde_json::json!({ "op": "hello", "reliable": true, "resume": {
        "session_id": welcome["session_id"], "resume_token": welcome["resume_token"], "received": 0,
    }});
    let mut peer = Peer::connect(server.address());
    peer.send(CONTROL, again.to_string().as_bytes());
    let (_, welcome) = peer.receive();
    let welcome: Value = serde_json::from_slice(&welcome).unwrap();
    assert_eq!(welcome["resumed"], true, "{welcome}");
    while peer.receive().0 != DATA {}
    drop(peer);

    // Its log says when the session is suspended for the second time.
    let mut suspended = 0;
    while suspended < 2 {
        let line: Value = serde_json::from_str(&server.program.error_line()).unwrap();
        suspended += usize::from(line["event"] == "session_suspended");
    }
    let ended = server.program.terminate();
    let lines = ended.stderr.lines();
    let lines: Vec<Value> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let find = |event: &str| lines.iter().find(|line| line["event"] == event).unwrap();
    assert_eq!(find("draining")["suspended"], 1);
    let stopped = find("stopped");
    assert_eq!(
        (&stopped["resumed"], &stopped["unacknowledged"]),
        (&1.into(), &1.into()),
        "{stopped}"
    );
    assert_eq!(ended.code, Some(1), "not all that was accepted has arrived");
}
