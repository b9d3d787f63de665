//! What an application configures.

use std::str::FromStr;
use std::time::Duration;

use crate::error::ConfigError;

/// What happens to messages that come faster than their [`Rate`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RatePolicy {
    /// They wait, and the session is not read meanwhile, so that the peer has to slow down. Nothing is lost. When
    /// the session ends, what still waits is handed over and counts for the rates of its address and its server.
    #[default]
    Wait,
    /// They are dropped and counted. Requests are answered with a failure, `rate_limited`. Refused together with
    /// reliable sessions.
    Drop,
    /// The session ends with an error, `rate_limited`. What came before is handled.
    Disconnect,
}

impl RatePolicy {
    /// The names that [`FromStr`] takes.
    pub const NAMES: &'static [&'static str] = &["wait", "drop", "disconnect"];

    /// The name in configuration files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            RatePolicy::Wait => "wait",
            RatePolicy::Drop => "drop",
            RatePolicy::Disconnect => "disconnect",
        }
    }
}

impl FromStr for RatePolicy {
    type Err = ConfigError;

    fn from_str(name: &str) -> Result<Self, ConfigError> {
        match name {
            "wait" => Ok(RatePolicy::Wait),
            "drop" => Ok(RatePolicy::Drop),
            "disconnect" => Ok(RatePolicy::Disconnect),
            _ => Err(ConfigError::option(
                "when_exceeded",
                name,
                &RatePolicy::NAMES.join(", "),
            )),
        }
    }
}

/// How many messages and bytes may be received in a second, and what happens beyond that.
///
/// ```
/// use std::time::Duration;
/// use network_system::{Limits, Rate, RatePolicy};
///
/// let mut limits = Limits::default();
/// // A session: 100 messages a second, 300 at once. Beyond that its peer has to wait.
/// limits.session_rate = Some(Rate::new(100, 0).burst(Duration::from_secs(3)));
/// // An address: 10 MB a second, whatever the number of its connections. Beyond that messages are dropped.
/// limits.ip_rate = Some(Rate::new(0, 10_000_000).when_exceeded(RatePolicy::Drop));
/// ```
///
/// Messages and requests count when they are handed to a handler. What is not a message (PING, PONG, answers to
/// requests of this side, CONTROL and the like) is dealt with as soon as it is read, and never dropped: its number is
/// limited to 10,000 a second for each session, its bytes count like those of messages, and a session whose peer sends
/// more is not read for a while. Bytes are those of payloads, as handlers see them.
///
/// A message that is longer than a whole burst passes when nothing has come for a burst, and is made up for after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rate {
    /// Messages a second; 0 for any number. At most 1,000,000,000.
    pub messages_per_second: u64,
    /// Bytes a second; 0 for any number. At most 1 TiB.
    pub bytes_per_second: u64,
    /// How much may come at once after a pause, as the time in which the rate brings it: with 100 messages a
    /// second and 3 s that is 300 messages. Default 1 s, 10 ms to an hour.
    pub burst: Duration,
    /// What happens beyond that. Default [`RatePolicy::Wait`].
    pub when_exceeded: RatePolicy,
}

const MESSAGES_MAX: u64 = 1_000_000_000;

const BYTES_MAX: u64 = 1 << 40;

/// Below that, the clock of sessions is too coarse to keep a rate.
const BURST_MIN: Duration = Duration::from_millis(10);

const BURST_MAX: Duration = Duration::from_secs(3_600);

impl Rate {
    /// So many messages and so many bytes a second; 0 for any number of one of them.
    #[must_use]
    pub const fn new(messages_per_second: u64, bytes_per_second: u64) -> Self {
        Rate {
            messages_per_second,
            bytes_per_second,
            burst: Duration::from_secs(1),
            when_exceeded: RatePolicy::Wait,
        }
    }

    /// Changes [`burst`](Self#structfield.burst).
    #[must_use]
    pub const fn burst(mut self, burst: Duration) -> Self {
        self.burst = burst;
        self
    }

    /// Changes [`when_exceeded`](Self#structfield.when_exceeded).
    #[must_use]
    pub const fn when_exceeded(mut self, policy: RatePolicy) -> Self {
        self.when_exceeded = policy;
        self
    }

    pub(crate) fn check(&self, name: &'static str) -> Result<(), ConfigError> {
        let Rate {
            messages_per_second: messages,
            bytes_per_second: bytes,
            burst,
            ..
        } = *self;
        let value = format!("{messages} messages, {bytes} bytes a second");
        if messages == 0 && bytes == 0 {
            let expected = "a number of messages or bytes a second above 0, or no rate at all";
            return Err(ConfigError::option(name, value, expected));
        }
        if messages > MESSAGES_MAX || bytes > BYTES_MAX {
            let expected = "at most 1,000,000,000 messages and 1 TiB a second";
            return Err(ConfigError::option(name, value, expected));
        }
        if !(BURST_MIN..=BURST_MAX).contains(&burst) {
            let value = format!("a burst of {burst:?}");
            return Err(ConfigError::option(name, value, "10 ms to an hour"));
        }
        Ok(())
    }
}
