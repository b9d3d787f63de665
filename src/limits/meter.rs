//! What a session, its address and its server may receive, and what they have.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::address::Addresses;
use super::gcra::{Pace, SECOND};
use super::{Rate, RatePolicy};
use crate::config::Limits;

/// Frames a second that are not messages, for each session that has any rate: PINGs, acknowledgements, answers.
/// Their number goes with what this side sends, so that the rate of messages says nothing about them.
const CONTROL_PER_SECOND: u64 = 10_000;

const CONTROL_BURST: Duration = Duration::from_secs(1);

/// Messages, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

/// Until when what was received lasts.
#[derive(Debug, Default)]
pub(super) struct Spent {
    messages: AtomicU64,
    bytes: AtomicU64,
}

/// A [`Rate`], as it is reckoned with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    messages: Option<Pace>,
    bytes: Option<Pace>,
    burst: u64,
    policy: RatePolicy,
}

impl Level {
    pub(super) fn new(rate: &Rate) -> Self {
        Level {
            messages: Pace::new(rate.messages_per_second, rate.burst),
            bytes: Pace::new(rate.bytes_per_second, rate.burst),
            burst: u64::try_from(rate.burst.as_nanos()).unwrap_or(u64::MAX),
            policy: rate.when_exceeded,
        }
    }

    /// From when on this amount is let in.
    fn due(&self, spent: &Spent, amount: Amount) -> u64 {
        let messages = self.messages.map_or(0, |pace| {
            pace.due(spent.messages.load(Relaxed), amount.messages)
        });
        let bytes = self
            .bytes
            .map_or(0, |pace| pace.due(spent.bytes.load(Relaxed), amount.bytes));
        messages.max(bytes)
    }

    /// Whether this amount is let in now. A single message is when nothing has been for a burst, however long it is.
    fn fits(&self, spent: &Spent, amount: Amount, now: u64) -> bool {
        if amount.messages <= 1 {
            return self.due(spent, amount) <= now;
        }
        let room = self.room(spent, now);
        amount.messages <= room.messages && amount.bytes <= room.bytes
    }

    fn room(&self, spent: &Spent, now: u64) -> Amount {
        let room = |pace: Option<Pace>, ahead: &AtomicU64| {
            pace.map_or(u64::MAX, |pace| pace.room(ahead.load(Relaxed), now))
        };
        Amount {
            messages: room(self.messages, &spent.messages),
            bytes: room(self.bytes, &spent.bytes),
        }
    }

    /// Several sessions may do so at once, so that together they can be ahead by what each of them was let in.
    /// That is made up for like everything else.
    fn spend(&self, spent: &Spent, amount: Amount, now: u64) {
        let spend = |pace: Option<Pace>, ahead: &AtomicU64, count: u64| {
            if let Some(pace) = pace {
                let after = |ahead| Some(pace.after(ahead, count, now));
                let _ = ahead.fetch_update(Relaxed, Relaxed, after);
            }
        };
        spend(self.messages, &spent.messages, amount.messages);
        spend(self.bytes, &spent.bytes, amount.bytes);
    }

    /// As [`spend`](Self::spend), for what is let in whether or not it should be: that is made up for too, but for
    /// no longer than a second beyond a burst.
    fn force(&self, spent: &Spent, amount: Amount, now: u64) {
        self.spend(spent, amount, now);
        let most = now.saturating_add(self.burst).saturating_add(SECOND);
        spent.messages.fetch_min(most, Relaxed);
        spent.bytes.fetch_min(most, Relaxed);
    }

    /// Whether nothing of what was received lasts any more.
    pub(super) fn is_rested(&self, spent: &Spent, now: u64) -> bool {
        spent.messages.load(Relaxed).max(spent.bytes.load(Relaxed)) <= now
    }

    /// How many of the first messages of these lengths are let in now.
    fn first(&self, spent: &Spent, lengths: impl Iterator<Item = usize>, now: u64) -> usize {
        let room = self.room(spent, now);
        let mut sum = Amount::default();
        for len in lengths {
            sum.messages += 1;
            sum.bytes = sum.bytes.saturating_add(len as u64);
            let fits = match sum.messages {
                1 => self.fits(spent, sum, now),
                _ => sum.messages <= room.messages && sum.bytes <= room.bytes,
            };
            if !fits {
                return sum.messages as usize - 1;
            }
        }
        sum.messages as usize
    }

    /// How much one session takes at a time when it has to wait, so that others that wait have their turn.
    fn quantum(&self) -> Amount {
        Amount {
            messages: self.messages.map_or(u64::MAX, Pace::quantum),
            bytes: self.bytes.map_or(u64::MAX, Pace::quantum),
        }
    }
}

/// The rates of a server or client, and what all of its sessions have received.
pub(crate) struct Rates {
    session: Option<Level>,
    address: Option<Level>,
    server: Option<Level>,
    addresses: Addresses,
    spent: Spent,
}

impl Rates {
    /// `None` when there are none.
    pub(crate) fn new(limits: &Limits) -> Option<Box<Self>> {
        let level = |rate: &Option<Rate>| rate.as_ref().map(Level::new);
        let rates = Rates {
            session: level(&limits.session_rate),
            address: level(&limits.ip_rate),
            server: level(&limits.server_rate),
            addresses: Addresses::default(),
            spent: Spent::default(),
        };
        let any = rates.session.is_some() || rates.address.is_some() || rates.server.is_some();
        any.then(|| Box::new(rates))
    }
}

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All of it is let in.
    All,
    /// So many of its first frames are, and what comes after them is dropped; the session ends if that is said.
    First { count: usize, ends: bool },
    /// So many of its first frames are let in now, and the rest is asked about again after them.
    Part(usize),
    /// So many of its first frames will be let in, after a wait; they are not asked about again.
    Later(usize),
}

/// What one session has received, and whether it waits.
#[derive(Default)]
pub(crate) struct Meter {
    spent: Spent,
    /// What the sessions from the peer's address have.
    address: Option<Arc<Spent>>,
    /// Until when the frames last that are not messages.
    control: u64,
    wait: Option<Wait>,
}

struct Wait {
    timer: Pin<Box<Sleep>>,
    stops_reading: bool,
}

/// The frames of a batch, as far as rates are concerned.
pub(crate) trait Batch {
    /// How many there are.
    fn count(&self) -> usize;
    /// Their bytes.
    fn bytes(&self) -> usize;
    /// The bytes of each.
    fn lengths(&self) -> impl Iterator<Item = usize>;
}

impl Meter {
    /// Whether the session waits until it may have more.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        self.wait.is_some()
    }

    /// Whether the session is not even read meanwhile.
    #[inline]
    pub(crate) fn stops_reading(&self) -> bool {
        self.wait.as_ref().is_some_and(|wait| wait.stops_reading)
    }

    /// Ends a wait whose time has come.
    #[inline]
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) {
        if let Some(wait) = &mut self.wait
            && wait.timer.as_mut().poll(context).is_ready()
        {
            self.wait = None;
        }
    }

    /// Waits until this moment; whoever has `context` is woken then.
    pub(crate) fn wait_until(
        &mut self,
        at: Instant,
        stops_reading: bool,
        context: &mut Context<'_>,
    ) {
        let timer = Box::pin(tokio::time::sleep_until(at));
        self.wait = Some(Wait {
            timer,
            stops_reading,
        });
        self.poll(context);
    }

    /// The peer is at this address, if it has one.
    fn locate(&mut self, rates: &Rates, peer: impl FnOnce() -> Option<IpAddr>, now: u64) {
        if self.address.is_none()
            && let Some(level) = &rates.address
            && let Some(ip) = peer()
        {
            self.address = Some(rates.addresses.of(ip, level, now));
        }
    }

    /// The peer may have another address now.
    pub(crate) fn forget_address(&mut self) {
        self.address = None;
    }

    fn levels<'a>(&'a self, rates: &'a Rates) -> impl Iterator<Item = (&'a Level, &'a Spent)> {
        let session = rates.session.as_ref().map(|level| (level, &self.spent));
        let address = rates.address.as_ref().zip(self.address.as_deref());
        let server = rates.server.as_ref().map(|level| (level, &rates.spent));
        [session, address, server].into_iter().flatten()
    }

    fn spend(&self, rates: &Rates, amount: Amount, now: u64) {
        for (level, spent) in self.levels(rates) {
            level.spend(spent, amount, now);
        }
    }

    /// Says what becomes of a batch at `now`, in nanoseconds; when it has to wait, from when on it does not.
    pub(crate) fn admit<B: Batch>(
        &mut self,
        rates: &Rates,
        batch: &B,
        peer: impl FnOnce() -> Option<IpAddr>,
        now: u64,
    ) -> (Verdict, u64) {
        self.locate(rates, peer, now);
        let all = Amount {
            messages: batch.count() as u64,
            bytes: batch.bytes() as u64,
        };
        if self
            .levels(rates)
            .all(|(level, spent)| level.fits(spent, all, now))
        {
            self.spend(rates, all, now);
            return (Verdict::All, now);
        }
        let (mut count, mut policy) = (batch.count(), RatePolicy::Wait);
        for (level, spent) in self.levels(rates) {
            let first = level.first(spent, batch.lengths(), now);
            if first < count {
                (count, policy) = (first, level.policy);
            } else if first == count && first < batch.count() {
                policy = policy.max(level.policy);
            }
        }
        let ends = policy == RatePolicy::Disconnect;
        if policy == RatePolicy::Wait && count == 0 {
            return self.reserve(rates, batch, now);
        }
        self.spend(rates, sum(batch.lengths().take(count)), now);
        let verdict = match policy {
            RatePolicy::Wait if count == batch.count() => Verdict::All,
            RatePolicy::Wait => Verdict::Part(count),
            RatePolicy::Drop | RatePolicy::Disconnect => Verdict::First { count, ends },
        };
        (verdict, now)
    }

    /// Takes the place of the first frames in the line of all that wait. What they have is counted now, so that
    /// whoever comes later waits longer.
    fn reserve<B: Batch>(&self, rates: &Rates, batch: &B, now: u64) -> (Verdict, u64) {
        let (mut messages, mut bytes) = (u64::MAX, u64::MAX);
        for (level, _) in self.levels(rates) {
            let quantum = level.quantum();
            messages = messages.min(quantum.messages);
            bytes = bytes.min(quantum.bytes);
        }
        let mut amount = Amount::default();
        for len in batch.lengths() {
            let next = amount.bytes.saturating_add(len as u64);
            if amount.messages > 0 && (amount.messages >= messages || next > bytes) {
                break;
            }
            amount.messages += 1;
            amount.bytes = next;
        }
        let due = self
            .levels(rates)
            .map(|(level, spent)| level.due(spent, amount))
            .max();
        self.spend(rates, amount, now);
        (
            Verdict::Later(amount.messages as usize),
            due.unwrap_or(now).max(now),
        )
    }

    /// A batch is let in whatever the rates are: nobody can wait for it any more.
    pub(crate) fn force<B: Batch>(&mut self, rates: &Rates, batch: &B, now: u64) {
        let amount = Amount {
            messages: batch.count() as u64,
            bytes: batch.bytes() as u64,
        };
        for (level, spent) in self.levels(rates) {
            level.force(spent, amount, now);
        }
    }

    /// Counts frames that are dealt with whatever the rates are. When they have been too many, says until when
    /// nothing more is to be read, and whether the session is to end instead.
    pub(crate) fn note_control(
        &mut self,
        rates: &Rates,
        frames: usize,
        bytes: usize,
        peer: impl FnOnce() -> Option<IpAddr>,
        now: u64,
    ) -> Option<(u64, bool)> {
        self.locate(rates, peer, now);
        let (mut until, mut ends) = (now, false);
        if let Some(pace) = Pace::new(CONTROL_PER_SECOND, CONTROL_BURST) {
            self.control = pace.after(self.control, frames as u64, now);
            until = until.max(pace.due(self.control, 1));
        }
        let amount = Amount {
            messages: 0,
            bytes: bytes as u64,
        };
        for (level, spent) in self.levels(rates) {
            level.force(spent, amount, now);
            let open = spent.bytes.load(Relaxed).saturating_sub(level.burst);
            ends |= open > now && level.policy == RatePolicy::Disconnect;
            until = until.max(open);
        }
        (until > now).then_some((until, ends))
    }
}

fn sum(lengths: impl Iterator<Item = usize>) -> Amount {
    lengths.fold(Amount::default(), |sum, len| Amount {
        messages: sum.messages + 1,
        bytes: sum.bytes + len as u64,
    })
}

#[cfg(test)]
mod tests;
