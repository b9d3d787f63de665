//! Who the peer is, and what it may join: decisions of the application that take their time.
//!
//! The first authentication comes before anything else and runs in the lane. A refresh and joins come in the middle
//! of a conversation, which must not wait for them: they run beside the lane, a refresh at most once at a time, joins
//! and leaves one after the other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::lane::Running;
use super::{Driver, Phase, TurnContext, shielded};
use crate::codec::control::{Control, Hello, Refresh};
use crate::codec::msgi;
use crate::codec::websocket::upgrade::request::UpgradeRequest;
use crate::error::{CloseReason, ErrorCode, RequestError};
use crate::events;
use crate::group::GroupName;
use crate::handler::{Authentication, BoxFuture, Credentials, Guard, Purpose};
use crate::metrics::Role;
use crate::session::shared::lock;

/// Joins and leaves of one session that wait for a decision.
const CHANGES_AT_MOST: usize = 64;

/// Milliseconds for which a session whose refresh was refused is not listened to about another one, so that tokens
/// cannot be guessed faster on a session than by connecting.
const REFUSED_PAUSE: u64 = 1_000;

/// What the peer is told, and its session ends with, when its time is over.
const EXPIRED: &str = "the identity has expired";

/// Decisions of the application that are under way. Made when the first one is.
#[derive(Default)]
pub(super) struct Decisions {
    /// The request that opened a WebSocket, until hello has come.
    upgrade: Option<Box<UpgradeRequest>>,
    refresh: Option<Deciding<Authentication>>,
    /// The id that the answer to the refresh repeats.
    refresh_id: u64,
    /// When a refresh was last refused, 0 for never.
    refused_at: u64,
    /// The first one is being decided about.
    changes: VecDeque<Change>,
    join: Option<Deciding<()>>,
}

impl Decisions {
    fn is_empty(&self) -> bool {
        self.upgrade.is_none()
            && self.refresh.is_none()
            && self.changes.is_empty()
            && self.refused_at == 0
    }
}

struct Deciding<T> {
    future: BoxFuture<'static, Result<T, RequestError>>,
    began: u64,
}

impl<T> Deciding<T> {
    /// What was decided, `None` when the application panicked.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T, RequestError>>> {
        match shielded(|| self.future.as_mut().poll(context)) {
            Some(polled) => polled.map(Some),
            None => Poll::Ready(None),
        }
    }

    fn is_late(&self, within: Duration, now: u64) -> bool {
        let within = within.as_millis() as u64;
        within > 0 && now.saturating_sub(self.began) >= within
    }
}

/// A client's wish to join or leave.
struct Change {
    join: bool,
    group: GroupName,
}

impl Driver {
    /// Keeps the request that opened the link until hello has come.
    pub(super) fn remember_upgrade(&mut self, upgrade: Option<Box<UpgradeRequest>>) {
        if upgrade.is_some() {
            self.decisions.get_or_insert_default().upgrade = upgrade;
        }
    }

    /// Asks the authenticator about a hello. False without one: then everybody may come in.
    pub(super) fn authenticate(&mut self, hello: &mut Hello, purpose: Purpose) -> bool {
        let Some(authenticator) = self.shared.hub().authenticator.clone() else {
            return false;
        };
        let mut credentials = self.credentials(hello.token.take(), purpose);
        credentials.client_id = hello.client_id.take();
        let session = self.session();
        self.phase = Phase::Greeting;
        self.running = Some(Running::Authenticate(Box::pin(async move {
            authenticator.authenticate(session, credentials).await
        })));
        true
    }

    fn credentials(&mut self, token: Option<String>, purpose: Purpose) -> Credentials {
        let upgrade = self
            .decisions
            .as_mut()
            .and_then(|decisions| decisions.upgrade.take());
        self.decisions.take_if(|decisions| decisions.is_empty());
        let session = self.session();
        Credentials {
            client_id: None,
            token,
            purpose,
            transport: session.transport(),
            remote: session.remote_addr(),
            tls: session.tls(),
            identity: session.identity(),
            upgrade,
        }
    }

    /// The authenticator has let the peer in.
    pub(super) fn grant(&self, granted: Authentication) -> Result<(), RequestError> {
        let Authentication {
            identity,
            expires,
            data,
        } = granted;
        let clock = &self.shared.hub().clock;
        let expires = expires.map(|at| clock.millis(at));
        if expires.is_some_and(|at| at <= clock.now()) {
            return Err(expired());
        }
        if let Some(identity) = &identity {
            self.shared.set_named(identity);
        }
        self.shared.set_expires(expires);
        if !data.is_empty() {
            lock(&self.shared.extra().data).extend(data);
        }
        Ok(())
    }

    /// A client has heard after how many milliseconds its identity expires.
    pub(super) fn set_expires_in(&self, millis: Option<u64>, now: u64) {
        let at = millis.map(|millis| now.saturating_add(millis));
        self.shared.set_expires(at);
    }

    // Refresh

    /// The peer says anew who it is.
    pub(super) fn on_refresh(&mut self, refresh: Refresh, now: u64) {
        if self.is_closing() {
            return;
        }
        let id = refresh.id;
        let Some(authenticator) = self.shared.hub().authenticator.clone() else {
            let text = "this server does not ask who its clients are";
            let error = RequestError::with_code(ErrorCode::NotSupported, text);
            return self.refuse_refresh(id, &error);
        };
        let limited = match &self.decisions {
            Some(decisions) if decisions.refresh.is_some() => Some("another refresh is under way"),
            Some(decisions) if decisions.refused_at > 0 => {
                (now.saturating_sub(decisions.refused_at) < REFUSED_PAUSE)
                    .then_some("the last refresh was refused a moment ago")
            }
            _ => None,
        };
        if let Some(text) = limited {
            let error = RequestError::with_code(ErrorCode::RateLimited, text);
            return self.refuse_refresh(id, &error);
        }
        let mut credentials = self.credentials(refresh.token, Purpose::Refresh);
        credentials.client_id = self
            .shared
            .extra_if_any()
            .and_then(|extra| extra.client_id.get().cloned());
        let session = self.session();
        let decisions = self.decisions.get_or_insert_default();
        decisions.refresh_id = id;
        decisions.refused_at = 0;
        decisions.refresh = Some(Deciding {
            future: Box::pin(async move { authenticator.authenticate(session, credentials).await }),
            began: now,
        });
        self.shared.schedule();
    }

    fn on_refreshed(&mut self, result: Result<Authentication, RequestError>, now: u64) {
        let id = self.decisions.as_ref().map_or(0, |known| known.refresh_id);
        let session = self.shared.id().as_u64();
        match result.and_then(|granted| self.renew(granted)) {
            Ok(()) => {
                events::refreshed { session }.emit();
                let expires_ms = self.shared.expires_in();
                self.push_control(&Control::Refreshed { id, expires_ms });
            }
            Err(error) => {
                self.decisions.get_or_insert_default().refused_at = now;
                self.refuse_refresh(id, &error);
            }
        }
    }

    /// The same peer may stay. A session is never handed to another one: what it has joined and what its handlers
    /// know of it belong to the first.
    fn renew(&self, granted: Authentication) -> Result<(), RequestError> {
        let known = self.shared.identity();
        let is_same = match granted.identity() {
            Some(identity) => known.as_deref() == Some(identity),
            // The name of the link's opening stays; one that was given before would be taken away.
            None => !self.shared.is_named(),
        };
        if !is_same {
            let text = "the token is of somebody else than the session";
            return Err(RequestError::with_code(ErrorCode::AccessDenied, text));
        }
        self.grant(granted)
    }

    fn refuse_refresh(&self, id: u64, error: &RequestError) {
        let code = denied(error, ErrorCode::AuthenticationFailed).as_i32();
        let session = self.shared.id().as_u64();
        events::refresh_refused { session, code }.emit();
        let text = msgi::clip_text(&error.to_string()).to_owned();
        self.push_control(&Control::RefreshRefused { id, code, text });
    }

    // Groups

    /// The peer wants to join a group, or to leave it.
    pub(super) fn on_group_change(&mut self, join: bool, group: String, now: u64) {
        if self.is_closing() {
            return;
        }
        let group = match GroupName::new(group.as_str()) {
            Ok(group) => group,
            Err(error) => {
                return self.push_control(&refused_change(
                    &group,
                    error.code(),
                    &error.to_string(),
                ));
            }
        };
        let waiting = match &self.decisions {
            Some(decisions) => decisions.changes.len(),
            None => 0,
        };
        let change = Change { join, group };
        if waiting >= CHANGES_AT_MOST {
            let text = "too many joins and leaves wait for a decision already";
            let refused = refused_change(change.group.as_str(), ErrorCode::QueueFull, text);
            return self.push_control(&refused);
        }
        let decided = match (self.shared.hub().group_guard.clone(), join) {
            // Answers come in order.
            _ if waiting > 0 => None,
            (None, _) => Some(Err(not_allowed(join))),
            (Some(_), false) => Some(Ok(())),
            (Some(Guard::AtOnce(guard)), true) => {
                let session = self.session();
                match shielded(|| guard.may_join(&session, &change.group)) {
                    Some(true) => Some(Ok(())),
                    Some(false) => Some(Err(not_allowed(join))),
                    None => return self.on_panic(now),
                }
            }
            (Some(Guard::Later(_)), true) => None,
        };
        match decided {
            Some(decided) => self.change_group(change, decided),
            None => {
                let decisions = self.decisions.get_or_insert_default();
                decisions.changes.push_back(change);
                self.shared.schedule();
            }
        }
    }

    /// Does what was decided about a join or leave, and answers.
    fn change_group(&self, change: Change, decided: Result<(), RequestError>) {
        let Change { join, group } = change;
        let session = self.session();
        let result = match (decided, join) {
            (Err(error), _) => Err((denied(&error, ErrorCode::AccessDenied), error.to_string())),
            (Ok(()), true) => session
                .join(&group)
                .map_err(|error| (error.code(), error.to_string())),
            (Ok(()), false) => {
                session.leave(&group);
                Ok(())
            }
        };
        let name = group.as_str();
        self.push_control(&match (result, join) {
            (Ok(()), true) => Control::Joined { group: name.into() },
            (Ok(()), false) => Control::Left { group: name.into() },
            (Err((code, text)), _) => refused_change(name, code, &text),
        });
    }

    // What is under way

    /// Goes on with what is being decided.
    #[cold]
    pub(super) fn poll_decisions(&mut self, context: &mut Context<'_>, turn: &TurnContext<'_>) {
        if self.is_closing() {
            return self.drop_decisions();
        }
        let refresh = self
            .decisions
            .as_mut()
            .and_then(|decisions| decisions.refresh.as_mut())
            .map(|refresh| refresh.poll(context));
        match refresh {
            None | Some(Poll::Pending) => {}
            Some(Poll::Ready(None)) => return self.on_panic_deciding(turn.now),
            Some(Poll::Ready(Some(result))) => {
                self.end_refresh();
                self.on_refreshed(result, turn.now);
            }
        }
        while let Some(change) = self.next_change() {
            match self.poll_change(&change, context, turn.now) {
                Poll::Pending => {
                    let decisions = self.decisions.get_or_insert_default();
                    decisions.changes.push_front(change);
                    break;
                }
                Poll::Ready(None) => return self.on_panic_deciding(turn.now),
                Poll::Ready(Some(decided)) => {
                    self.end_join();
                    self.change_group(change, decided);
                }
            }
        }
        self.decisions.take_if(|decisions| decisions.is_empty());
    }

    fn next_change(&mut self) -> Option<Change> {
        self.decisions.as_mut()?.changes.pop_front()
    }

    /// What is decided about the first change; `None` when the application panicked.
    fn poll_change(
        &mut self,
        change: &Change,
        context: &mut Context<'_>,
        now: u64,
    ) -> Poll<Option<Result<(), RequestError>>> {
        if !change.join {
            return Poll::Ready(Some(Ok(())));
        }
        let session = self.session();
        let guard = self.shared.hub().group_guard.clone();
        let decisions = self.decisions.get_or_insert_default();
        if decisions.join.is_none() {
            let Some(Guard::Later(authorize)) = guard else {
                return Poll::Ready(Some(Err(not_allowed(true))));
            };
            let group = change.group.clone();
            let Some(future) = shielded(|| authorize(session, group)) else {
                return Poll::Ready(None);
            };
            let began = now;
            decisions.join = Some(Deciding { future, began });
        }
        match &mut decisions.join {
            Some(join) => join.poll(context),
            None => Poll::Pending,
        }
    }

    /// The application's destructors may panic, which ends nothing but this.
    fn end_refresh(&mut self) {
        if let Some(decisions) = &mut self.decisions {
            let refresh = decisions.refresh.take();
            let _ = shielded(|| drop(refresh));
        }
    }

    fn end_join(&mut self) {
        if let Some(decisions) = &mut self.decisions {
            let join = decisions.join.take();
            let _ = shielded(|| drop(join));
        }
    }

    pub(super) fn drop_decisions(&mut self) {
        let decisions = self.decisions.take();
        let _ = shielded(|| drop(decisions));
    }

    /// The link is gone. Whoever has asked asks again on the next one.
    pub(super) fn forget_decisions(&mut self) {
        self.drop_decisions();
        self.shared.forget_refresh();
    }

    fn on_panic_deciding(&mut self, now: u64) {
        self.drop_decisions();
        self.on_panic(now);
    }

    /// Ends the session when the identity has expired, and decisions that take too long. True when the session ends.
    pub(super) fn check_identity(&mut self, turn: &TurnContext<'_>) -> bool {
        if self.is_closing() {
            return false;
        }
        let hub = Arc::clone(self.shared.hub());
        if hub.role == Role::Server && self.shared.expires().is_some_and(|at| at <= turn.now) {
            let session = self.shared.id().as_u64();
            events::identity_expired { session }.emit();
            match self.link {
                Some(_) => self.fail(ErrorCode::AuthenticationFailed, EXPIRED.into(), turn.now),
                None => {
                    let reason = CloseReason::with_code(ErrorCode::AuthenticationFailed, EXPIRED);
                    self.end_expired(reason, turn.now);
                }
            }
            self.shared.schedule();
            return true;
        }
        let Some(decisions) = &mut self.decisions else {
            return false;
        };
        let timeouts = &hub.timeouts;
        let late_refresh = (decisions.refresh.as_ref())
            .is_some_and(|refresh| refresh.is_late(timeouts.first_byte, turn.now));
        let late_join =
            (decisions.join.as_ref()).is_some_and(|join| join.is_late(timeouts.request, turn.now));
        if turn.now.saturating_sub(decisions.refused_at) >= REFUSED_PAUSE {
            decisions.refused_at = 0;
        }
        if late_refresh {
            self.end_refresh();
            self.on_refreshed(Err(too_late()), turn.now);
        }
        if late_join && let Some(change) = self.next_change() {
            self.end_join();
            self.change_group(change, Err(too_late()));
            self.shared.schedule();
        }
        false
    }
}

fn expired() -> RequestError {
    RequestError::with_code(ErrorCode::AuthenticationFailed, EXPIRED)
}

fn too_late() -> RequestError {
    let text = "the server did not decide in time";
    RequestError::with_code(ErrorCode::RequestTimeout, text)
}

fn not_allowed(join: bool) -> RequestError {
    let text = match join {
        true => "this server does not let clients join this group",
        false => "this server does not let clients leave groups",
    };
    RequestError::with_code(ErrorCode::AccessDenied, text)
}

/// What a peer is told that is refused: whatever the hook's code, it learns that it may not.
fn denied(error: &RequestError, general: ErrorCode) -> ErrorCode {
    match error.code() {
        ErrorCode::RequestFailed => general,
        code => code,
    }
}

/// Bytes of a name that a refusal repeats. As JSON it can grow sixfold, and a CONTROL frame has 64 KiB.
const REFUSED_NAME: usize = 8 * 1024;

/// Refuses a group, whose name may be as long as a CONTROL frame: the answer must not be longer.
fn refused_change(group: &str, code: ErrorCode, text: &str) -> Control {
    let group = group[..group.floor_char_boundary(REFUSED_NAME)].to_owned();
    Control::Refused {
        group,
        code: code.as_i32(),
        text: msgi::clip_text(text).to_owned(),
    }
}
