//! Containers as messages of the low-level binary form.

use bytes::Bytes;
use serde::Deserialize;

use super::{Data, Entries, FORMAT, Item, STORE_VERSION, read, write};
use crate::container::format::MAX_DEPTH;
use crate::container::{
    Container, DecodeError, DecodeOptions, EncodeError, Format, Header, Text, Value,
};

/// What carries the header of a container inside of another one.
const HEADER_CARRIERS: &[Format] = &[Format::MessagePack, Format::Json];

/// The keys of the header, in the order of this form.
const KEYS: [&str; 6] = [
    "source_id",
    "source_sub_id",
    "target_id",
    "target_sub_id",
    "message_type",
    "version",
];

pub(in crate::container) fn encode(
    container: &Container,
    output: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let header = header_json(&container.header)?;
    let entries = entries_of(container, 1)?;
    write::length(output, header.len())?;
    output.extend_from_slice(header.as_bytes());
    output.push(STORE_VERSION);
    write::entries(&entries, output, 1)
}

/// The header as JSON. The C++ library forgets the escapes, which makes no difference to what needs none.
fn header_json(header: &Header) -> Result<String, EncodeError> {
    let fields = [
        &header.source,
        &header.source_sub,
        &header.target,
        &header.target_sub,
        &header.message_type,
        &header.version,
    ];
    let mut json = String::from("{");
    for (key, field) in KEYS.into_iter().zip(fields) {
        let refuse = || {
            let what = "a header field that is not UTF-8";
            EncodeError::new(FORMAT, what, &[Format::MessagePack]).inside(&key.into())
        };
        let text = field.as_str().ok_or_else(refuse)?;
        let quoted = serde_json::to_string(text).map_err(|_| refuse())?;
        let comma = if json.len() > 1 { "," } else { "" };
        json.push_str(&format!("{comma}\"{key}\":{quoted}"));
    }
    json.push('}');
    Ok(json)
}

fn entries_of(container: &Container, depth: usize) -> Result<Entries, EncodeError> {
    let entries = container.iter().map(|(name, value)| {
        let item = item_of(value, depth).map_err(|error| error.inside(name))?;
        Ok((name.clone(), item))
    });
    entries.collect()
}

fn item_of(value: &Value, depth: usize) -> Result<Item, EncodeError> {
    if depth > MAX_DEPTH {
        return Err(EncodeError::too_deep(FORMAT));
    }
    let data = match value {
        Value::Container(None) => Data::Container(None),
        Value::Container(Some(inner)) if inner.header == Header::default() => {
            Data::Container(Some(entries_of(inner, depth + 1)?))
        }
        Value::Container(Some(_)) => {
            let what = "the header of a container inside of another one";
            return Err(EncodeError::new(FORMAT, what, HEADER_CARRIERS));
        }
        Value::Array(values) => {
            let items = values.iter().enumerate().map(|(index, value)| {
                item_of(value, depth + 1).map_err(|error| error.at_index(index))
            });
            Data::Array(items.collect::<Result<_, _>>()?)
        }
        scalar => Data::Scalar(scalar.clone()),
    };
    Ok(Item {
        name: Text::new(),
        data,
    })
}

pub(in crate::container) fn decode(
    input: &Bytes,
    options: &DecodeOptions,
) -> Result<Container, DecodeError> {
    let mut reader = read::Reader::new(input, options).without_own_names();
    let place = reader.sized()?;
    let header = header_of(&input[place.clone()])
        .ok_or_else(|| reader.error(place.start, "a header that is no JSON object of strings"))?;
    let entries = reader.store()?;
    reader.finish()?;
    Ok(Container {
        header,
        values: values_of(entries),
    })
}

/// Each field once, in any order; those that are missing keep their defaults.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Fields {
    source_id: Option<String>,
    source_sub_id: Option<String>,
    target_id: Option<String>,
    target_sub_id: Option<String>,
    message_type: Option<String>,
    version: Option<String>,
}

fn header_of(json: &[u8]) -> Option<Header> {
    let fields: Fields = serde_json::from_slice(json).ok()?;
    let mut header = Header::before_reading();
    for (text, field) in [
        (fields.source_id, &mut header.source),
        (fields.source_sub_id, &mut header.source_sub),
        (fields.target_id, &mut header.target),
        (fields.target_sub_id, &mut header.target_sub),
        (fields.message_type, &mut header.message_type),
        (fields.version, &mut header.version),
    ] {
        if let Some(text) = text {
            *field = text.into();
        }
    }
    Some(header)
}

fn values_of(entries: Entries) -> Vec<(Text, Value)> {
    let values = entries.into_iter();
    values
        .map(|(key, item)| (key, value_of(item.data)))
        .collect()
}

fn value_of(data: Data) -> Value {
    match data {
        Data::Scalar(value) => value,
        Data::Container(None) => Value::Container(None),
        Data::Container(Some(entries)) => Value::from(Container {
            header: Header::default(),
            values: values_of(entries),
        }),
        Data::Array(items) => items.into_iter().map(|item| value_of(item.data)).collect(),
    }
}
