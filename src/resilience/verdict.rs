//! What a call's end says about what was called, and the errors of guarded calls.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{ConfigError, ConnectError, ErrorCode, RequestError, SendError, ServerError};

/// What the end of a call says about what was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It works.
    Success,
    /// It does not.
    Failure,
    /// Nothing: the call did not get that far, or was given up.
    Neutral,
}

impl Verdict {
    /// What an error says, unless a breaker is told otherwise. The question is whether the other side is well, not
    /// whether the caller got what it wanted.
    ///
    /// - An answer is a sign of life, whatever it says: `request_failed` is what the other application decided, and
    ///   `authentication_failed`, `access_denied`, `unsupported_version` and the errors of session ids were
    ///   decided over there, too. [`Success`](Verdict::Success).
    /// - The caller's own mistakes and limits say nothing: `message_too_large`, `not_supported`, `queue_full`,
    ///   `invalid_configuration`, `shutting_down`, `circuit_open` and the errors of starting a server.
    ///   [`Neutral`](Verdict::Neutral).
    /// - Everything else is a [`Failure`](Verdict::Failure): no connection, no answer, a connection that broke, a
    ///   server that says it is full, bytes that make no sense.
    pub fn of(code: ErrorCode) -> Verdict {
        match code {
            ErrorCode::RequestFailed
            | ErrorCode::SessionNotFound
            | ErrorCode::SessionExpired
            | ErrorCode::InvalidSession
            | ErrorCode::AuthenticationFailed
            | ErrorCode::AccessDenied
            | ErrorCode::UnsupportedVersion => Verdict::Success,
            ErrorCode::CircuitOpen
            | ErrorCode::MessageTooLarge
            | ErrorCode::QueueFull
            | ErrorCode::NotSupported
            | ErrorCode::ServerNotStarted
            | ErrorCode::ServerAlreadyRunning
            | ErrorCode::BindFailed
            | ErrorCode::InvalidConfiguration
            | ErrorCode::ShuttingDown => Verdict::Neutral,
            ErrorCode::ConnectionFailed
            | ErrorCode::ConnectionRefused
            | ErrorCode::ConnectionTimeout
            | ErrorCode::ConnectionClosed
            | ErrorCode::TlsHandshakeFailed
            | ErrorCode::RateLimited
            | ErrorCode::TooManyConnections
            | ErrorCode::IdleTimeout
            | ErrorCode::HeartbeatTimeout
            | ErrorCode::SendFailed
            | ErrorCode::ReceiveFailed
            | ErrorCode::InvalidFrame
            | ErrorCode::RequestTimeout
            | ErrorCode::PipelineFailed
            | ErrorCode::SlowConsumer => Verdict::Failure,
        }
    }
}

/// Errors that a breaker and a retry policy can judge.
pub trait Coded {
    /// The code of the error. An error without one counts as a failure, and is worth a retry.
    fn error_code(&self) -> Option<ErrorCode>;

    /// How long a retry has to wait at least.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

macro_rules! coded {
    ($($name:ident),*) => {
        $(impl Coded for $name {
            fn error_code(&self) -> Option<ErrorCode> {
                Some(self.code())
            }
        })*
    };
}

coded!(ConfigError, ServerError, ConnectError, SendError);

impl Coded for RequestError {
    /// The code; `connection_closed` when a connection ended with `request_failed`, which a panic of any handler
    /// over there does, so that it is not taken for an answer.
    fn error_code(&self) -> Option<ErrorCode> {
        Some(match self.code() {
            ErrorCode::RequestFailed if self.is_connection_lost() => ErrorCode::ConnectionClosed,
            code => code,
        })
    }
}

impl Coded for io::Error {
    fn error_code(&self) -> Option<ErrorCode> {
        None
    }
}

/// A call was refused because the breaker is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircuitOpen {
    pub(super) name: Arc<str>,
    pub(super) wait: Wait,
}

/// How long a breaker refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// So long yet.
    For(Duration),
    /// Until one of the calls ends that are to find out.
    Probes,
    /// Until somebody says otherwise.
    Forced,
}

impl CircuitOpen {
    /// Always `circuit_open`.
    pub fn code(&self) -> ErrorCode {
        ErrorCode::CircuitOpen
    }

    /// After how long a call is let through again; `None` when that depends on calls that are under way, or when
    /// the breaker was opened by hand.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.wait {
            Wait::For(left) => Some(left),
            Wait::Probes | Wait::Forced => None,
        }
    }
}

impl fmt::Display for CircuitOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the circuit breaker `{}` ", self.name)?;
        match self.wait {
            // Rounded up: who comes back then is not refused again.
            Wait::For(left) => {
                let millis = left.as_nanos().div_ceil(1_000_000);
                let left = Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
                write!(f, "is open for another {left:?}")
            }
            Wait::Probes => f.write_str("is half-open until the call that tries it has ended"),
            Wait::Forced => f.write_str("was opened by hand, and is open until it is closed"),
        }
    }
}

impl StdError for CircuitOpen {}

impl Coded for CircuitOpen {
    fn error_code(&self) -> Option<ErrorCode> {
        Some(ErrorCode::CircuitOpen)
    }

    fn retry_after(&self) -> Option<Duration> {
        CircuitOpen::retry_after(self)
    }
}

impl From<CircuitOpen> for ConnectError {
    fn from(open: CircuitOpen) -> Self {
        ConnectError::new(ErrorCode::CircuitOpen, open.to_string())
    }
}

impl From<CircuitOpen> for RequestError {
    fn from(open: CircuitOpen) -> Self {
        RequestError::with_code(ErrorCode::CircuitOpen, open.to_string())
    }
}

/// Why a guarded call has no result.
#[derive(Debug)]
pub enum CallError<E> {
    /// It was refused, and has not begun.
    Open(CircuitOpen),
    /// It was made, and failed.
    Failed(E),
}

impl<E: Coded> Coded for CallError<E> {
    fn error_code(&self) -> Option<ErrorCode> {
        match self {
            CallError::Open(_) => Some(ErrorCode::CircuitOpen),
            CallError::Failed(error) => error.error_code(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            CallError::Open(open) => open.retry_after(),
            CallError::Failed(error) => error.retry_after(),
        }
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Open(open) => open.fmt(f),
            CallError::Failed(error) => error.fmt(f),
        }
    }
}

impl<E: StdError + 'static> StdError for CallError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            CallError::Open(_) => None,
            CallError::Failed(error) => error.source(),
        }
    }
}
