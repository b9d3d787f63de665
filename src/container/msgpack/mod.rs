//! MessagePack: `{"header": {…}, "values": {name: value, …}}`, with the shortest encodings.
//!
//! MessagePack has no type tags for the family's types, so a reader infers them: integers become int when they
//! fit, else llong, else ullong; a container is `bin` that holds a whole container.

mod read;
mod write;

use bytes::Bytes;

use super::{Container, DecodeError, DecodeOptions, EncodeError, Format};

const FORMAT: Format = Format::MessagePack;

/// How a container begins, with a fixmap of two and the first key; bytes that begin otherwise cannot be read as
/// a container by mistake.
const BEGIN: &[u8] = b"\x82\xa6header";
const VALUES: &[u8] = b"\xa6values";

pub(super) fn encode(container: &Container, output: &mut Vec<u8>) -> Result<(), EncodeError> {
    write::container(container, output, 1)
}

pub(super) fn decode(input: &Bytes, options: &DecodeOptions) -> Result<Container, DecodeError> {
    read::Reader::new(input, options).document()
}

#[cfg(test)]
mod tests;
