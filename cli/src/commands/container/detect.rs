//! In which format a container is, by its first bytes. That is good enough for a person who is told so.

use serde_json::json;

use crate::args::FormatName;
use crate::exit::{ExitStatus, Failure};
use crate::output::Output;

/// The format of these bytes, which is told.
pub(super) fn detect(bytes: &[u8], output: Output) -> Result<FormatName, Failure> {
    let Some(from) = format_of(bytes) else {
        let text = "the first bytes do not say which format this is; name it with --from";
        return Err(Failure::new(ExitStatus::Failed, text));
    };
    let name = from.name();
    output.note(
        &json!({ "event": "detected", "format": name }),
        &format!("read as {name}"),
    );
    Ok(from)
}

fn format_of(bytes: &[u8]) -> Option<FormatName> {
    // Before the others: the length may begin with any byte.
    if is_binary(bytes) {
        return Some(FormatName::Binary);
    }
    match (bytes.first()?, bytes.trim_ascii_start().first()) {
        (0x80..=0x8f | 0xde | 0xdf, _) => Some(FormatName::Msgpack),
        (_, Some(b'{')) => Some(kind_of_json(bytes)),
        (_, Some(b'<')) => Some(FormatName::Xml),
        (_, Some(b'@')) => Some(FormatName::Text),
        _ => None,
    }
}

/// A header in JSON behind its length, as four bytes, the lowest first; then a store, which begins with 1.
fn is_binary(bytes: &[u8]) -> bool {
    let Some((len, rest)) = bytes.split_first_chunk() else {
        return false;
    };
    let len = u32::from_le_bytes(*len) as usize;
    rest.first() == Some(&b'{') && rest.get(len) == Some(&1)
}

/// Which of those that are JSON objects: by a key that only one of them has. Nothing of it is kept, and it need
/// not be whole.
fn kind_of_json(text: &[u8]) -> FormatName {
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = text.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                let key = string(text.get(at..).unwrap_or_default());
                at += key.len() + 1;
                let value = value_of_key(text.get(at..).unwrap_or_default());
                match (depth, key, value) {
                    (1, b"container", Some(_)) => return FormatName::Json,
                    (1, b"values", Some(b'[')) => return FormatName::Typed,
                    _ => {}
                }
            }
            _ => {}
        }
    }
    FormatName::CppJson
}

/// What stands before the quotation mark that ends a string.
fn string(text: &[u8]) -> &[u8] {
    let mut is_escaped = false;
    let is_end = |byte: &u8| match byte {
        _ if is_escaped => {
            is_escaped = false;
            false
        }
        b'\\' => {
            is_escaped = true;
            false
        }
        byte => *byte == b'"',
    };
    &text[..text.iter().position(is_end).unwrap_or(text.len())]
}

/// The first byte of the value behind a key, if it was one.
fn value_of_key(text: &[u8]) -> Option<u8> {
    let text = text.trim_ascii_start().strip_prefix(b":")?;
    text.trim_ascii_start().first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_what_only_they_have() {
        let of = |bytes: &[u8]| format_of(bytes);
        assert_eq!(of(b""), None);
        assert_eq!(of(b"hello"), None);
        assert_eq!(of(b"\x82\xa1a"), Some(FormatName::Msgpack));
        assert_eq!(of(b" \n@data={{}};"), Some(FormatName::Text));
        assert_eq!(of(b"<container>"), Some(FormatName::Xml));
        // Inner keys and values are none of the outer ones, and what is not whole is known as well.
        for (text, kind) in [
            (r#" {"container":{"#, FormatName::Json),
            (r#"{"header":{"values":[]},"values":[{"#, FormatName::Typed),
            (
                r#"{"header":{"container":1},"values":{}}"#,
                FormatName::CppJson,
            ),
            (
                r#"{"a\":\"":"container","b":["values"]}"#,
                FormatName::CppJson,
            ),
            (r#"{"unfinished"#, FormatName::CppJson),
        ] {
            assert_eq!(of(text.as_bytes()), Some(kind), "{text}");
        }
        // The length of a header of 128 to 143 bytes looks like the begin of MessagePack.
        for len in [2, 123, 130, 300_u32] {
            let header = format!("{{{}}}", " ".repeat(len as usize - 2));
            let bytes = [&len.to_le_bytes(), header.as_bytes(), &[1, 0, 0, 0, 0]].concat();
            assert_eq!(of(&bytes), Some(FormatName::Binary), "{len}");
        }
    }
}
