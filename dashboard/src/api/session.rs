//! One session.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use network_system::{Session, State as SessionState};
use serde::Serialize;

use super::actions::find;
use crate::access::Admin;
use crate::answer::{self, Refusal, clip, clipped};
use crate::query::Parameters;
use crate::site::{Shared, Text};

/// Texts of the peer are cut to so many characters.
const DETAIL_CHARS: usize = 4_096;

/// Values of the session's own data that are shown, and how much of each.
const DATA_SHOWN: usize = 64;
const DATA_CHARS: usize = 256;

/// What the table shows of a session.
#[derive(Serialize)]
pub(crate) struct Summary {
    id: u64,
    client_id: String,
    identity: Option<String>,
    transport: &'static str,
    remote: Option<String>,
    state: &'static str,
    connected_seconds: f64,
    idle_seconds: f64,
    messages_received: u64,
    messages_sent: u64,
    bytes_received: u64,
    bytes_sent: u64,
    errors: u64,
    dropped: u64,
    rate_limited: u64,
    queued_messages: usize,
    queued_bytes: usize,
    buffer_bytes: usize,
    round_trip_us: Option<f64>,
    reliable: bool,
    resumes: u32,
    unacknowledged_messages: u64,
    unacknowledged_bytes: u64,
    /// How many there are; the details have their names.
    groups: Groups,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Groups {
    Count(usize),
    Names(Vec<String>),
}

#[derive(Serialize)]
struct Detail {
    #[serde(flatten)]
    summary: Summary,
    local: Option<String>,
    pipeline: Vec<String>,
    tls: Option<Tls>,
    websocket: Option<WebSocket>,
    data: Option<BTreeMap<String, String>>,
    data_count: usize,
}

#[derive(Serialize)]
struct Tls {
    version: &'static str,
    cipher_suite: &'static str,
    server_name: Option<String>,
    alpn: Option<String>,
    peer: Option<String>,
}

#[derive(Serialize)]
struct WebSocket {
    path: String,
    subprotocol: Option<String>,
}

impl Summary {
    /// Texts of the peer have at most so many characters.
    pub(crate) fn of(session: &Session, chars: usize) -> Summary {
        let stats = session.stats();
        Summary {
            id: session.id().as_u64(),
            client_id: clip(session.client_id(), chars),
            identity: session.identity().map(|identity| clipped(&identity, chars)),
            transport: session.transport().scheme(),
            remote: session.remote_addr().map(|addr| addr.to_string()),
            state: state(session.state()),
            connected_seconds: seconds(session.connected_at()),
            idle_seconds: seconds(session.last_activity()),
            messages_received: stats.messages_received,
            messages_sent: stats.messages_sent,
            bytes_received: stats.bytes_received,
            bytes_sent: stats.bytes_sent,
            errors: stats.errors,
            dropped: stats.dropped,
            rate_limited: stats.rate_limited,
            queued_messages: stats.queued_messages,
            queued_bytes: stats.queued_bytes,
            buffer_bytes: stats.buffered_bytes,
            round_trip_us: stats.round_trip.map(|time| time.as_secs_f64() * 1e6),
            reliable: session.is_reliable(),
            resumes: stats.resumes,
            unacknowledged_messages: stats.unacknowledged_messages,
            unacknowledged_bytes: stats.unacknowledged_bytes,
            groups: Groups::Count(session.groups().len()),
        }
    }
}

pub(crate) async fn detail(
    State(site): Shared,
    Extension(admin): Extension<Admin>,
    Text(id): Text,
    parameters: Parameters,
) -> Result<Response, Refusal> {
    parameters.finish()?;
    let session = find(&site, &id)?;
    let groups = session.groups();
    let names = groups.iter().map(|name| name.as_str().to_owned());
    let keys = session.data_keys();
    // What the application knows of its peers is for whoever may do everything, where somebody may.
    let is_data_shown = admin.0 || site.access.token.is_none();
    let data = keys.iter().take(DATA_SHOWN).filter_map(|key| {
        let value = session.data(key)?;
        Some((clipped(key, DATA_CHARS), clipped(&value, DATA_CHARS)))
    });
    let detail = Detail {
        summary: Summary {
            groups: Groups::Names(names.collect()),
            ..Summary::of(&session, DETAIL_CHARS)
        },
        local: session.local_addr().map(|addr| addr.to_string()),
        pipeline: session.pipeline().to_vec(),
        tls: session.tls().map(|tls| Tls {
            version: tls.version().name(),
            cipher_suite: tls.cipher_suite(),
            server_name: tls.server_name().map(|name| clipped(name, DETAIL_CHARS)),
            alpn: tls
                .alpn()
                .map(|name| String::from_utf8_lossy(name).into_owned()),
            peer: tls.peer_certificate().map(|certificate| {
                let name = certificate.common_name();
                clipped(&name.unwrap_or_default(), DETAIL_CHARS)
            }),
        }),
        // Without its query, in which tokens travel.
        websocket: session.websocket().map(|websocket| WebSocket {
            path: clipped(websocket.path(), DETAIL_CHARS),
            subprotocol: websocket.subprotocol.clone(),
        }),
        data: is_data_shown.then(|| data.collect()),
        data_count: keys.len(),
    };
    Ok(answer::json(StatusCode::OK, &detail))
}

/// The words for states.
pub(crate) const STATES: [&str; 6] = [
    "connecting",
    "connected",
    "suspended",
    "disconnecting",
    "disconnected",
    "error",
];

/// A state as a word.
pub(crate) fn state(state: SessionState) -> &'static str {
    match state {
        SessionState::Connecting => "connecting",
        SessionState::Connected => "connected",
        SessionState::Suspended => "suspended",
        SessionState::Disconnecting => "disconnecting",
        SessionState::Disconnected => "disconnected",
        _ => "error",
    }
}

/// How long ago that was, to a millisecond.
fn seconds(since: tokio::time::Instant) -> f64 {
    since.elapsed().as_millis() as f64 / 1e3
}
