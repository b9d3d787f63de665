//! XML as the C++ library writes it, without types: `<container><header>…</header><values>…</values></container>`.
//!
//! It is only written, as there. Names are tags, so that a name has to be one.

use std::io::Write;

use bytes::Bytes;

use super::{
    Container, DecodeError, DecodeOptions, EncodeError, Format, Text, Value, carriers, scalars,
};

pub(super) fn encode(container: &Container, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.extend_from_slice(b"<container><header>");
    for (_, key, text) in container.header.fields() {
        // Writing to a vector does not fail.
        let _ = write!(out, "<{key}>");
        content(text, carriers::of_field(text.as_bytes()), out)
            .map_err(|error| error.inside(&key.into()))?;
        let _ = write!(out, "</{key}>");
    }
    out.extend_from_slice(b"</header><values>");
    for (name, value) in container {
        element(name, value, out).map_err(|error| error.inside(name))?;
    }
    out.extend_from_slice(b"</values></container>");
    Ok(())
}

pub(super) fn decode(_: &Bytes, _: &DecodeOptions) -> Result<Container, DecodeError> {
    Err(DecodeError::not_supported(Format::Xml))
}

fn element(name: &Text, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let tag = name.as_str().filter(|name| is_tag(name)).ok_or_else(|| {
        refuse(
            "a name that is no tag",
            carriers::of_string(name.as_bytes()),
        )
    })?;
    let _ = write!(out, "<{tag}>");
    match value {
        Value::Null => {}
        Value::String(text) => content(text, carriers::of_value(value), out)?,
        _ => scalars::write(value, out).map_err(|what| refuse(what, carriers::of_value(value)))?,
    }
    let _ = write!(out, "</{tag}>");
    Ok(())
}

/// Text between tags. A carriage return is refused, too: whoever reads XML makes a line feed of it.
fn content(text: &Text, carriers: &'static [Format], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let Some(text) = text.as_str() else {
        return Err(refuse("a string that is not UTF-8", carriers));
    };
    let is_refused = |letter: char| {
        letter < ' ' && !matches!(letter, '\t' | '\n') || matches!(letter, '\u{fffe}' | '\u{ffff}')
    };
    if text.contains(is_refused) {
        return Err(refuse("a string with control characters", carriers));
    }
    for byte in text.bytes() {
        match byte {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            b'\'' => out.extend_from_slice(b"&apos;"),
            _ => out.push(byte),
        }
    }
    Ok(())
}

/// Whether a name is one of XML, without a colon, which would be a namespace that nobody declares.
fn is_tag(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(is_start)
        && letters.all(|letter| is_start(letter) || is_inner(letter))
}

fn is_start(letter: char) -> bool {
    matches!(letter,
        'A'..='Z' | 'a'..='z' | '_'
        | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
        | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}' | '\u{200d}'
        | '\u{2070}'..='\u{218f}' | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}'
        | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}' | '\u{10000}'..='\u{effff}')
}

fn is_inner(letter: char) -> bool {
    matches!(letter,
        '-' | '.' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}' | '\u{2040}')
}

fn refuse(what: &'static str, carriers: &'static [Format]) -> EncodeError {
    EncodeError::new(Format::Xml, what, carriers)
}
