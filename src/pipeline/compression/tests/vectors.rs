//! The published vectors, which other implementations have made.

use serde::Deserialize;

use super::*;

const VECTORS: &str = include_str!("../../../../tests/vectors/pipeline/compression.json");

#[derive(Deserialize)]
struct Vectors {
    threshold: usize,
    plain: Vec<Plain>,
    decodes: Vec<Decodes>,
    refused: Vec<Refused>,
}

#[derive(Deserialize)]
struct Plain {
    pattern: String,
    times: usize,
    encoded: String,
}

#[derive(Deserialize)]
struct Decodes {
    name: String,
    stage: String,
    pattern: String,
    times: usize,
    encoded: String,
}

#[derive(Deserialize)]
struct Refused {
    name: String,
    stage: String,
    limit: usize,
    encoded: String,
    code: String,
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn vectors() -> Vectors {
    serde_json::from_str(VECTORS).unwrap()
}

fn named(name: &str) -> CompressionStage {
    let algorithm = ALL.into_iter().find(|algorithm| algorithm.name() == name);
    stage(algorithm.unwrap())
}

#[test]
fn short_messages_are_exactly_the_bytes_of_the_vectors() {
    let vectors = vectors();
    assert_eq!(vectors.threshold, THRESHOLD);
    for case in vectors.plain {
        let message = bytes(&case.pattern).repeat(case.times);
        for algorithm in ALL {
            let mut stage = CompressionStage {
                threshold: THRESHOLD,
                ..stage(algorithm)
            };
            let encoded = encode(&mut stage, &message);
            assert_eq!(encoded, bytes(&case.encoded));
            assert_eq!(
                decode(&mut stage, &encoded, message.len()),
                Ok(message.clone())
            );
        }
    }
}

#[test]
fn what_other_libraries_have_compressed_is_understood() {
    for case in vectors().decodes {
        let message = bytes(&case.pattern).repeat(case.times);
        let decoded = decode(
            &mut named(&case.stage),
            &bytes(&case.encoded),
            message.len(),
        );
        assert_eq!(decoded, Ok(message), "{}", case.name);
    }
}

#[test]
fn what_the_vectors_say_is_refused_is_refused_with_that_code() {
    for case in vectors().refused {
        let encoded = bytes(&case.encoded);
        let refused = decode(&mut named(&case.stage), &encoded, case.limit);
        let code = refused.map(drop).unwrap_err().code();
        assert_eq!(code.name(), case.code, "{}", case.name);
    }
}
