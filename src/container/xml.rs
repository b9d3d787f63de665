//! The format `xml`.

use bytes::Bytes;

use super::{Container, DecodeError, DecodeOptions, EncodeError, Format};

pub(super) fn encode(_: &Container, _: &mut Vec<u8>) -> Result<(), EncodeError> {
    Err(EncodeError::new(Format::Xml, "anything yet", &[]))
}

pub(super) fn decode(_: &Bytes, _: &DecodeOptions) -> Result<Container, DecodeError> {
    Err(DecodeError::not_supported(Format::Xml))
}
