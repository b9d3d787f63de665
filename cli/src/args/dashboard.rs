//! The options about dashboards: of `serve`, which has one, and of `top`, which looks at one.

#![allow(
    rustdoc::bare_urls,
    rustdoc::invalid_html_tags,
    reason = "the texts are those of --help"
)]

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use hyper::Uri;
use zeroize::Zeroizing;

use super::values::Toggle;

/// The port of a dashboard that is not told.
pub(crate) const DASHBOARD_PORT: u16 = 7680;

/// What `serve` shows of itself.
#[derive(Args, Debug)]
pub(crate) struct DashboardArgs {
    /// The address of the web page, of its API and of /metrics, or `off`; off loopback it needs a token
    /// [default: 127.0.0.1:7680, if that is free]
    #[arg(long, value_name = "ADDR|off", value_parser = place, help_heading = "Dashboard")]
    pub(crate) dashboard: Option<DashboardPlace>,

    /// Who knows this token may disconnect sessions and send to them; without one, the dashboard only shows
    #[arg(long, value_name = "TOKEN", env = "NETSYS_DASHBOARD_TOKEN", hide_env_values = true,
        value_parser = token, conflicts_with = "dashboard_token_file", help_heading = "Dashboard")]
    pub(crate) dashboard_token: Option<AdminToken>,

    /// Read the token from the first line of a file, which nobody else should be able to read
    #[arg(long, value_name = "FILE", help_heading = "Dashboard")]
    pub(crate) dashboard_token_file: Option<PathBuf>,

    /// A name under which browsers reach the dashboard, besides its address; can be given more than once
    #[arg(long, value_name = "NAME", value_parser = host_name, help_heading = "Dashboard")]
    pub(crate) dashboard_host: Vec<String>,

    /// Take times of handlers, requests and PINGs; the dashboard needs them, and off takes the default one away [default: on with a dashboard]
    #[arg(
        long,
        value_name = "on|off",
        value_enum,
        hide_possible_values = true,
        help_heading = "Dashboard"
    )]
    pub(crate) metrics: Option<Toggle>,
}

/// Where the dashboard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DashboardPlace {
    Off,
    At(SocketAddr),
}

impl DashboardPlace {
    /// Where it is when nothing is said.
    pub(crate) const DEFAULT: SocketAddr =
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DASHBOARD_PORT);
}

fn place(text: &str) -> Result<DashboardPlace, String> {
    if matches!(text, "off" | "false") {
        return Ok(DashboardPlace::Off);
    }
    // As it is printed, too.
    let address = text.strip_prefix("http://").unwrap_or(text);
    let address = address.strip_suffix('/').unwrap_or(address);
    let port = address.strip_prefix("localhost:");
    let local = port.and_then(|port| Some((Ipv4Addr::LOCALHOST, port.parse().ok()?).into()));
    local
        .or_else(|| address.parse().ok())
        .map(DashboardPlace::At)
        .ok_or_else(|| "expected IP:PORT such as 127.0.0.1:7680, or off".to_owned())
}

/// A secret that opens the dashboard.
#[derive(Clone)]
pub(crate) struct AdminToken(Zeroizing<String>);

impl AdminToken {
    /// The longest one.
    const MAX: usize = 1024;

    /// Texts do not show what was given.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        // What a field of a request can carry.
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        match text.len() {
            1..=Self::MAX if is_plain => Ok(AdminToken(Zeroizing::new(text.to_owned()))),
            0 => Err("the token is empty".to_owned()),
            1..=Self::MAX => Err("expected printable ASCII without spaces".to_owned()),
            _ => Err("expected at most 1024 characters".to_owned()),
        }
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

pub(super) fn token(text: &str) -> Result<AdminToken, String> {
    AdminToken::new(text)
}

fn host_name(text: &str) -> Result<String, String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    match text.len() {
        1..=253 if text.bytes().all(is_name) => Ok(text.to_ascii_lowercase()),
        _ => Err("expected a host name such as status.example.org, without a port".to_owned()),
    }
}

/// Where a dashboard is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DashboardUrl {
    /// A name or an address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What stands before the paths of the API: empty, or `/path`.
    pub(crate) base: String,
}

impl DashboardUrl {
    /// Host and port, as requests name them.
    pub(crate) fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match self.port {
            80 => host,
            port => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for DashboardUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.base)
    }
}

pub(super) fn dashboard_url(text: &str) -> Result<DashboardUrl, String> {
    let expected = "expected http://HOST:PORT, where a server has its dashboard";
    let full = match text.split_once("://") {
        Some(("http", _)) => text.to_owned(),
        Some(("https", _)) => {
            return Err(
                "this program speaks to dashboards without TLS: name its http:// address, or go \
                 through a tunnel such as ssh -L"
                    .to_owned(),
            );
        }
        Some(_) => return Err(expected.to_owned()),
        None => format!("http://{text}"),
    };
    let uri: Uri = full.parse().map_err(|_| expected.to_owned())?;
    let authority = uri.authority().ok_or(expected)?;
    // No user, no password: the token has an option.
    if authority.as_str().contains('@') || uri.query().is_some() {
        return Err(expected.to_owned());
    }
    let host = authority.host().trim_matches(['[', ']']);
    let port = match authority.port_u16() {
        Some(0) => return Err("nobody listens at port 0, expected 1 to 65535".to_owned()),
        Some(port) => port,
        None if authority.as_str() == authority.host() => 80,
        None => return Err(expected.to_owned()),
    };
    if host.is_empty() {
        return Err(expected.to_owned());
    }
    Ok(DashboardUrl {
        host: host.to_owned(),
        port,
        base: uri.path().trim_end_matches('/').to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_or_off() {
        for (text, expected) in [
            ("off", DashboardPlace::Off),
            ("false", DashboardPlace::Off),
            (
                "127.0.0.1:7680",
                DashboardPlace::At(DashboardPlace::DEFAULT),
            ),
            (
                "localhost:7680",
                DashboardPlace::At(DashboardPlace::DEFAULT),
            ),
            (
                "http://127.0.0.1:7680/",
                DashboardPlace::At(DashboardPlace::DEFAULT),
            ),
        ] {
            assert_eq!(place(text), Ok(expected), "{text}");
        }
        for text in ["", "on", "7680", ":7680", "127.0.0.1", "example.org:80"] {
            assert!(place(text).is_err(), "{text}");
        }
    }

    #[test]
    fn urls_of_dashboards_come_back_as_they_were() {
        for text in [
            "http://127.0.0.1:7680",
            "http://[::1]:7680",
            "http://example.org",
            "http://example.org:81/status",
        ] {
            let url = dashboard_url(text).expect(text);
            assert_eq!(url.to_string(), text);
        }
        let bare = dashboard_url("localhost:7680/").expect("a bare address");
        assert_eq!(bare.to_string(), "http://localhost:7680");
        for text in [
            "",
            "https://127.0.0.1",
            "tcp://127.0.0.1:1",
            "http://127.0.0.1:0",
            "http://127.0.0.1:99999",
            "http://user:password@127.0.0.1",
            "http://127.0.0.1/?a=b",
            "http://",
            "a b",
        ] {
            assert!(dashboard_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn tokens_are_not_shown() {
        let token = AdminToken::new("secret").expect("a token");
        assert!(!format!("{token:?}").contains("secret"));
        for text in ["", "a b", "ü", "a\n"] {
            let error = AdminToken::new(text).expect_err(text);
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
    }
}
