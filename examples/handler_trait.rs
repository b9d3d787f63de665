//! A handler as a trait: the fast form, whose messages are lent, with every event of a session.

#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::sync::atomic::{AtomicU64, Ordering};

use network_system::{Client, CloseReason, ErrorCode, Handler, Message, Server, Session};

/// Answers each message with its number on this session.
struct Counting;

/// What the handler keeps for each session.
#[derive(Default)]
struct Count(AtomicU64);

impl Handler for Counting {
    async fn on_connect(&self, session: &Session) {
        session.insert_extension(Count::default());
        println!("{} is here", session.client_id());
    }

    async fn on_message(&self, session: &Session, message: &Message) {
        let Some(count) = session.extension::<Count>() else {
            return;
        };
        let number = count.0.fetch_add(1, Ordering::Relaxed) + 1;
        // The message is lent; `message.clone()` would make it the handler's own.
        let _ = session
            .send(format!("{number}: {} bytes", message.len()))
            .await;
    }

    async fn on_disconnect(&self, session: &Session, reason: &CloseReason) {
        let stats = session.stats();
        println!(
            "{} has left ({reason}), {} messages",
            session.client_id(),
            stats.messages_received
        );
    }

    fn on_error(&self, session: &Session, code: ErrorCode, text: &str) {
        println!("{}: {code}: {text}", session.client_id());
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .handler(Counting)
        .build()?;
    server.start().await?;

    let url = server.urls().remove(0);
    let client = Client::builder().endpoint(url).client_id("anna").build()?;
    client.connect().await?;
    let mut messages = client.messages().ok_or("there is no message handler")?;
    for (text, expected) in [("a", "1: 1 bytes"), ("bcd", "2: 3 bytes")] {
        client.send(text).await?;
        let answer = messages.next().await.ok_or("the client has stopped")?;
        println!("{}", answer.as_text().unwrap_or("?"));
        assert_eq!(answer.payload(), expected.as_bytes());
    }

    client.stop().await;
    server.stop().await?;
    Ok(())
}
