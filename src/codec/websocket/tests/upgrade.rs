use proptest::prelude::*;

use crate::codec::websocket::upgrade::UpgradeLimits;
use crate::codec::websocket::upgrade::client::{ClientUpgrade, UpgradeError};
use crate::codec::websocket::upgrade::origin::{host_allowed, origin_allowed};
use crate::codec::websocket::upgrade::request::{
    UpgradeRejection, UpgradeRequest, parse_request, response_accept, response_refuse,
};

/// The example of RFC 6455 section 1.2, line by line.
const LINES: [&str; 9] = [
    "GET /chat?room=1 HTTP/1.1",
    "Host: server.example.com",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Origin: http://example.com",
    "Sec-WebSocket-Protocol: chat, superchat",
    "Sec-WebSocket-Protocol: other",
    "Sec-WebSocket-Version: 13",
];

const NOBODY: [&str; 0] = [];

fn head(lines: &[&str]) -> Vec<u8> {
    let mut head = lines.join("\r\n").into_bytes();
    head.extend_from_slice(b"\r\n\r\n");
    head
}

fn parse(bytes: &[u8]) -> Result<Option<(UpgradeRequest, usize)>, UpgradeRejection> {
    parse_request(bytes, &UpgradeLimits::default())
}

fn status(bytes: &[u8]) -> u16 {
    parse(bytes).map_or_else(|rejection| rejection.status, |_| 0)
}

#[test]
fn the_request_of_the_rfc_is_read_and_answered() {
    let bytes = [&head(&LINES)[..], b"\x82\x80"].concat();
    let (request, len) = parse(&bytes).expect("valid").expect("complete");
    assert_eq!(len, bytes.len() - 2);
    assert_eq!((request.path(), request.query()), ("/chat", Some("room=1")));
    assert_eq!(request.host(), Some("server.example.com"));
    assert_eq!(request.origin(), Some("http://example.com"));
    assert_eq!(request.subprotocols(), ["chat", "superchat", "other"]);
    assert_eq!(request.header("UPGRADE"), Some("websocket"));
    assert_eq!(request.header("Missing"), None);
    assert_eq!(request.headers().count(), 8);
    let response = response_accept(&request, Some("chat"), Some("permessage-deflate"));
    let expected = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "Sec-WebSocket-Protocol: chat",
        "Sec-WebSocket-Extensions: permessage-deflate",
    ];
    assert_eq!(response, head(&expected));
}

#[test]
fn a_request_is_waited_for_and_not_misjudged_before_it_is_complete() {
    let bytes = head(&LINES);
    for len in 0..bytes.len() {
        assert!(matches!(parse(&bytes[..len]), Ok(None)), "{len}");
    }
}

#[test]
fn what_cannot_become_a_request_is_refused_at_once() {
    for (bytes, expected) in [
        (&b"P"[..], 405),
        (b"GEX", 405),
        (b"get", 400),
        (b"\x16", 400),
        (b"MSGI", 400),
        (b"\r\n", 400),
        (b"GET h", 400),
        (b"GET *", 400),
        (b"GET / HTTP/1.0\r\n", 505),
        (b"GET / HTTP/2.0\r\n", 505),
        (b"GET / FTP", 505),
        (b"GET / HTTP/1.1\r\nbad name: x\r\n", 400),
        (b"GET / HTTP/1.1\r\n folded: x\r\n", 400),
        (b"GET / HTTP/1.1\r\nx: a\0\r\n", 400),
    ] {
        assert_eq!(
            status(bytes),
            expected,
            "{:?}",
            String::from_utf8_lossy(bytes)
        );
    }
}

/// Each case replaces the line that begins like it, or adds it.
#[test]
fn invalid_headers_are_refused() {
    for (line, expected) in [
        ("Host: ", 400),
        ("Host: two hosts", 400),
        ("Host: a/b", 400),
        ("Host: example.com:99999", 400),
        ("Host: [::1", 400),
        ("Upgrade: h2c", 426),
        ("Connection: keep-alive", 400),
        ("Sec-WebSocket-Key: ", 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZQ==", 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ", 400),
        ("Sec-WebSocket-Version: 8", 426),
        ("Sec-WebSocket-Version: 013", 426),
        ("Content-Length: 5", 400),
        ("Content-Length: -1", 400),
        ("Content-Length: ", 400),
        ("Content-Length: 0", 0),
        ("Transfer-Encoding: chunked", 400),
        ("Connection: keep-alive, upgrade", 0),
        ("Upgrade: h2c, WebSocket", 0),
        ("Host: [::1]:80", 0),
        ("X-Other: \u{fc}", 0),
    ] {
        let name = line.split(':').next().expect("a name");
        let mut lines: Vec<_> = LINES
            .into_iter()
            .filter(|known| !known.starts_with(name))
            .collect();
        lines.push(line);
        assert_eq!(status(&head(&lines)), expected, "{line}");
    }
    for (missing, expected) in [
        (1, 400),
        (2, 426),
        (3, 400),
        (4, 400),
        (5, 0),
        (6, 0),
        (8, 426),
    ] {
        let mut lines = LINES.to_vec();
        lines.remove(missing);
        assert_eq!(status(&head(&lines)), expected, "{}", LINES[missing]);
    }
    for twice in [1, 4, 5, 8] {
        let mut lines = LINES.to_vec();
        lines.push(LINES[twice]);
        assert_eq!(status(&head(&lines)), 400, "{}", LINES[twice]);
    }
}

#[test]
fn a_long_request_is_refused() {
    let long = format!("X-Long: {}", "x".repeat(8_000));
    let mut lines = LINES.to_vec();
    lines.push(&long);
    let bytes = head(&lines);
    assert_eq!(status(&bytes), 431);
    assert_eq!(status(&bytes[..8_192]), 431);
    assert_eq!(status(&bytes[..8_191]), 0);
    let limits = UpgradeLimits {
        max_bytes: bytes.len(),
        max_headers: 64,
    };
    assert!(matches!(parse_request(&bytes, &limits), Ok(Some(_))));
    let many = [&LINES[..], &["X-Many: x"; 57]].concat();
    assert_eq!(status(&head(&many)), 431);
    assert_eq!(status(&head(&many[..many.len() - 1])), 0);
}

#[test]
fn refusals_say_what_is_spoken_here() {
    let rejection = parse(&head(&["GET / HTTP/1.1", "Host: a"])).expect_err("no upgrade");
    let response = String::from_utf8(rejection.response()).expect("text");
    assert!(
        response.starts_with("HTTP/1.1 426 Upgrade Required\r\n"),
        "{response}"
    );
    for line in [
        "Connection: close, Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
    ] {
        assert!(response.contains(&format!("\r\n{line}\r\n")), "{response}");
    }
    let response = response_refuse(403, "no", &[("X-Why", "because"), ("X-Bad", "a\r\nb")]);
    let expected = [
        "HTTP/1.1 403 Forbidden",
        "Connection: close",
        "X-Why: because",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Length: 3",
    ];
    assert_eq!(response, [&head(&expected)[..], b"no\n"].concat());
}

#[test]
fn pages_of_other_hosts_may_not_come_in() {
    let allowed =
        |origin, host, loopback| origin_allowed(Some(origin), Some(host), loopback, &NOBODY);
    assert!(origin_allowed(None, Some("any.example"), true, &NOBODY));
    for loopback in [false, true] {
        assert!(!allowed("https://evil.example", "example.com", loopback));
        assert!(!allowed("https://evil.example", "localhost:7601", loopback));
        assert!(!allowed(
            "https://example.com.evil.example",
            "example.com",
            loopback
        ));
        assert!(!allowed("https://evilexample.com", "example.com", loopback));
        assert!(!allowed("null", "example.com", loopback));
        assert!(!allowed("", "example.com", loopback));
        assert!(!allowed(
            "chrome-extension://example.com",
            "example.com",
            loopback
        ));
        assert!(!allowed("http://user@example.com", "example.com", loopback));
        assert!(!allowed("http://example.com/path", "example.com", loopback));
    }
    assert!(allowed("https://example.com", "example.com", false));
    assert!(allowed("https://Example.com", "example.COM:7601", false));
    assert!(allowed("http://192.0.2.1:80", "192.0.2.1:7601", false));
}

#[test]
fn pages_of_this_machine_may_come_in_on_loopback_only() {
    for origin in [
        "http://localhost",
        "http://localhost:3000",
        "https://app.localhost",
        "http://127.0.0.1:8080",
        "http://127.1.2.3",
        "http://[::1]:8080",
    ] {
        assert!(
            origin_allowed(Some(origin), Some("localhost:7601"), true, &NOBODY),
            "{origin}"
        );
        let elsewhere = origin_allowed(Some(origin), Some("example.com"), false, &NOBODY);
        assert!(!elsewhere, "{origin}");
    }
    for origin in [
        "http://localhost.evil.example",
        "http://evillocalhost",
        "http://128.0.0.1",
        "http://.localhost",
    ] {
        assert!(
            !origin_allowed(Some(origin), Some("localhost:7601"), true, &NOBODY),
            "{origin}"
        );
    }
}

/// The page at `http://evil.example:7601` that resolves to 127.0.0.1.
#[test]
fn a_rebound_name_does_not_open_a_loopback_listener() {
    let (origin, host) = (Some("http://evil.example:7601"), Some("evil.example:7601"));
    assert!(!host_allowed(host, true, &NOBODY));
    assert!(!origin_allowed(origin, host, true, &NOBODY));
    assert!(host_allowed(host, false, &NOBODY));
    for host in [
        "localhost",
        "LOCALHOST.:7601",
        "a.localhost:1",
        "127.0.0.1:7601",
        "[::1]",
        "192.0.2.7",
    ] {
        assert!(host_allowed(Some(host), true, &NOBODY), "{host}");
    }
    for host in [
        "",
        "localhost.evil.example",
        "evil-localhost",
        "127.0.0.1.evil.example",
        "a b",
        "[::1]x",
    ] {
        assert!(!host_allowed(Some(host), true, &NOBODY), "{host}");
    }
    assert!(!host_allowed(None, false, &NOBODY));
}

#[test]
fn the_list_of_origins_is_exact() {
    let list = ["https://example.com", "http://other.example:8080", "null"];
    let allowed = |origin| origin_allowed(Some(origin), Some("host.example"), false, &list);
    for origin in [
        "https://example.com",
        "HTTPS://EXAMPLE.com:443",
        "http://other.example:8080",
        "null",
    ] {
        assert!(allowed(origin), "{origin}");
    }
    for origin in [
        "http://example.com",
        "https://example.com:444",
        "http://other.example",
        "https://a.example.com",
    ] {
        assert!(!allowed(origin), "{origin}");
    }
    assert!(origin_allowed(
        Some("https://any.example"),
        None,
        true,
        &["*"]
    ));
    // A proxy on this machine passes the name on that the page has.
    assert!(host_allowed(Some("example.com"), true, &list));
    assert!(!host_allowed(Some("evil.example"), true, &list));
    assert!(host_allowed(Some("any.example"), true, &["*"]));
}

fn exchange(subprotocols: &[&str], extensions: Option<&str>) -> (ClientUpgrade, UpgradeRequest) {
    let mut upgrade = ClientUpgrade::new();
    let bytes = upgrade
        .request(
            "example.com:7601",
            "/a?b=c",
            subprotocols,
            &[("X-Token", "secret")],
            extensions,
        )
        .expect("valid");
    let (request, len) = parse(&bytes).expect("valid").expect("complete");
    assert_eq!(len, bytes.len());
    (upgrade, request)
}

#[test]
fn client_and_server_agree() {
    let (upgrade, request) = exchange(&["msgi.v1", "other"], Some("permessage-deflate"));
    assert_eq!(request.path(), "/a");
    assert_eq!(request.header("x-token"), Some("secret"));
    assert_eq!(request.subprotocols(), ["msgi.v1", "other"]);
    assert_eq!(
        request.extensions().collect::<Vec<_>>(),
        ["permessage-deflate"]
    );
    let mut response = response_accept(&request, Some("msgi.v1"), Some("permessage-deflate"));
    let len = response.len();
    response.extend_from_slice(b"\x82\x00");
    let limits = UpgradeLimits::default();
    for cut in 0..len {
        assert_eq!(upgrade.judge_response(&response[..cut], &limits), Ok(None));
    }
    let (accepted, consumed) = upgrade
        .judge_response(&response, &limits)
        .expect("accepted")
        .expect("complete");
    assert_eq!(consumed, len);
    assert_eq!(accepted.subprotocol.as_deref(), Some("msgi.v1"));
    assert_eq!(accepted.extensions.as_deref(), Some("permessage-deflate"));
    assert_eq!(accepted.headers.len(), 5);
}

#[test]
fn answers_that_do_not_fit_are_refused() {
    let limits = UpgradeLimits::default();
    let (upgrade, request) = exchange(&["one"], None);
    let (other, _) = exchange(&["one"], None);
    let judge = |upgrade: &ClientUpgrade, bytes: &[u8]| upgrade.judge_response(bytes, &limits);
    let right = response_accept(&request, None, None);
    assert!(judge(&upgrade, &right).is_ok());
    assert!(judge(&other, &right).is_err());
    assert!(judge(&upgrade, &response_accept(&request, Some("two"), None)).is_err());
    assert!(judge(&upgrade, &response_accept(&request, Some("ONE"), None)).is_err());
    assert!(judge(&upgrade, &response_accept(&request, None, Some("x"))).is_err());
    let text = String::from_utf8(right).expect("text");
    for (from, to) in [
        ("Upgrade: websocket", "Upgrade: h2c"),
        ("Connection: Upgrade", "Connection: close"),
        ("HTTP/1.1", "HTTP/1.0"),
        ("HTTP/1.1", "SSH-2.0"),
        ("\r\nUpgrade:", "\r\nbad name:"),
    ] {
        let changed = text.replace(from, to);
        assert!(judge(&upgrade, changed.as_bytes()).is_err(), "{to}");
    }
    let twice = text.replacen("\r\nSec-", "\r\nSec-WebSocket-Accept: x\r\nSec-", 1);
    assert!(judge(&upgrade, twice.as_bytes()).is_err());
    for status in [200, 301, 401, 403, 503] {
        let error = judge(&upgrade, &response_refuse(status, "no", &[])).expect_err("refused");
        assert_eq!(error.status, status);
        assert!(error.text.contains(&status.to_string()));
    }
    let long = [&b"HTTP/1.1 101 x\r\nA: "[..], &[b'a'; 9_000]].concat();
    assert!(judge(&upgrade, &long).is_err());
    let many = [&b"HTTP/1.1 101 x\r\n"[..], &b"A: a\r\n".repeat(65), b"\r\n"].concat();
    assert!(judge(&upgrade, &many).is_err());
}

#[test]
fn nothing_breaks_the_request() {
    let attempt = |host: &str, path: &str, protocols: &[&str], headers: &[(&str, &str)]| {
        ClientUpgrade::new().request(host, path, protocols, headers, None)
    };
    assert!(attempt("a", "/", &[], &[]).is_ok());
    let refused: [Result<Vec<u8>, UpgradeError>; 10] = [
        attempt("a\r\nX: y", "/", &[], &[]),
        attempt("", "/", &[], &[]),
        attempt("a", "", &[], &[]),
        attempt("a", "/ HTTP/1.1\r\nX: y", &[], &[]),
        attempt("a", "/#fragment", &[], &[]),
        attempt("a", "/", &["a, b"], &[]),
        attempt("a", "/", &[""], &[]),
        attempt("a", "/", &[], &[("X", "a\r\nY: b")]),
        attempt("a", "/", &[], &[("X: a\r\nY", "b")]),
        attempt("a", "/", &[], &[("sec-websocket-key", "b")]),
    ];
    for refused in refused {
        assert_eq!(refused.expect_err("refused").status, 0);
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), start in 0..4_usize) {
        let start = [&b""[..], b"GET / HTTP/1.1\r\n", b"HTTP/1.1 101 x\r\n", b"permessage-deflate; "][start];
        crate::internal::read_websocket_upgrade(&[start, &bytes].concat());
    }
}
