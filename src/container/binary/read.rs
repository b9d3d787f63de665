//! Reading the low-level binary form.

use std::collections::HashSet;

use bytes::Bytes;

use super::{Data, Entries, FORMAT, Item, STORE_VERSION};
use crate::container::{DecodeError, DecodeOptions, Text, Value, ValueType};

type Result<T> = std::result::Result<T, DecodeError>;

/// How many values are made room for at once, whatever the count says.
const RESERVE: usize = 64;

/// A position in the input.
pub(super) struct Reader<'a> {
    source: &'a Bytes,
    at: usize,
    /// Where what is being read ends.
    end: usize,
    options: &'a DecodeOptions,
    values_left: usize,
    /// Whether items may have names other than their keys, and elements of arrays names at all.
    has_own_names: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a Bytes, options: &'a DecodeOptions) -> Self {
        Reader {
            source,
            at: 0,
            end: source.len(),
            options,
            values_left: options.max_values,
            has_own_names: true,
        }
    }

    /// Refuses names that a [`Container`](crate::container::Container) has no place for.
    pub(super) fn without_own_names(mut self) -> Self {
        self.has_own_names = false;
        self
    }

    /// Reads the own name of an item whose key is `key`.
    fn own_name(&mut self, key: &Text) -> Result<Text> {
        let at = self.at;
        let name = self.text()?;
        match self.has_own_names || name.is_empty() || name == *key {
            true => Ok(name),
            false => Err(self.error(at, "an item with a name that is not its key")),
        }
    }

    pub(super) fn error(&self, at: usize, what: &'static str) -> DecodeError {
        DecodeError::new(FORMAT, at, what)
    }

    /// Checks that all has been read.
    pub(super) fn finish(&self) -> Result<()> {
        match self.at == self.end {
            true => Ok(()),
            false => Err(self.error(self.at, "bytes behind the end")),
        }
    }

    /// The next `len` bytes, by their place.
    fn take(&mut self, len: usize) -> Result<std::ops::Range<usize>> {
        match self.at.checked_add(len) {
            Some(end) if end <= self.end => {
                let start = std::mem::replace(&mut self.at, end);
                Ok(start..end)
            }
            _ => Err(self.error(self.end, "the input ends in the middle")),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let place = self.take(N)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.source[place]);
        Ok(array)
    }

    fn length(&mut self) -> Result<usize> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn text(&mut self) -> Result<Text> {
        let place = self.sized()?;
        Text::part(self.source, place.start, place.end)
            .ok_or_else(|| self.error(self.end, "the input ends in the middle"))
    }

    /// What has its length before it, by its place.
    pub(super) fn sized(&mut self) -> Result<std::ops::Range<usize>> {
        let len = self.length()?;
        self.take(len)
    }

    /// Reads something that has its length before it and is exactly so long.
    fn measured<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let place = self.sized()?;
        let outer = self.end;
        (self.at, self.end) = (place.start, place.end);
        let read = read(self)?;
        self.finish()?;
        self.end = outer;
        Ok(read)
    }

    fn count(&mut self, values: usize) -> Result<()> {
        let left = self.values_left.checked_sub(values);
        self.values_left = left.ok_or_else(|| DecodeError::too_many(FORMAT, self.at))?;
        Ok(())
    }

    /// Reads an item under `key`, empty for none, on level `depth`.
    pub(super) fn item(&mut self, key: &Text, depth: usize) -> Result<Item> {
        if depth > self.options.depth() {
            return Err(DecodeError::too_deep(FORMAT, self.at));
        }
        let name = self.own_name(key)?;
        let data = self.data(depth)?;
        Ok(Item { name, data })
    }

    fn data(&mut self, depth: usize) -> Result<Data> {
        let at = self.at;
        let [id] = self.array()?;
        let Some(value_type) = ValueType::from_id(id) else {
            return Err(self.error(at, "an unknown type"));
        };
        Ok(Data::Scalar(match value_type {
            ValueType::Null => Value::Null,
            ValueType::Bool => Value::Bool(self.array::<1>()? != [0]),
            ValueType::Short => Value::Short(i16::from_le_bytes(self.array()?)),
            ValueType::UShort => Value::UShort(u16::from_le_bytes(self.array()?)),
            ValueType::Int => Value::Int(i32::from_le_bytes(self.array()?)),
            ValueType::UInt => Value::UInt(u32::from_le_bytes(self.array()?)),
            ValueType::Long => Value::Long(i64::from_le_bytes(self.array()?)),
            ValueType::ULong => Value::ULong(u64::from_le_bytes(self.array()?)),
            ValueType::LLong => Value::LLong(i64::from_le_bytes(self.array()?)),
            ValueType::ULLong => Value::ULLong(u64::from_le_bytes(self.array()?)),
            ValueType::Float => Value::Float(f32::from_bits(u32::from_le_bytes(self.array()?))),
            ValueType::Double => Value::Double(f64::from_bits(u64::from_le_bytes(self.array()?))),
            ValueType::String => Value::String(self.text()?),
            ValueType::Bytes => {
                let place = self.sized()?;
                Value::Bytes(self.source.slice(place))
            }
            ValueType::Container => return self.container(depth),
            ValueType::Array => return self.list(depth),
        }))
    }

    fn container(&mut self, depth: usize) -> Result<Data> {
        let start = self.at;
        if self.length()? == 0 {
            return Ok(Data::Container(None));
        }
        self.at = start;
        let entries = self.measured(|reader| reader.entries(depth + 1))?;
        Ok(Data::Container(Some(entries)))
    }

    fn list(&mut self, depth: usize) -> Result<Data> {
        let len = self.length()?;
        self.count(len)?;
        let mut items = Vec::with_capacity(len.min(RESERVE));
        for index in 0..len {
            items.push(
                self.item(&Text::new(), depth + 1)
                    .map_err(|error| error.at_index(index))?,
            );
        }
        Ok(Data::Array(items))
    }

    /// Reads entries whose items are on level `depth`.
    pub(super) fn entries(&mut self, depth: usize) -> Result<Entries> {
        if depth > self.options.depth() {
            return Err(DecodeError::too_deep(FORMAT, self.at));
        }
        let len = self.length()?;
        self.count(len)?;
        let mut entries = Entries::with_capacity(len.min(RESERVE));
        let mut keys = HashSet::with_capacity(len.min(RESERVE));
        for _ in 0..len {
            let at = self.at;
            let key = self.text()?;
            if !keys.insert(key.clone()) {
                return Err(self.error(at, "a key stands there twice").inside(&key));
            }
            match self.measured(|reader| reader.item(&key, depth)) {
                Ok(item) => entries.push((key, item)),
                Err(error) => return Err(error.inside(&key)),
            }
        }
        Ok(entries)
    }

    /// Reads a store.
    pub(super) fn store(&mut self) -> Result<Entries> {
        let at = self.at;
        match self.array()? {
            [STORE_VERSION] => self.entries(1),
            [_] => Err(self.error(at, "a store of an unknown version")),
        }
    }
}
