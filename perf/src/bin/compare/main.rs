//! Runs servers and baselines in turns under the same load, and reports what
//! each costs and how they compare. Linux only.
#![allow(clippy::print_stdout, clippy::print_stderr)] // This is a program.

mod cases;
mod machine;
mod process;
mod run;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs, io, thread};

use network_system_perf::args::Args;
use network_system_perf::server::ServerCommand;
use network_system_perf::sys;

use crate::cases::{Case, Role};

const USAGE: &str = "\
usage: compare --server NAME='COMMAND' [options]
  --server NAME='COMMAND'            an echo server; may be repeated
  --broadcast-server NAME='COMMAND'  a server which sends each message to all
                                     other connections; may be repeated
  --case TEXT        only the cases whose name contains TEXT; may be repeated
  --rounds N         rounds, in each of which every server runs once (5)
  --seconds SECONDS  length of a measured window (3)
  --warmup SECONDS   time before a measured window (1)
  --quick            windows of one second, half a second before them, 3 rounds
  --server-cpu N     core of the servers (0)
  --load-cpu N       core of the load generator (1)
  --json FILE        write all samples and ratios to FILE
  --list             list the cases and end
A command is split at white space, is the server itself and not a wrapper that
starts it, and prints a line \"listening SCHEME://IP:PORT\". {scheme} in it stands
for the scheme that a case needs: tcp, ws, tls, wss or udp. A server whose command
has the word --reliable is measured with reliable sessions, where the load
generator knows them.";

/// How the cases are run.
struct Plan {
    candidates: Vec<(Role, ServerCommand)>,
    cases: Vec<Case>,
    rounds: usize,
    /// How many descriptors each process may have.
    descriptors: u64,
    seconds: f64,
    warmup: f64,
    cores: Option<Cores>,
    /// The folder of the baselines and the load generator.
    programs: PathBuf,
    json: Option<PathBuf>,
}

/// Where the two sides run.
#[derive(Clone, Copy)]
struct Cores {
    server: usize,
    load: usize,
}

fn main() -> ExitCode {
    let plan = match plan() {
        Ok(Some(plan)) => plan,
        Ok(None) => return ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("compare: {text}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match compare(&plan) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs everything; says whether every single run succeeded.
fn compare(plan: &Plan) -> io::Result<bool> {
    let results: Vec<_> = plan
        .cases
        .iter()
        .filter_map(|case| run::case(plan, case))
        .collect();
    let machine = machine::describe(plan);
    print!("{}", table::markdown(&machine, &results));
    if let Some(path) = &plan.json {
        fs::write(path, table::json(&machine, &results))?;
    }
    Ok(results.iter().all(|result| result.failures.is_empty()))
}

fn plan() -> Result<Option<Plan>, String> {
    let valued = [
        "server",
        "broadcast-server",
        "case",
        "rounds",
        "seconds",
        "warmup",
        "server-cpu",
        "load-cpu",
        "json",
    ];
    let args = Args::parse(env::args().skip(1), &valued, &["quick", "list"])?;
    if let Some(word) = args.positional(0) {
        return Err(format!("unexpected argument \"{word}\""));
    }
    let wanted: Vec<&str> = args.all("case").collect();
    let mut cases = cases::all();
    cases.retain(|case| wanted.is_empty() || wanted.iter().any(|text| case.name.contains(text)));
    if cases.is_empty() {
        return Err("no case has such a name; --list shows them".to_owned());
    }
    if args.has("list") {
        for case in cases {
            println!("{case}");
        }
        return Ok(None);
    }

    let mut candidates = Vec::new();
    for (flag, role) in [
        ("server", Role::Echo),
        ("broadcast-server", Role::Broadcast),
    ] {
        for text in args.all(flag) {
            let (name, command) = text
                .split_once('=')
                .filter(|(name, command)| !name.is_empty() && !command.trim().is_empty())
                .ok_or_else(|| format!("--{flag}: \"{text}\" is not NAME='COMMAND'"))?;
            candidates.push((role, ServerCommand::new(name, command)));
        }
    }
    let (rounds, seconds, warmup) = if args.has("quick") {
        (3, 1.0, 0.5)
    } else {
        (5, 3.0, 1.0)
    };
    let cores = Cores {
        server: args.parsed("server-cpu", 0)?,
        load: args.parsed("load-cpu", 1)?,
    };
    let count = thread::available_parallelism().map_or(1, usize::from);
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let plan = Plan {
        candidates,
        cases,
        // The servers inherit the limit.
        descriptors: sys::raise_descriptor_limit().map_err(|error| error.to_string())?,
        rounds: args.parsed("rounds", rounds)?,
        seconds: args.parsed("seconds", seconds)?,
        warmup: args.parsed("warmup", warmup)?,
        cores: (count > 1).then_some(cores),
        programs: program.parent().unwrap_or(&program).to_owned(),
        json: args.text("json").map(PathBuf::from),
    };
    if plan.rounds == 0 || plan.seconds <= 0.0 {
        return Err("--rounds and --seconds must be positive".to_owned());
    }
    Ok(Some(plan))
}
