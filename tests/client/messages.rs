//! Messages and requests while the connection lasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use network_system::{
    Client, CloseReason, ErrorCode, GroupName, Handler, Message, RequestError, Server, Session,
};
use tokio::sync::mpsc;

use crate::support::*;

#[tokio::test]
async fn messages_come_back_in_order() {
    let (server, url) = started(echo()).await;
    let client = soon(Client::connect_to(&url)).await.expect("connects");
    let mut messages = client.messages().expect("no handler");
    for number in 0..1_000 {
        client.send(format!("{number}")).await.expect("connected");
    }
    for number in 0..1_000 {
        let message = soon(messages.next()).await.expect("connected");
        assert_eq!(message.as_text(), Some(format!("{number}").as_str()));
    }
    assert_eq!(client.stats().messages_sent, 1_000);
    assert_eq!(client.stats().messages_received, 1_000);
    client.reset_stats();
    assert_eq!(client.stats().messages_sent, 0);
    client.stop().await;
    assert!(soon(messages.next()).await.is_none());
    server.stop().await.expect("running");
}

#[tokio::test]
async fn requests_work_both_ways() {
    let (server, url) = started(echo()).await;
    let client = connected(
        quick(&url).on_request(|_session, request: Message| async move {
            match request.as_text() {
                Some("name") => Ok(Message::text("client")),
                _ => Err(RequestError::with_code(ErrorCode::AccessDenied, "no")),
            }
        }),
    )
    .await;
    let answer = client.request("hello", LONG).await.expect("an answer");
    assert_eq!(answer.as_text(), Some("re: hello"));
    let session = server.sessions().remove(0);
    let answer = session.request("name", LONG).await.expect("an answer");
    assert_eq!(answer.as_text(), Some("client"));
    let error = session.request("age", LONG).await.expect_err("refused");
    assert_eq!(error.code(), ErrorCode::AccessDenied);
    client.stop().await;
    server.stop().await.expect("running");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_at_once_find_their_answers() {
    let (server, url) = started(echo()).await;
    let client = connected(quick(&url)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..500 {
        let client = client.clone();
        tasks.spawn(async move {
            let answer = client
                .request(format!("{number}"), LONG)
                .await
                .expect("an answer");
            assert_eq!(answer.as_text(), Some(format!("re: {number}").as_str()));
        });
    }
    while let Some(joined) = soon(tasks.join_next()).await {
        joined.expect("no panic");
    }
    client.stop().await;
    server.stop().await.expect("running");
}

#[tokio::test]
async fn an_unanswered_request_times_out_and_a_late_answer_is_counted() {
    let (fake, url) = Fake::bind().await;
    let builder = quick(&url);
    let (client, mut peer) = tokio::join!(connected(builder), fake.welcome());
    let error = client
        .request("question", 30 * MS)
        .await
        .expect_err("no answer");
    assert!(error.is_timeout(), "{error}");
    let (frame_type, payload) = peer.frame().await.expect("the request");
    assert_eq!(frame_type, REQUEST);
    peer.send(0x0012, &payload[..8]).await;
    peer.send(0x0001, b"ping").await;
    let (frame_type, _) = peer.frame().await.expect("the pong");
    assert_eq!(frame_type, 0x0002);
    assert_eq!(client.stats().unknown_responses, 1);
    assert!(client.is_connected());
}

/// Asks the server before it answers, and passes on what it hears.
struct Curious(mpsc::UnboundedSender<String>);

impl Handler for Curious {
    async fn on_message(&self, session: &Session, message: &Message) {
        let question = message.clone();
        let answer = session.request(question, LONG).await.expect("an answer");
        let _ = self.0.send(answer.as_text().unwrap_or_default().to_owned());
    }
}

#[tokio::test]
async fn a_handler_may_await_a_request_on_its_own_session() {
    let (server, url) = started(echo()).await;
    let (heard, mut answers) = mpsc::unbounded_channel();
    let client = connected(quick(&url).handler(Curious(heard))).await;
    assert!(client.messages().is_none());
    let session = server.sessions().remove(0);
    session.send("why").await.expect("connected");
    assert_eq!(soon(answers.recv()).await.as_deref(), Some("re: why"));
    client.stop().await;
    server.stop().await.expect("running");
}

#[tokio::test]
async fn the_stream_is_there_once_and_not_beside_a_message_handler() {
    let (server, url) = started(echo()).await;
    let client = connected(quick(&url)).await;
    let first = client.messages().expect("no handler");
    assert!(client.messages().is_none());
    drop(first);
    assert!(client.messages().is_some());
    let handled = connected(quick(&url).on_message(|_, _| async {})).await;
    assert!(handled.messages().is_none());
    client.stop().await;
    handled.stop().await;
    server.stop().await.expect("running");
}

#[tokio::test]
async fn messages_that_come_before_the_stream_is_taken_wait_for_it() {
    let greeting = echo().on_connect(|session: Session| async move {
        let _ = session.send("welcome").await;
    });
    let (server, url) = started(greeting).await;
    let client = soon(Client::connect_to(&url)).await.expect("connects");
    // An answer proves that the greeting has arrived before.
    client.request("ready", LONG).await.expect("an answer");
    let mut messages = client.messages().expect("no handler");
    assert_eq!(
        soon(messages.next()).await.expect("the greeting").as_text(),
        Some("welcome")
    );
    client.stop().await;
    server.stop().await.expect("running");
}

#[tokio::test]
async fn without_a_stream_a_client_that_only_asks_is_not_held_up() {
    let (server, url) = started(echo()).await;
    let client = connected(quick(&url)).await;
    let session = server.sessions().remove(0);
    for _ in 0..100 {
        session.send(vec![0; 16 * 1024]).await.expect("connected");
    }
    let answer = soon(client.request("still there", LONG))
        .await
        .expect("an answer");
    assert_eq!(answer.as_text(), Some("re: still there"));
    // 64 KiB wait for a stream.
    assert_eq!(client.stats().dropped, 100 - 4);
    client.stop().await;
    server.stop().await.expect("running");
}

#[tokio::test]
async fn a_stream_that_is_not_read_slows_the_server_down_and_loses_nothing() {
    let (server, url) = started(echo()).await;
    let client = connected(quick(&url)).await;
    let mut messages = client.messages().expect("no handler");
    let session = server.sessions().remove(0);
    let payload = vec![7; 64 * 1024];
    let mut sent = 0_usize;
    // Until the sockets and the server's outbox are full; 64 MiB are more than both hold.
    while session.send_timeout(&payload[..], 500 * MS).await.is_ok() {
        sent += 1;
        assert!(sent < 1_024, "the server was never slowed down");
    }
    // Two in the inbox and the handler, two held by the session, and what one read found.
    let received = client.stats().messages_received;
    assert!(received <= 10, "{received} messages were taken in");
    assert!(client.is_connected());
    for _ in 0..sent {
        assert_eq!(
            soon(messages.next()).await.expect("connected").len(),
            payload.len()
        );
    }
    client.stop().await;
    server.stop().await.expect("running");
}

#[tokio::test]
async fn a_kick_reaches_the_clients_handler_with_its_reason() {
    let (server, url) = started(echo()).await;
    let (told, mut reasons) = mpsc::unbounded_channel();
    let policy = network_system::ReconnectPolicy::disabled();
    let builder = quick(&url)
        .reconnect(policy)
        .on_disconnect(move |_, reason: CloseReason| {
            let _ = told.send(reason);
            async {}
        });
    let client = connected(builder).await;
    server.disconnect_all(CloseReason::new("maintenance"));
    let reason = soon(reasons.recv()).await.expect("a reason");
    assert_eq!(reason.text(), "maintenance");
    assert!(reason.is_orderly());
    soon(client.wait_for_stop()).await;
    assert_eq!(client.state(), network_system::ClientState::Stopped);
    assert_eq!(
        client.close_reason().expect("a reason").text(),
        "maintenance"
    );
    server.stop().await.expect("running");
}

#[tokio::test]
async fn groups_are_joined_and_left_on_the_server() {
    let guard = |_: &Session, group: &GroupName| group.as_str() != "secret";
    let (server, url) = started(echo().group_guard(guard)).await;
    let client = connected(quick(&url)).await;
    let room: GroupName = "room".parse().expect("a name");
    let secret: GroupName = "secret".parse().expect("a name");
    soon(client.join(&room)).await.expect("allowed");
    assert_eq!(server.members(&room).len(), 1);
    let error = soon(client.join(&secret)).await.expect_err("not allowed");
    assert_eq!(error.code(), ErrorCode::AccessDenied);
    let (first, second, third) =
        tokio::join!(client.leave(&room), client.join(&room), client.leave(&room));
    first.expect("left");
    second.expect("joined");
    third.expect("left");
    assert!(server.members(&room).is_empty());
    client.stop().await;
    server.stop().await.expect("running");
}

#[tokio::test]
async fn a_join_in_flight_fails_when_the_connection_is_lost() {
    let (fake, url) = Fake::bind().await;
    let (client, mut peer) = tokio::join!(connected(quick(&url)), fake.welcome());
    let room: GroupName = "room".parse().expect("a name");
    let (result, ()) = tokio::join!(client.join(&room), async move {
        assert_eq!(
            peer.frame().await.map(|(frame_type, _)| frame_type),
            Some(CONTROL)
        );
    });
    assert_eq!(
        result.expect_err("lost").code(),
        ErrorCode::ConnectionClosed
    );
}

#[tokio::test]
async fn a_handler_sends_to_its_own_server_through_the_client() {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    let (done, mut finished) = mpsc::unbounded_channel();
    let sink =
        Server::builder()
            .listen("tcp://127.0.0.1:0")
            .on_message(move |session: Session, _| {
                let number = seen.fetch_add(1, Ordering::Relaxed) + 1;
                let done = done.clone();
                async move {
                    if number == 100 {
                        let _ = done.send(());
                    } else {
                        let _ = session.send("more").await;
                    }
                }
            });
    let (server, url) = started(sink).await;
    let slot: Arc<std::sync::OnceLock<Client>> = Arc::default();
    let own = Arc::clone(&slot);
    let client = connected(quick(&url).on_message(move |_, message: Message| {
        let client = own.get().cloned();
        async move {
            if let Some(client) = client {
                client.send(message).await.expect("connected");
            }
        }
    }))
    .await;
    let _ = slot.set(client.clone());
    client.send("first").await.expect("connected");
    soon(finished.recv()).await.expect("a hundred messages");
    client.stop().await;
    server.stop().await.expect("running");
}
