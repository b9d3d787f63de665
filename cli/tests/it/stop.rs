//! Signals, and what happens when descriptors run out.

use std::process::Command;

use rustix::process::Signal;

use crate::peer::{DATA, DISCONNECT, Peer};
use crate::program::{Running, Serving, address, listening, run};

#[test]
fn a_signal_drains_and_the_exit_code_is_zero() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Serving::start(&["--message-size-limit", "16MiB"]);
        let mut peer = Peer::open(server.address());
        // More than the system's buffers hold, so that the answer waits in the server when the signal
        // comes, and its first bytes show that it is on its way.
        let message: Vec<u8> = (0..12 * 1024 * 1024_u32).map(|at| (at / 7) as u8).collect();
        peer.send(DATA, &message);
        peer.await_input();
        server.program.signal(signal);
        assert_eq!(
            server.program.error_line(),
            "netsys: draining 1 session; a second signal cuts them off"
        );
        let (kind, answer) = peer.receive();
        assert!(
            kind == DATA && answer == message,
            "{} bytes came back",
            answer.len()
        );
        assert_eq!(peer.receive().0, DISCONNECT);
        peer.send(DISCONNECT, b"");
        peer.shut_down();
        assert!(peer.is_closed());
        let ended = server.program.end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(
            ended.stderr.contains("drained 1, aborted 0"),
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn a_stopping_server_accepts_no_more() {
    let server = Serving::start(&[]);
    let mut peer = Peer::open(server.address());
    server.program.signal(Signal::TERM);
    assert_eq!(peer.receive().0, DISCONNECT);
    let late = std::net::TcpStream::connect(server.address());
    if let Ok(late) = late {
        // It was in the system's queue when the listener closed.
        late.set_read_timeout(Some(crate::peer::PATIENCE)).unwrap();
        assert!(!matches!(
            std::io::Read::read(&mut &late, &mut [0]),
            Ok(1..)
        ));
    }
    drop(peer);
    assert_eq!(server.program.end().code, Some(0));
}

#[test]
fn a_second_signal_cuts_off_what_is_left() {
    let mut server = Serving::start(&["--drain-timeout", "1h"]);
    let mut peer = Peer::open(server.address());
    server.program.signal(Signal::INT);
    server.program.error_line();
    // The peer has been told and does not close.
    assert_eq!(peer.receive().0, DISCONNECT);
    server.program.signal(Signal::INT);
    let ended = server.program.end();
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("drained 0, aborted 1"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_drain_that_runs_out_of_time_is_a_failure() {
    let mut server = Serving::start(&["--drain-timeout", "1s"]);
    let mut peer = Peer::open(server.address());
    server.program.signal(Signal::TERM);
    server.program.error_line();
    assert_eq!(peer.receive().0, DISCONNECT);
    let ended = server.program.end();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("aborted 1"), "{}", ended.stderr);
}

#[test]
fn the_goodbye_says_when_to_come_back() {
    let server = Serving::start(&["--goaway", "5s"]);
    let mut peer = Peer::open(server.address());
    server.program.signal(Signal::TERM);
    let (_, text) = peer.receive_text();
    assert!(text.contains("goaway") && text.contains("5000"), "{text}");
    assert_eq!(peer.receive().0, DISCONNECT);
}

#[test]
fn without_descriptors_those_that_fit_are_served_and_the_others_later() {
    let script =
        r#"ulimit -n 64 && exec "$0" serve --listen tcp://127.0.0.1:0 --first-byte-timeout 0"#;
    let mut server =
        Running::spawn(Command::new("sh").args(["-c", script, env!("CARGO_BIN_EXE_netsys")]));
    let address = address(&listening(&server.line()));
    let mut clients: Vec<_> = (0..200)
        .map(|_| {
            let mut client = Peer::connect(address);
            client.send(DATA, b"x");
            client
        })
        .collect();
    // In the order in which they came; each one that leaves makes room for another.
    let mut served = 0;
    for client in clients.drain(..) {
        let mut client = client;
        assert_eq!(client.receive(), (DATA, b"x".to_vec()), "after {served}");
        served += 1;
    }
    assert_eq!(served, 200);
}

#[test]
fn a_unix_socket_is_served_and_its_file_goes_with_the_server() {
    let path = std::env::temp_dir().join(format!("netsys-{}.sock", std::process::id()));
    let url = format!("unix://{}", path.display());
    let mut server = Running::start(&["serve", "--listen", &url]);
    assert_eq!(listening(&server.line()), url);
    let answer = run(&["connect", &url], b"hello\n");
    assert_eq!(
        (answer.status.code(), &answer.stdout[..]),
        (Some(0), &b"hello\n"[..])
    );
    assert_eq!(server.terminate().code, Some(0));
    assert!(!path.exists());
    assert_eq!(run(&["connect", &url], b"").status.code(), Some(3));
}

#[test]
#[cfg(target_os = "linux")]
fn pinned_workers_serve() {
    let server = Serving::start(&["--pin-workers", "on", "--workers", "2"]);
    for _ in 0..4 {
        let mut peer = Peer::open(server.address());
        peer.send(DATA, b"x");
        assert_eq!(peer.receive(), (DATA, b"x".to_vec()));
    }
    assert_eq!(server.program.terminate().code, Some(0));
}
