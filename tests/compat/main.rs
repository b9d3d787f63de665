//! The classic names, used as programs that have no runtime use them.

use std::collections::HashSet;
use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use network_system::compat::*;

mod anywhere;
mod bridge;
mod callbacks;
mod codecs;
mod connections;
mod containers;
mod generations;
mod lifecycle;
mod logging;
mod pipeline;
mod pool;
mod secure;
mod sessions;
mod udp;
mod websocket;

/// Longer than anything that works takes; waiting that long means that it does not.
const LONG: Duration = Duration::from_secs(20);

/// Shorter than the drain deadline of 10 s, within which everything ends whether it works or not.
const PROMPT: Duration = Duration::from_secs(8);

/// What a callback saw, in order.
struct Seen<T>(Receiver<T>);

impl<T: Debug> Seen<T> {
    fn next(&self) -> T {
        self.0
            .recv_timeout(LONG)
            .expect("the callback is called in time")
    }

    fn none(&self) {
        assert!(self.0.try_recv().is_err(), "the callback is not called");
    }
}

fn seen<T: Debug>() -> (Sender<T>, Seen<T>) {
    let (tell, told) = channel();
    (tell, Seen(told))
}

/// A server that echoes, on a free port of the loopback.
fn echo() -> Arc<messaging_server> {
    echo_with(|_config| {})
}

fn echo_with(change: impl FnOnce(&mut server_config)) -> Arc<messaging_server> {
    let mut config = server_config::default();
    config.bind_address = "127.0.0.1".to_owned();
    config.port = 0;
    change(&mut config);
    let server = Arc::new(messaging_server::with_config("echo", config));
    server.set_message_handler(|session, message| {
        session.send_message(message).expect("the session is open");
    });
    server.start_server(()).expect("a free port");
    server
}

/// A connected client, and the messages that it receives.
fn client_of(server: &messaging_server) -> (messaging_client, Seen<Vec<u8>>) {
    client_named("", server)
}

fn client_named(id: &str, server: &messaging_server) -> (messaging_client, Seen<Vec<u8>>) {
    let client = messaging_client::new(id);
    let (tell, messages) = seen();
    client.set_message_handler(move |message| {
        let _ = tell.send(message.to_vec());
    });
    client
        .start_client("127.0.0.1", server.port())
        .expect("the server is there");
    (client, messages)
}

/// A port of the loopback at which nobody listens, nor will as long as this is there: a connection has it.
struct ClosedPort {
    stream: TcpStream,
    _to: TcpListener,
}

impl ClosedPort {
    fn take() -> Self {
        let to = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let addr = to.local_addr().expect("it is bound");
        let stream = TcpStream::connect(addr).expect("it listens");
        ClosedPort { stream, _to: to }
    }

    fn port(&self) -> u16 {
        let addr = self.stream.local_addr().expect("it is connected");
        addr.port()
    }
}
