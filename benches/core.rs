//! Micro benches of the message path: decoding, encoding, the outbox, encoding for many receivers.
//!
//! `cargo bench [-- TEXT]` runs those whose name contains the text. Each is measured in samples of about 10 ms;
//! the median and the fastest sample are shown, for each message. They show where a change has an effect;
//! what a server costs is measured in `perf/`.
//!
//! A harness of some fifty lines is enough for that, and saves `cargo test` the crates of a larger one.

#![allow(clippy::print_stdout, reason = "results go there")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use network_system::CodecKind;
use network_system::internal::{Decode, Encode, Queue, encode_for_many};

const SAMPLES: usize = 31;
const SAMPLE: Duration = Duration::from_millis(10);

fn main() {
    // `cargo bench` adds `--bench`.
    let wanted: Vec<_> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    let bench = |name: &str, messages: usize, mut run: Box<dyn FnMut()>| {
        if wanted.is_empty() || wanted.iter().any(|text| name.contains(text.as_str())) {
            measure(name, messages, &mut run);
        }
    };
    for size in [64, 1_024, 65_536] {
        bench(
            &format!("decode/msgi/{size}"),
            count(size),
            decode(CodecKind::Msgi, size),
        );
    }
    bench("decode/length/64", count(64), decode(CodecKind::Length, 64));
    bench("decode/lines/64", count(64), decode(CodecKind::Lines, 64));
    for size in [64, 1_024] {
        bench(
            &format!("encode/lent/{size}"),
            count(size),
            encode_lent(size),
        );
    }
    for size in [64, 1_024, 65_536] {
        bench(
            &format!("encode/owned/{size}"),
            count(size),
            encode_owned(size),
        );
    }
    for size in [64, 1_024] {
        bench(&format!("outbox/{size}"), 512, outbox(size));
    }
    for receivers in [10, 1_000] {
        bench(
            &format!("broadcast/64/{receivers}"),
            receivers,
            broadcast(receivers),
        );
    }
}

/// As many messages as one read brings.
fn count(size: usize) -> usize {
    (256 * 1024 / (size + 10)).max(1)
}

fn decode(codec: CodecKind, size: usize) -> Box<dyn FnMut()> {
    let mut stream = Vec::new();
    for _ in 0..count(size) {
        match codec {
            CodecKind::Length => stream.extend_from_slice(&(size as u32).to_be_bytes()),
            CodecKind::Lines => {}
            _ => {
                stream.extend_from_slice(b"MSGI");
                stream.extend_from_slice(&(size as u32 + 10).to_be_bytes());
                stream.extend_from_slice(&0x10_u16.to_be_bytes());
            }
        }
        stream.resize(stream.len() + size, b'x');
        if codec == CodecKind::Lines {
            stream.push(b'\n');
        }
    }
    let stream = Bytes::from(stream);
    let mut decode = Decode::new(codec);
    Box::new(move || {
        let consumed = decode.messages(&stream, |message| {
            black_box(message);
        });
        assert_eq!(consumed, stream.len());
    })
}

fn encode_lent(size: usize) -> Box<dyn FnMut()> {
    let (payload, mut encode) = (vec![b'x'; size], Encode::default());
    Box::new(move || {
        for _ in 0..count(size) {
            encode.lent(black_box(&payload));
        }
        black_box(encode.written());
    })
}

fn encode_owned(size: usize) -> Box<dyn FnMut()> {
    let (payload, mut encode) = (Bytes::from(vec![b'x'; size]), Encode::default());
    Box::new(move || {
        for _ in 0..count(size) {
            encode.owned(black_box(payload.clone()));
        }
        black_box(encode.written());
    })
}

fn outbox(size: usize) -> Box<dyn FnMut()> {
    let (payload, mut queue) = (Bytes::from(vec![b'x'; size]), Queue::default());
    Box::new(move || {
        for _ in 0..512 {
            assert!(queue.offer(black_box(&payload)));
        }
        black_box(queue.drain());
    })
}

fn broadcast(receivers: usize) -> Box<dyn FnMut()> {
    let payload = Bytes::from(vec![b'x'; 64]);
    let mut queues: Vec<Queue> = (0..receivers).map(|_| Queue::default()).collect();
    Box::new(move || {
        encode_for_many(black_box(&payload), &mut queues);
        for queue in &mut queues {
            black_box(queue.drain());
        }
    })
}

fn measure(name: &str, messages: usize, run: &mut dyn FnMut()) {
    let mut runs = 1;
    while time(runs, run) < SAMPLE {
        runs *= 2;
    }
    let mut samples: Vec<f64> = (0..SAMPLES)
        .map(|_| time(runs, run).as_nanos() as f64 / (runs * messages) as f64)
        .collect();
    samples.sort_by(f64::total_cmp);
    let (median, fastest) = (samples[SAMPLES / 2], samples[0]);
    println!("{name:<24} {median:>10.1} ns a message, fastest {fastest:.1}");
}

fn time(runs: usize, run: &mut dyn FnMut()) -> Duration {
    let began = Instant::now();
    for _ in 0..runs {
        run();
    }
    began.elapsed()
}
