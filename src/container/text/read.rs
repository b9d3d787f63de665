//! Reading text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::super::c_numbers::{self, Refused, is_space};
use super::super::{Container, DecodeError, DecodeOptions, Format, Header, Text, Value, ValueType};
use super::TextDialect;
use super::escapes::{from_hex, unescape_legacy, unescape_python};

pub(in super::super) fn decode(
    input: &Bytes,
    options: &DecodeOptions,
) -> Result<Container, DecodeError> {
    let mut reader = Reader {
        input,
        at: 0,
        options,
        has_symbols: None,
        is_python: false,
        count: 0,
    };
    let mut header = None;
    let mut values = None;
    loop {
        reader.skip_space();
        if reader.at == input.len() {
            break;
        }
        if header.is_none() && reader.take(b"@header=") {
            header = Some(reader.header()?);
        } else if values.is_none() && reader.take(b"@data=") {
            values = Some(reader.data()?);
        } else {
            return Err(
                reader.error("one section for the header and one for the data should stand here")
            );
        }
    }
    match values {
        Some(values) => Ok(Container::from_parts(
            header.unwrap_or_else(Header::before_reading),
            values,
        )),
        None => Err(reader.error("there is no data section")),
    }
}

struct Reader<'a> {
    input: &'a Bytes,
    at: usize,
    options: &'a DecodeOptions,
    /// Whether types are names in this text; unknown before the first one.
    has_symbols: Option<bool>,
    /// Whether the header section ends as only the Python port ends it.
    is_python: bool,
    /// How many values there were.
    count: usize,
}

/// What the brackets around a value say.
struct Item {
    name: Text,
    value_type: ValueType,
    dialect: TextDialect,
    /// Where the value's text is.
    start: usize,
    end: usize,
}

/// A container or array whose values follow it.
struct Open {
    item: Item,
    missing: u64,
    names: Vec<Text>,
    values: Vec<Value>,
}

impl<'a> Reader<'a> {
    /// The header section, from its first brace on.
    fn header(&mut self) -> Result<Header, DecodeError> {
        let mut header = Header::before_reading();
        let mut seen = [false; 7];
        let braces = self.open_section()?;
        while self.next_item(braces)? {
            let start = self.at;
            let id = self.word()?;
            let (from, to) = self.until_end_of_item()?;
            let number = match id {
                [digit @ b'1'..=b'6'] => usize::from(digit - b'0'),
                _ => continue,
            };
            // Readers of the family take the last one; two of them is what an id with `];[` in it becomes.
            if std::mem::replace(&mut seen[number], true) {
                return Err(self.error_at(start, "this field of the header stands there twice"));
            }
            let text = self.text(from, to);
            let bytes = text.as_bytes();
            let front = bytes.iter().take_while(|byte| **byte == b' ').count();
            let back = bytes[front..]
                .iter()
                .rev()
                .take_while(|byte| **byte == b' ');
            let back = back.count();
            let text = self.text(from + front, to - back);
            match number {
                1 => header.target = text,
                2 => header.target_sub = text,
                3 => header.source = text,
                4 => header.source_sub = text,
                5 => header.message_type = text,
                _ => header.version = text,
            }
        }
        if !self.take(b";") {
            self.skip_space();
            if !self.input[self.at..].starts_with(b"@data=") {
                return Err(self.error("the section should end with a semicolon"));
            }
            self.is_python = true;
        }
        Ok(header)
    }

    /// The data section, from its first brace on.
    fn data(&mut self) -> Result<Vec<(Text, Value)>, DecodeError> {
        let mut values = Vec::new();
        let mut open: Vec<Open> = Vec::new();
        let braces = self.open_section()?;
        while self.next_item(braces)? {
            self.count += 1;
            if self.count > self.options.max_values {
                return Err(DecodeError::too_many(Format::Text, self.at));
            }
            let item = self.item()?;
            let is_element = open
                .last()
                .is_some_and(|open| open.item.value_type == ValueType::Array);
            if is_element && !item.name.is_empty() {
                return Err(self.error_at(item.start, "an element of an array has a name"));
            }
            let mut done = match self.children(&item)? {
                None => {
                    let value = self.value(&item);
                    let value = value.map_err(|error| error.inside(&item.name))?;
                    (item.name, value)
                }
                Some(missing) => {
                    if open.len() + 1 >= self.options.depth() {
                        return Err(DecodeError::too_deep(Format::Text, item.start));
                    }
                    open.push(Open {
                        item,
                        missing,
                        names: Vec::new(),
                        values: Vec::new(),
                    });
                    match close(&mut open) {
                        Some(done) => done,
                        None => continue,
                    }
                }
            };
            // To the innermost container that waits for values, and out of those that are complete.
            loop {
                let Some(parent) = open.last_mut() else {
                    values.push(done);
                    break;
                };
                parent.names.push(done.0);
                parent.values.push(done.1);
                parent.missing -= 1;
                match close(&mut open) {
                    Some(next) => done = next,
                    None => break,
                }
            }
        }
        if let Some(open) = open.pop() {
            let error = self.error("values that were counted are missing");
            return Err(error.inside(&open.item.name));
        }
        if !self.take(b";") {
            return Err(self.error("the section should end with a semicolon"));
        }
        Ok(values)
    }

    /// A name, a type, and where the value is; the opening bracket is behind.
    fn item(&mut self) -> Result<Item, DecodeError> {
        let start = self.at;
        let end = self.find(b",", "a name and a comma should stand here")?;
        let is_odd =
            |byte: &u8| matches!(byte, b'[' | b']' | b'{' | b'}' | b';' | 0x7f) || *byte < b' ';
        let name = &self.input[start..end];
        if name.iter().any(is_odd) || name.starts_with(b" ") || name.ends_with(b" ") {
            return Err(self.error_at(start, "this is no name of a value"));
        }
        let name = self.text(start, end);
        self.skip_space();
        let type_start = self.at;
        let word = self.word().map_err(|error| error.inside(&name))?;
        let (value_type, dialect) = self
            .value_type(word)
            .map_err(|reason| self.error_at(type_start, reason).inside(&name))?;
        self.skip_space();
        let found = match dialect {
            TextDialect::Python => self.until_unescaped_end(),
            _ => self.until_end_of_item(),
        };
        let (start, end) = found.map_err(|error| error.inside(&name))?;
        Ok(Item {
            name,
            value_type,
            dialect,
            start,
            end,
        })
    }

    /// What a type means, and in whose dialect.
    fn value_type(&mut self, word: &[u8]) -> Result<(ValueType, TextDialect), Refused> {
        let symbol = word
            .strip_suffix(b"_value")
            .and_then(|name| std::str::from_utf8(name).ok())
            .and_then(ValueType::from_name);
        let is_symbol = symbol.is_some();
        if *self.has_symbols.get_or_insert(is_symbol) != is_symbol {
            return Err("types by name and by number stand in one text");
        }
        let dialect = match self.options.text_dialect {
            TextDialect::Detect if is_symbol && self.is_python => {
                return Err("the header is of the Python port, and the type is not");
            }
            TextDialect::Detect if is_symbol => TextDialect::Ports,
            TextDialect::Detect if self.is_python => TextDialect::Python,
            chosen => chosen,
        };
        if is_symbol != (dialect == TextDialect::Ports) {
            return Err("this type is not of the chosen dialect, or unknown");
        }
        let number = match word {
            [digit @ b'0'..=b'9'] => Some(digit - b'0'),
            [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
            [letter @ b'a'..=b'e'] if dialect == TextDialect::CppLegacy => Some(10 + letter - b'a'),
            _ => None,
        };
        let number = match number {
            Some(12) if dialect == TextDialect::CppLegacy => Some(13),
            Some(13) if dialect == TextDialect::CppLegacy => Some(12),
            number => number,
        };
        let value_type = symbol.or_else(|| number.and_then(ValueType::from_id));
        value_type
            .map(|value_type| (value_type, dialect))
            .ok_or("there is no such type")
    }

    /// How many of the items that follow are inside this one, where that is what a dialect writes.
    fn children(&self, item: &Item) -> Result<Option<u64>, DecodeError> {
        let has_children = matches!(item.value_type, ValueType::Container | ValueType::Array)
            && matches!(item.dialect, TextDialect::CppLegacy | TextDialect::Python);
        if !has_children {
            return Ok(None);
        }
        c_numbers::read_integer(self.bytes(item))
            .map(Some)
            .map_err(|_| {
                let error = self.error_at(item.start, "the number of values should stand here");
                error.inside(&item.name)
            })
    }

    fn value(&self, item: &Item) -> Result<Value, DecodeError> {
        let bytes = self.bytes(item);
        let number = |value: Result<Value, Refused>| {
            value.map_err(|reason| {
                let text = format!("this {} {reason}", item.value_type);
                DecodeError::new(Format::Text, item.start, text)
            })
        };
        let wrong = |reason: Refused| Err(self.error_at(item.start, reason));
        match item.value_type {
            ValueType::Null => match bytes {
                b"" | b"null" => Ok(Value::Null),
                _ => wrong("a null has a content"),
            },
            ValueType::Bool => match bytes {
                b"true" | b"1" => Ok(Value::Bool(true)),
                b"false" | b"0" => Ok(Value::Bool(false)),
                _ => wrong("this bool is neither true nor false"),
            },
            ValueType::Short => number(c_numbers::read_integer(bytes).map(Value::Short)),
            ValueType::UShort => number(c_numbers::read_integer(bytes).map(Value::UShort)),
            ValueType::Int => number(c_numbers::read_integer(bytes).map(Value::Int)),
            ValueType::UInt => number(c_numbers::read_integer(bytes).map(Value::UInt)),
            ValueType::Long => number(c_numbers::read_integer(bytes).map(Value::Long)),
            ValueType::ULong => number(c_numbers::read_integer(bytes).map(Value::ULong)),
            ValueType::LLong => number(c_numbers::read_integer(bytes).map(Value::LLong)),
            ValueType::ULLong => number(c_numbers::read_integer(bytes).map(Value::ULLong)),
            ValueType::Float => number(c_numbers::read_f32(bytes).map(Value::Float)),
            ValueType::Double => number(c_numbers::read_f64(bytes).map(Value::Double)),
            ValueType::String => Ok(Value::String(match item.dialect {
                TextDialect::CppLegacy if bytes.contains(&b'<') => unescape_legacy(bytes).into(),
                TextDialect::Python if bytes.contains(&b']') => unescape_python(bytes).into(),
                _ => self.text(item.start, item.end),
            })),
            ValueType::Bytes => match item.dialect {
                _ if bytes.is_empty() => Ok(Value::Bytes(Bytes::new())),
                TextDialect::Detect => {
                    wrong("bytes are written in several ways; their dialect has to be chosen")
                }
                TextDialect::Cpp => Ok(Value::Bytes(self.input.slice(item.start..item.end))),
                TextDialect::CppLegacy | TextDialect::Python => match STANDARD.decode(bytes) {
                    Ok(decoded) => Ok(Value::Bytes(decoded.into())),
                    Err(_) => wrong("these bytes are not in base64"),
                },
                TextDialect::Ports => match from_hex(bytes) {
                    Some(decoded) => Ok(Value::Bytes(decoded.into())),
                    None => wrong("these bytes are not in hexadecimal digits"),
                },
            },
            ValueType::Array if item.dialect == TextDialect::Ports && bytes == b"0" => {
                Ok(Value::Array(Vec::new()))
            }
            ValueType::Container | ValueType::Array => {
                wrong("what is in it is not in the text: its writer has left it out")
            }
        }
    }

    /// Goes over the braces that open a section, and counts them. Builds of the C++ library differ in their number.
    fn open_section(&mut self) -> Result<usize, DecodeError> {
        self.skip_space();
        let rest = &self.input[self.at..];
        let braces = rest.iter().take(5).take_while(|byte| **byte == b'{');
        let braces = braces.count();
        if !matches!(braces, 1 | 2 | 4) {
            return Err(self.error("one, two or four braces should stand here"));
        }
        self.at += braces;
        Ok(braces)
    }

    /// Goes over the opening bracket of an item, or over the braces at the end of the section.
    fn next_item(&mut self, braces: usize) -> Result<bool, DecodeError> {
        self.skip_space();
        if self.take(b"[") {
            return Ok(true);
        }
        if self.take(&b"}}}}"[..braces]) {
            return Ok(false);
        }
        Err(self.error("an item in brackets, or the braces at the end, should stand here"))
    }

    /// A word of letters, digits and `_`, and the comma behind it.
    fn word(&mut self) -> Result<&'a [u8], DecodeError> {
        let start = self.at;
        let rest = &self.input[start..];
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let length = rest.iter().take_while(|byte| is_word(byte)).count();
        self.at += length;
        if length == 0 || !self.take(b",") {
            return Err(self.error("a number or a name, and a comma, should stand here"));
        }
        Ok(&self.input[start..start + length])
    }

    /// Where the text up to the end of the item is.
    fn until_end_of_item(&mut self) -> Result<(usize, usize), DecodeError> {
        let start = self.at;
        let end = self.find(b"];", "the item does not end")?;
        self.check(start, end)?;
        Ok((start, end))
    }

    /// As [`until_end_of_item`](Self::until_end_of_item), in the Python port's dialect.
    fn until_unescaped_end(&mut self) -> Result<(usize, usize), DecodeError> {
        let start = self.at;
        loop {
            let end = self.find(b"];", "the item does not end")?;
            if end == start || self.input[end - 1] != b'\\' {
                self.check(start, end)?;
                return Ok((start, end));
            }
            if self.options.text_dialect == TextDialect::Detect {
                return Err(self.error_at(
                    end - 1,
                    "a backslash may be an escape of the Python port; the dialect has to be chosen",
                ));
            }
        }
    }

    /// Refuses what readers of the family cut off or delete.
    fn check(&self, start: usize, end: usize) -> Result<(), DecodeError> {
        let text = &self.input[start..end];
        let is_break = |byte: &u8| matches!(byte, b'\r' | b'\n');
        if let Some(at) = text.iter().position(is_break) {
            return Err(self.error_at(start + at, "a line break stands in an item"));
        }
        match text.windows(2).position(|pair| pair == b"};") {
            Some(at) => Err(self.error_at(start + at, "the end of a section stands in an item")),
            None => Ok(()),
        }
    }

    /// Where `mark` is next; goes behind it.
    fn find(&mut self, mark: &[u8], reason: Refused) -> Result<usize, DecodeError> {
        let rest = &self.input[self.at..];
        match rest.windows(mark.len()).position(|part| part == mark) {
            Some(length) => {
                let found = self.at + length;
                self.at = found + mark.len();
                Ok(found)
            }
            None => Err(self.error(reason)),
        }
    }

    fn take(&mut self, mark: &[u8]) -> bool {
        let found = self.input[self.at..].starts_with(mark);
        if found {
            self.at += mark.len();
        }
        found
    }

    fn skip_space(&mut self) {
        let rest = &self.input[self.at..];
        self.at += rest.iter().take_while(|byte| is_space(**byte)).count();
    }

    fn bytes(&self, item: &Item) -> &'a [u8] {
        &self.input[item.start..item.end]
    }

    fn text(&self, start: usize, end: usize) -> Text {
        Text::part(self.input, start, end).unwrap_or_default()
    }

    fn error(&self, reason: Refused) -> DecodeError {
        self.error_at(self.at, reason)
    }

    fn error_at(&self, at: usize, reason: Refused) -> DecodeError {
        DecodeError::new(Format::Text, at, reason)
    }
}

/// The innermost container or array, when all of its values are there.
fn close(open: &mut Vec<Open>) -> Option<(Text, Value)> {
    let complete = open.pop_if(|open| open.missing == 0)?;
    let value = match complete.item.value_type {
        ValueType::Array => Value::Array(complete.values),
        _ => {
            let values = complete.names.into_iter().zip(complete.values).collect();
            Value::from(Container::from_parts(Header::default(), values))
        }
    };
    Some((complete.item.name, value))
}
