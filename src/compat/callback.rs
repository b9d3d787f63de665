//! Where callbacks run, and what a thread that runs one knows.
//!
//! A classic callback may block, so it never runs on a thread that moves bytes: the native handlers,
//! which only call it, run on an [`Executor`](crate::Executor). That keeps the order of a session's
//! callbacks and lets back-pressure reach the peer, while other sessions go on.
//!
//! A callback that stops its own server or client must not be waited for by the very stop that it waits
//! for. So a thread knows whose callback it runs.

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::runtime;
use crate::error::{CloseReason, ErrorCode};
use crate::events::{self, shown};
use crate::executor::{self, Executor};
use crate::session::shared::lock;
use crate::session::{Session, SessionId};

/// Something that a thread pool runs.
pub type Task = Box<dyn FnOnce() + Send>;

/// A pool of threads of the application's, which runs callbacks. [`basic_thread_pool`] is one; an adapter
/// for another one takes a few lines.
///
/// A callback that blocks keeps one of the pool's threads; when all are kept, all sessions wait. A pool
/// that drops a task ends the session that it was for.
///
/// [`basic_thread_pool`]: super::basic_thread_pool
pub trait thread_pool_interface: Send + Sync {
    /// Runs the task soon, on another thread, and returns at once.
    fn post(&self, task: Task);

    /// Runs the task soon, if there is room for it. Servers and clients post their callbacks like this.
    ///
    /// A pool that does not say what it has room for takes them all: of each session one batch of
    /// messages, or one other event, at a time.
    ///
    /// # Errors
    /// The pool is full and gives the task back. The session waits, and reads no more; it tries again
    /// when a callback begins or ends, or after 10 ms.
    fn try_post(&self, task: Task) -> std::result::Result<(), Task> {
        self.post(task);
        Ok(())
    }

    /// How many threads there are.
    fn size(&self) -> usize;
}

/// Tells servers, clients and their runs apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unique(u64);

impl Unique {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Unique(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The callback that a thread runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inside {
    /// The server or client.
    pub(super) owner: Unique,
    /// Its run, from a start to a stop.
    pub(super) run: Unique,
    /// The session that waits for the callback, if one does.
    pub(super) session: Option<SessionId>,
    /// Whether it runs where bytes are moved, so that nothing there may be waited for.
    pub(super) inline: bool,
}

thread_local! {
    static INSIDE: Cell<Option<Inside>> = const { Cell::new(None) };
    /// Whether the thread is handing a task to a pool.
    static POSTING: Cell<bool> = const { Cell::new(false) };
}

impl Inside {
    /// Calls `callback` as this one. Pools may run one callback inside another.
    pub(super) fn call<T>(self, callback: impl FnOnce() -> T) -> T {
        struct Outer(Option<Inside>);
        impl Drop for Outer {
            fn drop(&mut self) {
                INSIDE.set(self.0);
            }
        }
        let _outer = Outer(INSIDE.replace(Some(self)));
        callback()
    }

    /// Whether the calling thread runs a callback of this server or client.
    pub(super) fn is_of(owner: Unique) -> bool {
        INSIDE.get().is_some_and(|inside| inside.owner == owner)
    }

    /// Whose callback the calling thread runs.
    pub(super) fn owner() -> Option<Unique> {
        INSIDE.get().map(|inside| inside.owner)
    }

    /// Whether the calling thread runs a callback where bytes are moved.
    pub(super) fn is_inline() -> bool {
        INSIDE.get().is_some_and(|inside| inside.inline)
    }

    /// The session that waits for the callback of this run which the calling thread runs.
    pub(super) fn session_of(run: Unique) -> Option<SessionId> {
        INSIDE.get().filter(|inside| inside.run == run)?.session
    }
}

/// Which threads run callbacks: those of a pool, or threads of the runtime that are made as needed.
#[derive(Clone, Default)]
pub(super) struct Threads {
    pool: Option<Arc<dyn thread_pool_interface>>,
    /// None of these but for side lanes: callbacks run where bytes are moved.
    inline: bool,
}

impl Threads {
    pub(super) fn new(pool: Option<Arc<dyn thread_pool_interface>>) -> Self {
        Threads {
            pool,
            inline: false,
        }
    }

    /// The threads that move bytes.
    pub(super) fn inline() -> Self {
        Threads {
            pool: None,
            inline: true,
        }
    }

    pub(super) fn is_inline(&self) -> bool {
        self.inline
    }

    /// Posts a task of a side lane, which has one at a time.
    fn post(&self, task: Task) {
        match &self.pool {
            None => post_here(task),
            Some(pool) => elsewhere(task, |task| pool.post(task)),
        }
    }
}

impl Executor for Threads {
    fn execute(&self, task: executor::Task) -> std::result::Result<(), executor::Task> {
        let Some(pool) = &self.pool else {
            post_here(Box::new(move || task.run()));
            return Ok(());
        };
        // Shared, so that it comes back out of a closure that is not called.
        let shared = Arc::new(Mutex::new(Some(task)));
        let posted = Arc::clone(&shared);
        let call = Box::new(move || {
            let task = lock(&posted).take();
            if let Some(task) = task {
                task.run();
            }
        });
        match elsewhere(call, |call| pool.try_post(call)) {
            Ok(()) => Ok(()),
            Err(_call) => match lock(&shared).take() {
                Some(task) => Err(task),
                // The pool has called it nevertheless.
                None => Ok(()),
            },
        }
    }
}

/// Posts `task` in such a way that it runs on another thread: a pool that runs tasks in `post` would stop
/// this one from moving bytes.
fn elsewhere<T>(task: Task, post: impl FnOnce(Task) -> T) -> T {
    struct Posting;
    impl Drop for Posting {
        fn drop(&mut self) {
            POSTING.set(false);
        }
    }
    POSTING.set(true);
    let _posting = Posting;
    post(Box::new(move || {
        if POSTING.get() {
            post_here(task);
        } else {
            task();
        }
    }))
}

fn post_here(task: Task) {
    match runtime::runtime() {
        Ok(runtime) => drop(runtime.spawn_blocking(task)),
        // There are callbacks only because there is a runtime.
        Err(error) => events::callback_lost {
            error: shown(&error.message),
        }
        .emit(),
    }
}

/// Counts what still has to be done beside the handlers: side lanes and their sources.
#[derive(Clone)]
pub(super) struct Pending(Arc<watch::Sender<usize>>);

impl Pending {
    pub(super) fn new() -> Self {
        Pending(Arc::new(watch::Sender::new(0)))
    }

    pub(super) fn begin(&self) -> PendingGuard {
        self.0.send_modify(|count| *count += 1);
        PendingGuard(self.clone())
    }

    /// Waits until nothing is left.
    pub(super) async fn none(&self) {
        // The sender is here, so that the wait cannot fail.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// One thing that has to be done.
pub(super) struct PendingGuard(Pending);

impl Drop for PendingGuard {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

/// Side callbacks that may wait in a lane. A peer can cause errors faster than a callback handles them.
const LANE_MAX: usize = 256;

/// Runs side callbacks, those about errors and states, one after the other.
///
/// The session core reports errors in the middle of its work and does not wait.
pub(super) struct Lane {
    threads: Threads,
    inside: Inside,
    pending: Pending,
    state: Mutex<LaneState>,
}

#[derive(Default)]
struct LaneState {
    queue: VecDeque<(Session, Task, PendingGuard)>,
    running: bool,
}

impl Lane {
    pub(super) fn new(threads: Threads, inside: Inside, pending: Pending) -> Arc<Self> {
        let state = Mutex::default();
        Arc::new(Lane {
            threads,
            inside: Inside {
                session: None,
                inline: false,
                ..inside
            },
            pending,
            state,
        })
    }

    pub(super) fn pending(&self) -> &Pending {
        &self.pending
    }

    /// Adds a callback about a session.
    pub(super) fn push(self: &Arc<Self>, session: &Session, callback: Task) {
        let mut state = lock(&self.state);
        if state.queue.len() >= LANE_MAX {
            drop(state);
            let session = session.id().as_u64();
            events::callback_dropped { session }.emit();
            return;
        }
        state
            .queue
            .push_back((session.clone(), callback, self.pending.begin()));
        if std::mem::replace(&mut state.running, true) {
            return;
        }
        drop(state);
        let mut turn = LaneTurn {
            lane: Arc::clone(self),
            done: false,
        };
        self.threads.post(Box::new(move || turn.run()));
    }
}

/// The right to run a lane.
struct LaneTurn {
    lane: Arc<Lane>,
    done: bool,
}

impl LaneTurn {
    fn run(&mut self) {
        loop {
            let next = {
                let mut state = lock(&self.lane.state);
                let next = state.queue.pop_front();
                state.running = next.is_some();
                next
            };
            let Some((session, callback, _pending)) = next else {
                self.done = true;
                return;
            };
            let call = || self.lane.inside.call(callback);
            if catch_unwind(AssertUnwindSafe(call)).is_err() {
                events::callback_panicked {
                    session: session.id().as_u64(),
                }
                .emit();
                let text = "the application failed in a callback";
                session.disconnect(CloseReason::with_code(ErrorCode::RequestFailed, text));
            }
        }
    }
}

impl Drop for LaneTurn {
    /// A pool that does not run the turn loses what waits, but nobody waits for it.
    fn drop(&mut self) {
        if !self.done {
            events::callback_not_run {}.emit();
            let mut state = lock(&self.lane.state);
            state.running = false;
            let lost = std::mem::take(&mut state.queue);
            drop(state);
            drop(lost);
        }
    }
}

/// A callback that can be set and replaced at any time.
pub(super) struct Slot<F: ?Sized>(Mutex<Option<Arc<F>>>);

impl<F: ?Sized> Default for Slot<F> {
    fn default() -> Self {
        Slot(Mutex::new(None))
    }
}

impl<F: ?Sized> Slot<F> {
    pub(super) fn set(&self, callback: Arc<F>) {
        // What is replaced goes after the lock: its captured values may do anything when dropped.
        let _replaced = lock(&self.0).replace(callback);
    }

    pub(super) fn get(&self) -> Option<Arc<F>> {
        lock(&self.0).clone()
    }
}
