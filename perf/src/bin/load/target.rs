//! The server's URL.

use std::net::SocketAddr;
use std::str::FromStr;

use network_system_perf::scheme::Scheme;

/// Where and how to reach the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) scheme: Scheme,
    pub(crate) address: SocketAddr,
    /// What is asked for in the upgrade to WebSocket.
    pub(crate) path: String,
}

impl FromStr for Target {
    type Err = String;

    /// Reads `SCHEME://ADDRESS:PORT/PATH`; without a scheme it is `tcp`.
    fn from_str(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("tcp", url));
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        Ok(Self {
            scheme: scheme.parse()?,
            address: authority
                .parse()
                .map_err(|_| format!("\"{authority}\" is not an address with a port"))?,
            path: if path.starts_with('/') {
                path.to_owned()
            } else {
                format!("/{path}")
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_scheme_address_and_path() {
        let parse = |url: &str| {
            url.parse().map(
                |Target {
                     scheme,
                     address,
                     path,
                 }| (scheme, address.port(), path),
            )
        };
        let tcp = Ok((Scheme::Tcp, 7600, "/".to_owned()));
        assert_eq!(parse("127.0.0.1:7600"), tcp);
        assert_eq!(parse("tcp://127.0.0.1:7600"), tcp);
        assert_eq!(
            parse("wss://[::1]:7601/chat?a=b"),
            Ok((Scheme::Wss, 7601, "/chat?a=b".to_owned()))
        );
        assert_eq!(
            parse("udp://127.0.0.1:1?codec=raw"),
            Ok((Scheme::Udp, 1, "/?codec=raw".to_owned()))
        );
        assert!(parse("http://127.0.0.1:80").is_err());
        assert!(parse("ws://localhost:80").is_err());
    }
}
