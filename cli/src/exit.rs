//! How the program ends.

use std::fmt;
use std::io;
use std::process::ExitCode;

use network_system::{ConfigError, ConnectError, ErrorCode, ServerError};

/// The exit codes. They are stable, and `netsys --help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ExitStatus {
    /// What was asked for is done.
    Done = 0,
    /// It could not be done, or not all of it.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// There was no connection.
    NotConnected = 3,
    /// TLS failed.
    Tls = 4,
    /// A benchmark is worse than its baseline.
    Regression = 5,
    /// A signal ended it before it was done.
    Interrupted = 130,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        ExitCode::from(status as u8)
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: ExitStatus,
    /// One line. Empty when there is nothing to say.
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(status: ExitStatus, text: impl fmt::Display) -> Self {
        Failure {
            status,
            text: text.to_string(),
        }
    }

    pub(crate) fn usage(text: impl fmt::Display) -> Self {
        Failure::new(ExitStatus::Usage, text)
    }
}

/// The text of an error and of what caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text.replace('\n', " ")
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // Whoever read the output has seen enough.
            io::ErrorKind::BrokenPipe => Failure::new(ExitStatus::Done, ""),
            _ => Failure::new(ExitStatus::Failed, error),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::usage(chain(&error))
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        let status = match error.code() {
            ErrorCode::InvalidConfiguration | ErrorCode::NotSupported => ExitStatus::Usage,
            _ => ExitStatus::Failed,
        };
        Failure::new(status, chain(&error))
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let status = match error.code() {
            // What is not supported is so by the server: the rest is found before.
            ErrorCode::InvalidConfiguration => ExitStatus::Usage,
            ErrorCode::TlsHandshakeFailed => ExitStatus::Tls,
            _ => ExitStatus::NotConnected,
        };
        Failure::new(status, chain(&error))
    }
}
