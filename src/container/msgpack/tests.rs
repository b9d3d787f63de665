#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;
use crate::container::tests::any_container;
use crate::container::{Header, Value};

/// What a reader makes of a value: the narrowest integer type, and null for a null pointer.
fn inferred(value: Value) -> Value {
    match value {
        Value::Container(None) => Value::Null,
        Value::Container(Some(inner)) => {
            let (header, values) = inner.into_parts();
            let values = values
                .into_iter()
                .map(|(name, value)| (name, inferred(value)));
            Container::from_parts(header, values.collect()).into()
        }
        Value::Array(values) => values.into_iter().map(inferred).collect(),
        other => match other.as_integer() {
            None => other,
            Some(number) => match (i32::try_from(number), i64::try_from(number)) {
                (Ok(number), _) => Value::Int(number),
                (_, Ok(number)) => Value::LLong(number),
                _ => Value::ULLong(number as u64),
            },
        },
    }
}

fn decode(input: impl Into<Vec<u8>>) -> Result<Container, DecodeError> {
    Container::decode(Format::MessagePack, &Bytes::from(input.into()))
}

/// A container without a header and with one value, `x`, of these bytes.
fn with_value(value: &[u8]) -> Vec<u8> {
    [b"\x81\xa6values\x81\xa1x", value].concat()
}

fn value_of(bytes: &[u8]) -> Value {
    decode(with_value(bytes)).unwrap().remove("x").unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_again(container in any_container()) {
        let bytes = container.encode(Format::MessagePack).unwrap();
        let expected = inferred(container.into());
        let read = decode(bytes.clone()).unwrap();
        prop_assert_eq!(Value::from(read.clone()), expected);
        prop_assert_eq!(read.encode(Format::MessagePack).unwrap(), bytes);
    }

    #[test]
    fn bytes_are_an_error_or_a_container_that_reads_the_same_once_written(
        container in any_container(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = container.encode(Format::MessagePack).unwrap();
        for (index, byte) in changes {
            let len = bytes.len();
            bytes[index.index(len)] = byte;
        }
        if let Ok(read) = decode(bytes) {
            let written = read.encode(Format::MessagePack).unwrap();
            prop_assert_eq!(decode(written).unwrap(), read);
        }
    }

    #[test]
    fn part_of_a_container_is_an_error(container in any_container(), at in any::<prop::sample::Index>()) {
        let mut bytes = container.encode(Format::MessagePack).unwrap();
        bytes.truncate(at.index(bytes.len()));
        prop_assert!(decode(bytes).is_err());
    }
}

#[test]
fn a_container_is_the_bytes_of_the_description() {
    let container = Container::new("t")
        .source("s", "")
        .with("n", -1)
        .with("n", 255_u16);
    let expected = b"\x82\xa6header\x86\xa9target_id\xa0\xadtarget_sub_id\xa0\xa9source_id\xa1s\
        \xadsource_sub_id\xa0\xacmessage_type\xa1t\xa7version\xa71.0.0.0\
        \xa6values\x82\xa1n\xff\xa1n\xcc\xff";
    assert_eq!(container.encode(Format::MessagePack).unwrap(), expected);
    assert_eq!(
        Container::default().encode(Format::MessagePack).unwrap(),
        b"\x82\xa6header\x82\xacmessage_type\xaedata_container\xa7version\xa71.0.0.0\xa6values\x80"
    );
}

#[test]
fn ids_without_a_type_are_carried() {
    let container = Container::from_parts(
        Header {
            target_sub: "x".into(),
            ..Header::default()
        },
        Vec::new(),
    );
    let bytes = container.encode(Format::MessagePack).unwrap();
    assert_eq!(decode(bytes).unwrap(), container);
}

/// The same as an independent implementation writes and reads it.
#[test]
fn another_implementation_writes_and_reads_the_same() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Document {
        header: Fields,
        values: Values,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Fields {
        target_id: String,
        target_sub_id: String,
        source_id: String,
        source_sub_id: String,
        message_type: String,
        version: String,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Values {
        nothing: (),
        yes: bool,
        small: i8,
        large: i64,
        huge: u64,
        float: f32,
        double: f64,
        text: String,
        long_text: String,
        list: Vec<Option<i16>>,
    }
    for count in [0, 15, 16, 70_000] {
        let document = Document {
            header: Fields {
                target_id: "t".into(),
                target_sub_id: "ts".into(),
                source_id: "s".into(),
                source_sub_id: String::new(),
                message_type: "m".into(),
                version: "1.0.0.0".into(),
            },
            values: Values {
                nothing: (),
                yes: true,
                small: -33,
                large: i64::MIN,
                huge: u64::MAX,
                float: 1.5,
                double: -0.1,
                text: "é".repeat(count.min(15)),
                long_text: "x".repeat(count),
                list: (0..count)
                    .map(|n| (n % 7 > 0).then_some(n as i16))
                    .collect(),
            },
        };
        let theirs = rmp_serde::to_vec_named(&document).unwrap();
        let container = decode(theirs.clone()).unwrap();
        assert_eq!(container.len(), 10);
        assert_eq!(container.get_as::<u64>("huge"), Ok(u64::MAX));
        assert_eq!(container.encode(Format::MessagePack).unwrap(), theirs);
        assert_eq!(
            rmp_serde::from_slice::<Document>(&theirs).unwrap(),
            document
        );
    }
}

#[test]
fn integers_become_the_narrowest_type_everywhere() {
    let cases: [(&[u8], Value); 12] = [
        (b"\x7f", Value::Int(127)),
        (b"\xe0", Value::Int(-32)),
        (b"\xcc\xff", Value::Int(255)),
        (b"\xcd\xff\xff", Value::Int(65_535)),
        (b"\xce\x7f\xff\xff\xff", Value::Int(i32::MAX)),
        (b"\xce\x80\x00\x00\x00", Value::LLong(1 << 31)),
        (
            b"\xcf\x7f\xff\xff\xff\xff\xff\xff\xff",
            Value::LLong(i64::MAX),
        ),
        (
            b"\xcf\x80\x00\x00\x00\x00\x00\x00\x00",
            Value::ULLong(1 << 63),
        ),
        (b"\xd0\x80", Value::Int(-128)),
        (b"\xd2\x80\x00\x00\x00", Value::Int(i32::MIN)),
        (
            b"\xd3\xff\xff\xff\xff\x7f\xff\xff\xff",
            Value::LLong(i64::from(i32::MIN) - 1),
        ),
        // Longer than needed: read all the same.
        (b"\xd3\x00\x00\x00\x00\x00\x00\x00\x01", Value::Int(1)),
    ];
    for (bytes, expected) in cases {
        assert_eq!(value_of(bytes), expected);
        assert_eq!(
            value_of(&[b"\x91", bytes].concat()),
            Value::Array(vec![expected])
        );
    }
}

#[test]
fn containers_in_arrays_are_containers() {
    let list = Value::Array(vec![
        Value::Array(vec![Container::new("inner").with("k", 1).into()]),
        Container::default().into(),
        Value::from(b"\x80"),
    ]);
    let container = Container::new("outer").with("list", list).with("behind", 1);
    let bytes = container.encode(Format::MessagePack).unwrap();
    assert_eq!(decode(bytes).unwrap(), container);
}

#[test]
fn bytes_that_are_not_wholly_a_container_stay_bytes() {
    let whole = Container::new("x")
        .with("n", 1)
        .encode(Format::MessagePack)
        .unwrap();
    let trailing = [&whole[..], b"\x00"].concat();
    let cut = &whole[..whole.len() - 1];
    // Not the shortest form of the number.
    let longer = [cut, b"\xcc\x01"].concat();
    let other_order = b"\x82\xa6values\x80\xa6header\x80";
    let no_fields = b"\x82\xa6header\x80\xa6values\x80";
    for bytes in [
        b"\x80\x00",
        &b"\x81\xa1x\x01"[..],
        b"\x80",
        &trailing,
        cut,
        &longer,
        other_order,
        no_fields,
    ] {
        let container = Container::new("x").with("b", bytes);
        let written = container.encode(Format::MessagePack).unwrap();
        assert_eq!(decode(written).unwrap(), container);
    }
}

#[test]
fn bytes_that_would_come_back_as_a_container_are_refused() {
    let whole = Container::new("x")
        .with("n", 1)
        .encode(Format::MessagePack)
        .unwrap();
    let container = Container::new("y").with("b", whole.clone());
    let error = container.encode(Format::MessagePack).unwrap_err();
    assert_eq!(error.path(), "b");
    assert_eq!(error.carriers(), [Format::Json, Format::Binary]);

    let container = Container::new("y").with("b", Container::new("x").with("n", 1));
    let written = Bytes::from(container.encode(Format::MessagePack).unwrap());
    assert_eq!(decode(written.clone()).unwrap(), container);
    let options = DecodeOptions::new().nested_containers(false);
    let read = Container::decode_with(Format::MessagePack, &written, &options).unwrap();
    assert_eq!(read.get_as::<&[u8]>("b"), Ok(&whole[..]));
}

#[test]
fn keys_may_stand_in_any_order_and_be_missing() {
    let container =
        decode(b"\x82\xa6values\x81\xa1x\x01\xa6header\x82\xa7version\xa12\xacmessage_type\xa1m")
            .unwrap();
    assert_eq!(container.message_type(), "m");
    assert_eq!(container.header.version, "2");
    assert_eq!(container.get("x"), Some(&Value::Int(1)));

    let container = decode(b"\x80").unwrap();
    assert_eq!(container.message_type(), "data_container");
    assert_eq!(container.header.version, "1.0");

    let reversed = b"\x81\xa6header\x86\xa7version\xa11\xacmessage_type\xa1m\xadsource_sub_id\xa12\
        \xa9source_id\xa13\xadtarget_sub_id\xa14\xa9target_id\xa15";
    let header = decode(reversed).unwrap().header;
    assert_eq!(header.target, "5");
    assert_eq!(header.source_sub, "2");
}

#[test]
fn what_cannot_be_read_is_an_error_with_its_place() {
    let cases: [(&[u8], usize, &str); 23] = [
        (b"", 0, "the input ends in the middle"),
        (b"\x01", 0, "no map"),
        (b"\x80\x00", 1, "bytes behind the end"),
        (b"\x81\x01\x02", 1, "a key that is no string"),
        (
            b"\x81\xa5extra\x01",
            1,
            "a key other than header and values",
        ),
        (
            b"\x82\xa6values\x80\xa6values\x80",
            9,
            "a key stands there twice",
        ),
        (b"\x81\xa6header\x01", 8, "a header that is no map"),
        (
            b"\x81\xa6header\x81\xa7version\x05",
            17,
            "a header field that is no string (\"version\")",
        ),
        (
            b"\x81\xa6header\x81\xa1x\xa0",
            9,
            "an unknown header field (\"x\")",
        ),
        (
            b"\x81\xa6header\x82\xa7version\xa0\xa7version\xa0",
            18,
            "a header field that stands there twice",
        ),
        (b"\x81\xa6values\x01", 8, "values that are no map"),
        (
            b"\x81\xa6values\xdf\x00\x00\xff\xff",
            13,
            "the input ends in the middle",
        ),
        (b"\x81\xa6values\x81\x01\x01", 9, "a name that is no string"),
        (
            b"\x81\xa6values\x81\xa1x",
            11,
            "the input ends in the middle (\"x\")",
        ),
        (
            b"\x81\xa6values\x81\xa1x\x80",
            11,
            "a map as a value (\"x\")",
        ),
        (
            b"\x81\xa6values\x81\xa1x\xd4\x01\x02",
            11,
            "an extension as a value",
        ),
        (
            b"\x81\xa6values\x81\xa1x\xc1",
            11,
            "the byte 0xc1, which has no meaning",
        ),
        (
            b"\x81\xa6values\x81\xa1x\xa5ab",
            14,
            "the input ends in the middle",
        ),
        (
            b"\x81\xa6values\x81\xa1x\xc6\xff\xff\xff\xff",
            16,
            "the input ends in the middle",
        ),
        (
            b"\x81\xa6values\x81\xa1x\xdb\xff\xff\xff\xff",
            16,
            "the input ends in the middle",
        ),
        (
            b"\x81\xa6values\x81\xa1x\xdd\x00\x00\xff\xff",
            16,
            "the input ends in the middle (\"x/0\")",
        ),
        (b"\x81\xa6values\xdf\xff\xff\xff\xff", 13, "too many values"),
        (
            b"\x81\xa6values\x81\xa1x\x92\x01\x91\xc1",
            14,
            "the byte 0xc1, which has no meaning (\"x/1/0\")",
        ),
    ];
    for (input, position, text) in cases {
        let error = decode(input).unwrap_err();
        let shown = error.to_string();
        let expected = text.replace(" (\"", &format!(" at byte {position} (\""));
        assert!(shown.starts_with(&expected), "{shown}");
        assert_eq!(error.position(), position, "{shown}");
        assert_eq!(error.code(), crate::ErrorCode::InvalidFrame);
    }
}

#[test]
fn a_hundred_thousand_levels_are_an_error_at_once() {
    let arrays = with_value(&vec![0x91; 100_000]);
    assert!(
        decode(arrays)
            .unwrap_err()
            .to_string()
            .starts_with("nested too deep")
    );

    // Containers in containers, from the outside inwards.
    let prefix = b"\x82\xa6header\x82\xacmessage_type\xaedata_container\xa7version\xa0\xa6values\x81\xa1x\xc6";
    let last = Container::default().encode(Format::MessagePack).unwrap();
    let mut lengths = vec![last.len()];
    for _ in 0..100_000 {
        lengths.push(lengths[lengths.len() - 1] + prefix.len() + 4);
    }
    lengths.pop();
    let mut input = Vec::new();
    for length in lengths.into_iter().rev() {
        input.extend_from_slice(prefix);
        input.extend_from_slice(&(length as u32).to_be_bytes());
    }
    input.extend_from_slice(&last);
    assert!(
        decode(input)
            .unwrap_err()
            .to_string()
            .starts_with("nested too deep")
    );
}

#[test]
fn options_limit_depth_and_number() {
    let container = Container::new("x").with("a", Value::Array(vec![Value::Array(vec![1.into()])]));
    let bytes = Bytes::from(container.encode(Format::MessagePack).unwrap());
    let read = |options| Container::decode_with(Format::MessagePack, &bytes, &options);
    assert!(read(DecodeOptions::new().max_depth(3).max_values(3)).is_ok());
    assert!(read(DecodeOptions::new().max_depth(2)).is_err());
    assert!(read(DecodeOptions::new().max_values(2)).is_err());
}

#[test]
fn what_is_nested_too_deep_for_any_reader_is_not_written() {
    let mut value = Value::Null;
    for _ in 0..127 {
        value = Value::Array(vec![value]);
    }
    let container = Container::new("x").with("v", value.clone());
    let bytes = Bytes::from(container.encode(Format::MessagePack).unwrap());
    assert!(decode(bytes.to_vec()).is_err());
    let options = DecodeOptions::new().max_depth(1_000);
    assert!(Container::decode_with(Format::MessagePack, &bytes, &options).is_ok());
    let container = Container::new("x").with("v", Value::Array(vec![value]));
    for format in [Format::MessagePack, Format::Binary] {
        assert!(container.encode(format).is_err());
    }
}

#[test]
fn long_texts_and_bytes_share_the_input() {
    let text = "a text of more than twenty-three bytes";
    let container = Container::new("x").with("t", text).with("b", b"bytes");
    let bytes = Bytes::from(container.encode(Format::MessagePack).unwrap());
    let read = Container::decode(Format::MessagePack, &bytes).unwrap();
    let inside = bytes.as_ptr_range();
    assert!(inside.contains(&read.get_as::<&str>("t").unwrap().as_ptr()));
    assert!(inside.contains(&read.get_as::<&[u8]>("b").unwrap().as_ptr()));
}
