//! JSON as the C++ library writes it: `{"header":{…},"values":{"name":value,…}}`, without types.
//!
//! The reader infers them: a string is a string, an integer is the first of int, llong and ullong that holds it, a number with
//! a point or an exponent is a double. The library itself has no reader, and writes what is no JSON for values that
//! this writer refuses.

use std::io::Write;

use bytes::Bytes;

use super::json_reader::{JsonKind, JsonReader};
use super::{
    Container, DecodeError, DecodeOptions, EncodeError, Format, Header, Text, Value, c_numbers,
    carriers, json_writer, scalars,
};

pub(super) fn encode(container: &Container, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.extend_from_slice(b"{\"header\":{");
    for (index, (_, key, text)) in container.header.fields().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        // Writing to a vector does not fail.
        let _ = write!(out, "\"{key}\":");
        string(out, text, carriers::of_field).map_err(|error| error.inside(&key.into()))?;
    }
    out.extend_from_slice(b"},\"values\":{");
    for (index, (name, value)) in container.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        member(name, value, out).map_err(|error| error.inside(name))?;
    }
    out.extend_from_slice(b"}}");
    Ok(())
}

fn member(name: &Text, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    string(out, name, carriers::of_string)?;
    out.push(b':');
    match value {
        Value::Float(number) if !number.is_finite() => return Err(refuse_number(value)),
        Value::Double(number) if !number.is_finite() => return Err(refuse_number(value)),
        Value::String(text) => string(out, text, carriers::of_string)?,
        _ => scalars::write(value, out).map_err(|what| refuse(what, carriers::of_value(value)))?,
    }
    Ok(())
}

fn refuse_number(value: &Value) -> EncodeError {
    refuse(
        "a number that is infinite or none",
        carriers::of_value(value),
    )
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
        None => Err(refuse(
            "a string that is not UTF-8",
            carriers(text.as_bytes()),
        )),
    }
}

fn refuse(what: &'static str, carriers: &'static [Format]) -> EncodeError {
    EncodeError::new(Format::CppJson, what, carriers)
}

pub(super) fn decode(input: &Bytes, options: &DecodeOptions) -> Result<Container, DecodeError> {
    let mut json = JsonReader::new(Format::CppJson, input)?;
    let mut header = None;
    let mut values = None;
    let mut is_first = true;
    json.object()?;
    while let Some(key) = json.key(&mut is_first)? {
        let at = json.position();
        let is_twice = match &*key {
            "header" => header.replace(read_header(&mut json)?).is_some(),
            "values" => values.replace(read_values(&mut json, options)?).is_some(),
            _ => return Err(json.error("only header and values should stand here")),
        };
        if is_twice {
            return Err(json.error_at(at, "this key stands there twice"));
        }
    }
    json.end()?;
    let values = values.ok_or_else(|| json.error("there are no values"))?;
    let header = header.unwrap_or_else(Header::before_reading);
    Ok(Container::from_parts(header, values))
}

fn read_header(json: &mut JsonReader<'_>) -> Result<Header, DecodeError> {
    let mut header = Header::before_reading();
    let mut seen = 0;
    let mut is_first = true;
    json.object()?;
    while let Some(key) = json.key(&mut is_first)? {
        let at = json.position();
        let Some((bit, field)) = header.field_mut(key.as_bytes()) else {
            return Err(json.error_at(at, "the header has no such field"));
        };
        *field = json.shared_text()?;
        if seen & bit != 0 {
            return Err(json.error_at(at, "this key stands there twice"));
        }
        seen |= bit;
    }
    Ok(header)
}

fn read_values(
    json: &mut JsonReader<'_>,
    options: &DecodeOptions,
) -> Result<Vec<(Text, Value)>, DecodeError> {
    let mut values = Vec::new();
    let mut is_first = true;
    json.object()?;
    while let Some(name) = json.key(&mut is_first)? {
        if values.len() >= options.max_values {
            return Err(DecodeError::too_many(Format::CppJson, json.position()));
        }
        let name = json.share(name);
        let value = read_value(json).map_err(|error| error.inside(&name))?;
        values.push((name, value));
    }
    Ok(values)
}

fn read_value(json: &mut JsonReader<'_>) -> Result<Value, DecodeError> {
    Ok(match json.kind()? {
        JsonKind::String => Value::String(json.shared_text()?),
        JsonKind::Bool => Value::Bool(json.bool()?),
        JsonKind::Number => {
            let at = json.position();
            let digits = json.number()?;
            infer(digits).ok_or_else(|| json.error_at(at, "no type holds this number"))?
        }
        JsonKind::Null => {
            json.null()?;
            Value::Null
        }
        JsonKind::Object | JsonKind::Array => {
            return Err(json.error("the C++ library writes no objects and arrays here"));
        }
    })
}

/// The value that these digits are.
fn infer(digits: &str) -> Option<Value> {
    if digits.contains(['.', 'e', 'E']) {
        return c_numbers::read_f64(digits.as_bytes())
            .ok()
            .map(Value::Double);
    }
    let number: i128 = c_numbers::read_integer(digits.as_bytes()).ok()?;
    let int = i32::try_from(number).map(Value::Int);
    let llong = || i64::try_from(number).map(Value::LLong);
    let ullong = || u64::try_from(number).map(Value::ULLong);
    int.or_else(|_| llong()).or_else(|_| ullong()).ok()
}
