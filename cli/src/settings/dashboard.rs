//! What a server shows of itself, and the token that opens it.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;

use zeroize::Zeroizing;

use crate::args::{AdminToken, DashboardArgs, DashboardPlace};
use crate::exit::Failure;

/// The longest line with a token that is read.
const LINE_MAX: u64 = 4096;

/// The dashboard of a server.
#[derive(Debug)]
pub(crate) struct DashboardSettings {
    pub(crate) at: SocketAddr,
    /// Whether the address was asked for. One that was not may be taken by another server.
    pub(crate) is_wanted: bool,
    pub(crate) token: Option<AdminToken>,
    pub(crate) hosts: Vec<String>,
}

/// What of a server is measured and shown.
#[derive(Debug)]
pub(crate) struct ShowSettings {
    pub(crate) dashboard: Option<DashboardSettings>,
    /// Whether times are taken.
    pub(crate) metrics: bool,
}

impl ShowSettings {
    pub(super) fn new(args: DashboardArgs) -> Result<Self, Failure> {
        let metrics = args.metrics.map(|metrics| metrics.is_on());
        let (at, is_wanted) = match (args.dashboard, metrics) {
            (Some(DashboardPlace::Off), metrics) => {
                return Ok(ShowSettings {
                    dashboard: None,
                    metrics: metrics.unwrap_or(false),
                });
            }
            // What is not measured cannot be shown.
            (None, Some(false)) => {
                return Ok(ShowSettings {
                    dashboard: None,
                    metrics: false,
                });
            }
            (Some(DashboardPlace::At(_)), Some(false)) => {
                return Err(Failure::usage(
                    "--dashboard shows what --metrics off would not measure: leave one of them out",
                ));
            }
            (Some(DashboardPlace::At(at)), _) => (at, true),
            (None, _) => (DashboardPlace::DEFAULT, false),
        };
        let token = read_token(args.dashboard_token, args.dashboard_token_file.as_deref())?;
        if token.is_none() && !at.ip().is_loopback() {
            return Err(Failure::usage(format_args!(
                "--dashboard {at} can be reached by others and needs --dashboard-token-file or \
                 --dashboard-token; without, expected an address of loopback such as 127.0.0.1:{}",
                at.port()
            )));
        }
        Ok(ShowSettings {
            dashboard: Some(DashboardSettings {
                at,
                is_wanted,
                token,
                hosts: args.dashboard_host,
            }),
            metrics: true,
        })
    }
}

/// The token that was given, or the first line of a file.
pub(crate) fn read_token(
    given: Option<AdminToken>,
    file: Option<&Path>,
) -> Result<Option<AdminToken>, Failure> {
    let Some(path) = file else {
        return Ok(given);
    };
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::usage(format_args!(
            "cannot read the token from {}: {error}",
            path.display()
        ))
    };
    let file = std::fs::File::open(path).map_err(|error| wrong(&error))?;
    let mut line = Zeroizing::new(String::with_capacity(LINE_MAX as usize));
    BufReader::new(file.take(LINE_MAX))
        .read_line(&mut line)
        .map_err(|error| wrong(&error))?;
    let token = AdminToken::new(line.trim()).map_err(|error| wrong(&error))?;
    Ok(Some(token))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn settings(arguments: &[&str]) -> Result<ShowSettings, Failure> {
        let line = ["netsys", "serve"].iter().chain(arguments);
        let cli = Cli::try_parse_from(line).expect("valid arguments");
        let Command::Serve(args) = cli.command else {
            panic!("not serve");
        };
        ShowSettings::new(args.dashboard)
    }

    #[test]
    fn a_server_that_is_not_told_has_a_dashboard_on_loopback_if_it_can() {
        let show = settings(&[]).expect("valid settings");
        let dashboard = show.dashboard.expect("a dashboard");
        assert_eq!(dashboard.at.to_string(), "127.0.0.1:7680");
        assert!(!dashboard.is_wanted && show.metrics);

        let show = settings(&["--dashboard", "127.0.0.1:7680"]).expect("valid settings");
        assert!(show.dashboard.expect("a dashboard").is_wanted);
    }

    #[test]
    fn without_a_dashboard_times_are_taken_only_when_asked_for() {
        for (arguments, metrics) in [
            (&["--dashboard", "off"][..], false),
            (&["--dashboard", "off", "--metrics", "on"], true),
            (&["--metrics", "off"], false),
        ] {
            let show = settings(arguments).expect("valid settings");
            assert!(show.dashboard.is_none());
            assert_eq!(show.metrics, metrics, "{arguments:?}");
        }
    }

    #[test]
    fn others_reach_a_dashboard_with_a_token_only() {
        for at in ["0.0.0.0:0", "[::]:7680", "10.0.0.1:7680"] {
            let failure = settings(&["--dashboard", at]).expect_err(at);
            assert!(failure.text.contains(at), "{}", failure.text);
            assert!(settings(&["--dashboard", at, "--dashboard-token", "x"]).is_ok());
        }
        assert!(settings(&["--dashboard", "[::1]:0"]).is_ok());
    }
}
