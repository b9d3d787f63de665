//! The server's side: judging a request, and answering it.

use std::borrow::Cow;
use std::fmt;
use std::fmt::Write;
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{UpgradeLimits, accept_key, elements, has_token};

/// A request that can be answered with an upgrade.
///
/// Debug output shows the path and the names of the headers: query and values can be secrets.
#[derive(Clone)]
pub struct UpgradeRequest {
    /// The target, then names and values of all headers.
    text: String,
    target: usize,
    /// Where names and values end in `text`; each begins where the one before it ends.
    headers: Vec<(u32, u32)>,
}

/// A request that is answered with something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpgradeRejection {
    /// The status of the response.
    pub(crate) status: u16,
    /// A text for the person on the other side.
    pub(crate) reason: Cow<'static, str>,
}

impl UpgradeRejection {
    fn new(status: u16, reason: impl Into<Cow<'static, str>>) -> Self {
        UpgradeRejection {
            status,
            reason: reason.into(),
        }
    }

    /// The response, with the headers that the status calls for.
    pub(crate) fn response(&self) -> Vec<u8> {
        let headers: &[(&str, &str)] = match self.status {
            405 => &[("Allow", "GET")],
            426 => &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")],
            _ => &[],
        };
        response_refuse(self.status, &self.reason, headers)
    }
}

/// Reads the request at the front of `buffer`; says how long it is, too. `None` means that more has to
/// arrive. What cannot become a valid request is refused before it is complete.
///
/// # Errors
/// How the request has to be answered.
pub(crate) fn parse_request(
    buffer: &[u8],
    limits: &UpgradeLimits,
) -> Result<Option<(UpgradeRequest, usize)>, UpgradeRejection> {
    judge_start(buffer)?;
    let seen = &buffer[..buffer.len().min(limits.max_bytes)];
    let mut headers = vec![httparse::EMPTY_HEADER; limits.max_headers];
    let mut parsed = httparse::Request::new(&mut headers);
    let result = parsed.parse(seen);
    let is_other_version = parsed.version.is_some_and(|version| version != 1);
    if is_other_version || result == Err(httparse::Error::Version) {
        return Err(UpgradeRejection::new(505, "only HTTP/1.1 is spoken here"));
    }
    let len = match result {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if buffer.len() < limits.max_bytes => return Ok(None),
        Ok(httparse::Status::Partial) => {
            let reason = format!("the request is longer than {} bytes", limits.max_bytes);
            return Err(UpgradeRejection::new(431, reason));
        }
        Err(httparse::Error::TooManyHeaders) => {
            let reason = format!("the request has more than {} headers", limits.max_headers);
            return Err(UpgradeRejection::new(431, reason));
        }
        Err(error) => return Err(malformed(format!("the request is malformed: {error}"))),
    };
    let request = UpgradeRequest::new(parsed.path.unwrap_or_default(), parsed.headers);
    request.judge()?;
    Ok(Some((request, len)))
}

const START: &[u8] = b"GET /";

/// Judges the first bytes as they arrive.
fn judge_start(buffer: &[u8]) -> Result<(), UpgradeRejection> {
    let known = buffer.len().min(START.len());
    if buffer[..known] == START[..known] {
        return Ok(());
    }
    if buffer.starts_with(b"GET ") {
        return Err(malformed("the target of the request is not a path"));
    }
    match buffer {
        [0x16, ..] => Err(malformed("this is not HTTP, it looks like TLS")),
        [b'M', b'S', b'G', ..] => Err(malformed("this is not HTTP, it looks like MSGI")),
        [b'A'..=b'Z', ..] => Err(UpgradeRejection::new(
            405,
            "a WebSocket is opened with the method GET",
        )),
        _ => Err(malformed("this is not HTTP")),
    }
}

fn malformed(reason: impl Into<Cow<'static, str>>) -> UpgradeRejection {
    UpgradeRejection::new(400, reason)
}

impl UpgradeRequest {
    fn new(target: &str, headers: &[httparse::Header<'_>]) -> Self {
        let len: usize = headers
            .iter()
            .map(|header| header.name.len() + header.value.len())
            .sum();
        let mut request = UpgradeRequest {
            text: String::with_capacity(target.len() + len),
            target: target.len(),
            headers: Vec::with_capacity(headers.len()),
        };
        request.text.push_str(target);
        for header in headers {
            request.text.push_str(header.name);
            let name = request.text.len() as u32;
            // Other encodings do not match anything that is looked for; what it is called stays visible.
            request
                .text
                .push_str(&String::from_utf8_lossy(header.value));
            request.headers.push((name, request.text.len() as u32));
        }
        request
    }

    /// Judges the headers.
    fn judge(&self) -> Result<(), UpgradeRejection> {
        for name in [
            "Host",
            "Sec-WebSocket-Key",
            "Sec-WebSocket-Version",
            "Origin",
        ] {
            if self.values(name).nth(1).is_some() {
                return Err(malformed(format!("the header {name} stands there twice")));
            }
        }
        match self.host() {
            None => return Err(malformed("the header Host is missing")),
            Some(host) if !super::origin::is_host(host) => {
                return Err(malformed("the header Host is malformed"));
            }
            Some(_) => {}
        }
        let has_body = self
            .values("Content-Length")
            .any(|length| length.is_empty() || length.bytes().any(|byte| byte != b'0'))
            || self.header("Transfer-Encoding").is_some();
        if has_body {
            return Err(malformed("a request for an upgrade has no body"));
        }
        if !has_token(self.values("Upgrade"), "websocket") {
            let reason = "this is a WebSocket: the header `Upgrade: websocket` is missing";
            return Err(UpgradeRejection::new(426, reason));
        }
        if !has_token(self.values("Connection"), "upgrade") {
            return Err(malformed("the header `Connection: Upgrade` is missing"));
        }
        if self.header("Sec-WebSocket-Version") != Some("13") {
            let reason = "the version of WebSocket that is spoken here is 13";
            return Err(UpgradeRejection::new(426, reason));
        }
        match STANDARD.decode(self.key()).map(|key| key.len()) {
            Ok(16) => Ok(()),
            _ => Err(malformed(
                "the header Sec-WebSocket-Key is missing or malformed",
            )),
        }
    }

    fn target(&self) -> &str {
        &self.text[..self.target]
    }

    /// The path, percent-encoded as it came.
    pub fn path(&self) -> &str {
        let target = self.target();
        target.split_once('?').map_or(target, |(path, _)| path)
    }

    /// What stands behind the `?`, as it came.
    pub fn query(&self) -> Option<&str> {
        self.target().split_once('?').map(|(_, query)| query)
    }

    /// The headers in their order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut begin = self.target;
        self.headers.iter().map(move |&(name, value)| {
            let (name, value) = (name as usize, value as usize);
            let header: (Range<usize>, Range<usize>) = (begin..name, name..value);
            begin = value;
            (&self.text[header.0], &self.text[header.1])
        })
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The first header with this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// The web page that the request comes from, when it comes from a browser.
    pub fn origin(&self) -> Option<&str> {
        self.header("Origin")
    }

    /// The host that was asked for.
    pub fn host(&self) -> Option<&str> {
        self.header("Host")
    }

    fn key(&self) -> &str {
        self.header("Sec-WebSocket-Key").unwrap_or_default()
    }

    /// The subprotocols that the client speaks, the preferred one first.
    pub fn subprotocols(&self) -> Vec<&str> {
        self.values("Sec-WebSocket-Protocol")
            .flat_map(elements)
            .collect()
    }

    /// The extensions that the client offers, each item a header.
    pub(crate) fn extensions(&self) -> impl Iterator<Item = &str> {
        self.values("Sec-WebSocket-Extensions")
    }
}

impl fmt::Debug for UpgradeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers().map(|(name, _)| name).collect();
        f.debug_struct("UpgradeRequest")
            .field("path", &self.path())
            .field("headers", &names)
            .finish()
    }
}

/// The response that opens the WebSocket.
pub(crate) fn response_accept(
    request: &UpgradeRequest,
    subprotocol: Option<&str>,
    extensions: Option<&str>,
) -> Vec<u8> {
    let accept = accept_key(request.key());
    let mut response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n"
    );
    for (name, value) in [
        ("Sec-WebSocket-Protocol", subprotocol),
        ("Sec-WebSocket-Extensions", extensions),
    ] {
        if let Some(value) = value {
            push_header(&mut response, name, value);
        }
    }
    response.push_str("\r\n");
    response.into_bytes()
}

/// A response that refuses the request and ends the connection, with `reason` as its body.
pub(crate) fn response_refuse(status: u16, reason: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    // The header Upgrade is one of those that Connection names (RFC 9110 section 7.8).
    let upgrades = headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("Upgrade"));
    let connection = if upgrades { "close, Upgrade" } else { "close" };
    let mut response = format!("HTTP/1.1 {status} {}\r\n", phrase(status));
    push_header(&mut response, "Connection", connection);
    for (name, value) in headers {
        push_header(&mut response, name, value);
    }
    push_header(&mut response, "Content-Type", "text/plain; charset=utf-8");
    // One byte more for the end of the line. Writing to a `String` does not fail.
    let _ = write!(
        response,
        "Content-Length: {}\r\n\r\n{reason}\n",
        reason.len() + 1
    );
    response.into_bytes()
}

/// Appends a header; one that would break the head is left out.
fn push_header(head: &mut String, name: &str, value: &str) {
    if super::client::is_header(name, value) {
        for part in [name, ": ", value, "\r\n"] {
            head.push_str(part);
        }
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Refused",
    }
}
