//! The soak for a moment: every part of the load does something, and nothing is left of it.

use std::process::Command;

use serde_json::Value;

fn soak(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_soak"))
        .args(arguments)
        .output()
        .expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn a_mixed_load_leaves_nothing_behind() {
    let (code, lines, said) = soak(&["--duration", "10s", "--clients", "40", "--json"]);
    assert_eq!(code, Some(0), "{lines}{said}");
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON object in a line"))
        .collect();
    let (verdict, samples) = lines.split_last().expect("there are lines");
    assert_eq!(
        (&verdict["type"], &verdict["is_well"]),
        (&"verdict".into(), &true.into())
    );
    assert!(samples.len() >= 8, "{}", samples.len());
    assert!(samples.iter().all(|sample| sample["type"] == "sample"));
    let first = &samples[0]["server"];
    assert!(first["process"]["resident_bytes"].as_u64() > Some(0));
    assert!(verdict["load"]["echoes"].as_u64() > Some(100), "{verdict}");
}

#[test]
fn bad_options_are_named() {
    for (arguments, expected) in [
        (&["--duration", "10"][..], "--duration"),
        (&["--duration", "1s"], "at least 5s"),
        (&["--clients", "0"], "--clients"),
        (&["--seed", "x"], "--seed"),
        (&["now"], "\"now\""),
    ] {
        let (code, _, said) = soak(arguments);
        assert_eq!(code, Some(2), "{arguments:?}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}
