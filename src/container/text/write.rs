//! Writing text.

use std::io::Write;

use super::super::c_numbers::is_space;
use super::super::{Container, EncodeError, Format, Text, Value, carriers, scalars};

pub(in super::super) fn encode(
    container: &Container,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    out.extend_from_slice(b"@header={{");
    for (id, key, text) in container.header.fields() {
        check_field(text).map_err(|error| error.inside(&key.into()))?;
        out.extend_from_slice(&[b'[', b'0' + id, b',']);
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(b"];");
    }
    out.extend_from_slice(b"}};@data={{");
    for (name, value) in container {
        item(name, value, out).map_err(|error| error.inside(name))?;
    }
    out.extend_from_slice(b"}};");
    Ok(())
}

fn item(name: &Text, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    if name.is_empty() || !name.as_bytes().iter().all(is_word) {
        return Err(refuse(
            "a name of other than letters, digits and _",
            carriers::of_string(name.as_bytes()),
        ));
    }
    out.push(b'[');
    out.extend_from_slice(name.as_bytes());
    // Writing to a vector does not fail.
    let _ = write!(out, ",{},", value.value_type().id());
    match value {
        Value::Null => {}
        Value::String(text) => {
            let bytes = text.as_bytes();
            if bytes.first().copied().is_some_and(is_space) {
                return Err(refuse(
                    "a string with white space in front",
                    carriers::of_string(bytes),
                ));
            }
            check_string(bytes, carriers::of_string(bytes))?;
            out.extend_from_slice(bytes);
        }
        // No bytes are what a reader makes of an empty text.
        Value::Bytes(bytes) if bytes.is_empty() => {}
        _ => scalars::write(value, out).map_err(|what| refuse(what, carriers::of_value(value)))?,
    }
    out.extend_from_slice(b"];");
    Ok(())
}

fn check_field(text: &Text) -> Result<(), EncodeError> {
    let bytes = text.as_bytes();
    let carriers = carriers::of_field(bytes);
    if bytes.starts_with(b" ") || bytes.ends_with(b" ") {
        return Err(refuse("a field with spaces around it", carriers));
    }
    // A reader of the family looks for the data section from the start of the text.
    if bytes.windows(6).any(|part| part == b"@data=") {
        return Err(refuse("a field with \"@data=\"", carriers));
    }
    check_string(bytes, carriers)
}

fn check_string(bytes: &[u8], carriers: &'static [Format]) -> Result<(), EncodeError> {
    if bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        return Err(refuse("a string with a line break", carriers));
    }
    if bytes.windows(2).any(|pair| matches!(pair, b"];" | b"};")) {
        return Err(refuse("a string with \"];\" or \"};\"", carriers));
    }
    Ok(())
}

fn refuse(what: &'static str, carriers: &'static [Format]) -> EncodeError {
    EncodeError::new(Format::Text, what, carriers)
}
