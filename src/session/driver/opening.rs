//! From the first frame to an open session: hello, authentication, welcome; and CONTROL later on.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::oneshot;
use tracing::field::display;

use super::handover::carried;
use super::lane::Running;
use super::{Driver, Phase, TurnContext, shielded};
use crate::codec::control::{Control, Hello, Welcome};
use crate::codec::{FrameType, ProtocolError};
use crate::error::{CloseReason, ConnectError, ErrorCode, RequestError};
use crate::events;
use crate::handler::{Authentication, Purpose};
use crate::metrics::{EventLevel, Role};
use crate::session::inbound::Inbound;
use crate::session::link::Then;
use crate::session::output::Frame;
use crate::session::shared::{Shared, lock, signal};
use crate::session::{Session, State};

/// The version of the protocol that this side speaks.
pub(crate) const VERSION: u32 = 1;

/// Where a client's connection attempt learns how it went.
pub(crate) struct Opened {
    pub(crate) result: oneshot::Sender<Result<Session, ConnectError>>,
    pub(crate) hello: Hello,
    /// The session that is to go on, if it is not a new one.
    pub(crate) resumes: Option<Arc<Shared>>,
}

impl Driver {
    /// Lets the link do what has to happen before frames can flow, and begins the session after that.
    #[cold]
    pub(super) fn open_link(&mut self, context: &mut Context<'_>, turn: &mut TurnContext<'_>) {
        let (Phase::Connecting(established), Some(link)) = (&mut self.phase, &mut self.link) else {
            return;
        };
        let opened = link.poll_open(context, turn.buffers, established);
        // A connection counts among those of its address as soon as that is known, not only when it is open:
        // otherwise one address could take all places with handshakes that it does not finish.
        let located = match (established.remote, &mut self.permit) {
            (Some(remote), Some(permit)) => permit.locate(remote.ip()),
            _ => Ok(()),
        };
        match opened {
            Poll::Pending => {
                if let Err(reason) = located {
                    self.refuse_located(reason, turn.now);
                }
            }
            Poll::Ready(Err(error)) => self.on_open_failed(error, turn.now),
            Poll::Ready(Ok(())) => {
                self.shared.set_framing(link.framing());
                let mut established = std::mem::take(established);
                self.phase = Phase::Opening;
                if let Err(reason) = located {
                    return self.refuse_located(reason, turn.now);
                }
                self.remember_upgrade(established.upgrade.take());
                if let Some(identity) = established.identity.take() {
                    self.shared.set_identity(Some(&identity));
                }
                if !established.data.is_empty() {
                    lock(&self.shared.extra().data).extend(established.data.drain(..));
                }
                if let Some(limit) = established.message_limit {
                    self.shared.lower_message_limit(limit as u64);
                }
                // Stages lengthen messages, which then may not fit the link any more.
                let is_narrow =
                    established.message_limit.is_some() && self.shared.hub().pipeline.is_some();
                if !established.is_empty() || is_narrow {
                    *lock(&self.shared.extra().established) = Some(Arc::from(established));
                }
                self.liveness.received = turn.now;
                self.begin(turn);
            }
        }
    }

    /// There are too many connections from the address that the opening has found out.
    fn refuse_located(&mut self, reason: CloseReason, now: u64) {
        let totals = &self.shared.hub().recorder.totals;
        totals.refused.fetch_add(1, Ordering::Relaxed);
        totals.error(reason.code().unwrap_or(ErrorCode::TooManyConnections));
        self.refuse(reason, now);
    }

    /// The session begins. Links without hello open at once.
    pub(crate) fn begin(&mut self, turn: &mut TurnContext<'_>) {
        if matches!(self.phase, Phase::Connecting(_)) {
            return;
        }
        if !self.shared.framing().has_hello() {
            self.in_span(|driver| match driver.begin_without_hello() {
                Ok(()) => driver.open(turn.now),
                Err(text) => driver.fail(ErrorCode::PipelineFailed, text.into(), turn.now),
            });
        } else if let Some(opened) = &self.opened {
            let mut hello = opened.hello.clone();
            self.offer_pipeline(&mut hello);
            self.offer_reliability(&mut hello);
            let nonce = hello.nonce;
            let mut payload = Control::Hello(Box::new(hello)).to_bytes();
            let least = self.link.as_ref().map_or(0, |link| link.least_hello());
            if payload.len() < least {
                let spaces = vec![b' '; least - payload.len()];
                payload = [&payload[..], &spaces].concat().into();
            }
            self.shared.push_protocol_frame(control_frame(&payload));
            self.remember_hello(payload, nonce);
        }
    }

    /// Queues a CONTROL frame.
    pub(super) fn push_control(&self, control: &Control) {
        let frame = control_frame(&control.to_bytes());
        self.shared.push_protocol_frame(frame);
    }

    /// What arrives before the session is open.
    #[cold]
    pub(super) fn on_opening_frames(&mut self, frames: &mut Inbound, turn: &mut TurnContext<'_>) {
        match self.shared.hub().role {
            Role::Server => self.on_first_frame(frames, turn),
            // Without stages, welcome is dealt with like every frame that is not for the handler. What came
            // in its place is judged after that.
            Role::Client
                if self.shared.hub().pipeline.is_none()
                    && self.shared.hub().reliability.is_none() => {}
            Role::Client => self.take_welcome(frames, turn),
        }
    }

    /// The first frame opens the session, whatever its type; a hello is answered with welcome first.
    fn on_first_frame(&mut self, frames: &mut Inbound, turn: &mut TurnContext<'_>) {
        let hub = Arc::clone(self.shared.hub());
        let Some((span, payload)) = frames.first() else {
            return;
        };
        match span.frame_type {
            FrameType::CONTROL => match Control::parse(payload) {
                Ok(Control::Hello(hello)) => {
                    let payload = match hub.pipeline {
                        Some(_) => Bytes::copy_from_slice(payload),
                        None => Bytes::new(),
                    };
                    frames.skip_one();
                    self.on_hello(*hello, &payload, turn);
                    if self.has_early_messages(frames) {
                        *frames = Inbound::default();
                        self.refuse_early_messages(turn.now);
                    }
                    return;
                }
                Ok(_) => {}
                Err(error) => {
                    self.read_ended = true;
                    self.fail_protocol(ProtocolError::invalid(error.to_string()), turn.now);
                    *frames = Inbound::default();
                    return;
                }
            },
            FrameType::DISCONNECT | FrameType::ERROR => {
                // Nothing was opened that the application should hear of.
                self.phase = Phase::Open;
                return;
            }
            _ => {}
        }
        if hub.authenticator.is_some() {
            self.read_ended = true;
            *frames = Inbound::default();
            let text = "this server wants hello first";
            self.fail(ErrorCode::AuthenticationFailed, text.into(), turn.now);
            return;
        }
        if let Err(text) = self.begin_without_hello() {
            self.read_ended = true;
            *frames = Inbound::default();
            self.fail(ErrorCode::PipelineFailed, text.into(), turn.now);
            return;
        }
        self.open(turn.now);
    }

    /// A client that offers stages or a reliable session sends no messages before it knows what was agreed on.
    fn refuse_early_messages(&mut self, now: u64) {
        self.read_ended = true;
        let text =
            "a message was sent before welcome has said how messages are encoded and counted";
        self.fail_protocol(ProtocolError::invalid(text), now);
    }

    /// What a client received that was not dealt with on arrival, while there is no welcome: only an
    /// ERROR or a DISCONNECT may stand in its place.
    pub(super) fn on_no_welcome(&mut self, frames: &mut Inbound, turn: &mut TurnContext<'_>) {
        let Some(span) = frames.peek() else { return };
        match span.frame_type {
            // Nothing was opened that the application should hear of; the lane takes the frame.
            FrameType::ERROR | FrameType::DISCONNECT => self.phase = Phase::Open,
            _ => {
                self.read_ended = true;
                let text = "the server did not answer hello with welcome";
                self.fail_protocol(ProtocolError::invalid(text), turn.now);
                *frames = Inbound::default();
            }
        }
    }

    /// Gives a client's attempt up when nobody waits for it any more.
    #[cold]
    pub(super) fn watch_attempt(&mut self, context: &mut Context<'_>, now: u64) {
        let Some(opened) = &mut self.opened else {
            return;
        };
        if opened.result.poll_closed(context).is_ready() {
            let text = "the attempt to connect was given up";
            self.abort(
                CloseReason::with_code(ErrorCode::ConnectionTimeout, text),
                now,
            );
        }
    }

    fn on_hello(&mut self, mut hello: Hello, payload: &Bytes, turn: &mut TurnContext<'_>) {
        if hello.version == 0 {
            let text = "version 0 is not spoken here, the lowest is 1";
            return self.refuse_hello(ErrorCode::UnsupportedVersion, text.into(), turn.now);
        }
        if let Err(reason) = self.remember_resume(&mut hello) {
            let text = reason.text().to_owned();
            return self.refuse_hello(ErrorCode::SessionExpired, text, turn.now);
        }
        if let Err(text) = self.choose_pipeline(&hello, payload) {
            return self.refuse_hello(ErrorCode::PipelineFailed, text.into(), turn.now);
        }
        if let Some(client_id) = hello.client_id.clone().filter(|id| !id.is_empty()) {
            let _ = self.shared.extra().client_id.set(client_id);
        }
        let purpose = match self.is_resume() {
            true => Purpose::Resume,
            false => Purpose::Open,
        };
        if self.authenticate(&mut hello, purpose) {
            return;
        }
        if !self.wants_resume() && self.welcome(turn.now) {
            self.open(turn.now);
        }
    }

    pub(super) fn refuse_hello(&mut self, code: ErrorCode, text: String, now: u64) {
        self.read_ended = true;
        events::hello_refused {
            session: self.shared.id().as_u64(),
            code: code.as_i32(),
        }
        .emit();
        self.fail(code, text, now);
    }

    pub(super) fn on_authenticated(
        &mut self,
        result: Result<Authentication, RequestError>,
        turn: &mut TurnContext<'_>,
    ) {
        if !matches!(self.phase, Phase::Greeting) {
            // The connection ended meanwhile.
            return;
        }
        match result.and_then(|granted| self.grant(granted)) {
            Ok(()) => {
                let session = self.shared.id().as_u64();
                events::authenticated { session }.emit();
                let mut held = std::mem::take(&mut self.backlog);
                self.backlog_bytes = 0;
                if self.wants_resume() {
                    let held = held.into_iter();
                    let arrived = held.map(|frames| carried(frames, Then::More)).collect();
                    return self.hand_over(arrived, turn);
                }
                if !self.welcome(turn.now) {
                    return;
                }
                self.open(turn.now);
                for mut frames in held.drain(..) {
                    if self.has_early_messages(&frames) {
                        return self.refuse_early_messages(turn.now);
                    }
                    frames = self.observe(frames, turn);
                    self.take_urgent(&mut frames, turn);
                    self.hold(frames);
                }
            }
            Err(error) => {
                self.read_ended = true;
                self.backlog.clear();
                self.backlog_bytes = 0;
                // Whatever the hook's code, the peer learns that it was not let in.
                let code = match error.code() {
                    ErrorCode::RequestFailed => ErrorCode::AuthenticationFailed,
                    code => code,
                };
                events::authentication_failed {
                    session: self.shared.id().as_u64(),
                    code: code.as_i32(),
                }
                .emit();
                // The text is the application's, and may repeat what it was sent.
                let text = format_args!("not let in");
                self.note(
                    EventLevel::Warning,
                    "authentication_failed",
                    Some(code),
                    text,
                );
                self.fail(code, error.to_string(), turn.now);
            }
        }
    }

    /// Answers hello. False when that cannot be, and the session ends instead.
    fn welcome(&mut self, now: u64) -> bool {
        let hub = Arc::clone(self.shared.hub());
        let heartbeat = hub.timeouts.heartbeat.as_millis() as u64;
        let mut welcome = Welcome {
            version: VERSION,
            session_id: Some(self.shared.id().to_string()),
            heartbeat_ms: (heartbeat > 0).then_some(heartbeat),
            message_limit: Some(hub.limits.message_size as u64),
            expires_ms: self.shared.expires_in(),
            ..Welcome::default()
        };
        self.agree_pipeline(&mut welcome);
        self.agree_reliability(&mut welcome);
        let payload = Control::Welcome(Box::new(welcome.clone())).to_bytes();
        let agreed = self
            .greeted
            .as_mut()
            .map(|known| std::mem::take(&mut known.agreed));
        if let Err(text) = self.begin_agreed(agreed.unwrap_or_default(), &welcome, &payload) {
            self.read_ended = true;
            self.fail(ErrorCode::PipelineFailed, text.into(), now);
            return false;
        }
        self.collect_for_replay();
        self.welcome_queued = true;
        // The authenticator may have sent something already.
        self.shared.push_first(control_frame(&payload));
        true
    }

    /// The session is open: the connect handler runs, then what was received.
    pub(super) fn open(&mut self, now: u64) {
        if self
            .opened
            .as_ref()
            .is_some_and(|opened| opened.result.is_closed())
        {
            // Nobody waits for the session, so nobody could end it. `watch_attempt` gives it up.
            self.shared.schedule();
            return;
        }
        self.phase = Phase::Open;
        self.liveness.open = true;
        self.liveness.received = now;
        self.was_open = true;
        let session = self.session();
        self.shared.hub().session_opened(&session);
        self.set_state(State::Connected);
        events::session_opened {
            session: session.id().as_u64(),
            side: self.shared.hub().role.name(),
            transport: session.transport().scheme(),
            peer: session.remote_addr().map(display),
        }
        .emit();
        let transport = session.transport();
        let opened = |text: fmt::Arguments<'_>| {
            self.note(EventLevel::Info, "session_opened", None, text);
        };
        match session.remote_addr() {
            Some(peer) => opened(format_args!("{transport} from {peer}")),
            None => opened(format_args!("{transport}")),
        }
        let service = self.service();
        if service.wants().connect {
            match shielded(|| service.connect(session.clone())) {
                Some(future) => self.running = Some(Running::Connect(future)),
                None => self.on_panic(now),
            }
        }
        if let Some(opened) = self.opened.take()
            && opened.result.send(Ok(session)).is_err()
        {
            self.shared.signal(signal::ABORT);
        }
    }

    pub(super) fn on_control_frame(
        &mut self,
        control: Control,
        payload: &[u8],
        turn: &mut TurnContext<'_>,
    ) {
        let hub = Arc::clone(self.shared.hub());
        match (control, &hub.role) {
            (Control::Hello(_), _) => {
                self.read_ended = true;
                let text = "hello is only allowed as the first frame of a client";
                self.fail_protocol(ProtocolError::invalid(text), turn.now);
            }
            (Control::Welcome(welcome), Role::Client) if matches!(self.phase, Phase::Opening) => {
                self.on_welcome(&welcome, payload, turn);
            }
            (Control::Ack { received }, _) => self.on_ack(received, turn.now),
            (Control::Join { group }, Role::Server) => {
                self.on_group_change(true, group, turn.now);
            }
            (Control::Leave { group }, Role::Server) => {
                self.on_group_change(false, group, turn.now);
            }
            (Control::Refresh(refresh), Role::Server) => self.on_refresh(*refresh, turn.now),
            (Control::Refreshed { id, expires_ms }, Role::Client) => {
                self.set_expires_in(expires_ms, turn.now);
                self.shared.complete_refresh(id, Ok(()));
            }
            (Control::RefreshRefused { id, code, text }, Role::Client) => {
                let code = ErrorCode::from_i32(code).unwrap_or(ErrorCode::RequestFailed);
                let error = RequestError::with_code(code, text);
                self.shared.complete_refresh(id, Err(error));
            }
            // Without a hint the client's own back-off decides.
            (
                Control::Goaway {
                    retry_ms: Some(retry),
                },
                Role::Client,
            ) => {
                hub.set_goaway(Some(retry));
                hub.goaway_heard.notify_waiters();
            }
            (Control::Joined { group }, Role::Client) => {
                self.complete_group_change(Some(true), &group, Ok(()));
            }
            (Control::Left { group }, Role::Client) => {
                self.complete_group_change(Some(false), &group, Ok(()));
            }
            (Control::Refused { group, code, text }, Role::Client) => {
                let code = ErrorCode::from_i32(code).unwrap_or(ErrorCode::RequestFailed);
                self.complete_group_change(None, &group, Err(RequestError::with_code(code, text)));
            }
            // What this side does not know or expect is ignored (protocol section 2).
            _ => {}
        }
    }

    /// The server has answered a join or leave of this client; nobody may wait for it any more.
    fn complete_group_change(
        &self,
        join: Option<bool>,
        group: &str,
        answer: Result<(), RequestError>,
    ) {
        if let Some(extra) = self.shared.extra_if_any() {
            lock(&extra.group_changes).complete(join, group, answer);
        }
    }

    fn on_welcome(&mut self, welcome: &Welcome, payload: &[u8], turn: &mut TurnContext<'_>) {
        if welcome.version != VERSION {
            let text = format!(
                "the server chose version {}, not {VERSION}",
                welcome.version
            );
            self.read_ended = true;
            self.fail(ErrorCode::UnsupportedVersion, text, turn.now);
            return;
        }
        let hub = Arc::clone(self.shared.hub());
        let pipeline = &hub.pipeline;
        let opened = self.opened.as_ref();
        let resumes = opened.is_some_and(|opened| opened.resumes.is_some());
        if (pipeline.is_none() && !welcome.pipeline.is_empty())
            || (welcome.reliable && self.shared.hub().reliability.is_none())
            || (welcome.resumed && !resumes)
        {
            let text = "the server agreed to what was not offered";
            self.read_ended = true;
            self.fail_protocol(ProtocolError::invalid(text), turn.now);
            return;
        }
        if resumes {
            return match welcome.resumed && welcome.reliable {
                true => self.on_resumed_welcome(welcome, payload),
                false => {
                    self.read_ended = true;
                    let text = "the server did not resume the session";
                    self.fail(ErrorCode::SessionExpired, text.into(), turn.now);
                }
            };
        }
        if welcome.reliable && welcome.received.is_some_and(|received| received > 0) {
            self.read_ended = true;
            let text = "the other side claims to have more than was sent";
            return self.fail(ErrorCode::InvalidSession, text.into(), turn.now);
        }
        if let Some(limit) = welcome.message_limit {
            self.shared.lower_message_limit(limit);
        }
        if let Err(reason) = self.accept_reliability(welcome) {
            self.read_ended = true;
            let code = reason.code().unwrap_or(ErrorCode::InvalidFrame);
            return self.fail(code, reason.text().to_owned(), turn.now);
        }
        self.set_expires_in(welcome.expires_ms, turn.now);
        let begun = match pipeline
            .as_ref()
            .map(|known| known.accept(&welcome.pipeline))
        {
            Some(Ok(agreed)) => self.begin_agreed(agreed, welcome, payload),
            Some(Err(text)) => Err(text),
            None => Ok(()),
        };
        self.collect_for_replay();
        if let Err(text) = begun {
            self.read_ended = true;
            self.fail(ErrorCode::PipelineFailed, text.into(), turn.now);
            return;
        }
        if self.shared.transport().is_lossy() {
            // An address that has not answered is sent little, and the server may have much to say.
            let answer = Frame::new(FrameType::HEARTBEAT, false, 0, Bytes::new());
            self.shared.push_protocol_frame(answer);
        }
        self.open(turn.now);
    }
}

pub(super) fn control_frame(payload: &Bytes) -> Frame {
    Frame::new(FrameType::CONTROL, false, 0, payload.clone())
}
