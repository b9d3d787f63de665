//! A stage that tells `tracing` about messages.

use std::fmt;
use std::sync::Arc;

use tracing::Level;

use super::stage::{Direction, Stage, StageDefinition, StageError, StageKind};

/// A stage that logs each message and leaves it as it is.
///
/// It makes an event of `tracing` with the name `message`, the target `network_system::message` and these fields:
///
/// | field | what |
/// |---|---|
/// | `session` | the id of the session |
/// | `direction` | `sent` or `received` |
/// | `bytes` | the length of the message |
/// | `payload` | how it begins, only [when asked for](Self::with_payload) |
///
/// As the first stage it sees messages as the session does, as the last one as the link does. It is not
/// negotiated: only one side needs it. While nobody listens, nothing is formatted, and a message costs one
/// comparison.
///
/// ```
/// use network_system::pipeline::{Compression, MessageLog, Pipeline};
///
/// let pipeline = Pipeline::builder()
///     .offer(MessageLog::new(tracing::Level::DEBUG))
///     .offer(Compression::lz4())
///     .build()?;
/// # Ok::<(), network_system::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageLog {
    level: Level,
    payload: usize,
}

impl MessageLog {
    /// Logs messages at this level.
    pub fn new(level: Level) -> Self {
        MessageLog { level, payload: 0 }
    }

    /// Shows the first `max_bytes` bytes of each message, with escapes for what is not printable. Payloads are
    /// often secret, and logs seldom are.
    #[must_use]
    pub fn with_payload(mut self, max_bytes: usize) -> Self {
        self.payload = max_bytes;
        self
    }
}

impl From<MessageLog> for StageDefinition {
    fn from(log: MessageLog) -> Self {
        StageDefinition {
            name: "log".into(),
            kind: StageKind::Observer,
            overhead: 0,
            // Each message names its session.
            is_shareable: false,
            is_binary: false,
            needs_order: false,
            fault: None,
            make: Arc::new(move |context| {
                Ok(Box::new(LogStage {
                    level: log.level,
                    payload: log.payload,
                    session: context.session,
                }))
            }),
        }
    }
}

/// The stage of a link.
#[derive(Debug)]
struct LogStage {
    level: Level,
    payload: usize,
    session: u64,
}

impl Stage for LogStage {
    fn encode(&mut self, message: &[u8], output: &mut Vec<u8>) -> Result<(), StageError> {
        self.observe(Direction::Sent, message);
        output.extend_from_slice(message);
        Ok(())
    }

    fn decode(
        &mut self,
        encoded: &[u8],
        _limit: usize,
        output: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        self.observe(Direction::Received, encoded);
        output.extend_from_slice(encoded);
        Ok(())
    }

    fn observe(&mut self, direction: Direction, message: &[u8]) {
        // The level is part of what `tracing` asks once for each place in the code. The fields are evaluated
        // only when somebody listens.
        macro_rules! event {
            ($level:ident) => {
                tracing::event!(
                    name: "message",
                    target: "network_system::message",
                    Level::$level,
                    session = self.session,
                    direction = direction.as_str(),
                    bytes = message.len(),
                    payload = self.shown(message).map(tracing::field::display),
                    "message"
                )
            };
        }
        match self.level {
            Level::ERROR => event!(ERROR),
            Level::WARN => event!(WARN),
            Level::INFO => event!(INFO),
            Level::DEBUG => event!(DEBUG),
            Level::TRACE => event!(TRACE),
        }
    }
}

impl LogStage {
    fn shown<'a>(&self, message: &'a [u8]) -> Option<Shown<'a>> {
        let len = message.len().min(self.payload);
        (self.payload > 0).then(|| Shown(&message[..len]))
    }
}

/// How a message begins, in printable characters.
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match std::str::from_utf8(self.0) {
            Ok(text) => Some(text),
            // The last character is cut off.
            Err(error) if error.error_len().is_none() => {
                std::str::from_utf8(&self.0[..error.valid_up_to()]).ok()
            }
            Err(_) => None,
        };
        match text {
            Some(text) => text.escape_debug().fmt(f),
            None => self.0.escape_ascii().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
