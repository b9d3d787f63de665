//! From the loss of a link to the next one, or to the next session.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{End, HOME_ATTEMPTS, Resumed, Supervisor, is_fatal, stop_asked};
use crate::client::ClientState;
use crate::error::{CloseReason, ErrorCode};
use crate::session::{Session, State};

impl Supervisor {
    /// Tries to go on with a session that has lost its link, as long as its server keeps it.
    pub(super) async fn resume(&mut self, session: &Session, lasted: Duration) -> Resumed {
        let lost = CloseReason::transport(ErrorCode::ConnectionClosed, "the connection broke");
        self.aim.ended(&lost);
        self.inner.set_state(ClientState::Reconnecting);
        if !self.inner.reconnect.is_enabled() {
            let text = "the connection broke and is not made again";
            let reason = CloseReason::transport(ErrorCode::ConnectionClosed, text);
            return self.give_up(session, reason).await;
        }
        if lasted >= self.backoff.proof() {
            self.backoff.reset();
        }
        let home = self.aim.current();
        let mut failed_at_home = 0;
        let mut at_home = true;
        let mut stop = self.stop.clone();
        let inner = Arc::clone(&self.inner);
        while let Some(pause) = self.backoff.next_delay(Instant::now()) {
            self.announce(pause);
            let spread = self.backoff.spread();
            let result = tokio::select! {
                biased;
                () = stop_asked(&mut stop) => return Resumed::End(End::Stopped),
                reason = session.closed() => return Resumed::No(reason),
                result = async {
                    sleep(pause).await;
                    let within = self.inner.hub.timeouts.connect;
                    let attempt = async {
                        let left = match at_home {
                            true => self.aim.next_at(home.as_ref(), within).await?,
                            false => self.aim.next(within).await?,
                        };
                        match self.attempt(left, Some(session)).await {
                            // It was given up in the moment in which it succeeded, and is no failure of the endpoint.
                            Err(_) if session.is_connected() => Ok(session.clone()),
                            result => result,
                        }
                    };
                    inner.guard.reconnect(spread, attempt).await
                } => result,
            };
            self.aim.settle(&result);
            let error = match result {
                Ok(_) => return Resumed::Yes,
                Err(error) => error,
            };
            self.note_failure(&error);
            let code = error.code();
            let is_home = self.aim.current() == home;
            failed_at_home += u32::from(is_home);
            // Another endpoint may be another way to the same server, or another server, which has no such session.
            let is_known_there = is_home || failed_at_home >= HOME_ATTEMPTS;
            let is_over = matches!(code, ErrorCode::SessionExpired | ErrorCode::InvalidSession);
            if (is_over && is_known_there) || is_fatal(code) {
                let reason = CloseReason::with_code(code, error.to_string());
                return self.give_up(session, reason).await;
            }
            at_home = !is_home;
        }
        let text = "the connection could not be made again";
        let reason = CloseReason::transport(ErrorCode::ConnectionFailed, text);
        match self.give_up(session, reason).await {
            Resumed::No(_) => Resumed::End(End::Failed),
            resumed => resumed,
        }
    }

    /// Ends a session that has no link, unless the attempt that was given up brings one in this very moment.
    async fn give_up(&self, session: &Session, reason: CloseReason) -> Resumed {
        session.shared.expire(reason);
        match session.state_changed(State::Suspended).await {
            State::Connected => Resumed::Yes,
            _ => Resumed::No(session.closed().await),
        }
    }

    /// The session is over: what it never sent goes out on the next one, before what is queued.
    pub(super) fn carry_over(&self, session: &Session) {
        let is_closed = self.has_ended_by_application(session);
        self.inner.offline.detach(session);
        if let Some(resumption) = session.shared.resumption()
            && !is_closed
            && self.inner.reconnect.is_enabled()
        {
            self.inner.offline.put_back(resumption.take_unsent());
        }
    }
}
