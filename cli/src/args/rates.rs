//! What a server takes about rates and about the memory of its queues.

use clap::Args;
use network_system::RatePolicy;

use super::values::{rate, when_rate_exceeded};
use crate::units::{PerSecond, Size, Span};

/// Options of `serve`, among its limits. What is not given has the library's default.
#[derive(Args, Clone, Debug)]
pub(crate) struct RateArgs {
    /// What one session may send in a second: messages, bytes or both, such as 100msg, 1MiB or 100msg,1MiB
    /// [default: 0]
    #[arg(long, value_name = "RATE", help_heading = "Limits")]
    pub(crate) session_rate: Option<PerSecond>,

    /// The same for all sessions from one IP address, or one /64 network of IPv6 [default: 0]
    #[arg(long, value_name = "RATE", help_heading = "Limits")]
    pub(crate) ip_rate: Option<PerSecond>,

    /// The same for all sessions together [default: 0]
    #[arg(long, value_name = "RATE", help_heading = "Limits")]
    pub(crate) server_rate: Option<PerSecond>,

    /// What comes faster waits, so that its sender has to slow down, is dropped, or ends the session: wait,
    /// drop or disconnect [default: wait]
    #[arg(long, value_name = "POLICY", value_parser = when_rate_exceeded(), hide_possible_values = true,
        help_heading = "Limits")]
    pub(crate) when_rate_exceeded: Option<RatePolicy>,

    /// As much as a rate brings in this time may come at once, 10ms to 1h [default: 1s]
    #[arg(long, value_name = "DURATION", help_heading = "Limits")]
    pub(crate) rate_burst: Option<Span>,

    /// Connections that are accepted in a second; the others wait in the system's queue
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = rate, help_heading = "Limits")]
    pub(crate) handshakes_per_second: u32,

    /// Connections in a second from one IP address, or one /64 network of IPv6; more are refused
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = rate, help_heading = "Limits")]
    pub(crate) handshakes_per_second_per_ip: u32,

    /// Bytes in the queues and buffers of all sessions, at least 64KiB. When they are nearly used up, the
    /// sessions that hold most are closed [default: a quarter of the memory, at most 1GiB]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    pub(crate) memory_budget: Option<Size>,
}
