//! The seam between sessions and transports: what a transport has to be able to do.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use super::inbound::Inbound;
use super::output::Output;
use crate::codec::websocket::upgrade::request::UpgradeRequest;
use crate::codec::{EndOfStream, Framing, ProtocolError, Span};
use crate::error::ErrorCode;
use crate::metrics::{Held, PoolAccount};
use crate::pipeline::StageScratch;
use crate::tls::TlsInfo;
use crate::websocket::WebSocketInfo;

/// How much one read takes at most, and the size of a worker's read buffer.
///
/// At 1 KiB messages 16 KiB reads cost twice, at 64 KiB messages 64 KiB reads nearly twice, what
/// 256 KiB reads do (`perf/`, cases echo-1k and bulk-64k).
pub(crate) const READ_CHUNK: usize = 256 * 1024;

/// Buffers that belong to the thread and are lent to one session after the other. A session keeps only
/// what it has not finished, so an idle one holds no buffer.
#[derive(Default)]
pub(crate) struct Buffers {
    /// Where links read into.
    pub(crate) chunk: BytesMut,
    /// The size that it was made with, 0 as long as there is none.
    chunk_size: usize,
    /// Buffers that large frames were read into, to be used again.
    pub(crate) spare: Spare,
    /// Memory for the list of the frames in one read.
    pub(crate) spans: Vec<Span>,
    /// Where answers are collected. A link that takes no more keeps it, with what is in it.
    pub(crate) output: Option<Box<Output>>,
    pub(crate) scratch: Scratch,
    /// Where messages are between the stages of a pipeline.
    pub(crate) stages: StageScratch,
    account: PoolAccount,
}

/// Where filters below a codec, such as TLS, have the other form of the bytes. What is in them between two
/// calls means nothing.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Bytes as they were received.
    pub(crate) incoming: BytesMut,
    /// Bytes as they are about to be sent.
    pub(crate) outgoing: Vec<u8>,
}

impl Buffers {
    /// Makes sure that the chunk has room for a read that is worth its system call.
    pub(crate) fn prepare_chunk(&mut self) {
        debug_assert!(self.chunk.is_empty());
        if self.chunk.capacity() < READ_CHUNK
            && !self.chunk.try_reclaim(READ_CHUNK)
            && self.chunk.capacity() < READ_CHUNK / 2
        {
            let (chunk, size) = self.spare.take(READ_CHUNK);
            let full = std::mem::replace(&mut self.chunk, chunk);
            self.spare
                .put(full, std::mem::replace(&mut self.chunk_size, size));
        }
    }

    /// The chunk for a link that reads on into it, and its size.
    pub(crate) fn take_chunk(&mut self) -> (BytesMut, usize) {
        let size = std::mem::take(&mut self.chunk_size);
        (std::mem::take(&mut self.chunk), size)
    }

    /// Notes what the thread keeps, if that has changed.
    pub(crate) fn note_memory(&mut self) {
        let buffers = [
            // Frames that were split off it are still parts of it.
            self.chunk_size,
            self.spans.capacity() * size_of::<Span>(),
            self.output.as_ref().map_or(0, |output| output.memory()),
            self.scratch.incoming.capacity(),
            self.scratch.outgoing.capacity(),
            self.stages.memory(),
        ];
        let bytes = buffers.iter().sum::<usize>() + self.spare.bytes;
        if bytes != self.account.bytes() {
            let used = buffers.iter().filter(|&&bytes| bytes > 0).count();
            let buffers = used + self.spare.buffers.len();
            self.account.note(Held { bytes, buffers });
        }
    }
}

/// Large buffers between two uses. The system's allocator would hand their pages back and fault them in
/// again for each large frame, which costs as much as the frame itself.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    /// Buffers and their sizes. Parts of them may still be on their way out.
    buffers: Vec<(BytesMut, usize)>,
    /// The sum of the sizes.
    bytes: usize,
}

/// Bytes of spare buffers that one worker thread keeps.
const SPARE_LIMIT: usize = 8 * 1024 * 1024;

impl Spare {
    /// A buffer with room for `size` bytes, and the size that it was made with.
    pub(crate) fn take(&mut self, size: usize) -> (BytesMut, usize) {
        let fits = self
            .buffers
            .iter_mut()
            .position(|(buffer, known)| *known >= size && buffer.try_reclaim(size));
        match fits {
            Some(index) => {
                let (buffer, known) = self.buffers.swap_remove(index);
                self.bytes -= known;
                (buffer, known)
            }
            None => (BytesMut::with_capacity(size), size),
        }
    }

    /// Keeps a buffer that was made with `size` bytes.
    pub(crate) fn put(&mut self, mut buffer: BytesMut, size: usize) {
        if !(READ_CHUNK..=SPARE_LIMIT).contains(&size) {
            return;
        }
        while self.bytes + size > SPARE_LIMIT && !self.buffers.is_empty() {
            let (_, known) = self.buffers.remove(0);
            self.bytes -= known;
        }
        buffer.clear();
        self.bytes += size;
        self.buffers.push((buffer, size));
    }
}

/// What a link received.
#[derive(Debug)]
pub(crate) struct Received {
    /// Complete frames.
    pub(crate) frames: Inbound,
    /// Bytes read, heads and unfinished frames included.
    pub(crate) bytes: usize,
    /// What comes after these frames.
    pub(crate) then: Then,
}

/// How a link goes on after what it received.
#[derive(Debug)]
pub(crate) enum Then {
    /// There may be more, now or later.
    More,
    /// The stream ended.
    End(EndOfStream),
    /// What follows is not of the protocol.
    Invalid(ProtocolError),
}

/// What the opening of a link found out about the peer, beyond what the listener knew.
#[derive(Clone, Debug, Default)]
pub(crate) struct Established {
    /// The ends of the connection, as a proxy in front of the server reports them.
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) local: Option<SocketAddr>,
    /// What the upgrade of a WebSocket connection came to, when there is anything to tell.
    pub(crate) websocket: Option<Arc<WebSocketInfo>>,
    /// Who the peer is, when the opening has found out.
    pub(crate) identity: Option<String>,
    /// The request that opened a WebSocket, for the authenticator. Not kept longer.
    pub(crate) upgrade: Option<Box<UpgradeRequest>>,
    /// Values for the session's data.
    pub(crate) data: Vec<(String, String)>,
    /// The longest message that the link can carry, when that is less than what is configured.
    pub(crate) message_limit: Option<usize>,
    /// The server name that a client asks for, while its handshake is not done.
    pub(crate) requested_name: Option<Box<str>>,
    /// How the connection is secured.
    pub(crate) tls: Option<Arc<TlsInfo>>,
}

impl Established {
    /// Whether there is anything that a session has to remember.
    pub(crate) fn is_empty(&self) -> bool {
        self.remote.is_none()
            && self.local.is_none()
            && self.websocket.is_none()
            && self.tls.is_none()
    }
}

/// Why a link could not be opened.
#[derive(Debug)]
pub(crate) struct OpenError {
    pub(crate) code: ErrorCode,
    pub(crate) text: String,
    /// What the peer is told, as bytes of the link; may be empty.
    pub(crate) answer: Bytes,
}

impl OpenError {
    pub(crate) fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        OpenError {
            code,
            text: text.into(),
            answer: Bytes::new(),
        }
    }
}

/// Why an open link broke, inside an [`io::Error`], when the filter that noticed knows it better than the kind
/// of such an error can say.
#[derive(Clone, Debug)]
pub(crate) struct LinkError {
    pub(crate) code: ErrorCode,
    text: String,
}

impl LinkError {
    pub(crate) fn new(code: ErrorCode, text: String) -> Self {
        LinkError { code, text }
    }

    /// The code inside `error`, if it has one.
    pub(crate) fn code_of(error: &io::Error) -> Option<ErrorCode> {
        let error: &LinkError = error.get_ref()?.downcast_ref()?;
        Some(error.code)
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for LinkError {}

/// A link between two runtimes.
pub(crate) type Moving = Box<dyn FnOnce() -> io::Result<Box<dyn Link>> + Send>;

/// Carries frames to and from one peer. Each transport implements it once; the session core knows no other.
///
/// All methods are polled by the worker that owns the session and never block. When one returns
/// `Pending`, the waker in `context` has been registered.
pub(crate) trait Link: Send {
    /// How frames stand on this link. Known for good once the link is open.
    fn framing(&self) -> Framing;

    /// Whether something has to happen before frames can flow: a handshake, an upgrade.
    fn needs_opening(&self) -> bool {
        false
    }

    /// Does what has to happen before frames can flow. Polled until it is ready, and only when
    /// [`needs_opening`](Self::needs_opening) says so; no other method but
    /// [`poll_shutdown`](Self::poll_shutdown) is called before that, and
    /// [`poll_transmit`](Self::poll_transmit) with bytes that [`refusal`](Self::refusal) gave.
    fn poll_open(
        &mut self,
        _context: &mut Context<'_>,
        _buffers: &mut Buffers,
        _established: &mut Established,
    ) -> Poll<Result<(), OpenError>> {
        Poll::Ready(Ok(()))
    }

    /// What tells the peer that the connection is refused, while the link is not open. Empty when there
    /// is no way to say so.
    fn refusal(&self, _code: ErrorCode, _text: &str) -> Bytes {
        Bytes::new()
    }

    /// How long the payload of a client's hello is at least; spaces are added to a shorter one.
    fn least_hello(&self) -> usize {
        0
    }

    /// Receives what is there: at most about `room` bytes, which is at least 1.
    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
        room: usize,
    ) -> Poll<io::Result<Received>>;

    /// Whether complete frames have been read and are not taken: they come without a read.
    fn has_frames(&self) -> bool {
        false
    }

    /// Writes `output` until it is empty and everything has left (`Ready`), or the link takes no more
    /// (`Pending`). With an empty output it passes on what it has taken before.
    fn poll_transmit(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
        output: &mut Output,
    ) -> Poll<io::Result<()>>;

    /// Writes bytes that are encoded already, without copying, and says how many the link took.
    ///
    /// `None` means that this link takes no encoded bytes; its frames go through an [`Output`].
    fn poll_transmit_encoded(
        &mut self,
        _context: &mut Context<'_>,
        _buffers: &mut Buffers,
        _bytes: &Bytes,
    ) -> Option<Poll<io::Result<usize>>> {
        None
    }

    /// Whether everything that the link took has left. If not, the session is woken when it takes more.
    fn is_flushed(&self) -> bool {
        true
    }

    /// Bytes that the link has taken and that have not left.
    fn held(&self) -> usize {
        0
    }

    /// Bytes of memory in which part of a frame waits: for the rest of it, for the session to read it, or to leave.
    /// 0 when nothing waits. May be called at any time.
    fn buffered(&self) -> usize;

    /// Ends the sending direction: the peer sees the end of the stream after what was written.
    fn poll_shutdown(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
    ) -> Poll<io::Result<()>>;

    /// Reads and forgets; returns how many bytes, 0 at the end of the stream.
    fn poll_discard(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
    ) -> Poll<io::Result<usize>>;

    /// Whether part of a frame has arrived and the rest has not.
    fn is_mid_frame(&self) -> bool;

    /// Leaves the runtime that it was made on. What this returns makes it a link again on the runtime
    /// where it is called.
    fn leave_runtime(self: Box<Self>) -> io::Result<Moving>;

    /// Gives back memory that an unfinished frame holds beyond its need. Called about once a second.
    fn shrink(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_that_are_not_there_are_not_counted() {
        let mut buffers = Buffers::default();
        buffers.note_memory();
        assert_eq!(buffers.account.bytes(), 0);
        buffers.prepare_chunk();
        buffers.note_memory();
        assert_eq!(buffers.account.bytes(), READ_CHUNK);
        // A link keeps the chunk, again and again, and gives it back.
        for _ in 0..100 {
            let (taken, size) = buffers.take_chunk();
            assert_eq!(size, READ_CHUNK);
            buffers.note_memory();
            let spare = buffers.spare.bytes;
            assert_eq!(buffers.account.bytes(), spare, "the link has it");
            buffers.prepare_chunk();
            buffers.spare.put(taken, size);
        }
        buffers.note_memory();
        assert_eq!(buffers.account.bytes(), 2 * READ_CHUNK);
    }

    #[test]
    fn a_chunk_whose_frames_are_on_their_way_is_kept_with_its_size() {
        let mut buffers = Buffers::default();
        buffers.prepare_chunk();
        buffers.chunk.resize(READ_CHUNK, 7);
        let frames = buffers.chunk.split().freeze();
        buffers.prepare_chunk();
        buffers.note_memory();
        assert_eq!(buffers.spare.bytes, READ_CHUNK);
        assert_eq!(buffers.account.bytes(), 2 * READ_CHUNK);
        drop(frames);
        let (again, size) = buffers.spare.take(1_000);
        assert_eq!((again.capacity(), size), (READ_CHUNK, READ_CHUNK));
        assert_eq!(buffers.spare.bytes, 0);
    }
}
