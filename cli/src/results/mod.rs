//! Results of `netsys bench`: what it writes, and what comparisons and `netsys report` read.
//!
//! - this file: the schema, one definition for both directions.
//! - [`read`]: files with results of anyone, checked.
//! - [`case`]: what was measured, so that only like is compared with like.
//! - [`figures`]: the numbers that are compared, and their median over several runs.
//! - [`compare`]: old against new.

pub(crate) mod case;
pub(crate) mod compare;
pub(crate) mod figures;
pub(crate) mod read;

use serde::{Deserialize, Serialize};

use self::compare::Comparison;
use self::figures::Figures;

/// The version of the schema. Fields may be added without a new one.
pub(crate) const FORMAT: u64 = 1;

/// The most intervals that a result has: one a second for an hour.
pub(crate) const INTERVALS_MAX: usize = 3_600;

/// One result. What files of before the first version of the schema do not have is optional.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Measurement {
    #[serde(default)]
    pub(crate) format: u64,
    /// Of the program.
    #[serde(default)]
    pub(crate) version: Option<String>,
    #[serde(default)]
    pub(crate) label: Option<String>,
    /// When the load began, as in RFC 3339.
    #[serde(default)]
    pub(crate) started_at: Option<String>,
    pub(crate) url: String,
    pub(crate) mode: String,
    pub(crate) connections: u64,
    pub(crate) threads: u64,
    pub(crate) size: Option<u64>,
    pub(crate) window: Option<u64>,
    pub(crate) rate: Option<u64>,
    #[serde(default)]
    pub(crate) pipeline: Vec<String>,
    #[serde(default)]
    pub(crate) reliable: bool,
    #[serde(default)]
    pub(crate) warmup_seconds: f64,
    pub(crate) duration_seconds: f64,
    pub(crate) connected: u64,
    pub(crate) messages: u64,
    #[serde(default)]
    pub(crate) bytes: u64,
    pub(crate) messages_per_second: f64,
    #[serde(default)]
    pub(crate) bytes_per_second: f64,
    pub(crate) errors: u64,
    #[serde(default)]
    pub(crate) first_error: Option<String>,
    #[serde(default)]
    pub(crate) lost: Option<u64>,
    pub(crate) latency_us: Option<Latency>,
    #[serde(default)]
    pub(crate) machine: Option<Machine>,
    #[serde(default)]
    pub(crate) server: Option<ServerUse>,
    #[serde(default)]
    pub(crate) intervals: Vec<Interval>,
    #[serde(default)]
    pub(crate) histogram: Vec<HistogramPoint>,
    /// The figures of each run, when there were several; everything else is of the one in the middle.
    #[serde(default)]
    pub(crate) runs: Vec<Figures>,
    /// Nobody reads it again.
    #[serde(default, skip_deserializing)]
    pub(crate) comparison: Option<Comparison>,
}

/// Times in microseconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) min: f64,
    pub(crate) mean: f64,
    #[serde(default)]
    pub(crate) stddev: Option<f64>,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    #[serde(default)]
    pub(crate) p95: Option<f64>,
    pub(crate) p99: f64,
    pub(crate) p99_9: f64,
    pub(crate) max: f64,
}

/// A part of the measured time, one second if it was not longer than an hour.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Interval {
    /// When it began, from the beginning of the measured time.
    pub(crate) t_seconds: f64,
    /// How long it was; the last one may be shorter than the others.
    pub(crate) seconds: f64,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) errors: u64,
    pub(crate) lost: Option<u64>,
    pub(crate) latency_us: Option<IntervalLatency>,
}

/// Times in microseconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct IntervalLatency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

/// So many percent of the messages were not slower than that.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct HistogramPoint {
    pub(crate) percentile: f64,
    /// Microseconds.
    pub(crate) us: f64,
    /// How many messages these percent are.
    pub(crate) count: u64,
}

/// Where the load was made.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Machine {
    #[serde(default)]
    pub(crate) cpu: Option<String>,
    #[serde(default)]
    pub(crate) cores: Option<u64>,
    #[serde(default)]
    pub(crate) os: Option<String>,
    #[serde(default)]
    pub(crate) kernel: Option<String>,
}

/// What the process of the server needed.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ServerUse {
    pub(crate) pid: u32,
    /// Before the connections were made.
    pub(crate) rss_before_bytes: u64,
    /// The most that was seen, by looking five times a second.
    pub(crate) rss_peak_bytes: u64,
    /// After the connections had been closed; not there when the process had ended.
    pub(crate) rss_after_bytes: Option<u64>,
    /// Of all its cores, in the measured time.
    pub(crate) cpu_seconds: Option<f64>,
}
