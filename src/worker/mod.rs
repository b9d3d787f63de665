//! Workers: a few tasks that own all sessions.
//!
//! A task for each session would leave the order of turns to the runtime, whose queues let the slowest of
//! a thousand busy sessions wait ten times as long as needed (`perf/`, case latency-1000). A worker keeps
//! its own first-in-first-out ready queue instead: a wake-up of a session is an entry in that queue, the
//! task is woken once for many of them, and each session has one bounded turn before the next.

pub(crate) mod pool;
pub(crate) mod queue;
mod threads;

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Sleep;

use self::queue::WorkerQueue;
pub(crate) use self::threads::CAN_PIN;
use crate::codec::Framing;
use crate::error::{CloseReason, ErrorCode};
use crate::events::{self, shown};
use crate::hub::Hub;
use crate::metrics::{Role, WorkerRecorder};
use crate::session::driver::{Driver, Handover, Opened, Turn, TurnContext};
use crate::session::link::{Buffers, Link, Moving};
use crate::session::liveness::Timing;
use crate::session::output::Encoded;
use crate::session::shared::{PeerInfo, Shared, lock, signal};
use crate::session::{Session, SessionId};

thread_local! {
    /// The buffers of the thread. Taken while a worker runs on it.
    static BUFFERS: Cell<Option<Box<Buffers>>> = const { Cell::new(None) };
}

/// A connection on its way to becoming a session.
pub(crate) struct NewSession {
    pub(crate) link: Placed,
    pub(crate) peer: PeerInfo,
    pub(crate) permit: Option<Box<dyn Place>>,
    pub(crate) opened: Option<Box<Opened>>,
    /// Why the connection is refused, if it is. The session then only says so.
    pub(crate) refused: Option<CloseReason>,
}

/// A place among the connections, which is free again when this is dropped.
pub(crate) trait Place: Send {
    /// The peer's address has become known: the connection counts among those from there.
    fn locate(&mut self, ip: IpAddr) -> Result<(), CloseReason>;
}

/// Where a link is.
pub(crate) enum Placed {
    /// On the runtime of its worker.
    Here(Box<dyn Link>),
    /// On its way there.
    Moving(Moving),
}

/// One message for many sessions of one worker.
pub(crate) struct Broadcast {
    pub(crate) frames: Arc<BroadcastFrames>,
    pub(crate) targets: Targets,
    pub(crate) except: Arc<[SessionId]>,
    pub(crate) done: oneshot::Sender<Outcome>,
    /// Its place among the broadcasts that workers have not dealt with, however the caller waits.
    pub(crate) place: Arc<OwnedSemaphorePermit>,
}

/// Which sessions of the worker.
pub(crate) enum Targets {
    All,
    /// Slots, with the ids of the sessions that were in them.
    Members(Arc<Vec<(u32, SessionId)>>),
}

/// A message encoded once for each framing that is in use.
pub(crate) struct BroadcastFrames {
    pub(crate) frame_type: crate::codec::FrameType,
    pub(crate) text: bool,
    pub(crate) payload: bytes::Bytes,
    encoded: [std::sync::OnceLock<Encoded>; Framing::COUNT],
    /// What stages of pipelines make of the payload that make the same of it for many sessions, by which
    /// stages these are; `None` where one refuses it.
    staged: std::sync::Mutex<Vec<(u16, Option<bytes::Bytes>)>>,
}

impl BroadcastFrames {
    pub(crate) fn new(
        frame_type: crate::codec::FrameType,
        text: bool,
        payload: bytes::Bytes,
    ) -> Self {
        BroadcastFrames {
            frame_type,
            text,
            payload,
            encoded: Default::default(),
            staged: Default::default(),
        }
    }

    /// What the stages that `key` stands for make of the payload, which `make` is asked for once.
    pub(crate) fn staged(
        &self,
        key: u16,
        make: impl FnOnce() -> Option<bytes::Bytes>,
    ) -> Option<bytes::Bytes> {
        // Another worker that needs the same waits for it instead of doing the same work.
        let mut staged = lock(&self.staged);
        if let Some((_, made)) = staged.iter().find(|(known, _)| *known == key) {
            return made.clone();
        }
        let made = make();
        staged.push((key, made.clone()));
        made
    }

    /// The frame for links with this framing; `None` when each link has to encode it by itself.
    pub(crate) fn encoded(&self, framing: Framing) -> Option<&Encoded> {
        framing.is_shared().then(|| {
            self.encoded[framing as usize]
                .get_or_init(|| Encoded::new(framing, self.frame_type, self.text, &self.payload))
        })
    }
}

/// What became of a broadcast on one worker.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Sessions that took the message.
    pub(crate) sent: usize,
    /// Sessions whose queue policy dropped it, or that are closing.
    pub(crate) missed: usize,
    /// Sessions that have no room and whose policy is to wait.
    pub(crate) full: Vec<Session>,
}

/// What others ask of a worker.
pub(crate) enum Command {
    Open(Box<NewSession>),
    /// A session goes on with another link.
    Resume(Box<Handover>),
    Broadcast(Box<Broadcast>),
    /// Every session closes in order.
    Drain,
    /// The worker ends when its last session has.
    Stop,
    /// Every session that is left is cut off.
    Abort,
}

struct Slot {
    waker: Waker,
    driver: Driver,
}

/// Bytes that the structures of an idle session take, without its link: driver and waker, what it shares with its
/// handles behind two counters, and its entries in the lists of its worker and its hub.
pub(crate) const IDLE_SESSION_BYTES: usize = size_of::<Slot>()
    + size_of::<Shared>()
    + 2 * size_of::<usize>()
    + size_of::<Option<Box<Slot>>>()
    + size_of::<(SessionId, Session)>();

/// The task.
pub(crate) struct Worker {
    queue: Arc<WorkerQueue>,
    hub: Arc<Hub>,
    recorder: Arc<WorkerRecorder>,
    timing: Timing,
    slots: Vec<Option<Box<Slot>>>,
    free: Vec<u32>,
    ready: Vec<u32>,
    commands: Vec<Command>,
    /// Made on the runtime of the worker, when it is first needed.
    timer: Option<Pin<Box<Sleep>>>,
    timer_set: bool,
    /// When it fires.
    timer_at: u64,
    /// When deadlines are looked at next.
    next_sweep: u64,
    /// Sessions whose acknowledgements are due, and when: the soonest first, as all wait equally long.
    acks: VecDeque<(u64, u32)>,
    /// Whether every session is to close in order.
    draining: bool,
    /// Whether every session is to be cut off, once each has had the turn in which it is told to close.
    aborting: bool,
    /// Whether to end after the last session.
    stopping: bool,
    /// How many sessions ended in order and how many were cut off, since draining began.
    tally: Arc<Tally>,
}

/// How sessions ended.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) drained: std::sync::atomic::AtomicUsize,
    pub(crate) aborted: std::sync::atomic::AtomicUsize,
    /// Messages that reliable sessions have given back.
    pub(crate) unacknowledged: std::sync::atomic::AtomicU64,
}

impl Worker {
    pub(crate) fn new(queue: Arc<WorkerQueue>, hub: Arc<Hub>, tally: Arc<Tally>) -> Self {
        let timing = Timing::new(&hub.timeouts);
        events::worker_started {
            worker: queue.index(),
        }
        .emit();
        Worker {
            recorder: hub.recorder.worker(queue.index()),
            queue,
            hub,
            timing,
            slots: Vec::new(),
            free: Vec::new(),
            ready: Vec::new(),
            commands: Vec::new(),
            timer: None,
            timer_set: false,
            timer_at: 0,
            next_sweep: 0,
            acks: VecDeque::new(),
            draining: false,
            aborting: false,
            stopping: false,
            tally,
        }
    }

    fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    fn run(&mut self, context: &mut Context<'_>, buffers: &mut Buffers) -> Poll<()> {
        let now = self.hub.clock.now();
        if self.timer_set
            && let Some(timer) = &mut self.timer
            && timer.as_mut().poll(context).is_ready()
        {
            self.timer_set = false;
            self.wake_for_acks(now);
            if self.next_sweep <= now {
                self.sweep(buffers, now);
                self.next_sweep = now + self.timing.granularity();
            }
        }
        let queue = Arc::clone(&self.queue);
        loop {
            let mut ready = std::mem::take(&mut self.ready);
            let mut commands = std::mem::take(&mut self.commands);
            let any = queue.take(&mut ready, &mut commands, context.waker());
            if !any {
                self.ready = ready;
                self.commands = commands;
                if self.stopping && self.is_empty() {
                    return Poll::Ready(());
                }
                self.set_timer(context, now);
                return Poll::Pending;
            }
            let was_draining = self.draining;
            for command in commands.drain(..) {
                self.execute(command, buffers, now);
            }
            self.commands = commands;
            for slot in ready.drain(..) {
                self.give_turn(slot, buffers, now);
            }
            self.ready = ready;
            // A stop without any time still tells every peer: those who were asked to close in this round do so in
            // the next one.
            if self.aborting && was_draining == self.draining {
                self.aborting = false;
                self.for_each(|driver| driver.shared().signal(signal::KILL));
            }
            if !queue.is_empty() || !tokio::task::coop::has_budget_remaining() {
                // Let the runtime look at its sockets and other tasks before the next round.
                let _ = pin!(tokio::task::yield_now()).poll(context);
                self.set_timer(context, now);
                return Poll::Pending;
            }
        }
    }

    /// Lets a session do something. If that panics, which handlers cannot bring about, it ends that
    /// session only.
    fn with<T>(
        &mut self,
        index: u32,
        buffers: &mut Buffers,
        now: u64,
        call: impl FnOnce(&mut Driver, &mut Context<'_>, &mut TurnContext<'_>) -> T,
    ) -> Option<T> {
        let slot = self.slots.get_mut(index as usize)?.as_mut()?;
        let Slot { waker, driver } = &mut **slot;
        let mut turn = TurnContext {
            buffers,
            recorder: &self.recorder,
            request_timed: false,
            ack_due: 0,
            timing: &self.timing,
            now,
        };
        let context = &mut Context::from_waker(waker);
        let result = catch_unwind(AssertUnwindSafe(|| call(driver, context, &mut turn)));
        if turn.ack_due > 0 {
            self.acks.push_back((turn.ack_due, index));
        }
        if result.is_err() {
            let session = driver.shared().id().as_u64();
            events::session_panicked { session }.emit();
            *buffers = Buffers::default();
            let _ = catch_unwind(AssertUnwindSafe(|| driver.cancel(now)));
            self.remove(index);
        }
        result.ok()
    }

    fn give_turn(&mut self, index: u32, buffers: &mut Buffers, now: u64) {
        let turn = self.with(index, buffers, now, |driver, context, turn| {
            driver.turn(context, turn)
        });
        if turn == Some(Turn::Finished) {
            self.remove(index);
        }
    }

    fn remove(&mut self, index: u32) {
        use std::sync::atomic::Ordering;
        let Some(slot) = self.slots.get_mut(index as usize).and_then(Option::take) else {
            return;
        };
        if self.draining {
            let tally = if slot.driver.was_aborted() {
                &self.tally.aborted
            } else {
                &self.tally.drained
            };
            tally.fetch_add(1, Ordering::Relaxed);
            let given_back = slot.driver.given_back();
            self.tally
                .unacknowledged
                .fetch_add(given_back, Ordering::Relaxed);
        }
        let id = slot.driver.shared().id();
        // Its destructors are partly the application's.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(slot)));
        self.free.push(index);
        self.hub.session_finished(id);
    }

    fn execute(&mut self, command: Command, buffers: &mut Buffers, now: u64) {
        match command {
            Command::Open(new) => self.open(*new, false, buffers, now),
            Command::Resume(handover) => self.resume(handover, buffers, now),
            Command::Broadcast(broadcast) => self.broadcast(*broadcast, buffers, now),
            Command::Drain => {
                self.draining = true;
                self.for_each(|driver| driver.shared().signal(signal::DRAIN));
            }
            Command::Abort => self.aborting = true,
            Command::Stop => self.stopping = true,
        }
    }

    fn for_each(&self, visit: impl Fn(&Driver)) {
        self.slots
            .iter()
            .flatten()
            .for_each(|slot| visit(&slot.driver));
    }

    /// Makes a session of a connection; `is_linked` says whether its link is open already.
    fn open(&mut self, new: NewSession, is_linked: bool, buffers: &mut Buffers, now: u64) {
        let arrived = match new.link {
            Placed::Here(link) => Ok(link),
            Placed::Moving(join) => join(),
        };
        let link = match arrived {
            Ok(link) => link,
            Err(error) => {
                let error = shown(error);
                events::connection_lost { error }.emit();
                self.hub.session_ended();
                return;
            }
        };
        let index = self.free.pop().unwrap_or(self.slots.len() as u32);
        if index as usize == self.slots.len() {
            self.slots.push(None);
        }
        let shared = Shared::new(
            self.hub.next_id(),
            Arc::clone(&self.hub),
            Arc::clone(&self.queue),
            index,
            link.framing(),
            new.peer,
            now,
        );
        let waker = Waker::from(Arc::clone(&shared));
        let mut driver = Driver::new(shared, link, new.permit, new.opened, now);
        if is_linked {
            driver.skip_opening();
        }
        let mut slot = Box::new(Slot { waker, driver });
        let mut turn = TurnContext {
            buffers,
            recorder: &self.recorder,
            request_timed: false,
            ack_due: 0,
            timing: &self.timing,
            now,
        };
        match new.refused {
            None => slot.driver.begin(&mut turn),
            Some(reason) => slot.driver.refuse(reason, now),
        }
        slot.driver.shared().schedule();
        if self.draining {
            // It was accepted just before the listener closed.
            slot.driver.shared().signal(signal::DRAIN);
        }
        self.slots[index as usize] = Some(slot);
    }

    /// Gives a session another link. When the session is gone, or is not for this peer, the peer is told.
    fn resume(&mut self, handover: Box<Handover>, buffers: &mut Buffers, now: u64) {
        let (index, id) = (handover.slot, handover.session);
        let slot = self.slots.get(index as usize).and_then(Option::as_deref);
        let refused = match slot.is_some_and(|slot| slot.driver.shared().id() == id) {
            false => Some((
                handover,
                CloseReason::with_code(ErrorCode::SessionExpired, "there is no session to resume"),
            )),
            true => match self.with(index, buffers, now, |driver, _, turn| {
                driver.resume(handover, turn)
            }) {
                Some(Err(refused)) => Some(refused),
                _ => None,
            },
        };
        let Some((mut handover, reason)) = refused else {
            return;
        };
        handover.give_up(&reason);
        let reason = match self.hub.role {
            Role::Server => self.hub.refuse_resume(reason, now),
            Role::Client => reason,
        };
        self.hub.session_began();
        let new = NewSession {
            link: handover.link,
            peer: PeerInfo {
                transport: handover.transport,
                remote: handover.remote,
                local: handover.local,
            },
            permit: handover.permit,
            opened: None,
            refused: Some(reason),
        };
        self.open(new, true, buffers, now);
    }

    fn broadcast(&mut self, broadcast: Broadcast, buffers: &mut Buffers, now: u64) {
        let mut outcome = Outcome::default();
        match &broadcast.targets {
            Targets::All => {
                for index in 0..self.slots.len() as u32 {
                    self.broadcast_to(index, None, &broadcast, &mut outcome, buffers, now);
                }
            }
            Targets::Members(members) => {
                for &(slot, id) in members.iter() {
                    self.broadcast_to(slot, Some(id), &broadcast, &mut outcome, buffers, now);
                }
            }
        }
        drop(broadcast.place);
        // Nobody waits any more when the caller has gone.
        let _ = broadcast.done.send(outcome);
    }

    fn broadcast_to(
        &mut self,
        index: u32,
        expected: Option<SessionId>,
        broadcast: &Broadcast,
        outcome: &mut Outcome,
        buffers: &mut Buffers,
        now: u64,
    ) {
        self.with(index, buffers, now, |driver, context, turn| {
            let id = driver.shared().id();
            if expected.is_some_and(|expected| expected != id)
                || broadcast.except.contains(&id)
                || !driver.is_open()
            {
                return;
            }
            match driver.broadcast(context, turn, &broadcast.frames) {
                Delivery::Sent => outcome.sent += 1,
                Delivery::Missed => outcome.missed += 1,
                Delivery::Full => outcome.full.push(Session::new(Arc::clone(driver.shared()))),
            }
        });
    }

    /// Looks at the deadlines of every session and sets the timer for the next look.
    fn sweep(&mut self, buffers: &mut Buffers, now: u64) {
        for index in 0..self.slots.len() as u32 {
            self.with(index, buffers, now, |driver, _, turn| driver.tick(turn));
        }
    }

    /// Sessions whose acknowledgements are due get a turn.
    fn wake_for_acks(&mut self, now: u64) {
        while let Some((due, index)) = self.acks.front().copied()
            && due <= now
        {
            self.acks.pop_front();
            // Another session may be in the slot by now; a turn too many does no harm.
            if let Some(Some(slot)) = self.slots.get(index as usize) {
                slot.driver.shared().schedule();
            }
        }
    }

    fn set_timer(&mut self, context: &mut Context<'_>, now: u64) {
        if self.is_empty() {
            return;
        }
        if !self.timer_set && self.next_sweep <= now {
            self.next_sweep = now + self.timing.granularity();
        }
        let ack = self.acks.front().map_or(u64::MAX, |(due, _)| *due);
        let at = self.next_sweep.min(ack);
        if self.timer_set && self.timer_at <= at {
            return;
        }
        self.timer_at = at;
        let next = self.hub.clock.instant(at);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
        timer.as_mut().reset(next);
        self.timer_set = true;
        if timer.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
    }
}

/// What became of a broadcast on one session.
pub(crate) enum Delivery {
    Sent,
    Missed,
    Full,
}

impl Future for Worker {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut buffers = BUFFERS.take().unwrap_or_default();
        let result = self.run(context, &mut buffers);
        buffers.note_memory();
        BUFFERS.set(Some(buffers));
        result
    }
}

impl Drop for Worker {
    /// The runtime may end before the worker has: whoever waits for a session learns that it is over.
    fn drop(&mut self) {
        events::worker_stopped {
            worker: self.queue.index(),
        }
        .emit();
        let now = self.hub.clock.now();
        for mut slot in self.slots.drain(..).flatten() {
            let id = slot.driver.shared().id();
            // What an application's destructors do must not keep the others from their end.
            let _ = catch_unwind(AssertUnwindSafe(|| slot.driver.cancel(now)));
            let _ = catch_unwind(AssertUnwindSafe(|| drop(slot)));
            self.hub.session_finished(id);
        }
        for command in self.queue.close() {
            if matches!(command, Command::Open(_)) {
                self.hub.session_ended();
            }
        }
    }
}
