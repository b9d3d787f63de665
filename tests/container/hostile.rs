//! Input that is made to hurt: it is refused at once, without recursion and without believing what it declares.
//!
//! Where reading took quadratic time, or a stack for each level, these tests would not end, or not well.

use bytes::Bytes;
use network_system::ErrorCode;
use network_system::container::{Container, DecodeOptions, Format, TextDialect, Value};

const MIB: usize = 1 << 20;

fn refused(format: Format, input: impl Into<Bytes>) {
    refused_in(TextDialect::Detect, format, input);
}

fn refused_in(dialect: TextDialect, format: Format, input: impl Into<Bytes>) {
    let options = DecodeOptions::new().text_dialect(dialect);
    let error = Container::decode_with(format, &input.into(), &options);
    assert_eq!(
        error.map_err(|error| error.code()),
        Err(ErrorCode::InvalidFrame)
    );
}

#[test]
fn ten_mebibytes_of_brackets_and_marks_are_refused() {
    for part in [
        "[",
        "]",
        "{",
        "}",
        "\"",
        "@header=",
        "@data={{",
        "@header={{",
        "@header={{[",
        "@data={{}};",
        "[n,12,",
        "];",
        "{\"container\":",
        "[[1],",
        "{\"a\":",
        "{\"values\":{\"a\":",
        "\\",
        "0",
        " ",
    ] {
        let input = Bytes::from(part.repeat(10 * MIB / part.len()));
        for format in [Format::Text, Format::Json, Format::CppJson] {
            refused(format, input.clone());
        }
        for before in [
            "@data={{[s,12,",
            "@data={{[",
            "@data={{[n,4,1];",
            "@header={{[1,",
        ] {
            refused(Format::Text, [before.as_bytes(), &input].concat());
        }
        for before in [
            "{\"container\":{\"version\":\"2.0\",\"values\":[{\"data\":",
            "{\"more\":",
            "{\"container\":{\"values\":[{\"name\":\"",
        ] {
            refused(Format::Json, [before.as_bytes(), &input].concat());
        }
    }
}

#[test]
fn a_hundred_thousand_levels_are_refused() {
    const LEVELS: usize = 100_000;
    for dialect in [TextDialect::Python, TextDialect::CppLegacy] {
        let text = format!("@data={{{{{}}}}};", "[c,14,1];".repeat(LEVELS));
        refused_in(dialect, Format::Text, text);
    }
    let open = "{\"name\":\"c\",\"type\":14,\"data\":[".repeat(LEVELS);
    let close = "]}".repeat(LEVELS);
    let json = format!("{{\"container\":{{\"version\":\"2.0\",\"values\":[{open}{close}]}}}}");
    refused(Format::Json, json);
    let unknown = format!("{{\"more\":{}{}}}", "[".repeat(LEVELS), "]".repeat(LEVELS));
    refused(Format::Json, unknown);
}

/// Levels that are allowed are read, at the limit too.
#[test]
fn as_many_levels_as_configured_are_read() {
    let mut container = Container::new("m");
    for _ in 1..128 {
        container = Container::new("m").with("c", container);
    }
    let json = Bytes::from(container.encode(Format::Json).expect("128 levels"));
    let read = |depth| {
        let options = DecodeOptions::new().max_depth(depth);
        Container::decode_with(Format::Json, &json, &options)
    };
    assert_eq!(read(128).as_ref(), Ok(&container));
    assert!(read(127).is_err());
    assert!(container.to_typed_json().is_ok());

    let deeper = Container::new("m").with("c", container);
    assert!(deeper.encode(Format::Json).is_err());
    assert!(deeper.to_typed_json().is_err());

    let text = Bytes::from_static(b"@data={{[c,14,1];[c,14,1];[n,4,1];}};");
    for (depth, fits) in [(3, true), (2, false)] {
        let options = DecodeOptions::new()
            .text_dialect(TextDialect::Python)
            .max_depth(depth);
        assert_eq!(
            Container::decode_with(Format::Text, &text, &options).is_ok(),
            fits
        );
    }
}

#[test]
fn a_count_is_not_believed() {
    for count in [
        "18446744073709551615",
        "18446744073709551616",
        "4294967295",
        "1",
        "-1",
        "",
    ] {
        let text = format!("@data={{{{[a,15,{count}];}}}};");
        refused_in(TextDialect::Python, Format::Text, text);
    }
    let json = br#"{"container":{"version":"2.0","values":[{"name":"a","type":15,"data":[],"element_count":4294967295}]}}"#;
    refused(Format::Json, json.as_slice());
}

#[test]
fn more_values_than_configured_are_refused() {
    let container = Container::new("m").with("a", 1).with("b", 2).with("c", 3);
    for format in [Format::Text, Format::Json, Format::CppJson] {
        let bytes = Bytes::from(container.encode(format).expect("all of it is carried"));
        let read = |values| {
            let options = DecodeOptions::new().max_values(values);
            Container::decode_with(format, &bytes, &options)
        };
        assert_eq!(read(3).as_ref(), Ok(&container), "{format}");
        assert!(read(2).is_err(), "{format}");
    }
}

/// Long strings and bytes are parts of the received buffer.
#[test]
fn long_strings_are_not_copied() {
    let long = "x".repeat(1_000);
    let container = Container::new("m").with(long.as_str(), long.as_str());
    let is_part = |whole: &Bytes, part: &[u8]| whole.as_ptr_range().contains(&part.as_ptr());
    for format in [Format::Text, Format::Json, Format::CppJson] {
        let Ok(bytes) = container.encode(format) else {
            continue;
        };
        let bytes = Bytes::from(bytes);
        let read = Container::decode(format, &bytes).expect("it was written");
        for (name, value) in &read {
            assert!(is_part(&bytes, name.as_bytes()), "{format}");
            assert!(
                matches!(value, Value::String(text) if is_part(&bytes, text.as_bytes())),
                "{format}"
            );
        }
    }
}

/// The content of a container may be secret; an error shows names at most.
#[test]
fn errors_do_not_show_contents() {
    let text = "@data={{[n,4,hunter2];}};";
    let error = Container::decode(Format::Text, &text.into()).expect_err("no number");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    let container = Container::new("m").with("n", "hunter2];");
    let error = container.encode(Format::Text).expect_err("no escapes");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    assert!(error.to_string().contains("\"n\""));
}
