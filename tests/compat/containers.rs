use network_system::container::{DecodeOptions, Format};

use super::container_system::*;
use super::*;

#[test]
fn a_header_is_set_read_and_exchanged() {
    let mut container = value_container::new();
    assert_eq!(container.message_type(), "data_container");
    container.set_source("client", "main");
    container.set_target("server", "handler");
    container.set_message_type("login");
    container.set_value("user", "ada");
    let copy = container.copy(true);
    assert_eq!(copy, container);
    container.swap_header();
    assert_eq!(container.source_id(), "server");
    assert_eq!(container.source_sub_id(), "handler");
    assert_eq!(container.target_id(), "client");
    assert_eq!(container.target_sub_id(), "main");
    assert_eq!(container.version(), "1.0.0.0");
    let empty = container.copy(false);
    assert_eq!(empty.message_type(), "login");
    assert!(empty.values().is_empty());
}

#[test]
fn values_keep_their_order_and_names_may_stand_there_twice() {
    let mut container = create_container();
    container.set_values([value::new("b", 1), value::new("a", 2)]);
    container.add(value::new("b", 3));
    container.add_value(value::new("c", true));
    let names = |container: &value_container| {
        let values = container.values();
        values
            .iter()
            .map(|value| value.name().to_string_lossy().into_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&container), ["b", "a", "b", "c"]);
    assert_eq!(container.value_array("b").len(), 2);
    let first = container.get_value("b").expect("it is there");
    assert_eq!(first.to_int(), Ok(1));
    container.set_value("b", 4);
    assert!(container.remove("a"));
    assert!(!container.remove("a"));
    assert_eq!(names(&container), ["b", "b", "c"]);
    assert_eq!(container.get_string("b").as_deref(), Some("4"));
    assert_eq!(container.get_string("nobody"), None);
    container.clear_values();
    assert!(container.values().is_empty());
}

#[test]
fn a_factory_makes_each_type_from_its_text_or_says_why_not() {
    for (made_as, text) in [
        (bool_value, "true"),
        (short_value, "-32768"),
        (ushort_value, "65535"),
        (int_value, "-2147483648"),
        (uint_value, "4294967295"),
        (long_value, "-9223372036854775808"),
        (ulong_value, "18446744073709551615"),
        (llong_value, "9223372036854775807"),
        (ullong_value, "18446744073709551615"),
        (float_value, "0.5"),
        (double_value, "1.25"),
        (string_value, "any text"),
        (null_value, ""),
    ] {
        let made = value_factory::create("x", made_as, text).expect("it is of the type");
        assert_eq!(
            (made.value_type(), made.to_string()),
            (made_as, text.into())
        );
    }
    let bytes = value_factory::create("x", bytes_value, "abc").expect("any text has bytes");
    assert_eq!(bytes.to_bytes(), Ok(b"abc".to_vec()));
    assert_eq!(bytes.to_string(), "YWJj");
    assert_eq!((int16_value, uint16_value), (short_value, ushort_value));
    assert_eq!((int32_value, uint32_value), (int_value, uint_value));
    assert_eq!((int64_value, uint64_value), (llong_value, ullong_value));

    for (wrong, text) in [
        (short_value, "70000"),
        (int_value, "4x"),
        (uint_value, "-1"),
        (bool_value, "yes"),
        (null_value, "nothing"),
        (float_value, "1e39"),
        (double_value, "1e400"),
    ] {
        let refused = value_factory::create("x", wrong, text).expect_err("it does not fit");
        assert_eq!(refused.code, error_codes::request_failed);
        assert!(!refused.message.contains(text), "contents may be secret");
    }
    let refused = value_factory::create("x", array_value, "1").expect_err("no text is an array");
    assert_eq!(refused.code, error_codes::not_supported);
}

#[test]
fn conversions_refuse_what_they_would_damage() {
    let large = value::new("n", 5_000_000_000_u64);
    assert_eq!(large.to_llong(), Ok(5_000_000_000));
    assert_eq!(large.to_int64(), large.to_long());
    let refused = large.to_int32().expect_err("32 bits do not hold it");
    assert_eq!(refused.code, error_codes::request_failed);
    assert!(refused.message.contains("\"n\""), "{refused}");
    assert!(value::new("n", -1).to_ulong().is_err());
    assert!(value::new("n", u64::MAX).to_double().is_err());
    assert!(value::new("n", "1e400").to_double().is_err());
    assert!(value::new("n", 1e300).to_float().is_err());
    assert!(value::new("n", "1e300").to_float().is_err());
    assert_eq!(value::new("n", "inf").to_float(), Ok(f32::INFINITY));
    assert_eq!(value::new("n", 7).to_double(), Ok(7.0));
    assert_eq!(value::new("n", "42").to_short(), Ok(42));
    assert_eq!(value::new("n", "2.5").to_float(), Ok(2.5));
    assert_eq!(value::new("n", 0).to_boolean(), Ok(false));
    assert_eq!(value::new("n", "true").to_boolean(), Ok(true));
    assert!(value::new("n", "maybe").to_boolean().is_err());
    assert!(value::new("n", 1.5).to_int().is_err());
    assert!(value::new("n", 1.5).to_bytes().is_err());
    assert!(value::new("n", ()).is_null());

    let mut inner = value_container::new();
    inner.set_value("a", 1);
    inner.set_value("b", 2);
    let nested = value::new("inner", network_system::container::Container::from(inner));
    assert_eq!(
        (nested.child_count(), nested.to_string()),
        (2, "2".to_owned())
    );
    assert_eq!(nested.children()[1].name(), "b");
    assert!(nested.to_int().is_err());
    let shown = format!("{:?}", value::new("password", "hunter2"));
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn containers_are_read_and_written_in_the_format_that_was_named() {
    let mut container = create_container();
    container.set_message_type("request");
    container.set_value("type", "request");
    container.set_value("count", 3);
    let binary = container.serialize_to_binary().expect("it is carried");
    assert_eq!(container.serialize_array().as_ref(), Ok(&binary));
    assert_eq!(
        deserialize_from_binary(binary.clone()),
        Ok(container.clone())
    );
    let mut other = value_container::new();
    other.deserialize(binary.clone()).expect("it is one");
    assert_eq!(other, container);
    let refused = other.deserialize(&b"garbage"[..]);
    assert_eq!(refused.error().code, error_codes::invalid_frame);
    assert_eq!(other, container, "it stays as it was");

    let text = container.serialize_as(Format::Text).expect("it is carried");
    assert!(text.starts_with(b"@header="));
    let read = value_container::from_serialized_as(Format::Text, text.clone());
    assert_eq!(read, Ok(container.clone()));
    assert!(
        value_container::from_serialized(text).is_err(),
        "not guessed"
    );
    let json = container.to_json().expect("it is carried");
    assert!(json.contains("\"count\":3"), "{json}");
    let xml = container.to_xml().expect("it is carried");
    assert!(xml.contains("<count>3</count>"), "{xml}");
    container.add(value::new("photo", b"\x00\xff"));
    let refused = container.serialize_as(Format::Text);
    assert_eq!(
        refused.as_ref().err().map(|error| error.code),
        Some(error_codes::not_supported)
    );

    let factory = value_factory::with_format(Format::MessagePack)
        .limits(DecodeOptions::default().max_values(1));
    assert_eq!(factory.serialize(&other), Ok(binary.clone()));
    assert!(factory.deserialize(binary).is_err(), "two values");
}
