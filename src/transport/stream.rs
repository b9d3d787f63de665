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
use crate::session::link::{Buffers, Link, Moving, READ_CHUNK, Received, Spare, Then};
use crate::session::output::{MAX_SLICES, Output};

/// An unfinished frame below this size is copied out of the worker's buffer and put back in front of the
/// next read; from this size on the connection keeps the buffer it arrived in and reads on into it.
const KEEP_THRESHOLD: usize = 16 * 1024;

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
    /// The size of the buffer that `partial` is in, when it is a large one.
    size: usize,
}

impl<S> StreamLink<S> {
    pub(crate) fn new(stream: S, decoder: Decoder) -> Self {
        StreamLink {
            stream,
            decoder,
            partial: BytesMut::new(),
            needed: 0,
            size: 0,
        }
    }

    /// Puts the unfinished large frame at the front of `rest` where the rest of it can be read.
    fn keep(&mut self, rest: &mut BytesMut, size: usize, spare: &mut Spare) {
        if self.needed <= rest.capacity() {
            self.size = size;
            self.partial = std::mem::take(rest);
        } else {
            self.size = self.needed.min(rest.len() * GROWTH).max(READ_CHUNK);
            self.partial = spare.take(self.size);
            self.partial.extend_from_slice(rest);
            rest.clear();
        }
    }

    /// Makes room behind what has arrived of a large frame.
    fn grow(&mut self, spare: &mut Spare) {
        let arrived = self.partial.len();
        if self.partial.capacity() > arrived {
            return;
        }
        let known = if self.needed > arrived {
            self.needed
        } else {
            usize::MAX
        };
        let size = known.min(arrived * GROWTH);
        let mut larger = spare.take(size);
        larger.extend_from_slice(&self.partial);
        let smaller = std::mem::replace(&mut self.partial, larger);
        spare.put(smaller, std::mem::replace(&mut self.size, size));
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
        let frames = match decoded.plain {
            0 => Inbound::new(data, spans),
            count => Inbound::plain(data, count, spans),
        };
        (frames, then)
    }

    /// The stream ended; what is left may be a last line.
    fn end(&mut self) -> Received {
        let mut spans = Vec::new();
        let end = self.decoder.finish(&self.partial, &mut spans);
        let data = std::mem::take(&mut self.partial).freeze();
        Received {
            frames: Inbound::new(data, spans),
            bytes: 0,
            then: Then::End(end),
        }
    }
}

impl<S: AsyncRead + Unpin> StreamLink<S> {
    /// Reads on into the buffer that a large frame has begun in.
    fn poll_receive_large(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
        room: usize,
    ) -> Poll<io::Result<Received>> {
        self.grow(&mut buffers.spare);
        // Not further than the end of the frame, so that nothing of the next has to be moved.
        let missing = match self.needed.saturating_sub(self.partial.len()) {
            // A line has no length that is known before its end.
            0 => READ_CHUNK,
            missing => missing,
        };
        let read = poll_read(
            &mut self.stream,
            context,
            &mut self.partial,
            room.min(missing),
        );
        let Poll::Ready(Ok(bytes @ 1..)) = read else {
            ready!(read)?;
            return Poll::Ready(Ok(self.end()));
        };
        if self.partial.len() < self.needed {
            let frames = Inbound::default();
            return Poll::Ready(Ok(Received {
                frames,
                bytes,
                then: Then::More,
            }));
        }
        let mut own = std::mem::take(&mut self.partial);
        let (frames, then) = self.split(&mut own, &mut buffers.spans);
        if own.is_empty() {
            buffers.spare.put(own, self.size);
        } else {
            self.partial = own;
        }
        Poll::Ready(Ok(Received {
            frames,
            bytes,
            then,
        }))
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

/// A byte stream that can move to another runtime.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + Sized + 'static {
    /// Leaves the runtime that it was made on; what this returns joins the one where it is called.
    fn leave_runtime(self) -> io::Result<Box<dyn FnOnce() -> io::Result<Self> + Send>>;
}

impl<S: Stream> Link for StreamLink<S> {
    fn leave_runtime(self: Box<Self>) -> io::Result<Moving> {
        let StreamLink {
            stream,
            decoder,
            partial,
            needed,
            size,
        } = *self;
        let join = stream.leave_runtime()?;
        Ok(Box::new(move || {
            let stream = join()?;
            Ok(Box::new(StreamLink {
                stream,
                decoder,
                partial,
                needed,
                size,
            }))
        }))
    }

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
            return self.poll_receive_large(context, buffers, room);
        }
        buffers.prepare_chunk();
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
            self.keep(chunk, READ_CHUNK, &mut buffers.spare);
        } else if !chunk.is_empty() || before > 0 {
            self.partial = BytesMut::from(&chunk[..]);
        }
        chunk.clear();
        Poll::Ready(Ok(Received {
            frames,
            bytes,
            then,
        }))
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
        buffers.prepare_chunk();
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
            self.size = 0;
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
