//! Framing without I/O: where a frame begins and ends in bytes, and which bytes stand around a message.
//!
//! A decoder is given a read buffer and says which parts of it are frames. It copies nothing, allocates
//! nothing for what a peer declares, and refuses a frame from its header. The encoding side only knows
//! heads and tails; [`Output`](crate::session::output::Output) puts them around payloads.

pub(crate) mod control;
pub(crate) mod length;
pub(crate) mod lines;
pub(crate) mod msgi;
pub(crate) mod raw;
pub(crate) mod websocket;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use crate::endpoint::CodecKind;
use crate::error::ErrorCode;

/// The type of a frame (protocol section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameType(pub(crate) u16);

impl FrameType {
    pub(crate) const PING: FrameType = FrameType(0x0001);
    pub(crate) const PONG: FrameType = FrameType(0x0002);
    pub(crate) const DATA: FrameType = FrameType(0x0010);
    pub(crate) const REQUEST: FrameType = FrameType(0x0011);
    pub(crate) const RESPONSE: FrameType = FrameType(0x0012);
    pub(crate) const FAILURE: FrameType = FrameType(0x0013);
    pub(crate) const CONTROL: FrameType = FrameType(0x0020);
    pub(crate) const ERROR: FrameType = FrameType(0x0030);
    pub(crate) const HEARTBEAT: FrameType = FrameType(0x0040);
    pub(crate) const DISCONNECT: FrameType = FrameType(0x0050);

    /// The first of the types that applications give a meaning to.
    pub(crate) const APPLICATION: u16 = 0x8000;

    /// DATA and the application's own types: what a message handler gets.
    #[inline]
    pub(crate) fn is_message(self) -> bool {
        self == FrameType::DATA || self.0 >= FrameType::APPLICATION
    }

    /// Whether the frame waits for its turn behind earlier frames, instead of being dealt with on arrival.
    #[inline]
    pub(crate) fn is_ordered(self) -> bool {
        self.is_message()
            || matches!(
                self,
                FrameType::REQUEST | FrameType::DISCONNECT | FrameType::ERROR
            )
    }

    /// Whether the payload begins with a correlation id.
    #[inline]
    pub(crate) fn has_id(self) -> bool {
        matches!(
            self,
            FrameType::REQUEST | FrameType::RESPONSE | FrameType::FAILURE
        )
    }
}

/// A frame found in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) frame_type: FrameType,
    /// Whether the message is text rather than bytes.
    pub(crate) text: bool,
    /// Where the payload starts in the buffer, after the correlation id if there is one.
    pub(crate) start: u32,
    pub(crate) len: u32,
    /// The correlation id of REQUEST, RESPONSE and FAILURE, otherwise 0.
    pub(crate) id: u64,
}

impl Span {
    pub(crate) fn data(start: usize, len: usize, text: bool) -> Self {
        // Buffers are far below 4 GiB: the message size limit is checked against that on configuration.
        Span {
            frame_type: FrameType::DATA,
            text,
            start: start as u32,
            len: len as u32,
            id: 0,
        }
    }
}

/// What a decoder refuses, with a text for the person on the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProtocolError {
    pub(crate) code: ErrorCode,
    pub(crate) text: Cow<'static, str>,
    /// The close code that says so on WebSocket, when `code` alone does not.
    pub(crate) websocket: Option<u16>,
}

impl ProtocolError {
    pub(crate) fn with_websocket(self, code: u16) -> Self {
        ProtocolError {
            websocket: Some(code),
            ..self
        }
    }

    pub(crate) fn invalid(text: impl Into<Cow<'static, str>>) -> Self {
        ProtocolError {
            code: ErrorCode::InvalidFrame,
            text: text.into(),
            websocket: None,
        }
    }

    pub(crate) fn too_large(len: usize, limit: usize) -> Self {
        let text = format!("a message of {len} bytes is over the limit of {limit} bytes");
        ProtocolError {
            code: ErrorCode::MessageTooLarge,
            text: text.into(),
            websocket: None,
        }
    }
}

/// What one pass over a buffer found.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    /// Bytes that belong to complete frames; the rest stays for the next pass.
    pub(crate) consumed: usize,
    /// How long the unfinished frame at the end is in all, 0 when that is not known.
    pub(crate) needed: usize,
    /// When not 0: all frames are plain DATA frames of MSGI, this many, and are not listed.
    pub(crate) plain: usize,
    /// Whether the rest holds complete frames, or what is wrong with it: another pass tells.
    pub(crate) again: bool,
    /// What is wrong with the bytes after `consumed`.
    pub(crate) error: Option<ProtocolError>,
}

/// How frames stand on a link: as bytes that the session core encodes, or as values that the link
/// encodes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Framing {
    /// MSGI frames, protocol section 1.
    Msgi,
    /// Each read is one message.
    Raw,
    /// Text lines.
    Lines,
    /// A 4-byte length before each message.
    Length,
    /// Values: everything that MSGI has.
    Frames,
    /// Values: messages alone, each a datagram.
    Datagrams,
    /// WebSocket messages as they are, without mask: what a server sends.
    WebSocket,
    /// The same with masks: what a client sends.
    WebSocketMasked,
    /// Without mask, each message compressed on its own (RFC 7692, `server_no_context_takeover`).
    WebSocketDeflated,
    /// Values: what plain WebSocket has.
    WebSocketFrames,
    /// An MSGI frame in each binary WebSocket message, without mask.
    WebSocketMsgi,
    /// The same with masks.
    WebSocketMsgiMasked,
}

impl From<CodecKind> for Framing {
    fn from(codec: CodecKind) -> Self {
        match codec {
            CodecKind::Msgi => Framing::Msgi,
            CodecKind::Raw => Framing::Raw,
            CodecKind::Lines => Framing::Lines,
            CodecKind::Length => Framing::Length,
        }
    }
}

impl Framing {
    /// How many there are.
    pub(crate) const COUNT: usize = Framing::ALL.len();

    /// All, in the order of their numbers.
    const ALL: [Framing; 12] = [
        Framing::Msgi,
        Framing::Raw,
        Framing::Lines,
        Framing::Length,
        Framing::Frames,
        Framing::Datagrams,
        Framing::WebSocket,
        Framing::WebSocketMasked,
        Framing::WebSocketDeflated,
        Framing::WebSocketFrames,
        Framing::WebSocketMsgi,
        Framing::WebSocketMsgiMasked,
    ];

    /// The framing with this number, which came from `framing as u8`.
    #[inline]
    pub(crate) fn from_u8(number: u8) -> Framing {
        // There are no other numbers.
        *Framing::ALL
            .get(usize::from(number))
            .unwrap_or(&Framing::Msgi)
    }

    /// Whether there is everything that MSGI has: hello, CONTROL, requests, application types.
    #[inline]
    pub(crate) fn has_hello(self) -> bool {
        matches!(
            self,
            Framing::Msgi | Framing::Frames | Framing::WebSocketMsgi | Framing::WebSocketMsgiMasked
        )
    }

    /// Whether frames are WebSocket messages without MSGI in them.
    #[inline]
    pub(crate) fn is_plain_websocket(self) -> bool {
        matches!(
            self,
            Framing::WebSocket
                | Framing::WebSocketMasked
                | Framing::WebSocketDeflated
                | Framing::WebSocketFrames
        )
    }

    /// Whether there are PING and PONG, of whatever form.
    #[inline]
    pub(crate) fn has_heartbeat(self) -> bool {
        self.has_hello() || self.is_plain_websocket()
    }

    /// Whether there is a last frame that says why.
    pub(crate) fn has_goodbye(self) -> bool {
        self.has_heartbeat()
    }

    /// Whether a payload is sent as it is, so that it can be kept instead of copied.
    #[inline]
    pub(crate) fn keeps_payload(self) -> bool {
        !matches!(
            self,
            Framing::WebSocketMasked | Framing::WebSocketMsgiMasked | Framing::WebSocketDeflated
        )
    }

    /// Whether the link takes frames as values.
    #[inline]
    pub(crate) fn is_values(self) -> bool {
        matches!(
            self,
            Framing::Frames | Framing::Datagrams | Framing::WebSocketFrames
        )
    }

    /// Whether the bytes of a message are the same on every link with this framing, so that a broadcast
    /// encodes it once.
    pub(crate) fn is_shared(self) -> bool {
        !self.is_values()
            && !matches!(
                self,
                Framing::WebSocketMasked | Framing::WebSocketMsgiMasked
            )
    }

    /// Says why a message cannot be carried, if it cannot.
    #[inline]
    pub(crate) fn refuses(self, frame_type: FrameType, payload: &[u8]) -> Option<&'static str> {
        match self.has_hello() {
            true => None,
            false => self.refuses_without_hello(frame_type, payload),
        }
    }

    fn refuses_without_hello(self, frame_type: FrameType, payload: &[u8]) -> Option<&'static str> {
        match self {
            _ if frame_type != FrameType::DATA => Some(
                "this codec carries messages only: no requests, application types or control frames",
            ),
            Framing::Raw if payload.is_empty() => {
                Some("the raw codec cannot carry an empty message")
            }
            Framing::Lines if !lines::is_line(payload) => {
                Some("the lines codec cannot carry a message that holds LF or ends with CR")
            }
            _ => None,
        }
    }
}

/// Finds frames in the bytes of one connection.
#[derive(Debug)]
pub(crate) struct Decoder {
    framing: Framing,
    /// The longest message, in bytes.
    message_limit: usize,
    /// Bytes at the front of the buffer that are known to hold no end of a line.
    scanned: usize,
}

impl Decoder {
    pub(crate) fn new(framing: Framing, message_limit: usize) -> Self {
        Decoder {
            framing,
            message_limit,
            scanned: 0,
        }
    }

    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    /// Finds complete frames at the front of `buffer` and appends them to `spans`. These are all that there are, unless
    /// it is said that there are more.
    #[inline]
    pub(crate) fn decode(&mut self, buffer: &[u8], spans: &mut Vec<Span>) -> Decoded {
        match self.framing {
            Framing::Msgi => msgi::decode(buffer, self.message_limit, spans),
            Framing::Raw => raw::decode(buffer, self.message_limit, spans),
            Framing::Lines => lines::decode(buffer, self.message_limit, &mut self.scanned, spans),
            Framing::Length => length::decode(buffer, self.message_limit, spans),
            // These have decoders of their own.
            _ => Decoded::default(),
        }
    }

    /// Says what the bytes left over at the end of the stream are: a last message, or a frame cut short.
    pub(crate) fn finish(&mut self, rest: &[u8], spans: &mut Vec<Span>) -> EndOfStream {
        match self.framing {
            _ if rest.is_empty() => EndOfStream::Boundary,
            Framing::Lines => match lines::finish(rest, self.message_limit, spans) {
                true => EndOfStream::Boundary,
                false => EndOfStream::InsideFrame,
            },
            _ => EndOfStream::InsideFrame,
        }
    }
}

/// Where in the framing a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndOfStream {
    Boundary,
    InsideFrame,
}
