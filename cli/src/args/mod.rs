//! The command line. Each option is defined here once: a module for each command, [`client`] for what all
//! clients take, [`listen`] and [`values`] for how values are read.
//!
//! An option of `serve` is a key of its configuration file too, with the same name and the same values;
//! [`settings`](crate::settings) sees to that, so that nothing has to be written twice.

mod bench;
mod cert;
mod client;
mod connect;
mod container;
mod dashboard;
mod key;
mod listen;
mod pipeline;
mod rates;
mod reliable;
mod report;
mod serve;
mod top;
mod values;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::bench::{BenchArgs, BenchMode};
pub(crate) use self::cert::{CertArgs, CertKind};
pub(crate) use self::client::{ClientArgs, ProxyChoice};
pub(crate) use self::connect::ConnectArgs;
pub(crate) use self::container::{ContainerAction, ContainerArgs, ContainerInput, FormatName};
pub(crate) use self::dashboard::{AdminToken, DashboardArgs, DashboardPlace, DashboardUrl};
pub(crate) use self::key::KeyArgs;
pub(crate) use self::listen::{Descriptor, Listen, Which};
pub(crate) use self::pipeline::{Fate, PipelineArgs, Require, StageName};
pub(crate) use self::rates::RateArgs;
pub(crate) use self::reliable::ReliableArgs;
pub(crate) use self::report::ReportArgs;
pub(crate) use self::serve::{ClientAuthMode, HandlerName, ServeArgs};
pub(crate) use self::top::{ColorChoice, FILTER_MAX, SortKey, TopArgs};
pub(crate) use self::values::{Toggle, cores};

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed
  2    wrong usage or configuration
  3    could not connect
  4    TLS failed
  5    benchmark regression
  130  interrupted";

/// Messaging servers, clients and load.
#[derive(Debug, Parser)]
#[command(
    name = "netsys",
    version,
    about = "Messaging servers, clients and load",
    after_help = EXIT_CODES,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    disable_help_flag = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct GlobalArgs {
    /// Say more: -v what happens, -vv details, -vvv everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Say nothing but data and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Log to stderr: off, error, warn, info, debug or trace [default: warn]
    #[arg(long, global = true, value_name = "LEVEL", hide_possible_values = true, conflicts_with_all = ["verbose", "quiet"])]
    pub(crate) log: Option<LogLevel>,

    /// Print help
    #[arg(short, long, global = true, action = clap::ArgAction::HelpShort)]
    pub(crate) help: Option<bool>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(Box<ServeArgs>),
    Connect(Box<ConnectArgs>),
    Bench(Box<BenchArgs>),
    Top(Box<TopArgs>),
    Report(ReportArgs),
    Cert(CertArgs),
    Key(KeyArgs),
    Container(ContainerArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Prints completions for a shell
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  netsys completions bash > ~/.local/share/bash-completion/completions/netsys
  netsys completions zsh > ~/.zfunc/_netsys
  netsys completions fish > ~/.config/fish/completions/netsys.fish")]
pub(crate) struct CompletionsArgs {
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

/// Prints the manual page of the program or of one command
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  netsys man | man -l -
  netsys man serve > /usr/local/share/man/man1/netsys-serve.1")]
pub(crate) struct ManArgs {
    /// The command, such as `serve` or `container show`; without it, the page of the program
    #[arg(value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}
