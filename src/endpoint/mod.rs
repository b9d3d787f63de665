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

pub(crate) mod parse;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use self::parse::{Parts, invalid, is_unreserved, write_encoded};
use crate::error::{ConfigError, ErrorCode};

/// The schemes that this version can serve and connect to, as error texts list them.
const SCHEMES: &str = "tcp, tls, unix, ws, wss, ws+unix, udp or mem";

/// Schemes of the protocol that have no transport in this version.
const PLANNED_SCHEMES: &[&str] = &["quic", "grpc"];

/// Where a server listens or a client connects, and how bytes become messages there.
///
/// | URL | transport |
/// |---|---|
/// | `tcp://host:port` | TCP; the host is a name, an IPv4 address, or an IPv6 address in brackets |
/// | `tls://host:port` | the same inside TLS |
/// | `unix:///path` | a Unix socket; the path is absolute, `%20` stands for a space |
/// | `ws://host:port/path?query` | WebSocket; without a port, 80 |
/// | `wss://host:port/path?query` | WebSocket inside TLS; without a port, 443 |
/// | `ws+unix:///path:/target` | WebSocket on a Unix socket; what is asked for stands behind `:/` |
/// | `udp://host:port` | UDP |
/// | `mem://name` | in process; letters, digits and `-._~` |
///
/// Byte streams (`tcp`, `tls`, `unix`) take the option `?codec=msgi|raw|lines|length`; `msgi` is the default.
/// UDP takes `?codec=raw|msgi`; `raw` is the default there. The query of a WebSocket URL is the
/// application's. Port 0 asks the system for a free port. [`Display`](fmt::Display) gives the canonical URL, which
/// parses to an equal endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    address: Address,
    /// `Some` for byte streams and datagrams, and only for them.
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
    /// TLS over TCP.
    Tls {
        /// The host to listen on or to connect to.
        host: Host,
        /// The port; 0 lets the system choose one for a listener.
        port: u16,
    },
    /// A Unix socket at an absolute path. It parses on every platform.
    Unix(PathBuf),
    /// WebSocket over TCP or TLS.
    WebSocket {
        /// Whether TLS is below.
        secure: bool,
        /// The host to listen on or to connect to.
        host: Host,
        /// The port; 0 lets the system choose one for a listener.
        port: u16,
        /// The path and, behind a `?`, the query. Begins with a slash.
        target: String,
    },
    /// WebSocket over a Unix socket.
    WebSocketUnix {
        /// The absolute path of the socket.
        socket: PathBuf,
        /// The path and, behind a `?`, the query. Begins with a slash.
        target: String,
    },
    /// UDP.
    Udp {
        /// The host to listen on or to send to.
        host: Host,
        /// The port; 0 lets the system choose one for a listener.
        port: u16,
    },
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
            "tcp" => parse::tcp(&parts?),
            "tls" => parse::tls(&parts?),
            "unix" => parse::unix(&parts?),
            "ws" => parse::websocket(&parts?, false),
            "wss" => parse::websocket(&parts?, true),
            "ws+unix" => parse::websocket_unix(&parts?),
            "udp" => parse::udp(&parts?),
            "mem" => parse::memory(&parts?),
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
        let host = Host::new(host)?;
        Ok(Endpoint::stream(Address::Tcp { host, port }))
    }

    /// A TLS endpoint that speaks MSGI. See [`tcp`](Self::tcp).
    ///
    /// # Errors
    ///
    /// `host` is neither a name nor an address.
    pub fn tls(host: &str, port: u16) -> Result<Endpoint, ConfigError> {
        let host = Host::new(host)?;
        Ok(Endpoint::stream(Address::Tls { host, port }))
    }

    /// A UDP endpoint whose datagrams are messages.
    ///
    /// # Errors
    ///
    /// `host` is neither a name nor an address.
    pub fn udp(host: &str, port: u16) -> Result<Endpoint, ConfigError> {
        let host = Host::new(host)?;
        Ok(Endpoint {
            address: Address::Udp { host, port },
            codec: Some(CodecKind::Raw),
        })
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
            Some(text) => parse::unix_endpoint(text),
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
    /// The transport takes no codec because it carries frames, or not this one.
    pub fn with_codec(self, codec: CodecKind) -> Result<Endpoint, ConfigError> {
        if self.codec.is_none() {
            let expected = format!("none: {} takes no codec", self.scheme());
            return Err(invalid("codec", codec.name(), &expected));
        }
        if matches!(self.address, Address::Udp { .. })
            && !matches!(codec, CodecKind::Raw | CodecKind::Msgi)
        {
            return Err(invalid("codec", codec.name(), "raw or msgi on udp"));
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

    /// How bytes or datagrams become messages; `None` for transports that carry frames.
    pub fn codec(&self) -> Option<CodecKind> {
        self.codec
    }

    /// The codec that stands for itself and is left out of the URL.
    fn default_codec(&self) -> CodecKind {
        match self.address {
            Address::Udp { .. } => CodecKind::Raw,
            _ => CodecKind::Msgi,
        }
    }

    /// The scheme of the URL, in lower case.
    pub fn scheme(&self) -> &'static str {
        match self.address {
            Address::Tcp { .. } => "tcp",
            Address::Tls { .. } => "tls",
            Address::Unix(_) => "unix",
            Address::WebSocket { secure: false, .. } => "ws",
            Address::WebSocket { secure: true, .. } => "wss",
            Address::WebSocketUnix { .. } => "ws+unix",
            Address::Udp { .. } => "udp",
            Address::Memory(_) => "mem",
        }
    }

    /// The same endpoint at the address where it was bound.
    pub(crate) fn at(&self, bound: SocketAddr) -> Endpoint {
        let mut endpoint = self.clone();
        match &mut endpoint.address {
            Address::Tcp { host, port }
            | Address::Tls { host, port }
            | Address::Udp { host, port }
            | Address::WebSocket { host, port, .. } => {
                *host = Host::Ip(bound.ip());
                *port = bound.port();
            }
            Address::Unix(_) | Address::WebSocketUnix { .. } | Address::Memory(_) => {}
        }
        endpoint
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
        self.write(f, |target| target)
    }
}

/// An endpoint as logs and errors show it: without the query of a WebSocket's target, where tokens stand.
pub(crate) struct Place<'a>(pub(crate) &'a Endpoint);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f, |target| {
            target.split_once('?').map_or(target, |(path, _)| path)
        })
    }
}

impl Endpoint {
    fn write(&self, f: &mut fmt::Formatter<'_>, shown: impl Fn(&str) -> &str) -> fmt::Result {
        write!(f, "{}://", self.scheme())?;
        match &self.address {
            Address::Tcp { host, port }
            | Address::Tls { host, port }
            | Address::Udp { host, port } => write!(f, "{host}:{port}")?,
            Address::WebSocket {
                host, port, target, ..
            } => {
                write!(f, "{host}:{port}")?;
                if target != "/" {
                    f.write_str(shown(target))?;
                }
            }
            Address::WebSocketUnix { socket, target } => {
                write_encoded(f, socket.as_os_str().as_encoded_bytes())?;
                if target != "/" {
                    write!(f, ":{}", shown(target))?;
                }
            }
            Address::Unix(path) => write_encoded(f, path.as_os_str().as_encoded_bytes())?,
            Address::Memory(name) => f.write_str(name)?,
        }
        match self.codec {
            Some(codec) if codec != self.default_codec() => write!(f, "?codec={codec}"),
            _ => Ok(()),
        }
    }
}

impl Host {
    /// A host outside a URL: an IPv6 address may stand in brackets or not.
    fn new(host: &str) -> Result<Host, ConfigError> {
        match host.parse::<Ipv6Addr>() {
            Ok(address) => Ok(Host::Ip(address.into())),
            Err(_) => parse::host(host),
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
