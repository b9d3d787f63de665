//! Received frames on their way to a handler.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{FrameType, Span, msgi};
use crate::limits::Batch;
use crate::message::{Message, MessageKind, share};
use crate::session::reliable::resumption::Resumption;
use crate::session::reliable::{is_application, wire_len};

/// What a frame counts for beside its payload: about the memory that its entry in the list takes.
const FRAME_COST: usize = size_of::<Span>() + size_of::<Bytes>();

/// The frames that one read brought, in order.
///
/// Payloads are parts of one buffer, or whole values on a link that carries frames. The batch moves into
/// the handler's future, which lends its messages one by one, and comes back when that future is done.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    /// The message that is lent: a window that moves over the buffer.
    message: Message,
    spans: Vec<Span>,
    /// Index in `spans` of the next frame.
    next: usize,
    /// Payloads that came as values. When not empty, `spans[i]` is about `owned[i]`.
    owned: Vec<Bytes>,
    /// MSGI frames in the buffer that are all DATA, and where the next one is. They are not listed in `spans`,
    /// which is empty then: their heads say where they are.
    plain: u32,
    plain_at: usize,
    /// Whether the rates have let it in.
    pub(crate) is_admitted: bool,
    /// Where the number of frames is noted that are left, on sessions that acknowledge.
    progress: Option<Arc<Resumption>>,
}

/// What is in a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Census {
    /// Messages, requests and answers, and their bytes.
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// Whether any frame is dealt with on arrival.
    pub(crate) urgent: bool,
    /// Whether the peer says its last word, DISCONNECT or ERROR.
    pub(crate) farewell: bool,
}

/// How [`Inbound::take_urgent`] goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visit {
    Next,
    /// The frames after this one are forgotten.
    Forget,
}

/// What became of a frame in [`Inbound::rebuild`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rebuilt {
    Kept,
    /// It is left out, after so many bytes of work.
    Dropped {
        work: usize,
    },
    /// Neither it nor what comes after it counts.
    Stopped,
}

impl Inbound {
    /// `spans` are parts of `data`.
    pub(crate) fn new(data: Bytes, spans: Vec<Span>) -> Self {
        Inbound {
            message: Message::binary(data),
            spans,
            ..Inbound::default()
        }
    }

    /// `data` is `count` MSGI frames, all of them DATA.
    pub(crate) fn plain(data: Bytes, count: usize, spans: Vec<Span>) -> Self {
        debug_assert!(spans.is_empty());
        Inbound {
            message: Message::binary(data),
            spans,
            plain: count as u32,
            ..Inbound::default()
        }
    }

    pub(crate) fn from_values(spans: Vec<Span>, owned: Vec<Bytes>) -> Self {
        debug_assert_eq!(spans.len(), owned.len());
        Inbound {
            spans,
            owned,
            ..Inbound::default()
        }
    }

    /// How many plain frames are left.
    #[inline(always)]
    fn plain_len(&self) -> usize {
        self.plain as usize
    }

    #[inline(always)]
    fn data(&self) -> &Bytes {
        self.message.buffer()
    }

    /// Bytes of the buffer that the frames are in.
    #[inline]
    pub(crate) fn buffer_len(&self) -> usize {
        self.data().len()
    }

    /// Bytes of memory that it takes.
    pub(crate) fn memory(&self) -> usize {
        let owned: usize = self.owned.iter().map(Bytes::len).sum();
        self.data().len()
            + owned
            + self.owned.capacity() * size_of::<Bytes>()
            + self.spans.capacity() * size_of::<Span>()
    }

    /// Gives the memory of the list of frames back.
    pub(crate) fn into_spans(mut self) -> Vec<Span> {
        self.spans.clear();
        self.spans
    }

    /// The next frame, which stays.
    #[inline]
    pub(crate) fn peek(&self) -> Option<Span> {
        if self.plain > 0 {
            let start = self.plain_at + msgi::HEADER;
            let len = msgi::payload_len(&self.data()[self.plain_at..]);
            return Some(Span::data(start, len, false));
        }
        self.spans.get(self.next).copied()
    }

    /// Frames that are left, of any kind.
    #[inline]
    pub(crate) fn remaining(&self) -> usize {
        self.plain_len() + self.spans.len().saturating_sub(self.next)
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.plain == 0 && self.next >= self.spans.len()
    }

    /// Whether there is anything but control frames of the transport's own, which may stand inside of an
    /// unfinished message.
    pub(crate) fn has_whole_message(&self) -> bool {
        let is_own =
            |span: &Span| span.text && matches!(span.frame_type, FrameType::PING | FrameType::PONG);
        self.plain > 0 || !self.spans[self.next..].iter().all(is_own)
    }

    /// What the frames that are left count for while they are held: payloads, and something for each
    /// frame, so that empty ones count too.
    pub(crate) fn held_len(&self) -> usize {
        let frames = self.plain_len() + self.spans.len() - self.next;
        self.payload_len() + frames * FRAME_COST
    }

    /// Payload bytes of the frames that are left.
    pub(crate) fn payload_len(&self) -> usize {
        let plain = match self.plain_len() {
            0 => 0,
            count => self.data().len() - self.plain_at - count * msgi::HEADER,
        };
        plain
            + self.spans[self.next..]
                .iter()
                .map(|span| span.len as usize)
                .sum::<usize>()
    }

    /// The payload of a listed frame, and the buffer that it is a part of.
    fn slice(&self, index: usize) -> (&[u8], &Bytes) {
        let span = &self.spans[index];
        match self.owned.get(index) {
            Some(value) => (value, value),
            None => (
                &self.data()[span.start as usize..][..span.len as usize],
                self.data(),
            ),
        }
    }

    /// What there is.
    pub(crate) fn census(&self) -> Census {
        if self.plain > 0 {
            let (messages, bytes) = (u64::from(self.plain), self.payload_len() as u64);
            return Census {
                messages,
                bytes,
                ..Census::default()
            };
        }
        let mut census = Census::default();
        for span in &self.spans[self.next..] {
            if span.frame_type.is_message() || span.frame_type.has_id() {
                census.messages += 1;
                census.bytes += u64::from(span.len);
            }
            census.urgent |= !span.frame_type.is_ordered();
            census.farewell |= matches!(span.frame_type, FrameType::DISCONNECT | FrameType::ERROR);
        }
        census
    }

    /// Lends the next frame if it is a message, and moves on.
    #[inline(always)]
    pub(crate) fn next_message(&mut self) -> Option<&Message> {
        if self.plain > 0 {
            if let Some(progress) = &self.progress {
                // Nothing is listed beside plain frames.
                progress.note_left(u64::from(self.plain));
            }
            let at = self.plain_at;
            let len = msgi::payload_len(&self.data()[at..]);
            self.plain -= 1;
            self.plain_at = at + msgi::HEADER + len;
            self.message
                .move_to(MessageKind::Binary, at + msgi::HEADER, len);
            return Some(&self.message);
        }
        self.next_listed_message()
    }

    /// From now on it is noted how many frames are left.
    pub(crate) fn track(&mut self, progress: &Arc<Resumption>) {
        progress.note_left(self.remaining() as u64);
        self.progress = Some(Arc::clone(progress));
    }

    /// The runs of application frames: whether they wait for the handler, their number and their bytes as MSGI.
    pub(crate) fn visit_runs(&self, mut visit: impl FnMut(bool, u64, u64)) {
        if self.plain > 0 {
            let frames = u64::from(self.plain);
            return visit(true, frames, (self.data().len() - self.plain_at) as u64);
        }
        for span in &self.spans[self.next..] {
            if is_application(span.frame_type) {
                let bytes = wire_len(span.frame_type, span.len as usize) as u64;
                visit(span.frame_type.is_ordered(), 1, bytes);
            }
        }
    }

    fn next_listed_message(&mut self) -> Option<&Message> {
        if let Some(progress) = &self.progress {
            progress.note_left(self.remaining() as u64);
        }
        let span = self.spans.get(self.next)?;
        if !span.frame_type.is_message() {
            return None;
        }
        let kind = kind_of(span);
        match self.owned.get_mut(self.next) {
            Some(value) => self.message = Message::from_parts(kind, std::mem::take(value)),
            None => self
                .message
                .move_to(kind, span.start as usize, span.len as usize),
        }
        self.next += 1;
        Some(&self.message)
    }

    /// Takes the next frame, whatever it is.
    pub(crate) fn take_next(&mut self) -> Option<(Span, Message)> {
        let span = self.peek()?;
        let message = match self.next_message() {
            Some(message) => message.clone(),
            None => {
                let (payload, source) = self.slice(self.next);
                let payload = share(payload, source);
                self.next += 1;
                Message::from_parts(kind_of(&span), payload)
            }
        };
        Some((span, message))
    }

    /// Skips the messages up to the next frame of another kind.
    pub(crate) fn skip_messages(&mut self) {
        self.plain = 0;
        while self
            .spans
            .get(self.next)
            .is_some_and(|span| span.frame_type.is_message())
        {
            self.next += 1;
        }
    }

    /// Takes out the frames that are dealt with on arrival and hands each to `visit`, which says how to go on.
    pub(crate) fn take_urgent(&mut self, mut visit: impl FnMut(&Span, &[u8], &Bytes) -> Visit) {
        let mut kept = self.next;
        for index in self.next..self.spans.len() {
            let span = self.spans[index];
            if !span.frame_type.is_ordered() {
                let (payload, source) = self.slice(index);
                match visit(&span, payload, source) {
                    Visit::Next => continue,
                    Visit::Forget => break,
                }
            }
            self.spans[kept] = span;
            if !self.owned.is_empty() {
                self.owned.swap(kept, index);
            }
            kept += 1;
            if matches!(span.frame_type, FrameType::DISCONNECT | FrameType::ERROR) {
                // The peer's last word: nothing after it is of the protocol.
                break;
            }
        }
        self.spans.truncate(kept);
        if !self.owned.is_empty() {
            self.owned.truncate(kept);
        }
    }

    /// Makes frames of these by sending each payload through `change`, which appends the new one to the
    /// buffer that it is given. When about `room` bytes have come of it, or were worked on in vain, the rest
    /// is returned as it is.
    pub(crate) fn rebuild(
        mut self,
        room: usize,
        mut change: impl FnMut(&mut Span, &[u8], &mut Vec<u8>) -> Rebuilt,
    ) -> (Inbound, Inbound) {
        let mut output = Vec::with_capacity(self.payload_len().min(room));
        let mut spans = Vec::with_capacity(self.plain_len() + self.spans.len() - self.next);
        let mut in_vain: usize = 0;
        while (output.len().saturating_add(in_vain) < room || spans.is_empty() && in_vain == 0)
            && let Some((mut span, payload)) = self.first()
        {
            let start = output.len();
            match change(&mut span, payload, &mut output) {
                Rebuilt::Kept => {
                    span.start = start as u32;
                    span.len = (output.len() - start) as u32;
                    spans.push(span);
                    self.skip_one();
                }
                Rebuilt::Dropped { work } => {
                    in_vain = in_vain.saturating_add(work);
                    output.truncate(start);
                    self.skip_one();
                }
                Rebuilt::Stopped => {
                    output.truncate(start);
                    self = Inbound::default();
                }
            }
        }
        (Inbound::new(Bytes::from(output), spans), self)
    }

    /// Takes away what comes after the first `count` frames.
    pub(crate) fn split_off(&mut self, count: usize) -> Inbound {
        let mut rest = Inbound {
            message: Message::binary(self.data().clone()),
            ..Inbound::default()
        };
        if self.plain > 0 {
            let mut at = self.plain_at;
            for _ in 0..count.min(self.plain_len()) {
                at += msgi::HEADER + msgi::payload_len(&self.data()[at..]);
            }
            rest.plain_at = at;
            rest.plain = self.plain_len().saturating_sub(count) as u32;
            self.plain -= rest.plain;
            // Plain frames reach to the end of their buffer.
            self.message = Message::binary(self.data().slice(..at));
        }
        // Frames that are plain come before all others, and mostly there are no others.
        let listed = self.next + count.saturating_sub(self.plain_len());
        if listed < self.spans.len() {
            rest.spans = self.spans.split_off(listed);
            if !self.owned.is_empty() {
                rest.owned = self.owned.split_off(listed);
            }
        }
        rest
    }

    /// Whether there is a frame of such a type.
    pub(crate) fn has_any(&self, is_such: impl Fn(FrameType) -> bool) -> bool {
        let left = &self.spans[self.next..];
        (self.plain > 0 && is_such(FrameType::DATA))
            || left.iter().any(|span| is_such(span.frame_type))
    }

    /// Forgets the first message of more than `limit` bytes and everything after it; returns its length.
    pub(crate) fn cut_before_longer(&mut self, limit: usize) -> Option<usize> {
        if self.owned.is_empty() && self.buffer_len() <= limit {
            return None;
        }
        let mut at = self.plain_at;
        for index in 0..self.plain {
            let len = msgi::payload_len(&self.data()[at..]);
            if len > limit {
                self.plain = index;
                return Some(len);
            }
            at += msgi::HEADER + len;
        }
        let left = &self.spans[self.next..];
        let position = left.iter().position(|span| {
            span.len as usize > limit && (span.frame_type.is_message() || span.frame_type.has_id())
        })?;
        let len = left[position].len as usize;
        self.spans.truncate(self.next + position);
        if !self.owned.is_empty() {
            self.owned.truncate(self.next + position);
        }
        Some(len)
    }

    /// The next frame and its payload, lent.
    pub(crate) fn first(&self) -> Option<(Span, &[u8])> {
        let span = self.peek()?;
        let payload = match self.plain_len() {
            0 => self.slice(self.next).0,
            _ => &self.data()[span.start as usize..][..span.len as usize],
        };
        Some((span, payload))
    }

    /// Skips the next frame.
    pub(crate) fn skip_one(&mut self) {
        if self.next_message().is_none() {
            self.next += 1;
        }
    }

    /// Copies what is left out of a large shared buffer, so that frames that wait do not pin it.
    pub(crate) fn detach(&mut self) {
        if self.plain > 0 {
            self.message = Message::binary(Bytes::copy_from_slice(&self.data()[self.plain_at..]));
            self.plain_at = 0;
            return;
        }
        if !self.owned.is_empty() || self.is_empty() {
            return;
        }
        let left = &self.spans[self.next..];
        let start = left.iter().map(|span| span.start).min().unwrap_or(0);
        let end = left
            .iter()
            .map(|span| span.start + span.len)
            .max()
            .unwrap_or(0);
        let kept = Bytes::copy_from_slice(&self.data()[start as usize..end as usize]);
        self.message = Message::binary(kept);
        for span in &mut self.spans[self.next..] {
            span.start -= start;
        }
    }
}

/// As [`Inbound::first`] sees them, one after the other.
impl Batch for Inbound {
    fn count(&self) -> usize {
        self.remaining()
    }

    fn bytes(&self) -> usize {
        self.payload_len()
    }

    fn lengths(&self) -> impl Iterator<Item = usize> {
        let mut at = self.plain_at;
        let plain = (0..self.plain).map(move |_| {
            let len = msgi::payload_len(&self.data()[at..]);
            at += msgi::HEADER + len;
            len
        });
        let listed = self.spans[self.next..].iter();
        plain.chain(listed.map(|span| span.len as usize))
    }
}

#[inline]
fn kind_of(span: &Span) -> MessageKind {
    match span.frame_type {
        FrameType::DATA if !span.text => MessageKind::Binary,
        FrameType::DATA => MessageKind::Text,
        FrameType(number) if number >= FrameType::APPLICATION => MessageKind::Application(number),
        _ => MessageKind::Binary,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Frames of these lengths, as one read brings them: plain, in a list, or as values.
    fn frames(lengths: &[usize], form: u8) -> Inbound {
        let (mut data, mut spans, mut owned) = (Vec::new(), Vec::new(), Vec::new());
        for (index, &len) in lengths.iter().enumerate() {
            let payload = vec![index as u8; len];
            let start = data.len() + msgi::HEADER;
            data.extend_from_slice(b"MSGI");
            data.extend_from_slice(&(len as u32 + 10).to_be_bytes());
            data.extend_from_slice(&FrameType::DATA.0.to_be_bytes());
            data.extend_from_slice(&payload);
            spans.push(Span::data(start, len, false));
            owned.push(Bytes::from(payload));
        }
        match form {
            0 => Inbound::plain(data.into(), lengths.len(), Vec::new()),
            1 => Inbound::new(data.into(), spans),
            _ => Inbound::from_values(spans, owned),
        }
    }

    fn payloads(mut inbound: Inbound) -> Vec<Vec<u8>> {
        let messages = std::iter::from_fn(|| inbound.take_next());
        messages
            .map(|(_, message)| message.payload().to_vec())
            .collect()
    }

    #[test]
    fn a_batch_is_moved_without_a_call() {
        // It moves several times a turn, and the compiler calls for more than that: 7 instructions a message.
        assert!(size_of::<Inbound>() <= 128, "{}", size_of::<Inbound>());
    }

    proptest! {
        #[test]
        fn a_batch_that_is_split_has_the_same_frames_in_the_same_order(
            lengths in prop::collection::vec(0..20usize, 0..12),
            taken in 0..4usize,
            count in 0..14usize,
            detached in any::<bool>(),
            form in 0..3u8,
        ) {
            let (mut whole, mut first) = (frames(&lengths, form), frames(&lengths, form));
            for _ in 0..taken.min(lengths.len()) {
                whole.skip_one();
                first.skip_one();
            }
            prop_assert_eq!(whole.count(), whole.lengths().count());
            prop_assert_eq!(whole.bytes(), whole.lengths().sum::<usize>());
            let mut rest = first.split_off(count);
            if detached {
                rest.detach();
            }
            prop_assert_eq!(first.count(), count.min(whole.count()));
            prop_assert_eq!(first.count() + rest.count(), whole.count());
            prop_assert_eq!(first.bytes() + rest.bytes(), whole.bytes());
            let mut both = payloads(first);
            both.extend(payloads(rest));
            prop_assert_eq!(both, payloads(whole));
        }
    }
}
