//! Who the peer of a session is, and until when that holds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Session;
use super::output::Frame;
use super::shared::{Shared, lock};
use crate::codec::FrameType;
use crate::codec::control::{Control, MAX_INTEGER, Refresh};
use crate::error::{ErrorCode, RequestError};

type Answer = Result<(), RequestError>;

/// What is known of a session's identity beside the name.
#[derive(Debug, Default)]
pub(crate) struct Grant {
    /// When it expires, milliseconds of the hub's clock; 0 for never.
    expires: AtomicU64,
    /// Whether the authenticator has given the name, rather than the opening of the link.
    named: AtomicBool,
    refreshing: Mutex<Refreshing>,
}

/// A client's refresh that its server has not answered.
#[derive(Debug, Default)]
struct Refreshing {
    last_id: u64,
    waiting: Option<(u64, oneshot::Sender<Answer>)>,
}

/// What holds about the peer of a session.
pub(crate) struct Granted {
    identity: Option<Arc<str>>,
    named: bool,
    expires: Option<u64>,
    data: HashMap<String, String>,
}

impl Shared {
    /// When the identity expires, milliseconds of the hub's clock.
    pub(crate) fn expires(&self) -> Option<u64> {
        let at = self.extra_if_any()?.grant.expires.load(Ordering::Acquire);
        (at > 0).then_some(at)
    }

    /// After how many milliseconds the identity expires, as the peer is told.
    pub(crate) fn expires_in(&self) -> Option<u64> {
        // Not the time of the turn, which may have begun a while ago.
        let now = self.hub().clock.now();
        Some(self.expires()?.saturating_sub(now).min(MAX_INTEGER))
    }

    /// Sets when the identity expires, milliseconds of the hub's clock; whoever waits for that hears of it.
    pub(crate) fn set_expires(&self, at: Option<u64>) {
        if at.is_none() && self.extra_if_any().is_none() {
            return;
        }
        let extra = self.extra();
        extra
            .grant
            .expires
            .store(at.unwrap_or(0), Ordering::Release);
        extra.state_changed.notify_waiters();
    }

    /// Whether the authenticator has given the name.
    pub(crate) fn is_named(&self) -> bool {
        self.extra_if_any()
            .is_some_and(|extra| extra.grant.named.load(Ordering::Acquire))
    }

    /// The authenticator has given a name.
    pub(crate) fn set_named(&self, identity: &str) {
        self.set_identity(Some(identity));
        self.extra().grant.named.store(true, Ordering::Release);
    }

    /// What holds about the peer at this moment, for another session.
    pub(crate) fn granted(&self) -> Granted {
        let data = self.extra_if_any().map(|extra| lock(&extra.data).clone());
        Granted {
            identity: self.identity(),
            named: self.is_named(),
            expires: self.expires(),
            data: data.unwrap_or_default(),
        }
    }

    /// Whether the peers of both are the same, by name; two without a name are.
    pub(crate) fn has_identity_of(&self, other: &Granted) -> bool {
        self.identity() == other.identity
    }

    /// The same peer has authenticated anew on another link: what holds there holds here.
    pub(crate) fn take_over(&self, granted: Granted) {
        if granted.named != self.is_named() {
            let named = &self.extra().grant.named;
            named.store(granted.named, Ordering::Release);
        }
        self.set_expires(granted.expires);
        if !granted.data.is_empty() {
            lock(&self.extra().data).extend(granted.data);
        }
    }

    /// No answer to a refresh comes any more: the link that it was sent on is gone.
    pub(crate) fn forget_refresh(&self) {
        if let Some(extra) = self.extra_if_any() {
            lock(&extra.grant.refreshing).waiting = None;
        }
    }

    /// The server has answered a refresh; nobody may wait for it any more.
    pub(crate) fn complete_refresh(&self, id: u64, answer: Answer) {
        let Some(extra) = self.extra_if_any() else {
            return;
        };
        let mut refreshing = lock(&extra.grant.refreshing);
        if let Some((_, sender)) = refreshing.waiting.take_if(|(known, _)| *known == id) {
            drop(refreshing);
            let _ = sender.send(answer);
        }
    }
}

impl Session {
    /// When the peer's identity expires; `None` for never. On a server that is when the session ends with
    /// `authentication_failed`, unless the peer authenticates anew before. On a client it is what the server has
    /// said about the client's own identity.
    pub fn expires_at(&self) -> Option<Instant> {
        let at = self.shared.expires()?;
        Some(self.shared.hub().clock.instant(at))
    }

    /// Sends the server a new token; says where the answer comes. It does not come from a server that knows no
    /// refresh, and is given up when the link is lost.
    pub(crate) fn refresh(&self, token: &str) -> Result<oneshot::Receiver<Answer>, RequestError> {
        let shared = &self.shared;
        if !shared.framing().has_hello() {
            let text = "this codec carries messages only: clients cannot authenticate";
            return Err(RequestError::with_code(ErrorCode::NotSupported, text));
        }
        if shared.is_outbox_closed() {
            let text = "the session is closing";
            return Err(RequestError::with_code(ErrorCode::ConnectionClosed, text));
        }
        let mut refreshing = lock(&shared.extra().grant.refreshing);
        if let Some((_, sender)) = &refreshing.waiting
            && !sender.is_closed()
        {
            let text = "another refresh is under way";
            return Err(RequestError::with_code(ErrorCode::RateLimited, text));
        }
        refreshing.last_id += 1;
        let id = refreshing.last_id;
        let (sender, answer) = oneshot::channel();
        refreshing.waiting = Some((id, sender));
        let token = Some(token.to_owned());
        let payload = Control::Refresh(Box::new(Refresh { id, token })).to_bytes();
        shared.push_protocol_frame(Frame::new(FrameType::CONTROL, false, 0, payload));
        Ok(answer)
    }
}
