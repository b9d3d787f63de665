//! What the bytes are, and what a receiver refuses.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod bad_input;
mod rotation;
mod vectors;

use super::derive::{AES_256_GCM, CHACHA20_POLY1305, Suite};
use super::link::LinkCipher;
use super::{Encryption, Keys};
use crate::error::ErrorCode;
use crate::pipeline::{
    Handshake, LinkContext, Pipeline, Secret, Stage, StageDefinition, StageError,
};

const SUITES: [&Suite; 2] = [&AES_256_GCM, &CHACHA20_POLY1305];

/// More than any message here.
const LIMIT: usize = 1024 * 1024;

/// A secret of its own for each number.
fn secret(number: u8) -> Secret {
    Secret::new([number; 32]).unwrap()
}

fn handshake(number: u8) -> Handshake {
    Handshake {
        client_nonce: [number; 16],
        server_nonce: [number.wrapping_add(100); 16],
        transcript: [number.wrapping_add(200); 32],
    }
}

/// A kind of link: with hello or without, where messages get lost or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Hello,
    NoHello,
    Lossy,
}

/// One side of a link. The same `number` is the same link.
fn side(
    suite: &'static Suite,
    keys: &Keys,
    over: Over,
    number: u8,
    is_client: bool,
) -> Result<LinkCipher, StageError> {
    let handshake = handshake(number);
    let context = LinkContext {
        is_client,
        handshake: (over != Over::NoHello).then_some(&handshake),
        is_lossy: over == Over::Lossy,
        session: 1,
    };
    LinkCipher::new(keys, suite, &context)
}

/// Client and server of a link.
fn pair(suite: &'static Suite, keys: &Keys, over: Over) -> (LinkCipher, LinkCipher) {
    let side = |is_client| side(suite, keys, over, 1, is_client).unwrap();
    (side(true), side(false))
}

fn encode(link: &mut LinkCipher, message: &[u8]) -> Vec<u8> {
    let mut output = b"before".to_vec();
    link.encode(message, &mut output).unwrap();
    assert!(output.starts_with(b"before"));
    output.split_off(6)
}

fn decode(link: &mut LinkCipher, frame: &[u8]) -> Result<Vec<u8>, StageError> {
    let mut output = b"before".to_vec();
    let decoded = link.decode(frame, LIMIT, &mut output);
    assert!(output.starts_with(b"before"));
    let message = output.split_off(6);
    match decoded {
        Ok(()) => Ok(message),
        Err(error) => {
            assert!(message.is_empty(), "a refused message left something");
            Err(error)
        }
    }
}

#[track_caller]
fn refuses(link: &mut LinkCipher, frame: &[u8]) {
    let error = decode(link, frame).unwrap_err();
    assert_eq!(error.code(), ErrorCode::PipelineFailed, "{error}");
}

#[track_caller]
fn passes(from: &mut LinkCipher, to: &mut LinkCipher, message: &[u8]) {
    let frame = encode(from, message);
    assert_eq!(decode(to, &frame).unwrap(), message);
}

#[test]
fn a_frame_has_twenty_bytes_more_than_its_message_and_hides_it() {
    for suite in SUITES {
        let (mut client, mut server) = pair(suite, &Keys::new(7, secret(1)), Over::Hello);
        for len in [0, 1, 15, 16, 17, 4_096, 4_097, LIMIT] {
            let message = vec![b'x'; len];
            let frame = encode(&mut client, &message);
            assert_eq!(frame.len(), len + 20);
            assert_eq!(frame[..4], [0, 0, 0, 7]);
            assert!(len < 15 || !frame.windows(4).any(|bytes| bytes == b"xxxx"));
            assert_eq!(decode(&mut server, &frame).unwrap(), message);
        }
    }
}

#[test]
fn only_the_first_frame_without_hello_has_a_salt_and_directions_and_links_have_their_own() {
    for suite in SUITES {
        let keys = Keys::new(7, secret(1));
        let (mut client, mut server) = pair(suite, &keys, Over::NoHello);
        let (mut other, _) = pair(suite, &keys, Over::NoHello);
        let mut salts = Vec::new();
        for link in [&mut client, &mut server, &mut other] {
            let first = encode(link, b"first");
            assert_eq!(first.len(), 32 + 20 + 5);
            assert_eq!(encode(link, b"second").len(), 20 + 6);
            salts.push(first[..32].to_vec());
        }
        salts.sort();
        salts.dedup();
        assert_eq!(salts.len(), 3);
    }
}

#[test]
fn encryption_over_a_link_that_loses_messages_needs_hello() {
    let keys = Keys::new(1, secret(1));
    let handshake = None;
    for is_client in [true, false] {
        let context = LinkContext {
            is_client,
            handshake,
            is_lossy: true,
            session: 1,
        };
        let Err(error) = LinkCipher::new(&keys, &AES_256_GCM, &context) else {
            panic!("made a stage");
        };
        assert!(error.to_string().contains("codec=msgi"), "{error}");
    }
}

#[test]
fn lost_messages_are_skipped_up_to_sixty_three_at_a_time() {
    for suite in SUITES {
        let (mut client, mut server) = pair(suite, &Keys::new(1, secret(1)), Over::Lossy);
        let frames: Vec<_> = (0..400_u32)
            .map(|number| encode(&mut client, &number.to_be_bytes()))
            .collect();
        // Including the very first.
        for taken in [63_usize, 64, 70, 134] {
            let message = decode(&mut server, &frames[taken]).unwrap();
            assert_eq!(message, (taken as u32).to_be_bytes());
            for late in &frames[..=taken] {
                refuses(&mut server, late);
            }
        }
        refuses(&mut server, &frames[134 + 65]);
        decode(&mut server, &frames[134 + 64]).unwrap();
    }
}

#[test]
fn a_message_over_the_limit_is_refused_and_one_of_the_limit_passes() {
    let (mut client, mut server) = pair(&AES_256_GCM, &Keys::new(1, secret(1)), Over::Hello);
    let frame = encode(&mut client, &[5; 100]);
    let mut output = Vec::new();
    let error = server.decode(&frame, 99, &mut output).unwrap_err();
    assert_eq!(error.code(), ErrorCode::MessageTooLarge);
    assert_eq!(output.capacity(), 0);
    server.decode(&frame, 100, &mut output).unwrap();
    assert_eq!(output, [5; 100]);
}

#[test]
fn a_buffer_that_is_large_enough_is_used_again() {
    let (mut client, mut server) = pair(&AES_256_GCM, &Keys::new(1, secret(1)), Over::Hello);
    let (mut frame, mut message) = (Vec::with_capacity(120), Vec::with_capacity(100));
    let places = (frame.as_ptr(), message.as_ptr());
    for _ in 0..10 {
        frame.clear();
        message.clear();
        client.encode(&[5; 100], &mut frame).unwrap();
        server.decode(&frame, LIMIT, &mut message).unwrap();
    }
    assert_eq!((frame.as_ptr(), message.as_ptr()), places);
}

#[test]
fn a_stage_says_what_the_pipeline_has_to_know_of_it() {
    let keys = Keys::new(1, secret(1));
    let stages = [
        ("aes-256-gcm", Encryption::aes_256_gcm(&keys)),
        ("chacha20-poly1305", Encryption::chacha20_poly1305(&keys)),
    ];
    let mut builder = Pipeline::builder();
    for (name, stage) in stages {
        assert_eq!(format!("{stage:?}").matches(name).count(), 1);
        let definition = StageDefinition::from(stage.clone());
        assert_eq!((&*definition.name, definition.overhead), (name, 20));
        assert!(definition.is_binary && definition.needs_order && !definition.is_shareable);
        builder = builder.offer(stage);
    }
    assert_eq!(builder.build().unwrap().names().count(), 2);
}

#[test]
fn no_text_shows_a_secret() {
    let keys = Keys::new(1, Secret::new(*b"correct horse battery").unwrap());
    let text = format!("{:?}", Encryption::aes_256_gcm(&keys));
    assert_eq!(
        text,
        "Encryption { suite: aes-256-gcm, keys: Keys { active: 1, ids: [1] } }"
    );
}
