//! `netsys container`: showing, converting and checking containers.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::program::{Ended, Folder, netsys, run, text};
use crate::usage::check;

const FORMATS: [&str; 7] = [
    "msgpack", "text", "json", "cpp-json", "xml", "binary", "typed",
];

/// Runs `netsys container` to its end.
fn container(arguments: &[&str], stdin: &[u8]) -> (Option<i32>, Vec<u8>, String) {
    let output = run(&[&["container"][..], arguments].concat(), stdin);
    (output.status.code(), output.stdout, text(&output.stderr))
}

/// What a container is shown as.
fn show(format: &str, bytes: &[u8]) -> Value {
    let (code, shown, said) = container(&["show", "--from", format], bytes);
    assert_eq!((code, said.as_str()), (Some(0), ""), "{format}");
    serde_json::from_slice(&shown).unwrap()
}

/// A container in a format.
fn made(typed: &Value, format: &str) -> Vec<u8> {
    let arguments = ["convert", "--from", "typed", "--to", format];
    let (code, bytes, said) = container(&arguments, typed.to_string().as_bytes());
    assert_eq!((code, said.as_str()), (Some(0), ""), "{format}");
    bytes
}

fn with_values(values: Value) -> Value {
    json!({
        "header": {
            "message_type": "reading", "version": "1.0.0.0",
            "source_id": "probe", "source_sub_id": "7", "target_id": "hub", "target_sub_id": "",
        },
        "values": values,
    })
}

/// What every format can carry.
fn plain() -> Value {
    with_values(json!([
        { "name": "count", "type": "int", "type_id": 4, "value": "-42" },
        { "name": "name", "type": "string", "type_id": 12, "value": "Alice" },
        { "name": "ok", "type": "bool", "type_id": 1, "value": true },
    ]))
}

/// What the types of XML and C++-style JSON are not enough for.
fn rich() -> Value {
    with_values(json!([
        { "name": "photo", "type": "bytes", "type_id": 13, "value_base64": "AP8=" },
        { "name": "list", "type": "array", "type_id": 15, "value": [
            { "type": "int", "type_id": 4, "value": "1" },
            { "type": "string", "type_id": 12, "value": "two" },
        ] },
    ]))
}

#[test]
fn a_container_goes_through_every_format_and_stays_what_it_is() {
    for (typed, formats) in [
        (
            plain(),
            &["msgpack", "text", "json", "cpp-json", "binary", "typed"][..],
        ),
        (rich(), &["msgpack", "json", "binary", "typed"]),
    ] {
        for from in formats {
            let bytes = made(&typed, from);
            assert_eq!(show(from, &bytes), typed, "{from}");
            for to in formats {
                let arguments = ["convert", "--from", from, "--to", to];
                let (code, bytes, said) = container(&arguments, &bytes);
                assert_eq!((code, said.as_str()), (Some(0), ""), "{from} to {to}");
                assert_eq!(show(to, &bytes), typed, "{from} to {to}");
            }
        }
    }
    let xml = text(&made(&plain(), "xml"));
    assert!(xml.contains("Alice"), "{xml}");
}

#[test]
fn what_a_format_cannot_carry_is_an_error_that_says_which_can() {
    let typed = rich().to_string();
    for format in ["text", "cpp-json", "xml"] {
        let arguments = ["convert", "--from", "typed", "--to", format];
        let (code, bytes, said) = container(&arguments, typed.as_bytes());
        assert_eq!((code, &bytes[..]), (Some(1), &b""[..]), "{format}");
        assert!(said.contains("photo") && said.contains("msgpack"), "{said}");
        let (code, bytes, said) =
            container(&[&arguments[..], &["--json"]].concat(), typed.as_bytes());
        assert_eq!((code, &bytes[..]), (Some(1), &b""[..]), "{format}");
        let problem: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(problem["event"], "not_carried");
        assert_eq!(
            (&problem["path"], &problem["format"]),
            (&json!("photo"), &json!(format))
        );
        assert!(
            problem["carriers"]
                .as_array()
                .unwrap()
                .contains(&json!("msgpack"))
        );
        // The same as a question.
        let arguments = ["check", "--from", "typed", "--to", format];
        let (code, bytes, said) = container(&arguments, typed.as_bytes());
        assert_eq!((code, said.as_str()), (Some(1), ""));
        assert!(text(&bytes).starts_with("not carried"), "{}", text(&bytes));
    }
    // Without a format to carry it, it is whole, and each format is told of.
    let (code, bytes, _) = container(&["check", "--from", "typed", "--json"], typed.as_bytes());
    assert_eq!(code, Some(0));
    let checked: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(
        (&checked["ok"], &checked["values"]),
        (&json!(true), &json!(2))
    );
    assert_eq!(checked["formats"].as_array().unwrap().len(), FORMATS.len());
    let (code, said, _) = container(
        &["check", "--from", "typed", "--to", "json"],
        typed.as_bytes(),
    );
    assert_eq!(code, Some(0));
    assert!(text(&said).starts_with("ok: 2 values"), "{}", text(&said));
    // XML is only written.
    let (code, _, said) = container(&["show", "--from", "xml"], b"<container></container>");
    assert_eq!(code, Some(1));
    assert!(said.contains("xml"), "{said}");
}

#[test]
fn the_format_is_found_out_and_told() {
    // Headers of all lengths: that of the low-level form begins with its length.
    for typed in (100..400).step_by(17).map(|len: usize| {
        let mut typed = plain();
        typed["header"]["source_id"] = "x".repeat(len - 100).into();
        typed
    }) {
        for format in FORMATS.into_iter().filter(|name| *name != "xml") {
            let bytes = made(&typed, format);
            let (code, shown, said) = container(&["show"], &bytes);
            assert_eq!(
                (code, said),
                (Some(0), format!("netsys: read as {format}\n"))
            );
            let shown: Value = serde_json::from_slice(&shown).unwrap();
            assert_eq!(shown, typed, "{format}");
        }
    }
    let (code, _, said) = container(&["show", "-q"], &made(&plain(), "text"));
    assert_eq!((code, said.as_str()), (Some(0), ""));
    for bytes in [&b""[..], b"hello", b"\x00\x01\x02"] {
        let (code, _, said) = container(&["show"], bytes);
        assert_eq!(code, Some(1));
        assert!(said.contains("--from"), "{said}");
    }
}

#[test]
fn files_and_stdin_are_read_and_limits_are_kept() {
    let folder = Folder::new("container-files");
    let path = folder.path("message");
    std::fs::write(&path, made(&plain(), "msgpack")).unwrap();
    let (code, shown, _) = container(&["show", &path, "--json"], b"");
    assert_eq!(code, Some(0));
    assert_eq!(shown.iter().filter(|byte| **byte == b'\n').count(), 1);
    let (code, _, said) = container(&["show", &path, "--limit", "10"], b"");
    assert_eq!(code, Some(1));
    assert!(
        said.contains("--limit 10") && said.contains(&path),
        "{said}"
    );
    let (code, _, _) = container(&["show", "-", "--limit", "0"], &made(&plain(), "text"));
    assert_eq!(code, Some(0));
    let missing = folder.path("missing");
    let (code, _, said) = container(&["show", &missing], b"");
    assert_eq!(code, Some(1));
    assert!(said.contains(&missing), "{said}");
    for format in ["typed", "json", "msgpack"] {
        let nested = (0..4).fold(plain(), |inner, _| {
            with_values(
                json!([{ "name": "c", "type": "container", "type_id": 14, "value": inner }]),
            )
        });
        let bytes = made(&nested, format);
        let with = |depth| container(&["show", "--from", format, "--depth", depth], &bytes);
        assert_eq!(with("5").0, Some(0), "{format}: {}", with("5").2);
        let (code, _, said) = with("4");
        assert_eq!(code, Some(1), "{format}");
        assert!(said.contains("deep"), "{said}");
    }
    check(
        &["container", "show", "--from", "yaml"],
        &["--from", "`yaml`", "msgpack"],
    );
    check(&["container", "convert", "x"], &["--to", "missing"]);
    check(
        &["container", "show", "--depth", "129"],
        &["--depth", "129"],
    );
    check(
        &["container", "show", "--limit", "many"],
        &["--limit", "64KiB"],
    );
}

#[test]
fn what_a_terminal_would_obey_is_escaped() {
    let value = "a\u{1b}[31m\u{7f}\u{9b}2J";
    let typed =
        with_values(json!([{ "name": "s", "type": "string", "type_id": 12, "value": value }]));
    for more in [&[][..], &["--json"]] {
        let arguments = [&["show", "--from", "msgpack"][..], more].concat();
        let (code, shown, _) = container(&arguments, &made(&typed, "msgpack"));
        assert_eq!(code, Some(0));
        let controls = text(&shown)
            .chars()
            .filter(|c| c.is_control() && *c != '\n')
            .count();
        assert_eq!(controls, 0);
        assert_eq!(serde_json::from_slice::<Value>(&shown).unwrap(), typed);
    }
}

/// Runs the program with little memory, where that can be had.
fn confined(arguments: &[&str], stdin: &[u8]) -> Ended {
    let program = netsys(&[]);
    let mut command = match cfg!(target_os = "linux") {
        true => {
            let mut shell = std::process::Command::new("sh");
            let script = "ulimit -v 524288; exec \"$0\" \"$@\"";
            shell.args(["-c", script]).arg(program.get_program());
            shell
        }
        false => program,
    };
    let folder = Folder::new("container-hostile");
    let path = folder.path("input");
    std::fs::write(&path, stdin).unwrap();
    let output = command
        .args(arguments)
        .arg(&path)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Ended {
        code: output.status.code(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

#[test]
fn hostile_input_is_refused_in_little_time_and_memory() {
    const MIB: usize = 1024 * 1024;
    let nested_json = format!(
        "{}1{}",
        r#"{"container":{"values":[{"name":"c","type":14,"data":["#.repeat(100_000),
        "]}]}}".repeat(100_000)
    );
    // A container in a container, as many times, by their lengths.
    let mut nested = b"\x82\xa6header\x80\xa6values\x80".to_vec();
    for _ in 0..2_000 {
        let mut outer = b"\x82\xa6header\x80\xa6values\x81\xa1c\xc6".to_vec();
        outer.extend((nested.len() as u32).to_be_bytes());
        outer.extend(&nested);
        nested = outer;
    }
    for (what, input) in [
        ("brackets", vec![b'['; 10 * MIB]),
        ("objects", br#"{"values":"#.repeat(MIB)),
        ("braces", vec![b'{'; 10 * MIB]),
        ("headers", b"@header=".repeat(MIB)),
        ("data", b"@data={{".repeat(MIB)),
        ("items", [&b"@data={{"[..], &b"[a,15,".repeat(MIB)].concat()),
        ("quotes", [&b"{\""[..], &b"\\".repeat(10 * MIB)].concat()),
        ("json", nested_json.into_bytes()),
        (
            "arrays",
            [
                &b"\x82\xa6header\x80\xa6values\x81\xa1a"[..],
                &b"\x91".repeat(10 * MIB),
            ]
            .concat(),
        ),
        ("containers", nested),
        (
            "declared",
            b"\x82\xa6header\x80\xa6values\xdf\xff\xff\xff\xff\xa1a\xdd\xff\xff\xff\xff".to_vec(),
        ),
        ("binary", [&[0xff; 4][..], b"{", &[0xff; 64]].concat()),
    ] {
        for from in FORMATS {
            let begun = Instant::now();
            let ended = confined(&["container", "show", "--from", from], &input);
            assert_eq!(ended.code, Some(1), "{what} as {from}: {}", ended.stderr);
            assert_eq!(ended.stdout, "");
            assert_eq!(
                ended.stderr.lines().count(),
                1,
                "{what} as {from}: {}",
                ended.stderr
            );
            assert!(ended.stderr.len() < 1_000, "{what} as {from}");
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{what} as {from}"
            );
        }
        // What is wrong is said as data.
        let ended = confined(&["container", "check", "--json"], &input);
        assert_eq!(ended.code, Some(1), "{what}: {}", ended.stderr);
    }
}

/// The golden vectors, where they stand beside the checkout.
#[test]
fn golden_vectors_are_shown_as_their_values() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/container");
    let Ok(manifest) = std::fs::read(folder.join("manifest.json")) else {
        assert!(std::env::var_os("CI").is_none(), "no {}", folder.display());
        return;
    };
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let mut seen = 0;
    for vector in manifest["containers"].as_array().unwrap() {
        let typed = json!({ "header": vector["header"], "values": vector["values"] });
        for format in ["msgpack", "text"] {
            let golden = &vector["formats"][format];
            if golden["upstream_round_trip"]["result"] != "exact" {
                continue;
            }
            let bytes = from_base64(golden["base64"].as_str().unwrap());
            assert_eq!(
                show(format, &bytes),
                typed,
                "{} as {format}",
                vector["name"]
            );
            assert_eq!(
                made(&typed, format),
                bytes,
                "{} to {format}",
                vector["name"]
            );
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen}");
}

fn from_base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let digit = DIGITS.iter().position(|digit| *digit == byte).unwrap();
        bits = bits << 6 | digit as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
