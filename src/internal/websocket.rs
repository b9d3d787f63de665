//! The WebSocket codec by itself, for fuzzing and benches.

use bytes::BytesMut;

use super::RawFrame;
use crate::codec::websocket::decoder::{Decoder, DecoderConfig, Source};
use crate::codec::websocket::deflate::negotiation::{accept, judge_answer, offer};
use crate::codec::websocket::deflate::{Agreed, Deflate, Deflater, InflateConfig};
use crate::codec::websocket::head::{HEAD_MAX, Head, Opcode, apply_mask, next_mask};
use crate::codec::websocket::upgrade::UpgradeLimits;
use crate::codec::websocket::upgrade::client::ClientUpgrade;
use crate::codec::websocket::upgrade::origin::{host_allowed, origin_allowed};
use crate::codec::websocket::upgrade::request::{parse_request, response_accept};
use crate::codec::{EndOfStream, FrameType, Span};

/// How a WebSocket is decoded.
#[derive(Clone, Debug)]
pub struct WebSocketOptions {
    /// Whether frames come unmasked, from a server.
    pub client: bool,
    /// Whether each message is one MSGI frame.
    pub msgi: bool,
    /// The longest message in bytes.
    pub message_limit: usize,
    /// Whether messages may be compressed, whether the window is then carried over, and its size as a power
    /// of two.
    pub inflate: Option<(bool, u8)>,
}

/// How a stream of bytes ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebSocketEnding {
    /// Between two messages.
    Boundary,
    /// In the middle of a message.
    InsideFrame,
    /// With a close frame: its code, 1005 when there is none.
    Closed(u16),
    /// With bytes that were refused: the error code and the close code.
    Invalid(i32, Option<u16>),
}

/// A decoder as a connection has it.
#[derive(Debug)]
pub struct WebSocketDecode {
    decoder: Decoder,
    spans: Vec<Span>,
    copied: BytesMut,
}

impl WebSocketDecode {
    /// A decoder.
    pub fn new(options: &WebSocketOptions) -> Self {
        let inflate = options
            .inflate
            .map(|(takeover, window_bits)| InflateConfig {
                no_context_takeover: !takeover,
                window_bits,
            });
        WebSocketDecode {
            decoder: Decoder::new(DecoderConfig {
                client: options.client,
                msgi: options.msgi,
                message_limit: options.message_limit,
                inflate,
            }),
            spans: Vec::new(),
            copied: BytesMut::new(),
        }
    }

    /// Takes what is complete at the front of `buffer` and hands each payload to `visit`; returns how many
    /// bytes are done with.
    pub fn messages(&mut self, buffer: &mut [u8], mut visit: impl FnMut(&[u8])) -> usize {
        let mut consumed = 0;
        loop {
            self.spans.clear();
            self.copied.clear();
            let rest = &mut buffer[consumed..];
            let pass = self.decoder.decode(rest, &mut self.spans, &mut self.copied);
            let data: &[u8] = match pass.source {
                Source::Buffer => rest,
                Source::Copied => &self.copied,
            };
            for span in &self.spans {
                visit(&data[span.start as usize..][..span.len as usize]);
            }
            consumed += pass.consumed;
            if !pass.again {
                return consumed;
            }
        }
    }
}

/// Decodes bytes that arrive in these pieces.
///
/// # Panics
/// When the decoder breaks one of its own promises: spans outside its buffers, no progress, anything found
/// after the end, or more memory held than has arrived and may come out of it.
pub fn receive_websocket<'a>(
    options: &WebSocketOptions,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<RawFrame>, WebSocketEnding) {
    let mut decoder = WebSocketDecode::new(options).decoder;
    let (mut frames, mut buffer, mut spans) = (Vec::new(), Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            spans.clear();
            let mut copied = BytesMut::new();
            let before = buffer.len();
            let pass = decoder.decode(&mut buffer, &mut spans, &mut copied);
            assert_eq!(buffer.len(), before);
            assert!(pass.consumed <= before, "consumed more than there is");
            assert!(
                pass.needed == 0 || pass.needed > before - pass.consumed,
                "a frame that has arrived is waited for"
            );
            assert!(
                copied.len() <= 512 * 1024 + 2 * options.message_limit + 66_000,
                "one pass copied {} bytes",
                copied.len()
            );
            let data: &[u8] = match pass.source {
                Source::Buffer => &buffer[..pass.consumed],
                Source::Copied => &copied,
            };
            for span in &spans {
                let payload = &data[span.start as usize..][..span.len as usize];
                frames.push(RawFrame {
                    frame_type: span.frame_type.0,
                    text: span.text,
                    id: span.id,
                    payload: payload.to_vec().into(),
                });
            }
            if let Some(error) = &pass.error {
                assert!(!pass.again && !pass.ended);
                assert!(error.text.len() <= 1_024 && !error.text.is_empty());
                let after = decoder.decode(&mut buffer, &mut spans, &mut copied);
                assert_eq!((after.consumed, after.again), (0, false));
                assert!(!decoder.is_mid_message());
                let ending = WebSocketEnding::Invalid(error.code.as_i32(), error.websocket);
                return (frames, ending);
            }
            assert_eq!(pass.ended, decoder.close_received().is_some());
            if let Some(code) = decoder.close_received() {
                assert!(!decoder.is_mid_message());
                return (frames, WebSocketEnding::Closed(code));
            }
            assert!(
                !pass.again || (pass.consumed > 0 && pass.consumed < before),
                "there is more, but none of it was or can be taken"
            );
            drop(buffer.drain(..pass.consumed));
            if !pass.again {
                break;
            }
        }
        decoder.shrink();
    }
    let ending = match decoder.finish(&buffer) {
        EndOfStream::Boundary => WebSocketEnding::Boundary,
        EndOfStream::InsideFrame => WebSocketEnding::InsideFrame,
    };
    (frames, ending)
}

/// Appends a frame, well-formed or not: `first` is its first byte.
pub fn push_websocket_frame(
    stream: &mut Vec<u8>,
    first: u8,
    mask: Option<[u8; 4]>,
    payload: &[u8],
) {
    let head = Head {
        fin: false,
        compressed: false,
        opcode: Opcode::Continuation,
        len: payload.len(),
        mask,
    };
    let mut bytes = [0; HEAD_MAX];
    let size = head.encode(&mut bytes);
    bytes[0] = first;
    stream.extend_from_slice(&bytes[..size]);
    let at = stream.len();
    stream.extend_from_slice(payload);
    if let Some(key) = mask {
        apply_mask(&mut stream[at..], key, 0);
    }
}

/// Appends an unmasked or masked binary message with a random key, as a session does.
pub fn push_websocket_message(stream: &mut Vec<u8>, masked: bool, payload: &[u8]) {
    push_websocket_frame(stream, 0x82, masked.then(next_mask), payload);
}

/// Compresses messages of one side of a connection.
#[derive(Debug)]
pub struct WebSocketDeflate(Deflater);

impl WebSocketDeflate {
    /// A compressor at this level; `takeover` says whether the window is carried over.
    pub fn new(takeover: bool, window_bits: u8, level: u8) -> Self {
        let agreed = Agreed {
            own_no_context_takeover: !takeover,
            peer_no_context_takeover: true,
            own_window_bits: window_bits,
            peer_window_bits: 15,
        };
        WebSocketDeflate(Deflater::new(&agreed, level))
    }

    /// Appends the compressed payload; false when the message is to be sent as it is.
    pub fn compress(&mut self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        self.0.compress(payload, out)
    }
}

/// Runs a request, an answer and extension headers through everything that reads them.
///
/// # Panics
/// When a promise is broken: what is accepted cannot be answered, or is longer than the limit, or a part of
/// it is judged differently once more has arrived.
pub fn read_websocket_upgrade(bytes: &[u8]) {
    let limits = UpgradeLimits {
        max_bytes: 1_024,
        max_headers: 16,
    };
    let whole = parse_request(bytes, &limits);
    for len in 0..bytes.len() {
        match parse_request(&bytes[..len], &limits) {
            Ok(None) => {}
            Ok(Some((request, consumed))) => {
                assert!(consumed <= len && consumed <= limits.max_bytes);
                let (_, known) = whole.as_ref().ok().and_then(Option::as_ref).expect("valid");
                assert_eq!(consumed, *known);
                assert!(request.headers().count() <= limits.max_headers);
                let _ = (request.path(), request.query(), request.subprotocols());
                let answer = accept(&Deflate::default(), request.extensions());
                let answer = answer.map(|(_, answer)| answer);
                let response = response_accept(&request, None, answer.as_deref());
                assert!(response.ends_with(b"\r\n\r\n"));
                for loopback in [false, true] {
                    let list = ["https://example.com"];
                    let _ = origin_allowed(request.origin(), request.host(), loopback, &list);
                    let _ = host_allowed(request.host(), loopback, &list);
                }
            }
            Err(rejection) => {
                assert!(
                    whole.is_err(),
                    "refused before it is complete, then accepted"
                );
                assert!(rejection.response().len() < 1_024);
            }
        }
    }
    let _ = ClientUpgrade::new().judge_response(bytes, &limits);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let options = Deflate::default();
        let _ = judge_answer(&options, [text]);
        if let Some((agreed, answer)) = accept(&options, [text]) {
            assert!((9..=15).contains(&agreed.own_window_bits));
            assert!((8..=15).contains(&agreed.peer_window_bits));
            let offered = offer(&options);
            assert!(
                judge_answer(&options, [answer.as_str()]).is_ok(),
                "{offered}: {answer}"
            );
        }
    }
}

/// Whether a frame is of WebSocket itself: ping, pong or close.
pub fn is_websocket_control(frame: &RawFrame) -> bool {
    let types = [FrameType::PING, FrameType::PONG, FrameType::DISCONNECT];
    frame.text && types.contains(&FrameType(frame.frame_type))
}
