//! One module for each command.

mod bench;
mod cert;
mod completions;
mod connect;
mod container;
mod key;
mod limits;
mod man;
mod reload;
mod report;
mod serve;
mod signals;
mod top;

use tracing_subscriber::filter::LevelFilter;

use crate::args::{Cli, Command, GlobalArgs, LogLevel, PipelineArgs};
use crate::exit::{ExitStatus, Failure};
use crate::output::Output;

/// Does what the command line says.
pub(crate) fn run(args: Cli) -> Result<ExitStatus, Failure> {
    let Cli { global, command } = args;
    match command {
        Command::Serve(args) => {
            let output = logging(&global, args.json, &args.pipeline);
            serve::run(*args, output)
        }
        Command::Connect(args) => {
            let output = logging(&global, args.json, &args.client.pipeline);
            connect::run(*args, output)
        }
        Command::Bench(args) => {
            let output = logging(&global, false, &args.client.pipeline);
            bench::run(*args, output)
        }
        Command::Top(args) => {
            let output = output(&global, args.json);
            top::run(*args, output)
        }
        Command::Report(args) => {
            let output = output(&global, false);
            report::run(&args, output)
        }
        Command::Cert(args) => {
            let output = output(&global, args.json);
            cert::run(&args, output)
        }
        Command::Container(args) => {
            let output = output(&global, args.action.input().json);
            container::run(&args, output)
        }
        Command::Key(args) => key::run(&args, Output::plain()),
        Command::Completions(args) => completions::run(args, Output::plain()),
        Command::Man(args) => man::run(args, Output::plain()),
    }
}

fn output(global: &GlobalArgs, json: bool) -> Output {
    install(global, json, false)
}

/// For commands that may be asked to log each message. Whoever wants to hear nothing does not hear that.
fn logging(global: &GlobalArgs, json: bool, pipeline: &PipelineArgs) -> Output {
    let is_silent = global.quiet || matches!(global.log, Some(LogLevel::Off));
    install(global, json, pipeline.log_messages.is_on() && !is_silent)
}

fn install(global: &GlobalArgs, json: bool, messages: bool) -> Output {
    let output = Output {
        json,
        quiet: global.quiet,
    };
    output.install_log(level(global), messages);
    output
}

fn level(global: &GlobalArgs) -> LevelFilter {
    match (global.log, global.quiet, global.verbose) {
        (Some(LogLevel::Off), ..) => LevelFilter::OFF,
        (Some(LogLevel::Error), ..) | (None, true, _) => LevelFilter::ERROR,
        (Some(LogLevel::Warn), ..) | (None, false, 0) => LevelFilter::WARN,
        (Some(LogLevel::Info), ..) | (None, false, 1) => LevelFilter::INFO,
        (Some(LogLevel::Debug), ..) | (None, false, 2) => LevelFilter::DEBUG,
        (Some(LogLevel::Trace), ..) | (None, false, _) => LevelFilter::TRACE,
    }
}
