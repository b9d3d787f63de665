//! What the stages of a pipeline cost over the libraries that they are made of.
//!
//! `cargo bench --bench pipeline [-- TEXT]` runs the cases whose name contains the text. Each runs our stage and
//! direct calls of the library on the same messages in turns of about 5 ms, so that both see the same machine. Shown
//! are the medians for each message, and the ratio of the speeds: 1.00 is a stage that costs nothing.

#![allow(clippy::print_stdout, reason = "results go there")]

mod cipher;
mod compression;

use std::time::Duration;

/// Turns of each of the two.
const SAMPLES: usize = 61;
const SAMPLE: Duration = Duration::from_millis(5);

/// Works through a batch of messages and returns the time of what is measured of it.
type Batch = Box<dyn FnMut() -> Duration>;

/// A comparison of a stage with the library that it uses.
struct Case {
    name: String,
    /// Messages in a batch.
    messages: usize,
    stage: Batch,
    library: Batch,
}

fn main() {
    // `cargo bench` adds `--bench`.
    let wanted: Vec<_> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|text| name.contains(text));
    for case in cipher::cases().into_iter().chain(compression::cases()) {
        if is_wanted(&case.name) {
            compare(case);
        }
    }
}

fn compare(case: Case) {
    let Case {
        name,
        messages,
        mut stage,
        mut library,
    } = case;
    let (mut stage_times, mut library_times) = (Vec::new(), Vec::new());
    // The first turn of each warms up.
    for sample in 0..=SAMPLES {
        let times = [
            (&mut stage, &mut stage_times),
            (&mut library, &mut library_times),
        ];
        for (batch, times) in times {
            let time = turn(batch) / messages as f64;
            if sample > 0 {
                times.push(time);
            }
        }
    }
    let (stage, library) = (median(stage_times), median(library_times));
    println!(
        "{name:<32} {stage:>8.0} ns a message, library {library:>8.0} ns, ratio {:.3}",
        library / stage
    );
}

/// Nanoseconds of a batch.
fn turn(batch: &mut Batch) -> f64 {
    let (mut total, mut batches) = (Duration::ZERO, 0);
    while total < SAMPLE {
        total += batch();
        batches += 1;
    }
    total.as_nanos() as f64 / f64::from(batches)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
