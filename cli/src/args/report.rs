//! The options of `report`, and those that it shares with `bench`.

use std::path::PathBuf;

use clap::Args;

use super::values::{label, percent};
use crate::results::compare::Tolerance;

const REPORT_EXAMPLES: &str = "\
The page is one file without scripts that needs nothing else: it opens from a disk and prints. It has a
table of all results, throughput and latency over time, latency by percentile, and, where several results
are of the same case (scheme and codec, mode, connections, size, window, rate, threads, pipeline), how
each compares with the first one.

A file has one or more results of netsys bench --json, one in a line or over many lines; - is stdin.

Examples:
  netsys report result.json > result.html
  netsys report before.json after.json --output change.html
  netsys bench tcp://127.0.0.1:7600 --json - | netsys report - --output result.html";

/// Makes an HTML page of benchmark results
#[derive(Args, Debug)]
#[command(after_help = REPORT_EXAMPLES, allow_negative_numbers = true)]
pub(crate) struct ReportArgs {
    /// Results of netsys bench --json; the first file is what the others are compared with
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,

    /// Write the page to a file [default: stdout]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// The title of the page
    #[arg(long, value_name = "TEXT", value_parser = label)]
    pub(crate) title: Option<String>,

    #[command(flatten)]
    pub(crate) tolerance: ToleranceArgs,
}

/// What is noise in a comparison.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Comparison")]
pub(crate) struct ToleranceArgs {
    /// By how many percent messages/s may differ [default: 10]
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub(crate) tolerance: Option<f64>,

    /// By how many percent latencies may differ [default: 50]
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub(crate) latency_tolerance: Option<f64>,
}

impl From<ToleranceArgs> for Tolerance {
    fn from(args: ToleranceArgs) -> Self {
        Tolerance {
            throughput: args.tolerance.unwrap_or(10.0),
            latency: args.latency_tolerance.unwrap_or(50.0),
        }
    }
}
