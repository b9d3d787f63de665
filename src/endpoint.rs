//! Where to listen or connect, written as a URL.
//!
//! ```
//! use network_system::{Address, CodecKind, Endpoint};
//!
//! let endpoint = Endpoint::parse("TCP://[::1]:8080?codec=lines")?;
//! assert_eq!(endpoint.codec(), Some(CodecKind::Lines));
//! assert!(matches!(endpoint.address(), Address::Tcp { port: 8080, .. }));
//! assert_eq!(endpoint.to_string(), "tcp://[::1]:8080?codec=lines");
//! # Ok::<(), network_system::ConfigError>(())
//! ```
//!
//! Error texts name the part that is wrong and never show what stands before an `@`: people put
//! passwords there, and texts end up in logs.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{ConfigError, ErrorCode};

/// The schemes that this version can serve and connect to, as error texts list them.
const SCHEMES: &str = "tcp, unix or mem";

/// Schemes of the protocol that have no transport in this version.
const PLANNED_SCHEMES: &[&str] = &["tls", "ws", "wss", "udp", "quic", "grpc"];

/// The longest text of a user's that an error repeats, in characters.
const SHOWN_CHARS: usize = 64;

/// The longest DNS name and the longest label in it, in bytes (RFC 1035, section 2.3.4).
const NAME_BYTES: usize = 253;
const LABEL_BYTES: usize = 63;

/// Where a server listens or a client connects, and how bytes become messages there.
///
/// | URL | transport |
/// |---|---|
/// | `tcp://host:port` | TCP; the host is a name, an IPv4 address, or an IPv6 address in brackets |
/// | `unix:///path` | a Unix socket; the path is absolute, `%20` stands for a space |
/// | `mem://name` | in process; letters, digits and `-._~` |
///
/// Byte streams (`tcp`, `unix`) take the option `?codec=msgi|raw|lines|length`; `msgi` is the default.
/// Port 0 asks the system for a free port. [`Display`](fmt::Display) gives the canonical URL, which
/// parses to an equal endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    address: Address,
    /// `Some` for byte streams and only for them.
    codec: Option<CodecKind>,
}

/// The address of an [`Endpoint`], by transport.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// TCP.
    Tcp {
        /// The host to listen on or to connect to.
        host: Host,
        /// The port; 0 lets the system choose one for a listener.
        port: u16,
    },
    /// A Unix socket at an absolute path. It parses on every platform.
    Unix(PathBuf),
    /// A listener of the same process, by name.
    Memory(String),
}

/// The host part of an address.
///
/// It is complete: a host is either an address or a name that resolves to addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address; nothing has to be resolved.
    Ip(IpAddr),
    /// A DNS name in lower case.
    Name(String),
}

/// How a byte stream is cut into messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CodecKind {
    /// MSGI frames: messages, requests, heartbeats and everything else that sessions can do.
    #[default]
    Msgi,
    /// Each read is one message. Boundaries are not kept.
    Raw,
    /// Lines of text that end in LF or CRLF.
    Lines,
    /// A 4-byte big-endian length before each message, which does not count itself.
    Length,
}

impl Endpoint {
    /// Reads a URL.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotSupported`] for a transport that this version lacks, and
    /// [`ErrorCode::InvalidConfiguration`] for everything else: an unknown scheme, option or codec, a
    /// missing or impossible port, a malformed host or path, user information, a fragment.
    pub fn parse(url: &str) -> Result<Endpoint, ConfigError> {
        if url.chars().any(char::is_control) {
            return Err(invalid(
                "URL",
                url,
                "a URL without control characters; percent-encode them",
            ));
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(invalid("URL", url, &format!("scheme://… with {SCHEMES}")));
        };
        let scheme = scheme.to_ascii_lowercase();
        let parts = Parts::split(rest);
        match scheme.as_str() {
            "tcp" => parse_tcp(&parts?),
            "unix" => parse_unix(&parts?),
            "mem" => parse_memory(&parts?),
            planned if PLANNED_SCHEMES.contains(&planned) => Err(ConfigError::new(
                ErrorCode::NotSupported,
                format!("scheme: `{planned}` is not supported by this version, expected {SCHEMES}"),
            )),
            unknown => Err(invalid("scheme", unknown, SCHEMES)),
        }
    }

    /// A TCP endpoint that speaks MSGI.
    ///
    /// `host` is a DNS name or an address; an IPv6 address may stand in brackets or not.
    ///
    /// # Errors
    ///
    /// `host` is neither a name nor an address.
    pub fn tcp(host: &str, port: u16) -> Result<Endpoint, ConfigError> {
        let host = match host.parse::<Ipv6Addr>() {
            Ok(address) => Host::Ip(address.into()),
            Err(_) => parse_host(host)?,
        };
        Ok(Endpoint::stream(Address::Tcp { host, port }))
    }

    /// A Unix socket endpoint that speaks MSGI.
    ///
    /// # Errors
    ///
    /// `path` cannot be written as a URL and read back: it is not absolute, not UTF-8, ends in a slash
    /// or holds a zero byte.
    pub fn unix(path: impl AsRef<Path>) -> Result<Endpoint, ConfigError> {
        let path = path.as_ref();
        match path.to_str() {
            Some(text) => unix_endpoint(text),
            None => Err(invalid("path", &path.to_string_lossy(), "a UTF-8 path")),
        }
    }

    /// An endpoint of this process.
    ///
    /// # Errors
    ///
    /// `name` is empty or holds other characters than ASCII letters, digits and `-._~`.
    pub fn memory(name: &str) -> Result<Endpoint, ConfigError> {
        let allowed = |byte: u8| is_unreserved(byte);
        if name.is_empty() || !name.bytes().all(allowed) {
            return Err(invalid("name", name, "ASCII letters, digits and -._~"));
        }
        Ok(Endpoint {
            address: Address::Memory(name.to_owned()),
            codec: None,
        })
    }

    /// The same endpoint with another codec.
    ///
    /// # Errors
    ///
    /// The transport carries frames, not bytes, and so takes no codec.
    pub fn with_codec(self, codec: CodecKind) -> Result<Endpoint, ConfigError> {
        if self.codec.is_none() {
            let expected = format!("none: {} takes no codec", self.scheme());
            return Err(invalid("codec", codec.name(), &expected));
        }
        Ok(Endpoint {
            codec: Some(codec),
            ..self
        })
    }

    /// The address.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// How the byte stream is cut into messages; `None` for transports that carry frames.
    pub fn codec(&self) -> Option<CodecKind> {
        self.codec
    }

    /// The scheme of the URL, in lower case.
    pub fn scheme(&self) -> &'static str {
        match self.address {
            Address::Tcp { .. } => "tcp",
            Address::Unix(_) => "unix",
            Address::Memory(_) => "mem",
        }
    }

    fn stream(address: Address) -> Endpoint {
        Endpoint {
            address,
            codec: Some(CodecKind::default()),
        }
    }
}

impl FromStr for Endpoint {
    type Err = ConfigError;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        Endpoint::parse(url)
    }
}

/// A TCP endpoint that speaks MSGI. The scope of an IPv6 address has no place in a URL and is lost.
impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Endpoint::stream(Address::Tcp {
            host: Host::Ip(address.ip()),
            port: address.port(),
        })
    }
}

/// Writes the canonical URL: lower case where case has no meaning, no option at its default.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme())?;
        match &self.address {
            Address::Tcp { host, port } => write!(f, "{host}:{port}")?,
            Address::Unix(path) => write_encoded(f, path.as_os_str().as_encoded_bytes())?,
            Address::Memory(name) => f.write_str(name)?,
        }
        match self.codec {
            Some(codec) if codec != CodecKind::default() => write!(f, "?codec={codec}"),
            _ => Ok(()),
        }
    }
}

/// Writes the host as it stands in a URL, an IPv6 address in brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Ip(IpAddr::V4(address)) => write!(f, "{address}"),
            Host::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Host::Name(name) => f.write_str(name),
        }
    }
}

impl CodecKind {
    /// Every codec.
    pub const ALL: &'static [CodecKind] = &[
        CodecKind::Msgi,
        CodecKind::Raw,
        CodecKind::Lines,
        CodecKind::Length,
    ];

    /// The name, as it stands in a URL.
    pub const fn name(self) -> &'static str {
        match self {
            CodecKind::Msgi => "msgi",
            CodecKind::Raw => "raw",
            CodecKind::Lines => "lines",
            CodecKind::Length => "length",
        }
    }
}

impl FromStr for CodecKind {
    type Err = ConfigError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = CodecKind::ALL.iter().find(|codec| codec.name() == name);
        found
            .copied()
            .ok_or_else(|| invalid("codec", name, "msgi, raw, lines or length"))
    }
}

impl fmt::Display for CodecKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A URL behind its `scheme://`, split but not decoded.
struct Parts<'a> {
    authority: &'a str,
    /// Empty, or begins with a slash.
    path: &'a str,
    /// Empty when there is none.
    query: &'a str,
}

impl<'a> Parts<'a> {
    fn split(rest: &'a str) -> Result<Parts<'a>, ConfigError> {
        if let Some((_, fragment)) = rest.split_once('#') {
            return Err(invalid(
                "fragment",
                fragment,
                "none; write %23 for # in a path",
            ));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(ConfigError::new(
                ErrorCode::InvalidConfiguration,
                "user information: an endpoint has none, expected nothing before an `@`",
            ));
        }
        Ok(Parts {
            authority,
            path,
            query,
        })
    }

    /// Refuses a path, for transports that have none. One slash is what URL libraries append.
    fn refuse_path(&self, scheme: &str) -> Result<(), ConfigError> {
        match self.path {
            "" | "/" => Ok(()),
            path => Err(invalid(
                "path",
                path,
                &format!("none: {scheme} takes no path"),
            )),
        }
    }

    /// The options in the order of the URL, decoded.
    fn options(&self) -> impl Iterator<Item = Result<(String, String), ConfigError>> + '_ {
        let pairs = (!self.query.is_empty()).then(|| self.query.split('&'));
        pairs.into_iter().flatten().map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode("option", name)?, decode(name, value)?))
        })
    }

    /// The codec of a byte stream, which is the only option that one has.
    fn codec(&self) -> Result<CodecKind, ConfigError> {
        let mut codec = None;
        for option in self.options() {
            let (name, value) = option?;
            if name != "codec" {
                return Err(invalid("option", &name, "codec"));
            }
            if codec.replace(value.parse()?).is_some() {
                return Err(invalid("codec", &value, "the option once"));
            }
        }
        Ok(codec.unwrap_or_default())
    }
}

fn parse_tcp(parts: &Parts<'_>) -> Result<Endpoint, ConfigError> {
    let (host, port) = split_port(parts.authority)?;
    let host = parse_host(host)?;
    let port = parse_port(port, parts.authority)?;
    parts.refuse_path("tcp")?;
    Endpoint::stream(Address::Tcp { host, port }).with_codec(parts.codec()?)
}

fn parse_unix(parts: &Parts<'_>) -> Result<Endpoint, ConfigError> {
    if !parts.authority.is_empty() {
        let expected = "no host: three slashes and an absolute path, unix:///path";
        return Err(invalid("host", parts.authority, expected));
    }
    unix_endpoint(&decode("path", parts.path)?)?.with_codec(parts.codec()?)
}

fn parse_memory(parts: &Parts<'_>) -> Result<Endpoint, ConfigError> {
    parts.refuse_path("mem")?;
    if let Some(option) = parts.options().next() {
        let (name, _) = option?;
        return Err(invalid("option", &name, "none: mem takes no options"));
    }
    Endpoint::memory(parts.authority)
}

fn unix_endpoint(path: &str) -> Result<Endpoint, ConfigError> {
    if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
        return Err(invalid(
            "path",
            path,
            "the absolute path of a socket, unix:///path",
        ));
    }
    Ok(Endpoint::stream(Address::Unix(PathBuf::from(path))))
}

/// Splits `host:port`; the port is `None` when there is no colon for it.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), ConfigError> {
    if authority.starts_with('[') {
        let Some(end) = authority.find(']') else {
            return Err(invalid("host", authority, "a closing bracket, [::1]"));
        };
        let (host, rest) = authority.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(invalid("port", rest, "a colon and a port after the `]`")),
        };
    }
    match authority.rsplit_once(':') {
        Some((host, _)) if host.contains(':') => {
            let expected = "an IPv6 address in brackets, [::1]:8080";
            Err(invalid("host", authority, expected))
        }
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

fn parse_port(port: Option<&str>, authority: &str) -> Result<u16, ConfigError> {
    let digits = port.unwrap_or("");
    if digits.is_empty() {
        return Err(ConfigError::new(
            ErrorCode::InvalidConfiguration,
            format!(
                "port: missing after `{}`, expected host:port with a port from 0 to 65535",
                shown(authority)
            ),
        ));
    }
    // `u16::from_str` alone would accept a leading plus sign.
    let number = digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse() {
        Ok(port) if number => Ok(port),
        _ => Err(invalid("port", digits, "a number from 0 to 65535")),
    }
}

/// Reads the host of a URL: an IPv6 address in brackets, an IPv4 address, or a name.
fn parse_host(text: &str) -> Result<Host, ConfigError> {
    if let Some(inner) = text.strip_prefix('[') {
        let address = inner.strip_suffix(']').unwrap_or(inner);
        return match address.parse::<Ipv6Addr>() {
            Ok(address) => Ok(Host::Ip(address.into())),
            Err(_) => Err(invalid(
                "host",
                text,
                "an IPv6 address without a zone in the brackets",
            )),
        };
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok(Host::Ip(address.into()));
    }
    if text.is_empty() {
        return Err(invalid(
            "host",
            text,
            "a name or an address; 0.0.0.0 or [::] listens on all",
        ));
    }
    if ends_in_number(text) {
        // Resolvers read `127.1`, `0x7f.1` and `2130706433` as addresses, each in its own way.
        return Err(invalid(
            "host",
            text,
            "an IPv4 address of four decimal numbers",
        ));
    }
    let labels = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        // The underscore is not of the host name syntax, but container networks use it.
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=LABEL_BYTES).contains(&label.len()) && label.bytes().all(allowed)
    };
    if labels.len() > NAME_BYTES || !labels.split('.').all(is_label) {
        let expected = "a DNS name or an address; international names in their xn-- form";
        return Err(invalid("host", text, expected));
    }
    Ok(Host::Name(text.to_ascii_lowercase()))
}

/// Whether the last label is a number, decimal or hexadecimal, so that the host can't be a name.
fn ends_in_number(host: &str) -> bool {
    let labels = host.strip_suffix('.').unwrap_or(host);
    let last = labels.rsplit('.').next().unwrap_or(labels);
    let hex = last
        .strip_prefix("0x")
        .or_else(|| last.strip_prefix("0X"))
        .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hex || (!last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Resolves `%XX` in the part of a URL that is called `part` in errors.
fn decode(part: &str, text: &str) -> Result<String, ConfigError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        match (
            rest.next().and_then(hex_digit),
            rest.next().and_then(hex_digit),
        ) {
            (Some(high), Some(low)) => bytes.push(high << 4 | low),
            _ => return Err(invalid(part, text, "two hexadecimal digits after each %")),
        }
    }
    // Paths on Unix may be any bytes. Text alone means the same on every platform and in every log.
    String::from_utf8(bytes).map_err(|_| invalid(part, text, "UTF-8 after percent-decoding"))
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// Writes a path with everything percent-encoded that would not be read back as it is.
fn write_encoded(f: &mut fmt::Formatter<'_>, path: &[u8]) -> fmt::Result {
    for &byte in path {
        if is_unreserved(byte) || b"/!$&'()*+,;=:@".contains(&byte) {
            write!(f, "{}", char::from(byte))?;
        } else {
            write!(f, "%{byte:02X}")?;
        }
    }
    Ok(())
}

/// The characters that mean themselves anywhere in a URL (RFC 3986, section 2.3).
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// The error for a bad part of the URL; the text stays on one line.
fn invalid(part: &str, value: &str, expected: &str) -> ConfigError {
    ConfigError::option(&shown(part), shown(value), expected)
}

/// A piece of the user's text, fit for an error: one line, not too long, nothing before an `@`.
fn shown(text: &str) -> String {
    let text = match text.rsplit_once('@') {
        Some((_, after)) => Cow::Owned(format!("…@{after}")),
        None => Cow::Borrowed(text),
    };
    let mut shown: String = text
        .chars()
        .take(SHOWN_CHARS)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(url: &str) -> Endpoint {
        Endpoint::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    fn error(url: &str) -> ConfigError {
        match Endpoint::parse(url) {
            Ok(endpoint) => panic!("{url} was read as {endpoint:?}"),
            Err(error) => error,
        }
    }

    #[test]
    fn urls_come_back_in_canonical_form() {
        let table = [
            ("tcp://127.0.0.1:8080", "tcp://127.0.0.1:8080"),
            ("TCP://LocalHost:0/", "tcp://localhost:0"),
            ("tcp://[0:0::1]:80", "tcp://[::1]:80"),
            ("tcp://example.org.:80", "tcp://example.org.:80"),
            ("tcp://my_service:00080", "tcp://my_service:80"),
            ("tcp://h:1?codec=msgi", "tcp://h:1"),
            ("tcp://h:1?", "tcp://h:1"),
            ("tcp://h:1/?codec=raw", "tcp://h:1?codec=raw"),
            ("tcp://h:1?codec=%6cines", "tcp://h:1?codec=lines"),
            ("unix:///run/a.sock", "unix:///run/a.sock"),
            (
                "unix:///a%20b%3Fc?codec=length",
                "unix:///a%20b%3Fc?codec=length",
            ),
            ("unix:///tmp/ä b", "unix:///tmp/%C3%A4%20b"),
            ("mem://Test-1", "mem://Test-1"),
        ];
        for (url, canonical) in table {
            assert_eq!(parse(url).to_string(), canonical, "{url}");
        }
    }

    #[test]
    fn hosts_are_addresses_or_names() {
        let host = |url: &str| match parse(url).address() {
            Address::Tcp { host, .. } => host.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(host("tcp://[::1]:1"), Host::Ip(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(
            host("tcp://127.0.0.1:1"),
            Host::Ip(Ipv4Addr::LOCALHOST.into())
        );
        assert_eq!(host("tcp://A.example:1"), Host::Name("a.example".into()));
    }

    #[test]
    fn unix_paths_are_decoded() {
        let endpoint = parse("unix:///tmp/a%20b%23c");
        assert_eq!(*endpoint.address(), Address::Unix("/tmp/a b#c".into()));
        assert_eq!(endpoint.codec(), Some(CodecKind::Msgi));
    }

    #[test]
    fn each_error_names_the_bad_part_and_what_is_valid() {
        let table = [
            ("localhost:80", "URL: `localhost:80`", "tcp, unix or mem"),
            ("http://h:1", "scheme: `http`", "tcp, unix or mem"),
            ("tcp://h", "port: missing after `h`", "0 to 65535"),
            ("tcp://h:", "port: missing after `h:`", "0 to 65535"),
            ("tcp://[::1]", "port: missing after `[::1]`", "0 to 65535"),
            ("tcp://h:65536", "port: `65536`", "0 to 65535"),
            ("tcp://h:+1", "port: `+1`", "0 to 65535"),
            ("tcp://h:http", "port: `http`", "0 to 65535"),
            ("tcp://:80", "host: ``", "0.0.0.0"),
            ("tcp://::1:80", "host: `::1:80`", "brackets"),
            ("tcp://[::1:80", "host: `[::1:80`", "closing bracket"),
            ("tcp://[::1]80", "port: `80`", "colon"),
            (
                "tcp://[fe80::1%25eth0]:1",
                "host: `[fe80::1%25eth0]`",
                "zone",
            ),
            ("tcp://[1.2.3.4]:1", "host: `[1.2.3.4]`", "IPv6"),
            ("tcp://127.1:80", "host: `127.1`", "four decimal"),
            ("tcp://a.0x7f:80", "host: `a.0x7f`", "four decimal"),
            ("tcp://1.2.3.256:80", "host: `1.2.3.256`", "four decimal"),
            ("tcp://a..b:80", "host: `a..b`", "DNS name"),
            ("tcp://bücher.example:80", "host: `bücher.example`", "xn--"),
            ("tcp://a%2eb:80", "host: `a%2eb`", "DNS name"),
            ("tcp://h:1/chat", "path: `/chat`", "no path"),
            ("tcp://h:1#top", "fragment: `top`", "none"),
            (
                "tcp://h:1?codec=json",
                "codec: `json`",
                "msgi, raw, lines or length",
            ),
            ("tcp://h:1?codec", "codec: ``", "msgi, raw, lines or length"),
            ("tcp://h:1?speed=9", "option: `speed`", "codec"),
            ("tcp://h:1?codec=raw&", "option: ``", "codec"),
            ("tcp://h:1?codec=raw&codec=raw", "codec: `raw`", "once"),
            ("tcp://h:1?codec=%f", "codec: `%f`", "hexadecimal"),
            ("unix://run/a.sock", "host: `run`", "unix:///path"),
            ("unix:///", "path: `/`", "unix:///path"),
            ("unix:///a/", "path: `/a/`", "unix:///path"),
            ("unix:///a%00b", "path: `/a\\0b`", "unix:///path"),
            ("unix:///a%zz", "path: `/a%zz`", "hexadecimal"),
            ("unix:///a%FF", "path: `/a%FF`", "UTF-8"),
            ("mem://", "name: ``", "letters"),
            ("mem://a:1", "name: `a:1`", "letters"),
            (
                "mem://a?codec=raw",
                "option: `codec`",
                "mem takes no options",
            ),
            ("tcp://h:1\n", "URL: `tcp://h:1\\n`", "control"),
        ];
        for (url, names, expects) in table {
            let error = error(url);
            let text = error.to_string();
            assert_eq!(error.code(), ErrorCode::InvalidConfiguration, "{url}");
            assert!(
                text.starts_with(names) && text.contains(expects),
                "{url}: {text}"
            );
            assert!(!text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn planned_transports_are_not_supported_rather_than_unknown() {
        for scheme in PLANNED_SCHEMES {
            let error = error(&format!("{scheme}://h:1"));
            assert_eq!(error.code(), ErrorCode::NotSupported);
            assert!(error.to_string().contains(SCHEMES), "{error}");
        }
    }

    #[test]
    fn errors_never_show_user_information() {
        for url in [
            "tcp://user:secret@h:1",
            "user:secret@h:1",
            "secret@h://x",
            "tcp://h:1#secret@x",
            "tcp://h:1?token=secret@x",
        ] {
            let text = error(url).to_string();
            assert!(!text.contains("secret"), "{text}");
        }
        let long = error(&format!("tcp://h:{}", "9".repeat(1000)));
        assert!(long.to_string().len() < 200, "{long}");
    }

    #[test]
    fn constructors_check_like_the_parser() {
        assert_eq!(Endpoint::tcp("::1", 80).ok(), Some(parse("tcp://[::1]:80")));
        assert_eq!(
            Endpoint::tcp("[::1]", 80).ok(),
            Some(parse("tcp://[::1]:80"))
        );
        assert!(Endpoint::tcp("a b", 80).is_err());
        assert_eq!(Endpoint::unix("/a b").ok(), Some(parse("unix:///a%20b")));
        assert!(Endpoint::unix("relative").is_err());
        assert!(Endpoint::memory("a/b").is_err());
        assert!(parse("mem://a").with_codec(CodecKind::Raw).is_err());
        let address = SocketAddr::from(([127, 0, 0, 1], 7));
        assert_eq!(Endpoint::from(address), parse("tcp://127.0.0.1:7"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(url in ".*", rest in "[\\[\\]:/?#%&=.@a0]{0,24}") {
            let _ = Endpoint::parse(&url);
            for scheme in ["tcp", "unix", "mem"] {
                if let Ok(endpoint) = Endpoint::parse(&format!("{scheme}://{rest}")) {
                    let again = Endpoint::parse(&endpoint.to_string());
                    prop_assert_eq!(again.ok(), Some(endpoint));
                }
            }
        }

        #[test]
        fn every_endpoint_survives_its_url(
            path in "/[^\\x00/][^\\x00]{0,20}",
            address: SocketAddr,
            codec in proptest::sample::select(CodecKind::ALL),
        ) {
            let endpoints = [Endpoint::unix(path), Ok(Endpoint::from(address))];
            for endpoint in endpoints.into_iter().flatten() {
                let endpoint = endpoint.with_codec(codec).expect("a byte stream");
                let again = Endpoint::parse(&endpoint.to_string());
                prop_assert_eq!(again.ok(), Some(endpoint));
            }
        }
    }
}
