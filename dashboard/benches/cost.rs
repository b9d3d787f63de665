//! What requests and samples cost with 10,000 sessions: `cargo bench -p network-system-dashboard`.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "its figures are what it is for")]
#![allow(missing_docs, reason = "nothing is public here")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use network_system::metrics::PerformanceMonitor;
use network_system::{Client, GroupName, Limits, Message, Server, Session};
use network_system_dashboard::Dashboard;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SESSIONS: usize = 10_000;
const REQUESTS: u32 = 50;

/// Asks for something many times on one connection: median, longest, and the length of the answer.
async fn time(addr: SocketAddr, path: &str) -> (Duration, Duration, usize) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    let mut times = Vec::new();
    let mut answer = vec![0; 1024 * 1024];
    let mut length = 0;
    for _ in 0..REQUESTS {
        let began = Instant::now();
        stream.write_all(request.as_bytes()).await.unwrap();
        length = 0;
        let mut whole = usize::MAX;
        while length < whole {
            length += stream.read(&mut answer[length..]).await.unwrap();
            let head = String::from_utf8_lossy(&answer[..length.min(2_048)]).into_owned();
            if let Some(end) = head.find("\r\n\r\n") {
                assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                let (_, rest) = head.split_once("content-length: ").unwrap();
                let body: usize = rest.lines().next().unwrap().parse().unwrap();
                whole = end + 4 + body;
            }
        }
        times.push(began.elapsed());
    }
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() - 1], length)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let monitor = PerformanceMonitor::new();
    let mut limits = Limits::default();
    limits.max_connections = 0;
    let server = Server::builder()
        .listen("mem://cost")
        .limits(limits)
        .monitor(&monitor)
        .on_connect(|session: Session| async move {
            let group = format!("group-{}", session.id().as_u64() % 100);
            session.join(&GroupName::new(group).unwrap()).unwrap();
        })
        .on_message(|session: Session, message: Message| async move {
            let _ = session.send(message).await;
        })
        .build()
        .unwrap();
    server.start().await.unwrap();
    let mut clients = Vec::new();
    for number in 0..SESSIONS {
        let client = Client::builder()
            .endpoint("mem://cost")
            .client_id(format!("client-{number}"))
            .build()
            .unwrap();
        client.connect().await.unwrap();
        client.send("hello").await.unwrap();
        clients.push(client);
    }
    let dashboard = Dashboard::builder(&server, &monitor).build().unwrap();
    let page = dashboard
        .bind("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    for path in [
        "/healthz",
        "/metrics",
        "/api/v1/status",
        "/api/v1/sessions",
        "/api/v1/sessions?sort=client_id",
        "/api/v1/sessions?sort=remote&order=desc",
        "/api/v1/sessions?sort=queued_bytes&order=desc",
        "/api/v1/sessions?sort=groups",
        "/api/v1/sessions?filter=client-99&sort=bytes_sent",
        "/api/v1/sessions?offset=9000&limit=1000",
        "/api/v1/groups",
    ] {
        let (median, longest, length) = time(page.local_addr(), path).await;
        println!("{path}: median {median:.1?}, longest {longest:.1?}, {length} bytes");
    }
    let mut times = Vec::new();
    for _ in 0..REQUESTS {
        let began = Instant::now();
        std::hint::black_box(monitor.metrics());
        times.push(began.elapsed());
    }
    times.sort_unstable();
    println!(
        "monitor.metrics(), once a sample: median {:.1?}",
        times[times.len() / 2]
    );
    page.shutdown().await;
    server.stop().await.unwrap();
}
