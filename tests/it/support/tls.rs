//! A certificate for the servers of all tests, and plain streams that trust it.

use std::io;
use std::sync::{Arc, OnceLock};

use network_system::tls::{TlsAuthorities, TlsClient, TlsServer};
use rcgen::{CertifiedKey, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Made once for each process.
fn certified() -> &'static CertifiedKey<KeyPair> {
    static CERTIFIED: OnceLock<CertifiedKey<KeyPair>> = OnceLock::new();
    CERTIFIED.get_or_init(|| {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        rcgen::generate_simple_self_signed(names).unwrap()
    })
}

/// What a server shows.
pub fn server() -> TlsServer {
    let CertifiedKey { cert, signing_key } = certified();
    TlsServer::from_pem(cert.pem(), signing_key.serialize_pem()).unwrap()
}

/// What a client of the library trusts.
pub fn library_client() -> TlsClient {
    let authorities = TlsAuthorities::pem(certified().cert.pem());
    TlsClient::builder()
        .authorities(authorities)
        .server_name("localhost")
        .build()
        .unwrap()
}

/// What a plain peer trusts.
fn config(alpn: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certified().cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.into()];
    Arc::new(config)
}

/// Shakes hands as a client that speaks this protocol.
pub async fn connect(stream: TcpStream, alpn: &str) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(config(alpn)).connect(name, stream).await
}
