#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;

use super::testing::{Authority, Leaf};
use super::{Alpn, ClientAuth, TlsAuthorities, TlsClient, TlsIdentity, TlsServer, TlsVersion};
use crate::endpoint::Host;
use crate::error::{ConfigError, ErrorCode};
use crate::session::link::LinkError;
use crate::transport::tls::testing::{End, Handshake, Pipe, finish, handshake, open};

/// A directory that is removed at the end of a test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let name = format!("network-system-tls-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn write(&self, leaf: &Leaf) -> (PathBuf, PathBuf) {
        let paths = (self.0.join("chain.pem"), self.0.join("key.pem"));
        std::fs::write(&paths.0, &leaf.chain).unwrap();
        std::fs::write(&paths.1, &leaf.key).unwrap();
        paths
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn text(error: &ConfigError) -> String {
    assert_eq!(error.code(), ErrorCode::InvalidConfiguration);
    error.to_string()
}

fn start_error(leaf: &Leaf) -> String {
    text(&TlsServer::from_pem(&leaf.chain, &leaf.key).unwrap_err())
}

/// The certificate that a client which asks for `name` sees.
fn shown(server: &TlsServer, client: &TlsClient, name: &str) -> [u8; 32] {
    let done = handshake(server, client, name);
    done.server_result.unwrap();
    done.client_result.unwrap();
    done.client.info().peer_certificate().unwrap().sha256()
}

fn in_use(server: &TlsServer) -> [u8; 32] {
    server.certificates()[0].sha256()
}

#[test]
fn a_server_does_not_start_with_what_its_clients_would_refuse() {
    let authority = Authority::new();
    let good = authority.leaf(&["localhost"]);
    let other = authority.leaf(&["localhost"]);

    let error = start_error(&authority.expired());
    assert!(
        error.contains("expired on") && error.contains("2020"),
        "{error}"
    );
    let error = start_error(&authority.not_yet_valid());
    assert!(error.contains("not valid before"), "{error}");
    let error = start_error(&Leaf {
        chain: good.chain.clone(),
        key: other.key,
    });
    assert!(error.contains("does not belong"), "{error}");
    let garbled = good.chain.replace("\n-----END", "!\n-----END");
    let error = start_error(&Leaf {
        chain: garbled,
        key: good.key.clone(),
    });
    assert!(error.contains("not valid PEM"), "{error}");
    let error = start_error(&Leaf {
        chain: "hello".into(),
        key: good.key.clone(),
    });
    assert!(error.contains("holds no certificate"), "{error}");
    let not_x509 = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    let error = start_error(&Leaf {
        chain: not_x509.into(),
        key: good.key.clone(),
    });
    assert!(error.contains("not X.509"), "{error}");
    let error = start_error(&Leaf {
        chain: good.chain.clone(),
        key: good.chain.clone(),
    });
    assert!(error.contains("holds no private key"), "{error}");
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\naGVsbG8=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let error = start_error(&Leaf {
        chain: good.chain,
        key: encrypted.into(),
    });
    assert!(error.contains("is encrypted"), "{error}");
}

#[test]
fn errors_and_debug_texts_show_no_key() {
    let authority = Authority::new();
    let good = authority.leaf(&["localhost"]);
    let garbled = good.key.replace("-----END PRIVATE KEY-----", "=!");
    let error = start_error(&Leaf {
        chain: good.chain.clone(),
        key: garbled,
    });
    let secret = good.key.lines().nth(1).unwrap();
    let texts = [
        error,
        format!("{:?}", good.identity()),
        format!("{:?}", good.server()),
        format!("{:?}", authority.client().identity(good.identity())),
    ];
    for text in texts {
        assert!(!text.contains(&secret[..16]), "{text}");
    }
}

#[test]
fn errors_name_the_file() {
    let authority = Authority::new();
    let directory = Directory::new("names");
    let (chain, key) = directory.write(&authority.expired());
    let error = text(&TlsServer::from_pem_files(&chain, &key).unwrap_err());
    assert!(error.contains(&*chain.to_string_lossy()), "{error}");
    let missing = directory.0.join("missing.pem");
    let error = text(&TlsServer::from_pem_files(&chain, &missing).unwrap_err());
    assert!(
        !error.contains("missing.pem"),
        "the chain is read first: {error}"
    );
    let error = text(&TlsServer::from_pem_files(&missing, &key).unwrap_err());
    assert!(error.contains("cannot read certificate"), "{error}");
    assert!(error.contains("missing.pem"), "{error}");
    let error = TlsClient::builder()
        .authorities(TlsAuthorities::pem_file(&missing))
        .build();
    let error = text(&error.unwrap_err());
    assert!(error.contains("missing.pem"), "{error}");
}

#[test]
fn reload_takes_new_files_and_keeps_the_old_ones_when_they_are_bad() {
    let authority = Authority::new();
    let directory = Directory::new("reload");
    let first = authority.leaf(&["localhost"]);
    let (chain, key) = directory.write(&first);
    let server = TlsServer::from_pem_files(&chain, &key).unwrap();
    let client = authority.client().build().unwrap();
    let before = in_use(&server);
    assert_eq!(shown(&server, &client, "localhost"), before);

    let refused = |path: &Path, content: &str, reason: &str| {
        let old = std::fs::read(path).unwrap();
        std::fs::write(path, content).unwrap();
        let error = text(&server.reload().unwrap_err());
        assert!(error.contains(reason), "{error}");
        assert_eq!(in_use(&server), before);
        assert_eq!(shown(&server, &client, "localhost"), before);
        std::fs::write(path, old).unwrap();
    };
    refused(&chain, "-----BEGIN CERTIFICATE-----\n", "PEM");
    refused(&chain, &authority.expired().chain, "expired");
    refused(&chain, &authority.not_yet_valid().chain, "not valid before");
    let second = authority.leaf(&["localhost"]);
    refused(&chain, &second.chain, "does not belong");
    refused(&key, &second.key, "does not belong");

    directory.write(&second);
    server.reload().unwrap();
    assert_ne!(in_use(&server), before);
    assert_eq!(shown(&server, &client, "localhost"), in_use(&server));
}

#[test]
fn replace_takes_all_or_nothing() {
    let authority = Authority::new();
    let server = authority.leaf(&["localhost"]).server();
    let handle = server.clone();
    let before = in_use(&server);
    let good = authority.leaf(&["localhost"]);
    let bad = authority.expired();
    let error = handle.replace([good.identity(), bad.identity()]);
    assert!(text(&error.unwrap_err()).contains("expired"));
    assert!(text(&handle.replace([]).unwrap_err()).contains("certificate"));
    assert_eq!(in_use(&server), before);
    handle.replace([good.identity()]).unwrap();
    assert_ne!(in_use(&server), before);
    // What was put in its place is what is read again.
    let now = in_use(&server);
    server.reload().unwrap();
    assert_eq!(in_use(&server), now);
}

#[test]
fn clients_get_the_certificate_of_the_name_they_ask_for() {
    let authority = Authority::new();
    let leaves = [
        &["localhost", "127.0.0.1"][..],
        &["a.example", "*.b.example"],
        &["c.b.example"],
    ]
    .map(|names| authority.leaf(names));
    let server = TlsServer::builder(leaves[0].identity())
        .add_certificate(leaves[1].identity())
        .add_certificate(leaves[2].identity())
        .build()
        .unwrap();
    let client = authority
        .client()
        .session_resumption(false)
        .build()
        .unwrap();
    let certificates = server.certificates();
    let index = |name: &str| {
        let hash = shown(&server, &client, name);
        certificates
            .iter()
            .position(|c| c.sha256() == hash)
            .unwrap()
    };
    assert_eq!(index("localhost"), 0);
    assert_eq!(index("127.0.0.1"), 0, "no name: the default");
    assert_eq!(index("a.example"), 1);
    assert_eq!(index("A.Example."), 1);
    assert_eq!(index("x.b.example"), 1);
    assert_eq!(index("c.b.example"), 2, "the exact name comes first");
    // A wildcard stands for one label, and an unknown name gets the default, which the client refuses.
    for name in ["x.y.b.example", "b.example", "unknown.example"] {
        let refused = handshake(&server, &client, name).client_result.unwrap_err();
        assert!(
            refused.text.contains("not valid for name"),
            "{}",
            refused.text
        );
    }
    let asked = handshake(&server, &client, "a.example");
    assert_eq!(asked.server.info().server_name(), Some("a.example"));
    assert_eq!(asked.client.info().server_name(), None);
    let nameless = handshake(&server, &client, "127.0.0.1");
    assert_eq!(nameless.server.info().server_name(), None);
}

#[test]
fn a_client_refuses_a_certificate_for_another_name_or_of_another_authority() {
    let authority = Authority::new();
    let server = authority.leaf(&["localhost"]).server();
    let client = authority.client().build().unwrap();
    for host in ["other.example", "127.0.0.1"] {
        let Handshake {
            server_result,
            client_result,
            ..
        } = handshake(&server, &client, host);
        let error = client_result.unwrap_err();
        assert_eq!(error.code, ErrorCode::TlsHandshakeFailed);
        assert!(error.text.contains("not valid for name"), "{}", error.text);
        let error = server_result.unwrap_err();
        assert!(
            error.text.contains("alert"),
            "the server is told: {}",
            error.text
        );
    }
    let stranger = Authority::new().client().build().unwrap();
    let error = handshake(&server, &stranger, "localhost").client_result;
    let error = error.unwrap_err();
    assert!(error.text.contains("UnknownIssuer"), "{}", error.text);
    // The name can be another than the host; it is checked all the same.
    let named = authority.client().server_name("localhost").build().unwrap();
    assert!(
        handshake(&server, &named, "other.example")
            .client_result
            .is_ok()
    );
    let named = authority.client().server_name("other.example").build();
    let refused = handshake(&server, &named.unwrap(), "localhost").client_result;
    assert!(refused.is_err());
}

#[test]
fn a_client_refuses_a_certificate_that_is_not_valid_now() {
    let authority = Authority::new();
    let client = authority.client().build().unwrap();
    for (leaf, reason) in [
        (authority.expired(), "expired"),
        (authority.not_yet_valid(), "not valid yet"),
    ] {
        let (one, other) = Pipe::pair();
        let server = End::server_with(one, leaf.unchecked());
        let client = End::client(other, &client, "localhost", Alpn::Stream);
        let error = finish(server, client).client_result.unwrap_err();
        assert_eq!(error.code, ErrorCode::TlsHandshakeFailed);
        assert!(error.text.contains(reason), "{}", error.text);
        // Nor does it show such a certificate itself.
        let own = authority.client().identity(leaf.identity()).build();
        assert!(text(&own.unwrap_err()).contains("of the chain"));
    }
}

#[test]
fn dangerous_accepts_any_certificate_but_not_another_pinned_key() {
    let server = Authority::new().leaf(&["localhost"]).server();
    let dangerous = TlsClient::builder().dangerous_accept_any_certificate();
    let done = handshake(
        &server,
        &dangerous.clone().build().unwrap(),
        "other.example",
    );
    done.client_result.unwrap();
    done.server_result.unwrap();
    let pinned = dangerous.pin("00".repeat(32)).build().unwrap();
    let error = handshake(&server, &pinned, "other.example").client_result;
    assert!(error.unwrap_err().text.contains("pinned"));
}

#[test]
fn one_of_the_pinned_keys_must_be_the_servers() {
    let authority = Authority::new();
    let server = authority.leaf(&["localhost"]).server();
    let hash = server.certificates()[0].public_key_sha256();
    let hex: String = hash.iter().map(|byte| format!("{byte:02X}")).collect();
    let base64 = STANDARD.encode(hash);
    let wrong = "ab".repeat(32);
    for right in [
        hex,
        format!("sha256/{base64}"),
        format!("sha256//{base64}"),
        base64,
    ] {
        let client = authority.client().pin(wrong.clone()).pin(right);
        let client = client.build().unwrap();
        assert!(
            handshake(&server, &client, "localhost")
                .client_result
                .is_ok()
        );
        // The name is still checked.
        assert!(
            handshake(&server, &client, "x.example")
                .client_result
                .is_err()
        );
    }
    let client = authority.client().pin(wrong).build().unwrap();
    let error = handshake(&server, &client, "localhost").client_result;
    assert!(error.unwrap_err().text.contains("none of the pinned ones"));
    for malformed in ["", "sha256/", "abcd", &"zz".repeat(32), &"ab".repeat(33)] {
        let error = authority.client().pin(malformed).build().unwrap_err();
        assert!(text(&error).contains("pin"));
    }
}

#[test]
fn required_client_certificates_are_required_and_identify_the_session() {
    let authority = Authority::new();
    let clients = Authority::new();
    let server = TlsServer::builder(authority.leaf(&["localhost"]).identity())
        .client_auth(ClientAuth::Required(clients.trusted()))
        .build()
        .unwrap();
    let person = authority.client().identity(clients.person().identity());
    let done = handshake(&server, &person.build().unwrap(), "localhost");
    done.server_result.unwrap();
    let peer = done.server.info().peer_certificate().unwrap().clone();
    assert_eq!(peer.common_name().as_deref(), Some("someone"));
    assert_eq!(peer.dns_names(), ["device.example"]);
    assert_eq!(peer.uris(), ["spiffe://example/someone"]);
    assert_eq!(peer.emails(), ["someone@example.org"]);
    assert!(peer.ip_addresses().is_empty());
    assert_eq!(peer.chain().len(), 1);
    assert!(peer.not_before() < peer.not_after());

    let done = only_tls12(&server, &authority.tls12());
    assert!(done.server_result.is_err() && done.client_result.is_err());

    // One without, and one of another authority.
    let without = authority.client();
    let stranger = authority.client().identity(authority.person().identity());
    for client in [without, stranger] {
        let mut done = handshake(&server, &client.build().unwrap(), "localhost");
        let error = done.server_result.unwrap_err();
        assert_eq!(error.code, ErrorCode::TlsHandshakeFailed);
        // A TLS 1.3 client is done before the server has judged; its first read tells.
        done.client_result.unwrap();
        let error = done.client.read_all().unwrap_err();
        let code = LinkError::code_of(&error);
        assert_eq!(code, Some(ErrorCode::TlsHandshakeFailed), "{error}");
    }
}

#[test]
fn optional_client_certificates_may_be_missing_but_not_wrong() {
    let authority = Authority::new();
    let server = TlsServer::builder(authority.leaf(&["localhost"]).identity())
        .client_auth(ClientAuth::Optional(authority.trusted()))
        .build()
        .unwrap();
    let (end, _client) = open(&server, &authority.client().build().unwrap());
    assert!(end.info().peer_certificate().is_none());
    let person = authority.client().identity(authority.person().identity());
    let (end, _client) = open(&server, &person.build().unwrap());
    assert!(end.info().peer_certificate().is_some());
    let stranger = Authority::new().person();
    let stranger = authority.client().identity(stranger.identity()).build();
    let done = handshake(&server, &stranger.unwrap(), "localhost");
    assert!(done.server_result.is_err());
}

/// With a client that speaks TLS 1.2 only.
fn only_tls12(server: &TlsServer, client: &Arc<ClientConfig>) -> Handshake {
    let (one, other) = Pipe::pair();
    let server = End::server(one, server, Alpn::Stream);
    finish(server, End::client_with(other, Arc::clone(client)))
}

#[test]
fn versions_are_spoken_from_the_minimum_on() {
    let authority = Authority::new();
    let leaf = authority.leaf(&["localhost"]);
    let client = authority.client().build().unwrap();
    let both = leaf.server();
    let done = handshake(&both, &client, "localhost");
    assert_eq!(done.server.info().version(), TlsVersion::V1_3);
    assert!(done.client.info().cipher_suite().starts_with("TLS13_"));

    let old = authority.tls12();
    let done = only_tls12(&both, &old);
    done.server_result.unwrap();
    done.client_result.unwrap();
    assert_eq!(done.server.info().version(), TlsVersion::V1_2);
    assert_eq!(done.client.info().version(), TlsVersion::V1_2);
    assert!(done.client.info().cipher_suite().contains("ECDHE"));

    let strict = TlsServer::builder(leaf.identity()).min_version(TlsVersion::V1_3);
    let done = only_tls12(&strict.build().unwrap(), &old);
    let error = done.server_result.unwrap_err();
    assert_eq!(error.code, ErrorCode::TlsHandshakeFailed);
    assert!(
        done.client_result
            .unwrap_err()
            .text
            .contains("ProtocolVersion")
    );
}

#[test]
fn the_protocol_is_agreed_when_both_name_one() {
    let authority = Authority::new();
    let leaf = authority.leaf(&["localhost"]);
    let client = authority.client().build().unwrap();
    let silent = authority.client().alpn::<&str>([]).build().unwrap();
    let foreign = authority.client().alpn(["other/1"]).build().unwrap();
    let (server, end) = open(&leaf.server(), &client);
    assert_eq!(server.info().alpn(), Some(&b"msgi/1"[..]));
    assert_eq!(end.info().alpn(), Some(&b"msgi/1"[..]));
    let (server, _end) = open(&leaf.server(), &silent);
    assert_eq!(server.info().alpn(), None);
    let error = handshake(&leaf.server(), &foreign, "localhost").client_result;
    assert!(error.unwrap_err().text.contains("NoApplicationProtocol"));

    let (one, other) = Pipe::pair();
    let server = End::server(one, &leaf.server(), Alpn::Http);
    let done = finish(server, End::client(other, &client, "localhost", Alpn::Http));
    assert_eq!(done.server.info().alpn(), Some(&b"http/1.1"[..]));
    let empty = authority.client().alpn([""]).build().unwrap_err();
    assert!(text(&empty).contains("alpn"));
}

#[test]
fn sessions_are_resumed_unless_switched_off() {
    let authority = Authority::new();
    let leaf = authority.leaf(&["localhost"]);
    let resumes = |connect: &dyn Fn() -> Handshake| {
        let mut first = connect();
        assert!(!first.client.info().is_resumed());
        // The tickets of TLS 1.3 come after the handshake.
        let _ = first.client.read_all().unwrap();
        let second = connect();
        second.client_result.unwrap();
        second.server_result.unwrap();
        let resumed = second.client.info().is_resumed();
        assert_eq!(second.server.info().is_resumed(), resumed);
        resumed
    };
    let on = leaf.server();
    let off = TlsServer::builder(leaf.identity()).session_resumption(false);
    let off = off.build().unwrap();
    let client = authority.client();
    let with = client.clone().build().unwrap();
    let without = client.session_resumption(false).build().unwrap();
    assert!(resumes(&|| handshake(&on, &with, "localhost")));
    assert!(!resumes(&|| handshake(&on, &without, "localhost")));
    let old = authority.tls12();
    assert!(resumes(&|| only_tls12(&on, &old)));
    let with = authority.client().build().unwrap();
    assert!(!resumes(&|| handshake(&off, &with, "localhost")));
    let old = authority.tls12();
    assert!(!resumes(&|| only_tls12(&off, &old)));
}

#[test]
fn after_a_reload_every_client_is_judged_again() {
    let authority = Authority::new();
    let leaf = authority.leaf(&["localhost"]);
    let server = TlsServer::builder(leaf.identity())
        .client_auth(ClientAuth::Required(authority.trusted()))
        .build()
        .unwrap();
    let client = authority.client().identity(authority.person().identity());
    let client = client.build().unwrap();
    let resumed = || {
        let mut done = handshake(&server, &client, "localhost");
        let _ = done.client.read_all().unwrap();
        let info = done.server.info();
        // The certificate is known either way.
        assert!(info.peer_certificate().is_some());
        info.is_resumed()
    };
    assert!(!resumed());
    assert!(resumed());
    server.reload().unwrap();
    assert!(!resumed());
}

#[test]
fn names_of_servers_are_addresses_or_dns_names() {
    let client = Authority::new().client();
    for good in ["example.org", "example.org.", "127.0.0.1", "::1"] {
        assert!(client.clone().server_name(good).build().is_ok(), "{good}");
    }
    for bad in ["", "a b", "-", "https://example.org", "a..b"] {
        let error = client.clone().server_name(bad).build().unwrap_err();
        assert!(text(&error).contains("server_name"), "{bad}");
    }
    let client = client.build().unwrap();
    assert!(client.server_name(&Host::Name("h.".into())).is_ok());
}

#[test]
fn a_chain_and_its_key_may_be_in_one_file() {
    let leaf = Authority::new().leaf(&["localhost"]);
    let both = format!("{}{}", leaf.key, leaf.chain);
    assert!(TlsServer::from_pem(&both, &both).is_ok());
    let identity = TlsIdentity::pem(&both, &both);
    assert!(TlsServer::builder(identity).build().is_ok());
}
