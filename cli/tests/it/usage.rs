//! Wrong usage: exit code 2 and one line that names what is wrong and says what is valid.

use std::net::TcpListener;

use crate::program::{run, text};

/// Runs the program and returns the one line that it says.
fn refused(arguments: &[&str], code: i32) -> String {
    let output = run(arguments, b"");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    said
}

/// Every word stands in the line that refuses the arguments.
pub(crate) fn check(arguments: &[&str], words: &[&str]) {
    let said = refused(arguments, 2);
    assert!(
        said.starts_with("netsys: ") || said.starts_with("{"),
        "{said}"
    );
    for word in words {
        assert!(said.contains(word), "{arguments:?}: no {word:?} in: {said}");
    }
}

#[test]
fn what_was_typed_neither_ends_the_line_nor_reaches_the_terminal_as_a_control() {
    let label = ["bench", "tcp://127.0.0.1:1", "--label", "a\nb"];
    check(&label, &["`a\\nb`", "in one line"]);
    check(&["serve", "--dashboard", "a\nb"], &["`a\\nb`", "IP:PORT"]);
    check(&["x\u{1b}[31m\r"], &["`x\\u{1b}[31m\\r`"]);
    let said = refused(&["report", "no\nfile"], 1);
    assert!(said.contains("no\\nfile: cannot read it"), "{said}");
}

#[test]
fn a_bad_option_is_named_and_what_is_valid_is_said() {
    check(&["frobnicate"], &["frobnicate", "serve"]);
    for (arguments, words) in [
        (
            &["--frobnicate"][..],
            &["--frobnicate", "netsys serve --help"][..],
        ),
        (
            &["--max-connection", "1"],
            &["--max-connection", "--max-connections"],
        ),
        (
            &["--handler", "x"],
            &["--handler", "`x`", "echo, broadcast, chat or sink"],
        ),
        (&["--handler"], &["--handler", "needs a value"]),
        (
            &["--max-connections", "many"],
            &["--max-connections", "`many`", "whole number"],
        ),
        (
            &["--max-connections", "-1"],
            &["--max-connections", "`-1`", "whole number"],
        ),
        (
            &["--max-connections-per-ip", "x"],
            &["--max-connections-per-ip", "whole number"],
        ),
        (
            &["--message-size-limit", "1KB"],
            &["--message-size-limit", "`1KB`", "64KiB"],
        ),
        (
            &["--message-size-limit", "2GiB"],
            &["--message-size-limit", "1GiB"],
        ),
        (
            &["--idle-timeout", "30"],
            &["--idle-timeout", "`30`", "500ms"],
        ),
        (
            &["--first-byte-timeout", "x"],
            &["--first-byte-timeout", "500ms"],
        ),
        (
            &["--mid-frame-timeout", "x"],
            &["--mid-frame-timeout", "500ms"],
        ),
        (&["--heartbeat", "x"], &["--heartbeat", "500ms"]),
        (
            &["--drain-timeout", "100000h"],
            &["--drain-timeout", "at most a year"],
        ),
        (&["--goaway", "x"], &["--goaway", "500ms"]),
        (&["--outbox-limit", "x"], &["--outbox-limit", "64KiB"]),
        (
            &["--outbox-messages", "x"],
            &["--outbox-messages", "whole number"],
        ),
        (
            &["--when-full", "x"],
            &[
                "--when-full",
                "wait, drop-newest, drop-oldest or disconnect",
            ],
        ),
        (&["--workers", "9999"], &["--workers", "0 to 1024"]),
        (&["--pin-workers", "x"], &["--pin-workers", "on or off"]),
        (&["--nodelay", "x"], &["--nodelay", "on or off"]),
        (&["--keep-alive", "x"], &["--keep-alive", "on or off"]),
        (&["--groups", "x"], &["--groups", "on or off"]),
        (
            &["--receive-buffer-size", "9GiB"],
            &["--receive-buffer-size", "at most 1GiB"],
        ),
        (
            &["--send-buffer-size", "9GiB"],
            &["--send-buffer-size", "at most 1GiB"],
        ),
        (&["--token", ""], &["--token", "value"]),
        (
            &["--dashboard", "7680"],
            &["--dashboard", "`7680`", "127.0.0.1:7680", "off"],
        ),
        (
            &["--dashboard", "0.0.0.0:7680"],
            &[
                "--dashboard",
                "0.0.0.0:7680",
                "--dashboard-token-file",
                "loopback",
            ],
        ),
        (
            &["--dashboard", "127.0.0.1:0", "--metrics", "off"],
            &["--dashboard", "--metrics off"],
        ),
        (&["--metrics", "x"], &["--metrics", "on or off"]),
        (
            &["--dashboard-host", "http://x"],
            &["--dashboard-host", "without a port"],
        ),
        (
            &["--dashboard-token", "a b"],
            &["--dashboard-token", "ASCII"],
        ),
        (
            &["--dashboard-token", "a", "--dashboard-token-file", "b"],
            &["--dashboard-token-file", "together"],
        ),
        (
            &["--dashboard-token-file", "/nonexistent"],
            &["token", "/nonexistent"],
        ),
        (&["--reliable=x"], &["--reliable", "on or off"]),
        (
            &["--reliable", "--when-full", "drop-oldest"],
            &[
                "--reliable",
                "--when-full drop-oldest",
                "wait or disconnect",
            ],
        ),
        (
            &["--reliable", "--listen", "udp://127.0.0.1:0?codec=msgi"],
            &["--reliable", "not UDP"],
        ),
        (
            &["--reliable", "--listen", "tcp://127.0.0.1:0?codec=raw"],
            &["--reliable", "msgi"],
        ),
        (
            &["--resume-window", "1MiB"],
            &["--resume-window", "without --reliable"],
        ),
        (
            &["--resume-timeout", "5s"],
            &["--resume-timeout", "without --reliable"],
        ),
        (
            &["--suspended-sessions", "5"],
            &["--suspended-sessions", "without --reliable"],
        ),
        (
            &["--reliable", "--resume-window", "1000"],
            &["--resume-window", "1KiB to 1GiB"],
        ),
        (
            &["--reliable", "--resume-timeout", "25h"],
            &["--resume-timeout", "at most 24h"],
        ),
        (
            &["--reliable", "--resume-timeout", "0"],
            &["--resume-timeout", "more than 0"],
        ),
        (
            &["--session-rate", "1000"],
            &["--session-rate", "`1000`", "1000msg", "1000B"],
        ),
        (
            &["--ip-rate", "fast"],
            &["--ip-rate", "1000msg,10MiB", "0 for no limit"],
        ),
        (
            &["--server-rate", "1msg,2msg"],
            &["--server-rate", "messages are given twice"],
        ),
        (&["--server-rate", "0msg"], &["--server-rate", "0 alone"]),
        (
            &["--session-rate", "2000GiB"],
            &["--session-rate", "at most 1024GiB"],
        ),
        (
            &["--when-rate-exceeded", "drop"],
            &[
                "--when-rate-exceeded",
                "means nothing without",
                "--session-rate",
            ],
        ),
        (
            &["--when-rate-exceeded", "x"],
            &["--when-rate-exceeded", "wait, drop or disconnect"],
        ),
        (
            &["--rate-burst", "2s"],
            &["--rate-burst", "means nothing without"],
        ),
        (
            &["--session-rate", "5msg", "--rate-burst", "2h"],
            &["--rate-burst", "10ms to 1h"],
        ),
        (
            &[
                "--session-rate",
                "5msg",
                "--when-rate-exceeded",
                "drop",
                "--reliable",
            ],
            &[
                "--reliable",
                "--when-rate-exceeded drop",
                "wait or disconnect",
            ],
        ),
        (
            &["--handshakes-per-second", "-1"],
            &["--handshakes-per-second", "whole number"],
        ),
        (
            &[
                "--handshakes-per-second",
                "5",
                "--listen",
                "udp://127.0.0.1:0",
            ],
            &["--handshakes-per-second", "--udp-new-sessions"],
        ),
        (
            &[
                "--handshakes-per-second-per-ip",
                "5",
                "--listen",
                "unix:///tmp/netsys-usage",
            ],
            &["--handshakes-per-second-per-ip", "IP addresses"],
        ),
        (
            &["--ip-rate", "5msg", "--listen", "unix:///tmp/netsys-usage"],
            &["--ip-rate", "IP addresses"],
        ),
        (
            &["--memory-budget", "1"],
            &["--memory-budget", "at least 64KiB"],
        ),
        (&["--log", "loud"], &["--log", "`loud`", "warn"]),
        (
            &["--config", "/nonexistent.toml"],
            &["--config", "/nonexistent.toml"],
        ),
        (&["--cert", "x"], &["--cert", "--key"]),
        (&["--cert", "x", "--key", "y"], &["--cert", "tls://"]),
        (&["--client-ca", "x"], &["--client-ca", "tls://"]),
        (
            &["--client-auth", "required"],
            &["--client-auth", "--client-ca"],
        ),
        (
            &["--client-auth", "x"],
            &["--client-auth", "required or optional"],
        ),
        (&["--tls-min", "1.1"], &["--tls-min", "1.2 or 1.3"]),
        (
            &[
                "--listen",
                "tls://127.0.0.1:0",
                "--cert",
                "/nonexistent.pem",
                "--key",
                "x",
            ],
            &["/nonexistent.pem"],
        ),
        (
            &["--origin", "example.org"],
            &["--origin", "scheme://", "*"],
        ),
        (&["--compression", "x"], &["--compression", "on or off"]),
        (
            &["--compression-threshold", "x"],
            &["--compression-threshold", "64KiB"],
        ),
        (
            &["--udp-datagram-size", "70000"],
            &["--udp-datagram-size", "256 to 65507"],
        ),
        (&["--udp-sessions", "0"], &["--udp-sessions", "1 to"]),
        (
            &["--udp-new-sessions", "x"],
            &["--udp-new-sessions", "whole number"],
        ),
        (&["--multicast", "x"], &["--multicast", "GROUP%INTERFACE"]),
        (
            &["--multicast", "239.1.2.3", "--listen", "udp://127.0.0.1:0"],
            &["--multicast", "udp://0.0.0.0:PORT"],
        ),
        (
            &["--multicast", "10.0.0.1", "--listen", "udp://0.0.0.0:0"],
            &["multicast", "239.1.2.3"],
        ),
        (
            &["--proxy-protocol", "10.0.0.1/8"],
            &["--proxy-protocol", "10.0.0.1/8", "bits"],
        ),
        (
            &["--proxy-protocol", "10.0.0.0/8", "--listen", "unix:///x"],
            &["--proxy-protocol", "TCP"],
        ),
        (&["tcp://127.0.0.1:0"], &["tcp://127.0.0.1:0"]),
    ] {
        let mut all = vec!["serve"];
        all.extend(arguments);
        check(&all, words);
    }
}

#[test]
fn a_bad_url_is_named_and_what_is_valid_is_said() {
    for (url, words) in [
        ("127.0.0.1:7600", &["tcp"][..]),
        (
            "tpc://127.0.0.1:7600",
            &["`tpc`", "tcp, tls, unix, ws, wss, ws+unix or udp, and fd"],
        ),
        ("quic://127.0.0.1:7600", &["`quic`", "not supported"]),
        ("https://127.0.0.1:7600", &["ws:// or wss://"]),
        ("mem://x", &["mem://", "no other process"]),
        ("udp://127.0.0.1:0?codec=lines", &["raw or msgi"]),
        ("fd://a", &["scheme", "tcp, tls"]),
        ("tcp://127.0.0.1", &["port"]),
        ("tcp://127.0.0.1:99999", &["port", "65535"]),
        (
            "tcp://127.0.0.1:0?codec=morse",
            &["`morse`", "msgi, raw, lines or length"],
        ),
        ("tcp://127.0.0.1:0?speed=high", &["speed"]),
        ("unix://relative", &["path"]),
    ] {
        let mut all = words.to_vec();
        all.extend(["--listen", url]);
        check(&["serve", "--listen", url], &all);
    }
    check(
        &["serve", "--listen", "fd://a?scheme=tcp"],
        &["fd://a", "LISTEN_FDS"],
    );
    let said = refused(&["serve", "--listen", "tcp://user:password@127.0.0.1:0"], 2);
    assert!(!said.contains("password"), "{said}");
    // Nobody can listen at what the program does not take.
    let said = refused(&["serve", "--listen", "x://y"], 2);
    assert!(!said.contains("mem"), "{said}");
}

#[test]
fn a_bad_configuration_file_is_named_with_the_key() {
    let folder = std::env::temp_dir().join(format!("netsys-usage-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("bad.toml");
    let path = path.to_str().unwrap();
    for (content, words) in [
        (
            "max-conections = 3",
            &["max-conections", "max-connections", "idle-timeout"][..],
        ),
        ("idle-timeout = 30", &["idle-timeout", "`30`", "500ms"]),
        (
            "max-connections = [1]",
            &["max-connections", "expected one"],
        ),
        (
            "max-connections = 1.5",
            &["max-connections", "expected one"],
        ),
        ("listen = []", &["listen", "list of strings"]),
        (
            "listen = [\"tcp://a:1\", 3.5]",
            &["listen", "list of strings"],
        ),
        ("listen = \"foo://a:1\"", &["listen", "`foo`", "tcp"]),
        (
            "handler = \"x\"",
            &["handler", "`x`", "echo, broadcast, chat or sink"],
        ),
        ("reliable = \"maybe\"", &["reliable", "on or off"]),
        ("session-rate = 1000", &["session-rate", "1000msg"]),
        (
            "when-rate-exceeded = \"never\"",
            &["when-rate-exceeded", "wait, drop or disconnect"],
        ),
        ("memory-budget = \"much\"", &["memory-budget", "64KiB"]),
        ("resume-timeout = 5", &["resume-timeout", "500ms"]),
        ("nodelay = \"maybe\"", &["nodelay", "on or off"]),
        ("dashboard = \":80\"", &["dashboard", "off"]),
        ("config = \"x\"", &["config", "unknown key"]),
        ("a = 1\nb = ", &["line 2"]),
    ] {
        std::fs::write(path, content).unwrap();
        let mut all = words.to_vec();
        all.push("bad.toml");
        check(&["serve", "--config", path], &all);
        // What the command line overrides has to be valid too.
        check(
            &[
                "serve",
                "--config",
                path,
                "--max-connections",
                "1",
                "--handler",
                "echo",
            ],
            &all,
        );
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_token_needs_a_codec_that_carries_it() {
    let lines = "tcp://127.0.0.1:0?codec=lines";
    check(
        &["serve", "--token", "x", "--listen", lines],
        &["--token", "msgi", lines],
    );
}

#[test]
fn with_json_errors_are_json() {
    let said = refused(&["serve", "--json", "--handler", "x"], 2);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["event"], "error");
    assert!(said["text"].as_str().unwrap().contains("--handler"));
}

#[test]
fn a_taken_port_fails_and_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", taken.local_addr().unwrap());
    let said = refused(
        &["serve", "--listen", "tcp://127.0.0.1:0", "--listen", &url],
        1,
    );
    assert!(said.contains(&url), "{said}");
}
