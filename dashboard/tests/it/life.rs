//! Beginnings and ends.

use std::time::{Duration, Instant};

use network_system::{Message, Session};
use network_system_dashboard::Dashboard;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

#[tokio::test]
async fn readiness_follows_the_server_and_health_does_not() {
    let (entered, mut is_entered) = tokio::sync::mpsc::channel::<()>(1);
    let (leave, left) = tokio::sync::watch::channel(false);
    let site = site_with(
        |server| {
            server.on_message(move |_: Session, _: Message| {
                let (entered, mut left) = (entered.clone(), left.clone());
                async move {
                    let _ = entered.send(()).await;
                    let _ = left.wait_for(|left| *left).await;
                }
            })
        },
        |dashboard| dashboard,
    )
    .await;
    let client = site.client("c").await;
    assert_eq!(site.get("/readyz").await.is(200).body, "ready");
    client.send("work").await.unwrap();
    is_entered.recv().await.unwrap();
    let server = site.server.clone();
    let stopping = tokio::spawn(async move { server.stop().await });
    until("the server drains", || site.server.is_draining()).await;
    assert_eq!(site.get("/readyz").await.is(503).body, "draining");
    assert_eq!(site.json("/api/v1/status").await["state"], "draining");
    assert_eq!(site.get("/healthz").await.is(200).body, "ok");
    leave.send(true).unwrap();
    stopping.await.unwrap().unwrap();
    assert_eq!(site.get("/readyz").await.is(503).body, "stopped");
    assert_eq!(site.get("/healthz").await.is(200).body, "ok");
    let status = site.json("/api/v1/status").await;
    assert_eq!(
        (&status["state"], &status["uptime_seconds"]),
        (&"stopped".into(), &serde_json::Value::Null)
    );
    site.server.start().await.unwrap();
    site.get("/readyz").await.is(200);
}

#[tokio::test]
async fn it_ends_within_a_second_whatever_clients_do() {
    // Where the machine has more to do it may take longer, but not each time.
    let mut took = Vec::new();
    while took.last() >= Some(&Duration::from_secs(1)) || took.is_empty() {
        assert!(took.len() < 10, "{took:?}");
        took.push(end_with_clients_that_have_begun().await);
    }
}

async fn end_with_clients_that_have_begun() -> Duration {
    let site = site().await;
    let addr = site.addr();
    let mut clients = Vec::new();
    let begun = [
        String::new(),
        "GET /heal".into(),
        format!("GET /healthz HTTP/1.1\r\nHost: {addr}\r\n\r\n"),
        format!(
            "POST /api/v1/sessions/1/messages HTTP/1.1\r\nHost: {addr}\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
        ),
    ];
    for begun in &begun {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        clients.push(stream);
    }
    // The third has been answered, so all have been accepted.
    let mut answer = [0; 12];
    clients[2].read_exact(&mut answer).await.unwrap();
    let began = Instant::now();
    site.page.shutdown().await;
    let took = began.elapsed();
    for mut stream in clients {
        rest(&mut stream).await;
    }
    assert!(TcpStream::connect(addr).await.is_err());
    // The dashboard itself goes on, and the port is free.
    let again = site.dashboard.bind(addr).await.unwrap();
    assert_eq!(again.local_addr(), addr);
    assert_eq!(again.url(), format!("http://{addr}"));
    took
}

#[tokio::test]
async fn dropping_it_closes_everything() {
    let site = site().await;
    let addr = site.addr();
    let mut idle = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    idle.write_all(request.as_bytes()).await.unwrap();
    idle.read_exact(&mut [0; 12]).await.unwrap();
    drop(site.page);
    rest(&mut idle).await;
    until("the port is closed", || {
        std::net::TcpStream::connect(addr).is_err()
    })
    .await;
}

#[tokio::test]
async fn nothing_is_left_when_the_last_handle_is_dropped() {
    let site = site().await;
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let client = site.client("c").await;
    client.stop().await;
    let before = tasks();
    {
        let dashboard = Dashboard::builder(&site.server, &site.monitor)
            .build()
            .unwrap();
        let router = dashboard.router();
        assert_eq!(
            tasks(),
            before + 1,
            "one task takes samples, however many use them"
        );
        drop(dashboard);
        tokio::task::yield_now().await;
        assert_eq!(tasks(), before + 1);
        drop(router);
    }
    until("its task has ended", || tasks() == before).await;
}

#[test]
fn without_a_runtime_it_is_refused() {
    let monitor = network_system::metrics::PerformanceMonitor::new();
    let server = network_system::Server::builder()
        .listen("tcp://127.0.0.1:0")
        .build()
        .unwrap();
    let error = Dashboard::builder(&server, &monitor).build().unwrap_err();
    assert_eq!(
        error.code(),
        network_system::ErrorCode::InvalidConfiguration
    );
}
