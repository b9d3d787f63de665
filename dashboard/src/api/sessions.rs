//! The table of sessions: filtered, sorted and cut to a page here, so that 10,000 of them cost a reader no more
//! than 50.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt::Write as _;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use network_system::{GroupName, Session, SessionId, Transport};
use serde::Serialize;
use tokio::time::Instant;

use super::session::{self, Summary};
use super::{Page, compute};
use crate::answer::{self, Refusal, clip};
use crate::query::Parameters;
use crate::site::Shared;

/// Peers choose their client ids. In the table they are cut to so many characters.
pub(crate) const LISTED_CHARS: usize = 256;

const SORT_KEYS: [&str; 24] = [
    "id",
    "client_id",
    "identity",
    "transport",
    "remote",
    "state",
    "connected_seconds",
    "idle_seconds",
    "messages_received",
    "messages_sent",
    "bytes_received",
    "bytes_sent",
    "errors",
    "dropped",
    "rate_limited",
    "queued_messages",
    "queued_bytes",
    "buffer_bytes",
    "round_trip_us",
    "reliable",
    "resumes",
    "unacknowledged_messages",
    "unacknowledged_bytes",
    "groups",
];

#[derive(Serialize)]
struct Sessions {
    total: usize,
    matched: usize,
    offset: usize,
    sessions: Vec<Summary>,
}

pub(crate) async fn list(
    State(site): Shared,
    mut parameters: Parameters,
) -> Result<Response, Refusal> {
    let sort = parameters.choice("sort", &SORT_KEYS)?.unwrap_or(0);
    let descending = parameters.choice("order", &["asc", "desc"])? == Some(1);
    let filter = parameters.text("filter").map(|text| text.to_lowercase());
    let schemes: Vec<&str> = Transport::ALL
        .iter()
        .map(|transport| transport.scheme())
        .collect();
    let transport = parameters.choice("transport", &schemes)?;
    let transport = transport.map(|at| Transport::ALL[at]);
    let state = parameters.choice("state", &session::STATES)?;
    let state = state.map(|at| session::STATES[at]);
    let group = match parameters.text("group") {
        None => None,
        Some(name) => {
            Some(GroupName::new(name).map_err(|error| Refusal::bad_request(error.to_string()))?)
        }
    };
    let page = Page::of(&mut parameters)?;
    parameters.finish()?;
    let key = SORT_KEYS[sort];
    compute(&site.inner, move |inner| {
        let mut sessions = inner.server.sessions();
        let total = sessions.len();
        if let Some(transport) = transport {
            sessions.retain(|session| session.transport() == transport);
        }
        if let Some(state) = state {
            sessions.retain(|session| session::state(session.state()) == state);
        }
        if let Some(group) = group {
            let members: HashSet<SessionId> = inner.server.members(&group).into_iter().collect();
            sessions.retain(|session| members.contains(&session.id()));
        }
        if let Some(filter) = filter {
            let mut text = String::new();
            sessions.retain(|session| matches(session, &filter, &mut text));
        }
        let matched = sessions.len();
        let now = Instant::now();
        let keyed = sessions
            .into_iter()
            .map(|session| (Key::of(&session, key, now), session));
        let keyed = page.cut(keyed.collect(), |(a, one), (b, other)| {
            let order = a.compare(b);
            let order = match descending {
                true => order.reverse(),
                false => order,
            };
            order.then_with(|| one.id().cmp(&other.id()))
        });
        let answer = Sessions {
            total,
            matched,
            offset: page.offset,
            sessions: keyed
                .iter()
                .map(|(_, session)| Summary::of(session, LISTED_CHARS))
                .collect(),
        };
        Ok(answer::json(StatusCode::OK, &answer))
    })
    .await
}

/// Whether a session has the text, which is in lower case, in one of the fields by which people look for sessions.
fn matches(session: &Session, filter: &str, text: &mut String) -> bool {
    text.clear();
    // What is written to a string is always written. A filter has no line breaks that could go over two fields.
    let _ = write!(text, "{}\n{}\n", session.id(), session.transport());
    if let Some(remote) = session.remote_addr() {
        let _ = writeln!(text, "{remote}");
    }
    text.push_str(session.identity().as_deref().unwrap_or_default());
    text.push('\n');
    text.push_str(&clip(session.client_id(), LISTED_CHARS));
    if text.is_ascii() {
        text.make_ascii_lowercase();
        text.contains(filter)
    } else {
        text.to_lowercase().contains(filter)
    }
}

/// What sessions are sorted by, read once for each.
enum Key {
    Number(f64),
    Text(String),
    /// Before everything else.
    Nothing,
}

impl Key {
    fn of(session: &Session, key: &str, now: Instant) -> Key {
        // All are compared at one moment.
        let seconds = |since: Instant| now.saturating_duration_since(since).as_secs_f64();
        let number = |number: u64| Key::Number(number as f64);
        let text =
            |text: Option<&str>| text.map_or(Key::Nothing, |text| Key::Text(text.to_owned()));
        match key {
            "id" => number(session.id().as_u64()),
            "client_id" => Key::Text(clip(session.client_id(), LISTED_CHARS)),
            "identity" => text(session.identity().as_deref()),
            "transport" => text(Some(session.transport().scheme())),
            "remote" => session
                .remote_addr()
                .map_or(Key::Nothing, |addr| Key::Text(addr.to_string())),
            "reliable" => number(session.is_reliable().into()),
            "groups" => number(session.groups().len() as u64),
            "state" => text(Some(session::state(session.state()))),
            "connected_seconds" => Key::Number(seconds(session.connected_at())),
            "idle_seconds" => Key::Number(seconds(session.last_activity())),
            counter => {
                let stats = session.stats();
                match counter {
                    "messages_received" => number(stats.messages_received),
                    "messages_sent" => number(stats.messages_sent),
                    "bytes_received" => number(stats.bytes_received),
                    "bytes_sent" => number(stats.bytes_sent),
                    "errors" => number(stats.errors),
                    "dropped" => number(stats.dropped),
                    "rate_limited" => number(stats.rate_limited),
                    "resumes" => number(stats.resumes.into()),
                    "unacknowledged_messages" => number(stats.unacknowledged_messages),
                    "unacknowledged_bytes" => number(stats.unacknowledged_bytes),
                    "queued_messages" => number(stats.queued_messages as u64),
                    "queued_bytes" => number(stats.queued_bytes as u64),
                    "buffer_bytes" => number(stats.buffered_bytes as u64),
                    _ => stats
                        .round_trip
                        .map_or(Key::Nothing, |time| Key::Number(time.as_secs_f64())),
                }
            }
        }
    }

    fn compare(&self, other: &Key) -> Ordering {
        match (self, other) {
            (Key::Number(a), Key::Number(b)) => a.total_cmp(b),
            (Key::Text(a), Key::Text(b)) => a.cmp(b),
            (Key::Nothing, Key::Nothing) => Ordering::Equal,
            (Key::Nothing, _) => Ordering::Less,
            (_, Key::Nothing) => Ordering::Greater,
            // One key has numbers or texts for all sessions.
            (Key::Number(_), Key::Text(_)) => Ordering::Less,
            (Key::Text(_), Key::Number(_)) => Ordering::Greater,
        }
    }
}
