//! What is printed without a terminal: one look as text or as JSON.

use serde_json::{Value, json};

use super::data::{Clean, GroupPage, Listeners, SessionPage, Status};
use super::format::{bytes, count, micros, now, span};
use super::history::{History, Series};
use super::http::{Api, ApiError};
use super::poll::{Query, groups, sessions};
use super::table::{Fitted, LISTENERS, SESSIONS};
use crate::args::DashboardUrl;

/// The width of a snapshot, in characters.
const WIDTH: usize = 110;

/// The groups and sessions in it.
pub(super) const ROWS: usize = 20;

/// All that is known at one moment.
pub(super) struct Snapshot {
    at: u64,
    status: Status,
    sessions: SessionPage,
    groups: GroupPage,
    listeners: Listeners,
}

impl Snapshot {
    /// Looks, and adds the samples that are new to the history.
    pub(super) async fn take(
        api: &mut Api,
        query: &Query,
        history: &mut History,
        before: &mut Option<Status>,
    ) -> Result<Self, ApiError> {
        let status: Status = api.get("status").await?;
        if before
            .as_ref()
            .is_some_and(|before| status.is_newer_than(before))
        {
            history.clear();
        }
        *before = Some(status.clone());
        let part = api
            .get(&format!("history?since={}", history.next()))
            .await?;
        history.extend(&part);
        let sessions = sessions(api, query).await?;
        // The filter is one of sessions.
        let all = Query {
            filter: String::new(),
            ..query.clone()
        };
        Ok(Snapshot {
            at: now(),
            status,
            sessions,
            groups: groups(api, &all).await?,
            listeners: api.get("listeners").await?,
        })
    }

    pub(super) fn to_json(&self, url: &DashboardUrl, history: &History) -> Value {
        let rates: serde_json::Map<_, _> = Series::ALL
            .iter()
            .map(|(series, name)| ((*name).to_owned(), json!(history.now(*series))))
            .collect();
        json!({
            "at": self.at,
            "url": url.to_string(),
            "server": self.status,
            "rates": rates,
            "sessions": self.sessions,
            "groups": self.groups,
            "listeners": self.listeners.listeners,
        })
    }

    pub(super) fn to_text(&self, url: &DashboardUrl, query: &Query, history: &History) -> String {
        let Status {
            name,
            version,
            state,
            uptime_seconds,
            ..
        } = &self.status;
        let up = uptime_seconds.map_or_else(|| "-".to_owned(), span);
        let mut lines = vec![format!(
            "{name}  {version}  {state}  up {up}  {}",
            Clean::new(&url.to_string())
        )];
        lines.extend(
            facts(history)
                .into_iter()
                .map(|(name, text)| format!("{name:<13}{text}")),
        );
        lines.push(String::new());

        let listeners = Fitted::new(LISTENERS, WIDTH);
        lines.push(listeners.head(None));
        lines.extend(
            self.listeners
                .listeners
                .iter()
                .map(|row| listeners.row(row)),
        );
        lines.push(String::new());

        let table = Fitted::new(SESSIONS, WIDTH);
        lines.push(table.head(Some((query.sort, query.descending))));
        lines.extend(
            self.sessions
                .sessions
                .iter()
                .take(ROWS)
                .map(|row| table.row(row)),
        );
        let shown = self.sessions.sessions.len().min(ROWS);
        let SessionPage { matched, total, .. } = self.sessions;
        lines.push(format!("{shown} of {matched} sessions, {total} in all"));
        lines.join("\n")
    }
}

/// The last second in words.
pub(super) fn facts(history: &History) -> Vec<(&'static str, String)> {
    let number = |series| history.now(series).map_or_else(|| "-".to_owned(), count);
    let size = |series| history.now(series).map_or_else(|| "-".to_owned(), bytes);
    let time = |series| micros(history.lately(series));
    vec![
        (
            "messages",
            format!(
                "in {}/s, out {}/s",
                number(Series::MessagesReceived),
                number(Series::MessagesSent)
            ),
        ),
        (
            "bytes",
            format!(
                "in {}/s, out {}/s",
                size(Series::BytesReceived),
                size(Series::BytesSent)
            ),
        ),
        (
            "connections",
            format!(
                "{}, opened {}/s, closed {}/s",
                number(Series::Connections),
                number(Series::Opened),
                number(Series::Closed)
            ),
        ),
        (
            "handlers",
            format!(
                "p50 {}, p95 {}, p99 {}, max {}",
                time(Series::HandlerP50),
                time(Series::HandlerP95),
                time(Series::HandlerP99),
                time(Series::HandlerMax)
            ),
        ),
        (
            "round trips",
            format!(
                "pings p50 {}, p99 {}; requests p50 {}, p99 {}",
                time(Series::PingP50),
                time(Series::PingP99),
                time(Series::RequestP50),
                time(Series::RequestP99)
            ),
        ),
        (
            "memory",
            format!(
                "queues {}, buffers {}, resident {}",
                size(Series::QueuedBytes),
                size(Series::BufferBytes),
                size(Series::ResidentBytes)
            ),
        ),
        (
            "problems",
            format!(
                "dropped {}/s, lost {}/s, errors {}/s",
                number(Series::Dropped),
                number(Series::Lost),
                number(Series::Errors)
            ),
        ),
        (
            "limits",
            format!(
                "rate limited {}/s, waits {}/s, shed {}/s",
                number(Series::RateLimited),
                number(Series::Throttled),
                number(Series::Shed)
            ),
        ),
        (
            "reliable",
            format!(
                "suspended {}, resumed {}/s, expired {}/s, unacknowledged {}/s",
                number(Series::Suspended),
                number(Series::Resumed),
                number(Series::Expired),
                number(Series::Unacknowledged)
            ),
        ),
    ]
}
