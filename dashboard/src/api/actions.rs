//! What changes something: it needs the token.

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use network_system::{CloseReason, Message, Session};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::access::Admin;
use crate::answer::{self, Refusal, quoted};
use crate::query::Parameters;
use crate::site::{Shared, Site, Text};

/// The longest body of a request, in bytes.
const BODY_BYTES: usize = 64 * 1024;

/// The longest reason, in characters: it travels to the peer and into logs.
const REASON_CHARS: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Disconnect {
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Send {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    base64: Option<String>,
}

pub(crate) async fn disconnect(
    State(site): Shared,
    Extension(admin): Extension<Admin>,
    Text(id): Text,
    parameters: Parameters,
    request: Request,
) -> Result<Response, Refusal> {
    site.access.require(admin)?;
    parameters.finish()?;
    let asked: Disconnect = read(&site, request).await?;
    let reason = asked
        .reason
        .unwrap_or_else(|| "disconnected by an operator".into());
    if reason.chars().count() > REASON_CHARS {
        return Err(Refusal::bad_request(format!(
            "the reason has more than {REASON_CHARS} characters"
        )));
    }
    let session = find(&site, &id)?;
    session.disconnect(CloseReason::new(reason));
    Ok(answer::json(StatusCode::ACCEPTED, &json!({})))
}

/// Never waits: a queue that is full is the operator's to know.
pub(crate) async fn send(
    State(site): Shared,
    Extension(admin): Extension<Admin>,
    Text(id): Text,
    parameters: Parameters,
    request: Request,
) -> Result<Response, Refusal> {
    site.access.require(admin)?;
    parameters.finish()?;
    let message =
        match read(&site, request).await? {
            Send {
                text: Some(text),
                base64: None,
            } => Message::text(text),
            Send {
                text: None,
                base64: Some(encoded),
            } => Message::binary(STANDARD.decode(encoded).map_err(|error| {
                Refusal::bad_request(format!("base64 cannot be decoded: {error}"))
            })?),
            _ => return Err(Refusal::bad_request("the body needs either text or base64")),
        };
    find(&site, &id)?.try_send(message)?;
    Ok(answer::json(StatusCode::ACCEPTED, &json!({})))
}

/// The open session with this id.
pub(crate) fn find(site: &Site, id: &str) -> Result<Session, Refusal> {
    id.parse()
        .ok()
        .and_then(|id| site.inner.server.session(id))
        .ok_or_else(|| Refusal::no_session(id))
}

/// Reads the body of a request, which is one JSON object.
async fn read<T: DeserializeOwned>(site: &Site, request: Request) -> Result<T, Refusal> {
    let kind = request.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Refusal::unread(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!(
                "the body has to be application/json, not {:?}",
                quoted(kind)
            ),
        ));
    }
    let too_large = || {
        Refusal::unread(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is longer than {BODY_BYTES} bytes"),
        )
    };
    let declared = request.headers().get(CONTENT_LENGTH);
    let declared = declared.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > BODY_BYTES as u64) {
        return Err(too_large());
    }
    let body = Limited::new(request.into_body(), BODY_BYTES).collect();
    let bytes: Bytes = match tokio::time::timeout(site.inner.deadlines.body, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
        Ok(Err(_)) => {
            let text = "the body of the request cannot be read";
            return Err(Refusal::unread(StatusCode::BAD_REQUEST, text));
        }
        Err(_) => {
            let text = "the body of the request came too slowly";
            return Err(Refusal::unread(StatusCode::REQUEST_TIMEOUT, text));
        }
    };
    serde_json::from_slice(&bytes).map_err(|error| {
        Refusal::bad_request(format!("the body is not what it should be: {error}"))
    })
}
