//! Error codes, the reason a session closed, and one error type for each operation.
//!
//! Every error carries an [`ErrorCode`]; the numbers are stable and shared with the C++ family, so
//! they can be compared across languages, logged and alerted on.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::codec::websocket::{NO_STATUS, mapping};
use crate::message::Message;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $retryable:literal;)*) => {
        /// The numeric code of an error or of the reason for a close.
        ///
        /// Codes −600 to −604, −620 to −622, −640 to −642 and −660 to −662 are the C++ family's own
        /// values. New codes are appended and never renumbered.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(i32)]
        pub enum ErrorCode {
            $($(#[$doc])* $variant = $number,)*
        }

        impl ErrorCode {
            /// Every code, in numeric order of its table.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$variant,)*];

            /// The stable name, for example `connection_refused`.
            pub const fn name(self) -> &'static str {
                match self { $(ErrorCode::$variant => $name,)* }
            }

            /// The code with this number, if there is one.
            pub const fn from_i32(number: i32) -> Option<ErrorCode> {
                match number { $($number => Some(ErrorCode::$variant),)* _ => None }
            }

            /// The place of the code in [`ALL`](Self::ALL).
            pub(crate) fn index(self) -> usize {
                Self::ALL.iter().position(|&code| code == self).unwrap_or_default()
            }

            /// Whether trying the same again later can succeed without changing anything else.
            pub const fn is_retryable(self) -> bool {
                match self { $(ErrorCode::$variant => $retryable,)* }
            }
        }
    };
}

codes! {
    /// The connection could not be made, for a reason without a code of its own.
    ConnectionFailed = -600, "connection_failed", true;
    /// Nobody listens at the address.
    ConnectionRefused = -601, "connection_refused", true;
    /// No connection within the time allowed.
    ConnectionTimeout = -602, "connection_timeout", true;
    /// The connection ended, or there is none.
    ConnectionClosed = -603, "connection_closed", true;
    /// The circuit breaker is open.
    CircuitOpen = -604, "circuit_open", true;
    /// The TLS handshake failed.
    TlsHandshakeFailed = -605, "tls_handshake_failed", false;
    /// A rate limit was exceeded.
    RateLimited = -606, "rate_limited", true;
    /// The server holds as many connections as it may.
    TooManyConnections = -607, "too_many_connections", true;
    /// Nothing was received for the idle time.
    IdleTimeout = -608, "idle_timeout", true;
    /// The peer did not answer heartbeats.
    HeartbeatTimeout = -609, "heartbeat_timeout", true;
    /// There is no session with that id.
    SessionNotFound = -620, "session_not_found", false;
    /// The session can no longer be resumed.
    SessionExpired = -621, "session_expired", false;
    /// The session's state contradicts what the peer says.
    InvalidSession = -622, "invalid_session", false;
    /// The peer is not who it says, or did not say.
    AuthenticationFailed = -623, "authentication_failed", false;
    /// The peer may not do this.
    AccessDenied = -624, "access_denied", false;
    /// The peer speaks no version in common.
    UnsupportedVersion = -625, "unsupported_version", false;
    /// Sending failed.
    SendFailed = -640, "send_failed", true;
    /// Receiving failed.
    ReceiveFailed = -641, "receive_failed", true;
    /// The message is longer than the limit.
    MessageTooLarge = -642, "message_too_large", false;
    /// The bytes are not a frame of the protocol.
    InvalidFrame = -643, "invalid_frame", false;
    /// The queue is full.
    QueueFull = -644, "queue_full", true;
    /// No answer within the time allowed.
    RequestTimeout = -645, "request_timeout", true;
    /// A stage of the pipeline failed.
    PipelineFailed = -646, "pipeline_failed", false;
    /// The other side could not answer the request.
    RequestFailed = -647, "request_failed", false;
    /// The transport, codec or configuration cannot do this.
    NotSupported = -648, "not_supported", false;
    /// The peer reads too slowly for the queue policy.
    SlowConsumer = -649, "slow_consumer", true;
    /// The server is not running.
    ServerNotStarted = -660, "server_not_started", false;
    /// The server is running already.
    ServerAlreadyRunning = -661, "server_already_running", false;
    /// A listener could not be bound.
    BindFailed = -662, "bind_failed", false;
    /// A configuration value is out of range, unknown or contradictory.
    InvalidConfiguration = -663, "invalid_configuration", false;
    /// The server or client is stopping.
    ShuttingDown = -664, "shutting_down", true;
}

impl ErrorCode {
    /// The number as it stands on the wire and in logs.
    pub const fn as_i32(self) -> i32 {
        self as i32
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.as_i32())
    }
}

/// Which side ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClosedBy {
    /// This side: the application, a limit or a deadline.
    Local,
    /// The peer: it disconnected or reported an error.
    Remote,
    /// Neither: the connection broke.
    Transport,
}

/// Why a session ended.
///
/// One value reaches the disconnect handler, the callers that were waiting, and the statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseReason {
    code: Option<ErrorCode>,
    by: ClosedBy,
    text: Cow<'static, str>,
    /// The close code of WebSocket, 0 for none.
    websocket: u16,
}

impl CloseReason {
    /// An orderly end asked for on this side, with a text that the peer's handler receives.
    ///
    /// The wire carries at most 1 KiB of the text.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        CloseReason {
            code: None,
            by: ClosedBy::Local,
            text: text.into(),
            websocket: 0,
        }
    }

    /// An end with a code, decided on this side.
    pub fn with_code(code: ErrorCode, text: impl Into<Cow<'static, str>>) -> Self {
        CloseReason {
            code: Some(code),
            by: ClosedBy::Local,
            text: text.into(),
            websocket: 0,
        }
    }

    /// The same with a close code for a WebSocket peer (RFC 6455 section 7.4). Codes that must not be
    /// sent are replaced by 1000; other transports have none and leave it out.
    pub fn with_websocket_code(mut self, code: u16) -> Self {
        self.websocket = match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => code,
            _ => 1000,
        };
        self
    }

    /// What the close frame of a WebSocket peer says; its payload has been checked.
    pub(crate) fn websocket(payload: &[u8]) -> Self {
        let (code, text) = mapping::split_close(payload);
        let code = code.unwrap_or(NO_STATUS);
        let error = match code {
            NO_STATUS => None,
            code => mapping::error_of(code),
        };
        CloseReason {
            websocket: code,
            ..CloseReason::remote(error, text)
        }
    }

    pub(crate) fn remote(code: Option<ErrorCode>, text: impl Into<Cow<'static, str>>) -> Self {
        CloseReason {
            code,
            by: ClosedBy::Remote,
            text: text.into(),
            websocket: 0,
        }
    }

    pub(crate) fn transport(code: ErrorCode, text: impl Into<Cow<'static, str>>) -> Self {
        CloseReason {
            code: Some(code),
            by: ClosedBy::Transport,
            text: text.into(),
            websocket: 0,
        }
    }

    /// The code, or `None` for an orderly end without an error.
    pub fn code(&self) -> Option<ErrorCode> {
        self.code
    }

    /// Which side ended the session.
    pub fn closed_by(&self) -> ClosedBy {
        self.by
    }

    /// The text, as given by the side that closed. May be empty.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The close code of WebSocket, when one was sent or received; 1005 when the peer's close frame has
    /// none.
    pub fn websocket_code(&self) -> Option<u16> {
        (self.websocket != 0).then_some(self.websocket)
    }

    /// Whether the session ended in order, without an error.
    pub fn is_orderly(&self) -> bool {
        self.code.is_none()
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.text.is_empty()) {
            (Some(code), true) => write!(f, "{code}"),
            (Some(code), false) => write!(f, "{}: {}", code.name(), self.text),
            (None, true) => f.write_str("closed"),
            (None, false) => f.write_str(&self.text),
        }
    }
}

type Source = Option<Box<dyn StdError + Send + Sync>>;

/// A code, a sentence and a source: what the error types of this module have inside.
struct Inner {
    code: ErrorCode,
    text: Cow<'static, str>,
    source: Source,
    /// Whether a connection ended while something was under way on it.
    is_lost: bool,
}

macro_rules! carrier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub struct $name(Box<Inner>);

        impl $name {
            #[allow(dead_code)]
            pub(crate) fn new(code: ErrorCode, text: impl Into<Cow<'static, str>>) -> Self {
                $name(Box::new(Inner { code, text: text.into(), source: None, is_lost: false }))
            }

            #[allow(dead_code)]
            pub(crate) fn with_source(
                code: ErrorCode,
                text: impl Into<Cow<'static, str>>,
                source: impl Into<Box<dyn StdError + Send + Sync>>,
            ) -> Self {
                $name(Box::new(Inner { code, text: text.into(), source: Some(source.into()), is_lost: false }))
            }

            /// The code of the error.
            pub fn code(&self) -> ErrorCode {
                self.0.code
            }

            /// Whether trying the same again later can succeed.
            pub fn is_retryable(&self) -> bool {
                self.0.code.is_retryable()
            }

            /// Whether a deadline passed.
            pub fn is_timeout(&self) -> bool {
                matches!(self.0.code, ErrorCode::ConnectionTimeout | ErrorCode::RequestTimeout)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut out = f.debug_struct(stringify!($name));
                out.field("code", &self.0.code).field("text", &self.0.text);
                if let Some(source) = &self.0.source {
                    out.field("source", source);
                }
                out.finish()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0.text)
            }
        }

        impl StdError for $name {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
            }
        }
    };
}

carrier! {
    /// A configuration that cannot be used. The text names the option and what is valid.
    ConfigError
}
carrier! {
    /// A server could not be started, stopped or asked.
    ServerError
}
carrier! {
    /// A client could not connect.
    ConnectError
}
carrier! {
    /// A request got no answer.
    RequestError
}
carrier! {
    /// There is no item of a [`Pool`](crate::pool::Pool) to be had.
    PoolError
}

impl From<ConfigError> for ServerError {
    fn from(error: ConfigError) -> Self {
        ServerError(error.0)
    }
}

impl From<ConfigError> for ConnectError {
    fn from(error: ConfigError) -> Self {
        ConnectError(error.0)
    }
}

impl From<ConfigError> for PoolError {
    fn from(error: ConfigError) -> Self {
        PoolError(error.0)
    }
}

impl From<ConnectError> for PoolError {
    fn from(error: ConnectError) -> Self {
        PoolError(error.0)
    }
}

/// A request that found no client.
impl From<PoolError> for RequestError {
    fn from(error: PoolError) -> Self {
        RequestError(error.0)
    }
}

impl PoolError {
    /// Why an item could not be made, for a [manager](crate::pool::Manage) of your own: `connection_failed`, with
    /// what lies below.
    pub fn failed(
        text: impl Into<Cow<'static, str>>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        PoolError::with_source(ErrorCode::ConnectionFailed, text, source)
    }

    /// The same with a code of the caller's choice.
    pub fn with_code(code: ErrorCode, text: impl Into<Cow<'static, str>>) -> Self {
        PoolError::new(code, text)
    }
}

impl ConfigError {
    /// The value of `option` is not valid; `expected` says what is.
    pub(crate) fn option(option: &str, value: impl fmt::Display, expected: &str) -> Self {
        ConfigError::new(
            ErrorCode::InvalidConfiguration,
            format!("{option}: `{value}` is not valid, expected {expected}"),
        )
    }
}

impl ServerError {
    pub(crate) fn threads(error: io::Error) -> Self {
        let text = "cannot start the worker threads";
        ServerError::with_source(ErrorCode::InvalidConfiguration, text, error)
    }

    pub(crate) fn bind(target: impl fmt::Display, error: io::Error) -> Self {
        let text = format!("cannot listen on {target}");
        ServerError::with_source(ErrorCode::BindFailed, text, error)
    }
}

impl ConnectError {
    /// Maps the error of a failed attempt to the code that says the most.
    pub(crate) fn io(target: impl fmt::Display, error: io::Error) -> Self {
        let (code, text) = match error.kind() {
            io::ErrorKind::ConnectionRefused => (
                ErrorCode::ConnectionRefused,
                format!("{target} refused the connection"),
            ),
            io::ErrorKind::TimedOut => (
                ErrorCode::ConnectionTimeout,
                format!("no answer from {target}"),
            ),
            _ => (
                ErrorCode::ConnectionFailed,
                format!("cannot connect to {target}"),
            ),
        };
        ConnectError::with_source(code, text, error)
    }

    pub(crate) fn timeout(target: impl fmt::Display, after: Duration) -> Self {
        let text = format!("no connection to {target} within {after:?}");
        ConnectError::new(ErrorCode::ConnectionTimeout, text)
    }

    pub(crate) fn closed(reason: &CloseReason) -> Self {
        let code = reason.code().unwrap_or(ErrorCode::ConnectionClosed);
        match reason.by {
            // A failed handshake has said it all.
            ClosedBy::Local => ConnectError::new(code, reason.text.clone()),
            _ => ConnectError::new(code, format!("the peer closed the connection: {reason}")),
        }
    }
}

impl RequestError {
    /// A failure that a request handler returns to the requester.
    ///
    /// The wire carries at most 1 KiB of the text.
    pub fn failed(text: impl Into<Cow<'static, str>>) -> Self {
        RequestError::new(ErrorCode::RequestFailed, text)
    }

    /// A failure with a code of the caller's choice.
    pub fn with_code(code: ErrorCode, text: impl Into<Cow<'static, str>>) -> Self {
        RequestError::new(code, text)
    }

    /// Whether the connection ended before the answer came: the request may have been carried out or not. The
    /// [code](Self::code) says why it ended.
    pub fn is_connection_lost(&self) -> bool {
        self.0.is_lost
    }

    pub(crate) fn closed(reason: &CloseReason) -> Self {
        let code = reason.code().unwrap_or(ErrorCode::ConnectionClosed);
        RequestError::new(
            code,
            format!("the session ended before the answer came: {reason}"),
        )
        .lost()
    }

    /// The same, as the connection has ended.
    pub(crate) fn lost(mut self) -> Self {
        self.0.is_lost = true;
        self
    }

    /// The same, after so many attempts.
    pub(crate) fn after(mut self, attempts: u32) -> Self {
        if attempts > 1 {
            self.0.text = format!("{} (attempt {attempts})", self.0.text).into();
        }
        self
    }
}

/// A message that was not sent. It can be taken back with [`SendError::into_message`].
pub struct SendError(Box<SendInner>);

struct SendInner {
    code: ErrorCode,
    text: Cow<'static, str>,
    message: Message,
}

impl SendError {
    pub(crate) fn new(
        code: ErrorCode,
        text: impl Into<Cow<'static, str>>,
        message: Message,
    ) -> Self {
        SendError(Box::new(SendInner {
            code,
            text: text.into(),
            message,
        }))
    }

    /// The code of the error.
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// Whether the queue was full, so that sending can succeed once there is room.
    pub fn is_full(&self) -> bool {
        self.0.code == ErrorCode::QueueFull
    }

    /// Whether the session is over, so that sending can never succeed.
    pub fn is_closed(&self) -> bool {
        !matches!(
            self.0.code,
            ErrorCode::QueueFull | ErrorCode::MessageTooLarge | ErrorCode::NotSupported
        )
    }

    /// Whether trying the same again later can succeed.
    pub fn is_retryable(&self) -> bool {
        self.is_full()
    }

    /// The message that was not sent.
    pub fn message(&self) -> &Message {
        &self.0.message
    }

    /// Takes the message back.
    pub fn into_message(self) -> Message {
        self.0.message
    }
}

impl fmt::Debug for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The payload stays out: errors end up in logs.
        f.debug_struct("SendError")
            .field("code", &self.0.code)
            .field("text", &self.0.text)
            .field("message_bytes", &self.0.message.len())
            .finish()
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl StdError for SendError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_match_the_published_table() {
        let table = [
            (-600, "connection_failed"),
            (-601, "connection_refused"),
            (-602, "connection_timeout"),
            (-603, "connection_closed"),
            (-604, "circuit_open"),
            (-605, "tls_handshake_failed"),
            (-606, "rate_limited"),
            (-607, "too_many_connections"),
            (-608, "idle_timeout"),
            (-609, "heartbeat_timeout"),
            (-620, "session_not_found"),
            (-621, "session_expired"),
            (-622, "invalid_session"),
            (-623, "authentication_failed"),
            (-624, "access_denied"),
            (-625, "unsupported_version"),
            (-640, "send_failed"),
            (-641, "receive_failed"),
            (-642, "message_too_large"),
            (-643, "invalid_frame"),
            (-644, "queue_full"),
            (-645, "request_timeout"),
            (-646, "pipeline_failed"),
            (-647, "request_failed"),
            (-648, "not_supported"),
            (-649, "slow_consumer"),
            (-660, "server_not_started"),
            (-661, "server_already_running"),
            (-662, "bind_failed"),
            (-663, "invalid_configuration"),
            (-664, "shutting_down"),
        ];
        assert_eq!(table.len(), ErrorCode::ALL.len());
        for (number, name) in table {
            let code = ErrorCode::from_i32(number).expect(name);
            assert_eq!((code.as_i32(), code.name()), (number, name));
        }
        assert_eq!(ErrorCode::from_i32(-1), None);
    }

    #[test]
    fn errors_are_one_word_wide() {
        let word = size_of::<usize>();
        assert_eq!(size_of::<Result<(), SendError>>(), word);
        assert_eq!(size_of::<ConnectError>(), word);
        assert_eq!(size_of::<RequestError>(), word);
    }

    #[test]
    fn send_error_gives_the_message_back() {
        let error = SendError::new(ErrorCode::QueueFull, "full", Message::binary(&b"kept"[..]));
        assert!(error.is_full() && error.is_retryable() && !error.is_closed());
        assert_eq!(error.into_message().payload(), b"kept");
    }
}
