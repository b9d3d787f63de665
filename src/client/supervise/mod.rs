//! The client's task: connects, reconnects, and stops.

mod ending;
mod resuming;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::field::display;

use super::aim::Aim;
use super::backoff::Backoff;
use super::{ClientState, ClientStopReport, Inner, after};
use crate::codec::control::{Hello, Resume};
use crate::endpoint::Place;
use crate::error::{CloseReason, ConnectError, ErrorCode, RequestError, SendError};
use crate::events::{self, shown};
use crate::group::GroupName;
use crate::metrics::{EventLevel, Note};
use crate::session::driver::Opened;
use crate::session::shared::lock;
use crate::session::{Session, State};
use crate::transport::dial;
use crate::worker::pool::Workers;
use crate::worker::{NewSession, Placed};

/// By when a client shall have stopped.
#[derive(Clone, Copy, Debug)]
pub(super) struct StopRequest {
    pub(super) at: Instant,
    /// Whether a handler of the client waits for the stop, so that the stop cannot wait for it.
    pub(super) inside: bool,
}

/// How the first connection went: to whoever asked for it.
type Reply = oneshot::Sender<Result<(), ConnectError>>;

/// Answers of the server to joins that are made again.
type Rejoins = Vec<(GroupName, oneshot::Receiver<Result<(), RequestError>>)>;

/// Why the client is done.
enum End {
    /// It was asked to stop.
    Stopped,
    /// The connection ended in order and is not made again.
    Closed,
    /// It gave up. The reason is known by then.
    Failed,
}

/// How a session lost its link.
enum Left {
    /// It is over.
    Closed(CloseReason),
    /// It waits for another link.
    Suspended,
}

/// What came of trying to go on with a session.
enum Resumed {
    Yes,
    /// It is over.
    No(CloseReason),
    /// The client is done.
    End(End),
}

/// What a suspended session is asked for with.
fn ticket(session: &Session) -> Option<Resume> {
    let ticket = session.shared.resumption()?.ticket()?;
    Some(Resume {
        session_id: ticket.session_id,
        resume_token: ticket.resume_token,
        received: ticket.received,
    })
}

/// How often the endpoint that has the session is tried before another one's word counts that it is over.
const HOME_ATTEMPTS: u32 = 3;

/// Starts the client's task, unless it runs; says whether it did.
pub(super) fn start(inner: &Arc<Inner>, reply: Reply) -> bool {
    let mut running = lock(&inner.running);
    if running.is_some() {
        return false;
    }
    let hub = &inner.hub;
    hub.recorder.ensure_workers(1);
    hub.set_drain_millis(hub.timeouts.drain.as_millis() as u64);
    hub.set_goaway(None);
    inner.offline.take_queue();
    lock(&inner.groups).clear();
    *lock(&inner.reason) = None;
    *lock(&inner.report) = ClientStopReport::default();
    let mut tasks = JoinSet::new();
    let workers = Workers::start(1, hub, &mut tasks);
    let (stop, stop_asked) = watch::channel(None);
    let before = inner.state.send_replace(ClientState::Connecting);
    let supervisor = Supervisor {
        inner: Arc::clone(inner),
        workers,
        tasks,
        stop: stop_asked,
        backoff: Backoff::with_random(inner.reconnect.clone(), inner.jitter()),
        aim: Aim::new(inner),
        finished: false,
    };
    *running = Some(stop);
    // A runtime that is shutting down drops the task here and now, and that says so under this lock.
    drop(running);
    // The one task that nobody joins: it joins all others and then says that the client has ended.
    tokio::spawn(supervisor.run(before, reply));
    true
}

struct Supervisor {
    inner: Arc<Inner>,
    workers: Workers,
    tasks: JoinSet<()>,
    stop: watch::Receiver<Option<StopRequest>>,
    backoff: Backoff,
    /// The endpoint that is used or tried, and the choice of the next one.
    aim: Aim,
    finished: bool,
}

impl Supervisor {
    async fn run(mut self, before: ClientState, mut reply: Reply) {
        self.inner.notify_state(before, ClientState::Connecting);
        let mut stop = self.stop.clone();
        let inner = Arc::clone(&self.inner);
        let first = tokio::select! {
            biased;
            () = stop_asked(&mut stop) => Err((End::Stopped, stopped_meanwhile())),
            () = reply.closed() => Err((End::Stopped, stopped_meanwhile())),
            result = inner.guard.connect(self.first()) => result.map_err(|error| (End::Failed, error)),
        };
        match first {
            Err((end, error)) => {
                match end {
                    End::Failed => self.note_failure(&error),
                    _ => self.note_reason(&error),
                }
                self.finish(&end).await;
                // Nobody may wait any more.
                let _ = reply.send(Err(error));
            }
            Ok(session) => {
                let rejoins = self.connected(&session);
                let end = match reply.send(Ok(())) {
                    Ok(()) => self.keep(session, rejoins).await,
                    // Whoever connected has gone in this very moment.
                    Err(_) => End::Stopped,
                };
                self.finish(&end).await;
            }
        }
    }

    /// Tries each endpoint once, each with its share of the time that is left.
    async fn first(&mut self) -> Result<Session, ConnectError> {
        let deadline = after(self.inner.hub.timeouts.connect);
        loop {
            let share = self.aim.next_of_all(deadline).await?;
            let result = self.attempt(share, None).await;
            self.aim.settle(&result);
            match result {
                Ok(session) => return Ok(session),
                Err(error) if is_fatal(error.code()) || !self.aim.has_untried() => {
                    return Err(error);
                }
                Err(error) => self.note_failure(&error),
            }
        }
    }

    /// Makes a link to the current endpoint and opens a session on it. Dropping the future gives up the
    /// session as well.
    async fn attempt(
        &self,
        within: Duration,
        suspended: Option<&Session>,
    ) -> Result<Session, ConnectError> {
        let inner = &self.inner;
        let endpoint = self.aim.endpoint()?;
        let open = async {
            let token = inner.token.for_connection().await?;
            let (link, peer) =
                dial::connect(endpoint, &*inner.resolver, &inner.link, &inner.options).await?;
            let hello = Hello {
                client_id: inner.client_id.clone(),
                token,
                resume: suspended.and_then(ticket),
                ..Hello::default()
            };
            let resumes = suspended.map(|session| Arc::clone(&session.shared));
            let (result, opened) = oneshot::channel();
            let opened_by = Some(Box::new(Opened {
                result,
                hello,
                resumes,
            }));
            self.workers.open(
                &inner.hub,
                NewSession {
                    link: Placed::Here(link),
                    peer,
                    permit: None,
                    opened: opened_by,
                    refused: None,
                },
            );
            opened.await.unwrap_or_else(|_| {
                Err(ConnectError::new(
                    ErrorCode::ConnectionClosed,
                    "the client has ended",
                ))
            })
        };
        inner.hub.set_goaway(None);
        events::connecting {
            endpoint: display(Place(endpoint)),
            attempt: self.backoff.attempt(),
        }
        .emit();
        timeout(within, open)
            .await
            .unwrap_or_else(|_| Err(ConnectError::timeout(Place(endpoint), within)))
    }

    /// A session is open: what is queued goes there, after the groups have been joined again.
    fn connected(&self, session: &Session) -> Rejoins {
        let inner = &self.inner;
        events::connected {
            endpoint: display(self.aim.place()),
            session: session.id().as_u64(),
        }
        .emit();
        let groups: Vec<_> = lock(&inner.groups).iter().cloned().collect();
        let rejoins = groups
            .into_iter()
            .filter_map(|group| {
                let answer = session.change_group(true, &group).ok()?;
                Some((group, answer))
            })
            .collect();
        if let Some(resumption) = session.shared.resumption()
            && inner.reconnect.is_enabled()
        {
            resumption.set_next();
        }
        inner.offline.attach(session);
        inner.set_state(ClientState::Connected);
        rejoins
    }

    /// Keeps the client connected until it is done.
    async fn keep(&mut self, mut session: Session, mut rejoins: Rejoins) -> End {
        loop {
            let opened_at = Instant::now();
            let mut stop = self.stop.clone();
            let left = tokio::select! {
                biased;
                () = stop_asked(&mut stop) => return End::Stopped,
                left = self.left(&session) => left,
                never = self.hand_over(&session, rejoins) => match never {},
                never = self.inner.token.keep_fresh(&session, self.inner.hub.timeouts.request) => match never {},
            };
            let reason = match left {
                Left::Closed(reason) => reason,
                Left::Suspended => match self.resume(&session, opened_at.elapsed()).await {
                    Resumed::Yes => {
                        self.resumed(&session);
                        rejoins = Vec::new();
                        continue;
                    }
                    Resumed::No(reason) => reason,
                    Resumed::End(end) => return end,
                },
            };
            self.carry_over(&session);
            events::disconnected {
                session: session.id().as_u64(),
                by: events::ended_by(&reason),
                code: reason.code().map(ErrorCode::as_i32),
                reason: shown(reason.text()),
            }
            .emit();
            *lock(&self.inner.reason) = Some(reason.clone());
            self.aim.ended(&reason);
            if let Some(end) = self.ends_with(&session, &reason) {
                return end;
            }
            self.inner.set_state(ClientState::Reconnecting);
            session = match self.reconnect(opened_at.elapsed()).await {
                Ok(session) => session,
                Err(end) => return end,
            };
            rejoins = self.connected(&session);
        }
    }

    /// Waits until the session has no link any more.
    async fn left(&self, session: &Session) -> Left {
        loop {
            let goaway = self.inner.hub.goaway_heard.notified();
            let state = session.state();
            if let Some(reason) = session.close_reason() {
                return Left::Closed(reason);
            }
            if state == State::Suspended {
                return Left::Suspended;
            }
            if self.inner.hub.goaway().is_some() && session.is_reliable() {
                // What is sent from now on is for the next session: this one acknowledges no more for long.
                self.inner.offline.pause(session);
            }
            tokio::select! {
                _ = session.state_changed(state) => {}
                () = goaway => {}
            }
        }
    }

    /// Tells of the attempt that begins after a pause.
    fn announce(&self, pause: Duration) {
        events::reconnecting {
            attempt: self.backoff.attempt(),
            pause_ms: pause.as_millis() as u64,
        }
        .emit();
    }

    /// The session has its next link.
    fn resumed(&self, session: &Session) {
        events::connected {
            endpoint: display(self.aim.place()),
            session: session.id().as_u64(),
        }
        .emit();
        self.inner.offline.attach(session);
        self.inner.set_state(ClientState::Connected);
    }

    /// Hands over what is queued, and hears how joining again went. Ends with the session only.
    async fn hand_over(&self, session: &Session, rejoins: Rejoins) -> std::convert::Infallible {
        let inner = &self.inner;
        let flush = inner
            .offline
            .flush(session, |error| self.refused(session, &error));
        let rejoin = async {
            for (group, answer) in rejoins {
                // Without an answer the session has ended, and the next one joins again.
                if let Ok(Err(error)) = answer.await
                    && session.is_connected()
                {
                    events::rejoin_failed {
                        group: display(&group),
                        code: error.code().as_i32(),
                        error: shown(&error),
                    }
                    .emit();
                    lock(&inner.groups).remove(&group);
                }
            }
        };
        tokio::join!(flush, rejoin, self.aim.watch_name(session));
        std::future::pending().await
    }

    /// The session does not take a message that was queued.
    fn refused(&self, session: &Session, error: &SendError) {
        let hub = &self.inner.hub;
        hub.recorder.totals.dropped.fetch_add(1, Ordering::Relaxed);
        // A panic in the application's error handler must not end the client.
        let text = error.to_string();
        let call = || hub.service.error(session, error.code(), &text);
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
    }

    fn has_ended_by_application(&self, session: &Session) -> bool {
        session
            .shared
            .extra_if_any()
            .and_then(|extra| extra.close_request.get())
            // The queue's own policy asks in the same way.
            .is_some_and(|reason| reason.code() != Some(ErrorCode::SlowConsumer))
    }

    /// Whether a session that ended so is not made again.
    fn ends_with(&self, session: &Session, reason: &CloseReason) -> Option<End> {
        if self.has_ended_by_application(session) && !self.aim.is_moving() {
            return Some(End::Closed);
        }
        // A session whose identity has expired comes back with another token.
        let is_stale =
            |code| code == ErrorCode::AuthenticationFailed && self.inner.token.has_source();
        if reason
            .code()
            .is_some_and(|code| is_fatal(code) && !is_stale(code))
        {
            return Some(End::Failed);
        }
        match self.inner.reconnect.is_enabled() {
            true => None,
            false if reason.is_orderly() => Some(End::Closed),
            false => Some(End::Failed),
        }
    }

    /// Tries until there is a session again, after one that `lasted` so long.
    async fn reconnect(&mut self, lasted: Duration) -> Result<Session, End> {
        let inner = Arc::clone(&self.inner);
        let mut stop = self.stop.clone();
        let goaway = self.inner.hub.goaway();
        let mut delay = if lasted >= self.backoff.proof() {
            self.backoff.reset();
            match goaway {
                // Others need not wait until the one that is stopping is back.
                Some(retry) if !self.aim.has_other() => Some(self.backoff.after(retry)),
                _ => self.backoff.next_delay(Instant::now()),
            }
        } else {
            // As good as a failed attempt. Not even a goaway may ask to come back sooner.
            self.aim.turn_away();
            let hint = goaway.filter(|_| !self.aim.has_other());
            let hint = hint.map_or(Duration::ZERO, |retry| self.backoff.after(retry));
            self.backoff
                .next_delay(Instant::now())
                .map(|delay| delay.max(hint))
        };
        while let Some(pause) = delay {
            self.announce(pause);
            let spread = self.backoff.spread();
            let result = tokio::select! {
                biased;
                () = stop_asked(&mut stop) => return Err(End::Stopped),
                result = async {
                    sleep(pause).await;
                    let within = self.inner.hub.timeouts.connect;
                    let attempt = async {
                        let left = self.aim.next(within).await?;
                        let result = self.attempt(left, None).await;
                        self.aim.settle(&result);
                        result
                    };
                    inner.guard.reconnect(spread, attempt).await
                } => result,
            };
            match result {
                Ok(session) => return Ok(session),
                Err(error) => {
                    self.note_failure(&error);
                    if is_fatal(error.code()) {
                        return Err(End::Failed);
                    }
                }
            }
            delay = self.backoff.next_delay(Instant::now());
        }
        events::reconnect_gave_up {
            attempts: self.backoff.attempt(),
        }
        .emit();
        Err(End::Failed)
    }

    fn note_failure(&self, error: &ConnectError) {
        events::connect_failed {
            endpoint: display(self.aim.place()),
            code: error.code().as_i32(),
            error: shown(events::Chain(error)),
        }
        .emit();
        let totals = &self.inner.hub.recorder.totals;
        totals.failed_attempts.fetch_add(1, Ordering::Relaxed);
        self.inner.hub.recorder.note(Note {
            level: EventLevel::Warning,
            kind: "connect_failed",
            session: None,
            code: Some(error.code()),
            text: format_args!("{}", events::Chain(error)),
        });
        totals.error(error.code());
        self.note_reason(error);
    }

    fn note_reason(&self, error: &ConnectError) {
        let reason = CloseReason::transport(error.code(), error.to_string());
        *lock(&self.inner.reason) = Some(reason);
    }
}

impl Drop for Supervisor {
    /// The runtime may end before the client has: whoever waits for it learns that it is over.
    fn drop(&mut self) {
        if !self.finished {
            self.ended(ClientState::Failed);
        }
    }
}

impl Inner {
    fn set_state(&self, state: ClientState) {
        let before = self.state.send_replace(state);
        self.notify_state(before, state);
    }

    fn notify_state(&self, before: ClientState, state: ClientState) {
        if let Some(inbox) = &self.inbox {
            inbox.wake();
        }
        if let Some(handler) = self.on_state_change.as_ref().filter(|_| before != state) {
            // A panic in the application's handler must not end the client.
            let call = std::panic::AssertUnwindSafe(|| handler(before, state));
            if std::panic::catch_unwind(call).is_err() {
                events::state_handler_panicked {}.emit();
            }
        }
    }
}

/// Errors that the same attempt meets again, until somebody changes something.
///
/// Narrower than [`ErrorCode::is_retryable`], which is about doing the very same again: a connection
/// that ended because a message was too long or a handler failed is a new one when it is made again, and
/// bytes that are no frames may come from a proxy whose server is restarting.
fn is_fatal(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::AuthenticationFailed
            | ErrorCode::AccessDenied
            | ErrorCode::UnsupportedVersion
            | ErrorCode::NotSupported
            | ErrorCode::InvalidConfiguration
            | ErrorCode::TlsHandshakeFailed
    )
}

fn stopped_meanwhile() -> ConnectError {
    ConnectError::new(
        ErrorCode::ShuttingDown,
        "the client was stopped while it was connecting",
    )
}

/// Waits until the client is asked to stop.
async fn stop_asked(stop: &mut watch::Receiver<Option<StopRequest>>) {
    if stop.wait_for(Option::is_some).await.is_err() {
        // The sender goes when the client has ended, and then nobody waits here.
        std::future::pending::<()>().await;
    }
}

/// Waits for the deadline of the stop, which can become shorter; `fallback` without a stop.
async fn deadline(stop: &mut watch::Receiver<Option<StopRequest>>, fallback: Instant) {
    loop {
        let at = stop
            .borrow_and_update()
            .map_or(fallback, |request| request.at);
        tokio::select! {
            biased;
            () = sleep_until(at) => return,
            changed = stop.changed() => if changed.is_err() {
                sleep_until(at).await;
                return;
            },
        }
    }
}
