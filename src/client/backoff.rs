//! When a client tries again: exponential back-off with full jitter.
//!
//! Full jitter means that a delay is drawn from the whole range up to the exponential bound. Clients
//! that lost the same server at the same moment then return spread out, not in waves.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::ConfigError;

/// The longest wait that a server can ask for with `goaway`.
///
/// The number comes from the network and can be anything below 2^53 ms, which is 285,000 years. A
/// longer maintenance than a day is no reason to stop asking once a day.
const LONGEST_RETRY: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether and when a client that lost its connection, or did not get one, tries again.
///
/// Before attempt *n* (from 0) it waits a random time between zero and `base` · 2ⁿ, at most `cap`. The
/// count starts anew after a success.
///
/// ```
/// use std::time::Duration;
/// use network_system::ReconnectPolicy;
///
/// let policy = ReconnectPolicy::default()
///     .base(Duration::from_millis(100))
///     .cap(Duration::from_secs(5))
///     .attempts(Some(20));
/// assert!(policy.is_enabled());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReconnectPolicy {
    attempts: Option<u32>,
    base: Duration,
    cap: Duration,
    max_elapsed: Option<Duration>,
}

impl ReconnectPolicy {
    /// Unlimited attempts, 500 ms base, 30 s cap, no limit on the time.
    pub fn new() -> Self {
        ReconnectPolicy {
            attempts: None,
            base: Duration::from_millis(500),
            cap: Duration::from_secs(30),
            max_elapsed: None,
        }
    }

    /// No attempt: the client is done when its connection is.
    pub fn disabled() -> Self {
        ReconnectPolicy::new().attempts(Some(0))
    }

    /// How many attempts in a row may fail before the client gives up. `None`, the default, is
    /// unlimited; `Some(0)` is the same as [`disabled`](Self::disabled).
    #[must_use]
    pub fn attempts(mut self, attempts: Option<u32>) -> Self {
        self.attempts = attempts;
        self
    }

    /// The bound of the first delay; each further bound is twice as long. 500 ms by default.
    #[must_use]
    pub fn base(mut self, base: Duration) -> Self {
        self.base = base;
        self
    }

    /// The bound that no delay exceeds. 30 s by default.
    #[must_use]
    pub fn cap(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// How long the client tries, counted from the first failure; the last attempt starts when this
    /// time is over. `None`, the default, is unlimited.
    #[must_use]
    pub fn max_elapsed(mut self, max_elapsed: Option<Duration>) -> Self {
        self.max_elapsed = max_elapsed;
        self
    }

    /// Whether there is any attempt.
    pub fn is_enabled(&self) -> bool {
        self.attempts != Some(0)
    }

    /// Refuses values with which a client would attempt without pause.
    ///
    /// # Errors
    ///
    /// Attempts are allowed, and the base is zero or the cap below it.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.is_enabled() && self.base.is_zero() {
            let value = format_args!("{:?}", self.base);
            return Err(ConfigError::option(
                "reconnect base",
                value,
                "more than zero",
            ));
        }
        if self.is_enabled() && self.cap < self.base {
            let expected = format!("at least the base of {:?}", self.base);
            let value = format_args!("{:?}", self.cap);
            return Err(ConfigError::option("reconnect cap", value, &expected));
        }
        Ok(())
    }
}

/// The same as [`ReconnectPolicy::new`].
impl Default for ReconnectPolicy {
    fn default() -> Self {
        ReconnectPolicy::new()
    }
}

/// A source of random numbers, so that tests can choose them.
pub(crate) trait Random {
    /// The next number, uniform over all values.
    fn next_u64(&mut self) -> u64;

    /// A uniform time between two numbers of nanoseconds, both included.
    fn between(&mut self, low: u64, high: u64) -> Duration {
        // Multiplying keeps the high bits of the random number; the bias of at most one in 2^64
        // divided by the width matters to no delay.
        let width = u128::from(high - low) + 1;
        let offset = (u128::from(self.next_u64()) * width) >> 64;
        Duration::from_nanos(low.saturating_add(u64::try_from(offset).unwrap_or(u64::MAX)))
    }
}

/// Splitmix64, seeded by the operating system.
///
/// It spreads delays. **It is not for secrets**: whoever sees one number knows all that follow.
#[derive(Debug)]
pub(crate) struct Jitter(u64);

impl Jitter {
    /// A generator that differs from every other client's.
    pub(crate) fn from_system() -> Self {
        // Without entropy the clock still differs between clients, and a delay needs no more.
        let seed = getrandom::u64().unwrap_or_else(|_| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(0, |since| {
                u64::from(since.subsec_nanos()) ^ since.as_secs() << 30
            })
        });
        Jitter(seed)
    }
}

impl From<u64> for Jitter {
    fn from(seed: u64) -> Self {
        Jitter(seed)
    }
}

impl Random for Jitter {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

/// The state of one client's attempts.
#[derive(Debug)]
pub(crate) struct Backoff<R = Jitter> {
    policy: ReconnectPolicy,
    random: R,
    /// How many delays were handed out since the last success.
    attempt: u32,
    /// When the current row of failures began.
    since: Option<Instant>,
}

impl Backoff {
    /// A fresh row of attempts under the policy.
    pub(crate) fn new(policy: ReconnectPolicy) -> Self {
        Backoff::with_random(policy, Jitter::from_system())
    }
}

impl<R: Random> Backoff<R> {
    /// The same with a source of random numbers of the caller's.
    pub(crate) fn with_random(policy: ReconnectPolicy, random: R) -> Self {
        Backoff {
            policy,
            random,
            attempt: 0,
            since: None,
        }
    }

    /// How long to wait before the next attempt, after a failure that was noticed at `now`; `None`
    /// when the policy allows no further one.
    pub(crate) fn next_delay(&mut self, now: Instant) -> Option<Duration> {
        if self
            .policy
            .attempts
            .is_some_and(|most| self.attempt >= most)
        {
            return None;
        }
        let elapsed = now.saturating_duration_since(*self.since.get_or_insert(now));
        let left = match self.policy.max_elapsed {
            Some(most) => most.checked_sub(elapsed).filter(|left| !left.is_zero())?,
            None => Duration::MAX,
        };
        let bound = self.bound();
        self.attempt = self.attempt.saturating_add(1);
        Some(self.random.between(0, bound).min(left))
    }

    /// How many attempts were allowed since the last success.
    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How long a session has to stay open to count as a success: as long as the longest delay that
    /// the current row of failures could ask for. A server that accepts and soon drops connections is
    /// so asked less and less often.
    pub(crate) fn proof(&self) -> Duration {
        Duration::from_nanos(self.bound())
    }

    /// The bound of the next delay, in nanoseconds.
    fn bound(&self) -> u64 {
        // The exponent stops growing long after any cap was reached.
        let bound = nanos(self.policy.base).saturating_mul(1 << self.attempt.min(63));
        bound.min(nanos(self.policy.cap))
    }

    /// Starts anew. To be called once a session is open, not as soon as a socket is connected: a
    /// server that accepts and drops connections must not be asked again and again without pause.
    pub(crate) fn reset(&mut self) {
        self.attempt = 0;
        self.since = None;
    }

    /// How long to wait when the server said `goaway`: `retry_ms` on average, at least half of it and
    /// at most half more, so that a server's clients do not all return at once.
    ///
    /// This is no failure and uses up no attempt.
    pub(crate) fn after(&mut self, retry_ms: u64) -> Duration {
        let retry = nanos(Duration::from_millis(retry_ms).min(LONGEST_RETRY));
        self.random.between(retry / 2, retry + retry / 2)
    }

    /// A random part of the longest delay that is due now. Uses up no attempt.
    pub(crate) fn spread(&mut self) -> Duration {
        let bound = self.bound();
        self.random.between(0, bound)
    }
}

/// The duration in nanoseconds; what does not fit is 584 years, which is as good as for ever.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    /// Always draws the same number.
    struct Fixed(u64);

    impl Random for Fixed {
        fn next_u64(&mut self) -> u64 {
            self.0
        }
    }

    fn delays(policy: ReconnectPolicy, random: u64, count: usize) -> Vec<Option<Duration>> {
        let mut backoff = Backoff::with_random(policy, Fixed(random));
        let now = Instant::now();
        (0..count).map(|_| backoff.next_delay(now)).collect()
    }

    #[test]
    fn bounds_double_up_to_the_cap() {
        let expected = [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000];
        let expected: Vec<_> = expected.iter().map(|&ms| Some(ms * MS)).collect();
        assert_eq!(delays(ReconnectPolicy::default(), u64::MAX, 8), expected);
    }

    #[test]
    fn jitter_reaches_down_to_zero() {
        assert_eq!(
            delays(ReconnectPolicy::default(), 0, 2),
            [Some(Duration::ZERO); 2]
        );
        let half = delays(ReconnectPolicy::default(), 1 << 63, 2);
        assert_eq!(half, [Some(250 * MS), Some(500 * MS)]);
    }

    #[test]
    fn attempts_are_limited_and_counted_anew_after_success() {
        let mut backoff =
            Backoff::with_random(ReconnectPolicy::new().attempts(Some(2)), Fixed(u64::MAX));
        let now = Instant::now();
        assert_eq!(backoff.next_delay(now), Some(500 * MS));
        assert_eq!(backoff.next_delay(now), Some(1000 * MS));
        assert_eq!(backoff.next_delay(now), None);
        assert_eq!(backoff.attempt(), 2);
        backoff.reset();
        assert_eq!(backoff.next_delay(now), Some(500 * MS));
    }

    #[test]
    fn a_session_proves_itself_for_as_long_as_the_next_delay_can_be() {
        let mut backoff = Backoff::with_random(ReconnectPolicy::new(), Fixed(0));
        assert_eq!(backoff.proof(), 500 * MS);
        backoff.next_delay(Instant::now());
        assert_eq!(backoff.proof(), 1000 * MS);
        backoff.reset();
        assert_eq!(backoff.proof(), 500 * MS);
    }

    #[test]
    fn disabled_means_no_attempt() {
        assert!(!ReconnectPolicy::disabled().is_enabled());
        assert_eq!(delays(ReconnectPolicy::disabled(), 0, 1), [None]);
    }

    #[test]
    fn the_last_attempt_starts_when_the_time_is_over() {
        let policy = ReconnectPolicy::new().max_elapsed(Some(1200 * MS));
        let mut backoff = Backoff::with_random(policy, Fixed(u64::MAX));
        let start = Instant::now();
        assert_eq!(backoff.next_delay(start), Some(500 * MS));
        assert_eq!(backoff.next_delay(start + 500 * MS), Some(700 * MS));
        assert_eq!(backoff.next_delay(start + 1200 * MS), None);
        backoff.reset();
        assert_eq!(backoff.next_delay(start + 1300 * MS), Some(500 * MS));
    }

    #[test]
    fn goaway_is_obeyed_within_half_and_one_and_a_half() {
        let after = |random, retry_ms| {
            Backoff::with_random(ReconnectPolicy::new(), Fixed(random)).after(retry_ms)
        };
        assert_eq!(after(0, 1000), 500 * MS);
        assert_eq!(after(1 << 63, 1000), 1000 * MS);
        assert_eq!(after(u64::MAX, 1000), 1500 * MS);
        assert_eq!(after(u64::MAX, 0), Duration::ZERO);
        assert_eq!(after(0, u64::MAX), LONGEST_RETRY / 2);
    }

    #[test]
    fn goaway_uses_up_no_attempt() {
        let mut backoff = Backoff::with_random(ReconnectPolicy::new().attempts(Some(1)), Fixed(7));
        backoff.after(10);
        assert!(backoff.next_delay(Instant::now()).is_some());
    }

    #[test]
    fn policies_that_would_not_pause_are_refused() {
        assert!(ReconnectPolicy::new().check().is_ok());
        assert!(
            ReconnectPolicy::disabled()
                .base(Duration::ZERO)
                .check()
                .is_ok()
        );
        let zero = ReconnectPolicy::new().base(Duration::ZERO).check();
        assert!(zero.is_err_and(|error| error.to_string().contains("reconnect base: `0ns`")));
        let low = ReconnectPolicy::new().cap(MS).check();
        assert!(low.is_err_and(|error| error.to_string().contains("at least the base of 500ms")));
    }

    #[test]
    fn two_clients_draw_different_delays() {
        let draw = || Jitter::from_system().next_u64();
        assert_ne!(draw(), draw());
    }

    #[test]
    fn the_generator_is_splitmix64() {
        // The published first numbers for the seed 0.
        let mut jitter = Jitter(0);
        assert_eq!(jitter.next_u64(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(jitter.next_u64(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn delays_are_spread_over_the_whole_range() {
        let mut backoff = Backoff::with_random(ReconnectPolicy::new(), Jitter(7));
        let mut quarters = [0_u32; 4];
        for _ in 0..4000 {
            backoff.reset();
            let delay = backoff
                .next_delay(Instant::now())
                .expect("unlimited attempts");
            quarters[(delay.as_millis() / 125).min(3) as usize] += 1;
        }
        assert!(
            quarters.iter().all(|&count| (850..1150).contains(&count)),
            "{quarters:?}"
        );
    }

    proptest! {
        #[test]
        fn no_policy_overflows(
            base: Duration, cap: Duration, most: Option<Duration>, seed: u64, retry_ms: u64,
        ) {
            let policy = ReconnectPolicy::new().base(base).cap(cap).max_elapsed(most);
            let mut backoff = Backoff::with_random(policy, Jitter(seed));
            let now = Instant::now();
            for _ in 0..100 {
                if let Some(delay) = backoff.next_delay(now) {
                    prop_assert!(delay <= cap);
                }
                prop_assert!(backoff.after(retry_ms) >= Duration::from_millis(retry_ms / 2).min(LONGEST_RETRY / 2));
            }
        }
    }
}
