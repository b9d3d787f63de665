//! Pools: items that are dear to make, kept for the next one who needs one.
//!
//! A [`Pool`] keeps whatever a [`Manage`] makes. [`ClientPool`] keeps [`Client`](crate::Client)s that are
//! connected, each lent to one caller at a time. A [`Multiplexer`] lets many callers share few clients, since a
//! session carries many requests at once; for requests that is nearly always the better choice. A pool is for those who
//! need a session to themselves: for its groups, its order of messages, or what the server keeps for it.
//!
//! ```
//! use std::time::Duration;
//! use network_system::{Client, Message, Server, pool::ClientPool};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let server = Server::builder()
//! #     .listen("tcp://127.0.0.1:0")
//! #     .on_request(|_, question: Message| async move { Ok(question) })
//! #     .build()?;
//! # server.start().await?;
//! # let url = server.urls().remove(0);
//! let pool = ClientPool::clients(move || Client::builder().endpoint(&url))
//!     .maximum(4)
//!     .build()?;
//! {
//!     let client = pool.acquire().await?; // waits for one, first come, first served
//!     let answer = client.request("hello", Duration::from_secs(5)).await?;
//!     assert_eq!(answer.payload(), b"hello");
//! } // and here it goes back
//! assert_eq!(pool.stats().idle, 1);
//! assert!(pool.close().await.in_order);
//! # server.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//!
//! - `state`: what there is and who waits, behind a lock that is never held while anything waits or while code of
//!   the application's runs.
//! - `lending`, `guard`: what is lent, and how. It goes straight to whoever waits first, and otherwise to those that are idle.
//! - `keeper`: one task for each pool, which makes, checks and closes items, in tasks of its own set. Whoever waits
//!   does not depend on the making: what is given back first, or made first, is his.
//! - `clients`, `multiplexer`: pools of clients.

mod builder;
mod clients;
mod guard;
mod keeper;
mod lending;
mod manage;
mod multiplexer;
mod state;
mod stats;
#[cfg(test)]
mod tests;

use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

pub use self::builder::PoolBuilder;
pub use self::clients::{ClientPool, Clients};
pub use self::guard::Pooled;
pub use self::manage::Manage;
pub use self::multiplexer::{Lease, Multiplexer, MultiplexerBuilder, MultiplexerStats};
pub use self::stats::{PoolClosed, PoolReport, PoolStats};
pub use crate::error::PoolError;

use self::builder::Config;
use self::lending::Taken;
use self::state::{Phase, State};
use crate::error::ErrorCode;
use crate::session::shared::lock;

/// Items that are lent, one at a time, and kept for the next one who needs one.
///
/// A pool is a handle: cheap to clone, all clones are the same pool. Dropping the last one closes it, as
/// [`close`](Self::close) does. A guard that is still out keeps its item, and nothing else.
///
/// # Fairness
///
/// Who waits is served in the order in which they came. Nobody who comes later can take what is given back: it
/// goes straight to the first who waits. Dropping a future that waits gives its place up; if an item was already on
/// its way, the next one gets it.
///
/// # When an item cannot be made
///
/// While any item is in use, whoever waits goes on waiting for it, until their deadline; making one is tried again
/// with a growing delay. When none is, nothing can be given back: the first who waits is told why, at once.
pub struct Pool<M: Manage> {
    handle: Arc<Handle<M>>,
}

/// What the user's handles share. Guards and the pool's own tasks have no part in it.
struct Handle<M: Manage> {
    inner: Arc<Inner<M>>,
}

struct Inner<M: Manage> {
    manager: M,
    config: Config,
    state: Mutex<State<M>>,
    /// Wakes the keeper.
    wake: Notify,
    /// Tells that an item was made, or could not be.
    settled: Notify,
    /// Tells those who make items that nobody wants them any more.
    closing: watch::Sender<bool>,
    /// How the pool ended, once it has.
    ended: watch::Sender<Option<PoolReport>>,
}

impl<M: Manage> Pool<M> {
    /// Begins the configuration of a pool of what `manager` makes.
    pub fn builder(manager: M) -> PoolBuilder<M> {
        PoolBuilder::new(manager)
    }

    fn new(manager: M, config: Config) -> Self {
        let inner = Inner {
            manager,
            config,
            state: Mutex::new(State::new()),
            wake: Notify::new(),
            settled: Notify::new(),
            closing: watch::Sender::new(false),
            ended: watch::Sender::new(None),
        };
        Pool {
            handle: Arc::new(Handle {
                inner: Arc::new(inner),
            }),
        }
    }

    fn inner(&self) -> &Arc<Inner<M>> {
        &self.handle.inner
    }

    /// What makes the items.
    pub fn manager(&self) -> &M {
        &self.inner().manager
    }

    /// Takes an item, or waits for one, at most the time that [`PoolBuilder::acquire_timeout`] says.
    ///
    /// Dropping the future gives up the place in the queue and loses no item.
    ///
    /// # Errors
    /// `connection_timeout` when there was none in time, `queue_full` when too many wait, `shutting_down` when the
    /// pool closes, and what the manager said when it could not make one and none is in use.
    ///
    /// # Panics
    /// Outside a tokio runtime, when it has to wait.
    pub async fn acquire(&self) -> Result<Pooled<M>, PoolError> {
        self.acquire_timeout(self.inner().config.acquire_timeout)
            .await
    }

    /// The same as [`acquire`](Self::acquire), with another time.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    ///
    /// # Panics
    /// As [`acquire`](Self::acquire).
    pub async fn acquire_timeout(&self, timeout: Duration) -> Result<Pooled<M>, PoolError> {
        let inner = self.inner();
        let mut deadline = None;
        loop {
            match inner.take()? {
                Taken::Item(pooled) if !pooled.has_to_be_checked() => return Ok(pooled),
                Taken::Item(pooled) => {
                    let at = *deadline.get_or_insert_with(|| after(timeout));
                    if let Some(pooled) = inner.checked(pooled, timeout, at).await? {
                        return Ok(pooled);
                    }
                }
                Taken::Wait(mut waiting) => {
                    inner.keep();
                    let at = *deadline.get_or_insert_with(|| after(timeout));
                    return match timeout_at(at, waiting.item()).await {
                        Ok(result) => result,
                        Err(_) => Err(inner.late(timeout)),
                    };
                }
            }
        }
    }

    /// Takes an item if one is idle. It is not asked how it is, but for what is known
    /// ([`Manage::is_broken`]), and none is made.
    ///
    /// # Errors
    /// `queue_full` when none is idle, `shutting_down` when the pool closes.
    pub fn try_acquire(&self) -> Result<Pooled<M>, PoolError> {
        self.inner().take_idle()?.ok_or_else(|| {
            let text = "no item of the pool is idle";
            PoolError::new(ErrorCode::QueueFull, text)
        })
    }

    /// Makes as many items as the pool keeps at least, and waits until they are there. Without this, the first who
    /// needs an item begins it.
    ///
    /// Dropping the future does not take it back.
    ///
    /// # Errors
    /// Why one could not be made, which is tried again all the same; `connection_timeout` when it takes longer than
    /// [`PoolBuilder::acquire_timeout`], `shutting_down` when the pool closes.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn warm_up(&self) -> Result<(), PoolError> {
        let inner = self.inner();
        let failures = {
            let state = lock(&inner.state);
            state.check_open()?;
            state.counts.create_failures
        };
        inner.keep();
        let warm = async {
            loop {
                let mut settled = pin!(inner.settled.notified());
                settled.as_mut().enable();
                {
                    let state = lock(&inner.state);
                    state.check_open()?;
                    if state.size() >= inner.config.minimum {
                        return Ok(());
                    }
                    if state.counts.create_failures > failures
                        && let Some((code, text)) = &state.last_failure
                    {
                        return Err(PoolError::new(*code, text.clone()));
                    }
                }
                settled.await;
            }
        };
        let within = inner.config.acquire_timeout;
        match timeout_at(after(within), warm).await {
            Ok(result) => result,
            Err(_) => Err(inner.late(within)),
        }
    }

    /// Closes the pool in order, within 10 s: see [`close_within`](Self::close_within).
    pub async fn close(&self) -> PoolReport {
        self.close_within(self.inner().config.drain).await
    }

    /// Closes the pool in order: nothing is lent any more, who waits is told `shutting_down`, idle items are closed,
    /// and those in use when they are given back. When this returns, the pool's tasks have ended. What is still out
    /// at the deadline is closed when its guard is dropped.
    ///
    /// Dropping the future does not take it back. A second call can only shorten the deadline; on a pool that has
    /// closed it returns the same report.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn close_within(&self, deadline: Duration) -> PoolReport {
        let inner = self.inner();
        inner.begin_close(after(deadline));
        inner.keep();
        let mut ended = inner.ended.subscribe();
        // The sender lives as long as the pool does.
        match ended.wait_for(Option::is_some).await {
            Ok(report) => report.unwrap_or_default(),
            Err(_) => PoolReport::default(),
        }
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        lock(&self.inner().state).phase != Phase::Open
    }

    /// How many there are, and what was counted since the pool was made.
    pub fn stats(&self) -> PoolStats {
        let (mut stats, waits) = {
            let state = lock(&self.inner().state);
            (state.stats(), state.waits.clone())
        };
        // Adding a histogram up takes a while.
        stats.waits = waits.latency();
        stats
    }
}

impl<M: Manage> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Pool {
            handle: Arc::clone(&self.handle),
        }
    }
}

impl<M: Manage> fmt::Debug for Pool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = lock(&self.inner().state).stats();
        f.debug_struct("Pool")
            .field("size", &stats.size)
            .field("idle", &stats.idle)
            .field("in_use", &stats.in_use)
            .field("waiting", &stats.waiting)
            .finish_non_exhaustive()
    }
}

impl<M: Manage> Drop for Handle<M> {
    fn drop(&mut self) {
        self.inner.begin_close(after(self.inner.config.drain));
        let left = {
            let mut state = lock(&self.inner.state);
            match state.has_keeper {
                true => None,
                false => Some(state.end()),
            }
        };
        if let Some((report, items)) = left {
            drop(items);
            self.inner.ended.send_replace(Some(report));
        }
    }
}

fn too_many_wait(most: usize) -> PoolError {
    let text = format!("{most} wait for an item of the pool already");
    PoolError::new(ErrorCode::QueueFull, text)
}

fn closing() -> PoolError {
    PoolError::new(ErrorCode::ShuttingDown, "the pool is closing")
}

/// The moment `duration` from now; for a duration beyond every clock, a year from now.
fn after(duration: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(duration)
        .unwrap_or(now + Duration::from_secs(365 * 24 * 3600))
}
