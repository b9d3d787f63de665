//! What the session core's frames are in WebSocket, and what close codes mean.

use bytes::Bytes;

use super::head::{CONTROL_MAX, Opcode};
use crate::codec::FrameType;
use crate::error::ErrorCode;

/// The peer has done what it came for.
pub(crate) const NORMAL: u16 = 1000;
/// The server is stopping, or the browser leaves the page.
pub(crate) const GOING_AWAY: u16 = 1001;

/// The opcode of a frame on a link without MSGI, and of WebSocket's own control frames on one with it.
#[inline]
pub(crate) fn opcode(frame_type: FrameType, text: bool) -> Opcode {
    match frame_type {
        FrameType::PING => Opcode::Ping,
        FrameType::PONG => Opcode::Pong,
        FrameType::DISCONNECT | FrameType::ERROR => Opcode::Close,
        _ if text => Opcode::Text,
        _ => Opcode::Binary,
    }
}

/// The payload of a close frame: a code and as much of the text as fits, whole characters.
pub(crate) fn close_payload(code: u16, text: &str) -> Bytes {
    let text = &text[..text.floor_char_boundary(CONTROL_MAX - 2)];
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(text.as_bytes());
    Bytes::from(payload)
}

/// Splits the payload of a close frame, which has been checked.
pub(crate) fn split_close(payload: &[u8]) -> (Option<u16>, String) {
    match payload.split_first_chunk::<2>() {
        Some((code, text)) => (
            Some(u16::from_be_bytes(*code)),
            String::from_utf8_lossy(text).into_owned(),
        ),
        None => (None, String::new()),
    }
}

/// The close code that tells a peer of an error of this side's.
pub(crate) fn code_of(error: ErrorCode) -> u16 {
    match error {
        ErrorCode::InvalidFrame => 1002,
        ErrorCode::NotSupported => 1003,
        ErrorCode::MessageTooLarge => 1009,
        ErrorCode::AuthenticationFailed
        | ErrorCode::AccessDenied
        | ErrorCode::RateLimited
        | ErrorCode::SlowConsumer => 1008,
        ErrorCode::TooManyConnections => 1013,
        ErrorCode::ShuttingDown
        | ErrorCode::IdleTimeout
        | ErrorCode::HeartbeatTimeout
        | ErrorCode::ConnectionTimeout => GOING_AWAY,
        _ => 1011,
    }
}

/// What a peer's close code means; `None` when the peer has closed without an error.
pub(crate) fn error_of(code: u16) -> Option<ErrorCode> {
    match code {
        NORMAL | GOING_AWAY | 3000..=4999 => None,
        1002 | 1003 | 1007 | 1010 => Some(ErrorCode::InvalidFrame),
        1008 => Some(ErrorCode::AccessDenied),
        1009 => Some(ErrorCode::MessageTooLarge),
        1012 => Some(ErrorCode::ShuttingDown),
        1013 => Some(ErrorCode::TooManyConnections),
        _ => Some(ErrorCode::ConnectionClosed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_text_is_cut_between_characters_and_fits_a_control_frame() {
        let payload = close_payload(NORMAL, &"ü".repeat(100));
        assert_eq!(payload.len(), 2 + 122);
        assert_eq!(split_close(&payload), (Some(NORMAL), "ü".repeat(61)));
    }

    #[test]
    fn codes_that_are_sent_are_codes_that_may_be_sent() {
        for error in ErrorCode::ALL {
            let code = code_of(*error);
            assert!((1000..=1014).contains(&code) && ![1004, 1005, 1006].contains(&code));
        }
    }
}
