//! How much a session does at a time, on connections that take whatever is written.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use network_system::internal::simulation::{self, Arrivals, Connected, Network};
use network_system::{BoxFuture, Server, Session};
use serde_json::json;
use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;

use crate::reliable::reliability;
use crate::support::{Peer, kind, limits, within};

/// More than is ever written.
const ROOM: usize = 64 * 1024 * 1024;

/// A network whose connections are made by the test.
struct Roomy(Mutex<Option<mpsc::UnboundedReceiver<DuplexStream>>>);

struct Arriving(mpsc::UnboundedReceiver<DuplexStream>);

impl Arrivals for Arriving {
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Connected>> {
        self.0.poll_recv(context).map(|stream| {
            let stream = stream.ok_or(io::ErrorKind::ConnectionAborted)?;
            let from = SocketAddr::from(([10, 0, 0, 2], 1));
            Ok((Box::new(stream) as Box<_>, from))
        })
    }
}

impl Network for Roomy {
    fn listen(&self, _: SocketAddr) -> io::Result<Box<dyn Arrivals>> {
        let arriving = self.0.lock().unwrap().take();
        arriving
            .map(|arriving| Box::new(Arriving(arriving)) as Box<_>)
            .ok_or(io::ErrorKind::AddrInUse.into())
    }

    fn connect(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<Connected>> {
        Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
    }

    fn seed(&self) -> u64 {
        0
    }
}

/// How many messages a session has sent when its handler sees one, where 64 of 64 KiB each were queued before that
/// arrived.
async fn sent_before_a_message_is_seen(hello: serde_json::Value) -> u64 {
    let (connect, arriving) = mpsc::unbounded_channel();
    let (seen, mut sees) = mpsc::unbounded_channel();
    let builder = Server::builder()
        .listen("tcp://10.0.0.1:1")
        .workers(1)
        .limits(limits(|limits| limits.outbox_bytes = ROOM))
        .reliable(reliability(|reliability| reliability.window = ROOM))
        .on_message(move |session: Session, _| {
            let _ = seen.send(session.stats().messages_sent);
            async {}
        });
    let network = Roomy(Mutex::new(Some(arriving)));
    let server = simulation::server(builder, Arc::new(network))
        .build()
        .unwrap();
    server.start().await.unwrap();
    let (near, far) = duplex(ROOM);
    connect.send(far).unwrap();
    let mut peer = Peer::of(near);
    peer.control(hello.to_string()).await;
    peer.expect(kind::CONTROL).await;
    let session = server.sessions().remove(0);
    for _ in 0..64 {
        session.try_send(vec![1; 64 * 1024]).unwrap();
    }
    // There is room: nothing else runs meanwhile.
    peer.data("seen?").await;
    let sent = within("the message", sees.recv()).await.unwrap();
    within("stop", server.stop_within(Duration::ZERO))
        .await
        .unwrap();
    sent
}

#[tokio::test]
async fn what_arrives_does_not_wait_behind_all_that_is_queued() {
    let ordinary = json!({"op": "hello", "version": 1});
    let reliable = json!({"op": "hello", "version": 1, "reliable": true, "window": ROOM});
    for hello in [ordinary, reliable] {
        let sent = sent_before_a_message_is_seen(hello.clone()).await;
        // One write of 256 KiB, and what overlaps.
        assert!(sent <= 5, "{hello}: {sent} of 64 messages");
    }
}
