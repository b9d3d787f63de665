//! The configuration of a breaker.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::breaker::{CircuitBreaker, Judge, OnChange};
use super::circuit::{CircuitState, Settings};
use super::verdict::Verdict;
use crate::error::{ConfigError, ErrorCode};

const SHORTEST_WINDOW: Duration = Duration::from_millis(10);
const LONGEST_WINDOW: Duration = Duration::from_secs(3600);
const LONGEST_OPEN: Duration = Duration::from_secs(24 * 3600);

/// Configures a [`CircuitBreaker`].
///
/// Nothing is checked before [`build`](Self::build), which checks everything.
#[must_use = "a builder does nothing before `build`"]
pub struct CircuitBreakerBuilder {
    name: Arc<str>,
    settings: Settings,
    judge: Box<Judge>,
    on_change: Option<Box<OnChange>>,
}

impl CircuitBreakerBuilder {
    pub(super) fn new() -> Self {
        CircuitBreakerBuilder {
            name: "default".into(),
            settings: Settings {
                consecutive: Some(5),
                rate: Some(0.5),
                window: Duration::from_secs(10),
                minimum: 20,
                open: Duration::from_secs(5),
                cap: Duration::from_secs(60),
                jitter: 0.2,
                probes: 1,
                successes: 1,
            },
            judge: Box::new(Verdict::of),
            on_change: None,
        }
    }

    /// Sets the name, for logs and errors. `default` by default.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Opens after so many failures in a row, at least 1. 5 by default; `None` switches it off.
    pub fn consecutive_failures(mut self, failures: Option<u32>) -> Self {
        self.settings.consecutive = failures;
        self
    }

    /// Opens when this share of the calls within the window has failed, above 0 and at most 1. 0.5 by default;
    /// `None` switches it off.
    pub fn failure_rate(mut self, rate: Option<f64>) -> Self {
        self.settings.rate = rate;
        self
    }

    /// The time that the failure rate looks back, 10 ms to 1 h. 10 s by default. It slides in tenths.
    pub fn window(mut self, window: Duration) -> Self {
        self.settings.window = window;
        self
    }

    /// Calls that there must be within the window before the failure rate counts, at least 1. 20 by default.
    pub fn minimum_calls(mut self, calls: u64) -> Self {
        self.settings.minimum = calls;
        self
    }

    /// How long it is open the first time, and how long at most: each time in a row is twice as long. 5 s and 60 s
    /// by default, at most a day.
    pub fn open_for(mut self, first: Duration, cap: Duration) -> Self {
        self.settings.open = first;
        self.settings.cap = cap;
        self
    }

    /// By what share of itself the open time is shortened at random, 0 to 1, so that breakers of many processes do
    /// not try all at once. 0.2 by default.
    pub fn jitter(mut self, share: f64) -> Self {
        self.settings.jitter = share;
        self
    }

    /// How many calls at a time a half-open breaker lets through, at least 1. 1 by default.
    pub fn probes(mut self, probes: u32) -> Self {
        self.settings.probes = probes;
        self
    }

    /// How many successes close a half-open breaker, at least 1. 1 by default. A client's connection is one; with
    /// more, the first requests after it find the breaker half-open, and all but the probes are refused.
    pub fn successes(mut self, successes: u32) -> Self {
        self.settings.successes = successes;
        self
    }

    /// Sets what an error says about what was called. [`Verdict::of`] by default. Must not block.
    pub fn judge(mut self, judge: impl Fn(ErrorCode) -> Verdict + Send + Sync + 'static) -> Self {
        self.judge = Box::new(judge);
        self
    }

    /// Sets what is called when the state changes, with the old and the new one, in order. Must not block: what
    /// happens meanwhile is told afterwards, the last 64 changes at most.
    pub fn on_change(
        mut self,
        handler: impl Fn(CircuitState, CircuitState) + Send + Sync + 'static,
    ) -> Self {
        self.on_change = Some(Box::new(handler));
        self
    }

    /// Checks the configuration and makes the breaker, closed.
    ///
    /// # Errors
    /// `invalid_configuration`, with the option and what is valid.
    pub fn build(self) -> Result<CircuitBreaker, ConfigError> {
        let settings = &self.settings;
        if settings.consecutive.is_none() && settings.rate.is_none() {
            return Err(ConfigError::new(
                ErrorCode::InvalidConfiguration,
                "circuit breaker: with neither consecutive_failures nor failure_rate it would never open",
            ));
        }
        if settings.consecutive == Some(0) {
            let option = "circuit breaker consecutive_failures";
            return Err(ConfigError::option(option, 0, "at least 1, or none"));
        }
        if let Some(rate) = settings.rate
            && !(rate > 0.0 && rate <= 1.0)
        {
            let option = "circuit breaker failure_rate";
            return Err(ConfigError::option(option, rate, "above 0, at most 1"));
        }
        if !(SHORTEST_WINDOW..=LONGEST_WINDOW).contains(&settings.window) {
            let value = format_args!("{:?}", settings.window);
            let option = "circuit breaker window";
            return Err(ConfigError::option(option, value, "10 ms to 1 h"));
        }
        if settings.open.is_zero() || settings.cap < settings.open || settings.cap > LONGEST_OPEN {
            let value = format_args!("{:?}, {:?}", settings.open, settings.cap);
            let expected = "more than zero, a cap that is not below it and at most a day";
            return Err(ConfigError::option(
                "circuit breaker open_for",
                value,
                expected,
            ));
        }
        if !(0.0..=1.0).contains(&settings.jitter) {
            let option = "circuit breaker jitter";
            return Err(ConfigError::option(option, settings.jitter, "0 to 1"));
        }
        for (option, value) in [
            ("circuit breaker minimum_calls", settings.minimum),
            ("circuit breaker probes", settings.probes.into()),
            ("circuit breaker successes", settings.successes.into()),
        ] {
            if value == 0 {
                return Err(ConfigError::option(option, value, "at least 1"));
            }
        }
        Ok(self.make())
    }

    /// Makes the breaker of a configuration that is known to be valid.
    pub(super) fn make(self) -> CircuitBreaker {
        CircuitBreaker::new(self.name, self.settings, self.judge, self.on_change)
    }
}

impl fmt::Debug for CircuitBreakerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerBuilder")
            .field("name", &self.name)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
