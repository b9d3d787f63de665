//! How many attempts to connect are made in a second.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::error::{ConfigError, ConnectError, ErrorCode};

/// Attempts a second, unless configured otherwise. A thousand clients are back within two seconds, and a server
/// that has just come back is not asked for more handshakes than a core can do.
const PER_SECOND: u32 = 500;

/// Attempts that may come at once, unless configured otherwise.
const BURST: u32 = 100;

/// Bounds the attempts to connect: a token bucket, first come, first served.
///
/// It is a handle: clones share the bucket, so that one budget can be given to all clients of a process. Every
/// attempt of a client takes a token, the first one included; it waits for one for
/// half of [`Timeouts::connect`](crate::Timeouts), and fails with `rate_limited` when none was to be had in that time. The
/// addresses of one name, which are tried together, are one attempt.
///
/// ```
/// use network_system::balance::AttemptBudget;
///
/// // At most 200 attempts a second on average, and at most 50 at once.
/// let budget = AttemptBudget::new(200, 50)?;
/// # Ok::<(), network_system::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct AttemptBudget {
    /// `None` without a bound.
    bucket: Option<Arc<Mutex<Bucket>>>,
    per_second: u32,
    burst: u32,
}

impl AttemptBudget {
    /// A bucket of its own: `per_second` attempts a second on average, `burst` at once, both at least 1.
    ///
    /// # Errors
    /// `invalid_configuration`: one of them is 0.
    pub fn new(per_second: u32, burst: u32) -> Result<Self, ConfigError> {
        for (option, value) in [("per_second", per_second), ("burst", burst)] {
            if value == 0 {
                let option = format!("attempt_budget {option}");
                return Err(ConfigError::option(&option, value, "at least 1"));
            }
        }
        Ok(Self::with(per_second, burst))
    }

    /// No bound.
    pub fn unlimited() -> Self {
        AttemptBudget {
            bucket: None,
            per_second: u32::MAX,
            burst: u32::MAX,
        }
    }

    fn with(per_second: u32, burst: u32) -> Self {
        let bucket = Bucket {
            tokens: f64::from(burst),
            at: None,
            per_second: f64::from(per_second),
            burst: f64::from(burst),
        };
        AttemptBudget {
            bucket: Some(Arc::new(Mutex::new(bucket))),
            per_second,
            burst,
        }
    }

    /// Takes a token, waiting at most `within` for it. Dropping the future takes none and gives up the place in
    /// the line.
    ///
    /// # Errors
    /// `rate_limited` when there was none in that time.
    ///
    /// # Panics
    /// When it has to wait outside a tokio runtime.
    pub async fn acquire(&self, within: Duration) -> Result<(), ConnectError> {
        let Some(bucket) = &self.bucket else {
            return Ok(());
        };
        // Without a wait, without a timer.
        if let Ok(mut bucket) = bucket.try_lock()
            && bucket.take(Instant::now()).is_ok()
        {
            return Ok(());
        }
        let deadline = crate::client::after(within);
        let turn = async {
            // The lock is the line, and it is fair: who holds it is the next.
            let mut bucket = bucket.lock().await;
            while let Err(at) = bucket.take(Instant::now()) {
                sleep_until(at).await;
            }
        };
        timeout_at(deadline, turn).await.map_err(|_| {
            let text = format!(
                "no attempt within {within:?}: the budget is {} a second",
                self.per_second
            );
            ConnectError::new(ErrorCode::RateLimited, text)
        })
    }
}

/// 500 attempts a second, 100 at once, in a bucket of its own.
impl Default for AttemptBudget {
    fn default() -> Self {
        AttemptBudget::with(PER_SECOND, BURST)
    }
}

impl fmt::Debug for AttemptBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bucket {
            None => f.write_str("AttemptBudget(unlimited)"),
            Some(_) => f
                .debug_struct("AttemptBudget")
                .field("per_second", &self.per_second)
                .field("burst", &self.burst)
                .finish(),
        }
    }
}

struct Bucket {
    tokens: f64,
    /// When `tokens` was right; `None` before the first use.
    at: Option<Instant>,
    per_second: f64,
    burst: f64,
}

impl Bucket {
    /// Takes a token, or says when there will be one.
    fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let since = self.at.replace(now).unwrap_or(now);
        let passed = now.saturating_duration_since(since).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.burst);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        // Rounded up, so that the token is whole when the wait is over.
        let wait = Duration::from_secs_f64((1.0 - self.tokens) / self.per_second);
        Err(now + wait + Duration::from_nanos(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_the_rest_at_the_rate() {
        let budget = AttemptBudget::new(10, 3).expect("valid");
        let start = Instant::now();
        let mut times = Vec::new();
        for _ in 0..6 {
            budget.acquire(Duration::from_secs(10)).await.expect("room");
            times.push(start.elapsed().as_millis());
        }
        assert_eq!(times[..3], [0, 0, 0]);
        for (index, time) in times[3..].iter().enumerate() {
            let expected = 100 * (index as u128 + 1);
            assert!((expected..expected + 3).contains(time), "{times:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_get_a_token_in_time_learns_it() {
        let budget = AttemptBudget::new(1, 1).expect("valid");
        budget.acquire(MS).await.expect("the first is free");
        let error = budget.acquire(500 * MS).await.expect_err("too early");
        assert_eq!(error.code(), ErrorCode::RateLimited);
        // The one who gave up has taken nothing.
        budget.acquire(600 * MS).await.expect("a second has passed");
    }

    #[tokio::test(start_paused = true)]
    async fn clones_share_and_a_thousand_clients_are_spread() {
        let budget = AttemptBudget::default();
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..1_000 {
            let budget = budget.clone();
            tasks.spawn(async move {
                budget.acquire(Duration::from_secs(10)).await.expect("room");
                start.elapsed()
            });
        }
        let times = tasks.join_all().await;
        let last = times.iter().max().copied().expect("a thousand");
        assert!((1_790 * MS..1_900 * MS).contains(&last), "{last:?}");
        for from in (0..1_800).step_by(100) {
            let window = from * MS..(from + 1_000) * MS;
            let count = times.iter().filter(|time| window.contains(*time)).count();
            assert!(
                count <= 601,
                "{count} attempts in the second from {from} ms"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_stops_waiting_takes_nothing() {
        let budget = AttemptBudget::new(10, 1).expect("valid");
        budget.acquire(MS).await.expect("free");
        for _ in 0..50 {
            let waiting = budget.acquire(Duration::from_secs(10));
            assert!(tokio::time::timeout(MS, waiting).await.is_err());
        }
        let start = Instant::now();
        budget.acquire(Duration::from_secs(1)).await.expect("room");
        assert!(start.elapsed() <= 60 * MS);
    }

    #[tokio::test]
    async fn no_bound_and_impossible_ones() {
        for _ in 0..10_000 {
            AttemptBudget::unlimited()
                .acquire(Duration::ZERO)
                .await
                .expect("free");
        }
        assert!(AttemptBudget::new(0, 1).is_err() && AttemptBudget::new(1, 0).is_err());
    }
}
