//! `netsys completions`: what shells need to complete the command line.

use clap::CommandFactory;

use crate::args::{Cli, CompletionsArgs};
use crate::exit::{ExitStatus, Failure};
use crate::output::Output;

pub(crate) fn run(args: CompletionsArgs, output: Output) -> Result<ExitStatus, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "netsys", &mut script);
    output.bytes(&script)?;
    Ok(ExitStatus::Done)
}
