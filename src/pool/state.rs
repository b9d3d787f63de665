//! What a pool has and who waits for it: plain bookkeeping, under the pool's lock.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::builder::Config;
use super::stats::{Counts, PoolReport, PoolStats, Why};
use super::{Manage, Pooled, closing};
use crate::client::ReconnectPolicy;
use crate::client::backoff::{Backoff, Jitter, Random};
use crate::error::{ErrorCode, PoolError};
use crate::metrics::Distribution;

/// How much earlier than its age limit an item may go, so that those that were made together do not go together:
/// a fifth of it.
const AGE_JITTER: u32 = 5;

/// The delay before making an item is tried again, when it failed: at most this at first, and at last.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(10);

/// Where a pool stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Nothing is lent any more.
    Closing,
    Closed,
}

/// Where an item is that is not idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Its guard is out, or on the way to whoever waits.
    InUse,
    /// The keeper checks it, or is about to.
    Checking,
    /// It is being made.
    Making,
}

/// An item, and what the pool knows of it.
pub(super) struct Entry<I> {
    pub(super) item: I,
    pub(super) id: u64,
    /// When its age limit is reached.
    pub(super) expires: Option<Instant>,
    /// When it was given back. Of no meaning while it is in use.
    pub(super) idle_since: Instant,
    /// When it was last known to work: made, given back or checked.
    pub(super) seen: Instant,
    /// When it was made or last checked.
    pub(super) checked: Instant,
    /// Ends the watch of the item with it.
    pub(super) _watch: Option<oneshot::Sender<()>>,
}

pub(super) type Waiter<M> = oneshot::Sender<Result<Pooled<M>, PoolError>>;

pub(super) struct State<M: Manage> {
    pub(super) phase: Phase,
    /// Whether the keeper's task runs.
    pub(super) has_keeper: bool,
    /// When the keeper looks again by itself.
    pub(super) looks_at: Option<Instant>,
    /// By when the pool shall have closed.
    pub(super) deadline: Option<Instant>,
    /// The one that was given back last is at the back, and is lent first. So those that are not needed stay in
    /// front and reach their idle limit. Empty while anybody waits.
    pub(super) idle: VecDeque<Entry<M::Item>>,
    /// By ticket: first come, first served.
    pub(super) waiters: BTreeMap<u64, Waiter<M>>,
    last_ticket: u64,
    last_id: u64,
    pub(super) in_use: usize,
    pub(super) checking: usize,
    pub(super) making: usize,
    /// Items that are being closed, those in `doomed` included.
    pub(super) closing: usize,
    /// Given back, for the keeper to check, or to wait for.
    pub(super) returned: Vec<Entry<M::Item>>,
    /// For the keeper to close.
    pub(super) doomed: Vec<Entry<M::Item>>,
    pub(super) last_failure: Option<(ErrorCode, String)>,
    backoff: Backoff,
    random: Jitter,
    /// Not before this is making an item tried again, unless nothing else can help who waits.
    pub(super) retry_at: Option<Instant>,
    pub(super) counts: Counts,
    pub(super) waits: Distribution,
}

impl<M: Manage> State<M> {
    pub(super) fn new() -> Self {
        let policy = ReconnectPolicy::new().base(RETRY_FIRST).cap(RETRY_LAST);
        State {
            phase: Phase::Open,
            has_keeper: false,
            looks_at: None,
            deadline: None,
            idle: VecDeque::new(),
            waiters: BTreeMap::new(),
            last_ticket: 0,
            last_id: 0,
            in_use: 0,
            checking: 0,
            making: 0,
            closing: 0,
            returned: Vec::new(),
            doomed: Vec::new(),
            last_failure: None,
            backoff: Backoff::new(policy),
            random: Jitter::from_system(),
            retry_at: None,
            counts: Counts::default(),
            waits: Distribution::default(),
        }
    }

    /// Items that there are, without those that are being made or closed.
    pub(super) fn size(&self) -> usize {
        self.idle.len() + self.in_use + self.checking
    }

    pub(super) fn check_open(&self) -> Result<(), PoolError> {
        match self.phase {
            Phase::Open => Ok(()),
            Phase::Closing | Phase::Closed => Err(closing()),
        }
    }

    // Waiting

    /// A place at the end of the queue.
    pub(super) fn enqueue(&mut self, waiter: Waiter<M>) -> u64 {
        self.last_ticket += 1;
        self.waiters.insert(self.last_ticket, waiter);
        self.last_ticket
    }

    // Items

    /// Counts an idle item as in use.
    pub(super) fn lend(&mut self, entry: Entry<M::Item>) -> Entry<M::Item> {
        self.in_use += 1;
        self.counts.acquired += 1;
        entry
    }

    /// The same for one that was elsewhere.
    pub(super) fn hand_over(&mut self, entry: Entry<M::Item>, from: Place) -> Entry<M::Item> {
        self.leave(from);
        self.lend(entry)
    }

    /// An item is no longer where it was.
    pub(super) fn leave(&mut self, from: Place) {
        match from {
            Place::InUse => self.in_use -= 1,
            Place::Checking => self.checking -= 1,
            Place::Making => self.making -= 1,
        }
    }

    /// Keeps an item for whoever comes; says whether the keeper has to look at it earlier than it would.
    pub(super) fn keep_idle(
        &mut self,
        entry: Entry<M::Item>,
        from: Place,
        config: &Config,
    ) -> bool {
        self.leave(from);
        let due = match config.has_no_clock() {
            true => None,
            false => config.due(&entry, entry.idle_since),
        };
        // One that was checked keeps its place among those that nobody needs.
        let newer = |known: &Entry<M::Item>| known.idle_since > entry.idle_since;
        let at = match self.idle.back() {
            Some(last) if newer(last) => self.idle.iter().take_while(|known| !newer(known)).count(),
            _ => self.idle.len(),
        };
        self.idle.insert(at, entry);
        due.is_some_and(|due| self.looks_at.is_none_or(|at| due < at))
    }

    /// Hands an item to the keeper to be closed. Without one it is given back, to be dropped.
    pub(super) fn doom(&mut self, entry: Entry<M::Item>) -> Option<Entry<M::Item>> {
        if !self.has_keeper {
            return Some(entry);
        }
        self.closing += 1;
        self.doomed.push(entry);
        None
    }

    /// An item was made.
    pub(super) fn made(
        &mut self,
        item: M::Item,
        watch: Option<oneshot::Sender<()>>,
        config: &Config,
    ) -> Entry<M::Item> {
        self.counts.created += 1;
        self.last_failure = None;
        self.retry_at = None;
        self.backoff.reset();
        self.last_id += 1;
        let now = Instant::now();
        Entry {
            item,
            id: self.last_id,
            expires: config.max_age.and_then(|age| {
                let early = (age / AGE_JITTER).mul_f64(unit(self.random.next_u64()));
                now.checked_add(age - early)
            }),
            idle_since: now,
            seen: now,
            checked: now,
            _watch: watch,
        }
    }

    /// An item could not be made. Who has to be told, when nothing else can help them.
    pub(super) fn not_made(&mut self, error: &PoolError) -> Option<Waiter<M>> {
        self.leave(Place::Making);
        self.counts.create_failures += 1;
        self.last_failure = Some((error.code(), error.to_string()));
        let now = Instant::now();
        self.retry_at = self.backoff.next_delay(now).map(|delay| now + delay);
        match self.is_hopeless() {
            true => self.waiters.pop_first().map(|(_, waiter)| waiter),
            false => None,
        }
    }

    /// Whether there are as many items as there may be.
    pub(super) fn is_full(&self, config: &Config) -> bool {
        self.phase == Phase::Open && self.size() + self.making >= config.maximum
    }

    /// Whether nothing can be given back.
    pub(super) fn is_hopeless(&self) -> bool {
        self.in_use + self.checking == 0
    }

    /// How many items shall be made now.
    pub(super) fn wanted(&self, config: &Config, now: Instant) -> usize {
        let has_to_wait = self.retry_at.is_some_and(|at| now < at);
        let there = self.size() + self.making;
        let too_few = config.minimum.saturating_sub(there);
        let wanted = match (has_to_wait, self.is_hopeless()) {
            (true, false) => 0,
            (true, true) => self.waiters.len().saturating_sub(self.making),
            (false, _) => self.waiters.len().saturating_sub(self.making).max(too_few),
        };
        let room = match self.closing < config.maximum {
            true => config.maximum.saturating_sub(there),
            // What is closed slowly is still there for the server.
            false => 0,
        };
        let at_once = config.parallel_creates.saturating_sub(self.making);
        wanted.min(room).min(at_once)
    }

    /// Ends idle items that are too old, or that nobody has needed for too long.
    pub(super) fn expire(&mut self, config: &Config, now: Instant) {
        let mut at = 0;
        while at < self.idle.len() {
            let entry = &self.idle[at];
            let idle = now.duration_since(entry.idle_since);
            let why = if entry.expires.is_some_and(|at| at <= now) {
                Why::Age
            } else if config.idle_timeout.is_some_and(|most| idle >= most)
                && self.size() > config.minimum
            {
                Why::Idle
            } else {
                at += 1;
                continue;
            };
            if let Some(entry) = self.idle.remove(at) {
                self.counts.closed.count(why);
                self.closing += 1;
                self.doomed.push(entry);
            }
        }
    }

    /// When there is something to do without being woken.
    pub(super) fn next_look(&self, config: &Config, now: Instant) -> Option<Instant> {
        let dues = self.idle.iter().filter_map(|entry| config.due(entry, now));
        // What is given back later is due no earlier than this, but for its age.
        let later = match self.size() + self.making {
            0 => None,
            _ => config.shortest().and_then(|short| now.checked_add(short)),
        };
        let retry = self.retry_at.filter(|&at| at > now);
        dues.chain(later).chain(retry).min()
    }

    // The end

    /// Ends all that is idle or waits to be checked.
    pub(super) fn close_all(&mut self) {
        let returned = std::mem::take(&mut self.returned);
        self.checking -= returned.len();
        for entry in std::mem::take(&mut self.idle).into_iter().chain(returned) {
            self.counts.closed.count(Why::Closing);
            self.closing += 1;
            self.doomed.push(entry);
        }
    }

    /// Takes what the keeper was to do, which does not run any more.
    pub(super) fn take_jobs(&mut self) -> Vec<Entry<M::Item>> {
        let mut items = std::mem::take(&mut self.doomed);
        self.closing -= items.len();
        let returned = std::mem::take(&mut self.returned);
        self.checking -= returned.len();
        for _ in &returned {
            self.counts.closed.count(Why::Check);
        }
        items.extend(returned);
        items
    }

    /// Closes what is left, and says how it went.
    pub(super) fn end(&mut self) -> (PoolReport, Vec<Entry<M::Item>>) {
        self.phase = Phase::Closed;
        // What is given back from here on is dropped.
        self.has_keeper = false;
        let report = PoolReport {
            in_order: self.in_use == 0 && self.making + self.checking + self.closing == 0,
            left: self.in_use,
        };
        self.close_all();
        (report, self.take_jobs())
    }

    pub(super) fn stats(&self) -> PoolStats {
        PoolStats {
            size: self.size(),
            idle: self.idle.len(),
            in_use: self.in_use,
            checking: self.checking,
            creating: self.making,
            closing: self.closing,
            waiting: self.waiters.len(),
            created: self.counts.created,
            create_failures: self.counts.create_failures,
            closed: self.counts.closed,
            acquired: self.counts.acquired,
            timeouts: self.counts.timeouts,
            refused: self.counts.refused,
            waits: Default::default(),
        }
    }
}

/// A random number as one from 0 to below 1.
fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}
