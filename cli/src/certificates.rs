//! Certificates that the program makes itself: for development, and for a server that has none.

use std::time::{Duration, SystemTime};

use network_system::tls::{CertificateInfo, TlsServer};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

use crate::exit::{ExitStatus, Failure, chain};

/// What the name of every authority begins with. The rest is of its key, so that two are told apart.
const AUTHORITY: &str = "netsys development CA";

/// Machines whose clocks are late accept a new certificate even so.
const LATE_CLOCKS: Duration = Duration::from_secs(3600);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A certificate and its key, in PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Pair {
    /// What the certificate says; also a check that the library takes the pair.
    pub(crate) fn info(&self) -> Result<CertificateInfo, Failure> {
        let server = TlsServer::from_pem(&self.certificate, &self.key)?;
        let first = server.certificates().into_iter().next();
        first.ok_or_else(|| Failure::new(ExitStatus::Failed, "no certificate was made"))
    }
}

/// What issues certificates.
pub(crate) struct Authority {
    pub(crate) pair: Pair,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(days: u32) -> Result<Self, Failure> {
        let key = key()?;
        let mut params = params(Vec::new(), &authority_name(&key), days)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        let pem = key.serialize_pem();
        let issuer = CertifiedIssuer::self_signed(params.clone(), &key).map_err(failed)?;
        Ok(Authority {
            pair: Pair {
                certificate: issuer.pem(),
                key: pem,
            },
            issuer: Issuer::new(params, key),
        })
    }

    /// One that this program made, from its files' texts.
    pub(crate) fn load(pair: Pair) -> Result<Self, Failure> {
        let info = pair.info()?;
        let key = KeyPair::from_pem(&pair.key).map_err(failed)?;
        let name = authority_name(&key);
        // What a certificate says of its issuer is made anew of the key, so it has to be one of these.
        if info.common_name().as_deref() != Some(&name) {
            return Err(Failure::usage(format_args!(
                "the authority was not made by netsys cert: its name is {:?}, expected {name:?}",
                info.common_name().unwrap_or_default()
            )));
        }
        let mut params = params(Vec::new(), &name, 1)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        Ok(Authority {
            pair,
            issuer: Issuer::new(params, key),
        })
    }

    /// Issues a certificate for a server with these names and addresses.
    pub(crate) fn server(&self, names: &[String], days: u32) -> Result<Pair, Failure> {
        let first = names.first().map_or("", String::as_str);
        let mut params = params(names.to_vec(), first, days)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params)
    }

    /// Issues a certificate for a client, who has the name both ways that servers look at.
    pub(crate) fn client(&self, name: &str, days: u32) -> Result<Pair, Failure> {
        let mut params = params(Vec::new(), name, days)?;
        // Where it can be none of these, it stands in the subject alone.
        if let Ok(text) = name.try_into() {
            if name.contains('@') {
                params.subject_alt_names.push(SanType::Rfc822Name(text));
            } else if is_dns_name(name) {
                params.subject_alt_names.push(SanType::DnsName(text));
            }
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params)
    }

    fn issue(&self, mut params: CertificateParams) -> Result<Pair, Failure> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = key()?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// A certificate that nobody vouches for.
pub(crate) fn self_signed(names: Vec<String>, days: u32) -> Result<Pair, Failure> {
    let mut params = params(names, "netsys ephemeral", days)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = key()?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

/// The pin of a certificate's key, as `--pin` takes it.
pub(crate) fn pin(info: &CertificateInfo) -> String {
    let digits = info.public_key_sha256();
    let digits: String = digits.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256/{digits}")
}

/// The names and addresses of a certificate.
pub(crate) fn names(info: &CertificateInfo) -> Vec<String> {
    let addresses = info.ip_addresses();
    let addresses = addresses.iter().map(ToString::to_string);
    info.dns_names().into_iter().chain(addresses).collect()
}

/// Whether a server can have this name: a DNS name, whose first label may be `*`, or an address.
pub(crate) fn is_server_name(name: &str) -> bool {
    name.parse::<std::net::IpAddr>().is_ok() || is_dns_name(name.strip_prefix("*.").unwrap_or(name))
}

fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len())
            && label.bytes().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// ECDSA on P-256.
fn key() -> Result<KeyPair, Failure> {
    KeyPair::generate().map_err(failed)
}

fn authority_name(key: &KeyPair) -> String {
    // The first byte says how the point is written.
    let bytes = key.public_key_raw().iter().skip(1).take(4);
    let digits: String = bytes.map(|byte| format!("{byte:02x}")).collect();
    format!("{AUTHORITY} {digits}")
}

fn params(names: Vec<String>, common_name: &str, days: u32) -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(LATE_CLOCKS);
    params.not_after = epoch + now + DAY * days;
    Ok(params)
}

fn failed(error: rcgen::Error) -> Failure {
    let text = format!("cannot make a certificate: {}", chain(&error));
    Failure::new(ExitStatus::Failed, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_servers_are_dns_names_and_addresses() {
        for name in [
            "localhost",
            "a-b.example.org",
            "*.example.org",
            "10.0.0.1",
            "::1",
        ] {
            assert!(is_server_name(name), "{name}");
        }
        for name in ["", "a b", "-a", "a..b", "*", "é.example", "a/b", "[::1]"] {
            assert!(!is_server_name(name), "{name}");
        }
    }

    #[test]
    fn what_is_issued_is_for_who_it_was_asked_for() {
        let authority = Authority::new(10).expect("an authority");
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let server = authority.server(&names, 1).expect("a certificate");
        assert_eq!(super::names(&server.info().expect("valid")), names);
        let client = authority.client("alice", 1).expect("a certificate");
        let info = client.info().expect("valid");
        assert_eq!(info.common_name().as_deref(), Some("alice"));
        let again = Authority::load(authority.pair).expect("the same authority");
        assert!(again.server(&names, 1).is_ok());
        let stranger = self_signed(names.to_vec(), 1).expect("a certificate");
        assert!(Authority::load(stranger).is_err());
    }
}
