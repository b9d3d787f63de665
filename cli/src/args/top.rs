//! The options of `top`.

#![allow(rustdoc::bare_urls, reason = "the texts are those of --help")]

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::dashboard::{AdminToken, DashboardUrl, dashboard_url, token};
use crate::units::Span;

const TOP_EXAMPLES: &str = "\
It looks at the dashboard of a server, which netsys serve has unless it is told --dashboard off.
Without a terminal on stdout it prints once, as with --once.

Keys: Tab or 1 to 5 for the views, arrows and PgUp, PgDn to move, Enter for details, s and S to sort,
/ to filter, d to disconnect a session, p to pause, ? for all of them, q to quit.

With --json it writes one object each --interval, or one with --once:
  at, url, server      when, in milliseconds since 1970, and what the server says about itself
  rates                the last whole second: messages, bytes, connections, queues, percentiles of times in
                       microseconds; null where nothing was timed
  sessions             total, matched, and the first 20 by --sort and --filter
  groups, listeners    the largest 20 groups, and all listeners

Examples:
  netsys top
  netsys top http://127.0.0.1:7680 --sort bytes_sent
  netsys top --once --filter 10.0.0.
  netsys top --json --interval 5s | jq .rates.messages_received
  NETSYS_DASHBOARD_TOKEN=$(cat token) netsys top http://10.0.0.7:7680";

/// Shows what a running server does, in the terminal
#[derive(Args, Debug)]
#[command(after_help = TOP_EXAMPLES, allow_negative_numbers = true)]
pub(crate) struct TopArgs {
    /// The dashboard of the server: http://HOST:PORT; there is no TLS
    #[arg(value_name = "URL", value_parser = dashboard_url, default_value = "http://127.0.0.1:7680")]
    pub(crate) url: DashboardUrl,

    /// The token of the dashboard: off loopback to see anything, everywhere to disconnect sessions
    #[arg(long, value_name = "TOKEN", env = "NETSYS_DASHBOARD_TOKEN", hide_env_values = true,
        value_parser = token, conflicts_with = "token_file", help_heading = "Server")]
    pub(crate) token: Option<AdminToken>,

    /// Read the token from the first line of a file
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    pub(crate) token_file: Option<PathBuf>,

    /// How often to look, from 100ms
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval,
        help_heading = "Server")]
    pub(crate) interval: Span,

    /// What sessions are sorted by: numbers from the largest, texts and id from the smallest
    #[arg(
        long,
        value_name = "KEY",
        value_enum,
        default_value = "id",
        help_heading = "Display"
    )]
    pub(crate) sort: SortKey,

    /// Sort the other way round
    #[arg(long, help_heading = "Display")]
    pub(crate) reverse: bool,

    /// Only sessions whose id, client id, identity, address or transport has this in it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true,
        value_parser = filter, help_heading = "Display")]
    pub(crate) filter: String,

    /// Print once and end
    #[arg(long, help_heading = "Display")]
    pub(crate) once: bool,

    /// Print one JSON object a line
    #[arg(long, help_heading = "Display")]
    pub(crate) json: bool,

    /// Whether to use colors: auto unless NO_COLOR is set
    #[arg(
        long,
        value_name = "auto|always|never",
        value_enum,
        hide_possible_values = true,
        default_value = "auto",
        help_heading = "Display"
    )]
    pub(crate) color: ColorChoice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    Auto,
    Always,
    Never,
}

/// What sessions can be sorted by, with the names of the dashboard's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum SortKey {
    Id,
    ClientId,
    Identity,
    Transport,
    Remote,
    State,
    ConnectedSeconds,
    IdleSeconds,
    MessagesReceived,
    MessagesSent,
    BytesReceived,
    BytesSent,
    Errors,
    Dropped,
    RateLimited,
    QueuedMessages,
    QueuedBytes,
    BufferBytes,
    RoundTripUs,
    Resumes,
    UnacknowledgedBytes,
    Groups,
}

impl SortKey {
    pub(crate) fn name(self) -> &'static str {
        match self {
            SortKey::Id => "id",
            SortKey::ClientId => "client_id",
            SortKey::Identity => "identity",
            SortKey::Transport => "transport",
            SortKey::Remote => "remote",
            SortKey::State => "state",
            SortKey::ConnectedSeconds => "connected_seconds",
            SortKey::IdleSeconds => "idle_seconds",
            SortKey::MessagesReceived => "messages_received",
            SortKey::MessagesSent => "messages_sent",
            SortKey::BytesReceived => "bytes_received",
            SortKey::BytesSent => "bytes_sent",
            SortKey::Errors => "errors",
            SortKey::Dropped => "dropped",
            SortKey::RateLimited => "rate_limited",
            SortKey::QueuedMessages => "queued_messages",
            SortKey::QueuedBytes => "queued_bytes",
            SortKey::BufferBytes => "buffer_bytes",
            SortKey::RoundTripUs => "round_trip_us",
            SortKey::Resumes => "resumes",
            SortKey::UnacknowledgedBytes => "unacknowledged_bytes",
            SortKey::Groups => "groups",
        }
    }

    /// What is most interesting comes first.
    pub(crate) fn is_descending(self) -> bool {
        !matches!(
            self,
            SortKey::Id
                | SortKey::ClientId
                | SortKey::Identity
                | SortKey::Transport
                | SortKey::Remote
        )
    }

    pub(crate) fn next(self) -> Self {
        let all = SortKey::value_variants();
        let at = all.iter().position(|&key| key == self).unwrap_or_default();
        all[(at + 1) % all.len()]
    }
}

fn interval(text: &str) -> Result<Span, String> {
    match text.parse()? {
        Span(span) if (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&span) => {
            Ok(Span(span))
        }
        _ => Err("expected 100ms to 1h".to_owned()),
    }
}

/// The longest filter, in bytes.
pub(crate) const FILTER_MAX: usize = 256;

fn filter(text: &str) -> Result<String, String> {
    match text.len() {
        0..=FILTER_MAX => Ok(text.to_owned()),
        _ => Err("expected at most 256 bytes".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_called_as_the_api_calls_them() {
        for key in SortKey::value_variants() {
            let shown = key.to_possible_value().expect("no key is hidden");
            assert_eq!(shown.get_name(), key.name());
        }
    }
}
