//! Sequences of links for one reliable session: what both sides keep, acknowledge and send again.

use std::collections::VecDeque;

use bytes::Bytes;
use network_system::internal::{RawFrame, ReliableSide};

use crate::input::Input;

const MOST_OPERATIONS: usize = 256;

const CLIENT: usize = 0;
const SERVER: usize = 1;

const CONTROL: u16 = 0x0020;

/// DATA, REQUEST, RESPONSE, FAILURE and a type of the application. Those in the middle are dealt with on arrival.
const TYPES: [u16; 5] = [0x0010, 0x0011, 0x0012, 0x0013, 0x8001];

/// The input is two windows and operations: frames are sent, carried in pieces, handled and acknowledged; links are
/// lost, by one side or both, and taken over; welcomes are lost; either side lies. Promises, whatever happens:
///
/// - every frame arrives once, in order, as it was sent;
/// - never more is unacknowledged than the window, or than one frame;
/// - what is handled is acknowledged in time, and nothing else is;
/// - counts that cannot be are refused, and change nothing; counts that are true are not;
/// - the client always has a token that is good; one that it has given up for another is none.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut pair = Pair::new(input.byte());
    for _ in 0..MOST_OPERATIONS {
        if input.is_empty() {
            break;
        }
        pair.step(&mut input);
        pair.check();
    }
    pair.finish();
}

/// One side, and what a plain list knows of it.
struct Side {
    book: ReliableSide,
    window: usize,
    /// Every frame that was sent: its type and the length of its payload.
    sent: Vec<(u16, usize)>,
    /// How many of those are acknowledged.
    freed: u64,
    /// Whether it takes its link to be alive.
    linked: bool,
    /// Bytes on their way to the other side.
    wire: VecDeque<u8>,
    /// What has arrived of a frame that is not whole.
    partial: Vec<u8>,
    /// Whether each frame that has arrived waits for the handler.
    waiting: Vec<bool>,
    /// How much was said to be handled on this link.
    said: Option<u64>,
    /// When something that was handled has to be acknowledged.
    due: Option<u64>,
}

impl Side {
    fn new(book: ReliableSide, window: usize) -> Self {
        Side {
            book,
            window,
            sent: Vec::new(),
            freed: 0,
            linked: true,
            wire: VecDeque::new(),
            partial: Vec::new(),
            waiting: Vec::new(),
            said: None,
            due: None,
        }
    }

    fn send(&mut self, kind: u8, count: u8, len: usize) {
        let frame_type = TYPES[usize::from(kind) % TYPES.len()];
        let first = self.sent.len();
        let frames: Vec<_> = (first..first + usize::from(count % 8) + 1)
            .map(|number| frame(number, frame_type, len))
            .collect();
        let taken = self.book.send(frames);
        self.sent.extend((0..taken).map(|_| (frame_type, len)));
    }

    /// Puts what was collected on the wire, behind some of what has to be sent again.
    fn write(&mut self, most: usize) {
        if self.linked {
            self.book.replay(most);
            self.wire.extend(self.book.transmit());
        }
    }

    fn handle(&mut self, most: usize) {
        let waits = self.waiting.iter_mut().filter(|waits| **waits);
        let mut handled = 0;
        for waits in waits.take(most) {
            *waits = false;
            handled += 1;
        }
        self.book.handle(handled);
    }

    /// How many frames, from the first one on, do not wait.
    fn handled(&self) -> u64 {
        self.waiting.iter().take_while(|waits| !**waits).count() as u64
    }

    /// Acknowledges what is due.
    fn ack(&mut self, now: u64) {
        if !self.linked {
            return;
        }
        let handled = self.handled();
        let (ack, due) = self.book.ack(now);
        match ack {
            Some(received) => {
                assert_eq!(received, handled, "what is acknowledged was handled");
                self.say(received);
                self.due = None;
            }
            None => {
                let is_late = self.due.is_some_and(|due| due <= now);
                assert!(
                    !is_late || self.said.unwrap_or(0) == handled,
                    "an acknowledgement that is due leaves"
                );
                self.due = due.or(self.due).filter(|_| !is_late);
            }
        }
    }

    fn say(&mut self, received: u64) {
        self.said = Some(received);
        let payload = Bytes::copy_from_slice(&received.to_be_bytes());
        self.book.say(payload);
    }

    fn lose_link(&mut self) {
        self.book.lose_link();
        self.linked = false;
        self.wire.clear();
        self.partial.clear();
        self.said = None;
        self.due = None;
    }

    fn bytes_unacknowledged(&self) -> usize {
        let kept = &self.sent[self.freed as usize..];
        kept.iter()
            .map(|&(frame_type, len)| frame_len(frame_type, len))
            .sum()
    }
}

fn has_id(frame_type: u16) -> bool {
    matches!(frame_type, 0x0011..=0x0013)
}

fn frame_len(frame_type: u16, payload: usize) -> usize {
    10 + if has_id(frame_type) { 8 } else { 0 } + payload
}

/// The frame with this number, which its bytes say.
fn frame(number: usize, frame_type: u16, len: usize) -> RawFrame {
    RawFrame {
        frame_type,
        text: false,
        id: if has_id(frame_type) { number as u64 } else { 0 },
        payload: vec![number as u8; len].into(),
    }
}

struct Pair {
    sides: [Side; 2],
    now: u64,
    /// The token that the client has, and those that it has given up.
    token: String,
    old_tokens: Vec<String>,
    /// Whether the server has heard of the client since it gave out that token.
    proven: bool,
}

impl Pair {
    fn new(choice: u8) -> Self {
        let window = [1, 40, 1_000, 70_000, 1_000_000][usize::from(choice) % 5];
        let (server, token) = ReliableSide::server(window).expect("there are random numbers");
        let client = ReliableSide::client(window);
        Pair {
            sides: [client, server].map(|book| Side::new(book, window)),
            now: 1,
            token,
            old_tokens: Vec::new(),
            proven: true,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let operation = input.byte();
        let side = usize::from(operation / 128);
        match operation % 16 {
            0..=2 => {
                let (kind, count, len) = (input.byte(), input.byte(), input.byte());
                self.sides[side].send(kind, count, len.into());
            }
            3 => {
                let (kind, len) = (input.byte(), input.pair());
                self.sides[side].send(kind, 0, len.into());
            }
            4 | 5 => self.sides[side].write(input.byte().into()),
            6 | 7 => self.carry(side, input.pair().into()),
            8 => self.sides[side].handle(input.byte().into()),
            9 => self.sides[side].handle(1),
            10 => {
                self.now += u64::from(input.byte());
                self.sides[side].ack(self.now);
            }
            11 => {
                if input.byte().is_multiple_of(2) {
                    self.sides[SERVER].lose_link();
                }
                self.sides[CLIENT].lose_link();
            }
            12 | 13 => self.resume(input.byte().is_multiple_of(4)),
            14 => self.lie(side, input.byte(), input.byte().into()),
            _ => {
                self.sides[side].write(usize::MAX);
                self.carry(side, usize::MAX);
            }
        }
    }

    /// Bytes of `from` arrive on the other side.
    fn carry(&mut self, from: usize, most: usize) {
        let [client, server] = &mut self.sides;
        let (sender, receiver) = match from {
            CLIENT => (client, server),
            _ => (server, client),
        };
        if !receiver.linked {
            return;
        }
        let count = most.min(sender.wire.len());
        receiver.partial.extend(sender.wire.drain(..count));
        let mut at = 0;
        while let Some(head) = receiver.partial[at..].first_chunk::<10>() {
            let [m0, m1, m2, m3, l0, l1, l2, l3, t0, t1] = *head;
            assert_eq!([m0, m1, m2, m3], *b"MSGI", "frames are whole");
            let len = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
            let frame_type = u16::from_be_bytes([t0, t1]);
            let Some(rest) = receiver.partial.get(at + 10..at + len) else {
                break;
            };
            at += len;
            self.proven |= from == CLIENT;
            if frame_type == CONTROL {
                receiver.book.arrive(frame_type, rest.len());
                let count = u64::from_be_bytes(rest.try_into().expect("it is a count"));
                assert!(receiver.book.on_ack(count), "true acknowledgements fit");
                receiver.freed = receiver.freed.max(count);
                continue;
            }
            let number = receiver.waiting.len();
            let sent = sender.sent.get(number).expect("it was sent, and once");
            let expected = frame(number, sent.0, sent.1);
            let (id, payload) = match has_id(frame_type) {
                true => rest.split_at(8),
                false => (&[][..], rest),
            };
            assert_eq!(frame_type, expected.frame_type, "frame {number}");
            assert!(id.is_empty() || id == expected.id.to_be_bytes());
            assert_eq!(payload, expected.payload, "frame {number}");
            let waits = receiver.book.arrive(frame_type, payload.len());
            receiver.waiting.push(waits);
        }
        receiver.partial.drain(..at);
    }

    /// The client asks for its session on another link, whether its old one is lost or not. The welcome may be lost.
    fn resume(&mut self, is_welcome_lost: bool) {
        for old in &self.old_tokens {
            assert!(!self.sides[SERVER].book.accepts(old), "it was given up");
        }
        let [client, server] = &mut self.sides;
        client.lose_link();
        let wanted = client.book.decoded();
        assert!(
            server.book.accepts(&self.token),
            "the client has a good token"
        );
        server.lose_link();
        assert!(server.book.resume(wanted), "true counts fit");
        server.linked = true;
        let next = server
            .book
            .rotate(&self.token)
            .expect("there are random numbers");
        self.proven = false;
        if is_welcome_lost {
            return;
        }
        let has = server.book.decoded();
        assert!(client.book.resume(has), "true counts fit");
        client.linked = true;
        self.old_tokens
            .push(std::mem::replace(&mut self.token, next));
        // The first that it says proves that it has the token.
        let handled = client.handled();
        client.say(handled);
        client.write(0);
        self.carry_proof();
    }

    fn carry_proof(&mut self) {
        self.carry(CLIENT, usize::MAX);
        assert!(self.proven);
    }

    /// A side hears what cannot be.
    fn lie(&mut self, side: usize, kind: u8, by: u64) {
        let token = &self.token;
        let side = &mut self.sides[side];
        let sent = side.sent.len() as u64;
        match kind % 4 {
            0 => assert!(!side.book.on_ack(sent + 1 + by), "it was never sent"),
            // What is old says nothing.
            1 => assert!(side.book.on_ack(side.freed.saturating_sub(by))),
            2 if !side.linked => {
                assert!(!side.book.resume(sent + 1 + by), "it was never sent");
                if side.freed > 0 {
                    let less = side.freed.saturating_sub(1 + by);
                    assert!(!side.book.resume(less), "it was acknowledged");
                }
            }
            _ => {
                let server = &self.sides[SERVER].book;
                let mut guess = token.clone().into_bytes();
                let at = by as usize % guess.len();
                guess[at] ^= 1;
                let guess = String::from_utf8(guess).expect("it is ASCII");
                assert!(!server.accepts(&guess) && !server.accepts(&token[..at]));
            }
        }
    }

    fn check(&self) {
        for side in &self.sides {
            let (frames, bytes) = side.book.unacknowledged();
            assert_eq!(frames, side.sent.len() as u64 - side.freed);
            assert_eq!(bytes, side.bytes_unacknowledged());
            assert!(
                bytes <= side.window || frames <= 1,
                "{frames} frames of {bytes} bytes, the window is {}",
                side.window
            );
            assert_eq!(side.book.decoded(), side.waiting.len() as u64);
            assert_eq!(side.book.handled(), side.handled());
        }
        let [client, server] = &self.sides;
        assert!(client.freed <= server.handled() && server.freed <= client.handled());
    }

    /// On a link that lasts, all arrives and is acknowledged.
    fn finish(&mut self) {
        self.resume(false);
        while self
            .sides
            .iter()
            .any(|side| side.freed < side.sent.len() as u64)
        {
            let before = self.sides.each_ref().map(|side| side.freed);
            for round in 0..4 {
                self.now += 100 * (round % 2);
                for side in [CLIENT, SERVER] {
                    self.sides[side].handle(usize::MAX);
                    self.sides[side].ack(self.now);
                    self.sides[side].write(usize::MAX);
                    self.carry(side, usize::MAX);
                    self.check();
                }
            }
            let after = self.sides.each_ref().map(|side| side.freed);
            assert_ne!(before, after, "it goes on");
        }
        let [client, server] = &self.sides;
        assert_eq!(client.waiting.len(), server.sent.len());
        assert_eq!(server.waiting.len(), client.sent.len());
    }
}
