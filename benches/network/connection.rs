//! Connections that are made, used and closed, and such that are refused.
//!
//! `Connection/connect` is a client of its own that connects, says hello, is welcomed, and closes in order; in process,
//! and with `tcp` on loopback. `Connection/refused` is an attempt where nobody listens.

use criterion::{Criterion, Throughput};
use network_system::{Client, ReconnectPolicy, Server};
use tokio::runtime::Runtime;

use super::support::{limits, mem_url, runtime, timeouts};
use super::time;

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("Connection");
    group.throughput(Throughput::Elements(1));
    for (name, url) in [
        ("connect", mem_url()),
        ("tcp/connect", "tcp://127.0.0.1:0".to_owned()),
    ] {
        group.bench_function(name, |bencher| {
            let runtime = runtime();
            let server = serve(&runtime, &url);
            let url = server.urls()[0].clone();
            bencher.iter_custom(|times| time(|| connect(&runtime, &url, times)));
            runtime.block_on(server.stop()).unwrap();
        });
    }
    for name in ["refused", "tcp/refused"] {
        group.bench_function(name, |bencher| {
            let runtime = runtime();
            let url = match name {
                "refused" => mem_url(),
                _ => {
                    // Whoever had it last has closed it.
                    let server = serve(&runtime, "tcp://127.0.0.1:0");
                    let url = server.urls()[0].clone();
                    runtime.block_on(server.stop()).unwrap();
                    url
                }
            };
            bencher.iter_custom(|times| time(|| be_refused(&runtime, &url, times)));
        });
    }
    group.finish();
}

fn serve(runtime: &Runtime, url: &str) -> Server {
    runtime.block_on(async {
        let server = Server::builder()
            .listen(url)
            .limits(limits())
            .timeouts(timeouts())
            .build()
            .unwrap();
        server.start().await.unwrap();
        server
    })
}

fn client(url: &str) -> Client {
    Client::builder()
        .endpoint(url)
        .reconnect(ReconnectPolicy::disabled())
        .build()
        .unwrap()
}

fn connect(runtime: &Runtime, url: &str, times: u64) {
    runtime.block_on(async {
        for _ in 0..times {
            let client = client(url);
            client.connect().await.unwrap();
            client.stop().await;
        }
    });
}

fn be_refused(runtime: &Runtime, url: &str, times: u64) {
    runtime.block_on(async {
        for _ in 0..times {
            assert!(client(url).connect().await.is_err());
        }
    });
}
