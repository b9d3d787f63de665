//! In process: frames are handed over as values, without bytes, sockets or copies.
//!
//! A listener is a name in a registry of the process. A connection is two queues, one for each
//! direction, bounded in bytes and in frames. Nothing here needs an I/O driver.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::mem;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use tokio::sync::mpsc;

use super::{Incoming, LinkConfig, Listener};
use crate::codec::{EndOfStream, Framing, Span, msgi};
use crate::session::Transport;
use crate::session::inbound::Inbound;
use crate::session::link::{Buffers, Link, Moving, Received, Then};
use crate::session::output::{Frame, Output};
use crate::session::shared::{PeerInfo, lock};

/// Bytes that wait in one direction, heads as MSGI has them included; one frame is always allowed. As
/// much as one read of a byte stream takes, so that both sides work in batches of the same size.
const QUEUE_BYTES: usize = 256 * 1024;

/// Frames that wait in one direction. Bounds what the list itself takes when frames are small.
const QUEUE_FRAMES: usize = 1_024;

/// Connections that wait to be accepted. The next one waits until there is room.
const BACKLOG: usize = 128;

/// The memory that an idle queue keeps for its list, in frames.
const IDLE_FRAMES: usize = 16;

/// Where the listener of each name takes connections.
static LISTENERS: Mutex<BTreeMap<String, mpsc::Sender<End>>> = Mutex::new(BTreeMap::new());

/// A name that accepts connections.
#[derive(Debug)]
pub(crate) struct Memory {
    name: String,
    config: LinkConfig,
    connections: mpsc::Receiver<End>,
}

impl Memory {
    /// Takes the name, which is free again when the listener is dropped.
    pub(crate) fn bind(name: &str, config: LinkConfig) -> io::Result<Self> {
        let mut listeners = lock(&LISTENERS);
        if listeners.contains_key(name) {
            let text = format!("`{name}` is taken by another listener of this process");
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        let (sender, connections) = mpsc::channel(BACKLOG);
        listeners.insert(name.to_owned(), sender);
        Ok(Memory {
            name: name.to_owned(),
            config,
            connections,
        })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        lock(&LISTENERS).remove(&self.name);
        // Connections that were not accepted end with the channel.
    }
}

impl Listener for Memory {
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Incoming>> {
        match ready!(self.connections.poll_recv(context)) {
            Some(end) => Poll::Ready(Ok(Incoming {
                link: link(end, &self.config),
                peer: peer(),
            })),
            // The registry holds a sender for as long as the listener lives.
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn url(&self) -> String {
        format!("mem://{}", self.name)
    }
}

/// Connects to the listener of that name. Waits while its backlog is full.
pub(crate) async fn connect(
    name: &str,
    config: &LinkConfig,
) -> io::Result<(Box<dyn Link>, PeerInfo)> {
    Ok((link(End::connect(name).await?, config), peer()))
}

fn link(end: End, config: &LinkConfig) -> Box<dyn Link> {
    Box::new(MemoryLink {
        end,
        message_limit: config.message_limit,
    })
}

fn peer() -> PeerInfo {
    PeerInfo {
        transport: Transport::Memory,
        remote: None,
        local: None,
    }
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// The writer writes no more.
    ended: bool,
    /// The reader reads no more.
    abandoned: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Queue {
    fn has_room(&self, frame: &Frame) -> bool {
        self.frames.is_empty()
            || (self.frames.len() < QUEUE_FRAMES && self.bytes + cost(frame) <= QUEUE_BYTES)
    }

    fn pop(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        self.bytes -= cost(&frame);
        Some(frame)
    }
}

/// What a frame counts for.
fn cost(frame: &Frame) -> usize {
    frame.payload.len() + msgi::HEADER
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// One end of a connection. Dropping it ends both directions; what it has written can still be read.
#[derive(Debug)]
pub(crate) struct End {
    incoming: Arc<Mutex<Queue>>,
    outgoing: Arc<Mutex<Queue>>,
}

impl End {
    fn pair() -> (End, End) {
        let (one, two) = (
            Arc::<Mutex<Queue>>::default(),
            Arc::<Mutex<Queue>>::default(),
        );
        let near = End {
            incoming: Arc::clone(&one),
            outgoing: Arc::clone(&two),
        };
        (
            near,
            End {
                incoming: two,
                outgoing: one,
            },
        )
    }

    pub(crate) async fn connect(name: &str) -> io::Result<End> {
        let refused = || {
            let text = format!("nobody listens at `{name}` in this process");
            io::Error::new(io::ErrorKind::ConnectionRefused, text)
        };
        let listener = lock(&LISTENERS).get(name).cloned().ok_or_else(refused)?;
        let (near, far) = End::pair();
        listener.send(far).await.map_err(|_| refused())?;
        Ok(near)
    }

    /// Writes the frames that `next` takes from its source, while there is room; `peek` shows the next.
    pub(crate) fn poll_write<S>(
        &mut self,
        context: &mut Context<'_>,
        source: &mut S,
        peek: impl Fn(&S) -> Option<&Frame>,
        next: impl Fn(&mut S) -> Option<Frame>,
    ) -> Poll<io::Result<()>> {
        let mut queue = lock(&self.outgoing);
        let mut written = false;
        let result = loop {
            let Some(frame) = peek(source) else {
                break Poll::Ready(Ok(()));
            };
            if queue.abandoned || queue.ended {
                break Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if !queue.has_room(frame) {
                register(&mut queue.writer, context);
                break Poll::Pending;
            }
            if let Some(frame) = next(source) {
                queue.bytes += cost(&frame);
                queue.frames.push_back(frame);
                written = true;
            }
        };
        let reader = if written { queue.reader.take() } else { None };
        drop(queue);
        wake(reader);
        result
    }

    /// Takes frames for as long as `take` wants more. Says whether there were any; false is the end.
    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        mut take: impl FnMut(Frame) -> bool,
    ) -> Poll<bool> {
        let mut queue = lock(&self.incoming);
        let mut any = false;
        while let Some(frame) = queue.pop() {
            any = true;
            if !take(frame) {
                break;
            }
        }
        if any {
            let writer = queue.writer.take();
            drop(queue);
            wake(writer);
            return Poll::Ready(true);
        }
        if queue.ended {
            return Poll::Ready(false);
        }
        register(&mut queue.reader, context);
        Poll::Pending
    }

    /// Writes no more; the other side sees the end after what was written.
    pub(crate) fn shutdown(&mut self) {
        let mut queue = lock(&self.outgoing);
        queue.ended = true;
        let reader = queue.reader.take();
        drop(queue);
        wake(reader);
    }
}

fn register(slot: &mut Option<Waker>, context: &Context<'_>) {
    match slot {
        Some(known) => known.clone_from(context.waker()),
        None => *slot = Some(context.waker().clone()),
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.shutdown();
        let mut queue = lock(&self.incoming);
        queue.abandoned = true;
        queue.bytes = 0;
        let (frames, writer) = (mem::take(&mut queue.frames), queue.writer.take());
        drop(queue);
        drop(frames);
        wake(writer);
    }
}

/// A connection as the session core sees it.
struct MemoryLink {
    end: End,
    message_limit: usize,
}

impl Link for MemoryLink {
    fn leave_runtime(self: Box<Self>) -> io::Result<Moving> {
        // It is of no runtime.
        Ok(Box::new(move || Ok(self as Box<dyn Link>)))
    }

    fn framing(&self) -> Framing {
        Framing::Frames
    }

    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
        room: usize,
    ) -> Poll<io::Result<Received>> {
        let limit = self.message_limit;
        let mut spans = mem::take(&mut buffers.spans);
        let mut payloads = Vec::new();
        let (mut bytes, mut then) = (0, Then::More);
        let any = self.end.poll_read(context, |frame| {
            bytes += cost(&frame);
            let Frame {
                frame_type,
                text,
                id,
                payload,
                ..
            } = frame;
            if let Some(error) = msgi::judge_value(frame_type, payload.len(), limit) {
                then = Then::Invalid(error);
                return false;
            }
            spans.push(Span {
                frame_type,
                text,
                start: 0,
                len: payload.len() as u32,
                id,
            });
            payloads.push(payload);
            bytes < room
        });
        match any {
            Poll::Pending => {
                buffers.spans = spans;
                return Poll::Pending;
            }
            Poll::Ready(false) => then = Then::End(EndOfStream::Boundary),
            Poll::Ready(true) => {}
        }
        let frames = Inbound::from_values(spans, payloads);
        Poll::Ready(Ok(Received {
            frames,
            bytes,
            then,
        }))
    }

    fn poll_transmit(
        &mut self,
        context: &mut Context<'_>,
        _buffers: &mut Buffers,
        output: &mut Output,
    ) -> Poll<io::Result<()>> {
        self.end
            .poll_write(context, output, Output::front_frame, Output::pop_frame)
    }

    fn poll_shutdown(
        &mut self,
        _context: &mut Context<'_>,
        _buffers: &mut Buffers,
    ) -> Poll<io::Result<()>> {
        self.end.shutdown();
        Poll::Ready(Ok(()))
    }

    fn poll_discard(
        &mut self,
        context: &mut Context<'_>,
        _buffers: &mut Buffers,
    ) -> Poll<io::Result<usize>> {
        let mut bytes = 0;
        self.end
            .poll_read(context, |frame| {
                bytes += cost(&frame);
                true
            })
            .map(|_| Ok(bytes))
    }

    fn is_mid_frame(&self) -> bool {
        false
    }

    /// What is on its way to this end, which alone can take it.
    fn buffered(&self) -> usize {
        lock(&self.end.incoming).bytes
    }

    fn shrink(&mut self) {
        let mut queue = lock(&self.end.incoming);
        if queue.frames.is_empty() && queue.frames.capacity() > IDLE_FRAMES {
            queue.frames = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use bytes::Bytes;

    use super::*;
    use crate::codec::FrameType;
    use crate::config::SocketOptions;
    use crate::error::ErrorCode;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn config() -> LinkConfig {
        LinkConfig {
            message_limit: 1_000_000,
            socket: SocketOptions::default(),
            udp: Default::default(),
        }
    }

    fn output(lengths: &[usize]) -> Output {
        let mut output = Output::default();
        for &len in lengths {
            let payload = Bytes::from(vec![7; len]);
            output.push(Framing::Frames, FrameType::DATA, false, 0, payload);
        }
        output
    }

    fn links() -> (Box<dyn Link>, Box<dyn Link>) {
        let (near, far) = End::pair();
        (link(near, &config()), link(far, &config()))
    }

    fn receive(link: &mut Box<dyn Link>, context: &mut Context<'_>) -> Option<(usize, Then)> {
        match link.poll_receive(context, &mut Buffers::default(), usize::MAX) {
            Poll::Ready(Ok(received)) => {
                Some((received.frames.census().messages as usize, received.then))
            }
            Poll::Ready(Err(error)) => panic!("{error}"),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_full_queue_holds_the_writer_back_and_reading_wakes_it() {
        let (mut near, mut far) = links();
        let woken = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&woken));
        let context = &mut Context::from_waker(&waker);
        let mut large = output(&[QUEUE_BYTES * 2, 1, 1]);
        // One frame is always allowed, and nothing beside it.
        assert!(
            near.poll_transmit(context, &mut Buffers::default(), &mut large)
                .is_pending()
        );
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        let (frames, _) = receive(&mut far, context).expect("a frame");
        assert_eq!((frames, woken.0.load(Ordering::Relaxed)), (1, 1));
        assert!(
            near.poll_transmit(context, &mut Buffers::default(), &mut large)
                .is_ready()
        );
        assert_eq!(receive(&mut far, context).expect("frames").0, 2);
    }

    #[test]
    fn the_queue_is_bounded_in_frames_too() {
        let (mut near, mut far) = links();
        let context = &mut Context::from_waker(Waker::noop());
        let mut many = output(&vec![0; QUEUE_FRAMES + 1]);
        assert!(
            near.poll_transmit(context, &mut Buffers::default(), &mut many)
                .is_pending()
        );
        assert_eq!(receive(&mut far, context).expect("frames").0, QUEUE_FRAMES);
    }

    #[test]
    fn the_end_comes_after_what_was_written_and_only_that_way() {
        let (mut near, mut far) = links();
        let context = &mut Context::from_waker(Waker::noop());
        assert!(
            near.poll_transmit(context, &mut Buffers::default(), &mut output(&[1]))
                .is_ready()
        );
        assert!(
            near.poll_shutdown(context, &mut Buffers::default())
                .is_ready()
        );
        assert!(matches!(receive(&mut far, context), Some((1, Then::More))));
        let end = receive(&mut far, context);
        assert!(matches!(end, Some((0, Then::End(EndOfStream::Boundary)))));
        // The other direction is still open.
        assert!(
            far.poll_transmit(context, &mut Buffers::default(), &mut output(&[1]))
                .is_ready()
        );
        assert!(matches!(receive(&mut near, context), Some((1, Then::More))));
    }

    #[test]
    fn a_dropped_end_is_the_end_of_the_stream_and_a_broken_pipe() {
        let (near, mut far) = links();
        let context = &mut Context::from_waker(Waker::noop());
        drop(near);
        assert!(matches!(
            receive(&mut far, context),
            Some((0, Then::End(_)))
        ));
        let Poll::Ready(Err(error)) =
            far.poll_transmit(context, &mut Buffers::default(), &mut output(&[1]))
        else {
            panic!("written to nobody");
        };
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn what_a_byte_stream_would_refuse_is_refused_here() {
        let context = &mut Context::from_waker(Waker::noop());
        for (frame_type, len, code) in [
            (FrameType::DATA, 1_000_001, ErrorCode::MessageTooLarge),
            (FrameType::RESPONSE, 1_000_001, ErrorCode::MessageTooLarge),
            (FrameType::PING, 126, ErrorCode::InvalidFrame),
            (FrameType::ERROR, 3, ErrorCode::InvalidFrame),
            (FrameType::FAILURE, 3, ErrorCode::InvalidFrame),
            (FrameType(0x7fff), 0, ErrorCode::InvalidFrame),
        ] {
            let (mut near, mut far) = links();
            let mut output = Output::default();
            let payload = Bytes::from(vec![0; len]);
            output.push(Framing::Frames, frame_type, false, 0, payload);
            assert!(
                near.poll_transmit(context, &mut Buffers::default(), &mut output)
                    .is_ready()
            );
            let Some((0, Then::Invalid(error))) = receive(&mut far, context) else {
                panic!("{frame_type:?} of {len} bytes was taken");
            };
            assert_eq!(error.code, code);
        }
    }

    #[tokio::test]
    async fn a_name_is_taken_once_and_free_after_the_listener() {
        let listener = Memory::bind("unit-taken", config()).expect("bound");
        let error = Memory::bind("unit-taken", config()).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        let error = connect("unit-taken", &config())
            .await
            .err()
            .expect("refused");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        Memory::bind("unit-taken", config()).expect("free again");
    }

    #[tokio::test]
    async fn a_full_backlog_lets_the_next_wait() {
        let mut listener = Memory::bind("unit-backlog", config()).expect("bound");
        let mut waiting = Vec::new();
        for _ in 0..BACKLOG {
            waiting.push(End::connect("unit-backlog").await.expect("connected"));
        }
        let mut next = Box::pin(End::connect("unit-backlog"));
        let context = &mut Context::from_waker(Waker::noop());
        assert!(next.as_mut().poll(context).is_pending());
        poll_fn(|context| listener.poll_accept(context))
            .await
            .expect("accepted");
        next.await.expect("connected");
        let more = tokio::spawn(End::connect("unit-backlog"));
        tokio::task::yield_now().await;
        drop(listener);
        assert!(more.await.expect("joined").is_err());
    }
}
