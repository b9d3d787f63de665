//! The golden vectors: containers in every format.

use network_system::ErrorCode;
use network_system::container::{Container, Format, Value};
use serde_json::{Value as Json, json};

use crate::vectors::{
    Report, bytes, decode, golden, list, model, outcome, text, with_plain_integers,
};

/// Text from which the C++ library reads something else than was written, and what happens here. All others of that
/// kind are refused.
const LOSSY_TEXT_THAT_IS_READ: &[(&str, Reading, &str)] = &[
    ("t_double", Reading::AsUpstream, "its writer has rounded"),
    (
        "t_double_denorm",
        Reading::AsUpstream,
        "its writer has rounded",
    ),
    (
        "s_spaces_around",
        Reading::AsUpstream,
        "spaces in front may have been added",
    ),
    (
        "hdr_leading_trailing_spaces",
        Reading::AsUpstream,
        "spaces around may have been added",
    ),
    (
        "s_item_injection",
        Reading::AsUpstream,
        "looks like two values from the start",
    ),
    (
        "b_ascii",
        Reading::AsUpstream,
        "its writer has left the bytes out",
    ),
    (
        "b_all256",
        Reading::AsUpstream,
        "its writer has left the bytes out",
    ),
    (
        "b_len65536",
        Reading::AsUpstream,
        "its writer has left the bytes out",
    ),
    (
        "b_looks_like_map",
        Reading::AsUpstream,
        "its writer has left the bytes out",
    ),
    ("n_unicode", Reading::Original, "the name is in the text"),
    ("n_space", Reading::Original, "the name is in the text"),
];

#[derive(Clone, Copy, PartialEq)]
enum Reading {
    Original,
    AsUpstream,
}

/// What the C++ library writes as JSON that is valid, and is refused here because the value is not in it.
const LOSSY_JSON: &[(&str, &str)] = &[
    ("t_double", "rounded to six decimals"),
    ("t_double_denorm", "rounded to zero"),
    ("b_ascii", "bytes become an empty string"),
    ("b_all256", "bytes become an empty string"),
    ("b_len65536", "bytes become an empty string"),
    ("b_looks_like_map", "bytes become an empty string"),
];

/// The same for XML that is well-formed.
const LOSSY_XML: &[(&str, &str)] = &[
    ("t_double", "rounded to six decimals"),
    ("t_double_denorm", "rounded to zero"),
    (
        "s_newlines",
        "readers of XML turn a carriage return into a line feed",
    ),
    ("b_ascii", "bytes become nothing"),
    ("b_all256", "bytes become nothing"),
    ("b_len65536", "bytes become nothing"),
    ("b_looks_like_map", "bytes become nothing"),
    ("c_nested_1", "a container becomes nothing"),
    ("c_nested_empty", "a container becomes nothing"),
    ("c_null_ptr", "a container becomes nothing"),
    ("a_empty", "an array becomes nothing"),
    ("a_mixed", "an array becomes nothing"),
    ("a_16", "an array becomes nothing"),
    ("a_of_containers", "an array becomes nothing"),
    ("a_with_siblings", "an array becomes nothing"),
];

/// What the formats without bytes in these vectors do not carry.
const REFUSED: &[(Format, &str, &str)] = &[
    (Format::Json, "s_invalid_utf8", "JSON is UTF-8"),
    (Format::Json, "t_double_special", "JSON has no such numbers"),
    (
        Format::Binary,
        "c_nested_1",
        "containers inside have no header there",
    ),
    (
        Format::Binary,
        "a_of_containers",
        "containers inside have no header there",
    ),
    (
        Format::Binary,
        "m_duplicate_names",
        "values stand under keys there",
    ),
];

#[test]
fn every_golden_container_is_written_and_read_in_every_format() {
    let Some(manifest) = golden() else { return };
    let mut report = Report::default();
    for vector in list(&manifest, "containers") {
        let name = text(vector, "name");
        let model = model(vector);
        shown(&mut report, vector, &model);
        let forms = &vector["formats"];
        for form in ["text", "text_gcc12"] {
            if form == "text" {
                let lossy = upstream(&forms[form]) == "lossy";
                let refusal = lossy.then_some("the C++ library reads something else");
                written(
                    &mut report,
                    name,
                    form,
                    Format::Text,
                    &forms[form],
                    &model,
                    refusal,
                );
            }
            text_read(&mut report, name, form, forms, &model);
        }
        written(
            &mut report,
            name,
            "msgpack",
            Format::MessagePack,
            &forms["msgpack"],
            &model,
            None,
        );
        msgpack_read(&mut report, name, &forms["msgpack"], &model);
        cpp_json(&mut report, name, &forms["json"], &model);
        xml(&mut report, name, &forms["xml"], &model);
        for (form, format) in [("json 2.0", Format::Json), ("binary", Format::Binary)] {
            round_trip(&mut report, name, form, format, &model);
        }
    }
    report.finish(59 * 11);
}

fn upstream(form: &Json) -> &str {
    text(&form["upstream_round_trip"], "result")
}

/// Typed JSON has the shape of the manifest.
fn shown(report: &mut Report, vector: &Json, model: &Container) {
    let shown = model.to_typed_json().expect("the vectors are flat enough");
    let holds = shown == json!({ "header": vector["header"], "values": vector["values"] });
    let here = if holds { "the same" } else { "different" };
    report.line(text(vector, "name"), "typed JSON", "-", here, holds);
}

fn written(
    report: &mut Report,
    name: &str,
    form: &str,
    format: Format,
    there: &Json,
    model: &Container,
    refusal: Option<&str>,
) {
    let expected = bytes(there);
    let (here, holds) = match (model.encode(format), refusal) {
        (Ok(here), None) if here == expected => ("the same bytes".into(), true),
        (Ok(_), None) => ("other bytes".into(), false),
        (Ok(_), Some(why)) => (format!("written, though {why}"), false),
        (Err(error), refusal) => {
            let names_it = !error.path().is_empty() && !error.carriers().is_empty();
            let carried = error
                .carriers()
                .iter()
                .all(|carrier| model.encode(*carrier).is_ok() || *carrier == Format::Xml);
            let why = refusal.unwrap_or("for no reason");
            (
                format!("refused, {why}: {error}"),
                refusal.is_some() && names_it && carried && error.code() == ErrorCode::NotSupported,
            )
        }
    };
    report.line(name, &format!("{form} write"), upstream(there), here, holds);
}

fn text_read(report: &mut Report, name: &str, form: &str, forms: &Json, model: &Container) {
    let there = &forms[form];
    let read = decode(Format::Text, &bytes(there));
    let result = upstream(there);
    let here = outcome(&read, model);
    let (here, holds) = if result != "lossy" {
        (here, read.as_ref() == Ok(model))
    } else {
        let listed = LOSSY_TEXT_THAT_IS_READ.iter().find(|entry| entry.0 == name);
        match (listed, &read) {
            (None, Err(_)) => (here, true),
            (Some((_, Reading::Original, why)), Ok(_)) => {
                (format!("{here}: {why}"), read.as_ref() == Ok(model))
            }
            (Some((_, Reading::AsUpstream, why)), Ok(read)) => {
                let same_as = there["upstream_round_trip"]["same_as"].as_str();
                let there = &forms[same_as.unwrap_or(form)];
                let yields = &there["upstream_round_trip"]["upstream_yields"]["parsed"];
                let same = *read == crate::vectors::model(yields);
                (format!("as there: {why}"), same && read != model)
            }
            (_, _) => (format!("{here}, which no rule says"), false),
        }
    };
    report.line(name, &format!("{form} read"), result, here, holds);
}

fn msgpack_read(report: &mut Report, name: &str, there: &Json, model: &Container) {
    let read = decode(Format::MessagePack, &bytes(there));
    let here = outcome(&read, model);
    let result = upstream(there);
    let (here, holds) = match name {
        // The form says nil, as it does for null.
        "c_null_ptr" => {
            let null = read.as_ref().ok().and_then(|read| read.get("v"));
            ("null".to_owned(), null.is_some_and(Value::is_null))
        }
        _ if result == "exact" => (here, read.as_ref() == Ok(model)),
        // What is damaged or rejected there is right here, but for the types of integers, which are not in the bytes.
        _ => {
            let same =
                read.is_ok_and(|read| with_plain_integers(&read) == with_plain_integers(model));
            (here, same)
        }
    };
    report.line(name, "msgpack read", result, here, holds);
}

fn cpp_json(report: &mut Report, name: &str, there: &Json, model: &Container) {
    let is_valid = there["valid_json"] == true;
    let listed = LOSSY_JSON.iter().find(|entry| entry.0 == name);
    let refusal = match listed {
        Some((_, why)) => Some(*why),
        None if !is_valid => Some("what it writes is no JSON"),
        None => None,
    };
    written(report, name, "json", Format::CppJson, there, model, refusal);
    let read = decode(Format::CppJson, &bytes(there));
    let (here, holds) = match refusal {
        // What was lost by its writer cannot be told from what was not.
        Some(why) if is_valid => (format!("read: {why}"), read.is_ok()),
        Some(_) => (outcome(&read, model), read.is_err()),
        None => {
            let same = read.as_ref().is_ok_and(|read| {
                with_plain_integers(read) == with_plain_integers(&with_doubles(model))
            });
            (outcome(&read, model), same)
        }
    };
    report.line(name, "json read", "no reader", here, holds);
}

/// The same container with doubles of the same six decimals in place of floats.
fn with_doubles(container: &Container) -> Container {
    let values = container.iter().map(|(name, value)| {
        let value = match value {
            Value::Float(number) => {
                Value::Double(format!("{number:.6}").parse().expect("a number"))
            }
            other => other.clone(),
        };
        (name.clone(), value)
    });
    Container::from_parts(container.header.clone(), values.collect())
}

fn xml(report: &mut Report, name: &str, there: &Json, model: &Container) {
    let listed = LOSSY_XML.iter().find(|entry| entry.0 == name);
    let refusal = match listed {
        Some((_, why)) => Some(*why),
        None if there["well_formed"] != true => Some("what it writes is not well-formed"),
        None => None,
    };
    written(report, name, "xml", Format::Xml, there, model, refusal);
    let read = decode(Format::Xml, &bytes(there));
    let holds = read
        .as_ref()
        .is_err_and(|error| error.code() == ErrorCode::NotSupported);
    report.line(name, "xml read", "no reader", outcome(&read, model), holds);
}

/// Formats without bytes in these vectors: what is written is read as the same, and what is not is refused.
fn round_trip(report: &mut Report, name: &str, form: &str, format: Format, model: &Container) {
    let (here, holds) = match model.encode(format) {
        Ok(bytes) => {
            let read = decode(format, &bytes.into());
            (outcome(&read, model), read.as_ref() == Ok(model))
        }
        Err(error) => {
            let listed = REFUSED
                .iter()
                .find(|entry| (entry.0, entry.1) == (format, name));
            let why = listed.map_or("for no reason", |entry| entry.2);
            (format!("refused, {why}: {error}"), listed.is_some())
        }
    };
    report.line(name, form, "-", here, holds);
}
