//! Messages as a stream: the alternative to a message handler.

use std::collections::VecDeque;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::Client;
use crate::error::{CloseReason, ErrorCode, RequestError};
use crate::handler::{BoxFuture, Closures, Service, Wants};
use crate::limits::MemoryBudget;
use crate::message::Message;
use crate::metrics::{MemberMemory, QueueAccount};
use crate::session::inbound::Inbound;
use crate::session::shared::lock;
use crate::session::{Session, SessionId, State};

/// Bytes of messages that wait for the stream's reader before reading from the server stops: as much
/// as a session holds for a handler that is busy.
const INBOX_BYTES: usize = 64 * 1024;

/// Messages that wait at most; empty ones cost memory too.
const INBOX_MESSAGES: usize = 1_024;

/// The messages that a client receives, in order, over all its connections.
///
/// Made by [`Client::messages`]. A reader that is slow slows the server down: at most 64 KiB or 1,024
/// messages wait, beside what the connection itself holds. The stream keeps the client running, as a
/// handle of it does.
///
/// Dropping the stream lets another one be taken; what it has not read waits for that.
pub struct MessageStream {
    client: Client,
    inbox: Arc<Inbox>,
}

impl MessageStream {
    /// Takes the stream, unless another one is in use.
    pub(super) fn take(client: Client, inbox: Arc<Inbox>) -> Option<Self> {
        let mut state = lock(&inbox.state);
        if state.has_reader {
            return None;
        }
        state.has_reader = true;
        drop(state);
        Some(MessageStream { client, inbox })
    }

    /// The next message; `None` when the client has stopped or given up and all messages were read.
    ///
    /// Losing a connection does not end the stream while the client reconnects, and a client that is
    /// connected again after a stop goes on with it. Dropping the future loses no message.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            let mut arrived = pin!(self.inbox.arrived.notified());
            arrived.as_mut().enable();
            // Asked before the queue is looked at: the last message comes before the end.
            let ended = self.client.has_ended();
            if let Some(message) = self.inbox.pop() {
                return Some(message);
            }
            if ended {
                return None;
            }
            arrived.await;
        }
    }

    /// The next message, if one is there.
    pub fn try_next(&mut self) -> Option<Message> {
        self.inbox.pop()
    }
}

impl fmt::Debug for MessageStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageStream")
            .field("waiting", &lock(&self.inbox.state).queue.len())
            .finish()
    }
}

impl Drop for MessageStream {
    fn drop(&mut self) {
        lock(&self.inbox.state).has_reader = false;
        // Nobody makes room any more: whoever waits for it goes on.
        self.inbox.room.notify_waiters();
    }
}

/// Where messages wait for the reader.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<InboxState>,
    arrived: Notify,
    room: Notify,
}

#[derive(Default)]
struct InboxState {
    queue: VecDeque<Message>,
    bytes: usize,
    account: QueueAccount,
    has_reader: bool,
    /// Sessions with a message that waits for room, in the order in which they began.
    pushing: Vec<SessionId>,
}

impl InboxState {
    /// Notes what waits by now.
    fn note(&mut self) {
        self.account.note(self.queue.len(), self.bytes);
    }
}

impl Inbox {
    /// From now on what waits is noted. Nothing does yet.
    pub(super) fn account(&self, memory: Option<Arc<MemberMemory>>, budget: &MemoryBudget) {
        lock(&self.state).account = QueueAccount::new(memory, budget);
    }

    /// The client's state has changed: the stream may have ended.
    pub(super) fn wake(&self) {
        self.arrived.notify_waiters();
    }

    fn pop(&self) -> Option<Message> {
        let mut state = lock(&self.state);
        let message = state.queue.pop_front()?;
        state.bytes -= message.len();
        state.note();
        drop(state);
        self.room.notify_waiters();
        Some(message)
    }

    /// Adds a message, waiting for room while there is a reader. Returns false when there is neither:
    /// the message is dropped then, because a client that only sends must not stop reading answers.
    ///
    /// A reliable session drops nothing: it waits for a reader. When it closes, what it has received by then goes in
    /// whatever the room, for a reader to come.
    async fn push(&self, session: &Session, message: Message) -> bool {
        let (id, is_reliable) = (session.id(), session.is_reliable());
        let mut message = Some(message);
        let mut turn = None;
        loop {
            let mut room = pin!(self.room.notified());
            room.as_mut().enable();
            let session_state = session.state();
            let is_closing =
                is_reliable && !matches!(session_state, State::Connected | State::Suspended);
            {
                let mut state = lock(&self.state);
                // What an earlier session received comes first.
                let is_next = state.pushing.iter().all(|&other| other >= id);
                let len = message.as_ref().map_or(0, Message::len);
                let has_room = state.queue.is_empty()
                    || is_closing
                    || (state.bytes + len <= INBOX_BYTES && state.queue.len() < INBOX_MESSAGES);
                if is_next && has_room {
                    state.bytes += len;
                    state.queue.extend(message.take());
                    state.note();
                    drop(state);
                    self.arrived.notify_waiters();
                    return true;
                }
                if !state.has_reader && !is_reliable {
                    return false;
                }
                if turn.is_none() {
                    state.pushing.push(id);
                    turn = Some(Pushing { inbox: self, id });
                }
            }
            match is_reliable {
                false => room.await,
                true => tokio::select! {
                    () = room => {}
                    _ = session.state_changed(session_state) => {}
                },
            }
        }
    }
}

/// A session that waits for room, until it has it or its handler is dropped.
struct Pushing<'a> {
    inbox: &'a Inbox,
    id: SessionId,
}

impl Drop for Pushing<'_> {
    fn drop(&mut self) {
        lock(&self.inbox.state)
            .pushing
            .retain(|&other| other != self.id);
        self.inbox.room.notify_waiters();
    }
}

/// Closures for everything but messages, which go to the inbox.
pub(super) struct StreamService {
    pub(super) closures: Arc<Closures>,
    pub(super) inbox: Arc<Inbox>,
}

impl Service for StreamService {
    fn wants(&self) -> Wants {
        Wants {
            message: true,
            ..self.closures.wants()
        }
    }

    fn connect(self: Arc<Self>, session: Session) -> BoxFuture<'static, ()> {
        Arc::clone(&self.closures).connect(session)
    }

    fn messages(
        self: Arc<Self>,
        session: Session,
        mut inbound: Inbound,
    ) -> BoxFuture<'static, Inbound> {
        Box::pin(async move {
            while let Some(message) = inbound.next_message() {
                let message = message.clone();
                if !self.inbox.push(&session, message).await {
                    session
                        .shared
                        .hub()
                        .recorder
                        .totals
                        .dropped
                        .fetch_add(1, Ordering::Relaxed);
                }
            }
            inbound
        })
    }

    fn request(
        self: Arc<Self>,
        session: Session,
        request: Message,
    ) -> BoxFuture<'static, Result<Message, RequestError>> {
        Arc::clone(&self.closures).request(session, request)
    }

    fn disconnect(
        self: Arc<Self>,
        session: Session,
        reason: CloseReason,
    ) -> BoxFuture<'static, ()> {
        Arc::clone(&self.closures).disconnect(session, reason)
    }

    fn error(&self, session: &Session, code: ErrorCode, text: &str) {
        self.closures.error(session, code, text);
    }
}
