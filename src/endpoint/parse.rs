//! Reading URLs.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use super::{Address, CodecKind, Endpoint, Host};
use crate::error::{ConfigError, ErrorCode};

/// The longest text of a user's that an error repeats, in characters.
const SHOWN_CHARS: usize = 64;

/// The longest DNS name and the longest label in it, in bytes (RFC 1035, section 2.3.4).
const NAME_BYTES: usize = 253;
const LABEL_BYTES: usize = 63;

/// The longest path and query of a WebSocket URL, in bytes.
const TARGET_BYTES: usize = 4096;

/// A URL behind its `scheme://`, split but not decoded.
pub(super) struct Parts<'a> {
    authority: &'a str,
    /// Empty, or begins with a slash.
    path: &'a str,
    /// Empty when there is none.
    query: &'a str,
}

impl<'a> Parts<'a> {
    pub(super) fn split(rest: &'a str) -> Result<Parts<'a>, ConfigError> {
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

    /// Refuses a host, for transports that have none.
    fn refuse_host(&self, form: &str) -> Result<(), ConfigError> {
        match self.authority {
            "" => Ok(()),
            host => {
                let expected = format!("no host: three slashes and an absolute path, {form}");
                Err(invalid("host", host, &expected))
            }
        }
    }

    /// The codec, which is the only option that there is.
    fn codec(&self) -> Result<Option<CodecKind>, ConfigError> {
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
        Ok(codec)
    }
}

/// Reads a host and a port that has to be there.
fn authority(parts: &Parts<'_>) -> Result<(Host, u16), ConfigError> {
    let (name, port) = split_port(parts.authority)?;
    let name = host(name)?;
    Ok((name, parse_port(port, parts.authority)?))
}

pub(super) fn tcp(parts: &Parts<'_>) -> Result<Endpoint, ConfigError> {
    let (host, port) = authority(parts)?;
    parts.refuse_path("tcp")?;
    let codec = parts.codec()?.unwrap_or_default();
    Endpoint::stream(Address::Tcp { host, port }).with_codec(codec)
}

pub(super) fn tls(parts: &Parts<'_>) -> Result<Endpoint, ConfigError> {
    let (host, port) = authority(parts)?;
    parts.refuse_path("tls")?;
    let codec = parts.codec()?.unwrap_or_default();
    Endpoint::stream(Address::Tls { host, port }).with_codec(codec)
}

pub(super) fn udp(parts: &Parts<'_>) -> Result<Endpoint, ConfigError> {
    let (host, port) = authority(parts)?;
    parts.refuse_path("udp")?;
    let endpoint = Endpoint {
        address: Address::Udp { host, port },
        codec: Some(CodecKind::Raw),
    };
    endpoint.with_codec(parts.codec()?.unwrap_or(CodecKind::Raw))
}

pub(super) fn unix(parts: &Parts<'_>) -> Result<Endpoint, ConfigError> {
    parts.refuse_host("unix:///path")?;
    let codec = parts.codec()?.unwrap_or_default();
    unix_endpoint(&decode("path", parts.path)?)?.with_codec(codec)
}

pub(super) fn websocket(parts: &Parts<'_>, secure: bool) -> Result<Endpoint, ConfigError> {
    let (name, port) = split_port(parts.authority)?;
    let name = host(name)?;
    let port = match port {
        None if secure => 443,
        None => 80,
        port => parse_port(port, parts.authority)?,
    };
    let address = Address::WebSocket {
        secure,
        host: name,
        port,
        target: target(parts.path, parts.query)?,
    };
    Ok(Endpoint {
        address,
        codec: None,
    })
}

pub(super) fn websocket_unix(parts: &Parts<'_>) -> Result<Endpoint, ConfigError> {
    parts.refuse_host("ws+unix:///path")?;
    let (path, rest) = match parts.path.split_once(":/") {
        // The slash is the first of what is asked for.
        Some((path, _)) => (path, &parts.path[path.len() + 1..]),
        None => (parts.path, ""),
    };
    let socket = socket_path(&decode("path", path)?)?;
    if socket.to_string_lossy().contains(":/") {
        return Err(invalid("path", path, "a path without `:/`"));
    }
    Ok(Endpoint {
        address: Address::WebSocketUnix {
            socket,
            target: target(rest, parts.query)?,
        },
        codec: None,
    })
}

/// What a WebSocket client asks for, as it stands in a request.
fn target(path: &str, query: &str) -> Result<String, ConfigError> {
    let path = if path.is_empty() { "/" } else { path };
    let target = match query {
        "" => path.to_owned(),
        query => format!("{path}?{query}"),
    };
    if !target.bytes().all(|byte| byte.is_ascii_graphic()) || target.contains(['"', '<', '>', '\\'])
    {
        let expected = "visible ASCII; percent-encode everything else";
        return Err(invalid("path", &target, expected));
    }
    if target.len() > TARGET_BYTES {
        return Err(invalid("path", &target, "at most 4 KiB with the query"));
    }
    Ok(target)
}

pub(super) fn memory(parts: &Parts<'_>) -> Result<Endpoint, ConfigError> {
    parts.refuse_path("mem")?;
    if let Some(option) = parts.options().next() {
        let (name, _) = option?;
        return Err(invalid("option", &name, "none: mem takes no options"));
    }
    Endpoint::memory(parts.authority)
}

pub(super) fn unix_endpoint(path: &str) -> Result<Endpoint, ConfigError> {
    Ok(Endpoint::stream(Address::Unix(socket_path(path)?)))
}

fn socket_path(path: &str) -> Result<PathBuf, ConfigError> {
    if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
        return Err(invalid(
            "path",
            path,
            "the absolute path of a socket, unix:///path",
        ));
    }
    Ok(PathBuf::from(path))
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
pub(super) fn host(text: &str) -> Result<Host, ConfigError> {
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
pub(crate) fn decode(part: &str, text: &str) -> Result<String, ConfigError> {
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
pub(super) fn write_encoded(f: &mut fmt::Formatter<'_>, path: &[u8]) -> fmt::Result {
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
pub(super) fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// The error for a bad part of the URL; the text stays on one line.
pub(super) fn invalid(part: &str, value: &str, expected: &str) -> ConfigError {
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
