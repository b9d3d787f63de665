//! Compression against the libraries.

use std::hint::black_box;
use std::time::Instant;

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress};
use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};
use network_system::pipeline::Compression;
use zstd::zstd_safe::{CCtx, DCtx};

use super::Case;
use super::ratio::{Batch, Pair};
use super::stages;

/// Bytes before what the algorithm makes of a message: what a program would need that calls it itself.
const HEAD: usize = 5;

/// Compresses the first into the second and returns how long it is.
type Run = Box<dyn FnMut(&[u8], &mut [u8]) -> usize>;

/// Names an algorithm, both ways to get it.
struct Algorithm {
    name: &'static str,
    library: &'static str,
    stage: fn() -> Compression,
    compress: fn() -> Run,
    decompress: fn() -> Run,
}

const ALGORITHMS: [Algorithm; 4] = [
    Algorithm {
        name: "lz4",
        library: "lz4_flex",
        stage: Compression::lz4,
        compress: || Box::new(|message, output| compress_into(message, output).unwrap()),
        decompress: || Box::new(|block, output| decompress_into(block, output).unwrap()),
    },
    Algorithm {
        name: "zstd",
        library: "zstd",
        stage: Compression::zstd,
        compress: || {
            let mut context = CCtx::create();
            Box::new(move |message, output| context.compress(output, message, 3).unwrap())
        },
        decompress: || {
            let mut context = DCtx::create();
            Box::new(move |frame, output| context.decompress(output, frame).unwrap())
        },
    },
    Algorithm {
        name: "gzip",
        library: "flate2",
        stage: Compression::gzip,
        compress: || deflate(Compress::new_gzip(flate2::Compression::new(3), 15)),
        decompress: || inflate(Decompress::new_gzip(15)),
    },
    Algorithm {
        name: "deflate",
        library: "flate2",
        stage: Compression::deflate,
        compress: || deflate(Compress::new(flate2::Compression::new(3), true)),
        decompress: || inflate(Decompress::new(true)),
    },
];

fn deflate(mut stream: Compress) -> Run {
    Box::new(move |message, output| {
        stream.reset();
        stream
            .compress(message, output, FlushCompress::Finish)
            .unwrap();
        stream.total_out() as usize
    })
}

fn inflate(mut stream: Decompress) -> Run {
    Box::new(move |compressed, output| {
        stream.reset(true);
        stream
            .decompress(compressed, output, FlushDecompress::Finish)
            .unwrap();
        stream.total_out() as usize
    })
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for algorithm in &ALGORITHMS {
        for size in [1_024, 4_096, 65_536, 1_048_576] {
            let message = stages::json(size);
            // What stays in the cache of a core.
            let messages = (128 * 1024 / size).clamp(1, 32);
            let pair = |own, other| Pair {
                peer: algorithm.library,
                messages: messages as u64,
                own,
                other,
            };
            cases.push((
                format!("compress/{}/{size}", algorithm.name),
                pair(
                    encode(algorithm, &message, messages),
                    compress(algorithm, &message, messages),
                ),
            ));
            cases.push((
                format!("decompress/{}/{size}", algorithm.name),
                pair(
                    decode(algorithm, &message, messages),
                    decompress(algorithm, &message, messages),
                ),
            ));
        }
    }
    cases
}

fn encode(algorithm: &Algorithm, message: &[u8], messages: usize) -> Batch {
    let (mut client, _) = stages::pair((algorithm.stage)());
    let (message, mut output) = (message.to_vec(), Vec::new());
    Box::new(move || {
        let began = Instant::now();
        for _ in 0..messages {
            output.clear();
            client.encode(black_box(&message), &mut output).unwrap();
            black_box(&output);
        }
        began.elapsed()
    })
}

fn decode(algorithm: &Algorithm, message: &[u8], messages: usize) -> Batch {
    let (mut client, mut server) = stages::pair((algorithm.stage)());
    let (message, mut output) = (message.to_vec(), Vec::new());
    let mut encoded = Vec::new();
    client.encode(&message, &mut encoded).unwrap();
    Box::new(move || {
        let began = Instant::now();
        for _ in 0..messages {
            output.clear();
            server
                .decode(black_box(&encoded), message.len(), &mut output)
                .unwrap();
            black_box(&output);
        }
        let time = began.elapsed();
        assert_eq!(output, message);
        time
    })
}

/// Into memory that is there and needs no zeros.
fn compress(algorithm: &Algorithm, message: &[u8], messages: usize) -> Batch {
    let mut run = (algorithm.compress)();
    let message = message.to_vec();
    let mut output = vec![0; HEAD + get_maximum_output_size(message.len())];
    Box::new(move || {
        let began = Instant::now();
        for _ in 0..messages {
            output[1..HEAD].copy_from_slice(&(message.len() as u32).to_be_bytes());
            black_box(run(black_box(&message), &mut output[HEAD..]));
        }
        began.elapsed()
    })
}

fn decompress(algorithm: &Algorithm, message: &[u8], messages: usize) -> Batch {
    let (mut compress, mut run) = ((algorithm.compress)(), (algorithm.decompress)());
    let message = message.to_vec();
    let mut compressed = vec![0; get_maximum_output_size(message.len())];
    let len = compress(&message, &mut compressed);
    compressed.truncate(len);
    let mut output = vec![0; message.len()];
    Box::new(move || {
        let began = Instant::now();
        for _ in 0..messages {
            black_box(run(black_box(&compressed), &mut output));
        }
        let time = began.elapsed();
        assert_eq!(output, message);
        time
    })
}
