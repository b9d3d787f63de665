//! Workers on threads of their own.

use std::io;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Worker;
use super::queue::WorkerQueue;
use crate::events::{self, shown};

/// Starts a thread for each queue. Each of the receivers ends when its thread has.
pub(super) fn start(
    queues: &[Arc<WorkerQueue>],
    pinned: bool,
    worker: impl Fn(Arc<WorkerQueue>) -> Worker,
) -> io::Result<Vec<oneshot::Receiver<()>>> {
    let mut ends = Vec::with_capacity(queues.len());
    for queue in queues {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let worker = worker(Arc::clone(queue));
        let index = queue.index();
        let (ended, end) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name(format!("network-worker-{index}"))
            .spawn(move || {
                if pinned && let Err(error) = pin(index) {
                    let error = shown(error);
                    events::worker_not_pinned {
                        worker: index,
                        error,
                    }
                    .emit();
                }
                runtime.block_on(worker);
                drop(runtime);
                drop(ended);
            })?;
        ends.push(end);
    }
    Ok(ends)
}

/// Whether workers can be pinned here.
pub(crate) const CAN_PIN: bool = cfg!(target_os = "linux");

/// Pins the calling thread to one of the cores that the process may use.
#[cfg(target_os = "linux")]
fn pin(index: usize) -> io::Result<()> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    let allowed = sched_getaffinity(None)?;
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|&core| allowed.is_set(core))
        .collect();
    let Some(&core) = cores.get(index % cores.len().max(1)) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let mut only = CpuSet::new();
    only.set(core);
    Ok(sched_setaffinity(None, &only)?)
}

#[cfg(not(target_os = "linux"))]
fn pin(_: usize) -> io::Result<()> {
    // Refused when the server is built.
    Err(io::ErrorKind::Unsupported.into())
}
