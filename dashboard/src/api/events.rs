//! What happened lately.

use std::time::UNIX_EPOCH;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use network_system::ErrorCode;
use network_system::metrics::{Event, EventLevel};
use serde::Serialize;

use crate::answer::{self, Refusal};
use crate::query::Parameters;
use crate::site::Shared;

#[derive(Serialize)]
struct Events<'a> {
    first: u64,
    next: u64,
    suppressed: u64,
    events: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    seq: u64,
    at: u64,
    level: &'static str,
    kind: &'a str,
    member: &'a str,
    session: Option<u64>,
    code: Option<&'static str>,
    text: &'a str,
}

impl<'a> Row<'a> {
    fn of(event: &'a Event) -> Self {
        let at = event.at.duration_since(UNIX_EPOCH);
        Row {
            seq: event.number,
            at: at.map_or(0, |since| since.as_millis() as u64),
            level: match event.level {
                EventLevel::Warning => "warn",
                level => level.name(),
            },
            kind: event.kind,
            member: &event.member,
            session: event.session.map(|id| id.as_u64()),
            code: event.code.map(ErrorCode::name),
            text: &event.text,
        }
    }
}

pub(crate) async fn list(
    State(site): Shared,
    mut parameters: Parameters,
) -> Result<Response, Refusal> {
    let since = parameters.number("since", 0, 0, u64::MAX)?;
    parameters.finish()?;
    let mut recent = site.inner.monitor.events(since);
    if since > recent.next {
        // As for the history: another process was asked before.
        recent = site.inner.monitor.events(0);
    }
    let events = Events {
        first: recent
            .events
            .first()
            .map_or(recent.next, |event| event.number),
        next: recent.next,
        suppressed: recent.suppressed,
        events: recent.events.iter().map(Row::of).collect(),
    };
    Ok(answer::json(StatusCode::OK, &events))
}
