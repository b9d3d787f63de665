//! The line that shows on a terminal how the run goes.

use std::sync::Arc;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::plan::Plan;
use super::recorder::Recorder;
use super::report::{errors, messages};
use super::run::Run;
use super::timeline::Timeline;
use crate::args::BenchMode;
use crate::numbers::{grouped, span};
use crate::output::Output;

pub(super) struct Progress {
    bar: ProgressBar,
    plan: Arc<Plan>,
    /// `run 2/5  `, where there are several.
    turn: String,
}

impl Progress {
    /// On a terminal; nowhere else, and not when asked to be quiet.
    pub(super) fn new(plan: &Arc<Plan>, number: usize, output: Output) -> Self {
        let target = match output.quiet {
            true => ProgressDrawTarget::hidden(),
            // It hides itself where stderr is no terminal.
            false => ProgressDrawTarget::stderr(),
        };
        let total = plan.warmup + plan.duration;
        let bar = ProgressBar::with_draw_target(Some(total.as_millis() as u64), target);
        if let Ok(style) = ProgressStyle::with_template("[{bar:20}] {wide_msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Progress {
            bar,
            plan: Arc::clone(plan),
            turn: match plan.repeat {
                1 => String::new(),
                runs => format!("run {number}/{runs}  "),
            },
        }
    }

    pub(super) fn connecting(&self, connected: usize) {
        let wanted = self.plan.connections;
        self.bar
            .set_message(format!("{}connecting {connected}/{wanted}", self.turn));
    }

    pub(super) fn running(&self, run: &Run, recorders: &[Arc<Recorder>], timeline: &Timeline) {
        let Some((from, until)) = run.measured() else {
            return;
        };
        if self.bar.is_hidden() {
            return;
        }
        let now = Instant::now();
        let begin = from - self.plan.warmup;
        self.bar.set_position((since(begin, now) * 1_000.0) as u64);
        if now < from {
            self.bar.set_message(format!("{}warming up", self.turn));
            return;
        }
        let now = now.min(until);
        let seconds = since(from, now).max(0.001);
        let total = self.plan.duration.as_secs_f64();
        let mut text = format!("{}{seconds:.1}/{total:.1} s", self.turn);
        if self.plan.mode != BenchMode::Idle {
            let rate = messages(recorders) as f64 / seconds;
            text += &format!("  {}/s", grouped(rate.round() as u64));
        }
        // Up to the last full second: what adds up more would disturb what it measures.
        let latency = timeline.latency();
        if !latency.is_empty() {
            let (p50, p99) = (
                latency.value_at_quantile(0.5),
                latency.value_at_quantile(0.99),
            );
            text += &format!("  p50 {}  p99 {}", span(p50), span(p99));
        }
        text += &format!("  errors {}", grouped(errors(recorders)));
        self.bar.set_message(text);
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// Seconds since `from`, for rates.
fn since(from: Instant, now: Instant) -> f64 {
    now.saturating_duration_since(from).as_secs_f64()
}
