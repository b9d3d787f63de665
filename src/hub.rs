//! What all sessions of one server or client have in common.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::{Limits, Reliability, Timeouts};
use crate::error::{CloseReason, ErrorCode};
use crate::executor::Execution;
use crate::group::Groups;
use crate::handler::{Authenticate, Guard, Service};
use crate::limits::{MemoryBudget, Rates};
use crate::metrics::{PerformanceMonitor, Recorder, Role};
use crate::pipeline::{OVERHEAD_MAX, Pipeline, SALT};
use crate::session::shared::lock;
use crate::session::{Session, SessionId};

/// Time as the session core counts it: milliseconds since the hub began, from tokio's clock, which tests
/// can pause.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    epoch: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Clock {
            epoch: Instant::now(),
        }
    }
}

impl Clock {
    /// Milliseconds since the epoch, at least 1, so that 0 can stand for never.
    pub(crate) fn now(&self) -> u64 {
        Instant::now()
            .saturating_duration_since(self.epoch)
            .as_millis() as u64
            + 1
    }

    /// Microseconds since the epoch, at least 1.
    pub(crate) fn micros(&self) -> u64 {
        Instant::now()
            .saturating_duration_since(self.epoch)
            .as_micros() as u64
            + 1
    }

    /// A moment as this clock has it, at least 1.
    pub(crate) fn millis(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.epoch).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1)
    }

    pub(crate) fn instant(&self, millis: u64) -> Instant {
        self.epoch + Duration::from_millis(millis.saturating_sub(1))
    }
}

/// The common part of a server's or client's sessions.
pub(crate) struct Hub {
    pub(crate) role: Role,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    pub(crate) service: Arc<dyn Service>,
    /// Where handlers of single sessions run too.
    pub(crate) execution: Option<Arc<Execution>>,
    pub(crate) authenticator: Option<Arc<dyn Authenticate>>,
    pub(crate) group_guard: Option<Guard>,
    /// What messages go through; `None` when that is nothing.
    pub(crate) pipeline: Option<Pipeline>,
    /// What reliable sessions need; `None` when there are none.
    pub(crate) reliability: Option<Reliability>,
    /// What sessions may receive; `None` when that is anything.
    pub(crate) rates: Option<Box<Rates>>,
    /// What sessions may hold.
    pub(crate) budget: MemoryBudget,
    pub(crate) clock: Clock,
    /// What the sessions have done.
    pub(crate) recorder: Arc<Recorder>,
    /// Connections that count against the limit.
    places: AtomicUsize,
    pub(crate) groups: Groups,
    sessions: Mutex<HashMap<SessionId, Session>>,
    /// Sessions that can no longer be found and whose last handlers are still to run.
    ending: Mutex<HashMap<SessionId, Session>>,
    next_id: AtomicU64,
    /// Sessions that have not ended, those included whose opening is not complete.
    live: AtomicUsize,
    /// Notified when a session has ended.
    pub(crate) ended: Notify,
    /// Milliseconds for an orderly close; a stop may shorten it.
    drain_millis: AtomicU64,
    /// What the goaway of a draining server says, plus 1; on a client, what the server's said. 0 for none.
    goaway: AtomicU64,
    /// Notified when a client hears a goaway.
    pub(crate) goaway_heard: Notify,
    /// Sessions without a link, the one that has waited longest first.
    suspended: Mutex<BTreeMap<u64, Session>>,
    next_suspended: AtomicU64,
    /// The second in which attempts to resume were last refused, and how many.
    refused_resumes: AtomicU64,
}

/// Attempts a second to resume sessions that are not there that are answered as such.
const REFUSED_RESUMES: u64 = 1_000;

impl Hub {
    pub(crate) fn new(
        role: Role,
        limits: Limits,
        timeouts: Timeouts,
        service: Arc<dyn Service>,
        execution: Option<Arc<Execution>>,
        authenticator: Option<Arc<dyn Authenticate>>,
        group_guard: Option<Guard>,
    ) -> Self {
        let drain_millis = AtomicU64::new(timeouts.drain.as_millis() as u64);
        Hub {
            role,
            rates: Rates::new(&limits),
            budget: MemoryBudget::process(),
            limits,
            timeouts,
            service,
            execution,
            authenticator,
            group_guard,
            pipeline: None,
            reliability: None,
            clock: Clock::default(),
            recorder: Arc::default(),
            places: AtomicUsize::new(0),
            groups: Groups::default(),
            sessions: Mutex::new(HashMap::new()),
            ending: Mutex::new(HashMap::new()),
            next_id: AtomicU64::new(1),
            live: AtomicUsize::new(0),
            ended: Notify::new(),
            drain_millis,
            goaway: AtomicU64::new(0),
            goaway_heard: Notify::new(),
            suspended: Mutex::new(BTreeMap::new()),
            next_suspended: AtomicU64::new(0),
            refused_resumes: AtomicU64::new(0),
        }
    }

    /// Puts a pipeline between the sessions and their links.
    pub(crate) fn with_pipeline(mut self, pipeline: Option<Pipeline>) -> Self {
        self.pipeline = pipeline.filter(|pipeline| !pipeline.is_empty());
        self
    }

    /// Counts what sessions hold for this budget instead of that of the process.
    pub(crate) fn with_budget(mut self, budget: Option<MemoryBudget>) -> Self {
        if let Some(budget) = budget {
            self.budget = budget;
        }
        self
    }

    /// Offers or asks for reliable sessions.
    pub(crate) fn with_reliability(mut self, reliability: Option<Reliability>) -> Self {
        self.reliability = reliability;
        self
    }

    /// Counts under a name, and for a monitor if there is one.
    pub(crate) fn with_recorder(
        mut self,
        name: String,
        monitor: Option<PerformanceMonitor>,
    ) -> Self {
        if monitor.is_some() {
            self.pipeline = self.pipeline.take().map(Pipeline::counted_apart);
        }
        let pipeline = self.pipeline.clone();
        let budget = self.budget.clone();
        self.recorder = Recorder::new(self.role, name, self.clock, monitor, pipeline, budget);
        self
    }

    /// The longest message as it can stand on a link: with what stages may have added to it.
    pub(crate) fn frame_limit(&self) -> usize {
        let added = match self.pipeline {
            Some(_) => OVERHEAD_MAX + SALT,
            None => 0,
        };
        self.limits.message_size + added
    }

    pub(crate) fn next_id(&self) -> SessionId {
        SessionId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    /// A session is being made.
    pub(crate) fn session_began(&self) {
        self.live.fetch_add(1, Ordering::AcqRel);
    }

    /// The session is open: it can be found and counted.
    pub(crate) fn session_opened(&self, session: &Session) {
        let totals = &self.recorder.totals;
        totals.session_opened(session.transport());
        lock(&self.sessions).insert(session.id(), session.clone());
    }

    /// The session can no longer be found.
    pub(crate) fn session_closed(&self, id: SessionId) {
        let session = lock(&self.sessions).remove(&id);
        if let Some(session) = session {
            let totals = &self.recorder.totals;
            totals.session_closed(session.transport());
            lock(&self.ending).insert(id, session);
        }
    }

    /// The last handler of a session has returned.
    pub(crate) fn session_finished(&self, id: SessionId) {
        lock(&self.ending).remove(&id);
        self.session_ended();
    }

    /// The last of a connection is gone.
    pub(crate) fn session_ended(&self) {
        self.live.fetch_sub(1, Ordering::AcqRel);
        self.ended.notify_waiters();
    }

    pub(crate) fn drain_millis(&self) -> u64 {
        self.drain_millis.load(Ordering::Acquire)
    }

    pub(crate) fn set_drain_millis(&self, millis: u64) {
        self.drain_millis.store(millis, Ordering::Release);
    }

    /// A session has lost its link. The one that has waited longest gives way when there are too many. Returns its
    /// place among them.
    pub(crate) fn suspend(&self, session: &Session) -> u64 {
        let place = self.next_suspended.fetch_add(1, Ordering::Relaxed);
        let most = self
            .reliability
            .as_ref()
            .map_or(0, |reliability| reliability.suspended_sessions);
        let oldest = {
            let mut suspended = lock(&self.suspended);
            suspended.insert(place, session.clone());
            let oldest = match suspended.len() > most {
                true => suspended.pop_first(),
                false => None,
            };
            self.note_suspended(suspended.len());
            oldest
        };
        if let Some((_, oldest)) = oldest {
            let text = "too many sessions wait for a connection";
            let reason = CloseReason::with_code(ErrorCode::SessionExpired, text);
            oldest.shared.expire(reason);
        }
        place
    }

    pub(crate) fn unsuspend(&self, place: u64) {
        let mut suspended = lock(&self.suspended);
        if suspended.remove(&place).is_some() {
            self.note_suspended(suspended.len());
        }
    }

    /// Called with the list locked, so that the count is that of the last change.
    fn note_suspended(&self, count: usize) {
        let noted = &self.recorder.totals.suspended;
        noted.store(count as u64, Ordering::Relaxed);
    }

    /// Sessions without a link.
    pub(crate) fn suspended_count(&self) -> usize {
        lock(&self.suspended).len()
    }

    /// What a client is told that cannot have its session back. That there is none is said so often in a second.
    pub(crate) fn refuse_resume(&self, reason: CloseReason, now: u64) -> CloseReason {
        match reason.code() == Some(ErrorCode::SessionExpired) && !self.may_refuse_resume(now) {
            false => reason,
            true => CloseReason::with_code(
                ErrorCode::RateLimited,
                "too many attempts to resume sessions that are not there",
            ),
        }
    }

    fn may_refuse_resume(&self, now: u64) -> bool {
        let second = now / 1_000;
        let count =
            self.refused_resumes
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |packed| {
                    let same = packed >> 32 == second & 0xFFFF_FFFF;
                    let count = if same { packed & 0xFFFF_FFFF } else { 0 };
                    Some((second & 0xFFFF_FFFF) << 32 | (count + 1).min(0xFFFF_FFFF))
                });
        let before = count.unwrap_or(0);
        before >> 32 != second & 0xFFFF_FFFF || before & 0xFFFF_FFFF < REFUSED_RESUMES
    }

    /// After how many milliseconds clients shall come back, if that is known.
    pub(crate) fn goaway(&self) -> Option<u64> {
        self.goaway.load(Ordering::Acquire).checked_sub(1)
    }

    pub(crate) fn set_goaway(&self, retry_ms: Option<u64>) {
        let value = retry_ms.map_or(0, |millis| millis.saturating_add(1));
        self.goaway.store(value, Ordering::Release);
    }

    /// Takes a place among the connections; false when all are taken.
    pub(crate) fn take_place(&self) -> bool {
        let most = match self.limits.max_connections {
            0 => usize::MAX,
            most => most,
        };
        self.places
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
                (taken < most).then_some(taken + 1)
            })
            .is_ok()
    }

    pub(crate) fn free_place(&self) {
        self.places.fetch_sub(1, Ordering::AcqRel);
    }

    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Acquire)
    }

    pub(crate) fn session(&self, id: SessionId) -> Option<Session> {
        lock(&self.sessions).get(&id).cloned()
    }

    pub(crate) fn sessions(&self) -> Vec<Session> {
        lock(&self.sessions).values().cloned().collect()
    }

    /// All sessions with handlers, those that can no longer be found included.
    pub(crate) fn sessions_with_handlers(&self) -> Vec<Session> {
        let mut sessions = self.sessions();
        sessions.extend(lock(&self.ending).values().cloned());
        sessions
    }

    pub(crate) fn session_count(&self) -> usize {
        lock(&self.sessions).len()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.recorder.retire();
    }
}
