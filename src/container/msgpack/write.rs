//! Writing MessagePack.

use bytes::Bytes;

use super::{BEGIN, FORMAT, VALUES, read};
use crate::container::format::MAX_DEPTH;
use crate::container::{Container, EncodeError, Format, Header, Text, Value};

const BYTES_CARRIERS: &[Format] = &[Format::Json, Format::Binary];

/// Appends a container. `depth` is its level; the outermost is on level 1.
pub(super) fn container(
    container: &Container,
    output: &mut Vec<u8>,
    depth: usize,
) -> Result<(), EncodeError> {
    if depth > MAX_DEPTH {
        return Err(EncodeError::too_deep(FORMAT));
    }
    output.reserve(estimate(container));
    output.extend_from_slice(BEGIN);
    header(&container.header, output)?;
    output.extend_from_slice(VALUES);
    length(
        output,
        container.len(),
        0x80,
        16,
        [None, Some(0xde), Some(0xdf)],
    )?;
    for (name, value) in container.iter() {
        string(output, name).map_err(|error| error.inside(name))?;
        if let Err(error) = self::value(value, output, depth) {
            return Err(error.inside(name));
        }
    }
    Ok(())
}

/// About what the container needs, so that the buffer seldom grows.
fn estimate(container: &Container) -> usize {
    let header = &container.header;
    let ids = header.source.len()
        + header.source_sub.len()
        + header.target.len()
        + header.target_sub.len();
    let values = container.iter().map(|(name, value)| {
        let content = match value {
            Value::String(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::Array(values) => 9 * values.len(),
            _ => 4,
        };
        name.len() + content + 10
    });
    128 + ids + values.sum::<usize>()
}

fn header(header: &Header, output: &mut Vec<u8>) -> Result<(), EncodeError> {
    if header.has_ids() {
        output.extend_from_slice(b"\x86\xa9target_id");
        field(output, &header.target, "target_id")?;
        output.extend_from_slice(b"\xadtarget_sub_id");
        field(output, &header.target_sub, "target_sub_id")?;
        output.extend_from_slice(b"\xa9source_id");
        field(output, &header.source, "source_id")?;
        output.extend_from_slice(b"\xadsource_sub_id");
        field(output, &header.source_sub, "source_sub_id")?;
        output.extend_from_slice(b"\xacmessage_type");
    } else {
        output.extend_from_slice(b"\x82\xacmessage_type");
    }
    field(output, &header.message_type, "message_type")?;
    output.extend_from_slice(b"\xa7version");
    field(output, &header.version, "version")
}

fn field(output: &mut Vec<u8>, text: &Text, key: &'static str) -> Result<(), EncodeError> {
    string(output, text).map_err(|error| error.inside(&key.into()))
}

/// Appends a value that lies in a container or array on level `depth`.
fn value(value: &Value, output: &mut Vec<u8>, depth: usize) -> Result<(), EncodeError> {
    match value {
        // A null pointer has no form of its own; it is read as null.
        Value::Null | Value::Container(None) => output.push(0xc0),
        Value::Bool(value) => output.push(if *value { 0xc3 } else { 0xc2 }),
        Value::Short(value) => signed(output, (*value).into()),
        Value::UShort(value) => unsigned(output, (*value).into()),
        Value::Int(value) => signed(output, (*value).into()),
        Value::UInt(value) => unsigned(output, (*value).into()),
        Value::Long(value) | Value::LLong(value) => signed(output, *value),
        Value::ULong(value) | Value::ULLong(value) => unsigned(output, *value),
        Value::Float(value) => tagged(output, 0xca, value.to_bits().to_be_bytes()),
        Value::Double(value) => tagged(output, 0xcb, value.to_bits().to_be_bytes()),
        Value::String(text) => string(output, text)?,
        Value::Bytes(bytes) => self::bytes(output, bytes, depth)?,
        Value::Container(Some(inner)) => nested(inner, output, depth)?,
        Value::Array(values) => array(values, output, depth + 1)?,
    }
    Ok(())
}

fn array(values: &[Value], output: &mut Vec<u8>, depth: usize) -> Result<(), EncodeError> {
    if depth > MAX_DEPTH {
        return Err(EncodeError::too_deep(FORMAT));
    }
    length(
        output,
        values.len(),
        0x90,
        16,
        [None, Some(0xdc), Some(0xdd)],
    )?;
    for (index, value) in values.iter().enumerate() {
        if let Err(error) = self::value(value, output, depth) {
            return Err(error.at_index(index));
        }
    }
    Ok(())
}

/// Bytes that a reader takes for a container would not come back as bytes, so they are refused.
fn bytes(output: &mut Vec<u8>, bytes: &Bytes, depth: usize) -> Result<(), EncodeError> {
    if read::is_container(bytes, depth) {
        let what = "bytes that are themselves a container in this format, as bytes";
        return Err(EncodeError::new(FORMAT, what, BYTES_CARRIERS));
    }
    bin_header(output, bytes.len())?;
    output.extend_from_slice(bytes);
    Ok(())
}

fn bin_header(output: &mut Vec<u8>, len: usize) -> Result<(), EncodeError> {
    length(output, len, 0, 0, [Some(0xc4), Some(0xc5), Some(0xc6)])
}

/// A container inside of another one: `bin` with its encoded form.
fn nested(inner: &Container, output: &mut Vec<u8>, depth: usize) -> Result<(), EncodeError> {
    // The length of the length is known afterwards only. Making room then moves the bytes once for each level,
    // of which there are few; finding the length before would go over them as often.
    let start = output.len();
    container(inner, output, depth + 1)?;
    let end = output.len();
    bin_header(output, end - start)?;
    let moved = output.len() - end;
    output[start..].rotate_right(moved);
    Ok(())
}

#[inline(always)]
fn tagged<const N: usize>(output: &mut Vec<u8>, tag: u8, bytes: [u8; N]) {
    output.push(tag);
    output.extend_from_slice(&bytes);
}

#[inline(always)]
fn signed(output: &mut Vec<u8>, value: i64) {
    if value >= 0 {
        unsigned(output, value as u64);
    } else if value >= -32 {
        output.push(value as u8);
    } else if let Ok(value) = i8::try_from(value) {
        tagged(output, 0xd0, value.to_be_bytes());
    } else if let Ok(value) = i16::try_from(value) {
        tagged(output, 0xd1, value.to_be_bytes());
    } else if let Ok(value) = i32::try_from(value) {
        tagged(output, 0xd2, value.to_be_bytes());
    } else {
        tagged(output, 0xd3, value.to_be_bytes());
    }
}

#[inline(always)]
fn unsigned(output: &mut Vec<u8>, value: u64) {
    if value < 128 {
        output.push(value as u8);
    } else if let Ok(value) = u8::try_from(value) {
        tagged(output, 0xcc, value.to_be_bytes());
    } else if let Ok(value) = u16::try_from(value) {
        tagged(output, 0xcd, value.to_be_bytes());
    } else if let Ok(value) = u32::try_from(value) {
        tagged(output, 0xce, value.to_be_bytes());
    } else {
        tagged(output, 0xcf, value.to_be_bytes());
    }
}

#[inline(always)]
fn string(output: &mut Vec<u8>, text: &Text) -> Result<(), EncodeError> {
    length(
        output,
        text.len(),
        0xa0,
        32,
        [Some(0xd9), Some(0xda), Some(0xdb)],
    )?;
    output.extend_from_slice(text.as_bytes());
    Ok(())
}

/// Appends the shortest form of a length: below `fix_limit` in the tag `fix` itself, else behind one of the
/// tags for 8, 16 and 32 bits.
#[inline(always)]
fn length(
    output: &mut Vec<u8>,
    len: usize,
    fix: u8,
    fix_limit: usize,
    tags: [Option<u8>; 3],
) -> Result<(), EncodeError> {
    if len < fix_limit {
        output.push(fix | len as u8);
        return Ok(());
    }
    let [tag8, tag16, tag32] = tags;
    if let (Some(tag), Ok(len)) = (tag8, u8::try_from(len)) {
        tagged(output, tag, len.to_be_bytes());
    } else if let (Some(tag), Ok(len)) = (tag16, u16::try_from(len)) {
        tagged(output, tag, len.to_be_bytes());
    } else if let (Some(tag), Ok(len)) = (tag32, u32::try_from(len)) {
        tagged(output, tag, len.to_be_bytes());
    } else {
        return Err(EncodeError::too_long(FORMAT));
    }
    Ok(())
}
