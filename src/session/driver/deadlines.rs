//! Deadlines: what is due, and what then.

use bytes::Bytes;

use super::{Driver, Phase, TurnContext};
use crate::error::{CloseReason, ErrorCode};
use crate::events;
use crate::session::liveness::Due;

/// Milliseconds without a byte after which the buffer of an unfinished frame is made to fit.
const SHRINK_AFTER: u64 = 1_000;

impl Driver {
    /// Looks at the deadlines; returns when to look again.
    pub(crate) fn tick(&mut self, turn: &mut TurnContext<'_>) -> u64 {
        if let Some(link) = &mut self.link
            && turn.now - self.liveness.received >= SHRINK_AFTER
        {
            link.shrink();
            if let Some(reliable) = &mut self.reliable {
                reliable.replay.shrink();
            }
        }
        // What a link receives without the session's doing is noted here only.
        self.note_memory();
        self.check_memory();
        if self.in_span(|driver| driver.check_identity(turn)) {
            return turn.now;
        }
        match &self.phase {
            Phase::Ended => return u64::MAX,
            Phase::Suspended(suspended) => {
                if suspended.deadline <= turn.now {
                    self.on_expire(turn.now);
                    self.shared.schedule();
                    return u64::MAX;
                }
                return suspended.deadline;
            }
            Phase::Closing(closing) => {
                let deadline = closing.deadline;
                if !self.give_up_acks(turn.now) && deadline <= turn.now {
                    self.on_closing_deadline(turn.now);
                    self.shared.schedule();
                    return u64::MAX;
                }
                return deadline;
            }
            _ => {}
        }
        if self.in_span(|driver| driver.check_identity(turn)) {
            return turn.now;
        }
        if self.shared.is_reading_paused() || !self.may_read() || self.paused_by_memory {
            // What is not read cannot be missed. But a peer that takes nothing either is as good as dead.
            self.liveness.received = match self.blocked && !self.shared.is_reading_paused() {
                true => self.liveness.received.max(self.written),
                false => turn.now,
            };
            if self.liveness.mid_frame > 0 {
                self.liveness.mid_frame = turn.now;
            }
        }
        let heartbeats = self.shared.framing().has_heartbeat();
        match self.liveness.check(turn.now, turn.timing, heartbeats) {
            Err(next) => next,
            Ok(due) => {
                self.in_span(|driver| driver.on_due(due, turn));
                turn.now
            }
        }
    }

    fn on_due(&mut self, due: Due, turn: &mut TurnContext<'_>) {
        let timeouts = &self.shared.hub().timeouts;
        let (code, text) = match due {
            Due::Ping => {
                self.push_ping(turn);
                return;
            }
            Due::FirstByte => (
                ErrorCode::ConnectionTimeout,
                format!("no first frame within {:?}", timeouts.first_byte),
            ),
            Due::MidFrame => (
                ErrorCode::ConnectionTimeout,
                format!("a frame was not completed within {:?}", timeouts.mid_frame),
            ),
            Due::Idle => (
                ErrorCode::IdleTimeout,
                format!("nothing received for {:?}", timeouts.idle),
            ),
            Due::HeartbeatTimeout => (
                ErrorCode::HeartbeatTimeout,
                format!(
                    "nothing received for three heartbeats of {:?}",
                    timeouts.heartbeat
                ),
            ),
        };
        events::session_timed_out {
            session: self.shared.id().as_u64(),
            code: code.as_i32(),
            reason: &*text,
        }
        .emit();
        if matches!(due, Due::HeartbeatTimeout | Due::MidFrame) {
            let reason = CloseReason::transport(code, text.clone());
            if self.suspend(&reason, turn.now) {
                return;
            }
        }
        self.fail(code, text, turn.now);
        self.shared.schedule();
    }

    /// Asks the peer for a sign of life.
    pub(super) fn push_ping(&mut self, turn: &TurnContext<'_>) {
        self.ping_sent = self.shared.hub().clock.micros();
        let payload = Bytes::copy_from_slice(&self.ping_sent.to_be_bytes());
        self.urgent.get_or_insert_default().ping = Some(payload);
        self.liveness.sent = turn.now;
        self.shared.schedule();
    }
}
