//! The dashboard of `netsys serve`: where it is, who may use it, and that it ends with the server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use crate::peer::{DATA, DISCONNECT, Peer, connect};
use crate::program::{Folder, Running, Serving, address, exactly, listening, run, text};

pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A server with a dashboard at a free port, and where that is.
pub(crate) fn serve(arguments: &[&str]) -> (Serving, SocketAddr) {
    let mut all = vec!["--dashboard", "127.0.0.1:0"];
    all.extend(arguments);
    let mut server = Serving::start(&all);
    let line = server.program.line();
    let url = line.strip_prefix("dashboard ").unwrap();
    let at = address(url);
    (server, at)
}

/// Asks and returns the status and the whole answer.
fn ask(at: SocketAddr, first: &str, fields: &str, body: &str) -> (u16, String) {
    let mut stream = connect(at);
    let host = match fields.contains("Host: ") {
        true => String::new(),
        false => format!("Host: {at}\r\n"),
    };
    let len = body.len();
    write!(
        stream,
        "{first} HTTP/1.1\r\n{host}Connection: close\r\nContent-Length: {len}\r\n{fields}\r\n{body}"
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = text(&answer);
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

fn get(at: SocketAddr, path: &str) -> (u16, String) {
    ask(at, &format!("GET {path}"), "", "")
}

fn disconnect(at: SocketAddr, fields: &str) -> u16 {
    let fields = format!("Content-Type: application/json\r\n{fields}");
    let first = "POST /api/v1/sessions/1/disconnect";
    ask(at, first, &fields, r#"{"reason":"x"}"#).0
}

#[test]
fn a_dashboard_that_is_asked_for_says_where_it_is_after_the_listeners() {
    let (server, at) = serve(&[]);
    assert_eq!(get(at, "/healthz").0, 200);
    assert_eq!(get(at, "/readyz").0, 200);
    assert!(get(at, "/").1.contains("<html"));
    let (status, metrics) = get(at, "/metrics");
    assert!(status == 200 && metrics.contains("# TYPE"), "{metrics}");
    let (_, listeners) = get(at, "/api/v1/listeners");
    assert!(listeners.contains(&server.url), "{listeners}");
    assert_eq!(server.program.terminate().code, Some(0));

    let mut program = Running::start(&[
        "serve",
        "--json",
        "--listen",
        "tcp://127.0.0.1:0",
        "--dashboard",
        "http://localhost:0",
    ]);
    for event in ["listening", "dashboard"] {
        let line: serde_json::Value = serde_json::from_str(&program.line()).unwrap();
        assert_eq!(line["event"], event);
        assert!(line["url"].as_str().unwrap().contains("127.0.0.1:"));
    }
}

#[test]
fn a_default_address_that_is_taken_stops_no_server() {
    // If this fails, another program has it, which is as good.
    let _taken = TcpListener::bind("127.0.0.1:7680");
    let mut server = Running::spawn(&mut exactly(&["serve", "--listen", "tcp://127.0.0.1:0"]));
    let said = server.error_line();
    for word in ["no dashboard", "127.0.0.1:7680", "--dashboard ADDR"] {
        assert!(said.contains(word), "no {word:?} in {said}");
    }
    let url = listening(&server.line());
    let mut peer = Peer::open(address(&url));
    peer.send(DATA, b"x");
    assert_eq!(peer.receive(), (DATA, b"x".to_vec()));
    drop(peer);
    let ended = server.terminate();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""));
}

#[test]
fn an_address_that_was_asked_for_and_is_taken_is_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let ended = run(
        &["serve", "--listen", "tcp://127.0.0.1:0", "--dashboard", &at],
        b"",
    );
    let said = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains(&at) && said.lines().count() == 1, "{said}");
    assert!(ended.stdout.is_empty());
}

#[test]
fn without_a_token_it_only_shows_and_with_one_it_obeys_those_who_know_it() {
    let (server, at) = serve(&[]);
    let _peer = Peer::open(server.address());
    assert_eq!(disconnect(at, ""), 403);

    let folder = Folder::new("dashboard-token");
    let file = folder.path("token");
    std::fs::write(&file, format!("{TOKEN}\nmore\n")).unwrap();
    let config = folder.path("config.toml");
    std::fs::write(&config, format!("dashboard-token = \"{TOKEN}\"\n")).unwrap();
    let listen = [
        "--listen",
        "tcp://127.0.0.1:0",
        "--dashboard",
        "127.0.0.1:0",
    ];
    let mut by_variable = exactly(&[&["serve"], &listen[..]].concat());
    by_variable.env("NETSYS_DASHBOARD_TOKEN", TOKEN);
    for mut command in [
        exactly(&[&["serve", "--dashboard-token", TOKEN], &listen[..]].concat()),
        exactly(&[&["serve", "--dashboard-token-file", &file], &listen[..]].concat()),
        exactly(&[&["serve", "--config", &config], &listen[..]].concat()),
        by_variable,
    ] {
        let mut program = Running::spawn(&mut command);
        let mut peer = Peer::open(address(&listening(&program.line())));
        let at = address(&program.line());
        assert_eq!(disconnect(at, ""), 401);
        assert_eq!(
            disconnect(at, "Authorization: Bearer 00000000000000000\r\n"),
            401
        );
        let right = format!("Authorization: Bearer {TOKEN}\r\n");
        assert_eq!(disconnect(at, &right), 202);
        assert_eq!(peer.receive().0, DISCONNECT);
        drop(peer);
        let ended = program.terminate();
        assert!(!ended.stderr.contains(TOKEN), "{}", ended.stderr);
    }
}

#[test]
fn a_token_that_is_no_good_is_refused_and_not_shown() {
    for token in ["short", "with a blank and long enough"] {
        let all = [
            "serve",
            "--listen",
            "tcp://127.0.0.1:0",
            "--dashboard",
            "127.0.0.1:0",
        ];
        let said = run(&[&all[..], &["--dashboard-token", token]].concat(), b"");
        assert_eq!(said.status.code(), Some(2));
        assert!(
            !text(&said.stderr).contains(token),
            "{}",
            text(&said.stderr)
        );
    }
    let folder = Folder::new("dashboard-bad");
    let config = folder.path("bad.toml");
    for (content, words) in [
        (
            "dashboard-token = \"a b\"",
            &["dashboard-token", "…", "ASCII"][..],
        ),
        (
            "dashboard = \"0.0.0.0:0\"",
            &["--dashboard 0.0.0.0:0", "loopback"],
        ),
        (
            "metrics = false\ndashboard = \"127.0.0.1:0\"",
            &["--metrics off"],
        ),
        (
            "dashboard-host = \"a:1\"",
            &["dashboard-host", "without a port"],
        ),
    ] {
        std::fs::write(&config, content).unwrap();
        let output = exactly(&["serve", "--config", &config]).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        for word in words {
            assert!(said.contains(word), "no {word:?} in {said}");
        }
    }
}

#[test]
fn only_names_that_are_known_reach_it() {
    let (_server, at) = serve(&["--dashboard-host", "Status.example.org"]);
    for (host, status) in [
        (format!("localhost:{}", at.port()), 200),
        ("status.example.org".to_owned(), 200),
        ("evil.example.org".to_owned(), 421),
    ] {
        let fields = format!("Host: {host}\r\n");
        assert_eq!(
            ask(at, "GET /api/v1/status", &fields, "").0,
            status,
            "{host}"
        );
    }
}

#[test]
fn others_need_the_token_to_see_anything() {
    let mut program = Running::start(&[
        "serve",
        "--listen",
        "tcp://127.0.0.1:0",
        "--dashboard",
        "0.0.0.0:0",
        "--dashboard-token",
        TOKEN,
    ]);
    listening(&program.line());
    let at = SocketAddr::from(([127, 0, 0, 1], address(&program.line()).port()));
    assert_eq!(get(at, "/healthz").0, 200);
    assert_eq!(get(at, "/api/v1/sessions").0, 401);
}

#[test]
fn it_says_so_while_the_server_drains_and_ends_with_it() {
    let (mut server, at) = serve(&["--drain-timeout", "1h"]);
    let mut peer = Peer::open(server.address());
    // Clients that never say what they want hold nothing up.
    let mut hanging = connect(at);
    hanging.write_all(b"GET / HT").unwrap();
    server.program.signal(rustix::process::Signal::TERM);
    server.program.error_line();
    assert_eq!(peer.receive().0, DISCONNECT);
    let (status, answer) = get(at, "/readyz");
    assert!(status == 503 && answer.contains("draining"), "{answer}");
    assert_eq!(get(at, "/healthz").0, 200);
    let before = std::time::Instant::now();
    peer.send(DISCONNECT, b"");
    peer.shut_down();
    assert!(peer.is_closed());
    assert_eq!(server.program.end().code, Some(0));
    assert!(before.elapsed() < std::time::Duration::from_secs(5));
    drop(hanging);
}

#[test]
fn times_are_told_at_the_end_where_they_were_taken() {
    for (metrics, is_taken) in [("on", true), ("off", false)] {
        let mut program = Running::start(&[
            "serve",
            "--json",
            "--listen",
            "tcp://127.0.0.1:0",
            "--metrics",
            metrics,
        ]);
        let line: serde_json::Value = serde_json::from_str(&program.line()).unwrap();
        let mut peer = Peer::open(address(line["url"].as_str().unwrap()));
        peer.send(DATA, b"x");
        peer.receive();
        drop(peer);
        let ended = program.terminate();
        let stopped = ended.stderr.lines().last().unwrap();
        let stopped: serde_json::Value = serde_json::from_str(stopped).unwrap();
        assert_eq!(stopped["event"], "stopped");
        assert_eq!(
            stopped["handler_time"]["count"].is_u64(),
            is_taken,
            "{stopped}"
        );
    }
}
