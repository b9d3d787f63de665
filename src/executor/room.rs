//! Sessions that wait for an executor.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio::time::timeout;

use super::{Executor, Task};

/// How long a full executor is left alone that does not say when it has room.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Where sessions wait, first come first served, while an [`Executor`] is full. Clones are the same room.
#[derive(Clone, Debug, Default)]
pub struct Room(Arc<Line>);

#[derive(Debug, Default)]
struct Line {
    /// Those that wait, the first included.
    waiting: AtomicUsize,
    /// Held by the first, which alone asks the executor. It is a fair lock.
    first: Mutex<()>,
    /// Tells the first that there may be room.
    freed: Notify,
}

impl Room {
    /// A room in which nobody waits.
    pub fn new() -> Self {
        Room::default()
    }

    /// There may be room in the executor: whoever waits first offers its task again. Costs one load
    /// when nobody waits.
    pub fn notify(&self) {
        if self.has_waiters() {
            self.0.freed.notify_one();
        }
    }

    /// Whether a task has to wait for its turn, because others came before it.
    pub(super) fn has_waiters(&self) -> bool {
        self.0.waiting.load(Ordering::SeqCst) > 0
    }

    /// Hands a task over as soon as there is room. Dropping the future drops the task.
    pub(super) async fn hand_over(&self, executor: &dyn Executor, mut task: Task) {
        let _waiting = Waiting::new(&self.0);
        let _first = self.0.first.lock().await;
        while let Err(back) = executor.execute(task) {
            task = back;
            // What was freed before this point is remembered.
            let _ = timeout(LOOK_AGAIN, self.0.freed.notified()).await;
        }
    }
}

/// Counts who waits.
struct Waiting<'a>(&'a Line);

impl<'a> Waiting<'a> {
    fn new(line: &'a Line) -> Self {
        line.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(line)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
