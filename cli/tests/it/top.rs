//! `netsys top`: as text, as JSON, and in a terminal.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use serde_json::Value;

use crate::dashboard::{TOKEN, serve};
use crate::peer::{Closed, DATA, PATIENCE, Peer};
use crate::program::{Running, run, text};
use crate::usage::check;

fn url(at: SocketAddr) -> String {
    format!("http://{at}")
}

/// A server that gives the same answer to every request, and the URL of it.
fn answering(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                head.push(byte[0]);
            }
            // The client may have seen enough.
            let _ = stream.write_all(&answer);
        }
    });
    url(at)
}

fn json(body: &str) -> Vec<u8> {
    let len = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{body}").into()
}

#[test]
fn a_look_is_text_without_a_terminal() {
    let (server, at) = serve(&[]);
    let mut peers: Vec<_> = ["anna", "bert", "\u{1b}[31mevil"]
        .iter()
        .map(|name| {
            let hello = serde_json::json!({ "op": "hello", "client_id": name });
            Peer::hello(server.address(), &hello.to_string())
        })
        .collect();
    peers[1].send(DATA, b"x");
    peers[1].receive();

    for arguments in [&["--once"][..], &[]] {
        let looked = run(&[&["top", &url(at)], arguments].concat(), b"");
        let said = text(&looked.stdout);
        assert_eq!(looked.status.code(), Some(0), "{}", text(&looked.stderr));
        for part in [
            "running",
            "messages",
            &server.url,
            "anna",
            "3 of 3 sessions, 3 in all",
        ] {
            assert!(said.contains(part), "no {part} in {said}");
        }
        assert!(
            !said.contains('\u{1b}') && said.contains("\\u{1b}[31mevil"),
            "{said}"
        );
    }
    let options = ["--filter", "ERT", "--sort", "messages_received"];
    let looked = run(&[&["top", &url(at)], &options[..]].concat(), b"");
    let said = text(&looked.stdout);
    assert!(said.contains("bert") && !said.contains("anna"), "{said}");
    assert!(
        said.contains("IN▼") && said.contains("1 of 1 sessions, 3 in all"),
        "{said}"
    );
}

#[test]
fn looks_are_objects_with_json() {
    let (server, at) = serve(&[]);
    let _peer = Peer::open(server.address());
    let looked = run(&["top", &url(at), "--once", "--json"], b"");
    let said: Value = serde_json::from_str(&text(&looked.stdout)).unwrap();
    assert_eq!(said["server"]["state"], "running");
    assert_eq!(said["sessions"]["total"], 1);
    assert_eq!(said["sessions"]["sessions"][0]["transport"], "tcp");
    assert_eq!(said["listeners"][0]["url"], server.url);
    assert!(
        said["rates"]
            .as_object()
            .unwrap()
            .contains_key("handler_p99_us")
    );

    // One after the other, until there is no server.
    let mut program = Running::start(&["top", &url(at), "--json", "--interval", "100ms"]);
    for _ in 0..3 {
        let said: Value = serde_json::from_str(&program.line()).unwrap();
        assert_eq!(said["url"], url(at));
    }
    server.program.terminate();
    let ended = program.end();
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
}

#[test]
fn who_cannot_be_looked_at_is_named() {
    let closed = Closed::take();
    let (_server, at) = serve(&["--dashboard-token", TOKEN]);
    for (url, options, code, words) in [
        (
            url(closed.address()),
            &[][..],
            3,
            &["cannot connect", "refused"][..],
        ),
        (
            url(at),
            &["--token", "0000000000000000"],
            1,
            &["token", "wrong", "--token"],
        ),
        (
            format!("http://{at}/nothing"),
            &[],
            1,
            &["no dashboard", "404"],
        ),
        (answering(json("[]")), &[], 1, &["no dashboard", "status"]),
        (answering(json("{\"name\":1}")), &[], 1, &["no dashboard"]),
        (
            answering(b"SSH-2.0-x\r\n".to_vec()),
            &[],
            1,
            &["does not speak HTTP"],
        ),
        (answering(Vec::new()), &[], 3, &["cannot connect"]),
        (
            answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}".to_vec()),
            &[],
            1,
            &["cannot be read"],
        ),
        (
            // It claims much, and sends more than is read.
            answering([b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b' '; 6 << 20]].concat()),
            &[],
            1,
            &["cannot be read", "limit"],
        ),
        (
            answering([b"HTTP/1.1 200 OK\r\nA: ".to_vec(), vec![b'a'; 1 << 20]].concat()),
            &[],
            1,
            &["does not speak HTTP"],
        ),
        (
            answering(
                b"HTTP/1.1 418 x\r\nContent-Length: 58\r\n\r\n\
                  {\"error\":{\"status\":418,\"message\":\"\\u001b[2Jtea\",\"code\":1}}"
                    .to_vec(),
            ),
            &[],
            1,
            &["418", "\\u{1b}[2Jtea"],
        ),
    ] {
        let looked = run(&[&["top", &url], options].concat(), b"");
        let said = text(&looked.stderr);
        assert_eq!(looked.status.code(), Some(code), "{url}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        for word in words {
            assert!(said.contains(word), "no {word:?} in: {said}");
        }
        assert!(
            looked.stdout.is_empty() && !said.contains('\u{1b}'),
            "{said}"
        );
    }
}

#[test]
fn a_server_that_never_answers_is_left() {
    // The system accepts for it.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let looked = run(&["top", &url(silent.local_addr().unwrap())], b"");
    let said = text(&looked.stderr);
    assert_eq!(looked.status.code(), Some(3), "{said}");
    assert!(said.contains("no answer within 5 s"), "{said}");
}

#[test]
fn bad_options_are_named() {
    for (arguments, words) in [
        (&["https://127.0.0.1:1"][..], &["URL", "without TLS"][..]),
        (&["tcp://127.0.0.1:1"], &["URL", "http://HOST:PORT"]),
        (&["http://127.0.0.1:0"], &["port 0"]),
        (&["--interval", "1ms"], &["--interval", "100ms to 1h"]),
        (&["--sort", "size"], &["--sort", "`size`", "bytes_sent"]),
        (&["--color", "x"], &["--color", "auto, always or never"]),
        (&["--token", "a b"], &["--token", "…", "ASCII"]),
        (&["--token-file", "/nonexistent"], &["/nonexistent"]),
        (&["--token", "a", "--token-file", "b"], &["together"]),
    ] {
        check(&[&["top"], arguments].concat(), words);
    }
    // The password is not repeated.
    let said = run(&["top", "http://user:password@127.0.0.1"], b"");
    assert_eq!(said.status.code(), Some(2));
    assert!(!text(&said.stderr).contains("password"));
}

#[cfg(target_os = "linux")]
mod terminal {
    use std::fs::File;
    use std::process::{Child, Stdio};
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::process::{Pid, Signal, kill_process};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

    use super::*;
    use crate::program::exactly;

    /// Where `text` begins.
    fn position_of(shown: &[u8], text: &[u8]) -> Option<usize> {
        shown.windows(text.len()).position(|some| some == text)
    }

    /// A terminal with a program in it.
    struct Terminal {
        ours: File,
        theirs: File,
        program: Child,
        shown: Vec<u8>,
    }

    impl Terminal {
        fn start(arguments: &[&str]) -> Self {
            let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
            grantpt(&ours).unwrap();
            unlockpt(&ours).unwrap();
            let path = ptsname(&ours, Vec::new()).unwrap();
            let size = Winsize {
                ws_row: 24,
                ws_col: 100,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            tcsetwinsize(&ours, size).unwrap();
            let theirs = File::options()
                .read(true)
                .write(true)
                .open(path.to_str().unwrap())
                .unwrap();
            let program = exactly(arguments)
                .env("TERM", "xterm-256color")
                .stdin(theirs.try_clone().unwrap())
                .stdout(theirs.try_clone().unwrap())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            Terminal {
                ours: File::from(ours),
                theirs,
                program,
                shown: Vec::new(),
            }
        }

        /// Reads until this is shown, and forgets it and what came before it. What came behind it in the same read
        /// may be what is looked for next.
        fn shows(&mut self, text: &str) {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let found = position_of(&self.shown, text.as_bytes());
                if let Some(at) = found {
                    self.shown.drain(..at + text.len());
                    return;
                }
                let left = deadline.saturating_duration_since(Instant::now());
                let shown = String::from_utf8_lossy(&self.shown);
                assert!(!left.is_zero(), "{text:?} was not shown, but {shown:?}");
                let mut readable = [PollFd::new(&self.ours, PollFlags::IN)];
                if poll(&mut readable, Some(&left.try_into().unwrap())).unwrap() > 0 {
                    let mut some = [0; 4096];
                    let len = self.ours.read(&mut some).unwrap();
                    self.shown.extend_from_slice(&some[..len]);
                }
            }
        }

        /// Waits for the program's end.
        fn exits(&mut self) -> Option<i32> {
            let deadline = Instant::now() + PATIENCE;
            loop {
                if let Some(status) = self.program.try_wait().unwrap() {
                    return status.code();
                }
                assert!(Instant::now() < deadline, "the program goes on");
                std::thread::sleep(Duration::from_millis(5));
            }
        }

        fn types(&mut self, keys: &str) {
            self.ours.write_all(keys.as_bytes()).unwrap();
        }

        /// Waits for the end: its code, and whether the terminal is as it was.
        fn ends(mut self) -> (Option<i32>, bool) {
            // Leaving the alternate screen is the last thing that is written.
            self.shows("\u{1b}[?1049l");
            let code = self.exits();
            let modes = tcgetattr(&self.theirs).unwrap();
            let is_restored = modes
                .local_modes
                .contains(rustix::termios::LocalModes::ICANON)
                && modes
                    .local_modes
                    .contains(rustix::termios::LocalModes::ECHO);
            (code, is_restored)
        }
    }

    impl Drop for Terminal {
        fn drop(&mut self) {
            let _ = self.program.kill();
            let _ = self.program.wait();
        }
    }

    #[test]
    fn the_terminal_shows_obeys_and_is_given_back() {
        let (server, at) = serve(&["--dashboard-token", TOKEN]);
        let hello = r#"{"op":"hello","client_id":"anna"}"#;
        let mut peer = Peer::hello(server.address(), hello);
        let mut terminal = Terminal::start(&["top", &url(at), "--token", TOKEN]);
        terminal.shows("\u{1b}[?1049h");
        terminal.shows("Overview");
        terminal.types("2");
        terminal.shows("anna");
        terminal.types("\r");
        terminal.shows("data_count");
        terminal.types("d");
        terminal.shows("y/n");
        terminal.types("y");
        terminal.shows("told");
        assert_eq!(peer.receive().0, crate::peer::DISCONNECT);
        terminal.types("q");
        assert_eq!(terminal.ends(), (Some(0), true));
    }

    #[test]
    fn signals_give_the_terminal_back_too() {
        let (_server, at) = serve(&[]);
        for signal in [None, Some(Signal::TERM), Some(Signal::INT)] {
            let mut terminal = Terminal::start(&["top", &url(at)]);
            terminal.shows("Overview");
            match signal {
                // Ctrl-C is a key there.
                None => terminal.types("\u{3}"),
                Some(signal) => kill_process(Pid::from_child(&terminal.program), signal).unwrap(),
            }
            assert_eq!(terminal.ends(), (Some(130), true));
        }
    }

    #[test]
    fn a_server_that_goes_away_is_waited_for() {
        let (server, at) = serve(&[]);
        let mut terminal = Terminal::start(&["top", &url(at), "--interval", "100ms"]);
        terminal.shows("Overview");
        server.program.terminate();
        terminal.shows("trying again");
        terminal.types("q");
        assert_eq!(terminal.ends(), (Some(0), true));
    }

    #[test]
    fn nothing_is_drawn_when_there_is_no_server() {
        let closed = Closed::take();
        let mut terminal = Terminal::start(&["top", &url(closed.address())]);
        assert_eq!(terminal.exits(), Some(3));
        let modes = tcgetattr(&terminal.theirs).unwrap();
        assert!(
            modes
                .local_modes
                .contains(rustix::termios::LocalModes::ICANON)
        );
    }
}
