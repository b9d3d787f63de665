//! Loggers of applications that do not use `tracing`.
//!
#![doc = include_str!("../../docs/logging.md")]

mod subscriber;

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

pub use self::subscriber::LoggerSubscriber;
use self::subscriber::Shared;
use crate::error::{ConfigError, ErrorCode};
use crate::session::shared::lock;

/// How much an event matters. The less it does, the greater is its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::exhaustive_enums, reason = "tracing has exactly these")]
pub enum Level {
    /// Something failed that should not.
    Error,
    /// Something may need attention.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What helps to find out why.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// Every level, the most important one first.
    pub const ALL: [Level; 5] = [
        Level::Error,
        Level::Warn,
        Level::Info,
        Level::Debug,
        Level::Trace,
    ];

    /// The level as a word in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl From<tracing::Level> for Level {
    fn from(level: tracing::Level) -> Self {
        match level {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            tracing::Level::DEBUG => Level::Debug,
            tracing::Level::TRACE => Level::Trace,
        }
    }
}

impl From<Level> for tracing::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => tracing::Level::ERROR,
            Level::Warn => tracing::Level::WARN,
            Level::Info => tracing::Level::INFO,
            Level::Debug => tracing::Level::DEBUG,
            Level::Trace => tracing::Level::TRACE,
        }
    }
}

/// Takes the events of the library.
pub trait Logger: Send + Sync + 'static {
    /// Whether events of this level are wanted. Asked when the logger is set, and not again: to change it, set
    /// the logger anew. Default: `info` and what matters more.
    fn enabled(&self, level: Level) -> bool {
        level <= Level::Info
    }

    /// Takes an event: where in the library it is from, and a text in one line with the event's fields as
    /// `key=value` behind it.
    ///
    /// Called where things happen, on workers too: it should not block for long. If it panics, the event is
    /// lost and nothing else. What it does with this library meanwhile is not logged.
    fn log(&self, level: Level, target: &str, message: &str);
}

impl<L: Logger + ?Sized> Logger for Arc<L> {
    fn enabled(&self, level: Level) -> bool {
        (**self).enabled(level)
    }

    fn log(&self, level: Level, target: &str, message: &str) {
        (**self).log(level, target, message);
    }
}

/// Gives the events of all servers and clients of the process to `logger`, in the place of the one that was
/// set before.
///
/// This makes a [`LoggerSubscriber`] the global default of `tracing`. Programs that have a subscriber of
/// their own see the events there.
///
/// # Errors
/// `invalid_configuration`: something else is the global default of `tracing` already.
pub fn set_global_logger(logger: impl Logger) -> Result<(), ConfigError> {
    /// The one that is installed. A subscriber cannot be taken away again, but its logger can be replaced.
    static INSTALLED: OnceLock<Arc<Shared>> = OnceLock::new();
    /// One call at a time.
    static SETTING: Mutex<()> = Mutex::new(());

    let _setting = lock(&SETTING);
    if let Some(installed) = INSTALLED.get() {
        installed.replace(logger);
        return Ok(());
    }
    let subscriber = LoggerSubscriber::new(logger);
    let shared = subscriber.shared();
    tracing::subscriber::set_global_default(subscriber).map_err(|_| {
        let text = "a subscriber of tracing is set already, and has the events of this library";
        ConfigError::new(ErrorCode::InvalidConfiguration, text)
    })?;
    let _ = INSTALLED.set(shared);
    Ok(())
}

#[cfg(test)]
mod tests;
