//! Reading MessagePack.

use bytes::Bytes;

use super::{BEGIN, FORMAT};
use crate::container::{Container, DecodeError, DecodeOptions, Header, Text, Value};

type Result<T> = std::result::Result<T, DecodeError>;

/// How many values are made room for at once. The room beyond follows what has really been read, so that small
/// inputs with large counts on many levels take little.
const RESERVE: usize = 64;

/// A position in the input.
pub(super) struct Reader<'a> {
    /// The whole input, which long texts and bytes share.
    source: &'a Bytes,
    /// The input up to where the container ends that is being read.
    input: &'a [u8],
    at: usize,
    options: &'a DecodeOptions,
    values_left: usize,
    /// Whether everything so far is as the writer would have written it.
    is_canonical: bool,
    /// Whether the error is about a limit, which is not to be taken for bytes that are no container.
    is_over_limit: bool,
}

/// Whether a reader would take bytes that lie in a container or array on level `depth` for a container, or
/// would refuse them for being nested too deep.
pub(super) fn is_container(bytes: &Bytes, depth: usize) -> bool {
    if !bytes.starts_with(BEGIN) {
        return false;
    }
    let options = DecodeOptions::default();
    let mut reader = Reader::new(bytes, &options);
    !matches!(reader.nested(bytes.len(), depth), Ok(None))
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a Bytes, options: &'a DecodeOptions) -> Self {
        Reader {
            source,
            input: source,
            at: 0,
            options,
            values_left: options.max_values,
            is_canonical: true,
            is_over_limit: false,
        }
    }

    /// Reads all of the input as one container.
    pub(super) fn document(mut self) -> Result<Container> {
        let mut container = Container::before_reading();
        self.container(&mut container, 1)?;
        if self.at < self.input.len() {
            return Err(self.error(self.at, "bytes behind the end"));
        }
        Ok(container)
    }

    #[cold]
    fn error(&self, at: usize, what: &'static str) -> DecodeError {
        DecodeError::new(FORMAT, at, what)
    }

    #[cold]
    fn ended(&self) -> DecodeError {
        self.error(self.input.len(), "the input ends in the middle")
    }

    /// Reads the next bytes, a number of them that is known beforehand.
    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some(bytes) = self
            .input
            .get(self.at..)
            .and_then(|rest| rest.first_chunk())
        else {
            return Err(self.ended());
        };
        self.at += N;
        Ok(*bytes)
    }

    #[inline(always)]
    fn byte(&mut self) -> Result<u8> {
        let Some(&byte) = self.input.get(self.at) else {
            return Err(self.ended());
        };
        self.at += 1;
        Ok(byte)
    }

    /// Goes on behind `expected` if it is what follows.
    #[inline(always)]
    fn skip(&mut self, expected: &[u8]) -> bool {
        let found = self.input[self.at..].starts_with(expected);
        if found {
            self.at += expected.len();
        }
        found
    }

    /// Reads a length of 8, 16 or 32 bits. `least` is the first length that needs so many.
    #[inline(always)]
    fn length<const N: usize>(&mut self, least: usize) -> Result<usize> {
        let mut wide = [0; 8];
        wide[8 - N..].copy_from_slice(&self.array::<N>()?);
        let length = u64::from_be_bytes(wide) as usize;
        self.is_canonical &= length >= least;
        Ok(length)
    }

    /// The end of the next `len` bytes, which are there.
    #[inline(always)]
    fn end_of(&self, len: usize) -> Result<usize> {
        match self.at.checked_add(len) {
            Some(end) if end <= self.input.len() => Ok(end),
            _ => Err(self.ended()),
        }
    }

    /// Reads the entries' number of a map.
    fn map(&mut self, what: &'static str) -> Result<usize> {
        let start = self.at;
        match self.byte()? {
            tag @ 0x80..=0x8f => Ok(usize::from(tag & 0x0f)),
            0xde => self.length::<2>(16),
            0xdf => self.length::<4>(1 << 16),
            _ => Err(self.error(start, what)),
        }
    }

    /// Reads the length of a string, which follows.
    #[inline(always)]
    fn text_length(&mut self, what: &'static str) -> Result<usize> {
        let start = self.at;
        match self.byte()? {
            tag @ 0xa0..=0xbf => Ok(usize::from(tag & 0x1f)),
            0xd9 => self.length::<1>(32),
            0xda => self.length::<2>(1 << 8),
            0xdb => self.length::<4>(1 << 16),
            _ => Err(self.error(start, what)),
        }
    }

    /// Reads a key of this format's own.
    fn key(&mut self) -> Result<&'a [u8]> {
        let len = self.text_length("a key that is no string")?;
        let end = self.end_of(len)?;
        let start = std::mem::replace(&mut self.at, end);
        Ok(&self.input[start..end])
    }

    /// Reads a string into `text`.
    #[inline(always)]
    fn text(&mut self, text: &mut Text, what: &'static str) -> Result<()> {
        let len = self.text_length(what)?;
        self.text_of(len, text)
    }

    #[inline(always)]
    fn text_of(&mut self, len: usize, text: &mut Text) -> Result<()> {
        let (start, end) = (self.at, self.end_of(len)?);
        self.at = end;
        match text.set_part(self.source, start, end) {
            true => Ok(()),
            false => Err(self.ended()),
        }
    }

    /// Reads a string as a value.
    #[inline(always)]
    fn string(&mut self, len: usize, value: &mut Value) -> Result<()> {
        *value = Value::String(Text::new());
        match value {
            Value::String(text) => self.text_of(len, text),
            _ => Ok(()),
        }
    }

    /// Reads a container on level `depth` into a new one. What is read is put where it stays: moving values
    /// that have just been written in parts is what costs the most here.
    fn container(&mut self, container: &mut Container, depth: usize) -> Result<()> {
        let entries = self.map("no map")?;
        self.is_canonical &= entries == 2;
        let (mut has_header, mut has_values) = (false, false);
        for _ in 0..entries {
            let at = self.at;
            let key = self.key()?;
            match key {
                b"header" if !has_header => {
                    self.is_canonical &= !has_values;
                    has_header = true;
                    self.header(&mut container.header)?;
                }
                b"values" if !has_values => {
                    has_values = true;
                    self.values(&mut container.values, depth)?;
                }
                b"header" | b"values" => return Err(self.error(at, "a key stands there twice")),
                _ => return Err(self.error(at, "a key other than header and values")),
            }
        }
        self.is_canonical &= has_header && has_values;
        Ok(())
    }

    fn header(&mut self, header: &mut Header) -> Result<()> {
        let entries = self.map("a header that is no map")?;
        let mut seen = 0_u8;
        if entries == 6 && self.header_in_order(header)? {
            seen = 0b11_1111;
        } else {
            for _ in 0..entries {
                self.field(header, &mut seen)?;
            }
        }
        self.is_canonical &= match header.has_ids() {
            true => seen == 0b11_1111,
            false => seen == 0b11_0000,
        };
        Ok(())
    }

    /// Reads the header as writers write it, unless it begins otherwise. Once it has begun so, it must go on so
    /// to be canonical; a field in another place is left to [`field`](Self::field).
    #[inline(always)]
    fn header_in_order(&mut self, header: &mut Header) -> Result<bool> {
        let start = self.at;
        macro_rules! next {
            ($key:literal, $field:ident) => {
                if !self.skip($key) {
                    self.at = start;
                    return Ok(false);
                }
                self.field_text(&mut header.$field)
                    .map_err(|error| error.inside(&Text::from(&$key[1..])))?;
            };
        }
        next!(b"\xa9target_id", target);
        next!(b"\xadtarget_sub_id", target_sub);
        next!(b"\xa9source_id", source);
        next!(b"\xadsource_sub_id", source_sub);
        next!(b"\xacmessage_type", message_type);
        next!(b"\xa7version", version);
        Ok(true)
    }

    #[inline(always)]
    fn field_text(&mut self, field: &mut Text) -> Result<()> {
        self.text(field, "a header field that is no string")
    }

    /// Reads one field of the header, in any order, each once.
    fn field(&mut self, header: &mut Header, seen: &mut u8) -> Result<()> {
        let at = self.at;
        let key = self.key()?;
        let Some((bit, field)) = header.field_mut(key) else {
            return Err(self
                .error(at, "an unknown header field")
                .inside(&key.into()));
        };
        // Each comes after those with lower numbers.
        self.is_canonical &= *seen < bit;
        if *seen & bit != 0 {
            return Err(self
                .error(at, "a header field that stands there twice")
                .inside(&key.into()));
        }
        *seen |= bit;
        self.field_text(field)
            .map_err(|error| error.inside(&key.into()))
    }

    fn values(&mut self, values: &mut Vec<(Text, Value)>, depth: usize) -> Result<()> {
        let entries = self.map("values that are no map")?;
        self.take(entries)?;
        while values.len() < entries {
            let begun = values.len();
            make_room(values, entries, || (Text::new(), Value::Null));
            for (name, value) in &mut values[begun..] {
                self.text(name, "a name that is no string")?;
                if let Err(error) = self.value(value, depth) {
                    return Err(error.inside(name));
                }
            }
        }
        Ok(())
    }

    /// Counts values against the limit.
    #[inline(always)]
    fn take(&mut self, values: usize) -> Result<()> {
        match self.values_left.checked_sub(values) {
            Some(left) => {
                self.values_left = left;
                Ok(())
            }
            None => {
                self.is_over_limit = true;
                Err(DecodeError::too_many(FORMAT, self.at))
            }
        }
    }

    /// Counts a level more than `depth`.
    #[inline(always)]
    fn enter(&mut self, depth: usize) -> Result<usize> {
        if depth >= self.options.depth() {
            self.is_over_limit = true;
            return Err(DecodeError::too_deep(FORMAT, self.at));
        }
        Ok(depth + 1)
    }

    /// Reads a value that lies in a container or array on level `depth`.
    #[inline]
    fn value(&mut self, value: &mut Value, depth: usize) -> Result<()> {
        let start = self.at;
        match self.byte()? {
            tag @ 0x00..=0x7f => *value = Value::Int(tag.into()),
            tag @ 0xe0..=0xff => *value = Value::Int((tag as i8).into()),
            tag @ 0xa0..=0xbf => self.string(usize::from(tag & 0x1f), value)?,
            0xd9 => self.long_text::<1>(32, value)?,
            0xda => self.long_text::<2>(1 << 8, value)?,
            0xdb => self.long_text::<4>(1 << 16, value)?,
            0xc0 => *value = Value::Null,
            0xc2 => *value = Value::Bool(false),
            0xc3 => *value = Value::Bool(true),
            0xca => *value = Value::Float(f32::from_bits(u32::from_be_bytes(self.array()?))),
            0xcb => *value = Value::Double(f64::from_bits(u64::from_be_bytes(self.array()?))),
            0xcc => {
                let number = self.byte()?;
                self.is_canonical &= number >= 128;
                *value = Value::Int(number.into());
            }
            0xcd => {
                let number = u16::from_be_bytes(self.array()?);
                self.is_canonical &= number >= 1 << 8;
                *value = Value::Int(number.into());
            }
            0xce => {
                let number = u32::from_be_bytes(self.array()?);
                self.is_canonical &= number >= 1 << 16;
                *value = integer(number.into());
            }
            0xcf => {
                let number = u64::from_be_bytes(self.array()?);
                self.is_canonical &= number >= 1 << 32;
                *value = match i64::try_from(number) {
                    Ok(number) => integer(number),
                    Err(_) => Value::ULLong(number),
                };
            }
            0xd0 => {
                let number = i8::from_be_bytes(self.array()?);
                self.is_canonical &= number < -32;
                *value = Value::Int(number.into());
            }
            0xd1 => {
                let number = i16::from_be_bytes(self.array()?);
                self.is_canonical &= number < i8::MIN.into();
                *value = Value::Int(number.into());
            }
            0xd2 => {
                let number = i32::from_be_bytes(self.array()?);
                self.is_canonical &= number < i16::MIN.into();
                *value = Value::Int(number);
            }
            0xd3 => {
                let number = i64::from_be_bytes(self.array()?);
                self.is_canonical &= number < i32::MIN.into();
                *value = integer(number);
            }
            0xc4 => self.bin::<1>(0, value, depth)?,
            0xc5 => self.bin::<2>(1 << 8, value, depth)?,
            0xc6 => self.bin::<4>(1 << 16, value, depth)?,
            tag @ 0x90..=0x9f => self.list(usize::from(tag & 0x0f), value, depth)?,
            0xdc => {
                let len = self.length::<2>(16)?;
                self.list(len, value, depth)?;
            }
            0xdd => {
                let len = self.length::<4>(1 << 16)?;
                self.list(len, value, depth)?;
            }
            0x80..=0x8f | 0xde | 0xdf => return Err(self.error(start, "a map as a value")),
            0xc7..=0xc9 | 0xd4..=0xd8 => return Err(self.error(start, "an extension as a value")),
            0xc1 => return Err(self.error(start, "the byte 0xc1, which has no meaning")),
        }
        Ok(())
    }

    fn long_text<const N: usize>(&mut self, least: usize, value: &mut Value) -> Result<()> {
        let len = self.length::<N>(least)?;
        self.string(len, value)
    }

    fn list(&mut self, len: usize, value: &mut Value, depth: usize) -> Result<()> {
        let depth = self.enter(depth)?;
        self.take(len)?;
        let mut values = Vec::new();
        while values.len() < len {
            let begun = values.len();
            make_room(&mut values, len, || Value::Null);
            for (index, value) in values[begun..].iter_mut().enumerate() {
                if let Err(error) = self.value(value, depth) {
                    return Err(error.at_index(begun + index));
                }
            }
        }
        *value = Value::Array(values);
        Ok(())
    }

    /// Reads bytes, or the container that they are.
    #[inline]
    fn bin<const N: usize>(&mut self, least: usize, value: &mut Value, depth: usize) -> Result<()> {
        let len = self.length::<N>(least)?;
        let (start, end) = (self.at, self.end_of(len)?);
        let container = match self.input[start..end].starts_with(BEGIN) {
            true if self.options.nested_containers => self.nested(end, depth)?,
            _ => None,
        };
        self.at = end;
        *value = match container {
            Some(container) => Value::Container(Some(container)),
            None => Value::Bytes(self.source.slice(start..end)),
        };
        Ok(())
    }

    /// Tries to read the bytes up to `end` as a container. What is inside is gone over once, whether it is one
    /// or not, so that no nesting makes this slow.
    fn nested(&mut self, end: usize, depth: usize) -> Result<Option<Box<Container>>> {
        let depth = self.enter(depth)?;
        let outer = (self.input, self.is_canonical, self.values_left);
        (self.input, self.is_canonical) = (&self.source[..end], true);
        let mut container = Box::new(Container::before_reading());
        let result = self.container(&mut container, depth);
        let is_whole = self.at == end && self.is_canonical;
        let values_left = self.values_left;
        (self.input, self.is_canonical, self.values_left) = outer;
        match result {
            Ok(()) if is_whole => {
                self.values_left = values_left;
                Ok(Some(container))
            }
            Err(error) if self.is_over_limit => Err(error),
            _ => Ok(None),
        }
    }
}

/// Appends places for what is about to be read, not all of `len` at once. Filling places takes less than
/// appending what has been read, which is written twice.
#[inline(always)]
fn make_room<T>(values: &mut Vec<T>, len: usize, place: impl FnMut() -> T) {
    let more = (len - values.len()).min(RESERVE.max(values.len()));
    values.reserve_exact(more);
    values.extend(std::iter::repeat_with(place).take(more));
}

/// The narrowest of the types that a reader infers.
#[inline(always)]
fn integer(value: i64) -> Value {
    match i32::try_from(value) {
        Ok(value) => Value::Int(value),
        Err(_) => Value::LLong(value),
    }
}
