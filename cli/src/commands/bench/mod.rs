//! `netsys bench`: load on a server, and how it bears it.
//!
//! - [`plan`]: what was asked for, checked.
//! - [`mod@run`]: the clock of a run; [`recorder`]: what each thread counts, [`timeline`]: what all have,
//!   second by second.
//! - [`load`]: one thread with its connections; [`handlers`] keeps their windows full, [`pace`] sends at
//!   fixed times.
//! - [`losses`]: messages that have no answer, on UDP.
//! - [`machine`]: on what it is measured, and what the process of the server needs.
//! - [`report`]: the result as text and JSON; [`progress`]: the line that lives on a terminal.
//! - [`baseline`]: the earlier result with which it is compared.

mod baseline;
mod handlers;
mod load;
mod losses;
mod machine;
mod pace;
mod plan;
mod progress;
mod recorder;
mod report;
mod run;
mod timeline;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use self::baseline::Baseline;
use self::load::{Event, Go, Thread};
use self::machine::Watch;
use self::plan::Plan;
use self::progress::Progress;
use self::recorder::Recorder;
use self::report::Report;
use self::run::Run;
use self::timeline::Timeline;
use super::limits;
use super::signals::Signals;
use crate::args::{BenchArgs, BenchMode};
use crate::exit::{ExitStatus, Failure};
use crate::output::Output;
use crate::results::figures::{Figures, middle};

/// How often the progress line is drawn anew.
const TICK: Duration = Duration::from_millis(200);

pub(crate) fn run(args: BenchArgs, output: Output) -> Result<ExitStatus, Failure> {
    let json = args.json.clone();
    let baseline = Baseline::new(&args)?;
    let plan = Arc::new(Plan::new(args)?);
    if let Some(baseline) = &baseline {
        baseline.has_case(&plan)?;
    }
    plan.client.warn(output);
    limits::raise();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let Measured {
        report,
        runs,
        first_error,
        interrupted,
    } = runtime.block_on(measure_all(&plan, output))?;
    let mut result = report.to_measurement(&plan);
    if plan.repeat > 1 {
        result.runs = runs.clone();
    }
    let compared = match baseline {
        Some(baseline) if !interrupted => Some(baseline.compare(&result, &runs)),
        _ => None,
    };
    // Without a comparison there is still the result.
    let compared = compared.transpose();
    result.comparison = compared.as_ref().ok().cloned().flatten();
    let is_on_stdout = json.as_deref().is_some_and(|path| path.as_os_str() == "-");
    if let Some(path) = &json {
        let line = serde_json::to_string(&result).map_err(std::io::Error::from)?;
        if is_on_stdout {
            output.line(line)?;
        } else {
            std::fs::write(path, line + "\n").map_err(|error| {
                let text = format!("cannot write {}: {error}", path.display());
                Failure::new(ExitStatus::Failed, text)
            })?;
        }
    }
    if !is_on_stdout {
        output.line(report.to_text(&plan))?;
        if runs.len() > 1 {
            output.line(report::runs_to_text(&plan, &runs))?;
        }
        if let Some(comparison) = &result.comparison {
            output.line(format!("\n{}", comparison.to_text(&result.mode)))?;
        }
    }
    if interrupted {
        return Ok(ExitStatus::Interrupted);
    }
    match compared? {
        Some(comparison) if comparison.regression => {
            let mut text = format!("regression: {}", comparison.regressions(&result.mode));
            if let Some(error) = &first_error {
                text += &format!("; the first error: {error}");
            }
            Err(Failure::new(ExitStatus::Regression, text))
        }
        _ => check(&plan, report.messages, &runs, first_error.as_deref()),
    }
}

/// Whether it was measured what was asked for.
fn check(
    plan: &Plan,
    messages: u64,
    runs: &[Figures],
    first_error: Option<&str>,
) -> Result<ExitStatus, Failure> {
    let nothing = messages == 0 && plan.mode != BenchMode::Idle;
    let hint = match plan.mode {
        BenchMode::Echo if nothing && plan.counts_lost() => {
            "; does the server run the handler echo, and has --udp-datagram-size for it?"
        }
        BenchMode::Echo if nothing => "; does the server run the handler echo?",
        BenchMode::Broadcast if nothing => "; does the server run the handler broadcast?",
        _ => "",
    };
    let errors: u64 = runs.iter().map(|run| run.errors).sum();
    if let Some(error) = first_error {
        let text = format!("{errors} errors, the first: {error}{hint}");
        return Err(Failure::new(ExitStatus::Failed, text));
    }
    if nothing {
        return Err(Failure::new(
            ExitStatus::Failed,
            format!("nothing was measured{hint}"),
        ));
    }
    Ok(ExitStatus::Done)
}

/// What all runs came to.
struct Measured {
    /// Of the run in the middle.
    report: Report,
    runs: Vec<Figures>,
    /// Of any run.
    first_error: Option<String>,
    interrupted: bool,
}

/// Measures as often as was asked for. Of a run that was interrupted something is told only if it is the first.
async fn measure_all(plan: &Arc<Plan>, output: Output) -> Result<Measured, Failure> {
    let mut signals = Signals::new()?;
    let mut reports = Vec::new();
    let mut runs = Vec::new();
    let mut first_error = None;
    let mut interrupted = false;
    while reports.len() < plan.repeat && !interrupted {
        let progress = Progress::new(plan, reports.len() + 1, output);
        let report;
        (report, interrupted) = measure(plan, &progress, &mut signals).await?;
        if interrupted && !reports.is_empty() {
            break;
        }
        first_error = first_error.or_else(|| report.first_error.clone());
        runs.push(Figures::of_one(&report.to_measurement(plan)));
        reports.push(report);
    }
    Ok(Measured {
        report: reports.swap_remove(middle(&runs, plan.rate.is_some())),
        runs,
        first_error,
        interrupted,
    })
}

/// Makes the connections, lets the load run, and takes everything down again.
async fn measure(
    plan: &Arc<Plan>,
    progress: &Progress,
    signals: &mut Signals,
) -> Result<(Report, bool), Failure> {
    let run = Arc::new(Run::new(timeline::width(plan.duration)));
    let mut timeline = Timeline::new();
    let mut watch = match plan.server_pid {
        Some(pid) => Some(Watch::new(pid).map_err(|text| {
            Failure::usage(format_args!(
                "invalid value `{pid}` for --server-pid: {text}"
            ))
        })?),
        None => None,
    };
    let (events, mut told) = mpsc::unbounded_channel();
    let (go, told_to_go) = watch::channel(Go::Wait);
    let mut recorders = Vec::new();
    for index in 0..plan.threads {
        let recorder = Arc::new(Recorder::new(Arc::clone(&run)));
        recorders.push(Arc::clone(&recorder));
        let thread = Thread {
            index,
            plan: Arc::clone(plan),
            run: Arc::clone(&run),
            recorder,
            events: events.clone(),
            go: told_to_go.clone(),
        };
        std::thread::Builder::new()
            .name(format!("load-{index}"))
            .spawn(move || thread.run())?;
    }
    drop(events);

    let mut interrupted = false;
    let mut connected = 0;
    let mut ready = 0;
    let mut first_failure = None;
    while ready < plan.threads {
        tokio::select! {
            event = told.recv() => match event {
                Some(Event::Connected) => {
                    connected += 1;
                    progress.connecting(connected);
                }
                Some(Event::NotConnected(error)) => {
                    first_failure.get_or_insert(error);
                }
                Some(Event::Ready) => ready += 1,
                Some(Event::Finished) => {}
                None => return Err(Failure::new(ExitStatus::Failed, "a thread of the load ended")),
            },
            () = signals.next() => return Err(Failure::new(ExitStatus::Interrupted, "interrupted")),
        }
    }
    if connected == 0 {
        progress.clear();
        return Err(match first_failure {
            Some(failure) => failure,
            None => Failure::new(ExitStatus::NotConnected, "no connection"),
        });
    }

    let begin = Instant::now();
    let from = begin + plan.warmup;
    let until = from + plan.duration;
    run.start(from, until);
    go.send_replace(Go::Start { connected });
    tracing::info!(connected, "the load begins");
    let mut tick = tokio::time::interval(TICK);
    // The bound of the measured time that comes next.
    let mut next = Some(from);
    let mut finished = 0;
    while finished < plan.threads {
        tokio::select! {
            event = told.recv() => match event {
                Some(Event::Finished) => finished += 1,
                Some(_) => {}
                None => break,
            },
            _ = tick.tick() => {
                timeline.collect(&recorders);
                progress.running(&run, &recorders, &timeline);
                if let Some(watch) = &mut watch {
                    watch.look();
                }
            }
            Some(()) = bound(next) => {
                if let Some(watch) = &mut watch {
                    match next == Some(from) {
                        true => watch.begins(),
                        false => watch.ended(),
                    }
                }
                next = (next == Some(from)).then_some(until);
            }
            () = signals.next() => {
                if interrupted {
                    // What is left ends with the process.
                    break;
                }
                interrupted = true;
                next = None;
                if let Some(watch) = &mut watch {
                    watch.ended();
                }
                run.stop();
                go.send_replace(Go::Stop);
            }
        }
    }
    progress.clear();
    let lost = run.broadcast.lost();
    recorders[0].errors_of(
        lost,
        format!("messages that did not reach their receivers: {lost}"),
    );
    let mut report = Report::new(plan, &run, &recorders, &mut timeline, connected);
    report.server = watch.map(|watch| watch.finish());
    Ok((report, interrupted))
}

/// Waits for a moment; without one there is nothing to wait for.
async fn bound(at: Option<Instant>) -> Option<()> {
    tokio::time::sleep_until(at?.into()).await;
    Some(())
}
