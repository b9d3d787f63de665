//! Certificates and keys as the application gives them: files or memory, PEM.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};

use super::certificate::Parsed;
use super::provider;
use crate::error::{ConfigError, ErrorCode};

/// The longest PEM file. All authorities of a platform together have less than 1 MiB.
const FILE_LIMIT: u64 = 8 * 1024 * 1024;

/// PEM text and where it comes from.
#[derive(Clone)]
enum Source {
    File(PathBuf),
    Memory(Arc<[u8]>),
}

impl Source {
    fn read(&self, what: &str) -> Result<Cow<'_, [u8]>, ConfigError> {
        match self {
            Source::Memory(bytes) => Ok(Cow::Borrowed(bytes)),
            Source::File(path) => match read(path) {
                Ok(bytes) => Ok(Cow::Owned(bytes)),
                Err(error) => Err(ConfigError::with_source(
                    ErrorCode::InvalidConfiguration,
                    format!("cannot read {what} {}: {error}", path.display()),
                    error,
                )),
            },
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path)?
        .take(FILE_LIMIT + 1)
        .read_to_end(&mut bytes)?;
    if read as u64 > FILE_LIMIT {
        return Err(io::Error::other("longer than 8 MiB"));
    }
    Ok(bytes)
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => path.display().fmt(f),
            Source::Memory(_) => f.write_str("(PEM text in memory)"),
        }
    }
}

impl fmt::Debug for Source {
    /// Contents stay out: they may be a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn invalid(what: &str, source: &Source, why: impl fmt::Display) -> ConfigError {
    ConfigError::new(
        ErrorCode::InvalidConfiguration,
        format!("{what} {source}: {why}"),
    )
}

/// All certificates of a PEM text; at least one.
fn certificates(
    what: &str,
    source: &Source,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let chain = CertificateDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, pem::Error>>()
        .map_err(|error| invalid(what, source, format_args!("is not valid PEM: {error}")))?;
    if chain.is_empty() {
        return Err(invalid(what, source, "holds no certificate in PEM form"));
    }
    Ok(chain)
}

const CHAIN: &str = "certificate";
const KEY: &str = "private key";
const AUTHORITIES: &str = "certificate authorities";

/// A certificate chain with its private key, both in PEM.
///
/// The certificate of the end entity comes first, followed by its intermediates. The key is PKCS#8, PKCS#1 or
/// SEC1, not encrypted. Nothing is read before a server or client is made of it.
#[derive(Clone, Debug)]
pub struct TlsIdentity {
    chain: Source,
    key: Source,
}

impl TlsIdentity {
    /// A chain and a key in files, which may be the same file. [`TlsServer::reload`](super::TlsServer::reload)
    /// reads them again.
    pub fn pem_files(chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        TlsIdentity {
            chain: Source::File(chain.into()),
            key: Source::File(key.into()),
        }
    }

    /// A chain and a key as PEM text.
    pub fn pem(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        TlsIdentity {
            chain: Source::Memory(chain.as_ref().into()),
            key: Source::Memory(key.as_ref().into()),
        }
    }

    /// Reads and checks everything that can be wrong: the form, the time, whether the key belongs to the
    /// certificate.
    pub(super) fn load(&self) -> Result<CertifiedKey, ConfigError> {
        let chain = certificates(CHAIN, &self.chain, &self.chain.read(CHAIN)?)?;
        for (index, der) in chain.iter().enumerate() {
            let place = index + 1;
            let Some(certificate) = Parsed::new(der) else {
                let why = format_args!("certificate {place} of the chain is not X.509");
                return Err(invalid(CHAIN, &self.chain, why));
            };
            certificate.check_time().map_err(|problem| {
                let subject = certificate.subject();
                let why = format_args!("certificate {place} of the chain ({subject}) {problem}");
                invalid(CHAIN, &self.chain, why)
            })?;
        }
        let key = self.load_key()?;
        CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => invalid(
                KEY,
                &self.key,
                format_args!("does not belong to the certificate {}", self.chain),
            ),
            Error::InvalidCertificate(error) => invalid(CHAIN, &self.chain, error),
            error => invalid(KEY, &self.key, format_args!("cannot be used: {error}")),
        })
    }

    fn load_key(&self) -> Result<PrivateKeyDer<'static>, ConfigError> {
        let text = self.key.read(KEY)?;
        PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
            pem::Error::NoItemsFound if contains(&text, b"ENCRYPTED") => {
                invalid(KEY, &self.key, "is encrypted; decrypt it first")
            }
            pem::Error::NoItemsFound => invalid(KEY, &self.key, "holds no private key in PEM form"),
            // The error may repeat a line of the text, which may be the key.
            _ => invalid(KEY, &self.key, "is not valid PEM"),
        })
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Certificates of authorities that are trusted, in PEM.
#[derive(Clone, Debug)]
pub struct TlsAuthorities(Source);

impl TlsAuthorities {
    /// The certificates of a file, one or more.
    pub fn pem_file(path: impl Into<PathBuf>) -> Self {
        TlsAuthorities(Source::File(path.into()))
    }

    /// The certificates of a PEM text, one or more.
    pub fn pem(text: impl AsRef<[u8]>) -> Self {
        TlsAuthorities(Source::Memory(text.as_ref().into()))
    }

    pub(super) fn load(&self) -> Result<Arc<RootCertStore>, ConfigError> {
        let mut roots = RootCertStore::empty();
        let list = certificates(AUTHORITIES, &self.0, &self.0.read(AUTHORITIES)?)?;
        for (index, der) in list.into_iter().enumerate() {
            roots.add(der).map_err(|error| {
                let why = format_args!("certificate {} cannot be used: {error}", index + 1);
                invalid(AUTHORITIES, &self.0, why)
            })?;
        }
        Ok(Arc::new(roots))
    }

    /// An error of what was loaded from here.
    pub(super) fn unusable(&self, why: impl fmt::Display) -> ConfigError {
        invalid(AUTHORITIES, &self.0, why)
    }
}
