//! An echo server, and a client that talks to it.

#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use network_system::{Client, Message, Server, Session};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .on_message(|session: Session, message: Message| async move {
            let _ = session.send(message).await;
        })
        .build()?;
    server.start().await?;
    let url = server.urls().remove(0);
    println!("listening {url}");

    let client = Client::connect_to(url).await?;
    let mut messages = client.messages().ok_or("there is no message handler")?;
    for text in ["one", "two", "three"] {
        client.send(text).await?;
        let echo = messages.next().await.ok_or("the client has stopped")?;
        println!("sent {text}, received {}", echo.as_text().unwrap_or("?"));
        assert_eq!(echo.payload(), text.as_bytes());
    }

    client.stop().await;
    server.stop().await?;
    Ok(())
}
