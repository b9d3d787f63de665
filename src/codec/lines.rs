//! Text lines, ended by LF or CRLF.

use super::{Decoded, ProtocolError, Span};

/// Whether a message arrives as it is: it holds no end of line, and no CR that would belong to one.
pub(crate) fn is_line(payload: &[u8]) -> bool {
    !payload.contains(&b'\n') && !payload.ends_with(b"\r")
}

/// `scanned` remembers how much of the unfinished line holds no LF, so that a line which arrives in
/// many pieces is looked at once.
pub(super) fn decode(
    buffer: &[u8],
    message_limit: usize,
    scanned: &mut usize,
    spans: &mut Vec<Span>,
) -> Decoded {
    let mut at = 0;
    let mut from = (*scanned).min(buffer.len());
    while let Some(found) = buffer[from..].iter().position(|&byte| byte == b'\n') {
        let end = from + found;
        let line = trim_carriage_return(&buffer[at..end]);
        if line.len() > message_limit {
            let error = Some(ProtocolError::too_large(line.len(), message_limit));
            return Decoded {
                consumed: at,
                error,
                ..Decoded::default()
            };
        }
        spans.push(span(at, line));
        at = end + 1;
        from = at;
    }
    *scanned = buffer.len() - at;
    // One more byte than the limit may be the CR of an end of line that has not arrived yet.
    let error =
        (*scanned > message_limit + 1).then(|| ProtocolError::too_large(*scanned, message_limit));
    Decoded {
        consumed: at,
        error,
        ..Decoded::default()
    }
}

/// The stream ended: an unterminated last line is a message too, unless it is over the limit.
pub(super) fn finish(rest: &[u8], message_limit: usize, spans: &mut Vec<Span>) -> bool {
    let line = trim_carriage_return(rest);
    if line.len() <= message_limit {
        spans.push(span(0, line));
    }
    line.len() <= message_limit
}

/// A line is text when it is UTF-8: it may be passed on where text has to be, and a peer there would be cut off
/// for what another one has sent.
fn span(at: usize, line: &[u8]) -> Span {
    Span::data(at, line.len(), std::str::from_utf8(line).is_ok())
}

fn trim_carriage_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}
