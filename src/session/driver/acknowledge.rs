//! What a reliable session keeps and acknowledges (protocol section 4).

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{ANSWERS_BEYOND, Driver, HELD_LIMIT, TurnContext};
use crate::codec::control::Control;
use crate::codec::{FrameType, Framing};
use crate::error::ErrorCode;
use crate::session::inbound::Inbound;
use crate::session::output::{Frame, Output};
use crate::session::reliable::replay::Kept;
use crate::session::reliable::{Claim, Room, is_application};

/// Bytes of kept frames that are encoded for a new link at a time.
const REPLAY_CHUNK: usize = 256 * 1024;

impl Driver {
    /// What the other side still takes.
    #[inline]
    pub(super) fn room(&self) -> Room {
        match &self.reliable {
            None => Room::UNLIMITED,
            Some(reliable) => reliable.room(),
        }
    }

    /// Whether frames wait that may be written.
    #[inline]
    pub(super) fn has_more_to_write(&self) -> bool {
        match &self.reliable {
            None => self.shared.has_queued(),
            Some(_) if self.write_failed => false,
            Some(reliable) => {
                // Room that is too small for the next frame is none: the acknowledgement to come wakes the session.
                reliable.is_replaying() || self.shared.can_drain(reliable.room())
            }
        }
    }

    /// Keeps answers that are held back for one more turn, so that what is collected behind them finds the room that
    /// they have left.
    pub(super) fn keep_held(&mut self, output: &mut Output, turn: &mut TurnContext<'_>) {
        if self.reliable.is_some() {
            self.keep_or_stage(output, turn);
        }
    }

    fn keep_or_stage(&mut self, output: &mut Output, turn: &mut TurnContext<'_>) {
        if self.shared.collecting() == Framing::Msgi {
            self.keep_sent(output);
        } else {
            self.stage(output, &mut turn.buffers.stages);
        }
    }

    /// Keeps what a handler has collected, and puts before it what has to be sent again.
    pub(super) fn keep_collected(&mut self, output: &mut Output, turn: &mut TurnContext<'_>) {
        self.keep_or_stage(output, turn);
        self.replay_some(output, turn);
    }

    /// Keeps what was collected as bytes, until it is acknowledged.
    #[inline]
    pub(super) fn keep_sent(&mut self, output: &mut Output) {
        if let Some(reliable) = &mut self.reliable
            && self.shared.collecting() == Framing::Msgi
        {
            reliable.replay.keep_new(output);
            reliable.publish();
        }
    }

    /// Tells handles how much is not acknowledged.
    #[inline]
    pub(super) fn publish_unacknowledged(&self) {
        if let Some(reliable) = &self.reliable {
            reliable.publish();
        }
    }

    /// Keeps what was collected and will not leave on this link.
    pub(super) fn keep_unsent(&mut self, output: &mut Output) {
        if self.shared.collecting() == Framing::Msgi {
            return self.keep_sent(output);
        }
        if let Some(reliable) = &mut self.reliable {
            for frame in output.take_values() {
                if is_application(frame.frame_type) {
                    reliable.replay.keep(frame);
                }
            }
            reliable.publish();
        }
    }

    /// Encodes some of what has to be sent again.
    #[cold]
    pub(super) fn replay_some(&mut self, output: &mut Output, turn: &mut TurnContext<'_>) {
        let Some(reliable) = &mut self.reliable else {
            return;
        };
        if !reliable.is_replaying() {
            return;
        }
        let mut frames = VecDeque::new();
        let mut left = REPLAY_CHUNK.saturating_sub(output.remaining());
        reliable.replay(|kept| {
            let frame = match kept {
                Kept::Whole(frame) => frame.clone(),
                Kept::Copied(frame_type, id, payload) => {
                    Frame::new(frame_type, false, id, Bytes::copy_from_slice(payload))
                }
            };
            left = left.saturating_sub(frame.payload.len() + size_of::<Frame>());
            frames.push_back(frame);
            left > 0
        });
        if self.shared.collecting() == Framing::Msgi {
            for frame in frames {
                output.place(Framing::Msgi, frame);
            }
            output.set_recorded();
        } else {
            self.stage_frames(output, frames, &mut turn.buffers.stages, false);
        }
    }

    /// Adds the acknowledgement that is due, or sees to it that one leaves in time.
    #[inline]
    pub(super) fn push_ack(&mut self, output: &mut Output, turn: &mut TurnContext<'_>) {
        if self.reliable.is_some() {
            self.push_due_ack(output, turn);
        }
    }

    fn push_due_ack(&mut self, output: &mut Output, turn: &mut TurnContext<'_>) {
        let handled = self.handled();
        let is_elsewhere = self.shared.hub().execution.is_some();
        let Some(reliable) = &mut self.reliable else {
            return;
        };
        if let Some(received) = reliable.ack(handled, turn.now) {
            push_ack_frame(self.shared.collecting(), output, received);
            return;
        }
        // An executor says nothing while it works at a batch without waiting: somebody has to look.
        let is_silent = is_elsewhere && reliable.left_in_batch > 0;
        if let Some(due) = reliable.next_ack(handled, is_silent, turn.now) {
            turn.ack_due = due;
        }
    }

    /// Acknowledges all that was handled, whether it is due or not.
    pub(super) fn push_last_ack(&mut self, output: &mut Output) {
        let handled = self.handled();
        if let Some(reliable) = &mut self.reliable
            && reliable.has_unacknowledged_arrivals(handled)
        {
            let received = reliable.acknowledge(handled);
            // It leaves with the last word, behind which nothing goes through stages any more.
            push_ack_frame(self.shared.framing(), output, received);
        }
    }

    /// Whether the other side has not acknowledged everything.
    pub(super) fn awaits_acks(&self) -> bool {
        let reliable = self.reliable.as_ref();
        reliable.is_some_and(|reliable| !reliable.replay.is_empty())
    }

    /// Ends a session whose peer asks and asks, and neither acknowledges nor stops. While the window is used up,
    /// answers wait although the link would take them, so that reading on has to end somewhere.
    pub(super) fn check_unheard(&mut self, now: u64) {
        if self.reliable.is_none() || self.is_closing() {
            return;
        }
        let limits = self.shared.limits();
        let most = limits.outbox_messages.saturating_add(ANSWERS_BEYOND.0);
        let Some((frames, control)) = self.shared.queued_over(ANSWERS_BEYOND.0) else {
            return;
        };
        // A peer that counts its requests has no more of them than this side would have.
        let is_too_much =
            frames > most.saturating_add(limits.pending_requests) || control > ANSWERS_BEYOND.0;
        if is_too_much && !self.shared.can_drain(self.room()) {
            self.read_ended = true;
            let text = "the peer asks on and acknowledges no answers";
            self.fail(ErrorCode::SlowConsumer, text.into(), now);
        }
    }

    /// The other side says how much it has handled.
    pub(super) fn on_ack(&mut self, received: u64, now: u64) {
        let Some(reliable) = &mut self.reliable else {
            return;
        };
        if reliable.judge(received) == Claim::TooMuch {
            self.read_ended = true;
            let text = "more was acknowledged than was sent";
            return self.fail(ErrorCode::InvalidSession, text.into(), now);
        }
        reliable.free(received);
        reliable.publish();
    }
}

fn push_ack_frame(framing: Framing, output: &mut Output, received: u64) {
    let payload = Control::Ack { received }.to_bytes();
    output.push(framing, FrameType::CONTROL, false, 0, payload);
}

// Receiving

impl Driver {
    /// Counts what has arrived.
    #[inline]
    pub(super) fn count_arrivals(&mut self, frames: &Inbound) {
        if let Some(reliable) = &mut self.reliable {
            if std::mem::take(&mut reliable.is_fresh) {
                reliable.shared.forget_previous();
            }
            frames.visit_runs(|waits, count, bytes| match waits {
                true => reliable.arrivals.arrive(count, bytes),
                false => reliable.arrivals.arrive_done(count, bytes),
            });
        }
    }

    /// How many frames the lane has come past.
    pub(super) fn passed(&self) -> u64 {
        let reliable = self.reliable.as_ref();
        reliable.map_or(0, |reliable| reliable.arrivals.passed())
    }

    /// The lane has come past frames.
    #[inline]
    pub(super) fn pass(&mut self, frames: u64) {
        if let Some(reliable) = &mut self.reliable {
            reliable.arrivals.pass(frames);
        }
    }

    /// A handler gets a batch, whose progress is followed.
    #[inline]
    pub(super) fn begin_batch(&mut self, batch: &mut Inbound) {
        if let Some(reliable) = &mut self.reliable {
            batch.track(&reliable.shared);
            reliable.left_in_batch = batch.remaining() as u64;
        }
    }

    /// The handler has come as far as that in its batch.
    pub(super) fn follow_batch(&mut self, left: Option<u64>) {
        if let Some(reliable) = &mut self.reliable {
            let left =
                left.unwrap_or_else(|| reliable.shared.left_in_batch.load(Ordering::Relaxed));
            let passed = reliable.left_in_batch.saturating_sub(left);
            reliable.left_in_batch = left;
            reliable.arrivals.pass(passed);
        }
    }

    /// How many frames of the session, from the first one on, were handled.
    pub(super) fn handled(&self) -> u64 {
        let Some(reliable) = &self.reliable else {
            return 0;
        };
        let passed = reliable.arrivals.passed();
        self.first_in_service()
            .map_or(passed, |first| first.min(passed))
    }

    /// Whether so much waits for the handler that nothing more is read. A reliable session reads on while its
    /// handler works, as acknowledgements must not wait behind messages; it holds at most what the window allows.
    #[inline]
    pub(super) fn is_held_full(&self) -> bool {
        match &self.reliable {
            None => self.backlog_bytes >= HELD_LIMIT,
            Some(reliable) => reliable.is_full(HELD_LIMIT),
        }
    }
}
