//! The result of a run, for people and for programs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::plan::Plan;
use super::run::{Recorder, Run, histogram};
use crate::args::BenchMode;

pub(super) struct Report {
    connected: usize,
    /// The names of the stages that messages went through.
    stages: Vec<String>,
    seconds: f64,
    pub(super) messages: u64,
    pub(super) errors: u64,
    /// Messages without an answer, where they may be lost.
    lost: Option<u64>,
    pub(super) first_error: Option<String>,
    latency: Histogram<u64>,
}

impl Report {
    pub(super) fn new(
        plan: &Plan,
        run: &Run,
        recorders: &[Arc<Recorder>],
        connected: usize,
    ) -> Self {
        let mut latency = histogram();
        for recorder in recorders {
            recorder.add_latency(&mut latency);
        }
        // A run that was interrupted is over when it was.
        let seconds = run.measured().map_or(0.0, |(from, until)| {
            until
                .min(run.ended())
                .saturating_duration_since(from)
                .as_secs_f64()
        });
        let messages = messages(recorders);
        Report {
            connected: match plan.mode {
                BenchMode::Connect => messages as usize,
                _ => connected,
            },
            stages: run.stages.get().cloned().unwrap_or_default(),
            seconds,
            messages,
            errors: errors(recorders),
            lost: plan.counts_lost().then(|| {
                let lost = recorders.iter();
                lost.map(|recorder| recorder.lost.load(Ordering::Relaxed))
                    .sum()
            }),
            first_error: recorders.iter().find_map(|recorder| recorder.first_error()),
            latency,
        }
    }

    fn per_second(&self) -> f64 {
        if self.seconds > 0.0 {
            self.messages as f64 / self.seconds
        } else {
            0.0
        }
    }

    pub(super) fn to_json(&self, plan: &Plan) -> Value {
        let size = plan.sends().then_some(plan.payload.len());
        let bytes = size.map_or(0, |size| self.messages * size as u64);
        let micros = |nanos: u64| nanos as f64 / 1_000.0;
        let at = |quantile| micros(self.latency.value_at_quantile(quantile));
        let latency = (!self.latency.is_empty()).then(|| {
            json!({
                "count": self.latency.len(),
                "min": micros(self.latency.min()),
                "mean": (self.latency.mean() / 10.0).round() / 100.0,
                "p50": at(0.5),
                "p90": at(0.9),
                "p99": at(0.99),
                "p99_9": at(0.999),
                "max": micros(self.latency.max()),
            })
        });
        json!({
            "url": plan.endpoint.to_string(),
            "mode": plan.mode_name(),
            "connections": plan.connections,
            "threads": plan.threads,
            "size": size,
            "window": plan.has_window().then_some(plan.window),
            "rate": plan.rate,
            "pipeline": self.stages,
            "warmup_seconds": plan.warmup.as_secs_f64(),
            "duration_seconds": (self.seconds * 1e6).round() / 1e6,
            "connected": self.connected,
            "messages": self.messages,
            "bytes": bytes,
            "messages_per_second": self.per_second().round(),
            "bytes_per_second": (self.per_second() * size.unwrap_or(0) as f64).round(),
            "errors": self.errors,
            "first_error": self.first_error,
            "lost": self.lost,
            "latency_us": latency,
        })
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
                "latency     p50 {}, p90 {}, p99 {}, p99.9 {}, max {}\n",
                at(0.5),
                at(0.9),
                at(0.99),
                at(0.999),
                span(self.latency.max())
            );
        }
        if let Some(lost) = self.lost {
            let share = 100.0 * lost as f64 / (lost + self.messages).max(1) as f64;
            text += &format!("lost        {} ({share:.2} %)\n", grouped(lost));
        }
        text + &format!("errors      {}", grouped(self.errors))
    }
}

pub(super) fn messages(recorders: &[Arc<Recorder>]) -> u64 {
    recorders
        .iter()
        .map(|recorder| recorder.messages.load(Ordering::Relaxed))
        .sum()
}

pub(super) fn errors(recorders: &[Arc<Recorder>]) -> u64 {
    recorders.iter().map(|recorder| recorder.errors()).sum()
}

/// `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Nanoseconds with three digits and a unit.
pub(super) fn span(nanos: u64) -> String {
    let (value, unit) = match nanos {
        0..1_000_000 => (nanos as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (nanos as f64 / 1e6, "ms"),
        _ => (nanos as f64 / 1e9, "s"),
    };
    match value {
        ..10.0 => format!("{value:.2} {unit}"),
        10.0..100.0 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// Seconds since `from`, for rates.
pub(super) fn since(from: Instant, now: Instant) -> f64 {
    now.saturating_duration_since(from).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(span(950), "0.95 µs");
        assert_eq!(span(41_300), "41.3 µs");
        assert_eq!(span(1_200_000), "1.20 ms");
        assert_eq!(span(2_345_000_000), "2.35 s");
    }
}
