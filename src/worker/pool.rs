//! The workers of one server or client, and what is asked of all of them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use super::queue::WorkerQueue;
use super::{
    Broadcast, BroadcastFrames, Command, NewSession, Outcome, Placed, Tally, Targets, Worker,
    threads,
};
use crate::events::{self, shown};
use crate::group::GroupName;
use crate::hub::Hub;
use crate::session::SessionId;

/// After the deadline of a stop, how long disconnect handlers that were begun by it have, each time.
pub(crate) const KILL_AGAIN: Duration = Duration::from_millis(100);

/// Broadcasts that wait for workers at a time. Each holds its message, and whoever gives up waiting for one leaves it
/// there, so that without a bound they could be any number.
const BROADCASTS_MAX: usize = 64;

/// Hands sessions and commands to workers.
pub(crate) struct Workers {
    queues: Vec<Arc<WorkerQueue>>,
    next: AtomicUsize,
    broadcasts: Arc<Semaphore>,
    pub(crate) tally: Arc<Tally>,
    /// Whether the workers have runtimes of their own.
    dedicated: bool,
}

impl Workers {
    /// Starts `count` workers on the current runtime; their tasks are in `tasks`.
    pub(crate) fn start(count: usize, hub: &Arc<Hub>, tasks: &mut JoinSet<()>) -> Self {
        let workers = Workers::new(count, false);
        for queue in &workers.queues {
            let (queue, hub, tally) = (
                Arc::clone(queue),
                Arc::clone(hub),
                Arc::clone(&workers.tally),
            );
            tasks.spawn(async move { Worker::new(queue, hub, tally).await });
        }
        workers
    }

    /// Starts `count` workers on threads of their own; tasks in `tasks` wait for their ends.
    ///
    /// # Errors
    /// A thread, its runtime or its place on a core could not be had. Nothing is left running.
    pub(crate) fn start_dedicated(
        count: usize,
        pinned: bool,
        hub: &Arc<Hub>,
        tasks: &mut JoinSet<()>,
    ) -> io::Result<Self> {
        let workers = Workers::new(count, true);
        let started = threads::start(&workers.queues, pinned, |queue| {
            Worker::new(queue, Arc::clone(hub), Arc::clone(&workers.tally))
        });
        match started {
            Ok(ends) => {
                for end in ends {
                    tasks.spawn(async move {
                        // The sender is dropped when the thread has ended.
                        let _ = end.await;
                    });
                }
                Ok(workers)
            }
            Err(error) => {
                // Threads that did start end by themselves: they have no sessions.
                workers.stop();
                Err(error)
            }
        }
    }

    fn new(count: usize, dedicated: bool) -> Self {
        Workers {
            queues: (0..count)
                .map(|index| Arc::new(WorkerQueue::new(index, dedicated)))
                .collect(),
            next: AtomicUsize::new(0),
            broadcasts: Arc::new(Semaphore::new(BROADCASTS_MAX)),
            tally: Arc::new(Tally::default()),
            dedicated,
        }
    }

    /// Gives a connection to the next worker.
    pub(crate) fn open(&self, hub: &Hub, mut new: NewSession) {
        if self.dedicated
            && let Placed::Here(link) = new.link
        {
            match link.leave_runtime() {
                Ok(moving) => new.link = Placed::Moving(moving),
                Err(error) => {
                    let error = shown(error);
                    events::connection_lost { error }.emit();
                    return;
                }
            }
        }
        hub.session_began();
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.queues.len();
        if self.queues[index]
            .push_command(Command::Open(Box::new(new)))
            .is_err()
        {
            // The worker has ended; the connection is dropped with the command.
            hub.session_ended();
        }
    }

    fn to_all(&self, command: impl Fn() -> Command) {
        for queue in &self.queues {
            // A worker that has ended needs no command.
            let _ = queue.push_command(command());
        }
    }

    pub(crate) fn drain(&self) {
        self.to_all(|| Command::Drain);
    }

    pub(crate) fn abort(&self) {
        self.to_all(|| Command::Abort);
    }

    /// Workers end once their last session has.
    pub(crate) fn stop(&self) {
        self.to_all(|| Command::Stop);
    }

    /// Sends one message to many sessions. Workers write to their own sessions; each is asked once.
    pub(crate) async fn broadcast(
        &self,
        hub: &Hub,
        frames: Arc<BroadcastFrames>,
        group: Option<&GroupName>,
        except: &[SessionId],
    ) -> Outcome {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&self.broadcasts).acquire_owned().await else {
            return Outcome::default();
        };
        let place = Arc::new(place);
        let except: Arc<[SessionId]> = except.into();
        let targets: Vec<(usize, Targets)> = match group {
            None => (0..self.queues.len())
                .map(|index| (index, Targets::All))
                .collect(),
            Some(group) => hub
                .groups
                .receivers(group, frames.payload.len())
                .into_iter()
                .map(|(index, members)| (index, Targets::Members(members)))
                .collect(),
        };
        let mut waiting = Vec::with_capacity(targets.len());
        for (index, targets) in targets {
            let (done, outcome) = oneshot::channel();
            let broadcast = Broadcast {
                frames: Arc::clone(&frames),
                targets,
                except: Arc::clone(&except),
                done,
                place: Arc::clone(&place),
            };
            if self.queues[index]
                .push_command(Command::Broadcast(Box::new(broadcast)))
                .is_ok()
            {
                waiting.push(outcome);
            }
        }
        drop(place);
        let mut total = Outcome::default();
        for outcome in waiting {
            let Ok(outcome) = outcome.await else { continue };
            total.sent += outcome.sent;
            total.missed += outcome.missed;
            total.full.extend(outcome.full);
        }
        total
    }
}
