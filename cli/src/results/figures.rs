//! The numbers of a result that are compared.

use serde::{Deserialize, Serialize};

use super::Measurement;
use crate::numbers::{grouped, micros};

/// What one run came to. Times are in microseconds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Figures {
    pub(crate) messages_per_second: f64,
    pub(crate) p50: Option<f64>,
    pub(crate) p95: Option<f64>,
    pub(crate) p99: Option<f64>,
    pub(crate) p99_9: Option<f64>,
    pub(crate) errors: u64,
    /// Of the messages that were sent, where they may be lost.
    pub(crate) lost_percent: Option<f64>,
}

impl Figures {
    /// Those of each run of a result.
    pub(crate) fn of(result: &Measurement) -> Vec<Figures> {
        match result.runs.is_empty() {
            true => vec![Figures::of_one(result)],
            false => result.runs.clone(),
        }
    }

    /// Those of the result's own run.
    pub(crate) fn of_one(result: &Measurement) -> Figures {
        let latency = result.latency_us.as_ref();
        let lost = |lost: u64| {
            let sent = lost.saturating_add(result.messages).max(1);
            100.0 * lost as f64 / sent as f64
        };
        Figures {
            messages_per_second: result.messages_per_second,
            p50: latency.map(|latency| latency.p50),
            p95: latency.and_then(|latency| latency.p95),
            p99: latency.map(|latency| latency.p99),
            p99_9: latency.map(|latency| latency.p99_9),
            errors: result.errors,
            lost_percent: result.lost.map(lost),
        }
    }

    /// All of them, to be checked.
    pub(crate) fn all(&self) -> impl Iterator<Item = f64> {
        FIGURES.iter().filter_map(|figure| figure.of(self))
    }
}

/// One of the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    Throughput,
    P50,
    P95,
    P99,
    P999,
    Errors,
    Lost,
}

/// In the order in which they are shown.
pub(crate) const FIGURES: [Figure; 7] = [
    Figure::Throughput,
    Figure::P50,
    Figure::P95,
    Figure::P99,
    Figure::P999,
    Figure::Errors,
    Figure::Lost,
];

impl Figure {
    /// As the field in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Figure::Throughput => "messages_per_second",
            Figure::P50 => "p50",
            Figure::P95 => "p95",
            Figure::P99 => "p99",
            Figure::P999 => "p99_9",
            Figure::Errors => "errors",
            Figure::Lost => "lost_percent",
        }
    }

    /// For people; `mode` says what is counted.
    pub(crate) fn title(self, mode: &str) -> &'static str {
        match self {
            Figure::Throughput if mode == "connect" => "connections/s",
            Figure::Throughput => "messages/s",
            Figure::P50 => "p50",
            Figure::P95 => "p95",
            Figure::P99 => "p99",
            Figure::P999 => "p99.9",
            Figure::Errors => "errors",
            Figure::Lost => "lost",
        }
    }

    pub(crate) fn of(self, figures: &Figures) -> Option<f64> {
        match self {
            Figure::Throughput => Some(figures.messages_per_second),
            Figure::P50 => figures.p50,
            Figure::P95 => figures.p95,
            Figure::P99 => figures.p99,
            Figure::P999 => figures.p99_9,
            Figure::Errors => Some(figures.errors as f64),
            Figure::Lost => figures.lost_percent,
        }
    }

    /// What several runs came to: the median, but for errors, of which none shall be overlooked.
    pub(crate) fn of_all(self, runs: &[Figures]) -> Option<f64> {
        let mut values: Vec<_> = runs.iter().filter_map(|run| self.of(run)).collect();
        values.sort_by(f64::total_cmp);
        match self {
            Figure::Errors => values.last().copied(),
            _ => median(&values),
        }
    }

    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Figure::Throughput | Figure::Errors => grouped(value.round() as u64),
            Figure::Lost => format!("{value:.2} %"),
            _ => micros(value),
        }
    }
}

/// Of values in order.
fn median(values: &[f64]) -> Option<f64> {
    let upper = *values.get(values.len() / 2)?;
    match values.len().is_multiple_of(2) {
        true => Some((values[values.len() / 2 - 1] + upper) / 2.0),
        false => Some(upper),
    }
}

/// The run in the middle: by its throughput, or where that was asked for, by its latency.
pub(crate) fn middle(runs: &[Figures], is_open_loop: bool) -> usize {
    let by = match is_open_loop {
        true => Figure::P99,
        false => Figure::Throughput,
    };
    let value = |index: usize| by.of(&runs[index]).unwrap_or(0.0);
    let mut order: Vec<_> = (0..runs.len()).collect();
    order.sort_by(|&one, &other| value(one).total_cmp(&value(other)));
    order
        .get(runs.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(throughputs: &[f64]) -> Vec<Figures> {
        let run = |&messages_per_second| Figures {
            messages_per_second,
            ..Figures::default()
        };
        throughputs.iter().map(run).collect()
    }

    #[test]
    fn a_median_is_in_the_middle_and_errors_are_the_most() {
        for (throughputs, expected) in [
            (&[][..], None),
            (&[3.0], Some(3.0)),
            (&[3.0, 1.0], Some(2.0)),
            (&[9.0, 1.0, 2.0], Some(2.0)),
        ] {
            let median = Figure::Throughput.of_all(&runs(throughputs));
            assert_eq!(median, expected, "{throughputs:?}");
        }
        let mut some = runs(&[1.0, 1.0, 1.0]);
        some[1].errors = 7;
        assert_eq!(Figure::Errors.of_all(&some), Some(7.0));
        // A run without latencies does not count as a fast one.
        some[0].p50 = Some(5.0);
        assert_eq!(Figure::P50.of_all(&some), Some(5.0));
        assert_eq!(Figure::P99.of_all(&some), None);
    }

    #[test]
    fn the_middle_run_is_one_of_the_runs() {
        assert_eq!(middle(&runs(&[5.0]), false), 0);
        assert_eq!(middle(&runs(&[5.0, 9.0, 7.0]), false), 2);
        assert_eq!(middle(&runs(&[5.0, 9.0, 7.0, 6.0]), false), 3);
        assert_eq!(middle(&[], false), 0);
    }
}
