//! How many retries there may be.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::window::Window;
use crate::error::ConfigError;
use crate::session::shared::lock;

const RATIO: f64 = 0.2;
const MINIMUM: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);

/// Bounds retries as a share of requests.
///
/// Retries help against failures of single requests. When all of them fail, retries only multiply the load of what is
/// down already: three attempts for each are three times the load. A budget lets through so many retries within
/// a sliding window as a share of the requests in it, and some in addition, so that callers with few requests can
/// retry at all. What is beyond fails at once, with the error that it has.
///
/// A budget is a handle: cheap to clone, all clones are the same budget. Share it among all that call the same service.
///
/// ```
/// use std::time::Duration;
/// use network_system::resilience::{RetryBudget, RetryPolicy};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // One retry for ten requests, and one a second in addition.
/// let budget = RetryBudget::new(0.1, 1, Duration::from_secs(10))?;
/// let policy = RetryPolicy::new().budget(&budget);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RetryBudget {
    shared: Arc<Shared>,
}

struct Shared {
    ratio: f64,
    /// Retries within a window that need no requests.
    reserve: f64,
    state: Mutex<State>,
}

struct State {
    window: Window,
    requests: u64,
    retries: u64,
    refused: u64,
}

/// What a budget has counted since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryBudgetStats {
    /// Requests, their retries left out.
    pub requests: u64,
    /// Retries.
    pub retries: u64,
    /// Retries that were refused.
    pub refused: u64,
    /// Retries that would be let through at this moment.
    pub available: u64,
}

impl RetryBudget {
    /// A budget of `ratio` retries for each request within the last `window`, and of `minimum_per_second` in addition,
    /// which can be used at once: 10 a second are 100 in a window of 10 s.
    ///
    /// # Errors
    /// `invalid_configuration`: the ratio is not between 0 and 1,000, the window not between 10 ms and 1 h, or both
    /// shares are 0.
    pub fn new(ratio: f64, minimum_per_second: u32, window: Duration) -> Result<Self, ConfigError> {
        if !(0.0..=1000.0).contains(&ratio) || (ratio == 0.0 && minimum_per_second == 0) {
            let expected = "0 to 1,000, above 0 without a minimum";
            return Err(ConfigError::option("retry budget ratio", ratio, expected));
        }
        if window < Duration::from_millis(10) || window > Duration::from_secs(3600) {
            let value = format_args!("{window:?}");
            return Err(ConfigError::option(
                "retry budget window",
                value,
                "10 ms to 1 h",
            ));
        }
        Ok(RetryBudget::make(ratio, minimum_per_second, window))
    }

    fn make(ratio: f64, minimum: u32, window: Duration) -> Self {
        let state = State {
            window: Window::new(window, Instant::now()),
            requests: 0,
            retries: 0,
            refused: 0,
        };
        RetryBudget {
            shared: Arc::new(Shared {
                ratio,
                reserve: f64::from(minimum) * window.as_secs_f64(),
                state: Mutex::new(state),
            }),
        }
    }

    /// Counts a request.
    pub fn deposit(&self) {
        let mut state = lock(&self.shared.state);
        state.requests += 1;
        state.window.add(Instant::now(), 1, 0);
    }

    /// Takes a retry out of the budget, unless it is used up.
    #[must_use = "without a retry in the budget there is to be none"]
    pub fn try_withdraw(&self) -> bool {
        let now = Instant::now();
        let mut state = lock(&self.shared.state);
        let allowed = self.shared.available(&mut state, now) >= 1;
        match allowed {
            true => {
                state.retries += 1;
                state.window.add(now, 0, 1);
            }
            false => state.refused += 1,
        }
        allowed
    }

    /// What it has counted.
    pub fn stats(&self) -> RetryBudgetStats {
        let mut state = lock(&self.shared.state);
        RetryBudgetStats {
            available: self.shared.available(&mut state, Instant::now()),
            requests: state.requests,
            retries: state.retries,
            refused: state.refused,
        }
    }
}

impl Shared {
    fn available(&self, state: &mut State, now: Instant) -> u64 {
        let counts = state.window.total(now);
        let all = self.reserve + self.ratio * counts.calls as f64;
        // Not below zero, and whole retries only. The little bit makes ten tenths one.
        (all - counts.marked as f64 + 1e-9) as u64
    }
}

/// One retry for five requests within 10 s, and 10 a second in addition.
impl Default for RetryBudget {
    fn default() -> Self {
        RetryBudget::make(RATIO, MINIMUM, WINDOW)
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBudget")
            .field("ratio", &self.shared.ratio)
            .field("reserve", &self.shared.reserve)
            .field("stats", &self.stats())
            .finish()
    }
}
