//! TLS of a client.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls_platform_verifier::Verifier;

use super::identity::{TlsAuthorities, TlsIdentity};
use super::server::{check_alpn, unusable};
use super::verify::{AnyCertificate, Pin, Pinned, parse_pin};
use super::{Alpn, HTTP, MSGI, TlsVersion, provider};
use crate::endpoint::Host;
use crate::error::{ConfigError, ErrorCode};

/// Servers whose sessions a client remembers to resume.
const CACHED_SERVERS: usize = 32;

/// TLS of a client: whom it trusts, and who it is.
///
/// The certificate of the server must be issued by a trusted authority, be valid now and have the name or
/// address that was connected to. A clone is a handle to the same; all share one memory of sessions that
/// can be resumed.
#[derive(Clone)]
pub struct TlsClient(Arc<Inner>);

struct Inner {
    stream: Arc<ClientConfig>,
    http: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    dangerous: bool,
}

impl TlsClient {
    /// Trusts what the platform trusts, and shows no certificate.
    ///
    /// # Errors
    ///
    /// As [`TlsClientBuilder::build`].
    pub fn new() -> Result<Self, ConfigError> {
        Self::builder().build()
    }

    /// Begins with the platform's authorities.
    pub fn builder() -> TlsClientBuilder {
        TlsClientBuilder {
            authorities: None,
            identity: None,
            pins: Vec::new(),
            min_version: TlsVersion::V1_2,
            server_name: None,
            alpn: vec![MSGI.into()],
            resumption: true,
            dangerous: false,
        }
    }

    /// What a new connection is handshaken with.
    pub(crate) fn config(&self, alpn: Alpn) -> Arc<ClientConfig> {
        if self.0.dangerous {
            crate::events::tls_unverified {}.emit();
        }
        Arc::clone(match alpn {
            Alpn::Stream => &self.0.stream,
            Alpn::Http => &self.0.http,
        })
    }

    /// The name that the certificate of a server at `host` must have.
    pub(crate) fn server_name(&self, host: &Host) -> Result<ServerName<'static>, ConfigError> {
        match (&self.0.server_name, host) {
            (Some(name), _) => Ok(name.clone()),
            (None, Host::Ip(address)) => Ok(ServerName::from(*address)),
            (None, Host::Name(name)) => parse_name(name),
        }
    }
}

fn parse_name(name: &str) -> Result<ServerName<'static>, ConfigError> {
    // A dot at the end says that the name is complete. Certificates have none.
    let bare = name.strip_suffix('.').unwrap_or(name);
    ServerName::try_from(bare.to_owned()).map_err(|_| {
        let shown: String = name.chars().take(64).collect();
        ConfigError::option("server_name", shown, "a DNS name or an IP address")
    })
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient")
            .field("server_name", &self.0.server_name)
            .field("dangerous", &self.0.dangerous)
            .finish_non_exhaustive()
    }
}

/// Builds a [`TlsClient`].
#[derive(Clone, Debug)]
#[must_use]
pub struct TlsClientBuilder {
    authorities: Option<TlsAuthorities>,
    identity: Option<TlsIdentity>,
    pins: Vec<String>,
    min_version: TlsVersion,
    server_name: Option<String>,
    alpn: Vec<Vec<u8>>,
    resumption: bool,
    dangerous: bool,
}

impl TlsClientBuilder {
    /// Trusts these authorities, and those of the platform no more.
    pub fn authorities(mut self, authorities: TlsAuthorities) -> Self {
        self.authorities = Some(authorities);
        self
    }

    /// The certificate to show to servers that ask for one. Default: none.
    pub fn identity(mut self, identity: TlsIdentity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Expects the server to have this public key, or one of several if called again. All other checks stay.
    ///
    /// `pin` is the SHA-256 of the SubjectPublicKeyInfo of the server's own certificate, as 64 hexadecimal
    /// digits or as base64, with or without `sha256/` in front;
    /// [`CertificateInfo::public_key_sha256`](super::CertificateInfo::public_key_sha256) has it.
    pub fn pin(mut self, pin: impl Into<String>) -> Self {
        self.pins.push(pin.into());
        self
    }

    /// The oldest version that is spoken. Default: TLS 1.2.
    pub fn min_version(mut self, version: TlsVersion) -> Self {
        self.min_version = version;
        self
    }

    /// The name or address that the certificate must have, and that the server is asked for (SNI). Default:
    /// the host that is connected to.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// The protocols that are offered to `tls://` servers, best first (ALPN). Default: `msgi/1`. An empty
    /// list: no ALPN. `wss://` always offers `http/1.1`. What the server chooses, or that it does not
    /// choose, is in [`TlsInfo::alpn`](super::TlsInfo::alpn).
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(|p| p.as_ref().to_vec()).collect();
        self
    }

    /// Whether earlier sessions are taken up, of up to 32 servers. Default: yes. Early data is never sent.
    pub fn session_resumption(mut self, on: bool) -> Self {
        self.resumption = on;
        self
    }

    /// Accepts every certificate, for every name, expired or not: anyone on the way can read and change
    /// everything. For tests. Each connection logs a warning. Pins are still compared.
    pub fn dangerous_accept_any_certificate(mut self) -> Self {
        self.dangerous = true;
        self
    }

    /// Reads and checks everything.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidConfiguration`], with the file and the reason: it cannot be read, is not PEM or holds
    /// nothing of what is asked for; the own certificate is expired or its key belongs to another; a pin or
    /// the server name is malformed; the platform has no authorities.
    pub fn build(self) -> Result<TlsClient, ConfigError> {
        check_alpn(&self.alpn)?;
        let pins = self
            .pins
            .iter()
            .map(|pin| parse_pin(pin))
            .collect::<Result<Vec<_>, _>>()?;
        let server_name = self.server_name.as_deref().map(parse_name).transpose()?;
        let verifier = self.verifier(pins)?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(self.min_version.and_later())
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let key = SingleCertAndKey::from(identity.load()?);
                builder.with_client_cert_resolver(Arc::new(key))
            }
        };
        config.enable_early_data = false;
        let mut http = config.clone();
        config.alpn_protocols = self.alpn;
        http.alpn_protocols = vec![HTTP.into()];
        for config in [&mut config, &mut http] {
            config.resumption = match self.resumption {
                true => Resumption::in_memory_sessions(CACHED_SERVERS),
                false => Resumption::disabled(),
            };
        }
        Ok(TlsClient(Arc::new(Inner {
            stream: Arc::new(config),
            http: Arc::new(http),
            server_name,
            dangerous: self.dangerous,
        })))
    }

    fn verifier(&self, pins: Vec<Pin>) -> Result<Arc<dyn ServerCertVerifier>, ConfigError> {
        let verifier: Arc<dyn ServerCertVerifier> = match &self.authorities {
            // Looked at even so: an option that is accepted must not be ignored.
            Some(authorities) => {
                let roots = authorities.load()?;
                let builder = WebPkiServerVerifier::builder_with_provider(roots, provider());
                let verifier = builder.build().map_err(|e| authorities.unusable(e))?;
                if self.dangerous {
                    Arc::new(AnyCertificate)
                } else {
                    verifier
                }
            }
            None if self.dangerous => Arc::new(AnyCertificate),
            None => Arc::new(Verifier::new(provider()).map_err(|error| {
                ConfigError::new(
                    ErrorCode::InvalidConfiguration,
                    format!("the platform's certificate authorities cannot be used: {error}"),
                )
            })?),
        };
        Ok(match pins.is_empty() {
            true => verifier,
            false => Arc::new(Pinned {
                inner: verifier,
                pins,
            }),
        })
    }
}
