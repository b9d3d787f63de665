//! Certificates for tests.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ServerConfig};

use super::{TlsAuthorities, TlsClient, TlsClientBuilder, TlsIdentity, TlsServer, provider};

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, PEM.
pub(crate) struct Leaf {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Leaf {
    pub(crate) fn identity(&self) -> TlsIdentity {
        TlsIdentity::pem(&self.chain, &self.key)
    }

    pub(crate) fn server(&self) -> TlsServer {
        TlsServer::builder(self.identity()).build().unwrap()
    }

    /// A server of rustls's, which does not look at the time.
    pub(crate) fn unchecked(&self) -> Arc<ServerConfig> {
        let certificate = CertificateDer::from_pem_slice(self.chain.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes());
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.unwrap()], key.unwrap());
        Arc::new(config.unwrap())
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let key = KeyPair::generate().unwrap();
        let name = format!("test authority {:?}", &key.public_key_raw()[..4]);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn trusted(&self) -> TlsAuthorities {
        TlsAuthorities::pem(self.pem())
    }

    /// A client that trusts this authority only.
    pub(crate) fn client(&self) -> TlsClientBuilder {
        TlsClient::builder().authorities(self.trusted())
    }

    /// A client of rustls's that speaks TLS 1.2 only.
    pub(crate) fn tls12(&self) -> Arc<ClientConfig> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(self.trusted().load().unwrap())
            .with_no_client_auth();
        Arc::new(config)
    }

    pub(crate) fn leaf(&self, names: &[&str]) -> Leaf {
        self.leaf_with(names, |_| {})
    }

    pub(crate) fn leaf_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Leaf {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "test leaf");
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Leaf {
            chain: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A certificate for a client whose identity is in all kinds of names.
    pub(crate) fn person(&self) -> Leaf {
        self.leaf_with(&["device.example"], |params| {
            params
                .distinguished_name
                .push(DnType::CommonName, "someone");
            let uri = "spiffe://example/someone".try_into().unwrap();
            let email = "someone@example.org".try_into().unwrap();
            let names = &mut params.subject_alt_names;
            names.extend([SanType::URI(uri), SanType::Rfc822Name(email)]);
        })
    }

    pub(crate) fn expired(&self) -> Leaf {
        self.leaf_with(&["localhost"], |params| {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        })
    }

    pub(crate) fn not_yet_valid(&self) -> Leaf {
        self.leaf_with(&["localhost"], |params| {
            params.not_before = date_time_ymd(2090, 1, 1);
            params.not_after = date_time_ymd(2091, 1, 1);
        })
    }
}
