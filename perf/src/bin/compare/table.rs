//! The results as Markdown and as JSON.

use std::fmt::Write as _;

use network_system_perf::report::{Report, json_string};
use network_system_perf::stats::Spread;

use crate::cases::Work;
use crate::run::{CaseResult, Comparison, Sample, ServerResult};

/// The tables, with a heading each.
pub(crate) fn markdown(machine: &[(&str, String)], results: &[CaseResult<'_>]) -> String {
    let mut text = String::from("# Comparison\n\n");
    for (name, value) in machine {
        text += &format!("* {name}: {value}\n");
    }
    text += "\nMedians over the rounds, with the smallest and the largest value.\n";

    let ratios: Vec<String> = results.iter().flat_map(ratio_rows).collect();
    if !ratios.is_empty() {
        text += "\n## Ratios\n\n\
            Each ratio is of the same round. CPU: the baseline's time for a message divided by the \
            server's, higher is better. Rate: the server's divided by the baseline's, higher is \
            better. p99: the server's divided by the baseline's, lower is better.\n\n\
            | case | server | against | CPU | rate | p99 | wanted | |\n\
            |---|---|---|--:|--:|--:|---|---|\n";
        text.extend(ratios);
    }

    let (windows, idle): (Vec<&CaseResult<'_>>, Vec<&CaseResult<'_>>) = results
        .iter()
        .partition(|result| matches!(result.case.work, Work::Window(_)));
    if !windows.is_empty() {
        text += "\n## Measurements\n\n\
            The unit is a message and its echo, a delivery of a broadcast, or a connection with \
            one echo.\n\n\
            | case | server | CPU, ns each | each second | p50, µs | p99, µs |\n\
            |---|---|--:|--:|--:|--:|\n";
        text.extend(windows.into_iter().flat_map(window_rows));
    }
    if !idle.is_empty() {
        text += "\n## Memory\n\n\
            | case | server | resident bytes for each idle connection | wanted | |\n\
            |---|---|--:|---|---|\n";
        text.extend(idle.into_iter().flat_map(idle_rows));
    }

    let losses: Vec<String> = results.iter().flat_map(loss_rows).collect();
    if !losses.is_empty() {
        text += "\n## Lost datagrams\n\n\
            A datagram that is not answered within 100 ms is given up, and another one is sent.\n\n\
            | case | server | lost of a million |\n\
            |---|---|--:|\n";
        text.extend(losses);
    }

    let failures: Vec<&String> = results.iter().flat_map(|result| &result.failures).collect();
    if !failures.is_empty() {
        text += "\n## Failed runs\n\n";
        for failure in failures {
            text += &format!("* {failure}\n");
        }
    }
    text
}

fn ratio_rows(result: &CaseResult<'_>) -> Vec<String> {
    if let Work::Idle { .. } = result.case.work {
        return Vec::new();
    }
    let row = |comparison: Comparison<'_>| {
        let (wanted, met) = verdict(&comparison);
        format!(
            "| {} | {} | {} | {} | {} | {} | {wanted} | {met} |\n",
            result.case.name,
            comparison.candidate,
            comparison.baseline,
            spread(comparison.cpu, 2),
            spread(comparison.rate, 2),
            spread(comparison.p99, 2),
        )
    };
    result.comparisons().into_iter().map(row).collect()
}

fn window_rows(result: &CaseResult<'_>) -> Vec<String> {
    let mut rows = Vec::new();
    for server in &result.servers {
        let cell = |figure: fn(&Sample) -> f64| {
            server
                .spread(figure)
                .map_or_else(|| "failed".to_owned(), |values| spread(values, 0))
        };
        rows.push(format!(
            "| {} | {}{} | {} | {} | {} | {} |\n",
            result.case.name,
            server.name,
            if server.is_baseline {
                " (baseline)"
            } else {
                ""
            },
            cell(|sample| sample.report.cpu_ns),
            cell(|sample| sample.report.rate),
            cell(|sample| sample.report.p50_us),
            cell(|sample| sample.report.p99_us),
        ));
    }
    rows
}

fn idle_rows(result: &CaseResult<'_>) -> Vec<String> {
    let comparisons = result.comparisons();
    let mut rows = Vec::new();
    for server in &result.servers {
        let (mut wanted, mut met) = (String::new(), "");
        if !server.is_baseline
            && let Some(comparison) = comparisons.iter().find(|comparison| {
                comparison.candidate == server.name && comparison.wanted.is_some()
            })
        {
            (wanted, met) = verdict(comparison);
        }
        rows.push(format!(
            "| {} | {}{} | {} | {wanted} | {met} |\n",
            result.case.name,
            server.name,
            if server.is_baseline {
                " (baseline)"
            } else {
                ""
            },
            server
                .bytes()
                .map_or_else(|| "failed".to_owned(), |values| spread(values, 0)),
        ));
    }
    rows
}

/// The servers of a case that left messages without an answer.
fn loss_rows(result: &CaseResult<'_>) -> Vec<String> {
    let row = |server: &ServerResult| {
        let lost = server.spread(|sample| {
            let Report { lost, messages, .. } = sample.report;
            1e6 * lost / (lost + messages)
        });
        let lost = lost.filter(|lost| lost.max > 0.0)?;
        let (case, name) = (result.case.name, &server.name);
        Some(format!("| {case} | {name} | {} |\n", spread(lost, 1)))
    };
    result.servers.iter().filter_map(row).collect()
}

/// What is wanted, and whether it is met.
fn verdict(comparison: &Comparison<'_>) -> (String, &'static str) {
    match comparison.wanted {
        None => (String::new(), ""),
        Some((wanted, true)) => (wanted.to_string(), "met"),
        Some((wanted, false)) => (wanted.to_string(), "**not met**"),
    }
}

fn spread(values: Spread, decimals: usize) -> String {
    let number = |value: f64| group(&format!("{value:.decimals$}"));
    format!(
        "{} ({}–{})",
        number(values.median),
        number(values.min),
        number(values.max)
    )
}

/// Puts commas between groups of three digits.
fn group(number: &str) -> String {
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) => (whole, format!(".{fraction}")),
        None => (number, String::new()),
    };
    let (sign, digits) = match whole.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", whole),
    };
    let mut grouped = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + &fraction
}

/// Everything, with each single sample.
pub(crate) fn json(machine: &[(&str, String)], results: &[CaseResult<'_>]) -> String {
    let machine = machine
        .iter()
        .map(|(name, value)| format!("{}: {}", json_string(name), json_string(value)));
    let samples = results.iter().flat_map(|result| {
        result.servers.iter().map(|server| {
            let rounds = server.rounds.iter().map(|sample| match sample {
                None => "null".to_owned(),
                Some(Sample {
                    report,
                    bytes: None,
                }) => report.to_json(),
                Some(Sample {
                    report,
                    bytes: Some(bytes),
                }) => {
                    let report = report.to_json();
                    format!(
                        "{}, \"idle_bytes\": {bytes:.1}}}",
                        report.trim_end_matches('}')
                    )
                }
            });
            format!(
                "{{\"case\": {}, \"server\": {}, \"baseline\": {}, \"rounds\": [\n    {}]}}",
                json_string(result.case.name),
                json_string(&server.name),
                server.is_baseline,
                join(rounds, ",\n    "),
            )
        })
    });
    let ratios = results.iter().flat_map(|result| {
        result.comparisons().into_iter().map(|comparison| {
            let mut text = format!(
                "{{\"case\": {}, \"server\": {}, \"against\": {}",
                json_string(result.case.name),
                json_string(comparison.candidate),
                json_string(comparison.baseline),
            );
            let values = [
                ("cpu", comparison.cpu),
                ("rate", comparison.rate),
                ("p99", comparison.p99),
            ];
            for (name, Spread { median, min, max }) in values {
                write!(text, ", \"{name}\": [{median:.4}, {min:.4}, {max:.4}]")
                    .expect("a string takes what is written");
            }
            let (wanted, met) = match comparison.wanted {
                Some((wanted, met)) => (json_string(&wanted.to_string()), met.to_string()),
                None => ("null".to_owned(), "null".to_owned()),
            };
            format!("{text}, \"wanted\": {wanted}, \"met\": {met}}}")
        })
    });
    let failures = results
        .iter()
        .flat_map(|result| &result.failures)
        .map(|failure| json_string(failure));
    format!(
        "{{\n\"machine\": {{{}}},\n\"samples\": [\n  {}],\n\"ratios\": [\n  {}],\n\"failures\": [{}]\n}}\n",
        join(machine, ", "),
        join(samples, ",\n  "),
        join(ratios, ",\n  "),
        join(failures, ", "),
    )
}

fn join(items: impl Iterator<Item = String>, separator: &str) -> String {
    items.collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!(group("7"), "7");
        assert_eq!(group("123"), "123");
        assert_eq!(group("-1234567.50"), "-1,234,567.50");
    }
}
