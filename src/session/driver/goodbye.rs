//! What a side says last, and how that stands on each kind of link.

use bytes::Bytes;

use crate::codec::websocket::mapping;
use crate::codec::{FrameType, Framing, msgi};
use crate::error::{CloseReason, ErrorCode};
use crate::session::output::Frame;

/// The last frame of this side.
#[derive(Debug)]
pub(super) enum Goodbye {
    None,
    /// With the close code that WebSocket has, when it is not the usual one.
    Disconnect(String, Option<u16>),
    Error(ErrorCode, String, Option<u16>),
    /// An ERROR's place is taken by bytes of the link: it is not open, or was refused before it was.
    Raw(Bytes),
}

impl Goodbye {
    /// Whether this side refuses to go on.
    pub(super) fn is_error(&self) -> bool {
        matches!(self, Goodbye::Error(..) | Goodbye::Raw(_))
    }
}

/// Some servers agree to any subprotocol that is offered. What follows then is no answer to hello.
pub(super) fn without_msgi(reason: &CloseReason) -> CloseReason {
    match reason.code() {
        Some(code @ (ErrorCode::InvalidFrame | ErrorCode::ConnectionTimeout)) => {
            let text = reason.text();
            CloseReason::with_code(
                code,
                format!(
                    "{text}; the server has agreed to msgi.v1, but does it speak it? If not, ask for plain WebSocket"
                ),
            )
        }
        _ => reason.clone(),
    }
}

/// The frame that says it; `None` when there is nothing to say, or no way to.
pub(super) fn goodbye_frame(goodbye: Goodbye, framing: Framing) -> Option<Frame> {
    if !framing.has_goodbye() {
        return None;
    }
    let plain = framing.is_plain_websocket();
    let (frame_type, payload) = match goodbye {
        Goodbye::None | Goodbye::Raw(_) => return None,
        Goodbye::Disconnect(text, code) if plain => (
            FrameType::DISCONNECT,
            mapping::close_payload(code.unwrap_or(mapping::NORMAL), &text),
        ),
        Goodbye::Error(code, text, own) if plain => (
            FrameType::DISCONNECT,
            mapping::close_payload(own.unwrap_or(mapping::code_of(code)), &text),
        ),
        Goodbye::Disconnect(text, _) => (
            FrameType::DISCONNECT,
            Bytes::copy_from_slice(msgi::clip_text(&text).as_bytes()),
        ),
        Goodbye::Error(code, text, _) => {
            let mut payload = code.as_i32().to_be_bytes().to_vec();
            payload.extend_from_slice(msgi::clip_text(&text).as_bytes());
            (FrameType::ERROR, Bytes::from(payload))
        }
    };
    Some(Frame::new(frame_type, false, 0, payload))
}
