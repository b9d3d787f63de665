use std::io::ErrorKind;
use std::net::IpAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::handler::BoxFuture;

fn proxy(url: &str) -> Proxy {
    Proxy::parse(url).expect(url)
}

fn name(name: &str) -> Host {
    Host::Name(name.to_owned())
}

/// What to do on one connection to a proxy: expect these bytes, answer with those.
type Script = Vec<(Vec<u8>, Vec<u8>)>;

/// A proxy that follows a script, once, and then hangs up.
async fn scripted(script: Script) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let addr = listener.local_addr().expect("an address");
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        for (expected, answer) in script {
            let mut request = vec![0; expected.len()];
            stream.read_exact(&mut request).await.expect("a request");
            assert_eq!(
                request.escape_ascii().to_string(),
                expected.escape_ascii().to_string()
            );
            // The client may have seen enough.
            let _ = stream.write_all(&answer).await;
        }
    });
    (addr, task)
}

/// Runs `proxy` against a script; gives what can be read behind the tunnel.
async fn through(proxy: &Proxy, host: &Host, script: Script) -> io::Result<Vec<u8>> {
    let (addr, task) = scripted(script).await;
    let stream = TcpStream::connect(addr).await.expect("a connection");
    let tunnel = tunnel(proxy, stream, host, 7600).await;
    let result = match tunnel {
        Ok(mut stream) => {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.expect("the rest");
            Ok(rest)
        }
        Err(error) => Err(error),
    };
    task.await.expect("the script");
    result
}

const CONNECT: &[u8] = b"CONNECT example.org:7600 HTTP/1.1\r\nHost: example.org:7600\r\n\r\n";

async fn answered(answer: &[u8]) -> io::Result<Vec<u8>> {
    let script = vec![(CONNECT.to_vec(), answer.to_vec())];
    through(&proxy("http://127.0.0.1"), &name("example.org"), script).await
}

#[test]
fn urls_are_read_with_their_default_ports() {
    for (url, canonical) in [
        ("http://proxy.example", "http://proxy.example:80"),
        ("HTTP://Proxy.Example:3128/", "http://proxy.example:3128"),
        ("socks5://127.0.0.1", "socks5://127.0.0.1:1080"),
        ("socks5h://[::1]", "socks5h://[::1]:1080"),
        ("socks5h://[::1]:9050", "socks5h://[::1]:9050"),
        ("http://user@host", "http://host:80"),
        ("http://user:pa%40ss%2Fword@host:1", "http://host:1"),
        ("http://user:p@ss@host:1", "http://host:1"),
    ] {
        assert_eq!(proxy(url).to_string(), canonical, "{url}");
    }
}

#[test]
fn credentials_are_decoded() {
    let credentials = proxy("socks5://us%3Aer:p%40ss%3A:@host").credentials;
    let credentials = credentials.expect("some");
    assert_eq!(
        (&*credentials.user, &*credentials.password),
        ("us:er", "p@ss::")
    );
}

#[test]
fn nothing_shows_a_user_or_a_password() {
    let proxy = proxy("http://alice:secret@host:1").bypass("a");
    let shown = format!("{proxy} {proxy:?} {proxy:#?}");
    assert!(
        !shown.contains("alice") && !shown.contains("secret"),
        "{shown}"
    );
    for url in [
        "alice:secret@host",
        "ftp://alice:secret@host",
        "socks4://alice:secret@host",
        "http://alice:secret@",
        "http://alice:secret@host:0",
        "http://alice:secret@host:x",
        "http://alice:secret@ho st",
        "http://alice:secret%zz@host",
        "http://alice:secret%ff@host",
        "http://alice:sec/ret@host",
        "http://alice:secret?@host",
        "http://alice:secret@host/path",
        "http://alice:secret%0d%0a@host",
        "http://al%3aice:secret@host",
        "http://:secret@host",
        "socks5://alice:@host",
        "http://alice:secret\u{7}@@@host:",
        &format!("http://alice:{}@host", "secret".repeat(50)),
    ] {
        let error = Proxy::parse(url).expect_err(url);
        let shown = format!("{error} {error:?}");
        assert!(
            !shown.contains("alice") && !shown.contains("sec"),
            "{url}: {shown}"
        );
        assert!(shown.contains("proxy"), "{url}: {shown}");
    }
}

#[test]
fn kinds_that_are_known_are_not_supported_rather_than_invalid() {
    for url in ["https://host", "socks4://host", "socks4a://host"] {
        let error = Proxy::parse(url).expect_err(url);
        assert_eq!(error.code(), ErrorCode::NotSupported, "{url}");
    }
    for url in [
        "",
        "host",
        "host:1",
        "socks://host",
        "http://",
        "http://:80",
        "http://[::1",
    ] {
        let error = Proxy::parse(url).expect_err(url);
        assert_eq!(error.code(), ErrorCode::InvalidConfiguration, "{url}");
    }
}

#[test]
fn the_environment_names_the_proxy_and_the_exceptions() {
    let from = |set: &[(&str, &str)]| {
        Proxy::from_variables(|name| {
            let found = set.iter().find(|(variable, _)| *variable == name)?;
            Some(Ok(found.1.to_owned()))
        })
    };
    let url = |set: &[(&str, &str)]| {
        let proxy = from(set).expect("valid");
        proxy.map(|proxy| proxy.to_string())
    };
    assert_eq!(url(&[]), None);
    assert_eq!(url(&[("ALL_PROXY", ""), ("https_proxy", " ")]), None);
    // Meant for other things, and set by whoever sends requests to CGI programs.
    assert_eq!(
        url(&[("HTTP_PROXY", "http://evil"), ("http_proxy", "http://evil")]),
        None
    );
    let all = ("ALL_PROXY", "socks5://all");
    assert_eq!(url(&[all]).as_deref(), Some("socks5://all:1080"));
    let https = ("HTTPS_PROXY", "host:3128");
    assert_eq!(url(&[all, https]).as_deref(), Some("http://host:3128"));
    let lower = ("https_proxy", "http://lower");
    assert_eq!(
        url(&[all, https, lower]).as_deref(),
        Some("http://lower:80")
    );

    let proxy = from(&[all, ("NO_PROXY", "localhost,10.0.0.0/8")]);
    let proxy = proxy.expect("valid").expect("set");
    assert!(proxy.applies_to(&name("example.org")));
    assert!(!proxy.applies_to(&name("localhost")));
    assert!(!proxy.applies_to(&Host::Ip(IpAddr::from([10, 0, 0, 1]))));

    let error = from(&[("HTTPS_PROXY", "ftp://user:secret@host")]).expect_err("no such proxy");
    assert!(error.to_string().starts_with("HTTPS_PROXY: "), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
    let not_unicode = Proxy::from_variables(|_| Some(Err(())));
    assert!(not_unicode.is_err());
}

#[tokio::test]
async fn connect_leaves_what_the_host_sends() {
    for head in [
        &b"HTTP/1.1 200 Connection established\r\n\r\n"[..],
        b"HTTP/1.0 200\r\nContent-Length: 5\r\nProxy-Agent: x\r\n\r\n",
        b"HTTP/1.1 204 No Content\nA: b\n\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        let answer = [head, b"\r\nhello\r\n\r\n"].concat();
        let rest = answered(&answer).await.expect("a tunnel");
        assert_eq!(rest, b"\r\nhello\r\n\r\n", "{}", head.escape_ascii());
    }
}

#[tokio::test]
async fn an_answer_in_pieces_is_put_together() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let addr = listener.local_addr().expect("an address");
    let serve = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        for byte in b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nhello" {
            stream.write_all(&[*byte]).await.expect("written");
            tokio::task::yield_now().await;
        }
        // The request is unread, so an end now would be a reset.
        stream
            .read_exact(&mut vec![0; CONNECT.len()])
            .await
            .expect("a request");
    };
    let connect = async {
        let stream = TcpStream::connect(addr).await.expect("a connection");
        let proxy = proxy("http://127.0.0.1");
        let mut stream = tunnel(&proxy, stream, &name("example.org"), 7600)
            .await
            .expect("a tunnel");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.expect("the rest");
        assert_eq!(rest, b"hello");
    };
    tokio::join!(serve, connect);
}

#[tokio::test]
async fn credentials_go_to_the_proxy() {
    let request = b"CONNECT [::1]:7600 HTTP/1.1\r\nHost: [::1]:7600\r\n\
        Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n";
    let script = vec![(request.to_vec(), b"HTTP/1.1 200 OK\r\n\r\n".to_vec())];
    let proxy = proxy("http://Aladdin:open%20sesame@127.0.0.1");
    let host = Host::Ip("::1".parse().expect("an address"));
    through(&proxy, &host, script).await.expect("a tunnel");
}

#[tokio::test]
async fn refusals_say_which_proxy_and_why() {
    for (status, kind, said) in [
        (
            "407 Proxy Authentication Required",
            ErrorKind::PermissionDenied,
            "wants a user",
        ),
        (
            "403 Forbidden",
            ErrorKind::PermissionDenied,
            "403 Forbidden",
        ),
        ("502 Bad Gateway", ErrorKind::Other, "502 Bad Gateway"),
        ("504 Gateway Timeout", ErrorKind::TimedOut, "504"),
        ("302 Found", ErrorKind::Other, "302"),
        ("101 Switching Protocols", ErrorKind::Other, "101"),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\nsorry");
        let error = answered(answer.as_bytes()).await.expect_err(status);
        assert_eq!(error.kind(), kind, "{error}");
        let text = error.to_string();
        assert!(
            text.contains(said) && text.contains("http://127.0.0.1:80"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn what_is_not_http_is_refused_within_bounds() {
    let fields = "A: b\r\n".repeat(65);
    let many = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
    let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(1_000_000));
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(20);
    for (answer, kind) in [
        ("", ErrorKind::UnexpectedEof),
        ("HTTP/1.1 200 OK\r\n", ErrorKind::UnexpectedEof),
        ("SSH-2.0-OpenSSH_9.6\r\n", ErrorKind::InvalidData),
        ("\0\0\0\0", ErrorKind::InvalidData),
        ("HTTP/2 200 OK\r\n\r\n", ErrorKind::InvalidData),
        ("HTTP/1.1 OK\r\n\r\n", ErrorKind::InvalidData),
        (
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            ErrorKind::InvalidData,
        ),
        ("HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", ErrorKind::InvalidData),
        (&many, ErrorKind::InvalidData),
        (&endless, ErrorKind::InvalidData),
        (&interim, ErrorKind::InvalidData),
    ] {
        let shown = &answer[..answer.len().min(40)];
        let error = answered(answer.as_bytes()).await.expect_err(shown);
        assert_eq!(error.kind(), kind, "{shown:?}: {error}");
    }
}

/// A reply of SOCKS5 with a code and an address.
fn reply(code: u8, address: &[u8]) -> Vec<u8> {
    [&[5, code, 0][..], address].concat()
}

const ANY_ADDRESS: &[u8] = &[1, 0, 0, 0, 0, 0, 0];

fn by_name() -> Vec<u8> {
    [&[5, 1, 0, 3, 11][..], b"example.org", &[0x1d, 0xb0]].concat()
}

#[tokio::test]
async fn socks_leaves_what_the_host_sends() {
    for address in [
        ANY_ADDRESS,
        &[
            4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x1d, 0xb0,
        ],
        &[&[3, 9][..], b"localhost", &[0, 1]].concat(),
        &[3, 0, 0, 0],
    ] {
        let last = [reply(0, address), b"hello".to_vec()].concat();
        let script = vec![(vec![5, 1, 0], vec![5, 0]), (by_name(), last)];
        let rest = through(&proxy("socks5h://127.0.0.1"), &name("example.org"), script).await;
        assert_eq!(rest.expect("a tunnel"), b"hello");
    }
}

#[tokio::test]
async fn socks_authenticates_when_asked() {
    let login = [&[1, 5][..], b"alice", &[6], b"secret"].concat();
    let proxy = proxy("socks5h://alice:secret@127.0.0.1");
    let script = vec![
        (vec![5, 2, 0, 2], vec![5, 2]),
        (login.clone(), vec![1, 0]),
        (by_name(), reply(0, ANY_ADDRESS)),
    ];
    through(&proxy, &name("example.org"), script)
        .await
        .expect("a tunnel");
    let script = vec![(vec![5, 2, 0, 2], vec![5, 2]), (login, vec![1, 1])];
    let error = through(&proxy, &name("example.org"), script)
        .await
        .expect_err("wrong password");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn socks_refusals_and_garbage_are_told_apart() {
    let greeting = || (vec![5, 1, 0], vec![5, 0]);
    let replied = |bytes: Vec<u8>| vec![greeting(), (by_name(), bytes)];
    for (script, kind) in [
        (replied(reply(1, ANY_ADDRESS)), ErrorKind::Other),
        (replied(reply(2, ANY_ADDRESS)), ErrorKind::PermissionDenied),
        (
            replied(reply(3, ANY_ADDRESS)),
            ErrorKind::NetworkUnreachable,
        ),
        (replied(reply(4, ANY_ADDRESS)), ErrorKind::HostUnreachable),
        (replied(reply(5, ANY_ADDRESS)), ErrorKind::ConnectionRefused),
        (replied(reply(6, ANY_ADDRESS)), ErrorKind::TimedOut),
        (replied(reply(99, ANY_ADDRESS)), ErrorKind::InvalidData),
        (replied(reply(0, &[9, 9, 9])), ErrorKind::InvalidData),
        (
            replied(reply(0, &[3, 2, 0xff, 0xfe, 0, 0])),
            ErrorKind::InvalidData,
        ),
        (replied(reply(0, &[3, 255, 1, 2])), ErrorKind::UnexpectedEof),
        (replied(vec![4, 90, 0, 0, 0, 0]), ErrorKind::InvalidData),
        (replied(vec![5, 0]), ErrorKind::UnexpectedEof),
        (
            vec![(vec![5, 1, 0], b"HTTP/1.1 400".to_vec())],
            ErrorKind::InvalidData,
        ),
        (
            vec![(vec![5, 1, 0], vec![5, 255])],
            ErrorKind::PermissionDenied,
        ),
        (
            vec![(vec![5, 1, 0], vec![5, 2])],
            ErrorKind::PermissionDenied,
        ),
        (vec![(vec![5, 1, 0], vec![5, 1])], ErrorKind::InvalidData),
        (vec![(vec![5, 1, 0], vec![])], ErrorKind::UnexpectedEof),
    ] {
        let shown = format!("{:?}", script.last());
        let error = through(&proxy("socks5h://127.0.0.1"), &name("example.org"), script).await;
        let error = error.expect_err(&shown);
        assert_eq!(error.kind(), kind, "{shown}: {error}");
    }
}

/// Knows one name, and counts on being asked for no other.
struct Only(&'static str, Vec<IpAddr>);

impl Resolver for Only {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        assert_eq!(host, self.0);
        Box::pin(async move { Ok(self.1.iter().map(|ip| SocketAddr::new(*ip, port)).collect()) })
    }
}

#[tokio::test]
async fn socks5_resolves_names_here_and_socks5h_there() {
    let resolver = Only("example.org", vec![IpAddr::from([192, 0, 2, 7])]);
    let by_address = vec![5, 1, 0, 1, 192, 0, 2, 7, 0x1d, 0xb0];
    for (scheme, request) in [("socks5", by_address), ("socks5h", by_name())] {
        let script = vec![
            (vec![5, 1, 0], vec![5, 0]),
            (request, reply(0, ANY_ADDRESS)),
        ];
        let (addr, task) = scripted(script).await;
        let proxy = proxy(&format!("{scheme}://{addr}"));
        let host = name("example.org");
        let stream = connect(&proxy, &host, 7600, &resolver, TcpStream::connect).await;
        stream.expect("a tunnel");
        task.await.expect("the script");
    }
}

#[tokio::test]
async fn a_name_of_the_proxy_is_resolved_here() {
    let script = vec![(CONNECT.to_vec(), b"HTTP/1.1 200 OK\r\n\r\n".to_vec())];
    let (addr, task) = scripted(script).await;
    let resolver = Only("proxy.example", vec![addr.ip()]);
    let proxy = proxy(&format!("http://proxy.example:{}", addr.port()));
    let host = name("example.org");
    let stream = connect(&proxy, &host, 7600, &resolver, TcpStream::connect).await;
    stream.expect("a tunnel");
    task.await.expect("the script");
}

#[tokio::test]
async fn the_next_address_is_tried_when_the_proxy_cannot_reach_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let addr = listener.local_addr().expect("an address");
    let serve = async {
        for code in [4, 0] {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            stream.read_exact(&mut [0; 3]).await.expect("a greeting");
            stream.write_all(&[5, 0]).await.expect("written");
            stream.read_exact(&mut [0; 10]).await.expect("a request");
            stream
                .write_all(&reply(code, ANY_ADDRESS))
                .await
                .expect("written");
        }
    };
    let ips = vec![IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2])];
    let resolver = Only("example.org", ips);
    let proxy = proxy(&format!("socks5://{addr}"));
    let host = name("example.org");
    let connect = connect(&proxy, &host, 7600, &resolver, TcpStream::connect);
    let ((), stream) = tokio::join!(serve, connect);
    stream.expect("a tunnel");
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_not_a_host_that_refuses() {
    let addr = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        listener.local_addr().expect("an address")
    };
    let proxy = proxy(&format!("http://{addr}"));
    let host = name("example.org");
    let resolver = Only("none", Vec::new());
    let error = connect(&proxy, &host, 7600, &resolver, TcpStream::connect).await;
    let error = error.expect_err("nobody there");
    assert_eq!(error.kind(), ErrorKind::Other, "{error}");
    assert!(error.to_string().contains(&proxy.to_string()), "{error}");
}
