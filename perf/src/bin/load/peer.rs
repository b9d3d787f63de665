//! One connection of the load generator: what it sends, and the check of what
//! comes back.
//!
//! Every message of a run has the same length. Its payload is a sequence
//! number of eight bytes and a fixed pseudo-random pattern, so the stream in
//! both directions is known in advance: sending needs no queue, and receiving
//! is one comparison for each message.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use network_system_perf::frame::{self, HEADER_LEN};

/// The header and the sequence number of a message.
const HEAD_LEN: usize = HEADER_LEN + 8;
/// The smallest message: a sequence number and no pattern.
pub(crate) const MIN_SIZE: usize = 8;
/// Frames up to this length are copied together for one write; longer ones are
/// written from where they are. Copying costs less than a list of many pieces.
const COPY_LIMIT: usize = 4096;
/// How many bytes of small frames one write takes.
const WRITE_BUFFER: usize = 256 * 1024;
/// How many large frames one write takes.
const WRITE_FRAMES: usize = 8;
/// The sequence number of a message that only asks whether it arrives.
pub(crate) const PROBE: u64 = u64::MAX;
/// How many connections are opened before the first of them is waited for; well
/// under the backlog of any server.
const OPEN_TOGETHER: usize = 64;
/// How long a server may stay silent before the run fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What the messages of a run have in common.
pub(crate) struct Shape {
    header: [u8; HEADER_LEN],
    pattern: Vec<u8>,
}

impl Shape {
    /// Messages of `size` bytes, which must be at least [`MIN_SIZE`].
    pub(crate) fn new(size: usize) -> Self {
        // A linear congruential generator; its high bits are random enough to
        // tell shifted bytes from right ones.
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        Self {
            header: frame::header(frame::DATA, size),
            pattern: (MIN_SIZE..size).map(|_| next()).collect(),
        }
    }

    pub(crate) fn frame_len(&self) -> usize {
        HEAD_LEN + self.pattern.len()
    }

    pub(crate) fn head(&self, sequence: u64) -> [u8; HEAD_LEN] {
        let mut head = [0; HEAD_LEN];
        head[..HEADER_LEN].copy_from_slice(&self.header);
        head[HEADER_LEN..].copy_from_slice(&sequence.to_be_bytes());
        head
    }

    /// The whole frame of a message.
    pub(crate) fn frame(&self, sequence: u64) -> Vec<u8> {
        [&self.head(sequence)[..], &self.pattern].concat()
    }
}

/// A connection with both of its directions.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    pub(crate) outgoing: Outgoing,
    pub(crate) incoming: Incoming,
}

impl Peer {
    /// A connection whose messages count up from `first` in both directions.
    pub(crate) fn new(stream: TcpStream, first: u64) -> Self {
        Self {
            stream,
            outgoing: Outgoing::new(first),
            incoming: Incoming::new(first),
        }
    }

    /// Reads once and checks what came. The flag says that the buffer was
    /// filled, so that there may be more.
    pub(crate) fn read(&mut self, shape: &Shape, buffer: &mut [u8]) -> io::Result<(Taken, bool)> {
        match self.stream.read(buffer) {
            Ok(0) => Err(io::Error::other("the server closed a connection")),
            Ok(len) => Ok((
                self.incoming.take(&buffer[..len], shape)?,
                len == buffer.len(),
            )),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok((Taken::default(), false)),
            Err(error) => Err(error),
        }
    }

    /// Writes queued messages until none is left or the socket is full.
    pub(crate) fn write(&mut self, shape: &Shape, scratch: &mut Vec<u8>) -> io::Result<()> {
        self.outgoing.write(&mut self.stream, shape, scratch)
    }
}

/// The first number of the connection with index `index`. Connections count in
/// ranges of their own, so that an answer on the wrong one is noticed.
pub(crate) fn first_sequence(index: usize) -> u64 {
    (index as u64) << 32
}

/// What opens a connection.
#[derive(Clone, Copy)]
pub(crate) enum Opening {
    /// A message, which the server echoes.
    Echo,
    /// A PING, which the server answers with PONG.
    Ping,
}

/// Opens `count` connections, and waits on each for the answer to its first
/// frame. Connections opened with [`Opening::Echo`] count in ranges of their
/// own, the others from zero. The sockets are left blocking.
pub(crate) fn open(
    server: SocketAddr,
    count: usize,
    opening: Opening,
    shape: &Shape,
) -> io::Result<Vec<Peer>> {
    let mut peers = Vec::with_capacity(count);
    let mut buffer = vec![0; shape.frame_len().max(4096)];
    let mut scratch = Vec::new();
    while peers.len() < count {
        let opened = peers.len();
        for index in opened..count.min(opened + OPEN_TOGETHER) {
            let mut stream = TcpStream::connect(server)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut peer = match opening {
                Opening::Echo => Peer::new(stream, first_sequence(index)),
                Opening::Ping => {
                    stream.write_all(&frame::header(frame::PING, 0))?;
                    Peer::new(stream, 0)
                }
            };
            if let Opening::Echo = opening {
                peer.outgoing.queue(1);
                peer.write(shape, &mut scratch)?;
            }
            peers.push(peer);
        }
        for peer in &mut peers[opened..] {
            wait_for_answer(peer, shape, &mut buffer)?;
        }
    }
    Ok(peers)
}

/// Reads a blocking socket until it brought an answer.
pub(crate) fn wait_for_answer(peer: &mut Peer, shape: &Shape, buffer: &mut [u8]) -> io::Result<()> {
    loop {
        let len = match peer.stream.read(buffer) {
            Ok(0) => return Err(io::Error::other("the server closed a connection")),
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(io::Error::other("the server did not answer"));
            }
            Err(error) => return Err(error),
        };
        let taken = peer.incoming.take(&buffer[..len], shape)?;
        if taken.messages + taken.pongs > 0 {
            return Ok(());
        }
    }
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
    fn new(first: u64) -> Self {
        Self {
            next: first,
            offset: 0,
            queued: 0,
        }
    }

    /// Lets `messages` more be written.
    pub(crate) fn queue(&mut self, messages: u64) {
        self.queued += messages;
    }

    fn write(
        &mut self,
        stream: &mut impl Write,
        shape: &Shape,
        scratch: &mut Vec<u8>,
    ) -> io::Result<()> {
        while self.queued > 0 {
            let frame_len = shape.frame_len();
            let (result, wanted) = if frame_len <= COPY_LIMIT {
                let frames = self.queued.min((WRITE_BUFFER / frame_len) as u64);
                scratch.clear();
                for sequence in self.next..self.next + frames {
                    scratch.extend_from_slice(&shape.head(sequence));
                    scratch.extend_from_slice(&shape.pattern);
                }
                let bytes = &scratch[self.offset..];
                (stream.write(bytes), bytes.len())
            } else {
                self.write_in_place(stream, shape)
            };
            let written = match result {
                Ok(written) => written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let position = self.offset + written;
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
    fn write_in_place(&self, stream: &mut impl Write, shape: &Shape) -> (io::Result<usize>, usize) {
        let frames = (self.queued as usize).min(WRITE_FRAMES);
        let mut heads = [[0; HEAD_LEN]; WRITE_FRAMES];
        for (head, sequence) in heads.iter_mut().zip(self.next..) {
            *head = shape.head(sequence);
        }
        let mut pieces = [IoSlice::new(&[]); 2 * WRITE_FRAMES];
        for (pair, head) in pieces.chunks_exact_mut(2).zip(&heads[..frames]) {
            pair[0] = IoSlice::new(head);
            pair[1] = IoSlice::new(&shape.pattern);
        }
        let mut pieces = &mut pieces[..2 * frames];
        IoSlice::advance_slices(&mut pieces, self.offset);
        let wanted = frames * shape.frame_len() - self.offset;
        (stream.write_vectored(pieces), wanted)
    }
}

/// The check of what a connection receives. Frames may come in any pieces.
pub(crate) struct Incoming {
    /// The number of the next message.
    expected: u64,
    /// The first bytes of the frame under way.
    head: [u8; HEAD_LEN],
    /// How many bytes of the frame under way have come.
    seen: usize,
    /// Its type and length, once the header is complete.
    kind: u16,
    length: usize,
}

/// What was completed by some bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) messages: u64,
    pub(crate) probes: u64,
    pub(crate) pongs: u64,
}

impl Incoming {
    fn new(first: u64) -> Self {
        Self {
            expected: first,
            head: [0; HEAD_LEN],
            seen: 0,
            kind: 0,
            length: 0,
        }
    }

    /// Checks the next bytes of the stream. Control frames are passed over.
    fn take(&mut self, mut bytes: &[u8], shape: &Shape) -> io::Result<Taken> {
        let mut taken = Taken::default();
        let frame_len = shape.frame_len();
        while !bytes.is_empty() {
            if self.seen == 0
                && let Some((frame, rest)) = bytes.split_at_checked(frame_len)
                && frame[..HEAD_LEN] == shape.head(self.expected)
                && frame[HEAD_LEN..] == shape.pattern
            {
                self.expected += 1;
                taken.messages += 1;
                bytes = rest;
            } else {
                let len = self.take_piece(bytes, shape, &mut taken)?;
                bytes = &bytes[len..];
            }
        }
        Ok(taken)
    }

    /// Takes some bytes of a frame that is incomplete or unusual, and gives
    /// their number.
    fn take_piece(&mut self, bytes: &[u8], shape: &Shape, taken: &mut Taken) -> io::Result<usize> {
        let head_len = if self.seen < HEADER_LEN {
            HEADER_LEN
        } else if self.kind == frame::DATA {
            HEAD_LEN
        } else {
            0
        };
        let len;
        if self.seen < head_len {
            len = bytes.len().min(head_len - self.seen);
            self.head[self.seen..self.seen + len].copy_from_slice(&bytes[..len]);
            self.seen += len;
            if self.seen == HEADER_LEN {
                self.check_header(shape)?;
            } else if self.seen == HEAD_LEN {
                self.check_sequence()?;
            }
        } else {
            len = bytes.len().min(self.length - self.seen);
            let from = self.seen - HEAD_LEN.min(self.seen);
            if self.kind == frame::DATA && bytes[..len] != shape.pattern[from..from + len] {
                return Err(mismatch("the payload of a message differs"));
            }
            self.seen += len;
        }
        if self.seen >= HEADER_LEN && self.seen == self.length {
            self.seen = 0;
            match self.kind {
                frame::DATA if self.head[HEADER_LEN..] == PROBE.to_be_bytes() => taken.probes += 1,
                frame::DATA => {
                    self.expected += 1;
                    taken.messages += 1;
                }
                frame::PONG => taken.pongs += 1,
                _ => {}
            }
        }
        Ok(len)
    }

    fn check_header(&mut self, shape: &Shape) -> io::Result<()> {
        let header = self.head.first_chunk().expect("a head holds a header");
        let (kind, length) = frame::parse_header(header).map_err(io::Error::other)?;
        match kind {
            frame::DATA if length != shape.frame_len() => {
                return Err(mismatch("a message has the wrong length"));
            }
            frame::DATA | frame::PING | frame::PONG | frame::CONTROL | frame::HEARTBEAT => {}
            _ => {
                return Err(mismatch(&format!(
                    "the server sent a frame of type {kind:#06x}"
                )));
            }
        }
        (self.kind, self.length) = (kind, length);
        Ok(())
    }

    fn check_sequence(&self) -> io::Result<()> {
        let sequence = &self.head[HEADER_LEN..];
        if sequence == self.expected.to_be_bytes() || sequence == PROBE.to_be_bytes() {
            return Ok(());
        }
        Err(mismatch("a message is out of order"))
    }
}

fn mismatch(text: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn stream(shape: &Shape, messages: u64) -> Vec<u8> {
        (0..messages)
            .flat_map(|sequence| shape.frame(sequence))
            .collect()
    }

    #[test]
    fn short_writes_continue_where_they_stopped() {
        for size in [8, 64, 5000] {
            let shape = Shape::new(size);
            for limit in [1, 9, 17, 18, 19, 100, 7000, 1 << 20] {
                let mut outgoing = Outgoing::new(0);
                let mut narrow = Narrow {
                    limit,
                    bytes: Vec::new(),
                };
                outgoing.queue(20);
                while outgoing.queued > 0 {
                    outgoing
                        .write(&mut narrow, &shape, &mut Vec::new())
                        .expect("the writer takes everything");
                }
                assert!(
                    narrow.bytes == stream(&shape, 20),
                    "size {size}, limit {limit}"
                );
            }
        }
    }

    #[test]
    fn any_pieces_of_the_right_stream_pass() {
        let shape = Shape::new(20);
        let mut bytes = stream(&shape, 2);
        bytes.extend_from_slice(&frame::header(frame::PING, 3));
        bytes.extend_from_slice(b"abc");
        bytes.extend_from_slice(&shape.frame(PROBE));
        bytes.extend_from_slice(&frame::header(frame::PONG, 0));
        bytes.extend_from_slice(&shape.frame(2));
        for piece in 1..bytes.len() {
            let mut incoming = Incoming::new(0);
            let mut sum = Taken::default();
            for bytes in bytes.chunks(piece) {
                let taken = incoming.take(bytes, &shape).expect("the stream is right");
                sum.messages += taken.messages;
                sum.probes += taken.probes;
                sum.pongs += taken.pongs;
            }
            let whole = Taken {
                messages: 3,
                probes: 1,
                pongs: 1,
            };
            assert_eq!(sum, whole, "pieces of {piece}");
        }
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let shape = Shape::new(20);
        let bytes = stream(&shape, 3);
        for index in 0..bytes.len() {
            for piece in [1, 7, bytes.len()] {
                let mut wrong = bytes.clone();
                wrong[index] ^= 0x80;
                let mut incoming = Incoming::new(0);
                let result = wrong
                    .chunks(piece)
                    .try_for_each(|bytes| incoming.take(bytes, &shape).map(drop));
                assert!(result.is_err(), "byte {index}, pieces of {piece}");
            }
        }
    }
}
