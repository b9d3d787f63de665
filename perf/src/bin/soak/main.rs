//! Soak: a server in a process of its own under a mixed load for a long time, and a verdict on what it has not given
//! back. Linux only. `docs/load-tests.md` says how to read what comes out.
//!
//! - this file: options, and the order of things.
//! - [`server`]: the process that is watched; it tells of itself once a second, a line of JSON each ([`sample`]).
//! - [`load`]: what the clients do, in this process.
//! - [`verdict`]: what of the samples is a leak.
#![allow(clippy::print_stdout, clippy::print_stderr)] // This is a program.

#[cfg(feature = "counting-allocator")]
mod allocator;
mod child;
mod load;
mod progress;
mod random;
mod sample;
mod server;
mod verdict;

use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, io};

use network_system::metrics::PerformanceMonitor;
use network_system_perf::args::Args;
use network_system_perf::sys;
use serde_json::json;

use crate::child::{Child, Said};
use crate::load::Load;
use crate::progress::Progress;
use crate::sample::{Process, Sample};
use crate::verdict::{Evidence, Thresholds};

const USAGE: &str = "\
usage: soak [options]
  --duration TIME    how long the load lasts, such as 30s, 10m, 8h (10m)
  --clients N        clients that are there at a time, about (100)
  --seed N           what chance begins with; by default the time
  --memory-slope KIB what resident and allocated memory may grow by in a minute (256)
  --json             samples and verdict on standard output, a JSON object a line
The exit code is 0; 1 when something leaked or went wrong; 2 when an option is wrong.
With the feature counting-allocator, allocated bytes are judged beside resident ones.";

/// What every process is told first, not to be given by people.
const SERVER_MODE: &str = "--server";

/// The part of a run that does not count, at most: memory grows until everything has been used once.
const WARM_UP: Duration = Duration::from_secs(60);

/// How long everything may take to come to rest: longer than every deadline of the server.
const QUIET: Duration = Duration::from_secs(20);

struct Options {
    duration: Duration,
    clients: usize,
    seed: u64,
    thresholds: Thresholds,
    json: bool,
}

fn main() -> ExitCode {
    if env::args().nth(1).as_deref() == Some(SERVER_MODE) {
        return ended(server::run().map(|()| true));
    }
    let options = match options() {
        Ok(options) => options,
        Err(text) => {
            eprintln!("soak: {text}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    ended(soak(&options))
}

fn ended(result: io::Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, String> {
    let valued = ["duration", "clients", "seed", "memory-slope"];
    let args = Args::parse(env::args().skip(1), &valued, &["json"])?;
    if let Some(word) = args.positional(0) {
        return Err(format!("unexpected argument \"{word}\""));
    }
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    let options = Options {
        duration: duration(args.text("duration").unwrap_or("10m"))?,
        clients: args.parsed("clients", 100)?,
        seed: args.parsed("seed", now.as_nanos() as u64)?,
        thresholds: Thresholds {
            memory_kib_per_minute: args.parsed("memory-slope", 256.0)?,
        },
        json: args.has("json"),
    };
    if options.clients == 0 || options.duration < Duration::from_secs(5) {
        return Err("--clients must be positive, and --duration at least 5s".to_owned());
    }
    Ok(options)
}

/// Reads `90s`, `10m` or `8h`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("--duration: \"{text}\" is not a time such as 30s, 10m or 8h");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    match number.checked_mul(seconds) {
        Some(seconds) if seconds <= 365 * 24 * 3_600 => Ok(Duration::from_secs(seconds)),
        _ => Err(wrong()),
    }
}

/// Says whether all is well.
fn soak(options: &Options) -> io::Result<bool> {
    // The server inherits it.
    sys::raise_descriptor_limit()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let evidence = runtime.block_on(run(options))?;
    let faults = verdict::judge(&evidence, &options.thresholds);
    match options.json {
        true => println!("{}", verdict::to_json(&evidence, &faults, options.seed)),
        false => print!("{}", verdict::to_text(&evidence, &faults, options.seed)),
    }
    Ok(faults.is_empty())
}

async fn run(options: &Options) -> io::Result<Evidence> {
    let own = Own::new();
    let (mut child, urls) = Child::start().await?;
    let mut progress = Progress::new(options.duration);
    // Both sides as they are before anything has happened.
    let base = child.sample().await?;
    let own_base = own.sample();
    let load = Load::start(&urls, options.clients, options.seed).await?;

    let begun = Instant::now();
    let mut samples = Vec::new();
    let mut own_samples = Vec::new();
    let tell = |sample: &Sample, own: &Process, phase: &str| {
        if options.json {
            let sample = json!({
                "type": "sample", "phase": phase, "server": sample.to_json(), "client": own.to_json(),
            });
            println!("{sample}");
        }
    };
    while begun.elapsed() < options.duration {
        let sample = child.sample().await?;
        let process = own.sample();
        tell(&sample, &process, "load");
        progress.tell(&sample, &process, load.counts());
        samples.push((begun.elapsed().as_secs_f64(), sample));
        own_samples.push((begun.elapsed().as_secs_f64(), process));
    }
    let counts = load.stop().await;

    // What is left then was not given back.
    let quiet = Instant::now();
    let mut after = child.sample().await?;
    let mut own_after = own.sample();
    while quiet.elapsed() < QUIET && !verdict::is_at_rest(&base, &after, &own_base, &own_after) {
        after = child.sample().await?;
        own_after = own.sample();
        tell(&after, &own_after, "quiet");
        progress.tell(&after, &own_after, &counts);
    }
    let stopped = child.stop().await?;
    progress.end();
    let Said::Stopped(stopped) = stopped else {
        return Err(io::Error::other("the server did not say how it stopped"));
    };
    Ok(Evidence {
        warm_up: WARM_UP.min(options.duration.mul_f64(0.3)).as_secs_f64(),
        base,
        own_base,
        samples,
        own_samples,
        after,
        own_after,
        counts,
        stopped,
    })
}

/// This process, which has the clients.
struct Own {
    /// Knows what is allocated.
    monitor: PerformanceMonitor,
}

impl Own {
    fn new() -> Self {
        Own {
            monitor: PerformanceMonitor::new(),
        }
    }

    fn sample(&self) -> Process {
        Process::own(self.monitor.memory().allocated_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("8h"), Ok(Duration::from_secs(28_800)));
        for wrong in ["", "s", "10", "ten m", "-1s", "1d", "99999999999999999999h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
