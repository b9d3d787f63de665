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

/// Times in nanoseconds.
pub(crate) type Nanos = Histogram<u64>;

/// An empty histogram of nanoseconds. It grows with the longest time, to at most 36 KiB.
pub(crate) fn empty() -> Nanos {
    #[allow(
        clippy::expect_used,
        reason = "2 is a number of digits that it can have"
    )]
    Histogram::new(DIGITS).expect("the number of digits is allowed")
}

/// Times that one thread records and others read. Without memory before the first.
#[derive(Debug, Default)]
pub(crate) struct Times {
    histogram: Mutex<Option<Box<Nanos>>>,
}

impl Times {
    /// Records that something took `nanos` nanoseconds, `count` times.
    pub(crate) fn record(&self, nanos: u64, count: u64) {
        let mut histogram = lock(&self.histogram);
        let histogram = histogram.get_or_insert_with(|| Box::new(empty()));
        // Cannot fail: the histogram grows, and the value is bounded.
        let _ = histogram.record_n(nanos.min(LONGEST), count);
    }

    /// Adds what was recorded to `sum`.
    pub(crate) fn add_to(&self, sum: &mut Nanos) {
        if let Some(histogram) = &*lock(&self.histogram) {
            let _ = sum.add(&**histogram);
        }
    }

    /// Forgets what was recorded.
    pub(crate) fn reset(&self) {
        *lock(&self.histogram) = None;
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
    /// What a histogram of nanoseconds says.
    pub(crate) fn of(histogram: &Nanos) -> Self {
        if histogram.is_empty() {
            return Latency::default();
        }
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
