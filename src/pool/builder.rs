//! The configuration of a pool.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::state::Entry;
use super::{Manage, Pool};
use crate::error::ConfigError;

/// The most items, waiting callers and items made at once that can be configured.
const MAXIMUM_MAX: usize = 65_536;
const WAITERS_MAX: usize = 1_048_576;

/// No time is longer than this.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a pool does when.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) minimum: usize,
    pub(super) maximum: usize,
    pub(super) waiters: usize,
    pub(super) parallel_creates: usize,
    pub(super) acquire_timeout: Duration,
    pub(super) create_timeout: Duration,
    pub(super) check_timeout: Duration,
    pub(super) drain: Duration,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_age: Option<Duration>,
    pub(super) check_after_idle: Option<Duration>,
    pub(super) check_every: Option<Duration>,
    pub(super) check_on_return: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            minimum: 0,
            maximum: 10,
            waiters: 1_024,
            parallel_creates: 8,
            acquire_timeout: Duration::from_secs(30),
            create_timeout: Duration::from_secs(30),
            check_timeout: Duration::from_secs(5),
            drain: Duration::from_secs(10),
            idle_timeout: Some(Duration::from_secs(300)),
            max_age: None,
            check_after_idle: None,
            check_every: None,
            check_on_return: false,
        }
    }
}

impl Config {
    /// Whether nothing depends on how long an item was idle, or how old it is.
    pub(super) fn has_no_clock(&self) -> bool {
        self.idle_timeout.is_none()
            && self.max_age.is_none()
            && self.check_after_idle.is_none()
            && self.check_every.is_none()
    }

    /// When an idle item is next to be looked at, after `now`.
    pub(super) fn due<I>(&self, entry: &Entry<I>, now: Instant) -> Option<Instant> {
        let idle = self
            .idle_timeout
            .and_then(|most| entry.idle_since.checked_add(most));
        let check = self
            .check_every
            .and_then(|every| entry.checked.checked_add(every));
        [entry.expires, idle, check]
            .into_iter()
            .flatten()
            .filter(|&at| at > now)
            .min()
    }

    /// The shortest time after which an idle item is to be looked at.
    pub(super) fn shortest(&self) -> Option<Duration> {
        let times = [self.idle_timeout, self.max_age, self.check_every];
        times.into_iter().flatten().min()
    }

    fn check(&self) -> Result<(), ConfigError> {
        within("maximum", self.maximum, 1, MAXIMUM_MAX)?;
        within("minimum", self.minimum, 0, self.maximum)?;
        within("waiters", self.waiters, self.minimum.max(1), WAITERS_MAX)?;
        within("parallel_creates", self.parallel_creates, 1, MAXIMUM_MAX)?;
        let times = [
            ("acquire_timeout", Some(self.acquire_timeout)),
            ("create_timeout", Some(self.create_timeout)),
            ("check_timeout", Some(self.check_timeout)),
            ("drain", Some(self.drain)),
            ("idle_timeout", self.idle_timeout),
            ("max_age", self.max_age),
            ("check_after_idle", self.check_after_idle),
            ("check_every", self.check_every),
        ];
        for (option, time) in times {
            let Some(time) = time else { continue };
            if time > LONGEST || (time.is_zero() && option != "check_after_idle") {
                let value = format_args!("{time:?}");
                let expected = "above zero, and at most a year";
                return Err(ConfigError::option(option, value, expected));
            }
        }
        Ok(())
    }
}

pub(super) fn within(
    option: &str,
    value: usize,
    least: usize,
    most: usize,
) -> Result<(), ConfigError> {
    match (least..=most).contains(&value) {
        true => Ok(()),
        false => {
            let expected = format!("{least} to {most}");
            Err(ConfigError::option(option, value, &expected))
        }
    }
}

/// Configures a [`Pool`].
///
/// Nothing is checked before [`build`](Self::build), which checks everything.
#[must_use = "a builder does nothing before `build`"]
pub struct PoolBuilder<M: Manage> {
    pub(super) manager: M,
    config: Config,
}

impl<M: Manage> PoolBuilder<M> {
    pub(super) fn new(manager: M) -> Self {
        PoolBuilder {
            manager,
            config: Config::default(),
        }
    }

    /// Sets how many items there are at most, 1 to 65,536, those included that are being made. Default 10.
    pub fn maximum(mut self, items: usize) -> Self {
        self.config.maximum = items;
        self
    }

    /// Sets how many items the pool keeps at least, once it has been used or
    /// [warmed up](Pool::warm_up): those that break or grow too old are replaced, and the idle limit stops here.
    /// Default 0.
    pub fn minimum(mut self, items: usize) -> Self {
        self.config.minimum = items;
        self
    }

    /// Sets how many callers may wait for an item at a time, 1 to 1,048,576. One more is refused with
    /// `queue_full`. Default 1,024.
    pub fn waiters(mut self, callers: usize) -> Self {
        self.config.waiters = callers;
        self
    }

    /// Sets how long [`Pool::acquire`] waits. Default 30 s.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.config.acquire_timeout = timeout;
        self
    }

    /// Sets how long making an item may take. Default 30 s.
    pub fn create_timeout(mut self, timeout: Duration) -> Self {
        self.config.create_timeout = timeout;
        self
    }

    /// Sets how many items are made at the same time. Default 8.
    pub fn parallel_creates(mut self, items: usize) -> Self {
        self.config.parallel_creates = items;
        self
    }

    /// Sets how long an item may be idle before it is closed, unless there are no more than the minimum. `None`:
    /// for ever. Default 5 min.
    ///
    /// The item that was given back last is lent first, so that those which are not needed become idle.
    pub fn idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.config.idle_timeout = timeout;
        self
    }

    /// Sets how old an item may become. It is closed when it is idle or is given back, and replaced if there are
    /// fewer than the minimum. Each has a limit of its own between four fifths of this and the whole, so that those
    /// that were made together do not end together. `None`, the default: as old as it gets.
    pub fn max_age(mut self, age: Option<Duration>) -> Self {
        self.config.max_age = age;
        self
    }

    /// Checks an item before it is lent that was idle for so long: see [`Manage::check`]. One that fails is closed, and
    /// another is taken. Zero: always. `None`, the default: never.
    pub fn check_after_idle(mut self, idle: Option<Duration>) -> Self {
        self.config.check_after_idle = idle;
        self
    }

    /// Checks idle items in the background when their last check is so long ago, a quarter of them at a time.
    /// `None`, the default: never.
    pub fn check_every(mut self, time: Option<Duration>) -> Self {
        self.config.check_every = time;
        self
    }

    /// Sets whether items are checked when they are given back, before the next one gets them. Default off.
    pub fn check_on_return(mut self, check: bool) -> Self {
        self.config.check_on_return = check;
        self
    }

    /// Sets how long a check may take. Default 5 s.
    pub fn check_timeout(mut self, timeout: Duration) -> Self {
        self.config.check_timeout = timeout;
        self
    }

    /// Sets how long [`Pool::close`] waits for what is in use. Default 10 s.
    pub fn drain(mut self, timeout: Duration) -> Self {
        self.config.drain = timeout;
        self
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Checks `asked`, and makes a pool for a multiplexer, which decides itself what is kept.
    pub(super) fn build_lending(mut self, asked: &Config) -> Result<Pool<M>, ConfigError> {
        asked.check()?;
        self.config = Config {
            minimum: 0,
            idle_timeout: None,
            check_after_idle: None,
            check_every: None,
            check_on_return: false,
            ..asked.clone()
        };
        Ok(Pool::new(self.manager, self.config))
    }

    /// Checks the configuration and makes the pool, which makes no item before it is used.
    ///
    /// # Errors
    /// `invalid_configuration`, with the option and what is valid.
    pub fn build(self) -> Result<Pool<M>, ConfigError> {
        self.config.check()?;
        Ok(Pool::new(self.manager, self.config))
    }
}

impl<M: Manage> fmt::Debug for PoolBuilder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
