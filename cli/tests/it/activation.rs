//! Sockets that are handed over as systemd does it.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

use rustix::io::{FdFlags, fcntl_setfd};

use crate::program::{Running, connect, listening};

/// Starts `netsys serve` with a socket. `LISTEN_PID` has to be its own, which a shell knows.
fn serve(socket: impl AsFd, listen: &[&str]) -> Running {
    let descriptor = socket.as_fd().as_raw_fd();
    fcntl_setfd(&socket, FdFlags::empty()).unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", "LISTEN_PID=$$ exec \"$0\" serve \"$@\""])
        .arg(env!("CARGO_BIN_EXE_netsys"))
        .args(listen.iter().flat_map(|url| ["--listen", url]))
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDS_FIRST_FD", descriptor.to_string())
        .env("LISTEN_FDNAMES", "web");
    Running::spawn(&mut command)
}

fn tcp() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    (listener, addr)
}

#[test]
fn a_socket_is_listened_on_by_name_and_by_number() {
    for (listen, expected) in [
        ("fd://web?scheme=tcp&codec=lines", "tcp://{}?codec=lines"),
        ("fd://0?scheme=ws&path=/chat", "ws://{}/chat"),
        ("fd://0?scheme=tcp", "tcp://{}"),
    ] {
        let (socket, addr) = tcp();
        let mut server = serve(socket, &["tcp://127.0.0.1:0", listen]);
        listening(&server.line());
        let url = listening(&server.line());
        assert_eq!(url, expected.replace("{}", &addr));
        let ended = connect(&url, &[], b"x\n");
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(0), "x\n"),
            "{url}: {}",
            ended.stderr
        );
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut server = serve(socket, &["fd://web?scheme=udp"]);
    let ended = connect(&listening(&server.line()), &[], b"x\n");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "x\n"));
}

#[test]
fn a_unix_socket_keeps_its_path() {
    let folder = crate::program::Folder::new("activation");
    let path = folder.path("a socket");
    for (scheme, expected) in [
        ("unix", "unix://{}"),
        ("ws+unix&path=/x", "ws+unix://{}:/x"),
    ] {
        let _ = std::fs::remove_file(&path);
        let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let mut server = serve(socket, &[&format!("fd://web?scheme={scheme}")]);
        let url = listening(&server.line());
        assert_eq!(url, expected.replace("{}", &path.replace(' ', "%20")));
        let ended = connect(&url, &[], b"x\n");
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "x\n"));
    }
}

#[test]
fn sockets_that_are_not_there_are_named_and_those_that_are_not_used_too() {
    for (listen, words) in [
        (&["fd://other?scheme=tcp"][..], &["fd://other", "web"][..]),
        (&["fd://1?scheme=tcp"], &["fd://1", "web"]),
        (&["fd://0?scheme=udp"], &["udp", "socket"]),
        (
            &["fd://0?scheme=tcp", "fd://web?scheme=tcp"],
            &["web", "more than once"],
        ),
    ] {
        let (socket, _) = tcp();
        let ended = serve(socket, listen).end();
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        for word in words {
            assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
        }
    }
    let (socket, _) = tcp();
    let mut server = serve(socket, &["tcp://127.0.0.1:0"]);
    assert!(server.error_line().contains("web was handed over"));
}
