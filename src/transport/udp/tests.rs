//! Queues and judgement, without sockets.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use proptest::prelude::*;

use super::peer::{
    Arrivals, Fate, Opening, QUEUE_BYTES, QUEUE_DATAGRAMS, QUEUED_MOST, Queue, judge,
};
use crate::codec::{FrameType, Framing, msgi};

fn raw() -> Arrivals {
    Arrivals::new(Framing::Datagrams, usize::MAX, Opening::Awaited)
}

fn frame(frame_type: FrameType, payload: &[u8]) -> Vec<u8> {
    let mut frame = msgi::header(frame_type, payload.len()).to_vec();
    frame.extend_from_slice(payload);
    frame
}

fn messages(arrivals: &mut Arrivals, room: usize) -> (Vec<Bytes>, usize) {
    let taken = arrivals.take(room, &mut Vec::new());
    let messages = taken
        .spans
        .iter()
        .map(|span| {
            taken
                .data
                .slice(span.start as usize..(span.start + span.len) as usize)
        })
        .collect();
    (messages, taken.cost)
}

proptest! {
    #[test]
    fn datagrams_come_out_as_they_came_in_whatever_the_room(
        datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 1..100),
        rooms in proptest::collection::vec(1_usize..500, 1..10),
    ) {
        let mut arrivals = raw();
        let mut rooms = rooms.iter().cycle();
        let (mut out, mut given, mut cost) = (Vec::new(), 0, 0);
        for batch in datagrams.chunks(7) {
            for datagram in batch {
                prop_assert_eq!(arrivals.push(datagram), Fate::Kept);
                given += datagram.len();
            }
            let room = *rooms.next().unwrap_or(&1);
            let (messages, taken) = messages(&mut arrivals, room);
            prop_assert!(!messages.is_empty());
            out.extend(messages);
            cost += taken;
        }
        while !arrivals.is_empty() {
            let (messages, taken) = messages(&mut arrivals, 1);
            prop_assert_eq!(messages.len(), 1);
            out.extend(messages);
            cost += taken;
        }
        prop_assert!(cost >= given);
        prop_assert_eq!(out, datagrams);
    }

    #[test]
    fn no_datagram_is_more_than_one_frame(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(span) = judge(Framing::Frames, &bytes, 1_000) {
            prop_assert_eq!((span.start + span.len) as usize, bytes.len());
        }
    }

    #[test]
    fn a_frame_with_anything_behind_or_missing_is_none(
        payload in proptest::collection::vec(any::<u8>(), 8..40),
        change in -5_i64..5,
    ) {
        for frame_type in [FrameType::DATA, FrameType::REQUEST, FrameType(0x9000)] {
            let mut datagram = frame(frame_type, &payload);
            let len = (datagram.len() as i64 + change) as usize;
            datagram.resize(len, 0);
            prop_assert_eq!(judge(Framing::Frames, &datagram, 1_000).is_ok(), change == 0);
        }
    }
}

#[test]
fn what_waits_for_a_session_is_bounded_in_datagrams_and_in_bytes() {
    let mut arrivals = raw();
    let kept = (0..2 * QUEUE_DATAGRAMS)
        .filter(|_| arrivals.push(b"") == Fate::Kept)
        .count();
    assert_eq!(kept, QUEUE_DATAGRAMS);
    let mut arrivals = raw();
    let large = vec![0; 60_000];
    let kept = (0..100)
        .filter(|_| arrivals.push(&large) == Fate::Kept)
        .count();
    assert_eq!(kept, QUEUE_BYTES / large.len());
}

#[test]
fn what_waits_for_all_sessions_is_bounded() {
    let queued = AtomicUsize::new(0);
    let large = vec![0; 60_000];
    let mut queues: Vec<Queue> = (0..2_000).map(|_| Queue::new(raw())).collect();
    for queue in &mut queues {
        queue.push(&large, &queued);
    }
    assert!(queued.load(Ordering::Relaxed) <= QUEUED_MOST + 2 * large.len());
    for queue in &mut queues {
        queued.fetch_sub(queue.end(), Ordering::Relaxed);
    }
    assert_eq!(queued.load(Ordering::Relaxed), 0);
}

#[test]
fn an_address_is_sent_what_came_from_it_until_it_answers() {
    let queued = AtomicUsize::new(0);
    let mut queue = Queue::new(raw());
    queue.push(&[0; 100], &queued);
    queue.push(&[0; 100], &queued);
    // Two datagrams without an answer prove nothing.
    assert_eq!((queue.allowance(), queue.has_answered()), (200, false));
    queue.sent += 150;
    assert_eq!(queue.allowance(), 50);
    queue.push(&[], &queued);
    assert_eq!(
        (queue.allowance(), queue.has_answered()),
        (usize::MAX, true)
    );
}

#[test]
fn a_client_hears_nothing_before_welcome_but_a_refusal() {
    let arrivals = || Arrivals::new(Framing::Frames, 1_000, Opening::Welcome);
    let data = frame(FrameType::DATA, b"early");
    let mut early = arrivals();
    assert_eq!(early.push(&data), Fate::Dropped);
    let welcome = frame(FrameType::CONTROL, br#"{"op":"welcome","version":1}"#);
    assert_eq!(early.push(&welcome), Fate::Kept);
    assert_eq!(early.push(&data), Fate::Kept);
    assert_eq!(early.push(&welcome), Fate::Dropped);
    assert_eq!(
        arrivals().push(&frame(FrameType::ERROR, &[0; 4])),
        Fate::Kept
    );
    assert_eq!(
        arrivals().push(&frame(FrameType::DISCONNECT, b"")),
        Fate::Kept
    );
}

#[test]
fn an_idle_queue_holds_no_memory() {
    let mut arrivals = raw();
    assert_eq!(arrivals.push(&[0; 10_000]), Fate::Kept);
    drop(messages(&mut arrivals, usize::MAX));
    arrivals.shrink();
    assert_eq!(arrivals.capacity(), (0, 0));
}
