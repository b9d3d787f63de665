//! Value containers: a header and typed values, in the formats of the C++ family.
//!
//! ```
//! use bytes::Bytes;
//! use network_system::container::{Container, Format};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let request = Container::new("login")
//!     .source("client", "session 1")
//!     .target("server", "accounts")
//!     .with("user", "ada")
//!     .with("attempt", 2);
//! let bytes = Bytes::from(request.encode(Format::MessagePack)?);
//!
//! let received = Container::decode(Format::MessagePack, &bytes)?;
//! assert_eq!(received.header.message_type, "login");
//! assert_eq!(received.get_as::<&str>("user")?, "ada");
//! assert_eq!(received.get_as::<u64>("attempt")?, 2);
//!
//! let answer = received.reply("login_result").with("ok", true);
//! assert_eq!(answer.header.target, "client");
//! # Ok(())
//! # }
//! ```
//!
//! # What the formats carry
//!
//! Both sides agree on a [`Format`] by their configuration; it is never guessed from bytes.
//!
//! | | `msgpack` | `json` | `binary` | `text` | `cpp-json` | `xml` |
//! |---|---|---|---|---|---|---|
//! | null | yes | yes | yes | yes | no | as nothing |
//! | bool | yes | yes | yes | yes | yes | as text |
//! | integers | the number; the type is the narrowest of int, llong, ullong | yes | yes | yes | as `msgpack` | as text |
//! | float, double | yes | finite | yes | exact in six decimals | finite, exact in six decimals; read as double | exact in six decimals |
//! | string | yes | in UTF-8 | yes | without `];`, `};`, line breaks, white space in front | in UTF-8 | what XML can carry |
//! | bytes | unless they are a container in `msgpack` | yes | yes | empty | no | no |
//! | container | yes | yes | without a header | no | no | no |
//! | null pointer to a container | as null | yes | yes | no | no | no |
//! | array | yes | yes | yes | no | no | no |
//! | names | any | in UTF-8 | once in a container | letters, digits, `_` | in UTF-8 | names of XML elements |
//! | header | any | in UTF-8 | in UTF-8 | as strings, without spaces around | in UTF-8 | what XML can carry |
//!
//! `xml` is only written. What a format cannot carry is an [`EncodeError`], which names the value and the formats that
//! can carry it. Two things change on the way through MessagePack, because it has no place for them: the type of an
//! integer, not its number, and a container that is a null pointer, which becomes null.
//!
//! # Reading MessagePack
//!
//! Integers become int when they fit into 32 bits, else llong when they fit into 64 with a sign, else ullong. `bin` is
//! a container when all of it is one, in exactly the form that a writer produces, and bytes otherwise; see
//! [`DecodeOptions::nested_containers`]. Other than the C++ library does, this reader takes containers and nested
//! arrays inside of arrays, and ullong beyond 2^63. It refuses, with the position, what that library skips or
//! misreads: keys other than `header` and `values`, unknown fields of the header, keys that stand there twice, maps
//! and extensions as values, bytes behind the end, and an end in the middle. Names that stand there twice are kept,
//! keys may be in any order, and numbers and lengths may take more bytes than they need.
//!
//! # Limits
//!
//! Readers never allocate by a length that the input declares, take time in proportion to the input, and stop at 64
//! levels of nesting ([`DecodeOptions`]). Writers stop at 128.

mod access;
mod error;
mod format;
mod header;
mod string;
mod structs;
mod value;

pub(crate) mod c_numbers;
mod carriers;
mod json_reader;
mod json_writer;
mod scalars;

pub mod binary;
mod cpp_json;
mod json;
mod msgpack;
mod text;
mod typed;
mod xml;

pub use access::FromValue;
pub use error::{DecodeError, EncodeError, GetError};
pub use format::{DecodeOptions, Format};
pub use header::Header;
pub use string::Text;
pub use structs::StructError;
pub use text::TextDialect;
pub use typed::TypedJsonError;
pub use value::{Value, ValueType};

use std::fmt;

use bytes::Bytes;

/// A header and values with names, in order. Names may stand there more than once.
///
/// Values are found by going through them, which for the few values of a message is the fastest.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// Who sends it to whom, and what it is.
    pub header: Header,
    values: Vec<(Text, Value)>,
}

impl Container {
    /// A container of a message type, without ids and values, version `1.0.0.0`.
    pub fn new(message_type: impl Into<Text>) -> Self {
        Container {
            header: Header::with_type(message_type.into(), header::NEW_VERSION),
            values: Vec::new(),
        }
    }

    /// A container of its parts.
    pub fn from_parts(header: Header, values: Vec<(Text, Value)>) -> Self {
        Container { header, values }
    }

    /// What readers begin with.
    pub(crate) fn before_reading() -> Self {
        Container {
            header: Header::before_reading(),
            values: Vec::new(),
        }
    }

    /// The parts of the container.
    pub fn into_parts(self) -> (Header, Vec<(Text, Value)>) {
        (self.header, self.values)
    }

    /// Sets who sends it, and which part of the sender.
    pub fn source(mut self, id: impl Into<Text>, sub_id: impl Into<Text>) -> Self {
        self.header.source = id.into();
        self.header.source_sub = sub_id.into();
        self
    }

    /// Sets who shall receive it, and which part of the receiver.
    pub fn target(mut self, id: impl Into<Text>, sub_id: impl Into<Text>) -> Self {
        self.header.target = id.into();
        self.header.target_sub = sub_id.into();
        self
    }

    /// Appends a value.
    pub fn with(mut self, name: impl Into<Text>, value: impl Into<Value>) -> Self {
        self.push(name, value);
        self
    }

    /// The message type.
    pub fn message_type(&self) -> &Text {
        &self.header.message_type
    }

    /// Exchanges source and target.
    pub fn swap_header(&mut self) {
        self.header.swap();
    }

    /// An empty container for the answer to this one: source and target exchanged, the same version.
    pub fn reply(&self, message_type: impl Into<Text>) -> Self {
        let mut header = Header {
            message_type: message_type.into(),
            ..self.header.clone()
        };
        header.swap();
        Container {
            header,
            values: Vec::new(),
        }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The names and values, in order.
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.values.iter())
    }

    /// The names and values, in order; the values can be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&Text, &mut Value)> {
        self.values.iter_mut().map(|(name, value)| (&*name, value))
    }

    /// The first value of this name.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&Value> {
        self.position(name.as_ref())
            .map(|index| &self.values[index].1)
    }

    /// The first value of this name, to be changed.
    pub fn get_mut(&mut self, name: impl AsRef<[u8]>) -> Option<&mut Value> {
        self.position(name.as_ref())
            .map(|index| &mut self.values[index].1)
    }

    /// All values of this name, in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Value> {
        self.values
            .iter()
            .filter(move |(other, _)| other == name)
            .map(|(_, value)| value)
    }

    /// Whether there is a value of this name.
    pub fn contains(&self, name: impl AsRef<[u8]>) -> bool {
        self.position(name.as_ref()).is_some()
    }

    /// Appends a value, whether or not there are others of its name.
    pub fn push(&mut self, name: impl Into<Text>, value: impl Into<Value>) {
        self.values.push((name.into(), value.into()));
    }

    /// Replaces the first value of this name, and returns it, or appends the new one.
    pub fn set(&mut self, name: impl Into<Text>, value: impl Into<Value>) -> Option<Value> {
        let name = name.into();
        match self.position(name.as_bytes()) {
            Some(index) => Some(std::mem::replace(&mut self.values[index].1, value.into())),
            None => {
                self.push(name, value);
                None
            }
        }
    }

    /// Removes the first value of this name.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) -> Option<Value> {
        self.position(name.as_ref())
            .map(|index| self.values.remove(index).1)
    }

    /// Removes all values and leaves the header.
    pub fn clear(&mut self) {
        self.values.clear();
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        self.values
            .iter()
            .position(|(other, _)| other.as_bytes() == name)
    }

    /// The container in a format.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] when the format cannot carry a value; it names the value and the formats that can.
    pub fn encode(&self, format: Format) -> Result<Vec<u8>, EncodeError> {
        let mut output = Vec::new();
        self.encode_into(format, &mut output)?;
        Ok(output)
    }

    /// Appends the container in a format.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode); `output` is then as it was.
    pub fn encode_into(&self, format: Format, output: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = output.len();
        let encode = match format {
            Format::MessagePack => msgpack::encode,
            Format::Text => text::encode,
            Format::Json => json::encode,
            Format::CppJson => cpp_json::encode,
            Format::Xml => xml::encode,
            Format::Binary => binary::encode,
        };
        encode(self, output).inspect_err(|_| output.truncate(start))
    }

    /// Reads a container, with the default options. All of `input` must be one container.
    ///
    /// Strings and names of more than 23 bytes, and all bytes, share `input` and keep it alive.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the input is not a container in this format; it says where.
    pub fn decode(format: Format, input: &Bytes) -> Result<Self, DecodeError> {
        Container::decode_with(format, input, &DecodeOptions::default())
    }

    /// Reads a container, as [`decode`](Self::decode) does, with options.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the input is not a container in this format, or beyond what the options allow.
    pub fn decode_with(
        format: Format,
        input: &Bytes,
        options: &DecodeOptions,
    ) -> Result<Self, DecodeError> {
        match format {
            Format::MessagePack => msgpack::decode(input, options),
            Format::Text => text::decode(input, options),
            Format::Json => json::decode(input, options),
            Format::CppJson => cpp_json::decode(input, options),
            Format::Xml => xml::decode(input, options),
            Format::Binary => binary::decode(input, options),
        }
    }
}

/// Shows the message type, and names and types of values; contents may be secret.
impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Values<'a>(&'a [(Text, Value)]);
        impl fmt::Debug for Values<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_map()
                    .entries(self.0.iter().map(|(name, value)| (name, value)))
                    .finish()
            }
        }
        f.debug_struct("Container")
            .field("message_type", &self.header.message_type)
            .field("values", &Values(&self.values))
            .finish_non_exhaustive()
    }
}

/// The names and values of a container, in order.
#[derive(Clone, Debug)]
pub struct Iter<'a>(std::slice::Iter<'a, (Text, Value)>);

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a Text, &'a Value);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(name, value)| (name, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(name, value)| (name, value))
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl<'a> IntoIterator for &'a Container {
    type Item = (&'a Text, &'a Value);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl IntoIterator for Container {
    type Item = (Text, Value);
    type IntoIter = std::vec::IntoIter<(Text, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.values.into_iter()
    }
}

impl<N: Into<Text>, V: Into<Value>> Extend<(N, V)> for Container {
    fn extend<I: IntoIterator<Item = (N, V)>>(&mut self, values: I) {
        for (name, value) in values {
            self.push(name, value);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
