//! TLS of a server, and how its certificates are exchanged while it runs.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::{ServerConfig, sign::CertifiedKey};

use super::identity::{TlsAuthorities, TlsIdentity};
use super::info::CertificateInfo;
use super::resolver::Resolver;
use super::{Alpn, HTTP, MSGI, TlsVersion, provider};
use crate::error::{ConfigError, ErrorCode};
use crate::events;

/// Sessions that a server remembers for clients that resume without tickets, which only TLS 1.2 has.
const CACHED_SESSIONS: usize = 256;

/// Whether clients have to show a certificate.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// They are asked. One that shows a certificate which these authorities did not issue is refused; one that
    /// shows none is not.
    Optional(TlsAuthorities),
    /// One that shows no certificate of these authorities is refused.
    Required(TlsAuthorities),
}

/// TLS of a server: certificates, keys and what is asked of clients.
///
/// A clone is a handle to the same: keep one to [`reload`](Self::reload) or [`replace`](Self::replace) the
/// certificates of a running server. Connections that are open keep theirs.
#[derive(Clone)]
pub struct TlsServer(Arc<Inner>);

struct Inner {
    settings: Settings,
    /// Where the certificates come from. Locked while new ones are made, so that the last one wins wholly.
    identities: Mutex<Vec<TlsIdentity>>,
    current: RwLock<Arc<Current>>,
}

#[derive(Clone, Debug)]
struct Settings {
    client_auth: ClientAuth,
    min_version: TlsVersion,
    alpn: Vec<Vec<u8>>,
    resumption: bool,
}

struct Current {
    stream: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
    certificates: Vec<CertificateInfo>,
}

impl TlsServer {
    /// Begins with the default certificate: the one for clients that ask for no name or one that no
    /// certificate has.
    pub fn builder(identity: TlsIdentity) -> TlsServerBuilder {
        TlsServerBuilder {
            identities: vec![identity],
            settings: Settings {
                client_auth: ClientAuth::None,
                min_version: TlsVersion::V1_2,
                alpn: vec![MSGI.into()],
                resumption: true,
            },
        }
    }

    /// One certificate chain and its key, from PEM files, with the defaults for everything else.
    ///
    /// # Errors
    ///
    /// As [`TlsServerBuilder::build`].
    pub fn from_pem_files(
        chain: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, ConfigError> {
        Self::builder(TlsIdentity::pem_files(chain, key)).build()
    }

    /// One certificate chain and its key, as PEM text, with the defaults for everything else.
    ///
    /// # Errors
    ///
    /// As [`TlsServerBuilder::build`].
    pub fn from_pem(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, ConfigError> {
        Self::builder(TlsIdentity::pem(chain, key)).build()
    }

    /// Reads all PEM files again, those of the client authorities too, and uses them for new connections.
    ///
    /// Everything is checked before anything is exchanged: on an error the old certificates stay in use.
    /// Sessions of before cannot be resumed, so that every client is judged by the new files. Reads files and
    /// blocks meanwhile.
    ///
    /// # Errors
    ///
    /// As [`TlsServerBuilder::build`].
    pub fn reload(&self) -> Result<(), ConfigError> {
        let identities = self.lock();
        self.exchange(&identities)
    }

    /// Uses other certificates for new connections; the first is the default one. They are also what
    /// [`reload`](Self::reload) reads from then on.
    ///
    /// Everything is checked before anything is exchanged: on an error the old certificates stay in use.
    ///
    /// # Errors
    ///
    /// As [`TlsServerBuilder::build`], and when there is no certificate.
    pub fn replace(
        &self,
        identities: impl IntoIterator<Item = TlsIdentity>,
    ) -> Result<(), ConfigError> {
        let new: Vec<_> = identities.into_iter().collect();
        let mut identities = self.lock();
        self.exchange(&new)?;
        *identities = new;
        Ok(())
    }

    /// What the certificates in use say about themselves; the default one first.
    pub fn certificates(&self) -> Vec<CertificateInfo> {
        self.current().certificates.clone()
    }

    /// What a new connection is handshaken with.
    pub(crate) fn config(&self, alpn: Alpn) -> Arc<ServerConfig> {
        let current = self.0.current.read();
        let current = current.unwrap_or_else(PoisonError::into_inner);
        Arc::clone(match alpn {
            Alpn::Stream => &current.stream,
            Alpn::Http => &current.http,
        })
    }

    fn current(&self) -> Arc<Current> {
        let current = self.0.current.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<TlsIdentity>> {
        let identities = self.0.identities.lock();
        identities.unwrap_or_else(PoisonError::into_inner)
    }

    /// The caller holds the lock of the identities.
    fn exchange(&self, identities: &[TlsIdentity]) -> Result<(), ConfigError> {
        let new = match Current::load(identities, &self.0.settings) {
            Ok(new) => Arc::new(new),
            Err(error) => {
                let shown = events::shown(events::Chain(&error));
                events::tls_reload_failed { error: shown }.emit();
                return Err(error);
            }
        };
        let count = new.certificates.len();
        let current = self.0.current.write();
        *current.unwrap_or_else(PoisonError::into_inner) = new;
        events::tls_reloaded {
            certificates: count,
        }
        .emit();
        Ok(())
    }
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer")
            .field("settings", &self.0.settings)
            .field("certificates", &self.current().certificates)
            .finish_non_exhaustive()
    }
}

/// Builds a [`TlsServer`].
#[derive(Clone, Debug)]
#[must_use]
pub struct TlsServerBuilder {
    identities: Vec<TlsIdentity>,
    settings: Settings,
}

impl TlsServerBuilder {
    /// One more certificate, for clients that ask for one of the DNS names in it (SNI). `*` stands for one
    /// label. Of several for one name the first is used whose kind of key the client knows.
    pub fn add_certificate(mut self, identity: TlsIdentity) -> Self {
        self.identities.push(identity);
        self
    }

    /// Whether clients have to show a certificate. Default: they are not asked.
    ///
    /// A client that resumes is not asked again: its certificate counts as long as its ticket, up to 12 hours,
    /// unless the server's certificates are reloaded. Switch
    /// [`session_resumption`](Self::session_resumption) off where that is too long.
    pub fn client_auth(mut self, client_auth: ClientAuth) -> Self {
        self.settings.client_auth = client_auth;
        self
    }

    /// The oldest version that is spoken. Default: TLS 1.2.
    pub fn min_version(mut self, version: TlsVersion) -> Self {
        self.settings.min_version = version;
        self
    }

    /// The protocols of `tls://` listeners, best first (ALPN). Default: `msgi/1`. An empty list: no ALPN.
    ///
    /// A client that names none is accepted; one that names only others is refused, as RFC 7301 says.
    /// `wss://` listeners always have `http/1.1`.
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.settings.alpn = protocols.into_iter().map(|p| p.as_ref().to_vec()).collect();
        self
    }

    /// Whether clients may take up an earlier session, which saves them the certificates and both sides the
    /// signatures. Default: yes, by tickets. Early data is never accepted.
    pub fn session_resumption(mut self, on: bool) -> Self {
        self.settings.resumption = on;
        self
    }

    /// Reads and checks everything.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidConfiguration`], with the file and the reason: it cannot be read, is not PEM or holds
    /// nothing of what is asked for; a certificate is not X.509, expired or not yet valid; the key does not
    /// belong to the certificate; a name of a protocol is empty or longer than 255 bytes.
    pub fn build(self) -> Result<TlsServer, ConfigError> {
        check_alpn(&self.settings.alpn)?;
        let current = Current::load(&self.identities, &self.settings)?;
        Ok(TlsServer(Arc::new(Inner {
            settings: self.settings,
            identities: Mutex::new(self.identities),
            current: RwLock::new(Arc::new(current)),
        })))
    }
}

pub(super) fn check_alpn(protocols: &[Vec<u8>]) -> Result<(), ConfigError> {
    match protocols.iter().find(|p| !(1..=255).contains(&p.len())) {
        Some(wrong) => {
            let shown = format!("{} bytes", wrong.len());
            Err(ConfigError::option("alpn", shown, "1 to 255 bytes a name"))
        }
        None => Ok(()),
    }
}

impl Current {
    fn load(identities: &[TlsIdentity], settings: &Settings) -> Result<Self, ConfigError> {
        let keys = identities
            .iter()
            .map(TlsIdentity::load)
            .collect::<Result<Vec<CertifiedKey>, _>>()?;
        let certificates: Vec<_> = keys
            .iter()
            .filter_map(|key| CertificateInfo::new(key.cert.clone()))
            .collect();
        if certificates.is_empty() {
            let text = "TLS of a server needs a certificate";
            return Err(ConfigError::new(ErrorCode::InvalidConfiguration, text));
        }
        let verifier = match &settings.client_auth {
            ClientAuth::None => WebPkiClientVerifier::no_client_auth(),
            ClientAuth::Optional(authorities) | ClientAuth::Required(authorities) => {
                let roots = authorities.load()?;
                let builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
                let builder = match settings.client_auth {
                    ClientAuth::Optional(_) => builder.allow_unauthenticated(),
                    _ => builder,
                };
                builder.build().map_err(|e| authorities.unusable(e))?
            }
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(settings.min_version.and_later())
            .map_err(unusable)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(Resolver::new(keys)));
        config.max_early_data_size = 0;
        let mut http = config.clone();
        config.alpn_protocols.clone_from(&settings.alpn);
        http.alpn_protocols = vec![HTTP.into()];
        for config in [&mut config, &mut http] {
            set_resumption(config, settings.resumption)?;
        }
        Ok(Current {
            stream: Arc::new(config),
            http: Arc::new(http),
            certificates,
        })
    }
}

/// Every configuration has tickets and a cache of its own: what was agreed under other certificates, other
/// client authorities or for another protocol is never taken up.
fn set_resumption(config: &mut ServerConfig, on: bool) -> Result<(), ConfigError> {
    if on {
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(unusable)?;
        config.session_storage = ServerSessionMemoryCache::new(CACHED_SESSIONS);
    } else {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(())
}

pub(super) fn unusable(error: rustls::Error) -> ConfigError {
    ConfigError::new(
        ErrorCode::InvalidConfiguration,
        format!("TLS cannot be set up: {error}"),
    )
}
