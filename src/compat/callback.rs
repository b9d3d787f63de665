//! Where callbacks run.
//!
//! A classic callback may block, so it never runs on a thread that moves bytes. The handler of the
//! session hands it to a thread made for that and waits, which keeps the order of the session's
//! callbacks and lets back-pressure reach the peer, while other sessions go on.
//!
//! A callback may also stop its own server or client. That has to be awaited *in* the handler, where
//! the session core sees who is waiting. So, while the handler waits for the callback, it also runs
//! what the callback sends it: [`wait_inside`].

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc as std_mpsc};

use tokio::sync::{mpsc, oneshot, watch};

use super::result::error;
use super::runtime;
use crate::error::{CloseReason, ErrorCode};
use crate::handler::BoxFuture;
use crate::session::Session;
use crate::session::shared::lock;

/// Something that a thread pool runs.
pub type Task = Box<dyn FnOnce() + Send>;

/// A pool of threads of the application's, which runs callbacks.
///
/// A callback that blocks keeps one of the pool's threads; when all are kept, all sessions wait.
pub trait thread_pool_interface: Send + Sync {
    /// Runs the task soon, on another thread, and returns at once.
    fn post(&self, task: Task);

    /// How many threads there are.
    fn size(&self) -> usize;
}

/// A server or client, as far as its callbacks are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner(u64);

impl Owner {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Owner(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether the calling thread runs a callback of this server or client.
    pub(super) fn is_inside(self) -> bool {
        INSIDE.with_borrow(|inside| inside.as_ref().is_some_and(|inside| inside.owner == self))
    }
}

/// What a callback may ask the handler that waits for it to run.
type Help = BoxFuture<'static, ()>;

/// The callback that a thread runs.
struct Inside {
    owner: Owner,
    /// `None` when no handler waits for it.
    #[allow(
        clippy::disallowed_types,
        reason = "bounded by its use: a callback asks for one thing and waits for it"
    )]
    help: Option<mpsc::UnboundedSender<Help>>,
}

thread_local! {
    static INSIDE: RefCell<Option<Inside>> = const { RefCell::new(None) };
    /// Whether the thread is handing a task to a pool.
    static POSTING: Cell<bool> = const { Cell::new(false) };
}

type Panic = Box<dyn Any + Send>;

/// Calls `callback` as one of `owner`'s. Pools may run one callback inside another.
fn enter(inside: Inside, callback: impl FnOnce()) -> Result<(), Panic> {
    let outer = INSIDE.replace(Some(inside));
    let result = catch_unwind(AssertUnwindSafe(callback));
    INSIDE.replace(outer);
    result
}

/// Runs a future and blocks until it is done; in a callback of `owner` the handler that waits for the
/// callback runs it.
///
/// # Errors
/// The handler was cut off at the deadline of a stop, or the runtime cannot be started.
pub(super) fn wait_inside<T: Send + 'static>(
    owner: Owner,
    future: impl Future<Output = T> + Send + 'static,
) -> Result<T, error> {
    let help = INSIDE.with_borrow(|inside| {
        let inside = inside.as_ref().filter(|inside| inside.owner == owner)?;
        inside.help.clone()
    });
    let Some(help) = help else {
        return runtime::wait(future);
    };
    let (done, result) = std_mpsc::sync_channel(1);
    let asked = help.send(Box::pin(async move {
        let _ = done.send(future.await);
    }));
    match asked {
        Ok(()) => result.recv().map_err(|_| runtime::interrupted()),
        // The handler has been cut off.
        Err(_) => Err(runtime::interrupted()),
    }
}

/// Which threads run callbacks.
#[derive(Clone, Default)]
pub(super) struct Executor(Option<Arc<dyn thread_pool_interface>>);

impl Executor {
    pub(super) fn new(pool: Option<Arc<dyn thread_pool_interface>>) -> Self {
        Executor(pool)
    }

    fn post(&self, task: Task) {
        struct Posting;
        impl Drop for Posting {
            fn drop(&mut self) {
                POSTING.set(false);
            }
        }
        let Some(pool) = &self.0 else {
            return post_here(task);
        };
        POSTING.set(true);
        let _posting = Posting;
        pool.post(Box::new(move || {
            if POSTING.get() {
                // A pool that runs tasks in `post` would stop this thread from moving bytes.
                post_here(task);
            } else {
                task();
            }
        }));
    }
}

fn post_here(task: Task) {
    match runtime::runtime() {
        Ok(runtime) => drop(runtime.spawn_blocking(task)),
        // There are callbacks only because there is a runtime.
        Err(error) => tracing::error!(%error, "a callback was lost"),
    }
}

/// Runs a callback for a session and waits until it has returned.
///
/// # Panics
/// When the callback did, which ends its session as any handler's panic does.
pub(super) async fn run(
    executor: &Executor,
    owner: Owner,
    session: &Session,
    callback: impl FnOnce() + Send + 'static,
) {
    if let Err(panic) = run_caught(executor, owner, session, callback).await {
        resume_unwind(panic);
    }
}

/// As [`run`], but returns the panic.
pub(super) async fn run_caught(
    executor: &Executor,
    owner: Owner,
    session: &Session,
    callback: impl FnOnce() + Send + 'static,
) -> Result<(), Panic> {
    #[allow(
        clippy::disallowed_methods,
        reason = "bounded by its use: a callback asks for one thing and waits for it"
    )]
    let (help, mut asked) = mpsc::unbounded_channel();
    let (done, mut finished) = oneshot::channel();
    let inside = Inside {
        owner,
        help: Some(help),
    };
    executor.post(Box::new(move || {
        let _ = done.send(enter(inside, callback));
    }));
    let result = loop {
        tokio::select! {
            biased;
            result = &mut finished => break result,
            Some(help) = asked.recv() => help.await,
        }
    };
    result.unwrap_or_else(|_| {
        let text = "the thread pool did not run a callback";
        tracing::error!(session = session.id().as_u64(), text);
        session.disconnect(CloseReason::with_code(ErrorCode::RequestFailed, text));
        Ok(())
    })
}

fn end_after_panic(session: &Session) {
    tracing::error!(session = session.id().as_u64(), "a callback panicked");
    let text = "the application failed in a callback";
    session.disconnect(CloseReason::with_code(ErrorCode::RequestFailed, text));
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
    executor: Executor,
    owner: Owner,
    pending: Pending,
    state: Mutex<LaneState>,
}

#[derive(Default)]
struct LaneState {
    queue: VecDeque<(Session, Task, PendingGuard)>,
    running: bool,
}

impl Lane {
    pub(super) fn new(executor: Executor, owner: Owner, pending: Pending) -> Arc<Self> {
        let state = Mutex::default();
        Arc::new(Lane {
            executor,
            owner,
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
            tracing::warn!(
                session = session.id().as_u64(),
                "an error callback was dropped"
            );
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
        self.executor.post(Box::new(move || turn.run()));
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
            if enter(
                Inside {
                    owner: self.lane.owner,
                    help: None,
                },
                callback,
            )
            .is_err()
            {
                end_after_panic(&session);
            }
        }
    }
}

impl Drop for LaneTurn {
    /// A pool that does not run the turn loses what waits, but nobody waits for it.
    fn drop(&mut self) {
        if !self.done {
            tracing::error!("the thread pool did not run a callback");
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
