//! What a connection sends.

use std::io::{self, ErrorKind, IoSlice, Write};

use crate::shape::{MAX_HEADER_LEN, SEQUENCE_LEN, Shape};

/// Frames up to this length are written together from one buffer; longer ones
/// from where they are. One buffer costs less than a list of many pieces.
const COPY_LIMIT: usize = 4096;
/// How many bytes of small frames one write takes.
const WRITE_BUFFER: usize = 256 * 1024;
/// How many large frames one write takes.
const WRITE_FRAMES: usize = 8;

/// A buffer that all connections of a run share. It is full of frames in which
/// only the numbers are changed.
#[derive(Default)]
pub(crate) struct Scratch(Vec<u8>);

impl Scratch {
    /// The frames of `count` messages from `first` on.
    fn frames(&mut self, shape: &Shape, first: u64, count: usize) -> &[u8] {
        let template = &shape.sent;
        let len = count * template.len();
        while self.0.len() < len {
            self.0.extend_from_slice(&template.message(0));
        }
        let frames = &mut self.0[..len];
        for (frame, sequence) in frames.chunks_exact_mut(template.len()).zip(first..) {
            template.patch(frame, sequence);
        }
        frames
    }
}

/// How large frames are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gather {
    /// In pieces, from where they are.
    Pieces,
    /// From one buffer, because the writer copies them anyway.
    Buffer,
}

/// The messages that a connection has still to send.
pub(crate) struct Outgoing {
    /// The first message that is not completely written.
    next: u64,
    /// How much of its frame is written.
    offset: usize,
    /// How many messages may be written, `next` included.
    queued: u64,
}

impl Outgoing {
    /// Messages that count up from `first`.
    pub(crate) fn new(first: u64) -> Self {
        Self {
            next: first,
            offset: 0,
            queued: 0,
        }
    }

    /// Whether the last frame that was begun is completely written.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.offset == 0
    }

    /// Lets `messages` more be written.
    pub(crate) fn queue(&mut self, messages: u64) {
        self.queued += messages;
    }

    /// Writes `lead`, which stands before the next frame, and queued messages until none is left or the writer
    /// takes no more. What was written of `lead` is taken off its front.
    pub(crate) fn write(
        &mut self,
        writer: &mut impl Write,
        gather: Gather,
        lead: &mut Vec<u8>,
        shape: &Shape,
        scratch: &mut Scratch,
    ) -> io::Result<()> {
        while self.queued > 0 || !lead.is_empty() {
            let frame_len = shape.sent.len();
            let (result, wanted) = if gather == Gather::Buffer || frame_len <= COPY_LIMIT {
                let frames = self.queued.min((WRITE_BUFFER / frame_len).max(1) as u64);
                let bytes = scratch.frames(shape, self.next, frames as usize);
                let bytes = &bytes[self.offset..];
                let result = match lead.is_empty() {
                    true => writer.write(bytes),
                    false => writer.write_vectored(&[IoSlice::new(lead), IoSlice::new(bytes)]),
                };
                (result, lead.len() + bytes.len())
            } else if !lead.is_empty() {
                (writer.write(lead), lead.len())
            } else {
                self.write_in_place(writer, shape)
            };
            let written = match result {
                Ok(written) => written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let of_lead = written.min(lead.len());
            lead.drain(..of_lead);
            let position = self.offset + written - of_lead;
            let frames = (position / frame_len) as u64;
            self.next += frames;
            self.queued -= frames;
            self.offset = position % frame_len;
            if written < wanted {
                // The socket is full, and an edge will tell when it no longer is.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Writes large frames without copying them.
    fn write_in_place(&self, writer: &mut impl Write, shape: &Shape) -> (io::Result<usize>, usize) {
        const HEAD_LEN: usize = MAX_HEADER_LEN + SEQUENCE_LEN;
        let frames = (self.queued as usize).min(WRITE_FRAMES);
        let header = shape.sent.header();
        let head_len = header.len() + SEQUENCE_LEN;
        let mut heads = [[0; HEAD_LEN]; WRITE_FRAMES];
        for (head, sequence) in heads[..frames].iter_mut().zip(self.next..) {
            head[..header.len()].copy_from_slice(header);
            head[header.len()..head_len].copy_from_slice(&shape.sent.sequence(sequence));
        }
        let mut pieces = [IoSlice::new(&[]); 2 * WRITE_FRAMES];
        for (pair, head) in pieces.chunks_exact_mut(2).zip(&heads[..frames]) {
            pair[0] = IoSlice::new(&head[..head_len]);
            pair[1] = IoSlice::new(shape.sent.tail());
        }
        let mut pieces = &mut pieces[..2 * frames];
        IoSlice::advance_slices(&mut pieces, self.offset);
        let wanted = frames * shape.sent.len() - self.offset;
        (writer.write_vectored(pieces), wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Format;

    /// Takes at most `limit` bytes in each write.
    struct Narrow {
        limit: usize,
        bytes: Vec<u8>,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let len = bytes.len().min(self.limit);
            self.bytes.extend_from_slice(&bytes[..len]);
            Ok(len)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn short_writes_continue_where_they_stopped() {
        for (format, gather, size) in [
            (Format::Msgi, Gather::Pieces, 8),
            (Format::Msgi, Gather::Pieces, 5000),
            (Format::Msgi, Gather::Buffer, 5000),
            (Format::WebSocket, Gather::Pieces, 64),
            (Format::WebSocket, Gather::Pieces, 5000),
            (Format::Deflate, Gather::Pieces, 64),
            (Format::Deflate, Gather::Pieces, 5000),
        ] {
            let shape = Shape::new(format, size);
            let lead = b"said before all of them";
            let mut expected = lead.to_vec();
            expected.extend((0..20).flat_map(|sequence| shape.sent.message(sequence)));
            for limit in [1, 9, 17, 18, 19, 100, 7000, 1 << 20] {
                let mut outgoing = Outgoing::new(0);
                let mut narrow = Narrow {
                    limit,
                    bytes: Vec::new(),
                };
                let mut scratch = Scratch::default();
                let mut lead = lead.to_vec();
                outgoing.queue(20);
                while outgoing.queued > 0 {
                    outgoing
                        .write(&mut narrow, gather, &mut lead, &shape, &mut scratch)
                        .expect("the writer takes everything");
                }
                assert!(
                    narrow.bytes == expected,
                    "{format:?}, {gather:?}, size {size}, limit {limit}"
                );
            }
        }
    }

    #[test]
    fn masked_frames_hold_the_message() {
        for size in [8, 64, 200, 70_000] {
            let shape = Shape::new(Format::WebSocket, size);
            let sent = shape.sent.message(0x0102_0304_0506_0708);
            let mut partial = Vec::new();
            let mut messages = 0;
            network_system_perf::websocket::split(&mut partial, &sent, |header, payload| {
                let mut payload = payload.to_vec();
                let mask = header.mask.expect("a client's frame is masked");
                network_system_perf::websocket::mask(&mut payload, mask);
                let echo = shape.received.message(0x0102_0304_0506_0708);
                assert_eq!(payload, echo[shape.received.header().len()..]);
                messages += 1;
            })
            .expect("the frame is well formed");
            assert_eq!(messages, 1);
        }
    }
}
