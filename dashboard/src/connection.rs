//! One connection: HTTP/1 by hyper on a socket with deadlines.
//!
//! hyper has one deadline for a head, which also runs while nothing has been asked, and none for a client that does
//! not read. So both are here, below it.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Request, StatusCode};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tower::ServiceExt;

use crate::answer;
use crate::serve::{Deadlines, turn_away};

/// Request line and header fields of a request.
const HEAD_BYTES: usize = 16 * 1024;
const HEAD_FIELDS: usize = 64;

/// What a client that is slow to read has to take at least, in bytes a second, after a pause of the write deadline.
const READ_RATE: u64 = 16 * 1024;

/// How long the other side has to read the last answer.
const LAST_TIME: Duration = Duration::from_secs(1);

/// Answers requests until one side has enough.
pub(crate) async fn serve(
    stream: TcpStream,
    router: Router,
    deadlines: Deadlines,
    mut stopped: watch::Receiver<bool>,
) {
    let exchange = Arc::new(Exchange::default());
    let socket = Socket::new(stream, deadlines, Arc::clone(&exchange));
    let service = service_fn(move |request: Request<Incoming>| {
        exchange.busy.store(true, Relaxed);
        let done = Done(Arc::clone(&exchange));
        let answered = router.clone().oneshot(request.map(Body::new));
        Box::pin(async move {
            let answer = answered.await?;
            Ok::<_, Infallible>(answer.map(|body| Answer { body, _done: done }))
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS)
        .serve_connection(TokioIo::new(socket), service);
    let mut is_stopping = false;
    let ended = loop {
        let ended = tokio::select! {
            ended = poll_fn(|context| connection.poll_without_shutdown(context)) => ended,
            _ = stopped.changed(), if !is_stopping => {
                is_stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
                continue;
            }
        };
        break ended;
    };
    let socket = connection.into_parts().io.into_inner();
    let last = match &ended {
        _ if socket.is_late => answer::raw(
            StatusCode::REQUEST_TIMEOUT,
            "the head of the request came too slowly",
        ),
        Err(error) if error.is_parse_version_h2() => answer::raw(
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "this is HTTP/1.1 without TLS",
        ),
        // hyper has said what is wrong, and where nothing is, everything has been said.
        Ok(()) => Vec::new(),
        Err(error) if error.is_parse() => Vec::new(),
        Err(_) => return,
    };
    let _ = timeout(LAST_TIME, turn_away(socket.stream, &last)).await;
}

/// Whether a request is being answered.
#[derive(Default)]
struct Exchange {
    busy: AtomicBool,
    /// Who is waiting for the next request. hyper looks for it before it lets go of the last answer.
    reader: Mutex<Option<Waker>>,
}

/// Says that a request has been answered, when the answer is dropped.
struct Done(Arc<Exchange>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.busy.store(false, Relaxed);
        let reader = self
            .0
            .reader
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// The body of an answer.
struct Answer {
    body: Body,
    _done: Done,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A socket with deadlines for its peer.
struct Socket {
    stream: TcpStream,
    deadlines: Deadlines,
    exchange: Arc<Exchange>,
    phase: Phase,
    reading: Timer,
    writing: Timer,
    /// Since when the peer has not taken all that there is, and how much it has taken meanwhile.
    stalled: Option<(Instant, u64)>,
    /// Whether a head did not come in time.
    is_late: bool,
}

/// What a peer is expected to send.
#[derive(Clone, Copy)]
enum Phase {
    /// A request, some time.
    Idle { since: Instant },
    /// The rest of a head.
    Head { since: Instant },
    /// Nothing, or the body, for which there is a deadline above.
    Busy,
}

impl Socket {
    fn new(stream: TcpStream, deadlines: Deadlines, exchange: Arc<Exchange>) -> Self {
        Socket {
            stream,
            deadlines,
            exchange,
            phase: Phase::Idle {
                since: Instant::now(),
            },
            reading: Timer::default(),
            writing: Timer::default(),
            stalled: None,
            is_late: false,
        }
    }

    fn update_phase(&mut self, received: bool) {
        self.phase = match (self.phase, self.exchange.busy.load(Relaxed)) {
            (_, true) => Phase::Busy,
            (Phase::Busy, false) => Phase::Idle {
                since: Instant::now(),
            },
            (Phase::Idle { .. }, false) if received => Phase::Head {
                since: Instant::now(),
            },
            (phase, false) => phase,
        };
    }

    /// Accounts for a write of which the peer took so many bytes.
    fn wrote(&mut self, taken: usize, offered: usize) {
        if taken >= offered {
            self.stalled = None;
        } else if let Some((_, progress)) = &mut self.stalled {
            *progress += taken as u64;
        }
    }

    /// Ends the wait for a peer that does not read, or reads too slowly.
    fn poll_stalled<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let (since, progress) = *self.stalled.get_or_insert_with(|| (Instant::now(), 0));
        let allowed = Duration::from_secs(progress / READ_RATE) + self.deadlines.write;
        ready!(self.writing.poll(since + allowed, context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = &mut *self;
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut socket.stream).poll_read(context, buffer) {
            socket.update_phase(buffer.filled().len() > before);
            return Poll::Ready(read);
        }
        socket.update_phase(false);
        let deadline = match socket.phase {
            Phase::Busy => {
                let reader = &socket.exchange.reader;
                let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
                *reader = Some(context.waker().clone());
                return Poll::Pending;
            }
            Phase::Idle { since } => since + socket.deadlines.idle,
            Phase::Head { since } => since + socket.deadlines.head,
        };
        ready!(socket.reading.poll(deadline, context));
        socket.is_late = matches!(socket.phase, Phase::Head { .. });
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let socket = &mut *self;
        match Pin::new(&mut socket.stream).poll_write(context, bytes) {
            Poll::Ready(written) => {
                socket.wrote(*written.as_ref().unwrap_or(&0), bytes.len());
                Poll::Ready(written)
            }
            Poll::Pending => socket.poll_stalled(context),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let socket = &mut *self;
        match Pin::new(&mut socket.stream).poll_write_vectored(context, bytes) {
            Poll::Ready(written) => {
                let offered = bytes.iter().map(|slice| slice.len()).sum();
                socket.wrote(*written.as_ref().unwrap_or(&0), offered);
                Poll::Ready(written)
            }
            Poll::Pending => socket.poll_stalled(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A deadline that moves.
#[derive(Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready when the deadline has passed.
    fn poll(&mut self, deadline: Instant, context: &mut Context<'_>) -> Poll<()> {
        let sleep = self
            .0
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(context)
    }
}
