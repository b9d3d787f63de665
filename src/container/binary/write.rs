//! Writing the low-level binary form.

use std::collections::HashSet;

use super::{Data, Entries, FORMAT, Item};
use crate::container::format::MAX_DEPTH;
use crate::container::{EncodeError, Format, Value};

type Result = std::result::Result<(), EncodeError>;

pub(super) const DUPLICATE_CARRIERS: &[Format] = &[Format::MessagePack, Format::Json];

pub(super) fn length(output: &mut Vec<u8>, len: usize) -> Result {
    let len = u32::try_from(len).map_err(|_| EncodeError::too_long(FORMAT))?;
    output.extend_from_slice(&len.to_le_bytes());
    Ok(())
}

fn sized(output: &mut Vec<u8>, bytes: &[u8]) -> Result {
    length(output, bytes.len())?;
    output.extend_from_slice(bytes);
    Ok(())
}

/// Appends what `write` appends, with its length before it.
fn measured(output: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result) -> Result {
    let start = output.len();
    output.extend_from_slice(&[0; 4]);
    write(output)?;
    let len = u32::try_from(output.len() - start - 4).map_err(|_| EncodeError::too_long(FORMAT))?;
    output[start..start + 4].copy_from_slice(&len.to_le_bytes());
    Ok(())
}

/// Appends an item on level `depth`.
pub(super) fn item(item: &Item, output: &mut Vec<u8>, depth: usize) -> Result {
    if depth > MAX_DEPTH {
        return Err(EncodeError::too_deep(FORMAT));
    }
    sized(output, item.name.as_bytes())?;
    match &item.data {
        Data::Scalar(value) => {
            output.push(value.value_type().id());
            scalar(value, output)
        }
        Data::Container(inner) => {
            output.push(crate::container::ValueType::Container.id());
            match inner {
                None => length(output, 0),
                Some(inner) => measured(output, |output| entries(inner, output, depth + 1)),
            }
        }
        Data::Array(items) => {
            output.push(crate::container::ValueType::Array.id());
            length(output, items.len())?;
            for (index, item) in items.iter().enumerate() {
                self::item(item, output, depth + 1).map_err(|error| error.at_index(index))?;
            }
            Ok(())
        }
    }
}

fn scalar(value: &Value, output: &mut Vec<u8>) -> Result {
    match value {
        Value::Null => {}
        Value::Bool(value) => output.push((*value).into()),
        Value::Short(value) => output.extend_from_slice(&value.to_le_bytes()),
        Value::UShort(value) => output.extend_from_slice(&value.to_le_bytes()),
        Value::Int(value) => output.extend_from_slice(&value.to_le_bytes()),
        Value::UInt(value) => output.extend_from_slice(&value.to_le_bytes()),
        Value::Long(value) | Value::LLong(value) => output.extend_from_slice(&value.to_le_bytes()),
        Value::ULong(value) | Value::ULLong(value) => {
            output.extend_from_slice(&value.to_le_bytes());
        }
        Value::Float(value) => output.extend_from_slice(&value.to_bits().to_le_bytes()),
        Value::Double(value) => output.extend_from_slice(&value.to_bits().to_le_bytes()),
        Value::String(text) => sized(output, text.as_bytes())?,
        Value::Bytes(bytes) => sized(output, bytes)?,
        Value::Container(_) | Value::Array(_) => {
            return Err(EncodeError::new(
                FORMAT,
                "a container or array as a scalar",
                &[],
            ));
        }
    }
    Ok(())
}

/// Appends entries on level `depth`.
pub(super) fn entries(entries: &Entries, output: &mut Vec<u8>, depth: usize) -> Result {
    length(output, entries.len())?;
    let mut keys = HashSet::with_capacity(entries.len());
    for (key, item) in entries {
        if !keys.insert(key.as_bytes()) {
            let what = "two values of one name";
            return Err(EncodeError::new(FORMAT, what, DUPLICATE_CARRIERS).inside(key));
        }
        sized(output, key.as_bytes())
            .and_then(|()| measured(output, |output| self::item(item, output, depth)))
            .map_err(|error| error.inside(key))?;
    }
    Ok(())
}
