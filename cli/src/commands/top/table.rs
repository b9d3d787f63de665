//! Tables of text that leave out what has no room: for the terminal and for a snapshot.

use ratatui::text::Span;

use super::data::{Event, Group, Listener, Session};
use super::format::{bytes, clock, count, micros, span};
use crate::args::SortKey;

/// Between two columns.
const GAP: usize = 2;

/// A column of a table of `T`.
pub(super) struct Column<T> {
    pub(super) head: &'static str,
    /// What it is sorted by.
    pub(super) key: Option<SortKey>,
    /// In cells of the terminal.
    width: usize,
    /// Numbers stand to the right.
    right: bool,
    /// What is left of the width goes to these, in equal parts.
    grows: bool,
    /// The smaller, the longer it stays when there is no room.
    rank: u8,
    text: fn(&T) -> String,
}

impl<T> Column<T> {
    const fn text(head: &'static str, width: usize, rank: u8, text: fn(&T) -> String) -> Self {
        Column {
            head,
            key: None,
            width,
            right: false,
            grows: false,
            rank,
            text,
        }
    }

    const fn number(head: &'static str, width: usize, rank: u8, text: fn(&T) -> String) -> Self {
        let mut column = Column::text(head, width, rank, text);
        column.right = true;
        column
    }

    const fn growing(mut self) -> Self {
        self.grows = true;
        self
    }

    const fn by(mut self, key: SortKey) -> Self {
        self.key = Some(key);
        self
    }
}

fn or_dash(text: Option<&super::data::Clean>) -> String {
    text.map_or_else(|| "-".to_owned(), ToString::to_string)
}

pub(super) const SESSIONS: &[Column<Session>] = &[
    Column::number("ID", 7, 0, |row: &Session| row.id.to_string()).by(SortKey::Id),
    Column::text("CLIENT", 14, 1, |row: &Session| {
        or_dash(row.client_id.as_ref())
    })
    .growing()
    .by(SortKey::ClientId),
    Column::text("IDENTITY", 12, 13, |row: &Session| {
        or_dash(row.identity.as_ref())
    })
    .growing()
    .by(SortKey::Identity),
    Column::text("VIA", 5, 9, |row: &Session| row.transport.to_string()).by(SortKey::Transport),
    Column::text("REMOTE", 21, 6, |row: &Session| {
        or_dash(row.remote.as_ref())
    })
    .growing()
    .by(SortKey::Remote),
    Column::text("STATE", 9, 8, |row: &Session| row.state.to_string()).by(SortKey::State),
    Column::number("AGE", 7, 10, |row: &Session| span(row.connected_seconds))
        .by(SortKey::ConnectedSeconds),
    Column::number("IDLE", 7, 5, |row: &Session| span(row.idle_seconds)).by(SortKey::IdleSeconds),
    Column::number("IN", 9, 2, |row: &Session| {
        count(row.messages_received as f64)
    })
    .by(SortKey::MessagesReceived),
    Column::number("OUT", 9, 3, |row: &Session| count(row.messages_sent as f64))
        .by(SortKey::MessagesSent),
    Column::number("BYTES IN", 9, 11, |row: &Session| {
        bytes(row.bytes_received as f64)
    })
    .by(SortKey::BytesReceived),
    Column::number("BYTES OUT", 9, 12, |row: &Session| {
        bytes(row.bytes_sent as f64)
    })
    .by(SortKey::BytesSent),
    Column::number("QUEUED", 9, 4, |row: &Session| {
        bytes(row.queued_bytes as f64)
    })
    .by(SortKey::QueuedBytes),
    Column::number("QUEUE", 7, 15, |row: &Session| {
        count(row.queued_messages as f64)
    })
    .by(SortKey::QueuedMessages),
    Column::number("BUFFERS", 9, 17, |row: &Session| {
        bytes(row.buffer_bytes as f64)
    })
    .by(SortKey::BufferBytes),
    Column::number("RTT", 9, 7, |row: &Session| micros(row.round_trip_us)).by(SortKey::RoundTripUs),
    Column::number("DROPS", 7, 14, |row: &Session| count(row.dropped as f64)).by(SortKey::Dropped),
    Column::number("ERRORS", 7, 16, |row: &Session| count(row.errors as f64)).by(SortKey::Errors),
    Column::number("GROUPS", 6, 18, |row: &Session| count(row.groups as f64)).by(SortKey::Groups),
    Column::number("UNACKED", 9, 19, |row: &Session| match row.reliable {
        true => bytes(row.unacknowledged_bytes as f64),
        false => "-".to_owned(),
    })
    .by(SortKey::UnacknowledgedBytes),
    Column::number("RESUMES", 7, 20, |row: &Session| match row.reliable {
        true => count(row.resumes as f64),
        false => "-".to_owned(),
    })
    .by(SortKey::Resumes),
    Column::number("LIMITED", 7, 21, |row: &Session| {
        count(row.rate_limited as f64)
    })
    .by(SortKey::RateLimited),
];

pub(super) const GROUPS: &[Column<Group>] = &[
    Column::text("GROUP", 16, 0, |row: &Group| row.name.to_string()).growing(),
    Column::number("MEMBERS", 9, 1, |row: &Group| count(row.members as f64)),
    Column::number("MESSAGES", 10, 2, |row: &Group| count(row.messages as f64)),
    Column::number("BYTES", 10, 3, |row: &Group| bytes(row.bytes as f64)),
];

pub(super) const LISTENERS: &[Column<Listener>] = &[
    Column::text("LISTENER", 28, 0, |row: &Listener| row.url.to_string()).growing(),
    Column::text("VIA", 8, 4, |row: &Listener| row.transport.to_string()),
    Column::number("ACCEPTED", 10, 1, |row: &Listener| {
        count(row.accepted as f64)
    }),
    Column::number("REFUSED", 10, 2, |row: &Listener| count(row.refused as f64)),
    Column::text("ACCEPTING", 9, 3, |row: &Listener| {
        if row.accepting { "yes" } else { "no" }.to_owned()
    }),
];

pub(super) const EVENTS: &[Column<Event>] = &[
    Column::text("UTC", 8, 3, |row: &Event| clock(row.at)),
    Column::text("LEVEL", 5, 4, |row: &Event| row.level.to_string()),
    Column::text("EVENT", 20, 1, |row: &Event| row.kind.to_string()),
    Column::number("SESSION", 8, 2, |row: &Event| {
        row.session
            .map_or_else(|| "-".to_owned(), |id| id.to_string())
    }),
    Column::text("CODE", 20, 5, |row: &Event| or_dash(row.code.as_ref())),
    Column::text("TEXT", 12, 0, |row: &Event| row.text.to_string()).growing(),
];

/// What of a table has room in a width.
pub(super) struct Fitted<T: 'static> {
    columns: Vec<(&'static Column<T>, usize)>,
}

impl<T> Fitted<T> {
    pub(super) fn new(columns: &'static [Column<T>], room: usize) -> Self {
        let mut ranked: Vec<_> = columns.iter().collect();
        ranked.sort_by_key(|column| column.rank);
        let mut used = 0;
        let mut last = None;
        for column in ranked {
            let needed = column.width + if last.is_some() { GAP } else { 0 };
            if last.is_some() && used + needed > room {
                break;
            }
            used += needed;
            last = Some(column.rank);
        }
        let fits = |column: &&Column<T>| last.is_some_and(|last| column.rank <= last);
        let growing = columns
            .iter()
            .filter(fits)
            .filter(|column| column.grows)
            .count();
        let more = room.saturating_sub(used).checked_div(growing).unwrap_or(0);
        let sized = columns.iter().filter(fits).map(|column| {
            // Nothing is as long as a wide terminal.
            let more = if column.grows { more.min(60) } else { 0 };
            (column, (column.width + more).min(room))
        });
        Fitted {
            columns: sized.collect(),
        }
    }

    /// The names of the columns; an arrow beside the one that is sorted by.
    pub(super) fn head(&self, sorted: Option<(SortKey, bool)>) -> String {
        self.line(|column| match sorted {
            Some((key, descending)) if column.key == Some(key) => {
                format!("{}{}", column.head, if descending { '▼' } else { '▲' })
            }
            _ => column.head.to_owned(),
        })
    }

    pub(super) fn row(&self, row: &T) -> String {
        self.line(|column| (column.text)(row))
    }

    fn line(&self, text: impl Fn(&Column<T>) -> String) -> String {
        let mut line = String::new();
        for (index, (column, width)) in self.columns.iter().enumerate() {
            if index > 0 {
                line.push_str("  ");
            }
            pad(&mut line, &text(column), *width, column.right);
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Appends a text in exactly this many cells.
pub(super) fn pad(line: &mut String, text: &str, width: usize, right: bool) {
    let text = clipped(text, width);
    let room = width.saturating_sub(cells(&text));
    let blank = std::iter::repeat_n(' ', room);
    if right {
        line.extend(blank);
        line.push_str(&text);
    } else {
        line.push_str(&text);
        line.extend(blank);
    }
}

/// How many cells of a terminal a text takes.
pub(super) fn cells(text: &str) -> usize {
    if text.is_ascii() {
        text.len()
    } else {
        Span::raw(text).width()
    }
}

/// The beginning of a text, in at most this many cells.
pub(super) fn clipped(text: &str, width: usize) -> String {
    if cells(text) <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let mut clipped = String::new();
    let mut used = 0;
    for c in text.chars() {
        let needed = cells(c.encode_utf8(&mut [0; 4]));
        if used + needed > room {
            break;
        }
        used += needed;
        clipped.push(c);
    }
    if width > 0 {
        clipped.push('…');
    }
    clipped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_never_wider_than_its_room() {
        let session: Session = serde_json::from_str(
            r#"{"id":123456789012,"client_id":"日本語日本語日本語日本語","remote":"[::1]:5000","bytes_sent":99}"#,
        )
        .expect("a session");
        for room in 0..250 {
            let fitted = Fitted::new(SESSIONS, room);
            for line in [
                fitted.head(Some((SortKey::BytesSent, true))),
                fitted.row(&session),
            ] {
                assert!(cells(&line) <= room, "{room}: {line}");
            }
        }
    }

    #[test]
    fn what_matters_most_stays_longest() {
        assert!(Fitted::new(SESSIONS, 30).head(None).contains("CLIENT"));
        assert!(!Fitted::new(SESSIONS, 30).head(None).contains("GROUPS"));
        assert!(Fitted::new(SESSIONS, 250).head(None).contains("GROUPS"));
        let head = Fitted::new(SESSIONS, 80).head(Some((SortKey::Id, false)));
        assert!(head.contains("ID▲") && head.contains("QUEUED"), "{head}");
    }

    #[test]
    fn text_is_clipped_by_its_cells() {
        assert_eq!(clipped("abc", 3), "abc");
        assert_eq!(clipped("abcd", 3), "ab…");
        assert_eq!(clipped("日本語", 5), "日本…");
        assert_eq!(clipped("日本語", 4), "日…");
        assert_eq!(clipped("a", 0), "");
    }
}
