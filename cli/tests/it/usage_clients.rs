//! Wrong usage of the commands that are no servers.

use crate::usage::check;

#[test]
fn bad_options_of_clients_are_named() {
    let url = "tcp://127.0.0.1:7600";
    for (arguments, words) in [
        (&["connect"][..], &["<URL>", "netsys connect --help"][..]),
        (&["connect", "7600"], &["URL", "`7600`", "tcp"]),
        (&["connect", "tcp://127.0.0.1:0"], &["port 0", "1 to 65535"]),
        (&["connect", "mem://x"], &["mem://", "no other process"]),
        (&["connect", "wss://127.0.0.1:0/x"], &["port 0"]),
        (&["connect", "fd://0?scheme=tcp"], &["`fd`", "tcp, tls"]),
        (
            &["connect", url, "--ca", "x"],
            &["--ca", "tls:// or wss://"],
        ),
        (&["connect", url, "--insecure"], &["--insecure", "tls://"]),
        (
            &[
                "connect",
                "tls://127.0.0.1:7600",
                "--ca",
                "/nonexistent.pem",
            ],
            &["/nonexistent.pem"],
        ),
        (
            &["connect", "tls://127.0.0.1:7600", "--cert", "x"],
            &["--key", "missing"],
        ),
        (
            &["connect", "tls://127.0.0.1:7600", "--pin", "xyz"],
            &["pin"],
        ),
        (&["connect", url, "--plain"], &["--plain", "ws://"]),
        (
            &["connect", url, "--header", "A: b"],
            &["--header", "ws://"],
        ),
        (
            &["connect", "ws://127.0.0.1:7601", "--header", "secret"],
            &["--header", "a colon"],
        ),
        (
            &["connect", "ws://127.0.0.1:7601", "--plain", "--msgi"],
            &["--plain", "--msgi"],
        ),
        (
            &["connect", "ws://127.0.0.1:7601", "--plain", "--request"],
            &["--request", "--plain"],
        ),
        (
            &["connect", url, "--udp-datagram-size", "1KiB"],
            &["--udp-datagram-size", "udp://"],
        ),
        (
            &["connect", "udp://127.0.0.1:7602", "--ping", "1s"],
            &["--ping", "PING"],
        ),
        (
            &["connect", "udp://127.0.0.1:7602", "--token", "x"],
            &["--token", "msgi"],
        ),
        (
            &["connect", url, "--proxy", "ftp://x"],
            &["--proxy", "http, socks5 or socks5h"],
        ),
        (
            &["connect", "unix:///x", "--proxy", "http://127.0.0.1:1"],
            &["--proxy", "TCP"],
        ),
        (
            &["connect", "udp://127.0.0.1:7602?codec=msgi", "--reliable"],
            &["--reliable", "msgi", "UDP"],
        ),
        (
            &["bench", "tcp://127.0.0.1:7600?codec=lines", "--reliable"],
            &["--reliable", "msgi"],
        ),
        (
            &["connect", "ws://127.0.0.1:7601", "--plain", "--reliable"],
            &["--reliable", "--plain"],
        ),
        (
            &["bench", "udp://127.0.0.1:7602", "--mode", "broadcast"],
            &["broadcast", "UDP"],
        ),
        (
            &["bench", "udp://127.0.0.1:7602", "--mode", "connect"],
            &["connect", "codec=msgi"],
        ),
        (
            &["bench", "udp://127.0.0.1:7602", "--size", "8"],
            &["--size", "16 to 65507"],
        ),
        (
            &[
                "bench",
                "ws://127.0.0.1:7601",
                "--mode",
                "broadcast",
                "--plain",
            ],
            &["broadcast", "--plain"],
        ),
        (
            &["cert", "--only", "x"],
            &["--only", "ca, server or client"],
        ),
        (&["cert", "--days", "0"], &["--days", "1..=3650"]),
        (&["cert", "--name", "a b"], &["--name", "`a b`", "DNS name"]),
        (&["cert", "--client-name", ""], &["--client-name"]),
        (
            &["cert", "/nonexistent", "--only", "server"],
            &["/nonexistent", "--ca"],
        ),
        (
            &["connect", url, "--binary", "--hex"],
            &["--binary", "--hex"],
        ),
        (
            &["connect", url, "--binary", "--json"],
            &["--binary", "--json"],
        ),
        (&["connect", url, "--timeout", "5"], &["--timeout", "500ms"]),
        (&["connect", url, "--wait", "5"], &["--wait", "500ms"]),
        (
            &["connect", url, "--message-size-limit", "2GiB"],
            &["--message-size-limit", "1GiB"],
        ),
        (&["connect", url, "--client-id", ""], &["--client-id"]),
        (
            &[
                "connect",
                "tcp://127.0.0.1:7600?codec=lines",
                "--token",
                "x",
            ],
            &["--token", "msgi"],
        ),
        (
            &[
                "connect",
                "tcp://127.0.0.1:7600?codec=raw",
                "--client-id",
                "x",
            ],
            &["--client-id", "msgi"],
        ),
        (
            &["connect", "tcp://127.0.0.1:7600?codec=raw", "--request"],
            &["--request", "msgi"],
        ),
        (&["bench"], &["<URL>", "netsys bench --help"]),
        (
            &["bench", url, "--mode", "x"],
            &["--mode", "echo, oneway, connect, idle or broadcast"],
        ),
        (
            &["bench", url, "--connections", "0"],
            &["--connections", "from 1"],
        ),
        (&["bench", url, "--window", "0"], &["--window", "from 1"]),
        (&["bench", url, "--rate", "x"], &["--rate", "from 1"]),
        (
            &["bench", url, "--threads", "0"],
            &["--threads", "1 to 1024"],
        ),
        (
            &["bench", url, "--duration", "0"],
            &["--duration", "more than 0"],
        ),
        (
            &["bench", url, "--duration", "10"],
            &["--duration", "500ms"],
        ),
        (&["bench", url, "--warmup", "x"], &["--warmup", "500ms"]),
        (&["bench", url, "--size", "2GiB"], &["--size", "1GiB"]),
        (
            &["bench", url, "--rate", "5", "--window", "5"],
            &["--rate", "--window"],
        ),
        (
            &["bench", url, "--mode", "idle", "--size", "5"],
            &["--size", "idle"],
        ),
        (
            &["bench", url, "--mode", "connect", "--rate", "5"],
            &["--rate", "connect"],
        ),
        (
            &["bench", url, "--mode", "oneway", "--window", "5"],
            &["--window", "oneway"],
        ),
        (
            &["bench", url, "--mode", "broadcast", "--size", "5"],
            &["--size", "16"],
        ),
        (
            &["bench", "tcp://127.0.0.1:7600?codec=raw"],
            &["codec=raw", "msgi, lines or length"],
        ),
        (&["bench", url, "--compare", "x"], &["--compare"]),
        (
            &["completions", "ksh"],
            &["`ksh`", "bash, elvish, fish, powershell or zsh"],
        ),
        (&["man", "frob"], &["`frob`", "serve, connect, bench"]),
    ] {
        check(arguments, words);
    }
}
