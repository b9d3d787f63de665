//! Where to listen: at a URL, or on a socket that systemd has bound.

use network_system::Endpoint;

use super::values::{SCHEMES, url};

/// Where to listen.
#[derive(Clone, Debug)]
pub(crate) enum Listen {
    At(Endpoint),
    On(Descriptor),
}

impl Listen {
    /// What is spoken. The host of a socket that is bound already means nothing.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        match self {
            Listen::At(endpoint) => endpoint,
            Listen::On(descriptor) => &descriptor.endpoint,
        }
    }
}

/// A socket that was handed over to this process.
#[derive(Clone, Debug)]
pub(crate) struct Descriptor {
    pub(crate) which: Which,
    /// What is spoken there.
    pub(crate) endpoint: Endpoint,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// By its place, from 0.
    Index(usize),
    /// All that have this name.
    Name(String),
}

/// Reads a URL to listen at.
pub(super) fn listen(text: &str) -> Result<Listen, String> {
    match text.split_at_checked("fd://".len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("fd://") => {
            descriptor(rest).map(Listen::On)
        }
        _ => url(text)
            .map(Listen::At)
            .map_err(|text| text.replace(SCHEMES, &format!("{SCHEMES}, and fd for systemd's"))),
    }
}

fn descriptor(text: &str) -> Result<Descriptor, String> {
    let (name, query) = text.split_once('?').unwrap_or((text, ""));
    let which = match name.parse() {
        Ok(index) => Which::Index(index),
        Err(_) if name.is_empty() => {
            return Err("expected fd://NAME or fd://NUMBER".to_owned());
        }
        Err(_) => Which::Name(name.to_owned()),
    };
    let (mut scheme, mut codec, mut path) = (None, None, None);
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let place = match key {
            "scheme" => &mut scheme,
            "codec" => &mut codec,
            "path" => &mut path,
            _ => {
                return Err(format!(
                    "unknown option `{key}`, expected scheme, codec or path"
                ));
            }
        };
        if place.replace(value).is_some() {
            return Err(format!("{key} is given more than once"));
        }
    }
    let scheme =
        scheme.ok_or_else(|| format!("a scheme is missing: expected ?scheme= {SCHEMES}"))?;
    if path.is_some_and(|path| !path.starts_with('/')) {
        return Err("a path begins with a slash".to_owned());
    }
    let is_websocket = matches!(scheme, "ws" | "wss" | "ws+unix");
    if path.is_some() && !is_websocket {
        return Err("path is for WebSocket only".to_owned());
    }
    let path = path.unwrap_or("/");
    let place = match scheme {
        "unix" => "/fd".to_owned(),
        "ws+unix" => format!("/fd:{path}"),
        "ws" | "wss" => format!("localhost:0{path}"),
        _ => "localhost:0".to_owned(),
    };
    let codec = match codec {
        Some(_) if is_websocket => return Err("WebSocket takes no codec".to_owned()),
        Some(codec) => format!("?codec={codec}"),
        None => String::new(),
    };
    Ok(Descriptor {
        which,
        endpoint: url(&format!("{scheme}://{place}{codec}"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_of_systemds_has_a_name_or_a_number_and_says_what_is_spoken() {
        for (text, which, url) in [
            ("fd://0?scheme=tcp", Which::Index(0), "tcp://localhost:0"),
            (
                "FD://chat.socket?scheme=tls&codec=lines",
                Which::Name("chat.socket".to_owned()),
                "tls://localhost:0?codec=lines",
            ),
            (
                "fd://web?path=/chat&scheme=wss",
                Which::Name("web".to_owned()),
                "wss://localhost:0/chat",
            ),
            ("fd://3?scheme=unix", Which::Index(3), "unix:///fd"),
            ("fd://1?scheme=ws+unix", Which::Index(1), "ws+unix:///fd"),
            (
                "fd://u?scheme=udp&codec=msgi",
                Which::Name("u".to_owned()),
                "udp://localhost:0?codec=msgi",
            ),
        ] {
            match listen(text) {
                Ok(Listen::On(descriptor)) => {
                    assert_eq!(descriptor.which, which, "{text}");
                    assert_eq!(descriptor.endpoint.to_string(), url, "{text}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
        for (text, word) in [
            ("fd://?scheme=tcp", "NAME"),
            ("fd://a", "scheme"),
            ("fd://a?scheme=mem", "mem"),
            ("fd://a?scheme=tcp&codec=x", "`x`"),
            ("fd://a?scheme=tcp&speed=1", "speed"),
            ("fd://a?scheme=tcp&scheme=ws", "more than once"),
            ("fd://a?scheme=tcp&path=/x", "WebSocket"),
            ("fd://a?scheme=ws&path=x", "slash"),
            ("fd://a?scheme=ws&codec=raw", "no codec"),
        ] {
            let error = listen(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
