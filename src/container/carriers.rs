//! Which formats carry what another one refuses. Errors say so.

use super::{Format, Value};

const ALL_TYPES: &[Format] = &[Format::MessagePack, Format::Json, Format::Binary];
const BINARY: &[Format] = &[Format::MessagePack, Format::Binary];
const MESSAGE_PACK: &[Format] = &[Format::MessagePack];

/// Those that carry this value, whatever it holds, of the ones that carry all types.
pub(super) fn of_value(value: &Value) -> &'static [Format] {
    match value {
        Value::Float(number) if !number.is_finite() => BINARY,
        Value::Double(number) if !number.is_finite() => BINARY,
        Value::String(text) => of_string(text.as_bytes()),
        // As a null of its own kind; MessagePack has one null.
        Value::Container(None) => &[Format::Json, Format::Binary],
        // With the headers of the containers inside, which the low-level form has no place for.
        Value::Container(_) | Value::Array(_) => &[Format::MessagePack, Format::Json],
        _ => ALL_TYPES,
    }
}

/// Those that carry a string, or a name, with any content.
pub(super) fn of_string(text: &[u8]) -> &'static [Format] {
    match std::str::from_utf8(text) {
        Ok(_) => &[
            Format::MessagePack,
            Format::Json,
            Format::CppJson,
            Format::Binary,
        ],
        Err(_) => BINARY,
    }
}

/// Those that carry a field of the header with any content.
pub(super) fn of_field(text: &[u8]) -> &'static [Format] {
    match std::str::from_utf8(text) {
        Ok(_) => of_string(text),
        Err(_) => MESSAGE_PACK,
    }
}
