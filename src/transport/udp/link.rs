//! One peer as the session core sees it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tracing::field::display;

use super::peer::{Arrivals, Peer, Taken, count};
use super::socket::{Batch, Socket, Waiting};
use super::{BATCHES, Shared, UdpConfig, note};
use crate::codec::{EndOfStream, FrameType, Framing, Span, msgi};
use crate::error::ErrorCode;
use crate::events::{self, shown};
use crate::session::inbound::Inbound;
use crate::session::link::{Buffers, Established, Link, Moving, OpenError, Received, Then};
use crate::session::output::{Frame, Output};
use crate::session::shared::lock;

/// A client's hello is made at least this long, as far as the limit allows: before a server has heard twice
/// from an address, it sends no more than came from there, and a welcome is longer than a short hello.
/// Spaces behind JSON mean nothing.
const HELLO_SIZE: usize = 512;

/// Where datagrams come from.
pub(super) enum Source {
    /// From the listener, which receives for all its peers.
    Listener(Arc<Peer>, Arc<Shared>),
    /// From a socket of its own, which may have to say that nobody is there.
    Own(Arrivals, Option<Waiting>),
}

pub(super) struct UdpLink {
    socket: Arc<Socket>,
    source: Source,
    to: SocketAddr,
    /// This side's address, when it has several.
    from: Option<IpAddr>,
    framing: Framing,
    config: UdpConfig,
    /// Set while the socket takes no more.
    blocked: Option<Waiting>,
    /// Whether the peer's address is known to be its own.
    trusted: bool,
    /// Whether the hello of a client is still to be sent.
    hello: bool,
    /// How many datagrams are sent one by one, because the system did not take them together.
    singly: usize,
    /// Whether this side says no more.
    shut: bool,
}

impl UdpLink {
    /// The link of a peer of a listener.
    pub(super) fn of_peer(
        peer: Arc<Peer>,
        shared: Arc<Shared>,
        framing: Framing,
        config: UdpConfig,
    ) -> Self {
        UdpLink {
            socket: Arc::clone(&shared.socket),
            to: peer.addr,
            from: peer.source,
            source: Source::Listener(peer, shared),
            framing,
            config,
            blocked: None,
            trusted: false,
            hello: false,
            singly: 0,
            shut: false,
        }
    }

    /// The link of a client.
    pub(super) fn of_client(
        socket: Socket,
        to: SocketAddr,
        arrivals: Arrivals,
        framing: Framing,
        config: UdpConfig,
    ) -> Self {
        UdpLink {
            socket: Arc::new(socket),
            source: Source::Own(arrivals, None),
            to,
            from: None,
            framing,
            config,
            blocked: None,
            trusted: true,
            hello: framing.has_hello(),
            singly: 0,
            shut: false,
        }
    }

    fn poll_take(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
        room: usize,
    ) -> Poll<io::Result<Option<Taken>>> {
        // Without a goodbye, what comes after this side's end belongs to a new session.
        let is_over = self.shut && !self.framing.has_goodbye();
        match &mut self.source {
            Source::Listener(peer, shared) => {
                let mut queue = lock(&peer.queue);
                if queue.evicted {
                    return Poll::Ready(Err(gave_way()));
                }
                if queue.arrivals.is_empty() {
                    if is_over {
                        return Poll::Ready(Ok(None));
                    }
                    queue.register(context);
                    return Poll::Pending;
                }
                let taken = queue.arrivals.take(room, &mut buffers.spans);
                drop(queue);
                shared.release(taken.cost);
                Poll::Ready(Ok(Some(taken)))
            }
            Source::Own(arrivals, failure) => {
                for batch in 0.. {
                    if !arrivals.is_empty() {
                        break;
                    }
                    if batch == BATCHES {
                        // Nothing of what came was worth keeping. Others have their turn first.
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    let received = Batch::with(|batch| {
                        ready!(self.socket.poll_receive(context, batch))?;
                        for datagram in batch.runs().flat_map(|run| run.datagrams()) {
                            let fate = arrivals.push(datagram);
                            note(&self.config.counters, self.to, fate);
                        }
                        Poll::Ready(Ok(()))
                    });
                    match received {
                        Poll::Pending if is_over => return Poll::Ready(Ok(None)),
                        Poll::Pending if self.framing.has_hello() => {
                            let failed = failure.get_or_insert_with(|| {
                                let socket = Arc::clone(&self.socket);
                                Box::pin(async move { socket.failed().await })
                            });
                            let failed = ready!(failed.as_mut().poll(context));
                            *failure = None;
                            if let Err(error) = failed {
                                unreachable_peer(self.framing, error)?;
                            }
                        }
                        Poll::Ready(Err(error)) if is_unreachable(&error) => {
                            unreachable_peer(self.framing, error)?;
                        }
                        other => ready!(other)?,
                    }
                }
                Poll::Ready(Ok(Some(arrivals.take(room, &mut buffers.spans))))
            }
        }
    }

    /// Sends what is at the front of `output`. Says whether to go on.
    fn send_front(&mut self, buffers: &mut Buffers, output: &mut Output) -> Sent {
        let Some(first) = output.front_frame() else {
            return Sent::Done;
        };
        let size = self.size_of(first);
        if size > self.config.options.datagram_size {
            let limit = self.config.options.datagram_size;
            output.pop_frame();
            return self.on_too_long(size, limit);
        }
        if is_unsaid(first) {
            output.pop_frame();
            return Sent::Going;
        }
        // The lock is held while sending, so that an answer cannot come before it is known what it answers.
        let peer = match &self.source {
            Source::Listener(peer, _) if !self.trusted => Some(Arc::clone(peer)),
            _ => None,
        };
        let mut queue = peer.as_ref().map(|peer| lock(&peer.queue));
        let allowance = queue.as_ref().map_or(usize::MAX, |queue| queue.allowance());
        self.trusted = allowance == usize::MAX;
        if size > allowance {
            if self.may_wait(first) {
                return Sent::Refrained;
            }
            drop(queue);
            count(&self.config.counters.unsent);
            output.pop_frame();
            return Sent::Going;
        }
        let most = match self.singly {
            0 => self.socket.most_at_once(size).min(allowance / size.max(1)),
            _ => 1,
        };
        let run = self.encode_run(output, size, most.max(1), &mut buffers.scratch.outgoing);
        let bytes = match (run, self.framing) {
            // A message by itself leaves as it is.
            (1, Framing::Datagrams) => output.front_frame().map(|frame| &frame.payload[..]),
            _ => None,
        };
        let bytes = bytes.unwrap_or(&buffers.scratch.outgoing);
        let mut result = self.socket.try_send(self.to, self.from, bytes, size);
        if self.from.is_some()
            && result.as_ref().is_err_and(is_no_source)
            && self.socket.try_send(self.to, None, bytes, size).is_ok()
        {
            // What was asked is the broadcast address of a network, or an address that has gone since. The
            // system chooses one from now on.
            self.from = None;
            result = Ok(());
        }
        if result.is_ok()
            && let Some(queue) = &mut queue
        {
            queue.sent += bytes.len() as u64;
        }
        drop(queue);
        buffers.scratch.outgoing.clear();
        match result {
            Ok(()) => self.hello = false,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Sent::Blocked,
            // Not every network takes many at a time, and an error should cost one datagram only.
            Err(_) if run > 1 => {
                self.singly = run;
                return Sent::Going;
            }
            Err(error) if is_unreachable(&error) => {
                // An earlier datagram did not arrive, and this one has not left.
                if let Err(error) = unreachable_peer(self.framing, error) {
                    return Sent::Broken(error);
                }
                return Sent::Again;
            }
            Err(error) => {
                events::datagram_unsent {
                    peer: display(self.to),
                    error: shown(error),
                }
                .emit();
                count(&self.config.counters.unsent);
            }
        }
        for _ in 0..run {
            output.pop_frame();
        }
        self.singly = self.singly.saturating_sub(1);
        Sent::Going
    }

    /// Whether what may not be sent yet waits for the peer. Last words do not, nor does anything while the
    /// server stops.
    fn may_wait(&self, frame: &Frame) -> bool {
        let is_last = matches!(frame.frame_type, FrameType::DISCONNECT | FrameType::ERROR);
        match &self.source {
            Source::Listener(_, shared) => !is_last && !shared.is_finishing(),
            Source::Own(..) => true,
        }
    }

    /// Encodes frames of the same size that can leave together, and says how many they are. One message by
    /// itself is not copied.
    fn encode_run(&self, output: &Output, size: usize, most: usize, into: &mut Vec<u8>) -> usize {
        into.clear();
        let mut run = 0;
        for frame in output.frames().take(most) {
            if self.size_of(frame) != size || (run > 0 && is_unsaid(frame)) {
                break;
            }
            run += 1;
        }
        if run == 1 && self.framing == Framing::Datagrams {
            return 1;
        }
        into.reserve(run * size);
        for frame in output.frames().take(run) {
            self.encode(frame, size, into);
        }
        run
    }

    fn encode(&self, frame: &Frame, size: usize, into: &mut Vec<u8>) {
        if self.framing.has_hello() {
            into.extend_from_slice(&msgi::header(frame.frame_type, size - msgi::HEADER));
            if frame.frame_type.has_id() {
                into.extend_from_slice(&frame.id.to_be_bytes());
            }
        }
        into.extend_from_slice(&frame.payload);
    }

    /// How long the datagram of a frame is.
    fn size_of(&self, frame: &Frame) -> usize {
        let payload = frame.payload.len();
        if !self.framing.has_hello() {
            return payload;
        }
        let id = if frame.frame_type.has_id() {
            msgi::ID
        } else {
            0
        };
        msgi::HEADER + id + payload
    }

    /// Messages are refused before they get here, so this is a frame of the protocol.
    fn on_too_long(&self, size: usize, limit: usize) -> Sent {
        count(&self.config.counters.unsent);
        if !self.hello {
            events::frame_too_long {
                peer: display(self.to),
                size,
                limit,
            }
            .emit();
            return Sent::Going;
        }
        let text =
            format!("a hello of {size} bytes is over the limit of {limit} bytes of a datagram");
        Sent::Broken(io::Error::new(io::ErrorKind::InvalidInput, text))
    }
}

/// How sending went.
enum Sent {
    /// There is nothing to send.
    Done,
    /// There may be more to send.
    Going,
    /// The same once more: the socket has only said what became of earlier datagrams.
    Again,
    /// The socket takes no more.
    Blocked,
    /// Nothing more is sent to this address before something comes from there.
    Refrained,
    Broken(io::Error),
}

/// What is counted and never answered.
fn is_unsaid(frame: &Frame) -> bool {
    frame.frame_type == FrameType::ERROR
        && frame.payload.first_chunk().is_some_and(|code| {
            matches!(
                ErrorCode::from_i32(i32::from_be_bytes(*code)),
                Some(
                    ErrorCode::InvalidFrame
                        | ErrorCode::MessageTooLarge
                        | ErrorCode::TooManyConnections
                )
            )
        })
}

/// Whether the network says that a datagram did not arrive. It says so about earlier ones, and is no error of
/// the socket.
pub(super) fn is_unreachable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}

/// Whether the system may have refused the address to send from.
fn is_no_source(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::AddrNotAvailable
    )
}

/// With sessions on both sides, there is no session where nobody listens. Without, the peer may come back,
/// and nobody is there to be told.
fn unreachable_peer(framing: Framing, error: io::Error) -> io::Result<()> {
    match framing.has_hello() {
        true => Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            format!("nobody listens there: {error}"),
        )),
        false => Ok(()),
    }
}

fn gave_way() -> io::Error {
    let text = "the limit of sessions is reached, and the peer has not answered";
    io::Error::new(io::ErrorKind::ConnectionAborted, text)
}

impl Link for UdpLink {
    fn framing(&self) -> Framing {
        self.framing
    }

    /// Nothing has to happen, but a datagram holds less than a stream.
    fn needs_opening(&self) -> bool {
        true
    }

    fn poll_open(
        &mut self,
        _context: &mut Context<'_>,
        _buffers: &mut Buffers,
        established: &mut Established,
    ) -> Poll<Result<(), OpenError>> {
        let overhead = match self.framing.has_hello() {
            true => msgi::HEADER + msgi::ID,
            false => 0,
        };
        established.message_limit = Some(self.config.options.datagram_size - overhead);
        Poll::Ready(Ok(()))
    }

    fn least_hello(&self) -> usize {
        HELLO_SIZE.min(self.config.options.datagram_size) - msgi::HEADER
    }

    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
        room: usize,
    ) -> Poll<io::Result<Received>> {
        let received = match ready!(self.poll_take(context, buffers, room))? {
            Some(taken) => Received {
                frames: Inbound::new(taken.data, taken.spans),
                bytes: taken.bytes,
                then: Then::More,
            },
            None => Received {
                frames: Inbound::new(Bytes::new(), Vec::<Span>::new()),
                bytes: 0,
                then: Then::End(EndOfStream::Boundary),
            },
        };
        Poll::Ready(Ok(received))
    }

    fn poll_transmit(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
        output: &mut Output,
    ) -> Poll<io::Result<()>> {
        // The socket may have something to say about earlier datagrams, but not without end.
        let mut patience = 4;
        loop {
            if let Some(writable) = &mut self.blocked {
                ready!(writable.as_mut().poll(context))?;
                self.blocked = None;
            }
            match self.send_front(buffers, output) {
                Sent::Done => return Poll::Ready(Ok(())),
                Sent::Going => {}
                Sent::Again if patience > 0 => patience -= 1,
                Sent::Again => {
                    count(&self.config.counters.unsent);
                    output.pop_frame();
                }
                Sent::Broken(error) => return Poll::Ready(Err(error)),
                Sent::Blocked => {
                    let socket = Arc::clone(&self.socket);
                    self.blocked = Some(Box::pin(async move { socket.writable().await }));
                }
                Sent::Refrained => {
                    let Source::Listener(peer, shared) = &self.source else {
                        return Poll::Pending;
                    };
                    let mut queue = lock(&peer.queue);
                    if queue.evicted {
                        return Poll::Ready(Err(gave_way()));
                    }
                    let size = output.front_frame().map_or(0, |frame| self.size_of(frame));
                    // Under the lock, so that whoever changes one of these finds the waker.
                    if size > queue.allowance() && !shared.is_finishing() {
                        queue.register(context);
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    fn poll_shutdown(
        &mut self,
        _context: &mut Context<'_>,
        _buffers: &mut Buffers,
    ) -> Poll<io::Result<()>> {
        self.shut = true;
        Poll::Ready(Ok(()))
    }

    /// There is nothing that a close could be overtaken by.
    fn poll_discard(
        &mut self,
        _context: &mut Context<'_>,
        _buffers: &mut Buffers,
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(0))
    }

    fn is_mid_frame(&self) -> bool {
        false
    }

    fn buffered(&self) -> usize {
        match &self.source {
            Source::Listener(peer, _) => lock(&peer.queue).arrivals.memory(),
            Source::Own(arrivals, _) => arrivals.memory(),
        }
    }

    fn leave_runtime(self: Box<Self>) -> io::Result<Moving> {
        // The socket stays with the runtime that accepts, as it is not of one peer. It can be written from
        // every thread, and the listener wakes the session wherever it is.
        Ok(Box::new(move || Ok(self as Box<dyn Link>)))
    }

    fn shrink(&mut self) {
        match &mut self.source {
            Source::Listener(peer, _) => lock(&peer.queue).arrivals.shrink(),
            Source::Own(arrivals, _) => arrivals.shrink(),
        }
    }
}

impl Drop for UdpLink {
    fn drop(&mut self) {
        if let Source::Listener(peer, shared) = &self.source {
            let cost = lock(&peer.queue).end();
            shared.release(cost);
            shared.link_ended(peer);
        }
    }
}
