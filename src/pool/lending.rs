//! How items go from hand to hand.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::guard::{Pooled, Waiting};
use super::keeper::Keeper;
use super::state::{Entry, Phase, Place};
use super::stats::Why;
use super::{Inner, Manage, after, closing, too_many_wait};
use crate::error::{ErrorCode, PoolError};
use crate::session::shared::lock;

/// What there is for who comes.
pub(super) enum Taken<M: Manage> {
    Item(Pooled<M>),
    Wait(Waiting<M>),
}

impl<M: Manage> Inner<M> {
    /// Takes what is idle, and otherwise a place in the queue.
    pub(super) fn take(self: &Arc<Self>) -> Result<Taken<M>, PoolError> {
        loop {
            let entry = {
                let mut state = lock(&self.state);
                state.check_open()?;
                match state.idle.pop_back() {
                    Some(entry) => state.lend(entry),
                    None => {
                        if state.waiters.len() >= self.config.waiters {
                            state.counts.refused += 1;
                            return Err(too_many_wait(self.config.waiters));
                        }
                        return Ok(Taken::Wait(Waiting::new(self, &mut state)));
                    }
                }
            };
            if let Some(pooled) = self.usable(entry) {
                return Ok(Taken::Item(pooled));
            }
        }
    }

    /// Takes what is idle.
    pub(super) fn take_idle(self: &Arc<Self>) -> Result<Option<Pooled<M>>, PoolError> {
        loop {
            let entry = {
                let mut state = lock(&self.state);
                state.check_open()?;
                match state.idle.pop_back() {
                    Some(entry) => state.lend(entry),
                    None => return Ok(None),
                }
            };
            if let Some(pooled) = self.usable(entry) {
                return Ok(Some(pooled));
            }
        }
    }

    /// An item that was idle, as a guard, unless nothing more can be done with it.
    pub(super) fn usable(self: &Arc<Self>, entry: Entry<M::Item>) -> Option<Pooled<M>> {
        // Whatever happens from here on, the guard gives it back.
        let mut pooled = Pooled::new(self, entry);
        if pooled.is_away() {
            lock(&self.state).counts.acquired -= 1;
            pooled.set_aside();
            return None;
        }
        match self.unfit(&mut pooled) {
            None => Some(pooled),
            Some(why) => {
                lock(&self.state).counts.acquired -= 1;
                pooled.retire(why);
                None
            }
        }
    }

    /// Why an item that was idle cannot be lent; says in the guard whether it has to be checked first.
    pub(super) fn unfit(&self, pooled: &mut Pooled<M>) -> Option<Why> {
        if pooled.is_broken() {
            return Some(Why::Broken);
        }
        let config = &self.config;
        if config.has_no_clock() {
            return None;
        }
        let entry = pooled.entry();
        let now = Instant::now();
        if entry.expires.is_some_and(|at| at <= now) {
            return Some(Why::Age);
        }
        let check = config.check_after_idle;
        let due = check.is_some_and(|most| now.duration_since(entry.seen) >= most);
        pooled.has_to_be_checked = due;
        None
    }

    /// Checks an item before it is lent; `None` when it is not fit.
    pub(super) async fn checked(
        &self,
        mut pooled: Pooled<M>,
        timeout: Duration,
        deadline: Instant,
    ) -> Result<Option<Pooled<M>>, PoolError> {
        let by = deadline.min(after(self.config.check_timeout));
        // Dropped in the middle of it, the item goes: nobody knows in which state it is.
        let fit = timeout_at(by, self.manager.check(pooled.suspect())).await;
        if let Ok(true) = fit {
            pooled.trust();
            return Ok(Some(pooled));
        }
        lock(&self.state).counts.acquired -= 1;
        drop(pooled);
        match Instant::now() >= deadline {
            true => Err(self.late(timeout)),
            false => Ok(None),
        }
    }

    /// Nothing came in time.
    pub(super) fn late(&self, timeout: Duration) -> PoolError {
        let mut state = lock(&self.state);
        state.counts.timeouts += 1;
        let text = match &state.last_failure {
            None => format!("no item of the pool within {timeout:?}"),
            Some((_, failure)) => {
                format!(
                    "no item of the pool within {timeout:?}; the last could not be made: {failure}"
                )
            }
        };
        PoolError::new(ErrorCode::ConnectionTimeout, text)
    }

    /// Wakes the keeper if it may have something to do, and starts it if there is none.
    pub(super) fn keep(self: &Arc<Self>) {
        let (starts, is_idle) = {
            let mut state = lock(&self.state);
            let starts =
                state.phase != Phase::Closed && !std::mem::replace(&mut state.has_keeper, true);
            (starts, state.is_full(&self.config))
        };
        if starts {
            // The one task that nobody joins: it joins all others and then says that the pool has closed.
            tokio::spawn(Keeper::new(Arc::clone(self)).run());
        } else if !is_idle {
            self.wake.notify_one();
        }
    }

    /// Lends nothing from here on.
    pub(super) fn begin_close(&self, deadline: Instant) {
        let waiters = {
            let mut state = lock(&self.state);
            if state.phase == Phase::Closed {
                return;
            }
            state.phase = Phase::Closing;
            let before = state.deadline.unwrap_or(deadline);
            state.deadline = Some(before.min(deadline));
            std::mem::take(&mut state.waiters)
        };
        for waiter in waiters.into_values() {
            // Who has gone needs no answer.
            let _ = waiter.send(Err(closing()));
        }
        self.closing.send_replace(true);
        self.settled.notify_waiters();
        self.wake.notify_one();
    }

    /// Gives an item to whoever waits first, or keeps it.
    pub(super) fn place(self: &Arc<Self>, mut entry: Entry<M::Item>, mut from: Place) {
        loop {
            let waiter = {
                let mut state = lock(&self.state);
                if state.phase != Phase::Open {
                    drop(state);
                    return self.retire(entry, from, Why::Closing);
                }
                match state.waiters.pop_first() {
                    None => {
                        if state.keep_idle(entry, from, &self.config) {
                            drop(state);
                            self.wake.notify_one();
                        }
                        return;
                    }
                    Some((_, waiter)) => {
                        entry = state.hand_over(entry, from);
                        waiter
                    }
                }
            };
            match waiter.send(Ok(Pooled::new(self, entry))) {
                Err(Ok(pooled)) => {
                    // That one has gone. The next one has its turn.
                    lock(&self.state).counts.acquired -= 1;
                    entry = pooled.into_entry();
                    from = Place::InUse;
                }
                Ok(()) | Err(Err(_)) => return,
            }
        }
    }

    /// Has the keeper wait for an item that was in use.
    pub(super) fn set_aside(&self, entry: Entry<M::Item>) {
        let mut state = lock(&self.state);
        if !state.has_keeper || state.phase != Phase::Open {
            drop(state);
            return self.retire(entry, Place::InUse, Why::Broken);
        }
        state.leave(Place::InUse);
        state.checking += 1;
        state.returned.push(entry);
        drop(state);
        self.wake.notify_one();
    }

    /// Ends an item.
    pub(super) fn retire(&self, entry: Entry<M::Item>, from: Place, why: Why) {
        let ended = {
            let mut state = lock(&self.state);
            state.leave(from);
            state.counts.closed.count(why);
            state.doom(entry)
        };
        // Without a keeper it is closed by being dropped.
        drop(ended);
        self.wake.notify_one();
    }
}
