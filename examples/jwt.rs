//! Sessions that last as long as a JSON Web Token, and go on when their client shows the next one.
//!
//! An issuer and the server share a secret (HS256). Where they are different programs, the issuer better signs with a
//! private key (EdDSA, ES256) of which the server has the public half only: the code is the same but for the keys.

#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode, get_current_timestamp,
};
use network_system::{
    Authentication, Client, ConnectError, ErrorCode, GroupName, Message, RequestError, Server,
    Session,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// A real one has 32 random bytes, and comes from where secrets are kept.
const SECRET: &[u8] = b"a secret of the issuer and the server";
const ISSUER: &str = "https://login.example.org";
const AUDIENCE: &str = "chat";

/// Seconds. Minutes are usual; the example shall be over soon.
const LIFETIME: u64 = 3;

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    iss: String,
    aud: String,
    /// Seconds since 1970.
    exp: u64,
    /// The groups that the subject may join.
    groups: Vec<String>,
}

fn issue(subject: &str, algorithm: Algorithm, secret: &[u8]) -> Result<String, RequestError> {
    let claims = Claims {
        sub: subject.to_owned(),
        iss: ISSUER.to_owned(),
        aud: AUDIENCE.to_owned(),
        exp: get_current_timestamp() + LIFETIME,
        groups: vec!["lobby".to_owned()],
    };
    let key = EncodingKey::from_secret(secret);
    encode(&Header::new(algorithm), &claims, &key)
        .map_err(|error| RequestError::failed(error.to_string()))
}

/// What the server checks tokens by.
struct Verifier {
    key: DecodingKey,
    validation: Validation,
}

impl Verifier {
    fn new() -> Self {
        // The algorithm is the server's choice, never what the token's own header says: otherwise a token could
        // say `none`, or take a public key for a shared secret. This list has one.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // The default lets tokens pass that expired a minute ago.
        validation.leeway = 0;
        Verifier {
            key: DecodingKey::from_secret(SECRET),
            validation,
        }
    }

    /// Signatures are compared in constant time by the library that checks them.
    fn verify(&self, token: Option<&str>) -> Result<Authentication, RequestError> {
        let claims = decode::<Claims>(token.unwrap_or_default(), &self.key, &self.validation)
            // Why a token is not good is nobody's business but the issuer's.
            .map_err(|_| RequestError::failed("the token is not valid"))?
            .claims;
        let until = UNIX_EPOCH + Duration::from_secs(claims.exp);
        Ok(Authentication::new(claims.sub)
            .expires_at_time(until)
            .data("groups", claims.groups.join(" ")))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let verifier = std::sync::Arc::new(Verifier::new());
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0") // tls:// where others can listen
        .authenticate(move |credentials| {
            let verifier = std::sync::Arc::clone(&verifier);
            async move { verifier.verify(credentials.token.as_deref()) }
        })
        .authorize_join(|session: Session, group: GroupName| async move {
            let groups = session.data("groups").unwrap_or_default();
            match groups.split(' ').any(|name| name == group.as_str()) {
                true => Ok(()),
                false => Err(RequestError::failed("not a group of yours")),
            }
        })
        .on_message(|session: Session, _: Message| async move {
            let identity = session.identity();
            let _ = session
                .send(format!(
                    "you are {}",
                    identity.as_deref().unwrap_or("nobody")
                ))
                .await;
        })
        .build()?;
    server.start().await?;
    let url = server.urls().remove(0);

    for (what, token) in forged()? {
        let error = connect(&url, &token)
            .await
            .expect_err("the token is forged");
        println!("{what}: {error}");
        assert_eq!(error.code(), ErrorCode::AuthenticationFailed);
    }
    stays(&url).await?;
    expires(&url).await?;
    server.stop().await?;
    Ok(())
}

async fn connect(url: &str, token: &str) -> Result<Client, ConnectError> {
    let client = Client::builder().endpoint(url).token(token).build()?;
    client.connect().await?;
    Ok(client)
}

/// Tokens that a server must not take.
fn forged() -> Result<[(&'static str, String); 3], RequestError> {
    let good = issue("anna", Algorithm::HS256, SECRET)?;
    let payload = good.split('.').nth(1).unwrap_or_default();
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    Ok([
        ("without a signature", format!("{header}.{payload}.")),
        (
            "signed with another secret",
            issue("anna", Algorithm::HS256, b"a guess")?,
        ),
        (
            "signed by another algorithm",
            issue("anna", Algorithm::HS512, SECRET)?,
        ),
    ])
}

/// A client with a source of tokens stays as long as it gets any, in one session.
async fn stays(url: &str) -> Result<(), Box<dyn Error>> {
    let (issued, mut count) = watch::channel(0);
    let client = Client::builder()
        .endpoint(url)
        .token_source(move || {
            issued.send_modify(|count| *count += 1);
            // A real one asks its issuer, and keeps the token while it is good.
            async { issue("anna", Algorithm::HS256, SECRET) }
        })
        .build()?;
    client.connect().await?;
    let session = client.session().ok_or("not connected")?;
    client.join(&GroupName::new("lobby")?).await?;
    let refused = client.join(&GroupName::new("vault")?).await;
    println!("vault: {}", refused.expect_err("not in the token"));

    count.wait_for(|count| *count == 3).await?;
    let mut messages = client.messages().ok_or("there is a message handler")?;
    client.send("who am I?").await?;
    let answer = messages.next().await.ok_or("the client has stopped")?;
    println!("after the third token: {}", answer.as_text().unwrap_or("?"));
    assert_eq!(client.session(), Some(session));
    client.stop().await;
    Ok(())
}

/// A client with one token has a session that ends with it.
async fn expires(url: &str) -> Result<(), Box<dyn Error>> {
    let client = connect(url, &issue("ben", Algorithm::HS256, SECRET)?).await?;
    let session = client.session().ok_or("not connected")?;
    let reason = session.closed().await;
    println!("without another token: {reason}");
    assert_eq!(reason.code(), Some(ErrorCode::AuthenticationFailed));
    client.stop().await;
    Ok(())
}
