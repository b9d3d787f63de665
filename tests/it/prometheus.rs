//! The text that Prometheus reads.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use network_system::metrics::PerformanceMonitor;
use network_system::pipeline::{Compression, Pipeline};

use crate::support::{self, Over, echo, within};

/// A name with everything that could end a label.
const HOSTILE: &str = "a\"b\\c\nd{}=,# ß\u{1b}\r\0\u{2028}";

/// One line that is no comment.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Sample {
    fn label(&self, name: &str) -> Option<&str> {
        let mut labels = self.labels.iter();
        labels.find(|label| label.0 == name).map(|label| &*label.1)
    }
}

/// Everything in a text, checked against the rules of the format.
#[derive(Default)]
struct Exposition {
    kinds: BTreeMap<String, String>,
    samples: Vec<Sample>,
}

impl Exposition {
    fn parse(text: &str) -> Self {
        let mut exposition = Exposition::default();
        let mut family = String::new();
        let mut seen = BTreeSet::new();
        assert!(text.ends_with('\n'));
        for line in text.strip_suffix('\n').unwrap().split('\n') {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect(line);
                assert!(help.ends_with('.'), "{line}");
                assert!(seen.insert(name.to_owned()), "once: {line}");
                family = name.to_owned();
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect(line);
                assert_eq!(name, family, "TYPE stands behind its HELP");
                exposition.kinds.insert(name.to_owned(), kind.to_owned());
            } else {
                let sample = parse_sample(line);
                let is_of = match &*exposition.kinds[&family] {
                    "histogram" => ["_bucket", "_sum", "_count"]
                        .iter()
                        .any(|suffix| sample.name == format!("{family}{suffix}")),
                    _ => sample.name == family,
                };
                assert!(is_of, "{line} in {family}");
                exposition.samples.push(sample);
            }
        }
        exposition.check();
        exposition
    }

    fn check(&self) {
        for (name, kind) in &self.kinds {
            assert!(
                ["counter", "gauge", "histogram"].contains(&&**kind),
                "{kind}"
            );
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            let is_ours = name.starts_with("network_system_") || name.starts_with("process_");
            assert!(is_ours, "{name}");
        }
        let mut series = BTreeSet::new();
        for sample in &self.samples {
            assert!(sample.value >= 0.0, "{sample:?}");
            assert!(
                series.insert((&sample.name, &sample.labels)),
                "twice: {sample:?}"
            );
        }
        self.check_histograms();
    }

    fn check_histograms(&self) {
        let mut before = (0.0, 0.0);
        for sample in &self.samples {
            match sample.label("le") {
                Some(le) => {
                    let le: f64 = le.parse().expect(le);
                    if le == 0.000_001 {
                        before = (0.0, 0.0);
                    }
                    assert!(le > before.0 && sample.value >= before.1, "{sample:?}");
                    before = (le, sample.value);
                }
                None if sample.name.ends_with("_seconds_count") => {
                    assert!(before.0.is_infinite());
                    assert_eq!(sample.value, before.1, "{sample:?}");
                }
                None => {}
            }
        }
    }

    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let is_it = |sample: &&Sample| {
            let mut labels = labels.iter();
            sample.name == name && labels.all(|label| sample.label(label.0) == Some(label.1))
        };
        let found: Vec<_> = self.samples.iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "{name} {labels:?}");
        found[0].value
    }
}

fn parse_sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).expect(line);
    let (name, rest) = line.split_at(end);
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    assert!(name.chars().all(is_name), "{line}");
    let mut sample = Sample {
        name: name.to_owned(),
        labels: Vec::new(),
        value: 0.0,
    };
    let mut rest = rest;
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").expect(line);
            assert!(label.chars().all(is_name), "{line}");
            let (mut value, mut characters) = (String::new(), after.char_indices());
            let end = loop {
                match characters.next().expect(line) {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match characters.next().expect(line).1 {
                        'n' => '\n',
                        same @ ('\\' | '"') => same,
                        other => panic!("\\{other} in {line}"),
                    }),
                    (_, other) => value.push(other),
                }
            };
            sample.labels.push((label.to_owned(), value));
            rest = &after[end + 1..];
            match rest.split_at(1) {
                (",", more) => rest = more,
                ("}", more) => {
                    rest = more;
                    break;
                }
                other => panic!("{other:?} in {line}"),
            }
        }
    }
    sample.value = rest.strip_prefix(' ').expect(line).parse().expect(line);
    sample
}

/// A text in which every family has something.
async fn busy() -> (PerformanceMonitor, String) {
    let monitor = PerformanceMonitor::new();
    let pipeline = || {
        Pipeline::builder()
            .offer(Compression::lz4())
            .build()
            .unwrap()
    };
    let net = support::serve_watched(Over::Tcp, &monitor, |builder| {
        echo(builder).name(HOSTILE).pipeline(pipeline())
    })
    .await;
    let client = Over::Tcp.client(&net.url).name("c").monitor(&monitor);
    let client = client.pipeline(pipeline()).build().unwrap();
    within("the connection", client.connect()).await.unwrap();
    let mut messages = client.messages().unwrap();
    client.send("12345").await.unwrap();
    within("the echo", messages.next()).await.unwrap();
    let answer = client.request("?", support::PATIENCE).await;
    assert!(answer.is_err(), "nobody answers requests");
    monitor.record_latency(Duration::from_millis(3));
    monitor.record_error(HOSTILE);
    monitor.record_connection(true);
    monitor.record_memory_usage(4_096);
    let text = monitor.to_prometheus();
    client.stop().await;
    net.stop().await;
    (monitor, text)
}

#[tokio::test]
async fn the_text_keeps_to_the_format_whatever_names_there_are() {
    let (_monitor, text) = busy().await;
    let exposition = Exposition::parse(&text);
    let messages = "network_system_messages_total";
    let labels = [
        ("name", HOSTILE),
        ("transport", "tcp"),
        ("direction", "received"),
    ];
    let with_the_request = 2.0;
    assert_eq!(exposition.value(messages, &labels), with_the_request);
    assert_eq!(
        exposition.value("network_system_errors_total", &[("code", HOSTILE)]),
        1.0
    );
    let bucket = |le| {
        exposition.value(
            "network_system_recorded_latency_seconds_bucket",
            &[("le", le)],
        )
    };
    assert_eq!(
        (bucket("0.0025"), bucket("0.005"), bucket("+Inf")),
        (0.0, 1.0, 1.0)
    );
    let sum = exposition.value("network_system_recorded_latency_seconds_sum", &[]);
    assert!((sum - 0.003).abs() < 0.000_03, "{sum}");
    let requests = "network_system_request_latency_seconds_count";
    assert_eq!(exposition.value(requests, &[("name", "c")]), 1.0);
    let stage = [("name", "c"), ("stage", "lz4"), ("direction", "sent")];
    assert!(exposition.value("network_system_pipeline_messages_total", &stage) >= 1.0);
    assert_eq!(
        exposition.value("network_system_recorded_memory_bytes", &[]),
        4_096.0
    );
    if cfg!(target_os = "linux") {
        assert!(exposition.value("process_resident_memory_bytes", &[]) > 100_000.0);
        assert!(exposition.value("process_open_fds", &[]) > 0.0);
        assert!(exposition.value("process_start_time_seconds", &[]) > 1e9);
    }
}

#[test]
fn a_monitor_without_anything_keeps_to_the_format() {
    let text = PerformanceMonitor::new().to_prometheus();
    Exposition::parse(&text);
    promtool(&text);
}

#[tokio::test]
async fn promtool_has_nothing_to_say() {
    let (_monitor, text) = busy().await;
    promtool(&text);
}

/// Where there is no promtool, the tests above still check the format.
fn promtool(text: &str) {
    let spawned = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut tool) = spawned else {
        assert!(
            std::env::var_os("NEEDS_PROMTOOL").is_none(),
            "promtool is not there"
        );
        return;
    };
    let mut input = tool.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    let output = tool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert_eq!(String::from_utf8_lossy(&said), "");
    assert!(output.status.success());
}

#[tokio::test]
async fn the_table_in_the_documentation_has_every_metric_and_no_other() {
    let (_monitor, text) = busy().await;
    let document = include_str!("../../docs/metrics.md");
    let rows = document.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        let kind = rest.split(' ').next()?;
        let is_kind = ["counter", "gauge", "histogram"].contains(&kind);
        is_kind.then(|| (name.to_owned(), kind.to_owned()))
    });
    let mut documented: BTreeMap<_, _> = rows.collect();
    let mut kinds = Exposition::parse(&text).kinds;
    // Where the process counts what it allocates.
    for (name, kind) in [
        ("network_system_allocated_bytes", "gauge"),
        ("network_system_allocated_peak_bytes", "gauge"),
        ("network_system_allocations_total", "counter"),
    ] {
        assert_eq!(documented.remove(name).as_deref(), Some(kind), "{name}");
        kinds.remove(name);
    }
    if !cfg!(target_os = "linux") {
        documented.retain(|name, _| !name.starts_with("process_"));
    }
    assert_eq!(documented, kinds);
}
