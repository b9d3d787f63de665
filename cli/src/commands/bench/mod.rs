//! `netsys bench`: load on a server, and how it bears it.
//!
//! - [`plan`]: what was asked for, checked.
//! - [`mod@run`]: the clock of a run and what it has counted; every thread writes to its own recorder.
//! - [`load`]: one thread with its connections; [`handlers`] keeps their windows full, [`pace`] sends at
//!   fixed times.
//! - [`losses`]: messages that have no answer, on UDP.
//! - [`report`]: the result as text and JSON; [`progress`]: the line that lives on a terminal.

mod handlers;
mod load;
mod losses;
mod pace;
mod plan;
mod progress;
mod report;
mod run;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use self::load::{Event, Go, Thread};
use self::plan::Plan;
use self::progress::Progress;
use self::report::Report;
use self::run::{Recorder, Run};
use super::limits;
use super::signals::Signals;
use crate::args::{BenchArgs, BenchMode};
use crate::exit::{ExitStatus, Failure};
use crate::output::Output;

/// How often the progress line is drawn anew.
const TICK: Duration = Duration::from_millis(200);

pub(crate) fn run(args: BenchArgs, output: Output) -> Result<ExitStatus, Failure> {
    let json = args.json.clone();
    let plan = Arc::new(Plan::new(args)?);
    plan.client.warn(output);
    limits::raise();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (report, interrupted) = runtime.block_on(measure(&plan, output))?;
    match json.as_deref() {
        Some(path) if path.as_os_str() == "-" => output.line(report.to_json(&plan).to_string())?,
        Some(path) => {
            std::fs::write(path, format!("{}\n", report.to_json(&plan))).map_err(|error| {
                let text = format!("cannot write {}: {error}", path.display());
                Failure::new(ExitStatus::Failed, text)
            })?;
            output.line(report.to_text(&plan))?;
        }
        None => output.line(report.to_text(&plan))?,
    }
    if interrupted {
        return Ok(ExitStatus::Interrupted);
    }
    let nothing = report.messages == 0 && plan.mode != BenchMode::Idle;
    let hint = match plan.mode {
        BenchMode::Echo if nothing && plan.counts_lost() => {
            "; does the server run the handler echo, and has --udp-datagram-size for it?"
        }
        BenchMode::Echo if nothing => "; does the server run the handler echo?",
        BenchMode::Broadcast if nothing => "; does the server run the handler broadcast?",
        _ => "",
    };
    if let Some(error) = &report.first_error {
        let text = format!("{} errors, the first: {error}{hint}", report.errors);
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

/// Makes the connections, lets the load run, and takes everything down again.
async fn measure(plan: &Arc<Plan>, output: Output) -> Result<(Report, bool), Failure> {
    let mut signals = Signals::new()?;
    let run = Arc::new(Run::new());
    let progress = Progress::new(plan, output);
    let (events, mut told) = mpsc::unbounded_channel();
    let (go, told_to_go) = watch::channel(Go::Wait);
    let mut recorders = Vec::new();
    for index in 0..plan.threads {
        let recorder = Arc::new(Recorder::new());
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
    run.start(begin + plan.warmup, begin + plan.warmup + plan.duration);
    go.send_replace(Go::Start { connected });
    tracing::info!(connected, "the load begins");
    let mut tick = tokio::time::interval(TICK);
    let mut finished = 0;
    while finished < plan.threads {
        tokio::select! {
            event = told.recv() => match event {
                Some(Event::Finished) => finished += 1,
                Some(_) => {}
                None => break,
            },
            _ = tick.tick() => progress.running(&run, &recorders),
            () = signals.next() => {
                if interrupted {
                    // What is left ends with the process.
                    break;
                }
                interrupted = true;
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
    Ok((Report::new(plan, &run, &recorders, connected), interrupted))
}
