//! What the listener and the link of one peer have in common: the datagrams that wait, and how far the peer's
//! address can be trusted.

use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Waker};

use bytes::{Bytes, BytesMut};

use crate::codec::control::Control;
use crate::codec::{FrameType, Framing, ProtocolError, Span, msgi};

/// Datagrams of one peer that wait for its session, and their bytes. What comes on top is dropped.
pub(super) const QUEUE_DATAGRAMS: usize = 1_024;
pub(super) const QUEUE_BYTES: usize = 256 * 1024;

/// Bytes that wait for all sessions of one listener.
pub(super) const QUEUED_MOST: usize = 64 * 1024 * 1024;

/// What a datagram counts for beside its bytes.
const COST: usize = size_of::<Span>();

/// Datagrams that came to nothing.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) malformed: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) unsent: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Finds the message or frame in a datagram.
pub(super) fn judge(
    framing: Framing,
    datagram: &[u8],
    message_limit: usize,
) -> Result<Span, ProtocolError> {
    if framing.has_hello() {
        return msgi::decode_alone(datagram, 0, message_limit);
    }
    match datagram.len() <= message_limit {
        true => Ok(Span::data(0, datagram.len(), false)),
        false => Err(ProtocolError::too_large(datagram.len(), message_limit)),
    }
}

/// What stands between a datagram and the session, beyond its form: on a byte stream a second hello ends
/// the session, but the network may deliver a datagram twice, and in another order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// A server: nothing has come.
    Awaited,
    /// A client: welcome has not come.
    Welcome,
    Done,
}

impl Opening {
    /// Whether a frame is for the session; it may be out of place, or a broken CONTROL.
    fn takes(&mut self, frame_type: FrameType, payload: &[u8]) -> Result<bool, ()> {
        let control = match frame_type {
            FrameType::CONTROL => Some(Control::parse(payload).map_err(drop)?),
            _ => None,
        };
        Ok(match (*self, control) {
            (Opening::Awaited, control) => {
                let opens = frame_type.is_message()
                    || control.is_some()
                    || matches!(
                        frame_type,
                        FrameType::PING | FrameType::HEARTBEAT | FrameType::REQUEST
                    );
                if opens {
                    *self = Opening::Done;
                }
                opens
            }
            (Opening::Welcome, Some(Control::Welcome(_))) => {
                *self = Opening::Done;
                true
            }
            (Opening::Welcome, _) => {
                matches!(frame_type, FrameType::ERROR | FrameType::DISCONNECT)
            }
            (Opening::Done, Some(Control::Hello(_) | Control::Welcome(_))) => false,
            (Opening::Done, _) => true,
        })
    }
}

/// Datagrams one behind the other, in memory that is used again once their readers are done.
#[derive(Debug)]
pub(super) struct Arrivals {
    data: BytesMut,
    spans: Vec<Span>,
    framing: Framing,
    message_limit: usize,
    opening: Opening,
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Kept,
    Malformed,
    /// Out of place, or no room.
    Dropped,
}

/// Datagrams on their way to the session.
pub(super) struct Taken {
    pub(super) data: Bytes,
    pub(super) spans: Vec<Span>,
    /// What they count for as received bytes.
    pub(super) bytes: usize,
    /// What they counted for while they waited.
    pub(super) cost: usize,
}

impl Arrivals {
    pub(super) fn new(framing: Framing, message_limit: usize, opening: Opening) -> Self {
        let opening = match framing.has_hello() {
            true => opening,
            false => Opening::Done,
        };
        Arrivals {
            data: BytesMut::new(),
            spans: Vec::new(),
            framing,
            message_limit,
            opening,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// What the datagrams that wait count for.
    fn cost(&self) -> usize {
        self.data.len() + self.spans.len() * COST
    }

    /// Bytes of memory in which datagrams wait.
    pub(super) fn memory(&self) -> usize {
        match self.is_empty() {
            true => 0,
            false => self.data.capacity() + self.spans.capacity() * COST,
        }
    }

    /// Takes a datagram in, if there is something in it for the session.
    pub(super) fn push(&mut self, datagram: &[u8]) -> Fate {
        let Ok(mut span) = judge(self.framing, datagram, self.message_limit) else {
            return Fate::Malformed;
        };
        let is_full =
            self.spans.len() >= QUEUE_DATAGRAMS || self.data.len() + datagram.len() > QUEUE_BYTES;
        if is_full && !self.spans.is_empty() {
            return Fate::Dropped;
        }
        let payload = &datagram[span.start as usize..];
        if self.opening != Opening::Done || span.frame_type == FrameType::CONTROL {
            match self.opening.takes(span.frame_type, payload) {
                Err(()) => return Fate::Malformed,
                Ok(false) => return Fate::Dropped,
                Ok(true) => {}
            }
        }
        span.start = self.data.len() as u32;
        self.data.extend_from_slice(payload);
        self.spans.push(span);
        Fate::Kept
    }

    /// Takes what there is, about `room` bytes of it. `list` is memory for listing what comes next.
    pub(super) fn take(&mut self, room: usize, list: &mut Vec<Span>) -> Taken {
        let cost = self.cost();
        if cost <= room {
            let count = self.spans.len();
            let data = self.data.split().freeze();
            return Taken {
                bytes: data.len() + count * msgi::HEADER,
                data,
                spans: std::mem::replace(&mut self.spans, std::mem::take(list)),
                cost,
            };
        }
        let (mut at, mut count) = (0, 0);
        while let Some(span) = self.spans.get(count)
            && (count == 0 || at + count * COST < room)
        {
            at += span.len as usize;
            count += 1;
        }
        let mut spans = std::mem::take(list);
        spans.extend(self.spans.drain(..count));
        for span in &mut self.spans {
            span.start -= at as u32;
        }
        Taken {
            data: self.data.split_to(at).freeze(),
            bytes: at + count * msgi::HEADER,
            cost: at + count * COST,
            spans,
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> (usize, usize) {
        (self.data.capacity(), self.spans.capacity())
    }

    /// Gives memory back while nothing waits.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            self.data = BytesMut::new();
            self.spans = Vec::new();
        }
    }
}

/// One peer of a listener.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) addr: SocketAddr,
    /// The address at which its first datagram arrived, when this side has several.
    pub(super) source: Option<IpAddr>,
    pub(super) queue: Mutex<Queue>,
}

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) arrivals: Arrivals,
    waker: Option<Waker>,
    /// Whether the session has to give way to another one.
    pub(super) evicted: bool,
    /// Whether the session has ended.
    pub(super) ended: bool,
    /// Whether a datagram has come since [`is_silent`](Self::is_silent) was last asked.
    touched: bool,
    /// Bytes that came from the address and that were sent there, until it has answered.
    received: u64,
    pub(super) sent: u64,
    answered: bool,
}

impl Queue {
    pub(super) fn new(arrivals: Arrivals) -> Self {
        Queue {
            arrivals,
            waker: None,
            evicted: false,
            ended: false,
            touched: false,
            received: 0,
            sent: 0,
            answered: false,
        }
    }

    /// A datagram has come from the peer. `queued` is what waits for all sessions.
    pub(super) fn push(&mut self, datagram: &[u8], queued: &AtomicUsize) -> Fate {
        self.touched = true;
        if !self.answered {
            self.received += datagram.len() as u64;
            self.answered = self.sent > 0;
        }
        if queued.load(Ordering::Relaxed) > QUEUED_MOST {
            return Fate::Dropped;
        }
        let before = self.arrivals.cost();
        let fate = self.arrivals.push(datagram);
        if fate == Fate::Kept {
            queued.fetch_add(self.arrivals.cost() - before, Ordering::Relaxed);
        }
        fate
    }

    /// Whether something has come from the address after something was sent there.
    pub(super) fn has_answered(&self) -> bool {
        self.answered
    }

    /// How many bytes may be sent; the peer may be someone else than whoever uses its address.
    pub(super) fn allowance(&self) -> usize {
        match self.answered {
            true => usize::MAX,
            false => self.received.saturating_sub(self.sent) as usize,
        }
    }

    /// Whether nothing has come since this was last asked.
    pub(super) fn is_silent(&mut self) -> bool {
        !std::mem::take(&mut self.touched)
    }

    pub(super) fn register(&mut self, context: &Context<'_>) {
        match &mut self.waker {
            Some(known) => known.clone_from(context.waker()),
            None => self.waker = Some(context.waker().clone()),
        }
    }

    pub(super) fn take_waker(&mut self) -> Option<Waker> {
        self.waker.take()
    }

    /// Forgets what waits; returns what it counted for.
    pub(super) fn end(&mut self) -> usize {
        self.ended = true;
        self.waker = None;
        let cost = self.arrivals.cost();
        self.arrivals.data = BytesMut::new();
        self.arrivals.spans = Vec::new();
        cost
    }
}
