//! The end of a client: what is open closes, and a report says how that went.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;
use tracing::field::debug;

use super::{End, Supervisor, deadline};
use crate::client::offline::NOT_CONNECTED;
use crate::client::{ClientState, ClientStopReport, after};
use crate::error::ErrorCode;
use crate::events;
use crate::session::Session;
use crate::session::shared::lock;
use crate::worker::pool::KILL_AGAIN;

impl Supervisor {
    /// Closes what is open, ends every task and says how it went.
    pub(super) async fn finish(&mut self, end: &End) {
        let inner = Arc::clone(&self.inner);
        let hub = &inner.hub;
        let fallback = after(hub.timeouts.drain);
        let mut stop = self.stop.clone();
        let mut late = pin!(deadline(&mut stop, fallback));
        match end {
            End::Stopped => {
                inner
                    .offline
                    .close((ErrorCode::ShuttingDown, "the client is stopping"));
            }
            End::Closed | End::Failed => inner.offline.close(NOT_CONNECTED),
        }
        inner.set_state(ClientState::Stopping);
        let lost_before = hub.recorder.totals.lost.load(Ordering::Relaxed);
        let session = inner.offline.session();
        let mut cut = false;
        if let Some(session) = &session {
            // What was queued is on its way to a session that is open: it still leaves.
            tokio::select! {
                biased;
                () = inner.offline.flush(session, |error| self.refused(session, &error)) => {}
                _ = session.closed() => {}
                () = &mut late => cut = true,
            }
        }
        let request = *self.stop.borrow();
        if request.is_some_and(|request| request.inside) {
            for session in hub.sessions() {
                session.shared.set_stops_itself();
            }
        }
        let at = request.map_or(fallback, |request| request.at);
        let left = at.saturating_duration_since(Instant::now());
        hub.set_drain_millis(left.as_millis() as u64);
        match cut {
            false => self.workers.drain(),
            true => self.workers.abort(),
        }
        self.workers.stop();
        loop {
            tokio::select! {
                biased;
                joined = self.tasks.join_next() => match joined {
                    None => break,
                    Some(Err(error)) if error.is_panic() => {
                        events::client_task_panicked {}.emit();
                    }
                    Some(_) => {}
                },
                () = &mut late, if !cut => {
                    cut = true;
                    self.workers.abort();
                }
                () = tokio::time::sleep(KILL_AGAIN), if cut => self.workers.abort(),
            }
        }
        if let Some(session) = &session {
            if let Some(resumption) = session.shared.resumption() {
                resumption.forget_next();
            }
            inner.offline.detach(session);
            if let Some(reason) = session.close_reason() {
                *lock(&inner.reason) = Some(reason);
            }
        }
        // What a reliable session loses is not acknowledged, and is told as that.
        let lost = match session.as_ref().is_some_and(Session::is_reliable) {
            true => 0,
            false => hub.recorder.totals.lost.load(Ordering::Relaxed) - lost_before,
        };
        let report = ClientStopReport {
            in_order: !cut,
            unsent: inner.offline.queued().0 + lost as usize,
            unacknowledged: self.workers.tally.unacknowledged.load(Ordering::Relaxed),
        };
        *lock(&inner.report) = report;
        self.ended(match end {
            End::Stopped | End::Closed => ClientState::Stopped,
            End::Failed => ClientState::Failed,
        });
    }

    pub(super) fn ended(&mut self, state: ClientState) {
        self.finished = true;
        self.aim.release();
        let inner = &self.inner;
        inner.offline.close(NOT_CONNECTED);
        let before = {
            // Together, so that who connects anew finds either both or none.
            let mut running = lock(&inner.running);
            *running = None;
            inner.state.send_replace(state)
        };
        events::client_stopped {
            state: debug(state),
        }
        .emit();
        inner.notify_state(before, state);
    }
}
