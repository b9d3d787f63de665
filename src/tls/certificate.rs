//! What is read out of a certificate.

use std::net::IpAddr;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

/// A certificate that was parsed. Borrows the bytes it was parsed from.
pub(super) struct Parsed<'a>(X509Certificate<'a>);

impl<'a> Parsed<'a> {
    /// Reads DER. `None` when it is not exactly one certificate.
    pub(super) fn new(der: &'a [u8]) -> Option<Self> {
        match X509Certificate::from_der(der) {
            Ok(([], certificate)) => Some(Parsed(certificate)),
            _ => None,
        }
    }

    /// The first common name of the subject.
    pub(super) fn common_name(&self) -> Option<&str> {
        let mut names = self.0.subject().iter_common_name();
        names.next()?.as_str().ok()
    }

    /// The DER of the public key with its algorithm (SubjectPublicKeyInfo).
    pub(super) fn public_key(&self) -> &[u8] {
        self.0.public_key().raw
    }

    /// Begin and end of the validity, in seconds since 1970.
    pub(super) fn validity(&self) -> (i64, i64) {
        let validity = self.0.validity();
        (
            validity.not_before.timestamp(),
            validity.not_after.timestamp(),
        )
    }

    /// What is wrong with the time, if anything is.
    pub(super) fn check_time(&self) -> Result<(), String> {
        let validity = self.0.validity();
        let now = ASN1Time::now();
        if now > validity.not_after {
            Err(format!("expired on {}", validity.not_after))
        } else if now < validity.not_before {
            Err(format!("is not valid before {}", validity.not_before))
        } else {
            Ok(())
        }
    }

    /// The subject in the usual notation, shortened for error texts.
    pub(super) fn subject(&self) -> String {
        let mut subject = self.0.subject().to_string();
        if let Some((at, _)) = subject.char_indices().nth(128) {
            subject.truncate(at);
            subject.push('…');
        }
        subject
    }

    /// The alternative names that `pick` takes, in their order.
    pub(super) fn names<T>(
        &self,
        pick: impl FnMut(&GeneralName<'_>) -> Option<T>,
    ) -> impl Iterator<Item = T> {
        let names = match self.0.subject_alternative_name() {
            Ok(Some(extension)) => extension.value.general_names.as_slice(),
            _ => &[],
        };
        names.iter().filter_map(pick)
    }

    /// The DNS names, as they stand in the certificate.
    pub(super) fn dns_names(&self) -> impl Iterator<Item = String> {
        self.names(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        })
    }

    /// The IP addresses.
    pub(super) fn ip_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.names(|name| match name {
            GeneralName::IPAddress(bytes) => match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes).ok().map(IpAddr::from),
                _ => <[u8; 16]>::try_from(*bytes).ok().map(IpAddr::from),
            },
            _ => None,
        })
    }
}
