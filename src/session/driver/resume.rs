//! Reliable sessions: acknowledging, losing a link, going on with another one (protocol section 4).
//!
//! A connection that asks for a session is a driver of its own until it is known who the peer is. Then it hands its
//! link over to the driver of the session, on the worker where that lives, and is gone:
//!
//! ```text
//! new link ── driver: handshakes, hello, authentication ──┐ Handover
//!                                                         ▼
//! old link ──✕ driver of the session: handlers, outbox, replay
//! ```
//!
//! On a client it is the same, with welcome in the place of hello.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::opening::{Opened, VERSION, control_frame};
use super::staging::Greeted;
use super::{Driver, HELD_LIMIT, OUTPUT_KEEP, Phase, TurnContext};
use crate::codec::control::{Control, Hello, Resume, Welcome};
use crate::codec::{FrameType, Framing, ProtocolError};
use crate::config::Reliability;
use crate::error::{CloseReason, ConnectError, ErrorCode};
use crate::events::{self, shown};
use crate::metrics::{EventLevel, Role};
use crate::session::inbound::Inbound;
use crate::session::link::{Established, Received, Then};
use crate::session::output::{Frame, Output};
use crate::session::reliable::replay::Kept;
use crate::session::reliable::resumption::{Rest, ResumeToken, Resumption, Ticket};
use crate::session::reliable::{DEFAULT_WINDOW, Reliable, Room, is_application};
use crate::session::shared::{Shared, lock};
use crate::session::{SessionId, State, Transport};
use crate::worker::{Place, Placed};

/// Bytes of kept frames that are encoded for a new link at a time.
const REPLAY_CHUNK: usize = 256 * 1024;

/// What a connection and a reliable session have to do with each other, while one is being opened.
#[derive(Default)]
pub(super) struct Resuming {
    /// The window that the peer has named.
    window: u64,
    /// The session that a client wants back.
    wanted: Option<Resume>,
    /// The welcome that a client was given with it.
    welcome: Option<(Box<Welcome>, Bytes)>,
    /// Whether the link is to be handed over.
    is_ready: bool,
    /// What has arrived on the new link behind hello or welcome.
    arrived: Vec<Received>,
}

/// A session without a link.
pub(super) struct Suspended {
    /// How its link was lost.
    reason: CloseReason,
    pub(super) deadline: u64,
    /// Its place among the sessions without a link.
    place: u64,
}

/// A link on its way to the session that it is for.
pub(crate) struct Handover {
    /// The session, by the slot in its worker.
    pub(crate) slot: u32,
    pub(crate) session: SessionId,
    pub(crate) link: Placed,
    pub(crate) permit: Option<Box<dyn Place>>,
    pub(crate) transport: Transport,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) local: Option<SocketAddr>,
    established: Option<Arc<Established>>,
    identity: Option<Arc<str>>,
    greeted: Option<Box<Greeted>>,
    wanted: Resume,
    welcome: Option<(Box<Welcome>, Bytes)>,
    opened: Option<Box<Opened>>,
    arrived: Vec<Received>,
}

impl Handover {
    /// Tells whoever waits for a client's attempt that it was in vain.
    pub(crate) fn give_up(&mut self, reason: &CloseReason) {
        if let Some(opened) = self.opened.take() {
            let _ = opened.result.send(Err(ConnectError::closed(reason)));
        }
    }
}

/// The one answer to all who have no right to a session, or none any more.
fn expired() -> CloseReason {
    CloseReason::with_code(ErrorCode::SessionExpired, "there is no session to resume")
}

// Opening

impl Driver {
    /// What a client adds to its hello.
    pub(super) fn offer_reliability(&self, hello: &mut Hello) {
        if let Some(reliability) = &self.shared.hub().reliability {
            hello.reliable = true;
            hello.window = Some(reliability.window as u64);
        }
    }

    /// A server remembers what a client asks for. Returns why it cannot have it.
    pub(super) fn remember_resume(&mut self, hello: &mut Hello) -> Result<(), CloseReason> {
        let hub = self.shared.hub();
        let can = hub.reliability.is_some() && !self.shared.transport().is_lossy();
        let wanted = hello.resume.take();
        if wanted.is_some() && !can {
            return Err(expired());
        }
        if can && (hello.reliable || wanted.is_some()) {
            self.resuming = Some(Box::new(Resuming {
                window: hello.window.unwrap_or(DEFAULT_WINDOW),
                wanted,
                ..Resuming::default()
            }));
        }
        Ok(())
    }

    /// Whether the peer wants a session back. The link is handed over then, as soon as that can be.
    pub(super) fn wants_resume(&mut self) -> bool {
        match &mut self.resuming {
            Some(resuming) if resuming.wanted.is_some() => {
                resuming.is_ready = true;
                true
            }
            _ => false,
        }
    }

    pub(super) fn is_handing_over(&self) -> bool {
        self.resuming
            .as_ref()
            .is_some_and(|resuming| resuming.is_ready)
    }

    /// A server begins a reliable session, if the client wants one, and says so in welcome.
    pub(super) fn agree_reliability(&mut self, welcome: &mut Welcome) {
        let Some(resuming) = self.resuming.take() else {
            return;
        };
        let hub = Arc::clone(self.shared.hub());
        let (Some(reliability), Some(token)) = (&hub.reliability, ResumeToken::random()) else {
            return;
        };
        let window = agreed_window(reliability, resuming.window);
        let resume = reliability.resume.as_millis() as u64;
        describe(welcome, window, resume, token);
        let resumption = Arc::new(Resumption::with_token(token));
        self.begin_reliable(Reliable::new(resumption, window, resume));
    }

    /// A client begins a reliable session as its server has agreed to. Returns why it cannot.
    pub(super) fn accept_reliability(&mut self, welcome: &Welcome) -> Result<(), CloseReason> {
        let hub = Arc::clone(self.shared.hub());
        let Some(reliability) = &hub.reliability else {
            return Ok(());
        };
        if !welcome.reliable {
            return match reliability.required {
                false => Ok(()),
                true => Err(CloseReason::with_code(
                    ErrorCode::NotSupported,
                    "the server has no reliable sessions",
                )),
            };
        }
        let (Some(session_id), Some(resume_token)) = (&welcome.session_id, &welcome.resume_token)
        else {
            let text = "welcome names no session_id or resume_token for a reliable session";
            return Err(CloseReason::with_code(ErrorCode::InvalidFrame, text));
        };
        let window = agreed_window(reliability, welcome.window.unwrap_or(DEFAULT_WINDOW));
        let most = Reliability::LONGEST.as_millis() as u64;
        let resume = welcome.resume_ms.unwrap_or(30_000).min(most);
        let mut reliable = Reliable::new(Arc::default(), window, resume);
        reliable.remote = Some((session_id.clone(), resume_token.clone()));
        self.begin_reliable(reliable);
        Ok(())
    }

    fn begin_reliable(&mut self, reliable: Reliable) {
        let _ = self
            .shared
            .extra()
            .resumption
            .set(Arc::clone(&reliable.shared));
        self.reliable = Some(Box::new(reliable));
        self.collect_for_replay();
    }

    /// Frames that are not sent as MSGI are kept as values.
    pub(super) fn collect_for_replay(&self) {
        if self.reliable.is_some() && self.shared.collecting() != Framing::Msgi {
            self.shared.collect_values();
        }
    }
}

fn agreed_window(own: &Reliability, other: u64) -> usize {
    usize::try_from(other).map_or(own.window, |other| own.window.min(other.max(1)))
}

/// What welcome says about a reliable session.
fn describe(welcome: &mut Welcome, window: usize, resume_millis: u64, token: ResumeToken) {
    welcome.reliable = true;
    welcome.window = Some(window as u64);
    welcome.resume_ms = Some(resume_millis);
    welcome.resume_token = Some(token.to_text());
    welcome.received = Some(0);
}

// Sending

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
                reliable.replaying.is_some()
                    || (self.shared.has_queued() && reliable.room().has_any())
            }
        }
    }

    /// Keeps what a handler has collected, and puts before it what has to be sent again.
    pub(super) fn keep_collected(&mut self, output: &mut Output, turn: &mut TurnContext<'_>) {
        if self.shared.collecting() == Framing::Msgi {
            self.keep_sent(output);
        } else {
            self.stage(output, &mut turn.buffers.stages);
        }
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
        let Some(first) = reliable.replaying else {
            return;
        };
        let mut frames = std::collections::VecDeque::new();
        let mut left = REPLAY_CHUNK.saturating_sub(output.remaining());
        let next = reliable.replay.visit_from(first, |kept| {
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
        reliable.replaying = (next < reliable.replay.sent()).then_some(next);
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
        let Some(reliable) = &mut self.reliable else {
            return;
        };
        if let Some(received) = reliable.ack(handled, turn.now) {
            push_ack_frame(&self.shared, output, received);
        } else if let Some(due) = reliable.next_ack(handled, turn.now) {
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
            push_ack_frame(&self.shared, output, received);
        }
    }

    /// Whether the other side has not acknowledged everything.
    pub(super) fn awaits_acks(&self) -> bool {
        let reliable = self.reliable.as_ref();
        reliable.is_some_and(|reliable| !reliable.replay.is_empty())
    }

    /// The other side says how much it has handled.
    pub(super) fn on_ack(&mut self, received: u64, now: u64) {
        let Some(reliable) = &mut self.reliable else {
            return;
        };
        if received > reliable.replay.sent() {
            self.read_ended = true;
            let text = "more was acknowledged than was sent";
            return self.fail(ErrorCode::InvalidSession, text.into(), now);
        }
        if received > reliable.replay.acknowledged() {
            reliable.replay.free(received);
            reliable.publish();
            if let Some(next) = &mut reliable.replaying {
                *next = (*next).max(received);
                if *next >= reliable.replay.sent() {
                    reliable.replaying = None;
                }
            }
        }
    }
}

fn push_ack_frame(shared: &Shared, output: &mut Output, received: u64) {
    let payload = Control::Ack { received }.to_bytes();
    output.push(shared.collecting(), FrameType::CONTROL, false, 0, payload);
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

    /// Frames that a stage has refused have arrived, and are done with.
    pub(super) fn count_refused(&mut self) {
        if let Some(reliable) = &mut self.reliable {
            let refused = std::mem::take(&mut reliable.refused);
            reliable.arrivals.arrive_done(refused, 0);
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
    /// handler works, as acknowledgements must not wait behind messages; it holds at most the window.
    #[inline]
    pub(super) fn is_held_full(&self) -> bool {
        match &self.reliable {
            None => self.backlog_bytes >= HELD_LIMIT,
            Some(reliable) => reliable.is_full(HELD_LIMIT),
        }
    }
}

// Without a link

impl Driver {
    /// The link is lost: a reliable session waits for another one. False when the session ends instead.
    pub(super) fn suspend(&mut self, reason: &CloseReason, now: u64) -> bool {
        if !matches!(self.phase, Phase::Open) || self.farewell || self.reliable.is_none() {
            return false;
        }
        self.detach_link();
        let Some(reliable) = &self.reliable else {
            return false;
        };
        let hub = Arc::clone(self.shared.hub());
        if let Some((session_id, resume_token)) = &reliable.remote {
            reliable.shared.set_ticket(Some(Ticket {
                session_id: session_id.clone(),
                resume_token: resume_token.clone(),
                received: reliable.arrivals.decoded(),
            }));
        }
        let deadline = now.saturating_add(reliable.resume_millis);
        let place = hub.suspend(&self.session());
        self.phase = Phase::Suspended(Box::new(Suspended {
            reason: reason.clone(),
            deadline,
            place,
        }));
        events::session_suspended {
            session: self.shared.id().as_u64(),
            reason: shown(reason.text()),
        }
        .emit();
        let text = format_args!("{}", reason.text());
        self.note(EventLevel::Info, "session_suspended", reason.code(), text);
        self.set_state(State::Suspended);
        self.shared.schedule();
        true
    }

    /// Whether nothing can be written any more, and nothing is left to be read.
    pub(super) fn is_lost(&self) -> bool {
        self.write_failed && self.reliable.is_some() && matches!(self.phase, Phase::Open)
    }

    pub(super) fn suspend_lost(&mut self, now: u64) {
        let text = "the connection broke while something was written";
        let reason = CloseReason::transport(ErrorCode::ConnectionClosed, text);
        if !self.suspend(&reason, now) {
            // The peer has said farewell, which waits for the handler.
            self.on_peer_gone(reason, now);
        }
    }

    /// Lets the link go. What it has not taken stays with the session.
    fn detach_link(&mut self) {
        if let Some(mut output) = self.output.take()
            && !self.blocked
        {
            self.keep_unsent(&mut output);
        }
        self.link = None;
        self.permit = None;
        self.blocked = false;
        self.held_at = 0;
        self.urgent = None;
        self.ping_sent = 0;
        self.staging = None;
        self.greeted = None;
        self.resuming = None;
        self.write_failed = false;
        self.welcome_queued = false;
        self.congested = false;
        self.liveness.mid_frame = 0;
        self.shared.forget_control();
        if let Some(reliable) = &mut self.reliable {
            reliable.replaying = None;
        }
    }

    /// The session is not waited for any more.
    pub(super) fn on_expire(&mut self, now: u64) {
        if let Phase::Suspended(suspended) = &self.phase {
            let known = self.shared.resumption().and_then(|known| known.expired());
            let reason = known.unwrap_or_else(|| {
                let text = format!("not resumed in time; {}", suspended.reason.text());
                CloseReason::with_code(ErrorCode::SessionExpired, text)
            });
            let totals = &self.shared.hub().recorder.totals;
            totals.expired.fetch_add(1, Ordering::Relaxed);
            self.end_without_link(reason, now);
        }
    }

    /// A session without a link has left the list of those.
    pub(super) fn leave_suspended(&mut self) {
        if let Phase::Suspended(suspended) = &self.phase {
            self.shared.hub().unsuspend(suspended.place);
        }
    }

    /// The session is over: what of it was not acknowledged can be asked for from now on. Returns how much of it
    /// was never sent.
    pub(super) fn report_rest(&mut self) -> usize {
        if let Some(mut output) = self.output.take()
            && !self.blocked
        {
            self.keep_unsent(&mut output);
            output.reset(OUTPUT_KEEP);
        }
        let Some(reliable) = self.reliable.take() else {
            return 0;
        };
        let mut unsent = reliable.shared.take_unsent();
        unsent.extend(self.shared.take_queued_messages());
        let rest = Rest {
            sent: reliable.replay.messages(),
            unsent,
        };
        let totals = &self.shared.hub().recorder.totals;
        let unknown = rest.sent.len() as u64;
        totals.unacknowledged.fetch_add(unknown, Ordering::Relaxed);
        let lost = rest.unsent.len();
        reliable.shared.set_rest(rest);
        reliable.shared.set_ticket(None);
        lost
    }

    /// The peer ends the session, and acknowledges nothing more: a client keeps what it has not sent for its next
    /// session.
    pub(super) fn keep_for_next_session(&mut self) {
        if let Some(reliable) = &self.reliable
            && self.shared.hub().role == Role::Client
        {
            let messages = self.shared.take_queued_messages();
            reliable.shared.set_rest(Rest {
                sent: Vec::new(),
                unsent: messages,
            });
        }
    }
}

// Handing over

impl Driver {
    /// Hands the link over to the session that the peer wants back.
    pub(super) fn hand_over(&mut self, arrived: Vec<Received>, turn: &mut TurnContext<'_>) {
        let Some(mut resuming) = self.resuming.take() else {
            return;
        };
        let wanted = resuming.wanted.take().unwrap_or_default();
        resuming.arrived = arrived;
        if resuming
            .arrived
            .iter()
            .any(|received| received.frames.has_any(is_application))
            && resuming.welcome.is_none()
        {
            self.read_ended = true;
            let text = "a message was sent before welcome has said which are missing";
            return self.fail_protocol(ProtocolError::invalid(text), turn.now);
        }
        let target = match &self.opened {
            Some(opened) => opened.resumes.clone(),
            None => self.find_session(&wanted),
        };
        let Some(target) = target else {
            let hub = self.shared.hub();
            let reason = match hub.may_refuse_resume(turn.now) {
                true => expired(),
                false => CloseReason::with_code(
                    ErrorCode::RateLimited,
                    "too many attempts to resume sessions that are not there",
                ),
            };
            let code = reason.code().unwrap_or(ErrorCode::SessionExpired);
            return self.refuse_hello(code, reason.text().to_owned(), turn.now);
        };
        let Some(link) = self.link.take() else { return };
        let link = match target.worker().place(link, self.shared.worker()) {
            Ok(link) => link,
            Err(error) => {
                let text = format!("the connection could not be moved: {error}");
                let reason = CloseReason::transport(ErrorCode::ConnectionFailed, text);
                return self.end_without_link(reason, turn.now);
            }
        };
        let handover = Handover {
            slot: target.slot(),
            session: target.id(),
            link,
            permit: self.permit.take(),
            transport: self.shared.transport(),
            remote: self.shared.remote(),
            local: self.shared.local(),
            established: self.shared.established(),
            identity: self.shared.identity(),
            greeted: self.greeted.take(),
            wanted,
            welcome: resuming.welcome.take(),
            opened: self.opened.take(),
            arrived: resuming.arrived,
        };
        target.worker().push_handover(Box::new(handover));
        // Whoever has a handle of this connection learns that it is over; nobody else has heard of it.
        let reason = CloseReason::with_code(ErrorCode::ConnectionClosed, "another session goes on");
        self.end_quietly(reason);
    }

    /// The session that a client may have back.
    fn find_session(&self, wanted: &Resume) -> Option<Arc<Shared>> {
        let id = wanted.session_id.parse().ok()?;
        let session = self.shared.hub().session(id)?;
        let is_right = session.shared.resumption()?.accepts(&wanted.resume_token)
            && session.shared.identity() == self.shared.identity();
        is_right.then_some(session.shared)
    }

    /// A client has its session back: the link goes there.
    pub(super) fn on_resumed_welcome(&mut self, welcome: &Welcome, payload: &[u8]) {
        let wanted = self
            .opened
            .as_ref()
            .and_then(|opened| opened.hello.resume.clone());
        self.resuming = Some(Box::new(Resuming {
            wanted,
            welcome: Some((Box::new(welcome.clone()), Bytes::copy_from_slice(payload))),
            is_ready: true,
            ..Resuming::default()
        }));
    }

    /// Goes on with another link, or says why not.
    pub(crate) fn resume(
        &mut self,
        handover: Box<Handover>,
        turn: &mut TurnContext<'_>,
    ) -> Result<(), (Box<Handover>, CloseReason)> {
        let checked = match &handover.welcome {
            None => self.check_resume(&handover),
            Some((welcome, _)) => self.check_counts(welcome.received.unwrap_or(0)),
        };
        if let Err(reason) = checked {
            if reason.code() == Some(ErrorCode::InvalidSession) {
                // The two sides do not know the same session.
                self.fail(
                    ErrorCode::InvalidSession,
                    reason.text().to_owned(),
                    turn.now,
                );
            }
            return Err((handover, reason));
        }
        let next = match handover.welcome {
            Some(_) => None,
            None => match ResumeToken::random() {
                Some(next) => Some(next),
                None => return Err((handover, expired())),
            },
        };
        let Handover {
            link,
            permit,
            transport,
            remote,
            local,
            established,
            greeted,
            wanted,
            welcome,
            opened,
            arrived,
            ..
        } = *handover;
        let arrived_link = match link {
            Placed::Here(link) => Ok(link),
            Placed::Moving(join) => join(),
        };
        let link = match arrived_link {
            Ok(link) => link,
            Err(error) => {
                let error = shown(error);
                events::connection_lost { error }.emit();
                return Ok(());
            }
        };
        // The old link may look alive: nothing more of it counts.
        self.detach_link();
        self.leave_suspended();
        let before = self.shared.transport();
        self.shared.set_transport(transport);
        self.shared.hub().recorder.totals.moved(before, transport);
        self.note_ends(established, remote, local);
        self.shared.set_framing(link.framing());
        *lock(&self.shared.extra().pipeline) = Arc::default();
        self.link = Some(link);
        self.permit = permit;
        self.greeted = greeted;
        self.read_ended = false;
        self.farewell = false;
        self.liveness.received = turn.now;
        self.liveness.sent = turn.now;
        self.written = turn.now;
        self.phase = Phase::Open;
        self.resuming = Some(Box::new(Resuming {
            arrived,
            ..Resuming::default()
        }));
        let (received, begun) = match (welcome, next) {
            (Some((welcome, payload)), _) => {
                let begun = self.go_on_as_client(&welcome, &payload);
                (welcome.received.unwrap_or(0), begun)
            }
            (None, Some(token)) => {
                if let Some(reliable) = &self.reliable {
                    reliable.shared.rotate(&wanted.resume_token, token);
                }
                (wanted.received, self.go_on_as_server(token))
            }
            (None, None) => return Ok(()),
        };
        if let Err(text) = begun {
            self.read_ended = true;
            self.fail(ErrorCode::PipelineFailed, text.into(), turn.now);
            return Ok(());
        }
        self.collect_for_replay();
        if let Some(reliable) = &mut self.reliable {
            reliable.is_fresh = true;
            reliable.shared.set_ticket(None);
            reliable.shared.note_resumed();
            reliable.replaying = (received < reliable.replay.sent()).then_some(received);
        }
        self.note_resumed();
        if let Some(opened) = opened {
            // Whoever made the attempt may have given up in this very moment, and finds the session again.
            let _ = opened.result.send(Ok(self.session()));
        }
        self.shared.schedule();
        Ok(())
    }

    fn note_resumed(&self) {
        let session = self.session();
        let totals = &self.shared.hub().recorder.totals;
        totals.resumed.fetch_add(1, Ordering::Relaxed);
        events::session_resumed {
            session: session.id().as_u64(),
            transport: session.transport().scheme(),
        }
        .emit();
        let text = format_args!("{}", session.transport());
        self.note(EventLevel::Info, "session_resumed", None, text);
        self.set_state(State::Connected);
    }

    fn note_ends(
        &self,
        established: Option<Arc<Established>>,
        remote: Option<SocketAddr>,
        local: Option<SocketAddr>,
    ) {
        let mut known = established.map_or_else(Established::default, |known| (*known).clone());
        (known.remote, known.local) = (remote, local);
        *lock(&self.shared.extra().established) = Some(Arc::new(known));
    }

    fn check_resume(&self, handover: &Handover) -> Result<(), CloseReason> {
        let is_here = matches!(self.phase, Phase::Open | Phase::Suspended(_));
        let Some(reliable) = self.reliable.as_ref().filter(|_| is_here && !self.draining) else {
            return Err(expired());
        };
        if !reliable.shared.accepts(&handover.wanted.resume_token)
            || handover.identity != self.shared.identity()
        {
            return Err(expired());
        }
        self.check_counts(handover.wanted.received)
    }

    /// Judges what the other side says that it has.
    fn check_counts(&self, received: u64) -> Result<(), CloseReason> {
        let is_here = matches!(self.phase, Phase::Open | Phase::Suspended(_));
        let Some(reliable) = self.reliable.as_ref().filter(|_| is_here) else {
            return Err(expired());
        };
        if received > reliable.replay.sent() {
            let text = "the other side claims to have more than was sent";
            return Err(CloseReason::with_code(ErrorCode::InvalidSession, text));
        }
        if received < reliable.replay.acknowledged() {
            return Err(expired());
        }
        Ok(())
    }

    fn go_on_as_server(
        &mut self,
        token: ResumeToken,
    ) -> Result<(), std::borrow::Cow<'static, str>> {
        let hub = Arc::clone(self.shared.hub());
        let heartbeat = hub.timeouts.heartbeat.as_millis() as u64;
        let mut welcome = Welcome {
            version: VERSION,
            session_id: Some(self.shared.id().to_string()),
            heartbeat_ms: (heartbeat > 0).then_some(heartbeat),
            message_limit: Some(hub.limits.message_size as u64),
            resumed: true,
            ..Welcome::default()
        };
        if let Some(reliable) = &self.reliable {
            describe(
                &mut welcome,
                reliable.window(),
                reliable.resume_millis,
                token,
            );
            welcome.received = Some(reliable.arrivals.decoded());
        }
        self.agree_pipeline(&mut welcome);
        let payload = Control::Welcome(Box::new(welcome.clone())).to_bytes();
        let agreed = self
            .greeted
            .as_mut()
            .map(|known| std::mem::take(&mut known.agreed));
        self.begin_agreed(agreed.unwrap_or_default(), &welcome, &payload)?;
        self.say_first(&payload);
        Ok(())
    }

    fn go_on_as_client(
        &mut self,
        welcome: &Welcome,
        payload: &[u8],
    ) -> Result<(), std::borrow::Cow<'static, str>> {
        if let Some(limit) = welcome.message_limit {
            self.shared.lower_message_limit(limit);
        }
        if let Some(pipeline) = self.shared.hub().pipeline.clone() {
            let agreed = pipeline.accept(&welcome.pipeline)?;
            self.begin_agreed(agreed, welcome, payload)?;
        }
        let handled = self.handled();
        if let Some(reliable) = &mut self.reliable {
            reliable.remote = welcome.session_id.clone().zip(welcome.resume_token.clone());
            let received = reliable.acknowledge(handled);
            self.say_first(&Control::Ack { received }.to_bytes());
        }
        // What the server has said about groups on the old link may not have arrived.
        for (join, group) in lock(&self.shared.extra().group_changes).unanswered() {
            self.push_control(&match join {
                true => Control::Join { group },
                false => Control::Leave { group },
            });
        }
        Ok(())
    }

    /// The first frame on a new link, before everything that waits.
    fn say_first(&mut self, payload: &Bytes) {
        let frame = control_frame(payload);
        let mut output = Box::<Output>::default();
        output.push_frame(self.shared.framing(), frame);
        self.output = Some(output);
    }

    /// What has arrived on the link before it was handed over.
    pub(super) fn take_arrived(&mut self) -> Option<Received> {
        let resuming = self.resuming.as_mut()?;
        if resuming.arrived.is_empty() {
            self.resuming = None;
            return None;
        }
        Some(resuming.arrived.remove(0))
    }

    /// A connection that nobody has heard of is over.
    fn end_quietly(&mut self, reason: CloseReason) {
        self.phase = Phase::Ended;
        self.read_ended = true;
        self.backlog.clear();
        self.backlog_bytes = 0;
        self.finished = true;
        self.shared.abandon_outbox();
        let _ = self.shared.extra().closed.set(reason);
        self.set_state(State::Disconnected);
    }

    /// Ends a session whose link is gone.
    pub(super) fn end_without_link(&mut self, reason: CloseReason, now: u64) {
        self.end_for(reason, now);
    }
}

/// Frames on their way with a link.
pub(super) fn carried(mut frames: Inbound, then: Then) -> Received {
    frames.detach();
    Received {
        frames,
        bytes: 0,
        then,
    }
}
