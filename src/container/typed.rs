//! A container as JSON to look at and to compare: every value with its type, nothing rounded.
//!
//! The shape is that of the values in the golden vectors of the formats. For programs that exchange containers there is
//! [`Format::Json`](super::Format::Json).

use std::error::Error as StdError;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json, json};

use super::format::MAX_DEPTH;
use super::{Container, EncodeError, Format, Header, Text, Value, ValueType};
use crate::ErrorCode;

impl Container {
    /// The container as JSON that shows every value with its type, for people and for comparing.
    ///
    /// `{"header": {…}, "values": [{"name", "type", "type_id", "value"}, …]}`. Integers are decimal strings,
    /// floating-point numbers `{"bits", "decimal"}`, and `bits` is what counts. Bytes, and strings that are not UTF-8,
    /// are base64 at a key with `_base64` behind it. Containers nest the same shape, arrays are lists of values
    /// without names.
    ///
    /// # Errors
    /// More than 128 levels of containers and arrays.
    pub fn to_typed_json(&self) -> Result<Json, EncodeError> {
        container_to_json(self, 1)
    }

    /// Reads what [`to_typed_json`](Self::to_typed_json) makes. Other keys are ignored, and so is `decimal`.
    ///
    /// # Errors
    /// The JSON has another shape, or more than 128 levels.
    pub fn from_typed_json(json: &Json) -> Result<Self, TypedJsonError> {
        container_from_json(json, 1)
    }
}

/// JSON that is not a container of the shape of [`Container::to_typed_json`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedJsonError {
    what: &'static str,
    /// The names on the way to the error, the innermost first.
    path: Vec<String>,
}

impl TypedJsonError {
    fn new(what: &'static str) -> Self {
        TypedJsonError {
            what,
            path: Vec::new(),
        }
    }

    fn inside(mut self, name: &str) -> Self {
        self.path.push(name.chars().take(64).collect());
        self
    }

    /// `invalid_frame`.
    pub fn code(&self) -> ErrorCode {
        ErrorCode::InvalidFrame
    }
}

impl fmt::Display for TypedJsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a container as typed JSON: {}", self.what)?;
        for (index, name) in self.path.iter().rev().enumerate() {
            let before = if index == 0 { " in " } else { "/" };
            write!(f, "{before}{}", name.escape_debug())?;
        }
        Ok(())
    }
}

impl StdError for TypedJsonError {}

fn container_to_json(container: &Container, depth: usize) -> Result<Json, EncodeError> {
    if depth > MAX_DEPTH {
        return Err(EncodeError::too_deep(Format::Json));
    }
    let mut header = Map::new();
    for (key, text) in fields(&container.header) {
        insert_text(&mut header, key, text);
    }
    let mut values = Vec::with_capacity(container.len());
    for (name, value) in container {
        let mut shown = Map::new();
        insert_text(&mut shown, "name", name);
        insert_value(&mut shown, value, depth).map_err(|error| error.inside(name))?;
        values.push(Json::Object(shown));
    }
    Ok(json!({ "header": header, "values": values }))
}

fn insert_value(
    shown: &mut Map<String, Json>,
    value: &Value,
    depth: usize,
) -> Result<(), EncodeError> {
    let value_type = value.value_type();
    shown.insert("type".into(), value_type.name().into());
    shown.insert("type_id".into(), value_type.id().into());
    let json = match value {
        Value::Null | Value::Container(None) => Json::Null,
        Value::Bool(value) => (*value).into(),
        Value::Float(number) => json!({
            "bits": format!("{:#010x}", number.to_bits()),
            "decimal": shortened(f64::from(*number), 9),
        }),
        Value::Double(number) => json!({
            "bits": format!("{:#018x}", number.to_bits()),
            "decimal": shortened(*number, 17),
        }),
        Value::String(text) => {
            insert_text(shown, "value", text);
            return Ok(());
        }
        Value::Bytes(bytes) => {
            shown.insert("value_base64".into(), STANDARD.encode(bytes).into());
            return Ok(());
        }
        Value::Container(Some(container)) => container_to_json(container, depth + 1)?,
        Value::Array(elements) => {
            if depth >= MAX_DEPTH {
                return Err(EncodeError::too_deep(Format::Json));
            }
            let mut list = Vec::with_capacity(elements.len());
            for (index, element) in elements.iter().enumerate() {
                let mut shown = Map::new();
                insert_value(&mut shown, element, depth + 1)
                    .map_err(|error| error.at_index(index))?;
                list.push(Json::Object(shown));
            }
            list.into()
        }
        Value::Short(_)
        | Value::UShort(_)
        | Value::Int(_)
        | Value::UInt(_)
        | Value::Long(_)
        | Value::ULong(_)
        | Value::LLong(_)
        | Value::ULLong(_) => value.as_integer().unwrap_or_default().to_string().into(),
    };
    shown.insert("value".into(), json);
    Ok(())
}

fn fields(header: &Header) -> [(&'static str, &Text); 6] {
    [
        ("message_type", &header.message_type),
        ("version", &header.version),
        ("source_id", &header.source),
        ("source_sub_id", &header.source_sub),
        ("target_id", &header.target),
        ("target_sub_id", &header.target_sub),
    ]
}

fn insert_text(shown: &mut Map<String, Json>, key: &str, text: &Text) {
    match text.as_str() {
        Some(text) => shown.insert(key.into(), text.into()),
        None => shown.insert(format!("{key}_base64"), STANDARD.encode(text).into()),
    };
}

/// A number in `digits` significant digits, as C's `%.17g` writes it for 17.
fn shortened(number: f64, digits: usize) -> String {
    if !number.is_finite() {
        return number.to_string().to_ascii_lowercase();
    }
    let scientific = format!("{number:.*e}", digits - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if exponent < -4 || exponent >= digits as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs());
    }
    let decimals = (digits as i32 - 1 - exponent) as usize;
    trimmed(&format!("{number:.decimals$}"))
}

fn container_from_json(json: &Json, depth: usize) -> Result<Container, TypedJsonError> {
    check_depth(depth)?;
    let mut header = Header::before_reading();
    if let Some(shown) = json.get("header") {
        let shown = shown
            .as_object()
            .ok_or(TypedJsonError::new("the header is no object"))?;
        for key in fields(&Header::default()).map(|(key, _)| key) {
            let text = text_from(shown, key).map_err(|error| error.inside(key))?;
            if let (Some(text), Some((_, field))) = (text, header.field_mut(key.as_bytes())) {
                *field = text;
            }
        }
    }
    let shown = json.get("values").and_then(Json::as_array);
    let shown = shown.ok_or(TypedJsonError::new("there is no list of values"))?;
    let mut values = Vec::with_capacity(shown.len());
    for (index, json) in shown.iter().enumerate() {
        let at_index = |error: TypedJsonError| error.inside(&index.to_string());
        let object = json
            .as_object()
            .ok_or_else(|| at_index(TypedJsonError::new("a value is no object")))?;
        let name = text_from(object, "name").map_err(at_index)?;
        let name = name.ok_or_else(|| at_index(TypedJsonError::new("a value has no name")))?;
        let value = value_from_json(object, depth)
            .map_err(|error| error.inside(&name.to_string_lossy()))?;
        values.push((name, value));
    }
    Ok(Container::from_parts(header, values))
}

fn value_from_json(shown: &Map<String, Json>, depth: usize) -> Result<Value, TypedJsonError> {
    let by_name = shown.get("type").and_then(Json::as_str);
    let by_name = by_name.and_then(ValueType::from_name);
    let value_type = by_name.ok_or(TypedJsonError::new("there is no such type"))?;
    if let Some(id) = shown.get("type_id")
        && id.as_u64() != Some(value_type.id().into())
    {
        return Err(TypedJsonError::new("the number of the type is another"));
    }
    let value = shown.get("value").unwrap_or(&Json::Null);
    Ok(match value_type {
        ValueType::Null if value.is_null() => Value::Null,
        ValueType::Null => return Err(TypedJsonError::new("a null has a content")),
        ValueType::Bool => {
            let value = value.as_bool();
            Value::Bool(value.ok_or(TypedJsonError::new("this is neither true nor false"))?)
        }
        ValueType::Short => Value::Short(integer(value)?),
        ValueType::UShort => Value::UShort(integer(value)?),
        ValueType::Int => Value::Int(integer(value)?),
        ValueType::UInt => Value::UInt(integer(value)?),
        ValueType::Long => Value::Long(integer(value)?),
        ValueType::ULong => Value::ULong(integer(value)?),
        ValueType::LLong => Value::LLong(integer(value)?),
        ValueType::ULLong => Value::ULLong(integer(value)?),
        ValueType::Float => {
            let bits = u32::try_from(bits(value)?);
            let bits = bits.map_err(|_| TypedJsonError::new("a float has 32 bits"))?;
            Value::Float(f32::from_bits(bits))
        }
        ValueType::Double => Value::Double(f64::from_bits(bits(value)?)),
        ValueType::String => {
            let text = text_from(shown, "value")?;
            Value::String(text.ok_or(TypedJsonError::new("there is no string"))?)
        }
        ValueType::Bytes => {
            let bytes = base64_from(shown, "value_base64")?;
            Value::Bytes(
                bytes
                    .ok_or(TypedJsonError::new("there are no bytes"))?
                    .into(),
            )
        }
        ValueType::Container if value.is_null() => Value::Container(None),
        ValueType::Container => container_from_json(value, depth + 1)?.into(),
        ValueType::Array => {
            check_depth(depth + 1)?;
            let elements = value
                .as_array()
                .ok_or(TypedJsonError::new("an array is no list"))?;
            let mut values = Vec::with_capacity(elements.len());
            for (index, element) in elements.iter().enumerate() {
                let at_index = |error: TypedJsonError| error.inside(&index.to_string());
                let object = element
                    .as_object()
                    .ok_or_else(|| at_index(TypedJsonError::new("a value is no object")))?;
                values.push(value_from_json(object, depth + 1).map_err(at_index)?);
            }
            Value::Array(values)
        }
    })
}

fn check_depth(depth: usize) -> Result<(), TypedJsonError> {
    match depth > MAX_DEPTH {
        true => Err(TypedJsonError::new("more than 128 levels")),
        false => Ok(()),
    }
}

fn integer<T: std::str::FromStr>(value: &Json) -> Result<T, TypedJsonError> {
    let number = value.as_str().and_then(|digits| digits.parse().ok());
    number.ok_or(TypedJsonError::new(
        "this is no integer of the type, as a string",
    ))
}

fn bits(value: &Json) -> Result<u64, TypedJsonError> {
    let digits = value.get("bits").and_then(Json::as_str);
    digits
        .and_then(|digits| digits.strip_prefix("0x"))
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or(TypedJsonError::new("there are no bits of a number, as 0x…"))
}

fn text_from(shown: &Map<String, Json>, key: &str) -> Result<Option<Text>, TypedJsonError> {
    match shown.get(key) {
        Some(Json::String(text)) => Ok(Some(text.into())),
        Some(_) => Err(TypedJsonError::new("this is no string")),
        None => Ok(base64_from(shown, &format!("{key}_base64"))?.map(Text::from)),
    }
}

fn base64_from(shown: &Map<String, Json>, key: &str) -> Result<Option<Vec<u8>>, TypedJsonError> {
    match shown.get(key) {
        None => Ok(None),
        Some(text) => {
            let decoded = text.as_str().and_then(|text| STANDARD.decode(text).ok());
            let decoded = decoded.ok_or(TypedJsonError::new("this is not base64"))?;
            Ok(Some(decoded))
        }
    }
}
