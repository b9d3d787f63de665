//! The result of a run, for people and for programs.

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::machine::machine;
use super::plan::Plan;
use super::recorder::Recorder;
use super::run::{Run, histogram};
use super::timeline::{Summary, Timeline};
use crate::args::BenchMode;
use crate::numbers::{self, grouped, span};
use crate::results::figures::{Figure, Figures};
use crate::results::{
    FORMAT, HistogramPoint, Interval, IntervalLatency, Latency, Measurement, ServerUse,
};

/// Points of the distribution each time that the distance to 100 % is halved.
const POINTS: u32 = 5;

pub(super) struct Report {
    connected: usize,
    /// When the load began, as in RFC 3339.
    started_at: Option<String>,
    /// The names of the stages that messages went through.
    stages: Vec<String>,
    seconds: f64,
    pub(super) messages: u64,
    pub(super) errors: u64,
    /// Messages without an answer, where they may be lost.
    lost: Option<u64>,
    pub(super) first_error: Option<String>,
    /// Nanoseconds.
    latency: Histogram<u64>,
    /// Of each but the last of the intervals.
    width: Duration,
    intervals: Vec<Summary>,
    pub(super) server: Option<ServerUse>,
}

impl Report {
    pub(super) fn new(
        plan: &Plan,
        run: &Run,
        recorders: &[Arc<Recorder>],
        timeline: &mut Timeline,
        connected: usize,
    ) -> Self {
        // A run that was interrupted is over when it was.
        let elapsed = run.elapsed();
        timeline.finish(recorders, run, elapsed);
        let intervals = timeline.summaries().to_vec();
        let mut latency = histogram();
        // They have the same bounds.
        let _ = latency.add(timeline.latency());
        let messages = messages(recorders);
        Report {
            connected: match plan.mode {
                BenchMode::Connect => messages as usize,
                _ => connected,
            },
            started_at: run.started_at(),
            stages: run.stages.get().cloned().unwrap_or_default(),
            seconds: elapsed.as_secs_f64(),
            messages,
            errors: errors(recorders),
            lost: plan
                .counts_lost()
                .then(|| intervals.iter().map(|interval| interval.lost).sum()),
            first_error: recorders.iter().find_map(|recorder| recorder.first_error()),
            latency,
            width: run.width,
            intervals,
            server: None,
        }
    }

    fn per_second(&self) -> f64 {
        if self.seconds > 0.0 {
            self.messages as f64 / self.seconds
        } else {
            0.0
        }
    }

    /// The result as it is written, without what several runs have in common.
    pub(super) fn to_measurement(&self, plan: &Plan) -> Measurement {
        let size = plan.sends().then_some(plan.payload.len() as u64);
        Measurement {
            format: FORMAT,
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            label: plan.label.clone(),
            started_at: self.started_at.clone(),
            url: plan.endpoint.to_string(),
            mode: plan.mode_name().to_owned(),
            connections: plan.connections as u64,
            threads: plan.threads as u64,
            size,
            window: plan.has_window().then_some(plan.window as u64),
            rate: plan.rate.map(|rate| rate as u64),
            pipeline: self.stages.clone(),
            reliable: plan.client.is_reliable(),
            warmup_seconds: plan.warmup.as_secs_f64(),
            duration_seconds: rounded(self.seconds, 1e6),
            connected: self.connected as u64,
            messages: self.messages,
            bytes: self.messages * size.unwrap_or(0),
            messages_per_second: self.per_second().round(),
            bytes_per_second: (self.per_second() * size.unwrap_or(0) as f64).round(),
            errors: self.errors,
            first_error: self.first_error.clone(),
            lost: self.lost,
            latency_us: self.latency(),
            machine: Some(machine()),
            server: self.server.clone(),
            intervals: self.intervals(size.unwrap_or(0)),
            histogram: self.histogram(),
            runs: Vec::new(),
            comparison: None,
        }
    }

    fn latency(&self) -> Option<Latency> {
        let latency = &self.latency;
        let at = |quantile| micros(latency.value_at_quantile(quantile));
        (!latency.is_empty()).then(|| Latency {
            count: latency.len(),
            min: micros(latency.min()),
            mean: rounded(latency.mean() / 1e3, 1e2),
            stddev: Some(rounded(latency.stdev() / 1e3, 1e2)),
            p50: at(0.5),
            p90: at(0.9),
            p95: Some(at(0.95)),
            p99: at(0.99),
            p99_9: at(0.999),
            max: micros(latency.max()),
        })
    }

    fn intervals(&self, size: u64) -> Vec<Interval> {
        let width = self.width.as_secs_f64();
        let interval = |(index, summary): (usize, &Summary)| {
            let begun = index as f64 * width;
            let latency = summary.latency.as_ref();
            Interval {
                t_seconds: begun,
                seconds: rounded((self.seconds - begun).min(width), 1e6),
                messages: summary.messages,
                bytes: summary.messages * size,
                errors: summary.errors,
                lost: self.lost.map(|_| summary.lost),
                latency_us: latency.map(|latency| IntervalLatency {
                    p50: micros(latency.p50),
                    p99: micros(latency.p99),
                    max: micros(latency.max),
                }),
            }
        };
        self.intervals.iter().enumerate().map(interval).collect()
    }

    fn histogram(&self) -> Vec<HistogramPoint> {
        let mut count = 0;
        let points = self.latency.iter_quantiles(POINTS);
        let mut points: Vec<_> = points
            .map(|point| {
                count += point.count_since_last_iteration();
                HistogramPoint {
                    percentile: rounded(100.0 * point.quantile_iterated_to(), 1e7).min(100.0),
                    us: micros(point.value_iterated_to()),
                    count,
                }
            })
            .collect();
        // Among the slowest there are more points than messages.
        points.dedup_by(|point, last| match point.count == last.count {
            true => {
                last.percentile = point.percentile;
                true
            }
            false => false,
        });
        points
    }

    pub(super) fn to_text(&self, plan: &Plan) -> String {
        let at_a_time = match plan.mode {
            BenchMode::Connect => plan.connections,
            _ => self.connected,
        };
        let s = if at_a_time == 1 { "" } else { "s" };
        let mut text = format!(
            "{} {}: {at_a_time} connection{s}",
            plan.mode_name(),
            plan.endpoint
        );
        if plan.sends() {
            text += &format!(", {} bytes", plan.payload.len());
        }
        match plan.rate {
            Some(rate) => text += &format!(", {}/s asked for", grouped(rate as u64)),
            None if plan.has_window() => text += &format!(", window {}", plan.window),
            None => {}
        }
        if !self.stages.is_empty() {
            text += &format!(", {}", self.stages.join(" + "));
        }
        if plan.client.is_reliable() {
            text += ", reliable";
        }
        text += &format!(", {:.1} s\n", self.seconds);
        let (done, unit) = match plan.mode {
            BenchMode::Connect => ("connections", "connections/s"),
            _ => ("messages", "messages/s"),
        };
        if plan.mode != BenchMode::Idle {
            text += &format!(
                "throughput  {} {unit}, {} {done}",
                grouped(self.per_second().round() as u64),
                grouped(self.messages)
            );
            if plan.sends() {
                let mib = self.per_second() * plan.payload.len() as f64 / (1024.0 * 1024.0);
                text += &format!(", {mib:.1} MiB/s");
            }
            text.push('\n');
        }
        if !self.latency.is_empty() {
            let at = |quantile| span(self.latency.value_at_quantile(quantile));
            text += &format!(
                "latency     p50 {}, p90 {}, p95 {}, p99 {}, p99.9 {}, max {}\n",
                at(0.5),
                at(0.9),
                at(0.95),
                at(0.99),
                at(0.999),
                span(self.latency.max())
            );
        }
        if let Some(lost) = self.lost {
            let share = 100.0 * lost as f64 / (lost + self.messages).max(1) as f64;
            text += &format!("lost        {} ({share:.2} %)\n", grouped(lost));
        }
        if let Some(server) = &self.server {
            let size = |bytes: u64| numbers::bytes(bytes as f64);
            text += &format!(
                "server      {} before, {} at most",
                size(server.rss_before_bytes),
                size(server.rss_peak_bytes)
            );
            if let Some(after) = server.rss_after_bytes {
                text += &format!(", {} after", size(after));
            }
            if let Some(seconds) = server.cpu_seconds {
                text += &format!(", {seconds:.2} s of processor time");
            }
            text.push('\n');
        }
        text + &format!("errors      {}", grouped(self.errors))
    }
}

/// What each of several runs came to.
pub(super) fn runs_to_text(plan: &Plan, runs: &[Figures]) -> String {
    let figure = match plan.mode {
        BenchMode::Idle => Figure::Errors,
        _ if plan.rate.is_some() && plan.mode != BenchMode::Oneway => Figure::P99,
        _ => Figure::Throughput,
    };
    let values = runs.iter().filter_map(|run| figure.of(run));
    let values: Vec<_> = values.map(|value| figure.show(value)).collect();
    let title = figure.title(plan.mode_name());
    format!("runs        {title} {}", values.join(", "))
}

pub(super) fn messages(recorders: &[Arc<Recorder>]) -> u64 {
    recorders.iter().map(|recorder| recorder.messages()).sum()
}

pub(super) fn errors(recorders: &[Arc<Recorder>]) -> u64 {
    recorders.iter().map(|recorder| recorder.errors()).sum()
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

/// A number with so many parts of one.
fn rounded(number: f64, parts: f64) -> f64 {
    (number * parts).round() / parts
}
