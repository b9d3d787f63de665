#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod vectors;

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::error::ErrorCode;

const MIB: usize = 1024 * 1024;
const ALL: [Algorithm; 4] = [
    Algorithm::Lz4,
    Algorithm::Zstd,
    Algorithm::Gzip,
    Algorithm::Deflate,
];

fn stage(algorithm: Algorithm) -> CompressionStage {
    CompressionStage {
        algorithm,
        level: algorithm.default_level(),
        threshold: 0,
    }
}

fn encode(stage: &mut CompressionStage, message: &[u8]) -> Vec<u8> {
    // What is there already belongs to others.
    let mut output = b"before".to_vec();
    stage.encode(message, &mut output).unwrap();
    assert!(output.starts_with(b"before"));
    output.split_off(6)
}

fn decode(
    stage: &mut CompressionStage,
    encoded: &[u8],
    limit: usize,
) -> Result<Vec<u8>, StageError> {
    let mut output = b"before".to_vec();
    let decoded = stage.decode(encoded, limit, &mut output);
    assert!(output.starts_with(b"before"));
    let message = output.split_off(6);
    assert!(decoded.is_ok() || message.is_empty());
    decoded.map(|()| message)
}

/// A message of JSON, of at least so many bytes.
fn json(bytes: usize) -> Vec<u8> {
    let mut text = String::from("[");
    for index in 0.. {
        if text.len() >= bytes {
            break;
        }
        let value = index * 7919 % 1000;
        text += &format!("{{\"id\":{index},\"name\":\"sensor-{value}\",\"value\":{value}.5}},");
    }
    text.into_bytes()
}

fn head(len: usize) -> Vec<u8> {
    let mut head = vec![COMPRESSED];
    head.extend_from_slice(&(len as u32).to_be_bytes());
    head
}

/// At most one MiB that stands for at least one GiB of one byte.
fn bomb(algorithm: Algorithm) -> Vec<u8> {
    let mut bomb = Vec::with_capacity(MIB);
    match algorithm {
        Algorithm::Lz4 => {
            // One literal, then a match with the byte before it, which is as long as what follows adds up to.
            bomb.extend_from_slice(&[0x1F, b'x', 1, 0]);
            bomb.resize(MIB - 1, 255);
            // The last sequence has literals only; this block ends before it.
            bomb.push(0);
        }
        Algorithm::Zstd => {
            // No length is said; the window is 128 KiB. Each block is one byte, 128 KiB times.
            bomb.extend_from_slice(&MAGIC_OF_ZSTD);
            bomb.extend_from_slice(&[0, 7 << 3]);
            let block = |is_last: u32| ((128 * 1024) << 3 | 1 << 1 | is_last).to_le_bytes();
            for index in (0..9_000_u32).rev() {
                bomb.extend_from_slice(&block((index == 0).into())[..3]);
                bomb.push(b'x');
            }
        }
        Algorithm::Gzip | Algorithm::Deflate => {
            let mut stream = flate2::Compress::new(flate2::Compression::best(), false);
            let zeros = vec![0; 4 * MIB];
            let mut block = Vec::with_capacity(MIB);
            stream
                .compress_vec(&zeros, &mut block, flate2::FlushCompress::Full)
                .unwrap();
            bomb.extend_from_slice(match algorithm {
                Algorithm::Gzip => &[0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255],
                _ => &[0x78, 0x9C],
            });
            while bomb.len() + block.len() <= MIB {
                bomb.extend_from_slice(&block);
            }
        }
    }
    assert!(bomb.len() <= MIB);
    bomb
}

const MAGIC_OF_ZSTD: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

#[test]
fn text_becomes_shorter_and_comes_back() {
    for algorithm in ALL {
        for len in [1_024, 4_096, 70_000, MIB] {
            let (mut stage, message) = (stage(algorithm), json(len));
            let encoded = encode(&mut stage, &message);
            assert!(encoded.len() < message.len() / 2, "{algorithm:?}");
            assert_eq!(encoded[..HEAD], head(message.len()));
            let decoded = decode(&mut stage, &encoded, message.len());
            assert_eq!(decoded.as_ref(), Ok(&message), "{algorithm:?}");
        }
    }
}

#[test]
fn every_level_comes_back() {
    let message = json(20_000);
    for algorithm in ALL {
        for level in algorithm.levels().into_iter().flatten() {
            let mut stage = CompressionStage {
                level,
                ..stage(algorithm)
            };
            let encoded = encode(&mut stage, &message);
            assert_eq!(encoded[0], COMPRESSED);
            assert_eq!(
                decode(&mut stage, &encoded, 1 << 20).as_ref(),
                Ok(&message),
                "{algorithm:?} {level}"
            );
        }
    }
}

#[test]
fn short_messages_are_sent_as_they_are() {
    let message = vec![b'x'; 1_023];
    for compression in [
        Compression::lz4(),
        Compression::zstd(),
        Compression::gzip(),
        Compression::deflate(),
    ] {
        let mut stage = CompressionStage {
            threshold: compression.threshold,
            ..stage(compression.algorithm)
        };
        assert_eq!(encode(&mut stage, &message)[0], PLAIN);
        assert_eq!(encode(&mut stage, &message)[1..], message);
        let longer = [&message[..], b"x"].concat();
        assert_eq!(encode(&mut stage, &longer)[0], COMPRESSED);
    }
}

#[test]
fn what_does_not_become_shorter_is_sent_as_it_is() {
    let mut state = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(100_000)
    .collect();
    for algorithm in ALL {
        for len in [0, 1, 4, 5, 6, 1_000, noise.len()] {
            let encoded = encode(&mut stage(algorithm), &noise[..len]);
            assert_eq!(encoded[0], PLAIN, "{algorithm:?} {len}");
            assert_eq!(encoded[1..], noise[..len]);
        }
    }
}

#[test]
fn a_length_over_the_limit_is_refused_before_decompressing() {
    for algorithm in ALL {
        let mut stage = stage(algorithm);
        let message = json(4_096);
        let mut encoded = encode(&mut stage, &message);
        let error = decode(&mut stage, &encoded, message.len() - 1).unwrap_err();
        assert_eq!(error.code(), ErrorCode::MessageTooLarge);
        let error = decode(&mut stage, &[0, 1, 2, 3], 2).unwrap_err();
        assert_eq!(error.code(), ErrorCode::MessageTooLarge);
        encoded[1..5].fill(0xFF);
        let error = decode(&mut stage, &encoded, MIB).unwrap_err();
        assert_eq!(error.code(), ErrorCode::MessageTooLarge);
    }
}

#[test]
fn a_bomb_is_refused_at_once_and_takes_no_more_than_the_length_that_it_says() {
    for algorithm in ALL {
        let bomb = bomb(algorithm);
        let mut stage = stage(algorithm);
        for (said, limit, code) in [
            (1024 * MIB, MIB, ErrorCode::MessageTooLarge),
            (100, MIB, ErrorCode::PipelineFailed),
            (MIB, MIB, ErrorCode::PipelineFailed),
            (16 * MIB, 16 * MIB, ErrorCode::PipelineFailed),
        ] {
            let encoded = [head(said), bomb.clone()].concat();
            let mut output = Vec::new();
            let begun = Instant::now();
            let error = stage.decode(&encoded, limit, &mut output).unwrap_err();
            let took = begun.elapsed();
            assert_eq!(error.code(), code, "{algorithm:?}");
            assert!(output.capacity() <= said.min(limit).max(64 * 1024));
            assert!(took.as_millis() < 1_000, "{algorithm:?} {said} {took:?}");
        }
    }
}

#[test]
fn nothing_is_allocated_because_a_length_is_said() {
    for algorithm in ALL {
        let mut stage = stage(algorithm);
        let mut encoded = encode(&mut stage, &json(1_024));
        encoded[1..5].copy_from_slice(&(1_u32 << 30).to_be_bytes());
        let mut output = Vec::new();
        let refused = stage.decode(&encoded, 1 << 30, &mut output);
        assert!(refused.is_err(), "{algorithm:?}");
        assert!(output.capacity() <= 64 * 1024, "{algorithm:?}");
    }
}

#[test]
fn another_length_than_the_message_has_is_refused() {
    for algorithm in ALL {
        let mut stage = stage(algorithm);
        let message = json(5_000);
        let encoded = encode(&mut stage, &message);
        for len in [0, 1, message.len() - 1, message.len() + 1, MIB] {
            let changed = [&head(len)[..], &encoded[HEAD..]].concat();
            let error = decode(&mut stage, &changed, MIB).unwrap_err();
            assert_eq!(error.code(), ErrorCode::PipelineFailed, "{algorithm:?}");
        }
    }
}

#[test]
fn every_cut_and_every_byte_behind_it_is_refused() {
    for algorithm in ALL {
        let mut stage = stage(algorithm);
        let encoded = encode(&mut stage, &json(2_000));
        for len in 0..encoded.len() {
            assert!(
                decode(&mut stage, &encoded[..len], MIB).is_err(),
                "{algorithm:?} {len}"
            );
        }
        for byte in [0, 1, 0x50, 0xFF] {
            let longer = [&encoded[..], &[byte]].concat();
            assert!(
                decode(&mut stage, &longer, MIB).is_err(),
                "{algorithm:?} {byte}"
            );
        }
    }
}

#[test]
fn only_one_frame_or_member_makes_a_message() {
    for algorithm in [Algorithm::Zstd, Algorithm::Gzip, Algorithm::Deflate] {
        let mut stage = stage(algorithm);
        let half = json(2_000);
        let encoded = encode(&mut stage, &half);
        let twice = [
            &head(2 * half.len())[..],
            &encoded[HEAD..],
            &encoded[HEAD..],
        ]
        .concat();
        assert!(decode(&mut stage, &twice, MIB).is_err(), "{algorithm:?}");
    }
    // A frame that is to be skipped, alone, before and behind the other.
    let skipped = [0x50, 0x2A, 0x4D, 0x18, 1, 0, 0, 0, 7];
    let mut zstd = stage(Algorithm::Zstd);
    let frame = encode(&mut zstd, &json(2_000));
    let (head_bytes, frame) = frame.split_at(HEAD);
    for changed in [
        [&head(0)[..], &skipped].concat(),
        [head_bytes, &skipped, frame].concat(),
        [head_bytes, frame, &skipped].concat(),
    ] {
        assert!(decode(&mut zstd, &changed, MIB).is_err());
    }
}

#[test]
fn frames_with_a_dictionary_are_refused() {
    // Frame header: a dictionary id of one byte, the content in one segment of 3 bytes; one raw block.
    let with = [&MAGIC_OF_ZSTD[..], &[0x21, 5, 3, 0x19, 0, 0], b"abc"].concat();
    let without = [&MAGIC_OF_ZSTD[..], &[0x20, 3, 0x19, 0, 0], b"abc"].concat();
    let mut zstd = stage(Algorithm::Zstd);
    let decoded = decode(&mut zstd, &[&head(3)[..], &without].concat(), 3);
    assert_eq!(decoded, Ok(b"abc".to_vec()));
    assert!(decode(&mut zstd, &[&head(3)[..], &with].concat(), 3).is_err());
    // A zlib stream that wants one.
    let wants = [0x78, 0xBB, 0, 0, 0, 1, 0x03, 0, 0, 0, 0, 1];
    let mut deflate = stage(Algorithm::Deflate);
    assert!(decode(&mut deflate, &[&head(0)[..], &wants].concat(), 3).is_err());
}

#[test]
fn what_other_encoders_write_is_understood() {
    // gzip with every optional field; the deflated bytes are one stored block.
    let mut member = vec![0x1F, 0x8B, 8, 0b0001_1100, 1, 2, 3, 4, 2, 3];
    member.extend_from_slice(b"\x02\0xyname\0comment\0");
    member.extend_from_slice(b"\x01\x03\0\xFC\xFFabc");
    let mut crc = flate2::Crc::new();
    crc.update(b"abc");
    member.extend_from_slice(&crc.sum().to_le_bytes());
    member.extend_from_slice(&3_u32.to_le_bytes());
    let mut gzip = stage(Algorithm::Gzip);
    let encoded = [head(3), member].concat();
    assert_eq!(decode(&mut gzip, &encoded, 3), Ok(b"abc".to_vec()));
    for damaged in [encoded.len() - 1, encoded.len() - 5] {
        let mut encoded = encoded.clone();
        encoded[damaged] ^= 1;
        assert!(decode(&mut gzip, &encoded, 3).is_err());
    }
    // An empty message that was compressed all the same.
    let empty: [(Algorithm, &[u8]); 3] = [
        (Algorithm::Lz4, &[0]),
        (Algorithm::Deflate, &[0x78, 0x9C, 3, 0, 0, 0, 0, 1]),
        (Algorithm::Zstd, &[0x28, 0xB5, 0x2F, 0xFD, 0x20, 0, 1, 0, 0]),
    ];
    for (algorithm, bytes) in empty {
        let encoded = [&head(0)[..], bytes].concat();
        let decoded = decode(&mut stage(algorithm), &encoded, 0);
        assert_eq!(decoded, Ok(Vec::new()), "{algorithm:?}");
    }
    // A zstd frame that says no length and asks for a window of 8 MiB, as encoders of streams do.
    let mut frame = MAGIC_OF_ZSTD.to_vec();
    frame.extend_from_slice(&[0, 13 << 3, 0x19, 0, 0]);
    frame.extend_from_slice(b"abc");
    let decoded = decode(&mut stage(Algorithm::Zstd), &[head(3), frame].concat(), 3);
    assert_eq!(decoded, Ok(b"abc".to_vec()));
}

#[test]
fn bytes_that_no_stage_has_sent_are_refused() {
    for algorithm in ALL {
        let mut stage = stage(algorithm);
        for bytes in [
            &[][..],
            &[2],
            &[0xFF, 1, 2],
            &[1],
            &[1, 0, 0, 0],
            &[1, 0, 0, 0, 0],
            &[1, 0, 0, 0, 1, 7],
        ] {
            let error = decode(&mut stage, bytes, MIB).unwrap_err();
            assert_eq!(error.code(), ErrorCode::PipelineFailed, "{bytes:?}");
        }
    }
}

#[test]
fn levels_that_there_are_not_are_refused_when_the_pipeline_is_built() {
    use crate::pipeline::Pipeline;
    for (compression, text) in [
        (Compression::lz4().level(1), "lz4 has no levels"),
        (
            Compression::zstd().level(0),
            "zstd has the levels 1 to 22, not 0",
        ),
        (
            Compression::zstd().level(23),
            "zstd has the levels 1 to 22, not 23",
        ),
        (
            Compression::gzip().level(10),
            "gzip has the levels 1 to 9, not 10",
        ),
        (
            Compression::deflate().level(0),
            "deflate has the levels 1 to 9, not 0",
        ),
    ] {
        let error = Pipeline::builder().offer(compression).build().unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidConfiguration);
        assert!(error.to_string().contains(text), "{error}");
    }
    let pipeline = Pipeline::builder()
        .offer(Compression::zstd().level(22))
        .offer(Compression::gzip().level(9))
        .build();
    assert!(pipeline.is_ok());
}

fn any_algorithm() -> impl Strategy<Value = Algorithm> {
    prop::sample::select(&ALL[..])
}

/// Messages that shrink, some more than others.
fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let run = (prop::collection::vec(any::<u8>(), 0..40), 1..400_usize);
    prop::collection::vec(run, 0..12).prop_map(|runs| {
        let parts = runs.into_iter().map(|(bytes, times)| bytes.repeat(times));
        parts.collect::<Vec<_>>().concat()
    })
}

proptest! {
    #[test]
    fn any_message_comes_back(
        algorithm in any_algorithm(),
        messages in prop::collection::vec(any_message(), 1..4),
        threshold in 0..2_000_usize,
    ) {
        let mut stage = CompressionStage { threshold, ..stage(algorithm) };
        for message in messages {
            let encoded = encode(&mut stage, &message);
            prop_assert!(encoded.len() <= message.len() + OVERHEAD);
            prop_assert_eq!(decode(&mut stage, &encoded, message.len()), Ok(message));
        }
    }

    #[test]
    fn arbitrary_bytes_give_at_most_what_they_say(
        algorithm in any_algorithm(),
        said in 0..100_000_usize,
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        if let Ok(message) = decode(&mut stage(algorithm), &bytes, 1_000) {
            prop_assert!(message.len() <= 1_000);
        }
        let encoded = [head(said), bytes].concat();
        if let Ok(message) = decode(&mut stage(algorithm), &encoded, 100_000) {
            prop_assert_eq!(message.len(), said);
        }
    }

    #[test]
    fn changed_bytes_give_an_error_or_a_message_of_the_length_that_is_said(
        algorithm in any_algorithm(),
        message in any_message(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut stage = stage(algorithm);
        let mut encoded = encode(&mut stage, &message);
        for (index, byte) in changes {
            let index = index.index(encoded.len());
            encoded[index] = byte;
        }
        let limit = message.len() + 100;
        if let Ok(decoded) = decode(&mut stage, &encoded, limit) {
            prop_assert!(decoded.len() <= limit);
        }
        // The thread's decompressor goes on.
        let encoded = encode(&mut stage, &message);
        prop_assert_eq!(decode(&mut stage, &encoded, limit), Ok(message));
    }
}
