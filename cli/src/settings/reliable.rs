//! Reliable sessions: what a server keeps for them, and where they can be.

use std::time::Duration;

use network_system::{Address, Endpoint, QueuePolicy, Reliability};

use super::{MESSAGE_SIZE_MAX, has_hello, out_of_range, unlimited};
use crate::args::{ReliableArgs, Toggle};
use crate::exit::Failure;

/// The longest time for which the library keeps a session.
const A_DAY: Duration = Duration::from_secs(24 * 3600);

/// `None` when a server has no reliable sessions.
pub(super) fn of_server<'a>(
    args: &ReliableArgs,
    when_full: QueuePolicy,
    mut endpoints: impl Iterator<Item = &'a Endpoint>,
) -> Result<Option<Reliability>, Failure> {
    let is_on = args.reliable.is_some_and(Toggle::is_on);
    for (option, given) in [
        ("resume-window", args.resume_window.is_some()),
        ("resume-timeout", args.resume_timeout.is_some()),
        ("suspended-sessions", args.suspended_sessions.is_some()),
    ] {
        // Whoever switches off what a file has configured does not want to hear about the rest of it.
        if given && args.reliable.is_none() {
            return Err(Failure::usage(format_args!(
                "--{option} means nothing without --reliable"
            )));
        }
    }
    let reliability = values(args)?;
    if !is_on {
        return Ok(None);
    }
    if matches!(when_full, QueuePolicy::DropNewest | QueuePolicy::DropOldest) {
        return Err(Failure::usage(format_args!(
            "--reliable and --when-full {} cannot be given together: a reliable session drops nothing, \
             expected wait or disconnect",
            when_full.name()
        )));
    }
    if !endpoints.any(can_be_reliable) {
        return Err(Failure::usage(
            "--reliable needs a listener with the codec msgi, and not UDP",
        ));
    }
    Ok(Some(reliability))
}

fn values(args: &ReliableArgs) -> Result<Reliability, Failure> {
    let mut reliability = Reliability::default();
    if let Some(window) = args.resume_window {
        if !(1024..=MESSAGE_SIZE_MAX).contains(&window.0) {
            return Err(out_of_range("resume-window", "1KiB to 1GiB"));
        }
        reliability.window = window.0 as usize;
    }
    if let Some(time) = args.resume_timeout {
        if time.0.is_zero() || time.0 > A_DAY {
            return Err(out_of_range("resume-timeout", "more than 0, at most 24h"));
        }
        reliability.resume = time.0;
    }
    if let Some(sessions) = args.suspended_sessions {
        reliability.suspended_sessions = unlimited(sessions);
    }
    Ok(reliability)
}

/// Refuses a client's reliable sessions where there are none.
pub(super) fn check_client(url: &Endpoint, is_plain: bool) -> Result<(), Failure> {
    match is_plain {
        true => Err(Failure::usage(
            "--reliable needs MSGI, which is not spoken with --plain",
        )),
        false if !can_be_reliable(url) => Err(Failure::usage(
            "--reliable needs the codec msgi, and not UDP",
        )),
        false => Ok(()),
    }
}

fn can_be_reliable(endpoint: &Endpoint) -> bool {
    has_hello(endpoint) && !matches!(endpoint.address(), Address::Udp { .. })
}
