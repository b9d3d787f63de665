//! The runtime that all classic servers and clients of the process share, and how a thread waits for
//! what happens there.

use std::future::Future;
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::callback::Inside;
use super::result::error;
use crate::error::ErrorCode;
use crate::session::shared::lock;

/// Threads that move bytes. Callbacks never run there, so that a few serve many connections; more than
/// that takes processors away from the callbacks.
const WORKERS_MAX: usize = 4;

/// Callbacks that run at a time when there is no pool of the application's.
const CALLBACK_THREADS_MAX: usize = 512;

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// The runtime, started on first use. It lasts as long as the process.
pub(super) fn runtime() -> Result<&'static Runtime, error> {
    static STARTING: Mutex<()> = Mutex::new(());
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let _starting = lock(&STARTING);
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = Builder::new_multi_thread()
        .worker_threads(processors.min(WORKERS_MAX))
        .max_blocking_threads(CALLBACK_THREADS_MAX)
        .thread_name("network-compat")
        .enable_io()
        .enable_time()
        .build()
        .map_err(|source| {
            let text = format!("cannot start the threads of the network: {source}");
            error::new(ErrorCode::ConnectionFailed, text)
        })?;
    // Nobody else is here.
    Ok(RUNTIME.get_or_init(|| runtime))
}

/// Runs a future on the runtime and blocks the calling thread until it is done.
///
/// Unlike the runtime's own `block_on` it can be called on any thread, also on one that is running
/// another runtime.
///
/// # Errors
/// `not_supported` in a callback that runs where bytes are moved, which waiting would stop. The runtime
/// cannot be started, or the future panicked.
pub(super) fn wait<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> Result<T, error> {
    if Inside::is_inline() {
        let text = "a callback that runs inline cannot wait";
        return Err(error::new(ErrorCode::NotSupported, text));
    }
    let (done, result) = mpsc::sync_channel(1);
    runtime()?.spawn(async move {
        // Nobody has gone: the caller blocks.
        let _ = done.send(future.await);
    });
    let cut_off = |_| error::new(ErrorCode::ShuttingDown, "the operation was cut off");
    result.recv().map_err(cut_off)
}

/// Sends something that may have to wait for room: within `timeout` when there is one.
///
/// # Errors
/// What the sending says, and `queue_full` when there is no room in time, or no room in a callback that
/// runs where bytes are moved.
pub(super) fn wait_for_room<T, E>(
    timeout: Option<Duration>,
    sending: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, error>
where
    T: Send + 'static,
    E: Into<error> + Send + 'static,
{
    if Inside::is_inline() {
        let text = "there is no room, and a callback that runs inline cannot wait for it";
        return Err(error::new(ErrorCode::QueueFull, text));
    }
    let Some(timeout) = timeout else {
        return wait(sending)?.map_err(Into::into);
    };
    match wait(async move { tokio::time::timeout(timeout, sending).await })? {
        Ok(result) => result.map_err(Into::into),
        Err(_elapsed) => {
            let text = format!("there was no room within {timeout:?}");
            Err(error::new(ErrorCode::QueueFull, text))
        }
    }
}
