//! The steps of a close, one after the other.

use std::task::{Context, Poll};

use bytes::Bytes;

use super::{LINGER_BYTES, LINGER_MILLIS, Step};
use crate::metrics::Role;
use crate::session::driver::goodbye::{Goodbye, goodbye_frame};
use crate::session::driver::{Driver, Phase, TurnContext};
use crate::session::output::Output;

impl Driver {
    /// Takes a close as far as it can go now, and finishes an ended session.
    pub(in crate::session::driver) fn advance_closing(
        &mut self,
        context: &mut Context<'_>,
        turn: &mut TurnContext<'_>,
    ) {
        while let Phase::Closing(closing) = &self.phase {
            let before = closing.step;
            let moved = match before {
                Step::Settle => self.settle(context, turn),
                Step::Flush => self.flush(context, turn),
                Step::Shutdown => self.shutdown(context, turn),
                Step::AwaitPeer => self.await_peer(turn),
                Step::Linger => self.linger(context, turn),
            };
            if !moved {
                return;
            }
        }
        if matches!(self.phase, Phase::Ended) {
            self.finish(context, turn);
        }
    }

    fn set_step(&mut self, step: Step) -> bool {
        if let Phase::Closing(closing) = &mut self.phase {
            closing.step = step;
        }
        true
    }

    fn settle(&mut self, _context: &mut Context<'_>, _turn: &mut TurnContext<'_>) -> bool {
        let Phase::Closing(closing) = &self.phase else {
            return false;
        };
        let finishes_backlog = closing.finish_backlog && self.was_open;
        let waits = !self.is_lane_idle() || (finishes_backlog && !self.backlog.is_empty());
        // What had arrived before writing failed is still read.
        if waits || (self.write_failed && !self.read_ended) {
            return false;
        }
        self.shared.close_outbox();
        if !self.backlog.is_empty() {
            // It was held back while the rest settled, and is handed over from now on.
            self.shared.schedule();
        }
        self.set_step(Step::Flush)
    }

    fn flush(&mut self, context: &mut Context<'_>, turn: &mut TurnContext<'_>) -> bool {
        if self.link.is_none() {
            self.end(turn.now);
            return true;
        }
        let waits = match self.hears_acks() {
            true => self.shared.has_queued(),
            // For what has no room in the window there will be none.
            false => self.has_more_to_write(),
        };
        if self.blocked || self.output.is_some() || waits {
            // The turn writes these first.
            return false;
        }
        if !self.has_settled_acks(turn) {
            return false;
        }
        self.keep_queued();
        let Phase::Closing(closing) = &mut self.phase else {
            return false;
        };
        // That it was an ERROR is remembered, because it decides how the close goes on.
        let kept = match closing.goodbye {
            Goodbye::Error(code, ..) => Goodbye::Error(code, String::new(), None),
            Goodbye::Raw(_) => Goodbye::Raw(Bytes::new()),
            _ => Goodbye::None,
        };
        let goodbye = std::mem::replace(&mut closing.goodbye, kept);
        self.shared.close_outbox();
        self.set_step(Step::Shutdown);
        if !self.backlog.is_empty() {
            // What was held while the rest of this side left is handled now. With the backlog full
            // nothing is read, so that nothing else would wake the session.
            self.shared.schedule();
        }
        let framing = self.shared.framing();
        let mut output = Box::<Output>::default();
        match goodbye {
            Goodbye::Raw(bytes) => output.push_bytes(&bytes),
            goodbye => {
                if matches!(goodbye, Goodbye::Disconnect(..)) {
                    self.push_last_ack(&mut output);
                }
                if let Some(frame) = goodbye_frame(goodbye, framing) {
                    output.push(framing, frame.frame_type, false, 0, frame.payload);
                }
            }
        }
        if !output.is_empty() {
            self.transmit(context, turn, output);
        }
        true
    }

    /// Whether the peer may still acknowledge something. One that has said its last word does not, and one that is
    /// told of an error is not listened to.
    fn hears_acks(&self) -> bool {
        match &self.phase {
            _ if self.reliable.is_none() => true,
            Phase::Closing(closing) => {
                !closing.peer_done
                    && !closing.gave_up_acks
                    && matches!(closing.goodbye, Goodbye::Disconnect(..))
            }
            _ => true,
        }
    }

    /// Gives up waiting for acknowledgements in time for the last word to reach the peer, which would take the end of
    /// the link for a loss otherwise. False when nothing could be said, or that is not what the close waits for.
    pub(in crate::session::driver) fn give_up_acks(&mut self, now: u64) -> bool {
        let can_speak = self.link.is_some() && !self.blocked && !self.write_failed;
        if self.reliable.is_none() || !can_speak || !self.hears_acks() {
            return false;
        }
        let margin = match self.draining {
            // The stop cuts the link off at its deadline.
            true => LINGER_MILLIS.min(self.shared.hub().drain_millis() / 2),
            false => 0,
        };
        let Phase::Closing(closing) = &mut self.phase else {
            return false;
        };
        if closing.step != Step::Flush || closing.deadline.saturating_sub(margin) > now {
            return false;
        }
        closing.gave_up_acks = true;
        if !self.draining {
            closing.deadline = now + LINGER_MILLIS;
        }
        self.aborted = true;
        self.shared.schedule();
        true
    }

    /// Whether nothing more can come of waiting for acknowledgements before the last word is said.
    fn has_settled_acks(&mut self, turn: &TurnContext<'_>) -> bool {
        if self.reliable.is_none() || self.write_failed || !self.hears_acks() {
            return true;
        }
        let Phase::Closing(closing) = &mut self.phase else {
            return true;
        };
        if self.draining && self.shared.hub().role == Role::Server && !closing.asked {
            // Clients that have heard the goaway send nothing more. What they had sent before is here when the
            // answer to this is, and can be acknowledged.
            closing.asked = true;
            self.push_ping(turn);
            return false;
        }
        let is_asked = self.draining && self.ping_sent > 0;
        !is_asked
            && !self.has_frames()
            && !self.awaits_acks()
            && self.is_lane_idle()
            && self.backlog.is_empty()
    }

    fn shutdown(&mut self, context: &mut Context<'_>, turn: &mut TurnContext<'_>) -> bool {
        if self.blocked {
            return false;
        }
        let Some(link) = &mut self.link else {
            return false;
        };
        match link.poll_shutdown(context, turn.buffers) {
            Poll::Pending => false,
            Poll::Ready(Err(_)) => {
                self.end(turn.now);
                true
            }
            Poll::Ready(Ok(())) => {
                let Phase::Closing(closing) = &mut self.phase else {
                    return true;
                };
                if closing.goodbye.is_error() {
                    closing.deadline = closing.deadline.min(turn.now + LINGER_MILLIS);
                    return self.set_step(Step::Linger);
                }
                self.set_step(Step::AwaitPeer)
            }
        }
    }

    fn await_peer(&mut self, turn: &mut TurnContext<'_>) -> bool {
        let Phase::Closing(closing) = &self.phase else {
            return false;
        };
        if closing.await_peer && !closing.peer_done && closing.was_linked {
            return false;
        }
        if closing.peer_done && !closing.peer_gone {
            // Closing while something unread arrives would be a reset, which can overtake our last words.
            if let Phase::Closing(closing) = &mut self.phase {
                closing.deadline = closing.deadline.min(turn.now + LINGER_MILLIS);
            }
            return self.set_step(Step::Linger);
        }
        self.end(turn.now);
        true
    }

    fn linger(&mut self, context: &mut Context<'_>, turn: &mut TurnContext<'_>) -> bool {
        loop {
            let Some(link) = &mut self.link else {
                return false;
            };
            match link.poll_discard(context, turn.buffers) {
                Poll::Pending => return false,
                Poll::Ready(Ok(count @ 1..)) => {
                    let Phase::Closing(closing) = &mut self.phase else {
                        return false;
                    };
                    closing.discarded += count;
                    if closing.discarded < LINGER_BYTES {
                        continue;
                    }
                }
                Poll::Ready(_) => {}
            }
            self.end(turn.now);
            return true;
        }
    }
}
