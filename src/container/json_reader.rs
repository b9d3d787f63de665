//! A reader of JSON that builds nothing: it walks over a text that is known to be UTF-8, and lends strings from it.
//!
//! Strict RFC 8259. Integers keep all their digits, and every error knows its position; containers nest as deep as
//! the caller allows, and what is skipped is skipped without recursion.

use std::borrow::Cow;

use bytes::Bytes;

use super::{DecodeError, Format, Text};

/// What a value is, by its first character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonKind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

pub(super) struct JsonReader<'a> {
    /// What errors say that it is not.
    format: Format,
    input: &'a Bytes,
    text: &'a str,
    at: usize,
}

type Result<T> = std::result::Result<T, DecodeError>;

impl<'a> JsonReader<'a> {
    /// # Errors
    /// The input is not UTF-8.
    pub(super) fn new(format: Format, input: &'a Bytes) -> Result<Self> {
        match std::str::from_utf8(input) {
            Ok(text) => Ok(JsonReader {
                format,
                input,
                text,
                at: 0,
            }),
            Err(error) => {
                let reason = "this is not UTF-8, which JSON has to be";
                Err(DecodeError::new(format, error.valid_up_to(), reason))
            }
        }
    }

    /// Where the next token is expected.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// An error at the current position.
    pub(super) fn error(&self, reason: &'static str) -> DecodeError {
        self.error_at(self.at, reason)
    }

    pub(super) fn error_at(&self, at: usize, reason: &'static str) -> DecodeError {
        DecodeError::new(self.format, at, reason)
    }

    /// What follows, after white space.
    pub(super) fn kind(&mut self) -> Result<JsonKind> {
        Ok(match self.peek() {
            Some(b'{') => JsonKind::Object,
            Some(b'[') => JsonKind::Array,
            Some(b'"') => JsonKind::String,
            Some(b'-' | b'0'..=b'9') => JsonKind::Number,
            Some(b't' | b'f') => JsonKind::Bool,
            Some(b'n') => JsonKind::Null,
            Some(_) => return Err(self.error("a value should stand here")),
            None => return Err(self.error("the text ends before its value")),
        })
    }

    /// Enters an object. [`key`](Self::key) follows, until it gives none.
    pub(super) fn object(&mut self) -> Result<()> {
        self.expect(b'{', "an object should stand here")
    }

    /// The next key of the object, or none at its end. `is_first` is true before the first call.
    pub(super) fn key(&mut self, is_first: &mut bool) -> Result<Option<Cow<'a, str>>> {
        if !self.has_next(
            is_first,
            b'}',
            "a comma or the end of the object should stand here",
        )? {
            return Ok(None);
        }
        let key = self.string()?;
        self.expect(b':', "a colon should stand here")?;
        Ok(Some(key))
    }

    /// Enters an array. [`element`](Self::element) follows, until it is false.
    pub(super) fn array(&mut self) -> Result<()> {
        self.expect(b'[', "an array should stand here")
    }

    /// Whether another element of the array follows.
    pub(super) fn element(&mut self, is_first: &mut bool) -> Result<bool> {
        self.has_next(
            is_first,
            b']',
            "a comma or the end of the array should stand here",
        )
    }

    pub(super) fn null(&mut self) -> Result<()> {
        self.literal("null")
    }

    pub(super) fn bool(&mut self) -> Result<bool> {
        if self.peek() == Some(b't') {
            self.literal("true").map(|()| true)
        } else {
            self.literal("false").map(|()| false)
        }
    }

    /// The characters of a number, checked.
    pub(super) fn number(&mut self) -> Result<&'a str> {
        self.peek();
        let rest = &self.text.as_bytes()[self.at..];
        let length = number_length(rest)
            .map_err(|at| self.error_at(self.at + at, "this is not a number of JSON"))?;
        let number = &self.text[self.at..self.at + length];
        self.at += length;
        Ok(number)
    }

    /// A string, borrowed unless it has escapes.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>> {
        self.expect(b'"', "a string should stand here")?;
        let mut owned = String::new();
        loop {
            let start = self.at;
            let rest = &self.text.as_bytes()[start..];
            let plain = rest
                .iter()
                .position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
            self.at = start + plain.unwrap_or(rest.len());
            let piece = &self.text[start..self.at];
            match self.text.as_bytes().get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    if owned.is_empty() {
                        return Ok(Cow::Borrowed(piece));
                    }
                    owned.push_str(piece);
                    return Ok(Cow::Owned(owned));
                }
                Some(b'\\') => {
                    owned.push_str(piece);
                    owned.push(self.escape()?);
                }
                Some(_) => return Err(self.error("a control character stands in a string")),
                None => return Err(self.error("the text ends inside a string")),
            }
        }
    }

    /// A string that shares the input, unless it has escapes or is short.
    pub(super) fn shared_text(&mut self) -> Result<Text> {
        let text = self.string()?;
        Ok(self.share(text))
    }

    /// A string of this reader, as one that shares the input, unless it has escapes or is short.
    pub(super) fn share(&self, text: Cow<'a, str>) -> Text {
        match text {
            Cow::Borrowed(text) => {
                let start = text.as_ptr() as usize - self.text.as_ptr() as usize;
                Text::part(self.input, start, start + text.len()).unwrap_or_default()
            }
            Cow::Owned(text) => text.into(),
        }
    }

    /// Goes over a value of any kind.
    ///
    /// # Errors
    /// It is no JSON, or nested more than `depth` levels deep.
    pub(super) fn skip(&mut self, depth: usize) -> Result<()> {
        // Whether each open container is an object.
        let mut open: Vec<bool> = Vec::new();
        loop {
            let mut is_first = false;
            match self.kind()? {
                JsonKind::Object | JsonKind::Array if open.len() >= depth => {
                    return Err(DecodeError::too_deep(self.format, self.at));
                }
                JsonKind::Object => {
                    self.object()?;
                    open.push(true);
                    is_first = true;
                }
                JsonKind::Array => {
                    self.array()?;
                    open.push(false);
                    is_first = true;
                }
                JsonKind::String => drop(self.string()?),
                JsonKind::Number => drop(self.number()?),
                JsonKind::Bool => drop(self.bool()?),
                JsonKind::Null => self.null()?,
            }
            // To the next value of the innermost container that has one.
            loop {
                let Some(is_object) = open.last() else {
                    return Ok(());
                };
                let has_next = if *is_object {
                    self.key(&mut is_first)?.is_some()
                } else {
                    self.element(&mut is_first)?
                };
                if has_next {
                    break;
                }
                open.pop();
                is_first = false;
            }
        }
    }

    /// The end of the text.
    pub(super) fn end(&mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.error("something follows the value")),
        }
    }

    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn expect(&mut self, byte: u8, reason: &'static str) -> Result<()> {
        if self.peek() != Some(byte) {
            return Err(self.error(reason));
        }
        self.at += 1;
        Ok(())
    }

    fn has_next(&mut self, is_first: &mut bool, end: u8, reason: &'static str) -> Result<bool> {
        if self.peek() == Some(end) {
            self.at += 1;
            return Ok(false);
        }
        if !std::mem::take(is_first) {
            self.expect(b',', reason)?;
        }
        Ok(true)
    }

    fn literal(&mut self, text: &str) -> Result<()> {
        self.peek();
        if !self.text[self.at..].starts_with(text) {
            return Err(self.error("a value should stand here"));
        }
        self.at += text.len();
        Ok(())
    }

    /// What an escape stands for; the backslash is next.
    fn escape(&mut self) -> Result<char> {
        let bytes = self.text.as_bytes();
        let escaped = match bytes.get(self.at + 1) {
            Some(quoted @ (b'"' | b'\\' | b'/')) => char::from(*quoted),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return Err(self.error("JSON has no such escape")),
        };
        self.at += 2;
        Ok(escaped)
    }

    fn unicode_escape(&mut self) -> Result<char> {
        let reason = "this escape is not a character";
        let high = self.code_unit().ok_or_else(|| self.error(reason))?;
        let mut length = 6;
        let mut code = u32::from(high);
        if (0xd800..0xdc00).contains(&high) {
            self.at += 6;
            let low = self.code_unit();
            self.at -= 6;
            let low = low
                .filter(|low| (0xdc00..0xe000).contains(low))
                .ok_or_else(|| self.error(reason))?;
            code = 0x1_0000 + ((code - 0xd800) << 10) + (u32::from(low) - 0xdc00);
            length = 12;
        }
        let character = char::from_u32(code).ok_or_else(|| self.error(reason))?;
        self.at += length;
        Ok(character)
    }

    /// The number of a `\uXXXX` that is next.
    fn code_unit(&self) -> Option<u16> {
        let digits = self.text.as_bytes().get(self.at..self.at + 6)?;
        let digits = digits.strip_prefix(b"\\u")?;
        let mut number = 0;
        for digit in digits {
            number = number << 4 | char::from(*digit).to_digit(16)? as u16;
        }
        Some(number)
    }
}

/// How long the number at the start of `text` is, or where it stops to be one.
fn number_length(text: &[u8]) -> std::result::Result<usize, usize> {
    let digits = |at: usize| {
        let count = text[at..].iter().take_while(|byte| byte.is_ascii_digit());
        match count.count() {
            0 => Err(at),
            count => Ok(at + count),
        }
    };
    let mut at = usize::from(text.first() == Some(&b'-'));
    let first = at;
    at = digits(at)?;
    if text[first] == b'0' && at > first + 1 {
        return Err(first);
    }
    if text.get(at) == Some(&b'.') {
        at = digits(at + 1)?;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = text.get(at) {
            at += 1;
        }
        at = digits(at)?;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn skip(text: &[u8]) -> Result<()> {
        let input = Bytes::copy_from_slice(text);
        let mut reader = JsonReader::new(Format::Json, &input)?;
        reader.skip(64)?;
        reader.end()
    }

    fn refused_at(text: &str) -> usize {
        match skip(text.as_bytes()) {
            Ok(()) => panic!("{text} was read"),
            Err(error) => error.position(),
        }
    }

    #[test]
    fn errors_say_where_they_are() {
        for (text, at) in [
            ("", 0),
            (" ", 1),
            ("nul", 0),
            ("01", 0),
            ("-", 1),
            ("1.", 2),
            ("1e+", 3),
            ("[1,]", 3),
            ("[1 2]", 3),
            ("{\"a\" 1}", 5),
            ("{\"a\":1,}", 7),
            ("{1:2}", 1),
            ("\"a\u{1}\"", 2),
            ("\"a", 2),
            ("\"\\x\"", 1),
            ("\"\\ud800\"", 1),
            ("\"\\udc00\"", 1),
            ("\"\\u12", 1),
            ("1 1", 2),
            ("\u{feff}1", 0),
        ] {
            assert_eq!(refused_at(text), at, "{text:?}");
        }
        assert_eq!(skip(b"\"\xff\"").map_err(|error| error.position()), Err(1));
    }

    #[test]
    fn what_is_nested_deeper_than_allowed_is_refused() {
        let nested = |depth| [vec![b'['; depth], vec![b']'; depth]].concat();
        assert!(skip(&nested(64)).is_ok());
        assert!(skip(&nested(65)).is_err());
        assert!(skip(&vec![b'['; 10 << 20]).is_err());
    }

    proptest! {
        /// serde_json is the oracle of what is JSON, and of what strings mean.
        #[test]
        fn what_is_json_is_what_serde_json_says(text in r#"[\[\]{}:,"\\/bu0-9ad.eE+\- \ntrufalsn]{0,16}"#) {
            // Of numbers it refuses those beyond a double, too.
            let oracle = serde_json::from_str::<serde::de::IgnoredAny>(&text);
            prop_assert_eq!(skip(text.as_bytes()).is_ok(), oracle.is_ok(), "{}", text);
        }

        #[test]
        fn strings_mean_what_serde_json_says(inner in r#"([a-zä€🚀 ]|\\[\\"/bfnrtu]|[0-9a-f]{4}|\\ud83d\\ude80){0,8}"#) {
            let text = Bytes::from(format!("\"{inner}\""));
            let oracle = serde_json::from_slice::<String>(&text).ok();
            let mut reader = JsonReader::new(Format::Json, &text).expect("UTF-8");
            let read = reader.string().and_then(|read| reader.end().map(|()| read.into_owned()));
            prop_assert_eq!(read.ok(), oracle, "{}", inner);
        }

        #[test]
        fn what_is_written_is_read(text: String) {
            let mut written = Vec::new();
            super::super::json_writer::string(&mut written, &text);
            let written = Bytes::from(written);
            let mut reader = JsonReader::new(Format::Json, &written).expect("UTF-8");
            prop_assert_eq!(reader.shared_text().ok(), Some(Text::from(&text)));
            prop_assert_eq!(serde_json::to_string(&text).ok().map(Bytes::from), Some(written.clone()));
        }
    }
}
