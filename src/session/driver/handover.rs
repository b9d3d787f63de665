//! A link for a session that has lost its own (protocol section 4).
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

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::opening::{Opened, VERSION, control_frame};
use super::resume::{Resuming, describe};
use super::staging::Greeted;
use super::{Driver, Phase, TurnContext};
use crate::codec::ProtocolError;
use crate::codec::control::{Control, Resume, Welcome};
use crate::error::{CloseReason, ConnectError, ErrorCode};
use crate::events::{self, shown};
use crate::metrics::EventLevel;
use crate::session::identity::Granted;
use crate::session::inbound::Inbound;
use crate::session::link::{Established, Received, Then};
use crate::session::output::Output;
use crate::session::reliable::resumption::ResumeToken;
use crate::session::reliable::{Claim, is_application};
use crate::session::shared::{Shared, lock};
use crate::session::{SessionId, State, Transport};
use crate::worker::{Place, Placed};

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
    granted: Granted,
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
pub(super) fn expired() -> CloseReason {
    CloseReason::with_code(ErrorCode::SessionExpired, "there is no session to resume")
}

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
            let reason = self.shared.hub().refuse_resume(expired(), turn.now);
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
            granted: self.shared.granted(),
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
            && session.shared.has_identity_of(&self.shared.granted());
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
            granted,
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
        self.forget_address();
        self.shared.set_framing(link.framing());
        *lock(&self.shared.extra().pipeline) = Arc::default();
        self.link = Some(link);
        self.permit = permit;
        self.greeted = greeted;
        self.read_ended = false;
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
                self.set_expires_in(welcome.expires_ms, turn.now);
                let begun = self.go_on_as_client(&welcome, &payload);
                (welcome.received.unwrap_or(0), begun)
            }
            (None, Some(token)) => {
                self.shared.take_over(granted);
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
            reliable.begin_replay(received);
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

    /// Whether the session can have another link. Not when its peer has said its last word, although that may wait
    /// for a handler behind what came before.
    fn is_kept(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Suspended(_)) && !self.farewell
    }

    fn check_resume(&self, handover: &Handover) -> Result<(), CloseReason> {
        let is_kept = self.is_kept() && !self.draining;
        let Some(reliable) = self.reliable.as_ref().filter(|_| is_kept) else {
            return Err(expired());
        };
        if !reliable.shared.accepts(&handover.wanted.resume_token)
            || !self.shared.has_identity_of(&handover.granted)
        {
            return Err(expired());
        }
        self.check_counts(handover.wanted.received)
    }

    /// Judges what the other side says that it has.
    fn check_counts(&self, received: u64) -> Result<(), CloseReason> {
        let is_kept = self.is_kept();
        let Some(reliable) = self.reliable.as_ref().filter(|_| is_kept) else {
            return Err(expired());
        };
        match reliable.judge(received) {
            Claim::Fits => Ok(()),
            Claim::TooLittle => Err(expired()),
            Claim::TooMuch => {
                let text = "the other side claims to have more than was sent";
                Err(CloseReason::with_code(ErrorCode::InvalidSession, text))
            }
        }
    }

    fn go_on_as_server(&mut self, token: ResumeToken) -> Result<(), Cow<'static, str>> {
        let hub = Arc::clone(self.shared.hub());
        let heartbeat = hub.timeouts.heartbeat.as_millis() as u64;
        let mut welcome = Welcome {
            version: VERSION,
            session_id: Some(self.shared.id().to_string()),
            heartbeat_ms: (heartbeat > 0).then_some(heartbeat),
            message_limit: Some(hub.limits.message_size as u64),
            expires_ms: self.shared.expires_in(),
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
    ) -> Result<(), Cow<'static, str>> {
        if let Some(limit) = welcome.message_limit {
            self.shared.lower_message_limit(limit);
        }
        let now = self.shared.hub().clock.now();
        self.set_expires_in(welcome.expires_ms, now);
        if let Some(pipeline) = self.shared.hub().pipeline.clone() {
            let agreed = pipeline.accept(&welcome.pipeline)?;
            self.begin_agreed(agreed, welcome, payload)?;
        }
        let handled = self.handled();
        if let Some(reliable) = &mut self.reliable {
            if let Some((session_id, resume_token)) = &mut reliable.remote {
                // A server that names no other ones means those that the client has.
                if let Some(named) = &welcome.session_id {
                    session_id.clone_from(named);
                }
                if let Some(named) = &welcome.resume_token {
                    resume_token.clone_from(named);
                }
            }
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
