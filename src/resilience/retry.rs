//! Which failures are tried again.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::budget::RetryBudget;
use super::verdict::Coded;
use crate::client::backoff::{Backoff, ReconnectPolicy};
use crate::error::{ConfigError, ErrorCode};

/// More would outlast any budget.
const MOST_ATTEMPTS: u32 = 100;

type RetryOn = dyn Fn(ErrorCode) -> bool + Send + Sync;

/// Which failures of idempotent calls are tried again, how often and after how long.
///
/// *Idempotent* means that doing it twice is the same as doing it once: a call whose connection is lost may have
/// been carried out, and is made again all the same.
///
/// Before attempt *n* of the retries (from 0) there is a random pause between zero and `base` · 2ⁿ, at most `cap`. A
/// retry for which there is no time left is not begun, and none when the [`RetryBudget`] is used up: then the call
/// fails with the error of its last attempt.
///
/// ```
/// use std::time::Duration;
/// use network_system::resilience::RetryPolicy;
/// use network_system::{Client, ErrorCode};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::builder()
///     .endpoint("tcp://127.0.0.1:7600")
///     .retry(
///         RetryPolicy::new()
///             .attempts(4)
///             .attempt_timeout(Some(Duration::from_secs(2)))
///             .retry_on(|code| code.is_retryable() && code != ErrorCode::CircuitOpen),
///     )
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RetryPolicy {
    attempts: u32,
    base: Duration,
    cap: Duration,
    attempt_timeout: Option<Duration>,
    retry_on: Arc<RetryOn>,
    budget: RetryBudget,
}

impl RetryPolicy {
    /// Three attempts, pauses of up to 50 ms at first and 1 s at most, every code that is
    /// [retryable](ErrorCode::is_retryable) but `circuit_open`, and a budget of its own, which clones share.
    pub fn new() -> Self {
        RetryPolicy {
            attempts: 3,
            base: Duration::from_millis(50),
            cap: Duration::from_secs(1),
            attempt_timeout: None,
            retry_on: Arc::new(|code| code.is_retryable() && code != ErrorCode::CircuitOpen),
            budget: RetryBudget::default(),
        }
    }

    /// How often a call is made at most, the first time included: 1 to 100. 3 by default.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// The bound of the first pause; each further bound is twice as long. 50 ms by default.
    #[must_use]
    pub fn base(mut self, base: Duration) -> Self {
        self.base = base;
        self
    }

    /// The bound that no pause exceeds. 1 s by default.
    #[must_use]
    pub fn cap(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// How long a single attempt waits for its answer. `None`, the default, is all the time that is left: then a call
    /// without an answer is not tried again.
    #[must_use]
    pub fn attempt_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// Sets which errors are tried again. With `circuit_open` among them, the first attempt too waits for an open
    /// breaker, if there is time. Must not block.
    #[must_use]
    pub fn retry_on(
        mut self,
        retry_on: impl Fn(ErrorCode) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.retry_on = Arc::new(retry_on);
        self
    }

    /// Sets the budget, which others may share.
    #[must_use]
    pub fn budget(mut self, budget: &RetryBudget) -> Self {
        self.budget = budget.clone();
        self
    }

    /// The budget that its retries are taken from.
    pub fn retry_budget(&self) -> &RetryBudget {
        &self.budget
    }

    /// Makes a call until it succeeds, fails for good, or `timeout` is over. Each attempt is told how long it may take,
    /// which it has to obey itself.
    ///
    /// Dropping the future drops the attempt that is under way, and there is no other.
    ///
    /// ```
    /// use std::time::Duration;
    /// use network_system::resilience::RetryPolicy;
    /// use tokio::io::Error;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let mut left = 2;
    /// let result = RetryPolicy::new()
    ///     .run(Duration::from_secs(5), |_within| {
    ///         let result = match left {
    ///             0 => Ok("third time lucky"),
    ///             _ => Err(Error::other("not yet")),
    ///         };
    ///         left -= 1;
    ///         async move { result }
    ///     })
    ///     .await;
    /// assert_eq!(result.ok(), Some("third time lucky"));
    /// # }
    /// ```
    ///
    /// # Errors
    /// That of the last attempt.
    pub async fn run<T, E, F>(
        &self,
        timeout: Duration,
        mut attempt: impl FnMut(Duration) -> F,
    ) -> Result<T, E>
    where
        E: Coded,
        F: Future<Output = Result<T, E>>,
    {
        let deadline = crate::client::after(timeout);
        let mut retries = self.begin(deadline);
        loop {
            let error = match attempt(retries.within()).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            match retries.pause(error.error_code(), error.retry_after()) {
                Some(pause) => sleep(pause).await,
                None => return Err(error),
            }
        }
    }

    /// A call begins.
    pub(crate) fn begin(&self, deadline: Instant) -> Retries<'_> {
        self.budget.deposit();
        let policy = ReconnectPolicy::new()
            .attempts(Some(self.attempts.saturating_sub(1)))
            .base(self.base)
            .cap(self.cap);
        Retries {
            policy: self,
            backoff: Backoff::new(policy),
            attempts: 1,
            deadline,
        }
    }

    /// Refuses what would make no attempt, or attempt without pause.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if !(1..=MOST_ATTEMPTS).contains(&self.attempts) {
            let option = "retry attempts";
            return Err(ConfigError::option(option, self.attempts, "1 to 100"));
        }
        if self.base.is_zero() || self.cap < self.base {
            let value = format_args!("{:?}, {:?}", self.base, self.cap);
            let expected = "more than zero, and a cap that is not below it";
            return Err(ConfigError::option("retry base, cap", value, expected));
        }
        if self
            .attempt_timeout
            .is_some_and(|timeout| timeout.is_zero())
        {
            let option = "retry attempt_timeout";
            return Err(ConfigError::option(
                option,
                "0ns",
                "more than zero, or none",
            ));
        }
        Ok(())
    }
}

/// The same as [`RetryPolicy::new`].
impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy::new()
    }
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryPolicy")
            .field("attempts", &self.attempts)
            .field("base", &self.base)
            .field("cap", &self.cap)
            .field("attempt_timeout", &self.attempt_timeout)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

/// The attempts of one call.
pub(crate) struct Retries<'a> {
    policy: &'a RetryPolicy,
    backoff: Backoff,
    attempts: u32,
    deadline: Instant,
}

impl Retries<'_> {
    /// How long the attempt that begins now may take.
    pub(crate) fn within(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.policy
            .attempt_timeout
            .map_or(left, |timeout| timeout.min(left))
    }

    /// How often the call has been made, the attempt that is under way or has just failed included.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether the policy is to try again after this error.
    pub(crate) fn is_tried(&self, code: ErrorCode) -> bool {
        (self.policy.retry_on)(code)
    }

    /// An attempt has failed: how long to wait before the next one, `None` when there is none.
    pub(crate) fn pause(
        &mut self,
        code: Option<ErrorCode>,
        at_least: Option<Duration>,
    ) -> Option<Duration> {
        if !code.is_none_or(|code| self.is_tried(code)) {
            return None;
        }
        let now = Instant::now();
        let left = self.deadline.saturating_duration_since(now);
        let pause = self.backoff.next_delay(now)?;
        let pause = pause.max(at_least.unwrap_or_default());
        // What a breaker has refused was no load, and is no retry of one.
        let is_free = code == Some(ErrorCode::CircuitOpen);
        if pause >= left || !(is_free || self.policy.budget.try_withdraw()) {
            return None;
        }
        self.attempts += 1;
        Some(pause)
    }
}
