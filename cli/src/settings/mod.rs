//! From the command line and the configuration file to values of the library, checked.
//!
//! The keys of a configuration file are the options of `serve`. The file is turned into arguments that
//! stand before those of the user; so its values are parsed, and refused, by the same definitions.
//!
//! - [`serve`]: what a server works with; [`dashboard`]: what it shows of itself; [`client`]: what the clients of `connect` and `bench` do;
//!   [`pipeline`]: stages, [`keys`]: their keys, and [`reliable`]: sessions that outlive their connection, for both;
//!   [`rates`]: how much a server takes in a second and how much it holds.

mod client;
mod dashboard;
mod keys;
mod pipeline;
mod rates;
mod reliable;
mod serve;

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, CommandFactory, FromArgMatches};
use network_system::{CodecKind, Endpoint};

pub(crate) use self::client::{ClientSettings, is_websocket};
pub(crate) use self::dashboard::{DashboardSettings, ShowSettings, read_token};
pub(crate) use self::keys::KeyFile;
pub(crate) use self::pipeline::PipelineSettings;
pub(crate) use self::serve::{ServeSettings, TlsSettings};
use crate::args::Cli;
use crate::exit::Failure;
use crate::output::Output;
use crate::units::{Size, Span};

/// The longest message that the library can carry.
const MESSAGE_SIZE_MAX: u64 = 1024 * 1024 * 1024;

/// Stands for a time without limit, where the library wants a time.
pub(crate) const A_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Reads the command line, and the configuration file if it names one. `None` when it asked for help or
/// the version, which is printed.
pub(crate) fn read(mut arguments: Vec<OsString>) -> Result<Option<Cli>, Failure> {
    let command = Cli::command();
    let matches = match command.clone().try_get_matches_from(&arguments) {
        Ok(matches) => matches,
        Err(error) => return told(&error, &arguments).map(|()| None),
    };
    if let Some(("serve", serve)) = matches.subcommand()
        && let Some(path) = serve.get_one::<std::path::PathBuf>("config")
    {
        let from_file = from_file(&command, serve, path)?;
        let at = arguments
            .iter()
            .position(|argument| argument == "serve")
            .map_or(1, |at| at + 1);
        arguments.splice(at..at, from_file);
    }
    let parsed = command
        .try_get_matches_from(arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches))
        .map_err(|error| Failure::usage(describe(&error, "serve", None)))?;
    Ok(Some(parsed))
}

/// What a file says and the command line does not, as arguments.
fn from_file(
    command: &clap::Command,
    given: &ArgMatches,
    path: &Path,
) -> Result<Vec<OsString>, Failure> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format_args!("cannot read --config {shown}: {error}")))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error
            .span()
            .map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        let message = error.message().replace('\n', ", ");
        Failure::usage(format_args!("{shown}, line {line}: {message}"))
    })?;
    let serve = command.find_subcommand("serve").unwrap_or(command);
    let options: Vec<_> = serve
        .get_arguments()
        .filter(|option| option.get_action().takes_values() && option.get_id() != "config")
        .filter_map(|option| Some((option.get_long()?, option)))
        .collect();
    let mut all = Vec::new();
    let mut wanted = Vec::new();
    for (key, value) in &table {
        let Some((_, option)) = options.iter().find(|(name, _)| name == key) else {
            let names: Vec<_> = options.iter().map(|(name, _)| *name).collect();
            return Err(Failure::usage(format_args!(
                "{shown}: unknown key `{key}`, expected {}",
                one_of(&names)
            )));
        };
        let values = match value {
            toml::Value::Array(values) if matches!(option.get_action(), ArgAction::Append) => {
                values.iter().map(plain).collect::<Option<Vec<_>>>()
            }
            value => plain(value).map(|value| vec![value]),
        };
        let values = values.filter(|values| !values.is_empty()).ok_or_else(|| {
            let expected = match option.get_action() {
                ArgAction::Append => "a string or a list of strings",
                _ => "one string, number or boolean",
            };
            Failure::usage(format_args!(
                "{shown}: invalid value for {key}: expected {expected}"
            ))
        })?;
        let arguments = values
            .iter()
            .map(|value| OsString::from(format!("--{key}={value}")));
        all.extend(arguments.clone());
        let source = given.value_source(option.get_id().as_str());
        if !matches!(
            source,
            Some(ValueSource::CommandLine | ValueSource::EnvVariable)
        ) {
            wanted.extend(arguments);
        }
    }
    // Everything in the file has to be valid, also what the command line overrides.
    let line = ["netsys".into(), "serve".into()].into_iter().chain(all);
    if let Err(error) = command.clone().try_get_matches_from(line) {
        return Err(Failure::usage(describe(&error, "serve", Some(path))));
    }
    Ok(wanted)
}

fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(on) => Some(on.to_string()),
        _ => None,
    }
}

/// Prints what was asked for, or says what is wrong with the command line.
fn told(error: &clap::Error, arguments: &[OsString]) -> Result<(), Failure> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            Ok(Output::plain().line(error.to_string().trim_end())?)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Output::plain().help(&error.to_string());
            Err(Failure::usage(""))
        }
        _ => {
            let command = Cli::command();
            let names = command.get_subcommands().map(clap::Command::get_name);
            let mut given = names.filter(|name| arguments.iter().any(|argument| argument == name));
            Err(Failure::usage(describe(
                error,
                given.next().unwrap_or("COMMAND"),
                None,
            )))
        }
    }
}

/// An error of the command line, or of the file, in one line.
fn describe(error: &clap::Error, command: &str, file: Option<&Path>) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) if !texts.is_empty() => Some(one_of(
            &texts.iter().map(String::as_str).collect::<Vec<_>>(),
        )),
        _ => None,
    };
    // `--option <VALUE>`, of which the name is wanted.
    let option = context(ContextKind::InvalidArg).unwrap_or_default();
    let option = option
        .split([' ', '='])
        .next()
        .unwrap_or_default()
        .trim_matches(['<', '>']);
    let value = context(ContextKind::InvalidValue).unwrap_or_default();
    // People put passwords before an @, and into fields of requests.
    let is_secret = option == "--header" || option.ends_with("token");
    let value = if value.contains('@') || is_secret {
        "…".to_owned()
    } else {
        value
    };
    let text = match error.kind() {
        ErrorKind::InvalidValue if value.is_empty() => format!("{option} needs a value"),
        ErrorKind::InvalidValue => {
            let valid = context(ContextKind::ValidValue).unwrap_or_default();
            format!("invalid value `{value}` for {option}: expected {valid}")
        }
        ErrorKind::ValueValidation => {
            let reason = std::error::Error::source(error).map(ToString::to_string);
            let reason = reason.unwrap_or_default();
            format!("invalid value `{value}` for {option}: {reason}")
        }
        ErrorKind::UnknownArgument => {
            let near = context(ContextKind::SuggestedArg);
            let near = near
                .map(|near| format!(", did you mean {near}?"))
                .unwrap_or_default();
            format!(
                "unknown argument `{option}`{near} (netsys {command} --help lists the valid ones)"
            )
        }
        ErrorKind::InvalidSubcommand => {
            let name = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            let command = Cli::command();
            let names: Vec<_> = command
                .get_subcommands()
                .map(clap::Command::get_name)
                .collect();
            format!("unknown command `{name}`, expected {}", one_of(&names))
        }
        ErrorKind::MissingRequiredArgument => {
            let missing = context(ContextKind::InvalidArg).unwrap_or_default();
            format!("{missing} is missing (see netsys {command} --help)")
        }
        ErrorKind::ArgumentConflict => {
            let other = context(ContextKind::PriorArg).unwrap_or_default();
            let other = other.split(' ').next().unwrap_or_default();
            if other == option {
                format!("{option} is given more than once")
            } else {
                format!("{option} and {other} cannot be given together")
            }
        }
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            line.trim_start_matches("error: ").to_owned()
        }
    };
    match file {
        Some(path) => {
            let text = text.replacen(&format!("for {option}"), &format!("for {}", key(option)), 1);
            format!("{}: {text}", path.display())
        }
        None => text,
    }
}

fn key(option: &str) -> &str {
    option.trim_start_matches('-')
}

/// `a, b or c`.
pub(crate) fn one_of(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

/// The limit of messages that an option asks for.
pub(crate) fn message_size(size: Size) -> Result<usize, Failure> {
    match size.0 {
        0 => Ok(MESSAGE_SIZE_MAX as usize),
        size if size <= MESSAGE_SIZE_MAX => Ok(size as usize),
        _ => Err(out_of_range(
            "message-size-limit",
            "1 byte to 1GiB, or 0 for 1GiB",
        )),
    }
}

pub(crate) fn within_a_year(name: &str, span: Span) -> Result<(), Failure> {
    match span.0 > A_YEAR {
        true => Err(out_of_range(name, "at most a year (8760h), or 0")),
        false => Ok(()),
    }
}

pub(crate) fn has_hello(endpoint: &Endpoint) -> bool {
    matches!(endpoint.codec(), None | Some(CodecKind::Msgi))
}

fn out_of_range(name: &str, expected: &str) -> Failure {
    Failure::usage(format_args!(
        "invalid value for --{name}: expected {expected}"
    ))
}

/// 0 switches a limit off; the library wants a number.
fn unlimited(limit: usize) -> usize {
    if limit == 0 { usize::MAX } else { limit }
}

/// The largest datagram that an option asks for.
fn datagram_size(size: Size) -> Result<usize, Failure> {
    match size.0 {
        256..=65_507 => Ok(size.0 as usize),
        _ => Err(out_of_range("udp-datagram-size", "256 to 65507 bytes")),
    }
}
