//! The golden vectors: the low-level binary form of the C++ library's inner classes.

use bytes::Bytes;
use network_system::container::binary::{self, Data, Entries, Item};
use network_system::container::{Container, DecodeOptions, Format, Value};
use serde_json::{Value as Json, json};

use crate::vectors::{Report, bytes, golden, list, model, text};

#[test]
fn every_golden_item_is_written_and_read() {
    let Some(manifest) = golden() else { return };
    let mut report = Report::default();
    let options = DecodeOptions::default();
    for vector in list(&manifest, "low_level_binary") {
        let name = text(vector, "name");
        let upstream = text(vector, "upstream_round_trip");
        let there = hex(text(&vector["binary"], "hex"));
        let mut here = Vec::new();
        let (written, read) = match text(vector, "kind") {
            "value" => {
                let item = item(&vector["value"]);
                let written = item.encode_into(&mut here).is_ok();
                (
                    written,
                    Item::decode(&there, &options).as_ref() == Ok(&item),
                )
            }
            "thread_safe_container" => {
                let entries = entries(&vector["value"]);
                let written = binary::encode_entries(&entries, &mut here).is_ok();
                let read = binary::decode_entries(&there, &options);
                (written, read.as_ref() == Ok(&entries))
            }
            "value_store" => {
                let entries = entries(&vector["value"]);
                let written = binary::encode_store(&entries, &mut here).is_ok();
                let read = binary::decode_store(&there, &options);
                (written, read.as_ref() == Ok(&entries))
            }
            "message_container" => {
                message(&mut report, vector, &there);
                continue;
            }
            other => panic!("an unknown kind: {other}"),
        };
        let same = written && here == there;
        let shown = |holds: bool, yes| if holds { yes } else { "something else" };
        report.line(
            name,
            "binary write",
            "-",
            shown(same, "the same bytes"),
            same,
        );
        report.line(name, "binary read", upstream, shown(read, "exact"), read);
    }
    report.finish(22 * 2);
}

/// The library forgets to escape a quote in the header, and reads nothing of it. Here it is escaped, and such a header
/// refused.
fn message(report: &mut Report, vector: &Json, there: &Bytes) {
    let name = text(vector, "name");
    let there_says = text(vector, "upstream_round_trip");
    let read = Container::decode(Format::Binary, there);
    let here = "refused, the header is no JSON";
    report.line(name, "binary read", there_says, here, read.is_err());

    let fields = &vector["value"];
    let container = Container::new(text(fields, "message_type"))
        .source(text(fields, "source_id"), "")
        .target(text(fields, "target_id"), "");
    let written = Bytes::from(container.encode(Format::Binary).expect("all is carried"));
    let quote = b"s\"q";
    let escaped = b"s\\\"q";
    let unescaped = replace(&written[4..], escaped, quote);
    let holds = unescaped == there[4..]
        && Container::decode(Format::Binary, &written).as_ref() == Ok(&container);
    report.line(
        name,
        "binary write",
        "-",
        "the same but for an escape",
        holds,
    );
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    match bytes.windows(from.len()).position(|part| part == from) {
        Some(at) => [&bytes[..at], to, &bytes[at + from.len()..]].concat(),
        None => bytes.to_vec(),
    }
}

#[test]
fn every_golden_binary_input_is_read_right_or_refused() {
    let Some(manifest) = golden() else { return };
    let mut report = Report::default();
    let options = DecodeOptions::default();
    for case in list(&manifest, "parse_cases") {
        let name = text(case, "name");
        let upstream = text(&case["upstream"], "status");
        let input = bytes(&case["input"]);
        let read = match text(case, "api") {
            "value::deserialize" => Item::decode(&input, &options).map(Some),
            "value_store::deserialize_binary" => {
                binary::decode_store(&input, &options).map(|_| None)
            }
            _ => continue,
        };
        let (here, holds) = match (name, &read) {
            ("value_trailing" | "store_trailing", Err(error)) => {
                (format!("refused, something follows: {error}"), true)
            }
            ("value_llong", Ok(Some(item))) => (
                "an llong, which becomes a long there".into(),
                item.data == Data::Scalar(Value::LLong(5)),
            ),
            (_, Err(error)) => (format!("refused: {error}"), upstream != "ok"),
            (_, Ok(_)) => ("read".into(), false),
        };
        report.line(name, "binary", upstream, here, holds);
    }
    report.finish(12);
}

fn item(json: &Json) -> Item {
    let data = match text(json, "type") {
        "container" => Data::Container(json["value"].is_object().then(|| entries(&json["value"]))),
        "array" => Data::Array(list(json, "value").iter().map(item).collect()),
        _ => {
            // The reader of typed JSON wants a container around it.
            let container = model(&json!({ "values": [json] }));
            let values = container.into_parts().1;
            Data::Scalar(values.into_iter().next().expect("one value").1)
        }
    };
    Item {
        name: text(json, "name").into(),
        data,
    }
}

/// One entry at most, as the order of more is not told.
fn entries(json: &Json) -> Entries {
    let entries = json.as_object().expect("entries are an object");
    assert!(entries.len() <= 1, "the order matters");
    let entries = entries.iter().map(|(key, value)| (key.into(), item(value)));
    entries.collect()
}

fn hex(digits: &str) -> Bytes {
    let pairs = digits.as_bytes().chunks(2);
    let pairs = pairs.map(|pair| {
        let pair = std::str::from_utf8(pair).expect("digits");
        u8::from_str_radix(pair, 16).expect("hexadecimal digits")
    });
    pairs.collect::<Vec<u8>>().into()
}
