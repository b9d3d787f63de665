//! The certificates of a server, and how they are read again.

use std::time::SystemTime;

use network_system::tls::{TlsIdentity, TlsServer};
use serde_json::json;

use crate::certificates::{names, pin, self_signed};
use crate::exit::{Failure, chain};
use crate::output::Output;
use crate::settings::TlsSettings;

/// How long a certificate is valid that the server makes for itself: longer than most servers run.
const EPHEMERAL_DAYS: u32 = 365;

/// What the server shows to clients, when a listener has TLS.
pub(super) struct Certificates {
    pub(super) tls: Option<TlsServer>,
    /// Whether they come from files.
    has_files: bool,
    output: Output,
}

impl Certificates {
    /// Reads the files, or makes a certificate where there are none, and says so.
    pub(super) fn new(settings: Option<&TlsSettings>, output: Output) -> Result<Self, Failure> {
        let Some(settings) = settings else {
            return Ok(Certificates {
                tls: None,
                has_files: false,
                output,
            });
        };
        let mut identities = settings.identities();
        let (builder, ephemeral) = match identities.next() {
            Some(first) => (TlsServer::builder(first), false),
            None => (TlsServer::builder(ephemeral(&settings.hosts)?), true),
        };
        let builder = identities
            .fold(builder, |builder, more| builder.add_certificate(more))
            .client_auth(settings.client_auth.clone())
            .min_version(settings.min_version);
        let tls = builder.build()?;
        if ephemeral {
            for certificate in tls.certificates() {
                let (names, pin) = (names(&certificate), pin(&certificate));
                let event = json!({ "event": "ephemeral_certificate", "names": names, "pin": pin });
                let names = names.join(", ");
                let text = format!(
                    "no --cert: an ephemeral self-signed certificate for {names}; clients know it \
                     by --insecure --pin {pin}"
                );
                output.note(&event, &text);
            }
        }
        Ok(Certificates {
            tls: Some(tls),
            has_files: !ephemeral,
            output,
        })
    }

    /// Whether there is anything to read again.
    pub(super) fn has_files(&self) -> bool {
        self.has_files
    }

    /// Reads the files again, if there are any. When something is wrong with them, what was read before stays.
    pub(super) async fn reload(&self) {
        let Some(tls) = self.tls.clone().filter(|_| self.has_files) else {
            return;
        };
        let reading = tls.clone();
        let result = tokio::task::spawn_blocking(move || reading.reload()).await;
        let error = match result {
            Ok(Ok(())) => return self.tell(&tls),
            Ok(Err(error)) => chain(&error),
            Err(error) => error.to_string(),
        };
        let text = format!("the certificates stay as they are: {error}");
        self.output
            .problem(&json!({ "event": "reload_failed", "text": text }), &text);
    }

    fn tell(&self, tls: &TlsServer) {
        let certificates = tls.certificates();
        let objects: Vec<_> = certificates
            .iter()
            .map(|certificate| {
                let left = certificate.not_after().duration_since(SystemTime::now());
                json!({
                    "names": names(certificate),
                    "pin": pin(certificate),
                    "valid_seconds": left.unwrap_or_default().as_secs(),
                })
            })
            .collect();
        let shown: Vec<_> = certificates
            .iter()
            .map(|certificate| format!("{} ({})", names(certificate).join(", "), pin(certificate)))
            .collect();
        self.output.note(
            &json!({ "event": "reloaded", "certificates": objects }),
            &format!("certificates read again: {}", shown.join("; ")),
        );
    }
}

/// For this machine and the hosts of the listeners.
fn ephemeral(hosts: &[String]) -> Result<TlsIdentity, Failure> {
    let mut names = ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .to_vec();
    for host in hosts {
        // A name may end with a dot, which those of certificates do not.
        let host = host.strip_suffix('.').unwrap_or(host);
        if !names.iter().any(|name| name == host) {
            names.push(host.to_owned());
        }
    }
    let pair = self_signed(names, EPHEMERAL_DAYS)?;
    Ok(TlsIdentity::pem(&pair.certificate, &pair.key))
}
