//! A server whose messages are containers: a login, updates, and an answer to each with source and target
//! exchanged. The client runs in the same process.

#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use network_system::container::{Container, Format, GetError};
use network_system::{Client, ErrorCode, Message, MessageStream, Router, Server, Session};

/// Both sides are configured alike: a format is never guessed.
const FORMAT: Format = Format::MessagePack;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let router = Router::new()
        .containers(FORMAT)
        .on_container("user_login", |session: Session, login| async move {
            let answer = log_in(&session, &login).unwrap_or_else(|error| refuse(&login, &error));
            reply(&session, &answer).await;
        })
        .on_container("data_update", |session: Session, update| async move {
            let answer = take(&session, &update).unwrap_or_else(|error| refuse(&update, &error));
            reply(&session, &answer).await;
        })
        .otherwise(|session: Session, _: Message| async move {
            let _ = session.send("ERROR: nobody handles this").await;
        })
        .on_error(|session: &Session, code: ErrorCode, text: &str| {
            println!("server: session {}: {text} ({code})", session.id());
        });
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .handler(router)
        .build()?;
    server.start().await?;

    let client = Client::connect_to(server.urls().remove(0)).await?;
    let mut messages = client.messages().ok_or("there is a message handler")?;

    // The answer says who may do what from now on.
    let login = request("user_login")
        .with("username", "ada")
        .with("password", "engine");
    let answer = ask(&client, &mut messages, &login).await?;
    assert_eq!(answer.get_as::<&str>("status")?, "success");
    assert_eq!((&*answer.header.source.to_string_lossy()), "server");
    assert_eq!((&*answer.header.target.to_string_lossy()), "client_01");

    let update = request("data_update")
        .with("user_id", "ada")
        .with("data", &b"\x00\x01\x02\x03"[..]);
    let answer = ask(&client, &mut messages, &update).await?;
    assert_eq!(answer.get_as::<u64>("bytes")?, 4);

    // A value is missing: the answer says which.
    let answer = ask(&client, &mut messages, &request("user_login")).await?;
    assert_eq!(answer.get_as::<&str>("status")?, "failed");

    // What is no container is reported, and the session goes on.
    client.send("hello?").await?;
    let answer = messages.next().await.ok_or("the server is gone")?;
    println!("client: {}", answer.as_text().unwrap_or("?"));
    assert!(answer.payload().starts_with(b"ERROR"));
    let answer = ask(&client, &mut messages, &update).await?;
    assert_eq!(answer.get_as::<&str>("status")?, "success");

    client.stop().await;
    server.stop().await?;
    Ok(())
}

fn log_in(session: &Session, login: &Container) -> Result<Container, GetError> {
    let user = login.get_as::<&str>("username")?;
    let known = login.get_as::<&str>("password")? == "engine";
    println!("server: {user} logs in: {known}");
    if known {
        session.set_data("user", user);
    }
    let status = if known { "success" } else { "failed" };
    Ok(response(login, status))
}

fn take(session: &Session, update: &Container) -> Result<Container, GetError> {
    let user = update.get_as::<&str>("user_id")?;
    let data = update.get_as::<&[u8]>("data")?;
    if session.data("user").as_deref() != Some(user) {
        return Ok(response(update, "failed").with("reason", "not logged in"));
    }
    println!("server: {} bytes of {user}", data.len());
    Ok(response(update, "success").with("bytes", data.len() as u64))
}

fn refuse(request: &Container, error: &GetError) -> Container {
    println!("server: {error}");
    response(request, "failed").with("reason", error.to_string())
}

/// The answer to a request: what was its target is the source now.
fn response(request: &Container, status: &str) -> Container {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    request
        .reply("response")
        .with("status", status)
        .with("timestamp", now.map_or(0, |since| since.as_secs()))
}

async fn reply(session: &Session, answer: &Container) {
    match answer.encode(FORMAT) {
        Ok(bytes) => {
            // A session that has ended needs no answer.
            let _ = session.send(Message::binary(bytes)).await;
        }
        Err(error) => println!("server: {error}"),
    }
}

fn request(message_type: &str) -> Container {
    Container::new(message_type)
        .source("client_01", "main")
        .target("server", "main")
}

/// Sends a container and waits for its answer.
async fn ask(
    client: &Client,
    messages: &mut MessageStream,
    request: &Container,
) -> Result<Container, Failure> {
    client
        .send(Message::binary(request.encode(FORMAT)?))
        .await?;
    let answer: Bytes = messages
        .next()
        .await
        .ok_or("the server is gone")?
        .into_payload();
    let answer = Container::decode(FORMAT, &answer)?;
    println!(
        "client: {} from {}: {}",
        request.message_type().to_string_lossy(),
        answer.header.source.to_string_lossy(),
        answer.get_as::<&str>("status")?
    );
    Ok(answer)
}
