//! The section of a case: how its results compare, and drawings.

use std::fmt::Write;

use super::super::plot::{Hint, Line, Plot, Scale, Style, Unit, nines_scale, percentile_of};
use super::super::series::{Group, Series};
use super::super::text::Escaped;
use super::{bytes, machine};
use crate::numbers::{grouped, micros};
use crate::results::compare::{Row, Tolerance, Verdict, compare};
use crate::results::figures::FIGURES;
use crate::results::{Interval, IntervalLatency, Measurement};

/// The most points of a line: two of them would be in one place of a drawing.
const DRAWN: usize = 400;

/// The most series in a table beside the baseline.
const OTHERS: usize = 3;

pub(super) fn section(html: &mut String, number: usize, group: &Group, tolerance: Tolerance) {
    let _ = writeln!(
        html,
        "<section id=\"case-{number}\"><h2>{}</h2>",
        Escaped(&group.case.to_string())
    );
    let Some((baseline, others)) = group.series.split_first() else {
        return;
    };
    if !others.is_empty() {
        let _ = writeln!(
            html,
            "<p class=\"soft\">Compared with {}. A ratio is the value divided by that of the baseline.</p>",
            Escaped(&baseline.name)
        );
        if others.iter().any(|it| machine(it) != machine(baseline)) {
            html.push_str(
                "<p class=\"worse\">Not all were measured on the same machine and system: differences may \
                 come from these.</p>\n",
            );
        }
    }
    // More would not fit on paper.
    let tables = others.len().div_ceil(OTHERS).max(1);
    let most = others.len().div_ceil(tables).max(1);
    match others.is_empty() {
        true => table(html, baseline, others, tolerance),
        false => {
            for others in others.chunks(most) {
                table(html, baseline, others, tolerance);
            }
        }
    }
    html.push_str("<div class=\"plots\">\n");
    throughput(html, group);
    percentiles(html, group);
    latencies(html, group);
    html.push_str("</div></section>\n");
}

fn table(html: &mut String, baseline: &Series, others: &[Series], tolerance: Tolerance) {
    let mode = baseline.shown().mode.clone();
    let compared: Vec<Vec<Row>> = others
        .iter()
        .map(|other| compare(&baseline.figures, &other.figures, tolerance))
        .collect();
    let _ = write!(
        html,
        "<div class=\"wide figures\"><table>\n<thead><tr><th></th><th>{}</th>",
        Escaped(&baseline.name)
    );
    for other in others {
        let name = Escaped(&other.name);
        let _ = write!(html, "<th>{name}</th><th>ratio</th>");
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    let all = || std::iter::once(baseline).chain(others);
    for figure in FIGURES {
        if all().all(|series| figure.of_all(&series.figures).is_none()) {
            continue;
        }
        let show = |series: &Series| {
            let value = figure.of_all(&series.figures);
            value.map_or("–".to_owned(), |value| figure.show(value))
        };
        let title = figure.title(&mode);
        let value = show(baseline);
        let _ = write!(
            html,
            "<tr><th>{title}</th><td class=\"number\">{value}</td>"
        );
        for (other, rows) in others.iter().zip(&compared) {
            let row = rows.iter().find(|row| row.figure == figure);
            let ratio = row.map_or(String::new(), ratio);
            let value = show(other);
            let _ = write!(
                html,
                "<td class=\"number\">{value}</td><td class=\"ratio\">{ratio}</td>"
            );
        }
        html.push_str("</tr>\n");
    }
    for (title, show) in DETAILS {
        let values: Vec<_> = all().map(|series| show(series.shown())).collect();
        if values.iter().all(Option::is_none) {
            continue;
        }
        let _ = write!(html, "<tr><td>{title}</td>");
        for (index, value) in values.into_iter().enumerate() {
            let value = value.unwrap_or_else(|| "–".to_owned());
            let ratio = if index > 0 { "<td></td>" } else { "" };
            let value = Escaped(&value);
            let _ = write!(html, "<td class=\"number\">{value}</td>{ratio}");
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
}

/// `1.24 × better`.
fn ratio(row: &Row) -> String {
    let times = match row.old > 0.0 {
        true => format!("{:.2} × ", row.new / row.old),
        false => String::new(),
    };
    let (class, mark, word) = match row.verdict {
        Verdict::Better => ("better", "▲ ", "better"),
        Verdict::Worse => ("worse", "▼ ", "worse"),
        Verdict::Same => ("soft", "", "same"),
    };
    format!("{times}<span class=\"{class}\">{mark}{word}</span>")
}

/// What is shown of the run in the middle beside the figures that are compared.
type Detail = (&'static str, fn(&Measurement) -> Option<String>);

const DETAILS: [Detail; 12] = [
    ("bytes/s", |it| {
        (it.bytes_per_second > 0.0).then(|| crate::numbers::bytes(it.bytes_per_second))
    }),
    ("latency, least", |it| {
        Some(micros(it.latency_us.as_ref()?.min))
    }),
    ("latency, mean", |it| {
        let latency = it.latency_us.as_ref()?;
        Some(match latency.stddev {
            Some(stddev) => format!("{} ± {}", micros(latency.mean), micros(stddev)),
            None => micros(latency.mean),
        })
    }),
    ("latency, most", |it| {
        Some(micros(it.latency_us.as_ref()?.max))
    }),
    ("messages", |it| Some(grouped(it.messages))),
    ("measured for", |it| {
        Some(format!("{:.1} s", it.duration_seconds))
    }),
    ("runs", |it| Some(it.runs.len().max(1).to_string())),
    ("server memory, before", |it| {
        Some(bytes(it.server.as_ref()?.rss_before_bytes))
    }),
    ("server memory, most", |it| {
        Some(bytes(it.server.as_ref()?.rss_peak_bytes))
    }),
    ("server memory, after", |it| {
        Some(bytes(it.server.as_ref()?.rss_after_bytes?))
    }),
    ("server, cores in use", |it| {
        let seconds = it.server.as_ref()?.cpu_seconds?;
        (it.duration_seconds > 0.0).then(|| format!("{:.2}", seconds / it.duration_seconds))
    }),
    ("first error", |it| it.first_error.clone()),
];

/// The intervals as they are drawn: a short rest at the end says little and is left out, and of many several
/// are put together.
fn intervals(result: &Measurement) -> Vec<Interval> {
    let width = result.intervals.first().map_or(0.0, |it| it.seconds);
    let long_enough = |it: &&Interval| it.seconds > 0.0 && it.seconds >= width / 4.0;
    let all: Vec<_> = result.intervals.iter().filter(long_enough).collect();
    let together = all.len().div_ceil(DRAWN).max(1);
    all.chunks(together).filter_map(mean).collect()
}

/// Several intervals as one: their mean, and for the maximum the most.
fn mean(intervals: &[&Interval]) -> Option<Interval> {
    let latencies = || intervals.iter().filter_map(|it| it.latency_us.as_ref());
    let count = latencies().count() as f64;
    let sum = |of: fn(&IntervalLatency) -> f64| latencies().map(of).sum::<f64>();
    Some(Interval {
        t_seconds: intervals.first()?.t_seconds,
        seconds: intervals.iter().map(|it| it.seconds).sum(),
        messages: intervals.iter().map(|it| it.messages).sum(),
        bytes: intervals.iter().map(|it| it.bytes).sum(),
        errors: intervals.iter().map(|it| it.errors).sum(),
        lost: None,
        latency_us: (count > 0.0).then(|| IntervalLatency {
            p50: sum(|it| it.p50) / count,
            p99: sum(|it| it.p99) / count,
            max: latencies().map(|it| it.max).fold(0.0, f64::max),
        }),
    })
}

fn end(series: &Series) -> f64 {
    let last = series.shown().intervals.last();
    last.map_or(0.0, |it| it.t_seconds + it.seconds)
}

fn middle(interval: &Interval) -> f64 {
    interval.t_seconds + interval.seconds / 2.0
}

fn rate(interval: &Interval) -> f64 {
    interval.messages as f64 / interval.seconds
}

fn throughput(html: &mut String, group: &Group) {
    let lines: Vec<_> = group
        .series
        .iter()
        .enumerate()
        .filter(|(_, series)| series.shown().messages > 0 && end(series) > 0.0)
        .map(|(number, series)| Line {
            name: &series.name,
            style: Style::of(number),
            points: intervals(series.shown())
                .iter()
                .map(|it| Some((middle(it), rate(it))))
                .collect(),
        })
        .collect();
    if lines.is_empty() {
        return;
    }
    let points = || lines.iter().flat_map(|line| line.points.iter().flatten());
    let most = points().map(|point| point.1).fold(0.0, f64::max);
    let what = match group.case.mode.as_str() {
        "connect" => "connections/s",
        _ => "messages/s",
    };
    let plot = Plot {
        title: &format!("Throughput over time, {what}"),
        x: Scale::time(group.series.iter().map(end).fold(0.0, f64::max)),
        y: Scale::linear(most, Unit::PerSecond),
        hints: match &group.series[..] {
            [one] => hints(one.shown(), |it| {
                Some(format!("{} {what}", grouped(rate(it).round() as u64)))
            }),
            _ => Vec::new(),
        },
        lines,
    };
    html.push_str(&plot.to_html());
}

fn hints(result: &Measurement, text: impl Fn(&Interval) -> Option<String>) -> Vec<Hint> {
    let hint = |it: &Interval| {
        Some(Hint {
            from: it.t_seconds,
            to: it.t_seconds + it.seconds,
            text: format!("{} s: {}", it.t_seconds, text(it)?),
        })
    };
    intervals(result).iter().filter_map(hint).collect()
}

fn percentiles(html: &mut String, group: &Group) {
    let drawn = || {
        let all = group.series.iter().enumerate();
        all.filter(|(_, series)| !series.shown().histogram.is_empty())
    };
    let count = |series: &Series| series.shown().latency_us.as_ref().map_or(1, |it| it.count);
    let most = drawn().map(|(_, series)| count(series)).max();
    let Some(most) = most else {
        return;
    };
    let lines: Vec<_> = drawn()
        .map(|(number, series)| Line {
            name: &series.name,
            style: Style::of(number),
            points: {
                let points = series.shown().histogram.iter();
                points
                    .map(|it| Some((percentile_of(it.percentile, count(series)), it.us)))
                    .collect()
            },
        })
        .collect();
    let plot = Plot {
        title: "Latency by percentile",
        x: nines_scale(most),
        y: latency_scale(
            lines
                .iter()
                .flat_map(|it| it.points.iter().flatten().map(|it| it.1)),
        ),
        hints: Vec::new(),
        lines,
    };
    html.push_str(&plot.to_html());
}

/// One drawing for each series, all with the same axes.
fn latencies(html: &mut String, group: &Group) {
    let latencies = |series: &Series| {
        let intervals = intervals(series.shown());
        let latencies = intervals.iter().filter_map(|it| it.latency_us.as_ref());
        latencies
            .flat_map(|it| [it.p50, it.max])
            .collect::<Vec<_>>()
    };
    let all: Vec<_> = group.series.iter().flat_map(latencies).collect();
    if all.is_empty() {
        return;
    }
    let x = Scale::time(group.series.iter().map(end).fold(0.0, f64::max));
    let y = latency_scale(all.into_iter());
    for series in &group.series {
        let result = series.shown();
        if latencies(series).is_empty() {
            continue;
        }
        let line = |name, number, value: fn(&IntervalLatency) -> f64| Line {
            name,
            style: Style::of(number),
            points: intervals(result)
                .iter()
                .map(|it| Some((middle(it), value(it.latency_us.as_ref()?))))
                .collect(),
        };
        let plot = Plot {
            title: &match group.series.len() {
                1 => "Latency over time".to_owned(),
                _ => format!("Latency over time, {}", series.name),
            },
            x: x.clone(),
            y: y.clone(),
            lines: vec![
                line("p50", 0, |it| it.p50),
                line("p99", 1, |it| it.p99),
                line("max", 2, |it| it.max),
            ],
            hints: hints(result, |it| {
                let latency = it.latency_us.as_ref()?;
                let [p50, p99, max] = [latency.p50, latency.p99, latency.max].map(micros);
                Some(format!("p50 {p50}, p99 {p99}, max {max}"))
            }),
        };
        html.push_str(&plot.to_html());
    }
}

fn latency_scale(values: impl Iterator<Item = f64> + Clone) -> Scale {
    let least = values.clone().fold(f64::INFINITY, f64::min);
    Scale::latency(least, values.fold(0.0, f64::max))
}
