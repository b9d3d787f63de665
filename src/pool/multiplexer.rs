//! Many callers on few clients.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::builder::{Config, within};
use super::stats::Why;
use super::{ClientPool, Clients, PoolBuilder, PoolReport, PoolStats, Pooled};
use super::{after, closing, too_many_wait};
use crate::client::Client;
use crate::error::{ConfigError, ErrorCode, PoolError, RequestError};
use crate::message::{Message, Outgoing};
use crate::session::shared::lock;

/// How many requests a client has outstanding when another one is opened, unless the builder says otherwise. With
/// that many, each read and each write carries several, and the answers still come soon.
const OUTSTANDING: usize = 32;
const OUTSTANDING_MAX: usize = 1_048_576;

/// A growth that failed is not repeated before this, as long as there is another client.
const GROW_AGAIN: Duration = Duration::from_secs(1);

/// How often the clients are looked at when nobody uses them.
const LOOK_SHORTEST: Duration = Duration::from_millis(10);
const LOOK_LONGEST: Duration = Duration::from_secs(5);

/// Few clients that many callers share: each request goes to the client with the fewest outstanding.
///
/// When all have as many outstanding as [`MultiplexerBuilder::outstanding`] says, another client is opened in the
/// background, up to the maximum; nobody waits for it but those who come while there is none at all. A client that has
/// not been needed for the idle limit is closed, when its last request has been answered.
///
/// ```
/// use std::time::Duration;
/// use network_system::{Client, Message, Server, pool::ClientPool};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder()
/// #     .listen("tcp://127.0.0.1:0")
/// #     .on_request(|_, question: Message| async move { Ok(question) })
/// #     .build()?;
/// # server.start().await?;
/// # let url = server.urls().remove(0);
/// let backend = ClientPool::clients(move || Client::builder().endpoint(&url))
///     .maximum(4)
///     .multiplexed()
///     .build()?;
/// let (one, two) = tokio::join!(
///     backend.request("one", Duration::from_secs(5)),
///     backend.request("two", Duration::from_secs(5)),
/// );
/// assert_eq!((one?.payload(), two?.payload()), (&b"one"[..], &b"two"[..]));
/// assert_eq!(backend.stats().clients, 1);
/// backend.close().await;
/// # server.stop().await?;
/// # Ok(())
/// # }
/// ```
///
/// A multiplexer is a handle: cheap to clone, all clones are the same. Dropping the last one closes its clients.
#[derive(Clone)]
pub struct Multiplexer {
    inner: Arc<Inner>,
}

struct Inner {
    pool: ClientPool,
    config: Config,
    outstanding: usize,
    state: Mutex<State>,
    /// Tells those who wait, the task included, that something has changed.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    closed: bool,
    slots: Vec<Arc<Slot>>,
    growing: usize,
    /// Tasks that have not ended.
    tasks: usize,
    is_tended: bool,
    waiting: usize,
    leased: u64,
    /// When all clients were last needed.
    needed_at: Option<Instant>,
    grow_after: Option<Instant>,
    /// How many attempts to grow have failed, and how the last one did.
    failures: u64,
    failure: Option<(ErrorCode, String)>,
}

/// A client of the multiplexer's.
struct Slot {
    /// `None` only while it is dropped.
    client: Option<Pooled<Clients>>,
    outstanding: AtomicUsize,
}

impl Slot {
    #[allow(clippy::expect_used, reason = "it is taken only when this is dropped")]
    fn client(&self) -> &Pooled<Clients> {
        self.client.as_ref().expect("the slot is whole")
    }

    fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }
}

impl Drop for Slot {
    /// Nobody uses it any more, and it was taken out: the pool is not to keep it.
    fn drop(&mut self) {
        let Some(client) = self.client.take() else {
            return;
        };
        match client.is_connected() {
            true => client.retire(Why::Idle),
            false => drop(client),
        }
    }
}

/// A share of a client, which counts as one outstanding request until it is dropped.
pub struct Lease {
    slot: Arc<Slot>,
}

impl Lease {
    /// The client that is shared.
    pub fn client(&self) -> &Client {
        self
    }
}

impl Deref for Lease {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.slot.client()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.slot.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(self.client()).finish()
    }
}

/// A multiplexer at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MultiplexerStats {
    /// Clients that new requests can go to.
    pub clients: usize,
    /// Clients that are being opened.
    pub opening: usize,
    /// Leases that have not ended, requests included.
    pub outstanding: usize,
    /// Callers that wait for the first client.
    pub waiting: usize,
    /// Leases and requests so far.
    pub leased: u64,
    /// The pool that the clients come from.
    pub pool: PoolStats,
}

/// Configures a [`Multiplexer`]. Made by [`PoolBuilder::multiplexed`].
#[must_use = "a builder does nothing before `build`"]
#[derive(Debug)]
pub struct MultiplexerBuilder {
    pool: PoolBuilder<Clients>,
    outstanding: usize,
}

impl PoolBuilder<Clients> {
    /// Makes this the configuration of a multiplexer, whose clients are shared instead of lent.
    ///
    /// The minimum and maximum are those of clients; the idle limit says when a client is closed that the others
    /// do not need; the waiters are those who wait for the first client. The age limit is obeyed when the clients are
    /// looked at, every few seconds. Checks are not: heartbeats show whether a shared client works.
    pub fn multiplexed(self) -> MultiplexerBuilder {
        MultiplexerBuilder {
            pool: self,
            outstanding: OUTSTANDING,
        }
    }
}

impl MultiplexerBuilder {
    /// Sets how many requests each client has outstanding before another one is opened, 1 to 1,048,576. Default 32.
    ///
    /// At the maximum of clients it is no limit: that is [`Limits::pending_requests`](crate::Limits) of each client.
    pub fn outstanding(mut self, requests: usize) -> Self {
        self.outstanding = requests;
        self
    }

    /// Checks the configuration and makes the multiplexer, which opens no client before it is used.
    ///
    /// # Errors
    /// `invalid_configuration`, with the option and what is valid.
    pub fn build(self) -> Result<Multiplexer, ConfigError> {
        within("outstanding", self.outstanding, 1, OUTSTANDING_MAX)?;
        let config = self.pool.config().clone();
        // What is idle or too few is decided here.
        let pool = self.pool.build_lending(&config)?;
        let inner = Inner {
            pool,
            config,
            outstanding: self.outstanding,
            state: Mutex::default(),
            changed: watch::Sender::new(()),
        };
        Ok(Multiplexer {
            inner: Arc::new(inner),
        })
    }
}

impl Multiplexer {
    /// Sends a request on the client with the fewest outstanding and waits for the answer; opens the first client if
    /// there is none. All of it within `timeout`.
    ///
    /// Dropping the future gives up waiting. A request that was in flight when its connection was lost fails with the
    /// reason, as it may have been carried out.
    ///
    /// # Errors
    /// As [`lease`](Self::lease) and [`Client::request`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn request<M: Outgoing>(
        &self,
        message: M,
        timeout: Duration,
    ) -> Result<Message, RequestError> {
        let deadline = after(timeout);
        let lease = self.lease_timeout(timeout).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        lease.request(message, left).await
    }

    /// Takes a share of the client with the fewest outstanding requests. It is for requests; messages that belong
    /// together have to be sent on one lease.
    ///
    /// # Errors
    /// `connection_timeout` when no client could be opened in the [pool's time](PoolBuilder::acquire_timeout),
    /// `queue_full` when too many wait for the first one, `shutting_down` after [`close`](Self::close), and why the
    /// first client could not be opened.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn lease(&self) -> Result<Lease, PoolError> {
        self.lease_timeout(self.inner.config.acquire_timeout).await
    }

    /// The same with another time.
    ///
    /// # Errors
    /// As [`lease`](Self::lease).
    ///
    /// # Panics
    /// As [`lease`](Self::lease).
    pub async fn lease_timeout(&self, timeout: Duration) -> Result<Lease, PoolError> {
        let inner = &self.inner;
        let failures = lock(&inner.state).failures;
        if let Some(lease) = inner.pick()? {
            return Ok(lease);
        }
        let deadline = after(timeout);
        let mut changed = inner.changed.subscribe();
        let _waiting = Waiting::new(inner)?;
        loop {
            changed.borrow_and_update();
            inner.failed_since(failures)?;
            if let Some(lease) = inner.pick()? {
                return Ok(lease);
            }
            // The sender lives as long as this.
            if timeout_at(deadline, changed.changed()).await.is_err() {
                let text = format!("no client within {timeout:?}");
                return Err(PoolError::new(ErrorCode::ConnectionTimeout, text));
            }
        }
    }

    /// Closes the clients, within 10 s unless the builder says otherwise: see [`close_within`](Self::close_within).
    pub async fn close(&self) -> PoolReport {
        self.close_within(self.inner.config.drain).await
    }

    /// Lets nobody in any more, waits for the requests that are outstanding, and closes the clients. When this
    /// returns, all tasks have ended. Dropping the future does not take it back.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn close_within(&self, deadline: Duration) -> PoolReport {
        let inner = &self.inner;
        let slots = {
            let mut state = lock(&inner.state);
            state.closed = true;
            std::mem::take(&mut state.slots)
        };
        drop(slots);
        inner.changed.send_replace(());
        let report = inner.pool.close_within(deadline).await;
        let mut changed = inner.changed.subscribe();
        while lock(&inner.state).tasks > 0 {
            // The sender lives as long as this.
            let _ = changed.changed().await;
        }
        report
    }

    /// How many there are, and what was counted.
    pub fn stats(&self) -> MultiplexerStats {
        let pool = self.inner.pool.stats();
        let state = lock(&self.inner.state);
        MultiplexerStats {
            clients: state.slots.len(),
            opening: state.growing,
            outstanding: state.slots.iter().map(|slot| slot.outstanding()).sum(),
            waiting: state.waiting,
            leased: state.leased,
            pool,
        }
    }
}

impl fmt::Debug for Multiplexer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.inner.state);
        f.debug_struct("Multiplexer")
            .field("clients", &state.slots.len())
            .field("opening", &state.growing)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// A share of the client that has the least to do; `None` when there is none yet. Opens another one if it is
    /// time.
    fn pick(self: &Arc<Self>) -> Result<Option<Lease>, PoolError> {
        let now = Instant::now();
        let (lease, grows, tends, gone) = {
            let mut state = lock(&self.state);
            if state.closed {
                return Err(closing());
            }
            let gone = state.take_broken(&self.config, now);
            let best = state.slots.iter().min_by_key(|slot| slot.outstanding());
            let lease = best.map(|slot| {
                slot.outstanding.fetch_add(1, Ordering::Relaxed);
                Lease {
                    slot: Arc::clone(slot),
                }
            });
            state.leased += u64::from(lease.is_some());
            state.note_need(self.outstanding, now);
            let load = lease.as_ref().map(|lease| lease.slot.outstanding());
            // Its own lease included.
            let is_full = load.is_none_or(|load| load > self.outstanding);
            let too_few = state.slots.len() + state.growing < self.config.minimum;
            let grows = (is_full || too_few) && state.may_grow(&self.config, now);
            if grows {
                state.growing += 1;
                state.tasks += 1;
            }
            let tends = !std::mem::replace(&mut state.is_tended, true);
            state.tasks += usize::from(tends);
            (lease, grows, tends, gone)
        };
        drop(gone);
        if grows {
            self.grow();
        }
        if tends {
            let task = Task(Arc::downgrade(self));
            tokio::spawn(tend(task, self.changed.subscribe(), self.look_every()));
        }
        Ok(lease)
    }

    /// Opens another client, which is counted as growing.
    fn grow(self: &Arc<Self>) {
        let pool = self.pool.clone();
        let mut growing = Growing {
            task: Task(Arc::downgrade(self)),
            failure: Some((
                ErrorCode::ConnectionFailed,
                "opening a client was cut off".to_owned(),
            )),
        };
        tokio::spawn(async move {
            match pool.acquire().await {
                Ok(client) => growing.done(client),
                Err(error) => growing.failure = Some((error.code(), error.to_string())),
            }
            // In this order, so that nobody sees the task ended and the growth not.
            drop(growing);
        });
    }

    /// Why no client could be opened, if that was since there were so many failures, and there is none.
    fn failed_since(&self, failures: u64) -> Result<(), PoolError> {
        let state = lock(&self.state);
        match &state.failure {
            Some((code, text)) if state.failures > failures && state.slots.is_empty() => {
                Err(PoolError::new(*code, text.clone()))
            }
            _ => Ok(()),
        }
    }

    fn look_every(&self) -> Duration {
        let shortest = [self.config.idle_timeout, self.config.max_age];
        match shortest.into_iter().flatten().min() {
            None => LOOK_LONGEST,
            Some(time) => (time / 4).clamp(LOOK_SHORTEST, LOOK_LONGEST),
        }
    }

    /// Closes what nobody needs, and opens what there should be; says whether to go on.
    fn look(self: &Arc<Self>) -> bool {
        let now = Instant::now();
        let (gone, grows) = {
            let mut state = lock(&self.state);
            if state.closed {
                return false;
            }
            let mut gone = state.take_broken(&self.config, now);
            state.note_need(self.outstanding, now);
            let idle = state.needed_at.map(|at| now.duration_since(at));
            let is_idle = self.config.idle_timeout.zip(idle);
            if is_idle.is_some_and(|(most, idle)| idle >= most)
                && state.slots.len() > self.config.minimum
            {
                gone.extend(state.take_least());
                state.needed_at = Some(now);
            }
            let too_few = state.slots.len() + state.growing < self.config.minimum;
            let grows = too_few && state.may_grow(&self.config, now);
            if grows {
                state.growing += 1;
                state.tasks += 1;
            }
            (gone, grows)
        };
        drop(gone);
        if grows {
            self.grow();
        }
        true
    }
}

impl State {
    /// Takes out the clients that have lost their connections or are too old. What is in flight on them goes on.
    fn take_broken(&mut self, config: &Config, now: Instant) -> Vec<Arc<Slot>> {
        let is_over = |slot: &Arc<Slot>| {
            let expires = config.max_age.and_then(|_| slot.client().entry().expires);
            slot.client().is_broken() || expires.is_some_and(|at| at <= now)
        };
        let mut gone = Vec::new();
        let mut at = 0;
        while at < self.slots.len() {
            match is_over(&self.slots[at]) {
                true => gone.push(self.slots.remove(at)),
                false => at += 1,
            }
        }
        gone
    }

    /// Takes out the client with the least to do.
    fn take_least(&mut self) -> Option<Arc<Slot>> {
        let slots = self.slots.iter().enumerate().rev();
        let (at, _) = slots.min_by_key(|(_, slot)| slot.outstanding())?;
        Some(self.slots.remove(at))
    }

    /// Remembers when there was more to do than one client less could do at half of what it takes to grow again.
    fn note_need(&mut self, each: usize, now: Instant) {
        let load: usize = self.slots.iter().map(|slot| slot.outstanding()).sum();
        let others = self.slots.len().saturating_sub(1);
        if load * 2 > others * each || self.needed_at.is_none() {
            self.needed_at = Some(now);
        }
    }

    fn may_grow(&self, config: &Config, now: Instant) -> bool {
        let has_to_wait = self.grow_after.is_some_and(|at| now < at) && !self.slots.is_empty();
        self.growing == 0 && !has_to_wait && self.slots.len() < config.maximum
    }
}

/// A task of the multiplexer's, until it has ended, however that is.
struct Task(Weak<Inner>);

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(inner) = self.0.upgrade() {
            lock(&inner.state).tasks -= 1;
            inner.changed.send_replace(());
        }
    }
}

/// A client that is being opened.
struct Growing {
    task: Task,
    failure: Option<(ErrorCode, String)>,
}

impl Growing {
    fn done(&mut self, client: Pooled<Clients>) {
        self.failure = None;
        let Some(inner) = self.task.0.upgrade() else {
            return;
        };
        let slot = Arc::new(Slot {
            client: Some(client),
            outstanding: AtomicUsize::new(0),
        });
        let mut state = lock(&inner.state);
        if state.closed {
            drop(state);
            return drop(slot);
        }
        state.slots.push(slot);
        state.needed_at = Some(Instant::now());
        state.grow_after = None;
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        let Some(inner) = self.task.0.upgrade() else {
            return;
        };
        let mut state = lock(&inner.state);
        state.growing -= 1;
        if let Some(failure) = self.failure.take() {
            state.failures += 1;
            state.failure = Some(failure);
            state.grow_after = Some(after(GROW_AGAIN));
        }
        drop(state);
        inner.changed.send_replace(());
    }
}

/// A caller that waits for the first client.
struct Waiting<'a>(&'a Inner);

impl<'a> Waiting<'a> {
    fn new(inner: &'a Inner) -> Result<Self, PoolError> {
        let mut state = lock(&inner.state);
        if state.waiting >= inner.config.waiters {
            return Err(too_many_wait(inner.config.waiters));
        }
        state.waiting += 1;
        Ok(Waiting(inner))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).waiting -= 1;
    }
}

/// Looks at the clients now and then, as long as there is a multiplexer.
async fn tend(task: Task, mut changed: watch::Receiver<()>, every: Duration) {
    loop {
        tokio::select! {
            () = sleep(every) => {}
            result = changed.changed() => match result {
                Ok(()) if task.0.upgrade().is_some_and(|inner| !lock(&inner.state).closed) => continue,
                _ => return,
            },
        }
        if !task.0.upgrade().is_some_and(|inner| inner.look()) {
            return;
        }
    }
}
