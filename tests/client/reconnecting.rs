//! What happens when a connection is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use network_system::{
    Client, ClientState, CloseReason, ErrorCode, GroupName, Message, QueuePolicy, ReconnectPolicy,
    Server, Session,
};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::support::*;

/// A policy whose first delay is certain to be longer than a test.
fn never() -> ReconnectPolicy {
    let long = Duration::from_secs(1_000_000);
    ReconnectPolicy::new().base(long).cap(long)
}

/// A client whose connection is lost and not made again while the test lasts.
async fn offline(bytes: usize, policy: QueuePolicy) -> Client {
    let (fake, url) = Fake::bind().await;
    let builder = Client::builder()
        .endpoint(url)
        .reconnect(never())
        .offline_queue(bytes, policy);
    let (client, peer) = tokio::join!(connected(builder), fake.welcome());
    drop(peer);
    reached(&client, ClientState::Reconnecting).await;
    client
}

fn texts(messages: &[Message]) -> Vec<&str> {
    messages.iter().filter_map(Message::as_text).collect()
}

#[tokio::test]
async fn what_is_sent_while_the_server_restarts_arrives_in_order_and_first() {
    let port = Port::take().await;
    let (server, url) = started(echo_on(&port.url)).await;
    let client = connected(quick(&url)).await;
    let mut messages = client.messages().expect("no handler");
    server.stop().await.expect("running");
    reached(&client, ClientState::Reconnecting).await;
    assert!(!client.is_connected() && client.session().is_none());
    for number in 0..2_000 {
        client.send(format!("{number}")).await.expect("queued");
    }
    assert_eq!(client.stats().queued_messages, 2_000);
    let (received, mut order) = mpsc::unbounded_channel();
    let recorder =
        Server::builder()
            .listen(&url)
            .on_message(move |session: Session, message: Message| {
                let _ = received.send(message.as_text().unwrap_or_default().to_owned());
                async move {
                    let _ = session.send(message).await;
                }
            });
    let (server, _) = started(recorder).await;
    reached(&client, ClientState::Connected).await;
    for number in 2_000..3_000 {
        client.send(format!("{number}")).await.expect("connected");
    }
    for number in 0..3_000 {
        assert_eq!(soon(order.recv()).await, Some(format!("{number}")));
    }
    for number in 0..3_000 {
        let message = soon(messages.next()).await.expect("the stream goes on");
        assert_eq!(message.as_text(), Some(format!("{number}").as_str()));
    }
    assert_eq!(client.stats().connections, 2);
    client.stop().await;
    server.stop().await.expect("running");
}

#[tokio::test]
async fn what_is_sent_while_the_connection_ends_is_queued() {
    let (fake, url) = Fake::bind().await;
    let own: Arc<std::sync::OnceLock<Client>> = Arc::default();
    let slot = Arc::clone(&own);
    let builder = quick(&url).on_disconnect(move |session: Session, _| {
        let client = slot.get().expect("set before").clone();
        async move {
            assert!(session.try_send("too late").is_err());
            client.try_send("from a handler").expect("queued");
            client.send("and waiting").await.expect("queued");
        }
    });
    let (client, peer) = tokio::join!(connected(builder), fake.welcome());
    let _ = own.set(client.clone());
    drop(peer);
    let mut peer = fake.welcome().await;
    assert_eq!(peer.message().await, "from a handler");
    assert_eq!(peer.message().await, "and waiting");
    client.stop_within(MS).await;
}

#[tokio::test]
async fn a_full_queue_makes_senders_wait() {
    let client = offline(10, QueuePolicy::Wait).await;
    client.send("12345").await.expect("room");
    client.send("67890").await.expect("room");
    let error = client.try_send("x").expect_err("no room");
    assert!(error.is_full());
    assert_eq!(error.into_message().as_text(), Some("x"));
    let error = client
        .send_timeout("x", 20 * MS)
        .await
        .expect_err("no room");
    assert!(error.is_full());
    assert_eq!(error.into_message().as_text(), Some("x"));
    {
        // A sender that stops waiting has sent nothing.
        let sending = client.send("dropped");
        assert!(tokio::time::timeout(20 * MS, sending).await.is_err());
    }
    let report = client.stop().await;
    assert_eq!(report.unsent, 2);
    assert_eq!(texts(&client.take_unsent()), ["12345", "67890"]);
    assert!(client.take_unsent().is_empty());
}

#[tokio::test]
async fn a_waiting_sender_goes_on_when_there_is_room() {
    let (fake, url) = Fake::bind().await;
    let builder = quick(&url).offline_queue(4, QueuePolicy::Wait);
    let (client, peer) = tokio::join!(connected(builder), fake.welcome());
    drop(peer);
    reached(&client, ClientState::Reconnecting).await;
    client.send("one").await.expect("room");
    let (second, mut peer) = tokio::join!(client.send("two"), fake.welcome());
    second.expect("room again");
    assert_eq!(peer.message().await, "one");
    assert_eq!(peer.message().await, "two");
}

#[tokio::test]
async fn a_waiting_sender_learns_that_the_client_stops() {
    let client = offline(1, QueuePolicy::Wait).await;
    client.send("1").await.expect("room");
    let (sent, report) = tokio::join!(client.send("2"), client.stop());
    let error = sent.expect_err("stopped");
    assert!(error.is_closed(), "{error}");
    assert_eq!(error.into_message().as_text(), Some("2"));
    assert_eq!(report.unsent, 1);
}

#[tokio::test]
async fn dropping_policies_drop_and_count() {
    let newest = offline(3, QueuePolicy::DropNewest).await;
    let oldest = offline(3, QueuePolicy::DropOldest).await;
    for client in [&newest, &oldest] {
        for text in ["1", "2", "3", "4", "5"] {
            client.send(text).await.expect("never waits");
        }
        assert_eq!(client.stats().dropped, 2);
        assert_eq!(client.stats().queued_bytes, 3);
        client.stop().await;
    }
    assert_eq!(texts(&newest.take_unsent()), ["1", "2", "3"]);
    assert_eq!(texts(&oldest.take_unsent()), ["3", "4", "5"]);
}

#[tokio::test]
async fn one_message_is_always_allowed_and_none_with_the_queue_off() {
    let client = offline(1, QueuePolicy::Wait).await;
    client
        .send("longer than a byte")
        .await
        .expect("one is allowed");
    client.stop().await;
    let off = offline(0, QueuePolicy::Wait).await;
    let error = off.send("x").await.expect_err("nothing is queued");
    assert_eq!(error.code(), ErrorCode::ConnectionClosed);
    off.stop().await;
}

#[tokio::test]
async fn messages_over_the_limit_are_refused_while_offline_too() {
    let client = offline(10, QueuePolicy::Wait).await;
    let error = client
        .send(vec![0; 1024 * 1024 + 1])
        .await
        .expect_err("too long");
    assert_eq!(error.code(), ErrorCode::MessageTooLarge);
    client.stop().await;
}

#[tokio::test]
async fn a_request_waits_for_the_connection_within_its_time() {
    let client = offline(10, QueuePolicy::Wait).await;
    let error = client
        .request("?", 30 * MS)
        .await
        .expect_err("no connection");
    assert!(error.is_timeout(), "{error}");
    let (error, _) = tokio::join!(client.request("?", LONG), client.stop());
    let code = error.expect_err("stopped").code();
    assert!(
        matches!(code, ErrorCode::ShuttingDown | ErrorCode::ConnectionClosed),
        "{code}"
    );
    let error = client.request("?", LONG).await.expect_err("stopped");
    assert_eq!(error.code(), ErrorCode::ConnectionClosed);

    let port = Port::take().await;
    let (server, url) = started(echo_on(&port.url)).await;
    let client = connected(quick(&url)).await;
    server.stop().await.expect("running");
    reached(&client, ClientState::Reconnecting).await;
    client.send("before").await.expect("queued");
    let request = client.request("hello", LONG);
    let (answer, (server, _)) = tokio::join!(request, started(echo_on(&url)));
    assert_eq!(answer.expect("an answer").as_text(), Some("re: hello"));
    assert_eq!(server.stats().messages_received, 2);
    client.stop().await;
    server.stop().await.expect("running");
}

/// More than the outbox of a session and the sockets hold, so that handing it over takes turns.
/// The size leaves a little room in an outbox that has none for another one.
async fn queue_much(client: &Client) {
    for number in 0..BIG {
        client
            .send(vec![number as u8; 60 * 1024])
            .await
            .expect("queued");
    }
}

const BIG: usize = 200;

fn with_room(url: &str) -> network_system::ClientBuilder {
    let mut socket = network_system::SocketOptions::default();
    socket.send_buffer_size = 64 * 1024;
    quick(url)
        .socket(socket)
        .offline_queue(64 * 1024 * 1024, QueuePolicy::Wait)
}

#[tokio::test]
async fn a_request_goes_out_behind_what_is_queued() {
    let (fake, url) = Fake::bind().await;
    let (client, peer) = tokio::join!(connected(with_room(&url)), fake.welcome());
    drop(peer);
    reached(&client, ClientState::Reconnecting).await;
    queue_much(&client).await;
    let (answer, _peer) = tokio::join!(client.request("?", LONG), async {
        let mut peer = fake.welcome().await;
        for number in 0..BIG {
            let (frame_type, payload) = peer.frame().await.expect("a message");
            assert_eq!((frame_type, payload[0]), (DATA, number as u8));
        }
        let (frame_type, mut payload) = peer.frame().await.expect("the request");
        assert_eq!(frame_type, REQUEST);
        payload.truncate(8);
        peer.send(0x0012, &payload).await;
        peer
    });
    answer.expect("an answer");
}

#[tokio::test]
async fn a_stop_hands_over_what_is_queued_while_there_is_a_connection() {
    let (fake, url) = Fake::bind().await;
    let (client, peer) = tokio::join!(connected(with_room(&url)), fake.welcome());
    drop(peer);
    reached(&client, ClientState::Reconnecting).await;
    queue_much(&client).await;
    let mut peer = fake.welcome().await;
    reached(&client, ClientState::Connected).await;
    assert!(
        client.stats().queued_messages > 0,
        "the sockets took everything"
    );
    let (report, received) = tokio::join!(client.stop(), async {
        let mut received = 0;
        while let Some((frame_type, payload)) = peer.frame().await {
            if frame_type == DISCONNECT {
                peer.send(DISCONNECT, b"").await;
                break;
            }
            assert_eq!((frame_type, payload[0]), (DATA, received as u8));
            received += 1;
        }
        received
    });
    assert_eq!(received, BIG);
    assert!(report.in_order && report.unsent == 0, "{report:?}");
}

#[tokio::test]
async fn what_is_sent_in_the_moment_of_connecting_queues_behind() {
    let (fake, url) = Fake::bind().await;
    let own: Arc<std::sync::OnceLock<Client>> = Arc::default();
    let slot = Arc::clone(&own);
    let builder = quick(&url).on_state_change(move |from, to| {
        if let (ClientState::Reconnecting, ClientState::Connected) = (from, to) {
            slot.get()
                .expect("set before")
                .try_send("new")
                .expect("there is room");
        }
    });
    let (client, peer) = tokio::join!(connected(builder), fake.welcome());
    let _ = own.set(client.clone());
    drop(peer);
    reached(&client, ClientState::Reconnecting).await;
    client.send("old").await.expect("queued");
    let mut peer = fake.welcome().await;
    assert_eq!(peer.message().await, "old");
    assert_eq!(peer.message().await, "new");
    client.stop_within(MS).await;
}

#[tokio::test]
async fn a_request_in_flight_fails_with_the_reason() {
    let (fake, url) = Fake::bind().await;
    let (client, mut peer) = tokio::join!(connected(quick(&url)), fake.welcome());
    let (error, ()) = tokio::join!(client.request("?", LONG), async move {
        assert!(peer.frame().await.is_some());
        peer.error(-606, "too many").await;
    });
    assert_eq!(error.expect_err("lost").code(), ErrorCode::RateLimited);
    // That reason is not for ever.
    let mut peer = fake.welcome().await;
    reached(&client, ClientState::Connected).await;
    client.send("again").await.expect("connected");
    assert_eq!(peer.message().await, "again");
}

#[tokio::test]
async fn a_fatal_error_is_not_tried_again() {
    let (fake, url) = Fake::bind().await;
    let (client, peer) = tokio::join!(connected(quick(&url)), fake.welcome());
    drop(peer);
    let mut peer = fake.accept().await;
    peer.error(-623, "expired").await;
    soon(client.wait_for_stop()).await;
    assert_eq!(client.state(), ClientState::Failed);
    let reason = client.close_reason().expect("a reason");
    assert_eq!(reason.code(), Some(ErrorCode::AuthenticationFailed));
    assert_eq!(client.stats().failed_attempts, 1);
    assert_eq!(alive_tasks(), 0);
    let error = client.send("x").await.expect_err("it gave up");
    assert_eq!(error.code(), ErrorCode::ConnectionClosed);
}

#[tokio::test]
async fn a_fatal_error_in_an_open_session_ends_the_client() {
    let (fake, url) = Fake::bind().await;
    let (client, mut peer) = tokio::join!(connected(quick(&url)), fake.welcome());
    peer.error(-624, "banned").await;
    soon(client.wait_for_stop()).await;
    assert_eq!(client.state(), ClientState::Failed);
    assert_eq!(client.close_reason().expect("a reason").text(), "banned");
    assert_eq!(client.stats().connections, 1);
}

#[tokio::test]
async fn attempts_are_limited() {
    let port = Port::take().await;
    let fake = Fake::at(&port).await;
    let policy = ReconnectPolicy::new().base(MS).attempts(Some(3));
    let builder = quick(&port.url).reconnect(policy);
    let (client, peer) = tokio::join!(connected(builder), fake.welcome());
    drop(fake);
    drop(peer);
    client.state_changed(ClientState::Connected).await;
    let waiting = client.clone();
    let queued = waiting.send("never leaves").await.is_ok();
    let report = soon(client.wait_for_stop()).await;
    assert_eq!(client.state(), ClientState::Failed);
    assert_eq!(client.stats().failed_attempts, 3);
    assert_eq!(report.unsent, usize::from(queued));
    let reason = client.close_reason().expect("a reason");
    assert_eq!(reason.code(), Some(ErrorCode::ConnectionRefused));
}

#[tokio::test]
async fn goaway_is_obeyed() {
    let (fake, url) = Fake::bind().await;
    let (client, mut peer) = tokio::join!(connected(quick(&url)), fake.welcome());
    let told = Instant::now();
    peer.send(CONTROL, br#"{"op":"goaway","retry_ms":400}"#)
        .await;
    peer.send(DISCONNECT, b"restarting").await;
    peer.closed().await;
    let mut peer = fake.welcome().await;
    let waited = told.elapsed();
    // Half of it at least.
    assert!((200 * MS..PROMPT).contains(&waited), "{waited:?}");
    reached(&client, ClientState::Connected).await;
    // A stop does not send the server's words back to it.
    peer.send(CONTROL, br#"{"op":"goaway","retry_ms":400}"#)
        .await;
    peer.send(PING, b"").await;
    assert_eq!(
        peer.frame().await.map(|(frame_type, _)| frame_type),
        Some(PONG)
    );
    let (_, frame) = tokio::join!(client.stop(), async {
        let frame = peer.frame().await;
        peer.send(DISCONNECT, b"").await;
        peer.closed_politely().await;
        frame
    });
    assert_eq!(frame.map(|(frame_type, _)| frame_type), Some(DISCONNECT));
}

#[tokio::test]
async fn a_goaway_without_a_time_leaves_the_pause_to_the_policy() {
    let (fake, url) = Fake::bind().await;
    let builder = Client::builder().endpoint(url).reconnect(never());
    let (client, mut peer) = tokio::join!(connected(builder), fake.welcome());
    peer.send(CONTROL, br#"{"op":"goaway"}"#).await;
    peer.send(DISCONNECT, b"restarting").await;
    peer.closed().await;
    reached(&client, ClientState::Reconnecting).await;
    assert!(tokio::time::timeout(50 * MS, fake.welcome()).await.is_err());
    client.stop().await;
}

#[tokio::test]
async fn a_server_that_accepts_and_closes_is_not_stormed() {
    let (fake, url) = Fake::bind().await;
    let policy = ReconnectPolicy::new().base(10 * MS);
    let client = quick(&url).reconnect(policy).build().expect("valid");
    let accepted = AtomicUsize::new(0);
    let closer = async {
        loop {
            let mut peer = fake.welcome().await;
            accepted.fetch_add(1, Ordering::Relaxed);
            // Neither does a hint to come back at once help.
            peer.send(CONTROL, br#"{"op":"goaway","retry_ms":0}"#).await;
            peer.send(DISCONNECT, b"go").await;
        }
    };
    tokio::select! {
        () = closer => {}
        () = async {
            client.connect().await.expect("welcome");
            tokio::time::sleep(500 * MS).await;
            until(|| accepted.load(Ordering::Relaxed) >= 2).await;
        } => {}
    }
    // With 5 ms on average and no growth it would be about a hundred; with growth it is six or so.
    let accepted = accepted.load(Ordering::Relaxed);
    assert!(
        (2..25).contains(&accepted),
        "{accepted} connections in half a second"
    );
    client.stop().await;
}

#[tokio::test]
async fn the_next_endpoint_has_its_turn_after_a_failure() {
    let port = Port::take().await;
    let first = Fake::at(&port).await;
    let (server, url) = started(echo()).await;
    let builder = quick(&port.url).endpoint(&url);
    let (client, peer) = tokio::join!(connected(builder), first.welcome());
    drop(first);
    drop(peer);
    reached(&client, ClientState::Reconnecting).await;
    reached(&client, ClientState::Connected).await;
    assert_eq!(server.session_count(), 1);
    client.stop().await;
    server.stop().await.expect("running");
}

#[tokio::test]
async fn groups_are_joined_again() {
    let guard = |_: &Session, _: &GroupName| true;
    let port = Port::take().await;
    let (server, url) = started(echo_on(&port.url).group_guard(guard)).await;
    let client = connected(quick(&url)).await;
    let (room, other): (GroupName, GroupName) = (
        "room".parse().expect("a name"),
        "other".parse().expect("a name"),
    );
    client.join(&room).await.expect("allowed");
    client.join(&other).await.expect("allowed");
    client.leave(&other).await.expect("allowed");
    server.stop().await.expect("running");
    reached(&client, ClientState::Reconnecting).await;
    let (server, _) = started(echo_on(&url).group_guard(guard)).await;
    // The answer comes after the joins, which were sent before.
    soon(client.request("ready", LONG))
        .await
        .expect("an answer");
    assert_eq!(server.groups(), [room]);
    client.stop().await;
    server.stop().await.expect("running");
}

#[tokio::test]
async fn states_are_told_in_order() {
    let (fake, url) = Fake::bind().await;
    let (told, mut states) = mpsc::unbounded_channel();
    let builder = quick(&url).on_state_change(move |from, to| {
        let _ = told.send((from, to));
        assert!(to != ClientState::Reconnecting, "a panic here harms nobody");
    });
    let client = builder.build().expect("valid");
    assert_eq!(client.state(), ClientState::Idle);
    let (result, peer) = tokio::join!(client.connect(), fake.welcome());
    result.expect("connects");
    drop(peer);
    let mut peer = fake.welcome().await;
    reached(&client, ClientState::Connected).await;
    tokio::join!(client.stop(), async {
        peer.closed_politely().await;
    });
    let mut seen = vec![ClientState::Idle];
    while let Ok((from, to)) = states.try_recv() {
        assert_eq!(seen.last(), Some(&from));
        seen.push(to);
    }
    use ClientState::{Connected, Connecting, Idle, Reconnecting, Stopped, Stopping};
    assert_eq!(
        seen,
        [
            Idle,
            Connecting,
            Connected,
            Reconnecting,
            Connected,
            Stopping,
            Stopped
        ]
    );
}

#[tokio::test]
async fn ending_the_session_ends_the_client_and_aborting_it_does_not() {
    let (server, url) = started(echo()).await;
    let client = connected(quick(&url)).await;
    client.session().expect("connected").abort();
    reached(&client, ClientState::Reconnecting).await;
    reached(&client, ClientState::Connected).await;
    client
        .session()
        .expect("connected")
        .disconnect(CloseReason::new("enough"));
    soon(client.wait_for_stop()).await;
    assert_eq!(client.state(), ClientState::Stopped);
    assert_eq!(client.close_reason().expect("a reason").text(), "enough");
    server.stop().await.expect("running");
}

#[tokio::test]
async fn handlers_run_for_each_connection() {
    let (server, url) = started(echo()).await;
    let counts: Arc<[AtomicUsize; 2]> = Arc::default();
    let (connects, disconnects) = (Arc::clone(&counts), Arc::clone(&counts));
    let builder = quick(&url)
        .on_connect(move |session: Session| {
            let number = connects[0].fetch_add(1, Ordering::Relaxed) + 1;
            async move {
                // What a handler sends on its session does not wait behind the queue.
                let _ = session.send(format!("hello {number}")).await;
            }
        })
        .on_disconnect(move |_, _| {
            disconnects[1].fetch_add(1, Ordering::Relaxed);
            async {}
        });
    let client = connected(builder).await;
    server.disconnect_all(CloseReason::new("again"));
    reached(&client, ClientState::Reconnecting).await;
    client.send("queued").await.expect("queued");
    let mut messages = client.messages().expect("no handler");
    // The answer to the first hello may have come before the end, or not.
    let mut heard = Vec::new();
    while heard.last().map(String::as_str) != Some("queued") {
        let message = soon(messages.next()).await.expect("connected");
        heard.push(message.as_text().unwrap_or_default().to_owned());
    }
    assert!(
        heard.ends_with(&["hello 2".into(), "queued".into()]),
        "{heard:?}"
    );
    client.stop().await;
    assert_eq!(counts[0].load(Ordering::Relaxed), 2);
    assert_eq!(counts[1].load(Ordering::Relaxed), 2);
    server.stop().await.expect("running");
}
