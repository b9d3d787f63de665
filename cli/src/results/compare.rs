//! Old figures against new ones.

use std::path::Path;

use serde::Serialize;

use super::Measurement;
use super::case::Case;
use super::figures::{FIGURES, Figure, Figures};
use crate::numbers::change;

/// How much of a difference is taken for noise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tolerance {
    /// Percent of the messages a second.
    pub(crate) throughput: f64,
    /// Percent of a percentile.
    pub(crate) latency: f64,
}

/// More of the messages lost than before, in percent of all, that is taken for noise.
const LOST_TOLERANCE: f64 = 1.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Better,
    /// Within the tolerance.
    Same,
    Worse,
}

/// One figure, old and new.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    #[serde(skip)]
    pub(crate) figure: Figure,
    name: &'static str,
    pub(crate) old: f64,
    pub(crate) new: f64,
    /// Not there when the old one is 0.
    pub(crate) change_percent: Option<f64>,
    pub(crate) verdict: Verdict,
    /// Whether it is worse and one of those that decide.
    pub(crate) regression: bool,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    baseline: Baseline,
    tolerance_percent: f64,
    latency_tolerance_percent: f64,
    pub(crate) figures: Vec<Row>,
    pub(crate) regression: bool,
}

/// What is compared with.
#[derive(Clone, Debug, Serialize)]
struct Baseline {
    file: String,
    version: Option<String>,
    label: Option<String>,
    started_at: Option<String>,
    /// Of which the figures are the median.
    runs: usize,
}

impl Comparison {
    /// The results of `case` in a file, as the baseline of `new`.
    ///
    /// # Errors
    ///
    /// The file has none; the text says in what the nearest one differs.
    pub(crate) fn new(
        file: &Path,
        results: &[Measurement],
        case: &Case,
        new: &[Figures],
        tolerance: Tolerance,
    ) -> Result<Self, String> {
        let same: Vec<_> = results
            .iter()
            .filter(|result| Case::of(result) == *case)
            .collect();
        let Some(first) = same.first() else {
            return Err(none(results, case, |case| case));
        };
        let old: Vec<_> = same.iter().flat_map(|result| Figures::of(result)).collect();
        let figures = compare(&old, new, tolerance);
        Ok(Comparison {
            baseline: Baseline {
                file: file.display().to_string(),
                version: first.version.clone(),
                label: first.label.clone(),
                started_at: first.started_at.clone(),
                runs: old.len(),
            },
            tolerance_percent: tolerance.throughput,
            latency_tolerance_percent: tolerance.latency,
            regression: figures.iter().any(|row| row.regression),
            figures,
        })
    }

    /// A table for a terminal.
    pub(crate) fn to_text(&self, mode: &str) -> String {
        let mut text = format!("{:<13} {:>14} {:>14} {:>10}", "", "old", "new", "change");
        for row in &self.figures {
            let show = |value| row.figure.show(value);
            let verdict = match row.verdict {
                _ if row.regression => "  regression",
                Verdict::Better => "  better",
                Verdict::Worse => "  worse",
                Verdict::Same => "",
            };
            text += &format!(
                "\n{:<13} {:>14} {:>14} {:>10}{verdict}",
                row.figure.title(mode),
                show(row.old),
                show(row.new),
                row.change_percent.map_or("-".to_owned(), change),
            );
        }
        text
    }

    /// What got worse, in one line.
    pub(crate) fn regressions(&self, mode: &str) -> String {
        let rows = self.figures.iter().filter(|row| row.regression);
        let texts: Vec<_> = rows
            .map(|row| {
                let show = |value| row.figure.show(value);
                let change = row.change_percent.map(change);
                let change = change.map_or(String::new(), |change| format!(" ({change})"));
                let title = row.figure.title(mode);
                format!("{title} {} → {}{change}", show(row.old), show(row.new))
            })
            .collect();
        texts.join(", ")
    }
}

/// Whether a file has a result with which this case can be compared, as far as it is known before the run.
///
/// # Errors
///
/// It has none; the text says in what the nearest one differs.
pub(crate) fn has_case(results: &[Measurement], case: &Case) -> Result<(), String> {
    let case = case.clone().without_pipeline();
    let mut cases = results.iter().map(Case::of).map(Case::without_pipeline);
    match cases.any(|other| other == case) {
        true => Ok(()),
        false => Err(none(results, &case, Case::without_pipeline)),
    }
}

fn none(results: &[Measurement], case: &Case, known: impl Fn(Case) -> Case) -> String {
    let nearest = results
        .iter()
        .map(|result| known(Case::of(result)).differences(case))
        .min_by_key(Vec::len)
        .unwrap_or_default();
    // A terminal obeys nothing that a file says.
    let nearest = nearest.join(", ").replace(char::is_control, "\u{fffd}");
    format!("no result of this case; the nearest differs in {nearest}")
}

/// All figures that both sides have.
pub(crate) fn compare(old: &[Figures], new: &[Figures], tolerance: Tolerance) -> Vec<Row> {
    let row = |figure: &Figure| {
        let (old, new) = (figure.of_all(old)?, figure.of_all(new)?);
        let verdict = verdict(*figure, old, new, tolerance);
        let decides = matches!(
            figure,
            Figure::Throughput | Figure::P50 | Figure::P99 | Figure::Errors
        );
        Some(Row {
            figure: *figure,
            name: figure.name(),
            old,
            new,
            change_percent: (old > 0.0).then(|| ((new - old) / old * 1e4).round() / 100.0),
            verdict,
            regression: decides && verdict == Verdict::Worse,
        })
    };
    FIGURES.iter().filter_map(row).collect()
}

fn verdict(figure: Figure, old: f64, new: f64, tolerance: Tolerance) -> Verdict {
    // By how much it got better.
    let (gain, noise) = match figure {
        Figure::Throughput => (new - old, old * tolerance.throughput / 100.0),
        Figure::Errors => (old - new, 0.0),
        Figure::Lost => (old - new, LOST_TOLERANCE),
        _ => (old - new, old * tolerance.latency / 100.0),
    };
    match gain {
        _ if gain > noise => Verdict::Better,
        _ if gain < -noise => Verdict::Worse,
        _ => Verdict::Same,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Tolerance = Tolerance {
        throughput: 10.0,
        latency: 25.0,
    };

    fn figures(messages_per_second: f64, latency: f64, errors: u64) -> Figures {
        Figures {
            messages_per_second,
            p50: Some(latency),
            p95: Some(latency),
            p99: Some(latency),
            p99_9: Some(latency),
            errors,
            lost_percent: Some(0.0),
        }
    }

    fn regressions(old: Figures, new: Figures) -> Vec<&'static str> {
        let rows = compare(&[old], &[new], TOLERANCE);
        let worse = rows.iter().filter(|row| row.regression);
        worse.map(|row| row.name).collect()
    }

    #[test]
    fn what_is_within_the_tolerance_is_no_regression() {
        let old = || figures(1_000.0, 100.0, 0);
        for same in [
            figures(1_000.0, 100.0, 0),
            figures(900.0, 125.0, 0),
            figures(5_000.0, 1.0, 0),
        ] {
            assert!(regressions(old(), same).is_empty());
        }
        assert_eq!(
            regressions(old(), figures(899.0, 100.0, 0)),
            ["messages_per_second"]
        );
        // The others are shown, and too noisy to decide.
        assert_eq!(
            regressions(old(), figures(1_000.0, 126.0, 0)),
            ["p50", "p99"]
        );
        assert_eq!(regressions(old(), figures(1_000.0, 100.0, 1)), ["errors"]);
        assert!(regressions(figures(1.0, 1.0, 3), figures(1.0, 1.0, 2)).is_empty());
    }

    #[test]
    fn what_only_one_side_has_is_not_compared() {
        let without = Figures {
            messages_per_second: 1.0,
            ..Figures::default()
        };
        let rows = compare(&[without], &[figures(1.0, 1.0, 0)], TOLERANCE);
        let names: Vec<_> = rows.iter().map(|row| row.name).collect();
        assert_eq!(names, ["messages_per_second", "errors"]);
        assert_eq!(rows[1].change_percent, None);
    }
}
