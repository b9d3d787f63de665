//! Received frames on their way to a handler.

use bytes::Bytes;

use crate::codec::{FrameType, Span};
use crate::message::{Message, MessageKind, MessageRef, share};

/// What a frame counts for beside its payload: about the memory that its entry in the list takes.
const FRAME_COST: usize = size_of::<Span>() + size_of::<Bytes>();

/// The frames that one read brought, in order.
///
/// Payloads are parts of `data`, or whole values in `owned` on a link that carries frames. The batch
/// moves into the handler's future, which lends its messages one by one, and comes back when that
/// future is done.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    data: Bytes,
    spans: Vec<Span>,
    /// Index in `spans` of the next frame.
    next: usize,
    /// Payloads that came as values. When not empty, `spans[i]` is about `owned[i]`.
    owned: Vec<Bytes>,
}

impl Inbound {
    /// `spans` are parts of `data`.
    pub(crate) fn new(data: Bytes, spans: Vec<Span>) -> Self {
        Inbound { data, spans, next: 0, owned: Vec::new() }
    }

    pub(crate) fn from_values(spans: Vec<Span>, owned: Vec<Bytes>) -> Self {
        debug_assert_eq!(spans.len(), owned.len());
        Inbound { data: Bytes::new(), spans, next: 0, owned }
    }

    /// Gives the memory of the list of frames back.
    pub(crate) fn into_spans(mut self) -> Vec<Span> {
        self.spans.clear();
        self.spans
    }

    /// The next frame, which stays.
    #[inline]
    pub(crate) fn peek(&self) -> Option<&Span> {
        self.spans.get(self.next)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.next >= self.spans.len()
    }

    /// Frames that are left.
    pub(crate) fn spans(&self) -> &[Span] {
        &self.spans[self.next..]
    }

    /// What the frames that are left count for while they are held: payloads, and something for each
    /// frame, so that empty ones count too.
    pub(crate) fn held_len(&self) -> usize {
        self.spans().iter().map(|span| span.len as usize + FRAME_COST).sum()
    }

    #[inline]
    fn slice(&self, index: usize) -> (&[u8], &Bytes) {
        let span = &self.spans[index];
        match self.owned.get(index) {
            Some(value) => (value, value),
            None => (&self.data[span.start as usize..][..span.len as usize], &self.data),
        }
    }

    /// Lends the next frame if it is a message, and moves on.
    #[inline]
    pub(crate) fn next_message(&mut self) -> Option<MessageRef<'_>> {
        let span = self.spans.get(self.next)?;
        if !span.frame_type.is_message() {
            return None;
        }
        let kind = kind_of(span);
        let index = self.next;
        self.next += 1;
        let (payload, source) = self.slice(index);
        Some(MessageRef::new(kind, payload, source))
    }

    /// Takes the next frame, whatever it is.
    pub(crate) fn take_next(&mut self) -> Option<(Span, Message)> {
        let span = *self.spans.get(self.next)?;
        let (payload, source) = self.slice(self.next);
        let message = Message::from_parts(kind_of(&span), share(payload, source));
        self.next += 1;
        Some((span, message))
    }

    /// Skips the messages up to the next frame of another kind; says how many.
    pub(crate) fn skip_messages(&mut self) -> usize {
        let before = self.next;
        while self.peek().is_some_and(|span| span.frame_type.is_message()) {
            self.next += 1;
        }
        self.next - before
    }

    /// Takes out the frames that are dealt with on arrival and hands each to `visit`. When that returns
    /// false, the frames after it are forgotten.
    pub(crate) fn take_urgent(&mut self, mut visit: impl FnMut(&Span, &[u8], &Bytes) -> bool) {
        let mut kept = self.next;
        for index in self.next..self.spans.len() {
            let span = self.spans[index];
            if !span.frame_type.is_ordered() {
                let (payload, source) = self.slice(index);
                if visit(&span, payload, source) {
                    continue;
                }
                break;
            }
            self.spans[kept] = span;
            if !self.owned.is_empty() {
                self.owned.swap(kept, index);
            }
            kept += 1;
        }
        self.spans.truncate(kept);
        if !self.owned.is_empty() {
            self.owned.truncate(kept);
        }
    }

    /// The first frame, lent.
    pub(crate) fn first(&self) -> Option<(&Span, &[u8])> {
        Some((self.peek()?, self.slice(self.next).0))
    }

    pub(crate) fn skip_one(&mut self) {
        self.next += 1;
    }

    /// Copies what is left out of a large shared buffer, so that frames that wait do not pin it.
    pub(crate) fn detach(&mut self) {
        if !self.owned.is_empty() || self.is_empty() {
            return;
        }
        let left = self.spans();
        let start = left.iter().map(|span| span.start).min().unwrap_or(0);
        let end = left.iter().map(|span| span.start + span.len).max().unwrap_or(0);
        self.data = Bytes::copy_from_slice(&self.data[start as usize..end as usize]);
        for span in &mut self.spans[self.next..] {
            span.start -= start;
        }
    }
}

#[inline]
fn kind_of(span: &Span) -> MessageKind {
    match span.frame_type {
        FrameType::DATA if span.text => MessageKind::Text,
        FrameType(number) if number >= FrameType::APPLICATION => MessageKind::Application(number),
        _ => MessageKind::Binary,
    }
}
