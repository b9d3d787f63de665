//! Frames that a receiver must refuse, after which the right next one is accepted.

use proptest::prelude::*;

use super::*;

const ALL: [Over; 3] = [Over::Hello, Over::NoHello, Over::Lossy];

/// For each kind of link, before its first message and later: a sender, a receiver and the next frame.
fn states(mut check: impl FnMut(&'static Suite, Over, &mut LinkCipher, &mut LinkCipher, &[u8])) {
    for suite in SUITES {
        for over in ALL {
            for before in [0, 1, 5] {
                // A second key, so that a changed id can be that of another key.
                let keys = Keys::new(6, secret(6));
                keys.add(7, secret(7)).unwrap();
                let (mut client, mut server) = pair(suite, &keys, over);
                for _ in 0..before {
                    passes(&mut client, &mut server, b"earlier");
                }
                let next = encode(&mut client, b"the next one");
                check(suite, over, &mut client, &mut server, &next);
                assert_eq!(decode(&mut server, &next).unwrap(), b"the next one");
                passes(&mut client, &mut server, b"and another");
            }
        }
    }
}

#[test]
fn a_change_of_any_bit_is_refused() {
    states(|_, _, _, server, next| {
        let mut changed = next.to_vec();
        for bit in 0..next.len() * 8 {
            changed[bit / 8] ^= 1 << (bit % 8);
            refuses(server, &changed);
            changed[bit / 8] ^= 1 << (bit % 8);
        }
    });
}

#[test]
fn a_shorter_or_longer_frame_is_refused() {
    states(|_, _, _, server, next| {
        for len in 0..next.len() {
            refuses(server, &next[..len]);
            refuses(server, &next[next.len() - len..]);
        }
        for byte in [0, 1, 255] {
            let mut longer = next.to_vec();
            longer.push(byte);
            refuses(server, &longer);
            longer.insert(0, byte);
            refuses(server, &longer[..longer.len() - 1]);
        }
    });
}

#[test]
fn repeated_and_reordered_frames_are_refused() {
    for suite in SUITES {
        for over in [Over::Hello, Over::NoHello] {
            let (mut client, mut server) = pair(suite, &Keys::new(1, secret(1)), over);
            let frames: Vec<_> = (0..8_u8)
                .map(|number| encode(&mut client, &[number]))
                .collect();
            for (next, frame) in frames.iter().enumerate() {
                for (other, refused) in frames.iter().enumerate() {
                    if other != next {
                        refuses(&mut server, refused);
                    }
                }
                assert_eq!(decode(&mut server, frame).unwrap(), [next as u8]);
            }
            refuses(&mut server, &frames[7]);
        }
    }
}

#[test]
fn frames_of_the_other_direction_are_refused() {
    for suite in SUITES {
        for over in ALL {
            let (mut client, mut server) = pair(suite, &Keys::new(1, secret(1)), over);
            for _ in 0..3 {
                let there = encode(&mut client, b"there");
                refuses(&mut client, &there);
                let back = encode(&mut server, b"back");
                refuses(&mut server, &back);
                assert_eq!(decode(&mut server, &there).unwrap(), b"there");
                assert_eq!(decode(&mut client, &back).unwrap(), b"back");
            }
        }
    }
}

#[test]
fn frames_of_another_link_are_refused() {
    states(|suite, over, _, server, next| {
        let keys = Keys::new(6, secret(6));
        let mut other = side(suite, &keys, over, 2, true).unwrap();
        for _ in 0..7 {
            let frame = encode(&mut other, b"of another link");
            // Without hello, a whole connection can be repeated: its first frame brings its own salt.
            if over != Over::NoHello || next.len() < 32 + 20 {
                refuses(server, &frame);
            }
        }
    });
}

#[test]
fn nothing_passes_when_hello_or_welcome_was_changed_on_the_way() {
    for suite in SUITES {
        let keys = Keys::new(1, secret(1));
        let server = handshake(1);
        let mut changed = Vec::new();
        for bit in [0, 127] {
            let mut client = server.clone();
            client.client_nonce[bit / 8] ^= 1 << (bit % 8);
            changed.push(client);
            let mut client = server.clone();
            client.server_nonce[bit / 8] ^= 1 << (bit % 8);
            changed.push(client);
        }
        let mut client = server.clone();
        client.transcript[31] ^= 1;
        changed.push(client);
        for client in changed {
            let end = |is_client, handshake| {
                let context = LinkContext {
                    is_client,
                    handshake: Some(handshake),
                    is_lossy: false,
                    session: 1,
                };
                LinkCipher::new(&keys, suite, &context).unwrap()
            };
            let (mut client, mut server) = (end(true, &client), end(false, &server));
            for _ in 0..3 {
                refuses(&mut server, &encode(&mut client, b"there"));
                refuses(&mut client, &encode(&mut server, b"back"));
            }
        }
    }
}

#[test]
fn another_secret_an_unknown_key_and_another_algorithm_are_refused() {
    states(|suite, over, _, server, _| {
        let other_suite = SUITES.into_iter().find(|other| other.name != suite.name);
        let others = [
            (suite, Keys::new(6, secret(1))),
            (suite, Keys::new(6, secret(7))),
            (suite, Keys::new(5, secret(6))),
            (other_suite.unwrap(), Keys::new(6, secret(6))),
        ];
        for (suite, keys) in others {
            let mut other = side(suite, &keys, over, 1, true).unwrap();
            for _ in 0..7 {
                refuses(server, &encode(&mut other, b"the next one"));
            }
        }
    });
}

#[test]
fn errors_say_which_key_is_missing_and_nothing_of_messages() {
    let keys = Keys::new(3, secret(3));
    let (mut client, mut server) = pair(&AES_256_GCM, &Keys::new(9, secret(9)), Over::Hello);
    let frame = encode(&mut client, b"a message");
    let mut stranger = side(&AES_256_GCM, &keys, Over::Hello, 1, false).unwrap();
    let error = decode(&mut stranger, &frame).unwrap_err();
    assert_eq!(error.to_string(), "there is no key with the id 9");
    let error = decode(&mut server, b"a message").unwrap_err();
    assert_eq!(
        error.to_string(),
        "9 bytes are too few for an encrypted message"
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused_and_change_nothing(
        inputs in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..120), 1..20),
        id in any::<bool>(),
    ) {
        for over in ALL {
            let (mut client, mut server) = pair(&AES_256_GCM, &Keys::new(1, secret(1)), over);
            for mut input in inputs.clone() {
                let at = if over == Over::NoHello { 32 } else { 0 };
                if id && input.len() >= at + 4 {
                    input[at..at + 4].copy_from_slice(&[0, 0, 0, 1]);
                }
                refuses(&mut server, &input);
            }
            passes(&mut client, &mut server, b"the first one");
        }
    }
}
