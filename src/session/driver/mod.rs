//! The loop that moves the frames of one session.
//!
//! A driver owns everything of its session that changes: the link, the handler that is running, what
//! waits for it, the deadlines. Its worker gives it a *turn* when something happened; a turn hands over
//! what was received, collects the answers, writes them in one go and reads on, until nothing is left
//! to do or its budget is used up.
//!
//! ```text
//! link ── receive ──▶ arrival (PING, CONTROL, answers: at once)
//!                        └▶ lane (messages, requests: in order) ──▶ handler
//! link ◀── transmit ── output ◀── collected answers, then the outbox
//! ```

mod acknowledge;
mod arrival;
mod closing;
mod deadlines;
mod goodbye;
mod handover;
mod identity;
mod lane;
mod metering;
mod opening;
mod reporting;
mod resume;
mod staging;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use tracing::Span;
use tracing::field::display;

use self::closing::Closing;
use self::identity::Decisions;
use self::lane::{InService, Running};
use self::resume::{Resuming, Suspended};
use self::staging::{Greeted, Staging};
use super::inbound::Inbound;
use super::link::{Buffers, Established, Link, READ_CHUNK};
use super::liveness::{Liveness, Timing};
use super::outbox::Offered;
use super::output::{Counts, Output};
use super::reliable::Reliable;
use super::shared::{Shared, signal};
use super::{Session, State, current};
use crate::codec::{FrameType, Framing};
use crate::error::{CloseReason, ConnectError, ErrorCode};
use crate::events;
use crate::limits::Meter;
use crate::metrics::{Held, WorkerRecorder};
use crate::worker::{BroadcastFrames, Delivery, Place};

pub(crate) use self::handover::Handover;
pub(crate) use self::opening::Opened;

/// Bytes that one turn reads before other sessions of the worker have theirs.
const TURN_BUDGET: usize = READ_CHUNK;

/// Bytes of frames that are held while a handler is pending, before reading stops.
const HELD_LIMIT: usize = 64 * 1024;

/// Encoded bytes that are taken from the outbox at a time. What is encoded can no longer be dropped by
/// a policy or overtaken by a PONG.
const DRAIN_CHUNK: usize = 256 * 1024;

/// Answers that a waiting handler's batch may hold back for one more turn, so that a handler which
/// waits for each message does not cost a write for each.
const HOLD_LIMIT: usize = 64 * 1024;

/// What answers and frames of the protocol, which no policy may drop, may take beyond the outbox's limits
/// before a peer that does not read them is no longer read either.
const ANSWERS_BEYOND: (usize, usize) = (1_024, 256 * 1024);

/// The largest collecting buffer that a worker keeps between batches.
const OUTPUT_KEEP: usize = 512 * 1024;

/// What lasts while a turn does, lent by the worker.
pub(crate) struct TurnContext<'a> {
    pub(crate) buffers: &'a mut Buffers,
    pub(crate) recorder: &'a WorkerRecorder,
    /// Whether a request of this turn is being timed: one is enough.
    pub(crate) request_timed: bool,
    /// When the session has to acknowledge something, if that was found out in this turn; otherwise 0.
    pub(crate) ack_due: u64,
    pub(crate) timing: &'a Timing,
    /// Milliseconds of the hub's clock.
    pub(crate) now: u64,
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The session waits for something; it will be woken.
    Waiting,
    /// The session is over, and its last handler has returned.
    Finished,
}

enum Phase {
    /// Before the link is open: handshakes.
    Connecting(Box<Established>),
    /// Before the first frame; on a client, before welcome.
    Opening,
    /// The peer's hello is being examined.
    Greeting,
    Open,
    /// The link was lost, and the session waits for another one.
    Suspended(Box<Suspended>),
    Closing(Box<Closing>),
    /// The link is gone. What was received is still handed over.
    Ended,
}

/// Answers to pings of the transport's own that wait at most. RFC 6455 section 5.5.3 lets the newest stand
/// for all, but peers that send a few at once expect as many answers.
const OWN_PONGS: usize = 64;

/// Protocol frames that overtake queued messages. At most one PING and one PONG wait.
#[derive(Default)]
struct Urgent {
    pong: Option<Bytes>,
    /// The answers to pings of the transport's own, where those are something else than PING.
    own_pongs: VecDeque<Bytes>,
    ping: Option<Bytes>,
}

impl Urgent {
    /// The newest replaces the oldest when too many wait.
    fn push_own_pong(&mut self, payload: Bytes) {
        if self.own_pongs.len() == OWN_PONGS {
            self.own_pongs.pop_front();
        }
        self.own_pongs.push_back(payload);
    }
}

pub(crate) struct Driver {
    shared: Arc<Shared>,
    /// `None` once the session has ended.
    link: Option<Box<dyn Link>>,
    phase: Phase,
    liveness: Liveness,
    /// The handler that is running.
    running: Option<Running>,
    /// Frames that wait for it, and their bytes.
    backlog: VecDeque<Inbound>,
    backlog_bytes: usize,
    /// Requests of the peer that are being answered.
    in_service: Option<Box<InService>>,
    /// Encoded frames that the link did not take yet, or that are held back for one turn.
    output: Option<Box<Output>>,
    /// Whether the link refused to take more.
    blocked: bool,
    /// When `output` was first held back, 0 when it is not.
    held_at: u64,
    /// Whether a welcome waits in the outbox: nothing may overtake it.
    welcome_queued: bool,
    /// When the link last took something.
    written: u64,
    /// Whether writing has failed, so that the session only reads what had arrived.
    write_failed: bool,
    /// Whether requests wait in the backlog until the link takes on again.
    congested: bool,
    /// Whether the link's receiving direction is over.
    read_ended: bool,
    /// Whether the peer's last frame, a DISCONNECT or an ERROR, has arrived.
    farewell: bool,
    /// Whether a handler of the session was still running or waiting when it was cut off.
    aborted: bool,
    /// Messages that the session, which is over, has for `take_unacknowledged`.
    given_back: u64,
    /// Whether the server or client is stopping.
    draining: bool,
    urgent: Option<Box<Urgent>>,
    /// When the last PING was made, microseconds of the hub's clock, which is its payload; 0 when it was
    /// answered.
    ping_sent: u64,
    opened: Option<Box<Opened>>,
    /// The hello that welcome is about, while a pipeline may be agreed on.
    greeted: Option<Box<Greeted>>,
    /// What the session has received, when rates are limited.
    meter: Option<Box<Meter>>,
    /// Whether the session is not read because the process holds too much.
    paused_by_memory: bool,
    /// The stages that messages go through, if there are any.
    staging: Option<Box<Staging>>,
    /// What is kept of a reliable session; `None` when it is an ordinary one.
    reliable: Option<Box<Reliable>>,
    /// A session and a connection that come together.
    resuming: Option<Box<Resuming>>,
    /// What the application is deciding about the peer, beside its handlers.
    decisions: Option<Box<Decisions>>,
    /// Frees the session's place among the connections.
    permit: Option<Box<dyn Place>>,
    /// Whether the disconnect handler has been started.
    disconnect_started: bool,
    was_open: bool,
    finished: bool,
    /// Boxed, as most sessions have none.
    span: Option<Box<Span>>,
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        link: Box<dyn Link>,
        permit: Option<Box<dyn Place>>,
        opened: Option<Box<Opened>>,
        now: u64,
    ) -> Self {
        let phase = match link.needs_opening() {
            true => Phase::Connecting(Box::default()),
            false => Phase::Opening,
        };
        let span = events::session_span(
            shared.id().as_u64(),
            shared.hub().role.name(),
            shared.transport().scheme(),
            shared.remote(),
        );
        let meter = shared.hub().rates.as_ref().map(|_| Box::default());
        Driver {
            shared,
            link: Some(link),
            phase,
            liveness: Liveness::new(now),
            running: None,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            in_service: None,
            output: None,
            blocked: false,
            held_at: 0,
            welcome_queued: false,
            written: now,
            write_failed: false,
            congested: false,
            read_ended: false,
            farewell: false,
            aborted: false,
            given_back: 0,
            draining: false,
            urgent: None,
            ping_sent: 0,
            opened,
            greeted: None,
            meter,
            paused_by_memory: false,
            staging: None,
            reliable: None,
            resuming: None,
            decisions: None,
            permit,
            disconnect_started: false,
            was_open: false,
            finished: false,
            span,
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The link is open already, although it is of a kind that has to be opened.
    pub(crate) fn skip_opening(&mut self) {
        self.phase = Phase::Opening;
    }

    fn session(&self) -> Session {
        Session::new(Arc::clone(&self.shared))
    }

    /// Whether the session was cut off rather than closed in order.
    pub(crate) fn was_aborted(&self) -> bool {
        self.aborted
    }

    /// How many messages of a reliable session were accepted and never acknowledged, once it is over.
    pub(crate) fn given_back(&self) -> u64 {
        self.given_back
    }

    /// Gives the session its turn.
    pub(crate) fn turn(&mut self, context: &mut Context<'_>, turn: &mut TurnContext<'_>) -> Turn {
        let result = match &self.span {
            None => self.take_turn(context, turn),
            Some(_) => self.turn_in_span(context, turn),
        };
        self.note_memory();
        result
    }

    /// Notes what the session keeps beyond its turn, if that has changed.
    #[inline]
    fn note_memory(&self) {
        self.shared.set_buffered(self.held());
    }

    #[inline]
    fn held(&self) -> Held {
        let mut held = Held::default();
        if let Some(link) = &self.link {
            held.add(link.buffered());
        }
        if let Some(output) = &self.output {
            held.add(output.memory());
        }
        if self.has_lane_work() {
            self.add_lane(&mut held);
        }
        if let Some(reliable) = &self.reliable {
            held.add(reliable.replay.memory());
        }
        if let Some(staging) = &self.staging
            && let Some(waiting) = &staging.waiting
        {
            held.add(waiting.frames.memory());
        }
        held
    }

    /// Once for all messages of the turn: entering a span costs much more than to hand over a message.
    #[cold]
    fn turn_in_span(&mut self, context: &mut Context<'_>, turn: &mut TurnContext<'_>) -> Turn {
        let was_connecting = matches!(self.phase, Phase::Connecting(_));
        let result = self.in_span(|driver| driver.take_turn(context, turn));
        if was_connecting
            && let Some(span) = &self.span
            && let Some(peer) = self.session().remote_addr()
        {
            // Behind a proxy it was not known before.
            span.record("peer", display(peer));
        }
        result
    }

    /// What is logged meanwhile belongs to the session.
    fn in_span<T>(&mut self, call: impl FnOnce(&mut Self) -> T) -> T {
        let Some(span) = self.span.take() else {
            return call(self);
        };
        let result = span.in_scope(|| call(self));
        self.span = Some(span);
        result
    }

    fn take_turn(&mut self, context: &mut Context<'_>, turn: &mut TurnContext<'_>) -> Turn {
        self.shared.begin_turn();
        let signals = self.shared.take_signals();
        if signals != 0 {
            self.on_signals(signals, turn);
        }
        if self.opened.is_some() {
            self.watch_attempt(context, turn.now);
        }
        if matches!(self.phase, Phase::Connecting(_)) {
            self.open_link(context, turn);
        }
        if self.staging.is_some() {
            self.check_staging(turn.now);
        }
        if self.meter.is_some() {
            self.check_meter(context);
        }
        let mut budget = TURN_BUDGET;
        let mut incoming = None;
        loop {
            if self.decisions.is_some() {
                self.poll_decisions(context, turn);
            }
            if incoming.is_some() || !self.is_at_rest(turn.now) {
                self.work_and_write(context, turn, incoming.take());
            }
            self.advance_closing(context, turn);
            if self.finished {
                return Turn::Finished;
            }
            if budget == 0 {
                // There may be more to read, or to write. Others first.
                self.shared.schedule();
                return Turn::Waiting;
            }
            let may_write = !self.blocked && !self.is_greeting();
            let has_more = may_write && self.has_more_to_write() && self.link.is_some();
            if has_more {
                // More was queued than one write holds.
                budget = budget.saturating_sub(DRAIN_CHUNK);
            }
            match self.read(context, turn, &mut budget) {
                Some(frames) => incoming = Some(frames),
                // What arrives, acknowledgements too, does not wait behind all that is queued.
                None if has_more => {}
                None if self.is_lost() => self.suspend_lost(turn.now),
                None => return Turn::Waiting,
            }
        }
    }

    /// Whether there is nothing to hand over and nothing to write, as when a turn begins because bytes have come.
    #[inline]
    fn is_at_rest(&self, now: u64) -> bool {
        matches!(self.phase, Phase::Open)
            && !self.blocked
            && !self.write_failed
            && !self.congested
            && !self.welcome_queued
            && self.output.is_none()
            && self.urgent.is_none()
            && self.staging.is_none()
            && !self.has_lane_work()
            && !self.shared.has_queued()
            && match &self.reliable {
                None => true,
                Some(reliable) => reliable.is_at_rest(now),
            }
    }

    fn on_signals(&mut self, signals: u8, turn: &mut TurnContext<'_>) {
        if signals & signal::KILL != 0 {
            self.kill(turn.now);
        }
        if signals & signal::ABORT != 0 {
            let reason = CloseReason::with_code(ErrorCode::ConnectionClosed, "aborted");
            self.abort(reason, turn.now);
        }
        if signals & signal::EXPIRE != 0 {
            self.on_expire(turn.now);
        }
        if signals & signal::CLOSE != 0
            && let Some(reason) = self.shared.extra().close_request.get().cloned()
        {
            self.close_local(reason, turn.now);
        }
        if signals & signal::SHED != 0 {
            self.on_shed(turn.now);
        }
        if signals & signal::DRAIN != 0 {
            self.drain(turn);
        }
    }

    /// Runs the handler, collects what it sends, and writes that and what is queued.
    fn work_and_write(
        &mut self,
        context: &mut Context<'_>,
        turn: &mut TurnContext<'_>,
        incoming: Option<Inbound>,
    ) {
        let mut output = self
            .output
            .take()
            .or_else(|| turn.buffers.output.take())
            .unwrap_or_default();
        if !self.blocked && !self.has_said_goodbye() && !self.welcome_queued {
            self.push_urgent(&mut output);
        }
        if incoming.is_some() || self.has_lane_work() {
            if self.held_at > 0 {
                self.keep_held(&mut output, turn);
            }
            let before = output.remaining();
            let shared = Arc::clone(&self.shared);
            // Before welcome nothing leaves: what is sent then waits behind it.
            let room = self.room();
            let direct =
                !self.blocked && self.link.is_some() && !self.is_greeting() && room.has_any();
            let polled = current::enter(&shared, output, direct, room, || {
                self.run_lane(context, turn, incoming);
            });
            output = polled.output;
            if polled.result.is_err() {
                self.on_panic(turn.now);
            }
            let grew = output.remaining() > before;
            if self.running.is_some()
                && grew
                && !polled.flush_wanted
                && !self.blocked
                && output.remaining() < HOLD_LIMIT
                && self.link.is_some()
                && (self.held_at == 0 || self.held_at == turn.now)
            {
                // The handler waits. If it is woken at once, its next answers leave together with these.
                self.held_at = turn.now;
                self.output = Some(output);
                self.shared.schedule();
                return;
            }
        }
        self.held_at = 0;
        self.transmit(context, turn, output);
    }

    /// Writes `output` and what is queued.
    fn transmit(
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

    /// Whether the peer's hello is being examined.
    fn is_greeting(&self) -> bool {
        matches!(self.phase, Phase::Greeting)
    }

    fn push_urgent(&mut self, output: &mut Output) {
        push_urgent(&mut self.urgent, self.shared.collecting(), output);
    }

    /// Writes a frame that was encoded once for many sessions straight to the link, if nothing waits
    /// before it. Returns false when it has to be queued.
    pub(crate) fn transmit_encoded(
        &mut self,
        context: &mut Context<'_>,
        turn: &mut TurnContext<'_>,
        frame: &super::output::Encoded,
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

/// Calls into the application where no poll of a handler is under way. `None` when it panicked.
fn shielded<T>(call: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).ok()
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

/// A client's connection attempt, when it fails before the session opens.
fn refused(reason: &CloseReason) -> ConnectError {
    ConnectError::closed(reason)
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.set_buffered(Held::default());
    }
}

impl Driver {
    /// Whether messages are taken for the session, be it without a link at the moment.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Suspended(_))
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

    fn set_state(&self, state: State) {
        self.shared.set_state(state);
    }
}
