use std::net::Ipv4Addr;

use super::*;
use proptest::prelude::*;

fn parse(url: &str) -> Endpoint {
    Endpoint::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"))
}

fn error(url: &str) -> ConfigError {
    match Endpoint::parse(url) {
        Ok(endpoint) => panic!("{url} was read as {endpoint:?}"),
        Err(error) => error,
    }
}

#[test]
fn urls_come_back_in_canonical_form() {
    let table = [
        ("tcp://127.0.0.1:8080", "tcp://127.0.0.1:8080"),
        ("TCP://LocalHost:0/", "tcp://localhost:0"),
        ("tcp://[0:0::1]:80", "tcp://[::1]:80"),
        ("tcp://example.org.:80", "tcp://example.org.:80"),
        ("tcp://my_service:00080", "tcp://my_service:80"),
        ("tcp://h:1?codec=msgi", "tcp://h:1"),
        ("tcp://h:1?", "tcp://h:1"),
        ("tcp://h:1/?codec=raw", "tcp://h:1?codec=raw"),
        ("tcp://h:1?codec=%6cines", "tcp://h:1?codec=lines"),
        ("TLS://h:1?codec=msgi", "tls://h:1"),
        ("tls://h:1?codec=raw", "tls://h:1?codec=raw"),
        ("ws://h", "ws://h:80"),
        ("wss://h/", "wss://h:443"),
        ("WS://H:1/Chat?Room=1&x", "ws://h:1/Chat?Room=1&x"),
        ("ws://[::1]:1?q", "ws://[::1]:1/?q"),
        ("ws+unix:///run/a.sock", "ws+unix:///run/a.sock"),
        ("ws+unix:///a%20b:/chat?x=1", "ws+unix:///a%20b:/chat?x=1"),
        ("udp://h:1?codec=raw", "udp://h:1"),
        ("udp://h:1?codec=msgi", "udp://h:1?codec=msgi"),
        ("unix:///run/a.sock", "unix:///run/a.sock"),
        (
            "unix:///a%20b%3Fc?codec=length",
            "unix:///a%20b%3Fc?codec=length",
        ),
        ("unix:///tmp/ä b", "unix:///tmp/%C3%A4%20b"),
        ("mem://Test-1", "mem://Test-1"),
    ];
    for (url, canonical) in table {
        assert_eq!(parse(url).to_string(), canonical, "{url}");
    }
}

#[test]
fn hosts_are_addresses_or_names() {
    let host = |url: &str| match parse(url).address() {
        Address::Tcp { host, .. } => host.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(host("tcp://[::1]:1"), Host::Ip(Ipv6Addr::LOCALHOST.into()));
    assert_eq!(
        host("tcp://127.0.0.1:1"),
        Host::Ip(Ipv4Addr::LOCALHOST.into())
    );
    assert_eq!(host("tcp://A.example:1"), Host::Name("a.example".into()));
}

#[test]
fn unix_paths_are_decoded() {
    let endpoint = parse("unix:///tmp/a%20b%23c");
    assert_eq!(*endpoint.address(), Address::Unix("/tmp/a b#c".into()));
    assert_eq!(endpoint.codec(), Some(CodecKind::Msgi));
}

#[test]
fn each_error_names_the_bad_part_and_what_is_valid() {
    let table = [
        ("localhost:80", "URL: `localhost:80`", SCHEMES),
        ("http://h:1", "scheme: `http`", SCHEMES),
        ("tcp://h", "port: missing after `h`", "0 to 65535"),
        ("tcp://h:", "port: missing after `h:`", "0 to 65535"),
        ("tcp://[::1]", "port: missing after `[::1]`", "0 to 65535"),
        ("tcp://h:65536", "port: `65536`", "0 to 65535"),
        ("tcp://h:+1", "port: `+1`", "0 to 65535"),
        ("tcp://h:http", "port: `http`", "0 to 65535"),
        ("tcp://:80", "host: ``", "0.0.0.0"),
        ("tcp://::1:80", "host: `::1:80`", "brackets"),
        ("tcp://[::1:80", "host: `[::1:80`", "closing bracket"),
        ("tcp://[::1]80", "port: `80`", "colon"),
        (
            "tcp://[fe80::1%25eth0]:1",
            "host: `[fe80::1%25eth0]`",
            "zone",
        ),
        ("tcp://[1.2.3.4]:1", "host: `[1.2.3.4]`", "IPv6"),
        ("tcp://127.1:80", "host: `127.1`", "four decimal"),
        ("tcp://a.0x7f:80", "host: `a.0x7f`", "four decimal"),
        ("tcp://1.2.3.256:80", "host: `1.2.3.256`", "four decimal"),
        ("tcp://a..b:80", "host: `a..b`", "DNS name"),
        ("tcp://bücher.example:80", "host: `bücher.example`", "xn--"),
        ("tcp://a%2eb:80", "host: `a%2eb`", "DNS name"),
        ("tcp://h:1/chat", "path: `/chat`", "no path"),
        ("tcp://h:1#top", "fragment: `top`", "none"),
        (
            "tcp://h:1?codec=json",
            "codec: `json`",
            "msgi, raw, lines or length",
        ),
        ("tcp://h:1?codec", "codec: ``", "msgi, raw, lines or length"),
        ("tcp://h:1?speed=9", "option: `speed`", "codec"),
        ("tcp://h:1?codec=raw&", "option: ``", "codec"),
        ("tcp://h:1?codec=raw&codec=raw", "codec: `raw`", "once"),
        ("tcp://h:1?codec=%f", "codec: `%f`", "hexadecimal"),
        ("unix://run/a.sock", "host: `run`", "unix:///path"),
        ("unix:///", "path: `/`", "unix:///path"),
        ("unix:///a/", "path: `/a/`", "unix:///path"),
        ("unix:///a%00b", "path: `/a\\0b`", "unix:///path"),
        ("unix:///a%zz", "path: `/a%zz`", "hexadecimal"),
        ("unix:///a%FF", "path: `/a%FF`", "UTF-8"),
        ("tls://h", "port: missing after `h`", "0 to 65535"),
        ("tls://h:1/x", "path: `/x`", "tls takes no path"),
        ("ws://h:1/a b", "path: `/a b`", "percent-encode"),
        ("ws://h:1/ü", "path: `/ü`", "percent-encode"),
        ("ws://h:1#a", "fragment: `a`", "none"),
        ("ws+unix://h/a", "host: `h`", "ws+unix:///path"),
        ("ws+unix:///:/a", "path: `/`", "absolute"),
        ("udp://h:1?codec=lines", "codec: `lines`", "raw or msgi"),
        ("udp://h", "port: missing after `h`", "0 to 65535"),
        ("mem://", "name: ``", "letters"),
        ("mem://a:1", "name: `a:1`", "letters"),
        (
            "mem://a?codec=raw",
            "option: `codec`",
            "mem takes no options",
        ),
        ("tcp://h:1\n", "URL: `tcp://h:1\\n`", "control"),
    ];
    for (url, names, expects) in table {
        let error = error(url);
        let text = error.to_string();
        assert_eq!(error.code(), ErrorCode::InvalidConfiguration, "{url}");
        assert!(
            text.starts_with(names) && text.contains(expects),
            "{url}: {text}"
        );
        assert!(!text.contains('\n'), "{text}");
    }
}

#[test]
fn planned_transports_are_not_supported_rather_than_unknown() {
    for scheme in PLANNED_SCHEMES {
        let error = error(&format!("{scheme}://h:1"));
        assert_eq!(error.code(), ErrorCode::NotSupported);
        assert!(error.to_string().contains(SCHEMES), "{error}");
    }
}

#[test]
fn errors_never_show_user_information() {
    for url in [
        "tcp://user:secret@h:1",
        "user:secret@h:1",
        "secret@h://x",
        "tcp://h:1#secret@x",
        "tcp://h:1?token=secret@x",
    ] {
        let text = error(url).to_string();
        assert!(!text.contains("secret"), "{text}");
    }
    let long = error(&format!("tcp://h:{}", "9".repeat(1000)));
    assert!(long.to_string().len() < 200, "{long}");
}

#[test]
fn constructors_check_like_the_parser() {
    assert_eq!(Endpoint::tcp("::1", 80).ok(), Some(parse("tcp://[::1]:80")));
    assert_eq!(
        Endpoint::tcp("[::1]", 80).ok(),
        Some(parse("tcp://[::1]:80"))
    );
    assert!(Endpoint::tcp("a b", 80).is_err());
    assert_eq!(Endpoint::unix("/a b").ok(), Some(parse("unix:///a%20b")));
    assert!(Endpoint::unix("relative").is_err());
    assert!(Endpoint::memory("a/b").is_err());
    assert!(parse("mem://a").with_codec(CodecKind::Raw).is_err());
    let address = SocketAddr::from(([127, 0, 0, 1], 7));
    assert_eq!(Endpoint::from(address), parse("tcp://127.0.0.1:7"));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(url in ".*", rest in "[\\[\\]:/?#%&=.@a0]{0,24}") {
        let _ = Endpoint::parse(&url);
        for scheme in ["tcp", "unix", "mem"] {
            if let Ok(endpoint) = Endpoint::parse(&format!("{scheme}://{rest}")) {
                let again = Endpoint::parse(&endpoint.to_string());
                prop_assert_eq!(again.ok(), Some(endpoint));
            }
        }
    }

    #[test]
    fn every_endpoint_survives_its_url(
        path in "/[^\\x00/][^\\x00]{0,20}",
        address: SocketAddr,
        codec in proptest::sample::select(CodecKind::ALL),
    ) {
        let endpoints = [Endpoint::unix(path), Ok(Endpoint::from(address))];
        for endpoint in endpoints.into_iter().flatten() {
            let endpoint = endpoint.with_codec(codec).expect("a byte stream");
            let again = Endpoint::parse(&endpoint.to_string());
            prop_assert_eq!(again.ok(), Some(endpoint));
        }
    }
}
