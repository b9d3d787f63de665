//! What is known about a connection and its peer after the handshake.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::{CommonState, HandshakeKind, ProtocolVersion};
use x509_parser::extensions::GeneralName;

use super::certificate::Parsed;
use super::{TlsVersion, sha256};

/// How the connection of a session is secured, and whose it is.
#[derive(Clone, Debug)]
pub struct TlsInfo {
    version: TlsVersion,
    cipher_suite: &'static str,
    resumed: bool,
    alpn: Option<Box<[u8]>>,
    server_name: Option<Box<str>>,
    peer: Option<CertificateInfo>,
}

impl TlsInfo {
    /// Reads it from a connection whose handshake is done.
    pub(crate) fn new(connection: &CommonState, server_name: Option<Box<str>>) -> Self {
        let suite = connection.negotiated_cipher_suite();
        let chain = connection.peer_certificates().unwrap_or_default();
        TlsInfo {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => TlsVersion::V1_3,
                _ => TlsVersion::V1_2,
            },
            cipher_suite: suite
                .and_then(|suite| suite.suite().as_str())
                .unwrap_or("unknown"),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            alpn: connection.alpn_protocol().map(Into::into),
            server_name,
            peer: CertificateInfo::new(chain.to_vec()),
        }
    }

    /// The version of TLS.
    pub fn version(&self) -> TlsVersion {
        self.version
    }

    /// The cipher suite, by its IANA name.
    pub fn cipher_suite(&self) -> &'static str {
        self.cipher_suite
    }

    /// Whether an earlier session was taken up. The certificate is then that of the earlier session.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// The protocol that was agreed (ALPN), for example `msgi/1`.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.alpn.as_deref()
    }

    /// The name that the client asked for (SNI). A client that connects to an address asks for none.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The certificate of the peer, which was verified. On a server, `None` when the client showed none.
    ///
    /// With [`dangerous_accept_any_certificate`](super::TlsClientBuilder::dangerous_accept_any_certificate) it
    /// was not verified.
    pub fn peer_certificate(&self) -> Option<&CertificateInfo> {
        self.peer.as_ref()
    }
}

/// A certificate with the chain that came with it.
///
/// Cheap to clone. Only the bytes are kept: each question reads the certificate again.
#[derive(Clone)]
pub struct CertificateInfo {
    /// Not empty; the first is X.509.
    chain: Arc<[CertificateDer<'static>]>,
}

impl CertificateInfo {
    /// `None` when the chain is empty or does not begin with a certificate.
    pub(super) fn new(chain: Vec<CertificateDer<'static>>) -> Option<Self> {
        Parsed::new(chain.first()?)?;
        Some(CertificateInfo {
            chain: chain.into(),
        })
    }

    /// The certificates in DER, the peer's own first, as the peer sent them.
    pub fn chain(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.chain.iter().map(|der| der.as_ref())
    }

    fn own(&self) -> &[u8] {
        self.chain.first().map_or(&[], |der| der.as_ref())
    }

    fn read<T>(&self, read: impl FnOnce(&Parsed<'_>) -> T) -> Option<T> {
        Parsed::new(self.own()).map(|certificate| read(&certificate))
    }

    fn names(&self, pick: impl FnMut(&GeneralName<'_>) -> Option<String>) -> Vec<String> {
        self.read(|certificate| certificate.names(pick).collect())
            .unwrap_or_default()
    }

    /// The common name of the subject, if it has one.
    pub fn common_name(&self) -> Option<String> {
        self.read(|certificate| certificate.common_name().map(str::to_owned))?
    }

    /// The DNS names among the alternative names.
    pub fn dns_names(&self) -> Vec<String> {
        self.read(|certificate| certificate.dns_names().collect())
            .unwrap_or_default()
    }

    /// The IP addresses among the alternative names.
    pub fn ip_addresses(&self) -> Vec<IpAddr> {
        self.read(|certificate| certificate.ip_addresses().collect())
            .unwrap_or_default()
    }

    /// The URIs among the alternative names, for example a SPIFFE id.
    pub fn uris(&self) -> Vec<String> {
        self.names(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        })
    }

    /// The e-mail addresses among the alternative names.
    pub fn emails(&self) -> Vec<String> {
        self.names(|name| match name {
            GeneralName::RFC822Name(email) => Some((*email).to_owned()),
            _ => None,
        })
    }

    /// The SHA-256 of the certificate.
    pub fn sha256(&self) -> [u8; 32] {
        sha256(self.own())
    }

    /// The SHA-256 of the public key (SubjectPublicKeyInfo), which stays the same when a certificate is
    /// renewed with the old key. This is what [`pin`](super::TlsClientBuilder::pin) compares.
    pub fn public_key_sha256(&self) -> [u8; 32] {
        self.read(|certificate| sha256(certificate.public_key()))
            .unwrap_or_default()
    }

    /// When the certificate begins to be valid.
    pub fn not_before(&self) -> SystemTime {
        self.read(|certificate| time(certificate.validity().0))
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// When the certificate ends to be valid.
    pub fn not_after(&self) -> SystemTime {
        self.read(|certificate| time(certificate.validity().1))
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// Seconds since 1970 as a time. What the platform cannot express becomes 1970.
fn time(seconds: i64) -> SystemTime {
    let span = Duration::from_secs(seconds.unsigned_abs());
    let time = match seconds {
        0.. => SystemTime::UNIX_EPOCH.checked_add(span),
        _ => SystemTime::UNIX_EPOCH.checked_sub(span),
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

impl fmt::Debug for CertificateInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateInfo")
            .field("common_name", &self.common_name())
            .field("dns_names", &self.dns_names())
            .field("chain", &self.chain.len())
            .finish_non_exhaustive()
    }
}
