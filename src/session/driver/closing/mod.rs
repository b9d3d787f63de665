//! From the decision to close to the end (protocol sections 1 and 5).

mod steps;

use std::sync::atomic::Ordering::Relaxed;
use std::task::Context;

use super::goodbye::{Goodbye, without_msgi};
use super::lane::Running;
use super::{Driver, OUTPUT_KEEP, Phase, Turn, TurnContext, refused, shielded};
use crate::codec::control::Control;
use crate::codec::websocket::{NO_STATUS, mapping};
use crate::codec::{Framing, ProtocolError};
use crate::error::{CloseReason, ClosedBy, ErrorCode};
use crate::events::{self, shown};
use crate::metrics::{EventLevel, Role};
use crate::session::State;
use crate::session::link::{LinkError, OpenError};
use crate::session::shared::lock;

/// What is read and forgotten after an ERROR, so that a reset does not overtake it.
const LINGER_BYTES: usize = 256 * 1024;
/// How long, in milliseconds.
const LINGER_MILLIS: u64 = 1_000;

/// How far a close has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// What is running finishes, so that its answers still leave.
    Settle,
    /// What is queued leaves, then the goodbye.
    Flush,
    /// The sending direction ends.
    Shutdown,
    /// The peer has the last word.
    AwaitPeer,
    /// After an ERROR or the peer's DISCONNECT: what still comes is read and forgotten, up to the end.
    Linger,
}

/// A close in progress.
#[derive(Debug)]
pub(super) struct Closing {
    reason: CloseReason,
    goodbye: Goodbye,
    step: Step,
    pub(super) deadline: u64,
    /// Whether the peer's DISCONNECT or end of stream has come.
    peer_done: bool,
    /// Whether the end of the stream has come.
    peer_gone: bool,
    /// Whether to wait for the peer's end after this side's.
    await_peer: bool,
    /// Whether frames that were received before are handled before the goodbye.
    finish_backlog: bool,
    /// Whether a PING was sent that goes behind everything, so that its answer comes behind everything, too.
    asked: bool,
    /// Whether acknowledgements are no longer waited for, as there is no more time.
    gave_up_acks: bool,
    discarded: usize,
    /// Whether the link was open when the close began. Otherwise the peer has no last word.
    was_linked: bool,
}

impl Closing {
    /// Whether frames that wait may be handed to the handler.
    pub(super) fn hands_over(&self) -> bool {
        match self.step {
            Step::Settle => self.finish_backlog,
            Step::Linger => !self.goodbye.is_error(),
            _ => true,
        }
    }

    /// Whether the link is still read for frames.
    pub(super) fn reads(&self) -> bool {
        !self.goodbye.is_error() && !self.peer_done
    }
}

impl Driver {
    fn drain_deadline(&self, now: u64) -> u64 {
        now.saturating_add(self.shared.hub().drain_millis())
    }

    fn begin_close(
        &mut self,
        reason: CloseReason,
        goodbye: Goodbye,
        step: Step,
        now: u64,
    ) -> Option<&mut Closing> {
        match self.phase {
            Phase::Ended => return None,
            Phase::Closing(ref mut closing) => return Some(closing),
            _ => {}
        }
        self.leave_suspended();
        self.set_state(State::Disconnecting);
        let deadline = self.drain_deadline(now);
        if matches!(self.phase, Phase::Greeting) {
            // What an authenticator has sent is for a peer that was let in.
            self.shared.clear_outbox();
        }
        let was_linked = !matches!(self.phase, Phase::Connecting(_));
        let goodbye = match was_linked {
            true => goodbye,
            false => {
                // An error handler may have sent something. There is no link that could carry it.
                self.shared.close_outbox();
                self.shared.clear_outbox();
                self.refusal(goodbye)
            }
        };
        let closing = Closing {
            reason,
            goodbye,
            step,
            deadline,
            peer_done: false,
            peer_gone: false,
            await_peer: false,
            finish_backlog: false,
            asked: false,
            gave_up_acks: false,
            discarded: 0,
            was_linked,
        };
        self.shared.schedule();
        self.phase = Phase::Closing(Box::new(closing));
        match &mut self.phase {
            Phase::Closing(closing) => Some(closing),
            _ => None,
        }
    }

    /// What is said in the place of a goodbye while the link is not open.
    fn refusal(&self, goodbye: Goodbye) -> Goodbye {
        let (code, text) = match &goodbye {
            Goodbye::None | Goodbye::Raw(_) => return goodbye,
            Goodbye::Error(code, text, _) => (*code, text),
            Goodbye::Disconnect(text, _) => (ErrorCode::ShuttingDown, text),
        };
        let bytes = self.link.as_ref().map(|link| link.refusal(code, text));
        match bytes {
            Some(bytes) if !bytes.is_empty() => Goodbye::Raw(bytes),
            _ => Goodbye::None,
        }
    }

    /// The link could not be opened: a handshake failed, or was refused.
    pub(super) fn on_open_failed(&mut self, error: OpenError, now: u64) {
        self.report_error(error.code, &error.text);
        let reason = CloseReason::with_code(error.code, error.text);
        // A server lingers even if it says nothing here: TLS may have sent an alert. A client does not, because
        // somebody waits for the end of its attempt.
        let goodbye = match self.shared.hub().role {
            Role::Server => Goodbye::Raw(error.answer),
            Role::Client => Goodbye::None,
        };
        self.begin_close(reason, goodbye, Step::Flush, now);
    }

    /// Whether the last frame of this side has been encoded: nothing may follow it.
    pub(super) fn has_said_goodbye(&self) -> bool {
        match &self.phase {
            Phase::Closing(closing) => {
                matches!(
                    closing.step,
                    Step::Shutdown | Step::AwaitPeer | Step::Linger
                )
            }
            _ => false,
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing(_) | Phase::Ended)
    }

    /// The application on this side ends the session.
    pub(super) fn close_local(&mut self, reason: CloseReason, now: u64) {
        let goodbye = match reason.code() {
            // A reader that is too slow for the policy is told so, not what it has missed.
            Some(ErrorCode::SlowConsumer) => {
                self.shared.clear_outbox();
                let session = self.shared.id().as_u64();
                events::slow_consumer { session }.emit();
                let code = Some(ErrorCode::SlowConsumer);
                let text = format_args!("{}", reason.text());
                self.note(EventLevel::Warning, "slow_consumer", code, text);
                self.report_error(ErrorCode::SlowConsumer, reason.text());
                return self.begin_error(reason, now);
            }
            _ => Goodbye::Disconnect(reason.text().to_owned(), reason.websocket_code()),
        };
        if self.is_closing() {
            return;
        }
        if let Some(closing) = self.begin_close(reason, goodbye, Step::Flush, now) {
            closing.await_peer = true;
        }
    }

    /// The server or client stops: what is running finishes first.
    pub(super) fn drain(&mut self, turn: &mut TurnContext<'_>) {
        self.draining = true;
        if self.is_closing() {
            if let Phase::Closing(closing) = &mut self.phase {
                let deadline = turn.now.saturating_add(self.shared.hub().drain_millis());
                closing.deadline = closing.deadline.min(deadline);
            }
            return;
        }
        let hub = std::sync::Arc::clone(self.shared.hub());
        if let Some(retry) = hub.goaway()
            && matches!(hub.role, Role::Server)
            && self.was_open
            && self.shared.framing().has_hello()
        {
            self.push_control(&Control::Goaway {
                retry_ms: Some(retry),
            });
        }
        let reason = CloseReason::with_code(ErrorCode::ShuttingDown, "shutting down");
        let goodbye = Goodbye::Disconnect("shutting down".to_owned(), Some(mapping::GOING_AWAY));
        // A handler that waits for this very stop must not be waited for.
        let step = if self.shared.stops_itself() {
            Step::Flush
        } else {
            Step::Settle
        };
        if let Some(closing) = self.begin_close(reason, goodbye, step, turn.now) {
            closing.await_peer = true;
        }
        if step == Step::Flush {
            self.shared.close_outbox();
        }
    }

    /// This side refuses to go on and says why with an ERROR.
    pub(super) fn fail(&mut self, code: ErrorCode, text: String, now: u64) {
        self.fail_with(CloseReason::with_code(code, text), now);
    }

    fn fail_with(&mut self, reason: CloseReason, now: u64) {
        if self.is_closing() {
            return;
        }
        if let Some(code) = reason.code() {
            self.report_error(code, reason.text());
        }
        if self
            .opened
            .as_ref()
            .is_some_and(|opened| opened.resumes.is_some())
        {
            // The session may be on this link already as the server sees it, and an ERROR would be its end. That
            // the link is lost is not.
            return self.abort(reason, now);
        }
        if matches!(self.phase, Phase::Greeting) {
            // Whether the peer may come in no longer matters, and is not waited for.
            let running = self.running.take();
            let _ = shielded(|| drop(running));
        }
        self.begin_error(reason, now);
    }

    /// A close in order has lost a message: the peer is told that in place of the goodbye.
    pub(super) fn fail_goodbye(&mut self, code: ErrorCode, text: &str) {
        if let Phase::Closing(closing) = &mut self.phase
            && matches!(closing.goodbye, Goodbye::Disconnect(..))
        {
            closing.goodbye = Goodbye::Error(code, text.to_owned(), None);
        }
    }

    /// What the peer sent is not of the protocol. Frames before it are still handled.
    pub(super) fn fail_protocol(&mut self, error: ProtocolError, now: u64) {
        let was_closing = self.is_closing();
        let mut reason = CloseReason::with_code(error.code, error.text);
        if let Some(code) = error.websocket {
            reason = reason.with_websocket_code(code);
        }
        self.fail_with(reason, now);
        if let Phase::Closing(closing) = &mut self.phase {
            closing.finish_backlog = true;
            if was_closing {
                // Whatever its last word would have been, it does not come any more.
                closing.peer_done = true;
            }
        }
        self.no_more_answers();
    }

    /// Nothing more arrives: whoever waits for an answer of the peer learns that none comes.
    pub(super) fn no_more_answers(&self) {
        let Some(extra) = self.shared.extra_if_any() else {
            return;
        };
        let reason = match &self.phase {
            Phase::Closing(closing) => closing.reason.clone(),
            _ => CloseReason::remote(None, "the peer ended the connection"),
        };
        lock(&extra.requests).close(&reason);
        lock(&extra.group_changes).close(&reason);
    }

    /// The connection is not wanted: it is told why and closed.
    pub(crate) fn refuse(&mut self, reason: CloseReason, now: u64) {
        self.begin_error(reason, now);
    }

    fn begin_error(&mut self, reason: CloseReason, now: u64) {
        let Some(code) = reason.code() else { return };
        let text = reason.text().to_owned();
        if self.is_closing() {
            return;
        }
        let goodbye = Goodbye::Error(code, text, reason.websocket_code());
        self.begin_close(reason, goodbye, Step::Settle, now);
    }

    pub(super) fn on_peer_disconnect(&mut self, reason: CloseReason, now: u64) {
        self.read_ended = true;
        self.keep_for_next_session();
        // It is the last frame of its sender; whatever came after it is not of the protocol.
        self.backlog.clear();
        self.backlog_bytes = 0;
        match &mut self.phase {
            Phase::Closing(closing) => closing.peer_done = true,
            Phase::Ended => {}
            _ => {
                // WebSocket's close frame is answered with its code.
                let code = reason.websocket_code().filter(|&code| code != NO_STATUS);
                let goodbye = Goodbye::Disconnect(String::new(), code);
                if let Some(closing) = self.begin_close(reason, goodbye, Step::Settle, now) {
                    closing.peer_done = true;
                    closing.await_peer = true;
                    closing.finish_backlog = true;
                }
            }
        }
        self.no_more_answers();
    }

    pub(super) fn on_peer_error(&mut self, reason: CloseReason, now: u64) {
        // ERROR is never answered by ERROR, and the peer listens no more.
        self.shared
            .counters
            .errors
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        match &mut self.phase {
            Phase::Ended => {}
            Phase::Closing(closing) => {
                closing.reason = reason;
                self.end(now);
            }
            _ => {
                let cut = self.blocked || self.output.is_some();
                self.shared.close_outbox();
                let lost = self.shared.clear_outbox() as u64;
                let totals = &self.shared.hub().recorder.totals;
                totals
                    .lost
                    .fetch_add(lost, std::sync::atomic::Ordering::Relaxed);
                // What is below the session still ends in order (close_notify, a close frame), unless that
                // would stand inside a frame.
                let closing = self.begin_close(reason, Goodbye::None, Step::Shutdown, now);
                if let Some(closing) = closing {
                    closing.peer_done = true;
                    closing.peer_gone = true;
                    closing.deadline = closing.deadline.min(now + LINGER_MILLIS);
                }
                if cut {
                    self.end(now);
                }
            }
        }
    }

    /// The stream ended. What came before it is handled and answered first.
    pub(super) fn on_peer_gone(&mut self, reason: CloseReason, now: u64) {
        match &mut self.phase {
            Phase::Ended => {}
            Phase::Closing(closing) => {
                closing.peer_done = true;
                closing.peer_gone = true;
            }
            _ => {
                if let Some(closing) = self.begin_close(reason, Goodbye::None, Step::Settle, now) {
                    closing.peer_done = true;
                    closing.peer_gone = true;
                    closing.finish_backlog = true;
                }
            }
        }
        self.no_more_answers();
    }

    /// Reading or writing failed: nothing more leaves.
    pub(super) fn on_broken_link(&mut self, error: &std::io::Error, code: ErrorCode, now: u64) {
        if self.is_closing() {
            // Why nothing could be written any more, or nothing of it was taken: with TLS 1.3 a server judges
            // its client's certificate when the client may have said all that it had to say.
            if let Some(code) = LinkError::code_of(error)
                && (self.write_failed || code == ErrorCode::TlsHandshakeFailed)
                && let Phase::Closing(closing) = &mut self.phase
            {
                let text = format!("the connection broke: {error}");
                closing.reason = CloseReason::transport(code, text);
            }
            // The close goes its way; the peer has only ended sooner than expected.
            self.end(now);
            return;
        }
        let code = match error.kind() {
            std::io::ErrorKind::ConnectionReset
            | std::io::ErrorKind::BrokenPipe
            | std::io::ErrorKind::ConnectionAborted
            | std::io::ErrorKind::UnexpectedEof => ErrorCode::ConnectionClosed,
            std::io::ErrorKind::ConnectionRefused => ErrorCode::ConnectionRefused,
            _ => LinkError::code_of(error).unwrap_or(code),
        };
        let reason = CloseReason::transport(code, format!("the connection broke: {error}"));
        if !self.suspend(&reason, now) {
            self.end_for(reason, now);
        }
    }

    /// Ends at once, as nothing can be said any more.
    pub(super) fn end_for(&mut self, reason: CloseReason, now: u64) {
        self.begin_close(reason, Goodbye::None, Step::Flush, now);
        self.end(now);
    }

    /// Writing failed: nothing more leaves, but what had arrived before is still read and handled.
    pub(super) fn on_failed_write(&mut self, error: &std::io::Error, now: u64) {
        if self.is_closing() {
            return self.end(now);
        }
        let reason = CloseReason::transport(
            ErrorCode::ConnectionClosed,
            format!("the connection broke: {error}"),
        );
        self.write_failed = true;
        if self.reliable.is_some() {
            // It is suspended when everything that had arrived is read.
            return;
        }
        self.shared.close_outbox();
        self.shared.clear_outbox();
        if let Some(closing) = self.begin_close(reason, Goodbye::None, Step::Settle, now) {
            closing.finish_backlog = true;
        }
    }

    /// Ends at once; what is queued is lost and a handler that is running is dropped.
    pub(super) fn abort(&mut self, reason: CloseReason, now: u64) {
        if matches!(self.phase, Phase::Ended) {
            return;
        }
        self.begin_close(reason, Goodbye::None, Step::Flush, now);
        self.cut_off(now);
    }

    /// Drops what is running and what waits. What an application's destructors do, panics included, ends
    /// nothing but this.
    pub(super) fn drop_handlers(&mut self) {
        let (running, in_service) = (self.running.take(), self.in_service.take());
        let _ = shielded(|| drop(running));
        let _ = shielded(|| drop(in_service));
        self.drop_decisions();
        self.backlog.clear();
        self.backlog_bytes = 0;
    }

    fn cut_off(&mut self, now: u64) {
        self.aborted = true;
        self.drop_handlers();
        self.end(now);
    }

    pub(super) fn on_closing_deadline(&mut self, now: u64) {
        let Phase::Closing(closing) = &self.phase else {
            return;
        };
        match closing.step {
            // Everything of this side has left; only the peer is late.
            Step::Linger => self.end(now),
            // The peer is owed its ERROR, whatever the handler does.
            Step::Settle if closing.goodbye.is_error() && !self.draining => {
                self.shared.close_outbox();
                if let Phase::Closing(closing) = &mut self.phase {
                    closing.step = Step::Flush;
                    closing.deadline = now + LINGER_MILLIS;
                }
            }
            Step::AwaitPeer if self.is_lane_idle() => {
                self.aborted = true;
                self.end(now);
            }
            _ if self.draining => self.cut_off(now),
            // Only the connection is given up: a handler that is running finishes.
            _ => {
                self.aborted = true;
                self.end(now);
            }
        }
    }

    /// The deadline of a stop has passed: whatever is left is dropped, handlers included. A disconnect
    /// handler that begins only now has until the next call.
    pub(super) fn kill(&mut self, now: u64) {
        if let Phase::Closing(closing) = &self.phase
            && closing.step == Step::Linger
            && self.is_lane_idle()
        {
            // Everything of this side has left.
            return self.end(now);
        }
        if !matches!(self.phase, Phase::Ended) {
            let reason = CloseReason::with_code(ErrorCode::ShuttingDown, "shutting down");
            return self.abort(reason, now);
        }
        self.aborted = true;
        self.drop_handlers();
        self.finished = self.disconnect_started;
    }

    /// The link is let go. The session can no longer be found; whoever waits for it learns why.
    pub(super) fn end(&mut self, now: u64) {
        let reason = match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Closing(closing) => closing.reason,
            Phase::Ended => return,
            _ => CloseReason::transport(ErrorCode::ConnectionClosed, "the connection broke"),
        };
        let unsent = self.report_rest();
        self.link = None;
        self.read_ended = true;
        self.blocked = false;
        if let Some(mut output) = self.output.take() {
            output.reset(OUTPUT_KEEP);
        }
        self.urgent = None;
        let lost = unsent + self.shared.abandon_outbox();
        self.note_closed(&reason, lost, now);
        let hub = std::sync::Arc::clone(self.shared.hub());
        hub.recorder
            .totals
            .lost
            .fetch_add(lost as u64, std::sync::atomic::Ordering::Relaxed);
        if self.was_open {
            hub.groups.leave_all(&self.session());
            hub.session_closed(self.shared.id());
            if let Some(code) = broken(&reason) {
                hub.recorder.totals.error(code);
            }
        }
        if let Some(opened) = self.opened.take() {
            let error = match self.shared.framing() {
                Framing::WebSocketMsgiMasked => refused(&without_msgi(&reason)),
                _ => refused(&reason),
            };
            let _ = opened.result.send(Err(error));
        }
        let state = if reason.is_orderly() || reason.code() == Some(ErrorCode::ShuttingDown) {
            State::Disconnected
        } else {
            State::Error
        };
        let extra = self.shared.extra();
        lock(&extra.requests).close(&reason);
        lock(&extra.group_changes).close(&reason);
        let _ = extra.closed.set(reason);
        self.set_state(state);
        self.permit = None;
        // The lane still has what was received.
        self.shared.schedule();
    }

    fn note_closed(&self, reason: &CloseReason, lost: usize, now: u64) {
        let (shared, counters) = (&self.shared, &self.shared.counters);
        events::session_closed {
            session: shared.id().as_u64(),
            by: events::ended_by(reason),
            code: reason.code().map(ErrorCode::as_i32),
            reason: shown(reason.text()),
            opened: self.was_open,
            duration_ms: now.saturating_sub(shared.connected_at),
            messages_received: counters.messages_received.load(Relaxed),
            messages_sent: counters.messages_sent.load(Relaxed),
            bytes_received: counters.bytes_received.load(Relaxed),
            bytes_sent: counters.bytes_sent.load(Relaxed),
            dropped: counters.dropped.load(Relaxed),
            lost,
        }
        .emit();
        if self.was_open {
            let text = format_args!("by {}: {}", events::ended_by(reason), reason.text());
            self.note(EventLevel::Info, "session_closed", reason.code(), text);
        }
    }

    /// The link is gone: what was received is handled, then the disconnect handler runs.
    fn finish(&mut self, context: &mut Context<'_>, turn: &mut TurnContext<'_>) {
        if !self.was_open {
            self.backlog.clear();
            self.backlog_bytes = 0;
        }
        if self.running.is_some() || self.in_service.is_some() || !self.backlog.is_empty() {
            // The lane runs at the next turn; `run_lane` wakes the session as needed.
            return;
        }
        if self.disconnect_started || !self.was_open {
            self.finished = true;
            return;
        }
        self.disconnect_started = true;
        let service = self.service();
        let reason = self.shared.close_reason().cloned();
        match reason {
            Some(reason) if service.wants().disconnect => {
                let session = self.session();
                let Some(future) = shielded(|| service.disconnect(session, reason)) else {
                    let session = self.shared.id().as_u64();
                    events::handler_panicked { session }.emit();
                    self.finished = true;
                    return;
                };
                self.running = Some(Running::Disconnect(future));
                self.work_and_write(context, turn, None);
                if self.finished {
                    return;
                }
                if self.running.is_none() {
                    self.finished = true;
                }
            }
            _ => self.finished = true,
        }
    }

    /// Lets everything go, at the end of the worker.
    pub(crate) fn cancel(&mut self, now: u64) -> Turn {
        let reason = CloseReason::with_code(ErrorCode::ShuttingDown, "the runtime ended");
        self.in_span(|driver| driver.abort(reason, now));
        self.running = None;
        Turn::Finished
    }
}

/// The code of a connection that this side has not ended, and that did not end in order.
fn broken(reason: &CloseReason) -> Option<ErrorCode> {
    match (reason.closed_by(), reason.code()?) {
        (ClosedBy::Local, _) | (_, ErrorCode::ShuttingDown) => None,
        // Its code is about what the peer has seen.
        (ClosedBy::Remote, _) => Some(ErrorCode::ConnectionClosed),
        (ClosedBy::Transport, code) => Some(code),
    }
}
