//! The options of `bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use network_system::Endpoint;

use super::client::ClientArgs;
use super::report::ToleranceArgs;
use super::values::{at_least_one, connect_url, label, repeat, some_time, threads};
use crate::units::{Size, Span};

const BENCH_EXAMPLES: &str = "\
Modes:
  echo       each connection keeps --window messages on their way; the server runs the handler echo
  oneway     each connection sends as fast as the server takes; handler sink
  connect    each of --connections connects and closes, again and again; any handler
  idle       connections are held and say nothing; any handler
  broadcast  one more connection sends, and --connections receive; handler broadcast

UDP loses messages: they are counted as lost, not as errors, when their answer has not come within half a
second, and the next one takes their place. Broadcast, and without codec=msgi connect and idle, mean
nothing there.

With --rate, messages leave at their time whether or not answers have come (open loop), and latency
counts from the time at which a message should have left. Without, an answer makes room for the next.

--json writes one object in a line:
  format                     1, the version of these fields; fields may be added without a new one
  version                    of netsys
  label, started_at          --label, or null; when the load began (RFC 3339)
  url, mode, connections, threads, size, window, rate
                             what was asked for; null where without meaning
  pipeline                   the stages that were agreed on, in order
  reliable                   whether sessions were reliable
  warmup_seconds, duration_seconds
                             duration as measured
  connected                  connections that were made for the run
  messages, bytes            round trips (echo), sent (oneway), received (broadcast), connections made
                             (connect)
  messages_per_second, bytes_per_second
  errors, first_error        failed connections, lost messages; its text
  lost                       messages without an answer on UDP, or null
  latency_us                 count, min, mean, stddev, p50, p90, p95, p99, p99_9, max; null for oneway
                             and idle
  machine                    cpu, cores, os, kernel; null where it does not say
  server                     with --server-pid: pid, rss_before_bytes, rss_peak_bytes, rss_after_bytes,
                             cpu_seconds; or null
  intervals                  for each second, or more where the run is longer than an hour: t_seconds,
                             seconds, messages, bytes, errors, lost, latency_us with p50, p99, max.
                             Errors are those of the measured time
  histogram                  percentile, us, count: so many percent, which are count messages, were not
                             slower than us
  runs                       with --repeat, for each run: messages_per_second, p50, p95, p99, p99_9,
                             errors, lost_percent; all else is of the run in the middle
  comparison                 with --compare: baseline (file, version, label, started_at, runs),
                             tolerance_percent, latency_tolerance_percent, figures (name, old, new,
                             change_percent, verdict better, same or worse, regression), regression

--compare takes FILE as the baseline: results of --json, of which those of the same scheme and codec,
mode, connections, size, window, rate, threads, pipeline and reliable count. It is a regression, and the exit code
5, when messages/s fell by more than --tolerance, when p50 or p99 rose by more than --latency-tolerance,
or when there are more errors. Where there are several runs, on either side, the median of each figure
counts, and of the errors the most.

Messages are all the same byte, which compression likes more than what others send.

Examples:
  netsys bench tcp://127.0.0.1:7600
  netsys bench tcp://127.0.0.1:7600 --connections 100 --window 64 --threads 2
  netsys bench tcp://127.0.0.1:7600 --rate 20000 --duration 30s --json result.json
  netsys bench tls://127.0.0.1:7643 --ca certs/ca.pem --mode connect
  netsys bench wss://127.0.0.1:7644 --insecure --plain --connections 100
  netsys bench udp://127.0.0.1:7602 --window 16
  netsys bench tcp://127.0.0.1:7600 --pipeline aes-256-gcm --pipeline-keys keys --size 1KiB
  netsys bench tcp://127.0.0.1:7600 --window 64 --reliable
  netsys bench unix:///run/netsys.sock --mode connect --json -
  netsys bench tcp://127.0.0.1:7600 --repeat 5 --label before --json before.json
  netsys bench tcp://127.0.0.1:7600 --repeat 5 --compare before.json
  netsys bench tcp://127.0.0.1:7600 --server-pid $(pidof netsys) --json - >> all.json";

/// Measures a server under load
#[derive(Args, Debug)]
#[command(after_help = BENCH_EXAMPLES, allow_negative_numbers = true)]
pub(crate) struct BenchArgs {
    /// The server: tcp://, tls://, ws://, wss:// or udp:// with HOST:PORT, unix:///PATH or
    /// ws+unix:///SOCKET:/PATH; with ?codec=msgi|lines|length, on UDP raw|msgi
    #[arg(value_name = "URL", value_parser = connect_url)]
    pub(crate) url: Endpoint,

    /// What to do
    #[arg(
        long,
        value_name = "MODE",
        default_value = "echo",
        help_heading = "Load"
    )]
    pub(crate) mode: BenchMode,

    /// Connections at a time
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = at_least_one,
        help_heading = "Load")]
    pub(crate) connections: usize,

    /// The size of a message [default: 64]
    #[arg(long, value_name = "SIZE", help_heading = "Load")]
    pub(crate) size: Option<Size>,

    /// Messages on their way, for each connection (echo) or in all (broadcast) [default: 1]
    #[arg(long, value_name = "N", value_parser = at_least_one, conflicts_with = "rate",
        help_heading = "Load")]
    pub(crate) window: Option<usize>,

    /// Messages a second of the whole run, sent at their time (open loop)
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = "Load")]
    pub(crate) rate: Option<usize>,

    /// Threads that make the load
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = threads,
        help_heading = "Load")]
    pub(crate) threads: usize,

    /// The token to authenticate with
    #[arg(
        long,
        value_name = "TOKEN",
        env = "NETSYS_TOKEN",
        hide_env_values = true,
        help_heading = "Load"
    )]
    pub(crate) token: Option<String>,

    #[command(flatten)]
    pub(crate) client: ClientArgs,

    /// How long to measure
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = some_time,
        help_heading = "Time")]
    pub(crate) duration: Span,

    /// Load before that, which does not count
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "1s",
        help_heading = "Time"
    )]
    pub(crate) warmup: Span,

    /// Time for each connection to be made, and for all to close in the end
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = some_time,
        help_heading = "Time")]
    pub(crate) timeout: Span,

    /// Write the result to a file as JSON; - for stdout, in place of the text
    #[arg(long, value_name = "FILE", help_heading = "Result")]
    pub(crate) json: Option<PathBuf>,

    /// A name for the result, in JSON and in reports
    #[arg(long, value_name = "TEXT", value_parser = label, help_heading = "Result")]
    pub(crate) label: Option<String>,

    /// Measure so often; the result is the run in the middle
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = repeat,
        help_heading = "Result")]
    pub(crate) repeat: usize,

    /// Compare with an earlier result of --json; the exit code of a regression is 5
    #[arg(long, value_name = "FILE", help_heading = "Result")]
    pub(crate) compare: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) tolerance: ToleranceArgs,

    /// Say what the process of the server needs, which runs here (Linux)
    #[arg(long, value_name = "PID", help_heading = "Result")]
    pub(crate) server_pid: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchMode {
    /// round trips
    Echo,
    /// messages one way
    Oneway,
    /// connections one after the other
    Connect,
    /// connections that say nothing
    Idle,
    /// one sender, many receivers
    Broadcast,
}
