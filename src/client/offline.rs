//! The way of a message to the session, and the queue while there is none.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::sync::Notify;

use crate::config::QueuePolicy;
use crate::error::{ErrorCode, SendError};
use crate::limits::MemoryBudget;
use crate::message::Message;
use crate::metrics::{MemberMemory, QueueAccount};
use crate::session::Session;
use crate::session::shared::lock;

/// Messages that the queue holds at most, whatever their size: empty ones cost memory too.
pub(super) const MESSAGES_MAX: usize = 65_536;

/// Why nothing is queued: the code and a sentence.
pub(super) type Closed = (ErrorCode, &'static str);

/// Before the first connection, and after the last.
pub(super) const NOT_CONNECTED: Closed =
    (ErrorCode::ConnectionClosed, "the client is not connected");

/// What the senders of a client share.
pub(super) struct Offline {
    state: Mutex<Waiting>,
    /// Notified when there is room, a connection, or no more hope of one.
    changed: Notify,
    most_bytes: usize,
    policy: QueuePolicy,
}

struct Waiting {
    /// The session that is open, or that was until a moment ago.
    session: Option<Session>,
    /// Whether messages go straight to it; otherwise they queue behind what waits.
    direct: bool,
    queue: VecDeque<Message>,
    bytes: usize,
    account: QueueAccount,
    /// Set while nothing may be queued.
    closed: Option<Closed>,
}

/// What became of a message that was offered.
pub(super) enum Offer {
    /// It is queued, or dropped as the policy says; `dropped` messages had to go.
    Taken {
        dropped: u64,
    },
    /// It goes to this session.
    Direct(Session),
    /// There is no room, and the policy is to wait.
    Full,
    Closed(Closed),
}

impl Offline {
    pub(super) fn new(
        most_bytes: usize,
        policy: QueuePolicy,
        memory: Option<Arc<MemberMemory>>,
        budget: &MemoryBudget,
    ) -> Self {
        Offline {
            state: Mutex::new(Waiting {
                session: None,
                direct: false,
                queue: VecDeque::new(),
                bytes: 0,
                account: QueueAccount::new(memory, budget),
                closed: Some(NOT_CONNECTED),
            }),
            changed: Notify::new(),
            most_bytes,
            policy,
        }
    }

    /// Where messages go without queueing.
    #[inline]
    pub(super) fn direct(&self) -> Option<Session> {
        let state = lock(&self.state);
        if state.direct {
            state.session.clone()
        } else {
            None
        }
    }

    /// The session that is open, or that was until a moment ago.
    pub(super) fn session(&self) -> Option<Session> {
        lock(&self.state).session.clone()
    }

    /// Messages that wait, and their bytes.
    pub(super) fn queued(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.queue.len(), state.bytes)
    }

    /// Offers a message; takes it unless it is full, closed, or goes to a session.
    pub(super) fn offer(&self, message: &mut Option<Message>) -> Offer {
        let mut state = lock(&self.state);
        if state.direct
            && let Some(session) = &state.session
        {
            return Offer::Direct(session.clone());
        }
        if let Some(closed) = state.closed {
            return Offer::Closed(closed);
        }
        if self.most_bytes == 0 {
            return Offer::Closed(NOT_CONNECTED);
        }
        let len = message.as_ref().map_or(0, Message::len);
        let mut dropped = 0;
        while !state.has_room(len, self.most_bytes) {
            match self.policy {
                QueuePolicy::DropNewest => {
                    *message = None;
                    return Offer::Taken { dropped: 1 };
                }
                QueuePolicy::DropOldest => {
                    state.pop();
                    dropped += 1;
                }
                QueuePolicy::Wait | QueuePolicy::Disconnect => return Offer::Full,
            }
        }
        state.bytes += len;
        state.queue.extend(message.take());
        state.note();
        Offer::Taken { dropped }
    }

    /// Waits until something has changed since `look` returned `None`.
    pub(super) async fn wait_for<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(found) = look() {
                return found;
            }
            changed.await;
        }
    }

    /// The session, once messages go straight to it.
    pub(super) async fn connected(&self) -> Result<Session, Closed> {
        self.wait_for(|| {
            let state = lock(&self.state);
            match &state.session {
                Some(session) if state.direct && session.is_connected() => {
                    Some(Ok(session.clone()))
                }
                _ => state.closed.map(Err),
            }
        })
        .await
    }

    /// A session is open. Messages queue behind what waits until that has been handed over.
    pub(super) fn attach(&self, session: &Session) {
        let mut state = lock(&self.state);
        state.session = Some(session.clone());
        state.direct = state.queue.is_empty();
        state.closed = None;
        drop(state);
        self.changed.notify_waiters();
    }

    /// The session is over: messages queue.
    pub(super) fn detach(&self, session: &Session) {
        let mut state = lock(&self.state);
        if state.session.as_ref() == Some(session) {
            state.session = None;
            state.direct = false;
        }
    }

    /// The session is about to end: messages queue for the next one.
    pub(super) fn pause(&self, session: &Session) {
        let mut state = lock(&self.state);
        if state.session.as_ref() == Some(session) {
            state.direct = false;
        }
    }

    /// Messages that a session has not sent wait before all others. They were accepted, so that no limit and no
    /// policy holds them back.
    pub(super) fn put_back(&self, messages: Vec<Message>) {
        let mut state = lock(&self.state);
        for message in messages.into_iter().rev() {
            state.bytes += message.len();
            state.queue.push_front(message);
        }
        state.note();
    }

    /// Nothing is queued any more; what is queued stays, and a session goes on taking messages.
    pub(super) fn close(&self, closed: Closed) {
        lock(&self.state).closed = Some(closed);
        self.changed.notify_waiters();
    }

    /// Takes out what is queued.
    pub(super) fn take_queue(&self) -> Vec<Message> {
        let mut state = lock(&self.state);
        state.bytes = 0;
        let queue = std::mem::take(&mut state.queue);
        state.note();
        queue.into()
    }

    /// Hands over what is queued, then lets messages go straight to the session. Pending for ever when
    /// the session ends before that.
    ///
    /// Dropping the future keeps what has not been handed over. Messages that the session refuses, as
    /// its server takes shorter ones only, are given to `refused`.
    pub(super) async fn flush(&self, session: &Session, mut refused: impl FnMut(SendError)) {
        poll_fn(|context| {
            let mut errors = Vec::new();
            let flushed = self.poll_flush(session, context, &mut errors);
            // The lock is free again: the application may hear of it.
            errors.drain(..).for_each(&mut refused);
            flushed
        })
        .await;
    }

    fn poll_flush(
        &self,
        session: &Session,
        context: &mut Context<'_>,
        errors: &mut Vec<SendError>,
    ) -> Poll<()> {
        let mut state = lock(&self.state);
        let before = state.queue.len();
        let result = state.hand_over(session, context, errors);
        state.note();
        let changed = result.is_ready() || state.queue.len() < before;
        drop(state);
        if changed {
            self.changed.notify_waiters();
        }
        result
    }
}

impl Waiting {
    /// Whether a message of `len` bytes has room. One message always has.
    fn has_room(&self, len: usize, most_bytes: usize) -> bool {
        self.queue.is_empty() || (self.bytes + len <= most_bytes && self.queue.len() < MESSAGES_MAX)
    }

    /// Notes what waits by now.
    fn note(&mut self) {
        self.account.note(self.queue.len(), self.bytes);
    }

    fn pop(&mut self) -> Option<Message> {
        let message = self.queue.pop_front()?;
        self.bytes -= message.len();
        Some(message)
    }

    fn hand_over(
        &mut self,
        session: &Session,
        context: &mut Context<'_>,
        errors: &mut Vec<SendError>,
    ) -> Poll<()> {
        loop {
            let Some(message) = self.queue.front() else {
                self.queue = VecDeque::new();
                self.direct = self.session.as_ref() == Some(session);
                return Poll::Ready(());
            };
            // With room, the policy of the session's own queue has nothing to drop.
            if session.shared.wait_for_room(message.len(), context.waker()) {
                return Poll::Pending;
            }
            match session.try_send(message.clone()) {
                Ok(()) => {
                    self.pop();
                }
                Err(error) if error.is_full() => {}
                // The session has ended; the next one gets what is left.
                Err(error) if error.is_closed() => return Poll::Pending,
                Err(error) => {
                    self.pop();
                    errors.push(error);
                }
            }
        }
    }
}
