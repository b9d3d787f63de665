//! The handle that applications hold.

use std::any::{Any, TypeId};
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::current::{self, Direct};
use super::outbox::Offered;
use super::output::Frame;
use super::shared::{Shared, lock, signal};
use super::{SessionId, State, Transport};
use crate::codec::FrameType;
use crate::codec::control::Control;
use crate::config::QueuePolicy;
use crate::error::{CloseReason, ErrorCode, RequestError, SendError};
use crate::group::{GroupError, GroupName};
use crate::handler::{Handler, HandlerService};
use crate::message::{Message, MessageKind, Outgoing};
use crate::metrics::Role;
use crate::tls::TlsInfo;
use crate::websocket::WebSocketInfo;

/// A handle to a session: cheap to clone, usable from any task or thread.
///
/// Dropping handles does not end the session. After it has ended, the handle still answers questions;
/// sending fails with `connection_closed`.
#[derive(Clone)]
pub struct Session {
    pub(crate) shared: Arc<Shared>,
}

/// Counters of a session at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionStats {
    /// Messages, requests and answers handed to the link.
    pub messages_sent: u64,
    /// Messages, requests and answers received.
    pub messages_received: u64,
    /// Bytes of those messages, without framing.
    pub bytes_sent: u64,
    /// Bytes of those messages, without framing.
    pub bytes_received: u64,
    /// Errors: refused frames, failed handlers, failed requests of the peer.
    pub errors: u64,
    /// Messages dropped by the queue policy.
    pub dropped: u64,
    /// Messages that were not let in because of a [`Rate`](crate::Rate).
    pub rate_limited: u64,
    /// Messages that wait in the outbox.
    pub queued_messages: usize,
    /// Bytes that wait in the outbox.
    pub queued_bytes: usize,
    /// Bytes of memory that the session held in buffers when it last had something to do: an unfinished frame,
    /// messages that wait for a handler or are being handled, encoded frames that the link has not taken, and what
    /// the link has taken and not passed on. 0 while it is idle. What each session has all the time (its
    /// structures, the state of TLS, windows of compressors that are carried over) does not count, nor do
    /// PINGs and PONGs.
    pub buffered_bytes: usize,
    /// Messages, requests and answers of a reliable session that were sent and are not acknowledged.
    pub unacknowledged_messages: u64,
    /// Their bytes, heads included. At most the window, or one message.
    pub unacknowledged_bytes: u64,
    /// How often a reliable session went on with another connection.
    pub resumes: u32,
    /// The round trip of the last PING; `None` before the first.
    pub round_trip: Option<Duration>,
    /// When the last message was sent or received.
    pub last_message: Option<Instant>,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Session { shared }
    }

    // Identity

    /// The id, unique on this server or client.
    pub fn id(&self) -> SessionId {
        self.shared.id()
    }

    /// The client id from the peer's hello, or the session id.
    pub fn client_id(&self) -> String {
        self.shared
            .extra_if_any()
            .and_then(|extra| extra.client_id.get().cloned())
            .unwrap_or_else(|| self.id().to_string())
    }

    /// Who the peer is: what the authentication hook has said, or what the opening of the link has shown (a
    /// client's certificate, the user of a Unix socket). It changes when the peer authenticates anew.
    pub fn identity(&self) -> Option<Arc<str>> {
        self.shared.identity()
    }

    /// Whether what is sent is kept until the other side has handled it, and sent again when the connection breaks
    /// ([`Reliability`](crate::Reliability)). Known once the session is connected.
    pub fn is_reliable(&self) -> bool {
        self.shared.resumption().is_some()
    }

    /// After the end of a reliable session: the messages that it had accepted and that the other side has not
    /// acknowledged, in the order in which they were sent. They may or may not have been handled there. They are
    /// given once.
    ///
    /// Requests are not among them, whose callers were told, nor is what a [`Client`](crate::Client) takes over to
    /// its next session, because it was never sent. Empty while the session lasts, and on ordinary sessions.
    pub fn take_unacknowledged(&self) -> Vec<Message> {
        match self.shared.resumption() {
            Some(resumption) => resumption.take_rest(),
            None => Vec::new(),
        }
    }

    /// What carries the session. A session that was [resumed](State::Suspended) may be carried by another
    /// transport than before, and so have other addresses.
    pub fn transport(&self) -> Transport {
        self.shared.transport()
    }

    /// The peer's address, when the transport has addresses.
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.shared.remote()
    }

    /// This side's address, when the transport has addresses.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.shared.local()
    }

    /// How the connection is secured, and the peer's certificate; `None` without TLS.
    pub fn tls(&self) -> Option<Arc<TlsInfo>> {
        self.shared.established()?.tls.clone()
    }

    /// What the upgrade of a WebSocket connection came to; `None` on other transports, and when nothing
    /// but `/` was asked for and no subprotocol of the application's was chosen.
    pub fn websocket(&self) -> Option<Arc<WebSocketInfo>> {
        self.shared.established()?.websocket.clone()
    }

    /// The names of the pipeline's stages that the session's messages go through, in the order in which they
    /// are applied to what is sent. Empty without a pipeline.
    pub fn pipeline(&self) -> Arc<[String]> {
        self.shared
            .extra_if_any()
            .map(|extra| Arc::clone(&lock(&extra.pipeline)))
            .unwrap_or_default()
    }

    // Sending

    /// Sends a message and waits for room in the outbox if the policy is to wait.
    ///
    /// The message has left for the link's queue when this returns; it is written together with others
    /// soon after. Messages sent one after the other by one task arrive in that order.
    ///
    /// Dropping the future before it is ready sends nothing.
    ///
    /// # Errors
    /// `connection_closed` when the session is closing, `message_too_large`, `not_supported` when the
    /// codec cannot carry the message. The error gives the message back.
    #[inline]
    pub fn send<M: Outgoing>(&self, message: M) -> Sending<'_, M> {
        Sending {
            session: self,
            message: Some(message),
            waiting: None,
            request: 0,
        }
    }

    /// Sends a message if that is possible without waiting.
    ///
    /// # Errors
    /// As [`send`](Self::send), and `queue_full` when the policy is to wait and there is no room.
    pub fn try_send<M: Outgoing>(&self, message: M) -> Result<(), SendError> {
        let mut message = Some(message);
        match self.offer(&mut message) {
            Ok(()) => Ok(()),
            Err(Refused::Full | Refused::FlushFirst) => Err(self.unsent(
                ErrorCode::QueueFull,
                "the outbox is full",
                into_message(message),
            )),
            Err(Refused::Never(code, text)) => Err(self.unsent(code, text, into_message(message))),
        }
    }

    /// The error of a message that could not be sent.
    #[cold]
    fn unsent(
        &self,
        code: ErrorCode,
        text: impl Into<std::borrow::Cow<'static, str>>,
        message: Message,
    ) -> SendError {
        let hub = self.shared.hub();
        // A client may send it on its next session, and counts it when it does not.
        if hub.role == Role::Server || code != ErrorCode::ConnectionClosed {
            hub.recorder.totals.unsent(code);
        }
        SendError::new(code, text, message)
    }

    /// Sends a message, waiting at most `timeout` for room.
    ///
    /// Dropping the future before it is ready sends nothing.
    ///
    /// # Errors
    /// As [`send`](Self::send), and `queue_full` when there was no room in that time.
    pub async fn send_timeout<M: Outgoing>(
        &self,
        message: M,
        timeout: Duration,
    ) -> Result<(), SendError> {
        let mut sending = self.send(message);
        match tokio::time::timeout(timeout, &mut sending).await {
            Ok(result) => result,
            Err(_) => Err(self.unsent(
                ErrorCode::QueueFull,
                format!("no room in the outbox within {timeout:?}"),
                sending.into_message(),
            )),
        }
    }

    /// Sends messages one after the other, waiting for room as needed.
    ///
    /// Dropping the future keeps what has been sent and sends nothing more.
    ///
    /// # Errors
    /// As [`send`](Self::send), for the first message that fails; those before it have been sent.
    pub async fn send_all<I>(&self, messages: I) -> Result<(), SendError>
    where
        I: IntoIterator,
        I::Item: Outgoing,
    {
        for message in messages {
            self.send(message).await?;
        }
        Ok(())
    }

    /// Sends a request and waits for its answer.
    ///
    /// Requests can be sent from any task, also from a handler of this session; any number, up to
    /// [`Limits::pending_requests`](crate::Limits), can wait at a time. Dropping the future gives up
    /// waiting; an answer that comes later is counted and dropped.
    ///
    /// # Errors
    /// `request_timeout` after `timeout`, the peer's code when it failed the request, `not_supported`
    /// when the codec has no requests, `queue_full` when too many wait, or the reason of the close.
    pub async fn request<M: Outgoing>(
        &self,
        message: M,
        timeout: Duration,
    ) -> Result<Message, RequestError> {
        let shared = &self.shared;
        if let Some(text) = shared
            .framing()
            .refuses(FrameType::REQUEST, message.bytes())
        {
            return Err(RequestError::with_code(ErrorCode::NotSupported, text));
        }
        let limit = shared.limits().pending_requests;
        let (id, answer) = lock(&shared.extra().requests).open(limit)?;
        let _forget = ForgetRequest { shared, id };
        let hub = shared.hub();
        let is_timed = hub.recorder.takes_times();
        let exchange = async {
            let asked_at = is_timed.then(Instant::now);
            let message = Some(message);
            let sent = Sending {
                session: self,
                message,
                waiting: None,
                request: id,
            }
            .await;
            if let Err(error) = sent {
                return Err(RequestError::with_code(error.code(), error.to_string()));
            }
            let Ok(answer) = answer.await else {
                return Err(RequestError::with_code(
                    ErrorCode::ConnectionClosed,
                    "the session ended before the answer came",
                )
                .lost());
            };
            // A close fails all that wait; that is no answer.
            if let Some(at) = asked_at
                && shared.close_reason().is_none()
            {
                hub.recorder.request_answered(at.elapsed());
            }
            answer
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or_else(|_| {
                hub.recorder.request_timed_out();
                Err(RequestError::with_code(
                    ErrorCode::RequestTimeout,
                    format!("no answer within {timeout:?}"),
                ))
            })
    }

    /// Sends a request and waits for its answer, for as long as [`Timeouts::request`](crate::Timeouts)
    /// says. See [`request`](Self::request).
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn ask<M: Outgoing>(&self, message: M) -> Result<Message, RequestError> {
        self.request(message, self.shared.hub().timeouts.request)
            .await
    }

    /// Tries once to get the message on its way; takes it when that worked.
    #[inline]
    fn offer<M: Outgoing>(&self, message: &mut Option<M>) -> Result<(), Refused> {
        let Some(lent) = message.as_ref() else {
            return Ok(());
        };
        if current::send_plain(&self.shared, lent.kind(), lent.bytes()) {
            return Ok(());
        }
        let frame_type = frame_type(lent);
        self.offer_frame(frame_type, 0, message)
    }

    fn offer_frame<M: Outgoing>(
        &self,
        frame_type: FrameType,
        id: u64,
        message: &mut Option<M>,
    ) -> Result<(), Refused> {
        let shared = &*self.shared;
        let Some(lent) = message.as_ref() else {
            return Ok(());
        };
        let len = lent.bytes().len();
        if len > shared.message_limit() {
            return Err(too_large(len, shared.message_limit()));
        }
        if let Some(text) = shared.framing().refuses(frame_type, lent.bytes()) {
            return Err(Refused::Never(ErrorCode::NotSupported, text.into()));
        }
        match current::send(shared, frame_type, id, message) {
            Direct::Taken => Ok(()),
            Direct::Full if shared.limits().when_full == QueuePolicy::Wait => {
                Err(Refused::FlushFirst)
            }
            // The other policies decide at once, in the outbox.
            Direct::Full => self.offer_to_outbox(frame_type, id, len, message),
            Direct::Elsewhere => self.offer_to_outbox(frame_type, id, len, message),
        }
    }

    fn offer_to_outbox<M: Outgoing>(
        &self,
        frame_type: FrameType,
        id: u64,
        len: usize,
        message: &mut Option<M>,
    ) -> Result<(), Refused> {
        let shared = &*self.shared;
        // Requests wait whatever the policy: their callers wait for an answer anyway.
        let policy = match frame_type {
            FrameType::REQUEST => QueuePolicy::Wait,
            _ => shared.limits().when_full,
        };
        let offered = shared.offer(len, policy, || {
            let message = into_message(message.take());
            let text = message.kind() == MessageKind::Text;
            Frame::new(frame_type, text, id, message.into_payload())
        });
        match offered {
            Offered::Queued { .. } => Ok(()),
            Offered::Dropped => {
                *message = None;
                Ok(())
            }
            Offered::Full => Err(Refused::Full),
            Offered::Overflow => Err(Refused::Never(
                ErrorCode::SlowConsumer,
                "the outbox is full and the policy is to disconnect".into(),
            )),
            Offered::Closed => Err(Refused::Never(
                ErrorCode::ConnectionClosed,
                match shared.close_reason() {
                    Some(reason) => format!("the session is closed: {reason}").into(),
                    None => "the session is closing".into(),
                },
            )),
        }
    }

    // State

    /// Where the session stands.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// Whether messages flow.
    pub fn is_connected(&self) -> bool {
        self.state() == State::Connected
    }

    /// Waits until the state is another one than `from` and returns it.
    ///
    /// States that pass quickly can be missed. Dropping the future has no effect.
    pub async fn state_changed(&self, from: State) -> State {
        loop {
            let changed = self.shared.extra().state_changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            std::sync::atomic::fence(Ordering::SeqCst);
            let state = self.state();
            if state != from {
                return state;
            }
            changed.await;
        }
    }

    /// Waits until the session has ended and says why.
    ///
    /// In a handler of this session it waits for the connection's end, which waits for the handler at
    /// most as long as [`Timeouts::drain`](crate::Timeouts) says. Dropping the future has no effect.
    pub async fn closed(&self) -> CloseReason {
        let mut state = self.state();
        loop {
            if let Some(reason) = self.shared.close_reason() {
                return reason.clone();
            }
            state = self.state_changed(state).await;
        }
    }

    /// Why the session ended, once it has.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.shared.close_reason().cloned()
    }

    /// Ends the session in order: what is queued leaves first, then the reason, which reaches the
    /// disconnect handler of the other side. Returns at once; see [`closed`](Self::closed).
    ///
    /// The first reason counts. Messages sent after this are refused.
    pub fn disconnect(&self, reason: CloseReason) {
        self.shared.request_close(reason);
    }

    /// Ends the session at once; what is queued is lost.
    pub fn abort(&self) {
        self.shared.close_outbox();
        self.shared.signal(signal::ABORT);
    }

    /// Stops reading from the link, so that back-pressure reaches the peer. What has been read is still
    /// delivered. While it is paused, liveness and idle deadlines do not run.
    pub fn pause_reading(&self) {
        self.shared.pause_reading(true);
    }

    /// Reads on after [`pause_reading`](Self::pause_reading).
    pub fn resume_reading(&self) {
        self.shared.pause_reading(false);
    }

    /// When the session began.
    pub fn connected_at(&self) -> Instant {
        self.shared.hub().clock.instant(self.shared.connected_at)
    }

    /// When something was last received.
    pub fn last_activity(&self) -> Instant {
        let last = self.shared.last_received.load(Ordering::Relaxed);
        self.shared.hub().clock.instant(last)
    }

    // Handlers

    /// Gives this session a handler of its own, from its next message on. It takes the place of all
    /// handlers of the server or client for this session, and runs where they would.
    pub fn set_handler<H: Handler>(&self, handler: H) {
        let service = Arc::new(HandlerService(handler));
        self.shared
            .set_service(Some(match &self.shared.hub().execution {
                Some(execution) => execution.of(service),
                None => service,
            }));
    }

    /// Takes the session's own handler away: the server's or client's are called again, from the next
    /// message on.
    pub fn reset_handler(&self) {
        self.shared.set_service(None);
    }

    // Statistics

    /// Counters at this moment.
    pub fn stats(&self) -> SessionStats {
        let counters = &self.shared.counters;
        let (queued_messages, queued_bytes) = self.shared.queued();
        let round_trip = counters.round_trip.load(Ordering::Relaxed);
        let last_message = counters.last_message.load(Ordering::Relaxed);
        let resumption = self.shared.resumption();
        let (unacknowledged_messages, unacknowledged_bytes) = resumption
            .map(|resumption| resumption.unacknowledged())
            .unwrap_or_default();
        SessionStats {
            unacknowledged_messages,
            unacknowledged_bytes,
            resumes: resumption.map_or(0, |resumption| resumption.resumes()),
            messages_sent: counters.messages_sent.load(Ordering::Relaxed),
            messages_received: counters.messages_received.load(Ordering::Relaxed),
            bytes_sent: counters.bytes_sent.load(Ordering::Relaxed),
            bytes_received: counters.bytes_received.load(Ordering::Relaxed),
            errors: counters.errors.load(Ordering::Relaxed).into(),
            dropped: counters.dropped.load(Ordering::Relaxed).into(),
            rate_limited: counters.rate_limited.load(Ordering::Relaxed).into(),
            queued_messages,
            queued_bytes,
            buffered_bytes: self.shared.buffered_bytes(),
            round_trip: (round_trip > 0).then(|| Duration::from_micros(round_trip.into())),
            last_message: (last_message > 0).then(|| self.shared.hub().clock.instant(last_message)),
        }
    }

    /// Sets the counters to zero. The server's own counters stay.
    pub fn reset_stats(&self) {
        let counters = &self.shared.counters;
        counters.messages_sent.store(0, Ordering::Relaxed);
        counters.messages_received.store(0, Ordering::Relaxed);
        counters.bytes_sent.store(0, Ordering::Relaxed);
        counters.bytes_received.store(0, Ordering::Relaxed);
        counters.errors.store(0, Ordering::Relaxed);
        counters.dropped.store(0, Ordering::Relaxed);
        counters.rate_limited.store(0, Ordering::Relaxed);
    }

    // Data

    /// Sets a value in the session's key-value store and returns the one it replaces.
    pub fn set_data(&self, key: impl Into<String>, value: impl Into<String>) -> Option<String> {
        lock(&self.shared.extra().data).insert(key.into(), value.into())
    }

    /// A value of the session's key-value store.
    pub fn data(&self, key: &str) -> Option<String> {
        lock(&self.shared.extra_if_any()?.data).get(key).cloned()
    }

    /// The keys of the session's key-value store, in order.
    pub fn data_keys(&self) -> Vec<String> {
        let Some(extra) = self.shared.extra_if_any() else {
            return Vec::new();
        };
        let mut keys: Vec<String> = lock(&extra.data).keys().cloned().collect();
        keys.sort_unstable();
        keys
    }

    /// Removes a value and returns it.
    pub fn remove_data(&self, key: &str) -> Option<String> {
        lock(&self.shared.extra_if_any()?.data).remove(key)
    }

    /// Removes all values.
    pub fn clear_data(&self) {
        if let Some(extra) = self.shared.extra_if_any() {
            lock(&extra.data).clear();
        }
    }

    /// Attaches a value of the application's own type; there is one for each type.
    pub fn insert_extension<T: Any + Send + Sync>(&self, value: T) {
        let replaced =
            lock(&self.shared.extra().extensions).insert(TypeId::of::<T>(), Arc::new(value));
        // Its destructor may ask for extensions: not under the lock.
        drop(replaced);
    }

    /// The attached value of type `T`.
    pub fn extension<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let extensions = lock(&self.shared.extra_if_any()?.extensions);
        extensions.get(&TypeId::of::<T>())?.clone().downcast().ok()
    }

    /// Removes the attached value of type `T` and returns it.
    pub fn remove_extension<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let mut extensions = lock(&self.shared.extra_if_any()?.extensions);
        extensions.remove(&TypeId::of::<T>())?.downcast().ok()
    }

    // Groups

    /// Joins a group, which is made if nobody is in it. Joining twice is joining once.
    ///
    /// # Errors
    /// `queue_full` at the limit of groups, `connection_closed` when the session has ended.
    pub fn join(&self, group: &GroupName) -> Result<(), GroupError> {
        self.shared.hub().groups.join(self, group)
    }

    /// Leaves a group; false when the session was not in it.
    pub fn leave(&self, group: &GroupName) -> bool {
        self.shared.hub().groups.leave(self, group)
    }

    /// Asks the server to put this client into a group, or to take it out; says where the answer comes.
    pub(crate) fn change_group(
        &self,
        join: bool,
        group: &GroupName,
    ) -> Result<oneshot::Receiver<Result<(), RequestError>>, RequestError> {
        let shared = &self.shared;
        if !shared.framing().has_hello() {
            let text = "this codec carries messages only: clients cannot join groups";
            return Err(RequestError::with_code(ErrorCode::NotSupported, text));
        }
        if shared.is_outbox_closed() {
            let text = "the session is closing";
            return Err(RequestError::with_code(ErrorCode::ConnectionClosed, text));
        }
        let group = group.to_string();
        // Held until the frame is queued, so that both have the same order.
        let mut changes = lock(&shared.extra().group_changes);
        let answer = changes.open(join, &group, shared.limits().pending_requests)?;
        let control = if join {
            Control::Join { group }
        } else {
            Control::Leave { group }
        };
        let payload = control.to_bytes();
        let frame = Frame::new(FrameType::CONTROL, false, 0, payload);
        shared.push_protocol_frame(frame);
        Ok(answer)
    }

    /// The groups that the session is in, in order of their names.
    pub fn groups(&self) -> Vec<GroupName> {
        match self.shared.extra_if_any() {
            Some(extra) => lock(&extra.groups).iter().cloned().collect(),
            None => Vec::new(),
        }
    }

    /// Whether the session is in a group.
    pub fn is_in(&self, group: &GroupName) -> bool {
        self.shared
            .extra_if_any()
            .is_some_and(|extra| lock(&extra.groups).contains(group))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id().as_u64())
            .field("transport", &self.transport())
            .field("remote", &self.remote_addr())
            .field("state", &self.state())
            .finish()
    }
}

impl PartialEq for Session {
    /// Whether two handles are of the same session.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for Session {}

/// Why a message did not get on its way.
enum Refused {
    /// No room in the outbox; it can be waited for.
    Full,
    /// The handler's collected answers have to be written first.
    FlushFirst,
    Never(ErrorCode, std::borrow::Cow<'static, str>),
}

#[cold]
fn too_large(len: usize, limit: usize) -> Refused {
    let text = format!("a message of {len} bytes is over the limit of {limit} bytes");
    Refused::Never(ErrorCode::MessageTooLarge, text.into())
}

fn into_message<M: Outgoing>(message: Option<M>) -> Message {
    message.map(Outgoing::into_message).unwrap_or_default()
}

/// The future of [`Session::send`].
#[must_use = "a message is sent when the future is awaited"]
pub struct Sending<'a, M: Outgoing> {
    session: &'a Session,
    message: Option<M>,
    /// The message, owned, once there was no room for it.
    waiting: Option<Message>,
    /// The correlation id of a request, 0 for a message.
    request: u64,
}

impl<M: Outgoing> Sending<'_, M> {
    fn into_message(self) -> Message {
        self.waiting.unwrap_or_else(|| into_message(self.message))
    }

    /// Everything but the usual case.
    #[inline(never)]
    fn poll_slowly(&mut self, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let offered = match (&mut self.waiting, self.request) {
            (None, 0) => self.session.offer(&mut self.message),
            (None, id) => self
                .session
                .offer_frame(FrameType::REQUEST, id, &mut self.message),
            (waiting, 0) => self.session.offer(waiting),
            (waiting, id) => self.session.offer_frame(FrameType::REQUEST, id, waiting),
        };
        let refused = match offered {
            Ok(()) => return Poll::Ready(Ok(())),
            Err(refused) => refused,
        };
        let message = self
            .waiting
            .take()
            .unwrap_or_else(|| into_message(self.message.take()));
        match refused {
            Refused::Never(code, text) => {
                return Poll::Ready(Err(self.session.unsent(code, text, message)));
            }
            Refused::FlushFirst => {
                current::want_flush(&self.session.shared);
                context.waker().wake_by_ref();
            }
            Refused::Full => {
                if !self
                    .session
                    .shared
                    .wait_for_room(message.len(), context.waker())
                {
                    // Room came in between.
                    context.waker().wake_by_ref();
                }
            }
        }
        self.waiting = Some(message);
        Poll::Pending
    }
}

impl<M: Outgoing> Future for Sending<'_, M> {
    type Output = Result<(), SendError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(message) = &self.message
            && self.request == 0
            && current::send_plain(&self.session.shared, message.kind(), message.bytes())
        {
            return Poll::Ready(Ok(()));
        }
        self.poll_slowly(context)
    }
}

impl<M: Outgoing> fmt::Debug for Sending<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending")
            .field("session", self.session)
            .finish()
    }
}

#[inline]
fn frame_type(message: &impl Outgoing) -> FrameType {
    match message.kind() {
        MessageKind::Application(number) => FrameType(number),
        _ => FrameType::DATA,
    }
}

/// Forgets a request when its caller stops waiting.
struct ForgetRequest<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for ForgetRequest<'_> {
    fn drop(&mut self) {
        lock(&self.shared.extra().requests).forget(self.id);
    }
}
