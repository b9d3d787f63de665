//! TLS with certificates on both sides: who the peer is, who is refused, and new certificates without a restart.
//!
//! An authority and its certificates are made in memory, so that nothing has to be installed.

#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::fs;

use network_system::tls::{ClientAuth, TlsAuthorities, TlsClient, TlsIdentity, TlsServer};
use network_system::{Client, ConnectError, Message, Server, Session};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let authority = Authority::new("our authority")?;
    let trusted = TlsAuthorities::pem(authority.0.pem());

    // The server's certificate is in files, as it is on real servers.
    let directory = std::env::temp_dir().join(format!("secure-echo-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let (chain, key) = (directory.join("server.pem"), directory.join("server.key"));
    let first = authority.issue("the server", &["localhost", "127.0.0.1"])?;
    fs::write(&chain, &first.chain)?;
    fs::write(&key, &first.key)?;

    let tls = TlsServer::builder(TlsIdentity::pem_files(&chain, &key))
        .client_auth(ClientAuth::Required(trusted.clone()))
        .build()?;
    let server = Server::builder()
        .listen("tls://127.0.0.1:0")
        .tls(tls.clone())
        .on_message(|session: Session, message: Message| async move {
            let tls = session.tls();
            let who = tls.as_ref().and_then(|tls| tls.peer_certificate());
            let name = who.and_then(|who| who.common_name());
            let text = message.as_text().unwrap_or("?");
            let _ = session
                .send(format!(
                    "{}, you said: {text}",
                    name.as_deref().unwrap_or("nobody")
                ))
                .await;
        })
        .build()?;
    server.start().await?;
    let url = server.urls().remove(0);

    let anna = authority.issue("anna", &["anna.example"])?;
    let trust_and_show = TlsClient::builder()
        .authorities(trusted.clone())
        .identity(TlsIdentity::pem(&anna.chain, &anna.key))
        .build()?;
    let client = connect(&url, &trust_and_show).await?;
    let mut messages = client.messages().ok_or("there is a message handler")?;
    client.send("hello").await?;
    let echo = messages.next().await.ok_or("the client has stopped")?;
    println!("{}", echo.as_text().unwrap_or("?"));
    assert_eq!(echo.payload(), b"anna, you said: hello");

    let session = client.session().ok_or("not connected")?;
    let info = session.tls().ok_or("not encrypted")?;
    println!("{:?}, {}", info.version(), info.cipher_suite());
    let old = info.peer_certificate().ok_or("no certificate")?.sha256();

    // Whoever has no certificate of the authority is refused, and so is a server that it does not know.
    let without = TlsClient::builder().authorities(trusted.clone()).build()?;
    let refused = connect(&url, &without).await.expect_err("no certificate");
    println!("without a certificate: {refused}");
    let elsewhere = TlsAuthorities::pem(Authority::new("another authority")?.0.pem());
    let wary = TlsClient::builder().authorities(elsewhere).build()?;
    let refused = connect(&url, &wary)
        .await
        .expect_err("an unknown authority");
    println!("with another authority: {refused}");

    // A bad file changes nothing; a good one is used for new connections, and old ones go on.
    fs::write(&chain, "this is no certificate")?;
    let error = tls.reload().expect_err("the file is bad");
    println!("not reloaded: {error}");
    let renewed = authority.issue("the server", &["localhost", "127.0.0.1"])?;
    fs::write(&chain, &renewed.chain)?;
    fs::write(&key, &renewed.key)?;
    tls.reload()?;
    let second = connect(&url, &trust_and_show).await?;
    let session = second.session().ok_or("not connected")?;
    let info = session.tls().ok_or("not encrypted")?;
    assert_ne!(
        info.peer_certificate().ok_or("no certificate")?.sha256(),
        old
    );
    client.send("still here").await?;
    let echo = messages.next().await.ok_or("the client has stopped")?;
    assert_eq!(echo.payload(), b"anna, you said: still here");
    println!("reloaded; the connection of before goes on");

    second.stop().await;
    client.stop().await;
    server.stop().await?;
    fs::remove_dir_all(&directory)?;
    Ok(())
}

async fn connect(url: &str, tls: &TlsClient) -> Result<Client, ConnectError> {
    let client = Client::builder().endpoint(url).tls(tls.clone()).build()?;
    client.connect().await?;
    Ok(client)
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, PEM.
struct Issued {
    chain: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Authority(issuer))
    }

    fn issue(&self, common_name: &str, names: &[&str]) -> Result<Issued, rcgen::Error> {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate()?;
        Ok(Issued {
            chain: params.signed_by(&key, &self.0)?.pem(),
            key: key.serialize_pem(),
        })
    }
}
