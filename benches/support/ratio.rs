//! Two ways to do the same, measured in turns, so that both meet the same machine.

#![allow(clippy::print_stdout, reason = "results go there")]

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};

/// Works through a number of messages and returns the time of what is measured of it.
pub(crate) type Batch = Box<dyn FnMut() -> Duration>;

/// Ours, and another library's on the same messages.
pub(crate) struct Pair {
    /// What the other one is called.
    pub(crate) peer: &'static str,
    /// Messages in a batch.
    pub(crate) messages: u64,
    pub(crate) own: Batch,
    pub(crate) other: Batch,
}

/// Fifty samples of about 20 ms, in each of which both have their turn.
pub(crate) fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
}

impl Pair {
    /// Shows the time of a batch of ours, and then how fast ours is relative to the other: the median of the ratios of
    /// the samples, with their quartiles. 1.00 is as fast.
    pub(crate) fn measure(mut self, group: &mut BenchmarkGroup<'_, WallTime>, name: &str) {
        let mut samples = Vec::new();
        group.throughput(Throughput::Elements(self.messages));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|batches| {
                let (mut own, mut other) = (Duration::ZERO, Duration::ZERO);
                for _ in 0..batches {
                    own += (self.own)();
                    other += (self.other)();
                }
                samples.push((own, other, batches));
                own
            });
        });
        // The first samples warm up.
        let samples = &samples[samples.len().saturating_sub(50)..];
        if samples.is_empty() {
            // Another name was asked for.
            return;
        }
        let each = |batches: u64| (batches * self.messages) as f64;
        let [own, other, ratio] = [
            quartiles(
                samples
                    .iter()
                    .map(|(own, _, n)| own.as_nanos() as f64 / each(*n)),
            ),
            quartiles(
                samples
                    .iter()
                    .map(|(_, other, n)| other.as_nanos() as f64 / each(*n)),
            ),
            quartiles(
                samples
                    .iter()
                    .map(|(own, other, _)| other.as_secs_f64() / own.as_secs_f64()),
            ),
        ];
        println!(
            "                        ratio to {}: {:.3} ({:.3}-{:.3}); ns each: {:.1}, {} {:.1}",
            self.peer, ratio[1], ratio[0], ratio[2], own[1], self.peer, other[1]
        );
    }
}

/// A quarter, half and three quarters of the values are below these.
fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}
