#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use proptest::prelude::*;

use super::*;
use crate::container::tests::any_container;
use crate::container::{Container, Header, Value};

/// The container as this form can carry it: no headers inside, names once, a header in UTF-8.
fn carried(container: Container, is_outermost: bool) -> Container {
    let (header, values) = container.into_parts();
    let text = |text: Text| Text::from(text.to_string_lossy().into_owned());
    let header = match is_outermost {
        true => Header {
            source: text(header.source),
            source_sub: text(header.source_sub),
            target: text(header.target),
            target_sub: text(header.target_sub),
            message_type: text(header.message_type),
            version: text(header.version),
        },
        false => Header::default(),
    };
    let mut carried = Container::from_parts(header, Vec::new());
    for (name, value) in values {
        carried.set(name, carried_value(value));
    }
    carried
}

fn carried_value(value: Value) -> Value {
    match value {
        Value::Container(Some(inner)) => carried(*inner, false).into(),
        Value::Array(values) => values.into_iter().map(carried_value).collect(),
        other => other,
    }
}

fn decode(input: &[u8]) -> Result<Container, DecodeError> {
    Container::decode(Format::Binary, &Bytes::copy_from_slice(input))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_again(container in any_container()) {
        let container = carried(container, true);
        let bytes = container.encode(Format::Binary).unwrap();
        prop_assert_eq!(decode(&bytes).unwrap(), container);
    }

    #[test]
    fn what_cannot_be_carried_is_an_error_and_nothing_else(container in any_container()) {
        if let Ok(bytes) = container.encode(Format::Binary) {
            prop_assert_eq!(decode(&bytes).unwrap(), container);
        }
    }

    #[test]
    fn part_of_a_container_is_an_error(container in any_container(), at in any::<prop::sample::Index>()) {
        let mut bytes = carried(container, true).encode(Format::Binary).unwrap();
        bytes.truncate(at.index(bytes.len()));
        prop_assert!(decode(&bytes).is_err());
    }
}

#[test]
fn items_entries_and_stores_are_the_bytes_of_the_description() {
    let options = DecodeOptions::default();
    let seven = Item {
        name: Text::new(),
        data: Data::Scalar(Value::Int(7)),
    };
    let element = Item {
        name: "e".into(),
        data: Data::Scalar("x".into()),
    };
    let item = Item {
        name: "a".into(),
        data: Data::Array(vec![seven.clone(), element]),
    };
    let mut bytes = Vec::new();
    item.encode_into(&mut bytes).unwrap();
    assert_eq!(
        bytes,
        b"\x01\0\0\0a\x0f\x02\0\0\0\0\0\0\0\x04\x07\0\0\0\x01\0\0\0e\x0c\x01\0\0\0x"
    );
    assert_eq!(Item::decode(&bytes.into(), &options), Ok(item));

    let entries = vec![(Text::from("k"), seven)];
    let expected = b"\x01\0\0\0\x01\0\0\0k\x09\0\0\0\0\0\0\0\x04\x07\0\0\0";
    let mut bytes = Vec::new();
    encode_entries(&entries, &mut bytes).unwrap();
    assert_eq!(bytes, expected);
    assert_eq!(
        decode_entries(&bytes.into(), &options).as_ref(),
        Ok(&entries)
    );
    let mut bytes = Vec::new();
    encode_store(&entries, &mut bytes).unwrap();
    assert_eq!(bytes, [b"\x01", &expected[..]].concat());
    assert_eq!(decode_store(&bytes.into(), &options), Ok(entries));
}

#[test]
fn a_header_is_json_with_escapes() {
    let container = Container::new("hello").source("s\"q", "").target("t", "");
    let bytes = container.encode(Format::Binary).unwrap();
    let json = br#"{"source_id":"s\"q","source_sub_id":"","target_id":"t","target_sub_id":"","message_type":"hello","version":"1.0.0.0"}"#;
    let expected = [
        &(json.len() as u32).to_le_bytes()[..],
        json,
        b"\x01\0\0\0\0",
    ]
    .concat();
    assert_eq!(bytes, expected);
    assert_eq!(decode(&bytes), Ok(container));
}

#[test]
fn what_the_form_has_no_place_for_is_refused() {
    let typed = Container::new("typed");
    let cases = [
        (Container::new("x").with("a", 1).with("a", 2), "a"),
        (Container::new("x").with("c", typed), "c"),
        (Container::new(&b"\xff"[..]), "message_type"),
    ];
    for (container, path) in cases {
        let error = container.encode(Format::Binary).unwrap_err();
        assert_eq!(error.path(), path);
        assert!(error.carriers().contains(&Format::MessagePack));
    }
    let item = Item {
        name: Text::new(),
        data: Data::Scalar(Value::Array(Vec::new())),
    };
    assert!(item.encode_into(&mut Vec::new()).is_err());
}

#[test]
fn malformed_items_are_errors() {
    let options = DecodeOptions::default();
    let cases: [&[u8]; 9] = [
        b"",
        b"\0\0\0\0",
        b"\xfb\xff\xff\xff\x04\0\0\0\0",
        b"\x01\0\0\0n\x10",
        b"\x01\0\0\0n\x0c\xff\xff\xff\xffabc",
        b"\x01\0\0\0n\x01\x01zzz",
        b"\x01\0\0\0n\x0f\xff\xff\xff\xff",
        b"\x01\0\0\0n\x0e\x05\0\0\0\0\0\0\0\0",
        b"\x01\0\0\0n\x0e\x03\0\0\0\0\0\0",
    ];
    for input in cases {
        assert!(
            Item::decode(&Bytes::from_static(input), &options).is_err(),
            "{input:?}"
        );
    }
    for input in [
        &b"\x02\0\0\0\0"[..],
        b"\0\0\0\0",
        b"\x01\x05\0\0\0",
        b"\x01\0\0\0\0zz",
    ] {
        let input = Bytes::copy_from_slice(input);
        assert!(decode_store(&input, &options).is_err(), "{input:?}");
    }
}

#[test]
fn names_that_a_container_has_no_place_for_are_errors() {
    let header = b"\x02\0\0\0{}";
    let entry = |key: &[u8], own: &[u8]| {
        let item = [&[own.len() as u8, 0, 0, 0], own, b"\0"].concat();
        let lengths = [key.len() as u8, item.len() as u8];
        [&[lengths[0], 0, 0, 0], key, &[lengths[1], 0, 0, 0], &item].concat()
    };
    let store = |entries: &[Vec<u8>]| {
        [
            header,
            &[1, entries.len() as u8, 0, 0, 0][..],
            &entries.concat(),
        ]
        .concat()
    };
    assert!(decode(&store(&[entry(b"k", b""), entry(b"l", b"l")])).is_ok());
    assert!(decode(&store(&[entry(b"k", b"other")])).is_err());
    assert!(decode(&store(&[entry(b"k", b""), entry(b"k", b"")])).is_err());
}

#[test]
fn a_hundred_thousand_levels_are_an_error_at_once() {
    let mut input = Vec::new();
    for _ in 0..100_000 {
        input.extend_from_slice(b"\0\0\0\0\x0f\x01\0\0\0");
    }
    let error = Item::decode(&input.into(), &DecodeOptions::default()).unwrap_err();
    assert!(error.to_string().starts_with("nested too deep"));
}
