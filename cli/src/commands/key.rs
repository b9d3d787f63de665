//! `netsys key`: a line for a file of keys.

use network_system::ConfigError;
use network_system::pipeline::Secret;
use zeroize::Zeroizing;

use crate::args::KeyArgs;
use crate::exit::{ExitStatus, Failure};
use crate::output::Output;

pub(crate) fn run(args: &KeyArgs, output: Output) -> Result<ExitStatus, Failure> {
    let secret = Secret::random()
        .map_err(|error| Failure::new(ExitStatus::Failed, ConfigError::from(error)))?;
    let secret = Zeroizing::new(secret.to_hex());
    let line = Zeroizing::new(match args.id {
        Some(id) => format!("{id} {}", *secret),
        None => String::clone(&secret),
    });
    output.line(line.as_bytes())?;
    Ok(ExitStatus::Done)
}
