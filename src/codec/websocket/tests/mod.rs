mod decode;
mod deflate;
mod hostile;
mod oracle;
mod upgrade;

use bytes::Bytes;

use super::head::*;
use crate::internal::{
    RawFrame, WebSocketEnding, WebSocketOptions, push_websocket_frame, receive_websocket,
};

pub(super) const LIMIT: usize = 10_000;
pub(super) const MASK: Option<[u8; 4]> = Some([0x37, 0xFA, 0x21, 0x3D]);
pub(super) const SERVER: WebSocketOptions = WebSocketOptions {
    client: false,
    msgi: false,
    message_limit: LIMIT,
    inflate: None,
};

pub(super) const DATA: u16 = 0x10;
pub(super) const PING: u16 = 1;
pub(super) const PONG: u16 = 2;
pub(super) const DISCONNECT: u16 = 0x50;

pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    push_websocket_frame(&mut stream, first, MASK, payload);
    stream
}

pub(super) fn found(frame_type: u16, text: bool, payload: &[u8]) -> RawFrame {
    RawFrame {
        frame_type,
        text,
        id: 0,
        payload: Bytes::copy_from_slice(payload),
    }
}

/// Decodes the stream in one piece and byte by byte, which has to be the same.
pub(super) fn receive(
    options: &WebSocketOptions,
    stream: &[u8],
) -> (Vec<RawFrame>, WebSocketEnding) {
    let whole = receive_websocket(options, [stream]);
    let bytes = receive_websocket(options, stream.chunks(1));
    assert_eq!(bytes, whole);
    whole
}

/// The close code that the stream is refused with, and how many messages came before.
pub(super) fn refused(options: &WebSocketOptions, stream: &[u8]) -> (usize, i32, Option<u16>) {
    let (frames, ending) = receive(options, stream);
    match ending {
        WebSocketEnding::Invalid(code, websocket) => (frames.len(), code, websocket),
        other => panic!("not refused: {other:?} after {frames:?}"),
    }
}
