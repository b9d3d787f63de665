//! TLS: what the classic classes promise beside what they promise everywhere.

use std::fs;
use std::path::PathBuf;

use network_system::tls::TlsVersion;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use super::*;

/// PEM files of an authority and of what it has issued for `localhost`.
struct Files {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");

        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &authority).expect("a certificate");

        let folder = std::env::temp_dir().join(format!("compat-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let write = |file: &str, text: String| {
            let path = folder.join(file);
            fs::write(&path, text).expect("a file");
            path
        };
        Files {
            ca: write("ca.pem", authority.pem()),
            cert: write("cert.pem", certificate.pem()),
            key: write("key.pem", key.serialize_pem()),
        }
    }

    fn server(&self, change: impl FnOnce(&mut secure_server_config)) -> secure_messaging_server {
        let mut config = secure_server_config::new(&self.cert, &self.key);
        config.base.bind_address = "127.0.0.1".to_owned();
        config.base.port = 0;
        change(&mut config);
        let server = secure_messaging_server::with_config("secure", config);
        server.set_message_handler(|session, message| {
            session.send_packet(message.to_vec()).expect("it is open");
        });
        server.start_server(()).expect("a free port");
        server
    }

    /// A client that trusts this authority.
    fn client(&self, change: impl FnOnce(&mut secure_client_config)) -> secure_messaging_client {
        let mut config = secure_client_config::new(true);
        config.ca_file = Some(self.ca.clone());
        change(&mut config);
        secure_messaging_client::with_config("SecureClient", config)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Some(folder) = self.ca.parent() {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

fn start(client: &secure_messaging_client, server: &secure_messaging_server) -> VoidResult {
    client.start_client("localhost", server.port())
}

#[test]
fn encrypted_messages_go_both_ways() {
    let files = Files::new("both-ways");
    let server = files.server(|config| config.min_tls_version = TlsVersion::V1_3);
    let (tell, connected) = seen();
    server.set_connect_handler(move |session: Arc<secure_session>| {
        let version = session.native().tls().map(|tls| tls.version());
        let _ = tell.send((session.client_id(), version));
    });
    let client = files.client(|_config| {});
    let (tell, messages) = seen();
    client.set_message_handler(move |message| {
        let _ = tell.send(message.to_vec());
    });
    start(&client, &server).expect("the server is there");
    client
        .send_packet(b"Encrypted Hello!".to_vec())
        .expect("it is connected");
    assert_eq!(messages.next(), b"Encrypted Hello!");
    assert_eq!(
        connected.next(),
        ("SecureClient".to_owned(), Some(TlsVersion::V1_3))
    );
    client.stop_client().expect("it stops");
    server.stop_server().expect("it runs");
}

#[test]
fn everything_else_of_the_configuration_is_obeyed_too() {
    let files = Files::new("base");
    let server = files.server(|config| config.base.message_size_limit = 100);
    assert_eq!(server.bind_address(), "127.0.0.1");
    server.set_timeout_seconds(7);
    assert_eq!(server.get_config().base.timeout.as_secs(), 7);

    let client = files.client(|config| config.base.message_size_limit = 50);
    start(&client, &server).expect("the server is there");
    let refused = client.send_message([0; 51]);
    assert_eq!(refused.error().code, error_codes::message_too_large);

    let (tell, reconnected) = seen();
    client.stop_client().expect("it stops");
    client.enable_auto_reconnect(true, Duration::from_millis(5));
    client.set_connect_handler(move || {
        let _ = tell.send(());
    });
    start(&client, &server).expect("the server is there");
    reconnected.next();
    server.disconnect_all_sessions();
    reconnected.next();
}

#[test]
fn a_server_that_cannot_prove_who_it_is_is_not_talked_to() {
    let (files, others) = (Files::new("trusted"), Files::new("untrusted"));
    let server = others.server(|_config| {});
    let client = files.client(|_config| {});
    let untrusted = start(&client, &server);
    assert_eq!(untrusted.error().code, error_codes::tls_handshake_failed);

    let server = files.server(|_config| {});
    let misnamed = client.start_client("127.0.0.1", server.port());
    assert_eq!(misnamed.error().code, error_codes::tls_handshake_failed);
    assert!(!client.is_running());
    start(&client, &server).expect("this name is in the certificate");
}

#[test]
fn verification_can_be_switched_off() {
    let files = Files::new("unverified");
    let server = files.server(|_config| {});
    let client = SecureMessagingClient::new("anybody", false);
    client
        .start_client("127.0.0.1", server.port())
        .expect("any certificate will do");
}

#[test]
fn a_server_can_demand_certificates_of_clients() {
    let files = Files::new("client-ca");
    let server = files.server(|config| config.client_ca_file = Some(files.ca.clone()));
    let nobody = files.client(|_config| {});
    start(&nobody, &server).expect_err("it shows no certificate");

    let (tell, shown) = seen();
    server.set_connect_handler(move |session| {
        let tls = session.native().tls();
        let _ = tell.send(tls.is_some_and(|tls| tls.peer_certificate().is_some()));
    });
    let known =
        files.client(|config| config.identity = Some((files.cert.clone(), files.key.clone())));
    start(&known, &server).expect("it shows one");
    assert!(shown.next());
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let files = Files::new("unusable");
    let server = SecureMessagingServer::new("no key", &files.cert, "/nonexistent/server.key");
    let refused = server.start_server(("127.0.0.1", 0));
    assert_eq!(refused.error().code, error_codes::invalid_configuration);
    assert!(refused.error().message.contains("/nonexistent/server.key"));
    assert!(!server.is_running());

    let client = files.client(|config| config.verify_certificate = false);
    let refused = client.start_client("localhost", 1);
    assert_eq!(refused.error().code, error_codes::invalid_configuration);
    assert!(refused.error().message.starts_with("ca_file"));
}
