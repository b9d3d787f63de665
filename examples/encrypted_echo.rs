//! Messages that are compressed and encrypted, and keys that change while sessions are running.
//!
//! `-- serve` is a server for others, until a line comes on its standard input; tests/interop uses it.

#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;

use network_system::pipeline::{
    Compression, Encryption, HmacSha256, KeyError, Keys, Pipeline, Secret,
};
use network_system::{Client, ConfigError, Message, Server, ServerBuilder, Session};

/// Both sides have them. Real ones come from a file or a vault, not from the source.
const FIRST: &str = "1d5ce0f3a8a24f6e9b07c6f1d23b884e5a60b2c7e4917f38d05c9a6b12e38f74";
const SECOND: &str = "92b1f04c6d7e3a58c9e20d417fb35a6680d4e1c72f9b05a3de6718c4b05f9e2d";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return serve().await;
    }
    // Each side has a ring of its own, as two processes have.
    let (at_server, at_client) = (keys()?, keys()?);
    let server = echo(lz4_and_aes(&at_server)?).build()?;
    server.start().await?;
    let url = server.urls().remove(0);

    let client = Client::builder()
        .endpoint(url)
        .pipeline(lz4_and_aes(&at_client)?)
        .build()?;
    let mut messages = client.messages().ok_or("there is a message handler")?;
    client.connect().await?;
    let session = client.session().ok_or("it has just connected")?;
    println!("agreed on {}", session.pipeline().join(", "));

    let text = "what is said again and again is short, ".repeat(100);
    for step in [
        "with the first key",
        "while keys change",
        "with the second key",
    ] {
        client.send(text.as_str()).await?;
        let echo = messages.next().await.ok_or("the client has stopped")?;
        assert_eq!(echo.payload(), text.as_bytes());
        println!("{} bytes there and back {step}", echo.len());
        match step {
            "with the first key" => {
                // First everybody learns the new key, and only then somebody uses it.
                at_server.add(2, Secret::from_hex(SECOND)?)?;
                at_client.add(2, Secret::from_hex(SECOND)?)?;
                at_server.activate(2)?;
            }
            "while keys change" => {
                at_client.activate(2)?;
                // Nobody sends with the first one any more.
                at_client.remove(1)?;
                at_server.remove(1)?;
            }
            _ => {}
        }
    }
    client.stop().await;
    server.stop().await?;
    Ok(())
}

fn keys() -> Result<Keys, KeyError> {
    Ok(Keys::new(1, Secret::from_hex(FIRST)?))
}

/// Nobody is let in who does not encrypt. Compression is used where the other side has it.
fn lz4_and_aes(keys: &Keys) -> Result<Pipeline, ConfigError> {
    Pipeline::builder()
        .offer(Compression::lz4())
        .require(Encryption::aes_256_gcm(keys))
        .build()
}

fn echo(pipeline: Pipeline) -> ServerBuilder {
    Server::builder()
        .listen("tcp://127.0.0.1:0")
        .pipeline(pipeline)
        .on_message(|session: Session, message: Message| async move {
            let _ = session.send(message).await;
        })
        .on_request(|_: Session, message: Message| async move { Ok(message) })
}

/// Takes whatever a client has. A line on standard input changes the key of what is sent, an empty one ends.
async fn serve() -> Result<(), Box<dyn Error>> {
    let keys = keys()?;
    keys.add(2, Secret::from_hex(SECOND)?)?;
    let pipeline = Pipeline::builder()
        .offer(Compression::lz4())
        .offer(Compression::zstd())
        .offer(Compression::gzip())
        .offer(Compression::deflate())
        .offer(Encryption::aes_256_gcm(&keys))
        .offer(Encryption::chacha20_poly1305(&keys))
        .offer(HmacSha256::new(Secret::from_hex(SECOND)?))
        .build()?;
    let server = echo(pipeline).build()?;
    server.start().await?;
    println!("listening {}", server.urls().remove(0));
    let (sender, mut lines) = tokio::sync::mpsc::channel(1);
    // Standard input blocks.
    std::thread::spawn(move || {
        let lines = std::io::stdin().lines().map_while(Result::ok);
        for line in lines.take_while(|line| !line.is_empty()) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    while let Some(line) = lines.recv().await {
        keys.activate(line.trim().parse()?)?;
        println!("active {}", keys.active());
    }
    server.stop().await?;
    Ok(())
}
