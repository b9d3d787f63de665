//! A stop that loses nothing: handlers finish, what is queued leaves, every peer is told why.

#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::time::Duration;

use network_system::{Client, Message, ReconnectPolicy, Server, Session};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        // Clients are told when to come back.
        .goaway(Duration::from_secs(1))
        .on_message(|session: Session, message: Message| async move {
            // Work that is under way when the server stops.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let _ = session.send(message).await;
        })
        .build()?;
    server.start().await?;

    let client = Client::builder()
        .endpoint(server.urls().remove(0))
        .reconnect(ReconnectPolicy::disabled())
        .build()?;
    client.connect().await?;
    let mut messages = client.messages().ok_or("there is no message handler")?;
    client.send("almost too late").await?;
    // The server has it once it says so.
    while server.stats().messages_received == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    // A program would wait for `tokio::signal::ctrl_c()` here.
    let report = server.stop_within(Duration::from_secs(5)).await?;
    println!(
        "{} sessions drained, {} aborted",
        report.drained, report.aborted
    );
    assert_eq!((report.drained, report.aborted), (1, 0));

    let answer = messages.next().await.ok_or("the answer was lost")?;
    println!("answered: {}", answer.as_text().unwrap_or("?"));
    client.wait_for_stop().await;
    let reason = client
        .close_reason()
        .ok_or("the client does not know why")?;
    println!("the client was told: {reason}");
    Ok(())
}
