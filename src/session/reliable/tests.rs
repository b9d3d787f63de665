use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;

use super::replay::Kept;
use super::*;
use crate::session::output::Frame;

#[derive(Clone, Debug)]
enum Step {
    /// A side sends frames of this length, as many as the window takes.
    Send(usize, usize, usize),
    /// What has to be sent again is put on the link, at most so many frames of it.
    Replay(usize, usize),
    /// So many frames of a side arrive on the other one.
    Carry(usize, usize),
    Handle(usize, u64),
    Wait(u64),
    /// The link is lost on the first side, and on the second one if that is said.
    Lose(bool),
    /// There is another link, whether the old one is lost or not.
    Resume,
    /// A side says a count that is wrong by so much.
    Lie(usize, u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let side = 0..2_usize;
    prop_oneof![
        6 => (side.clone(), 1..6_usize, 0..300_usize).prop_map(|(side, count, len)| Step::Send(side, count, len)),
        3 => (side.clone(), 1..9_usize).prop_map(|(side, most)| Step::Replay(side, most)),
        8 => (side.clone(), 0..12_usize).prop_map(|(side, count)| Step::Carry(side, count)),
        4 => (side.clone(), 0..8_u64).prop_map(|(side, count)| Step::Handle(side, count)),
        4 => (0..150_u64).prop_map(Step::Wait),
        2 => any::<bool>().prop_map(Step::Lose),
        3 => Just(Step::Resume),
        1 => (side, 1..5_u64).prop_map(|(side, by)| Step::Lie(side, by)),
    ]
}

/// What is on a link.
#[derive(Debug)]
enum Item {
    /// A frame by its number, which is its correlation id, and the length of its payload.
    Frame(u64, usize),
    Ack(u64),
}

/// One side with what a plain model knows of it.
struct Side {
    book: Reliable,
    linked: bool,
    wire: VecDeque<Item>,
    arrived: u64,
    handled: u64,
}

impl Side {
    fn new(window: usize) -> Self {
        Side {
            book: Reliable::new(Arc::default(), window, 0),
            linked: true,
            wire: VecDeque::new(),
            arrived: 0,
            handled: 0,
        }
    }

    /// What is collected without a link, or just before it is lost, is kept all the same.
    fn send(&mut self, count: usize, len: usize) {
        let mut room = self.book.room();
        for _ in 0..count {
            if room.take(FrameType::REQUEST, len) {
                let number = self.book.replay.sent();
                let payload = Bytes::from(vec![0; len]);
                self.book
                    .replay
                    .keep(Frame::new(FrameType::REQUEST, false, number, payload));
                if self.linked {
                    self.wire.push_back(Item::Frame(number, len));
                }
            }
        }
    }

    fn replay(&mut self, most: usize) {
        let (wire, mut left) = (&mut self.wire, most);
        self.book.replay(|kept| {
            if let Kept::Whole(frame) = kept {
                wire.push_back(Item::Frame(frame.id, frame.payload.len()));
            }
            left -= 1;
            left > 0
        });
    }

    fn handle(&mut self, most: u64) {
        let count = most.min(self.arrived - self.handled);
        self.book.arrivals.pass(count);
        self.handled += count;
    }

    fn acknowledge(&mut self, now: u64) {
        if !self.linked {
            return;
        }
        match self.book.ack(self.handled, now) {
            Some(received) => self.wire.push_back(Item::Ack(received)),
            None => {
                self.book.next_ack(self.handled, false, now);
            }
        }
    }

    fn lose(&mut self) {
        self.book.lose_link();
        self.wire.clear();
        self.linked = false;
    }

    fn link(&mut self, received: u64) {
        assert_eq!(self.book.judge(received), Claim::Fits);
        self.book.begin_replay(received);
        self.linked = true;
    }
}

fn carry(sides: &mut [Side; 2], from: usize, count: usize) {
    let [first, second] = sides;
    let (sender, receiver) = match from {
        0 => (first, second),
        _ => (second, first),
    };
    if !receiver.linked {
        return;
    }
    let count = count.min(sender.wire.len());
    for item in sender.wire.drain(..count) {
        match item {
            Item::Frame(number, len) => {
                assert_eq!(number, receiver.arrived, "once and in order");
                let bytes = wire_len(FrameType::REQUEST, len) as u64;
                receiver.book.arrivals.arrive(1, bytes);
                receiver.arrived += 1;
            }
            Item::Ack(received) => {
                assert!(received <= sender.handled, "what was handled");
                assert_ne!(receiver.book.judge(received), Claim::TooMuch);
                receiver.book.free(received);
            }
        }
    }
}

fn resume(sides: &mut [Side; 2]) {
    let arrived = [sides[1].arrived, sides[0].arrived];
    for (side, received) in sides.iter_mut().zip(arrived) {
        side.lose();
        side.link(received);
    }
}

/// An executor may handle something unseen between any two turns, of which there can be thousands.
#[test]
fn what_is_handled_in_silence_is_looked_for_once_at_a_time_and_acknowledged_in_time() {
    let mut book = Side::new(1_000).book;
    book.arrivals.arrive(3, 30);
    let mut looks = Vec::new();
    for now in 1..=250 {
        assert_eq!(book.ack(0, now), None);
        looks.extend(book.next_ack(0, true, now));
    }
    assert_eq!(looks, [101, 201, 301]);
    assert_eq!(book.ack(2, 300), None);
    assert_eq!(book.next_ack(2, true, 300), None);
    assert_eq!(book.ack(2, 301), Some(2));
}

proptest! {
    /// Whatever is lost when: nothing of what was sent is lost for good, doubled or in another order, never more is
    /// unacknowledged than the window, and counts that cannot be are found out.
    #[test]
    fn over_any_number_of_links_all_arrives_once_and_in_order(
        window in prop_oneof![Just(1_usize), Just(500), Just(5_000), Just(1 << 20)],
        steps in prop::collection::vec(any_step(), 0..200),
    ) {
        let mut sides = [Side::new(window), Side::new(window)];
        let mut now = 1;
        for step in steps {
            match step {
                Step::Send(side, count, len) => sides[side].send(count, len),
                Step::Replay(side, most) => sides[side].replay(most),
                Step::Carry(side, count) => carry(&mut sides, side, count),
                Step::Handle(side, count) => sides[side].handle(count),
                Step::Wait(millis) => {
                    now += millis;
                    sides.iter_mut().for_each(|side| side.acknowledge(now));
                }
                Step::Lose(both) => {
                    sides[0].lose();
                    if both {
                        sides[1].lose();
                    }
                }
                Step::Resume => resume(&mut sides),
                Step::Lie(side, by) => {
                    let book = &sides[side].book;
                    prop_assert_eq!(book.judge(book.replay.sent() + by), Claim::TooMuch);
                    if let Some(less) = book.replay.acknowledged().checked_sub(by) {
                        prop_assert_eq!(book.judge(less), Claim::TooLittle);
                    }
                }
            }
            for side in &sides {
                let replay = &side.book.replay;
                prop_assert!(replay.bytes() <= window || replay.len() <= 1);
            }
        }
        // On a link that lasts, all is said and acknowledged.
        resume(&mut sides);
        for _ in 0..3 {
            now += ACK_MILLIS;
            for side in 0..2 {
                sides[side].replay(usize::MAX);
                sides[side].handle(u64::MAX);
                sides[side].acknowledge(now);
                carry(&mut sides, side, usize::MAX);
            }
        }
        for (sender, receiver) in [(0, 1), (1, 0)] {
            let replay = &sides[sender].book.replay;
            prop_assert_eq!(replay.sent(), sides[receiver].handled);
            prop_assert!(replay.is_empty());
        }
    }
}
