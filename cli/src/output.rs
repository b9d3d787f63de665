//! The one place that prints: data to stdout, everything else to stderr.

use std::io::{self, Write};

use serde_json::{Value, json};
use tracing::Metadata;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The event by which the library warns that the certificate of a server is not verified.
const UNVERIFIED: &str = "tls_unverified";

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
            stderr_line(&format!("netsys: {text}"));
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
            stderr_line(&format!("netsys: {text}"));
        }
    }

    /// Sends the library's log to stderr.
    pub(crate) fn install_log(self, level: LevelFilter) {
        // It warns of each connection that is not verified; the program has said so once.
        let is_new = |event: &Metadata<'_>| event.name() != UNVERIFIED;
        let builder = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_writer(io::stderr)
            .with_ansi(false);
        if self.json {
            builder.json().finish().with(filter_fn(is_new)).init();
        } else {
            let plain = builder.with_target(false).finish();
            plain.with(filter_fn(is_new)).init();
        }
    }
}

/// Nobody can be told when stderr does not take it.
fn stderr_line(line: &str) {
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "{line}");
}
