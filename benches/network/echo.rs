//! Echoes over TCP on loopback, with the server on a thread of its own.
//!
//! `SingleClientEcho` is a message of 17 B, there and back. `MultipleClientsEcho/N` is such a message from each of N
//! clients at the same time, until the last echo is back. `LargeMessageTransfer/SIZE` is one message of that size, there
//! and back. Clients share one thread.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use network_system::{Client, Handler, Message, ReconnectPolicy, Server, Session};
use tokio::runtime::Runtime;

use super::support::{Tally, limits, runtime, timeouts};
use super::time;

pub(crate) fn benches(criterion: &mut Criterion) {
    // What the classic benchmarks send.
    let message = Bytes::from_static(b"benchmark_message");
    criterion.bench_function("SingleClientEcho", |bencher| {
        let mut echo = Echo::new(1);
        bencher.iter_custom(|times| time(|| echo.run(&message, times)));
        echo.end();
    });
    let mut group = criterion.benchmark_group("MultipleClientsEcho");
    for clients in [1, 10, 50, 100] {
        group.throughput(Throughput::Elements(clients as u64));
        group.bench_function(clients.to_string(), |bencher| {
            let mut echo = Echo::new(clients);
            bencher.iter_custom(|times| time(|| echo.run(&message, times)));
            echo.end();
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("LargeMessageTransfer");
    for size in [1_024, 8_192, 65_536, 1_048_576] {
        // There and back.
        group.throughput(Throughput::Bytes(2 * size as u64));
        group.bench_function(size.to_string(), |bencher| {
            let mut echo = Echo::new(1);
            let message = Bytes::from(vec![b'X'; size]);
            bencher.iter_custom(|times| time(|| echo.run(&message, times)));
            echo.end();
        });
    }
    group.finish();
}

struct SendBack;

impl Handler for SendBack {
    async fn on_message(&self, session: &Session, message: &Message) {
        let _ = session.send(message).await;
    }
}

struct Count(Arc<Tally>);

impl Handler for Count {
    async fn on_message(&self, _: &Session, _: &Message) {
        self.0.add();
    }
}

/// A server on a thread of its own.
struct Serving {
    server: Server,
    runtime: tokio::runtime::Handle,
    thread: JoinHandle<()>,
}

impl Serving {
    fn new() -> Self {
        let (started, starts) = mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = runtime();
            runtime.block_on(async {
                let server = Server::builder()
                    .listen("tcp://127.0.0.1:0")
                    .limits(limits())
                    .timeouts(timeouts())
                    .handler(SendBack)
                    .build()
                    .unwrap();
                server.start().await.unwrap();
                let handle = tokio::runtime::Handle::current();
                started.send((server.clone(), handle)).unwrap();
                server.wait_for_stop().await;
            });
        });
        let (server, runtime) = starts.recv().unwrap();
        Serving {
            server,
            runtime,
            thread,
        }
    }

    fn end(self) {
        let server = self.server;
        self.runtime.spawn(async move { server.stop().await });
        self.thread.join().unwrap();
    }
}

struct Echo {
    serving: Serving,
    runtime: Runtime,
    clients: Vec<Client>,
    returned: Arc<Tally>,
}

impl Echo {
    fn new(clients: usize) -> Self {
        let serving = Serving::new();
        let runtime = runtime();
        let returned = Arc::new(Tally::default());
        let url = serving.server.urls()[0].clone();
        let clients = runtime.block_on(async {
            let mut connected = Vec::new();
            for _ in 0..clients {
                let client = Client::builder()
                    .endpoint(&url)
                    .limits(limits())
                    .timeouts(timeouts())
                    .reconnect(ReconnectPolicy::disabled())
                    .handler(Count(Arc::clone(&returned)))
                    .build()
                    .unwrap();
                client.connect().await.unwrap();
                connected.push(client);
            }
            connected
        });
        Echo {
            serving,
            runtime,
            clients,
            returned,
        }
    }

    /// All clients send the message, and all echoes are waited for, so many times.
    fn run(&mut self, message: &Bytes, times: u64) {
        let Echo {
            runtime,
            clients,
            returned,
            ..
        } = self;
        runtime.block_on(async {
            for _ in 0..times {
                let expected = returned.count() + clients.len() as u64;
                for client in clients.iter() {
                    client.send(message.clone()).await.unwrap();
                }
                returned.reach(expected).await;
            }
        });
    }

    fn end(self) {
        self.runtime.block_on(async {
            for client in self.clients {
                client.stop().await;
            }
        });
        self.serving.end();
    }
}
