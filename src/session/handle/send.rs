//! Sending: messages, requests, and what waits for room.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::Session;
use crate::codec::FrameType;
use crate::config::QueuePolicy;
use crate::error::{ErrorCode, RequestError, SendError};
use crate::message::{Message, MessageKind, Outgoing};
use crate::metrics::Role;
use crate::session::current::{self, Direct};
use crate::session::outbox::Offered;
use crate::session::output::Frame;
use crate::session::shared::{Shared, lock};

impl Session {
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
}

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
