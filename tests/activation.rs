//! Socket activation, with a process that is started as systemd starts one.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails, and says where"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use network_system::{BoundSocket, activation};
use network_system::{CodecKind, ErrorCode, Message, Server, Session};

/// Tells the process what is expected of it.
const ROLE: &str = "ACTIVATION_TEST_ROLE";

/// How long the other process may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// This program's test `child` in a process of its own.
struct Activated {
    child: Child,
    /// What it prints goes to a file, because its standard streams are taken.
    report: PathBuf,
}

impl Activated {
    /// Starts it with sockets from descriptor 3 on. They come to the shell as its standard streams: any
    /// other descriptor is closed on the way.
    fn start<const N: usize>(role: &str, names: &str, sockets: [OwnedFd; N]) -> Self {
        let report = format!("network-system-{role}-{}", std::process::id());
        let report = std::env::temp_dir().join(report);
        let script = r#"
            export LISTEN_PID=$$
            exec 3<&0 4<&1 5<&2 0</dev/null >"$REPORT" 2>&1
            exec "$@"
        "#;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", script, "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(ROLE, role)
            .env("REPORT", &report)
            .env("LISTEN_FDS", N.to_string())
            .env("LISTEN_FDNAMES", names);
        let mut streams = sockets.into_iter().map(Stdio::from);
        let mut next = || streams.next().unwrap_or_else(Stdio::null);
        command.stdin(next()).stdout(next()).stderr(next());
        let child = command.spawn().unwrap();
        Activated { child, report }
    }

    fn succeeds(mut self) {
        let status = self.child.wait().unwrap();
        let told = std::fs::read_to_string(&self.report).unwrap();
        std::fs::remove_file(&self.report).unwrap();
        assert!(status.success(), "{status}: {told}");
        assert!(told.contains("1 passed"), "{told}");
    }
}

/// What the other process does. Run as one of the tests, it does nothing.
#[test]
fn child() {
    match std::env::var(ROLE).as_deref() {
        Ok("serves") => serve_all_kinds(),
        Ok(role @ ("connection" | "file" | "names")) => {
            let error = activation::sockets().unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidConfiguration);
            let expected = match role {
                "connection" => "only is a connection",
                "file" => "only is no socket",
                _ => "LISTEN_FDNAMES",
            };
            assert!(error.to_string().contains(expected), "{error}");
        }
        Ok(role) => panic!("no such role: {role}"),
        Err(_) => {}
    }
}

fn serve_all_kinds() {
    let sockets = activation::sockets().unwrap();
    let names: Vec<_> = sockets.iter().map(|socket| socket.name.as_str()).collect();
    assert_eq!(names, ["messages", "local.socket", "datagrams"]);
    assert!(activation::sockets().unwrap().is_empty());
    // Its children have sockets of their own.
    assert!(std::env::var_os("LISTEN_FDS").is_none());

    let mut sockets = sockets.into_iter().map(|activated| activated.socket);
    let kinds = (sockets.next(), sockets.next(), sockets.next());
    let (Some(BoundSocket::Tcp(tcp)), Some(BoundSocket::Unix(unix)), Some(BoundSocket::Udp(udp))) =
        kinds
    else {
        panic!("other kinds of sockets");
    };
    unix.accept().unwrap().0.write_all(b"by Unix").unwrap();
    let mut datagram = [0; 100];
    let (length, from) = udp.recv_from(&mut datagram).unwrap();
    udp.send_to(&datagram[..length], from).unwrap();

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (done, mut wait) = tokio::sync::mpsc::channel(1);
        let server = Server::builder()
            .listen_socket(tcp, CodecKind::Lines)
            .on_message(async |session: Session, message: Message| {
                session.send(message).await.unwrap();
            })
            .on_disconnect(move |_, _| {
                let done = done.clone();
                async move { done.send(()).await.unwrap() }
            })
            .build()
            .unwrap();
        server.start().await.unwrap();
        tokio::time::timeout(PATIENCE, wait.recv()).await.unwrap();
        server.stop().await.unwrap();
    });
}

#[test]
fn sockets_of_all_kinds_are_taken_and_served() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let path = std::env::temp_dir().join(format!("network-system-{}.sock", std::process::id()));
    let unix = UnixListener::bind(&path).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (tcp_addr, udp_addr) = (tcp.local_addr().unwrap(), udp.local_addr().unwrap());
    // Whoever connects before the process is there waits for it.
    let mut by_tcp = TcpStream::connect(tcp_addr).unwrap();
    let mut by_unix = UnixStream::connect(&path).unwrap();
    let by_udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    by_tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    by_unix.set_read_timeout(Some(PATIENCE)).unwrap();
    by_udp.set_read_timeout(Some(PATIENCE)).unwrap();
    by_tcp.write_all(b"by TCP\n").unwrap();
    by_udp.send_to(b"by UDP", udp_addr).unwrap();

    let names = "messages:local.socket:datagrams";
    let activated = Activated::start("serves", names, [tcp.into(), unix.into(), udp.into()]);
    let mut text = String::new();
    by_unix.read_to_string(&mut text).unwrap();
    assert_eq!(text, "by Unix");
    let mut datagram = [0; 100];
    let length = by_udp.recv(&mut datagram).unwrap();
    assert_eq!(&datagram[..length], b"by UDP");
    let mut line = [0; 7];
    by_tcp.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"by TCP\n");
    drop(by_tcp);
    activated.succeeds();
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_connection_in_place_of_a_listener_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    Activated::start("connection", "only", [stream.into()]).succeeds();
}

#[test]
fn what_is_no_socket_is_refused() {
    let (reader, _writer) = std::io::pipe().unwrap();
    Activated::start("file", "only", [reader.into()]).succeeds();
}

#[test]
fn names_without_sockets_are_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    Activated::start("names", "one:two", [listener.into()]).succeeds();
}
