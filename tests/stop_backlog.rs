//! A client that stops while its handler works still hands over what the server has sent before.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use network_system::{Client, ClientState, Handler, Message, ReconnectPolicy, Server, Session};
use tokio::sync::Semaphore;

/// More than is held for a handler that is busy.
const MESSAGES: usize = 10_000;

struct Slow {
    gate: Arc<Semaphore>,
    handled: Arc<AtomicUsize>,
}

impl Handler for Slow {
    async fn on_message(&self, _: &Session, _: &Message) {
        let _open = self.gate.acquire().await;
        self.handled.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_held_for_a_busy_handler_is_handed_over_by_a_stop() {
    let server = Server::builder()
        .listen("mem://stop-backlog")
        .on_connect(|session: Session| async move {
            for _ in 0..MESSAGES {
                let _ = session.send("small").await;
            }
        })
        .build()
        .expect("a configuration");
    server.start().await.expect("a server");
    let gate = Arc::new(Semaphore::new(0));
    let handled = Arc::new(AtomicUsize::new(0));
    let handler = Slow {
        gate: Arc::clone(&gate),
        handled: Arc::clone(&handled),
    };
    let client = Client::builder()
        .endpoint("mem://stop-backlog")
        .reconnect(ReconnectPolicy::disabled())
        .handler(handler)
        .build()
        .expect("a configuration");
    client.connect().await.expect("a connection");
    let session = client.session().expect("a session");
    // Until nothing more is read, because enough waits behind the message that is being handled.
    let mut received = 0;
    while received == 0 || received != session.stats().messages_received {
        received = session.stats().messages_received;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
    assert!(received < MESSAGES as u64);
    let stopping = tokio::spawn({
        let client = client.clone();
        async move { client.stop().await }
    });
    while client.state() != ClientState::Stopping {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(1);
    let report = stopping.await.expect("the stop");
    assert_eq!(handled.load(Ordering::Relaxed), MESSAGES);
    assert!(report.in_order, "{report:?}");
    server.stop().await.expect("the server runs");
}
