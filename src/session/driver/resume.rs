//! Reliable sessions: how they are agreed on, and what happens when their link is lost (protocol section 4).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::handover::expired;
use super::{Driver, OUTPUT_KEEP, Phase};
use crate::codec::Framing;
use crate::codec::control::{Hello, Resume, Welcome};
use crate::config::Reliability;
use crate::error::{CloseReason, ErrorCode};
use crate::events::{self, shown};
use crate::metrics::{EventLevel, Role};
use crate::session::State;
use crate::session::link::Received;
use crate::session::reliable::resumption::{Rest, ResumeToken, Resumption, Ticket};
use crate::session::reliable::{DEFAULT_WINDOW, Reliable};

/// What a connection and a reliable session have to do with each other, while one is being opened.
#[derive(Default)]
pub(super) struct Resuming {
    /// The window that the peer has named.
    pub(super) window: u64,
    /// The session that a client wants back.
    pub(super) wanted: Option<Resume>,
    /// The welcome that a client was given with it.
    pub(super) welcome: Option<(Box<Welcome>, Bytes)>,
    /// Whether the link is to be handed over.
    pub(super) is_ready: bool,
    /// What has arrived on the new link behind hello or welcome.
    pub(super) arrived: Vec<Received>,
}

/// A session without a link.
pub(super) struct Suspended {
    /// How its link was lost.
    reason: CloseReason,
    pub(super) deadline: u64,
    /// Its place among the sessions without a link.
    place: u64,
}

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

    /// Whether the peer asks for a session that it has had.
    pub(super) fn is_resume(&self) -> bool {
        let resuming = self.resuming.as_ref();
        resuming.is_some_and(|resuming| resuming.wanted.is_some())
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
pub(super) fn describe(
    welcome: &mut Welcome,
    window: usize,
    resume_millis: u64,
    token: ResumeToken,
) {
    welcome.reliable = true;
    welcome.window = Some(window as u64);
    welcome.resume_ms = Some(resume_millis);
    welcome.resume_token = Some(token.to_text());
    welcome.received = Some(0);
}

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
    pub(super) fn detach_link(&mut self) {
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
        self.forget_decisions();
        if let Some(reliable) = &mut self.reliable {
            reliable.lose_link();
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
            self.end_expired(reason, now);
        }
    }

    /// A session that has lost its link is given up.
    pub(super) fn end_expired(&mut self, reason: CloseReason, now: u64) {
        let totals = &self.shared.hub().recorder.totals;
        totals.expired.fetch_add(1, Ordering::Relaxed);
        self.end_without_link(reason, now);
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
        let is_carried = reliable.shared.has_next() && !self.draining && !self.is_left();
        let rest = Rest {
            sent: reliable.replay.messages(),
            unsent,
            is_carried,
        };
        let lost = if is_carried { 0 } else { rest.unsent.len() };
        self.given_back = (rest.sent.len() + lost) as u64;
        let totals = &self.shared.hub().recorder.totals;
        totals
            .unacknowledged
            .fetch_add(self.given_back, Ordering::Relaxed);
        reliable.shared.set_rest(rest);
        reliable.shared.set_ticket(None);
        lost
    }

    /// Whether the application on this side ends the session. The queue's own policy asks in the same way.
    fn is_left(&self) -> bool {
        self.shared
            .extra_if_any()
            .and_then(|extra| extra.close_request.get())
            .is_some_and(|reason| reason.code() != Some(ErrorCode::SlowConsumer))
    }

    /// The peer ends the session, and acknowledges nothing more: a client keeps what it has not sent for its next
    /// session.
    pub(super) fn keep_for_next_session(&mut self) {
        if self.shared.hub().role == Role::Client {
            self.keep_queued();
        }
    }

    /// Keeps messages that are not sent any more, until it is known what becomes of them.
    pub(super) fn keep_queued(&mut self) {
        if let Some(reliable) = &self.reliable {
            let mut unsent = reliable.shared.take_unsent();
            unsent.extend(self.shared.take_queued_messages());
            reliable.shared.set_rest(Rest {
                sent: Vec::new(),
                unsent,
                is_carried: true,
            });
        }
    }
}
