//! How many instructions things take, counted by callgrind: nearly the same each time and on each machine, so that a
//! change of one percent is seen.
//!
//! `benches/run instructions` installs what is needed and runs this; `benches/run instructions --against COMMIT` compares
//! with another commit. Each case is a process of its own, in which fixtures are made, everything has run once, and
//! then a fixed number of runs is counted: of the caller, both sides' workers and the runtime, on one thread.

#![allow(clippy::unwrap_used, reason = "a bench that fails has no result")]
#![allow(missing_docs, reason = "what gungraun makes of the functions has none")]

#[path = "../support/container.rs"]
mod container;
#[path = "../support/stages.rs"]
mod stages;
#[path = "../support/mod.rs"]
mod support;

use std::hint::black_box;

use bytes::Bytes;
use gungraun::prelude::*;
use gungraun::{Callgrind, CallgrindMetrics, EventKind};
use network_system::container::{Container, Format};
use network_system::internal::StageLink;
use network_system::pipeline::{Compression, Encryption};

use self::support::crowd::{Crowd, Run};
use self::support::mem_url;
use self::support::throughput::Throughput;

fn in_process(size: usize) -> Throughput {
    Throughput::new(&mem_url(), size)
}

fn over_tcp(size: usize) -> Throughput {
    Throughput::new("tcp://127.0.0.1:0", size)
}

#[library_benchmark(teardown = Throughput::end)]
#[bench::b64(in_process(64))]
#[bench::b256(in_process(256))]
#[bench::kb1(in_process(1_024))]
#[bench::kb8(in_process(8_192))]
#[bench::tcp_b64(over_tcp(64))]
#[bench::tcp_kb1(over_tcp(1_024))]
fn messages_1000(mut throughput: Throughput) -> Throughput {
    throughput.run(1_000);
    throughput
}

/// What the first run makes is not counted.
fn crowd(sessions: usize, run: Run) -> (Crowd, Run) {
    let mut crowd = Crowd::new(sessions);
    run(&mut crowd, 1);
    (crowd, run)
}

fn end(crowd: Crowd) {
    crowd.end();
}

#[library_benchmark(teardown = end)]
#[bench::create(crowd(0, Crowd::create))]
#[bench::send(crowd(1, Crowd::send))]
#[bench::group_join_leave(crowd(100, Crowd::join_and_leave))]
#[bench::attributes(crowd(100, Crowd::attributes))]
#[bench::lookup_10000(crowd(10_000, Crowd::lookup))]
fn times_100((mut crowd, run): (Crowd, Run)) -> Crowd {
    run(&mut crowd, 100);
    crowd
}

#[library_benchmark(teardown = end)]
#[bench::to_10(crowd(10, Crowd::broadcast))]
#[bench::to_100(crowd(100, Crowd::broadcast))]
#[bench::to_1000(crowd(1_000, Crowd::broadcast))]
fn broadcasts_10((mut crowd, run): (Crowd, Run)) -> Crowd {
    run(&mut crowd, 10);
    crowd
}

/// A stage of both sides, a message for it, and what was made of that.
struct Stage {
    client: StageLink,
    server: StageLink,
    message: Vec<u8>,
    encoded: Vec<u8>,
    decoded: Vec<u8>,
}

impl Stage {
    fn new((client, server): (StageLink, StageLink), message: Vec<u8>) -> Self {
        let (encoded, decoded) = (Vec::new(), Vec::new());
        let mut stage = Stage {
            client,
            server,
            message,
            encoded,
            decoded,
        };
        stage.run();
        stage
    }

    fn run(&mut self) {
        self.encoded.clear();
        self.decoded.clear();
        let (message, limit) = (black_box(&self.message), self.message.len());
        self.client.encode(message, &mut self.encoded).unwrap();
        self.server
            .decode(&self.encoded, limit, &mut self.decoded)
            .unwrap();
    }
}

#[library_benchmark]
#[bench::aes_256_gcm_64(Stage::new(stages::cipher(Encryption::aes_256_gcm), vec![b'x'; 64]))]
#[bench::chacha20_poly1305_64(Stage::new(stages::cipher(Encryption::chacha20_poly1305), vec![b'x'; 64]))]
#[bench::lz4_1024(Stage::new(stages::pair(Compression::lz4()), stages::json(1_024)))]
#[bench::zstd_4096(Stage::new(stages::pair(Compression::zstd()), stages::json(4_096)))]
#[bench::deflate_4096(Stage::new(stages::pair(Compression::deflate()), stages::json(4_096)))]
fn there_and_back_100(mut stage: Stage) -> Stage {
    for _ in 0..100 {
        stage.run();
    }
    stage
}

#[library_benchmark]
#[bench::message_pack(container::addressed(&container::record()), Format::MessagePack)]
#[bench::message_pack_plain(container::plain(&container::record()), Format::MessagePack)]
#[bench::json(container::addressed(&container::record()), Format::Json)]
fn write_and_read_100(container: Container, format: Format) -> Option<Container> {
    let mut read = None;
    for _ in 0..100 {
        let written = Bytes::from(black_box(&container).encode(format).unwrap());
        read = Some(Container::decode(format, &written).unwrap());
    }
    read
}

library_benchmark_group!(name = message_throughput, benchmarks = messages_1000);
library_benchmark_group!(name = session, benchmarks = times_100);
library_benchmark_group!(name = broadcast, benchmarks = broadcasts_10);
library_benchmark_group!(name = pipeline_stage, benchmarks = there_and_back_100);
library_benchmark_group!(name = containers, benchmarks = write_and_read_100);

main!(
    // Caches are another machine's: what counts is instructions.
    config = LibraryBenchmarkConfig::default().tool(
        Callgrind::with_args(["--cache-sim=no"])
            .format([CallgrindMetrics::SingleEvent(EventKind::Ir)])
    ),
    library_benchmark_groups = [
        message_throughput,
        session,
        broadcast,
        pipeline_stage,
        containers
    ]
);
