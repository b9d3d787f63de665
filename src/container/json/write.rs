//! Writing typed JSON 2.0: keys in alphabetical order, no white space, as the Rust port does.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::format::MAX_DEPTH;
use super::super::{Container, EncodeError, Format, Header, Text, Value, carriers, json_writer};

pub(in super::super) fn encode(
    container: &Container,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    out.extend_from_slice(b"{\"container\":{");
    metadata(&container.header, out)?;
    out.extend_from_slice(b",\"values\":[");
    values(container, out, 1)?;
    out.extend_from_slice(b"],\"version\":\"2.0\"}}");
    Ok(())
}

fn metadata(header: &Header, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut field = |before: &str, text: &Text, name: &str| {
        out.extend_from_slice(before.as_bytes());
        string(out, text, carriers::of_field).map_err(|error| error.inside(&name.into()))
    };
    field(
        "\"metadata\":{\"message_type\":",
        &header.message_type,
        "message_type",
    )?;
    field(",\"protocol_version\":", &header.version, "version")?;
    field(",\"source\":{\"id\":", &header.source, "source_id")?;
    field(",\"sub_id\":", &header.source_sub, "source_sub_id")?;
    field("},\"target\":{\"id\":", &header.target, "target_id")?;
    field(",\"sub_id\":", &header.target_sub, "target_sub_id")?;
    out.extend_from_slice(b"}}");
    Ok(())
}

fn values(container: &Container, out: &mut Vec<u8>, depth: usize) -> Result<(), EncodeError> {
    for (index, (name, value)) in container.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        object(name, value, out, depth).map_err(|error| error.inside(name))?;
    }
    Ok(())
}

/// One value, inside of `depth` containers and arrays.
fn object(name: &Text, value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<(), EncodeError> {
    let is_nested = matches!(value, Value::Container(Some(_)) | Value::Array(_));
    if is_nested && depth >= MAX_DEPTH {
        return Err(EncodeError::too_deep(Format::Json));
    }
    out.push(b'{');
    if let Value::Container(container) = value {
        let count = container.as_ref().map_or(0, |container| container.len());
        // Writing to a vector does not fail.
        let _ = write!(out, "\"child_count\":{count},");
    }
    out.extend_from_slice(b"\"data\":");
    data(value, out, depth)?;
    match value {
        Value::Array(elements) => {
            let _ = write!(out, ",\"element_count\":{}", elements.len());
        }
        Value::Bytes(_) => out.extend_from_slice(b",\"encoding\":\"base64\""),
        Value::Container(Some(container)) if container.header != Header::default() => {
            out.push(b',');
            metadata(&container.header, out)?;
        }
        _ => {}
    }
    out.extend_from_slice(b",\"name\":");
    string(out, name, carriers::of_string)?;
    let value_type = value.value_type();
    let _ = write!(
        out,
        ",\"type\":{},\"type_name\":\"{value_type}\"}}",
        value_type.id()
    );
    Ok(())
}

fn data(value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<(), EncodeError> {
    match value {
        Value::Null | Value::Container(None) => out.extend_from_slice(b"null"),
        Value::Bool(value) => {
            let _ = write!(out, "{value}");
        }
        // As the double of the same value, which every reader turns back into the same float.
        Value::Float(number) => write_number(out, value, f64::from(*number))?,
        Value::Double(number) => write_number(out, value, *number)?,
        Value::String(text) => string(out, text, carriers::of_string)?,
        Value::Bytes(bytes) => {
            out.push(b'"');
            out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            out.push(b'"');
        }
        Value::Container(Some(container)) => {
            out.push(b'[');
            values(container, out, depth + 1)?;
            out.push(b']');
        }
        Value::Array(elements) => {
            out.push(b'[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                object(&Text::new(), element, out, depth + 1)
                    .map_err(|error| error.at_index(index))?;
            }
            out.push(b']');
        }
        Value::Short(_)
        | Value::UShort(_)
        | Value::Int(_)
        | Value::UInt(_)
        | Value::Long(_)
        | Value::ULong(_)
        | Value::LLong(_)
        | Value::ULLong(_) => {
            let _ = write!(out, "{}", value.as_integer().unwrap_or_default());
        }
    }
    Ok(())
}

fn write_number(out: &mut Vec<u8>, value: &Value, number: f64) -> Result<(), EncodeError> {
    if !number.is_finite() {
        let what = "a number that is infinite or none";
        return Err(EncodeError::new(
            Format::Json,
            what,
            carriers::of_value(value),
        ));
    }
    // Writing to a vector does not fail.
    let _ = serde_json::to_writer(out, &number);
    Ok(())
}

fn string(
    out: &mut Vec<u8>,
    text: &Text,
    carriers: fn(&[u8]) -> &'static [Format],
) -> Result<(), EncodeError> {
    match text.as_str() {
        Some(text) => {
            json_writer::string(out, text);
            Ok(())
        }
        None => {
            let carriers = carriers(text.as_bytes());
            let what = "a string that is not UTF-8";
            Err(EncodeError::new(Format::Json, what, carriers))
        }
    }
}
