//! The clients of a multiplexer: which one is next, when another is opened, and when one is closed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::Lease;
use crate::error::{ErrorCode, PoolError};
use crate::pool::builder::Config;
use crate::pool::stats::Why;
use crate::pool::{ClientPool, Clients, Pooled, after, closing, too_many_wait};
use crate::session::shared::lock;

/// A growth that failed is not repeated before this, as long as there is another client.
const GROW_AGAIN: Duration = Duration::from_secs(1);

/// How often the clients are looked at when nobody uses them.
const LOOK_SHORTEST: Duration = Duration::from_millis(10);
const LOOK_LONGEST: Duration = Duration::from_secs(5);

pub(super) struct Inner {
    pub(super) pool: ClientPool,
    pub(super) config: Config,
    pub(super) outstanding: usize,
    pub(super) state: Mutex<State>,
    /// Tells those who wait, the task included, that something has changed.
    pub(super) changed: watch::Sender<()>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) closed: bool,
    pub(super) slots: Vec<Arc<Slot>>,
    pub(super) growing: usize,
    /// Tasks that have not ended.
    pub(super) tasks: usize,
    pub(super) is_tended: bool,
    pub(super) waiting: usize,
    pub(super) leased: u64,
    /// When all clients were last needed.
    needed_at: Option<Instant>,
    grow_after: Option<Instant>,
    /// How many attempts to grow have failed, and how the last one did.
    pub(super) failures: u64,
    failure: Option<(ErrorCode, String)>,
}

/// A client of the multiplexer's.
pub(super) struct Slot {
    /// `None` only while it is dropped.
    pub(super) client: Option<Pooled<Clients>>,
    pub(super) outstanding: AtomicUsize,
}

impl Slot {
    #[allow(clippy::expect_used, reason = "it is taken only when this is dropped")]
    pub(super) fn client(&self) -> &Pooled<Clients> {
        self.client.as_ref().expect("the slot is whole")
    }

    pub(super) fn outstanding(&self) -> usize {
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

impl Inner {
    /// A share of the client that has the least to do; `None` when there is none yet. Opens another one if it is
    /// time.
    pub(super) fn pick(self: &Arc<Self>) -> Result<Option<Lease>, PoolError> {
        let now = Instant::now();
        let (lease, grows, tends, gone) = {
            let mut state = lock(&self.state);
            if state.closed {
                return Err(closing());
            }
            let gone = state.take_broken(&self.config, now);
            let slots = state.slots.iter();
            let best = slots.min_by_key(|slot| (slot.client().is_away(), slot.outstanding()));
            let may_wait = state.growing > 0 || state.may_grow(&self.config, now);
            // Whose session is suspended is asked only when there is no other, nor one to come.
            let best = best.filter(|slot| !(may_wait && slot.client().is_away()));
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
    pub(super) fn failed_since(&self, failures: u64) -> Result<(), PoolError> {
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
            let is_broken = slot.client().is_broken() && !slot.client().is_away();
            is_broken || expires.is_some_and(|at| at <= now)
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
pub(super) struct Task(Weak<Inner>);

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(inner) = self.0.upgrade() {
            lock(&inner.state).tasks -= 1;
            inner.changed.send_replace(());
        }
    }
}

/// A client that is being opened.
pub(super) struct Growing {
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
pub(super) struct Waiting<'a>(&'a Inner);

impl<'a> Waiting<'a> {
    pub(super) fn new(inner: &'a Inner) -> Result<Self, PoolError> {
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
