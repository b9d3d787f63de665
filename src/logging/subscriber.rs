//! A subscriber of `tracing` for those who only want lines.

use std::cell::Cell;
use std::fmt::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};

use super::{Level, Logger};
use crate::events::is_harmful;

/// The crate whose events a logger gets.
const OURS: &str = "network_system";

thread_local! {
    /// Whether a logger is called on this thread.
    static LOGGING: Cell<bool> = const { Cell::new(false) };
}

/// Gives the events of this library, and no others, to a [`Logger`]. Has no spans.
///
/// For programs that set subscribers themselves, for a scope for instance; otherwise
/// [`set_global_logger`](super::set_global_logger) is all that is needed.
///
/// ```
/// use network_system::logging::{Level, Logger, LoggerSubscriber};
/// # struct Lines;
/// # impl Logger for Lines {
/// #     fn log(&self, level: Level, target: &str, message: &str) {}
/// # }
///
/// tracing::subscriber::with_default(LoggerSubscriber::new(Lines), || {
///     // What happens on this thread is logged.
/// });
/// ```
pub struct LoggerSubscriber(Arc<Shared>);

/// What can be replaced while the subscriber stays.
pub(super) struct Shared(RwLock<Current>);

#[derive(Clone)]
struct Current {
    logger: Arc<dyn Logger>,
    /// What the logger wants, by level.
    wanted: [bool; Level::ALL.len()],
}

impl Current {
    fn new(logger: impl Logger) -> Self {
        Current {
            wanted: Level::ALL.map(|level| logger.enabled(level)),
            logger: Arc::new(logger),
        }
    }
}

impl Shared {
    pub(super) fn replace(&self, logger: impl Logger) {
        let new = Current::new(logger);
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, new);
        drop(current);
        // Its destructor is the application's: not under the lock.
        drop(old);
        tracing::callsite::rebuild_interest_cache();
    }

    fn current(&self) -> Current {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        if metadata.is_span() || !is_ours(metadata.target()) {
            return false;
        }
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        current.wanted[Level::from(*metadata.level()) as usize]
    }
}

fn is_ours(target: &str) -> bool {
    target
        .strip_prefix(OURS)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

impl LoggerSubscriber {
    /// Gives events to `logger`.
    pub fn new(logger: impl Logger) -> Self {
        LoggerSubscriber(Arc::new(Shared(RwLock::new(Current::new(logger)))))
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.0)
    }
}

impl fmt::Debug for LoggerSubscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoggerSubscriber").finish_non_exhaustive()
    }
}

impl Subscriber for LoggerSubscriber {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        match self.0.wants(metadata) {
            true => Interest::always(),
            false => Interest::never(),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let wanted = self.0.current().wanted;
        let most = Level::ALL
            .into_iter()
            .rev()
            .find(|level| wanted[*level as usize]);
        Some(most.map_or(LevelFilter::OFF, |level| {
            LevelFilter::from_level(level.into())
        }))
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.wants(metadata)
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        // A logger that uses this library itself would otherwise call itself without end.
        if LOGGING.replace(true) {
            return;
        }
        let logger = self.0.current().logger;
        let call = || {
            let mut line = Line::default();
            event.record(&mut line);
            let level = Level::from(*metadata.level());
            logger.log(level, metadata.target(), &line.into_text());
        };
        let _ = catch_unwind(AssertUnwindSafe(call));
        LOGGING.set(false);
    }

    // Spans are not enabled, so that none of these has anything to do.

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The text of an event: its message, and behind it the fields.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn into_text(mut self) -> String {
        self.message.push_str(&self.fields);
        self.message
    }

    fn field(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        if field.name() == "message" {
            let _ = OneLine(&mut self.message).write_fmt(value);
        } else {
            let _ = write!(self.fields, " {}=", field.name());
            let from = self.fields.len();
            let _ = OneLine(&mut self.fields).write_fmt(value);
            quote(&mut self.fields, from);
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field, format_args!("{value:?}"));
    }
}

/// Puts a value that could be mistaken for more than one into quotes.
fn quote(text: &mut String, from: usize) {
    let value = &text[from..];
    let is_plain = !value.is_empty()
        && !value.contains(|char: char| char.is_whitespace() || char == '"' || char == '=');
    if !is_plain {
        let escaped = value.replace('\\', r"\\").replace('"', r#"\""#);
        let quoted = format!("\"{escaped}\"");
        text.replace_range(from.., &quoted);
    }
}

/// Escapes what could end the line.
struct OneLine<'a>(&'a mut String);

impl Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            match is_harmful(char) {
                true => self.0.extend(char.escape_default()),
                false => self.0.push(char),
            }
        }
        Ok(())
    }
}
