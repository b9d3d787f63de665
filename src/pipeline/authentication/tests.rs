#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use super::*;

use proptest::prelude::*;
use serde::Deserialize;

use crate::error::ErrorCode;
use crate::pipeline::{LinkContext, signature};

fn secret(byte: u8) -> Secret {
    Secret::new([byte; 32]).unwrap()
}

fn stage(stage: HmacSha256) -> Box<dyn Stage> {
    let context = LinkContext {
        is_client: true,
        handshake: None,
        is_lossy: false,
        session: 1,
    };
    (StageDefinition::from(stage).make)(&context).unwrap()
}

fn decode(stage: &mut Box<dyn Stage>, encoded: &[u8]) -> Result<Vec<u8>, StageError> {
    let mut message = b"before".to_vec();
    let decoded = stage.decode(encoded, 1_000, &mut message);
    let message = message.split_off(6);
    assert!(decoded.is_ok() || message.is_empty());
    decoded.map(|()| message)
}

fn encode(stage: &mut Box<dyn Stage>, message: &[u8]) -> Vec<u8> {
    let mut encoded = b"before".to_vec();
    stage.encode(message, &mut encoded).unwrap();
    encoded.split_off(6)
}

#[test]
fn the_tag_is_that_of_rfc_4231() {
    // Test case 4, whose key is the only one that is long enough here and short enough for a block.
    let key: Vec<u8> = (1..=25).collect();
    let mut stage = stage(HmacSha256::new(Secret::new(key).unwrap()));
    let encoded = encode(&mut stage, &[0xCD; 50]);
    let tag: String = encoded[50..].iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(
        tag,
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"
    );
}

#[test]
fn a_secret_can_be_changed_while_both_are_accepted() {
    let mut old = stage(HmacSha256::new(secret(1)));
    let mut both = stage(HmacSha256::new(secret(1)).accept(secret(2)));
    let mut new = stage(HmacSha256::new(secret(2)).accept(secret(1)));
    let mut last = stage(HmacSha256::new(secret(2)));
    let by_old = encode(&mut old, b"message");
    let by_new = encode(&mut new, b"message");
    assert_eq!(encode(&mut both, b"message"), by_old);
    let passes = |stage: &mut Box<dyn Stage>| {
        [&by_old, &by_new].map(|encoded| decode(stage, encoded).is_ok())
    };
    assert_eq!(passes(&mut old), [true, false]);
    assert_eq!(passes(&mut both), [true, true]);
    assert_eq!(passes(&mut new), [true, true]);
    assert_eq!(passes(&mut last), [false, true]);
}

#[test]
fn a_message_over_the_limit_is_refused() {
    let mut stage = stage(HmacSha256::new(secret(1)));
    let encoded = encode(&mut stage, &[0; 1_001]);
    let error = decode(&mut stage, &encoded).unwrap_err();
    assert_eq!(error.code(), ErrorCode::MessageTooLarge);
}

#[test]
fn no_text_shows_a_secret() {
    let text = Secret::new(*b"correct horse battery").unwrap();
    let stage = HmacSha256::new(text.clone()).accept(text);
    assert!(!format!("{stage:?}").contains("horse"));
    assert!(!format!("{:?}", StageDefinition::from(stage)).contains("horse"));
}

proptest! {
    #[test]
    fn any_message_comes_back_and_any_change_is_refused(
        message in prop::collection::vec(any::<u8>(), 0..200),
        index in any::<prop::sample::Index>(),
        bit in 0..8,
    ) {
        let mut stage = stage(HmacSha256::new(secret(1)).accept(secret(2)));
        let encoded = encode(&mut stage, &message);
        prop_assert_eq!(encoded.len(), message.len() + TAG);
        prop_assert_eq!(decode(&mut stage, &encoded), Ok(message));
        let mut changed = encoded.clone();
        changed[index.index(encoded.len())] ^= 1_u8 << bit;
        prop_assert!(decode(&mut stage, &changed).is_err());
        prop_assert!(decode(&mut stage, &encoded[..index.index(encoded.len())]).is_err());
        prop_assert!(decode(&mut stage, &[&encoded[..], &[0]].concat()).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        prop_assert!(decode(&mut stage(HmacSha256::new(secret(1))), &bytes).is_err());
    }
}

const VECTORS: &str = include_str!("../../../tests/vectors/pipeline/hmac.json");

#[derive(Deserialize)]
struct Vectors {
    stage: Vec<Signed>,
    refused: Vec<Refused>,
    text: Vec<Text>,
}

#[derive(Deserialize)]
struct Signed {
    secret: String,
    message: String,
    encoded: String,
}

#[derive(Deserialize)]
struct Refused {
    name: String,
    secret: String,
    encoded: String,
}

#[derive(Deserialize)]
struct Text {
    key: String,
    message: String,
    signed: String,
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

#[test]
fn the_published_vectors_hold() {
    let vectors: Vectors = serde_json::from_str(VECTORS).unwrap();
    let with = |secret: &str| stage(HmacSha256::new(Secret::from_hex(secret).unwrap()));
    for case in vectors.stage {
        let (mut stage, message) = (with(&case.secret), bytes(&case.message));
        let encoded = encode(&mut stage, &message);
        assert_eq!(encoded, bytes(&case.encoded));
        assert_eq!(decode(&mut stage, &encoded), Ok(message));
    }
    for case in vectors.refused {
        let refused = decode(&mut with(&case.secret), &bytes(&case.encoded));
        assert!(refused.is_err(), "{}", case.name);
    }
    for case in vectors.text {
        assert_eq!(signature::sign(&case.message, &case.key), case.signed);
        let verified = signature::verify(&case.signed, &case.key);
        assert_eq!(verified, Some(&*case.message));
    }
}
