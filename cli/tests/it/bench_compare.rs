//! `netsys bench --compare`: what is a regression, and what cannot be compared.

use serde_json::{Value, json};

use crate::bench::bench;
use crate::program::{Folder, Serving, run, text};
use crate::usage::check;

/// A server, and a result of it that tests change and write as baselines.
struct Measured {
    server: Serving,
    folder: Folder,
    result: Value,
}

impl Measured {
    fn new(name: &str) -> Self {
        let server = Serving::start(&[]);
        let (result, code, said) = bench(&server.url, &[]);
        assert_eq!(code, Some(0), "{said}");
        Measured {
            server,
            folder: Folder::new(name),
            result,
        }
    }

    /// Runs the same again, against these results.
    fn compare(&self, baseline: &[Value], options: &[&str]) -> (Value, Option<i32>, String) {
        let path = self.write(baseline);
        let options = [&["--compare", &path][..], options].concat();
        bench(&self.server.url, &options)
    }

    fn write(&self, baseline: &[Value]) -> String {
        let path = self.folder.path("baseline.json");
        let lines: Vec<_> = baseline.iter().map(Value::to_string).collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        path
    }

    /// The result with other figures.
    fn with(&self, rate: f64, latency: f64) -> Value {
        with(&self.result, rate, latency)
    }

    /// A baseline that every run keeps up with.
    fn humble(&self) -> Value {
        humble(&self.result)
    }
}

/// A result with other figures.
fn with(result: &Value, rate: f64, latency: f64) -> Value {
    let mut result = result.clone();
    let old = result["messages_per_second"].as_f64().unwrap();
    result["messages_per_second"] = (old * rate).into();
    for name in ["p50", "p95", "p99", "p99_9"] {
        let old = result["latency_us"][name].as_f64().unwrap();
        result["latency_us"][name] = (old * latency).into();
    }
    result
}

/// A run of 200 ms on a busy machine says little: one may be a hundred times as fast as the next. So this is far below.
fn humble(result: &Value) -> Value {
    with(result, 1e-3, 1e3)
}

const WIDE: [&str; 4] = ["--tolerance", "80", "--latency-tolerance", "900"];

#[test]
fn what_is_no_worse_is_no_regression() {
    let measured = Measured::new("compare-same");
    let (result, code, said) = measured.compare(&[measured.humble()], &WIDE);
    assert_eq!((code, said.as_str()), (Some(0), ""), "{result}");
    let comparison = &result["comparison"];
    assert_eq!(comparison["regression"], false, "{comparison}");
    assert_eq!(comparison["baseline"]["runs"], 1);
    let names: Vec<_> = comparison["figures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "messages_per_second",
            "p50",
            "p95",
            "p99",
            "p99_9",
            "errors"
        ]
    );
}

#[test]
fn less_throughput_or_more_latency_is_a_regression() {
    let measured = Measured::new("compare-worse");
    for (baseline, name, shown) in [
        (measured.with(1e6, 1.0), "messages_per_second", "messages/s"),
        (measured.with(1.0, 1e-6), "p99", "p99"),
    ] {
        let (result, code, said) = measured.compare(&[baseline], &WIDE);
        assert_eq!(code, Some(5), "{result}");
        assert!(
            said.contains("regression") && said.contains(shown),
            "{said}"
        );
        let figures = result["comparison"]["figures"].as_array().unwrap();
        let row = figures.iter().find(|row| row["name"] == name).unwrap();
        assert_eq!(
            (&row["verdict"], &row["regression"]),
            (&"worse".into(), &true.into())
        );
    }
}

#[test]
fn a_baseline_of_a_much_higher_rate_is_a_regression_without_options() {
    let measured = Measured::new("compare-higher");
    let path = measured.write(&[measured.with(1e3, 1.0)]);
    let output = run(
        &[
            "bench",
            &measured.server.url,
            "--duration",
            "200ms",
            "--compare",
            &path,
        ],
        b"",
    );
    assert_eq!(output.status.code(), Some(5));
    let shown = text(&output.stdout);
    for word in ["old", "new", "change", "messages/s", "p99.9", "regression"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    assert_eq!(text(&output.stderr).lines().count(), 1);
}

#[test]
fn errors_that_were_not_there_are_a_regression() {
    // A server for each run: how soon it forgets the connections of the run before must not matter.
    let few = || Serving::start(&["--max-connections", "3"]);
    let folder = Folder::new("compare-errors");
    let path = folder.path("baseline.json");
    let options = [
        "--connections",
        "5",
        "--tolerance",
        "99",
        "--latency-tolerance",
        "1000",
    ];
    let (result, code, _) = bench(&few().url, &options[..2]);
    assert_eq!(code, Some(1), "{result}");
    let mut result = humble(&result);
    for (errors, expected) in [(0, Some(5)), (2, Some(1))] {
        result["errors"] = errors.into();
        std::fs::write(&path, result.to_string()).unwrap();
        let options = [&options[..], &["--compare", &path]].concat();
        let (_, code, said) = bench(&few().url, &options);
        assert_eq!(code, expected, "{said}");
        assert!(said.contains("limit of 3 connections"), "{said}");
    }
}

#[test]
fn of_several_results_the_median_counts() {
    let measured = Measured::new("compare-median");
    let mut other = measured.with(1e6, 1e-6);
    other["size"] = json!(1024);
    // One run that was lucky decides nothing.
    let baseline = [
        measured.humble(),
        other,
        measured.with(1e6, 1e-6),
        measured.humble(),
    ];
    let options = [&WIDE[..], &["--repeat", "2"]].concat();
    let (result, code, said) = measured.compare(&baseline, &options);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(result["comparison"]["baseline"]["runs"], 3);
    assert_eq!(result["runs"].as_array().unwrap().len(), 2);
}

#[test]
fn what_is_not_in_the_baseline_is_refused_before_anything_is_measured() {
    let folder = Folder::new("compare-case");
    let path = folder.path("baseline.json");
    let result = json!({
        "url": "tcp://127.0.0.1:7600", "mode": "echo", "connections": 10, "threads": 1,
        "size": 64, "window": 1, "rate": null, "pipeline": [], "duration_seconds": 1.0,
        "connected": 10, "messages": 5, "messages_per_second": 5.0, "errors": 0,
        "latency_us": null,
    });
    std::fs::write(&path, result.to_string()).unwrap();
    // Nobody listens there, and it would be exit code 3.
    let refused = |url: &str, options: &[&str], words: &[&str]| {
        let all = [&["bench", url, "--compare", &path][..], options].concat();
        check(&all, &[words, &["--compare", "baseline.json"]].concat());
    };
    let url = "tcp://127.0.0.1:1";
    refused(url, &["--connections", "3"], &["connections (10, not 3)"]);
    refused(
        url,
        &["--rate", "50"],
        &["window (1, not none)", "rate (none, not 50)"],
    );
    refused(
        url,
        &["--size", "1KiB", "--mode", "oneway"],
        &["mode", "size (64, not 1024)"],
    );
    refused("unix:///x", &[], &["url (tcp, not unix)"]);
    refused(
        "tcp://127.0.0.1:1?codec=lines",
        &[],
        &["url (tcp, not tcp (lines))"],
    );
    let hostile = result.to_string().replace("tcp:", "\\u001b[2J:");
    std::fs::write(&path, hostile).unwrap();
    refused(url, &[], &["url (\u{fffd}[2j, not tcp)"]);
    for (content, words) in [
        ("", &["no result"][..]),
        ("{}", &["result 1", "url"]),
        ("nonsense", &["result 1", "line 1"]),
    ] {
        std::fs::write(&path, content).unwrap();
        refused(url, &[], words);
    }
    check(
        &["bench", url, "--compare", "/nonexistent.json"],
        &["--compare", "/nonexistent.json"],
    );
    check(&["bench", url, "--tolerance", "5"], &["--compare"]);
    check(
        &["bench", url, "--tolerance", "-5"],
        &["--tolerance", "percent"],
    );
    check(&["bench", url, "--latency-tolerance", "NaN"], &["percent"]);
    check(&["bench", url, "--repeat", "0"], &["--repeat", "1 to 1000"]);
    check(&["bench", url, "--label", "a\tb"], &["--label", "one line"]);
}

#[test]
fn stages_that_the_server_did_not_agree_on_are_told_after_the_run() {
    let measured = Measured::new("compare-stages");
    let mut baseline = measured.with(1.0, 1.0);
    baseline["pipeline"] = json!(["lz4"]);
    let (result, code, said) = measured.compare(&[baseline], &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("pipeline (lz4, not none)"), "{said}");
    assert!(result["messages"].as_u64() > Some(0), "{result}");
}
