//! How long things take at an endpoint: an average that remembers peaks and forgets with time.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// How fast the average forgets: after this long an old value has e⁻¹ of its weight.
///
/// Ten seconds, as in Finagle's peak EWMA: long enough for a stall to be remembered over the next picks, short
/// enough for an endpoint that was slow to be tried again within a minute.
const MEMORY: Duration = Duration::from_secs(10);

/// What a failure counts as, at least. It is far above what a connection or an answer usually takes.
const PENALTY: Duration = Duration::from_secs(1);

/// What nothing counts above, so that one failure is forgotten in a minute or two.
const CEILING: Duration = Duration::from_secs(60);

/// A peak-sensitive, exponentially weighted moving average of durations.
///
/// A value above the average becomes the average at once; values below pull it down with time. What is under way
/// counts as long as it has lasted already, so that an endpoint that answers nothing does not look fast.
#[derive(Debug, Default)]
pub(super) struct Latency {
    /// In seconds; the value at `stamp`.
    average: f64,
    /// When the average last changed; `None` before the first value.
    stamp: Option<Instant>,
    /// What is under way, by ticket. Tickets rise with time, so the first entry is the oldest.
    outstanding: BTreeMap<u64, Instant>,
    next: u64,
}

impl Latency {
    /// Something begins.
    pub(super) fn begin(&mut self, now: Instant) -> u64 {
        let ticket = self.next;
        self.next += 1;
        self.outstanding.insert(ticket, now);
        ticket
    }

    /// It ended well: its time counts.
    pub(super) fn succeeded(&mut self, ticket: u64, now: Instant) {
        if let Some(begun) = self.outstanding.remove(&ticket) {
            self.observe(now.saturating_duration_since(begun), now);
        }
    }

    /// It failed: it counts as long, however quickly it did so.
    pub(super) fn failed(&mut self, ticket: u64, now: Instant) {
        let begun = self.outstanding.remove(&ticket);
        let elapsed = begun.map_or(Duration::ZERO, |begun| now.saturating_duration_since(begun));
        self.punish(elapsed, now);
    }

    /// Nobody waits for it any more: it would have taken at least as long as it did, which tells something only
    /// when that is above the average.
    pub(super) fn cancelled(&mut self, ticket: u64, now: Instant) {
        if let Some(begun) = self.outstanding.remove(&ticket) {
            let elapsed = now.saturating_duration_since(begun);
            if self
                .value(now)
                .is_some_and(|value| elapsed.as_secs_f64() > value)
            {
                self.observe(elapsed, now);
            }
        }
    }

    /// A failure: the average doubles, and is a second at least.
    pub(super) fn punish(&mut self, elapsed: Duration, now: Instant) {
        let doubled = Duration::from_secs_f64((self.average * 2.0).min(CEILING.as_secs_f64()));
        self.observe(elapsed.max(doubled).max(PENALTY), now);
    }

    fn observe(&mut self, time: Duration, now: Instant) {
        let time = time.min(CEILING).as_secs_f64();
        self.average = match self.stamp {
            Some(stamp) if time < self.average => {
                let weight = weight(stamp, now);
                self.average * weight + time * (1.0 - weight)
            }
            _ => time,
        };
        self.stamp = Some(now);
    }

    /// What to expect now, in seconds; `None` when nothing is known. It falls while nothing is observed, so that a
    /// slow endpoint is tried again.
    pub(super) fn value(&self, now: Instant) -> Option<f64> {
        let known = self.stamp.map(|stamp| self.average * weight(stamp, now));
        let oldest = self.outstanding.values().next();
        let waiting = oldest.map(|begun| now.saturating_duration_since(*begun).as_secs_f64());
        match (known, waiting) {
            (Some(known), Some(waiting)) => Some(known.max(waiting)),
            (known, waiting) => known.or(waiting),
        }
    }

    /// Whether anything has ended yet.
    pub(super) fn is_known(&self) -> bool {
        self.stamp.is_some()
    }

    /// The average as it was last changed.
    pub(super) fn average(&self) -> Option<Duration> {
        self.stamp.map(|_| Duration::from_secs_f64(self.average))
    }

    /// How many are under way.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.len()
    }
}

/// The weight that a value of `stamp` has now, between 0 and 1.
fn weight(stamp: Instant, now: Instant) -> f64 {
    let age = now.saturating_duration_since(stamp);
    (-age.as_secs_f64() / MEMORY.as_secs_f64()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn observed(times: &[(u64, u64)]) -> (Latency, Instant) {
        let mut latency = Latency::default();
        let mut now = Instant::now();
        for &(pause, time) in times {
            now += pause as u32 * MS;
            latency.observe(time as u32 * MS, now);
        }
        (latency, now)
    }

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_with_time() {
        let (mut latency, now) = observed(&[(0, 10), (0, 500)]);
        assert_eq!(latency.average(), Some(500 * MS));
        // Quick values at the same moment are no news.
        latency.observe(10 * MS, now);
        assert_eq!(latency.average(), Some(500 * MS));
        latency.observe(10 * MS, now + MEMORY);
        let average = latency.average().expect("known");
        assert!((180 * MS..200 * MS).contains(&average), "{average:?}");
    }

    #[test]
    fn what_is_under_way_for_long_does_not_look_fast() {
        let (mut latency, now) = observed(&[(0, 10)]);
        let stuck = latency.begin(now);
        latency.begin(now + 100 * MS);
        assert_eq!(latency.value(now + 5_000 * MS), Some(5.0));
        latency.cancelled(stuck, now + 5_000 * MS);
        assert_eq!(latency.average(), Some(5_000 * MS));
        assert_eq!(latency.outstanding(), 1);
    }

    #[test]
    fn a_quick_failure_is_slow() {
        let (mut latency, now) = observed(&[(0, 10)]);
        let ticket = latency.begin(now);
        latency.failed(ticket, now);
        assert_eq!(latency.average(), Some(PENALTY));
        let ticket = latency.begin(now);
        latency.failed(ticket, now + MS);
        assert_eq!(latency.average(), Some(2 * PENALTY));
    }

    #[test]
    fn a_quick_cancellation_says_nothing() {
        let (mut latency, now) = observed(&[(0, 10)]);
        let ticket = latency.begin(now);
        latency.cancelled(ticket, now + MS);
        assert_eq!(latency.average(), Some(10 * MS));
    }

    proptest! {
        #[test]
        fn the_average_stays_among_what_was_observed(
            times in prop::collection::vec((0_u64..20_000, 0_u64..50_000), 1..50),
        ) {
            let (latency, now) = observed(&times);
            let least = times.iter().map(|&(_, time)| time).min().unwrap_or_default() as f64 / 1e3;
            let most = times.iter().map(|&(_, time)| time).max().unwrap_or_default() as f64 / 1e3;
            let value = latency.value(now).expect("known");
            prop_assert!((least - 1e-9..=most + 1e-9).contains(&value), "{value}");
        }
    }
}
