//! Stopping: nothing accepted is lost, nothing is left behind, no deadline is missed.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Waker};
use std::time::Duration;

use network_system::{Client, ClientState, ErrorCode, Message, ReconnectPolicy, Server, Session};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::support::*;

/// A place for a client that its own handlers use.
type Own = Arc<OnceLock<Client>>;

fn slow_policy() -> ReconnectPolicy {
    let long = Duration::from_secs(1_000_000);
    ReconnectPolicy::new().base(long).cap(long)
}

#[tokio::test]
async fn a_stop_delivers_what_was_sent_and_leaves_no_task() {
    let (received, mut messages) = mpsc::unbounded_channel();
    let sink =
        Server::builder()
            .listen("tcp://127.0.0.1:0")
            .on_message(move |_, message: Message| {
                let _ = received.send(message.len());
                async {}
            });
    let (server, url) = started(sink).await;
    let before = alive_tasks();
    let client = connected(quick(&url)).await;
    assert!(alive_tasks() > before);
    for _ in 0..200 {
        client.send(vec![1; 10_000]).await.expect("connected");
    }
    let report = soon(client.stop()).await;
    assert!(report.in_order);
    assert_eq!(report.unsent, 0);
    assert_eq!(alive_tasks(), before);
    assert_eq!(client.state(), ClientState::Stopped);
    for _ in 0..200 {
        assert_eq!(soon(messages.recv()).await, Some(10_000));
    }
    let error = client.send("late").await.expect_err("stopped");
    assert_eq!(error.code(), ErrorCode::ConnectionClosed);
    server.stop().await.expect("running");
    assert_eq!(alive_tasks(), 0);
}

#[tokio::test]
async fn stopping_what_does_not_run_returns_at_once() {
    let client = quick("tcp://127.0.0.1:1").build().expect("valid");
    let report = soon(client.stop()).await;
    assert!(report.in_order && report.unsent == 0);
    assert_eq!(client.state(), ClientState::Idle);
    soon(client.wait_for_stop()).await;
}

#[tokio::test]
async fn a_stop_during_the_pause_before_an_attempt_is_prompt() {
    let (fake, url) = Fake::bind().await;
    let builder = quick(&url).reconnect(slow_policy());
    let (client, peer) = tokio::join!(connected(builder), fake.welcome());
    drop(peer);
    reached(&client, ClientState::Reconnecting).await;
    let began = Instant::now();
    soon(client.stop()).await;
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
    assert_eq!(client.state(), ClientState::Stopped);
    assert_eq!(alive_tasks(), 0);
}

#[tokio::test]
async fn a_server_that_does_not_read_cannot_hold_up_a_stop() {
    let (fake, url) = Fake::bind().await;
    let (client, _peer) = tokio::join!(connected(quick(&url)), fake.welcome());
    let mut sent = 0;
    while client
        .send_timeout(vec![0; 64 * 1024], 1_000 * MS)
        .await
        .is_ok()
    {
        sent += 1;
        assert!(sent < 1_024, "the socket took 64 MiB");
    }
    let began = Instant::now();
    let report = soon(client.stop_within(100 * MS)).await;
    let took = began.elapsed();
    assert!((100 * MS..PROMPT).contains(&took), "{took:?}");
    assert!(!report.in_order);
    assert!(report.unsent > 0);
    assert_eq!(alive_tasks(), 0);
}

#[tokio::test]
async fn handlers_that_never_return_cannot_hold_up_a_stop() {
    let (server, url) = started(echo()).await;
    let before = alive_tasks();
    let (entered, mut inside) = mpsc::unbounded_channel();
    let left = entered.clone();
    let builder = quick(&url)
        .on_message(move |_, _| {
            let _ = entered.send("message");
            std::future::pending()
        })
        .on_disconnect(move |_, _| {
            let _ = left.send("disconnect");
            std::future::pending()
        });
    let client = connected(builder).await;
    client.send("echo").await.expect("connected");
    assert_eq!(soon(inside.recv()).await, Some("message"));
    let began = Instant::now();
    let report = soon(client.stop_within(100 * MS)).await;
    let took = began.elapsed();
    assert!((100 * MS..PROMPT).contains(&took), "{took:?}");
    assert!(!report.in_order);
    assert_eq!(soon(inside.recv()).await, Some("disconnect"));
    assert_eq!(alive_tasks(), before);
    server.stop().await.expect("running");
}

#[tokio::test]
async fn a_disconnect_handler_that_never_returns_cannot_hold_up_a_stop() {
    let (fake, url) = Fake::bind().await;
    let builder = quick(&url)
        .reconnect(slow_policy())
        .on_disconnect(|_, _| std::future::pending());
    let (client, peer) = tokio::join!(connected(builder), fake.welcome());
    drop(peer);
    reached(&client, ClientState::Reconnecting).await;
    let report = soon(client.stop_within(50 * MS)).await;
    assert!(!report.in_order);
    assert_eq!(alive_tasks(), 0);
}

#[tokio::test]
async fn a_second_stop_shortens_the_deadline() {
    let (fake, url) = Fake::bind().await;
    // The peer does not answer DISCONNECT.
    let (client, _peer) = tokio::join!(connected(quick(&url)), fake.welcome());
    let began = Instant::now();
    let (first, second) = tokio::join!(client.stop_within(LONG), async {
        client.stop_within(50 * MS).await
    });
    assert!(began.elapsed() < PROMPT);
    assert!(!first.in_order && !second.in_order);
}

#[tokio::test]
async fn any_handler_may_stop_its_own_client() {
    for place in ["connect", "message", "request", "disconnect"] {
        let (server, url) = started(echo()).await;
        let before = alive_tasks();
        let own = Own::default();
        let (told, mut done) = mpsc::unbounded_channel();
        let slot = Arc::clone(&own);
        let stop_at = move |here: &'static str| {
            let (own, told) = (Arc::clone(&slot), told.clone());
            async move {
                if here == place {
                    let client = own.get().expect("set before").clone();
                    client.stop().await;
                    let _ = told.send(here);
                }
            }
        };
        let stop_at = Arc::new(stop_at);
        let (one, two, three, four) = (
            stop_at.clone(),
            stop_at.clone(),
            stop_at.clone(),
            stop_at.clone(),
        );
        let client = quick(&url)
            .on_connect(move |_| one("connect"))
            .on_message(move |_, _| two("message"))
            .on_request(move |_, request| {
                let stop = three("request");
                async move {
                    stop.await;
                    Ok(request)
                }
            })
            .on_disconnect(move |_, _| four("disconnect"))
            .build()
            .expect("valid");
        // The handlers find the client in the place that they share.
        let _ = own.set(client.clone());
        let began = Instant::now();
        let _ = soon(client.connect()).await;
        match place {
            "message" => client.send("echo").await.expect("connected"),
            "request" => {
                let session = server.sessions().remove(0);
                let _ = soon(session.request("stop", LONG)).await;
            }
            "disconnect" => {
                server.disconnect_all(network_system::CloseReason::new("bye"));
            }
            _ => {}
        }
        assert_eq!(soon(done.recv()).await, Some(place));
        soon(client.wait_for_stop()).await;
        assert_eq!(client.state(), ClientState::Stopped, "{place}");
        assert!(
            began.elapsed() < PROMPT,
            "{place} took {:?}",
            began.elapsed()
        );
        assert_eq!(alive_tasks(), before);
        server.stop().await.expect("running");
    }
}

#[tokio::test]
async fn dropping_the_last_handle_stops_the_client_in_order() {
    let (told, mut reasons) = mpsc::unbounded_channel();
    let (seen, mut messages) = mpsc::unbounded_channel();
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .on_message(move |_, message: Message| {
            let _ = seen.send(message);
            async {}
        })
        .on_disconnect(move |_: Session, reason| {
            let _ = told.send(reason);
            async {}
        });
    let (server, url) = started(server).await;
    let before = alive_tasks();
    let client = connected(quick(&url)).await;
    let stream = client.messages().expect("no handler");
    client.send("last words").await.expect("connected");
    drop(client);
    assert_eq!(
        soon(messages.recv()).await.expect("a message").as_text(),
        Some("last words")
    );
    assert_eq!(server.session_count(), 1, "the stream keeps the client");
    drop(stream);
    assert!(soon(reasons.recv()).await.expect("a reason").is_orderly());
    // Nobody is left to ask, so the tasks are watched.
    soon(async {
        while alive_tasks() > before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.stop().await.expect("running");
}

#[tokio::test]
async fn a_client_starts_again_after_a_stop() {
    let (server, url) = started(echo()).await;
    let client = connected(quick(&url)).await;
    let mut messages = client.messages().expect("no handler");
    client.stop().await;
    assert!(messages.next().await.is_none());
    client.connect().await.expect("the server is there");
    client.send("again").await.expect("connected");
    assert_eq!(
        soon(messages.next()).await.expect("the echo").as_text(),
        Some("again")
    );
    client.stop().await;
    server.stop().await.expect("running");
}

#[test]
fn the_end_of_the_runtime_ends_the_client() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let client = runtime.block_on(async {
        let (_server, url) = started(echo()).await;
        connected(quick(&url)).await
    });
    drop(runtime);
    assert_eq!(client.state(), ClientState::Failed);
    assert!(!client.is_connected());
    assert!(client.try_send("x").is_err());
}

#[tokio::test]
async fn a_dead_server_is_noticed_within_three_heartbeats() {
    let (fake, url) = Fake::bind().await;
    let mut timeouts = network_system::Timeouts::client();
    timeouts.heartbeat = 40 * MS;
    let builder = quick(&url).timeouts(timeouts);
    let began = Instant::now();
    let (client, _peer) = tokio::join!(connected(builder), fake.welcome());
    reached(&client, ClientState::Reconnecting).await;
    let reason = client.close_reason().expect("a reason");
    assert_eq!(reason.code(), Some(ErrorCode::HeartbeatTimeout));
    // Three heartbeats, and the second for which what still comes is discarded after the ERROR; by default one
    // heartbeat alone is longer.
    assert!(
        (120 * MS..PROMPT).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
    client.stop_within(10 * MS).await;
}

/// The futures can be awaited in tasks of a runtime with many threads.
#[test]
fn futures_are_send() {
    fn check<T: Send>(_: &T) {}
    let client = quick("tcp://127.0.0.1:1").build().expect("valid");
    let room = "room".parse().expect("a name");
    check(&client.connect());
    check(&Client::connect_to("tcp://127.0.0.1:1"));
    check(&client.send("x"));
    check(&client.send_timeout("x", MS));
    check(&client.request("x", MS));
    check(&client.join(&room));
    check(&client.leave(&room));
    check(&client.stop());
    check(&client.wait_for_stop());
    check(&client.state_changed(ClientState::Idle));
    let mut messages = client.messages().expect("no handler");
    check(&messages.next());
}

/// Begins to connect when it is dropped, as something that an application keeps may do.
struct ConnectsAtTheEnd(Client);

impl Drop for ConnectsAtTheEnd {
    fn drop(&mut self) {
        let mut connecting = Box::pin(self.0.connect());
        let _ = connecting
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
    }
}

#[test]
fn a_client_that_connects_while_its_runtime_ends_holds_up_nothing() {
    let (ended, ends) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let client = Client::builder()
            .endpoint("mem://nobody-there")
            .build()
            .expect("it is valid");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let kept = ConnectsAtTheEnd(client.clone());
        runtime.block_on(async {
            let (began, begins) = tokio::sync::oneshot::channel();
            tokio::spawn(async move {
                let _kept = kept;
                began.send(()).expect("it is waited for");
                std::future::pending::<()>().await;
            });
            begins.await.expect("the task begins");
        });
        drop(runtime);
        ended.send(client.state()).expect("it is waited for");
    });
    let state = ends.recv_timeout(Duration::from_secs(20)).expect("an end");
    assert!(state.is_ended(), "{state:?}");
}
