//! The handler's lane: one thing after the other, in the order in which it was received.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::{ANSWERS_BEYOND, Driver, Phase, TurnContext};
use crate::codec::{FrameType, Span, msgi};
use crate::error::{CloseReason, ErrorCode, RequestError};
use crate::events;
use crate::handler::{Authentication, BoxFuture, Service};
use crate::message::Message;
use crate::metrics::{EventLevel, Held};
use crate::session::current::{self, Direct};
use crate::session::inbound::Inbound;
use crate::session::output::Frame;

/// Requests of one session that are answered at a time.
pub(super) const REQUESTS_AT_ONCE: usize = 32;

/// What is running for a session.
pub(super) enum Running {
    Authenticate(BoxFuture<'static, Result<Authentication, RequestError>>),
    Connect(BoxFuture<'static, ()>),
    /// With the bytes of its batch.
    Messages(BoxFuture<'static, Inbound>, Option<Handling>, usize),
    Disconnect(BoxFuture<'static, ()>),
}

/// What is known of a handler whose time is taken.
#[derive(Clone, Copy)]
pub(super) struct Handling {
    began: Instant,
    /// Frames of its batch.
    frames: usize,
}

/// Requests that are being answered.
#[derive(Default)]
pub(super) struct InService {
    requests: Vec<InWork>,
}

struct InWork {
    id: u64,
    /// How many frames of the session came before it, when that is counted.
    number: u64,
    future: BoxFuture<'static, Result<Message, RequestError>>,
    /// When it was begun, if its time is taken.
    began: Option<Instant>,
    /// Bytes of the request.
    bytes: usize,
}

impl Driver {
    pub(super) fn service(&self) -> Arc<dyn Service> {
        self.shared.service()
    }

    pub(super) fn has_lane_work(&self) -> bool {
        self.running.is_some() || self.in_service.is_some() || !self.backlog.is_empty()
    }

    /// Adds what the handlers have and what waits for them.
    pub(super) fn add_lane(&self, held: &mut Held) {
        if let Some(Running::Messages(_, _, bytes)) = &self.running {
            held.add(*bytes);
        }
        for request in self.in_service.iter().flat_map(|known| &known.requests) {
            held.add(request.bytes);
        }
        held.add_many(self.backlog_bytes, self.backlog.len());
    }

    /// Whether nothing is being handled. What waits in the backlog does not count.
    pub(super) fn is_lane_idle(&self) -> bool {
        self.running.is_none() && self.in_service.is_none()
    }

    /// Runs what can run. Called inside [`current::enter`].
    #[inline(always)]
    pub(super) fn run_lane(
        &mut self,
        context: &mut Context<'_>,
        turn: &mut TurnContext<'_>,
        incoming: Option<Inbound>,
    ) {
        let mut next = incoming;
        if let Some(inbound) = next.take_if(|_| self.running.is_some() || !self.backlog.is_empty())
        {
            self.hold(inbound);
        }
        loop {
            if let Some(running) = &mut self.running {
                match running.poll(context) {
                    Poll::Pending => {
                        self.follow_batch(None);
                        break;
                    }
                    Poll::Ready(done) => {
                        self.running = None;
                        next = self.on_done(done, turn);
                    }
                }
            }
            let mut is_fresh = true;
            let mut inbound = match next.take() {
                Some(inbound) => inbound,
                None if !self.may_start() || self.is_metered_out() => break,
                None => match self.backlog.pop_front() {
                    Some(inbound) => {
                        self.backlog_bytes -= inbound.held_len();
                        is_fresh = false;
                        inbound
                    }
                    None => break,
                },
            };
            if self.meter.is_some() && !self.admit(context, &mut inbound, is_fresh, turn) {
                break;
            }
            if let Some(rest) = self.start(inbound, turn) {
                // It has to wait for a request to end.
                self.backlog_bytes += rest.held_len();
                self.backlog.push_front(rest);
                break;
            }
        }
        if self.backlog.is_empty() && self.backlog.capacity() > 0 {
            self.backlog = std::collections::VecDeque::new();
        }
        if self.in_service.is_some() {
            self.poll_requests(context, turn);
        }
    }

    /// Whether frames that were received may be handed over now.
    fn may_start(&self) -> bool {
        match &self.phase {
            Phase::Connecting(_) | Phase::Opening | Phase::Greeting => false,
            Phase::Open | Phase::Suspended(_) => true,
            // A peer that never came in has said nothing that a handler should hear.
            Phase::Ended => self.was_open,
            Phase::Closing(closing) => self.was_open && closing.hands_over(),
        }
    }

    /// Keeps frames for later.
    pub(super) fn hold(&mut self, mut inbound: Inbound) {
        if inbound.is_empty() {
            return;
        }
        inbound.detach();
        self.backlog_bytes += inbound.held_len();
        self.backlog.push_back(inbound);
    }

    /// Starts on the frames of a batch. Returns it when it has to wait.
    fn start(&mut self, mut inbound: Inbound, turn: &mut TurnContext<'_>) -> Option<Inbound> {
        loop {
            if !self.may_start() {
                return (!inbound.is_empty()).then_some(inbound);
            }
            let Some(span) = inbound.peek() else {
                recycle(inbound, turn);
                return None;
            };
            match span.frame_type {
                FrameType::REQUEST => {
                    if self.is_congested() {
                        self.congested = true;
                        return Some(inbound);
                    }
                    if self.requests_in_service() >= REQUESTS_AT_ONCE {
                        return Some(inbound);
                    }
                    if let Some((span, message)) = inbound.take_next() {
                        self.start_request(span, message, turn);
                    }
                }
                FrameType::DISCONNECT => {
                    let reason = inbound.first().map(|(span, payload)| match span.text {
                        true => CloseReason::websocket(payload),
                        false => CloseReason::remote(None, lossy(payload)),
                    });
                    if let Some(reason) = reason {
                        self.on_peer_disconnect(reason, turn.now);
                    }
                    // It is the peer's last frame.
                    recycle(inbound, turn);
                    return None;
                }
                FrameType::ERROR => {
                    let reason = inbound.first().map(|(_, payload)| error_reason(payload));
                    // It is the peer's last frame.
                    self.backlog.clear();
                    self.backlog_bytes = 0;
                    if let Some(reason) = reason {
                        self.on_peer_error(reason, turn.now);
                    }
                    recycle(inbound, turn);
                    return None;
                }
                other if !other.is_message() => inbound.skip_one(),
                _ => {
                    let service = self.service();
                    if service.wants().message {
                        let handling = turn.recorder.handler_times().map(|_| Handling {
                            began: Instant::now(),
                            frames: inbound.remaining(),
                        });
                        let bytes = inbound.memory();
                        self.begin_batch(&mut inbound);
                        let future = service.messages(self.session(), inbound);
                        self.running = Some(Running::Messages(future, handling, bytes));
                        return None;
                    }
                    let before = inbound.remaining();
                    inbound.skip_messages();
                    self.pass((before - inbound.remaining()) as u64);
                }
            }
        }
    }

    /// What was running is done. Returns frames that are next.
    fn on_done(&mut self, done: Done, turn: &mut TurnContext<'_>) -> Option<Inbound> {
        match done {
            Done::Authenticated(result) => self.on_authenticated(result, turn),
            Done::Handled(inbound, handling) => {
                self.follow_batch(Some(inbound.remaining() as u64));
                if let Some(handling) = handling {
                    handling.record(&inbound, turn);
                }
                if inbound.is_empty() {
                    recycle(inbound, turn);
                    return None;
                }
                return Some(inbound);
            }
            Done::Connected => {}
            Done::Disconnected => self.finished = true,
        }
        None
    }

    /// How many frames came before the first request that is being answered.
    pub(super) fn first_in_service(&self) -> Option<u64> {
        let first = self.in_service.as_ref()?.requests.first()?;
        Some(first.number)
    }

    fn requests_in_service(&self) -> usize {
        self.in_service
            .as_ref()
            .map_or(0, |in_service| in_service.requests.len())
    }

    /// Whether so much waits to be written that no further request is begun.
    pub(super) fn is_congested(&self) -> bool {
        if !self.blocked {
            return false;
        }
        let ((messages, bytes), limits) = (self.shared.queued(), self.shared.limits());
        bytes >= limits.outbox_bytes || messages >= limits.outbox_messages
    }

    /// Whether the peer asks and asks and does not read the answers.
    pub(super) fn is_flooded(&self) -> bool {
        if !self.blocked {
            return false;
        }
        let ((messages, bytes), limits) = (self.shared.queued(), self.shared.limits());
        bytes > limits.outbox_bytes.saturating_add(ANSWERS_BEYOND.1)
            || messages > limits.outbox_messages.saturating_add(ANSWERS_BEYOND.0)
    }

    fn start_request(&mut self, span: Span, message: Message, turn: &mut TurnContext<'_>) {
        let service = self.service();
        let id = span.id;
        let number = self.passed();
        self.pass(1);
        let in_use = self
            .in_service
            .as_ref()
            .is_some_and(|in_service| in_service.requests.iter().any(|known| known.id == id));
        if in_use {
            let error = RequestError::failed(format!("the request id {id} is in use"));
            self.answer(id, Err(error));
        } else if !service.wants().request {
            self.answer(id, Err(crate::handler::no_request_handler()));
        } else {
            let is_timed = turn.recorder.handler_times().is_some() && !turn.request_timed;
            turn.request_timed |= is_timed;
            let began = is_timed.then(Instant::now);
            let bytes = message.len();
            let future = service.request(self.session(), message);
            let request = InWork {
                id,
                number,
                future,
                began,
                bytes,
            };
            self.in_service
                .get_or_insert_default()
                .requests
                .push(request);
        }
    }

    fn poll_requests(&mut self, context: &mut Context<'_>, turn: &TurnContext<'_>) {
        let Some(mut in_service) = self.in_service.take() else {
            return;
        };
        let mut index = 0;
        while let Some(request) = in_service.requests.get_mut(index) {
            match request.future.as_mut().poll(context) {
                Poll::Pending => index += 1,
                Poll::Ready(result) => {
                    let id = request.id;
                    if let (Some(began), Some(times)) =
                        (request.began, turn.recorder.handler_times())
                    {
                        times.record(nanos(began), 1);
                    }
                    // The order of the others is the order in which they started.
                    drop(in_service.requests.remove(index));
                    self.answer(id, result);
                }
            }
        }
        if in_service.requests.is_empty() {
            // Requests that had to wait may start now.
            if !self.backlog.is_empty() && !self.is_congested() {
                self.shared.schedule();
            }
        } else {
            if in_service.requests.len() < REQUESTS_AT_ONCE
                && self.running.is_none()
                && !self.backlog.is_empty()
                && self.may_start()
                && !self.is_congested()
            {
                self.shared.schedule();
            }
            self.in_service = Some(in_service);
        }
    }

    /// Sends the answer to a request of the peer.
    fn answer(&mut self, id: u64, result: Result<Message, RequestError>) {
        let limit = self.shared.message_limit();
        let result = result.and_then(|message| {
            if message.len() > limit {
                let text = format!("the answer of {} bytes is over the limit", message.len());
                return Err(RequestError::with_code(ErrorCode::MessageTooLarge, text));
            }
            Ok(message)
        });
        let (frame_type, message) = match result {
            Ok(message) => (FrameType::RESPONSE, message),
            Err(error) => {
                self.report_failed_request(error.code(), &error.to_string());
                (FrameType::FAILURE, Message::binary(failure_payload(&error)))
            }
        };
        self.send_answer(frame_type, id, message);
    }

    /// Sends an answer, which no policy may drop.
    pub(super) fn send_answer(&self, frame_type: FrameType, id: u64, message: Message) {
        let mut message = Some(message);
        if current::send(&self.shared, frame_type, id, &mut message) != Direct::Taken
            && let Some(message) = message
        {
            let payload = message.into_payload();
            self.shared
                .push_protocol_frame(Frame::new(frame_type, false, id, payload));
        }
    }

    /// A handler panicked: its session ends, others do not notice.
    pub(super) fn on_panic(&mut self, now: u64) {
        if matches!(self.running, Some(Running::Disconnect(_))) {
            self.drop_handlers();
            self.finished = true;
            return;
        }
        // What panicked cannot be polled again, and what came after it must not be handled without it.
        self.drop_handlers();
        let session = self.shared.id().as_u64();
        events::handler_panicked { session }.emit();
        let text = format_args!("the session ends");
        self.note(EventLevel::Error, "handler_panicked", None, text);
        self.fail(
            ErrorCode::RequestFailed,
            "the application failed to handle a message".into(),
            now,
        );
    }
}

enum Done {
    Authenticated(Result<Authentication, RequestError>),
    Connected,
    Handled(Inbound, Option<Handling>),
    Disconnected,
}

impl Running {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Done> {
        match self {
            Running::Authenticate(future) => future.as_mut().poll(context).map(Done::Authenticated),
            Running::Connect(future) => future.as_mut().poll(context).map(|()| Done::Connected),
            Running::Messages(future, handling, _) => {
                let handled = future.as_mut().poll(context);
                handled.map(|inbound| Done::Handled(inbound, *handling))
            }
            Running::Disconnect(future) => {
                future.as_mut().poll(context).map(|()| Done::Disconnected)
            }
        }
    }
}

impl Handling {
    /// The handler has come back with what it left of its batch.
    #[inline]
    fn record(self, rest: &Inbound, turn: &TurnContext<'_>) {
        let messages = self.frames.saturating_sub(rest.remaining()) as u64;
        if let (Some(times), 1..) = (turn.recorder.handler_times(), messages) {
            times.record(nanos(self.began) / messages, messages);
        }
    }
}

fn nanos(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Keeps the memory of a batch's list for the next read.
fn recycle(inbound: Inbound, turn: &mut TurnContext<'_>) {
    let spans = inbound.into_spans();
    if spans.capacity() > turn.buffers.spans.capacity() {
        turn.buffers.spans = spans;
    }
}

/// What a FAILURE frame says, after its id.
pub(super) fn failure_payload(error: &RequestError) -> Vec<u8> {
    let text = error.to_string();
    let mut payload = error.code().as_i32().to_be_bytes().to_vec();
    payload.extend_from_slice(msgi::clip_text(&text).as_bytes());
    payload
}

/// Invalid UTF-8 in a text is replaced, not refused.
pub(super) fn lossy(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload).into_owned()
}

/// What an ERROR frame says.
fn error_reason(payload: &[u8]) -> CloseReason {
    let (code, text) = split_code(payload);
    CloseReason::remote(Some(code), text)
}

/// Splits the payload of ERROR and FAILURE. Codes that this side does not know become a general one.
pub(super) fn split_code(payload: &[u8]) -> (ErrorCode, String) {
    match payload.split_first_chunk::<4>() {
        Some((number, text)) => {
            let number = i32::from_be_bytes(*number);
            match ErrorCode::from_i32(number) {
                Some(code) => (code, lossy(text)),
                None => (
                    ErrorCode::RequestFailed,
                    format!("{} (code {number})", lossy(text)),
                ),
            }
        }
        None => (ErrorCode::InvalidFrame, String::new()),
    }
}
