//! Where handlers run: workers on threads of their own, handlers of single sessions, routers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use network_system::{
    Client, ErrorCode, Handler, Message, ReconnectPolicy, RequestError, Router, Server,
    ServerBuilder, Session, WorkerThreads,
};
use tokio::sync::mpsc;

fn server() -> ServerBuilder {
    Server::builder().listen("tcp://127.0.0.1:0")
}

async fn connect(server: &Server) -> Client {
    let client = Client::builder()
        .endpoint(&server.urls()[0])
        .reconnect(ReconnectPolicy::disabled())
        .build()
        .unwrap();
    client.connect().await.unwrap();
    client
}

async fn echoes(client: &Client, count: usize) {
    let mut messages = client.messages().unwrap();
    for number in 0..count {
        client.send(format!("message {number}")).await.unwrap();
    }
    for number in 0..count {
        let message = messages.next().await.unwrap();
        assert_eq!(message.payload(), format!("message {number}").as_bytes());
    }
}

async fn echo_on(threads: WorkerThreads) {
    let (names, mut seen) = mpsc::unbounded_channel();
    let server = server()
        .worker_threads(threads)
        .workers(2)
        .on_message(move |session: Session, message: Message| {
            let names = names.clone();
            async move {
                names
                    .send(std::thread::current().name().map(str::to_owned))
                    .unwrap();
                session.send(message).await.unwrap();
            }
        })
        .build()
        .unwrap();
    for _ in 0..2 {
        server.start().await.unwrap();
        let clients = [connect(&server).await, connect(&server).await];
        for client in &clients {
            echoes(client, 200).await;
        }
        assert!(
            seen.recv()
                .await
                .unwrap()
                .unwrap()
                .starts_with("network-worker-")
        );
        for client in clients {
            client.stop().await;
        }
        let report = server.stop().await.unwrap();
        assert_eq!(report.aborted, 0);
    }
}

#[tokio::test]
async fn dedicated_threads_serve_and_end_with_the_server() {
    echo_on(WorkerThreads::Dedicated).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn pinned_threads_serve_and_end_with_the_server() {
    echo_on(WorkerThreads::Pinned).await;
}

#[tokio::test]
async fn a_router_hands_each_message_to_the_route_of_its_type() {
    let router = Router::new()
        .on(0x8001, |session: Session, message: Message| async move {
            let text = format!("one: {}", message.as_text().unwrap());
            session.send(text).await.unwrap();
        })
        .on(0x8002, |session: Session, _| async move {
            session.send("two").await.unwrap()
        })
        .otherwise(
            |session: Session, _| async move { session.send("something else").await.unwrap() },
        );
    let server = server().handler(router).build().unwrap();
    server.start().await.unwrap();
    let client = connect(&server).await;
    let mut messages = client.messages().unwrap();
    for (frame_type, expected) in [
        (0x8001, "one: x"),
        (0x8002, "two"),
        (0x8003, "something else"),
    ] {
        client
            .send(Message::application(frame_type, "x").unwrap())
            .await
            .unwrap();
        assert_eq!(messages.next().await.unwrap().as_text(), Some(expected));
    }
    client.send("plain").await.unwrap();
    assert_eq!(
        messages.next().await.unwrap().as_text(),
        Some("something else")
    );
    let refused: Result<Message, RequestError> =
        client.request("no handler", Duration::from_secs(5)).await;
    assert_eq!(refused.unwrap_err().code(), ErrorCode::RequestFailed);
    client.stop().await;
    server.stop().await.unwrap();
}

/// Says who it is, and gives the session back to the server's handler when asked.
struct Own;

impl Handler for Own {
    async fn on_message(&self, session: &Session, message: &Message) {
        session.send("own").await.unwrap();
        if message.payload() == b"back" {
            session.reset_handler();
        }
    }
}

#[tokio::test]
async fn a_handler_of_one_session_takes_over_from_its_next_message_on() {
    let server = server()
        .on_message(|session: Session, message: Message| async move {
            session.send("shared").await.unwrap();
            if message.payload() == b"own" {
                session.set_handler(Own);
            }
        })
        .build()
        .unwrap();
    server.start().await.unwrap();
    let (client, other) = (connect(&server).await, connect(&server).await);
    let mut messages = client.messages().unwrap();
    // In one batch, so that the change falls into the middle of it.
    let session = client.session().unwrap();
    session
        .send_all(["one", "own", "two", "back", "three"])
        .await
        .unwrap();
    for expected in ["shared", "shared", "own", "own", "shared"] {
        assert_eq!(messages.next().await.unwrap().as_text(), Some(expected));
    }
    let mut others = other.messages().unwrap();
    other.send("x").await.unwrap();
    assert_eq!(others.next().await.unwrap().as_text(), Some("shared"));
    client.stop().await;
    other.stop().await;
    server.stop().await.unwrap();
}
