//! A byte stream and a codec make a link. TCP, Unix sockets, TLS and WebSocket differ only in these two.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::task::coop::unconstrained;

use crate::codec::{Decoder, EndOfStream, Framing, Span};
use crate::error::ErrorCode;
use crate::session::inbound::Inbound;
use crate::session::link::{
    Buffers, Established, Link, LinkError, Moving, OpenError, READ_CHUNK, Received, Scratch, Spare,
    Then,
};
use crate::session::output::{MAX_SLICES, Output};

/// An unfinished frame below this size is copied out of the worker's buffer and put back in front of the
/// next read; from this size on the connection keeps the buffer it arrived in and reads on into it.
const KEEP_THRESHOLD: usize = 16 * 1024;

/// How many times the bytes that have arrived a buffer may grow to at once. What a peer declares is
/// never allocated ahead of this.
const GROWTH: usize = 4;

/// A byte stream below a link: a socket, or a filter over another stream.
pub(crate) trait Stream: Send + Sized + 'static {
    /// Whether [`poll_open`](Self::poll_open) has anything to do.
    fn needs_opening(&self) -> bool {
        false
    }

    /// Does what has to happen before the first byte: handshakes. Polled until it is ready.
    fn poll_open(
        &mut self,
        _context: &mut Context<'_>,
        _buffers: &mut Buffers,
        _established: &mut Established,
    ) -> Poll<Result<(), OpenError>> {
        Poll::Ready(Ok(()))
    }

    /// Reads once, at most about `room` bytes, behind what is in `into`. 0 is the end of the stream.
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        into: &mut BytesMut,
        room: usize,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<usize>>;

    /// Writes once; says how many bytes of `slices` were taken. A filter may take bytes that it cannot
    /// pass on yet: see [`poll_flush`](Self::poll_flush).
    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        scratch: &mut Scratch,
    ) -> Poll<io::Result<usize>>;

    /// Whether everything that was taken has been passed on.
    fn is_flushed(&self) -> bool {
        true
    }

    /// Bytes that were taken and have not been passed on.
    fn held(&self) -> usize {
        0
    }

    /// Bytes of memory in which something waits, as [`Link::buffered`].
    fn buffered(&self) -> usize {
        0
    }

    /// Passes on what was taken before.
    fn poll_flush(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ends the sending direction. Works on a stream that is not open yet, too.
    fn poll_shutdown(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<()>>;

    /// Whether the stream ended without the peer saying so, where it could have: someone on the way may have
    /// cut it off.
    fn was_cut_off(&self) -> bool {
        false
    }

    /// Leaves the runtime that it was made on; what this returns joins the one where it is called.
    fn leave_runtime(self) -> io::Result<Box<dyn FnOnce() -> io::Result<Self> + Send>>;

    /// Gives back memory that it does not need at the moment. Called about once a second.
    fn shrink(&mut self) {}
}

/// Finds frames in the bytes of a stream.
pub(crate) trait Codec: Send + 'static {
    fn framing(&self) -> Framing;

    /// Takes the complete frames at the front of `buffer`. `list` is memory for listing them.
    fn split(&mut self, buffer: &mut BytesMut, list: &mut Vec<Span>) -> Split;

    /// The stream ended, and `rest` is what is left.
    fn finish(&mut self, rest: BytesMut) -> Received;

    /// Whether the codec looks at an unfinished frame each time that more of it arrives.
    fn wants_every_byte(&self) -> bool {
        false
    }

    /// Whether the codec itself holds part of a frame.
    fn is_mid_frame(&self) -> bool {
        false
    }

    /// Bytes of memory in which it does.
    fn buffered(&self) -> usize {
        0
    }

    /// Gives back memory that it does not need at the moment.
    fn shrink(&mut self) {}
}

/// What a codec took from the front of a buffer.
pub(crate) struct Split {
    pub(crate) frames: Inbound,
    /// How long the unfinished frame at the front of the rest is in all, 0 when that is not known.
    pub(crate) needed: usize,
    pub(crate) then: Then,
    /// Whether the rest holds more that can be taken at once.
    pub(crate) again: bool,
}

impl Codec for Decoder {
    fn framing(&self) -> Framing {
        Decoder::framing(self)
    }

    fn split(&mut self, buffer: &mut BytesMut, list: &mut Vec<Span>) -> Split {
        let mut spans = std::mem::take(list);
        let decoded = self.decode(buffer, &mut spans);
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
        Split {
            frames,
            needed: decoded.needed,
            then,
            again: decoded.again,
        }
    }

    /// What is left may be a last line.
    fn finish(&mut self, rest: BytesMut) -> Received {
        let mut spans = Vec::new();
        let end = Decoder::finish(self, &rest, &mut spans);
        Received {
            frames: Inbound::new(rest.freeze(), spans),
            bytes: 0,
            then: Then::End(end),
        }
    }
}

/// A link over a byte stream.
#[derive(Debug)]
pub(crate) struct StreamLink<S, C = Decoder> {
    stream: S,
    codec: C,
    /// The unfinished frame at the end of what has been read.
    partial: BytesMut,
    /// The length of that frame when its header has arrived, otherwise 0.
    needed: usize,
    /// The size of the buffer that `partial` is in, when it is a large one.
    size: usize,
    /// Whether `partial` holds complete frames, which the codec takes without a read.
    again: bool,
}

impl<S, C> StreamLink<S, C> {
    pub(crate) fn new(stream: S, codec: C) -> Self {
        StreamLink {
            stream,
            codec,
            partial: BytesMut::new(),
            needed: 0,
            size: 0,
            again: false,
        }
    }

    /// Puts the unfinished large frame at the front of the chunk where the rest of it can be read.
    fn keep(&mut self, buffers: &mut Buffers) {
        let rest = &mut buffers.chunk;
        if self.needed <= rest.capacity() {
            (self.partial, self.size) = buffers.take_chunk();
        } else {
            let size = self.needed.min(rest.len() * GROWTH).max(READ_CHUNK);
            (self.partial, self.size) = buffers.spare.take(size);
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
        let (mut larger, size) = spare.take(known.min(arrived * GROWTH));
        larger.extend_from_slice(&self.partial);
        let smaller = std::mem::replace(&mut self.partial, larger);
        spare.put(smaller, std::mem::replace(&mut self.size, size));
    }
}

impl<S: Stream, C: Codec> StreamLink<S, C> {
    pub(crate) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    pub(crate) fn codec(&self) -> &C {
        &self.codec
    }

    pub(crate) fn codec_mut(&mut self) -> &mut C {
        &mut self.codec
    }

    /// Bytes that were read before the codec's first frame: they are the first that it sees.
    pub(crate) fn put_back(&mut self, bytes: BytesMut) {
        self.again = !bytes.is_empty();
        self.partial = bytes;
    }

    /// Leaves the runtime, as [`Stream::leave_runtime`].
    pub(crate) fn leave(self) -> io::Result<impl FnOnce() -> io::Result<Self> + Send> {
        let StreamLink {
            stream,
            codec,
            partial,
            needed,
            size,
            again,
        } = self;
        let join = stream.leave_runtime()?;
        Ok(move || {
            let stream = join()?;
            Ok(StreamLink {
                stream,
                codec,
                partial,
                needed,
                size,
                again,
            })
        })
    }

    fn split(&mut self, buffer: &mut BytesMut, list: &mut Vec<Span>) -> (Inbound, Then) {
        let split = self.codec.split(buffer, list);
        self.needed = split.needed;
        self.again = split.again;
        (split.frames, split.then)
    }

    /// The stream ended.
    fn end(&mut self) -> Received {
        let rest = std::mem::take(&mut self.partial);
        if self.stream.was_cut_off() && !rest.is_empty() {
            // Not even a last line without its end: it may be the beginning of a longer one.
            return Received {
                frames: Inbound::default(),
                bytes: 0,
                then: Then::End(EndOfStream::InsideFrame),
            };
        }
        self.codec.finish(rest)
    }

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
        let room = room.min(missing);
        let read = self
            .stream
            .poll_read(context, &mut self.partial, room, &mut buffers.scratch);
        let Poll::Ready(Ok(bytes @ 1..)) = read else {
            ready!(read)?;
            return Poll::Ready(Ok(self.end()));
        };
        if self.partial.len() < self.needed && !self.codec.wants_every_byte() {
            let frames = Inbound::default();
            return Poll::Ready(Ok(Received {
                frames,
                bytes,
                then: Then::More,
            }));
        }
        Poll::Ready(Ok(self.receive_kept(buffers, bytes)))
    }

    /// Lets the codec take frames from what the connection has kept.
    fn receive_kept(&mut self, buffers: &mut Buffers, bytes: usize) -> Received {
        let mut own = std::mem::take(&mut self.partial);
        let (frames, then) = self.split(&mut own, &mut buffers.spans);
        if own.len() < KEEP_THRESHOLD {
            // What is left would keep the whole buffer alive.
            self.partial = BytesMut::from(&own[..]);
            buffers.spare.put(own, std::mem::take(&mut self.size));
        } else {
            self.partial = own;
        }
        Received {
            frames,
            bytes,
            then,
        }
    }
}

impl<S: Stream, C: Codec> Link for StreamLink<S, C> {
    fn leave_runtime(self: Box<Self>) -> io::Result<Moving> {
        let join = self.leave()?;
        Ok(Box::new(move || Ok(Box::new(join()?))))
    }

    fn framing(&self) -> Framing {
        self.codec.framing()
    }

    fn needs_opening(&self) -> bool {
        self.stream.needs_opening()
    }

    fn poll_open(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
        established: &mut Established,
    ) -> Poll<Result<(), OpenError>> {
        self.stream.poll_open(context, buffers, established)
    }

    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
        room: usize,
    ) -> Poll<io::Result<Received>> {
        if self.again {
            return Poll::Ready(Ok(self.receive_kept(buffers, 0)));
        }
        if self.partial.len() >= KEEP_THRESHOLD {
            return self.poll_receive_large(context, buffers, room);
        }
        buffers.prepare_chunk();
        let before = self.partial.len();
        if before > 0 {
            buffers.chunk.extend_from_slice(&self.partial);
        }
        let read = self
            .stream
            .poll_read(context, &mut buffers.chunk, room, &mut buffers.scratch);
        let Poll::Ready(Ok(bytes @ 1..)) = read else {
            buffers.chunk.clear();
            ready!(read)?;
            return Poll::Ready(Ok(self.end()));
        };
        let (frames, then) = self.split(&mut buffers.chunk, &mut buffers.spans);
        let chunk = &mut buffers.chunk;
        if chunk.len() >= KEEP_THRESHOLD {
            self.keep(buffers);
        } else if !chunk.is_empty() || before > 0 {
            self.partial = BytesMut::from(&chunk[..]);
        }
        buffers.chunk.clear();
        Poll::Ready(Ok(Received {
            frames,
            bytes,
            then,
        }))
    }

    fn poll_transmit(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
        output: &mut Output,
    ) -> Poll<io::Result<()>> {
        let scratch = &mut buffers.scratch;
        while output.remaining() > 0 {
            let written = match output.as_single() {
                Some(bytes) => {
                    let slice = [IoSlice::new(bytes)];
                    ready!(self.stream.poll_write(context, &slice, scratch))?
                }
                None => {
                    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                    let count = output.fill(&mut slices);
                    let slices = &slices[..count];
                    ready!(self.stream.poll_write(context, slices, scratch))?
                }
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            output.advance(written);
        }
        self.stream.poll_flush(context)
    }

    fn poll_transmit_encoded(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
        bytes: &Bytes,
    ) -> Option<Poll<io::Result<usize>>> {
        let slice = [IoSlice::new(bytes)];
        Some(
            self.stream
                .poll_write(context, &slice, &mut buffers.scratch),
        )
    }

    fn is_flushed(&self) -> bool {
        self.stream.is_flushed()
    }

    fn held(&self) -> usize {
        self.stream.held()
    }

    fn buffered(&self) -> usize {
        let partial = match self.partial.is_empty() {
            true => 0,
            // What is in front of it in a large buffer is not given back before it is.
            false => self.partial.capacity().max(self.size),
        };
        partial + self.codec.buffered() + self.stream.buffered()
    }

    fn poll_shutdown(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
    ) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(context, &mut buffers.scratch)
    }

    fn poll_discard(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
    ) -> Poll<io::Result<usize>> {
        self.partial = BytesMut::new();
        self.again = false;
        buffers.prepare_chunk();
        let Buffers { chunk, scratch, .. } = buffers;
        let read = self.stream.poll_read(context, chunk, READ_CHUNK, scratch);
        chunk.clear();
        read
    }

    fn has_frames(&self) -> bool {
        self.again
    }

    fn is_mid_frame(&self) -> bool {
        (!self.partial.is_empty() && !self.again) || self.codec.is_mid_frame()
    }

    fn shrink(&mut self) {
        if self.partial.capacity() > 2 * self.partial.len().max(1024) {
            self.partial = BytesMut::from(&self.partial[..]);
            self.size = 0;
        }
        self.codec.shrink();
        self.stream.shrink();
    }
}

/// Reads once from a socket into the spare capacity of `into`. A read that comes back short clears the
/// readiness, so that the next one costs no system call.
///
/// The library's own reads and writes are bounded by the budget of a session's turn, so they stay
/// outside tokio's cooperative budget, which is left to the application's code.
#[inline]
pub(crate) fn read_socket<S: AsyncRead + Unpin>(
    socket: &mut S,
    context: &mut Context<'_>,
    into: &mut (impl BufMut + Send),
    room: usize,
) -> Poll<io::Result<usize>> {
    let mut limited = into.limit(room);
    pin!(unconstrained(socket.read_buf(&mut limited))).poll(context)
}

/// Writes once to a socket.
#[inline]
pub(crate) fn write_socket<S: AsyncWrite + Unpin>(
    socket: &mut S,
    context: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let write = std::future::poll_fn(|context| match slices {
        [single] => Pin::new(&mut *socket).poll_write(context, single),
        many => Pin::new(&mut *socket).poll_write_vectored(context, many),
    });
    pin!(unconstrained(write)).poll(context)
}

/// A socket of tokio's as a [`Stream`].
macro_rules! socket_stream {
    ($socket:ty) => {
        $crate::transport::stream::socket_stream!($socket, |this| {
            let socket = this.into_std()?;
            Ok(Box::new(move || <$socket>::from_std(socket)))
        });
    };
    ($socket:ty, |$this:ident| $leave_runtime:expr) => {
        impl $crate::transport::stream::Stream for $socket {
            fn poll_read(
                &mut self,
                context: &mut std::task::Context<'_>,
                into: &mut bytes::BytesMut,
                room: usize,
                _scratch: &mut $crate::session::link::Scratch,
            ) -> std::task::Poll<std::io::Result<usize>> {
                $crate::transport::stream::read_socket(self, context, into, room)
            }

            fn poll_write(
                &mut self,
                context: &mut std::task::Context<'_>,
                slices: &[std::io::IoSlice<'_>],
                _scratch: &mut $crate::session::link::Scratch,
            ) -> std::task::Poll<std::io::Result<usize>> {
                $crate::transport::stream::write_socket(self, context, slices)
            }

            fn poll_shutdown(
                &mut self,
                context: &mut std::task::Context<'_>,
                _scratch: &mut $crate::session::link::Scratch,
            ) -> std::task::Poll<std::io::Result<()>> {
                tokio::io::AsyncWrite::poll_shutdown(std::pin::Pin::new(self), context)
            }

            fn leave_runtime(
                self,
            ) -> std::io::Result<Box<dyn FnOnce() -> std::io::Result<Self> + Send>> {
                let $this = self;
                $leave_runtime
            }
        }
    };
}
pub(crate) use socket_stream;

/// What a failed read or write in the middle of a handshake means. A layer below may know better: a server
/// judges the certificate of its client when the client's part of TLS 1.3 is done.
pub(crate) fn broken(error: &io::Error) -> OpenError {
    OpenError::new(
        LinkError::code_of(error).unwrap_or(ErrorCode::ConnectionClosed),
        format!("the connection broke before it was open: {error}"),
    )
}
