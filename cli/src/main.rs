//! The program `netsys`: messaging servers, clients and load from the command line.
//!
//! - [`args`]: one definition for each option; parser, help, man page, completions and the keys of the
//!   configuration file come from it.
//! - [`settings`]: arguments and configuration file become values of the library, checked.
//! - [`commands`]: one module for each command; [`handlers`]: what `serve` does with messages.
//! - [`certificates`]: those that it makes itself.
//! - [`results`]: what `bench` writes, and what its comparisons and `report` read.
//! - `allocator`: the one that counts, with the feature `counting-allocator`.
//! - [`output`]: the one place that prints. [`exit`]: how the program ends.

#[cfg(feature = "counting-allocator")]
mod allocator;
mod args;
mod certificates;
mod commands;
mod exit;
mod handlers;
mod numbers;
mod output;
mod results;
mod settings;
mod units;

use std::process::ExitCode;

use exit::{ExitStatus, Failure};
use output::Output;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    // Errors of the command line come before it is understood, and follow `--json` too.
    // For `bench` it names a file.
    let given = |name| arguments.iter().any(|argument| argument == name);
    let json = given("--json") && !given("bench");
    match run(arguments) {
        Ok(status) => status.into(),
        Err(Failure { status, text }) => {
            if !text.is_empty() {
                Output { json, quiet: false }.error(&text);
            }
            status.into()
        }
    }
}

fn run(arguments: Vec<std::ffi::OsString>) -> Result<ExitStatus, Failure> {
    let Some(args) = settings::read(arguments)? else {
        return Ok(ExitStatus::Done);
    };
    commands::run(args)
}
