//! Messages, connections, sessions and broadcasts, by the names that the classic benchmarks have for them.
//!
//! `cargo bench --bench network [-- TEXT]` runs those whose name contains the text.
//!
//! | name | one run |
//! |---|---|
//! | `MessageThroughput/SIZE` | a message from a client's `send` to the server's handler, in process: see [`Throughput`] |
//! | `MessageThroughput/tcp/SIZE` | the same over TCP on loopback, so with frames of bytes and calls of the system |
//! | `Connection/…` | see [`connection`] |
//! | `Session/…`, `Broadcast/N` | see [`Crowd`](support::crowd::Crowd) |
//! | `Reliable/…` | see [`reliable`] |
//! | `SingleClientEcho`, `MultipleClientsEcho/N`, `LargeMessageTransfer/SIZE` | see [`echo`] |
//!
//! But for the echoes, everything is on one thread: figures are the CPU time of both sides.

#![allow(clippy::unwrap_used, reason = "a bench that fails has no result")]

mod connection;
mod echo;
#[path = "../support/ratio.rs"]
mod ratio;
mod reliable;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput as Rate, criterion_group, criterion_main};

use self::support::crowd::{Crowd, Run};
use self::support::mem_url;
use self::support::throughput::Throughput;

/// The sizes of the messages of `MessageThroughput`, by the names that the classic benchmarks have for them.
const SIZES: [(&str, usize); 4] = [("64B", 64), ("256B", 256), ("1KB", 1_024), ("8KB", 8_192)];

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    targets = message_throughput, connection::benches, session, broadcast, echo::benches
}
criterion_group! {
    name = ratios;
    config = ratio::criterion();
    targets = reliable::benches
}
criterion_main!(benches, ratios);

fn message_throughput(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("MessageThroughput");
    for (prefix, url) in [("", None), ("tcp/", Some("tcp://127.0.0.1:0"))] {
        for (name, size) in SIZES {
            group.throughput(Rate::Elements(1));
            group.bench_function(format!("{prefix}{name}"), |bencher| {
                let mut throughput = match url {
                    None => Throughput::new(&mem_url(), size),
                    Some(url) => Throughput::new(url, size),
                };
                bencher.iter_custom(|messages| time(|| throughput.run(messages)));
                throughput.end();
            });
        }
    }
    group.finish();
}

/// The sessions among which lookups, groups and attributes are measured.
const SESSIONS: usize = 10_000;

fn session(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("Session");
    let cases: [(&str, usize, Run); 5] = [
        ("create", 0, Crowd::create),
        ("send", 1, Crowd::send),
        ("group-join-leave", SESSIONS, Crowd::join_and_leave),
        ("attributes", SESSIONS, Crowd::attributes),
        ("lookup-10000", SESSIONS, Crowd::lookup),
    ];
    for (name, sessions, run) in cases {
        group.bench_function(name, |bencher| {
            let mut crowd = Crowd::new(sessions);
            bencher.iter_custom(|times| time(|| run(&mut crowd, times)));
            crowd.end();
        });
    }
    group.finish();
}

fn broadcast(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("Broadcast");
    for sessions in [10, 100, 1_000] {
        group.throughput(Rate::Elements(sessions as u64));
        group.bench_function(sessions.to_string(), |bencher| {
            let mut crowd = Crowd::new(sessions);
            bencher.iter_custom(|times| time(|| crowd.broadcast(times)));
            crowd.end();
        });
    }
    group.finish();
}

/// The time that `run` takes.
fn time(run: impl FnOnce()) -> Duration {
    let began = Instant::now();
    run();
    began.elapsed()
}
