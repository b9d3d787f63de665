//! Results as Markdown.

use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use crate::cases::{Case, Kind, size_name};
use crate::claims;
use crate::compare::{Comparison, change};
use crate::outcome::Outcome;

/// Between these lines of a file, `--update` writes.
const BEGIN: &str = "<!-- loadtest: begin -->";
const END: &str = "<!-- loadtest: end -->";

/// What is shown of a run.
pub(crate) struct Results<'a> {
    pub(crate) cases: &'a [Case],
    pub(crate) outcomes: &'a [Outcome],
    /// Cases without a result, and why.
    pub(crate) missing: &'a [(String, String)],
    /// How the cases were run.
    pub(crate) method: String,
}

impl Results<'_> {
    fn of(&self, wanted: impl Fn(&Case) -> bool) -> Vec<(&Case, &Outcome)> {
        self.cases
            .iter()
            .filter(|case| wanted(case))
            .filter_map(|case| {
                let name = case.to_string();
                let outcome = self
                    .outcomes
                    .iter()
                    .find(|outcome| outcome.name() == name)?;
                Some((case, outcome))
            })
            .collect()
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        if let Some(machine) = self.outcomes.first().map(Outcome::machine) {
            let _ = writeln!(
                text,
                "* CPU: {} ({} cores)\n* kernel: {}\n* commit: {}\n* {}\n",
                machine.cpu, machine.cores, machine.kernel, machine.commit, self.method
            );
        }
        text += &claims::markdown(self.outcomes);
        self.rates(&mut text);
        self.latencies(&mut text);
        self.connections(&mut text);
        self.memory(&mut text);
        if !self.missing.is_empty() {
            text += "### Not measured\n\n";
            for (name, why) in self.missing {
                let _ = writeln!(text, "* `{name}`: {why}");
            }
            text.push('\n');
        }
        text
    }

    fn rates(&self, text: &mut String) {
        let found = self.of(|case| matches!(case.kind, Kind::Throughput | Kind::One));
        if found.is_empty() {
            return;
        }
        *text += "### Throughput\n\nRound trips a second, as many on their way as the window says on each connection.\n\n\
                  | transport | size | connections | window | a second | MB/s each way | p50 | p95 | p99 | lost |\n\
                  |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n";
        for (case, outcome) in found {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                case.scheme,
                size_name(case.size),
                case.connections,
                case.window,
                grouped(outcome.rate()),
                grouped(outcome.bytes_per_second() / 1e6),
                percentiles(outcome),
                lost(outcome),
            );
        }
        text.push('\n');
    }

    fn latencies(&self, text: &mut String) {
        let found = self.of(|case| matches!(case.kind, Kind::Open(_)));
        if found.is_empty() {
            return;
        }
        *text += "### Latency at fixed rates\n\nOpen loop: messages of 64 B leave at their time over 10 connections, whether or not \
                  answers have come; latency counts from that time.\n\n\
                  | transport | asked for | a second | p50 | p95 | p99 | p99.9 | lost |\n|---|--:|--:|--:|--:|--:|--:|--:|\n";
        for (case, outcome) in found {
            if let Kind::Open(rate) = case.kind {
                let _ = writeln!(
                    text,
                    "| {} | {} | {} | {} | {} | {} |",
                    case.scheme,
                    grouped(rate as f64),
                    grouped(outcome.rate()),
                    percentiles(outcome),
                    at(outcome, "p99_9"),
                    lost(outcome),
                );
            }
        }
        text.push('\n');
    }

    fn connections(&self, text: &mut String) {
        let found = self.of(|case| matches!(case.kind, Kind::Closed | Kind::Pipelined));
        if !found.is_empty() {
            *text += "### Concurrency\n\nClosed loop: messages of 64 B, each connection with so many on their way.\n\n\
                      | transport | connections | window | a second | p50 | p95 | p99 | lost |\n\
                      |---|--:|--:|--:|--:|--:|--:|--:|\n";
            for (case, outcome) in found {
                let _ = writeln!(
                    text,
                    "| {} | {} | {} | {} | {} | {} |",
                    case.scheme,
                    grouped(outcome.connected()),
                    case.window,
                    grouped(outcome.rate()),
                    percentiles(outcome),
                    lost(outcome),
                );
            }
            text.push('\n');
        }
        let found = self.of(|case| case.kind == Kind::Connect);
        if !found.is_empty() {
            *text += "### Connections\n\nTen clients connect and close, again and again; the time is that until the connection can be \
                      used.\n\n| transport | a second | p50 | p95 | p99 |\n|---|--:|--:|--:|--:|\n";
            for (case, outcome) in found {
                let _ = writeln!(
                    text,
                    "| {} | {} | {} |",
                    case.scheme,
                    grouped(outcome.rate()),
                    percentiles(outcome),
                );
            }
            text.push('\n');
        }
    }

    fn memory(&self, text: &mut String) {
        let found = self.of(|case| case.kind == Kind::Idle || case.connections >= 1_000);
        if found.is_empty() {
            return;
        }
        *text += "### Memory\n\nResident memory of the server: before the connections of the case were made, after 16 others; the most \
                  while it ran; and the difference for each connection, which at load includes what was on its way.\n\n\
                  | transport | connections | window | before | most | for each |\n|---|--:|--:|--:|--:|--:|\n";
        for (case, outcome) in found {
            let memory = outcome.memory();
            let window = match case.kind {
                Kind::Idle => "idle".to_owned(),
                _ => case.window.to_string(),
            };
            let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
            let _ = writeln!(
                text,
                "| {} | {} | {window} | {} | {} | {} B |",
                case.scheme,
                grouped(outcome.connected()),
                mib(memory.idle),
                mib(memory.peak),
                grouped(outcome.bytes_per_connection()),
            );
        }
        text.push('\n');
    }
}

/// Old and new figures side by side.
pub(crate) fn comparison(comparisons: &[Comparison<'_>]) -> String {
    let mut text = String::from("| case | a second | p50 | p99 | |\n|---|--:|--:|--:|---|\n");
    for Comparison {
        old,
        new,
        regressions,
    } in comparisons
    {
        let changed = |old: f64, new: f64| {
            change(old, new).map_or("–".to_owned(), |change| format!("{change:+.1} %"))
        };
        let latency = |which| match (old.latency(which), new.latency(which)) {
            (Some(old), Some(new)) => changed(old, new),
            _ => "–".to_owned(),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            new.name(),
            changed(old.rate(), new.rate()),
            latency("p50"),
            latency("p99"),
            match regressions.is_empty() {
                true => String::new(),
                false => format!("regression: {}", regressions.join(", ")),
            }
        );
    }
    text
}

/// Writes `text` between the marks of a file.
pub(crate) fn update(path: &Path, text: &str) -> io::Result<()> {
    let old = fs::read_to_string(path)?;
    let new = replaced(&old, text).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("there are no lines \"{BEGIN}\" and \"{END}\""),
        )
    })?;
    fs::write(path, new)
}

fn replaced(old: &str, text: &str) -> Option<String> {
    let (before, rest) = old.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!(
        "{before}{BEGIN}\n\n{}\n\n{END}{after}",
        text.trim()
    ))
}

fn at(outcome: &Outcome, which: &str) -> String {
    outcome.latency(which).map_or("–".to_owned(), micros)
}

fn percentiles(outcome: &Outcome) -> String {
    ["p50", "p95", "p99"]
        .map(|which| at(outcome, which))
        .join(" | ")
}

fn lost(outcome: &Outcome) -> String {
    outcome
        .lost_percent()
        .map_or(String::new(), |percent| format!("{percent:.2} %"))
}

/// Microseconds with three digits and a unit.
pub(crate) fn micros(micros: f64) -> String {
    let (value, unit) = if micros < 1_000.0 {
        (micros, "µs")
    } else {
        (micros / 1_000.0, "ms")
    };
    match value {
        ..10.0 => format!("{value:.2} {unit}"),
        10.0..100.0 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// `1,234,567`, rounded.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `769 k` or `1.23 M`, as the claims are written.
pub(crate) fn scaled(number: f64) -> String {
    match number {
        1e6.. => format!("{:.2} M", number / 1e6),
        1e4.. => format!("{:.0} k", number / 1e3),
        1e3.. => format!("{:.1} k", number / 1e3),
        _ => format!("{number:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::all;
    use crate::outcome::tests::outcome;

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let old = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = replaced(&old, "new\n").expect("the marks are there");
        assert_eq!(new, format!("before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"));
        assert_eq!(replaced(&new, "new").as_deref(), Some(new.as_str()));
        assert_eq!(replaced("no marks", "new"), None);
    }

    #[test]
    fn every_case_that_was_measured_is_shown() {
        let cases = all(false);
        let outcomes: Vec<_> = cases
            .iter()
            .map(|case| outcome(&case.to_string(), 123_456.0, 10.0, 20.0, 0))
            .collect();
        let results = Results {
            cases: &cases,
            outcomes: &outcomes,
            missing: &[("tcp/x".into(), "a reason".into())],
            method: "a second each".into(),
        };
        let text = results.markdown();
        for part in [
            "claims",
            "Throughput",
            "fixed rates",
            "Concurrency",
            "Connections",
            "Memory",
        ] {
            assert!(text.contains(part), "{part}");
        }
        assert!(text.contains("* `tcp/x`: a reason"), "{text}");
        let rows = text.matches("| 123,456 |").count();
        // Idle connections have no rate.
        let expected = cases.iter().filter(|case| case.kind != Kind::Idle).count();
        assert_eq!(rows, expected);
    }

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(grouped(1_234_567.4), "1,234,567");
        assert_eq!(scaled(769_000.0), "769 k");
        assert_eq!(scaled(5_100.0), "5.1 k");
        assert_eq!(micros(1.3), "1.30 µs");
        assert_eq!(micros(12_345.0), "12.3 ms");
    }
}
