//! The bounded queue of a session: what was sent from anywhere but its own handler, and what its link
//! would not take yet.

use std::collections::VecDeque;
use std::task::Waker;

use super::output::{Encoded, Frame, Output};
use super::reliable::replay::message_of;
use super::reliable::{Room, is_application};
use crate::codec::{FrameType, Framing};
use crate::config::{Limits, QueuePolicy};
use crate::limits::MemoryBudget;
use crate::message::Message;
use crate::metrics::{Held, queue};

/// Senders that are remembered at a time.
const WAITING_MAX: usize = 1_024;

/// What waits.
#[derive(Debug)]
enum Entry {
    Frame(Frame),
    Encoded(Encoded),
}

impl Entry {
    fn len(&self) -> usize {
        match self {
            Entry::Frame(frame) => frame.payload.len(),
            Entry::Encoded(encoded) => encoded.bytes.len(),
        }
    }

    fn frame_type(&self) -> FrameType {
        match self {
            Entry::Frame(frame) => frame.frame_type,
            Entry::Encoded(encoded) => encoded.frame_type,
        }
    }

    /// 1 for a frame of the protocol's own.
    #[inline]
    fn control(&self) -> usize {
        usize::from(!is_application(self.frame_type()))
    }
}

/// The queue itself. It lives under the session's mutex.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Frames of the protocol's own among them.
    control: usize,
    /// Set when nothing more is accepted.
    closed: bool,
    /// Set when what no limit holds back is forgotten too.
    abandoned: bool,
    /// Whether there is room for one message only, whatever the limits are.
    tight: bool,
    /// What the budget counts.
    counted: usize,
    /// Senders that wait for room.
    waiting: Vec<Waker>,
}

/// What became of a frame that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    /// It is queued; `dropped` older messages had to go for it.
    Queued { dropped: u32 },
    /// It was dropped, as the policy says.
    Dropped,
    /// There is no room, and the policy is to wait.
    Full,
    /// There is no room, and the policy is to disconnect.
    Overflow,
    /// The session is closing.
    Closed,
}

impl Outbox {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Frames of the protocol's own that wait.
    pub(crate) fn control(&self) -> usize {
        self.control
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// What waits, as memory.
    #[inline]
    pub(crate) fn held(&self) -> Held {
        queue(self.entries.len(), self.bytes)
    }

    /// Bytes that it takes, with its entries.
    #[inline]
    pub(crate) fn memory(&self) -> usize {
        self.bytes + self.entries.len() * size_of::<Entry>()
    }

    /// Tells the budget what it takes; says whether the budget has to be relieved, without a lock.
    #[inline]
    #[must_use]
    pub(crate) fn note(&mut self, budget: &MemoryBudget) -> bool {
        let held = self.memory();
        budget.note(&mut self.counted, held)
    }

    /// Sets whether there is memory for one message only.
    #[inline]
    pub(crate) fn set_tight(&mut self, tight: bool) {
        self.tight = tight;
    }

    fn has_room(&self, len: usize, limits: &Limits) -> bool {
        self.entries.is_empty()
            || (!self.tight
                && self.bytes + len <= limits.outbox_bytes
                && self.entries.len() < limits.outbox_messages)
    }

    /// Whether a frame of `len` bytes would be queued now.
    pub(crate) fn would_fit(&self, len: usize, limits: &Limits) -> bool {
        self.has_room(len, limits)
    }

    /// Queues a frame, or says why not; `make` is called only when it is queued.
    pub(crate) fn offer(
        &mut self,
        len: usize,
        limits: &Limits,
        policy: QueuePolicy,
        make: impl FnOnce() -> Frame,
    ) -> Offered {
        self.offer_entry(len, limits, policy, || Entry::Frame(make()))
    }

    pub(crate) fn offer_encoded(
        &mut self,
        encoded: &Encoded,
        limits: &Limits,
        policy: QueuePolicy,
    ) -> Offered {
        let len = encoded.bytes.len();
        self.offer_entry(len, limits, policy, || Entry::Encoded(encoded.clone()))
    }

    fn offer_entry(
        &mut self,
        len: usize,
        limits: &Limits,
        policy: QueuePolicy,
        make: impl FnOnce() -> Entry,
    ) -> Offered {
        if self.closed {
            return Offered::Closed;
        }
        let mut dropped = 0;
        if !self.has_room(len, limits) {
            match policy {
                QueuePolicy::Wait => return Offered::Full,
                QueuePolicy::DropNewest => return Offered::Dropped,
                QueuePolicy::Disconnect => return Offered::Overflow,
                QueuePolicy::DropOldest => {
                    while !self.has_room(len, limits) {
                        if !self.drop_oldest() {
                            // Only frames that no policy may drop are left.
                            return Offered::Dropped;
                        }
                        dropped += 1;
                    }
                }
            }
        }
        self.push(make());
        Offered::Queued { dropped }
    }

    /// Queues a frame that no limit holds back: answers, whose number is bounded by the requests in work,
    /// and the protocol's own frames.
    pub(crate) fn push_frame(&mut self, frame: Frame) {
        self.push(Entry::Frame(frame));
    }

    /// Queues a frame before all others.
    pub(crate) fn push_first(&mut self, frame: Frame) {
        if self.abandoned {
            return;
        }
        let entry = Entry::Frame(frame);
        self.bytes += entry.len();
        self.control += entry.control();
        self.entries.push_front(entry);
    }

    fn push(&mut self, entry: Entry) {
        if self.abandoned {
            return;
        }
        self.bytes += entry.len();
        self.control += entry.control();
        self.entries.push_back(entry);
    }

    fn drop_oldest(&mut self) -> bool {
        let droppable = |entry: &Entry| entry.frame_type().is_message();
        let Some(index) = self.entries.iter().position(droppable) else {
            return false;
        };
        if let Some(entry) = self.entries.remove(index) {
            self.bytes -= entry.len();
        }
        true
    }

    /// Whether there is `room` for the next frame.
    pub(crate) fn can_drain(&self, mut room: Room) -> bool {
        let next = self.entries.front();
        next.is_some_and(|next| room.take(next.frame_type(), next.len()))
    }

    /// Moves frames to `output` until that holds `most` bytes or there is no `room`, and returns the senders to wake:
    /// none when nothing has left, as a sender that is woken in vain, be it the session's own handler, waits again and
    /// gives the session another turn, and so on without end.
    pub(crate) fn drain_into(
        &mut self,
        output: &mut Output,
        framing: Framing,
        most: usize,
        mut room: Room,
    ) -> Vec<Waker> {
        let before = self.entries.len();
        while output.remaining() < most
            && let Some(entry) = self.entries.front()
            && room.take(entry.frame_type(), entry.len())
            && let Some(entry) = self.entries.pop_front()
        {
            self.bytes -= entry.len();
            self.control -= entry.control();
            match entry {
                Entry::Frame(frame) => output.push_frame(framing, frame),
                Entry::Encoded(encoded) => output.push_encoded(&encoded),
            }
        }
        if self.entries.is_empty() {
            // An idle session holds no queue.
            self.entries = VecDeque::new();
        } else if self.entries.len() == before {
            return Vec::new();
        }
        std::mem::take(&mut self.waiting)
    }

    /// Registers a sender that waits for room.
    ///
    /// Returns senders to wake: of some that gave up waiting, nothing is known but their wakers, so when
    /// there are many, all are asked whether they still wait.
    pub(crate) fn wait(&mut self, waker: &Waker) -> Vec<Waker> {
        if self.waiting.iter().any(|known| known.will_wake(waker)) {
            return Vec::new();
        }
        let stale = match self.waiting.len() {
            WAITING_MAX.. => std::mem::take(&mut self.waiting),
            _ => Vec::new(),
        };
        self.waiting.push(waker.clone());
        stale
    }

    /// Accepts nothing more; what is queued stays. Returns the senders to wake.
    pub(crate) fn close(&mut self) -> Vec<Waker> {
        self.closed = true;
        std::mem::take(&mut self.waiting)
    }

    /// Forgets what is queued and says how many messages that were.
    pub(crate) fn clear(&mut self) -> usize {
        (self.bytes, self.control) = (0, 0);
        std::mem::take(&mut self.entries)
            .iter()
            .filter(|entry| entry.frame_type().is_message())
            .count()
    }

    /// Takes the messages out; what is of the protocol, requests and answers stay.
    pub(crate) fn take_messages(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        for entry in std::mem::take(&mut self.entries) {
            match entry {
                Entry::Frame(frame) if frame.frame_type.is_message() => {
                    self.bytes -= frame.payload.len();
                    messages.extend(message_of(frame));
                }
                entry => self.entries.push_back(entry),
            }
        }
        messages
    }

    /// Forgets frames that are about a link rather than the session.
    pub(crate) fn forget_control(&mut self) {
        let bytes = &mut self.bytes;
        self.control = 0;
        self.entries.retain(|entry| {
            let stays = is_application(entry.frame_type());
            if !stays {
                *bytes -= entry.len();
            }
            stays
        });
    }

    /// Forgets what is queued and all that comes, because nobody takes it any more. Says how many messages are
    /// lost, and whom to wake.
    pub(crate) fn abandon(&mut self) -> (usize, Vec<Waker>) {
        self.abandoned = true;
        let wakers = self.close();
        (self.clear(), wakers)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn limits() -> Limits {
        Limits {
            outbox_bytes: 100,
            outbox_messages: 3,
            ..Limits::default()
        }
    }

    fn frame(frame_type: FrameType, len: usize) -> Frame {
        Frame::new(frame_type, false, 0, Bytes::from(vec![0; len]))
    }

    fn offer(outbox: &mut Outbox, len: usize, policy: QueuePolicy) -> Offered {
        outbox.offer(len, &limits(), policy, || frame(FrameType::DATA, len))
    }

    #[test]
    fn the_queue_is_bounded_in_bytes_and_in_count() {
        let mut outbox = Outbox::default();
        assert_eq!(
            offer(&mut outbox, 60, QueuePolicy::Wait),
            Offered::Queued { dropped: 0 }
        );
        assert_eq!(offer(&mut outbox, 60, QueuePolicy::Wait), Offered::Full);
        assert_eq!(
            offer(&mut outbox, 1, QueuePolicy::Wait),
            Offered::Queued { dropped: 0 }
        );
        assert_eq!(
            offer(&mut outbox, 1, QueuePolicy::Wait),
            Offered::Queued { dropped: 0 }
        );
        assert_eq!(offer(&mut outbox, 1, QueuePolicy::Wait), Offered::Full);
        assert_eq!(
            offer(&mut outbox, 1, QueuePolicy::DropNewest),
            Offered::Dropped
        );
        assert_eq!(
            offer(&mut outbox, 1, QueuePolicy::Disconnect),
            Offered::Overflow
        );
        assert_eq!((outbox.len(), outbox.bytes()), (3, 62));
    }

    #[test]
    fn one_message_is_always_allowed() {
        let mut outbox = Outbox::default();
        assert_eq!(
            offer(&mut outbox, 1_000, QueuePolicy::Wait),
            Offered::Queued { dropped: 0 }
        );
    }

    #[test]
    fn who_waits_is_woken_when_something_has_left_and_only_then() {
        let mut outbox = Outbox::default();
        for _ in 0..2 {
            offer(&mut outbox, 50, QueuePolicy::Wait);
        }
        let _ = outbox.wait(Waker::noop());
        let drain = |outbox: &mut Outbox, left| {
            let room = Room {
                left,
                is_empty: false,
            };
            let mut output = Output::default();
            outbox
                .drain_into(&mut output, Framing::Msgi, 1_000, room)
                .len()
        };
        assert_eq!(drain(&mut outbox, 20), 0);
        assert_eq!(outbox.len(), 2);
        assert_eq!(drain(&mut outbox, 70), 1);
        assert_eq!(outbox.len(), 1);
    }

    #[test]
    fn dropping_the_oldest_spares_answers() {
        let mut outbox = Outbox::default();
        outbox.push_frame(frame(FrameType::RESPONSE, 10));
        assert_eq!(
            offer(&mut outbox, 10, QueuePolicy::DropOldest),
            Offered::Queued { dropped: 0 }
        );
        assert_eq!(
            offer(&mut outbox, 20, QueuePolicy::DropOldest),
            Offered::Queued { dropped: 0 }
        );
        assert_eq!(
            offer(&mut outbox, 30, QueuePolicy::DropOldest),
            Offered::Queued { dropped: 1 }
        );
        assert_eq!(outbox.bytes(), 60);
        let mut output = Output::default();
        outbox.drain_into(&mut output, Framing::Frames, usize::MAX, Room::UNLIMITED);
        let types: Vec<_> = std::iter::from_fn(|| output.pop_frame())
            .map(|frame| (frame.frame_type, frame.payload.len()))
            .collect();
        let expected = [
            (FrameType::RESPONSE, 10),
            (FrameType::DATA, 20),
            (FrameType::DATA, 30),
        ];
        assert_eq!(types, expected);
    }

    #[test]
    fn a_closed_queue_takes_nothing_and_keeps_what_it_has() {
        let mut outbox = Outbox::default();
        offer(&mut outbox, 10, QueuePolicy::Wait);
        outbox.close();
        assert_eq!(offer(&mut outbox, 10, QueuePolicy::Wait), Offered::Closed);
        assert_eq!(outbox.len(), 1);
    }

    #[test]
    fn what_comes_after_the_end_is_forgotten() {
        let mut outbox = Outbox::default();
        offer(&mut outbox, 10, QueuePolicy::Wait);
        outbox.push_frame(frame(FrameType::RESPONSE, 10));
        assert_eq!(outbox.abandon().0, 1);
        outbox.push_frame(frame(FrameType::RESPONSE, 10));
        outbox.push_first(frame(FrameType::CONTROL, 10));
        assert_eq!(offer(&mut outbox, 10, QueuePolicy::Wait), Offered::Closed);
        assert_eq!(outbox.held(), Held::default());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Offer(QueuePolicy, usize),
        Encoded(usize),
        Frame(usize),
        First(usize),
        Drain(usize),
        Clear,
        Close,
        Abandon,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let policy = prop::sample::select(vec![
            QueuePolicy::Wait,
            QueuePolicy::DropNewest,
            QueuePolicy::DropOldest,
            QueuePolicy::Disconnect,
        ]);
        let len = || 0..120_usize;
        prop_oneof![
            8 => (policy, len()).prop_map(|(policy, len)| Step::Offer(policy, len)),
            2 => len().prop_map(Step::Encoded),
            2 => len().prop_map(Step::Frame),
            1 => len().prop_map(Step::First),
            4 => (0..200_usize).prop_map(Step::Drain),
            1 => Just(Step::Clear),
            1 => Just(Step::Close),
            1 => Just(Step::Abandon),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_the_bytes_are_those_of_what_waits(
            steps in prop::collection::vec(any_step(), 0..60)
        ) {
            let mut outbox = Outbox::default();
            for step in steps {
                match step {
                    Step::Offer(policy, len) => {
                        offer(&mut outbox, len, policy);
                    }
                    Step::Encoded(len) => {
                        let payload = Bytes::from(vec![0; len]);
                        let encoded = Encoded::new(Framing::Msgi, FrameType::DATA, false, &payload);
                        outbox.offer_encoded(&encoded, &limits(), QueuePolicy::DropOldest);
                    }
                    Step::Frame(len) => outbox.push_frame(frame(FrameType::RESPONSE, len)),
                    Step::First(len) => outbox.push_first(frame(FrameType::CONTROL, len)),
                    Step::Drain(most) => {
                        outbox.drain_into(&mut Output::default(), Framing::Msgi, most, Room::UNLIMITED);
                    }
                    Step::Clear => {
                        outbox.clear();
                    }
                    Step::Close => {
                        outbox.close();
                    }
                    Step::Abandon => {
                        outbox.abandon();
                    }
                }
                let bytes = outbox.entries.iter().map(Entry::len).sum();
                prop_assert_eq!(outbox.held(), queue(outbox.entries.len(), bytes));
                let control = outbox.entries.iter().map(Entry::control).sum::<usize>();
                prop_assert_eq!(outbox.control(), control);
            }
        }
    }
}
