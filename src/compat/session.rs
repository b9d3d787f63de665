//! The classic session.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::bridge::Member;
use super::callback::{Inside, Lane, PendingGuard, Slot};
use super::result::{VoidResult, error};
use super::runtime;
use crate::error::{CloseReason, ErrorCode, SendError};
use crate::events::{self, shown};
use crate::group::GroupName;
use crate::message::{Message, Outgoing};
use crate::session::shared::lock;
use crate::session::{Session, SessionId, State};

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum session_state {
    /// The connection is there, the opening is not complete.
    connecting,
    /// Messages flow.
    connected,
    /// The connection is gone and the session waits for its peer to come back.
    suspended,
    /// The session is closing in order.
    disconnecting,
    /// The session ended in order.
    disconnected,
    /// The session ended with an error.
    error,
}

impl From<State> for session_state {
    fn from(state: State) -> Self {
        match state {
            State::Connecting => session_state::connecting,
            State::Connected => session_state::connected,
            State::Suspended => session_state::suspended,
            State::Disconnecting => session_state::disconnecting,
            State::Disconnected => session_state::disconnected,
            State::Error => session_state::error,
        }
    }
}

/// Counters of a session at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct session_statistics {
    /// Messages sent.
    pub messages_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Bytes of the messages sent, without framing.
    pub bytes_sent: u64,
    /// Bytes of the messages received, without framing.
    pub bytes_received: u64,
    /// Errors.
    pub errors_count: u64,
    /// When a message was last sent or received; `None` before the first.
    pub last_message_time: Option<Instant>,
}

type OnMessage = dyn Fn(&[u8]) + Send + Sync;
type OnStateChange = dyn Fn(session_state, session_state) + Send + Sync;
type OnError = dyn Fn(&str, i32) + Send + Sync;

/// A session of a server, as callbacks get it, in an `Arc`.
///
/// It can be kept and used on any thread. After the session has ended it still answers questions;
/// sending then fails with `connection_closed`.
///
/// Text that identifies something, such as ids and groups, is `str`; everything else that was a string
/// is bytes.
pub struct messaging_session {
    session: Session,
    data: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
    on_message: Slot<OnMessage>,
    on_error: Slot<OnError>,
    on_state_change: Arc<Slot<OnStateChange>>,
    watched: AtomicBool,
    lane: Arc<Lane>,
    /// Set when a bridge has made the server.
    member: Option<Arc<Member>>,
}

impl messaging_session {
    pub(super) fn new(session: Session, lane: Arc<Lane>, member: Option<Arc<Member>>) -> Arc<Self> {
        Arc::new(messaging_session {
            session,
            data: Mutex::default(),
            on_message: Slot::default(),
            on_error: Slot::default(),
            on_state_change: Arc::default(),
            watched: AtomicBool::new(false),
            lane,
            member,
        })
    }

    pub(super) fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    pub(super) fn message_handler(&self) -> Option<Arc<OnMessage>> {
        self.on_message.get()
    }

    pub(super) fn error_handler(&self) -> Option<Arc<OnError>> {
        self.on_error.get()
    }

    // Sending

    /// Sends a message. Blocks while the session's outbox is full.
    ///
    /// # Errors
    /// `connection_closed` when the session is closing or has ended, `message_too_large`,
    /// `not_supported` when the codec cannot carry the message.
    pub fn send_message(&self, message: impl AsRef<[u8]>) -> VoidResult {
        self.deliver(message.as_ref())
    }

    /// The same as [`send_message`](Self::send_message). Raw data are a message too: the codec of the
    /// connection frames them.
    ///
    /// # Errors
    /// As [`send_message`](Self::send_message).
    pub fn send_raw_data(&self, data: impl AsRef<[u8]>) -> VoidResult {
        self.send_message(data)
    }

    /// The same as [`send_message`](Self::send_message). A slice is the classic pointer and size.
    ///
    /// # Errors
    /// As [`send_message`](Self::send_message).
    pub fn send_binary_message(&self, data: impl AsRef<[u8]>) -> VoidResult {
        self.send_message(data)
    }

    /// Sends a message that is given away, which spares a copy.
    ///
    /// # Errors
    /// As [`send_message`](Self::send_message).
    pub fn send_packet(&self, data: Vec<u8>) -> VoidResult {
        self.deliver(data)
    }

    /// The same as [`send_packet`](Self::send_packet). It returns when the message is queued, and like
    /// it blocks while there is no room.
    ///
    /// # Errors
    /// As [`send_message`](Self::send_message).
    pub fn async_send(&self, data: Vec<u8>) -> VoidResult {
        self.send_packet(data)
    }

    /// Sends, and blocks while there is no room, within the time of the bridge if there is one.
    pub(super) fn deliver(&self, message: impl Outgoing) -> VoidResult {
        let Some(member) = &self.member else {
            return send(&self.session, message);
        };
        match self.session.try_send(message) {
            Err(error) if error.is_full() => {
                let (session, message) = (self.session.clone(), error.into_message());
                let sending = async move { session.send(message).await };
                let sent = runtime::wait_for_room(Some(member.message_timeout()), sending);
                member.sent(sent, !Inside::is_inline())
            }
            result => member.sent(result.map_err(Into::into), false),
        }
    }

    /// Sends a message if that is possible without blocking; otherwise gives it back.
    pub(super) fn try_send(&self, message: Message) -> Result<(), SendError> {
        self.session.try_send(message)
    }

    // Identity

    /// The id of the session, unique while its server runs.
    pub fn session_id(&self) -> String {
        self.session.id().to_string()
    }

    /// The id of the session, as a value.
    pub fn get_id(&self) -> SessionId {
        self.session.id()
    }

    /// The id that the client gave itself when it connected; the session id when it gave none.
    pub fn client_id(&self) -> String {
        self.session.client_id()
    }

    /// The IP address of the peer.
    pub fn remote_address(&self) -> String {
        address(self.session.remote_addr())
    }

    /// The port of the peer.
    pub fn remote_port(&self) -> u16 {
        port(self.session.remote_addr())
    }

    /// The IP address of this side.
    pub fn local_address(&self) -> String {
        address(self.session.local_addr())
    }

    /// The port of this side.
    pub fn local_port(&self) -> u16 {
        port(self.session.local_addr())
    }

    // State

    /// Where the session stands.
    pub fn state(&self) -> session_state {
        self.session.state().into()
    }

    /// Whether messages flow.
    pub fn is_connected(&self) -> bool {
        self.session.is_connected()
    }

    /// When the session began.
    pub fn connect_time(&self) -> Instant {
        self.session.connected_at().into_std()
    }

    /// When something was last received.
    pub fn last_activity(&self) -> Instant {
        self.session.last_activity().into_std()
    }

    /// Ends the session in order: what was sent leaves first. Returns at once. The peer's disconnect
    /// handler gets the reason; `""` gives none.
    pub fn disconnect(&self, reason: impl Into<String>) {
        self.session.disconnect(CloseReason::new(reason.into()));
    }

    // Data

    /// Sets a value of the session's own.
    pub fn set_session_data(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        lock(&self.data).insert(key.as_ref().to_vec(), value.as_ref().to_vec());
    }

    /// A value of the session's own; empty when there is none.
    pub fn get_session_data(&self, key: impl AsRef<[u8]>) -> Vec<u8> {
        lock(&self.data)
            .get(key.as_ref())
            .cloned()
            .unwrap_or_default()
    }

    /// Whether there is a value with this key.
    pub fn has_session_data(&self, key: impl AsRef<[u8]>) -> bool {
        lock(&self.data).contains_key(key.as_ref())
    }

    /// Removes a value.
    pub fn remove_session_data(&self, key: impl AsRef<[u8]>) {
        lock(&self.data).remove(key.as_ref());
    }

    /// Removes all values.
    pub fn clear_session_data(&self) {
        lock(&self.data).clear();
    }

    // Groups

    /// Joins a group, which is made if nobody is in it. A session that ends leaves its groups.
    ///
    /// # Errors
    /// `request_failed` when the name is empty or longer than 128 bytes, `queue_full` at the limit of 64
    /// groups, `connection_closed` when the session has ended.
    pub fn join_group(&self, group_id: &str) -> VoidResult {
        Ok(self.session.join(&GroupName::new(group_id)?)?)
    }

    /// Leaves a group. Leaving a group that the session is not in does nothing.
    pub fn leave_group(&self, group_id: &str) {
        if let Ok(group) = GroupName::new(group_id) {
            self.session.leave(&group);
        }
    }

    /// The groups that the session is in, in order of their names.
    pub fn get_groups(&self) -> Vec<String> {
        self.session
            .groups()
            .iter()
            .map(GroupName::to_string)
            .collect()
    }

    /// Whether the session is in a group.
    pub fn is_in_group(&self, group_id: &str) -> bool {
        GroupName::new(group_id).is_ok_and(|group| self.session.is_in(&group))
    }

    // Statistics

    /// Counters at this moment.
    pub fn get_statistics(&self) -> session_statistics {
        let stats = self.session.stats();
        session_statistics {
            messages_sent: stats.messages_sent,
            messages_received: stats.messages_received,
            bytes_sent: stats.bytes_sent,
            bytes_received: stats.bytes_received,
            errors_count: stats.errors,
            last_message_time: stats.last_message.map(tokio::time::Instant::into_std),
        }
    }

    /// Sets the counters to zero. The server's own stay.
    pub fn reset_statistics(&self) {
        self.session.reset_stats();
    }

    // Handlers of this session alone

    /// Sets what happens to the messages of this session, in the place of the server's handler.
    ///
    /// Set in the connect handler, it gets every message.
    pub fn set_message_handler(&self, handler: impl Fn(&[u8]) + Send + Sync + 'static) {
        self.on_message.set(Arc::new(handler));
    }

    /// The same as [`set_message_handler`](Self::set_message_handler).
    pub fn set_on_message(&self, handler: impl Fn(&[u8]) + Send + Sync + 'static) {
        self.set_message_handler(handler);
    }

    /// Sets what is called with the old and the new state when the session's state changes from now on.
    ///
    /// Calls come in order, and one at a time together with those of the error handler, but beside those
    /// of the message handler.
    pub fn set_state_change_handler(
        &self,
        handler: impl Fn(session_state, session_state) + Send + Sync + 'static,
    ) {
        self.on_state_change.set(Arc::new(handler));
        if self.watched.swap(true, Ordering::AcqRel) {
            return;
        }
        let watch = Watch {
            session: self.session.clone(),
            handler: Arc::clone(&self.on_state_change),
            lane: Arc::clone(&self.lane),
            _pending: self.lane.pending().begin(),
        };
        let from = self.session.state();
        match runtime::runtime() {
            Ok(runtime) => drop(runtime.spawn(watch.run(from))),
            // There are sessions only because there is a runtime.
            Err(error) => events::states_unwatched {
                error: shown(&error.message),
            }
            .emit(),
        }
    }

    /// Sets what is called with a text and a code when something goes wrong on this session, in the
    /// place of the server's handler.
    pub fn set_error_handler(&self, handler: impl Fn(&str, i32) + Send + Sync + 'static) {
        self.on_error.set(Arc::new(handler));
    }

    /// The same as [`set_error_handler`](Self::set_error_handler), for a handler that takes the error
    /// as one value.
    pub fn set_on_error(&self, handler: impl Fn(&error) + Send + Sync + 'static) {
        self.set_error_handler(move |message, code| {
            handler(&error {
                code,
                message: message.to_owned(),
            });
        });
    }
}

impl fmt::Debug for messaging_session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("messaging_session")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// Follows the states of a session until the last.
struct Watch {
    session: Session,
    handler: Arc<Slot<OnStateChange>>,
    lane: Arc<Lane>,
    _pending: PendingGuard,
}

impl Watch {
    async fn run(self, mut from: State) {
        while !from.is_final() {
            let to = self.session.state_changed(from).await;
            if to.is_final() && from == State::Connected {
                // Every session that was connected passes this state, some in no time.
                self.push(from, State::Disconnecting);
                from = State::Disconnecting;
            }
            self.push(from, to);
            from = to;
        }
    }

    fn push(&self, from: State, to: State) {
        let handler = Arc::clone(&self.handler);
        let callback = move || {
            if let Some(handler) = handler.get() {
                handler(from.into(), to.into());
            }
        };
        self.lane.push(&self.session, Box::new(callback));
    }
}

/// Sends, and blocks while there is no room.
pub(super) fn send(session: &Session, message: impl Outgoing) -> VoidResult {
    match session.try_send(message) {
        Err(error) if error.is_full() => wait_to_send(session, error.into_message()),
        result => Ok(result?),
    }
}

/// Sends a message for which there is no room.
pub(super) fn wait_to_send(session: &Session, message: Message) -> VoidResult {
    let session = session.clone();
    runtime::wait_for_room(None, async move { session.send(message).await })
}

/// The classic refusal for an id that nobody has.
pub(super) fn not_found(session_id: &str) -> error {
    error::new(
        ErrorCode::SessionNotFound,
        format!("there is no session {session_id}"),
    )
}

fn address(addr: Option<SocketAddr>) -> String {
    addr.map(|addr| addr.ip().to_string()).unwrap_or_default()
}

fn port(addr: Option<SocketAddr>) -> u16 {
    addr.map_or(0, |addr| addr.port())
}

impl messaging_session {
    /// The native session below.
    pub fn native(&self) -> &Session {
        &self.session
    }
}
