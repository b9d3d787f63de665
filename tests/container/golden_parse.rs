//! The golden vectors: malformed and odd inputs.

use network_system::container::{Container, Format, TextDialect, Value};
use serde_json::Value as Json;

use crate::vectors::{Report, bytes, decode, decode_text, golden, list, model, outcome, text};

/// What happens here with an input that the C++ library reads, crashes on, or refuses, where that is not the same.
enum Here {
    /// Refused.
    Refused,
    /// Read as something else: what it says.
    Reads(fn() -> Container),
}

/// Every deliberate difference, and why.
const DIFFERENCES: &[(&str, Here, &str)] = &[
    ("text_empty", Here::Refused, "nothing is not a container"),
    (
        "text_header_only",
        Here::Refused,
        "the data section is missing",
    ),
    (
        "text_missing_final_semicolon",
        Here::Refused,
        "cut short; its values are lost there",
    ),
    (
        "text_truncated_section",
        Here::Refused,
        "cut short; its values are lost there",
    ),
    (
        "text_dup_header_field",
        Here::Refused,
        "a field twice is what injection leaves behind",
    ),
    ("text_unknown_type_id", Here::Refused, "becomes null there"),
    ("text_hex_type_letters", Here::Refused, "becomes null there"),
    (
        "text_bool_variants",
        Here::Refused,
        "TRUE and yes become false there",
    ),
    (
        "text_int_trailing_junk",
        Here::Refused,
        "12abc becomes 12 there",
    ),
    ("text_int_hex", Here::Refused, "0x10 becomes 0 there"),
    (
        "text_ushort_negative",
        Here::Refused,
        "-1 becomes 65535 there",
    ),
    (
        "text_uint_negative",
        Here::Refused,
        "-1 becomes 4294967295 there",
    ),
    (
        "text_bytes_hex_text",
        Here::Refused,
        "bytes in hexadecimal, base64 or as they are: the dialect must be chosen",
    ),
    (
        "text_array_with_count",
        Here::Refused,
        "the array becomes null there",
    ),
    (
        "text_nested_section_text",
        Here::Refused,
        "the container becomes null there, later values are lost",
    ),
    (
        "text_swapped_ids",
        Here::Refused,
        "bytes and strings exchanged: the dialect must be chosen",
    ),
    (
        "text_port_dialect",
        Here::Reads(|| header().with("count", 42).with("name", "Alice")),
        "all values become null there",
    ),
    (
        "text_name_utf8",
        Here::Reads(|| header().with("이름", 1).with("c", 2)),
        "the first value is lost there",
    ),
    (
        "text_double_denormal",
        Here::Reads(|| header().with("x", f64::from_bits(1))),
        "refused there",
    ),
    (
        "text_noexcept_double_denormal",
        Here::Reads(|| header().with("x", f64::from_bits(1))),
        "crashes there",
    ),
    (
        "msgpack_truncated",
        Here::Refused,
        "the missing value becomes null there",
    ),
    (
        "msgpack_u64_over",
        Here::Reads(|| no_ids().with("a", 1).with("x", u64::MAX)),
        "refused there",
    ),
];

fn header() -> Container {
    Container::new("m").source("s", "ss").target("t", "ts")
}

fn no_ids() -> Container {
    Container::new("m")
}

/// What has no counterpart here.
const NOT_HERE: &[(&str, &str)] = &[("detect_format", "formats are configured, not guessed")];

#[test]
fn every_golden_input_is_read_right_or_refused() {
    let Some(manifest) = golden() else { return };
    let mut report = Report::default();
    for case in list(&manifest, "parse_cases") {
        let name = text(case, "name");
        let api = text(case, "api");
        let upstream = text(&case["upstream"], "status");
        if let Some((_, why)) = NOT_HERE.iter().find(|entry| entry.0 == api) {
            report.line(name, "-", upstream, why, true);
            continue;
        }
        let format = match api {
            "value_container(string,false) constructor"
            | "deserialize_result / deserialize(span) (noexcept)" => Format::Text,
            "deserialize(span, msgpack)" => Format::MessagePack,
            // `golden_binary.rs`
            "value::deserialize" | "value_store::deserialize_binary" => continue,
            _ => panic!("{name}: nothing reads by {api}"),
        };
        parse_case(&mut report, case, format, upstream);
    }
    report.finish(55);
}

fn parse_case(report: &mut Report, case: &Json, format: Format, upstream: &str) {
    let name = text(case, "name");
    let read = decode(format, &bytes(&case["input"]));
    let (here, holds) = match DIFFERENCES.iter().find(|entry| entry.0 == name) {
        Some((_, Here::Refused, why)) => match &read {
            Ok(_) => (format!("read, though {why}"), false),
            Err(error) => (format!("refused, {why}: {error}"), true),
        },
        Some((_, Here::Reads(expected), why)) => {
            let expected = expected();
            let here = outcome(&read, &expected);
            (format!("{here}; {why}"), read.as_ref() == Ok(&expected))
        }
        None if upstream == "ok" => {
            let expected = model(&case["upstream"]["parsed"]);
            (outcome(&read, &expected), read.as_ref() == Ok(&expected))
        }
        None => (outcome(&read, &Container::new("")), read.is_err()),
    };
    report.line(name, format.name(), upstream, here, holds);
}

/// Where bytes are written in several ways, the chosen dialect decides.
#[test]
fn a_chosen_dialect_decides_what_golden_inputs_mean() {
    let Some(manifest) = golden() else { return };
    let input = |name: &str| {
        let cases = list(&manifest, "parse_cases");
        let case = cases.iter().find(|case| text(case, "name") == name);
        bytes(&case.expect("the case is there")["input"])
    };
    let expected = header().with("s", "hello").with("b", b"Hello");
    let read = decode_text(TextDialect::CppLegacy, &input("text_swapped_ids"));
    assert_eq!(read.as_ref(), Ok(&expected));

    let read = decode_text(TextDialect::Cpp, &input("text_bytes_hex_text"));
    assert_eq!(read.as_ref(), Ok(&header().with("b", b"48656c6c6f")));

    let hello = header().with("x", Value::String("hello".into()));
    let read = decode_text(TextDialect::CppLegacy, &input("text_hex_type_letters"));
    assert_eq!(read.as_ref(), Ok(&hello));
}
