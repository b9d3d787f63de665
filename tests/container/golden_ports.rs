//! The golden vectors: what the Rust and Python ports write.

use bytes::Bytes;
use network_system::container::{Container, DecodeError, Format, TextDialect, Value};

use crate::vectors::{Report, decode, decode_text, golden, list, outcome, text};

fn header() -> Container {
    Container::new("vec_test")
        .source("src", "src_sub")
        .target("dst", "dst_sub")
}

fn all_bytes() -> Vec<u8> {
    (0..=255).collect()
}

/// What the text of the Rust port says. What it has left out is not there.
fn rust_text(name: &str) -> Option<Container> {
    Some(match name {
        "default" => Container::new("data_container"),
        "source_only" => Container::new("ping").source("cli", ""),
        "typical" => header()
            .with("count", 42)
            .with("name", "Alice")
            .with("ok", true)
            .with("pi", std::f64::consts::PI),
        // It leaves out the types that it has no symbol for.
        "numbers" => header()
            .with("l", Value::Long(-4))
            .with("ll", i64::MIN)
            .with("f", 0.25_f32),
        "bytes" => header().with("b", all_bytes()),
        "null" => header().with("n", ()),
        // The string had `];[` in it, which looks like two values from the start.
        "strings" => header().with("v", "x").with("evil", 666),
        // It writes a count for containers and arrays, and nothing of what is in them.
        "nested" => return None,
        _ => panic!("an unknown vector: {name}"),
    })
}

/// What the typed JSON of the Rust port says.
fn rust_json(name: &str) -> Container {
    match name {
        // It writes zeros for some types.
        "numbers" => header()
            .with("s", 0_i16)
            .with("us", 0_u16)
            .with("u", 0_u32)
            .with("l", Value::Long(-4))
            .with("ul", Value::ULong(0))
            .with("ll", i64::MIN)
            .with("ull", 0_u64)
            .with("f", 0.25_f32),
        "nested" => header()
            .with("c", Container::new("data_container").with("k", 7))
            .with("a", Value::from_iter([1, 2])),
        "strings" => header().with("v", "x];[evil,int_value,666"),
        other => rust_text(other).expect("the others are the same"),
    }
}

#[test]
fn what_the_rust_port_writes_is_read_right_or_refused() {
    let Some(manifest) = golden() else { return };
    let mut report = Report::default();
    for vector in list(&manifest, "rust_port") {
        let name = text(vector, "name");
        if !vector["wire"].is_string() {
            report.line(name, "-", "facts", "no bytes of a container", true);
            continue;
        }
        let wire = Bytes::from(text(vector, "wire").to_owned());
        let upstream = text(&vector["cpp_reads_wire"], "status");
        let read = decode(Format::Text, &wire);
        compare(
            &mut report,
            name,
            "text",
            upstream,
            &read,
            rust_text(name).as_ref(),
        );

        let json = text(vector, "json_v2");
        let read = decode(Format::Json, &Bytes::from(json.to_owned()));
        let expected = rust_json(name);
        compare(&mut report, name, "json 2.0", "-", &read, Some(&expected));
        let written = expected.encode(Format::Json).expect("all of it is carried");
        let same = written == json.as_bytes();
        let here = if same {
            "the same bytes"
        } else {
            "other bytes"
        };
        report.line(name, "json 2.0 write", "-", here, same);

        // Of the same outline as the C++ library's JSON, but with objects for values.
        let read = decode(
            Format::CppJson,
            &Bytes::from(text(vector, "cpp_style_json").to_owned()),
        );
        let expected = expected.is_empty().then_some(&expected);
        compare(&mut report, name, "json", "-", &read, expected);
        report.line(
            name,
            "flat json",
            "-",
            "no format of the family, not read",
            true,
        );
    }
    report.finish(8 * 5);
}

#[test]
fn what_the_python_port_writes_is_read_right_or_refused() {
    let Some(manifest) = golden() else { return };
    let mut report = Report::default();
    for vector in list(&manifest["python_port"], "vectors") {
        let name = text(vector, "name");
        let wire = Bytes::from(text(vector, "text").to_owned());
        let upstream = text(&vector["cpp_reads"], "status");
        let expected = match name {
            "empty" => header(),
            "typical" => header()
                .with("count", 42)
                .with("name", "Alice")
                .with("ok", true)
                .with("pi", std::f64::consts::PI)
                .with("big", 1_099_511_627_776_i64),
            "bytes" => header().with("b", b"Hello"),
            "item_terminator" => header().with("v", "x];[evil,4,666"),
            "nested" => header()
                .with("c", Container::new("data_container").with("k", 7))
                .with("z", 1),
            "array" => header().with("a", Value::from_iter([1, 2])),
            "null" => header().with("n", ()),
            _ => panic!("an unknown vector: {name}"),
        };
        let read = decode(Format::Text, &wire);
        // The port's escape can also be a backslash at the end of a string.
        let detected = (name != "item_terminator").then_some(&expected);
        compare(&mut report, name, "text", upstream, &read, detected);
        let read = decode_text(TextDialect::Python, &wire);
        compare(
            &mut report,
            name,
            "text, chosen",
            upstream,
            &read,
            Some(&expected),
        );
    }
    report.finish(7 * 2);
}

/// `expected` is none for what has to be refused.
fn compare(
    report: &mut Report,
    name: &str,
    form: &str,
    upstream: &str,
    read: &Result<Container, DecodeError>,
    expected: Option<&Container>,
) {
    let holds = match expected {
        Some(expected) => read.as_ref() == Ok(expected),
        None => read.is_err(),
    };
    let nothing = Container::default();
    let here = outcome(read, expected.unwrap_or(&nothing));
    report.line(name, form, upstream, here, holds);
}
