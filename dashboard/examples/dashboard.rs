//! A server with a dashboard, which asks itself how it is, and ends.
//!
//! `cargo run -p network-system-dashboard --example dashboard`

use std::error::Error;
use std::net::SocketAddr;

use network_system::metrics::PerformanceMonitor;
use network_system::{Client, Message, Server, Session};
use network_system_dashboard::Dashboard;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::main]
#[allow(clippy::print_stdout, reason = "an example shows what it does")]
async fn main() -> Result<(), Box<dyn Error>> {
    let monitor = PerformanceMonitor::new();
    let server = Server::builder()
        .name("echo")
        .listen("tcp://127.0.0.1:0")
        .monitor(&monitor)
        .on_message(|session: Session, message: Message| async move {
            let _ = session.send(message).await;
        })
        .build()?;
    server.start().await?;

    // With a token, its holder can disconnect sessions and send to them: 32 random characters, from a secret store.
    let dashboard = Dashboard::builder(&server, &monitor)
        .token("an-example-is-not-a-secret-place")
        .build()?;
    let page = dashboard.bind("127.0.0.1:0".parse()?).await?;
    println!("dashboard {}", page.url());

    let client = Client::connect_to(&server.urls()[0]).await?;
    client.send("hello").await?;
    if let Some(mut messages) = client.messages() {
        messages.next().await.ok_or("the connection has ended")?;
    }

    let health = get(page.local_addr(), "/healthz").await?;
    println!("health: {health}");
    let metrics = get(page.local_addr(), "/metrics").await?;
    let received = metrics
        .lines()
        .find(|line| line.starts_with("network_system_messages_total") && line.contains("received"))
        .ok_or("the metrics have no messages")?;
    println!("{received}");

    client.stop().await;
    // As long as the server drains, whoever watches it should see that.
    server.stop().await?;
    page.shutdown().await;
    Ok(())
}

/// What is at a path.
async fn get(addr: SocketAddr, path: &str) -> Result<String, Box<dyn Error>> {
    let mut stream = TcpStream::connect(addr).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(format!("{path}: {head}").into()),
    }
}
