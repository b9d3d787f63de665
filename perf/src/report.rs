//! The one line of JSON with which the load generator reports a run.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

/// The result of one run. The unit of `messages` depends on the mode: a
/// message and its echo, a delivery of a broadcast, or a connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The length of the measured window.
    pub seconds: f64,
    /// What was completed inside the window.
    pub messages: f64,
    /// `messages` for each second.
    pub rate: f64,
    /// CPU time of the server for each message; 0 when no process was named.
    pub cpu_ns: f64,
    /// The median of the latency in microseconds.
    pub p50_us: f64,
    /// 99 % of the messages were at least as fast as this.
    pub p99_us: f64,
    /// 99.9 % of the messages were at least as fast as this.
    pub p999_us: f64,
    /// The slowest message.
    pub max_us: f64,
    /// Messages that were never answered and given up.
    pub lost: f64,
}

impl Report {
    /// Makes a report of what was counted.
    pub fn new(seconds: f64, messages: u64, cpu_ns: u64, latency: &Histogram<u64>) -> Self {
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        Self {
            seconds,
            messages: messages as f64,
            rate: messages as f64 / seconds,
            cpu_ns: cpu_ns as f64 / messages.max(1) as f64,
            p50_us: micros(latency.value_at_quantile(0.5)),
            p99_us: micros(latency.value_at_quantile(0.99)),
            p999_us: micros(latency.value_at_quantile(0.999)),
            max_us: micros(latency.max()),
            lost: 0.0,
        }
    }

    /// The report as one JSON object in one line.
    pub fn to_json(&self) -> String {
        let mut json = String::from("{");
        for (name, value) in self.fields() {
            let comma = if json.len() > 1 { ", " } else { "" };
            write!(json, "{comma}\"{name}\": {value:.3}").expect("a string takes what is written");
        }
        json.push('}');
        json
    }

    /// Reads what [`Report::to_json`] wrote; `None` when a field is missing.
    pub fn from_json(json: &str) -> Option<Self> {
        let field = |name: &str| -> Option<f64> {
            let (_, rest) = json.split_once(&format!("\"{name}\": "))?;
            rest.split([',', '}']).next()?.trim().parse().ok()
        };
        Some(Self {
            seconds: field("seconds")?,
            messages: field("messages")?,
            rate: field("rate")?,
            cpu_ns: field("cpu_ns")?,
            p50_us: field("p50_us")?,
            p99_us: field("p99_us")?,
            p999_us: field("p999_us")?,
            max_us: field("max_us")?,
            lost: field("lost")?,
        })
    }

    fn fields(&self) -> [(&'static str, f64); 9] {
        [
            ("seconds", self.seconds),
            ("messages", self.messages),
            ("rate", self.rate),
            ("cpu_ns", self.cpu_ns),
            ("p50_us", self.p50_us),
            ("p99_us", self.p99_us),
            ("p999_us", self.p999_us),
            ("max_us", self.max_us),
            ("lost", self.lost),
        ]
    }
}

/// `text` as a JSON string with its quotes.
pub fn json_string(text: &str) -> String {
    let mut json = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            c if c < ' ' => {
                write!(json, "\\u{:04x}", u32::from(c)).expect("a string takes what is written");
            }
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_survives_its_json() {
        let report = Report {
            seconds: 2.5,
            messages: 1000.0,
            rate: 400.0,
            cpu_ns: 112.25,
            p50_us: 10.5,
            p99_us: 20.0,
            p999_us: 30.0,
            max_us: 40.0,
            lost: 2.0,
        };
        assert_eq!(Report::from_json(&report.to_json()), Some(report));
        assert_eq!(Report::from_json("{\"seconds\": 1.0}"), None);
    }

    #[test]
    fn strings_are_escaped() {
        assert_eq!(json_string("a\"b\\c\n"), r#""a\"b\\c\u000a""#);
    }
}
