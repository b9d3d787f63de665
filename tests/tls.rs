//! Servers and clients over `tls://`: who they are to each other, and what becomes of those who are not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use network_system::tls::{ClientAuth, TlsAuthorities, TlsClient, TlsIdentity, TlsServer};
use network_system::{Client, ErrorCode, Message, ReconnectPolicy, Server, Session};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    fn identity(&self, name: &str) -> TlsIdentity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        TlsIdentity::pem(certificate.pem(), key.serialize_pem())
    }

    fn trusted(&self) -> TlsAuthorities {
        TlsAuthorities::pem(self.0.pem())
    }

    fn client(&self) -> network_system::tls::TlsClientBuilder {
        TlsClient::builder().authorities(self.trusted())
    }
}

/// An echo server whose answers to requests name the client.
async fn serve(tls: TlsServer) -> (Server, String) {
    let server = Server::builder()
        .listen("tls://127.0.0.1:0")
        .tls(tls)
        .on_request(|session: Session, message: Message| async move {
            let peer = session
                .tls()
                .and_then(|tls| tls.peer_certificate().cloned());
            let name = peer.and_then(|peer| peer.common_name());
            let mut answer = name.unwrap_or_default().into_bytes();
            answer.extend_from_slice(message.payload());
            Ok(Message::binary(answer))
        })
        .build()
        .expect("a configuration");
    server.start().await.expect("a server");
    let url = server.urls().remove(0);
    (server, url)
}

fn client(url: &str, tls: TlsClient) -> Client {
    Client::builder()
        .endpoint(url)
        .tls(tls)
        .reconnect(ReconnectPolicy::disabled())
        .build()
        .expect("a configuration")
}

async fn ask(client: &Client, question: &[u8]) -> Vec<u8> {
    let session = client.session().expect("a session");
    let question = Message::binary(question.to_vec());
    let answer = session.request(question, Duration::from_secs(10)).await;
    answer.expect("an answer").payload().to_vec()
}

#[tokio::test]
async fn a_session_knows_who_its_peer_is_and_carries_messages_of_any_size() {
    let authority = Authority::new();
    let tls = TlsServer::builder(authority.identity("127.0.0.1"))
        .client_auth(ClientAuth::Required(authority.trusted()))
        .build()
        .expect("TLS");
    let (server, url) = serve(tls).await;
    let own = authority.client().identity(authority.identity("someone"));
    let client = client(&url, own.build().expect("TLS"));
    client.connect().await.expect("a connection");
    assert_eq!(ask(&client, b"!").await, b"someone!");
    for size in [0, 4_097, 100_000, 1_000_000] {
        let question: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        assert_eq!(ask(&client, &question).await[7..], question);
    }
    let session = client.session().expect("a session");
    let info = session.tls().expect("TLS");
    assert_eq!(info.alpn(), Some(&b"msgi/1"[..]));
    client.stop().await;
    server.stop().await.expect("an end");
}

#[tokio::test]
async fn whoever_is_not_trusted_learns_why_and_others_are_served() {
    let authority = Authority::new();
    let tls = TlsServer::builder(authority.identity("127.0.0.1"))
        .client_auth(ClientAuth::Required(authority.trusted()))
        .build()
        .expect("TLS");
    let (server, url) = serve(tls).await;
    let known = || authority.client().identity(authority.identity("known"));
    // It expects another name, trusts another authority, or shows no certificate.
    let refused = [
        known().server_name("other.example"),
        known().authorities(Authority::new().trusted()),
        authority.client(),
    ];
    for tls in refused {
        let stranger = client(&url, tls.build().expect("TLS"));
        let error = stranger.connect().await.expect_err("not trusted");
        assert_eq!(error.code(), ErrorCode::TlsHandshakeFailed, "{error}");

        let friend = client(&url, known().build().expect("TLS"));
        friend.connect().await.expect("a connection");
        assert_eq!(ask(&friend, b"").await, b"known");
        friend.stop().await;
    }
    // One that does not speak TLS is told by an alert, and the connection ends in order, however much it has
    // sent: a reset could overtake the alert.
    let address = url.trim_start_matches("tls://");
    let mut plain = TcpStream::connect(address).await.expect("a connection");
    plain
        .write_all(&b"GET / HTTP/1.1\r\n\r\n".repeat(5_000))
        .await
        .expect("sent");
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).await.expect("an end");
    assert_eq!(answer.first(), Some(&21), "an alert");
    for _ in 0..10 {
        plain.write_all(b"still talking").await.expect("no reset");
        tokio::task::yield_now().await;
    }
    drop(plain);
    server.stop().await.expect("an end");
}

#[tokio::test]
async fn a_running_server_takes_new_certificates_and_keeps_its_sessions() {
    let authority = Authority::new();
    let other = Authority::new();
    let tls = TlsServer::builder(authority.identity("127.0.0.1"));
    let tls = tls.build().expect("TLS");
    let (server, url) = serve(tls.clone()).await;
    let before = client(&url, authority.client().build().expect("TLS"));
    before.connect().await.expect("a connection");

    tls.replace([other.identity("127.0.0.1")])
        .expect("new ones");
    let after = client(&url, other.client().build().expect("TLS"));
    after.connect().await.expect("a connection");
    let old = client(&url, authority.client().build().expect("TLS"));
    let error = old.connect().await.expect_err("another authority now");
    assert_eq!(error.code(), ErrorCode::TlsHandshakeFailed);
    assert_eq!(ask(&before, b"still here").await, b"still here");
    assert_eq!(ask(&after, b"new").await, b"new");
    for client in [before, after] {
        client.stop().await;
    }
    server.stop().await.expect("an end");
}

/// A server of another make, which resets the connection of a client that it does not trust.
fn reset_untrusted(authority: &Authority, reset: std::sync::mpsc::Sender<()>) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .expect("a verifier");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, &authority.0).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a configuration");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let url = format!(
        "tls://{}?codec=lines",
        listener.local_addr().expect("an address")
    );
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut tls = rustls::ServerConnection::new(Arc::new(config)).expect("TLS");
        let _ = tls.complete_io(&mut stream).expect_err("not trusted");
        while tls.wants_write() {
            tls.write_tls(&mut stream).expect("an alert");
        }
        let socket = socket2::Socket::from(stream);
        socket.set_linger(Some(Duration::ZERO)).expect("an option");
        drop(socket);
        let _ = reset.send(());
    });
    url
}

#[tokio::test]
async fn a_client_that_is_refused_while_it_writes_learns_why() {
    let authority = Authority::new();
    let (reset, was_reset) = std::sync::mpsc::channel();
    let url = reset_untrusted(&authority, reset);
    let was_reset = Arc::new(Mutex::new(was_reset));
    let client = Client::builder()
        .endpoint(&url)
        .tls(authority.client().build().expect("TLS"))
        .reconnect(ReconnectPolicy::disabled())
        .on_connect(move |session: Session| {
            let was_reset = Arc::clone(&was_reset);
            async move {
                // Nothing is read meanwhile, so that the write is the first to notice.
                let _ = was_reset.lock().expect("a channel").recv();
                let _ = session.try_send("too late");
            }
        })
        .build()
        .expect("a configuration");
    let _ = client.connect().await;
    let reason = async {
        while client.close_reason().is_none() {
            tokio::task::yield_now().await;
        }
        client.close_reason()
    };
    let reason = tokio::time::timeout(Duration::from_secs(10), reason).await;
    let reason = reason.expect("in time").expect("a reason");
    assert_eq!(
        reason.code(),
        Some(ErrorCode::TlsHandshakeFailed),
        "{reason}"
    );
    client.stop().await;
}
