//! A chat for browsers: a room is a group, and the page comes from this program too.
//!
//! `cargo run --example websocket_chat -- serve` serves until Ctrl-C; open the link that it prints, in two
//! windows. Without `serve` it shows the same with clients of its own, and ends.
//!
//! The room and the name are in the URL (`/chat?room=lobby&name=anna`), so that the hook of the upgrade can
//! refuse a bad one before there is a session. Browsers speak plain WebSocket: text in, text out.

#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use network_system::websocket::{Accept, Reject, Speak, Upgrade, WebSocketClient, WebSocketServer};
use network_system::{
    Client, ConnectError, ErrorCode, GroupName, Limits, Message, MessageStream, QueuePolicy,
    Server, Session,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PAGE: &str = include_str!("websocket_chat.html");

/// The handlers need the server for broadcasts, and the server its handlers: the server comes later.
type Later = Arc<OnceLock<Server>>;

/// Looks at a request before there is a session. Names are words, so that nothing in the URL has to be
/// decoded.
fn admit(upgrade: &Upgrade<'_>) -> Result<Accept, Reject> {
    let query = upgrade.request.query().unwrap_or_default();
    let value = |key: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(name, _)| *name == key)?;
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let is_short = (1..=32).contains(&value.len());
        (is_short && value.chars().all(is_word)).then_some(value)
    };
    match (value("room"), value("name")) {
        (Some(room), Some(name)) => Ok(Accept::new().data("room", room).data("name", name)),
        _ => Err(Reject::new(400, "expected ?room=…&name=…, each a word")),
    }
}

/// Says something to all others in the room.
async fn tell(server: &Later, session: &Session, line: String) {
    let room = session.data("room").unwrap_or_default();
    if let (Some(server), Ok(room)) = (server.get(), GroupName::try_from(room.as_str())) {
        let _ = server.broadcast_to(&room, line, &[session.id()]).await;
    }
}

fn name_of(session: &Session) -> String {
    session.data("name").unwrap_or_default()
}

async fn start(url: &str) -> Result<Server, Box<dyn Error>> {
    let mut limits = Limits::default();
    limits.message_size = 4 * 1024;
    // A window that stands still does not hold up the others: it misses the oldest lines.
    limits.when_full = QueuePolicy::DropOldest;
    let later = Later::default();
    let (on_connect, on_message, on_disconnect) = (later.clone(), later.clone(), later.clone());
    let server = Server::builder()
        .listen(url)
        .limits(limits)
        .websocket(WebSocketServer::new().on_upgrade(admit))
        .on_connect(move |session: Session| {
            let server = on_connect.clone();
            async move {
                let room = session.data("room").unwrap_or_default();
                let name = name_of(&session);
                let joined = GroupName::try_from(room.as_str()).map(|room| session.join(&room));
                if matches!(joined, Ok(Ok(()))) {
                    let _ = session.send(format!("* {name}, you are in {room}")).await;
                    tell(&server, &session, format!("* {name} has come in")).await;
                }
            }
        })
        .on_message(move |session: Session, message: Message| {
            let server = on_message.clone();
            async move {
                let text = message.as_text().unwrap_or("(something that is no text)");
                let line = format!("{}: {text}", name_of(&session));
                let _ = session.send(line.clone()).await;
                tell(&server, &session, line).await;
            }
        })
        .on_disconnect(move |session: Session, _| {
            let server = on_disconnect.clone();
            async move {
                let line = format!("* {} has gone", name_of(&session));
                tell(&server, &session, line).await;
            }
        })
        .build()?;
    server.start().await?;
    let _ = later.set(server.clone());
    Ok(server)
}

/// Serves the page, and nothing else. The library has no HTTP server; any will do.
async fn serve_page(listener: TcpListener) {
    let length = PAGE.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    while let Ok((mut stream, _)) = listener.accept().await {
        // One after the other, so each gets little time.
        let answer = async {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await?;
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(PAGE.as_bytes()).await?;
            stream.shutdown().await
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), answer).await;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        let server = start("ws://127.0.0.1:7681/chat").await?;
        let page = TcpListener::bind("127.0.0.1:7680").await?;
        println!("open http://127.0.0.1:7680/");
        tokio::select! {
            () = serve_page(page) => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        server.stop().await?;
        return Ok(());
    }
    show().await
}

async fn show() -> Result<(), Box<dyn Error>> {
    let server = start("ws://127.0.0.1:0/chat").await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let page = listener.local_addr()?;
    let serving = tokio::spawn(serve_page(listener));
    let mut stream = TcpStream::connect(page).await?;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("<title>Chat</title>"));

    // A browser says which page it shows. One of this machine may connect to a loopback listener.
    let url = server.urls().remove(0);
    let origin = format!("http://{page}");
    let (anna, mut annas) = enter(&url, "anna", &origin).await?;
    assert_eq!(next(&mut annas).await?, "* anna, you are in lobby");
    let (ben, mut bens) = enter(&url, "ben", &origin).await?;
    assert_eq!(next(&mut bens).await?, "* ben, you are in lobby");
    assert_eq!(next(&mut annas).await?, "* ben has come in");
    anna.send(Message::text("hello Ben")).await?;
    assert_eq!(next(&mut annas).await?, "anna: hello Ben");
    assert_eq!(next(&mut bens).await?, "anna: hello Ben");

    // A page from elsewhere may not, whoever has opened it; and a bad name is refused.
    let elsewhere = enter(&url, "eve", "https://evil.example").await;
    let refused = elsewhere.err().ok_or("it should have been refused")?;
    println!("{refused}");
    assert_eq!(refused.code(), ErrorCode::AccessDenied);
    let nameless = enter(&url, "", &origin).await;
    println!("{}", nameless.err().ok_or("it should have been refused")?);

    ben.stop().await;
    assert_eq!(next(&mut annas).await?, "* ben has gone");
    anna.stop().await;
    server.stop().await?;
    serving.abort();
    Ok(())
}

/// Connects as a browser does that shows a page of `origin`.
async fn enter(
    url: &str,
    name: &str,
    origin: &str,
) -> Result<(Client, MessageStream), ConnectError> {
    let browser = WebSocketClient::new()
        .speak(Speak::Plain)
        .header("Origin", origin);
    let client = Client::builder()
        .endpoint(format!("{url}?room=lobby&name={name}"))
        .websocket(browser)
        .build()?;
    client.connect().await?;
    let messages = client.messages().expect("there is no message handler");
    Ok((client, messages))
}

async fn next(messages: &mut MessageStream) -> Result<String, Box<dyn Error>> {
    let message = messages.next().await.ok_or("the client has stopped")?;
    let text = message.as_text().ok_or("not text")?.to_owned();
    println!("{text}");
    Ok(text)
}
