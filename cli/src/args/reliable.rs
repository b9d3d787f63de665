//! What servers and clients take about reliable sessions.

use clap::Args;

use super::values::{Toggle, count};
use crate::units::{Size, Span};

/// Options of `serve`. What is not given has the library's default.
#[derive(Args, Clone, Debug)]
pub(crate) struct ReliableArgs {
    /// Offer reliable sessions: a client that asks for one loses nothing when its connection breaks. The
    /// others are served as before [default: off]
    #[arg(long, value_name = "on|off", value_enum, num_args = 0..=1, require_equals = true,
        default_missing_value = "on", hide_possible_values = true, help_heading = "Reliable sessions")]
    pub(crate) reliable: Option<Toggle>,

    /// Bytes that are sent and not acknowledged, for each session and direction [default: 1MiB]
    #[arg(long, value_name = "SIZE", help_heading = "Reliable sessions")]
    pub(crate) resume_window: Option<Size>,

    /// How long a session without a connection is kept, at most 24h [default: 30s]
    #[arg(long, value_name = "DURATION", help_heading = "Reliable sessions")]
    pub(crate) resume_timeout: Option<Span>,

    /// Sessions without a connection that are kept; beyond that, the one that has waited longest is given
    /// up [default: 10000]
    #[arg(long, value_name = "N", value_parser = count, help_heading = "Reliable sessions")]
    pub(crate) suspended_sessions: Option<usize>,
}
