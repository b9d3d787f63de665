//! What happens to frames on departure, behind the handler's lane.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::{DRAIN_CHUNK, Driver, OUTPUT_KEEP, Phase, TurnContext};
use crate::codec::{FrameType, Framing};
use crate::events;
use crate::session::outbox::Offered;
use crate::session::output::{Counts, Encoded, Output};
use crate::session::shared::Shared;
use crate::worker::{BroadcastFrames, Delivery};

/// Answers to pings of the transport's own that wait at most. RFC 6455 section 5.5.3 lets the newest stand
/// for all, but peers that send a few at once expect as many answers.
const OWN_PONGS: usize = 64;

/// Protocol frames that overtake queued messages. At most one PING and one PONG wait.
#[derive(Default)]
pub(super) struct Urgent {
    pub(super) pong: Option<Bytes>,
    /// The answers to pings of the transport's own, where those are something else than PING.
    own_pongs: VecDeque<Bytes>,
    pub(super) ping: Option<Bytes>,
}

impl Urgent {
    /// The newest replaces the oldest when too many wait.
    pub(super) fn push_own_pong(&mut self, payload: Bytes) {
        if self.own_pongs.len() == OWN_PONGS {
            self.own_pongs.pop_front();
        }
        self.own_pongs.push_back(payload);
    }
}

impl Driver {
    /// Writes `output` and what is queued.
    pub(super) fn transmit(
        &mut self,
        context: &mut Context<'_>,
        turn: &mut TurnContext<'_>,
        mut output: Box<Output>,
    ) {
        let goodbye_said = self.has_said_goodbye();
        if self.write_failed {
            if self.reliable.is_some() {
                self.keep_unsent(&mut output);
            } else {
                self.shared.clear_outbox();
            }
            output.reset(OUTPUT_KEEP);
            turn.buffers.output = Some(output);
            self.blocked = false;
            self.urgent = None;
            return;
        }
        if self.link.is_none() {
            output.reset(OUTPUT_KEEP);
            turn.buffers.output = Some(output);
            return;
        }
        let mut unblocked = false;
        loop {
            // While the link takes no more, nothing is added to what is encoded: what is queued can
            // still be dropped by a policy, and a PONG overtakes it.
            if goodbye_said {
                self.urgent = None;
                self.shared.clear_outbox();
            } else if !self.blocked {
                let framing = self.shared.collecting();
                if unblocked && !self.welcome_queued {
                    push_urgent(&mut self.urgent, framing, &mut output);
                }
                if self.reliable.is_some() {
                    self.keep_collected(&mut output, turn);
                }
                let room = self.room();
                if output.remaining() < DRAIN_CHUNK && !self.is_greeting() && room.has_any() {
                    self.shared.drain_outbox(&mut output, DRAIN_CHUNK, room);
                }
                self.keep_sent(&mut output);
                self.welcome_queued &= self.shared.has_queued();
                if !self.welcome_queued && !self.is_greeting() {
                    self.push_ack(&mut output, turn);
                }
                // What became urgent only in this turn came after what is queued: not before a welcome.
                push_urgent(&mut self.urgent, framing, &mut output);
                if self.staging.is_some() || self.reliable.is_some() {
                    self.stage(&mut output, &mut turn.buffers.stages);
                    self.publish_unacknowledged();
                }
            }
            // A link that was blocked may have to pass on what it took.
            if output.is_empty() && !self.blocked {
                output.reset(OUTPUT_KEEP);
                turn.buffers.output = Some(output);
                break;
            }
            let counts = output.take_counts();
            if counts.frames > 0 {
                note_sent(&self.shared, turn, counts);
                self.liveness.sent = turn.now;
            }
            let Some(link) = &mut self.link else { return };
            let before = output.remaining() + link.held();
            let transmitted = link.poll_transmit(context, turn.buffers, &mut output);
            if output.remaining() + link.held() < before {
                self.written = turn.now;
            }
            match transmitted {
                Poll::Ready(Ok(())) => {
                    output.reset(OUTPUT_KEEP);
                    if std::mem::take(&mut self.blocked) {
                        unblocked = true;
                        continue;
                    }
                    turn.buffers.output = Some(output);
                    break;
                }
                Poll::Pending => {
                    self.blocked = true;
                    self.output = Some(output);
                    break;
                }
                Poll::Ready(Err(error)) => {
                    self.blocked = false;
                    output.reset(OUTPUT_KEEP);
                    turn.buffers.output = Some(output);
                    self.on_failed_write(&error, turn.now);
                    return;
                }
            }
        }
        if self.congested && !self.is_congested() {
            self.congested = false;
            self.shared.schedule();
        }
    }

    pub(super) fn push_urgent(&mut self, output: &mut Output) {
        push_urgent(&mut self.urgent, self.shared.collecting(), output);
    }

    /// Writes a frame that was encoded once for many sessions straight to the link, if nothing waits
    /// before it. Returns false when it has to be queued.
    pub(crate) fn transmit_encoded(
        &mut self,
        context: &mut Context<'_>,
        turn: &mut TurnContext<'_>,
        frame: &Encoded,
    ) -> bool {
        if self.blocked
            || self.output.is_some()
            || self.reliable.is_some()
            || !matches!(self.phase, Phase::Open)
            || self.shared.has_queued()
        {
            return false;
        }
        let Some(link) = &mut self.link else {
            return false;
        };
        let Some(written) = link.poll_transmit_encoded(context, turn.buffers, &frame.bytes) else {
            return false;
        };
        let counts = Counts {
            frames: 1,
            messages: 1,
            message_bytes: frame.message_len as u64,
        };
        match written {
            Poll::Pending => return false,
            Poll::Ready(Ok(written)) => {
                note_sent(&self.shared, turn, counts);
                self.liveness.sent = turn.now;
                if written < frame.bytes.len() {
                    let mut output = Output::default();
                    output.push_encoded(frame);
                    output.take_counts();
                    output.advance(written);
                    self.output = Some(Box::new(output));
                    // The next turn finds out that the link is full, and registers with it.
                    self.shared.schedule();
                } else if !link.is_flushed() {
                    self.blocked = true;
                    self.note_memory();
                }
            }
            Poll::Ready(Err(error)) => {
                self.on_failed_write(&error, turn.now);
                self.shared.schedule();
            }
        }
        true
    }

    /// Gives the session its copy of a broadcast.
    pub(crate) fn broadcast(
        &mut self,
        context: &mut Context<'_>,
        turn: &mut TurnContext<'_>,
        frames: &BroadcastFrames,
    ) -> Delivery {
        let framing = self.shared.framing();
        if framing
            .refuses(frames.frame_type, &frames.payload)
            .is_some()
            || frames.payload.len() > self.shared.message_limit()
        {
            return Delivery::Missed;
        }
        let policy = self.shared.limits().when_full;
        let shared_frame = match (&self.staging, &self.reliable) {
            (None, None) => frames.encoded(framing),
            // Each session's stages make something else of it, and the next link may have another framing.
            _ => None,
        };
        let offered = match shared_frame {
            Some(encoded) => {
                if self.transmit_encoded(context, turn, encoded) {
                    return Delivery::Sent;
                }
                self.shared.offer_encoded(encoded, policy)
            }
            None => {
                let frame = self.frame_of(frames, &mut turn.buffers.stages);
                self.shared.offer(frame.payload.len(), policy, || frame)
            }
        };
        match offered {
            Offered::Queued { .. } => Delivery::Sent,
            Offered::Full => Delivery::Full,
            Offered::Dropped | Offered::Overflow | Offered::Closed => Delivery::Missed,
        }
    }
}

/// Encodes the protocol frames that overtake what is queued.
fn push_urgent(urgent: &mut Option<Box<Urgent>>, framing: Framing, output: &mut Output) {
    let Some(urgent) = urgent.take() else { return };
    if let Some(payload) = urgent.pong {
        output.push(framing, FrameType::PONG, false, 0, payload);
    }
    for payload in urgent.own_pongs {
        output.push(framing, FrameType::PONG, true, 0, payload);
    }
    if let Some(payload) = urgent.ping {
        output.push(framing, FrameType::PING, false, 0, payload);
    }
}

fn note_sent(shared: &Shared, turn: &TurnContext<'_>, counts: Counts) {
    let messages = u64::from(counts.messages);
    if messages > 0 {
        events::messages_sent {
            session: shared.id().as_u64(),
            messages,
            bytes: counts.message_bytes,
        }
        .emit();
        let counters = &shared.counters;
        counters
            .messages_sent
            .fetch_add(messages, Ordering::Relaxed);
        counters
            .bytes_sent
            .fetch_add(counts.message_bytes, Ordering::Relaxed);
        counters.last_message.store(turn.now, Ordering::Relaxed);
        let traffic = turn.recorder.traffic(shared.transport());
        traffic.add_sent(messages, counts.message_bytes, turn.now);
    }
}
