//! `netsys report`: one page that needs nothing else, whatever the files say.

use serde_json::{Value, json};

use crate::program::{Folder, run, text};

/// A result as `netsys bench --json` writes it.
fn result(label: &str, rate: f64) -> Value {
    let second = |t: u64| {
        json!({
            "t_seconds": t, "seconds": 1.0, "messages": rate as u64, "bytes": rate as u64 * 64,
            "errors": 0, "lost": null, "latency_us": { "p50": 100.0, "p99": 400.0, "max": 900.0 },
        })
    };
    let points = [
        (0.0, 50.0),
        (50.0, 100.0),
        (99.0, 400.0),
        (99.99, 800.0),
        (100.0, 900.0),
    ];
    let histogram = points.map(|(percentile, us)| {
        json!({ "percentile": percentile, "us": us, "count": percentile as u64 * 100 })
    });
    json!({
        "format": 1, "version": "0.1.0", "label": label, "started_at": "2026-01-02T03:04:05.6Z",
        "url": "tcp://127.0.0.1:7600", "mode": "echo", "connections": 10, "threads": 1,
        "size": 64, "window": 1, "rate": null, "pipeline": [], "warmup_seconds": 1.0,
        "duration_seconds": 3.0, "connected": 10, "messages": 10_000, "bytes": 640_000,
        "messages_per_second": rate, "bytes_per_second": rate * 64.0, "errors": 0,
        "first_error": null, "lost": null,
        "latency_us": { "count": 10_000, "min": 50.0, "mean": 120.0, "stddev": 30.0, "p50": 100.0,
            "p90": 200.0, "p95": 300.0, "p99": 400.0, "p99_9": 700.0, "max": 900.0 },
        "machine": { "cpu": "a cpu", "cores": 2, "os": "linux", "kernel": "6" },
        "server": { "pid": 1, "rss_before_bytes": 1048576, "rss_peak_bytes": 2097152,
            "rss_after_bytes": 1048576, "cpu_seconds": 1.5 },
        "intervals": [second(0), second(1), second(2)],
        "histogram": histogram, "runs": [], "comparison": null,
    })
}

/// Makes a page of files with these results.
fn page(name: &str, files: &[(&str, &[Value])], options: &[&str]) -> String {
    let folder = Folder::new(name);
    let paths: Vec<_> = files
        .iter()
        .map(|(file, results)| {
            let path = folder.path(file);
            let lines: Vec<_> = results.iter().map(Value::to_string).collect();
            std::fs::write(&path, lines.join("\n")).unwrap();
            path
        })
        .collect();
    let mut all = vec!["report"];
    all.extend(paths.iter().map(String::as_str));
    all.extend(options);
    let output = run(&all, b"");
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), said.as_str()), (Some(0), ""));
    text(&output.stdout)
}

/// What is between `before` and the next `after`, each time.
fn all_between<'a>(text: &'a str, before: &str, after: &str) -> Vec<&'a str> {
    let parts = text.split(before).skip(1);
    parts
        .map(|part| part.split(after).next().unwrap())
        .collect()
}

/// Every tag is closed, in order: the page is what it seems to be.
fn check_tags(html: &str) {
    let mut open = Vec::new();
    for tag in all_between(html, "<", ">") {
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{tag}");
        } else if !tag.starts_with('!') && !tag.ends_with('/') {
            let name = tag.split_ascii_whitespace().next().unwrap();
            if !["meta", "link", "br"].contains(&name) {
                open.push(name);
            }
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

/// No scripts, and nothing from elsewhere. Texts have their `<` and quotation marks escaped.
fn check_contained(html: &str) {
    for tag in all_between(html, "<", ">") {
        let name = tag.split_ascii_whitespace().next().unwrap();
        let known = "!DOCTYPE a body caption div figcaption figure footer h1 h2 head header html li main meta p path \
                     rect section span style svg table tbody td text th thead title tr ul";
        let name = name.trim_start_matches('/').trim_end_matches('/');
        assert!(known.split_ascii_whitespace().any(|it| it == name), "{tag}");
        // Every second part is in quotation marks.
        let attributes: String = tag.split('"').step_by(2).collect();
        for attribute in [
            " on", " src", " style", " srcset", "xlink:", " action", " data",
        ] {
            assert!(!attributes.contains(attribute), "{tag}");
        }
        for target in all_between(tag, "href=\"", "\"") {
            assert!(target.starts_with('#'), "{target}");
        }
    }
    for style in all_between(html, "<style>", "</style>") {
        assert!(!style.contains("@import") && !style.contains("url("));
    }
    let policy = all_between(html, "Content-Security-Policy\" content=\"", "\"");
    assert_eq!(policy.len(), 1);
    assert!(policy[0].starts_with("default-src 'none'; style-src 'sha256-"));
    assert!(!policy[0].contains("unsafe"), "{}", policy[0]);
}

#[test]
fn a_page_has_tables_and_drawings_and_nothing_from_elsewhere() {
    let html = page("report-one", &[("one.json", &[result("one", 1e6)])], &[]);
    check_tags(&html);
    check_contained(&html);
    assert!(html.starts_with("<!DOCTYPE html>"));
    for text in [
        "<title>Benchmark results</title>",
        "tcp echo, 10 connections, 64 bytes, window 1",
        "<td class=\"number\">1,000,000</td>",
        "Throughput over time, messages/s",
        "Latency by percentile",
        "Latency over time",
        "99.99 %",
        "a cpu, 2 cores, linux 6",
        "2026-01-02T03:04:05Z",
        "0.50",
    ] {
        assert!(html.contains(text), "{text}");
    }
    assert_eq!(all_between(&html, "<svg class=\"plot\"", "</svg>").len(), 3);
}

#[test]
fn the_first_file_is_what_others_are_compared_with() {
    let (old, new) = (result("x", 1_000.0), result("x", 2_000.0));
    let mut slow = result("x", 500.0);
    slow["latency_us"]["p99"] = json!(4_000.0);
    slow["latency_us"]["p99_9"] = json!(7_000.0);
    slow["latency_us"]["max"] = json!(9_000.0);
    let files: [(&str, &[Value]); 3] = [
        ("old.json", &[old]),
        ("new.json", &[new]),
        ("slow.json", &[slow]),
    ];
    let html = page("report-three", &files, &["--title", "Old & new"]);
    check_tags(&html);
    check_contained(&html);
    for text in [
        "<title>Old &amp; new</title>",
        "<th>old</th><th>new</th><th>ratio</th><th>slow</th><th>ratio</th>",
        "2.00 × <span class=\"better\">▲ better</span>",
        "0.50 × <span class=\"worse\">▼ worse</span>",
        "10.00 × <span class=\"worse\">▼ worse</span>",
        "1.00 × <span class=\"soft\">same</span>",
    ] {
        assert!(html.contains(text), "{text}");
    }
    let lenient = page(
        "report-lenient",
        &files,
        &["--tolerance", "1000", "--latency-tolerance", "1000"],
    );
    assert!(!lenient.contains("▼"));
}

#[test]
fn texts_of_the_files_are_only_texts() {
    let hostile = "</style></title><script>alert(1)</script><img src=x onerror='alert(2)'>\" --> \u{202e}\u{1b}";
    let mut one = result(hostile, 1_000.0);
    for name in ["version", "started_at", "first_error"] {
        one[name] = hostile.into();
    }
    one["url"] = format!("tcp://{hostile}").into();
    one["pipeline"] = json!([hostile]);
    one["machine"] = json!({ "cpu": hostile, "cores": 1, "os": hostile, "kernel": hostile });
    let other = {
        let mut other = one.clone();
        other["label"] = format!("{hostile}2").into();
        other
    };
    let html = page(
        "report-hostile",
        &[("<b>.json", &[one, other])],
        &["--title", "<i>"],
    );
    check_tags(&html);
    check_contained(&html);
    assert!(!html.contains('\u{202e}') && !html.contains('\u{1b}'));
    assert!(!html.contains("<b>") && !html.contains("<i>"));
}

#[test]
fn results_of_every_mode_have_a_page() {
    let mut all = Vec::new();
    for mode in ["echo", "oneway", "connect", "idle", "broadcast"] {
        let mut one = result("x", 1_000.0);
        one["mode"] = mode.into();
        if ["oneway", "idle"].contains(&mode) {
            one["latency_us"] = Value::Null;
            one["histogram"] = json!([]);
            for interval in one["intervals"].as_array_mut().unwrap() {
                interval["latency_us"] = Value::Null;
            }
        }
        if mode == "idle" {
            one["messages"] = 0.into();
            one["messages_per_second"] = 0.into();
        }
        all.push(one);
    }
    // As they were written before there was a version of the format.
    all.push(json!({
        "url": "udp://127.0.0.1:7602", "mode": "echo", "connections": 1, "threads": 1, "size": 64,
        "window": 1, "rate": null, "pipeline": [], "duration_seconds": 0.0, "connected": 1,
        "messages": 0, "messages_per_second": 0.0, "errors": 0, "lost": 3,
        "latency_us": { "count": 1, "min": 1.0, "mean": 1.0, "p50": 1.0, "p90": 1.0, "p99": 1.0,
            "p99_9": 1.0, "max": 1.0 },
    }));
    let html = page("report-modes", &[("modes.json", &all)], &[]);
    check_tags(&html);
    check_contained(&html);
    for text in ["udp echo, 1 connection", "connections/s", "100.00 %"] {
        assert!(html.contains(text), "{text}");
    }
    assert!(!html.contains("NaN") && !html.contains("inf "));
}

#[test]
fn numbers_at_the_bounds_are_drawn() {
    let mut one = result("x", 1e16);
    one["intervals"] = json!([
        { "t_seconds": 0.0, "seconds": 0.0, "messages": 0, "bytes": 0, "errors": 0 },
        { "t_seconds": 1e16, "seconds": 1e16, "messages": 10_000_000_000_000_000_u64, "bytes": 0,
          "errors": 0, "latency_us": { "p50": 0.0, "p99": 1e16, "max": 0.0 } },
    ]);
    one["histogram"] = json!([{ "percentile": 100.0, "us": 0.0, "count": 0 }]);
    one["duration_seconds"] = 0.0.into();
    one["bytes_per_second"] = 1e16.into();
    let html = page("report-bounds", &[("bounds.json", &[one])], &[]);
    check_tags(&html);
    for value in all_between(&html, " d=\"", "\"") {
        assert!(!value.contains("NaN") && !value.contains("inf"), "{value}");
    }
}

#[test]
fn the_page_can_be_a_file_and_results_may_come_by_a_pipe() {
    let folder = Folder::new("report-file");
    let path = folder.path("page.html");
    let pretty = serde_json::to_string_pretty(&result("x", 1.0)).unwrap();
    let output = run(&["report", "-", "--output", &path], pretty.as_bytes());
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.is_empty());
    check_tags(&std::fs::read_to_string(&path).unwrap());
    let output = run(&["report", "-", "-o", "/nonexistent/x"], pretty.as_bytes());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/nonexistent/x"));
}

#[test]
fn bad_files_are_named_with_what_is_wrong() {
    let folder = Folder::new("report-bad");
    let path = folder.path("bad.json");
    let good = result("x", 1.0).to_string();
    let huge = good.replace("\"mean\":120.0", "\"mean\":1e300");
    let negative = good.replace("\"mean\":120.0", "\"mean\":-1");
    let newer = good.replace("\"format\":1", "\"format\":2");
    for (content, words) in [
        ("", &["no result"][..]),
        ("hello", &["result 1", "line 1 column 1"]),
        (&good[..200], &["result 1", "EOF"]),
        (&format!("{good}\n{huge}"), &["result 2", "latency_us"]),
        (&negative, &["result 1", "latency_us is -1"]),
        (&newer, &["format is 2"]),
    ] {
        std::fs::write(&path, content).unwrap();
        let output = run(&["report", &path], b"");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(output.stdout.is_empty());
        for word in [&["bad.json"], words].concat() {
            assert!(said.contains(word), "no {word:?} in {said}");
        }
    }
    let output = run(&["report", "/nonexistent.json"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/nonexistent.json"));
    assert_eq!(run(&["report"], b"").status.code(), Some(2));
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_without_end_is_refused() {
    let output = run(&["report", "/dev/zero"], b"");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("longer than 64 MiB"), "{said}");
}
