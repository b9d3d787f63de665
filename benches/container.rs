//! Containers in MessagePack against `rmp-serde` on a struct of the same fields.
//!
//! `cargo bench --bench container`. Each pair is measured in turns, in samples of about 10 ms, so that both meet
//! the same machine; medians are shown, and how fast the container is relative to the struct: 1.00 is as fast.
//! The container's form is the larger one, as it has a header.

#![allow(clippy::print_stdout, reason = "results go there")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use network_system::container::{Container, Format, Value};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const SAMPLES: usize = 51;
const SAMPLE: Duration = Duration::from_millis(10);

/// Sixteen values of sixteen kinds, as a struct that its user knows.
#[derive(Serialize, Deserialize)]
struct Record {
    nothing: Option<u32>,
    active: bool,
    level: i16,
    port: u16,
    score: i32,
    address: u32,
    offset: i64,
    mask: u64,
    balance: i64,
    serial: u64,
    ratio: f32,
    latitude: f64,
    user: String,
    comment: String,
    key: Blob,
    samples: Vec<i32>,
}

/// Bytes as `bin`, as `serde_bytes` does it.
struct Blob(Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Blob;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

fn record() -> Record {
    Record {
        nothing: None,
        active: true,
        level: -12,
        port: 8_080,
        score: 1_234_567,
        address: 3_232_235_777,
        offset: -9_876_543_210,
        mask: 0xFFFF_0000_FFFF_0000,
        balance: 123_456_789_012,
        serial: 42,
        ratio: 0.75,
        latitude: 37.566_535,
        user: "ada.lovelace".into(),
        comment: "a sentence of the length that people write".into(),
        key: Blob((0..32).collect()),
        samples: vec![1, 200, -3, 40_000],
    }
}

fn container(record: &Record, message_type: &str) -> Container {
    Container::new(message_type)
        .with("nothing", record.nothing)
        .with("active", record.active)
        .with("level", record.level)
        .with("port", record.port)
        .with("score", record.score)
        .with("address", record.address)
        .with("offset", record.offset)
        .with("mask", record.mask)
        .with("balance", record.balance)
        .with("serial", record.serial)
        .with("ratio", record.ratio)
        .with("latitude", record.latitude)
        .with("user", record.user.as_str())
        .with("comment", record.comment.as_str())
        .with("key", record.key.0.as_slice())
        .with("samples", record.samples.iter().copied().collect::<Value>())
}

fn main() {
    let record = record();
    let addressed = container(&record, "telemetry")
        .source("sensor 7", "east")
        .target("collector", "main");
    for (name, container) in [
        ("all header fields", addressed),
        ("no ids, no type", container(&record, "data_container")),
    ] {
        pair(
            &format!("write, {name}"),
            || {
                black_box(rmp_serde::to_vec_named(black_box(&record)).is_ok());
            },
            || {
                black_box(black_box(&container).encode(Format::MessagePack).is_ok());
            },
        );
        let (Ok(structured), Ok(contained)) = (
            rmp_serde::to_vec_named(&record),
            container.encode(Format::MessagePack),
        ) else {
            panic!("everything here can be encoded");
        };
        let contained = Bytes::from(contained);
        pair(
            &format!("read, {name}"),
            || {
                black_box(rmp_serde::from_slice::<Record>(black_box(&structured)).is_ok());
            },
            || {
                black_box(Container::decode(Format::MessagePack, black_box(&contained)).is_ok());
            },
        );
        println!("    {} B and {} B", structured.len(), contained.len());
    }
}

/// Measures both in turns.
fn pair(name: &str, mut structured: impl FnMut(), mut contained: impl FnMut()) {
    let runs = [runs(&mut structured), runs(&mut contained)];
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..SAMPLES {
        samples[0].push(time(runs[0], &mut structured));
        samples[1].push(time(runs[1], &mut contained));
    }
    let [structured, contained] = samples.map(|mut samples| {
        samples.sort_by(f64::total_cmp);
        samples[SAMPLES / 2]
    });
    let ratio = structured / contained;
    println!(
        "{name:<30} rmp-serde {structured:>7.1} ns, container {contained:>7.1} ns: {ratio:.2}"
    );
}

/// How many runs a sample needs.
fn runs(run: &mut dyn FnMut()) -> usize {
    let mut runs = 1;
    while time(runs, run) * (runs as f64) < SAMPLE.as_nanos() as f64 {
        runs *= 2;
    }
    runs
}

/// The time of one run in nanoseconds.
fn time(runs: usize, run: &mut dyn FnMut()) -> f64 {
    let began = Instant::now();
    for _ in 0..runs {
        run();
    }
    began.elapsed().as_nanos() as f64 / runs as f64
}
