//! What a session may receive, and what it may hold.

use std::sync::atomic::Ordering::Relaxed;
use std::task::Context;

use super::lane::failure_payload;
use super::{Driver, Phase, TurnContext};
use crate::codec::{FrameType, ProtocolError};
use crate::error::{CloseReason, ErrorCode, RequestError};
use crate::events;
use crate::limits::Verdict;
use crate::message::Message;
use crate::metrics::EventLevel;
use crate::session::inbound::Inbound;

/// Nanoseconds of a millisecond.
const MILLI: u64 = 1_000_000;

impl Driver {
    /// Whether frames that wait have to wait on because of a rate.
    #[inline]
    pub(super) fn is_metered_out(&self) -> bool {
        // Whoever has said its last word does not slow down for it.
        self.meter.as_ref().is_some_and(|meter| meter.is_waiting())
            && !self.read_ended
            && !self.is_closing()
    }

    /// Whether a rate keeps the link from being read.
    #[inline]
    pub(super) fn is_not_read(&self) -> bool {
        self.meter
            .as_ref()
            .is_some_and(|meter| meter.stops_reading())
    }

    /// Asks the rates for a batch that is next, and leaves of it what may be handed over now; false when that is
    /// nothing until later. What has to wait is in the backlog again. `is_fresh` says that the batch is a part of the
    /// worker's buffer.
    #[inline(never)]
    pub(super) fn admit(
        &mut self,
        context: &mut Context<'_>,
        inbound: &mut Inbound,
        is_fresh: bool,
        turn: &mut TurnContext<'_>,
    ) -> bool {
        let hub = std::sync::Arc::clone(self.shared.hub());
        let (Some(meter), Some(rates)) = (&mut self.meter, &hub.rates) else {
            return true;
        };
        if inbound.is_admitted || inbound.is_empty() {
            return true;
        }
        let now = turn.now.saturating_mul(MILLI);
        let peer = || self.shared.remote().map(|addr| addr.ip());
        let (verdict, due) = meter.admit(rates, inbound, peer, now);
        inbound.is_admitted = true;
        match verdict {
            Verdict::All => true,
            Verdict::Part(count) => {
                let rest = inbound.split_off(count);
                self.put_back(rest, is_fresh);
                true
            }
            Verdict::Later(count) => {
                let mut rest = inbound.split_off(count);
                if self.read_ended || self.is_closing() {
                    if let Some(meter) = &mut self.meter {
                        meter.force(rates, &rest, now);
                    }
                    rest.is_admitted = true;
                    self.put_back(rest, is_fresh);
                    return true;
                }
                self.put_back(rest, is_fresh);
                self.put_back(std::mem::take(inbound), is_fresh);
                hub.recorder.totals.throttled.fetch_add(1, Relaxed);
                self.wait_until(due, false, context);
                false
            }
            Verdict::First { count, ends } => {
                let rest = inbound.split_off(count);
                let dropped = self.refuse_frames(rest);
                self.note_rate_limited(dropped);
                if ends && !self.is_closing() {
                    // What was let in is still handled.
                    self.put_back(std::mem::take(inbound), is_fresh);
                    self.end_rate_limited(turn.now);
                    return false;
                }
                true
            }
        }
    }

    fn end_rate_limited(&mut self, now: u64) {
        self.read_ended = true;
        let error = ProtocolError {
            code: ErrorCode::RateLimited,
            text: "more was sent than the limit of a rate allows".into(),
            websocket: None,
        };
        self.fail_protocol(error, now);
        self.shared.schedule();
    }

    /// Puts frames before all others that wait.
    fn put_back(&mut self, mut inbound: Inbound, is_fresh: bool) {
        if inbound.is_empty() {
            return;
        }
        if is_fresh {
            inbound.detach();
        }
        self.backlog_bytes += inbound.held_len();
        self.backlog.push_front(inbound);
    }

    fn wait_until(&mut self, nanos: u64, stops_reading: bool, context: &mut Context<'_>) {
        let at = self.shared.hub().clock.instant(nanos.div_ceil(MILLI));
        if let Some(meter) = &mut self.meter {
            meter.wait_until(at, stops_reading, context);
            if !meter.is_waiting() {
                self.shared.schedule();
            }
        }
    }

    /// The peer has another link now, and may have another address.
    pub(super) fn forget_address(&mut self) {
        if let Some(meter) = &mut self.meter {
            meter.forget_address();
        }
    }

    /// Ends a wait that is over.
    pub(super) fn check_meter(&mut self, context: &mut Context<'_>) {
        if let Some(meter) = &mut self.meter {
            meter.poll(context);
        }
    }

    /// Counts frames that were dealt with on arrival, and no rate has been asked about.
    #[cold]
    pub(super) fn note_control(
        &mut self,
        context: &mut Context<'_>,
        frames: usize,
        bytes: usize,
        now: u64,
    ) {
        let hub = std::sync::Arc::clone(self.shared.hub());
        let (Some(meter), Some(rates)) = (&mut self.meter, &hub.rates) else {
            return;
        };
        let peer = || self.shared.remote().map(|addr| addr.ip());
        let nanos = now.saturating_mul(MILLI);
        let Some((until, ends)) = meter.note_control(rates, frames, bytes, peer, nanos) else {
            return;
        };
        if self.is_closing() {
            return;
        }
        if ends {
            return self.end_rate_limited(now);
        }
        self.shared
            .hub()
            .recorder
            .totals
            .throttled
            .fetch_add(1, Relaxed);
        self.wait_until(until, true, context);
    }

    /// Drops messages and refuses requests. Returns how many there were. The peer's last word is kept.
    fn refuse_frames(&mut self, mut frames: Inbound) -> u64 {
        let error = RequestError::with_code(
            ErrorCode::RateLimited,
            "more was sent than the limit of a rate allows",
        );
        let mut failure = None;
        let mut dropped = 0;
        while let Some(span) = frames.peek() {
            match span.frame_type {
                FrameType::DISCONNECT | FrameType::ERROR => {
                    frames.is_admitted = true;
                    self.put_back(frames, true);
                    break;
                }
                FrameType::REQUEST => {
                    let payload = failure
                        .get_or_insert_with(|| bytes::Bytes::from(failure_payload(&error)))
                        .clone();
                    self.send_answer(FrameType::FAILURE, span.id, Message::binary(payload));
                    dropped += 1;
                }
                _ => dropped += 1,
            }
            frames.skip_one();
        }
        dropped
    }

    fn note_rate_limited(&self, dropped: u64) {
        if dropped == 0 {
            return;
        }
        let session = self.shared.id();
        events::rate_limited {
            session: session.as_u64(),
            messages: dropped,
        }
        .emit();
        let totals = &self.shared.hub().recorder.totals;
        totals.rate_limited.fetch_add(dropped, Relaxed);
        let counter = &self.shared.counters.rate_limited;
        let dropped = u32::try_from(dropped).unwrap_or(u32::MAX);
        let before = counter.fetch_add(dropped, Relaxed);
        let now = before.wrapping_add(dropped);
        // The first, and whenever they have doubled.
        if now.checked_ilog2() > before.checked_ilog2() {
            let text = format_args!("{now} messages by now");
            let code = Some(ErrorCode::RateLimited);
            self.note(EventLevel::Warning, "rate_limited", code, text);
        }
    }
}

// Memory

/// Milliseconds in which the peer of a session that is shed may take what has been written for it.
const SHED_MILLIS: u64 = 1_000;

impl Driver {
    /// Whether the process holds so much that this session, which holds more than its share, is not read for now.
    #[inline]
    pub(super) fn is_paused_by_memory(&self) -> bool {
        self.shared.hub().budget.is_tight() && self.holds_too_much()
    }

    #[cold]
    fn holds_too_much(&self) -> bool {
        let held = self.shared.buffered_bytes() + self.shared.queued().1;
        !self.shared.hub().budget.is_little(held)
    }

    /// At every look at the deadlines: goes on reading when there is memory again.
    pub(super) fn check_memory(&mut self) {
        if !self.paused_by_memory {
            return;
        }
        let budget = self.shared.hub().budget.clone();
        budget.relieve();
        if !self.is_paused_by_memory() {
            self.paused_by_memory = false;
            self.shared.schedule();
        }
    }

    /// The process holds too much, and this session is among those that hold most of it.
    pub(super) fn on_shed(&mut self, now: u64) {
        if matches!(self.phase, Phase::Ended) {
            return;
        }
        let totals = &self.shared.hub().recorder.totals;
        totals.shed.fetch_add(1, Relaxed);
        // What waits for the handler goes too.
        self.backlog.clear();
        self.backlog_bytes = 0;
        let reason = CloseReason::with_code(
            ErrorCode::SlowConsumer,
            "the memory for queued messages is used up, and this session holds most of it",
        );
        if matches!(self.phase, Phase::Suspended(_)) {
            self.report_error(ErrorCode::SlowConsumer, reason.text());
            return self.end_without_link(reason, now);
        }
        if !self.is_closing() {
            match self.reliable {
                None => self.close_local(reason, now),
                // What waits can be asked for when the session has ended.
                Some(_) => self.fail(ErrorCode::SlowConsumer, reason.text().to_owned(), now),
            }
        }
        let is_short = self.shared.hub().budget.is_short();
        if let Phase::Closing(closing) = &mut self.phase {
            closing.deadline = closing.deadline.min(now + SHED_MILLIS);
        }
        if is_short {
            // There is no time to tell the peer, which does not listen anyway.
            self.end(now);
        }
    }
}
