//! The pool's task: makes, checks and closes items, each in a task of its own set.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::state::{Entry, Phase, Place, State};
use super::stats::Why;
use super::{Inner, Manage, builder::Config};
use crate::error::{ErrorCode, PoolError};
use crate::events::{self, shown};
use crate::session::shared::lock;

/// Of the idle items, every so manieth is checked at a time, so that the others can be lent meanwhile.
const CHECKED_SHARE: usize = 4;

pub(super) struct Keeper<M: Manage> {
    inner: Arc<Inner<M>>,
    tasks: JoinSet<()>,
    finished: bool,
}

/// What is to be done for an item.
enum Job<M: Manage> {
    Create,
    Check(Entry<M::Item>),
    Close(Entry<M::Item>),
}

struct Plan<M: Manage> {
    jobs: Vec<Job<M>>,
    /// Whether nothing is left to be done, ever.
    done: bool,
    /// When to look again, if nothing wakes the keeper before.
    at: Option<Instant>,
}

impl<M: Manage> Keeper<M> {
    pub(super) fn new(inner: Arc<Inner<M>>) -> Self {
        Keeper {
            inner,
            tasks: JoinSet::new(),
            finished: false,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let plan = plan(&mut lock(&self.inner.state), &self.inner.config);
            for job in plan.jobs {
                self.begin(job);
            }
            if plan.done {
                break;
            }
            let look_again = async {
                match plan.at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.inner.wake.notified() => {}
                () = look_again => {}
                // That one panicked has been noticed by what it left behind.
                Some(_) = self.tasks.join_next() => {}
            }
        }
        let (report, items) = lock(&self.inner.state).end();
        drop(items);
        self.tasks.shutdown().await;
        events::pool_closed {
            in_order: report.in_order,
            left: report.left,
        }
        .emit();
        self.finished = true;
        self.inner.ended.send_replace(Some(report));
    }

    fn begin(&mut self, job: Job<M>) {
        let inner = Arc::clone(&self.inner);
        match job {
            Job::Create => self.tasks.spawn(create(inner)),
            Job::Check(entry) => self.tasks.spawn(check(inner, entry)),
            Job::Close(entry) => self.tasks.spawn(close(inner, entry)),
        };
    }
}

impl<M: Manage> Drop for Keeper<M> {
    /// The runtime may end before the pool has: nobody may wait for ever.
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let inner = &self.inner;
        let (waiters, left, report) = {
            let mut state = lock(&inner.state);
            state.has_keeper = false;
            state.looks_at = None;
            let waiters = std::mem::take(&mut state.waiters);
            match state.phase {
                Phase::Open => (waiters, state.take_jobs(), None),
                Phase::Closing | Phase::Closed => {
                    let (report, items) = state.end();
                    (waiters, items, Some(report))
                }
            }
        };
        for waiter in waiters.into_values() {
            let text = "the runtime of the pool has ended";
            let _ = waiter.send(Err(PoolError::new(ErrorCode::ShuttingDown, text)));
        }
        drop(left);
        if report.is_some() {
            inner.ended.send_replace(report);
        }
    }
}

/// What is to be done now.
fn plan<M: Manage>(state: &mut State<M>, config: &Config) -> Plan<M> {
    let now = Instant::now();
    let mut jobs = Vec::new();
    if state.phase == Phase::Open {
        state.expire(config, now);
        check_idle(state, config, now, &mut jobs);
        jobs.extend(
            std::mem::take(&mut state.returned)
                .into_iter()
                .map(Job::Check),
        );
        for _ in 0..state.wanted(config, now) {
            state.making += 1;
            jobs.push(Job::Create);
        }
    } else {
        state.close_all();
    }
    jobs.extend(
        std::mem::take(&mut state.doomed)
            .into_iter()
            .map(Job::Close),
    );
    let busy = state.in_use + state.making + state.checking + state.closing;
    let late = state.deadline.is_some_and(|at| at <= now);
    let at = match state.phase {
        Phase::Open => state.next_look(config, now),
        Phase::Closing | Phase::Closed => state.deadline,
    };
    state.looks_at = at;
    Plan {
        jobs,
        done: state.phase != Phase::Open && (busy == 0 || late),
        at,
    }
}

/// Takes out of the idle items those that are to be checked again.
fn check_idle<M: Manage>(
    state: &mut State<M>,
    config: &Config,
    now: Instant,
    jobs: &mut Vec<Job<M>>,
) {
    let Some(every) = config.check_every else {
        return;
    };
    let most = (state.idle.len() / CHECKED_SHARE).max(1);
    let mut at = 0;
    while state.checking < most && at < state.idle.len() {
        match now.duration_since(state.idle[at].checked) >= every {
            false => at += 1,
            true => {
                if let Some(entry) = state.idle.remove(at) {
                    state.checking += 1;
                    jobs.push(Job::Check(entry));
                }
            }
        }
    }
}

/// Makes an item, and watches it as long as the pool has it.
async fn create<M: Manage>(inner: Arc<Inner<M>>) {
    let mut making = Unfinished::new(&inner, Place::Making);
    let within = inner.config.create_timeout;
    let mut closing = inner.closing.subscribe();
    let made = tokio::select! {
        biased;
        made = timeout(within, inner.manager.create()) => made,
        _ = closing.wait_for(|closing| *closing) => return making.given_up(),
    };
    let item = match made {
        Ok(Ok(item)) => item,
        Ok(Err(error)) => return making.failed(error),
        Err(_) => {
            let text = format!("an item of the pool could not be made within {within:?}");
            return making.failed(PoolError::new(ErrorCode::ConnectionTimeout, text));
        }
    };
    let watch = inner.manager.watch(&item);
    let (lives, mut gone) = oneshot::channel();
    let lives = watch.is_some().then_some(lives);
    let entry = lock(&inner.state).made(item, lives, &inner.config);
    let id = entry.id;
    making.done = true;
    inner.place(entry, Place::Making);
    inner.settled.notify_waiters();
    // The next one may have waited for this to be made.
    inner.wake.notify_one();
    if let Some(watch) = watch {
        tokio::select! {
            biased;
            _ = &mut gone => {}
            () = watch => inner.broke(id),
        }
    }
}

async fn check<M: Manage>(inner: Arc<Inner<M>>, mut entry: Entry<M::Item>) {
    let mut checking = Unfinished::new(&inner, Place::Checking);
    if let Some(back) = inner.manager.recover(&entry.item) {
        let mut closing = inner.closing.subscribe();
        let why = tokio::select! {
            biased;
            is_back = back => (!is_back).then_some(Why::Broken),
            _ = closing.wait_for(|closing| *closing) => Some(Why::Closing),
        };
        if let Some(why) = why {
            checking.done = true;
            return inner.retire(entry, Place::Checking, why);
        }
    }
    if inner.manager.is_broken(&entry.item) {
        checking.done = true;
        return inner.retire(entry, Place::Checking, Why::Broken);
    }
    let asked = inner.manager.check(&mut entry.item);
    let fit = timeout(inner.config.check_timeout, asked).await;
    checking.done = true;
    if let Ok(true) = fit {
        let now = Instant::now();
        (entry.seen, entry.checked) = (now, now);
        inner.place(entry, Place::Checking);
    } else {
        inner.retire(entry, Place::Checking, Why::Check);
    }
}

async fn close<M: Manage>(inner: Arc<Inner<M>>, entry: Entry<M::Item>) {
    let _closing = Closing(&inner);
    inner.manager.close(entry.item).await;
}

/// An item that is being made or checked: if that panics or is cut off, the item is gone, and its place is not.
struct Unfinished<M: Manage> {
    inner: Arc<Inner<M>>,
    place: Place,
    done: bool,
}

impl<M: Manage> Unfinished<M> {
    fn new(inner: &Arc<Inner<M>>, place: Place) -> Self {
        Unfinished {
            inner: Arc::clone(inner),
            place,
            done: false,
        }
    }

    fn failed(&mut self, error: PoolError) {
        self.done = true;
        self.inner.failed(error);
    }

    fn given_up(&mut self) {
        self.done = true;
        lock(&self.inner.state).leave(self.place);
        self.inner.wake.notify_one();
    }
}

impl<M: Manage> Drop for Unfinished<M> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        match self.place {
            Place::Making => {
                let text = "making an item of the pool was cut off, or panicked";
                self.failed(PoolError::new(ErrorCode::ConnectionFailed, text));
            }
            place => {
                let mut state = lock(&self.inner.state);
                state.leave(place);
                state.counts.closed.count(Why::Check);
                drop(state);
                self.inner.wake.notify_one();
            }
        }
    }
}

/// An item that is being closed, until it is, however that ends.
struct Closing<'a, M: Manage>(&'a Arc<Inner<M>>);

impl<M: Manage> Drop for Closing<'_, M> {
    fn drop(&mut self) {
        lock(&self.0.state).closing -= 1;
        self.0.wake.notify_one();
    }
}

impl<M: Manage> Inner<M> {
    /// An item could not be made.
    fn failed(&self, error: PoolError) {
        events::item_not_made {
            code: error.code().as_i32(),
            error: shown(events::Chain(&error)),
        }
        .emit();
        let waiter = lock(&self.state).not_made(&error);
        if let Some(waiter) = waiter {
            // Who has gone needs no answer.
            let _ = waiter.send(Err(error));
        }
        self.settled.notify_waiters();
        self.wake.notify_one();
    }

    /// The watch of an item says that it is broken. One that is not idle is dealt with when it is given back.
    fn broke(&self, id: u64) {
        let entry = {
            let mut state = lock(&self.state);
            let at = state.idle.iter().position(|entry| entry.id == id);
            let Some(entry) = at.and_then(|at| state.idle.remove(at)) else {
                return;
            };
            state.counts.closed.count(Why::Broken);
            state.doom(entry)
        };
        drop(entry);
        self.wake.notify_one();
    }
}
