//! What bytes from the network become, without a network.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};

use super::RawFrame;
use crate::codec::control;
use crate::codec::{Decoder, EndOfStream, Framing};
use crate::endpoint::CodecKind;
use crate::session::link::{Buffers, Link, Scratch, Then};
use crate::transport::stream::{Stream, StreamLink};

/// How a stream of bytes ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Between two frames.
    Boundary,
    /// In the middle of a frame.
    InsideFrame,
    /// With bytes that were refused: the code and the text.
    Invalid(i32, String),
}

/// What a stream of bytes held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedStream {
    /// The complete frames, in order.
    pub frames: Vec<RawFrame>,
    /// What came after them.
    pub ending: Ending,
}

/// Receives bytes that arrive in these pieces, as a connection does: one read takes at most one piece.
///
/// # Panics
/// When the link breaks one of its own promises: more received than was written, or no progress.
pub fn receive<'a>(
    codec: CodecKind,
    message_limit: usize,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> ReceivedStream {
    let pieces: VecDeque<_> = pieces
        .into_iter()
        .filter(|piece| !piece.is_empty())
        .map(Bytes::copy_from_slice)
        .collect();
    let all: usize = pieces.iter().map(Bytes::len).sum();
    let decoder = Decoder::new(Framing::from(codec), message_limit);
    let mut link = StreamLink::new(Pieces(pieces), decoder);
    let mut buffers = Buffers::default();
    let mut context = Context::from_waker(Waker::noop());
    let (mut frames, mut bytes) = (Vec::new(), 0);
    loop {
        let received = match link.poll_receive(&mut context, &mut buffers, usize::MAX) {
            Poll::Ready(Ok(received)) => received,
            Poll::Ready(Err(error)) => unreachable!("the stream has no errors: {error}"),
            Poll::Pending => unreachable!("the stream is always ready"),
        };
        bytes += received.bytes;
        assert!(bytes <= all, "{bytes} bytes received of {all}");
        let mut inbound = received.frames;
        while let Some((span, message)) = inbound.take_next() {
            frames.push(RawFrame {
                frame_type: span.frame_type.0,
                text: span.text,
                id: span.id,
                payload: message.into_payload(),
            });
        }
        let ending = match received.then {
            Then::More => {
                assert!(received.bytes > 0, "a read that was ready brought nothing");
                continue;
            }
            Then::End(EndOfStream::Boundary) => Ending::Boundary,
            Then::End(EndOfStream::InsideFrame) => Ending::InsideFrame,
            Then::Invalid(error) => Ending::Invalid(error.code.as_i32(), error.text.into_owned()),
        };
        return ReceivedStream { frames, ending };
    }
}

/// A stream whose reads are known beforehand.
struct Pieces(VecDeque<Bytes>);

impl Stream for Pieces {
    fn poll_read(
        &mut self,
        _context: &mut Context<'_>,
        into: &mut BytesMut,
        room: usize,
        _scratch: &mut Scratch,
    ) -> Poll<io::Result<usize>> {
        let Some(piece) = self.0.front_mut() else {
            return Poll::Ready(Ok(0));
        };
        let read = piece.split_to(piece.len().min(room).min(into.capacity() - into.len()));
        if piece.is_empty() {
            self.0.pop_front();
        }
        into.extend_from_slice(&read);
        Poll::Ready(Ok(read.len()))
    }

    fn poll_write(
        &mut self,
        _context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        _scratch: &mut Scratch,
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn poll_shutdown(
        &mut self,
        _context: &mut Context<'_>,
        _scratch: &mut Scratch,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn leave_runtime(self) -> io::Result<Box<dyn FnOnce() -> io::Result<Self> + Send>> {
        Ok(Box::new(|| Ok(self)))
    }
}

/// A CONTROL payload that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control(control::Control);

impl Control {
    /// Reads a payload.
    ///
    /// # Errors
    /// The text that the peer would be sent.
    pub fn parse(payload: &[u8]) -> Result<Self, String> {
        control::Control::parse(payload)
            .map(Control)
            .map_err(|error| error.to_string())
    }

    /// Writes the payload; `None` for an `op` that is not known, which is never sent.
    pub fn to_bytes(&self) -> Option<Bytes> {
        match self.0 {
            control::Control::Unknown => None,
            ref known => Some(known.to_bytes()),
        }
    }
}
