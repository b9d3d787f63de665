//! The page: an overview of all results, then a section for each case.

mod case;

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::plot::bar;
use super::series::{Group, Series};
use super::text::Escaped;
use crate::numbers;
use crate::output;
use crate::results::compare::Tolerance;
use crate::results::figures::Figure;

const STYLE: &str = include_str!("page.css");

pub(super) fn page(title: &str, groups: &[Group], tolerance: Tolerance) -> String {
    let mut html = String::new();
    let title = Escaped(title);
    // Nothing is fetched or run, whatever the files say; the one style sheet is known by its hash.
    let hash = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    let _ = write!(
        html,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <header><h1>{title}</h1>\n"
    );
    let results: usize = groups.iter().map(|group| group.series.len()).sum();
    let _ = write!(
        html,
        "<p class=\"soft\">{results} result{} of {} case{}. Made by netsys {} at {}.</p></header>\n<main>\n",
        s(results),
        groups.len(),
        s(groups.len()),
        env!("CARGO_PKG_VERSION"),
        Escaped(&short(&output::now()))
    );
    overview(&mut html, groups);
    for (number, group) in groups.iter().enumerate() {
        case::section(&mut html, number, group, tolerance);
    }
    origins(&mut html, groups);
    let _ = write!(
        html,
        "</main>\n<footer><p>Throughput is what was done in the measured time. Latency counts from when a message \
         was sent, or should have been, to its answer; a percentile is the time that so many percent of the \
         messages did not take longer than. Axes of latency are logarithmic. Of runs of many seconds \
         several are drawn as one, by their mean, and for max by the most. Differences of up to {} % of \
         the throughput and {} % of a latency are taken for noise. Results of runs on a machine that did \
         something else meanwhile say little.</p></footer>\n</body>\n</html>\n",
        tolerance.throughput, tolerance.latency
    );
    html
}

/// Bars of all results, side by side.
fn overview(html: &mut String, groups: &[Group]) {
    let all = || groups.iter().flat_map(|group| &group.series);
    let most = |figure: Figure| {
        let values = all().filter_map(|series| figure.of_all(&series.figures));
        values.fold(0.0, f64::max)
    };
    let (most_messages, most_latency) = (most(Figure::Throughput), most(Figure::P99));
    html.push_str(
        "<section><h2>All results</h2>\n<div class=\"wide\"><table class=\"bars\">\n<thead><tr><th>result</th>\
         <th colspan=\"2\">messages/s (connections/s with connect)</th>\
         <th colspan=\"2\">p99 latency</th><th>errors</th></tr></thead>\n",
    );
    for (number, group) in groups.iter().enumerate() {
        let _ = writeln!(
            html,
            "<tbody><tr class=\"case\"><th colspan=\"6\"><a href=\"#case-{number}\">{}</a></th></tr>",
            Escaped(&group.case.to_string())
        );
        for (index, series) in group.series.iter().enumerate() {
            let _ = write!(html, "<tr><td>{}</td>", Escaped(&series.name));
            for (figure, most) in [
                (Figure::Throughput, most_messages),
                (Figure::P99, most_latency),
            ] {
                match figure.of_all(&series.figures) {
                    Some(value) if most > 0.0 => {
                        let _ = write!(
                            html,
                            "<td class=\"barred\">{}</td><td class=\"number\">{}</td>",
                            bar(value / most, index),
                            figure.show(value)
                        );
                    }
                    _ => html.push_str("<td></td><td>–</td>"),
                }
            }
            let errors = Figure::Errors.of_all(&series.figures).unwrap_or(0.0);
            let class = if errors > 0.0 { " worse" } else { "" };
            let shown = Figure::Errors.show(errors);
            let _ = writeln!(html, "<td class=\"number{class}\">{shown}</td></tr>");
        }
        html.push_str("</tbody>\n");
    }
    html.push_str("</table></div></section>\n");
}

/// Where the results come from.
fn origins(html: &mut String, groups: &[Group]) {
    html.push_str(
        "<section><h2>Where they come from</h2>\n<div class=\"wide\"><table class=\"words\">\n<thead><tr>\
         <th>file</th><th>label</th><th>case</th><th>begun</th><th>server</th><th>netsys</th><th>machine of the \
         load</th></tr></thead>\n<tbody>\n",
    );
    for group in groups {
        for series in &group.series {
            let shown = series.shown();
            let or_none = |text: &Option<String>| match text {
                Some(text) => Escaped(text).to_string(),
                None => "–".to_owned(),
            };
            let _ = writeln!(
                html,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                Escaped(&series.file),
                or_none(&shown.label),
                Escaped(&group.case.to_string()),
                or_none(&shown.started_at.as_deref().map(short)),
                Escaped(&shown.url),
                or_none(&shown.version),
                or_none(&machine(series)),
            );
        }
    }
    html.push_str("</tbody></table></div></section>\n");
}

/// `AMD EPYC, 2 cores, linux 6.18`.
fn machine(series: &Series) -> Option<String> {
    let machine = series.shown().machine.as_ref()?;
    let cores = machine.cores.map(|cores| format!("{cores} cores"));
    let system = match (&machine.os, &machine.kernel) {
        (Some(os), Some(kernel)) => Some(format!("{os} {kernel}")),
        (os, _) => os.clone(),
    };
    let parts = [machine.cpu.clone(), cores, system];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// A time without the parts of a second.
fn short(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => time.to_owned(),
    }
}

/// The plural of more or less than one.
fn s(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn bytes(count: u64) -> String {
    numbers::bytes(count as f64)
}
