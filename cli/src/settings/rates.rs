//! How much a server takes in a second, and how much its queues may hold.

use std::time::Duration;

use network_system::{Address, Endpoint, Limits, MemoryBudget, Rate, RatePolicy};

use super::out_of_range;
use crate::args::RateArgs;
use crate::exit::Failure;
use crate::units::PerSecond;

/// What the library keeps a rate over.
const BURST_MIN: Duration = Duration::from_millis(10);
const BURST_MAX: Duration = Duration::from_secs(3_600);

/// The least budget of the library.
const BUDGET_MIN: u64 = 64 * 1024;

/// Sets the rates of a server with these listeners.
pub(super) fn apply<'a>(
    args: &RateArgs,
    limits: &mut Limits,
    is_reliable: bool,
    endpoints: impl Iterator<Item = &'a Endpoint> + Clone,
) -> Result<(), Failure> {
    let rates = [args.session_rate, args.ip_rate, args.server_rate];
    for (option, given) in [
        ("when-rate-exceeded", args.when_rate_exceeded.is_some()),
        ("rate-burst", args.rate_burst.is_some()),
    ] {
        // Whoever switches off what a file has configured does not want to hear about the rest of it.
        if given && rates.iter().all(Option::is_none) {
            return Err(Failure::usage(format_args!(
                "--{option} means nothing without --session-rate, --ip-rate or --server-rate"
            )));
        }
    }
    let burst = args.rate_burst.map(|burst| burst.0);
    if burst.is_some_and(|burst| !(BURST_MIN..=BURST_MAX).contains(&burst)) {
        return Err(out_of_range("rate-burst", "10ms to 1h"));
    }
    let policy = args.when_rate_exceeded.unwrap_or_default();
    let rate = |given: Option<PerSecond>| {
        let given = given.filter(|given| !given.is_unlimited())?;
        let mut rate = Rate::new(given.messages, given.bytes).when_exceeded(policy);
        rate.burst = burst.unwrap_or(rate.burst);
        Some(rate)
    };
    [limits.session_rate, limits.ip_rate, limits.server_rate] = rates.map(rate);
    limits.handshakes_per_second = args.handshakes_per_second;
    limits.handshakes_per_second_per_ip = args.handshakes_per_second_per_ip;

    let has_rate = rates.into_iter().any(|given| rate(given).is_some());
    if is_reliable && has_rate && policy == RatePolicy::Drop {
        return Err(Failure::usage(
            "--reliable and --when-rate-exceeded drop cannot be given together: a reliable session drops \
             nothing, expected wait or disconnect",
        ));
    }
    for (option, given) in [
        ("ip-rate", limits.ip_rate.is_some()),
        (
            "handshakes-per-second-per-ip",
            limits.handshakes_per_second_per_ip > 0,
        ),
    ] {
        if given && !endpoints.clone().any(has_addresses) {
            return Err(Failure::usage(format_args!(
                "--{option} needs a listener whose peers have IP addresses"
            )));
        }
    }
    for (option, given) in [
        ("handshakes-per-second", limits.handshakes_per_second),
        (
            "handshakes-per-second-per-ip",
            limits.handshakes_per_second_per_ip,
        ),
    ] {
        if given > 0 && endpoints.clone().all(is_udp) {
            return Err(Failure::usage(format_args!(
                "--{option} needs a listener other than UDP, for which there are --udp-new-sessions and \
                 --udp-new-sessions-per-ip"
            )));
        }
    }
    Ok(())
}

/// The budget of memory that was asked for.
pub(super) fn budget(args: &RateArgs) -> Result<Option<MemoryBudget>, Failure> {
    let Some(size) = args.memory_budget else {
        return Ok(None);
    };
    let limit = match size.0 {
        0 => usize::MAX,
        BUDGET_MIN.. => usize::try_from(size.0).unwrap_or(usize::MAX),
        _ => {
            let expected = "at least 64KiB, or 0 for no limit";
            return Err(out_of_range("memory-budget", expected));
        }
    };
    Ok(Some(MemoryBudget::new(limit)))
}

fn is_udp(endpoint: &Endpoint) -> bool {
    matches!(endpoint.address(), Address::Udp { .. })
}

fn has_addresses(endpoint: &Endpoint) -> bool {
    matches!(
        endpoint.address(),
        Address::Tcp { .. } | Address::Tls { .. } | Address::WebSocket { .. } | Address::Udp { .. }
    )
}
