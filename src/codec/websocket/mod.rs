//! WebSocket without I/O: RFC 6455 and permessage-deflate of RFC 7692.
//!
//! - [`upgrade`]: the HTTP request and response before the first frame, both sides.
//! - [`head`]: heads of frames, and masks.
//! - [`decoder`]: frames in a read buffer; [`assembly`] is the message that its own buffer holds.
//! - [`deflate`]: what two sides agree on about compression, and compressing.
//!
//! Whole unfragmented messages, which is nearly all traffic, are unmasked where they stand and never copied.

mod assembly;
mod close;
pub(crate) mod decoder;
pub(crate) mod deflate;
pub(crate) mod head;
pub(crate) mod upgrade;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use super::ProtocolError;

/// Close codes (RFC 6455 section 7.4.1).
pub(crate) const PROTOCOL_ERROR: u16 = 1002;
pub(crate) const UNSUPPORTED_DATA: u16 = 1003;
pub(crate) const NO_STATUS: u16 = 1005;
pub(crate) const INVALID_PAYLOAD: u16 = 1007;
pub(crate) const TOO_BIG: u16 = 1009;

/// Bytes that are not of the protocol.
#[cold]
fn violation(text: impl Into<Cow<'static, str>>) -> ProtocolError {
    ProtocolError::invalid(text).with_websocket(PROTOCOL_ERROR)
}

/// A payload that is not what its message says it is.
#[cold]
fn invalid_payload(text: impl Into<Cow<'static, str>>) -> ProtocolError {
    ProtocolError::invalid(text).with_websocket(INVALID_PAYLOAD)
}

#[cold]
fn not_utf8() -> ProtocolError {
    invalid_payload("a text message is not valid UTF-8")
}

#[cold]
fn too_large(len: usize, limit: usize) -> ProtocolError {
    ProtocolError::too_large(len, limit).with_websocket(TOO_BIG)
}
