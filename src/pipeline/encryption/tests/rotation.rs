//! Keys that change while links are in use.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::pipeline::encryption::link::FRAMES_MAX;

#[derive(Clone, Debug)]
enum Step {
    Send { by_client: bool, message: Vec<u8> },
    Activate { by_client: bool, key: u32 },
    Remove { by_client: bool, key: u32 },
    Add { by_client: bool, key: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    let message = proptest::collection::vec(any::<u8>(), 0..200);
    prop_oneof![
        4 => (any::<bool>(), message)
            .prop_map(|(by_client, message)| Step::Send { by_client, message }),
        2 => (any::<bool>(), 0..6_u32)
            .prop_map(|(by_client, key)| Step::Activate { by_client, key }),
        1 => (any::<bool>(), 0..6_u32)
            .prop_map(|(by_client, key)| Step::Remove { by_client, key }),
        1 => (any::<bool>(), 0..6_u32)
            .prop_map(|(by_client, key)| Step::Add { by_client, key }),
    ]
}

proptest! {
    #[test]
    fn whatever_keys_change_a_message_arrives_when_the_receiver_has_its_key(
        steps in proptest::collection::vec(step(), 0..60),
        suite in 0..2_usize,
        with_hello in any::<bool>(),
    ) {
        let over = if with_hello { Over::Hello } else { Over::NoHello };
        let rings = [Keys::new(0, secret(100)), Keys::new(0, secret(100))];
        let mut links =
            [true, false].map(|is_client| {
                let ring = &rings[usize::from(!is_client)];
                side(SUITES[suite], ring, over, 1, is_client).unwrap()
            });
        let ring = |by_client: bool| &rings[usize::from(!by_client)];
        // What the receiver refused, the sender has counted: that key fails from then on, in that direction.
        let mut lost: Vec<(bool, u32)> = Vec::new();
        let mut is_first_lost = [false; 2];
        for step in steps {
            match step {
                Step::Send { by_client, message } => {
                    let [client, server] = &mut links;
                    let (from, to) = if by_client { (client, server) } else { (server, client) };
                    let key = ring(by_client).active();
                    let frame = encode(from, &message);
                    let has_key = ring(!by_client).ids().contains(&key);
                    let is_unsalted = is_first_lost[usize::from(by_client)];
                    if has_key && !lost.contains(&(by_client, key)) && !is_unsalted {
                        prop_assert_eq!(decode(to, &frame).unwrap(), message);
                        is_first_lost[usize::from(by_client)] = false;
                    } else {
                        // Keys may have been removed since the first one that was received.
                        let received = !to.receiving.is_salt_due;
                        refuses(to, &frame);
                        lost.push((by_client, key));
                        is_first_lost[usize::from(by_client)] |= !with_hello && !received;
                    }
                }
                Step::Activate { by_client, key } => {
                    let has = ring(by_client).ids().contains(&key);
                    prop_assert_eq!(ring(by_client).activate(key).is_ok(), has);
                }
                Step::Remove { by_client, key } => {
                    let has = ring(by_client).ids().contains(&key);
                    let is_active = ring(by_client).active() == key;
                    prop_assert_eq!(ring(by_client).remove(key).is_ok(), has && !is_active);
                }
                Step::Add { by_client, key } => {
                    // Refused after a removal.
                    let _ = ring(by_client).add(key, secret(100 + key as u8));
                }
            }
        }
    }
}

#[test]
fn every_link_changes_its_key_with_its_next_message() {
    for suite in SUITES {
        let keys = Keys::new(1, secret(1));
        let (mut client, mut server) = pair(suite, &keys, Over::Hello);
        let (mut other, _) = pair(suite, &keys, Over::NoHello);
        passes(&mut client, &mut server, b"old");
        keys.clone().add(2, secret(2)).unwrap();
        passes(&mut client, &mut server, b"still old");
        keys.activate(2).unwrap();
        for link in [&mut client, &mut server] {
            assert_eq!(encode(link, b"new")[..4], [0, 0, 0, 2]);
        }
        assert_eq!(encode(&mut other, b"new")[32..36], [0, 0, 0, 2]);
    }
}

#[test]
fn a_key_that_comes_back_goes_on_counting() {
    for over in [Over::Hello, Over::NoHello, Over::Lossy] {
        let keys = Keys::new(1, secret(1));
        keys.add(2, secret(2)).unwrap();
        let (mut client, mut server) = pair(&AES_256_GCM, &keys, over);
        let mut seen = Vec::new();
        for round in 0..6 {
            keys.activate(1 + round % 2).unwrap();
            for _ in 0..3 {
                let frame = encode(&mut client, b"always the same");
                assert_eq!(decode(&mut server, &frame).unwrap(), b"always the same");
                let body = frame[frame.len() - 35..].to_vec();
                assert!(!seen.contains(&body), "key and nonce were used twice");
                refuses(&mut server, &frame);
                seen.push(body);
            }
        }
    }
}

#[test]
fn messages_under_a_removed_key_are_refused_and_others_pass() {
    let keys = Keys::new(1, secret(1));
    let (mut client, mut server) = pair(&AES_256_GCM, &keys, Over::Hello);
    passes(&mut client, &mut server, b"old");
    let late = encode(&mut client, b"late");
    keys.add(2, secret(2)).unwrap();
    keys.activate(2).unwrap();
    keys.remove(1).unwrap();
    refuses(&mut server, &late);
    passes(&mut client, &mut server, b"new");
    passes(&mut server, &mut client, b"new");
}

#[test]
fn a_link_keeps_nothing_of_removed_keys() {
    let keys = Keys::new(0, secret(100));
    let (mut client, mut server) = pair(&AES_256_GCM, &keys, Over::Hello);
    for id in 1..200 {
        let number = Secret::new(u128::from(id).to_be_bytes()).unwrap();
        keys.add(id, number).unwrap();
        keys.activate(id).unwrap();
        passes(&mut client, &mut server, b"there");
        passes(&mut server, &mut client, b"back");
        if id % 3 == 0 {
            for old in keys.ids().into_iter().filter(|old| *old != id) {
                keys.remove(old).unwrap();
            }
        }
        for link in [&client, &server] {
            let kept = [&link.sending, &link.receiving].map(|way| way.keys.counts.len());
            assert!(kept.iter().all(|counts| *counts <= 3), "{kept:?}");
        }
    }
}

#[test]
fn nothing_holds_a_secret_once_it_is_removed_or_its_last_handle_is_gone() {
    let (first, second) = (secret(1), secret(2));
    let keys = Keys::new(1, first.clone());
    let (mut client, mut server) = pair(&AES_256_GCM, &keys, Over::Hello);
    passes(&mut client, &mut server, b"old");
    keys.add(2, second.clone()).unwrap();
    keys.activate(2).unwrap();
    passes(&mut client, &mut server, b"new");
    keys.remove(1).unwrap();
    assert_eq!(first.handles(), 1);
    drop((keys, client));
    assert!(second.handles() > 1, "a link needs its ring");
    drop(server);
    assert_eq!(second.handles(), 1);
}

#[test]
fn a_key_is_used_up_after_two_to_the_thirty_two_messages_and_another_one_helps() {
    let keys = Keys::new(1, secret(1));
    let (mut client, mut server) = pair(&AES_256_GCM, &keys, Over::Hello);
    client.sending.keys.counts = vec![(1, FRAMES_MAX - 1)];
    server.receiving.keys.counts = vec![(1, FRAMES_MAX - 1)];
    passes(&mut client, &mut server, b"the last one");
    let mut output = b"before".to_vec();
    for _ in 0..2 {
        let error = client.encode(b"one more", &mut output).unwrap_err();
        assert!(error.to_string().contains("has to be changed"), "{error}");
        assert_eq!(output, b"before");
    }
    client.sending.keys.current = None;
    client.sending.keys.counts.clear();
    refuses(&mut server, &encode(&mut client, b"count 0 again"));
    keys.add(2, secret(2)).unwrap();
    keys.activate(2).unwrap();
    passes(&mut client, &mut server, b"under another key");
}

/// Links that send without pause while the key changes fifty times. Old keys go as soon as every receiver
/// has seen the new one.
#[test]
fn nothing_is_lost_or_reordered_when_the_key_changes_under_load() {
    const LINKS: usize = 6;
    let keys = Keys::new(0, secret(100));
    let is_over = AtomicBool::new(false);
    // A link that does not follow must fail the test, not hang it.
    let latest = Instant::now() + Duration::from_secs(60);
    let seen: [AtomicU32; LINKS] = std::array::from_fn(|_| AtomicU32::new(0));
    thread::scope(|scope| {
        let mut receivers = Vec::new();
        for (number, seen) in seen.iter().enumerate() {
            let over = match number % 3 {
                0 => Over::NoHello,
                _ => Over::Hello,
            };
            let (mut client, mut server) = pair(SUITES[number % 2], &keys, over);
            let (sender, receiver) = sync_channel::<Vec<u8>>(8);
            let is_over = &is_over;
            scope.spawn(move || {
                for count in 0_u64.. {
                    let frame = encode(&mut client, &count.to_be_bytes());
                    if is_over.load(Ordering::Relaxed) || sender.send(frame).is_err() {
                        break;
                    }
                }
            });
            receivers.push(scope.spawn(move || {
                for (count, frame) in (0_u64..).zip(receiver) {
                    assert_eq!(decode(&mut server, &frame).unwrap(), count.to_be_bytes());
                    let id = &frame[frame.len() - 28..][..4];
                    seen.store(
                        u32::from_be_bytes(id.try_into().unwrap()),
                        Ordering::Relaxed,
                    );
                }
            }));
        }
        'changes: for id in 1..=50 {
            keys.add(id, secret(100 + id as u8)).unwrap();
            keys.activate(id).unwrap();
            while !seen.iter().all(|seen| seen.load(Ordering::Relaxed) == id) {
                let has_failed = receivers.iter().any(|receiver| receiver.is_finished());
                if has_failed || Instant::now() > latest {
                    break 'changes;
                }
                thread::yield_now();
            }
            keys.remove(id - 1).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(keys.ids(), [50]);
}
