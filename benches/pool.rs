//! What it costs to take an item out of a pool and give it back.
//!
//! `cargo bench --bench pool [-- TEXT]` runs those whose name contains the text.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use network_system::pool::{ClientPool, Manage, Pool, PoolBuilder, PoolError};
use network_system::{Client, Message, Server};
use tokio::runtime::{Builder, Runtime};

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1));
    targets = without_waiting, with_waiting, clients
}
criterion_main!(benches);

struct Numbers;

impl Manage for Numbers {
    type Item = u64;

    async fn create(&self) -> Result<u64, PoolError> {
        Ok(1)
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

fn pool(configure: impl Fn(PoolBuilder<Numbers>) -> PoolBuilder<Numbers>) -> Pool<Numbers> {
    configure(Pool::builder(Numbers).maximum(10).minimum(10))
        .build()
        .expect("it is valid")
}

/// Takes and gives back, as often as asked.
async fn turns(pool: &Pool<Numbers>, count: u64) {
    for _ in 0..count {
        let item = pool.acquire().await.expect("one is idle");
        black_box(*item);
    }
}

fn without_waiting(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("Pool");
    let runtime = runtime();
    let plain = pool(|builder| builder);
    let bare = pool(|builder| builder.idle_timeout(None));
    let all = pool(|builder| {
        builder
            .max_age(Some(Duration::from_secs(3600)))
            .check_after_idle(Some(Duration::from_secs(60)))
            .check_every(Some(Duration::from_secs(60)))
    });
    for (name, pool) in [
        ("defaults", plain),
        ("no_clock", bare),
        ("every_limit", all),
    ] {
        runtime.block_on(pool.warm_up()).expect("they are made");
        group.bench_function(format!("acquire_and_return/{name}"), |bencher| {
            bencher.iter_custom(|count| {
                runtime.block_on(async {
                    let began = Instant::now();
                    turns(&pool, count).await;
                    began.elapsed()
                })
            });
        });
    }
}

/// Two threads on one item, so that each return is handed over.
fn with_waiting(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("Pool");
    let runtime = runtime();
    let pool = Pool::builder(Numbers)
        .maximum(1)
        .build()
        .expect("it is valid");
    group.bench_function("hand_over", |bencher| {
        bencher.iter_custom(|count| {
            runtime.block_on(async {
                let began = Instant::now();
                let other = pool.clone();
                let other = tokio::spawn(async move { turns(&other, count / 2).await });
                turns(&pool, count - count / 2).await;
                other.await.expect("no panic");
                began.elapsed()
            })
        });
    });
}

/// With a real client, whose state is asked each time.
fn clients(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("Pool");
    let runtime = runtime();
    let (server, url) = runtime.block_on(async {
        let server = Server::builder()
            .listen("tcp://127.0.0.1:0")
            .on_request(|_, question: Message| async move { Ok(question) })
            .build()
            .expect("it is valid");
        server.start().await.expect("a free port");
        let url = server.urls().remove(0);
        (server, url)
    });
    let pool = ClientPool::clients(move || Client::builder().endpoint(&url))
        .minimum(4)
        .build()
        .expect("it is valid");
    runtime
        .block_on(pool.warm_up())
        .expect("the server is there");
    group.bench_function("acquire_and_return/client", |bencher| {
        bencher.iter_custom(|count| {
            runtime.block_on(async {
                let began = Instant::now();
                for _ in 0..count {
                    let client = pool.acquire().await.expect("one is idle");
                    black_box(client.client());
                }
                began.elapsed()
            })
        });
    });
    runtime.block_on(async {
        pool.close().await;
        let _ = server.stop().await;
    });
}
