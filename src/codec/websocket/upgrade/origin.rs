//! Who may come in: which web pages, and under which names of this host.
//!
//! A browser lets any page open a WebSocket to any host, with the user's cookies, and only says in `Origin`
//! which page it is. Whoever is no browser can say anything there, so this protects users of browsers and
//! nobody else.
//!
//! A listener on the loopback interface is reached by every page that the user of the machine opens. Such a
//! page can also have its own host name resolve to 127.0.0.1 (*DNS rebinding*); then page and host are the
//! same, and only the name in `Host` gives it away. So there the host is one that no foreign name server can
//! answer for: `localhost`, a name below it, or an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether a request may come from this web page. By default these may:
///
/// - none: it is no browser;
/// - one of the same host, whatever its port, as the header `Host` says, and if [`host_allowed`];
/// - a loopback one (`localhost`, a name below it, 127.0.0.0/8, `[::1]`) on a loopback listener;
/// - one in `allow_list`, where `https://example.com` is one origin and `*` is all.
///
/// A page without an origin of its own (`null`: a file, a sandbox) is refused unless the list has `null`.
pub(crate) fn origin_allowed<S: AsRef<str>>(
    origin: Option<&str>,
    host: Option<&str>,
    loopback_listener: bool,
    allow_list: &[S],
) -> bool {
    let Some(origin) = origin else {
        return true;
    };
    if allow_list
        .iter()
        .any(|allowed| is_same_origin(allowed.as_ref(), origin))
    {
        return true;
    }
    let Some(page) = web_host(origin) else {
        return false;
    };
    let is_same_host = host
        .and_then(split_port)
        .is_some_and(|(host, _)| host.eq_ignore_ascii_case(page));
    (is_same_host && host_allowed(host, loopback_listener, allow_list))
        || (loopback_listener && is_loopback(page))
}

/// Whether this host may be asked for. On a loopback listener: `localhost`, a name below it, an address, or
/// the host of an origin in `allow_list` (`*` is all), for a proxy that passes the name on. Elsewhere any.
pub(crate) fn host_allowed<S: AsRef<str>>(
    host: Option<&str>,
    loopback_listener: bool,
    allow_list: &[S],
) -> bool {
    let Some((name, _)) = host.and_then(split_port) else {
        return false;
    };
    !loopback_listener
        || is_localhost(name)
        || address(name).is_some()
        || allow_list.iter().any(|allowed| match allowed.as_ref() {
            "*" => true,
            origin => web_host(origin).is_some_and(|known| known.eq_ignore_ascii_case(name)),
        })
}

/// Whether this can be the value of the header `Host`.
pub(super) fn is_host(host: &str) -> bool {
    split_port(host).is_some()
}

fn is_same_origin(allowed: &str, origin: &str) -> bool {
    if allowed == "*" || allowed.eq_ignore_ascii_case(origin) {
        return true;
    }
    match (split_origin(allowed), split_origin(origin)) {
        (Some((scheme, host, port)), Some((other_scheme, other_host, other_port))) => {
            scheme.eq_ignore_ascii_case(other_scheme)
                && host.eq_ignore_ascii_case(other_host)
                && port == other_port
        }
        _ => false,
    }
}

/// Scheme, host and port of a web page's origin.
fn split_origin(origin: &str) -> Option<(&str, &str, u16)> {
    let (scheme, authority) = origin.split_once("://")?;
    let default = if scheme.eq_ignore_ascii_case("https") {
        443
    } else if scheme.eq_ignore_ascii_case("http") {
        80
    } else {
        return None;
    };
    let (host, port) = split_port(authority)?;
    Some((scheme, host, port.unwrap_or(default)))
}

fn web_host(origin: &str) -> Option<&str> {
    split_origin(origin).map(|(_, host, _)| host)
}

/// Splits `host[:port]`; `None` when it is not well-formed. The host keeps the brackets of an IPv6 address
/// and loses the dot that a full name may end with.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.rfind(']') {
        Some(end) => authority.split_at(end + 1),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        None => return None,
        Some("") => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().ok()?)
        }
        Some(_) => return None,
    };
    if host.starts_with('[') {
        return address(host).map(|_| (host, port));
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_name = !host.is_empty()
        && host.len() <= 255
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte));
    is_name.then_some((host, port))
}

fn address(host: &str) -> Option<IpAddr> {
    match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(host) => host.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

fn is_localhost(host: &str) -> bool {
    const NAME: &str = "localhost";
    match host
        .len()
        .checked_sub(NAME.len())
        .map(|at| host.split_at_checked(at))
    {
        Some(Some((before, name))) => {
            name.eq_ignore_ascii_case(NAME)
                && (before.is_empty() || (before.len() > 1 && before.ends_with('.')))
        }
        _ => false,
    }
}

fn is_loopback(host: &str) -> bool {
    is_localhost(host) || address(host).is_some_and(|address| address.to_canonical().is_loopback())
}
