//! Every baseline under every kind of load that it serves, for a moment.
//! The load generator checks each byte and fails on a mismatch.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use network_system_perf::report::Report;

struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(name: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_baseline"))
            .arg(name)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the baseline starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("standard output is a pipe");
        BufReader::new(output)
            .read_line(&mut line)
            .expect("the baseline prints a line");
        let url = line
            .trim()
            .strip_prefix("listening ")
            .expect("the line names the address")
            .to_owned();
        Self { child, url }
    }

    /// Loads it for a moment, or for as long as the machine needs for a message.
    fn load(&self, arguments: &str) {
        let seconds = ["0.2", "2", "20"];
        let done = seconds.iter().any(|seconds| {
            let (report, line) = self.load_for(seconds, arguments);
            // Opening a few connections takes about a millisecond, less than the system may need to account for
            // the time of a process that runs on another core.
            let too_short = arguments.starts_with("idle");
            let done = report.messages > 0.0;
            assert!(
                !done || report.cpu_ns > 0.0 || too_short,
                "{arguments}: {line}"
            );
            done
        });
        assert!(done, "{arguments}: there are no messages");
    }

    fn load_for(&self, seconds: &str, arguments: &str) -> (Report, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_load"))
            .args(arguments.split_whitespace())
            .args(["--warmup", "0.05", "--seconds", seconds])
            .args(["--server", &self.url])
            .args(["--pid", &self.child.id().to_string()])
            .stdin(Stdio::null())
            .output()
            .expect("the load generator starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments}: {errors}");
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().last().expect("a report is printed");
        let report = Report::from_json(line).expect("the last line is the report");
        (report, line.to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().expect("the baseline still runs");
        self.child.wait().expect("the baseline has ended");
    }
}

fn check_echo(name: &str) {
    let server = Server::start(name);
    server.load("echo --connections 20 --size 8");
    server.load("echo --connections 5 --size 1024 --outstanding 100");
    // More than the buffers of a connection hold: both directions must go on together.
    server.load("echo --connections 2 --size 1048576 --outstanding 16");
    server.load("connect --in-flight 8");
    server.load("idle --connections 50");
}

/// As [`check_echo`], for what `connect` does not know.
fn check_sessions(name: &str) -> Server {
    let server = Server::start(name);
    server.load("echo --connections 20 --size 8");
    server.load("echo --connections 5 --size 1024 --outstanding 100");
    server.load("echo --connections 2 --size 1048576 --outstanding 16");
    server.load("idle --connections 50");
    server
}

#[test]
fn epoll_ws_echoes() {
    check_sessions("epoll-ws");
}

#[test]
fn tungstenite_ws_echoes() {
    check_sessions("tungstenite-ws");
}

#[test]
fn tungstenite_wss_echoes() {
    check_sessions("tungstenite-wss");
}

#[test]
fn fastwebsockets_ws_echoes() {
    // It reads no further while a write is blocked, so that little may be outstanding.
    let server = Server::start("fastwebsockets-ws");
    server.load("echo --connections 20 --size 8");
    server.load("echo --connections 5 --size 1024 --outstanding 100");
    server.load("echo --connections 2 --size 65536 --outstanding 4");
    server.load("idle --connections 50");
}

#[test]
fn sockudo_ws_echoes_compressed_or_not() {
    let server = Server::start("sockudo-ws");
    server.load("echo --connections 20 --size 8");
    server.load("echo --connections 5 --size 1024 --outstanding 100");
    server.load("echo --connections 2 --size 65536 --outstanding 4");
    server.load("idle --connections 50");
    server.load("echo --connections 5 --size 1024 --outstanding 100 --deflate");
    server.load("idle --connections 50 --size 1024 --deflate");
}

#[test]
fn tokio_rustls_echoes() {
    check_sessions("tokio-rustls");
}

#[test]
fn tokio_rustls_buffered_echoes() {
    check_sessions("tokio-rustls-buffered");
}

#[test]
fn mmsg_udp_echoes() {
    let server = Server::start("mmsg-udp");
    server.load("echo --connections 20 --size 8");
    server.load("echo --connections 5 --size 1024 --outstanding 100");
    server.load("echo --connections 2 --size 65507");
}

#[test]
fn compression_that_is_not_agreed_to_is_noticed() {
    let server = Server::start("tungstenite-ws");
    let output = Command::new(env!("CARGO_BIN_EXE_load"))
        .args(["echo", "--deflate", "--server", &server.url])
        .stdin(Stdio::null())
        .output()
        .expect("the load generator starts");
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("permessage-deflate"), "{errors}");
}

#[test]
fn epoll_bytes_echoes() {
    check_echo("epoll-bytes");
}

#[test]
fn epoll_msgi_echoes() {
    check_echo("epoll-msgi");
}

#[test]
fn tokio_framed_echoes() {
    check_echo("tokio-framed");
}

#[test]
fn epoll_broadcast_reaches_all_receivers_in_order() {
    let server = Server::start("epoll-broadcast");
    server.load("broadcast --connections 50 --size 64");
    server.load("broadcast --connections 3 --size 1048576 --outstanding 16");
}

#[test]
fn a_wrong_echo_is_noticed() {
    // A server that sends to all other connections is no echo server: the
    // second connection receives what belongs to the first.
    let server = Server::start("epoll-broadcast");
    let status = Command::new(env!("CARGO_BIN_EXE_load"))
        .args(["echo", "--connections", "2", "--server", &server.url])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("the load generator starts");
    assert_eq!(status.code(), Some(1));
}
