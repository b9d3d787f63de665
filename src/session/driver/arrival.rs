//! What happens to frames on arrival, before the handler's lane.

use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::handover::carried;
use super::lane::split_code;
use super::{Driver, HELD_LIMIT, Phase, TurnContext};
use crate::codec::control::Control;
use crate::codec::{EndOfStream, FrameType, Span};
use crate::error::{CloseReason, ErrorCode, RequestError};
use crate::events;
use crate::message::{Message, MessageKind, share};
use crate::session::inbound::{Census, Inbound, Visit};
use crate::session::link::{READ_CHUNK, Received, Then};
use crate::session::shared::lock;

impl Driver {
    /// Whether the link is read at all at the moment.
    pub(super) fn may_read(&self) -> bool {
        if self.read_ended || self.link.is_none() || self.is_held_full() || self.is_not_read() {
            return false;
        }
        match &self.phase {
            Phase::Connecting(_) | Phase::Greeting | Phase::Suspended(_) | Phase::Ended => false,
            Phase::Opening | Phase::Open => !self.is_flooded(),
            Phase::Closing(closing) => closing.reads() && !self.is_flooded(),
        }
    }

    /// Whether the link has frames that it need not read for.
    pub(super) fn has_frames(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.has_frames())
    }

    /// Reads once. Returns frames for the lane, `None` when there is nothing to read now.
    pub(super) fn read(
        &mut self,
        context: &mut Context<'_>,
        turn: &mut TurnContext<'_>,
        budget: &mut usize,
    ) -> Option<Inbound> {
        if !self.may_read() || (self.shared.is_reading_paused() && !self.is_closing()) {
            return None;
        }
        if self.is_paused_by_memory() {
            self.paused_by_memory = true;
            return None;
        }
        // While a handler is pending, or may have to wait, little more is taken than may be held.
        let room = if self.reliable.is_some() {
            READ_CHUNK
        } else if self.running.is_some() || !self.backlog.is_empty() || self.meter.is_some() {
            HELD_LIMIT - self.backlog_bytes
        } else {
            READ_CHUNK
        };
        if let Some(received) = self.take_waiting().or_else(|| self.take_arrived()) {
            return Some(self.take_in(received, room, context, turn, budget));
        }
        let link = self.link.as_mut()?;
        let received = match link.poll_receive(context, turn.buffers, room) {
            Poll::Pending => return None,
            Poll::Ready(Ok(received)) => received,
            Poll::Ready(Err(error)) => {
                self.on_broken_link(&error, ErrorCode::ReceiveFailed, turn.now);
                return Some(Inbound::default());
            }
        };
        let mid_frame = link.is_mid_frame();
        if received.bytes > 0 {
            self.liveness.received = turn.now;
            self.shared.last_received.store(turn.now, Ordering::Relaxed);
        }
        if !mid_frame {
            self.liveness.mid_frame = 0;
        } else if self.liveness.mid_frame == 0 || received.frames.has_whole_message() {
            self.liveness.mid_frame = turn.now;
        }
        Some(self.take_in(received, room, context, turn, budget))
    }

    /// Takes in what a read brought, or the rest of it.
    fn take_in(
        &mut self,
        mut received: Received,
        room: usize,
        context: &mut Context<'_>,
        turn: &mut TurnContext<'_>,
        budget: &mut usize,
    ) -> Inbound {
        // What was inflated counts with the length that it has come to.
        let mut work = received.bytes.max(received.frames.buffer_len());
        if matches!(self.phase, Phase::Opening) {
            self.on_opening_frames(&mut received.frames, turn);
            if self.is_handing_over() {
                let arrived = carried(received.frames, received.then);
                self.hand_over(vec![arrived], turn);
                return Inbound::default();
            }
        }
        if self.shared.hub().pipeline.is_some() {
            self.check_lengths(&mut received);
            work = work.max(self.unstage(&mut received, room, turn));
        }
        *budget = budget.saturating_sub(work);
        self.on_received(received, context, turn)
    }

    fn on_received(
        &mut self,
        received: Received,
        context: &mut Context<'_>,
        turn: &mut TurnContext<'_>,
    ) -> Inbound {
        let Received {
            mut frames, then, ..
        } = received;
        if !frames.is_empty() {
            let urgent = self.count_received(&frames, turn);
            self.count_arrivals(&frames);
            if matches!(self.phase, Phase::Greeting) {
                // Nothing after hello is looked at until welcome is written.
                self.hold(std::mem::take(&mut frames));
            } else if urgent {
                let (count, bytes) = (frames.remaining(), frames.payload_len());
                self.take_urgent(&mut frames, turn);
                if self.meter.is_some() {
                    let (count, bytes) = (count - frames.remaining(), bytes - frames.payload_len());
                    self.note_control(context, count, bytes, turn.now);
                }
            }
            if matches!(self.phase, Phase::Opening) {
                self.on_no_welcome(&mut frames, turn);
            }
            self.check_unheard(turn.now);
        }
        match then {
            Then::More => {}
            Then::End(end) => {
                self.read_ended = true;
                self.hold_rest(&mut frames);
                self.on_end_of_stream(end, turn.now);
            }
            Then::Invalid(error) => {
                self.read_ended = true;
                self.hold_rest(&mut frames);
                self.fail_protocol(error, turn.now);
            }
        }
        frames
    }

    /// Frames that came just before the end wait in the backlog, whose emptying the close awaits.
    fn hold_rest(&mut self, frames: &mut Inbound) {
        self.hold(std::mem::take(frames));
    }

    /// Counts messages; says whether there are frames that are dealt with on arrival.
    fn count_received(&mut self, frames: &Inbound, turn: &TurnContext<'_>) -> bool {
        let Census {
            messages,
            bytes,
            urgent,
            farewell,
        } = frames.census();
        self.farewell |= farewell;
        if messages > 0 {
            let session = self.shared.id().as_u64();
            events::messages_received {
                session,
                messages,
                bytes,
            }
            .emit();
            let counters = &self.shared.counters;
            counters
                .messages_received
                .fetch_add(messages, Ordering::Relaxed);
            counters.bytes_received.fetch_add(bytes, Ordering::Relaxed);
            counters.last_message.store(turn.now, Ordering::Relaxed);
            let traffic = turn.recorder.traffic(self.shared.transport());
            traffic.add_received(messages, bytes, turn.now);
        }
        urgent
    }

    /// Deals with PING, PONG, HEARTBEAT, CONTROL, RESPONSE and FAILURE.
    pub(super) fn take_urgent(&mut self, frames: &mut Inbound, turn: &mut TurnContext<'_>) {
        frames.take_urgent(|span, payload, source| {
            self.on_urgent(span, payload, source, turn);
            // After a close has begun, nothing more of this connection is processed.
            match self.read_ended {
                false => Visit::Next,
                true => Visit::Forget,
            }
        });
    }

    /// Deals with what comes up to welcome, and leaves what comes after it: that may have gone through stages.
    pub(super) fn take_welcome(&mut self, frames: &mut Inbound, turn: &mut TurnContext<'_>) {
        while matches!(self.phase, Phase::Opening)
            && !self.is_handing_over()
            && let Some((span, payload)) = frames.first()
        {
            if span.frame_type.is_ordered() {
                return self.on_no_welcome(frames, turn);
            }
            let payload = Bytes::copy_from_slice(payload);
            self.on_urgent(&span, &payload, &payload, turn);
            match self.read_ended {
                false => frames.skip_one(),
                true => *frames = Inbound::default(),
            }
        }
    }

    fn on_urgent(
        &mut self,
        span: &Span,
        payload: &[u8],
        source: &Bytes,
        turn: &mut TurnContext<'_>,
    ) {
        match span.frame_type {
            FrameType::PING => {
                let urgent = self.urgent.get_or_insert_default();
                let payload = Bytes::copy_from_slice(payload);
                match span.text {
                    true => urgent.push_own_pong(payload),
                    // The newest PONG replaces one that has not left yet.
                    false => urgent.pong = Some(payload),
                }
            }
            FrameType::PONG => self.on_pong(payload),
            FrameType::RESPONSE => {
                let message = Message::from_parts(MessageKind::Binary, share(payload, source));
                self.complete_request(span.id, Ok(message));
            }
            FrameType::FAILURE => {
                let (code, text) = split_code(payload);
                self.complete_request(span.id, Err(RequestError::with_code(code, text)));
            }
            FrameType::CONTROL => self.on_control(payload, turn),
            // HEARTBEAT has done its work by arriving.
            _ => {}
        }
    }

    fn on_pong(&mut self, payload: &[u8]) {
        if self.ping_sent == 0 || payload != self.ping_sent.to_be_bytes() {
            return;
        }
        let micros = self
            .shared
            .hub()
            .clock
            .micros()
            .saturating_sub(self.ping_sent)
            .max(1);
        let hub = self.shared.hub();
        hub.recorder.ping_answered(Duration::from_micros(micros));
        let micros = u32::try_from(micros).unwrap_or(u32::MAX);
        self.shared
            .counters
            .round_trip
            .store(micros, Ordering::Relaxed);
        self.ping_sent = 0;
    }

    pub(super) fn complete_request(&self, id: u64, answer: Result<Message, RequestError>) {
        let known = self
            .shared
            .extra_if_any()
            .is_some_and(|extra| lock(&extra.requests).complete(id, answer));
        if !known {
            self.shared
                .hub()
                .recorder
                .totals
                .unknown_responses
                .fetch_add(1, Ordering::Relaxed);
        }
    }

    fn on_control(&mut self, payload: &[u8], turn: &mut TurnContext<'_>) {
        match Control::parse(payload) {
            Ok(control) => self.on_control_frame(control, payload, turn),
            Err(error) => {
                self.read_ended = true;
                let error = crate::codec::ProtocolError::invalid(error.to_string());
                self.fail_protocol(error, turn.now);
            }
        }
    }

    fn on_end_of_stream(&mut self, end: EndOfStream, now: u64) {
        // A close of this side needs no reason, and may be what the handler waits for.
        let waits = self.has_lane_work() && !self.is_closing();
        if self.farewell && end == EndOfStream::Boundary && waits {
            // The peer has said why. That waits behind its messages for a handler that is running.
            self.no_more_answers();
            return;
        }
        let reason = match end {
            EndOfStream::Boundary => CloseReason::remote(None, "the peer ended the connection"),
            EndOfStream::InsideFrame => CloseReason::transport(
                ErrorCode::ConnectionClosed,
                "the connection ended inside a frame",
            ),
        };
        if !self.suspend(&reason, now) {
            self.on_peer_gone(reason, now);
        }
    }
}
