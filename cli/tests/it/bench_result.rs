//! `netsys bench --json`: the fields of a result say the same.

use serde_json::Value;

use crate::bench::{bench, bench_for};
use crate::program::{Serving, run, text};

fn numbers(list: &Value, field: &str) -> Vec<f64> {
    let list = list.as_array().unwrap().iter();
    list.map(|it| it[field].as_f64().unwrap()).collect()
}

fn sum(list: &Value, field: &str) -> u64 {
    let list = list.as_array().unwrap().iter();
    list.map(|it| it[field].as_u64().unwrap()).sum()
}

fn is_sorted(values: &[f64]) -> bool {
    values.windows(2).all(|pair| pair[0] <= pair[1])
}

#[test]
fn the_seconds_of_a_run_add_up_to_it() {
    let server = Serving::start(&[]);
    for mode in ["echo", "connect"] {
        let options = ["--threads", "2", "--mode", mode];
        let (result, code, said) = bench_for("1200ms", &server.url, &options);
        assert_eq!(code, Some(0), "{said}");
        let intervals = &result["intervals"];
        assert_eq!(numbers(intervals, "t_seconds"), [0.0, 1.0], "{result}");
        let seconds = numbers(intervals, "seconds");
        assert_eq!(seconds[0], 1.0);
        assert!((0.19..0.21).contains(&seconds[1]), "{seconds:?}");
        for field in ["messages", "bytes", "errors"] {
            assert_eq!(
                sum(intervals, field),
                result[field].as_u64().unwrap(),
                "{field}"
            );
        }
        for interval in intervals.as_array().unwrap() {
            let latency = &interval["latency_us"];
            let figures = ["p50", "p99", "max"].map(|name| latency[name].as_f64().unwrap());
            assert!(is_sorted(&figures), "{interval}");
            assert!(figures[2] <= result["latency_us"]["max"].as_f64().unwrap());
        }
    }
}

#[test]
fn the_distribution_goes_up_to_the_slowest_message() {
    let server = Serving::start(&[]);
    let (result, ..) = bench(&server.url, &["--connections", "2", "--window", "8"]);
    let histogram = &result["histogram"];
    for field in ["percentile", "us", "count"] {
        assert!(
            is_sorted(&numbers(histogram, field)),
            "{field}: {histogram}"
        );
    }
    let latency = &result["latency_us"];
    let last = histogram.as_array().unwrap().last().unwrap();
    assert_eq!(last["percentile"], 100.0);
    assert_eq!(
        (&last["us"], &last["count"]),
        (&latency["max"], &latency["count"])
    );
    let names = ["min", "p50", "p90", "p95", "p99", "p99_9", "max"];
    let figures = names.map(|name| latency[name].as_f64().unwrap());
    assert!(is_sorted(&figures), "{latency}");
    assert!(latency["stddev"].as_f64() >= Some(0.0));
}

#[test]
fn a_result_says_what_it_is_of() {
    let server = Serving::start(&["--handler", "sink"]);
    let (result, ..) = bench(&server.url, &["--mode", "oneway", "--label", "été <1>"]);
    assert_eq!(
        (&result["format"], &result["label"]),
        (&1.into(), &"été <1>".into())
    );
    assert_eq!(result["version"], env!("CARGO_PKG_VERSION"));
    let started = result["started_at"].as_str().unwrap();
    assert!(
        started.starts_with("20") && started.ends_with('Z'),
        "{started}"
    );
    let machine = &result["machine"];
    assert!(machine["cores"].as_u64() > Some(0), "{machine}");
    assert_eq!(machine["os"], std::env::consts::OS);
    // Nothing was timed.
    assert_eq!(result["histogram"], Value::Array(Vec::new()));
    assert_eq!(result["intervals"][0]["latency_us"], Value::Null);
    assert_eq!(
        (&result["server"], &result["comparison"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn several_runs_are_told_by_the_one_in_the_middle() {
    let server = Serving::start(&[]);
    let (result, code, said) = bench(&server.url, &["--repeat", "3"]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let mut rates = numbers(&result["runs"], "messages_per_second");
    assert_eq!(rates.len(), 3);
    rates.sort_by(f64::total_cmp);
    assert_eq!(result["messages_per_second"], rates[1]);
}

#[test]
#[cfg(target_os = "linux")]
fn the_process_of_the_server_is_watched() {
    let server = Serving::start(&[]);
    let pid = server.program.pid().to_string();
    let (result, code, said) = bench(&server.url, &["--server-pid", &pid]);
    assert_eq!(code, Some(0), "{said}");
    let used = &result["server"];
    assert_eq!(used["pid"].to_string(), pid);
    let [before, peak, after] =
        ["before", "peak", "after"].map(|name| used[format!("rss_{name}_bytes")].as_u64().unwrap());
    assert!(0 < before && before <= peak && 0 < after, "{used}");
    assert!(used["cpu_seconds"].as_f64() >= Some(0.0), "{used}");

    let output = run(&["bench", &server.url, "--server-pid", "4000000000"], b"");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("--server-pid") && said.contains("no process"),
        "{said}"
    );
}
