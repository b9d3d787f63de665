//! Load tests: `netsys serve` under the load of `netsys bench`, over every transport. Linux only.
//!
//! Each case starts a server of its own, makes it work for a moment, and runs the load, while the server's memory is
//! watched. `docs/load-tests.md` says how to read what comes out.
#![allow(clippy::print_stdout, clippy::print_stderr)] // This is a program.

mod cases;
mod claims;
mod compare;
mod outcome;
mod run;
mod tables;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

use network_system_perf::args::Args;

use crate::cases::Case;
use crate::compare::Tolerance;
use crate::outcome::{Machine, Outcome};
use crate::run::Setup;
use crate::tables::Results;

const USAGE: &str = "\
usage: loadtest [options]
  --quick            a few cases of a moment each: shows that everything works
  --only SCHEMES     tcp, ws, tls, wss, udp; several with commas
  --case TEXT        only the cases whose name contains TEXT; may be repeated
  --list             list the cases and end
  --seconds SECONDS  how long each case is measured (3)
  --warmup SECONDS   load before that, which does not count (1)
  --repeat N         rounds in which every case runs once; shown is the one in the middle (1)
  --no-pin           do not give server and load a core each
  --netsys PATH      the program; by default it is built, or the one beside this program
  --json FILE        write the results, a line each, as netsys bench does
  --markdown FILE    write the tables to a file, not to standard output
  --update FILE      write the tables into a file, between the lines
                     <!-- loadtest: begin --> and <!-- loadtest: end -->
  --from FILE        take the results of an earlier run, and run nothing
  --compare FILE     compare with the results of an earlier run
  --tolerance PERCENT          how much lower a rate may be (10)
  --latency-tolerance PERCENT  how much higher p50 and p99 may be (25)
  --any-machine      judge even if the baseline is from another machine
The exit code is 0; 1 when a case failed; 2 when an option is wrong or there is nothing to compare with;
5 when --compare has found a regression.";

/// When `--compare` has found a regression, as for `netsys bench`.
const REGRESSION: u8 = 5;

struct Options {
    cases: Vec<Case>,
    seconds: f64,
    warmup: f64,
    repeat: usize,
    is_pinned: bool,
    netsys: Option<String>,
    json: Option<PathBuf>,
    markdown: Option<PathBuf>,
    update: Option<PathBuf>,
    from: Option<PathBuf>,
    compare: Option<PathBuf>,
    tolerance: Tolerance,
    any_machine: bool,
}

/// What came out of the cases.
struct Run {
    outcomes: Vec<Outcome>,
    /// Cases without a result, and why.
    missing: Vec<(String, String)>,
    has_failed: bool,
    method: String,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("loadtest: {text}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match load_test(&options) {
        Ok(code) => code,
        Err(text) => {
            eprintln!("loadtest: {text}");
            ExitCode::FAILURE
        }
    }
}

fn load_test(options: &Options) -> Result<ExitCode, String> {
    let named = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    // Before anything is measured for nothing.
    let baseline = match &options.compare {
        Some(path) => Some(outcome::read(path).map_err(|error| named(path, error))?),
        None => None,
    };
    let run = match &options.from {
        Some(path) => Run {
            outcomes: outcome::read(path).map_err(|error| named(path, error))?,
            missing: Vec::new(),
            has_failed: false,
            method: format!("from {}", path.display()),
        },
        None => run_all(options)?,
    };
    if let Some(path) = &options.json {
        let lines: String = run.outcomes.iter().map(Outcome::to_line).collect();
        fs::write(path, lines).map_err(|error| named(path, error))?;
    }
    let text = Results {
        cases: &options.cases,
        outcomes: &run.outcomes,
        missing: &run.missing,
        method: run.method,
    }
    .markdown();
    match &options.markdown {
        Some(path) => fs::write(path, &text).map_err(|error| named(path, error))?,
        None if options.update.is_none() => print!("{text}"),
        None => {}
    }
    if let Some(path) = &options.update {
        tables::update(path, &text).map_err(|error| named(path, error))?;
    }
    let judged = match baseline {
        Some(baseline) => judge(options, &baseline, &run.outcomes),
        None => 0,
    };
    Ok(ExitCode::from(match run.has_failed {
        true => 1,
        false => judged,
    }))
}

/// Runs the cases in rounds and keeps for each the result in the middle.
fn run_all(options: &Options) -> Result<Run, String> {
    let netsys = run::netsys(options.netsys.as_deref())?;
    let setup = Setup::new(
        netsys.clone(),
        options.seconds,
        options.warmup,
        options.is_pinned,
    )
    .map_err(|error| format!("{}: {error}", netsys.display()))?;
    let mut results: Vec<Vec<Outcome>> = options.cases.iter().map(|_| Vec::new()).collect();
    let mut missing = Vec::new();
    let mut has_failed = false;
    for round in 1..=options.repeat {
        for (case, results) in options.cases.iter().zip(&mut results) {
            if let Some(why) = setup.obstacle(case) {
                if round == 1 {
                    eprintln!("{case}: left out: {why}");
                    missing.push((case.to_string(), why));
                }
                continue;
            }
            match setup.run(case) {
                Ok(outcome) => {
                    let p99 = outcome.latency("p99").map(tables::micros);
                    let p99 = p99.map_or(String::new(), |p99| format!(", p99 {p99}"));
                    eprintln!("{case}: {}/s{p99}", tables::grouped(outcome.rate()));
                    results.push(outcome);
                }
                Err(why) => {
                    eprintln!("{case}: failed: {why}");
                    missing.push((case.to_string(), why));
                    has_failed = true;
                }
            }
        }
    }
    let outcomes = options.cases.iter().zip(results);
    let outcomes = outcomes
        .filter_map(|(case, results)| middle(case, results))
        .collect();
    let placed = match setup.is_pinned() {
        true => "server with one worker on a core of its own, load on another",
        false => "server and load on any core",
    };
    Ok(Run {
        outcomes,
        missing,
        has_failed,
        method: format!(
            "{placed}; {} s after {} s, the median of {}",
            setup.seconds, setup.warmup, options.repeat
        ),
    })
}

/// The result in the middle, by what the case is about.
fn middle(case: &Case, mut results: Vec<Outcome>) -> Option<Outcome> {
    let key = |outcome: &Outcome| match case.has_rate() {
        true => outcome.rate(),
        false => outcome.latency("p99").unwrap_or(0.0),
    };
    results.sort_by(|a, b| key(a).total_cmp(&key(b)));
    let middle = results.len() / 2;
    results.into_iter().nth(middle)
}

/// Says what has changed, and gives the exit code for it.
fn judge(options: &Options, baseline: &[Outcome], outcomes: &[Outcome]) -> u8 {
    let comparisons = compare::compare(baseline, outcomes, options.tolerance);
    let Some(first) = comparisons.first() else {
        eprintln!("loadtest: the baseline has none of these cases");
        return 2;
    };
    eprint!("{}", tables::comparison(&comparisons));
    let worse = comparisons
        .iter()
        .filter(|comparison| !comparison.regressions.is_empty())
        .count();
    let (old, new): (Machine, Machine) = (first.old.machine(), first.new.machine());
    if !options.any_machine && !old.is_like(&new) {
        eprintln!(
            "not judged: the baseline is from another machine ({}, {} cores; here {}, {} cores)",
            old.cpu, old.cores, new.cpu, new.cores
        );
        return 0;
    }
    eprintln!("{worse} of {} cases with a regression", comparisons.len());
    if worse > 0 { REGRESSION } else { 0 }
}

fn options() -> Result<Option<Options>, String> {
    let valued = [
        "only",
        "case",
        "seconds",
        "warmup",
        "repeat",
        "netsys",
        "json",
        "markdown",
        "update",
        "from",
        "compare",
        "tolerance",
        "latency-tolerance",
    ];
    let switches = ["quick", "list", "no-pin", "any-machine", "help"];
    let args = Args::parse(env::args().skip(1), &valued, &switches)?;
    if let Some(word) = args.positional(0) {
        return Err(format!("unexpected argument \"{word}\""));
    }
    if args.has("help") {
        println!("{USAGE}");
        return Ok(None);
    }
    let is_quick = args.has("quick");
    let mut cases = cases::all(is_quick);
    if let Some(only) = args.text("only") {
        let schemes = run::schemes(only)?;
        cases.retain(|case| schemes.contains(&case.scheme));
    }
    let wanted: Vec<&str> = args.all("case").collect();
    cases.retain(|case| {
        let name = case.to_string();
        wanted.is_empty() || wanted.iter().any(|text| name.contains(text))
    });
    if cases.is_empty() {
        return Err("no case has such a name; --list shows them".to_owned());
    }
    if args.has("list") {
        for case in cases {
            println!("{case}");
        }
        return Ok(None);
    }
    let at_least = |name: &str, default: f64, least: f64| -> Result<f64, String> {
        let value: f64 = args.parsed(name, default)?;
        match (least..=86_400.0).contains(&value) {
            true => Ok(value),
            false => Err(format!("--{name}: {value} is not a valid value")),
        }
    };
    let path = |name: &str| args.text(name).map(PathBuf::from);
    Ok(Some(Options {
        cases,

        seconds: at_least("seconds", if is_quick { 0.3 } else { 3.0 }, 0.05)?,
        warmup: at_least("warmup", if is_quick { 0.1 } else { 1.0 }, 0.0)?,
        repeat: at_least("repeat", 1.0, 1.0)? as usize,
        is_pinned: !args.has("no-pin"),
        netsys: args.text("netsys").map(str::to_owned),
        json: path("json"),
        markdown: path("markdown"),
        update: path("update"),
        from: path("from"),
        compare: path("compare"),
        tolerance: Tolerance {
            rate: at_least("tolerance", 10.0, 0.0)?,
            latency: at_least("latency-tolerance", 25.0, 0.0)?,
        },
        any_machine: args.has("any-machine"),
    }))
}
