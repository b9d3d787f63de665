//! The classic loggers.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::result::{VoidResult, error};
use crate::logging::{self, Level, Logger};

/// How much an event matters. The more it does, the greater is its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum log_level {
    /// Everything.
    trace,
    /// What helps to find out why.
    debug,
    /// What an operator wants to know.
    info,
    /// Something may need attention.
    warn,
    /// Something failed that should not.
    error,
    /// The program cannot go on. The library has no such events.
    fatal,
}

impl log_level {
    /// Another name of [`warn`](Self::warn).
    #[allow(non_upper_case_globals, reason = "it stands beside the variants")]
    pub const warning: log_level = log_level::warn;

    /// Another name of [`fatal`](Self::fatal).
    #[allow(non_upper_case_globals, reason = "it stands beside the variants")]
    pub const critical: log_level = log_level::fatal;

    /// The level as a word in upper case.
    pub const fn name(self) -> &'static str {
        match self {
            log_level::trace => "TRACE",
            log_level::debug => "DEBUG",
            log_level::info => "INFO",
            log_level::warn => "WARN",
            log_level::error => "ERROR",
            log_level::fatal => "FATAL",
        }
    }
}

impl fmt::Display for log_level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl From<Level> for log_level {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => log_level::error,
            Level::Warn => log_level::warn,
            Level::Info => log_level::info,
            Level::Debug => log_level::debug,
            Level::Trace => log_level::trace,
        }
    }
}

/// Takes what the library logs.
pub trait logger_interface: Send + Sync {
    /// Takes an event, in one line. Should not block for long.
    fn log(&self, level: log_level, message: &str);

    /// Whether events of this level are wanted. Asked when the logger is set. Default: `info` and above.
    fn is_level_enabled(&self, level: log_level) -> bool {
        level >= log_level::info
    }
}

/// Gives the events of all servers and clients of the process to `logger`, in the place of the one that was
/// set before.
///
/// # Errors
/// `invalid_configuration`: the program has a subscriber of `tracing`, which gets the events.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use network_system::compat::*;
///
/// # fn main() -> VoidResult {
/// set_global_logger(Arc::new(basic_logger::new(log_level::debug)))?;
/// # ok(())
/// # }
/// ```
pub fn set_global_logger(logger: Arc<dyn logger_interface>) -> VoidResult {
    logging::set_global_logger(Adapter(logger))
        .map_err(|failure| error::new(failure.code(), failure.to_string()))
}

/// Carries the events of the library to a classic logger.
struct Adapter(Arc<dyn logger_interface>);

impl Logger for Adapter {
    fn enabled(&self, level: Level) -> bool {
        self.0.is_level_enabled(level.into())
    }

    fn log(&self, level: Level, _target: &str, message: &str) {
        self.0.log(level.into(), message);
    }
}

/// Writes to stderr: a line with the time, the level and the message for each event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct basic_logger {
    min_level: log_level,
}

impl basic_logger {
    /// A logger of events of `min_level` and above.
    pub fn new(min_level: log_level) -> Self {
        basic_logger { min_level }
    }
}

impl Default for basic_logger {
    fn default() -> Self {
        basic_logger::new(log_level::info)
    }
}

impl logger_interface for basic_logger {
    fn log(&self, level: log_level, message: &str) {
        if level < self.min_level {
            return;
        }
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        let line = format!(
            "{} [{level}] {message}\n",
            Utc(time.unwrap_or(Duration::ZERO))
        );
        // In one piece, so that lines of other threads do not stand inside. Nobody can be told if it fails.
        let _ = io::stderr().lock().write_all(line.as_bytes());
    }

    fn is_level_enabled(&self, level: log_level) -> bool {
        level >= self.min_level
    }
}

/// Gives events to a logger of another library, by a function: what a `logger_system` would be adapted by.
///
/// ```
/// use network_system::compat::{log_level, logger_interface, logger_system_adapter};
///
/// let (sender, lines) = std::sync::mpsc::channel();
/// let adapter = logger_system_adapter::new(move |level, message: &str| {
///     let _ = sender.send(format!("{level}: {message}"));
/// });
/// adapter.log(log_level::info, "listening");
/// assert_eq!(lines.recv().as_deref(), Ok("INFO: listening"));
/// ```
#[derive(Clone, Copy)]
pub struct logger_system_adapter<F>(F);

impl<F: Fn(log_level, &str) + Send + Sync> logger_system_adapter<F> {
    /// Gives `info` and above to `log`.
    pub fn new(log: F) -> Self {
        logger_system_adapter(log)
    }
}

impl<F: Fn(log_level, &str) + Send + Sync> logger_interface for logger_system_adapter<F> {
    fn log(&self, level: log_level, message: &str) {
        (self.0)(level, message);
    }
}

impl<F> fmt::Debug for logger_system_adapter<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("logger_system_adapter")
            .finish_non_exhaustive()
    }
}

/// A time since the epoch of Unix, as RFC 3339 has it.
struct Utc(Duration);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (days, of_day) = (seconds / 86_400, seconds % 86_400);
        // Years that begin in March end with the leap day; an era has 400 of them.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let (year, month) = match month {
            0..10 => (year + era * 400, month + 3),
            _ => (year + era * 400 + 1, month - 9),
        };
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
            of_day / 3_600,
            of_day / 60 % 60,
            of_day % 60,
            self.0.subsec_millis()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_dates() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_735_689_599_000, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ];
        for (millis, expected) in cases {
            assert_eq!(Utc(Duration::from_millis(millis)).to_string(), expected);
        }
    }

    #[test]
    fn levels_are_in_order_and_have_both_of_their_names() {
        assert!(log_level::trace < log_level::warn && log_level::warn < log_level::fatal);
        assert_eq!(log_level::warning, log_level::warn);
        assert_eq!(log_level::critical, log_level::fatal);
        assert!(basic_logger::default().is_level_enabled(log_level::info));
        assert!(!basic_logger::default().is_level_enabled(log_level::debug));
    }
}
