//! The project's own vectors, in `tests/vectors/container`.

use std::path::Path;

use bytes::Bytes;
use network_system::container::{Container, DecodeOptions, Format, TextDialect};
use serde_json::Value as Json;

use crate::vectors::{list, model, text};

#[test]
fn text_vectors_hold() {
    run(include_str!("../vectors/container/text.json"));
}

#[test]
fn json_vectors_hold() {
    run(include_str!("../vectors/container/json.json"));
}

#[test]
fn cpp_json_vectors_hold() {
    run(include_str!("../vectors/container/cpp-json.json"));
}

#[test]
fn xml_vectors_hold() {
    run(include_str!("../vectors/container/xml.json"));
}

#[test]
fn msgpack_vectors_hold() {
    run(include_str!("../vectors/container/msgpack.json"));
}

#[test]
fn every_file_of_vectors_is_run() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/container");
    let files = std::fs::read_dir(folder).expect("the folder is there");
    let names = files.map(|file| file.expect("a file").file_name());
    let count = names
        .filter(|name| name.to_string_lossy().ends_with(".json"))
        .count();
    assert_eq!(count, 5);
}

fn run(file: &str) {
    let file: Json = serde_json::from_str(file).expect("the vectors are JSON");
    let format: Format = text(&file, "format").parse().expect("a format");
    let mut failures = Vec::new();
    for vector in list(&file, "vectors") {
        if let Err(why) = check(format, vector) {
            failures.push(format!("{format}, {}: {why}", text(vector, "name")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn check(format: Format, vector: &Json) -> Result<(), String> {
    let only = vector["only"].as_str();
    if only == Some("unwritable") {
        return match model(&vector["container"]).encode(format) {
            Ok(_) => Err("it was written".into()),
            Err(error) if error.path() != text(vector, "path") => Err(error.to_string()),
            Err(_) => Ok(()),
        };
    }
    let bytes = bytes(vector);
    let options = DecodeOptions::new().text_dialect(dialect(vector));
    let read = || Container::decode_with(format, &bytes, &options);
    if only == Some("refused") {
        let at = vector["at"].as_u64();
        return match read() {
            Ok(_) => Err("it was read".into()),
            Err(error) if at.is_some_and(|at| at != error.position() as u64) => {
                Err(error.to_string())
            }
            Err(_) => Ok(()),
        };
    }
    let model = model(&vector["container"]);
    if only != Some("read") {
        let written = model.encode(format).map_err(|error| error.to_string())?;
        if written != bytes {
            return Err(format!("written as {}", written.escape_ascii()));
        }
    }
    if only != Some("write") {
        let read = read().map_err(|error| error.to_string())?;
        if read != model {
            return Err(format!("read as {read:?}"));
        }
    }
    Ok(())
}

fn bytes(vector: &Json) -> Bytes {
    match vector["text"].as_str() {
        Some(text) => text.to_owned().into(),
        None => {
            let digits = text(vector, "hex").as_bytes();
            let pairs = digits.chunks(2).map(|pair| {
                let pair = std::str::from_utf8(pair).expect("digits");
                u8::from_str_radix(pair, 16).expect("hexadecimal digits")
            });
            pairs.collect::<Vec<u8>>().into()
        }
    }
}

fn dialect(vector: &Json) -> TextDialect {
    match text(vector, "dialect") {
        "" => TextDialect::Detect,
        "cpp" => TextDialect::Cpp,
        "cpp-legacy" => TextDialect::CppLegacy,
        "python" => TextDialect::Python,
        "ports" => TextDialect::Ports,
        other => panic!("an unknown dialect: {other}"),
    }
}
