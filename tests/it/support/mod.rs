//! What the tests share: servers on any transport, plain peers, and waiting without sleeping.

pub mod alloc;
pub mod events;
#[macro_use]
pub mod over;
pub mod peer;
pub mod tls;
pub mod websocket;

use std::future::Future;
use std::time::{Duration, Instant};

use network_system::metrics::PerformanceMonitor;
use network_system::{
    CloseReason, ErrorCode, Limits, Message, Server, ServerBuilder, Session, Timeouts,
};
use tokio::sync::mpsc;

pub use over::Over;
pub use peer::{Frame, Peer, kind};

/// How long anything may take that should happen at once.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The same under a paused clock, where it costs nothing and has to be beyond every deadline.
pub const VIRTUAL_PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// A running server, where it is, and who watches it.
pub struct Net {
    pub server: Server,
    pub url: String,
    pub monitor: PerformanceMonitor,
}

/// Starts a server on one transport. Two workers, so that sessions are spread whatever the runtime.
pub async fn serve(over: Over, configure: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Net {
    Net::start(over.server().workers(2), configure).await
}

/// The same for a test that looks at what a monitor says.
pub async fn serve_watched(
    over: Over,
    monitor: &PerformanceMonitor,
    configure: impl FnOnce(ServerBuilder) -> ServerBuilder,
) -> Net {
    let builder = configure(over.server().workers(2));
    Net::watched(builder.monitor(monitor), monitor.clone()).await
}

impl Net {
    /// Starts a server that is watched, unless it is given a monitor of the test's own.
    pub async fn start(
        builder: ServerBuilder,
        configure: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> Self {
        let monitor = PerformanceMonitor::new();
        Net::watched(configure(builder.monitor(&monitor)), monitor).await
    }

    async fn watched(builder: ServerBuilder, monitor: PerformanceMonitor) -> Self {
        let server = builder.build().unwrap();
        server.start().await.unwrap();
        let url = server.urls().remove(0);
        Net {
            server,
            url,
            monitor,
        }
    }

    /// Connects a plain peer that has said nothing yet.
    pub async fn peer(&self) -> Peer {
        Peer::connect(&self.url).await
    }

    /// Connects a plain peer and opens its session.
    pub async fn open_peer(&self) -> Peer {
        let before = self.server.stats().total_connections;
        let mut peer = self.peer().await;
        peer.prove_address().await;
        peer.heartbeat().await;
        eventually("the session opens", || {
            self.server.stats().total_connections > before
        })
        .await;
        peer
    }

    /// Connects a plain peer, opens its session, and finds that session.
    pub async fn pair(&self) -> (Peer, Session) {
        let known: Vec<_> = self.server.sessions().iter().map(Session::id).collect();
        let peer = self.open_peer().await;
        let session = self
            .server
            .sessions()
            .into_iter()
            .find(|session| !known.contains(&session.id()));
        (peer, session.unwrap())
    }

    /// Stops the server, and sees that whatever happened on it has left nothing behind.
    pub async fn stop(&self) {
        within("stop", self.server.stop_within(Duration::ZERO))
            .await
            .unwrap();
        self.holds_nothing().await;
    }

    /// Waits until nothing is in queues and buffers of sessions.
    pub async fn holds_nothing(&self) {
        let held = || {
            let memory = self.monitor.memory();
            (memory.queued_bytes, memory.session_buffer_bytes)
        };
        eventually("all memory is given back", || held() == (0, 0)).await;
    }
}

/// Waits for `future`, but not for ever.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(patience(), future).await {
        Ok(value) => value,
        Err(_) => panic!("not in time: {what}"),
    }
}

fn patience() -> Duration {
    // A paused clock stands still between two looks at it.
    if is_clock_paused() {
        VIRTUAL_PATIENCE
    } else {
        PATIENCE
    }
}

/// Whether tokio's clock stands still.
pub fn is_clock_paused() -> bool {
    let before = tokio::time::Instant::now();
    let real = Instant::now();
    while real.elapsed() < Duration::from_micros(5) {
        std::hint::spin_loop();
    }
    before == tokio::time::Instant::now()
}

/// Looks again and again, and lets the runtime work in between, until `done`.
pub async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        tokio::task::yield_now().await;
    }
}

/// Gives everything that is ready a chance to run, many times over.
pub async fn settle() {
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
}

/// What a server's handlers were called for.
#[derive(Debug)]
pub enum Event {
    Connected(Session),
    Message(Message),
    Disconnected(Session, CloseReason),
    Error(ErrorCode),
}

/// Where handlers write down what they were called for.
pub type Log = mpsc::UnboundedSender<Event>;

pub struct Events(mpsc::UnboundedReceiver<Event>);

pub fn log() -> (Log, Events) {
    let (log, events) = mpsc::unbounded_channel();
    (log, Events(events))
}

impl Events {
    pub async fn next(&mut self) -> Event {
        within("an event", self.0.recv())
            .await
            .expect("the handlers are gone")
    }

    pub fn try_next(&mut self) -> Option<Event> {
        self.0.try_recv().ok()
    }

    /// The next event that is a disconnect.
    pub async fn disconnected(&mut self) -> CloseReason {
        loop {
            if let Event::Disconnected(_, reason) = self.next().await {
                return reason;
            }
        }
    }

    /// The next event that is a message.
    pub async fn message(&mut self) -> Message {
        loop {
            if let Event::Message(message) = self.next().await {
                return message;
            }
        }
    }
}

/// Writes connects, disconnects and errors down.
pub fn record(builder: ServerBuilder, log: &Log) -> ServerBuilder {
    let (connects, disconnects, errors) = (log.clone(), log.clone(), log.clone());
    builder
        .on_connect(move |session| {
            let _ = connects.send(Event::Connected(session));
            async {}
        })
        .on_disconnect(move |session, reason| {
            let _ = disconnects.send(Event::Disconnected(session, reason));
            async {}
        })
        .on_error(move |_, code, _| {
            let _ = errors.send(Event::Error(code));
        })
}

/// Writes messages down.
pub fn record_messages(builder: ServerBuilder, log: &Log) -> ServerBuilder {
    let log = log.clone();
    builder.on_message(move |_, message| {
        let _ = log.send(Event::Message(message));
        async {}
    })
}

/// Sends each message back.
pub fn echo(builder: ServerBuilder) -> ServerBuilder {
    builder.on_message(|session: Session, message: Message| async move {
        let _ = session.send(message).await;
    })
}

pub fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

pub fn timeouts(change: impl FnOnce(&mut Timeouts)) -> Timeouts {
    let mut timeouts = Timeouts::default();
    change(&mut timeouts);
    timeouts
}

/// A message that says which it is, of `len` bytes, 8 at least.
pub fn numbered(number: u64, len: usize) -> Vec<u8> {
    let mut payload = number.to_be_bytes().to_vec();
    payload.extend((8..len).map(|at| (number as usize + at) as u8));
    payload
}

/// The number of such a message, whose other bytes are checked.
pub fn number_of(payload: &[u8]) -> u64 {
    let number = u64::from_be_bytes(payload[..8].try_into().unwrap());
    assert!(
        payload == numbered(number, payload.len()),
        "message {number} was damaged"
    );
    number
}

/// A group's name.
pub fn group(name: &str) -> network_system::GroupName {
    network_system::GroupName::new(name).unwrap()
}
