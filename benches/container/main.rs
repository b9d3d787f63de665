//! Containers in MessagePack against `rmp-serde` on a struct of the same fields, in turns. The container's form is the
//! larger one, as it has a header.
//!
//! `cargo bench --bench container`

#![allow(clippy::unwrap_used, reason = "a bench that fails has no result")]

#[path = "../support/ratio.rs"]
mod ratio;
#[path = "../support/container.rs"]
mod support;

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use network_system::container::{Container, Format};

use self::ratio::{Batch, Pair};
use self::support::Record;

/// Reading the clock takes a tenth of what one run takes.
const RUNS: u64 = 32;

criterion_group! {
    name = benches;
    config = ratio::criterion();
    targets = container
}
criterion_main!(benches);

fn container(criterion: &mut Criterion) {
    let record = support::record();
    let mut group = criterion.benchmark_group("Container");
    for (name, container) in [
        ("addressed", support::addressed(&record)),
        ("plain", support::plain(&record)),
    ] {
        let structured = rmp_serde::to_vec_named(&record).unwrap();
        let contained = Bytes::from(container.encode(Format::MessagePack).unwrap());
        let record = support::record();
        let write = Pair {
            peer: "rmp-serde",
            messages: RUNS,
            own: repeat(move || {
                black_box(black_box(&container).encode(Format::MessagePack).unwrap());
            }),
            other: repeat(move || {
                black_box(rmp_serde::to_vec_named(black_box(&record)).unwrap());
            }),
        };
        write.measure(&mut group, &format!("write/{name}"));
        let read = Pair {
            peer: "rmp-serde",
            messages: RUNS,
            own: repeat(move || {
                black_box(Container::decode(Format::MessagePack, black_box(&contained)).unwrap());
            }),
            other: repeat(move || {
                black_box(rmp_serde::from_slice::<Record>(black_box(&structured)).unwrap());
            }),
        };
        read.measure(&mut group, &format!("read/{name}"));
    }
    group.finish();
}

fn repeat(mut run: impl FnMut() + 'static) -> Batch {
    Box::new(move || {
        let began = Instant::now();
        for _ in 0..RUNS {
            run();
        }
        began.elapsed()
    })
}
