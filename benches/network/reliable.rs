//! What reliable sessions cost: messages of 64 B on reliable sessions and on ordinary ones, in turns.
//!
//! Both sides of each session are on one thread, so times are the CPU time of both: see [`Throughput`].

use std::time::Instant;

use criterion::Criterion;
use network_system::Reliability;
use network_system::pipeline::{Compression, Pipeline};

use super::ratio::{Batch, Pair};
use super::support::mem_url;
use super::support::throughput::{Extras, Throughput};

/// Messages in a batch.
const MESSAGES: u64 = 10_000;
const SIZE: usize = 64;

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("Reliable");
    let lz4 = Pipeline::builder().require(Compression::lz4()).build();
    let cases = [
        ("mem", mem_url(), None),
        ("tcp", "tcp://127.0.0.1:0".to_owned(), None),
        ("ws", "ws://127.0.0.1:0".to_owned(), None),
        (
            "tcp-lz4",
            "tcp://127.0.0.1:0".to_owned(),
            Some(lz4.unwrap()),
        ),
    ];
    for (name, url, pipeline) in cases {
        let mut extras = Extras {
            reliability: None,
            pipeline,
        };
        let other = batch(Throughput::with(&url, SIZE, &extras));
        extras.reliability = Some(Reliability::default());
        let url = if name == "mem" { mem_url() } else { url };
        let own = batch(Throughput::with(&url, SIZE, &extras));
        let pair = Pair {
            peer: "ordinary sessions",
            messages: MESSAGES,
            own,
            other,
        };
        pair.measure(&mut group, name);
    }
    group.finish();
}

fn batch(mut throughput: Throughput) -> Batch {
    Box::new(move || {
        let began = Instant::now();
        throughput.run(MESSAGES);
        began.elapsed()
    })
}
