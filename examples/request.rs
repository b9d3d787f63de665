//! Requests and answers, in both directions. A handler may await an answer on its own session.

#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::time::Duration;

use network_system::{Client, ErrorCode, Message, RequestError, Server, Session};

const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .on_request(|session: Session, question: Message| async move {
            match question.as_text() {
                Some("who am I?") => {
                    // The server asks back before it answers.
                    let name = session.request("what is your name?", PATIENCE).await?;
                    Ok(Message::text(format!(
                        "you are {}",
                        name.as_text().unwrap_or("?")
                    )))
                }
                _ => Err(RequestError::failed("that is a question I do not know")),
            }
        })
        .build()?;
    server.start().await?;

    let client = Client::builder()
        .endpoint(server.urls().remove(0))
        .on_request(|_: Session, _: Message| async { Ok(Message::text("Anna")) })
        .build()?;
    client.connect().await?;

    let answer = client.request("who am I?", PATIENCE).await?;
    println!("{}", answer.as_text().unwrap_or("?"));
    assert_eq!(answer.payload(), b"you are Anna");

    let failure = client.request("why?", PATIENCE).await;
    let failure = failure.expect_err("the server does not know why");
    println!("{}: {failure}", failure.code());
    assert_eq!(failure.code(), ErrorCode::RequestFailed);

    client.stop().await;
    server.stop().await?;
    Ok(())
}
