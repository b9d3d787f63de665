//! Parts of the core by themselves, for micro benches.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{Decoder, FrameType, Framing};
use crate::config::Limits;
use crate::endpoint::CodecKind;
use crate::session::inbound::Inbound;
use crate::session::outbox::{Offered, Outbox};
use crate::session::output::{Encoded, Frame, Output};
use crate::session::reliable::Room;
use crate::worker::BroadcastFrames;

/// Finding frames in a read buffer, and lending their messages.
#[derive(Debug)]
pub struct Decode {
    decoder: Decoder,
}

impl Decode {
    /// A decoder with a message limit of 1 MiB.
    pub fn new(codec: CodecKind) -> Self {
        Decode {
            decoder: Decoder::new(Framing::from(codec), 1024 * 1024),
        }
    }

    /// Decodes all frames and calls `visit` with each message; returns how many bytes were frames.
    pub fn messages(&mut self, buffer: &Bytes, mut visit: impl FnMut(&[u8])) -> usize {
        let mut at = 0;
        loop {
            let mut spans = Vec::new();
            let decoded = self.decoder.decode(&buffer[at..], &mut spans);
            let data = buffer.slice(at..at + decoded.consumed);
            let mut inbound = match decoded.plain {
                0 => Inbound::new(data, spans),
                count => Inbound::plain(data, count, spans),
            };
            while let Some(message) = inbound.next_message() {
                visit(message.payload());
            }
            at += decoded.consumed;
            if !decoded.again {
                return at;
            }
        }
    }
}

/// Collecting frames for one write.
#[derive(Debug, Default)]
pub struct Encode {
    output: Output,
}

impl Encode {
    /// Appends a message that is lent, by the short way where that is possible.
    pub fn lent(&mut self, payload: &[u8]) {
        self.output.reserve(payload.len() + 10);
        self.output.push_msgi(FrameType::DATA, payload);
    }

    /// Appends a message that is owned.
    pub fn owned(&mut self, payload: Bytes) {
        self.output
            .push(Framing::Msgi, FrameType::DATA, false, 0, payload);
    }

    /// Pretends that everything was written; returns how many bytes that were.
    pub fn written(&mut self) -> usize {
        let bytes = self.output.remaining();
        self.output.take_counts();
        self.output.reset(usize::MAX);
        bytes
    }
}

/// The queue of a session.
#[derive(Debug, Default)]
pub struct Queue {
    outbox: Outbox,
    output: Output,
    limits: Limits,
}

impl Queue {
    /// Queues a message; false when there is no room.
    pub fn offer(&mut self, payload: &Bytes) -> bool {
        let offered = self
            .outbox
            .offer(payload.len(), &self.limits, self.limits.when_full, || {
                let payload = payload.clone();
                Frame::new(FrameType::DATA, false, 0, payload)
            });
        matches!(offered, Offered::Queued { .. })
    }

    /// Encodes what is queued and pretends that it was written; returns how many bytes that were.
    pub fn drain(&mut self) -> usize {
        let wakers =
            self.outbox
                .drain_into(&mut self.output, Framing::Msgi, usize::MAX, Room::UNLIMITED);
        drop(wakers);
        let bytes = self.output.remaining();
        self.output.take_counts();
        self.output.reset(usize::MAX);
        bytes
    }
}

/// Encodes a message once, as a broadcast does, and takes the frame for each of `receivers` queues.
pub fn encode_for_many(payload: &Bytes, receivers: &mut [Queue]) {
    let frames = Arc::new(BroadcastFrames::new(
        FrameType::DATA,
        false,
        payload.clone(),
    ));
    let encoded: Option<&Encoded> = frames.encoded(Framing::Msgi);
    for receiver in receivers {
        if let Some(encoded) = encoded {
            let limits = &receiver.limits;
            receiver
                .outbox
                .offer_encoded(encoded, limits, limits.when_full);
        }
    }
}
