//! The memory that queues and buffers may take: of all sessions, of all servers and clients that share a budget.
//!
//! ```text
//!      0 ─────────── low ─── high ─── limit
//!        nothing is    shed     │       an outbox of a session with more than its share
//!        done          down to ◀┘       takes no more than one message
//! ```
//!
//! What a session holds is counted in steps, so that small changes cost a comparison. Whoever adds what exceeds
//! the high-water mark sheds sessions at once, the worst first, until what is left is below the low-water mark. A
//! session that holds less than half of an equal share is never shed; that is always enough, because such sessions
//! together hold less than half of the limit.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, TryLockError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::process;
use crate::session::shared::{Shared, lock};

/// Steps in which what a session holds is counted, a power of two.
pub(crate) const STEP: usize = 4 * 1024;

/// The least limit.
const LIMIT_MIN: usize = 64 * 1024;

/// The most that the budget of the process is by default.
const DEFAULT_MAX: u64 = 1024 * 1024 * 1024;

/// How long it is not looked at all sessions again when that has led to nothing more.
const PAUSE_MIN: Duration = Duration::from_millis(2);

/// And how many times as long as a look takes.
const PAUSE_TIMES: u32 = 10;

/// A limit for the memory in the queues and buffers of sessions, which servers and clients share.
///
/// A handle: clones are the same budget. Every server and client without a budget of its own has
/// [that of the process](Self::process).
///
/// ```
/// use network_system::{MemoryBudget, Server};
///
/// let budget = MemoryBudget::new(64 * 1024 * 1024);
/// let server = Server::builder().listen("tcp://127.0.0.1:0").memory_budget(&budget).build()?;
/// assert_eq!(budget.used(), 0);
/// # Ok::<(), network_system::ConfigError>(())
/// ```
///
/// Counted are messages in outboxes, each with what its entry takes; what links did not take yet; what was
/// received and waits; frames that are not complete; messages that a handler has. A message that waits for many
/// sessions counts for each of them.
///
/// At seven eighths of the limit the worst sessions are *shed*: those that hold most are closed with
/// `slow_consumer`, and of those that hold the same the slowest readers first, until three quarters are left. What
/// waited for them is forgotten at once; peers that read within a second are told. Until then sessions that hold
/// more than their share are not read. A session that holds less than half of an equal share is left alone.
///
/// At the limit the outbox of a session with more than its share is full with one message. So the limit is exceeded by
/// what is in single messages at most, and by what sessions without much may still add.
#[derive(Clone)]
pub struct MemoryBudget {
    inner: Arc<Inner>,
}

struct Inner {
    limit: usize,
    /// Where shedding begins, and where it ends.
    high: usize,
    low: usize,
    used: Used,
    peak: AtomicUsize,
    shed: AtomicU64,
    /// By the address of what they share with their handles.
    sessions: Mutex<HashMap<usize, Weak<Shared>>>,
    count: AtomicUsize,
    /// Held by who looks for sessions to shed: when not to look again before.
    shedding: Mutex<Option<Instant>>,
}

/// On a cache line of its own, as every thread writes it.
#[derive(Default)]
#[repr(align(64))]
struct Used(AtomicUsize);

impl MemoryBudget {
    /// A budget of so many bytes, at least 64 KiB.
    pub fn new(limit: usize) -> Self {
        let limit = limit.max(LIMIT_MIN);
        MemoryBudget {
            inner: Arc::new(Inner {
                limit,
                high: limit / 8 * 7,
                low: limit / 4 * 3,
                used: Used::default(),
                peak: AtomicUsize::new(0),
                shed: AtomicU64::new(0),
                sessions: Mutex::default(),
                count: AtomicUsize::new(0),
                shedding: Mutex::new(None),
            }),
        }
    }

    /// The budget of the process: a quarter of the memory that it can have, at most 1 GiB. The limit of its control
    /// group is respected, as it is when this is first called.
    pub fn process() -> Self {
        static PROCESS: OnceLock<MemoryBudget> = OnceLock::new();
        let made = PROCESS.get_or_init(|| {
            let limit = (process::memory() / 4).min(DEFAULT_MAX);
            MemoryBudget::new(usize::try_from(limit).unwrap_or(usize::MAX))
        });
        made.clone()
    }

    /// The limit, in bytes.
    pub fn limit(&self) -> usize {
        self.inner.limit
    }

    /// Bytes that sessions hold. Less than 4 KiB in the outbox or in the buffers of a session are not counted.
    pub fn used(&self) -> usize {
        self.inner.used.0.load(Relaxed)
    }

    /// The most that they have held.
    pub fn peak(&self) -> usize {
        self.inner.peak.load(Relaxed).max(self.used())
    }

    /// Sessions that were shed.
    pub fn shed(&self) -> u64 {
        self.inner.shed.load(Relaxed)
    }

    /// Whether both are the same budget.
    pub(crate) fn is(&self, other: &MemoryBudget) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Whether sessions are to be shed.
    #[inline]
    pub(crate) fn is_tight(&self) -> bool {
        self.used() >= self.inner.high
    }

    /// Whether nothing is left.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.used() >= self.inner.limit
    }

    /// Whether those that were shed still have to make room.
    pub(crate) fn is_short(&self) -> bool {
        self.used() > self.inner.low
    }

    /// Whether so many bytes are less than half of a session's share.
    pub(crate) fn is_little(&self, held: usize) -> bool {
        let sessions = self.inner.count.load(Relaxed).max(1);
        held <= (self.inner.limit / 2 / sessions).max(STEP)
    }

    /// Notes what somebody holds instead of `counted`. True when [`relieve`](Self::relieve) is to be called, as
    /// soon as no lock is held.
    #[inline]
    #[must_use]
    pub(crate) fn note(&self, counted: &mut usize, held: usize) -> bool {
        let steps = held & !(STEP - 1);
        steps != *counted && self.change(counted, steps)
    }

    #[cold]
    fn change(&self, counted: &mut usize, now: usize) -> bool {
        let before = std::mem::replace(counted, now);
        let used = &self.inner.used.0;
        if now < before {
            used.fetch_sub(before - now, Relaxed);
            return false;
        }
        let sum = used.fetch_add(now - before, Relaxed) + (now - before);
        if sum > self.inner.peak.load(Relaxed) {
            self.inner.peak.fetch_max(sum, Relaxed);
        }
        sum >= self.inner.high
    }

    /// A session has begun.
    pub(crate) fn add(&self, session: &Arc<Shared>) {
        let key = Arc::as_ptr(session).addr();
        lock(&self.inner.sessions).insert(key, Arc::downgrade(session));
        self.inner.count.fetch_add(1, Relaxed);
    }

    /// A session is gone, and holds nothing any more.
    pub(crate) fn remove(&self, session: *const Shared) {
        lock(&self.inner.sessions).remove(&session.addr());
        self.inner.count.fetch_sub(1, Relaxed);
    }

    /// Sheds sessions until enough is left. Not to be called with any lock held.
    #[cold]
    pub(crate) fn relieve(&self) {
        // Whatever else the last handle of a session lets go, and whoever is woken, is not to meet a lock.
        let sessions;
        let worst;
        {
            let Some(mut not_before) = self.shedding() else {
                return;
            };
            let began = Instant::now();
            if !self.is_tight() || not_before.is_some_and(|at| began < at) {
                return;
            }
            sessions = self.sessions();
            worst = self.choose(&sessions);
            let took = began.elapsed();
            *not_before = Some(began + took + (took * PAUSE_TIMES).max(PAUSE_MIN));
        }
        for &session in &worst {
            session.shed();
        }
    }

    fn sessions(&self) -> Vec<Arc<Shared>> {
        let sessions = lock(&self.inner.sessions);
        sessions.values().filter_map(Weak::upgrade).collect()
    }

    /// Chooses who has to go.
    fn choose<'a>(&self, sessions: &'a [Arc<Shared>]) -> Vec<&'a Shared> {
        // What is on its way out is held no more for long.
        let mut leaving = 0;
        let mut worst = Vec::new();
        for session in sessions {
            let held = session.held();
            if session.is_shed() {
                leaving += held;
            } else if !self.is_little(held) {
                let age = session
                    .hub()
                    .clock
                    .now()
                    .saturating_sub(session.connected_at);
                let rate = session.counters.bytes_sent.load(Relaxed) / (age + 1);
                worst.push((held, rate, session));
            }
        }
        worst.sort_unstable_by_key(|(held, rate, _)| (std::cmp::Reverse(held / STEP), *rate));
        let mut left = self.used().saturating_sub(leaving);
        let mut chosen = Vec::new();
        for (held, _, session) in worst {
            if left <= self.inner.low {
                break;
            }
            if session.choose_to_shed() {
                self.inner.shed.fetch_add(1, Relaxed);
                left = left.saturating_sub(held);
                chosen.push(&**session);
            }
        }
        chosen
    }

    /// One looks at a time. Others go on meanwhile, unless there is nothing left.
    fn shedding(&self) -> Option<MutexGuard<'_, Option<Instant>>> {
        match self.inner.shedding.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if self.is_full() => Some(lock(&self.inner.shedding)),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBudget")
            .field("limit", &self.limit())
            .field("used", &self.used())
            .field("shed", &self.shed())
            .finish()
    }
}

/// What something outside of sessions holds, such as the queue of a client. Gives it back when it is dropped.
#[derive(Debug)]
pub(crate) struct BudgetAccount {
    budget: MemoryBudget,
    counted: usize,
}

impl BudgetAccount {
    pub(crate) fn new(budget: &MemoryBudget) -> Self {
        BudgetAccount {
            budget: budget.clone(),
            counted: 0,
        }
    }

    /// So much is held now. Not to be called with the lock of a session held.
    pub(crate) fn note(&mut self, held: usize) {
        if self.budget.note(&mut self.counted, held) {
            self.budget.relieve();
        }
    }
}

impl Drop for BudgetAccount {
    fn drop(&mut self) {
        self.note(0);
    }
}

#[cfg(test)]
mod tests;
