//! What the tests over vectors have in common: reading them, comparing, and a line for each.

#![allow(
    clippy::print_stdout,
    reason = "a line for each vector is what these tests show"
)]

use std::fmt;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use network_system::container::{Container, DecodeError, DecodeOptions, Format, Value};
use serde_json::Value as Json;

/// The golden vectors of the C++ family. They are not part of this project but stand beside it; none on a machine
/// without them, which is fine unless it is one that decides about changes.
pub(crate) fn golden() -> Option<Json> {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors/container/manifest.json");
    match std::fs::read(&path) {
        Ok(text) => Some(serde_json::from_slice(&text).expect("the manifest is JSON")),
        Err(error) => {
            let must_be_there = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
            assert!(!must_be_there, "{}: {error}", path.display());
            println!("skipped: the golden vectors are not on this machine");
            None
        }
    }
}

/// The bytes of a form of a vector.
pub(crate) fn bytes(form: &Json) -> Bytes {
    let text = form["base64"].as_str().expect("every form has its bytes");
    STANDARD.decode(text).expect("base64").into()
}

/// A list in the manifest.
pub(crate) fn list<'a>(json: &'a Json, key: &str) -> &'a [Json] {
    json[key].as_array().map_or(&[], Vec::as_slice)
}

/// A text in the manifest.
pub(crate) fn text<'a>(json: &'a Json, key: &str) -> &'a str {
    json[key].as_str().unwrap_or_default()
}

/// The container that a vector describes.
pub(crate) fn model(json: &Json) -> Container {
    Container::from_typed_json(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

/// Reads with the default options.
pub(crate) fn decode(format: Format, input: &Bytes) -> Result<Container, DecodeError> {
    Container::decode(format, input)
}

/// Reads text of a dialect.
pub(crate) fn decode_text(
    dialect: network_system::container::TextDialect,
    input: &Bytes,
) -> Result<Container, DecodeError> {
    let options = DecodeOptions::new().text_dialect(dialect);
    Container::decode_with(Format::Text, input, &options)
}

/// The same container with every integer as one type, for formats that do not carry the types of integers.
pub(crate) fn with_plain_integers(container: &Container) -> Container {
    let values = container
        .iter()
        .map(|(name, value)| (name.clone(), plain(value)))
        .collect();
    Container::from_parts(container.header.clone(), values)
}

fn plain(value: &Value) -> Value {
    match value {
        Value::Container(Some(inner)) => with_plain_integers(inner).into(),
        Value::Array(elements) => Value::Array(elements.iter().map(plain).collect()),
        other => match other.as_integer() {
            Some(number) => number.to_string().into(),
            None => other.clone(),
        },
    }
}

/// The lines of a test, and what was not as it should be.
#[derive(Default)]
pub(crate) struct Report {
    lines: usize,
    failures: Vec<String>,
}

impl Report {
    /// One vector: what it is, what the program that it comes from does, what happens here, and whether it should.
    pub(crate) fn line(
        &mut self,
        vector: &str,
        form: &str,
        upstream: impl fmt::Display,
        here: impl fmt::Display,
        holds: bool,
    ) {
        self.lines += 1;
        let line = format!("{vector:<32} {form:<12} there: {upstream:<24} here: {here}");
        println!("{line}");
        if !holds {
            self.failures.push(line);
        }
    }

    /// Fails with the lines that should not be, or when there were fewer lines than there are vectors.
    pub(crate) fn finish(self, at_least: usize) {
        println!("{} lines", self.lines);
        assert!(
            self.failures.is_empty(),
            "{} of {} are not as they should be:\n{}",
            self.failures.len(),
            self.lines,
            self.failures.join("\n")
        );
        assert!(self.lines >= at_least, "only {} lines", self.lines);
    }
}

/// What reading gave, in words.
pub(crate) fn outcome(read: &Result<Container, DecodeError>, model: &Container) -> String {
    match read {
        Ok(container) if container == model => "exact".into(),
        Ok(container) if with_plain_integers(container) == with_plain_integers(model) => {
            "integer types changed".into()
        }
        Ok(container) => format!("another container: {container:?}"),
        Err(error) => format!("refused: {error}"),
    }
}
