//! `netsys bench`: short runs of each mode.

use std::process::Output;

use serde_json::Value;

use crate::program::{Running, Serving, run, text};

/// When nothing was done in a moment, because the machine had other things to do.
const LONGER: &str = "5s";

/// Runs a short benchmark and returns its result and exit code.
pub(crate) fn bench(url: &str, options: &[&str]) -> (Value, Option<i32>, String) {
    let (result, code, said) = bench_for("200ms", url, options);
    match result["messages"] == 0 && result["mode"] != "idle" {
        true => bench_for(LONGER, url, options),
        false => (result, code, said),
    }
}

/// Runs the program with these arguments and this duration, or a longer one.
pub(crate) fn run_for(duration: &str, arguments: &[&str]) -> Output {
    let run_for = |duration| run(&[arguments, &["--duration", duration]].concat(), b"");
    let output = run_for(duration);
    match text(&output.stderr).contains("nothing was measured") {
        true => run_for(LONGER),
        false => output,
    }
}

pub(crate) fn bench_for(
    duration: &str,
    url: &str,
    options: &[&str],
) -> (Value, Option<i32>, String) {
    let mut all = vec![
        "bench",
        url,
        "--duration",
        duration,
        "--warmup",
        "50ms",
        "--json",
        "-",
    ];
    all.extend(options);
    let output = run(&all, b"");
    let said = text(&output.stderr);
    let result = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{said}", text(&output.stdout)));
    (result, output.status.code(), said)
}

fn check(handler: &str, options: &[&str]) -> Value {
    let server = Serving::start(&["--handler", handler]);
    let (result, code, said) = bench(&server.url, options);
    assert_eq!(
        (code, said.as_str()),
        (Some(0), ""),
        "{options:?}: {result}"
    );
    assert_eq!(result["errors"], 0, "{options:?}: {result}");
    assert_eq!(result["first_error"], Value::Null);
    result
}

#[test]
fn echo_measures_round_trips() {
    for options in [
        &[][..],
        &["--connections", "3", "--window", "16", "--threads", "2"],
        &["--size", "0"],
        &["--size", "100KiB"],
    ] {
        let result = check("echo", options);
        assert!(result["messages"].as_u64() > Some(0), "{result}");
        let latency = &result["latency_us"];
        assert!(latency["count"].as_u64() > Some(0), "{result}");
        assert!(
            latency["p50"].as_f64() <= latency["p99_9"].as_f64(),
            "{result}"
        );
        assert!(
            latency["p99_9"].as_f64() <= latency["max"].as_f64(),
            "{result}"
        );
    }
}

#[test]
fn echo_at_a_rate_sends_what_it_was_asked_for() {
    let server = Serving::start(&[]);
    // Long enough that a moment in which nothing runs is a small part of it.
    let options = ["--rate", "100", "--threads", "2"];
    let (result, code, said) = bench_for("2s", &server.url, &options);
    assert_eq!((code, said.as_str()), (Some(0), ""), "{result}");
    let messages = result["messages"].as_u64().unwrap();
    assert!((100..=250).contains(&messages), "200 are due: {result}");
    assert_eq!(
        (&result["rate"], &result["window"]),
        (&100.into(), &Value::Null)
    );
}

#[test]
fn oneway_counts_what_leaves() {
    for options in [&[][..], &["--rate", "500"]] {
        let result = check("sink", &[&["--mode", "oneway"], options].concat());
        assert!(result["messages"].as_u64() > Some(0), "{result}");
        assert_eq!(result["latency_us"], Value::Null);
    }
}

#[test]
fn connect_counts_connections() {
    let result = check("echo", &["--mode", "connect", "--connections", "3"]);
    assert!(result["messages"].as_u64() > Some(0), "{result}");
    assert!(result["latency_us"]["count"].as_u64() > Some(0), "{result}");
}

#[test]
fn idle_holds_connections() {
    let result = check("echo", &["--mode", "idle", "--connections", "20"]);
    assert_eq!(
        (&result["connected"], &result["messages"]),
        (&20.into(), &0.into())
    );
}

#[test]
fn broadcast_counts_what_arrives() {
    for options in [
        &[][..],
        &["--rate", "100"],
        &["--threads", "2", "--window", "4"],
    ] {
        let result = check("broadcast", &[&["--mode", "broadcast"], options].concat());
        assert!(result["messages"].as_u64() > Some(0), "{result}");
        assert!(result["latency_us"]["count"].as_u64() > Some(0), "{result}");
    }
}

#[test]
fn other_codecs_are_measured_too() {
    for codec in ["lines", "length"] {
        let server = Serving::with_codec(&format!("?codec={codec}"), &[]);
        let (result, code, said) = bench(&server.url, &[]);
        assert_eq!(code, Some(0), "{said}");
        assert!(result["messages"].as_u64() > Some(0), "{result}");
    }
}

#[test]
fn the_result_is_for_people_and_the_file_for_programs() {
    let server = Serving::start(&[]);
    let path = std::env::temp_dir().join(format!("netsys-bench-{}.json", std::process::id()));
    let path = path.to_str().unwrap();
    let output = run_for(
        "100ms",
        &["bench", &server.url, "--warmup", "0", "--json", path],
    );
    assert_eq!(output.status.code(), Some(0));
    let shown = text(&output.stdout);
    for word in ["throughput", "latency", "p99.9", "errors      0"] {
        assert!(shown.contains(word), "{shown}");
    }
    let written: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(written["mode"], "echo");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn without_a_server_the_exit_code_is_3() {
    for mode in ["echo", "oneway", "connect", "idle", "broadcast"] {
        let output = run(&["bench", "tcp://127.0.0.1:1", "--mode", mode], b"");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{mode}: {said}");
        assert_eq!(said.lines().count(), 1, "{mode}: {said}");
    }
}

#[test]
fn connections_that_are_refused_are_errors() {
    let server = Serving::start(&["--max-connections", "3"]);
    let (result, code, said) = bench(&server.url, &["--connections", "5"]);
    assert_eq!(code, Some(1), "{result}");
    assert_eq!(
        (&result["connected"], &result["errors"]),
        (&3.into(), &2.into()),
        "{result}"
    );
    assert!(said.contains("limit of 3 connections"), "{said}");
}

#[test]
fn a_server_that_does_not_echo_is_noticed() {
    let server = Serving::start(&["--handler", "sink"]);
    let (result, code, said) = bench(&server.url, &[]);
    assert_eq!(
        (code, &result["messages"]),
        (Some(1), &0.into()),
        "{result}"
    );
    assert!(
        said.contains("does the server run the handler echo?"),
        "{said}"
    );
}

#[test]
#[cfg(unix)]
fn an_interrupt_ends_the_run_with_what_was_measured() {
    let server = Serving::start(&["--handler", "sink"]);
    let mut client = Running::start(&[
        "bench",
        &server.url,
        "--mode",
        "oneway",
        "--duration",
        "1h",
        "--warmup",
        "0",
        "--json",
        "-",
        "--log",
        "info",
    ]);
    while !client.error_line().contains("the load begins") {}
    client.signal(rustix::process::Signal::INT);
    let ended = client.end();
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    let result: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert!(result["duration_seconds"].as_f64() < Some(60.0), "{result}");
}
