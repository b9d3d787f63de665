//! A server and a client in one process, without sockets: the same sessions, and fast tests.

#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use network_system::{Client, Message, Server, Session};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A server can have any number of listeners, of any transport.
    let server = Server::builder()
        .listen("mem://example")
        .listen("tcp://127.0.0.1:0")
        .on_message(|session: Session, message: Message| async move {
            let answer = format!(
                "{} over {}",
                message.as_text().unwrap_or("?"),
                session.transport()
            );
            let _ = session.send(answer).await;
        })
        .build()?;
    server.start().await?;

    for url in server.urls() {
        let client = Client::connect_to(&url).await?;
        let mut messages = client.messages().ok_or("there is no message handler")?;
        client.send("hello").await?;
        let answer = messages.next().await.ok_or("the client has stopped")?;
        println!("{url}: {}", answer.as_text().unwrap_or("?"));
        client.stop().await;
    }

    server.stop().await?;
    Ok(())
}
