//! The classic thread pool.

use std::fmt;

use super::callback::{Task, thread_pool_interface};
use super::result::{Result, error};
use crate::error::ErrorCode;
use crate::executor::ThreadPool;

/// Callbacks of sessions that wait for a thread, unless the application says otherwise.
const QUEUE: usize = 1_024;

/// A pool of threads, with a queue that is bounded for the callbacks of servers and clients.
///
/// ```
/// use std::sync::Arc;
/// use network_system::compat::{MessagingServer, basic_thread_pool, thread_pool_interface};
///
/// let pool = Arc::new(basic_thread_pool::new(4)?);
/// assert_eq!(pool.size(), 4);
/// let (tell, told) = std::sync::mpsc::channel();
/// pool.post(Box::new(move || {
///     let _ = tell.send("from the pool");
/// }));
/// assert_eq!(told.recv()?, "from the pool");
///
/// let server = MessagingServer::new("127.0.0.1", 0, Some(pool));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The callbacks of each session run in order, on whichever thread. With one thread, no two callbacks run
/// at the same time. While 1,024 callbacks wait, sessions wait too, and read no more.
///
/// A task of the application's that waits for callbacks keeps its thread meanwhile. On a pool of one thread, a task
/// that stops a server whose callbacks run there leaves them none: the stop takes the 10 seconds after which it
/// cuts off, and the disconnect handlers are not called. In a callback this does not happen.
pub struct basic_thread_pool(ThreadPool);

impl basic_thread_pool {
    /// A pool of `num_threads` threads; 0 is one for each processor.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn new(num_threads: usize) -> Result<Self> {
        Self::with_queue(num_threads, QUEUE)
    }

    /// A pool in which `queue_size` callbacks of sessions may wait, at least 1.
    ///
    /// # Errors
    /// `invalid_configuration` for a queue of 0, or the system gives no thread.
    pub fn with_queue(num_threads: usize, queue_size: usize) -> Result<Self> {
        let threads = match num_threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        match ThreadPool::new(threads, queue_size) {
            Ok(pool) => Ok(basic_thread_pool(pool)),
            Err(source) => {
                let text = format!("basic_thread_pool: {source}");
                Err(error::new(ErrorCode::InvalidConfiguration, text))
            }
        }
    }

    /// How many tasks wait for a thread.
    pub fn pending_tasks(&self) -> usize {
        self.0.queued()
    }

    /// Ends the threads: what waits is still run, what comes later is dropped. Blocks until they have ended.
    /// Stop the servers that use the pool before. Dropping the pool does the same.
    pub fn stop(&self) {
        self.0.stop();
    }
}

impl thread_pool_interface for basic_thread_pool {
    /// Takes the task however many wait, because the classic `post` has no way to say that it does not.
    /// Tasks of the application should bound themselves, or use [`try_post`](Self::try_post).
    fn post(&self, task: Task) {
        self.0.call(task);
    }

    fn try_post(&self, task: Task) -> std::result::Result<(), Task> {
        self.0.try_call(task)
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}

impl fmt::Debug for basic_thread_pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("basic_thread_pool")
            .field("size", &self.size())
            .field("pending_tasks", &self.pending_tasks())
            .finish()
    }
}
