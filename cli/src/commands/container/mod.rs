//! `netsys container`: shows, converts and checks value containers.
//!
//! - [`mod@detect`]: in which format one is.

mod detect;

use std::borrow::Cow;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use bytes::Bytes;
use network_system::container::{Container, DecodeOptions, Format, Value as ContainerValue};
use serde_json::{Value, json};

use self::detect::detect;
use crate::args::{ContainerAction, ContainerArgs, ContainerInput, FormatName};
use crate::exit::{ExitStatus, Failure};
use crate::output::Output;

pub(crate) fn run(args: &ContainerArgs, output: Output) -> Result<ExitStatus, Failure> {
    let input = args.action.input();
    let bytes = read(input)?;
    let from = match input.from {
        Some(from) => from,
        None => detect(&bytes, output)?,
    };
    let container = match decode(from, &bytes, input) {
        Ok(container) => container,
        Err(problem) => {
            return unreadable(
                matches!(args.action, ContainerAction::Check(_)),
                &problem,
                output,
            );
        }
    };
    match &args.action {
        ContainerAction::Show(_) => show(&container, output),
        ContainerAction::Convert(args) => convert(&container, args.to, output),
        ContainerAction::Check(args) => check(&container, from, args.to, output),
    }
}

/// Why something cannot be read or written.
struct Problem {
    text: String,
    /// What is known of it: a position, the name of a value, a code.
    details: Value,
}

fn read(input: &ContainerInput) -> Result<Bytes, Failure> {
    let limit = match input.limit.0 {
        0 => u64::MAX,
        limit => limit,
    };
    let path = input.file.as_deref().filter(|path| *path != Path::new("-"));
    let shown = path.map_or("stdin".into(), Path::to_string_lossy);
    let cannot = |error: io::Error| {
        Failure::new(
            ExitStatus::Failed,
            format_args!("cannot read {shown}: {error}"),
        )
    };
    let mut bytes = Vec::new();
    let mut take =
        |source: &mut dyn Read| source.take(limit.saturating_add(1)).read_to_end(&mut bytes);
    match path {
        Some(path) => take(&mut std::fs::File::open(path).map_err(cannot)?),
        None => take(&mut io::stdin().lock()),
    }
    .map_err(cannot)?;
    if bytes.len() as u64 > limit {
        return Err(Failure::new(
            ExitStatus::Failed,
            format_args!("{shown} is longer than --limit {limit}"),
        ));
    }
    Ok(Bytes::from(bytes))
}

fn decode(from: FormatName, bytes: &Bytes, input: &ContainerInput) -> Result<Container, Problem> {
    let Some(format) = library(from) else {
        let problem = |text: String| Problem {
            text,
            details: json!({ "format": from.name() }),
        };
        let object: Value =
            serde_json::from_slice(bytes).map_err(|error| problem(error.to_string()))?;
        let container =
            Container::from_typed_json(&object).map_err(|error| problem(error.to_string()))?;
        return match depth(&container) <= usize::from(input.depth) {
            true => Ok(container),
            false => Err(problem(format!(
                "nested deeper than {} levels",
                input.depth
            ))),
        };
    };
    let options = DecodeOptions::new().max_depth(input.depth.into());
    Container::decode_with(format, bytes, &options).map_err(|error| Problem {
        text: error.to_string(),
        details: json!({
            "format": from.name(),
            "position": error.position(),
            "path": error.path(),
            "code": error.code().as_i32(),
            "name": error.code().name(),
        }),
    })
}

fn encode(container: &Container, to: FormatName) -> Result<Vec<u8>, Problem> {
    let error = match library(to) {
        None => match container.to_typed_json() {
            Ok(object) => return Ok(pretty(&object).into_bytes()),
            Err(error) => error,
        },
        Some(format) => match container.encode(format) {
            Ok(bytes) => return Ok(bytes),
            Err(error) => error,
        },
    };
    let carriers: Vec<_> = error
        .carriers()
        .iter()
        .map(|format| format.name())
        .collect();
    Err(Problem {
        text: error.to_string(),
        details: json!({
            "format": to.name(),
            "path": error.path(),
            "carriers": carriers,
            "code": error.code().as_i32(),
            "name": error.code().name(),
        }),
    })
}

/// Levels of containers and arrays. Readers have a limit, so that this needs none.
fn depth(container: &Container) -> usize {
    fn of(value: &ContainerValue) -> usize {
        match value {
            ContainerValue::Container(Some(container)) => depth(container),
            ContainerValue::Array(elements) => 1 + elements.iter().map(of).max().unwrap_or(0),
            _ => 0,
        }
    }
    1 + container
        .iter()
        .map(|(_, value)| of(value))
        .max()
        .unwrap_or(0)
}

/// `None` for the form that only this program has.
fn library(name: FormatName) -> Option<Format> {
    Some(match name {
        FormatName::Msgpack => Format::MessagePack,
        FormatName::Text => Format::Text,
        FormatName::Json => Format::Json,
        FormatName::CppJson => Format::CppJson,
        FormatName::Xml => Format::Xml,
        FormatName::Binary => Format::Binary,
        FormatName::Typed => return None,
    })
}

fn pretty(object: &Value) -> String {
    serde_json::to_string_pretty(object).unwrap_or_else(|_| object.to_string())
}

fn show(container: &Container, output: Output) -> Result<ExitStatus, Failure> {
    let object = container
        .to_typed_json()
        .map_err(|error| Failure::new(ExitStatus::Failed, error))?;
    let text = match output.json {
        true => object.to_string(),
        false => pretty(&object),
    };
    output.line(escaped(&text).as_bytes())?;
    Ok(ExitStatus::Done)
}

fn convert(container: &Container, to: FormatName, output: Output) -> Result<ExitStatus, Failure> {
    let bytes = match encode(container, to) {
        Ok(bytes) => bytes,
        Err(problem) => {
            tell("not_carried", &problem, output);
            return Ok(ExitStatus::Failed);
        }
    };
    let name = to.name();
    if output.json {
        let object = match std::str::from_utf8(&bytes) {
            Ok(text) if !to.is_binary() => json!({ "format": name, "text": text }),
            _ => json!({ "format": name, "hex": hex(&bytes) }),
        };
        output.line(object.to_string())?;
    } else if !io::stdout().is_terminal() {
        // As it is: a line feed at its end would be no part of it.
        output.bytes(&bytes)?;
    } else if to.is_binary() || !is_harmless(&bytes) {
        return Err(Failure::usage(format_args!(
            "this {name} is no text for a terminal: send stdout to a file, or use --json"
        )));
    } else {
        output.line(&bytes)?;
    }
    Ok(ExitStatus::Done)
}

/// Says which formats can carry it.
fn check(
    container: &Container,
    from: FormatName,
    to: Option<FormatName>,
    output: Output,
) -> Result<ExitStatus, Failure> {
    let wanted = match &to {
        Some(to) => std::slice::from_ref(to),
        None => FormatName::ALL,
    };
    let (mut fine, mut objects, mut lines) = (true, Vec::new(), Vec::new());
    for name in wanted {
        match encode(container, *name) {
            Ok(bytes) => {
                objects.push(json!({ "format": name.name(), "bytes": bytes.len() }));
                lines.push(format!("  {:9} {} bytes", name.name(), bytes.len()));
            }
            Err(problem) => {
                // Without --to, what some formats cannot carry is no fault of the container.
                fine &= to.is_none();
                lines.push(format!("  {:9} no: {}", name.name(), problem.text));
                let mut object = problem.details;
                object["text"] = problem.text.into();
                objects.push(object);
            }
        }
    }
    let values = container.len();
    let event = json!({
        "event": "checked", "ok": fine, "format": from.name(), "values": values, "formats": objects
    });
    let s = if values == 1 { "" } else { "s" };
    let verdict = if fine { "ok" } else { "not carried" };
    let text = format!("{verdict}: {values} value{s}\n{}", lines.join("\n"));
    output.event(&event, &text)?;
    Ok(if fine {
        ExitStatus::Done
    } else {
        ExitStatus::Failed
    })
}

/// A container that cannot be read. For `check` that is its result, for the others an error.
fn unreadable(checks: bool, problem: &Problem, output: Output) -> Result<ExitStatus, Failure> {
    if checks {
        let mut event = problem.details.clone();
        event["event"] = "checked".into();
        event["ok"] = false.into();
        event["text"] = problem.text.clone().into();
        output.event(&event, &problem.text)?;
    } else {
        tell("unreadable", problem, output);
    }
    Ok(ExitStatus::Failed)
}

fn tell(event: &str, problem: &Problem, output: Output) {
    let mut object = problem.details.clone();
    object["event"] = event.into();
    object["text"] = problem.text.clone().into();
    output.problem(&object, &problem.text);
}

/// The same JSON without control characters that it may have and terminals may obey: DEL and C1.
fn escaped(json: &str) -> Cow<'_, str> {
    use std::fmt::Write as _;
    let obeyed = |c: char| matches!(c, '\u{7f}'..='\u{9f}');
    if !json.contains(obeyed) {
        return json.into();
    }
    let mut text = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        match obeyed(c) {
            // Writing to a string does not fail.
            true => drop(write!(text, "\\u{:04x}", u32::from(c))),
            false => text.push(c),
        }
    }
    text.into()
}

/// Whether a terminal shows these bytes and obeys none of them.
fn is_harmless(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| {
        let mut chars = text.chars();
        chars.all(|c| !c.is_control() || matches!(c, '\n' | '\t'))
    })
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
