//! Bytes as they come: each read is one message.

use super::{Decoded, Span};

/// A read longer than the message limit is handed on in pieces of at most the limit.
pub(super) fn decode(buffer: &[u8], message_limit: usize, spans: &mut Vec<Span>) -> Decoded {
    let mut at = 0;
    while at < buffer.len() {
        let len = (buffer.len() - at).min(message_limit.max(1));
        spans.push(Span::data(at, len, false));
        at += len;
    }
    Decoded {
        consumed: at,
        ..Decoded::default()
    }
}
