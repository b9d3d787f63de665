//! A chat server: a group for each room, and one encoding of a message for all who are in it.
//!
//! The first word of a message says what it is: `join ROOM`, or `say ROOM TEXT…`.

#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::sync::OnceLock;

use network_system::{Client, GroupName, Handler, Message, MessageStream, Server, Session};

/// The handler needs the server for broadcasts, and the server its handler: the server comes later.
static SERVER: OnceLock<Server> = OnceLock::new();

struct Chat;

impl Chat {
    async fn answer(&self, session: &Session, text: &str) -> Result<(), String> {
        let mut words = text.splitn(3, ' ');
        let command = words.next().unwrap_or_default();
        let room =
            GroupName::try_from(words.next().unwrap_or_default()).map_err(|e| e.to_string())?;
        let server = SERVER.get().ok_or("the server is not ready")?;
        match command {
            "join" => {
                session.join(&room).map_err(|error| error.to_string())?;
                let count = server.members(&room).len();
                let _ = session
                    .send(format!("you are in {room} with {count} in all"))
                    .await;
            }
            "say" => {
                let line = format!(
                    "{}: {}",
                    session.client_id(),
                    words.next().unwrap_or_default()
                );
                let except = [session.id()];
                server
                    .broadcast_to(&room, line, &except)
                    .await
                    .map_err(|error| error.to_string())?;
            }
            other => return Err(format!("`{other}` is no command")),
        }
        Ok(())
    }
}

impl Handler for Chat {
    async fn on_message(&self, session: &Session, message: &Message) {
        if let Err(text) = self
            .answer(session, message.as_text().unwrap_or_default())
            .await
        {
            let _ = session.send(text).await;
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .handler(Chat)
        .build()?;
    server.start().await?;
    let url = server.urls().remove(0);
    let server = SERVER.get_or_init(|| server);

    let (anna, mut annas) = enter(&url, "anna").await?;
    let (ben, mut bens) = enter(&url, "ben").await?;
    anna.send("say lobby hello Ben").await?;
    assert_eq!(next(&mut bens).await?, "anna: hello Ben");
    ben.send("say lobby hello Anna").await?;
    assert_eq!(next(&mut annas).await?, "ben: hello Anna");

    anna.stop().await;
    ben.stop().await;
    server.stop().await?;
    Ok(())
}

/// Connects under a name and enters the lobby.
async fn enter(
    url: &str,
    name: &str,
) -> Result<(Client, MessageStream), Box<dyn std::error::Error>> {
    let client = Client::builder().endpoint(url).client_id(name).build()?;
    client.connect().await?;
    let mut messages = client.messages().ok_or("there is no message handler")?;
    client.send("join lobby").await?;
    next(&mut messages).await?;
    Ok((client, messages))
}

async fn next(messages: &mut MessageStream) -> Result<String, Box<dyn std::error::Error>> {
    let message = messages.next().await.ok_or("the client has stopped")?;
    let text = message.as_text().ok_or("not text")?.to_owned();
    println!("{text}");
    Ok(text)
}
