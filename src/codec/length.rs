//! A 4-byte big-endian length, itself not counted, before each message.

use super::{Decoded, ProtocolError, Span};

/// Bytes of the length before a message.
pub(crate) const HEADER: usize = 4;

/// The head of a message of `payload` bytes.
pub(crate) fn header(payload: usize) -> [u8; HEADER] {
    (payload as u32).to_be_bytes()
}

pub(super) fn decode(buffer: &[u8], message_limit: usize, spans: &mut Vec<Span>) -> Decoded {
    let mut at = 0;
    loop {
        let rest = &buffer[at..];
        let Some((head, body)) = rest.split_first_chunk::<HEADER>() else {
            return Decoded {
                consumed: at,
                ..Decoded::default()
            };
        };
        let length = u32::from_be_bytes(*head) as usize;
        if length > message_limit {
            let error = Some(ProtocolError::too_large(length, message_limit));
            return Decoded {
                consumed: at,
                error,
                ..Decoded::default()
            };
        }
        if body.len() < length {
            return Decoded {
                consumed: at,
                needed: HEADER + length,
                ..Decoded::default()
            };
        }
        spans.push(Span::data(at + HEADER, length, false));
        at += HEADER + length;
    }
}
