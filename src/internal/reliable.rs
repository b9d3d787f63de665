//! The bookkeeping of reliable sessions by itself, for fuzzing.

use std::fmt;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::Bytes;

use super::RawFrame;
use crate::codec::{FrameType, Framing};
use crate::session::output::{Frame, MAX_SLICES, Output};
use crate::session::reliable::replay::Kept;
use crate::session::reliable::resumption::{ResumeToken, Resumption};
use crate::session::reliable::{Claim, Reliable, is_application, wire_len};

/// What one side of a reliable session keeps, without a link, handlers and time of its own.
pub struct ReliableSide {
    reliable: Reliable,
    output: Output,
}

impl ReliableSide {
    /// A client's side, with a window of so many bytes.
    pub fn client(window: usize) -> Self {
        ReliableSide {
            reliable: Reliable::new(Arc::default(), window, 0),
            output: Output::default(),
        }
    }

    /// A server's side, and its first token; `None` without a source of random numbers.
    pub fn server(window: usize) -> Option<(Self, String)> {
        let token = ResumeToken::random()?;
        let shared = Arc::new(Resumption::with_token(token));
        let side = ReliableSide {
            reliable: Reliable::new(shared, window, 0),
            output: Output::default(),
        };
        Some((side, token.to_text()))
    }

    /// Collects as many of the frames as the window takes, and returns how many those are.
    pub fn send(&mut self, frames: impl IntoIterator<Item = RawFrame>) -> usize {
        let mut room = self.reliable.room();
        let mut taken = 0;
        for frame in frames {
            let frame_type = FrameType(frame.frame_type);
            if !room.take(frame_type, frame.payload.len()) {
                break;
            }
            self.push(frame_type, frame.id, frame.payload);
            taken += 1;
        }
        self.reliable.replay.keep_new(&mut self.output);
        taken
    }

    /// Collects a CONTROL frame, which is not kept.
    pub fn say(&mut self, payload: Bytes) {
        self.push(FrameType::CONTROL, 0, payload);
    }

    fn push(&mut self, frame_type: FrameType, id: u64, payload: Bytes) {
        self.output
            .push(Framing::Msgi, frame_type, false, id, payload);
    }

    /// Collects at most `most` frames that have to be sent again.
    pub fn replay(&mut self, most: usize) {
        self.reliable.replay.keep_new(&mut self.output);
        let mut frames = Vec::new();
        if most > 0 {
            self.reliable.replay(|kept| {
                frames.push(match kept {
                    Kept::Whole(frame) => frame.clone(),
                    Kept::Copied(frame_type, id, payload) => {
                        Frame::new(frame_type, false, id, Bytes::copy_from_slice(payload))
                    }
                });
                frames.len() < most
            });
        }
        for frame in frames {
            self.output.place(Framing::Msgi, frame);
        }
        self.output.set_recorded();
    }

    /// Takes what was collected, as MSGI.
    pub fn transmit(&mut self) -> Vec<u8> {
        self.reliable.replay.keep_new(&mut self.output);
        let mut bytes = Vec::with_capacity(self.output.remaining());
        while !self.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let count = self.output.fill(&mut slices);
            let before = bytes.len();
            for slice in &slices[..count] {
                bytes.extend_from_slice(slice);
            }
            self.output.advance(bytes.len() - before);
        }
        self.output.reset(usize::MAX);
        bytes
    }

    /// A frame has arrived. Says whether it waits for the handler.
    pub fn arrive(&mut self, frame_type: u16, payload: usize) -> bool {
        let frame_type = FrameType(frame_type);
        if std::mem::take(&mut self.reliable.is_fresh) {
            self.reliable.shared.forget_previous();
        }
        if !is_application(frame_type) {
            return false;
        }
        let bytes = wire_len(frame_type, payload) as u64;
        match frame_type.is_ordered() {
            true => self.reliable.arrivals.arrive(1, bytes),
            false => self.reliable.arrivals.arrive_done(1, bytes),
        }
        frame_type.is_ordered()
    }

    /// The next frames that wait, which are at least so many, are handled.
    pub fn handle(&mut self, frames: u64) {
        self.reliable.arrivals.pass(frames);
    }

    /// The acknowledgement that is due, if one is, and else when one will be, in milliseconds.
    pub fn ack(&mut self, now: u64) -> (Option<u64>, Option<u64>) {
        let handled = self.reliable.arrivals.passed();
        match self.reliable.ack(handled, now) {
            None => (None, self.reliable.next_ack(handled, false, now)),
            ack => (ack, None),
        }
    }

    /// The other side has handled so many frames. False when it says more than was sent.
    pub fn on_ack(&mut self, received: u64) -> bool {
        let fits = self.reliable.judge(received) != Claim::TooMuch;
        if fits {
            self.reliable.free(received);
        }
        fits
    }

    /// The link is lost.
    pub fn lose_link(&mut self) {
        self.reliable.replay.keep_new(&mut self.output);
        self.output = Output::default();
        self.reliable.lose_link();
    }

    /// There is another link, and the other side has so many frames. False, and nothing happens, when that cannot be.
    pub fn resume(&mut self, received: u64) -> bool {
        let fits = self.reliable.judge(received) == Claim::Fits;
        if fits {
            self.reliable.is_fresh = true;
            self.reliable.begin_replay(received);
        }
        fits
    }

    /// Whether a server's session can be had with this token.
    pub fn accepts(&self, token: &str) -> bool {
        self.reliable.shared.accepts(token)
    }

    /// A server's session was asked for with this token; its next one, or `None` without a source of random numbers.
    pub fn rotate(&self, token: &str) -> Option<String> {
        let next = ResumeToken::random()?;
        self.reliable.shared.rotate(token, next);
        Some(next.to_text())
    }

    /// How many frames have arrived.
    pub fn decoded(&self) -> u64 {
        self.reliable.arrivals.decoded()
    }

    /// How many frames, from the first one on, were handled.
    pub fn handled(&self) -> u64 {
        self.reliable.arrivals.passed()
    }

    /// Frames that are sent and not acknowledged, and their bytes as MSGI.
    pub fn unacknowledged(&self) -> (u64, usize) {
        (self.reliable.replay.len(), self.reliable.replay.bytes())
    }
}

impl fmt::Debug for ReliableSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReliableSide").finish_non_exhaustive()
    }
}
