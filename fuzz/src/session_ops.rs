//! Sequences of operations on sessions: what peers send in which pieces, what handlers and applications do
//! meanwhile, and time that passes.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use network_system::internal::{Core, Ending, receive};
use network_system::{
    CloseReason, CodecKind, Handler, Limits, Message, QueuePolicy, RequestError, Session, Timeouts,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::input::{FRAME_TYPES, Input, cut, push_frame};

const MOST_PEERS: usize = 3;
const MOST_OPERATIONS: usize = 64;
const DRAIN: Duration = Duration::from_secs(2);

/// The input is a configuration and operations. Promises, whatever happens:
///
/// - nothing panics, and every session ends within the deadline of the stop;
/// - what a peer receives are whole frames, up to where it was cut off;
/// - messages that the application sends one after the other arrive in that order;
/// - nothing follows ERROR or DISCONNECT.
pub fn run(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O can be made");
    runtime.block_on(scenario(Input::new(data)));
}

async fn scenario(mut input: Input<'_>) {
    let mode = Arc::new(AtomicU8::new(input.byte()));
    let mut limits = Limits::default();
    limits.outbox_bytes = [1_000, 20, 1024 * 1024][usize::from(input.byte()) % 3];
    limits.outbox_messages = [1_024, 1, 4][usize::from(input.byte()) % 3];
    limits.message_size = [1024 * 1024, 100, 5_000][usize::from(input.byte()) % 3];
    limits.when_full = [
        QueuePolicy::Wait,
        QueuePolicy::DropNewest,
        QueuePolicy::DropOldest,
        QueuePolicy::Disconnect,
    ][usize::from(input.byte()) % 4];
    let room = [4_096, 1, 100, 300_000][usize::from(input.byte()) % 4];
    let core = Core::start(limits, Timeouts::default(), Modal(Arc::clone(&mode)));
    let mut peers = vec![Peer::connect(&core, room)];
    let mut number = 0;
    for _ in 0..MOST_OPERATIONS {
        if input.is_empty() {
            break;
        }
        let operation = input.byte();
        let which = usize::from(input.byte());
        let sessions = core.sessions();
        let session = sessions.get(which % sessions.len().max(1));
        let count = peers.len();
        let peer = &mut peers[which % count];
        match operation % 20 {
            0..=2 => {
                let frame_type = FRAME_TYPES[usize::from(input.byte()) % FRAME_TYPES.len()];
                let len = input.byte().into();
                peer.write_frame(frame_type, input.bytes(len), 0).await;
            }
            3 | 4 => {
                let frame_type = FRAME_TYPES[usize::from(input.byte()) % FRAME_TYPES.len()];
                let payload = vec![input.byte(); usize::from(input.pair())];
                let seed = input.byte().into();
                peer.write_frame(frame_type, &payload, seed).await;
            }
            5 => {
                let hello = [
                    r#"{"op":"hello"}"#,
                    r#"{"op":"hello","version":0}"#,
                    r#"{"op":"hello","client_id":"fuzz","token":"t"}"#,
                    r#"{"op":"hello","resume":{"session_id":"1"}}"#,
                    r#"{"op":"join","group":"room"}"#,
                ][usize::from(input.byte()) % 5];
                peer.write_frame(0x20, hello.as_bytes(), 7).await;
            }
            6 => {
                let len = input.byte().into();
                peer.write(input.bytes(len)).await;
            }
            7 => peer.set_reading(input.byte().is_multiple_of(2)),
            8 => peer.shutdown().await,
            9 => {
                peer.leave();
                if count < MOST_PEERS {
                    peers.push(Peer::connect(&core, room));
                }
            }
            10 if count < MOST_PEERS => peers.push(Peer::connect(&core, room)),
            11 => mode.store(input.byte(), Ordering::Relaxed),
            12 => pass(Duration::from_millis(input.pair().into())).await,
            13 => pass(Duration::from_secs(u64::from(input.byte()) % 40)).await,
            14 | 15 => {
                let repeats = input.byte();
                let padding = usize::from(input.pair()) % 6_000;
                for _ in 0..=repeats % 8 {
                    if let Some(session) = session {
                        number += 1;
                        let _ = session.try_send(numbered(number, padding));
                    }
                }
            }
            16 => {
                if let Some(session) = session.cloned() {
                    let timeout = Duration::from_millis(input.pair().into());
                    tokio::spawn(async move {
                        let _ = session.request("question", timeout).await;
                        let _ = session.send_timeout("after it", timeout).await;
                    });
                }
            }
            17 => {
                if let Some(session) = session {
                    match input.byte() % 4 {
                        0 => session.disconnect(CloseReason::new("enough")),
                        1 => session.abort(),
                        2 => session.pause_reading(),
                        _ => session.resume_reading(),
                    }
                }
            }
            18 => {
                let stats = session.map(Session::stats).unwrap_or_default();
                assert!(stats.queued_bytes == 0 || stats.queued_messages > 0);
            }
            _ => tokio::task::yield_now().await,
        }
    }
    core.stop(DRAIN).await;
    for peer in peers {
        peer.check().await;
    }
}

/// Lets time pass. Everything that can happen in it does.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

fn numbered(number: u64, padding: usize) -> Message {
    let mut payload = format!("number {number:020}").into_bytes();
    payload.resize(payload.len() + padding, b'.');
    Message::binary(payload)
}

/// A handler that does one of several things, which one can be changed at any time.
struct Modal(Arc<AtomicU8>);

impl Modal {
    fn mode(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Handler for Modal {
    async fn on_connect(&self, session: &Session) {
        if self.mode() % 16 == 15 {
            let _ = session
                .request("who is there?", Duration::from_secs(3))
                .await;
        }
    }

    async fn on_message(&self, session: &Session, message: &Message) {
        match self.mode() % 9 {
            0 => drop(session.send(message).await),
            1 => {}
            2 => {
                pass(Duration::from_millis(100)).await;
                let _ = session.send(message).await;
            }
            3 => {
                let _ = session.send("before").await;
                let _ = session.request(message, Duration::from_secs(1)).await;
                let _ = session.send("after").await;
            }
            4 => session.disconnect(CloseReason::new("a message came")),
            5 => {
                for _ in 0..50 {
                    let _ = session.try_send(message);
                }
            }
            6 => session.abort(),
            7 => {
                tokio::task::yield_now().await;
                let _ = session.send_timeout(message, Duration::from_secs(1)).await;
            }
            // Longer than any deadline.
            _ => pass(Duration::from_secs(3_600)).await,
        }
    }

    async fn on_request(
        &self,
        session: &Session,
        request: &Message,
    ) -> Result<Message, RequestError> {
        match self.mode() % 4 {
            0 => Ok(request.clone()),
            1 => Err(RequestError::failed("no")),
            2 => {
                pass(Duration::from_secs(5)).await;
                Ok(Message::default())
            }
            _ => session.request(request, Duration::from_secs(1)).await,
        }
    }

    async fn on_disconnect(&self, session: &Session, reason: &CloseReason) {
        assert!(session.state().is_final());
        assert_eq!(session.close_reason().as_ref(), Some(reason));
        assert!(session.try_send("too late").is_err());
    }
}

/// The other end of a connection.
struct Peer {
    writer: Option<WriteHalf<DuplexStream>>,
    reading: watch::Sender<bool>,
    received: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Peer {
    fn connect(core: &Core, room: usize) -> Self {
        let (near, far) = tokio::io::duplex(room);
        core.accept(near, CodecKind::Msgi);
        let (reader, writer) = tokio::io::split(far);
        let (reading, may_read) = watch::channel(true);
        let received = Arc::<Mutex<Vec<u8>>>::default();
        let reader = tokio::spawn(read(reader, may_read, Arc::clone(&received)));
        Peer {
            writer: Some(writer),
            reading,
            received,
            reader,
        }
    }

    /// Writes as much as is taken soon; what is not taken cuts a frame short.
    async fn write(&mut self, bytes: &[u8]) {
        if let Some(writer) = &mut self.writer {
            let _ = tokio::time::timeout(Duration::from_millis(20), writer.write_all(bytes)).await;
        }
    }

    async fn write_frame(&mut self, frame_type: u16, payload: &[u8], seed: u32) {
        let mut frame = Vec::new();
        push_frame(&mut frame, frame_type, payload);
        if seed == 0 {
            return self.write(&frame).await;
        }
        for piece in cut(&frame, seed) {
            self.write(piece).await;
            tokio::task::yield_now().await;
        }
    }

    fn set_reading(&self, reading: bool) {
        self.reading.send_replace(reading);
    }

    async fn shutdown(&mut self) {
        if let Some(writer) = &mut self.writer {
            let _ = writer.shutdown().await;
        }
    }

    /// Goes without a word.
    fn leave(&mut self) {
        self.writer = None;
        self.reader.abort();
    }

    /// Reads what is left, then judges everything that was received.
    async fn check(self) {
        self.set_reading(true);
        // Dropping the writer lets the reader come to its end.
        drop(self.writer);
        let _ = self.reader.await;
        let received = self
            .received
            .lock()
            .expect("the reader does not panic")
            .split_off(0);
        let received = receive(CodecKind::Msgi, 2 * 1024 * 1024, [&received[..]]);
        if let Ending::Invalid(code, text) = received.ending {
            panic!("the peer received what is no frame: {code} {text}");
        }
        let (mut over, mut last) = (false, 0);
        for frame in received.frames {
            assert!(!over, "a frame {:#06x} after the last", frame.frame_type);
            over = matches!(frame.frame_type, 0x30 | 0x50);
            if frame.frame_type == 0x10
                && let Some(number) = number_of(&frame.payload)
            {
                assert!(number > last, "message {number} came after {last}");
                last = number;
            }
        }
    }
}

async fn read(
    mut reader: ReadHalf<DuplexStream>,
    mut may_read: watch::Receiver<bool>,
    received: Arc<Mutex<Vec<u8>>>,
) {
    let mut buffer = [0; 4_096];
    loop {
        if may_read.wait_for(|reading| *reading).await.is_err() {
            return;
        }
        match reader.read(&mut buffer).await {
            Ok(count @ 1..) => {
                received
                    .lock()
                    .expect("nobody panics")
                    .extend_from_slice(&buffer[..count]);
            }
            _ => return,
        }
    }
}

/// The number of a message that the application has sent; echoes of such messages cannot be told apart, but
/// peers do not know them.
fn number_of(payload: &[u8]) -> Option<u64> {
    let digits = payload.strip_prefix(b"number ")?.get(..20)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
