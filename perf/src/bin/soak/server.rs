//! The process that is watched. It prints where it listens, then once a second what it holds, and on the word `stop`,
//! or when nobody is there any more, stops in order and says how.

use std::io::{self, BufRead, Write};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use network_system::metrics::PerformanceMonitor;
use network_system::pipeline::{Compression, Pipeline};
use network_system::tls::TlsServer;
use network_system::{
    ErrorCode, GroupName, Handler, Limits, Message, QueuePolicy, Reliability, RequestError, Server,
    Session, SocketOptions, Timeouts,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::sample::{Process, Sample};

/// What the first byte of a message asks for. Everything else is sent back.
pub(crate) mod ask {
    /// Sends the message to the group whose number is the second byte.
    pub(crate) const BROADCAST: u8 = b'b';
    /// A request that takes a while.
    pub(crate) const SLOW: u8 = b's';
    /// A request that fails.
    pub(crate) const FAIL: u8 = b'f';
    /// A request for which the server asks the client.
    pub(crate) const BACK: u8 = b'q';
    /// Ends the session, with the server as the one who says so.
    pub(crate) const END: u8 = b'x';
}

/// How long the answer to a slow request takes.
pub(crate) const SLOW_ANSWER: Duration = Duration::from_millis(50);

/// The group with this number.
pub(crate) fn group(number: u8) -> GroupName {
    GroupName::new(format!("feed-{number}")).expect("a short name is valid")
}

/// Runs until it is told to stop.
pub(crate) fn run() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(serve()).map_err(io::Error::other)
}

async fn serve() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let monitor = PerformanceMonitor::new();
    let server = build(&monitor)?;
    server.start().await?;
    say(&json!({ "listening": server.urls() }))?;
    let mut words = words();
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = seconds.tick() => say(&json!({ "sample": sample(&server, &monitor).to_json() }))?,
            _ = words.recv() => break,
        }
    }
    let report = server.stop().await?;
    // A task that has said its last word may not be gone yet.
    let mut process = Process::own(monitor.memory().allocated_bytes);
    for _ in 0..100 {
        if process.tasks == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        process = Process::own(monitor.memory().allocated_bytes);
    }
    say(&json!({ "stopped": {
        "drained": report.drained, "aborted": report.aborted, "process": process.to_json(),
        "errors": monitor.metrics().errors.by_code,
    } }))?;
    Ok(())
}

/// Lines of standard input; they end when nobody is there any more.
fn words() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    // It is not joined: it waits for the end of the input.
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn say(value: &Value) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{value}")?;
    output.flush()
}

fn sample(server: &Server, monitor: &PerformanceMonitor) -> Sample {
    let memory = monitor.memory();
    let stats = server.stats();
    Sample {
        process: Process::own(memory.allocated_bytes),
        sessions: server.session_count() as u64,
        suspended: stats.suspended as u64,
        resumed: stats.resumed,
        expired: stats.expired,
        groups: server.groups().len() as u64,
        queued_bytes: memory.queued_bytes,
        session_buffer_bytes: memory.session_buffer_bytes,
        buffer_pool_bytes: memory.buffer_pool_bytes,
        connections: stats.total_connections,
        messages: stats.messages_received,
        errors: stats.errors,
    }
}

/// Every limit is small and every deadline short, so that each is met many times in a minute.
fn build(monitor: &PerformanceMonitor) -> Result<Server, Box<dyn std::error::Error + Send + Sync>> {
    let mut limits = Limits::default();
    limits.max_connections = 2_000;
    limits.message_size = 256 * 1024;
    limits.outbox_bytes = 256 * 1024;
    limits.when_full = QueuePolicy::Disconnect;
    limits.groups_per_session = 8;
    let mut timeouts = Timeouts::default();
    timeouts.idle = Duration::from_secs(8);
    timeouts.first_byte = Duration::from_secs(2);
    timeouts.mid_frame = Duration::from_secs(2);
    timeouts.heartbeat = Duration::from_secs(2);
    timeouts.drain = Duration::from_secs(5);
    let mut reliability = Reliability::default();
    reliability.window = 256 * 1024;
    reliability.resume = Duration::from_secs(3);
    reliability.suspended_sessions = 200;
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = certified.signing_key.serialize_pem();
    let stages = Pipeline::builder()
        .offer(Compression::lz4())
        .offer(Compression::zstd());
    // What a slow reader does not take shall soon wait in its outbox.
    let mut socket = SocketOptions::default();
    socket.send_buffer_size = 64 * 1024;
    let own = Arc::new(OnceLock::new());
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .listen("ws://127.0.0.1:0/")
        .listen("tls://127.0.0.1:0")
        .listen("udp://127.0.0.1:0?codec=msgi")
        .tls(TlsServer::from_pem(certified.cert.pem(), key)?)
        .limits(limits)
        .socket(socket)
        .timeouts(timeouts)
        .reliable(reliability)
        .pipeline(stages.build()?)
        .group_guard(|_: &Session, group: &GroupName| group.as_str().starts_with("feed-"))
        .monitor(monitor)
        .handler(Mixed(Arc::clone(&own)))
        .build()?;
    let _ = own.set(server.clone());
    Ok(server)
}

/// Does what messages ask for. The server is known once it is built.
struct Mixed(Arc<OnceLock<Server>>);

impl Handler for Mixed {
    async fn on_message(&self, session: &Session, message: &Message) {
        match (message.payload(), self.0.get()) {
            ([ask::BROADCAST, number, ..], Some(server)) => {
                let _ = server.broadcast_to(&group(*number), message, &[]).await;
            }
            ([ask::END, ..], _) => {
                session.disconnect(network_system::CloseReason::new("as you asked"));
            }
            _ => drop(session.send(message).await),
        }
    }

    async fn on_request(
        &self,
        session: &Session,
        request: &Message,
    ) -> Result<Message, RequestError> {
        match request.payload().first() {
            Some(&ask::SLOW) => tokio::time::sleep(SLOW_ANSWER).await,
            Some(&ask::FAIL) => {
                return Err(RequestError::with_code(
                    ErrorCode::AccessDenied,
                    "as you asked",
                ));
            }
            Some(&ask::BACK) => {
                let question = request.clone();
                return session.request(question, Duration::from_secs(2)).await;
            }
            _ => {}
        }
        Ok(request.clone())
    }
}
