//! One server, all transports: the same handler, one group, and one broadcast that reaches everybody.
//!
//! `all_transports serve DIRECTORY` is an echo server for clients that are no programs of ours, until Ctrl-C;
//! `docs/clients.md` says how they connect. It writes its certificate and puts its Unix sockets there.

#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;

use network_system::tls::{TlsAuthorities, TlsClient, TlsServer};
use network_system::websocket::{Speak, WebSocketClient};
use network_system::{Client, GroupName, Message, Server, Session, Transport};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [command, directory] = &arguments[..]
        && command == "serve"
    {
        return serve(Path::new(directory)).await;
    }
    // A certificate that vouches for itself; `secure_echo` shows how it is done with an authority.
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = rcgen::generate_simple_self_signed(names)?;
    let pem = certificate.cert.pem();
    let tls = TlsServer::from_pem(&pem, certificate.signing_key.serialize_pem())?;
    let trust = TlsClient::builder()
        .authorities(TlsAuthorities::pem(&pem))
        .build()?;

    let everybody = GroupName::try_from("everybody")?;
    let group = everybody.clone();
    let mut builder = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .listen("tls://127.0.0.1:0")
        .listen("ws://127.0.0.1:0/chat")
        .listen("wss://127.0.0.1:0/chat")
        .listen("udp://127.0.0.1:0?codec=msgi")
        .listen("mem://all-transports")
        .tls(tls)
        .on_message(move |session: Session, message: Message| {
            let group = group.clone();
            async move {
                let name = message.as_text().unwrap_or("?");
                let _ = match session.join(&group) {
                    Ok(()) => session.send(format!("welcome, {name}")).await,
                    Err(error) => session.send(error.to_string()).await,
                };
            }
        });
    let socket = std::env::temp_dir().join(format!("all-transports-{}.sock", std::process::id()));
    if cfg!(unix) {
        builder = builder.listen(format!("unix://{}", socket.display()));
    }
    let server = builder.build()?;
    server.start().await?;

    let mut clients = Vec::new();
    for url in server.urls() {
        let mut builder = Client::builder().endpoint(&url).tls(trust.clone());
        if url.starts_with("ws:") {
            // As a browser does: messages as they are, without MSGI inside of WebSocket.
            builder = builder.websocket(WebSocketClient::new().speak(Speak::Plain));
        }
        let client = builder.build()?;
        client.connect().await?;
        let mut messages = client.messages().ok_or("there is a message handler")?;
        client.send("whoever you are").await?;
        let welcome = messages.next().await.ok_or("the client has stopped")?;
        println!("{url}: {}", welcome.as_text().unwrap_or("?"));
        clients.push((client, messages));
    }

    // Each frame is encoded once for all who speak the same.
    let report = server.broadcast_to(&everybody, "good news", &[]).await?;
    println!("sent to {} sessions, missed {}", report.sent, report.missed);
    assert_eq!((report.sent, report.missed), (clients.len(), 0));

    let mut reached = BTreeSet::new();
    for (client, messages) in &mut clients {
        let news = messages.next().await.ok_or("the client has stopped")?;
        assert_eq!(news.payload(), b"good news");
        let session = client.session().ok_or("not connected")?;
        reached.insert(session.transport().scheme());
    }
    println!("reached over {reached:?}");
    let mut all = BTreeSet::from([
        Transport::Tcp.scheme(),
        Transport::Tls.scheme(),
        Transport::WebSocket.scheme(),
        Transport::SecureWebSocket.scheme(),
        Transport::Udp.scheme(),
        Transport::Memory.scheme(),
    ]);
    if cfg!(unix) {
        all.insert(Transport::Unix.scheme());
    }
    assert_eq!(reached, all);

    for (client, _) in clients {
        client.stop().await;
    }
    server.stop().await?;
    Ok(())
}

/// Sends everything back. On byte streams a message is a line of text, which every client can send.
async fn serve(directory: &Path) -> Result<(), Box<dyn Error>> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = rcgen::generate_simple_self_signed(names)?;
    let pem = certificate.cert.pem();
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join("cert.pem"), &pem)?;
    let tls = TlsServer::from_pem(&pem, certificate.signing_key.serialize_pem())?;

    let mut builder = Server::builder()
        .listen("tcp://127.0.0.1:7600?codec=lines")
        .listen("tls://127.0.0.1:7610?codec=lines")
        .listen("ws://127.0.0.1:7601")
        .listen("wss://127.0.0.1:7611")
        .listen("udp://127.0.0.1:7602")
        .tls(tls)
        .on_message(|session: Session, message: Message| async move {
            let _ = session.send(message).await;
        });
    if cfg!(unix) {
        let directory = directory.canonicalize()?;
        let directory = directory.display();
        builder = builder
            .listen(format!("unix://{directory}/echo.sock?codec=lines"))
            .listen(format!("ws+unix://{directory}/ws.sock"));
    }
    let server = builder.build()?;
    server.start().await?;
    for url in server.urls() {
        println!("listening {url}");
    }
    tokio::signal::ctrl_c().await?;
    server.stop().await?;
    Ok(())
}
