//! Threads that run handlers.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::{Executor, Room, Task};
use crate::events;
use crate::session::shared::lock;

/// A pool of threads with a bounded queue, for handlers that block or compute for long.
///
/// Its threads start with it and end with [`stop`](Self::stop) or when it is dropped, which wait for them.
/// In an [`Arc`] it can be shared by servers and clients; while it is full, the sessions of all wait in one
/// line.
///
/// ```
/// use std::sync::Arc;
/// use network_system::executor::ThreadPool;
/// use network_system::{Message, Server, Session};
///
/// let pool = Arc::new(ThreadPool::new(4, 256)?);
/// let server = Server::builder()
///     .executor(Arc::clone(&pool))
///     .on_message(|session: Session, message: Message| async move {
///         std::thread::sleep(std::time::Duration::from_millis(1)); // holds up nobody but this session
///         let _ = session.send(message).await;
///     })
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ThreadPool {
    queue: Arc<Queue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    size: usize,
}

struct Queue {
    jobs: Mutex<Jobs>,
    /// Notified when a job has come, and when the pool stops.
    changed: Condvar,
    limit: usize,
    room: Room,
}

struct Jobs {
    waiting: VecDeque<Job>,
    stopped: bool,
}

/// Something that a thread runs.
enum Job {
    Handler(Task),
    Call(Call),
}

/// A closure of the application's.
pub(crate) type Call = Box<dyn FnOnce() + Send>;

impl ThreadPool {
    /// A pool of `threads` threads, whose queue holds `queue` tasks: batches of messages, requests and
    /// events of sessions. Both are at least 1.
    ///
    /// # Errors
    /// A number is 0 (`InvalidInput`), or the system gives no thread; none is left running then.
    pub fn new(threads: usize, queue: usize) -> io::Result<Self> {
        if threads == 0 || queue == 0 {
            let text = "a thread pool needs a thread, and room for a task in its queue";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let jobs = Jobs {
            waiting: VecDeque::new(),
            stopped: false,
        };
        // When a thread cannot be started, dropping the pool ends the others.
        let pool = ThreadPool {
            queue: Arc::new(Queue {
                jobs: Mutex::new(jobs),
                changed: Condvar::new(),
                limit: queue,
                room: Room::new(),
            }),
            threads: Mutex::default(),
            size: threads,
        };
        for index in 0..threads {
            let queue = Arc::clone(&pool.queue);
            let thread = thread::Builder::new()
                .name(format!("network-pool-{index}"))
                .spawn(move || queue.run())?;
            lock(&pool.threads).push(thread);
        }
        Ok(pool)
    }

    /// A single-threaded executor: handlers of all its sessions run one at a time, in the order in which
    /// they were handed over, so that they can share state without locks. A handler that waits for
    /// something lets others run meanwhile.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn single_thread(queue: usize) -> io::Result<Self> {
        Self::new(1, queue)
    }

    /// How many threads there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// How many tasks wait for a thread.
    pub fn queued(&self) -> usize {
        lock(&self.queue.jobs).waiting.len()
    }

    /// Ends the threads: what waits is still run, what comes later is dropped, which ends its session.
    /// Blocks until the threads have ended; a thread of the pool itself does not wait for itself.
    ///
    /// The servers and clients that use it should have been stopped before. The second call has no
    /// effect.
    pub fn stop(&self) {
        lock(&self.queue.jobs).stopped = true;
        self.queue.changed.notify_all();
        // Those that wait find out that it is over.
        self.queue.room.notify();
        let threads = std::mem::take(&mut *lock(&self.threads));
        let this = thread::current().id();
        for thread in threads {
            if thread.thread().id() != this {
                // Panics of jobs are caught in the threads.
                let _ = thread.join();
            }
        }
    }

    /// Runs a call of the application's on one of the threads.
    ///
    /// # Errors
    /// The queue is full; gives the call back.
    pub(crate) fn try_call(&self, call: Call) -> Result<(), Call> {
        match self.queue.push(Job::Call(call), self.queue.limit) {
            Err(Job::Call(call)) => Err(call),
            _ => Ok(()),
        }
    }

    /// Runs a call of the application's on one of the threads, however many wait.
    pub(crate) fn call(&self, call: Call) {
        let _ = self.queue.push(Job::Call(call), usize::MAX);
    }
}

impl Executor for ThreadPool {
    fn execute(&self, task: Task) -> Result<(), Task> {
        match self.queue.push(Job::Handler(task), self.queue.limit) {
            Err(Job::Handler(task)) => Err(task),
            _ => Ok(()),
        }
    }

    fn room(&self) -> Room {
        self.queue.room.clone()
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPool")
            .field("size", &self.size)
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}

impl Queue {
    /// Adds a job unless `limit` wait. A pool that has stopped drops it.
    fn push(&self, job: Job, limit: usize) -> Result<(), Job> {
        let mut jobs = lock(&self.jobs);
        if jobs.stopped {
            drop(jobs);
            // Dropping runs code of the application's, which may ask the pool something.
            drop(job);
            return Ok(());
        }
        if jobs.waiting.len() >= limit {
            return Err(job);
        }
        jobs.waiting.push_back(job);
        drop(jobs);
        self.changed.notify_one();
        Ok(())
    }

    /// The next job; `None` when the pool has stopped and none is left.
    fn next(&self) -> Option<Job> {
        let mut jobs = lock(&self.jobs);
        loop {
            if let Some(job) = jobs.waiting.pop_front() {
                return Some(job);
            }
            if jobs.stopped {
                return None;
            }
            jobs = self
                .changed
                .wait(jobs)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What each thread does.
    fn run(&self) {
        while let Some(job) = self.next() {
            self.room.notify();
            let run = || match job {
                Job::Handler(task) => task.run(),
                Job::Call(call) => call(),
            };
            if catch_unwind(AssertUnwindSafe(run)).is_err() {
                events::call_panicked {}.emit();
            }
        }
    }
}
