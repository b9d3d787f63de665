//! The low-level binary form: what the C++ library's inner classes read and write.
//!
//! All numbers are little-endian.
//!
//! ```text
//! item    = name length u32, name, type u8, data
//! data    = bool: one byte; numbers: their bytes, long and ulong 8 of them; string, bytes: length u32, content;
//!           container: length u32, entries (length 0: null pointer); array: count u32, items
//! entries = count u32, then for each: key length u32, key, item length u32, item
//! store   = 0x01, entries
//! message = length u32, header as JSON, store
//! ```
//!
//! A [`Container`](super::Container) in [`Format::Binary`] is a message. The inner forms are here for programs
//! that exchange them as such: [`Item`], [`Entries`] and stores. They name things twice, an entry by its key
//! and its item, and name elements of arrays, so they have types of their own.
//!
//! In the C++ library entries are a hash map: their order means nothing there, and of several with one key one
//! is lost. So a key that stands there twice is an error here, on both ways. Containers inside of others have
//! no header in this form; one that is not the header of a new container without a type is refused.

mod convert;
mod read;
mod write;

use bytes::Bytes;

use super::{DecodeError, DecodeOptions, EncodeError, Format, Text, Value};

pub(super) use convert::{decode, encode};

const FORMAT: Format = Format::Binary;
/// The first byte of a store.
const STORE_VERSION: u8 = 1;

/// A value with its own name: the C++ class `value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The name. Empty for what stands under a key, or in an array, unless it was put there with one.
    pub name: Text,
    /// The value.
    pub data: Data,
}

/// What an [`Item`] holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Anything but a container or an array.
    Scalar(Value),
    /// The C++ class `thread_safe_container`; `None` for a null pointer.
    Container(Option<Entries>),
    /// Items; their names are usually empty.
    Array(Vec<Item>),
}

/// Items under keys, in order: the C++ class `thread_safe_container`.
pub type Entries = Vec<(Text, Item)>;

impl Item {
    /// Appends the item.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] for more than 4 GiB or 128 levels, for a key that stands there twice, and for a container
    /// or array as [`Data::Scalar`].
    pub fn encode_into(&self, output: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = output.len();
        write::item(self, output, 1).inspect_err(|_| output.truncate(start))
    }

    /// Reads an item, which is all of `input`.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the input is not an item, or beyond what the options allow.
    pub fn decode(input: &Bytes, options: &DecodeOptions) -> Result<Self, DecodeError> {
        let mut reader = read::Reader::new(input, options);
        let item = reader.item(&Text::new(), 1)?;
        reader.finish()?;
        Ok(item)
    }
}

/// Appends entries, as the C++ class `thread_safe_container` does.
///
/// # Errors
///
/// As [`Item::encode_into`].
pub fn encode_entries(entries: &Entries, output: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = output.len();
    write::entries(entries, output, 1).inspect_err(|_| output.truncate(start))
}

/// Reads entries, which are all of `input`.
///
/// # Errors
///
/// [`DecodeError`] when the input is not such entries, or beyond what the options allow.
pub fn decode_entries(input: &Bytes, options: &DecodeOptions) -> Result<Entries, DecodeError> {
    let mut reader = read::Reader::new(input, options);
    let entries = reader.entries(1)?;
    reader.finish()?;
    Ok(entries)
}

/// Appends entries with the version before them, as the C++ class `value_store` does.
///
/// # Errors
///
/// As [`Item::encode_into`].
pub fn encode_store(entries: &Entries, output: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = output.len();
    output.push(STORE_VERSION);
    write::entries(entries, output, 1).inspect_err(|_| output.truncate(start))
}

/// Reads a store, which is all of `input`.
///
/// # Errors
///
/// [`DecodeError`] when the input is not a store of version 1, or beyond what the options allow.
pub fn decode_store(input: &Bytes, options: &DecodeOptions) -> Result<Entries, DecodeError> {
    let mut reader = read::Reader::new(input, options);
    let entries = reader.store()?;
    reader.finish()?;
    Ok(entries)
}

#[cfg(test)]
mod tests;
