//! What the stages of a pipeline cost over the libraries that they are made of: our stage and direct calls of the library
//! on the same messages, in turns.
//!
//! `cargo bench --bench pipeline [-- TEXT]` runs the cases whose name contains the text.

#![allow(clippy::unwrap_used, reason = "a bench that fails has no result")]

mod cipher;
mod compression;
#[path = "../support/ratio.rs"]
mod ratio;
#[path = "../support/stages.rs"]
mod stages;

use criterion::{Criterion, criterion_group, criterion_main};

use self::ratio::Pair;

/// A stage and the library that it uses, by the name of what they do.
type Case = (String, Pair);

criterion_group! {
    name = benches;
    config = ratio::criterion();
    targets = pipeline
}
criterion_main!(benches);

fn pipeline(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("PipelineStage");
    for (name, pair) in cipher::cases().into_iter().chain(compression::cases()) {
        pair.measure(&mut group, &name);
    }
    group.finish();
}
