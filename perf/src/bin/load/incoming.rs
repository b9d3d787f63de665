//! The check of what a connection receives.

use std::io;

use flate2::{Decompress, FlushDecompress};

use crate::shape::{Frame, Kind, MAX_HEADER_LEN, PROBE, Parsed, SEQUENCE_LEN, Shape, mismatch};

/// What ends the last block of a compressed message and is not sent.
const DEFLATE_END: [u8; 4] = [0, 0, 0xFF, 0xFF];

/// The check of what a connection receives. Frames may come in any pieces.
pub(crate) struct Incoming {
    /// The number of the next message.
    expected: u64,
    /// The header and the sequence number of the frame under way.
    head: [u8; MAX_HEADER_LEN + SEQUENCE_LEN],
    /// How many bytes of the frame under way have come.
    seen: usize,
    /// The frame under way, once its header is complete.
    frame: Option<Frame>,
    /// The compressed payload under way.
    compressed: Vec<u8>,
}

/// What was completed by some bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) messages: u64,
    pub(crate) probes: u64,
    pub(crate) pongs: u64,
}

impl Incoming {
    /// The check of messages that count up from `first`.
    pub(crate) fn new(first: u64) -> Self {
        Self {
            expected: first,
            head: [0; MAX_HEADER_LEN + SEQUENCE_LEN],
            seen: 0,
            frame: None,
            compressed: Vec::new(),
        }
    }

    /// Checks the next bytes of the stream, and adds to `taken` what they
    /// complete. Control frames are passed over.
    pub(crate) fn take(
        &mut self,
        mut bytes: &[u8],
        shape: &Shape,
        taken: &mut Taken,
    ) -> io::Result<()> {
        let expected = &shape.received;
        let (header, tail) = (expected.header(), expected.tail());
        while !bytes.is_empty() {
            if self.seen == 0
                && let Some((frame, rest)) = bytes.split_at_checked(expected.len())
                && let Some((head, frame)) = frame.split_at_checked(header.len())
                && let Some((sequence, frame)) = frame.split_first_chunk()
                && *sequence == expected.sequence(self.expected)
                && head == header
                && frame == tail
            {
                self.expected += 1;
                taken.messages += 1;
                bytes = rest;
            } else {
                let len = self.take_piece(bytes, shape, taken)?;
                bytes = &bytes[len..];
            }
        }
        Ok(())
    }

    /// Takes some bytes of a frame that is incomplete or unusual, and gives
    /// their number.
    fn take_piece(&mut self, bytes: &[u8], shape: &Shape, taken: &mut Taken) -> io::Result<usize> {
        let len;
        if let Some(Frame { kind, length }) = self.frame {
            let header_len = shape.received.header().len();
            let head_len = header_len + SEQUENCE_LEN;
            if kind == Kind::Message && self.seen < head_len {
                len = self.keep(bytes, head_len);
                if self.seen == head_len {
                    self.check_sequence(&self.head[header_len..head_len])?;
                }
            } else {
                len = bytes.len().min(length - self.seen);
                let piece = &bytes[..len];
                match kind {
                    Kind::Message => {
                        let from = self.seen - head_len;
                        if *piece != shape.received.tail()[from..from + len] {
                            return Err(mismatch("the payload of a message differs"));
                        }
                    }
                    Kind::Compressed => self.compressed.extend_from_slice(piece),
                    Kind::Pong | Kind::Other => {}
                }
                self.seen += len;
            }
        } else {
            let wanted = match shape.parse(&self.head[..self.seen])? {
                Parsed::Needs(wanted) => wanted,
                Parsed::Frame(_) => self.seen,
            };
            len = self.keep(bytes, wanted);
            if let Parsed::Frame(frame) = shape.parse(&self.head[..self.seen])? {
                self.frame = Some(frame);
            }
        }
        if let Some(frame) = self.frame
            && self.seen == frame.length
        {
            self.complete(frame.kind, shape, taken)?;
        }
        Ok(len)
    }

    /// Keeps what is missing of the first `wanted` bytes of a frame.
    fn keep(&mut self, bytes: &[u8], wanted: usize) -> usize {
        let len = bytes.len().min(wanted - self.seen);
        self.head[self.seen..self.seen + len].copy_from_slice(&bytes[..len]);
        self.seen += len;
        len
    }

    fn complete(&mut self, kind: Kind, shape: &Shape, taken: &mut Taken) -> io::Result<()> {
        match kind {
            Kind::Message => {
                let at = shape.received.header().len();
                self.count(
                    self.head[at..at + SEQUENCE_LEN] == PROBE.to_be_bytes(),
                    taken,
                );
            }
            Kind::Compressed => {
                let message = self.inflate(shape)?;
                let (sequence, pattern) = message
                    .split_first_chunk::<SEQUENCE_LEN>()
                    .ok_or_else(|| mismatch("a message has the wrong length"))?;
                self.check_sequence(sequence)?;
                if pattern != shape.received.tail() {
                    return Err(mismatch("the payload of a message differs"));
                }
                self.count(*sequence == PROBE.to_be_bytes(), taken);
            }
            Kind::Pong => taken.pongs += 1,
            Kind::Other => {}
        }
        self.seen = 0;
        self.frame = None;
        Ok(())
    }

    fn count(&mut self, is_probe: bool, taken: &mut Taken) {
        if is_probe {
            taken.probes += 1;
        } else {
            self.expected += 1;
            taken.messages += 1;
        }
    }

    /// The payload under way, which needs nothing of the messages before it.
    fn inflate(&mut self, shape: &Shape) -> io::Result<Vec<u8>> {
        self.compressed.extend_from_slice(&DEFLATE_END);
        // One byte more than expected, so that a longer message is noticed.
        let size = SEQUENCE_LEN + shape.received.tail().len();
        let mut message = Vec::with_capacity(size + 1);
        Decompress::new(false)
            .decompress_vec(&self.compressed, &mut message, FlushDecompress::Sync)
            .map_err(io::Error::other)?;
        self.compressed = Vec::new();
        Ok(message)
    }

    fn check_sequence(&self, sequence: &[u8]) -> io::Result<()> {
        if sequence == self.expected.to_be_bytes() || sequence == PROBE.to_be_bytes() {
            return Ok(());
        }
        Err(mismatch("a message is out of order"))
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};
    use network_system_perf::frame;
    use network_system_perf::websocket::{self, BINARY, COMPRESSED, FINAL, PING, PONG};

    use super::*;
    use crate::shape::Format;

    /// What an echo server sends: two messages, a control frame, a probe, a pong, a message.
    fn stream(shape: &Shape) -> Vec<u8> {
        let (control, pong) = match shape.format {
            Format::Msgi => (
                [&frame::header(frame::PING, 3)[..], b"abc"].concat(),
                frame::header(frame::PONG, 0).to_vec(),
            ),
            _ => (
                vec![FINAL | PING, 3, b'a', b'b', b'c'],
                vec![FINAL | PONG, 0],
            ),
        };
        let last = match shape.format {
            Format::Deflate => compressed(shape, 2),
            _ => shape.received.message(2),
        };
        [
            shape.received.message(0),
            shape.received.message(1),
            control,
            shape.received.message(PROBE),
            pong,
            last,
        ]
        .concat()
    }

    fn compressed(shape: &Shape, sequence: u64) -> Vec<u8> {
        let message = shape.received.message(sequence);
        let payload = &message[shape.received.header().len()..];
        let mut compressed = Vec::with_capacity(4096);
        Compress::new(Compression::fast(), false)
            .compress_vec(payload, &mut compressed, FlushCompress::Sync)
            .expect("there is room");
        let len = compressed.len() - DEFLATE_END.len();
        let mut frame = Vec::new();
        websocket::put_header(&mut frame, FINAL | BINARY | COMPRESSED, len, None);
        frame.extend_from_slice(&compressed[..len]);
        frame
    }

    const FORMATS: [Format; 3] = [Format::Msgi, Format::WebSocket, Format::Deflate];

    #[test]
    fn any_pieces_of_the_right_stream_pass() {
        for format in FORMATS {
            for size in [8, 20, 130] {
                let shape = Shape::new(format, size);
                let bytes = stream(&shape);
                for piece in 1..bytes.len() {
                    let mut incoming = Incoming::new(0);
                    let mut taken = Taken::default();
                    for bytes in bytes.chunks(piece) {
                        incoming
                            .take(bytes, &shape, &mut taken)
                            .expect("the stream is right");
                    }
                    let whole = Taken {
                        messages: 3,
                        probes: 1,
                        pongs: 1,
                    };
                    assert_eq!(taken, whole, "{format:?}, size {size}, pieces of {piece}");
                }
            }
        }
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        // Compressed bytes may change without the message that they stand for.
        for format in [Format::Msgi, Format::WebSocket] {
            let shape = Shape::new(format, 20);
            let bytes: Vec<u8> = (0..3)
                .flat_map(|sequence| shape.received.message(sequence))
                .collect();
            for index in 0..bytes.len() {
                for piece in [1, 7, bytes.len()] {
                    let mut wrong = bytes.clone();
                    wrong[index] ^= 0x80;
                    let mut incoming = Incoming::new(0);
                    let mut taken = Taken::default();
                    let result = wrong
                        .chunks(piece)
                        .try_for_each(|bytes| incoming.take(bytes, &shape, &mut taken));
                    assert!(
                        result.is_err(),
                        "{format:?}, byte {index}, pieces of {piece}"
                    );
                }
            }
        }
    }
}
