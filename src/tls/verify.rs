//! How a client judges the certificate of a server beyond what rustls does.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use super::certificate::Parsed;
use super::{provider, sha256};
use crate::error::ConfigError;

/// The SHA-256 of a public key.
pub(super) type Pin = [u8; 32];

/// Reads a pin: 64 hexadecimal digits, with or without colons, or base64, with or without `sha256/` in front.
pub(super) fn parse_pin(text: &str) -> Result<Pin, ConfigError> {
    let bare = text.trim();
    let bare = bare.strip_prefix("sha256/").unwrap_or(bare);
    // curl writes two.
    let bare = bare.strip_prefix('/').unwrap_or(bare);
    parse_hex(bare)
        .or_else(|| STANDARD.decode(bare).ok()?.try_into().ok())
        .ok_or_else(|| {
            let shown: String = text.chars().take(64).collect();
            let expected =
                "the SHA-256 of a public key: 64 hexadecimal digits, or sha256/ and base64";
            ConfigError::option("pin", shown, expected)
        })
}

fn parse_hex(text: &str) -> Option<Pin> {
    let digits: Vec<u8> = text.bytes().filter(|&byte| byte != b':').collect();
    let mut pin = [0; 32];
    if digits.len() != 2 * pin.len() {
        return None;
    }
    for (byte, pair) in pin.iter_mut().zip(digits.chunks(2)) {
        for &digit in pair {
            let value = char::from(digit).to_digit(16)?;
            *byte = *byte << 4 | u8::try_from(value).ok()?;
        }
    }
    Some(pin)
}

/// The key of the server is none of those that were expected.
#[derive(Debug)]
struct WrongKey;

impl fmt::Display for WrongKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server's public key is none of the pinned ones")
    }
}

impl std::error::Error for WrongKey {}

/// Asks another verifier first, then compares the key. Only the server's own certificate is looked at: what
/// it sends behind that proves nothing by itself.
#[derive(Debug)]
pub(super) struct Pinned {
    pub(super) inner: Arc<dyn ServerCertVerifier>,
    pub(super) pins: Vec<Pin>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        let Some(certificate) = Parsed::new(end_entity) else {
            return Err(CertificateError::BadEncoding.into());
        };
        if self.pins.contains(&sha256(certificate.public_key())) {
            Ok(verified)
        } else {
            Err(CertificateError::Other(OtherError(Arc::new(WrongKey))).into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.inner.root_hint_subjects()
    }
}

/// Accepts every certificate. That the server has its key is still checked.
#[derive(Debug)]
pub(super) struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &provider().signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
