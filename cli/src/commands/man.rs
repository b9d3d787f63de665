//! `netsys man`: manual pages, made from the definitions of the options.

use clap::CommandFactory;

use crate::args::{Cli, ManArgs};
use crate::exit::{ExitStatus, Failure};
use crate::output::Output;
use crate::settings::one_of;

pub(crate) fn run(args: ManArgs, output: Output) -> Result<ExitStatus, Failure> {
    let mut command = Cli::command();
    // Options that every command takes reach the commands here.
    command.build();
    let mut page = command;
    for name in &args.command {
        page = match page.find_subcommand(name) {
            Some(found) => found.clone(),
            None => {
                let names: Vec<_> = page
                    .get_subcommands()
                    .map(clap::Command::get_name)
                    .collect();
                return Err(Failure::usage(match names.is_empty() {
                    true => format!("{} has no commands of its own", page.get_name()),
                    false => format!("unknown command `{name}`, expected {}", one_of(&names)),
                }));
            }
        };
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    output.bytes(&text)?;
    Ok(ExitStatus::Done)
}
