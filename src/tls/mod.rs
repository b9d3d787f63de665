//! Certificates, keys and trust for `tls://` and `wss://`.
//!
//! A server needs a certificate chain and its key, a client by default nothing: it trusts what the platform
//! trusts. Both are checked when they are made, so that a bad file is found at the start and not by the
//! first peer.
//!
//! ```no_run
//! use network_system::tls::{ClientAuth, TlsAuthorities, TlsClient, TlsIdentity, TlsServer, TlsVersion};
//!
//! let tls = TlsServer::builder(TlsIdentity::pem_files("server.pem", "server.key"))
//!     .add_certificate(TlsIdentity::pem_files("other.pem", "other.key"))
//!     .client_auth(ClientAuth::Required(TlsAuthorities::pem_file("clients.pem")))
//!     .min_version(TlsVersion::V1_3)
//!     .build()?;
//! // Later, when the files have changed; running servers use the new ones for new connections.
//! tls.reload()?;
//!
//! let trusting = TlsClient::builder()
//!     .authorities(TlsAuthorities::pem_file("ca.pem"))
//!     .pin("sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
//!     .build()?;
//! # Ok::<(), network_system::ConfigError>(())
//! ```
//!
//! The implementation is rustls with aws-lc-rs as its only provider: TLS 1.2 with forward secrecy and
//! TLS 1.3, no renegotiation, no compression, no early data. Key exchange prefers X25519 with ML-KEM-768.

mod certificate;
mod client;
mod identity;
mod info;
mod resolver;
mod server;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod verify;

use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;

use crate::error::ConfigError;

pub use client::{TlsClient, TlsClientBuilder};
pub use identity::{TlsAuthorities, TlsIdentity};
pub use info::{CertificateInfo, TlsInfo};
pub(crate) use resolver::take_requested_name;
pub use server::{ClientAuth, TlsServer, TlsServerBuilder};

/// The name of MSGI in the handshake (ALPN).
const MSGI: &str = "msgi/1";

/// The name of HTTP/1.1 in the handshake (ALPN), for WebSocket.
const HTTP: &str = "http/1.1";

/// What is spoken inside TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alpn {
    /// `tls://`: `msgi/1`, unless configured otherwise.
    Stream,
    /// `wss://`: `http/1.1`.
    Http,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2, with forward secrecy and authenticated encryption only.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

impl TlsVersion {
    /// The names that [`FromStr`] takes.
    pub const NAMES: &'static [&'static str] = &["1.2", "1.3"];

    /// The name in configuration files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            TlsVersion::V1_2 => "1.2",
            TlsVersion::V1_3 => "1.3",
        }
    }

    /// This version and all later ones.
    fn and_later(self) -> &'static [&'static SupportedProtocolVersion] {
        static ALL: [&SupportedProtocolVersion; 2] =
            [&rustls::version::TLS13, &rustls::version::TLS12];
        match self {
            TlsVersion::V1_2 => &ALL,
            TlsVersion::V1_3 => &ALL[..1],
        }
    }
}

impl FromStr for TlsVersion {
    type Err = ConfigError;

    fn from_str(name: &str) -> Result<Self, ConfigError> {
        match name {
            "1.2" => Ok(TlsVersion::V1_2),
            "1.3" => Ok(TlsVersion::V1_3),
            _ => Err(ConfigError::option(
                "tls_min_version",
                name,
                &TlsVersion::NAMES.join(" or "),
            )),
        }
    }
}

/// The provider of cryptography. It is always named, never taken from the process-wide default, which other
/// crates may set.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}

/// The SHA-256 hash.
fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    hash
}
