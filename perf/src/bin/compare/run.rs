//! The rounds of one case.

use std::time::Duration;
use std::{io, thread};

use network_system_perf::report::Report;
use network_system_perf::server::{Server, ServerCommand};
use network_system_perf::stats::Spread;

use crate::Plan;
use crate::cases::{Case, Wanted, Work};
use crate::process::Load;

/// What makes a server touch the memory that it needs for any connection,
/// before idle connections are opened.
const TOUCH: &str = "echo --size 1024 --connections 16 --outstanding 64 --warmup 0 --seconds 0.3";
/// Descriptors that a server may need for other things than connections.
const SPARE_DESCRIPTORS: usize = 100;
/// How long memory may settle before it is read.
const SETTLE: Duration = Duration::from_secs(1);

/// All samples of one case.
pub(crate) struct CaseResult<'a> {
    pub(crate) case: &'a Case,
    /// The baselines of the case, in its order, and then the candidates.
    pub(crate) servers: Vec<ServerResult>,
    pub(crate) failures: Vec<String>,
}

/// The samples of one server.
pub(crate) struct ServerResult {
    pub(crate) name: String,
    pub(crate) is_baseline: bool,
    /// One for each round; a failed round has none.
    pub(crate) rounds: Vec<Option<Sample>>,
}

/// One run.
pub(crate) struct Sample {
    pub(crate) report: Report,
    /// Resident bytes for each idle connection.
    pub(crate) bytes: Option<f64>,
}

/// A candidate against a baseline; every figure is a ratio of the same round.
pub(crate) struct Comparison<'a> {
    pub(crate) candidate: &'a str,
    pub(crate) baseline: &'a str,
    /// CPU time for a message: baseline divided by candidate.
    pub(crate) cpu: Spread,
    /// Messages for each second: candidate divided by baseline.
    pub(crate) rate: Spread,
    /// 99th percentile of latency: candidate divided by baseline.
    pub(crate) p99: Spread,
    /// What is wanted, and whether the medians reach it.
    pub(crate) wanted: Option<(Wanted, bool)>,
}

/// Runs a case; `None` when no candidate can run it although there are some.
pub(crate) fn case<'a>(plan: &Plan, case: &'a Case) -> Option<CaseResult<'a>> {
    let baselines: Vec<_> = case
        .baselines
        .iter()
        .map(|baseline| ServerCommand::baseline(&plan.programs, baseline.name))
        .collect();
    let candidates = plan
        .candidates
        .iter()
        .filter(|(role, command)| *role == case.role && command.serves(case.scheme))
        .filter(|(_, command)| !command.is_reliable() || case.can_be_reliable());
    let commands: Vec<_> = baselines
        .iter()
        .chain(candidates.map(|(_, command)| command))
        .collect();
    if commands.len() == baselines.len() && !plan.candidates.is_empty() {
        eprintln!("{}: skipped, no server is named for it", case.name);
        return None;
    }

    let mut servers: Vec<_> = commands
        .iter()
        .enumerate()
        .map(|(index, command)| ServerResult {
            name: command.name.clone(),
            is_baseline: index < baselines.len(),
            rounds: Vec::new(),
        })
        .collect();
    let mut failures = Vec::new();
    for round in 0..plan.rounds {
        for turn in 0..commands.len() {
            // Each round begins with another server, so that none is always first.
            let index = (round + turn) % commands.len();
            let name = &commands[index].name;
            eprintln!(
                "{}: round {} of {}: {name}",
                case.name,
                round + 1,
                plan.rounds
            );
            let sample = match once(plan, case, commands[index]) {
                Ok(sample) => Some(sample),
                Err(error) => {
                    let failure = format!("{}, round {}, {name}: {error}", case.name, round + 1);
                    eprintln!("compare: {failure}");
                    failures.push(failure);
                    None
                }
            };
            servers[index].rounds.push(sample);
        }
    }
    Some(CaseResult {
        case,
        servers,
        failures,
    })
}

fn once(plan: &Plan, case: &Case, command: &ServerCommand) -> io::Result<Sample> {
    let server = Server::start(command, case.scheme, plan.cores.map(|cores| cores.server))?;
    let load = |arguments: &str, more: &[(&str, f64)]| {
        let cpu = plan.cores.map(|cores| cores.load);
        let arguments = match command.is_reliable() {
            true => &format!("{arguments} --reliable"),
            false => arguments,
        };
        Load::start(&plan.programs, arguments, more, &server, cpu)
    };
    match case.work {
        Work::Window(arguments) => {
            let times = [("--warmup", plan.warmup), ("--seconds", plan.seconds)];
            let report = load(arguments, &times)?.report()?;
            if report.messages == 0.0 {
                return Err(io::Error::other("nothing was completed in the window"));
            }
            Ok(Sample {
                report,
                bytes: None,
            })
        }
        Work::Idle { count, arguments } => {
            let count = affordable(count, plan.descriptors);
            load(&format!("{TOUCH} {arguments}"), &[])?.report()?;
            thread::sleep(SETTLE);
            let before = server.resident_bytes()?;
            let mut load = load(
                &format!("idle {arguments}"),
                &[("--connections", count as f64)],
            )?;
            load.line()?;
            thread::sleep(SETTLE);
            let bytes = server.resident_bytes()? as f64 - before as f64;
            load.tell()?;
            let report = load.report()?;
            Ok(Sample {
                report,
                bytes: Some(bytes / count as f64),
            })
        }
    }
}

/// How many idle connections can be held: `count`, or half of it where the
/// server or the load generator have no descriptors for so many.
fn affordable(count: usize, descriptors: u64) -> usize {
    if (count + SPARE_DESCRIPTORS) as u64 <= descriptors {
        count
    } else {
        eprintln!("compare: {descriptors} descriptors are too few for {count} connections");
        count / 2
    }
}

impl ServerResult {
    /// The spread of one figure over the rounds that succeeded.
    pub(crate) fn spread(&self, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.rounds.iter().flatten().map(figure))
    }

    /// The median of the bytes for each idle connection.
    pub(crate) fn bytes(&self) -> Option<Spread> {
        Spread::of(
            self.rounds
                .iter()
                .flatten()
                .filter_map(|sample| sample.bytes),
        )
    }
}

impl CaseResult<'_> {
    /// Every candidate against every baseline.
    pub(crate) fn comparisons(&self) -> Vec<Comparison<'_>> {
        let (baselines, candidates) = self.servers.split_at(self.case.baselines.len());
        let mut comparisons = Vec::new();
        for candidate in candidates {
            for (baseline, spec) in baselines.iter().zip(&self.case.baselines) {
                let ratio = |figure: fn(&Sample, &Sample) -> f64| {
                    let rounds = candidate.rounds.iter().zip(&baseline.rounds);
                    Spread::of(rounds.filter_map(|pair| match pair {
                        (Some(candidate), Some(baseline)) => Some(figure(candidate, baseline)),
                        _ => None,
                    }))
                };
                let cpu =
                    ratio(|candidate, baseline| baseline.report.cpu_ns / candidate.report.cpu_ns);
                let rate =
                    ratio(|candidate, baseline| candidate.report.rate / baseline.report.rate);
                let p99 =
                    ratio(|candidate, baseline| candidate.report.p99_us / baseline.report.p99_us);
                let (Some(cpu), Some(rate), Some(p99)) = (cpu, rate, p99) else {
                    continue;
                };
                let bytes = candidate.bytes().map_or(0.0, |bytes| bytes.median);
                comparisons.push(Comparison {
                    candidate: &candidate.name,
                    baseline: &baseline.name,
                    cpu,
                    rate,
                    p99,
                    wanted: spec
                        .wanted
                        .map(|wanted| (wanted, wanted.is_met(cpu.median, p99.median, bytes))),
                });
            }
        }
        comparisons
    }
}
