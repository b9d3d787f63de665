//! Where handlers run: on the sessions' workers, or on an [`Executor`].
//!
//! Without an executor a handler runs where its messages are read, which costs the least and holds up the
//! other sessions of its worker while it computes. With one, every handler of the server or client is
//! handed over as a [`Task`].
//!
//! | executor | handlers run | for |
//! |---|---|---|
//! | none, or [`Inline`] | on the sessions' workers | handlers that await or are short |
//! | [`Runtime`] | as tasks of a tokio runtime | handlers that compute for some milliseconds |
//! | [`ThreadPool`] | on threads of its own | handlers that block, or compute for long |
//! | [`ThreadPool::single_thread`] | on one thread, one at a time | handlers that share state without locks |
//! | yours | where you say | a pool that is there already |
//!
//! On all of them the messages of one session are handled one after the other, in their order. A session
//! has at most one batch of messages and 32 requests with an executor; its next batch is handed over when
//! the last is done. An executor that is full makes sessions wait: they read no more, and the peers'
//! writes stall. Nothing is dropped, and workers never block.
//!
//! A task is not polled while its handler waits for something, so a handler that awaits takes no thread. It
//! is handed over again when it can go on. So a handler may await an answer, also one that has to come from
//! another handler on the same, only thread.
//!
//! What a handler sends from an executor goes through the session's outbox, which costs a lock a message.

mod pool;
mod room;
mod service;
mod task;

use tokio::runtime::Handle;

pub use self::pool::ThreadPool;
pub use self::room::Room;
pub(crate) use self::service::Execution;
pub use self::task::Task;

/// Runs handlers, in place of the workers.
///
/// A pool of threads that is there already needs a few lines:
///
/// ```
/// use network_system::executor::{Executor, Task};
///
/// struct Rayon(rayon::ThreadPool);
///
/// impl Executor for Rayon {
///     fn execute(&self, task: Task) -> Result<(), Task> {
///         self.0.spawn(move || task.run());
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = network_system::Server::builder()
///     .executor(Rayon(rayon::ThreadPoolBuilder::new().num_threads(2).build()?))
///     .on_message(|session, message| async move {
///         let _ = session.send(message).await;
///     })
///     .build()?;
/// # Ok(())
/// # }
/// ```
///
/// An executor that is asynchronous polls the task, which is a future, instead:
/// `smol_executor.spawn(task).detach()`.
pub trait Executor: Send + Sync + 'static {
    /// Takes a task, to run it some time soon.
    ///
    /// Called by workers, so it must not block, and should not run the task in place. Dropping a task ends
    /// its session with `request_failed`; that is also what an executor does that runs no more.
    ///
    /// # Errors
    /// The executor is full and gives the task back. The session waits; the task is offered again when
    /// there may be room, before those that came later.
    fn execute(&self, task: Task) -> Result<(), Task>;

    /// Where sessions wait while the executor is full. Asked for once by each server and client.
    ///
    /// The room is looked at again whenever a task of the same server or client begins or ends, and every
    /// 10 ms. That is enough for most. An executor that several share returns clones of one room, so that
    /// all wait in one line; one that has room at other times [notifies](Room::notify) it.
    fn room(&self) -> Room {
        Room::new()
    }
}

impl<E: Executor + ?Sized> Executor for std::sync::Arc<E> {
    fn execute(&self, task: Task) -> Result<(), Task> {
        (**self).execute(task)
    }

    fn room(&self) -> Room {
        (**self).room()
    }
}

impl<E: Executor + ?Sized> Executor for Box<E> {
    fn execute(&self, task: Task) -> Result<(), Task> {
        (**self).execute(task)
    }

    fn room(&self) -> Room {
        (**self).room()
    }
}

/// Runs handlers on the workers, as without an executor. For code that chooses an executor by a
/// configuration; to set none is faster.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inline;

impl Executor for Inline {
    fn execute(&self, task: Task) -> Result<(), Task> {
        task.run();
        Ok(())
    }
}

/// Runs handlers as tasks of a tokio runtime.
///
/// It is never full; what bounds it is that each session has one batch and 32 requests there. A runtime
/// that has shut down drops its tasks.
#[derive(Clone, Debug)]
pub struct Runtime(Handle);

impl Runtime {
    /// Tasks of this runtime.
    pub fn new(runtime: Handle) -> Self {
        Runtime(runtime)
    }

    /// Tasks of the runtime that the caller runs on.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn current() -> Self {
        Runtime(Handle::current())
    }
}

impl Executor for Runtime {
    fn execute(&self, task: Task) -> Result<(), Task> {
        self.0.spawn(task);
        Ok(())
    }
}
