//! Who may connect: a token in the client's hello, judged before the session opens.

#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use network_system::{
    Authenticator, BoxFuture, Client, ConnectError, Credentials, ErrorCode, Message, RequestError,
    Server, Session,
};

/// Knows one token. A real one asks a database, which is why it is asynchronous.
struct Tokens;

impl Authenticator for Tokens {
    fn authenticate<'a>(
        &'a self,
        _session: &'a Session,
        credentials: Credentials,
    ) -> BoxFuture<'a, Result<Option<String>, RequestError>> {
        Box::pin(async move {
            match credentials.token.as_deref() {
                // Tokens are compared in constant time where timing can be measured.
                Some("anna's token") => Ok(Some("anna".to_owned())),
                _ => {
                    let text = "the token is not known";
                    Err(RequestError::with_code(
                        ErrorCode::AuthenticationFailed,
                        text,
                    ))
                }
            }
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .authenticator(Tokens)
        .on_message(|session: Session, _: Message| async move {
            let _ = session
                .send(format!(
                    "you are {}",
                    session.identity().as_deref().unwrap_or("nobody")
                ))
                .await;
        })
        .build()?;
    server.start().await?;
    let url = server.urls().remove(0);

    let refused = connect(&url, "a guess")
        .await
        .expect_err("the token is wrong");
    println!("refused: {refused}");
    assert_eq!(refused.code(), ErrorCode::AuthenticationFailed);

    let client = connect(&url, "anna's token").await?;
    let mut messages = client.messages().ok_or("there is no message handler")?;
    client.send("who am I?").await?;
    let answer = messages.next().await.ok_or("the client has stopped")?;
    println!("{}", answer.as_text().unwrap_or("?"));
    assert_eq!(answer.payload(), b"you are anna");

    client.stop().await;
    server.stop().await?;
    Ok(())
}

async fn connect(url: &str, token: &str) -> Result<Client, ConnectError> {
    let client = Client::builder().endpoint(url).token(token).build()?;
    client.connect().await?;
    Ok(client)
}
