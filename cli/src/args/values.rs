//! How values are read, and what is said about those that cannot be.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use network_system::tls::TlsVersion;
use network_system::{
    Address, Endpoint, MulticastGroup, MulticastInterface, Network, QueuePolicy, RatePolicy,
};

use crate::units::Span;

/// The transports that reach other processes, as error texts list them.
pub(super) const SCHEMES: &str = "tcp, tls, unix, ws, wss, ws+unix or udp";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Toggle {
    #[value(alias = "true")]
    On,
    #[value(alias = "false")]
    Off,
}

impl Toggle {
    pub(crate) fn is_on(self) -> bool {
        self == Toggle::On
    }
}

impl From<bool> for Toggle {
    fn from(on: bool) -> Self {
        if on { Toggle::On } else { Toggle::Off }
    }
}

/// An endpoint that other processes can reach.
pub(super) fn url(text: &str) -> Result<Endpoint, String> {
    let Some((scheme, _)) = text.split_once("://") else {
        return Err(format!("expected scheme://… with {SCHEMES}"));
    };
    // Texts of the library name the transport inside of a process as well, which is none here.
    let scheme = scheme.to_ascii_lowercase();
    match scheme.as_str() {
        "tcp" | "tls" | "unix" | "ws" | "wss" | "ws+unix" | "udp" => {
            Endpoint::parse(text).map_err(|error| error.to_string())
        }
        "mem" => Err(format!(
            "mem:// reaches no other process, expected {SCHEMES}"
        )),
        "quic" | "grpc" => Err(format!(
            "`{scheme}` is not supported by this version, expected {SCHEMES}"
        )),
        "http" | "https" => Err(format!("WebSocket is ws:// or wss://, expected {SCHEMES}")),
        // Where it is no word, it may be anything.
        _ if scheme.len() <= 16 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            Err(format!("unknown scheme `{scheme}`, expected {SCHEMES}"))
        }
        _ => Err(format!("unknown scheme, expected {SCHEMES}")),
    }
}

pub(super) fn connect_url(text: &str) -> Result<Endpoint, String> {
    let endpoint = url(text)?;
    match endpoint.address() {
        Address::Tcp { port: 0, .. }
        | Address::Tls { port: 0, .. }
        | Address::WebSocket { port: 0, .. }
        | Address::Udp { port: 0, .. } => {
            Err("nobody listens at port 0, expected 1 to 65535".to_owned())
        }
        _ => Ok(endpoint),
    }
}

/// A network that proxies are in: `10.0.0.0/8`, or one address.
pub(super) fn network(text: &str) -> Result<Network, String> {
    Network::from_str(text).map_err(|error| error.to_string())
}

/// `*`, `null` for pages without one, or the origin of pages as browsers write it.
pub(super) fn allowed_origin(text: &str) -> Result<String, String> {
    match text {
        "*" | "null" => Ok(text.to_owned()),
        _ => origin(text).map_err(|text| format!("{text}, or * for all")),
    }
}

pub(super) fn origin(text: &str) -> Result<String, String> {
    let host = text.split_once("://").map(|(_, host)| host);
    match host {
        Some(host) if !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']) => {
            Ok(text.to_owned())
        }
        _ => Err("expected scheme://host or scheme://host:port".to_owned()),
    }
}

/// `239.1.2.3`, or with the interface: `239.1.2.3%192.168.1.5`, `ff02::1234%2`.
pub(super) fn multicast_group(text: &str) -> Result<MulticastGroup, String> {
    let expected = || {
        "expected GROUP or GROUP%INTERFACE, the interface by its index or its IPv4 address"
            .to_owned()
    };
    let (group, interface) = match text.split_once('%') {
        Some((group, interface)) => (group, Some(interface)),
        None => (text, None),
    };
    let group: IpAddr = group.parse().map_err(|_| expected())?;
    let group = MulticastGroup::new(group);
    let Some(interface) = interface else {
        return Ok(group);
    };
    if let Ok(index) = interface.parse() {
        return Ok(group.on(MulticastInterface::Index(index)));
    }
    let address: Ipv4Addr = interface.parse().map_err(|_| expected())?;
    Ok(group.on(MulticastInterface::V4(address)))
}

pub(super) fn tls_version() -> impl TypedValueParser<Value = TlsVersion> {
    PossibleValuesParser::new(TlsVersion::NAMES).try_map(|name| TlsVersion::from_str(&name))
}

pub(super) fn client_id(text: &str) -> Result<String, String> {
    match text.len() {
        1..=256 => Ok(text.to_owned()),
        _ => Err("expected 1 to 256 bytes".to_owned()),
    }
}

pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number from 1".to_owned()),
        Ok(number) => Ok(number),
    }
}

/// A name for a result, in one line.
pub(super) fn label(text: &str) -> Result<String, String> {
    let is_plain = !text.chars().any(char::is_control);
    match text.chars().count() {
        1..=200 if is_plain => Ok(text.to_owned()),
        _ => Err("expected 1 to 200 characters in one line".to_owned()),
    }
}

/// Percent, without the sign.
pub(super) fn percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(percent) if (0.0..=1_000.0).contains(&percent) => Ok(percent),
        _ => Err("expected percent from 0 to 1000, such as 10".to_owned()),
    }
}

pub(super) fn repeat(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=1_000).contains(&count) => Ok(count),
        _ => Err("expected 1 to 1000".to_owned()),
    }
}

pub(super) fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=1024).contains(&count) => Ok(count),
        _ => Err("expected 1 to 1024".to_owned()),
    }
}

pub(super) fn some_time(text: &str) -> Result<Span, String> {
    match text.parse()? {
        Span(Duration::ZERO) => Err("expected more than 0, such as 10s".to_owned()),
        span => Ok(span),
    }
}

pub(super) fn when_full() -> impl TypedValueParser<Value = QueuePolicy> {
    PossibleValuesParser::new(QueuePolicy::NAMES).try_map(|name| QueuePolicy::from_str(&name))
}

pub(super) fn when_rate_exceeded() -> impl TypedValueParser<Value = RatePolicy> {
    PossibleValuesParser::new(RatePolicy::NAMES).try_map(|name| RatePolicy::from_str(&name))
}

pub(super) fn count(text: &str) -> Result<usize, String> {
    text.parse()
        .map_err(|_| "expected a whole number from 0".to_owned())
}

pub(super) fn rate(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| "expected a whole number from 0".to_owned())
}

pub(super) fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count <= 1024 => Ok(count),
        _ => Err("expected 0 to 1024".to_owned()),
    }
}

/// How many cores there are.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}
