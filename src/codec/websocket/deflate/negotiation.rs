//! Agreeing on permessage-deflate in the header `Sec-WebSocket-Extensions` (RFC 7692 section 7.1).

use std::borrow::Cow;
use std::fmt::Write;

use super::{Deflate, InflateConfig, MAX_BITS, MIN_BITS};

const NAME: &str = "permessage-deflate";
const SERVER_NO_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_BITS: &str = "server_max_window_bits";
const CLIENT_BITS: &str = "client_max_window_bits";

/// The smallest window that can be asked for.
const LEAST_BITS: u8 = 8;

/// What both sides keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    /// Whether this side compresses each message by itself.
    pub(crate) own_no_context_takeover: bool,
    /// Whether the peer does.
    pub(crate) peer_no_context_takeover: bool,
    /// The largest window of this side as a power of two, 8 to 15.
    pub(crate) own_window_bits: u8,
    pub(crate) peer_window_bits: u8,
}

impl Agreed {
    /// What the decoder has to know.
    pub(crate) fn inflate(&self) -> InflateConfig {
        InflateConfig {
            no_context_takeover: self.peer_no_context_takeover,
            window_bits: self.peer_window_bits,
        }
    }
}

/// The server's side: takes the first offer that it can keep to, and says how that is answered.
///
/// An offer with a parameter that is unknown, stands there twice or has no valid value is passed over, and so
/// is one that limits the server's window to 256 bytes, which the library cannot compress with.
pub(crate) fn accept<'a>(
    options: &Deflate,
    offers: impl IntoIterator<Item = &'a str>,
) -> Option<(Agreed, String)> {
    offers
        .into_iter()
        .filter_map(parse)
        .flatten()
        .filter(|extension| extension.is_deflate())
        .find_map(|offer| accept_one(options, &Parameters::read(&offer, true)?))
}

fn accept_one(options: &Deflate, offer: &Parameters) -> Option<(Agreed, String)> {
    let own_window_bits = offer
        .server_bits
        .unwrap_or(MAX_BITS)
        .min(options.server_max_window_bits);
    if own_window_bits < MIN_BITS {
        return None;
    }
    // A client that does not say that it can limit its window cannot be asked to.
    let peer_window_bits = match offer.client_bits {
        Some(bits) => bits.unwrap_or(MAX_BITS).min(options.client_max_window_bits),
        None => MAX_BITS,
    };
    let agreed = Agreed {
        own_no_context_takeover: offer.server_no_takeover || options.server_no_context_takeover,
        peer_no_context_takeover: offer.client_no_takeover || options.client_no_context_takeover,
        own_window_bits,
        peer_window_bits,
    };
    let answer = Parameters {
        server_no_takeover: agreed.own_no_context_takeover,
        client_no_takeover: agreed.peer_no_context_takeover,
        server_bits: (offer.server_bits.is_some() || own_window_bits < MAX_BITS)
            .then_some(own_window_bits),
        client_bits: (peer_window_bits < MAX_BITS).then_some(Some(peer_window_bits)),
    };
    Some((agreed, answer.to_text()))
}

/// The client's side: what it offers.
pub(crate) fn offer(options: &Deflate) -> String {
    let limit = |bits| (bits < MAX_BITS).then_some(bits);
    let offer = Parameters {
        server_no_takeover: options.server_no_context_takeover,
        client_no_takeover: options.client_no_context_takeover,
        server_bits: limit(options.server_max_window_bits),
        client_bits: Some(limit(options.client_max_window_bits)),
    };
    offer.to_text()
}

/// The client's side: judges what the server answered to [`offer`]; `None` when it declined.
///
/// A server that says nothing of a wish of the offer is taken as it is: messages that carry the window over
/// are understood all the same, they only cost memory.
///
/// # Errors
/// A text for the log, when the connection has to fail.
pub(crate) fn judge_answer<'a>(
    options: &Deflate,
    answers: impl IntoIterator<Item = &'a str>,
) -> Result<Option<Agreed>, String> {
    let mut extensions = Vec::new();
    for answer in answers {
        let parsed = parse(answer).ok_or_else(|| refusal("cannot be read", answer))?;
        extensions.extend(parsed);
    }
    let answer = match &extensions[..] {
        [] => return Ok(None),
        [one] if one.is_deflate() => one,
        [one] => return Err(refusal("was not offered", one.name)),
        _ => return Err("the server answered with more than one extension".into()),
    };
    let parameters = Parameters::read(answer, false)
        .ok_or_else(|| refusal("has invalid parameters", answer.name))?;
    let peer_window_bits = parameters.server_bits.unwrap_or(MAX_BITS);
    let own_limit = parameters.client_bits.flatten().unwrap_or(MAX_BITS);
    if parameters.server_bits.is_some() && peer_window_bits > options.server_max_window_bits {
        return Err(refusal("has a larger window than was offered", answer.name));
    }
    if parameters.client_bits.is_some() && own_limit > options.client_max_window_bits {
        return Err(refusal("has a larger window than was offered", answer.name));
    }
    Ok(Some(Agreed {
        own_no_context_takeover: parameters.client_no_takeover
            || options.client_no_context_takeover,
        peer_no_context_takeover: parameters.server_no_takeover,
        own_window_bits: own_limit.min(options.client_max_window_bits),
        peer_window_bits,
    }))
}

fn refusal(what: &str, extension: &str) -> String {
    format!(
        "the extension `{}` of the server's answer {what}",
        extension.escape_debug()
    )
}

/// The parameters of an offer or an answer.
#[derive(Debug, Default)]
struct Parameters {
    server_no_takeover: bool,
    client_no_takeover: bool,
    server_bits: Option<u8>,
    /// In an offer it may stand without a value.
    client_bits: Option<Option<u8>>,
}

impl Parameters {
    /// `None` when there is anything that must not be.
    fn read(extension: &Extension<'_>, is_offer: bool) -> Option<Self> {
        let mut read = Parameters::default();
        for (name, value) in &extension.parameters {
            let value = value.as_deref();
            let is_new = match (*name, value) {
                (SERVER_NO_TAKEOVER, None) => {
                    !std::mem::replace(&mut read.server_no_takeover, true)
                }
                (CLIENT_NO_TAKEOVER, None) => {
                    !std::mem::replace(&mut read.client_no_takeover, true)
                }
                (SERVER_BITS, Some(value)) => {
                    read.server_bits.replace(window_bits(value)?).is_none()
                }
                (CLIENT_BITS, None) if is_offer => read.client_bits.replace(None).is_none(),
                (CLIENT_BITS, Some(value)) => {
                    let bits = window_bits(value)?;
                    read.client_bits.replace(Some(bits)).is_none()
                }
                _ => false,
            };
            if !is_new {
                return None;
            }
        }
        Some(read)
    }

    fn to_text(&self) -> String {
        let mut text = String::from(NAME);
        for (name, set) in [
            (SERVER_NO_TAKEOVER, self.server_no_takeover),
            (CLIENT_NO_TAKEOVER, self.client_no_takeover),
        ] {
            if set {
                text.push_str("; ");
                text.push_str(name);
            }
        }
        // Writing to a `String` does not fail.
        if let Some(bits) = self.server_bits {
            let _ = write!(text, "; {SERVER_BITS}={bits}");
        }
        match self.client_bits {
            Some(Some(bits)) => drop(write!(text, "; {CLIENT_BITS}={bits}")),
            Some(None) => drop(write!(text, "; {CLIENT_BITS}")),
            None => {}
        }
        text
    }
}

/// 8 to 15, without a leading zero.
fn window_bits(value: &str) -> Option<u8> {
    let bits = match value.as_bytes() {
        [digit @ b'8'..=b'9'] => digit - b'0',
        [b'1', digit @ b'0'..=b'5'] => 10 + digit - b'0',
        _ => return None,
    };
    debug_assert!((LEAST_BITS..=MAX_BITS).contains(&bits));
    Some(bits)
}

/// One element of the header.
#[derive(Debug)]
struct Extension<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, Option<Cow<'a, str>>)>,
}

impl Extension<'_> {
    fn is_deflate(&self) -> bool {
        self.name == NAME
    }
}

/// Reads a value of the header (RFC 6455 section 9.1); `None` when it is not well-formed.
fn parse(value: &str) -> Option<Vec<Extension<'_>>> {
    let mut rest = Scanner(value);
    let mut extensions = Vec::new();
    loop {
        // A list may have empty elements (RFC 9110 section 5.6.1).
        while rest.skip(',') {}
        if rest.is_at_end() {
            return Some(extensions);
        }
        let mut extension = Extension {
            name: rest.token()?,
            parameters: Vec::new(),
        };
        while rest.skip(';') {
            let name = rest.token()?;
            let value = match rest.skip('=') {
                true => Some(rest.value()?),
                false => None,
            };
            extension.parameters.push((name, value));
        }
        extensions.push(extension);
        if !rest.is_at_end() && !rest.skip(',') {
            return None;
        }
    }
}

struct Scanner<'a>(&'a str);

impl<'a> Scanner<'a> {
    fn trim(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    fn is_at_end(&mut self) -> bool {
        self.trim();
        self.0.is_empty()
    }

    fn skip(&mut self, separator: char) -> bool {
        self.trim();
        match self.0.strip_prefix(separator) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn token(&mut self) -> Option<&'a str> {
        self.trim();
        let end = self.0.bytes().position(|byte| !is_token(byte));
        let (token, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
        (!token.is_empty()).then_some(token)
    }

    /// A token, or one in quotes.
    fn value(&mut self) -> Option<Cow<'a, str>> {
        if !self.skip('"') {
            return self.token().map(Cow::Borrowed);
        }
        let mut value = String::new();
        loop {
            let mut chars = self.0.chars();
            let mut next = chars.next()?;
            let is_end = next == '"';
            if next == '\\' {
                next = chars.next()?;
            }
            self.0 = chars.as_str();
            if is_end {
                return (!value.is_empty()).then_some(Cow::Owned(value));
            }
            if !u8::try_from(next).is_ok_and(is_token) {
                return None;
            }
            value.push(next);
        }
    }
}

/// Whether a byte can stand in a token (RFC 9110 section 5.6.2).
pub(in crate::codec::websocket) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
