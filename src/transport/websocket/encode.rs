//! Encoding what cannot be encoded without the connection: messages compressed with a window that is
//! carried over, and fragments.

use bytes::Bytes;

use crate::codec::websocket::deflate::Deflater;
use crate::codec::websocket::head::Opcode;
use crate::codec::websocket::mapping;
use crate::codec::{FrameType, msgi};
use crate::session::output::{Frame, Output};

/// Encoded bytes after which what is there is written first.
const ENOUGH: usize = 64 * 1024;

/// Encodes the frames of one connection.
pub(super) struct Encoder {
    /// What is encoded and not written.
    output: Output,
    deflater: Option<Deflater>,
    /// Messages below this many bytes are not compressed.
    threshold: usize,
    /// Payloads above this many bytes are sent in pieces; 0 for never.
    fragment_size: usize,
    msgi: bool,
    masked: bool,
}

impl Encoder {
    pub(super) fn new(
        deflater: Option<Deflater>,
        threshold: usize,
        fragment_size: usize,
        msgi: bool,
        masked: bool,
    ) -> Self {
        Encoder {
            output: Output::default(),
            deflater,
            threshold,
            fragment_size,
            msgi,
            masked,
        }
    }

    /// Bytes that are encoded and have not left.
    pub(super) fn held(&self) -> usize {
        self.output.remaining()
    }

    /// Bytes of memory that they take.
    pub(super) fn memory(&self) -> usize {
        self.output.memory()
    }

    pub(super) fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Encodes what is worth a write. False when there was nothing.
    pub(super) fn encode_some(&mut self, frames: &mut Output) -> bool {
        // All that was encoded has left. An idle connection keeps no buffer.
        self.output.reset(0);
        let mut any = false;
        while self.output.remaining() < ENOUGH
            && let Some(frame) = frames.pop_frame()
        {
            self.encode(frame);
            any = true;
        }
        any
    }

    fn encode(&mut self, frame: Frame) {
        let Frame {
            frame_type,
            text,
            id,
            payload,
            ..
        } = frame;
        let own = text && matches!(frame_type, FrameType::PING | FrameType::PONG);
        let (opcode, payload) = match self.msgi && !own {
            true => (Opcode::Binary, with_head(frame_type, id, &payload)),
            false => (mapping::opcode(frame_type, text), payload),
        };
        if opcode.is_control() {
            return self.output.push_control(opcode, &payload, self.masked);
        }
        let mut compressed = Vec::new();
        let shorter = payload.len() >= self.threshold
            && self
                .deflater
                .as_mut()
                .is_some_and(|deflater| deflater.compress(&payload, &mut compressed));
        let payload: &[u8] = if shorter { &compressed } else { &payload };
        let size = match self.fragment_size {
            0 => payload.len().max(1),
            size => size,
        };
        let mut pieces = payload.chunks(size).peekable();
        let mut opcode = opcode;
        let mut compressed = shorter;
        loop {
            let piece = pieces.next().unwrap_or_default();
            let fin = pieces.peek().is_none();
            self.output
                .push_websocket(fin, compressed, opcode, piece, self.masked);
            if fin {
                return;
            }
            opcode = Opcode::Continuation;
            compressed = false;
        }
    }
}

fn with_head(frame_type: FrameType, id: u64, payload: &[u8]) -> Bytes {
    let id_len = if frame_type.has_id() { msgi::ID } else { 0 };
    let mut frame = Vec::with_capacity(msgi::HEADER + id_len + payload.len());
    frame.extend_from_slice(&msgi::header(frame_type, id_len + payload.len()));
    if id_len > 0 {
        frame.extend_from_slice(&id.to_be_bytes());
    }
    frame.extend_from_slice(payload);
    Bytes::from(frame)
}
