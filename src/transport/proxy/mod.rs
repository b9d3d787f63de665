//! Clients behind proxies: HTTP CONNECT and SOCKS5.

mod bypass;
mod http;
mod socks;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use self::bypass::Bypass;
use super::happy_eyeballs;
use crate::client::Resolver;
use crate::endpoint::{self, Address, Endpoint, Host};
use crate::error::{ConfigError, ErrorCode};

const SCHEMES: &str = "http, socks5 or socks5h";

/// The longest user name and password of SOCKS5, in bytes (RFC 1929). HTTP has the same limit here.
const CREDENTIAL_MAX: usize = 255;

/// The environment's variables, the first one that is set counts. Those without capitals come first, as
/// with curl.
const VARIABLES: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
const BYPASS_VARIABLES: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// A proxy through which a client connects.
///
/// | URL | how | default port |
/// |---|---|---|
/// | `http://user:password@host:port` | HTTP CONNECT, for any TCP connection; the proxy resolves names | 80 |
/// | `socks5://user:password@host:port` | SOCKS5; names are resolved here | 1080 |
/// | `socks5h://user:password@host:port` | SOCKS5; the proxy resolves names | 1080 |
///
/// The user and the password may be left out; in both, `%40` stands for an `@`. They go to the proxy in clear
/// text, because that is what these protocols do, and are never shown: neither by `Debug` and
/// [`Display`](fmt::Display) nor in errors.
///
/// ```
/// use network_system::Proxy;
///
/// let proxy = Proxy::parse("socks5h://alice:secret@proxy.example:1080")?.bypass("localhost, 10.0.0.0/8");
/// assert_eq!(proxy.to_string(), "socks5h://proxy.example:1080");
/// # Ok::<(), network_system::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    kind: Kind,
    host: Host,
    port: u16,
    credentials: Option<Credentials>,
    bypass: Bypass,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Http,
    Socks5,
    /// The proxy resolves names.
    Socks5h,
}

#[derive(Clone, PartialEq, Eq)]
struct Credentials {
    user: String,
    password: String,
}

impl Proxy {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`ErrorCode::NotSupported`] for other kinds of proxies that are known, such as `https` and `socks4`,
    /// and [`ErrorCode::InvalidConfiguration`] for everything else. No text shows a user or a password.
    pub fn parse(url: &str) -> Result<Proxy, ConfigError> {
        // Until it is known where the password is, nothing of the URL can be shown.
        let Some((scheme, rest)) = url.split_once("://") else {
            let text = format!("proxy: expected scheme://host:port with {SCHEMES}");
            return Err(invalid(text));
        };
        let scheme = scheme.to_ascii_lowercase();
        let kind = match scheme.as_str() {
            "http" => Kind::Http,
            "socks5" => Kind::Socks5,
            "socks5h" => Kind::Socks5h,
            "https" | "socks4" | "socks4a" => {
                let text = format!("proxy: `{scheme}` is not supported, expected {SCHEMES}");
                return Err(ConfigError::new(ErrorCode::NotSupported, text));
            }
            _ => return Err(invalid(format!("proxy: expected the scheme {SCHEMES}"))),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            let text = "proxy: no path, query or fragment is expected behind host:port; in a user or \
                password, write %2F for a slash, %3F for a question mark and %23 for a hash";
            return Err(invalid(text));
        }
        let (credentials, authority) = match rest.rsplit_once('@') {
            Some((user_info, authority)) => (Some(Credentials::parse(kind, user_info)?), authority),
            None => (None, rest),
        };
        let (host, port) = host_and_port(authority, kind.default_port())?;
        Ok(Proxy {
            kind,
            host,
            port,
            credentials,
            bypass: Bypass::default(),
        })
    }

    /// The proxy that the environment asks for: the first of `https_proxy`, `HTTPS_PROXY`, `all_proxy` and
    /// `ALL_PROXY` that is set and not empty, `http://` where it has no scheme, with the exceptions in
    /// `no_proxy` or `NO_PROXY`. A client does not look there by itself.
    ///
    /// # Errors
    /// The variable holds something that [`parse`](Self::parse) refuses, or is not Unicode; the text names
    /// the variable.
    pub fn from_env() -> Result<Option<Proxy>, ConfigError> {
        Self::from_variables(|name| {
            let value = std::env::var_os(name)?;
            Some(value.into_string().map_err(|_| ()))
        })
    }

    fn from_variables(
        variable: impl Fn(&str) -> Option<Result<String, ()>>,
    ) -> Result<Option<Proxy>, ConfigError> {
        let first = |names: &[&'static str]| {
            let set = names.iter().find_map(|name| match variable(name)? {
                Ok(value) if value.trim().is_empty() => None,
                Ok(value) => Some(Ok((*name, value.trim().to_owned()))),
                Err(()) => Some(Err(invalid(format!("{name}: expected Unicode")))),
            });
            set.transpose()
        };
        let Some((name, mut url)) = first(&VARIABLES)? else {
            return Ok(None);
        };
        if !url.contains("://") {
            url.insert_str(0, "http://");
        }
        let proxy = Proxy::parse(&url)
            .map_err(|error| ConfigError::new(error.code(), format!("{name}: {error}")))?;
        let exceptions = first(&BYPASS_VARIABLES)?;
        Ok(Some(match exceptions {
            Some((_, hosts)) => proxy.bypass(&hosts),
            None => proxy,
        }))
    }

    /// Sets what is connected to directly: hosts, separated by commas or spaces, as in `NO_PROXY`.
    ///
    /// `example.org` and `.example.org` stand for that name and all names in it, an address or
    /// `10.0.0.0/8` for addresses, and `*` for everything. Names are not resolved to be compared.
    pub fn bypass(mut self, hosts: &str) -> Self {
        self.bypass = Bypass::parse(hosts);
        self
    }

    /// Whether connections to this host go through the proxy.
    pub fn applies_to(&self, host: &Host) -> bool {
        !self.bypass.contains(host)
    }
}

impl Kind {
    fn scheme(self) -> &'static str {
        match self {
            Kind::Http => "http",
            Kind::Socks5 => "socks5",
            Kind::Socks5h => "socks5h",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Kind::Http => 80,
            Kind::Socks5 | Kind::Socks5h => 1080,
        }
    }
}

impl Credentials {
    fn parse(kind: Kind, user_info: &str) -> Result<Self, ConfigError> {
        let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
        let decode = |text| {
            let decoded = endpoint::parse::decode("proxy", text);
            // The error of the decoder shows the text.
            decoded.map_err(|_| invalid("proxy: the user or password is not percent-encoded UTF-8"))
        };
        let (user, password) = (decode(user)?, decode(password)?);
        let is_long = user.len() > CREDENTIAL_MAX || password.len() > CREDENTIAL_MAX;
        if user.is_empty() || is_long {
            let text = "proxy: expected a user of 1 to 255 bytes and a password of at most 255";
            return Err(invalid(text));
        }
        if kind == Kind::Http {
            let has_control = user.chars().chain(password.chars()).any(char::is_control);
            if has_control || user.contains(':') {
                let text = "proxy: HTTP allows no control characters, and no colon in the user";
                return Err(invalid(text));
            }
        } else if password.is_empty() {
            return Err(invalid("proxy: SOCKS5 does not allow an empty password"));
        }
        Ok(Credentials { user, password })
    }
}

/// Reads them as the URLs of endpoints have them.
fn host_and_port(authority: &str, default_port: u16) -> Result<(Host, u16), ConfigError> {
    let behind_brackets = authority
        .rsplit_once(']')
        .map_or(authority, |(_, rest)| rest);
    let endpoint = match behind_brackets.contains(':') {
        true => Endpoint::parse(&format!("tcp://{authority}")),
        false => Endpoint::parse(&format!("tcp://{authority}:{default_port}")),
    };
    let endpoint =
        endpoint.map_err(|error| ConfigError::new(error.code(), format!("proxy: {error}")))?;
    match endpoint.address() {
        Address::Tcp { host, port } if *port != 0 => Ok((host.clone(), *port)),
        _ => Err(invalid("proxy: expected a port from 1 to 65535")),
    }
}

fn invalid(text: impl Into<std::borrow::Cow<'static, str>>) -> ConfigError {
    ConfigError::new(ErrorCode::InvalidConfiguration, text)
}

/// The URL without the user and the password.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.kind.scheme(), self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("url", &format_args!("{self}"))
            .field("has_credentials", &self.credentials.is_some())
            .field("bypass", &self.bypass)
            .finish()
    }
}

impl std::str::FromStr for Proxy {
    type Err = ConfigError;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        Proxy::parse(url)
    }
}

/// Connects to a host through a proxy; `dial` connects to one address of the proxy, and the stream that
/// comes back leads to the host. Whether the proxy [applies](Proxy::applies_to) is for the caller to ask.
///
/// There is no deadline here: the caller sets one. Dropping the future ends every attempt.
///
/// # Errors
/// Resolving a name, connecting to the proxy, or what [`tunnel`] reports. That the proxy refuses to be
/// connected to is not `ConnectionRefused`, which would mean the host.
pub(crate) async fn connect<C, F>(
    proxy: &Proxy,
    host: &Host,
    port: u16,
    resolver: &dyn Resolver,
    dial: C,
) -> io::Result<TcpStream>
where
    C: Fn(SocketAddr) -> F,
    F: Future<Output = io::Result<TcpStream>>,
{
    let targets = match (proxy.kind, host) {
        (Kind::Socks5, Host::Name(name)) => {
            let found = resolver.resolve(name, port).await?;
            found.into_iter().map(|addr| Host::Ip(addr.ip())).collect()
        }
        _ => vec![host.clone()],
    };
    let proxies = match &proxy.host {
        Host::Ip(ip) => vec![SocketAddr::new(*ip, proxy.port)],
        Host::Name(name) => {
            let found = resolver.resolve(name, proxy.port).await;
            found.map_err(|error| of_proxy(proxy, error))?
        }
    };
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "there is no address to connect to");
    // One after the other. A proxy that is to choose, and to hurry, gets the name: `socks5h`.
    for target in targets.iter().take(happy_eyeballs::MAX_ADDRESSES) {
        let delay = happy_eyeballs::ATTEMPT_DELAY;
        let stream = happy_eyeballs::connect_any(proxies.clone(), delay, &dial).await;
        let stream = stream.map_err(|error| of_proxy(proxy, error))?;
        match tunnel(proxy, stream, target, port).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Asks the proxy at the other end of `stream` to connect to a host. What the host sends is left in the
/// stream, to the first byte.
///
/// # Errors
/// `PermissionDenied` when the proxy wants other credentials or does not allow the host,
/// `ConnectionRefused`, `HostUnreachable`, `NetworkUnreachable` and `TimedOut` when it says so of the host,
/// `InvalidData` when it does not speak the protocol, `UnexpectedEof` when it hangs up. The text names the
/// proxy and the status.
pub(crate) async fn tunnel(
    proxy: &Proxy,
    mut stream: TcpStream,
    host: &Host,
    port: u16,
) -> io::Result<TcpStream> {
    let credentials = proxy.credentials.as_ref();
    let result = match proxy.kind {
        Kind::Http => http::connect(&mut stream, credentials, host, port).await,
        Kind::Socks5 | Kind::Socks5h => socks::connect(&mut stream, credentials, host, port).await,
    };
    match result {
        Ok(()) => Ok(stream),
        Err(error) => Err(named(proxy, error.kind(), error)),
    }
}

/// The proxy itself could not be reached.
fn of_proxy(proxy: &Proxy, error: io::Error) -> io::Error {
    let kind = match error.kind() {
        io::ErrorKind::ConnectionRefused => io::ErrorKind::Other,
        kind => kind,
    };
    named(proxy, kind, error)
}

fn named(proxy: &Proxy, kind: io::ErrorKind, error: io::Error) -> io::Error {
    io::Error::new(kind, format!("proxy {proxy}: {error}"))
}

#[cfg(test)]
mod tests;
