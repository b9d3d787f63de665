//! What the API of a dashboard answers, as far as it is shown here.
//!
//! All text is [`Clean`] from the moment it is read: a client names itself, and a name can be written to be obeyed by
//! the terminal of whoever looks at it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The most fields of one session that are shown.
const DETAILS_MAX: usize = 500;

const DETAILS_FIRST: [&str; 9] = [
    "id",
    "client_id",
    "identity",
    "state",
    "transport",
    "remote",
    "local",
    "connected_seconds",
    "idle_seconds",
];

/// Text from the network without anything that a terminal obeys, and not too long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Clean(String);

impl Clean {
    /// The most characters that are kept of one text.
    const MAX: usize = 512;

    pub(super) fn new(text: &str) -> Self {
        let mut clean = String::with_capacity(text.len().min(4 * Self::MAX));
        for (index, c) in text.chars().enumerate() {
            if index == Self::MAX {
                clean.push('…');
                break;
            }
            if is_obeyed(c) {
                clean.extend(c.escape_unicode());
            } else {
                clean.push(c);
            }
        }
        Clean(clean)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Controls, and what changes the direction or the place of the text around it, or cannot be seen.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

impl<'de> Deserialize<'de> for Clean {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Ok(Clean::new(&text))
    }
}

impl fmt::Display for Clean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a server says about itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Status {
    pub(super) name: Clean,
    pub(super) version: Clean,
    /// `running`, `draining` or `stopped`.
    pub(super) state: Clean,
    /// In milliseconds since 1970; `None` for one that does not run.
    #[serde(default)]
    pub(super) started_at: Option<u64>,
    #[serde(default)]
    pub(super) uptime_seconds: Option<f64>,
    /// Whether the token was right.
    #[serde(default)]
    pub(super) admin: bool,
    /// Whether there is no token.
    #[serde(default)]
    pub(super) read_only: bool,
}

impl Status {
    /// Whether the server was started anew since the other one was asked: what it counts has begun again.
    pub(super) fn is_newer_than(&self, before: &Status) -> bool {
        // The moment is computed for each answer, and clocks are set.
        let is_close = |a: u64, b: u64| a.abs_diff(b) < 5_000;
        match (self.started_at, before.started_at) {
            (Some(now), Some(before)) if !is_close(now, before) => true,
            (Some(_), Some(_)) => self.uptime_seconds < before.uptime_seconds,
            _ => false,
        }
    }
}

/// Samples, one a second, in columns.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HistoryPart {
    pub(super) first: u64,
    pub(super) next: u64,
    pub(super) columns: std::collections::HashMap<String, Vec<Option<f64>>>,
}

/// One session in a table.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Session {
    pub(super) id: u64,
    pub(super) client_id: Option<Clean>,
    pub(super) identity: Option<Clean>,
    pub(super) transport: Clean,
    pub(super) remote: Option<Clean>,
    pub(super) state: Clean,
    pub(super) connected_seconds: f64,
    pub(super) idle_seconds: f64,
    pub(super) messages_received: u64,
    pub(super) messages_sent: u64,
    pub(super) bytes_received: u64,
    pub(super) bytes_sent: u64,
    pub(super) errors: u64,
    pub(super) dropped: u64,
    pub(super) rate_limited: u64,
    pub(super) queued_messages: u64,
    pub(super) queued_bytes: u64,
    pub(super) buffer_bytes: u64,
    pub(super) round_trip_us: Option<f64>,
    pub(super) reliable: bool,
    pub(super) resumes: u64,
    pub(super) unacknowledged_messages: u64,
    pub(super) unacknowledged_bytes: u64,
    pub(super) groups: u64,
}

/// A page of sessions.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct SessionPage {
    pub(super) total: usize,
    pub(super) matched: usize,
    pub(super) offset: usize,
    pub(super) sessions: Vec<Session>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Group {
    pub(super) name: Clean,
    pub(super) members: u64,
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

/// A page of groups.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct GroupPage {
    pub(super) total: usize,
    pub(super) matched: usize,
    pub(super) offset: usize,
    pub(super) groups: Vec<Group>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Listener {
    pub(super) url: Clean,
    pub(super) transport: Clean,
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) accepting: bool,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Listeners {
    pub(super) listeners: Vec<Listener>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    pub(super) seq: u64,
    pub(super) at: u64,
    pub(super) level: Clean,
    pub(super) kind: Clean,
    pub(super) session: Option<u64>,
    pub(super) code: Option<Clean>,
    pub(super) text: Clean,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Events {
    pub(super) next: u64,
    pub(super) events: Vec<Event>,
}

/// Everything about one session, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Detail(pub(super) Vec<(Clean, Clean)>);

impl<'de> Deserialize<'de> for Detail {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let mut rows = Vec::new();
        flatten("", &value, &mut rows);
        // Who it is comes first; all else as it came, which is by name.
        rows.sort_by_key(|(name, _)| {
            let first = DETAILS_FIRST
                .iter()
                .position(|first| *first == name.as_str());
            first.unwrap_or(DETAILS_FIRST.len())
        });
        Ok(Detail(rows))
    }
}

/// Objects in objects become names with a dot, lists one text.
fn flatten(name: &str, value: &Value, rows: &mut Vec<(Clean, Clean)>) {
    if rows.len() >= DETAILS_MAX {
        return;
    }
    if let Value::Object(fields) = value {
        for (field, value) in fields {
            let name = match name {
                "" => field.clone(),
                name => format!("{name}.{field}"),
            };
            flatten(&name, value, rows);
        }
    } else {
        rows.push((Clean::new(name), Clean::new(&plain(value))));
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "-".to_owned(),
        Value::Array(values) => {
            let all: Vec<_> = values.iter().take(100).map(plain).collect();
            all.join(", ")
        }
        other => other.to_string(),
    }
}

/// An answer that says what is wrong.
#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    pub(super) error: RefusalText,
}

#[derive(Debug, Deserialize)]
pub(super) struct RefusalText {
    pub(super) message: Clean,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_moves_no_cursor_and_turns_nothing_around() {
        let hostile = "\x1b[2J\x07\u{9b}31m\u{202e}evil\u{200b}\r\n\u{feff}";
        let clean = Clean::new(hostile);
        assert_eq!(
            clean.as_str(),
            "\\u{1b}[2J\\u{7}\\u{9b}31m\\u{202e}evil\\u{200b}\\u{d}\\u{a}\\u{feff}"
        );
        let invisible = "a\u{34f}\u{3164}\u{2800}\u{fe0f}\u{e0100}";
        assert_eq!(
            Clean::new(invisible).as_str(),
            "a\\u{34f}\\u{3164}\\u{2800}\\u{fe0f}\\u{e0100}"
        );
        assert_eq!(Clean::new("Grüße 日本 👋").as_str(), "Grüße 日本 👋");
        assert_eq!(
            Clean::new(&"x".repeat(10_000)).as_str().chars().count(),
            513
        );
    }

    #[test]
    fn details_are_flat_and_clean() {
        let detail: Detail = serde_json::from_str(
            r#"{"id":7,"tls":{"version":"1.3","peer":null},"groups":["a","\u001bb"],"pipeline":[]}"#,
        )
        .expect("an object");
        let shown: Vec<_> = detail
            .0
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            shown,
            [
                "id=7",
                "groups=a, \\u{1b}b",
                "pipeline=-",
                "tls.peer=-",
                "tls.version=1.3"
            ]
        );
    }

    #[test]
    fn answers_may_have_more_and_less_than_is_known() {
        let page: SessionPage = serde_json::from_str(
            r#"{"total":1,"more":[1],"sessions":[{"id":3,"client_id":null,"new":{}}]}"#,
        )
        .expect("a page");
        assert_eq!((page.total, page.sessions[0].id), (1, 3));
        assert!(serde_json::from_str::<Status>("{}").is_err());
    }
}
