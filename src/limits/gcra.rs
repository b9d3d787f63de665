//! The generic cell rate algorithm, in nanoseconds.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A second, in nanoseconds.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// Up to how many a second it shows that one of a burst is missing.
const COUNTED: u64 = 1_000;

/// So many a second, and so many at once as come in the time of a burst.
///
/// What has been let in is one number: until when it lasts, which may be at most a burst after now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    per_second: u64,
    burst: u64,
}

impl Pace {
    /// `None` when there is no limit.
    pub(crate) fn new(per_second: u64, burst: Duration) -> Option<Self> {
        let burst = u64::try_from(burst.as_nanos()).unwrap_or(u64::MAX >> 1);
        let pace = (per_second > 0).then_some(Pace { per_second, burst })?;
        // What one lasts is rounded up. A burst of few would be one short, by some nanoseconds.
        let rounded = match per_second {
            ..=COUNTED => pace.room(0, 0).saturating_mul(pace.cost(1)),
            _ => 0,
        };
        let burst = burst.max(rounded.min(u64::MAX >> 1));
        Some(Pace { per_second, burst })
    }

    /// How long so many last.
    fn cost(self, count: u64) -> u64 {
        let nanos = (u128::from(count) * u128::from(SECOND)).div_ceil(self.per_second.into());
        // Half of the range, so that sums do not overflow: 292 years.
        u64::try_from(nanos).unwrap_or(u64::MAX).min(u64::MAX >> 1)
    }

    /// How many more are let in at `now`.
    pub(super) fn room(self, ahead: u64, now: u64) -> u64 {
        let left = self.burst.saturating_sub(ahead.saturating_sub(now));
        let count = u128::from(left) * u128::from(self.per_second) / u128::from(SECOND);
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// From when on so many are let in. More than a burst are when nothing else has been for a burst.
    pub(super) fn due(self, ahead: u64, count: u64) -> u64 {
        let cost = self.cost(count).min(self.burst);
        ahead.saturating_add(cost).saturating_sub(self.burst)
    }

    /// Until when it is all made up for, so many more included.
    pub(super) fn after(self, ahead: u64, count: u64, now: u64) -> u64 {
        ahead.max(now).saturating_add(self.cost(count))
    }

    /// How many come in about a millisecond, at least one.
    pub(super) fn quantum(self) -> u64 {
        (self.per_second / 1_000).max(1)
    }

    /// Lets one more in, or says from when on it will be.
    pub(crate) fn take(self, ahead: &AtomicU64, now: u64) -> Result<(), u64> {
        let taken = ahead.fetch_update(Relaxed, Relaxed, |ahead| {
            (self.due(ahead, 1) <= now).then(|| self.after(ahead, 1, now))
        });
        taken.map(drop).map_err(|ahead| self.due(ahead, 1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pace(per_second: u64, burst: Duration) -> Pace {
        Pace {
            per_second,
            burst: burst.as_nanos() as u64,
        }
    }

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate() {
        let pace = pace(10, Duration::from_secs(3));
        assert_eq!(pace.room(0, SECOND), 30);
        let ahead = pace.after(0, 30, SECOND);
        assert_eq!(pace.room(ahead, SECOND), 0);
        assert_eq!(pace.due(ahead, 1), SECOND + SECOND / 10);
        assert_eq!(pace.room(ahead, 2 * SECOND), 10);
        assert_eq!(pace.room(ahead, 1_000 * SECOND), 30);
    }

    #[test]
    fn what_is_longer_than_a_burst_passes_after_a_pause_and_is_made_up_for() {
        let pace = pace(100, Duration::from_secs(1));
        assert_eq!(pace.due(0, 1_000), 0);
        let ahead = pace.after(0, 1_000, SECOND);
        assert_eq!(pace.due(ahead, 1), 10 * SECOND + SECOND / 100);
    }

    #[test]
    fn one_at_a_time_is_let_in_as_often_as_the_rate_says() {
        let pace = pace(1_000, Duration::from_millis(100));
        let ahead = AtomicU64::new(0);
        let taken = (0..10_000u64)
            .filter(|step| pace.take(&ahead, SECOND + step * SECOND / 10_000).is_ok())
            .count();
        assert!((1_099..=1_101).contains(&taken), "{taken}");
    }

    proptest! {
        #[test]
        fn a_burst_of_few_is_not_one_short(per_second in 1..=COUNTED, seconds in 1..60u64) {
            let pace = Pace::new(per_second, Duration::from_secs(seconds));
            let pace = pace.ok_or_else(|| TestCaseError::fail("a rate of nothing"))?;
            let ahead = AtomicU64::new(0);
            let passed = (0..seconds * per_second + 1).take_while(|_| pace.take(&ahead, SECOND * 100).is_ok());
            prop_assert_eq!(passed.count() as u64, seconds * per_second);
        }

        #[test]
        fn whatever_is_asked_for_no_more_than_burst_and_rate_passes(
            per_second in 1..2_000_000u64,
            burst in 10..5_000u64,
            steps in prop::collection::vec((0..2_000_000_000u64, 0..1_000_000u64), 1..60),
        ) {
            let pace = pace(per_second, Duration::from_millis(burst));
            let (begin, mut now, mut ahead, mut passed) = (SECOND, SECOND, 0, 0u128);
            for (pause, wanted) in steps {
                now += pause;
                let count = pace.room(ahead, now).min(wanted);
                prop_assert!(count == 0 || pace.due(ahead, count) <= now);
                ahead = pace.after(ahead, count, now);
                passed += u128::from(count);
                let time = u128::from(now - begin) + u128::from(burst) * 1_000_000;
                prop_assert!(passed <= time * u128::from(per_second) / u128::from(SECOND));
            }
        }

        #[test]
        fn what_is_due_fits_then_and_not_before(
            per_second in 1..2_000_000u64,
            ahead in SECOND..100 * SECOND,
            count in 1..1_000u64,
        ) {
            let pace = pace(per_second, Duration::from_secs(1_000));
            let due = pace.due(ahead, count);
            if due > 0 {
                prop_assert!(pace.room(ahead, due) >= count);
                prop_assert!(pace.room(ahead, due - SECOND.div_ceil(per_second) - 1) < count);
            }
        }
    }
}
