//! The client's side: asking for an upgrade, and judging the answer.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{UpgradeLimits, accept_key, has_token};
use crate::codec::websocket::deflate::negotiation::is_token;
use crate::codec::websocket::head::next_mask;

/// One attempt to open a WebSocket.
#[derive(Clone, Debug)]
pub(crate) struct ClientUpgrade {
    key: String,
    /// What was offered.
    subprotocols: Vec<String>,
    extensions: bool,
}

/// What the server agreed to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) subprotocol: Option<String>,
    /// The header `Sec-WebSocket-Extensions`, its lines joined.
    pub(crate) extensions: Option<String>,
    /// All headers, in their order.
    pub(crate) headers: Vec<(String, String)>,
}

/// Why there is no WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpgradeError {
    /// The status that the server answered with instead, 0 when its answer was not understood or when
    /// nothing was sent.
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl UpgradeError {
    fn new(text: impl Into<String>) -> Self {
        UpgradeError {
            status: 0,
            text: text.into(),
        }
    }
}

impl ClientUpgrade {
    /// An attempt with a key of its own.
    pub(crate) fn new() -> Self {
        let mut key = [0; 16];
        for part in key.as_chunks_mut().0 {
            *part = next_mask();
        }
        ClientUpgrade {
            key: STANDARD.encode(key),
            subprotocols: Vec::new(),
            extensions: false,
        }
    }

    /// The request. What it offers is remembered for judging the answer.
    ///
    /// # Errors
    /// When a part would break the request: a space in the target, an end of line in a header, a subprotocol
    /// that is no token, a header that belongs to the handshake.
    pub(crate) fn request(
        &mut self,
        host: &str,
        path_and_query: &str,
        subprotocols: &[&str],
        headers: &[(&str, &str)],
        extensions: Option<&str>,
    ) -> Result<Vec<u8>, UpgradeError> {
        let is_target = path_and_query.starts_with('/')
            && path_and_query
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !is_target {
            return Err(UpgradeError::new("the path of the URL is malformed"));
        }
        if !super::origin::is_host(host) {
            return Err(UpgradeError::new("the host of the URL is malformed"));
        }
        let key = &self.key;
        let mut request = format!(
            "GET {path_and_query} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        );
        let mut push = |name: &str, value: &str| {
            for part in [name, ": ", value, "\r\n"] {
                request.push_str(part);
            }
        };
        if let Some(bad) = subprotocols
            .iter()
            .find(|name| name.is_empty() || !name.bytes().all(is_token))
        {
            let text = format!("the subprotocol `{}` is no token", bad.escape_debug());
            return Err(UpgradeError::new(text));
        }
        if !subprotocols.is_empty() {
            push("Sec-WebSocket-Protocol", &subprotocols.join(", "));
        }
        if let Some(extensions) = extensions {
            push("Sec-WebSocket-Extensions", extensions);
        }
        for (name, value) in headers {
            if !is_header(name, value) || is_reserved(name) {
                let text = format!("the header `{}` cannot be sent", name.escape_debug());
                return Err(UpgradeError::new(text));
            }
            push(name, value);
        }
        request.push_str("\r\n");
        self.subprotocols = subprotocols.iter().map(|&name| name.into()).collect();
        self.extensions = extensions.is_some();
        Ok(request.into_bytes())
    }

    /// Reads the answer at the front of `buffer`; says how long it is, too. `None` means that more has to
    /// arrive.
    ///
    /// # Errors
    /// When the server refuses, or when its answer is not one.
    pub(crate) fn judge_response(
        &self,
        buffer: &[u8],
        limits: &UpgradeLimits,
    ) -> Result<Option<(Accepted, usize)>, UpgradeError> {
        const START: &[u8] = b"HTTP/1.";
        let known = buffer.len().min(START.len());
        if buffer[..known] != START[..known] {
            return Err(UpgradeError::new("the answer is not HTTP/1.1"));
        }
        let seen = &buffer[..buffer.len().min(limits.max_bytes)];
        let mut headers = vec![httparse::EMPTY_HEADER; limits.max_headers];
        let mut parsed = httparse::Response::new(&mut headers);
        let len = match parsed.parse(seen) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) if buffer.len() < limits.max_bytes => return Ok(None),
            Ok(httparse::Status::Partial) => {
                let limit = limits.max_bytes;
                let text = format!("the answer's head is longer than {limit} bytes");
                return Err(UpgradeError::new(text));
            }
            Err(error) => {
                let text = format!("the answer is malformed: {error}");
                return Err(UpgradeError::new(text));
            }
        };
        let status = parsed.code.unwrap_or_default();
        if status != 101 {
            let phrase = parsed.reason.unwrap_or_default();
            let text = format!("the server answered {status} {phrase}");
            let text = text.trim_end().into();
            return Err(UpgradeError { status, text });
        }
        if parsed.version != Some(1) {
            return Err(UpgradeError::new("the answer is not HTTP/1.1"));
        }
        let headers = parsed
            .headers
            .iter()
            .map(|header| {
                let value = String::from_utf8_lossy(header.value).into_owned();
                (header.name.to_owned(), value)
            })
            .collect();
        Ok(Some((self.judge_headers(headers)?, len)))
    }

    fn judge_headers(&self, headers: Vec<(String, String)>) -> Result<Accepted, UpgradeError> {
        let values = |name: &'static str| {
            headers
                .iter()
                .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.as_str())
        };
        if !has_token(values("Upgrade"), "websocket") || !has_token(values("Connection"), "upgrade")
        {
            return Err(UpgradeError::new("the answer is no upgrade to WebSocket"));
        }
        let accept: Vec<_> = values("Sec-WebSocket-Accept").collect();
        if accept != [accept_key(&self.key)] {
            return Err(UpgradeError::new(
                "the answer does not belong to the request: Sec-WebSocket-Accept is wrong",
            ));
        }
        let subprotocol = match values("Sec-WebSocket-Protocol").collect::<Vec<_>>()[..] {
            [] => None,
            [one] if self.subprotocols.iter().any(|offered| offered == one) => Some(one.to_owned()),
            _ => {
                return Err(UpgradeError::new(
                    "the server chose a subprotocol that was not offered",
                ));
            }
        };
        let extensions: Vec<_> = values("Sec-WebSocket-Extensions")
            .filter(|value| !value.is_empty())
            .collect();
        if !extensions.is_empty() && !self.extensions {
            return Err(UpgradeError::new(
                "the server chose an extension that was not offered",
            ));
        }
        let extensions = (!extensions.is_empty()).then(|| extensions.join(", "));
        Ok(Accepted {
            subprotocol,
            extensions,
            headers,
        })
    }
}

/// Whether this can stand in a head without breaking it.
pub(super) fn is_header(name: &str, value: &str) -> bool {
    let is_text = |byte: u8| byte == b'\t' || byte >= b' ' && byte != 0x7F;
    !name.is_empty() && name.bytes().all(is_token) && value.bytes().all(is_text)
}

/// Headers that the handshake sets itself, and those that would announce a body.
fn is_reserved(name: &str) -> bool {
    [
        "Host",
        "Upgrade",
        "Connection",
        "Content-Length",
        "Transfer-Encoding",
    ]
    .iter()
    .any(|reserved| reserved.eq_ignore_ascii_case(name))
        || name
            .get(..14)
            .is_some_and(|start| start.eq_ignore_ascii_case("Sec-WebSocket-"))
}
