//! The classic error, its result types and its codes.

use std::error::Error as StdError;
use std::fmt;

use crate::container::{DecodeError, EncodeError, GetError};
use crate::error::{
    CloseReason, ConfigError, ConnectError, ErrorCode, PoolError, SendError, ServerError,
};
use crate::group::{GroupError, GroupNameError};

/// Why an operation failed: a number of [`error_codes`] and a sentence.
///
/// The sentence includes what lies below, such as the error of the operating system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct error {
    /// The number, one of [`error_codes`].
    pub code: i32,
    /// What happened, for a person.
    pub message: String,
}

/// The result of an operation that returns something.
///
/// It is the standard library's `Result`, so `is_ok`, `is_err`, `and_then`, `or_else` and `?` are
/// there; [`ResultExt::error`] is the classic accessor. The second parameter has a default only, so
/// that a glob import of this module does not take `Result<T, E>` away.
pub type Result<T, E = error> = std::result::Result<T, E>;

/// The result of an operation that returns nothing.
pub type VoidResult = Result<()>;

/// The classic accessor of results.
pub trait ResultExt {
    /// The error of a result that has failed.
    ///
    /// # Panics
    /// When the operation succeeded. Ask `is_err` first.
    fn error(&self) -> &error;
}

impl<T> ResultExt for Result<T> {
    fn error(&self) -> &error {
        match self {
            Err(error) => error,
            Ok(_) => panic!("error() was called on a result that is ok"),
        }
    }
}

/// Makes a result that is ok; `ok(())` is a [`VoidResult`].
///
/// # Errors
/// Never.
pub fn ok<T>(value: T) -> Result<T> {
    Ok(value)
}

/// Makes a result that has failed.
///
/// # Errors
/// Always: with this code and message.
pub fn error<T>(code: i32, message: impl Into<String>) -> Result<T> {
    Err(error {
        code,
        message: message.into(),
    })
}

/// Makes a [`VoidResult`] that has failed.
///
/// # Errors
/// Always: with this code and message.
pub fn error_void(code: i32, message: impl Into<String>) -> VoidResult {
    error(code, message)
}

impl error {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        error {
            code: code.as_i32(),
            message: message.into(),
        }
    }

    /// Puts the sentences of an error and of everything below it into one.
    fn from_chain(code: ErrorCode, top: &dyn StdError) -> Self {
        let mut message = top.to_string();
        let mut below = top.source();
        while let Some(source) = below {
            message.push_str(": ");
            message.push_str(&source.to_string());
            below = source.source();
        }
        error::new(code, message)
    }

    /// The code as a value, when it is one of the table.
    pub fn error_code(&self) -> Option<ErrorCode> {
        ErrorCode::from_i32(self.code)
    }
}

impl fmt::Display for error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)
    }
}

impl StdError for error {}

macro_rules! from_native {
    ($($native:ty),*) => {$(
        impl From<$native> for error {
            fn from(native: $native) -> Self {
                error::from_chain(native.code(), &native)
            }
        }
    )*};
}

from_native!(
    ServerError,
    ConfigError,
    ConnectError,
    PoolError,
    SendError,
    GroupError,
    GroupNameError,
    EncodeError,
    DecodeError,
    GetError
);

/// The text that classic disconnect handlers get: what the closing side said, else the code's name.
pub(super) fn reason_text(reason: &CloseReason) -> String {
    match (reason.text(), reason.code()) {
        ("", Some(code)) => code.name().to_owned(),
        ("", None) => "closed".to_owned(),
        (text, _) => text.to_owned(),
    }
}

macro_rules! error_codes {
    ($($name:ident = $code:ident;)*) => {
        /// The numbers of [`error::code`], by their classic names.
        ///
        /// The meaning of each is that of the [`ErrorCode`] of the same name.
        #[allow(non_upper_case_globals)]
        pub mod error_codes {
            use crate::error::ErrorCode;
            $(
                #[doc = concat!("The number of [`ErrorCode::", stringify!($code), "`].")]
                pub const $name: i32 = ErrorCode::$code.as_i32();
            )*
        }

        #[cfg(test)]
        const NAMED: &[(&str, i32)] = &[$((stringify!($name), error_codes::$name),)*];
    };
}

error_codes! {
    connection_failed = ConnectionFailed;
    connection_refused = ConnectionRefused;
    connection_timeout = ConnectionTimeout;
    connection_closed = ConnectionClosed;
    circuit_open = CircuitOpen;
    tls_handshake_failed = TlsHandshakeFailed;
    rate_limited = RateLimited;
    too_many_connections = TooManyConnections;
    idle_timeout = IdleTimeout;
    heartbeat_timeout = HeartbeatTimeout;
    session_not_found = SessionNotFound;
    session_expired = SessionExpired;
    invalid_session = InvalidSession;
    authentication_failed = AuthenticationFailed;
    access_denied = AccessDenied;
    unsupported_version = UnsupportedVersion;
    send_failed = SendFailed;
    receive_failed = ReceiveFailed;
    message_too_large = MessageTooLarge;
    invalid_frame = InvalidFrame;
    queue_full = QueueFull;
    request_timeout = RequestTimeout;
    pipeline_failed = PipelineFailed;
    request_failed = RequestFailed;
    not_supported = NotSupported;
    slow_consumer = SlowConsumer;
    server_not_started = ServerNotStarted;
    server_already_running = ServerAlreadyRunning;
    bind_failed = BindFailed;
    invalid_configuration = InvalidConfiguration;
    shutting_down = ShuttingDown;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_classic_name() {
        let native: Vec<_> = ErrorCode::ALL
            .iter()
            .map(|code| (code.name(), code.as_i32()))
            .collect();
        assert_eq!(NAMED, native);
    }

    #[test]
    fn a_message_says_what_lies_below() {
        let io = std::io::Error::other("no such device");
        let native = ServerError::with_source(ErrorCode::BindFailed, "cannot listen", io);
        let classic = error::from(native);
        assert_eq!(classic.message, "cannot listen: no such device");
        assert_eq!(classic.error_code(), Some(ErrorCode::BindFailed));
        assert_eq!(error_void(-1, "x").error().to_string(), "x (code -1)");
    }
}
