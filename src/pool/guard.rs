//! What is lent, and the wait for it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::state::{Entry, Place, State};
use super::stats::Why;
use super::{Inner, Manage, closing};
use crate::error::PoolError;
use crate::session::shared::lock;

/// An item of a pool, lent. Dropping it gives it back.
pub struct Pooled<M: Manage> {
    /// `None` only while the guard is taken apart.
    entry: Option<Entry<M::Item>>,
    inner: Arc<Inner<M>>,
    pub(super) has_to_be_checked: bool,
    /// A check has begun and has not said yes.
    suspect: bool,
}

impl<M: Manage> Pooled<M> {
    /// For an item that is counted as in use.
    pub(super) fn new(inner: &Arc<Inner<M>>, entry: Entry<M::Item>) -> Self {
        Pooled {
            entry: Some(entry),
            inner: Arc::clone(inner),
            has_to_be_checked: false,
            suspect: false,
        }
    }

    /// Takes the item out of the pool, which may make another one. It is never closed by the pool.
    pub fn detach(self) -> M::Item {
        let inner = Arc::clone(&self.inner);
        let entry = self.into_entry();
        {
            let mut state = lock(&inner.state);
            state.leave(Place::InUse);
            state.counts.closed.count(Why::Detached);
        }
        inner.wake.notify_one();
        entry.item
    }

    /// Has the pool close the item instead of keeping it.
    pub fn discard(self) {
        self.retire(Why::Discarded);
    }

    pub(super) fn retire(self, why: Why) {
        let inner = Arc::clone(&self.inner);
        inner.retire(self.into_entry(), Place::InUse, why);
    }

    pub(super) fn has_to_be_checked(&self) -> bool {
        self.has_to_be_checked
    }

    /// The item, for a check. Unless it is [trusted](Self::trust) afterwards, it is closed.
    pub(super) fn suspect(&mut self) -> &mut M::Item {
        self.suspect = true;
        self
    }

    /// The check said yes.
    pub(super) fn trust(&mut self) {
        self.suspect = false;
        self.has_to_be_checked = false;
        if let Some(entry) = &mut self.entry {
            entry.checked = Instant::now();
        }
    }

    /// Whether the manager knows that the item is broken. If asking panics, it is.
    pub(super) fn is_broken(&self) -> bool {
        let ask = AssertUnwindSafe(|| self.inner.manager.is_broken(self));
        catch_unwind(ask).unwrap_or(true)
    }

    /// Whether the item may come back by itself. If asking panics, it does not.
    pub(super) fn is_away(&self) -> bool {
        let ask = AssertUnwindSafe(|| self.inner.manager.recover(self).is_some());
        catch_unwind(ask).unwrap_or(false)
    }

    /// The keeper waits until the item is back.
    pub(super) fn set_aside(self) {
        let inner = Arc::clone(&self.inner);
        inner.set_aside(self.into_entry());
    }

    #[allow(
        clippy::expect_used,
        reason = "the entry is taken only by what takes the guard"
    )]
    pub(super) fn entry(&self) -> &Entry<M::Item> {
        self.entry.as_ref().expect("the guard is whole")
    }

    #[allow(
        clippy::expect_used,
        reason = "the entry is taken only by what takes the guard"
    )]
    pub(super) fn into_entry(mut self) -> Entry<M::Item> {
        self.entry.take().expect("the guard is whole")
    }

    /// Where the item goes that is given back.
    fn give_back(&mut self) {
        if self.entry.is_some()
            && !self.suspect
            && self.is_away()
            && let Some(entry) = self.entry.take()
        {
            return self.inner.set_aside(entry);
        }
        let fate = match (self.suspect, self.is_broken_or_gone()) {
            (_, None) => return,
            (true, _) => Some(Why::Check),
            (false, Some(true)) => Some(Why::Broken),
            (false, Some(false)) => None,
        };
        let Some(mut entry) = self.entry.take() else {
            return;
        };
        let config = &self.inner.config;
        if let Some(why) = fate {
            return self.inner.retire(entry, Place::InUse, why);
        }
        if !config.has_no_clock() {
            let now = Instant::now();
            if entry.expires.is_some_and(|at| at <= now) {
                return self.inner.retire(entry, Place::InUse, Why::Age);
            }
            entry.idle_since = now;
            entry.seen = now;
        }
        if config.check_on_return {
            let mut state = lock(&self.inner.state);
            if state.has_keeper {
                state.leave(Place::InUse);
                state.checking += 1;
                state.returned.push(entry);
                drop(state);
                return self.inner.wake.notify_one();
            }
        }
        self.inner.place(entry, Place::InUse);
    }

    fn is_broken_or_gone(&self) -> Option<bool> {
        self.entry.as_ref()?;
        Some(self.suspect || self.is_broken())
    }
}

impl<M: Manage> Deref for Pooled<M> {
    type Target = M::Item;

    fn deref(&self) -> &M::Item {
        &self.entry().item
    }
}

impl<M: Manage> DerefMut for Pooled<M> {
    #[allow(
        clippy::expect_used,
        reason = "the entry is taken only by what takes the guard"
    )]
    fn deref_mut(&mut self) -> &mut M::Item {
        &mut self.entry.as_mut().expect("the guard is whole").item
    }
}

impl<M: Manage> Drop for Pooled<M> {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Without the item, which may be anything.
impl<M: Manage> fmt::Debug for Pooled<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pooled").finish_non_exhaustive()
    }
}

/// A place in the queue, which is given up when this is dropped. If an item is on its way here by then, it comes as a
/// guard and gives itself back.
pub(super) struct Waiting<M: Manage> {
    inner: Arc<Inner<M>>,
    ticket: u64,
    since: Instant,
    answer: oneshot::Receiver<Result<Pooled<M>, PoolError>>,
}

impl<M: Manage> Waiting<M> {
    pub(super) fn new(inner: &Arc<Inner<M>>, state: &mut State<M>) -> Self {
        let (waiter, answer) = oneshot::channel();
        Waiting {
            inner: Arc::clone(inner),
            ticket: state.enqueue(waiter),
            since: Instant::now(),
            answer,
        }
    }

    /// What comes.
    pub(super) async fn item(&mut self) -> Result<Pooled<M>, PoolError> {
        // Who takes a waiter out of the queue answers.
        let item = (&mut self.answer)
            .await
            .unwrap_or_else(|_| Err(closing()))?;
        let waited = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        lock(&self.inner.state).waits.record(waited, 1);
        Ok(item)
    }
}

impl<M: Manage> Drop for Waiting<M> {
    fn drop(&mut self) {
        let waiter = lock(&self.inner.state).waiters.remove(&self.ticket);
        // Not under the lock.
        drop(waiter);
    }
}
