//! Times, as histograms.

use std::sync::Mutex;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

use crate::session::shared::lock;

/// Significant decimal digits that a histogram keeps: every time is off by at most 1 %.
const DIGITS: u8 = 2;

/// Longer times count as this, in nanoseconds: an hour.
const LONGEST: u64 = 3_600_000_000_000;

/// How often times occurred, in nanoseconds. Without memory before the first; then it grows with the longest, to
/// at most 36 KiB.
#[derive(Clone, Debug, Default)]
pub(crate) struct Distribution {
    histogram: Option<Box<Histogram<u64>>>,
}

impl Distribution {
    fn histogram(&mut self) -> &mut Histogram<u64> {
        self.histogram.get_or_insert_with(|| {
            #[allow(
                clippy::expect_used,
                reason = "2 is a number of digits that it can have"
            )]
            let histogram = Histogram::new(DIGITS).expect("the number of digits is allowed");
            Box::new(histogram)
        })
    }

    /// Records that something took `nanos` nanoseconds, `count` times.
    pub(crate) fn record(&mut self, nanos: u64, count: u64) {
        // Cannot fail: the histogram grows, and the value is bounded.
        let _ = self.histogram().record_n(nanos.min(LONGEST), count);
    }

    /// Adds what another has recorded.
    pub(super) fn add(&mut self, other: &Distribution) {
        match (&other.histogram, &self.histogram) {
            (None, _) => {}
            (Some(_), None) => *self = other.clone(),
            // Cannot fail: this one grows.
            (Some(other), Some(_)) => {
                let _ = self.histogram().add(&**other);
            }
        }
    }

    /// What was recorded after `before`, which is an earlier state of the same; all when it is not.
    pub(super) fn since(&self, before: &Distribution) -> Distribution {
        let (Some(histogram), Some(earlier)) = (&self.histogram, &before.histogram) else {
            return self.clone();
        };
        let mut difference = histogram.clone();
        match difference.subtract(&**earlier) {
            Ok(()) => Distribution {
                histogram: Some(difference),
            },
            Err(_) => self.clone(),
        }
    }

    /// How many times were recorded.
    pub(super) fn count(&self) -> u64 {
        self.histogram
            .as_ref()
            .map_or(0, |histogram| histogram.len())
    }

    /// Each time in nanoseconds, and how often it occurred, the shortest first.
    pub(super) fn counts(&self) -> impl Iterator<Item = (u64, u64)> {
        let recorded = self.histogram.iter().flat_map(|h| h.iter_recorded());
        recorded.map(|step| (step.value_iterated_to(), step.count_at_value()))
    }

    /// All times together, in nanoseconds.
    pub(super) fn sum(&self) -> f64 {
        self.histogram
            .as_ref()
            .map_or(0.0, |histogram| histogram.mean() * histogram.len() as f64)
    }

    pub(crate) fn latency(&self) -> Latency {
        match &self.histogram {
            Some(histogram) if !histogram.is_empty() => Latency::of(histogram),
            _ => Latency::default(),
        }
    }
}

/// Times that one thread records and others read.
#[derive(Debug, Default)]
pub(crate) struct Times {
    distribution: Mutex<Distribution>,
}

impl Times {
    /// Records that something took `nanos` nanoseconds, `count` times.
    pub(crate) fn record(&self, nanos: u64, count: u64) {
        lock(&self.distribution).record(nanos, count);
    }

    /// Adds what was recorded to `sum`.
    pub(super) fn add_to(&self, sum: &mut Distribution) {
        sum.add(&lock(&self.distribution));
    }

    /// Forgets what was recorded.
    pub(super) fn reset(&self) {
        *lock(&self.distribution) = Distribution::default();
    }
}

/// All kinds of times.
#[derive(Clone, Debug, Default)]
pub(super) struct AllTimes {
    pub(super) requests: Distribution,
    pub(super) pings: Distribution,
    pub(super) handlers: Distribution,
    /// What the application recorded.
    pub(super) recorded: Distribution,
}

impl AllTimes {
    pub(super) fn add(&mut self, other: &AllTimes) {
        self.requests.add(&other.requests);
        self.pings.add(&other.pings);
        self.handlers.add(&other.handlers);
        self.recorded.add(&other.recorded);
    }

    /// What was recorded after `before`.
    pub(super) fn since(&self, before: &AllTimes) -> AllTimes {
        AllTimes {
            requests: self.requests.since(&before.requests),
            pings: self.pings.since(&before.pings),
            handlers: self.handlers.since(&before.handlers),
            recorded: self.recorded.since(&before.recorded),
        }
    }

    /// The four as one.
    pub(super) fn merged(&self) -> Distribution {
        let mut merged = self.requests.clone();
        merged.add(&self.pings);
        merged.add(&self.handlers);
        merged.add(&self.recorded);
        merged
    }
}

/// How long something took.
///
/// From a histogram with two significant digits: percentiles, minimum and maximum are off by at most 1 %. As JSON
/// all times are in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Latency {
    /// How many times were taken; all others are 0 when this is.
    pub count: u64,
    /// The mean.
    #[serde(rename = "average_us", serialize_with = "micros")]
    pub average: Duration,
    /// The shortest.
    #[serde(rename = "min_us", serialize_with = "micros")]
    pub min: Duration,
    /// The longest.
    #[serde(rename = "max_us", serialize_with = "micros")]
    pub max: Duration,
    /// Half took no longer.
    #[serde(rename = "p50_us", serialize_with = "micros")]
    pub p50: Duration,
    /// 90 % took no longer.
    #[serde(rename = "p90_us", serialize_with = "micros")]
    pub p90: Duration,
    /// 95 % took no longer.
    #[serde(rename = "p95_us", serialize_with = "micros")]
    pub p95: Duration,
    /// 99 % took no longer.
    #[serde(rename = "p99_us", serialize_with = "micros")]
    pub p99: Duration,
    /// 99.9 % took no longer.
    #[serde(rename = "p99_9_us", serialize_with = "micros")]
    pub p99_9: Duration,
}

fn micros<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_nanos() as f64 / 1_000.0)
}

impl Latency {
    /// What a histogram of nanoseconds says that is not empty.
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| Duration::from_nanos(histogram.value_at_quantile(quantile));
        Latency {
            count: histogram.len(),
            average: Duration::from_nanos(histogram.mean() as u64),
            min: Duration::from_nanos(histogram.min()),
            max: Duration::from_nanos(histogram.max()),
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p99_9: at(0.999),
        }
    }
}
