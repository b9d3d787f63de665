//! Who may ask for what: the names under which a dashboard is known, pages of other origins, and the token.
//!
//! A browser sends whatever any page asks it to. A page of another origin gives itself away by `Origin` or
//! `Sec-Fetch-Site`, and one whose name was made to point to this address (DNS rebinding) by `Host`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use axum::http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode};

use crate::answer::{Refusal, quoted};
use crate::error::DashboardError;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Tokens with fewer characters could be guessed.
const TOKEN_LEAST: usize = 16;
const TOKEN_MOST: usize = 1_024;

/// The admin token. Only its hash is kept, so that neither the time of a comparison nor memory tells of it.
///
/// Nobody counts wrong ones. A token of 128 bits is not guessed, however often one tries, and a limit would be a
/// way to lock the operator out.
#[derive(Clone)]
pub(crate) struct Token([u8; 32]);

impl Token {
    pub(crate) fn new(text: &str) -> Result<Self, DashboardError> {
        let error = |text: String| Err(DashboardError::configuration(text));
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return error("the admin token has to be of visible ASCII characters".into());
        }
        let len = text.len();
        if !(TOKEN_LEAST..=TOKEN_MOST).contains(&len) {
            return error(format!(
                "the admin token has {len} characters; {TOKEN_LEAST} to {TOKEN_MOST} are allowed, and 32 random ones \
                 are good"
            ));
        }
        Ok(Token(hash(text)))
    }

    fn is(&self, text: &str) -> bool {
        verify_slices_are_equal(&self.0, &hash(text)).is_ok()
    }
}

fn hash(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

/// Where a dashboard is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// By a listener of its own.
    Bound(SocketAddr),
    /// In an application's own HTTP server, whose address nobody knows here.
    Mounted,
}

/// Whether a request carried the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admin(pub(crate) bool);

/// The rules of one place.
pub(crate) struct Access {
    pub(crate) place: Place,
    pub(crate) token: Option<Token>,
    /// Configured names, in lower case; those without a port are allowed with any.
    pub(crate) names: Vec<Name>,
}

impl Access {
    /// Whether somebody without the token may do nothing but look at the empty page.
    fn reading_needs_token(&self) -> bool {
        match self.place {
            Place::Bound(addr) => !is_loopback(addr.ip()),
            // Who can reach it is not known, so that a token, where there is one, is asked for.
            Place::Mounted => self.token.is_some(),
        }
    }

    /// Checks a request before anything else looks at it.
    pub(crate) fn admit(&self, parts: &Parts) -> Result<Admin, Refusal> {
        let path = parts.uri.path();
        let headers = &parts.headers;
        let host = self.host(parts)?;
        self.origin(headers, &host)?;
        let is_page = path == "/" && matches!(parts.method, Method::GET | Method::HEAD);
        fetch_site(headers, is_page)?;
        let admin = self.authorization(headers)?;
        let is_open =
            is_page || path.starts_with("/assets/") || path == "/healthz" || path == "/readyz";
        if self.reading_needs_token() && !admin.0 && !is_open {
            return Err(Refusal::unauthorized("this needs the admin token"));
        }
        Ok(admin)
    }

    /// What changes something needs the token wherever it is asked for.
    pub(crate) fn require(&self, admin: Admin) -> Result<(), Refusal> {
        match (&self.token, admin) {
            (None, _) => Err(Refusal::forbidden(
                "read-only: no admin token is configured",
            )),
            (Some(_), Admin(false)) => Err(Refusal::unauthorized("this needs the admin token")),
            (Some(_), Admin(true)) => Ok(()),
        }
    }

    /// The name by which the client asked, when it is one of ours.
    fn host(&self, parts: &Parts) -> Result<Name, Refusal> {
        let mut fields = parts.headers.get_all(HOST).iter();
        let (Some(field), None) = (fields.next(), fields.next()) else {
            return Err(Refusal::bad_request("a request needs one Host header"));
        };
        let name = field
            .to_str()
            .ok()
            .and_then(Name::parse)
            .ok_or_else(|| Refusal::bad_request("the Host header cannot be read"))?;
        if let Some(authority) = parts.uri.authority()
            && Name::parse(authority.as_str()).as_ref() != Some(&name)
        {
            return Err(Refusal::bad_request(
                "the target is for another host than the Host header",
            ));
        }
        if !self.knows(&name) {
            let name = quoted(&name.to_string());
            return Err(Refusal::new(
                StatusCode::MISDIRECTED_REQUEST,
                format!("this dashboard is not known as {name}; other names have to be configured"),
            ));
        }
        Ok(name)
    }

    fn knows(&self, name: &Name) -> bool {
        let is_configured = self.names.iter().any(|known| {
            known.host == name.host && (known.port.is_none() || known.port == name.port)
        });
        if is_configured {
            return true;
        }
        let ip = name.ip();
        let is_local = name.host == "localhost" || ip.is_some_and(is_loopback);
        match self.place {
            // No name points to an IP address but by itself, so that these cannot be rebound.
            Place::Mounted => ip.is_some() || name.host == "localhost",
            Place::Bound(addr) if addr.ip().is_unspecified() => ip.is_some() || is_local,
            Place::Bound(addr) => {
                let same_port = name.port.unwrap_or(80) == addr.port();
                let bound = addr.ip().to_canonical();
                same_port && (ip == Some(bound) || is_loopback(bound) && is_local)
            }
        }
    }

    /// A request that a page made: the page is ours.
    fn origin(&self, headers: &HeaderMap, host: &Name) -> Result<(), Refusal> {
        let mut fields = headers.get_all(ORIGIN).iter();
        let Some(origin) = fields.next() else {
            return Ok(());
        };
        let origin = origin.to_str().unwrap_or_default();
        let is_ours = fields.next().is_none()
            && match origin.split_once("://") {
                Some(("http", rest)) => Name::parse(rest).as_ref() == Some(host),
                // A proxy, or the application that this is mounted in, does TLS.
                Some(("https", rest)) => {
                    let names = self.names.iter();
                    Name::parse(rest).as_ref() == Some(host)
                        && (self.place == Place::Mounted
                            || names.into_iter().any(|known| known.host == host.host))
                }
                _ => false,
            };
        match is_ours {
            true => Ok(()),
            false => Err(Refusal::forbidden(format!(
                "pages of {} may not ask here",
                quoted(origin)
            ))),
        }
    }

    fn authorization(&self, headers: &HeaderMap) -> Result<Admin, Refusal> {
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        let Some(field) = fields.next() else {
            return Ok(Admin(false));
        };
        // Where none is configured, none is right, and reading is open to those who have one for other servers.
        let Some(token) = &self.token else {
            return Ok(Admin(false));
        };
        let given = field.to_str().ok().and_then(|text| text.split_once(' '));
        match given {
            Some((scheme, text))
                if scheme.eq_ignore_ascii_case("bearer")
                    && token.is(text.trim())
                    && fields.next().is_none() =>
            {
                Ok(Admin(true))
            }
            _ => Err(Refusal::unauthorized("the token is not the right one")),
        }
    }
}

/// Browsers say where a request comes from. Other pages may lead to the page here, and no more.
fn fetch_site(headers: &HeaderMap, is_page: bool) -> Result<(), Refusal> {
    let Some(site) = headers.get(SEC_FETCH_SITE) else {
        return Ok(());
    };
    let is_navigation = headers
        .get(SEC_FETCH_MODE)
        .is_some_and(|mode| mode == "navigate");
    if site == "same-origin" || site == "none" || is_page && is_navigation {
        return Ok(());
    }
    Err(Refusal::forbidden("other pages may not ask here"))
}

/// Whether only this machine can reach the address.
pub(crate) fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Host and port of a `Host` header, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    host: String,
    port: Option<u16>,
}

impl Name {
    pub(crate) fn parse(text: &str) -> Option<Name> {
        let authority: Authority = text.parse().ok()?;
        if authority.host().is_empty() || text.contains('@') {
            return None;
        }
        // `host:` with an empty port, or one over 65,535, is nothing that a browser sends.
        let port = match authority.port() {
            Some(port) => Some(port.as_u16()),
            None if text.len() > authority.host().len() => return None,
            None => None,
        };
        let host = authority.host().to_ascii_lowercase();
        Some(Name { host, port })
    }

    fn ip(&self) -> Option<IpAddr> {
        let bare = self
            .host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        match bare {
            Some(bare) => bare
                .parse::<Ipv6Addr>()
                .ok()
                .map(|ip| IpAddr::V6(ip).to_canonical()),
            None => self.host.parse().ok(),
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}
