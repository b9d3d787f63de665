//! The options of `container`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::units::Size;

const CONTAINER_EXAMPLES: &str = "\
Formats: msgpack, text, json (typed JSON 2.0), cpp-json, xml (written only), binary, and typed: what `show`
prints. Without --from, the first bytes say which it is, and stderr has the answer.

Exit code 1: the container cannot be read, or the format asked for cannot carry it.

Examples:
  netsys container show message.bin
  netsys container convert --from msgpack --to json message.bin
  netsys container show message.bin | sed s/alice/bob/ | netsys container convert --from typed --to text
  netsys container check --to text message.bin && echo fine";

/// Shows, converts and checks value containers
#[derive(Args, Debug)]
#[command(after_help = CONTAINER_EXAMPLES)]
pub(crate) struct ContainerArgs {
    #[command(subcommand)]
    pub(crate) action: ContainerAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContainerAction {
    /// Prints a container as JSON that has every value with its type
    Show(ContainerInput),
    /// Writes a container in another format
    Convert(ConvertArgs),
    /// Says what is wrong with a container, or which formats can carry it
    Check(CheckArgs),
}

impl ContainerAction {
    pub(crate) fn input(&self) -> &ContainerInput {
        match self {
            ContainerAction::Show(input) => input,
            ContainerAction::Convert(args) => &args.input,
            ContainerAction::Check(args) => &args.input,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct ConvertArgs {
    #[command(flatten)]
    pub(crate) input: ContainerInput,

    /// The format to write
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    pub(crate) to: FormatName,
}

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) input: ContainerInput,

    /// The format that has to be able to carry it
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    pub(crate) to: Option<FormatName>,
}

/// What is read.
#[derive(Args, Clone, Debug)]
pub(crate) struct ContainerInput {
    /// The file; without it, or with -, stdin
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// The format it is in
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    pub(crate) from: Option<FormatName>,

    /// The longest input; 0 for no limit
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    pub(crate) limit: Size,

    /// How deep containers and arrays may be nested, 1 to 128
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..=128))]
    pub(crate) depth: u8,

    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatName {
    Msgpack,
    Text,
    Json,
    CppJson,
    Xml,
    Binary,
    Typed,
}

impl FormatName {
    pub(crate) const ALL: &'static [FormatName] = &[
        FormatName::Msgpack,
        FormatName::Text,
        FormatName::Json,
        FormatName::CppJson,
        FormatName::Xml,
        FormatName::Binary,
        FormatName::Typed,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            FormatName::Msgpack => "msgpack",
            FormatName::Text => "text",
            FormatName::Json => "json",
            FormatName::CppJson => "cpp-json",
            FormatName::Xml => "xml",
            FormatName::Binary => "binary",
            FormatName::Typed => "typed",
        }
    }

    /// Whether it can hold any bytes.
    pub(crate) fn is_binary(self) -> bool {
        matches!(self, FormatName::Msgpack | FormatName::Binary)
    }
}
