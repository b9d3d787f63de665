//! A handler on its way to an executor and back.
//!
//! Two hold it: the worker a [`Handover`], which waits for the result, and the executor a [`Task`], which
//! polls. While the handler waits for something, only the worker has it; when it can go on, its session is
//! woken as for everything else, and the worker hands it over again. So all dealings with an executor are
//! in a session's turns.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use tokio::runtime::Handle;
use tracing::Span;

use super::service::Execution;
use crate::events;
use crate::handler::BoxFuture;
use crate::session::current;
use crate::session::shared::{Shared, lock};

/// A handler that is to be run: for one batch of messages, one request, or one event of a session.
///
/// On a thread, [`run`](Self::run) it. On an asynchronous executor, spawn it: it is a future. Whatever the
/// handler does, neither panics.
#[must_use = "dropping a task ends its session"]
pub struct Task {
    /// `None` when it has been run.
    work: Option<Arc<dyn Work>>,
}

impl Task {
    /// Runs the handler on this thread, until it ends or has to wait. It does not block the thread
    /// while it waits: the executor gets another task when the handler can go on.
    ///
    /// The handler finds the tokio runtime of its server or client, so that it can sleep, spawn and use
    /// sockets on a thread that is not tokio's.
    pub fn run(mut self) {
        if let Some(work) = self.work.take() {
            work.run();
        }
    }
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(work) = &self.work else {
            return Poll::Ready(());
        };
        let polled = work.poll(context);
        if polled.is_ready() {
            self.work = None;
        }
        polled
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            work.lose();
        }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").finish_non_exhaustive()
    }
}

/// A [`Job`] of any result, as its task sees it.
trait Work: Send + Sync {
    fn run(self: Arc<Self>);
    fn poll(&self, context: &mut Context<'_>) -> Poll<()>;
    fn lose(&self);
}

/// A handler, shared by its task and its worker.
struct Job<T> {
    session: Arc<Shared>,
    /// Where the handler's timers and sockets are.
    runtime: Option<Handle>,
    /// What is logged meanwhile belongs to the session, if somebody listens.
    span: Option<Span>,
    execution: Arc<Execution>,
    stage: Mutex<Stage<T>>,
}

enum Stage<T> {
    /// With the worker. It may be handed over when it has been woken.
    Waiting {
        handler: BoxFuture<'static, T>,
        woken: bool,
    },
    /// With the executor, which polls it at some time.
    HandedOver {
        handler: BoxFuture<'static, T>,
        /// Wakes a task that is a future and waits.
        waker: Option<Waker>,
    },
    /// Being polled, in the hands of who polls it.
    Running {
        woken: bool,
    },
    Done(Result<T, Lost>),
    /// The worker has the result, or does not want it any more.
    Over,
}

/// Why there is no result.
enum Lost {
    Panicked,
    /// The executor dropped the task.
    Dropped,
}

impl<T: Send + 'static> Job<T> {
    fn replace(&self, stage: Stage<T>) -> Stage<T> {
        std::mem::replace(&mut *lock(&self.stage), stage)
    }

    /// Takes the handler in order to poll it; `None` when it is not wanted any more.
    fn begin(&self) -> Option<BoxFuture<'static, T>> {
        let mut stage = lock(&self.stage);
        match std::mem::replace(&mut *stage, Stage::Running { woken: false }) {
            Stage::HandedOver { handler, .. } => Some(handler),
            other => {
                *stage = other;
                None
            }
        }
    }

    /// Polls the handler.
    fn advance(
        &self,
        handler: &mut BoxFuture<'static, T>,
        context: &mut Context<'_>,
    ) -> Poll<Result<T, Lost>> {
        let poll = || match &self.span {
            None => handler.as_mut().poll(context),
            Some(span) => span.in_scope(|| handler.as_mut().poll(context)),
        };
        let polled = current::run_elsewhere(&self.session, || catch_unwind(AssertUnwindSafe(poll)));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(result)) => Poll::Ready(Ok(result)),
            Err(_panic) => Poll::Ready(Err(Lost::Panicked)),
        }
    }

    /// The handler has ended.
    fn end(&self, handler: BoxFuture<'static, T>, result: Result<T, Lost>) {
        let result = match let_go(handler) {
            true => result,
            false => Err(Lost::Panicked),
        };
        let mut stage = lock(&self.stage);
        if let Stage::Over = *stage {
            drop(stage);
            let_go(result);
        } else {
            *stage = Stage::Done(result);
            drop(stage);
            self.session.schedule();
        }
        self.execution.room().notify();
    }
}

impl<T: Send + 'static> Work for Job<T> {
    fn run(self: Arc<Self>) {
        self.execution.room().notify();
        let Some(mut handler) = self.begin() else {
            return;
        };
        let waker = Waker::from(Arc::clone(&self));
        let polled = {
            let _runtime = self.runtime.as_ref().map(Handle::enter);
            self.advance(&mut handler, &mut Context::from_waker(&waker))
        };
        if let Poll::Ready(result) = polled {
            return self.end(handler, result);
        }
        let mut stage = lock(&self.stage);
        if let Stage::Running { woken } = *stage {
            *stage = Stage::Waiting { handler, woken };
            drop(stage);
            if woken {
                self.session.schedule();
            }
        } else {
            drop(stage);
            let_go(handler);
        }
        self.execution.room().notify();
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        self.execution.room().notify();
        let Some(mut handler) = self.begin() else {
            return Poll::Ready(());
        };
        let polled = {
            // An executor that is not tokio's has no runtime of its own.
            let _runtime = match Handle::try_current() {
                Ok(_) => None,
                Err(_) => self.runtime.as_ref().map(Handle::enter),
            };
            self.advance(&mut handler, context)
        };
        if let Poll::Ready(result) = polled {
            self.end(handler, result);
            return Poll::Ready(());
        }
        let mut stage = lock(&self.stage);
        if let Stage::Running { .. } = *stage {
            *stage = Stage::HandedOver {
                handler,
                waker: Some(context.waker().clone()),
            };
            return Poll::Pending;
        }
        drop(stage);
        let_go(handler);
        Poll::Ready(())
    }

    fn lose(&self) {
        let mut stage = lock(&self.stage);
        let lost = match std::mem::replace(&mut *stage, Stage::Done(Err(Lost::Dropped))) {
            Stage::HandedOver { handler, .. } => handler,
            other => {
                *stage = other;
                return;
            }
        };
        drop(stage);
        let_go(lost);
        self.session.schedule();
        self.execution.room().notify();
    }
}

impl<T: Send + 'static> Wake for Job<T> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        match &mut *lock(&self.stage) {
            Stage::Running { woken } => {
                *woken = true;
                return;
            }
            Stage::Waiting { woken, .. } if !*woken => *woken = true,
            _ => return,
        }
        self.session.schedule();
    }
}

/// Drops something of the application's. Whether that did not panic.
fn let_go<T>(value: T) -> bool {
    catch_unwind(AssertUnwindSafe(|| drop(value))).is_ok()
}

/// The worker's end: hands the handler over when it can go on, and is ready with its result. Dropping it
/// drops the handler, at once or, if it is running, when it next waits or ends.
pub(super) struct Handover<T: Send + 'static> {
    job: Arc<Job<T>>,
    /// The wait for room in the executor, with the task.
    waiting: Option<BoxFuture<'static, ()>>,
}

impl<T: Send + 'static> Handover<T> {
    pub(super) fn new(
        execution: Arc<Execution>,
        session: Arc<Shared>,
        handler: BoxFuture<'static, T>,
    ) -> Self {
        let stage = Stage::Waiting {
            handler,
            woken: true,
        };
        // Handlers begin in a turn of their session, which is inside its span.
        let span = Some(Span::current()).filter(|span| !span.is_disabled());
        Handover {
            job: Arc::new(Job {
                session,
                runtime: Handle::try_current().ok(),
                span,
                execution,
                stage: Mutex::new(stage),
            }),
            waiting: None,
        }
    }

    /// The task, if the handler can go on.
    fn task(&self) -> Option<Task> {
        let mut stage = lock(&self.job.stage);
        match std::mem::replace(&mut *stage, Stage::Over) {
            Stage::Waiting {
                handler,
                woken: true,
            } => {
                *stage = Stage::HandedOver {
                    handler,
                    waker: None,
                };
                let work: Arc<dyn Work> = Arc::clone(&self.job) as _;
                Some(Task { work: Some(work) })
            }
            other => {
                *stage = other;
                None
            }
        }
    }

    fn result(&self) -> Option<Result<T, Lost>> {
        let mut stage = lock(&self.job.stage);
        match std::mem::replace(&mut *stage, Stage::Over) {
            Stage::Done(result) => Some(result),
            other => {
                *stage = other;
                None
            }
        }
    }
}

impl<T: Send + 'static> Future for Handover<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        if self.waiting.is_none()
            && let Some(task) = self.task()
            && let Err(task) = self.job.execution.offer(task)
        {
            let execution = Arc::clone(&self.job.execution);
            self.waiting = Some(Box::pin(async move { execution.queue(task).await }));
        }
        if let Some(waiting) = &mut self.waiting {
            match waiting.as_mut().poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) => self.waiting = None,
            }
        }
        // A handler that was run meanwhile and has been woken is not run again in the same turn.
        match self.result() {
            None => Poll::Pending,
            Some(Ok(result)) => Poll::Ready(result),
            Some(Err(lost)) => {
                if let Lost::Dropped = lost {
                    let session = self.job.session.id().as_u64();
                    events::handler_not_run { session }.emit();
                }
                // Ends the session as a panic here would, without a second report of the same panic.
                resume_unwind(Box::new("a handler failed on its executor"))
            }
        }
    }
}

impl<T: Send + 'static> Drop for Handover<T> {
    fn drop(&mut self) {
        let before = self.job.replace(Stage::Over);
        if let Stage::HandedOver {
            waker: Some(waker), ..
        } = &before
        {
            // The task finds that there is nothing left to do.
            waker.wake_by_ref();
        }
        // What the application's destructors do is the caller's to catch, as for handlers on workers.
        drop(before);
    }
}
