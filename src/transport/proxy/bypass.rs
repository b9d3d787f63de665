//! What is connected to without the proxy.

use crate::endpoint::Host;
use crate::transport::network::Network;

/// A list as in `NO_PROXY`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bypass(Vec<Exception>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    Everything,
    Network(Network),
    /// A name and all names in it: in lower case, without dots at its ends.
    Domain(String),
}

impl Bypass {
    /// Reads hosts that are separated by commas or white space. There is no wrong list, as people share
    /// one between programs that understand different things; what is not understood matches nothing.
    pub(super) fn parse(list: &str) -> Self {
        let hosts = list.split(|c: char| c == ',' || c.is_whitespace());
        Bypass(hosts.filter_map(Exception::parse).collect())
    }

    pub(super) fn contains(&self, host: &Host) -> bool {
        self.0.iter().any(|exception| exception.contains(host))
    }
}

impl Exception {
    fn parse(host: &str) -> Option<Self> {
        if host == "*" {
            return Some(Exception::Everything);
        }
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        if let Ok(network) = bare.unwrap_or(host).parse() {
            return Some(Exception::Network(network));
        }
        let name = host.trim_matches('.');
        (!name.is_empty()).then(|| Exception::Domain(name.to_ascii_lowercase()))
    }

    fn contains(&self, host: &Host) -> bool {
        match (self, host) {
            (Exception::Everything, _) => true,
            (Exception::Network(network), Host::Ip(ip)) => network.contains(*ip),
            (Exception::Domain(domain), Host::Name(name)) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                let before = name.strip_suffix(domain.as_str());
                before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        match text.parse() {
            Ok(ip) => Host::Ip(ip),
            Err(_) => Host::Name(text.to_owned()),
        }
    }

    #[test]
    fn names_stand_for_what_is_in_them_and_networks_for_addresses() {
        let bypass =
            Bypass::parse("localhost,.Example.ORG, 10.0.0.0/8 192.0.2.1,[::1],fd00::/8,,.");
        for inside in [
            "localhost",
            "example.org",
            "example.org.",
            "a.b.example.org",
            "10.1.2.3",
            "192.0.2.1",
            "::1",
            "fd00::1",
        ] {
            assert!(bypass.contains(&host(inside)), "{inside}");
        }
        for outside in [
            "notexample.org",
            "example.org.evil",
            "org",
            "localhost.localdomain",
            "127.0.0.1",
            "192.0.2.2",
            "::2",
        ] {
            assert!(!bypass.contains(&host(outside)), "{outside}");
        }
    }

    #[test]
    fn a_star_is_everything_and_nothing_is_nothing() {
        let (all, none) = (Bypass::parse(" * "), Bypass::parse(" , "));
        for any in ["example.org", "192.0.2.1", "::1"] {
            assert!(all.contains(&host(any)));
            assert!(!none.contains(&host(any)));
        }
    }
}
