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
mod departure;
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
use std::task::Context;

use tracing::Span;
use tracing::field::display;

use self::closing::Closing;
use self::departure::Urgent;
use self::identity::Decisions;
use self::lane::{InService, Running};
use self::resume::{Resuming, Suspended};
use self::staging::{Greeted, Staging};
use super::inbound::Inbound;
use super::link::{Buffers, Established, Link, READ_CHUNK};
use super::liveness::{Liveness, Timing};
use super::output::Output;
use super::reliable::Reliable;
use super::shared::{Shared, signal};
use super::{Session, State, current};
use crate::error::{CloseReason, ConnectError, ErrorCode};
use crate::events;
use crate::limits::Meter;
use crate::metrics::{Held, WorkerRecorder};
use crate::worker::Place;

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

    /// Whether the peer's hello is being examined.
    fn is_greeting(&self) -> bool {
        matches!(self.phase, Phase::Greeting)
    }
}

/// Calls into the application where no poll of a handler is under way. `None` when it panicked.
fn shielded<T>(call: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).ok()
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

    fn set_state(&self, state: State) {
        self.shared.set_state(state);
    }
}
