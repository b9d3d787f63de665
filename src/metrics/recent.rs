//! What happened lately, for people who look at a server.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::error::ErrorCode;
use crate::session::SessionId;
use crate::session::shared::lock;

/// Events that are kept.
const KEPT: usize = 512;

/// Events a second that are taken; what comes beyond is only counted. So a storm of connections costs next to
/// nothing, and does not push everything else out within a moment.
const A_SECOND: u32 = 100;

/// The longest text, in bytes. Peers can choose parts of it.
const TEXT_MAX: usize = 256;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum EventLevel {
    /// Part of a normal day.
    Info,
    /// Something was refused or lost.
    Warning,
    /// A defect, of the application or of the library.
    Error,
}

impl EventLevel {
    /// The level as a word: `info`, `warning` or `error`.
    pub const fn name(self) -> &'static str {
        match self {
            EventLevel::Info => "info",
            EventLevel::Warning => "warning",
            EventLevel::Error => "error",
        }
    }
}

/// Something that happened to a server or client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// Its number; each event has the next one.
    pub number: u64,
    /// When it happened.
    pub at: SystemTime,
    /// How much it matters.
    pub level: EventLevel,
    /// What it is: a name from the table in `docs/logging.md`.
    pub kind: &'static str,
    /// The server or client that it happened to.
    pub member: String,
    /// The session that it happened to.
    pub session: Option<SessionId>,
    /// The code of the error, if it is about one.
    pub code: Option<ErrorCode>,
    /// Details in one line of at most 256 bytes. Peers can choose parts of it.
    pub text: String,
}

/// Some of the latest events.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RecentEvents {
    /// The oldest first.
    pub events: Vec<Event>,
    /// The number of the event after these: what to ask for next.
    pub next: u64,
    /// How many there were beyond 100 a second, which are not kept.
    pub suppressed: u64,
}

/// What is noted of an event.
pub(crate) struct Note<'a> {
    pub(crate) level: EventLevel,
    pub(crate) kind: &'static str,
    pub(crate) session: Option<SessionId>,
    pub(crate) code: Option<ErrorCode>,
    pub(crate) text: fmt::Arguments<'a>,
}

/// The latest events of all that is attached to one monitor.
#[derive(Debug, Default)]
pub(super) struct Ring {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<Event>,
    next: u64,
    suppressed: u64,
    /// The second that is counted, and its events.
    second: Option<Instant>,
    taken: u32,
}

impl Ring {
    pub(super) fn push(&self, member: &str, note: Note<'_>) {
        if !self.takes(note.level) {
            return;
        }
        // Without the lock: an application's resolver has errors of its own, and they may look here.
        let mut text = Clipped(String::new());
        let _ = text.write_fmt(note.text);
        let mut event = Event {
            number: 0,
            at: SystemTime::now(),
            level: note.level,
            kind: note.kind,
            member: member.to_owned(),
            session: note.session,
            code: note.code,
            text: text.0,
        };
        let mut inner = lock(&self.inner);
        if inner.events.len() == KEPT {
            inner.events.pop_front();
        }
        event.number = inner.next;
        inner.next += 1;
        inner.events.push_back(event);
    }

    /// Whether there is room for one more in this second; if not, it is counted.
    fn takes(&self, level: EventLevel) -> bool {
        let mut inner = lock(&self.inner);
        let now = Instant::now();
        let is_new = |began: Instant| now.duration_since(began) >= Duration::from_secs(1);
        if inner.second.is_none_or(is_new) {
            inner.second = Some(now);
            inner.taken = 0;
        }
        // What is worse than usual is not pushed out by a storm of what is usual.
        let most = match level {
            EventLevel::Info => A_SECOND / 2,
            EventLevel::Warning => A_SECOND * 9 / 10,
            EventLevel::Error => A_SECOND,
        };
        let takes = inner.taken < most;
        match takes {
            true => inner.taken += 1,
            false => inner.suppressed += 1,
        }
        takes
    }

    /// The events from number `since` on that are kept.
    pub(super) fn since(&self, since: u64) -> RecentEvents {
        let inner = lock(&self.inner);
        RecentEvents {
            events: inner
                .events
                .iter()
                .filter(|event| event.number >= since)
                .cloned()
                .collect(),
            next: inner.next,
            suppressed: inner.suppressed,
        }
    }
}

/// A text of one line and a bounded length.
struct Clipped(String);

impl fmt::Write for Clipped {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        for character in part.chars() {
            if self.0.len() + character.len_utf8() > TEXT_MAX {
                return Err(fmt::Error);
            }
            self.0.push(match character.is_control() {
                true => ' ',
                false => character,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "a test that cannot go on fails, and says where"
    )]

    use super::*;

    fn note(level: EventLevel, text: fmt::Arguments<'_>) -> Note<'_> {
        Note {
            level,
            kind: "session_error",
            session: None,
            code: None,
            text,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_latest_events_are_kept_and_numbered() {
        let ring = Ring::default();
        for number in 0..600 {
            if number % 50 == 0 {
                tokio::time::advance(Duration::from_secs(1)).await;
            }
            ring.push("server", note(EventLevel::Info, format_args!("{number}")));
        }
        let recent = ring.since(0);
        assert_eq!((recent.events.len(), recent.next), (KEPT, 600));
        assert_eq!(
            (recent.events[0].number, &*recent.events[0].text),
            (88, "88")
        );
        let later = ring.since(598);
        assert_eq!(later.events.len(), 2);
        assert!(ring.since(600).events.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_is_counted_and_leaves_room_for_what_matters() {
        let ring = Ring::default();
        for _ in 0..1_000 {
            ring.push("server", note(EventLevel::Info, format_args!("opened")));
        }
        ring.push("server", note(EventLevel::Error, format_args!("a panic")));
        let recent = ring.since(0);
        assert_eq!((recent.events.len(), recent.suppressed), (51, 950));
        assert_eq!(recent.events[50].text, "a panic");
        tokio::time::advance(Duration::from_secs(1)).await;
        ring.push("server", note(EventLevel::Info, format_args!("opened")));
        assert_eq!(ring.since(51).events.len(), 1);
        for _ in 0..1_000 {
            ring.push("server", note(EventLevel::Warning, format_args!("refused")));
        }
        ring.push("server", note(EventLevel::Error, format_args!("a panic")));
        let recent = ring.since(0);
        assert_eq!(recent.events.last().unwrap().text, "a panic");
    }

    /// A resolver of the application's has errors of its own.
    #[test]
    fn who_is_shown_may_look_at_what_happened() {
        struct Nosy<'a>(&'a Ring);

        impl fmt::Display for Nosy<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                assert!(self.0.inner.try_lock().is_ok(), "the lock is held");
                f.write_str("looked")
            }
        }

        let ring = Ring::default();
        let nosy = Nosy(&ring);
        ring.push("client", note(EventLevel::Warning, format_args!("{nosy}")));
        assert_eq!(ring.since(0).events[0].text, "looked");
    }

    #[tokio::test]
    async fn texts_are_one_short_line() {
        let ring = Ring::default();
        let long = "a\u{1b}[2J\nb".repeat(100) + "ü";
        ring.push("server", note(EventLevel::Warning, format_args!("{long}")));
        let text = &ring.since(0).events[0].text;
        assert!(
            text.len() <= TEXT_MAX && text.starts_with("a [2J b"),
            "{text}"
        );
        assert!(!text.chars().any(char::is_control));
    }
}
