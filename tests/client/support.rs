//! Servers for the tests: the library's own, and one whose every byte the test decides.

use std::time::Duration;

use network_system::{
    Client, ClientBuilder, ClientState, Message, ReconnectPolicy, Server, ServerBuilder, Session,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Longer than anything that works takes; waiting that long means that it does not.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Shorter than the deadline of a stop, 10 s, and than those of handlers and peers that say nothing: what comes within
/// this has not waited for any of them. What the machine does beside the test is no part of the promise.
pub(crate) const PROMPT: Duration = Duration::from_secs(8);

pub(crate) const MS: Duration = Duration::from_millis(1);

/// Waits for what is certain to come.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(LONG, future).await.expect("it comes in time")
}

/// A server on a free port that echoes messages and answers requests with `re: `.
pub(crate) fn echo() -> ServerBuilder {
    echo_on("tcp://127.0.0.1:0")
}

pub(crate) fn echo_on(url: &str) -> ServerBuilder {
    Server::builder()
        .listen(url)
        .on_message(|session: Session, message: Message| async move {
            let _ = session.send(message).await;
        })
        .on_request(|_session, request: Message| async move {
            let text = request.as_text().unwrap_or_default();
            Ok(Message::text(format!("re: {text}")))
        })
}

pub(crate) async fn started(builder: ServerBuilder) -> (Server, String) {
    let server = builder.build().expect("a valid configuration");
    server.start().await.expect("a free port");
    let url = server.urls().remove(0);
    (server, url)
}

/// A client that reconnects within milliseconds.
pub(crate) fn quick(url: &str) -> ClientBuilder {
    let policy = ReconnectPolicy::new().base(MS).cap(20 * MS);
    Client::builder().endpoint(url).reconnect(policy)
}

pub(crate) async fn connected(builder: ClientBuilder) -> Client {
    let client = builder.build().expect("a valid configuration");
    soon(client.connect()).await.expect("the server is there");
    client
}

/// Waits until the client is in a state.
pub(crate) async fn reached(client: &Client, wanted: ClientState) {
    let mut state = client.state();
    soon(async {
        while state != wanted {
            state = client.state_changed(state).await;
        }
    })
    .await;
}

/// Waits until it is so. There is nothing to wait on: it is asked again and again.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    soon(async {
        while !is_so() {
            tokio::time::sleep(MS).await;
        }
    })
    .await;
}

/// A port of the loopback that is this test's until it is dropped: whoever asks the system for any port gets another.
/// Nobody listens there unless the test does.
pub(crate) struct Port {
    // Elsewhere nobody could listen beside it.
    #[cfg(unix)]
    _held: tokio::net::TcpSocket,
    pub(crate) url: String,
}

impl Port {
    #[cfg(unix)]
    pub(crate) async fn take() -> Port {
        let held = tokio::net::TcpSocket::new_v4().expect("a socket");
        // Servers have it too, so that they can listen at the same port as long as this does not.
        held.set_reuseaddr(true).expect("an option");
        let any = "127.0.0.1:0".parse().expect("an address");
        held.bind(any).expect("a free port");
        let url = format!("tcp://{}", held.local_addr().expect("a bound socket"));
        Port { _held: held, url }
    }

    #[cfg(not(unix))]
    pub(crate) async fn take() -> Port {
        let url = Fake::bind().await.1;
        Port { url }
    }
}

/// Tasks of the current runtime that have not ended.
pub(crate) fn alive_tasks() -> usize {
    tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
}

pub(crate) const PING: u16 = 0x0001;
pub(crate) const PONG: u16 = 0x0002;
pub(crate) const CONTROL: u16 = 0x0020;
pub(crate) const DATA: u16 = 0x0010;
pub(crate) const REQUEST: u16 = 0x0011;
pub(crate) const ERROR: u16 = 0x0030;
pub(crate) const DISCONNECT: u16 = 0x0050;

/// A listener whose connections the test speaks for, frame by frame.
pub(crate) struct Fake {
    listener: TcpListener,
}

impl Fake {
    pub(crate) async fn bind() -> (Fake, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("tcp://{}", listener.local_addr().expect("a bound socket"));
        (Fake { listener }, url)
    }

    /// At a port that nobody else gets when this is dropped.
    pub(crate) async fn at(port: &Port) -> Fake {
        let listener = TcpListener::bind(port.url.trim_start_matches("tcp://")).await;
        Fake {
            listener: listener.expect("the port is held for it"),
        }
    }

    pub(crate) async fn accept(&self) -> Peer {
        let (stream, _) = soon(self.listener.accept()).await.expect("a connection");
        Peer { stream }
    }

    /// Accepts, takes hello and answers it with welcome.
    pub(crate) async fn welcome(&self) -> Peer {
        let mut peer = self.accept().await;
        let (frame_type, payload) = peer.frame().await.expect("hello");
        assert_eq!(frame_type, CONTROL);
        assert!(String::from_utf8_lossy(&payload).contains("\"hello\""));
        peer.send(CONTROL, br#"{"op":"welcome","version":1}"#).await;
        peer
    }
}

pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
}

impl Peer {
    pub(crate) async fn send(&mut self, frame_type: u16, payload: &[u8]) {
        let mut frame = b"MSGI".to_vec();
        frame.extend_from_slice(&(payload.len() as u32 + 10).to_be_bytes());
        frame.extend_from_slice(&frame_type.to_be_bytes());
        frame.extend_from_slice(payload);
        self.stream
            .write_all(&frame)
            .await
            .expect("the client reads");
    }

    pub(crate) async fn error(&mut self, code: i32, text: &str) {
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(text.as_bytes());
        self.send(ERROR, &payload).await;
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) async fn frame(&mut self) -> Option<(u16, Vec<u8>)> {
        soon(async {
            let mut head = [0; 10];
            self.stream.read_exact(&mut head).await.ok()?;
            assert_eq!(&head[..4], b"MSGI");
            let len = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize - 10;
            let mut payload = vec![0; len];
            self.stream.read_exact(&mut payload).await.ok()?;
            Some((u16::from_be_bytes([head[8], head[9]]), payload))
        })
        .await
    }

    /// The payload of the next message.
    pub(crate) async fn message(&mut self) -> String {
        let (frame_type, payload) = self.frame().await.expect("a message");
        assert_eq!(frame_type, DATA);
        String::from_utf8(payload).expect("text")
    }

    /// Reads until the client has closed.
    pub(crate) async fn closed(&mut self) {
        while self.frame().await.is_some() {}
    }
}

impl Peer {
    /// Answers the client's DISCONNECT and reads to the end.
    pub(crate) async fn closed_politely(&mut self) {
        while let Some((frame_type, _)) = self.frame().await {
            if frame_type == DISCONNECT {
                self.send(DISCONNECT, b"").await;
                let _ = self.stream.shutdown().await;
            }
        }
    }
}
