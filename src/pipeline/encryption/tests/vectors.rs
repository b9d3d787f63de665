//! The published vectors, which another implementation has made.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256};
use serde::Deserialize;

use super::*;

const VECTORS: &str = include_str!("../../../../tests/vectors/pipeline/encryption.json");

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    stage: String,
    secrets: BTreeMap<u32, String>,
    in_order: bool,
    handshake: Option<Hello>,
    directions: BTreeMap<String, Sent>,
}

#[derive(Deserialize)]
struct Hello {
    hello: String,
    welcome: String,
    client_nonce: String,
    server_nonce: String,
    transcript: String,
}

#[derive(Deserialize)]
struct Sent {
    salt: String,
    frames: Vec<Frame>,
}

#[derive(Deserialize)]
struct Frame {
    key_id: u32,
    count: u64,
    message: String,
    frame: String,
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn array<const N: usize>(hex: &str) -> [u8; N] {
    bytes(hex).try_into().unwrap()
}

impl Hello {
    fn handshake(&self) -> Handshake {
        let mut transcript = Context::new(&SHA256);
        transcript.update(self.hello.as_bytes());
        transcript.update(self.welcome.as_bytes());
        let transcript = transcript.finish();
        assert_eq!(transcript.as_ref(), bytes(&self.transcript));
        assert!(self.hello.contains(&self.client_nonce));
        assert!(self.welcome.contains(&self.server_nonce));
        Handshake {
            client_nonce: array(&self.client_nonce),
            server_nonce: array(&self.server_nonce),
            transcript: transcript.as_ref().try_into().unwrap(),
        }
    }
}

impl Case {
    fn keys(&self) -> Keys {
        let mut secrets = self
            .secrets
            .iter()
            .map(|(id, hex)| (*id, Secret::from_hex(hex).unwrap()));
        let (id, secret) = secrets.next().unwrap();
        let keys = Keys::new(id, secret);
        secrets.for_each(|(id, secret)| keys.add(id, secret).unwrap());
        keys
    }

    /// The sender and the receiver of a direction, and the ring of the sender.
    fn ends(&self, direction: &str) -> (Keys, LinkCipher, Link) {
        let suite = SUITES.into_iter().find(|suite| suite.name == self.stage);
        let handshake = self.handshake.as_ref().map(Hello::handshake);
        let keys = self.keys();
        let end = |keys: &Keys, is_client| {
            let context = LinkContext {
                is_client,
                handshake: handshake.as_ref(),
                is_lossy: false,
                session: 1,
            };
            LinkCipher::new(keys, suite.unwrap(), &context).unwrap()
        };
        let is_sent_by_client = direction == "c2s";
        let sender = end(&keys, is_sent_by_client);
        (keys, sender, end(&self.keys(), !is_sent_by_client))
    }
}

#[test]
fn frames_are_those_of_the_vectors_in_both_directions() {
    let vectors: Vectors = serde_json::from_str(VECTORS).unwrap();
    let mut frames = 0;
    for case in &vectors.cases {
        assert_eq!(case.directions.len(), 2);
        for (direction, sent) in &case.directions {
            let (keys, mut sender, mut receiver) = case.ends(direction);
            if case.handshake.is_none() {
                sender.sending.salt = array(&sent.salt);
            }
            for frame in &sent.frames {
                keys.activate(frame.key_id).unwrap();
                if !case.in_order {
                    sender.sending.keys.counts = vec![(frame.key_id, frame.count)];
                    receiver.receiving.keys.counts = vec![(frame.key_id, frame.count)];
                    (sender.sending.keys.current, receiver.receiving.keys.current) = (None, None);
                }
                let (message, expected) = (bytes(&frame.message), bytes(&frame.frame));
                let what = format!("{}, {direction}, {}", case.name, frame.count);
                assert_eq!(encode(&mut sender, &message), expected, "{what}");
                assert_eq!(decode(&mut receiver, &expected).unwrap(), message, "{what}");
                frames += 1;
            }
        }
    }
    assert_eq!((vectors.cases.len(), frames), (6, 88));
}
