//! Which of several certificates a client gets.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Parsed;

thread_local! {
    /// The name that the last client on this thread asked for. rustls's unbuffered connections do not tell it.
    static REQUESTED: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// The server name of the client hello that was processed on this thread since the last call.
pub(crate) fn take_requested_name() -> Option<Box<str>> {
    REQUESTED.take()
}

/// Certificates by the DNS names in them.
#[derive(Debug)]
pub(super) struct Resolver {
    /// All, in the order in which they were configured; the first is the default.
    all: Vec<Arc<CertifiedKey>>,
    /// Indices by exact name, in lower case.
    exact: HashMap<Box<str>, Vec<usize>>,
    /// Indices by what stands behind `*.`.
    wildcard: HashMap<Box<str>, Vec<usize>>,
}

impl Resolver {
    pub(super) fn new(keys: Vec<CertifiedKey>) -> Self {
        let mut resolver = Resolver {
            all: keys.into_iter().map(Arc::new).collect(),
            exact: HashMap::new(),
            wildcard: HashMap::new(),
        };
        for (index, key) in resolver.all.iter().enumerate() {
            let Some(certificate) = key.cert.first().and_then(|der| Parsed::new(der)) else {
                continue;
            };
            for name in certificate.dns_names() {
                let name = name.to_ascii_lowercase();
                let (map, name) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut resolver.wildcard, rest),
                    None => (&mut resolver.exact, name.as_str()),
                };
                map.entry(name.into()).or_default().push(index);
            }
        }
        resolver
    }

    fn candidates(&self, name: &str) -> &[usize] {
        let name = name.to_ascii_lowercase();
        if let Some(indices) = self.exact.get(name.as_str()) {
            return indices;
        }
        // A wildcard stands for exactly one label.
        let rest = name.split_once('.').map(|(_, rest)| rest);
        rest.and_then(|rest| self.wildcard.get(rest))
            .map_or(&[], Vec::as_slice)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        REQUESTED.set(name.map(Into::into));
        let indices = name.map_or(&[][..], |name| self.candidates(name));
        let named = indices.iter().filter_map(|&index| self.all.get(index));
        // One name may have certificates of several kinds, RSA and ECDSA; and a client that can use none of its
        // name's still learns more from a certificate that it refuses than from none.
        let usable = |key: &&Arc<CertifiedKey>| {
            let offered = hello.signature_schemes();
            key.key.choose_scheme(offered).is_some()
        };
        named
            .clone()
            .find(usable)
            .or_else(|| named.clone().next())
            .or_else(|| self.all.iter().find(usable))
            .or_else(|| self.all.first())
            .cloned()
    }
}
