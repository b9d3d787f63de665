//! A container of sixteen values, and a struct of the same fields.

use network_system::container::{Container, Value};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Sixteen values of sixteen kinds, as a struct that its user knows.
#[derive(Serialize, Deserialize)]
pub(crate) struct Record {
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
pub(crate) struct Blob(Vec<u8>);

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

pub(crate) fn record() -> Record {
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

/// With every field of the header.
pub(crate) fn addressed(record: &Record) -> Container {
    container(record, "telemetry")
        .source("sensor 7", "east")
        .target("collector", "main")
}

/// With nothing in the header that can be left out.
pub(crate) fn plain(record: &Record) -> Container {
    container(record, "data_container")
}
