//! The one place that prints: data to stdout, everything else to stderr.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;

/// Events of the library about which the program has words of its own: it says once that certificates are not
/// verified, and more about certificates that were read again, or not.
const SAID: &[&str] = &["tls_unverified", "tls_reloaded", "tls_reload_failed"];

/// The target of the library's lines about single messages.
const MESSAGES: &str = "network_system::message";

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// One JSON object a line, on both streams.
    pub(crate) json: bool,
    /// Nothing but data and errors.
    pub(crate) quiet: bool,
}

impl Output {
    /// For what is printed before the command line is understood.
    pub(crate) fn plain() -> Self {
        Output {
            json: false,
            quiet: false,
        }
    }

    /// Shows help to someone who did not ask for it.
    pub(crate) fn help(self, text: &str) {
        stderr_line(text.trim_end());
    }

    /// Writes a line of data and lets it go at once, because a program may be waiting for it.
    pub(crate) fn line(self, line: impl AsRef<[u8]>) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(line.as_ref())?;
        stdout.write_all(b"\n")?;
        stdout.flush()
    }

    /// Writes data as it is.
    pub(crate) fn bytes(self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    }

    /// Writes an event as data: as JSON, or as the text.
    pub(crate) fn event(self, event: &Value, text: &str) -> io::Result<()> {
        if self.json {
            self.line(event.to_string())
        } else {
            self.line(text)
        }
    }

    /// Says something that is not data.
    pub(crate) fn note(self, event: &Value, text: &str) {
        if self.quiet {
        } else if self.json {
            stderr_line(&event.to_string());
        } else {
            stderr_line(&format!("netsys: {}", one_line(text)));
        }
    }

    /// Says what to do next, to people.
    pub(crate) fn hint(self, text: &str) {
        if !self.quiet && !self.json {
            stderr_line(text.trim_end());
        }
    }

    /// Says what went wrong, in an object or a line.
    pub(crate) fn problem(self, event: &Value, text: &str) {
        if self.json {
            stderr_line(&event.to_string())
        } else {
            self.error(text)
        }
    }

    /// Says what went wrong, in one line.
    pub(crate) fn error(self, text: &str) {
        if self.json {
            stderr_line(&json!({ "event": "error", "text": text }).to_string());
        } else {
            stderr_line(&format!("netsys: {}", one_line(text)));
        }
    }

    /// Sends the library's log to stderr, up to this level, and the line of each message if that is wanted.
    pub(crate) fn install_log(self, level: LevelFilter, messages: bool) {
        let most = match messages {
            true => level.max(LevelFilter::INFO),
            false => level,
        };
        // Each event of a session has its id, so that spans would only repeat it.
        let is_wanted = move |data: &Metadata<'_>| {
            data.is_event()
                && !SAID.contains(&data.name())
                && (*data.level() <= level || (messages && data.target() == MESSAGES))
        };
        if self.json {
            let objects = Registry::default().with(most).with(JsonLines);
            objects.with(filter_fn(is_wanted)).init();
        } else {
            let plain = tracing_subscriber::fmt()
                .with_max_level(most)
                .with_writer(io::stderr)
                .with_ansi(false)
                .with_target(false)
                .finish();
            plain.with(filter_fn(is_wanted)).init();
        }
    }
}

/// The text without controls: it may quote what others wrote, which is neither to end the line nor to be obeyed by a
/// terminal.
fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let mut line = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line.into()
}

/// The time, as in RFC 3339.
pub(crate) fn now() -> String {
    let mut time = String::new();
    // It is only written to a text.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    time
}

/// The library's log as objects like those of the program: `event` is the name of the event.
struct JsonLines;

impl<S: Subscriber> Layer<S> for JsonLines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        // Events without a name have their place in the code instead.
        let name = Some(metadata.name()).filter(|name| !name.contains(' '));
        let mut fields = Fields(Map::new());
        fields.put("event", name.unwrap_or("log"));
        fields.put("time", now());
        fields.put("level", metadata.level().as_str().to_ascii_lowercase());
        fields.put("target", metadata.target());
        event.record(&mut fields);
        stderr_line(&Value::Object(fields.0).to_string());
    }
}

/// Writes the fields of an event into an object.
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        let name = if name == "message" { "text" } else { name };
        self.0.insert(name.into(), value.into());
    }
}

impl Visit for Fields {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), format!("{value:?}"));
    }
}

/// Nobody can be told when stderr does not take it.
fn stderr_line(line: &str) {
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "{line}");
}
