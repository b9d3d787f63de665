//! Answers: JSON, texts, and errors.

use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use network_system::{ErrorCode, SendError};
use serde::Serialize;

const JSON: &str = "application/json";
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// What every answer says to browsers: nothing but what comes from here, in no frame, for no other page.
pub(crate) const HEADERS: [(HeaderName, &str); 5] = [
    (
        HeaderName::from_static("content-security-policy"),
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("referrer-policy"), "no-referrer"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
];

/// How much of what a client sent is repeated in an error.
const QUOTED_CHARS: usize = 64;

/// A value as JSON, with a status.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => answer(status, JSON, bytes),
        Err(error) => Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the answer cannot be written: {error}"),
        )
        .into_response(),
    }
}

/// A text, which is not kept by caches.
pub(crate) fn text(status: StatusCode, text: impl Into<Body>) -> Response {
    answer(status, "text/plain; charset=utf-8", text)
}

pub(crate) fn answer(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, NO_STORE);
    response
}

/// What a request is refused with.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    message: String,
    code: Option<ErrorCode>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Refusal {
            status,
            message: message.into(),
            code: None,
            header: None,
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Refusal::new(StatusCode::FORBIDDEN, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Refusal::new(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn no_session(id: &str) -> Self {
        Refusal {
            code: Some(ErrorCode::SessionNotFound),
            ..Refusal::not_found(format!("there is no session {}", quoted(id)))
        }
    }

    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        let challenge = HeaderValue::from_static("Bearer");
        Refusal {
            header: Some((WWW_AUTHENTICATE, challenge)),
            ..Refusal::new(StatusCode::UNAUTHORIZED, message)
        }
    }

    /// The router adds which methods are right.
    pub(crate) fn method(method: &Method) -> Self {
        Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!(
                "{} is not possible here, see Allow",
                quoted(method.as_str())
            ),
        )
    }

    /// A request whose body was not read to its end: the connection is good for nothing more.
    pub(crate) fn unread(status: StatusCode, message: impl Into<String>) -> Self {
        let close = HeaderValue::from_static("close");
        Refusal {
            header: Some((CONNECTION, close)),
            ..Refusal::new(status, message)
        }
    }
}

impl From<SendError> for Refusal {
    fn from(error: SendError) -> Self {
        Refusal {
            code: Some(error.code()),
            ..Refusal::new(StatusCode::CONFLICT, error.to_string())
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = envelope(self.status, &self.message, self.code);
        let mut response = answer(self.status, JSON, body);
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

fn envelope(status: StatusCode, message: &str, code: Option<ErrorCode>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Envelope<'a> {
        error: Inner<'a>,
    }
    #[derive(Serialize)]
    struct Inner<'a> {
        status: u16,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<&'static str>,
    }
    let error = Inner {
        status: status.as_u16(),
        message,
        code: code.map(ErrorCode::name),
    };
    // Strings and numbers can always be written.
    serde_json::to_vec(&Envelope { error }).unwrap_or_default()
}

/// A whole answer for a connection on which nobody has asked, or nobody could: the last one.
pub(crate) fn raw(status: StatusCode, message: &str) -> Vec<u8> {
    let body = envelope(status, message, None);
    let reason = status.canonical_reason().unwrap_or_default();
    let mut head = format!(
        "HTTP/1.1 {} {reason}\r\nconnection: close\r\ncache-control: no-store\r\ncontent-type: {JSON}\r\n\
         content-length: {}\r\n",
        status.as_u16(),
        body.len()
    );
    for (name, value) in HEADERS {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let mut answer = head.into_bytes();
    answer.extend(body);
    answer
}

/// What a client sent, as far as it is repeated to it.
pub(crate) fn quoted(text: &str) -> String {
    clipped(text, QUOTED_CHARS)
}

/// As [`clipped`], without a copy of what is short.
pub(crate) fn clip(text: String, chars: usize) -> String {
    match text.len() <= chars {
        true => text,
        false => clipped(&text, chars),
    }
}

/// A text of a peer with at most `chars` characters; one that is cut ends in `…`.
pub(crate) fn clipped(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
