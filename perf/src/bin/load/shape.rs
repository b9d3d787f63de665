//! What the messages of a run look like on the wire.
//!
//! Every message of a run has the same length. Its payload is a sequence
//! number of eight bytes and a fixed pattern, so the stream in both directions
//! is known in advance: sending needs no queue, and receiving is one
//! comparison for each message.

use std::io;

use network_system_perf::frame::{self, HEADER_LEN};
use network_system_perf::websocket::{self, BINARY, COMPRESSED, FINAL, Mask};

/// The smallest message: a sequence number and no pattern.
pub(crate) const MIN_SIZE: usize = SEQUENCE_LEN;
/// The largest message of [`Format::Deflate`]: it is one block that is stored.
pub(crate) const MAX_STORED: usize = u16::MAX as usize;
/// The sequence number of a message that only asks whether it arrives.
pub(crate) const PROBE: u64 = u64::MAX;

pub(crate) const SEQUENCE_LEN: usize = 8;
/// No header is longer: that of WebSocket, and that of a stored block.
pub(crate) const MAX_HEADER_LEN: usize = websocket::MAX_HEADER_LEN + 5;
/// One key for all frames. A server cannot know, and a client that chose a new one for each
/// would spend its core on masking.
const MASK: Mask = [0x5A, 0xC3, 0x17, 0xE9];

/// How messages stand in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// As DATA frames of MSGI.
    Msgi,
    /// As binary messages of WebSocket.
    WebSocket,
    /// As the same, compressed by permessage-deflate.
    Deflate,
    /// As datagrams.
    Datagram,
}

/// What the messages of a run have in common.
pub(crate) struct Shape {
    pub(crate) format: Format,
    /// The messages as they are sent.
    pub(crate) sent: Template,
    /// The messages as they come back. Those that are compressed are unlike it.
    pub(crate) received: Template,
}

/// A message on the wire, but for its sequence number.
pub(crate) struct Template {
    bytes: Vec<u8>,
    /// Where the sequence number stands.
    at: usize,
    /// What the sequence number is masked with.
    mask: u64,
}

impl Shape {
    /// Messages of `size` bytes, which must be at least [`MIN_SIZE`].
    pub(crate) fn new(format: Format, size: usize) -> Self {
        let pattern = match format {
            Format::Deflate => compressible(size - SEQUENCE_LEN),
            _ => random(size - SEQUENCE_LEN),
        };
        let (sent, received) = match format {
            Format::Msgi => {
                let header = frame::header(frame::DATA, size);
                (
                    Template::new(&header, &pattern, &[]),
                    Template::new(&header, &pattern, &[]),
                )
            }
            Format::WebSocket | Format::Deflate => {
                let mut header = Vec::new();
                websocket::put_header(&mut header, FINAL | BINARY, size, None);
                let received = Template::new(&header, &pattern, &[]);
                header.clear();
                if format == Format::WebSocket {
                    websocket::put_header(&mut header, FINAL | BINARY, size, Some(MASK));
                    let payload_at = header.len();
                    let mut sent = Template::new(&header, &pattern, &[]);
                    sent.mask(payload_at);
                    (sent, received)
                } else {
                    // A stored block costs the generator nothing, and the server has to inflate it
                    // like any other (RFC 7692, section 7.2.3.3).
                    let first = FINAL | BINARY | COMPRESSED;
                    websocket::put_header(&mut header, first, size + 6, Some(MASK));
                    let payload_at = header.len();
                    let len = (size as u16).to_le_bytes();
                    header.extend_from_slice(&[0, len[0], len[1], !len[0], !len[1]]);
                    let mut sent = Template::new(&header, &pattern, &[0]);
                    sent.mask(payload_at);
                    (sent, received)
                }
            }
            Format::Datagram => (
                Template::new(&[], &pattern, &[]),
                Template::new(&[], &pattern, &[]),
            ),
        };
        Self {
            format,
            sent,
            received,
        }
    }

    /// A frame that the server must answer with a pong.
    pub(crate) fn ping(&self) -> Vec<u8> {
        self.control(frame::PING, websocket::PING)
    }

    /// A frame that shows that the sender is alive.
    pub(crate) fn keep_alive(&self) -> Vec<u8> {
        self.control(frame::HEARTBEAT, websocket::PONG)
    }

    fn control(&self, msgi: u16, websocket: u8) -> Vec<u8> {
        match self.format {
            Format::Msgi => frame::header(msgi, 0).to_vec(),
            Format::WebSocket | Format::Deflate => {
                let mut bytes = Vec::new();
                websocket::put_header(&mut bytes, FINAL | websocket, 0, Some(MASK));
                bytes
            }
            Format::Datagram => Vec::new(),
        }
    }

    /// Reads the header of a frame of which some bytes have come.
    pub(crate) fn parse(&self, bytes: &[u8]) -> io::Result<Parsed> {
        match self.format {
            Format::WebSocket | Format::Deflate => self.parse_websocket(bytes),
            Format::Msgi | Format::Datagram => self.parse_msgi(bytes),
        }
    }

    fn parse_msgi(&self, bytes: &[u8]) -> io::Result<Parsed> {
        let Some(header) = bytes.first_chunk() else {
            return Ok(Parsed::Needs(HEADER_LEN));
        };
        let (kind, length) = frame::parse_header(header).map_err(io::Error::other)?;
        let kind = match kind {
            frame::DATA if length != self.received.len() => {
                return Err(mismatch("a message has the wrong length"));
            }
            frame::DATA => Kind::Message,
            frame::PONG => Kind::Pong,
            frame::PING | frame::CONTROL | frame::HEARTBEAT => Kind::Other,
            _ => {
                return Err(mismatch(&format!(
                    "the server sent a frame of type {kind:#06x}"
                )));
            }
        };
        Ok(Parsed::Frame(Frame { kind, length }))
    }

    fn parse_websocket(&self, bytes: &[u8]) -> io::Result<Parsed> {
        const MESSAGE: u8 = FINAL | BINARY;
        const COMPRESSED_MESSAGE: u8 = FINAL | BINARY | COMPRESSED;
        let header = match websocket::parse_header(bytes).map_err(io::Error::other)? {
            websocket::Parsed::Needs(len) => return Ok(Parsed::Needs(len)),
            websocket::Parsed::Header(header) => header,
        };
        if header.mask.is_some() {
            return Err(mismatch("the server sent a masked frame"));
        }
        let length = header.frame_len();
        let expected = &self.received;
        let kind = match header.first {
            MESSAGE if length != expected.len() || header.len != expected.header().len() => {
                return Err(mismatch("a message has the wrong length"));
            }
            MESSAGE => Kind::Message,
            COMPRESSED_MESSAGE if self.format == Format::Deflate => Kind::Compressed,
            first if first & 0x0F == websocket::PONG => Kind::Pong,
            first if first & 0x0F == websocket::PING => Kind::Other,
            first if first & 0x0F == websocket::CLOSE => {
                return Err(io::Error::other("the server closed a connection"));
            }
            first => {
                return Err(mismatch(&format!(
                    "the server sent a frame that begins with {first:#04x}"
                )));
            }
        };
        Ok(Parsed::Frame(Frame { kind, length }))
    }
}

/// The beginning of a frame.
pub(crate) enum Parsed {
    Frame(Frame),
    /// The header has this many bytes, as far as can be told.
    Needs(usize),
}

/// A frame that is under way.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    /// The length of the whole frame.
    pub(crate) length: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A message as the template is.
    Message,
    /// A message whose payload is compressed.
    Compressed,
    Pong,
    /// A frame that is passed over.
    Other,
}

impl Template {
    fn new(header: &[u8], pattern: &[u8], end: &[u8]) -> Self {
        Self {
            bytes: [header, &[0; SEQUENCE_LEN], pattern, end].concat(),
            at: header.len(),
            mask: 0,
        }
    }

    /// Masks everything from `payload_at` on.
    fn mask(&mut self, payload_at: usize) {
        websocket::mask(&mut self.bytes[payload_at..], MASK);
        self.mask = self.bytes[self.at..]
            .first_chunk()
            .map_or(0, |bytes| u64::from_be_bytes(*bytes));
    }

    /// The length of a message with everything around it.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What stands before the sequence number.
    pub(crate) fn header(&self) -> &[u8] {
        &self.bytes[..self.at]
    }

    /// What follows the sequence number.
    pub(crate) fn tail(&self) -> &[u8] {
        &self.bytes[self.at + SEQUENCE_LEN..]
    }

    /// The bytes of a sequence number.
    #[inline]
    pub(crate) fn sequence(&self, sequence: u64) -> [u8; SEQUENCE_LEN] {
        (sequence ^ self.mask).to_be_bytes()
    }

    /// Makes the message in `target` the one with this number.
    #[inline]
    pub(crate) fn patch(&self, target: &mut [u8], sequence: u64) {
        target[self.at..self.at + SEQUENCE_LEN].copy_from_slice(&self.sequence(sequence));
    }

    /// The whole message.
    pub(crate) fn message(&self, sequence: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        self.patch(&mut bytes, sequence);
        bytes
    }
}

/// Pseudo-random bytes, which are random enough to tell shifted ones from right ones.
fn random(len: usize) -> Vec<u8> {
    // A linear congruential generator, of which the high bits are the best.
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Bytes that a server finds worth compressing.
fn compressible(len: usize) -> Vec<u8> {
    b"{\"kind\":\"reading\",\"sensor\":\"north\",\"value\":21.5},"
        .iter()
        .copied()
        .cycle()
        .take(len)
        .collect()
}

pub(crate) fn mismatch(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
