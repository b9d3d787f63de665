//! Reads results from files that anyone may have written: everything is bounded and checked.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::{FORMAT, INTERVALS_MAX, Measurement};

/// The longest file: a result of an hour is about half a megabyte.
const FILE_MAX: u64 = 64 * 1024 * 1024;

/// The most results in a file.
const RESULTS_MAX: usize = 1_000;

/// The most points of a distribution; `netsys` writes some hundred.
const POINTS_MAX: usize = 10_000;

/// No number is larger: a terabyte each microsecond for an hour is less.
const NUMBER_MAX: f64 = 1e16;

/// The longest text; a URL may have 8 KiB.
const TEXT_MAX: usize = 16 * 1024;

/// Reads all results of a file, which has one or more JSON objects; `-` is stdin.
///
/// # Errors
///
/// The text says what is wrong, without the name of the file.
pub(crate) fn file(path: &Path) -> Result<Vec<Measurement>, String> {
    let mut bytes = Vec::new();
    let cannot = |error: io::Error| format!("cannot read it: {error}");
    let reader: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(path).map_err(cannot)?),
    };
    let mut reader = reader.take(FILE_MAX + 1);
    reader.read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(format!(
            "it is longer than {} MiB",
            FILE_MAX / (1024 * 1024)
        ));
    }
    results(&bytes)
}

fn results(bytes: &[u8]) -> Result<Vec<Measurement>, String> {
    let mut results = Vec::new();
    let stream = serde_json::Deserializer::from_slice(bytes).into_iter::<Measurement>();
    for result in stream {
        let number = results.len() + 1;
        if number > RESULTS_MAX {
            return Err(format!("it has more than {RESULTS_MAX} results"));
        }
        let result = result.map_err(|error| format!("result {number} is not one: {error}"))?;
        check(&result).map_err(|text| format!("result {number}: {text}"))?;
        results.push(result);
    }
    match results.is_empty() {
        true => Err("it has no result".to_owned()),
        false => Ok(results),
    }
}

fn check(result: &Measurement) -> Result<(), String> {
    if result.format > FORMAT {
        return Err(format!(
            "its format is {}, this version reads {FORMAT}",
            result.format
        ));
    }
    match result.mode.as_str() {
        "echo" | "oneway" | "connect" | "idle" | "broadcast" => {}
        _ => return Err("its mode is not one of netsys bench".to_owned()),
    }
    if !result.url.contains("://") {
        return Err("its url is none".to_owned());
    }
    texts(result)?;
    numbers(result)?;
    order(result)
}

fn texts(result: &Measurement) -> Result<(), String> {
    let machine = result.machine.as_ref();
    let optional = [
        &result.version,
        &result.label,
        &result.started_at,
        &result.first_error,
    ];
    let of_machine = machine.map(|machine| [&machine.cpu, &machine.os, &machine.kernel]);
    let mut all = optional
        .into_iter()
        .chain(of_machine.into_iter().flatten())
        .flatten()
        .chain([&result.url])
        .chain(&result.pipeline);
    match all.any(|text| text.len() > TEXT_MAX) || result.pipeline.len() > 64 {
        true => Err("it has texts that are too long".to_owned()),
        false => Ok(()),
    }
}

fn numbers(result: &Measurement) -> Result<(), String> {
    let whole = |name, number: u64| valid(name, number as f64);
    valid("warmup_seconds", result.warmup_seconds)?;
    valid("duration_seconds", result.duration_seconds)?;
    valid("messages_per_second", result.messages_per_second)?;
    valid("bytes_per_second", result.bytes_per_second)?;
    for (name, number) in [
        ("connections", Some(result.connections)),
        ("threads", Some(result.threads)),
        ("size", result.size),
        ("window", result.window),
        ("rate", result.rate),
        ("connected", Some(result.connected)),
        ("messages", Some(result.messages)),
        ("bytes", Some(result.bytes)),
        ("errors", Some(result.errors)),
        ("lost", result.lost),
    ] {
        whole(name, number.unwrap_or(0))?;
    }
    if let Some(latency) = &result.latency_us {
        whole("latency_us.count", latency.count)?;
        for number in [
            Some(latency.min),
            Some(latency.mean),
            latency.stddev,
            Some(latency.p50),
            Some(latency.p90),
            latency.p95,
            Some(latency.p99),
            Some(latency.p99_9),
            Some(latency.max),
        ] {
            valid("latency_us", number.unwrap_or(0.0))?;
        }
    }
    if let Some(server) = &result.server {
        whole("server", server.rss_before_bytes)?;
        whole("server", server.rss_peak_bytes)?;
        whole("server", server.rss_after_bytes.unwrap_or(0))?;
        valid("server", server.cpu_seconds.unwrap_or(0.0))?;
    }
    if result.runs.len() > RESULTS_MAX {
        return Err(format!("it has more than {RESULTS_MAX} runs"));
    }
    for run in &result.runs {
        for number in run.all() {
            valid("runs", number)?;
        }
    }
    Ok(())
}

/// What is drawn has to go on from left to right.
fn order(result: &Measurement) -> Result<(), String> {
    if result.intervals.len() > INTERVALS_MAX {
        return Err(format!("it has more than {INTERVALS_MAX} intervals"));
    }
    let mut at = 0.0;
    for interval in &result.intervals {
        valid("intervals.seconds", interval.seconds)?;
        valid("intervals.t_seconds", interval.t_seconds)?;
        for number in [interval.messages, interval.bytes, interval.errors] {
            valid("intervals", number as f64)?;
        }
        if let Some(latency) = &interval.latency_us {
            for number in [latency.p50, latency.p99, latency.max] {
                valid("intervals.latency_us", number)?;
            }
        }
        if interval.t_seconds < at {
            return Err("its intervals are not in order".to_owned());
        }
        at = interval.t_seconds;
    }
    if result.histogram.len() > POINTS_MAX {
        return Err(format!("its histogram has more than {POINTS_MAX} points"));
    }
    let (mut percentile, mut us) = (0.0, 0.0);
    for point in &result.histogram {
        valid("histogram.us", point.us)?;
        if !(percentile..=100.0).contains(&point.percentile) || point.us < us {
            return Err("its histogram is not in order".to_owned());
        }
        (percentile, us) = (point.percentile, point.us);
    }
    Ok(())
}

fn valid(name: &str, number: f64) -> Result<(), String> {
    // What is no number is in no range.
    match (0.0..=NUMBER_MAX).contains(&number) {
        true => Ok(()),
        false => Err(format!("{name} is {number}, which no result has")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn result() -> Value {
        json!({
            "format": 1, "url": "tcp://127.0.0.1:7600", "mode": "echo", "connections": 10,
            "threads": 1, "size": 64, "window": 1, "rate": null, "duration_seconds": 1.0,
            "connected": 10, "messages": 5, "messages_per_second": 5.0, "errors": 0,
            "latency_us": null,
            "intervals": [
                { "t_seconds": 0.0, "seconds": 1.0, "messages": 5, "bytes": 320, "errors": 0 },
                { "t_seconds": 1.0, "seconds": 0.5, "messages": 0, "bytes": 0, "errors": 0 },
            ],
            "histogram": [
                { "percentile": 0.0, "us": 1.0, "count": 1 },
                { "percentile": 100.0, "us": 2.0, "count": 5 },
            ],
        })
    }

    #[test]
    fn a_file_has_one_or_more_objects_in_any_layout() {
        let pretty = serde_json::to_string_pretty(&result()).unwrap_or_default();
        for text in [
            result().to_string(),
            format!("{}\n{}\n", result(), result()),
            format!("\n{pretty}\n\n{}", result()),
        ] {
            assert!(results(text.as_bytes()).is_ok(), "{text}");
        }
        for text in ["", "\n", "[]", "{}", "1", "{\"url\":", "nonsense"] {
            assert!(results(text.as_bytes()).is_err(), "{text}");
        }
        let cut = &result().to_string()[..100];
        assert!(results(cut.as_bytes()).is_err());
    }

    #[test]
    fn what_no_run_can_have_measured_is_refused() {
        for (pointer, value) in [
            ("/format", json!(2)),
            ("/mode", json!("dance")),
            ("/url", json!("nowhere")),
            ("/messages", json!(-1)),
            ("/messages", json!(u64::MAX)),
            ("/messages_per_second", json!(-0.5)),
            ("/messages_per_second", json!(1e300)),
            ("/messages_per_second", json!(null)),
            ("/duration_seconds", json!("NaN")),
            ("/intervals/1/t_seconds", json!(-1.0)),
            ("/intervals/0/t_seconds", json!(2.0)),
            ("/intervals/0/seconds", json!(1e17)),
            ("/histogram/0/percentile", json!(101.0)),
            ("/histogram/0/us", json!(3.0)),
            ("/histogram/1/percentile", json!(100.1)),
            ("/pipeline", json!(vec!["x"; 65])),
            ("/label", json!("x".repeat(TEXT_MAX + 1))),
        ] {
            let mut changed = result();
            match changed.pointer_mut(pointer) {
                Some(old) => *old = value,
                None => changed[&pointer[1..]] = value,
            }
            let read = results(changed.to_string().as_bytes());
            assert!(read.is_err(), "{pointer}: {changed}");
        }
        // A number that does not fit into 64 bits is no valid JSON for us.
        let huge = result().to_string().replace("5.0", "1e999");
        assert!(results(huge.as_bytes()).is_err());
    }
}
