//! A byte stream and a codec make a link. TCP, Unix sockets and, later, TLS differ only in the stream.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::task::coop::unconstrained;

use crate::codec::{Decoder, Framing, Span};
use crate::session::inbound::Inbound;
use crate::session::link::{Buffers, Link, READ_CHUNK, Received, Then};
use crate::session::output::{MAX_SLICES, Output};

/// An unfinished frame below this size is copied out of the worker's buffer and put back in front of the
/// next read; from this size on the connection keeps the buffer it arrived in and reads on into it.
const KEEP_THRESHOLD: usize = 16 * 1024;

/// The least room that is worth a read into what is left of a worker's buffer.
const MIN_READ: usize = READ_CHUNK / 2;

/// How many times the bytes that have arrived a buffer may grow to at once. What a peer declares is
/// never allocated ahead of this.
const GROWTH: usize = 4;

/// A link over a byte stream.
#[derive(Debug)]
pub(crate) struct StreamLink<S> {
    stream: S,
    decoder: Decoder,
    /// The unfinished frame at the end of what has been read.
    partial: BytesMut,
    /// The length of that frame when its header has arrived, otherwise 0.
    needed: usize,
}

impl<S> StreamLink<S> {
    pub(crate) fn new(stream: S, decoder: Decoder) -> Self {
        StreamLink { stream, decoder, partial: BytesMut::new(), needed: 0 }
    }

    /// Makes `partial` ready to be read into, when a large frame is on its way.
    fn grow_partial(&mut self) {
        let arrived = self.partial.len();
        if self.partial.capacity() - arrived < READ_CHUNK / 4 {
            let missing = self.needed.saturating_sub(arrived).max(1);
            self.partial.reserve(missing.min(arrived * (GROWTH - 1)));
        }
    }

    /// Splits what was read into complete frames and the unfinished rest.
    fn split(&mut self, buffer: &mut BytesMut, list: &mut Vec<Span>) -> (Inbound, Then) {
        let mut spans = std::mem::take(list);
        let decoded = self.decoder.decode(buffer, &mut spans);
        self.needed = decoded.needed;
        let data = if decoded.consumed == 0 {
            Bytes::new()
        } else {
            buffer.split_to(decoded.consumed).freeze()
        };
        let then = match decoded.error {
            Some(error) => {
                buffer.clear();
                Then::Invalid(error)
            }
            None => Then::More,
        };
        (Inbound::new(data, spans), then)
    }

    /// The stream ended; what is left may be a last line.
    fn end(&mut self) -> Received {
        let mut spans = Vec::new();
        let end = self.decoder.finish(&self.partial, &mut spans);
        let data = std::mem::take(&mut self.partial).freeze();
        Received { frames: Inbound::new(data, spans), bytes: 0, then: Then::End(end) }
    }
}

impl<S: AsyncRead + Unpin> StreamLink<S> {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut BytesMut, room: usize) -> Poll<io::Result<usize>> {
        poll_read(&mut self.stream, context, buffer, room)
    }
}

/// Reads once into the spare capacity of `buffer`. A read that comes back short clears the readiness,
/// so that the next one costs no system call.
///
/// The library's own reads and writes are bounded by the budget of a session's turn, so they stay
/// outside tokio's cooperative budget, which is left to the application's code.
fn poll_read<S: AsyncRead + Unpin>(
    stream: &mut S,
    context: &mut Context<'_>,
    buffer: &mut BytesMut,
    room: usize,
) -> Poll<io::Result<usize>> {
    let mut limited = buffer.limit(room);
    pin!(unconstrained(stream.read_buf(&mut limited))).poll(context)
}

/// Makes sure that the worker's buffer has room for a read that is worth its system call.
pub(crate) fn prepare_chunk(chunk: &mut BytesMut) {
    debug_assert!(chunk.is_empty());
    if chunk.capacity() < READ_CHUNK && !chunk.try_reclaim(READ_CHUNK) && chunk.capacity() < MIN_READ {
        *chunk = BytesMut::with_capacity(READ_CHUNK);
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Link for StreamLink<S> {
    fn framing(&self) -> Framing {
        self.decoder.framing()
    }

    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
        room: usize,
    ) -> Poll<io::Result<Received>> {
        if self.partial.len() >= KEEP_THRESHOLD {
            self.grow_partial();
            let mut own = std::mem::take(&mut self.partial);
            let read = self.poll_read(context, &mut own, room);
            let Poll::Ready(Ok(bytes @ 1..)) = read else {
                self.partial = own;
                ready!(read)?;
                return Poll::Ready(Ok(self.end()));
            };
            if self.needed > own.len() {
                self.partial = own;
                return Poll::Ready(Ok(Received { frames: Inbound::default(), bytes, then: Then::More }));
            }
            let (frames, then) = self.split(&mut own, &mut buffers.spans);
            self.partial = if own.len() < KEEP_THRESHOLD { BytesMut::from(&own[..]) } else { own };
            return Poll::Ready(Ok(Received { frames, bytes, then }));
        }

        prepare_chunk(&mut buffers.chunk);
        let chunk = &mut buffers.chunk;
        let before = self.partial.len();
        if before > 0 {
            chunk.extend_from_slice(&self.partial);
        }
        let read = poll_read(&mut self.stream, context, chunk, room);
        let Poll::Ready(Ok(bytes @ 1..)) = read else {
            chunk.clear();
            ready!(read)?;
            return Poll::Ready(Ok(self.end()));
        };
        let (frames, then) = self.split(chunk, &mut buffers.spans);
        if chunk.len() >= KEEP_THRESHOLD {
            self.partial = std::mem::take(chunk);
        } else {
            if chunk.is_empty() && before == 0 {
                // Nothing was kept and nothing is: the usual case.
            } else {
                self.partial = BytesMut::from(&chunk[..]);
            }
            chunk.clear();
        }
        Poll::Ready(Ok(Received { frames, bytes, then }))
    }

    fn poll_transmit(
        &mut self,
        context: &mut Context<'_>,
        output: &mut Output,
    ) -> Poll<io::Result<()>> {
        while output.remaining() > 0 {
            let written = match output.as_single() {
                Some(bytes) => ready!(poll_write(&mut self.stream, context, bytes))?,
                None => {
                    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                    let count = output.fill(&mut slices);
                    let slices = &slices[..count];
                    ready!(poll_write_vectored(&mut self.stream, context, slices))?
                }
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            output.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_transmit_encoded(
        &mut self,
        context: &mut Context<'_>,
        bytes: &Bytes,
    ) -> Option<Poll<io::Result<usize>>> {
        Some(poll_write(&mut self.stream, context, bytes))
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_discard(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
    ) -> Poll<io::Result<usize>> {
        self.partial = BytesMut::new();
        prepare_chunk(&mut buffers.chunk);
        let read = poll_read(&mut self.stream, context, &mut buffers.chunk, READ_CHUNK);
        buffers.chunk.clear();
        read
    }

    fn is_mid_frame(&self) -> bool {
        !self.partial.is_empty()
    }

    fn shrink(&mut self) {
        if self.partial.capacity() > 2 * self.partial.len().max(1024) {
            self.partial = BytesMut::from(&self.partial[..]);
        }
    }
}

#[inline]
fn poll_write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    context: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    let write = std::future::poll_fn(|context| Pin::new(&mut *stream).poll_write(context, bytes));
    pin!(unconstrained(write)).poll(context)
}

fn poll_write_vectored<S: AsyncWrite + Unpin>(
    stream: &mut S,
    context: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let write =
        std::future::poll_fn(|context| Pin::new(&mut *stream).poll_write_vectored(context, slices));
    pin!(unconstrained(write)).poll(context)
}
