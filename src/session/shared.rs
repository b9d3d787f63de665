//! What the handles of a session and its driver share.

use std::any::{Any, TypeId};
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Wake, Waker};

use tokio::sync::Notify;

use super::identity::Grant;
use super::link::Established;
use super::outbox::{Offered, Outbox};
use super::output::{Encoded, Frame, Output};
use super::reliable::Room;
use super::reliable::resumption::Resumption;
use super::requests::{GroupChanges, Requests};
use super::{SessionId, State, Transport};
use crate::codec::Framing;
use crate::config::{Limits, QueuePolicy};
use crate::error::CloseReason;
use crate::events;
use crate::group::GroupName;
use crate::handler::Service;
use crate::hub::Hub;
use crate::message::Message;
use crate::metrics::{EventLevel, Held, Note};
use crate::worker::queue::WorkerQueue;

/// Locks a mutex whose data stay valid when a holder panics, as all of this crate's do: they are only
/// changed by code that does not panic half-way.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something a handle asks of the driver. Bits of [`Shared::signals`].
pub(crate) mod signal {
    /// Close in order, for the reason in [`Extra::close_request`](super::Extra).
    pub(crate) const CLOSE: u8 = 1;
    /// Close at once.
    pub(crate) const ABORT: u8 = 2;
    /// The server or client is stopping: settle, then close in order.
    pub(crate) const DRAIN: u8 = 4;
    /// The deadline of the stop has passed: close at once, and drop handlers that are running.
    pub(crate) const KILL: u8 = 8;
    /// A suspended session is not waited for any more.
    pub(crate) const EXPIRE: u8 = 16;
    /// The process holds too much: close, at once if need be.
    pub(crate) const SHED: u8 = 32;
}

/// Where a session comes from.
#[derive(Clone, Debug)]
pub(crate) struct PeerInfo {
    pub(crate) transport: Transport,
    /// Addresses of the two ends, when the transport has any. Boxed, as not every session is asked.
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) local: Option<SocketAddr>,
}

/// Counters of one session, written by its driver once for each batch.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) messages_sent: AtomicU64,
    pub(crate) messages_received: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    pub(crate) errors: AtomicU32,
    pub(crate) dropped: AtomicU32,
    /// Messages that a rate did not let in.
    pub(crate) rate_limited: AtomicU32,
    /// Microseconds of the last PING's round trip, 0 before the first.
    pub(crate) round_trip: AtomicU32,
    /// When the last message was sent or received, milliseconds of the hub's clock; 0 for never.
    pub(crate) last_message: AtomicU64,
}

/// What only some sessions need, allocated on first use.
#[derive(Default)]
pub(crate) struct Extra {
    pub(crate) client_id: OnceLock<String>,
    pub(crate) identity: Mutex<Option<Arc<str>>>,
    pub(crate) grant: Grant,
    /// The names of the stages that messages go through.
    pub(crate) pipeline: Mutex<Arc<[String]>>,
    /// What the opening of the link found out; of the newest link, when the session has had several.
    pub(crate) established: Mutex<Option<Arc<Established>>>,
    pub(crate) data: Mutex<HashMap<String, String>>,
    pub(crate) extensions: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
    pub(crate) groups: Mutex<BTreeSet<GroupName>>,
    pub(crate) requests: Mutex<Requests>,
    /// Joins and leaves of a client that its server has not answered.
    pub(crate) group_changes: Mutex<GroupChanges>,
    /// What a reliable session shares with handles and with the connections that ask for it.
    pub(crate) resumption: OnceLock<Arc<Resumption>>,
    pub(crate) close_request: OnceLock<CloseReason>,
    pub(crate) closed: OnceLock<CloseReason>,
    pub(crate) state_changed: Notify,
    /// Handlers of this session alone.
    service: Mutex<Option<Arc<dyn Service>>>,
}

/// Bit of [`Shared::queued`]: the outbox takes no more.
const OUTBOX_CLOSED: u32 = 1 << 31;

/// The shared part of a session.
pub(crate) struct Shared {
    id: SessionId,
    hub: Arc<Hub>,
    worker: Arc<WorkerQueue>,
    /// Index in the worker's list of sessions.
    slot: u32,
    /// The [`Framing`], as a number; settled when the link is open.
    framing: AtomicU8,
    /// The [`Framing`] in which frames are collected before they go to the link: that of the link, or values
    /// when stages of a pipeline come between.
    collecting: AtomicU8,
    state: AtomicU8,
    /// Whether the session is in its worker's ready queue.
    scheduled: AtomicBool,
    signals: AtomicU8,
    reading_paused: AtomicBool,
    /// Whether the session has, or has had, handlers of its own.
    has_own_service: AtomicBool,
    /// Whether the handlers have changed since the driver last asked for them.
    service_changed: AtomicBool,
    /// Whether a handler of the session waits for its own server to stop.
    stops_itself: AtomicBool,
    /// Frames in the outbox and whether it is closed ([`OUTBOX_CLOSED`]), readable without its lock.
    queued: AtomicU32,
    /// Whether nothing more is accepted for sending, readable without the outbox's lock.
    outbox_closed: AtomicBool,
    /// The longest message that the other side takes.
    message_limit: AtomicU32,
    outbox: Mutex<Outbox>,
    /// What the driver held at the end of its last turn, [packed](Held::pack).
    buffered: AtomicU64,
    /// What of that the budget counts; written by the driver alone.
    buffered_counted: AtomicUsize,
    /// Whether the session has to go because the process holds too much.
    is_shed: AtomicBool,
    pub(crate) counters: Counters,
    /// When the session began and when something was last received, milliseconds of the hub's clock.
    pub(crate) connected_at: u64,
    pub(crate) last_received: AtomicU64,
    /// What carries the session, as a number: another link may be of another kind.
    transport: AtomicU8,
    /// The ends of the first link.
    remote: Option<SocketAddr>,
    local: Option<SocketAddr>,
    extra: OnceLock<Box<Extra>>,
}

impl Shared {
    pub(crate) fn new(
        id: SessionId,
        hub: Arc<Hub>,
        worker: Arc<WorkerQueue>,
        slot: u32,
        framing: Framing,
        peer: PeerInfo,
        now: u64,
    ) -> Arc<Self> {
        let message_limit = AtomicU32::new(hub.limits.message_size as u32);
        let shared = Arc::new(Shared {
            id,
            hub,
            worker,
            slot,
            framing: AtomicU8::new(framing as u8),
            collecting: AtomicU8::new(framing as u8),
            state: AtomicU8::new(State::Connecting as u8),
            scheduled: AtomicBool::new(false),
            signals: AtomicU8::new(0),
            reading_paused: AtomicBool::new(false),
            has_own_service: AtomicBool::new(false),
            service_changed: AtomicBool::new(false),
            stops_itself: AtomicBool::new(false),
            queued: AtomicU32::new(0),
            outbox_closed: AtomicBool::new(false),
            message_limit,
            outbox: Mutex::new(Outbox::default()),
            buffered: AtomicU64::new(0),
            buffered_counted: AtomicUsize::new(0),
            is_shed: AtomicBool::new(false),
            counters: Counters::default(),
            connected_at: now,
            last_received: AtomicU64::new(now),
            transport: AtomicU8::new(peer.transport as u8),
            remote: peer.remote,
            local: peer.local,
            extra: OnceLock::new(),
        });
        shared.hub.budget.add(&shared);
        shared
    }

    pub(crate) fn id(&self) -> SessionId {
        self.id
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    pub(crate) fn worker(&self) -> &Arc<WorkerQueue> {
        &self.worker
    }

    pub(crate) fn slot(&self) -> u32 {
        self.slot
    }

    #[inline]
    pub(crate) fn limits(&self) -> &Limits {
        &self.hub.limits
    }

    /// What carries the session.
    #[inline]
    pub(crate) fn transport(&self) -> Transport {
        Transport::from_u8(self.transport.load(Ordering::Relaxed))
    }

    /// What the opening of the newest link found out, if anything.
    pub(crate) fn established(&self) -> Option<Arc<Established>> {
        lock(&self.extra_if_any()?.established).clone()
    }

    /// The peer's address, when the transport has addresses.
    pub(crate) fn remote(&self) -> Option<SocketAddr> {
        self.established()
            .and_then(|known| known.remote)
            .or(self.remote)
    }

    /// This side's address, when the transport has addresses.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.established()
            .and_then(|known| known.local)
            .or(self.local)
    }

    /// Who the peer is, when that is known.
    pub(crate) fn identity(&self) -> Option<Arc<str>> {
        lock(&self.extra_if_any()?.identity).clone()
    }

    pub(crate) fn set_identity(&self, identity: Option<&str>) {
        *lock(&self.extra().identity) = identity.map(Into::into);
    }

    #[inline]
    pub(crate) fn framing(&self) -> Framing {
        Framing::from_u8(self.framing.load(Ordering::Relaxed))
    }

    /// The link is open and how frames stand on it is known.
    pub(crate) fn set_framing(&self, framing: Framing) {
        self.framing.store(framing as u8, Ordering::Relaxed);
        self.collecting.store(framing as u8, Ordering::Relaxed);
    }

    /// How frames are collected before they go to the link.
    #[inline]
    pub(crate) fn collecting(&self) -> Framing {
        Framing::from_u8(self.collecting.load(Ordering::Relaxed))
    }

    /// Another link carries the session.
    pub(crate) fn set_transport(&self, transport: Transport) {
        self.transport.store(transport as u8, Ordering::Relaxed);
    }

    /// From now on frames are collected as values, whatever the link makes of them.
    pub(crate) fn collect_values(&self) {
        self.collecting
            .store(Framing::Frames as u8, Ordering::Relaxed);
    }

    /// From now on messages go through these stages.
    pub(crate) fn set_pipeline(&self, names: Vec<String>) {
        *lock(&self.extra().pipeline) = names.into();
        self.collecting
            .store(Framing::Frames as u8, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn message_limit(&self) -> usize {
        self.message_limit.load(Ordering::Relaxed) as usize
    }

    pub(crate) fn lower_message_limit(&self, limit: u64) {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        self.message_limit.fetch_min(limit, Ordering::Relaxed);
    }

    pub(crate) fn extra(&self) -> &Extra {
        self.extra.get_or_init(Box::default)
    }

    pub(crate) fn extra_if_any(&self) -> Option<&Extra> {
        self.extra.get().map(Box::as_ref)
    }

    // State

    pub(crate) fn state(&self) -> State {
        State::from_u8(self.state.load(Ordering::Acquire))
    }

    pub(crate) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::SeqCst);
        // Whoever makes `extra` to wait in it sees the state, or is seen here.
        fence(Ordering::SeqCst);
        if let Some(extra) = self.extra_if_any() {
            extra.state_changed.notify_waiters();
        }
    }

    pub(crate) fn is_reading_paused(&self) -> bool {
        self.reading_paused.load(Ordering::Relaxed)
    }

    pub(crate) fn pause_reading(self: &Arc<Self>, paused: bool) {
        self.reading_paused.store(paused, Ordering::Relaxed);
        if !paused {
            self.schedule();
        }
    }

    /// A handler of the session waits for its own server to stop: the stop must not wait for it. Returns
    /// whether that was so before.
    pub(crate) fn set_stops_itself(&self) -> bool {
        self.stops_itself.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn stops_itself(&self) -> bool {
        self.stops_itself.load(Ordering::Acquire)
    }

    // Handlers

    /// The handlers of the session: its own, or those of its server or client.
    pub(crate) fn service(&self) -> Arc<dyn Service> {
        if self.has_own_service.load(Ordering::Acquire) {
            self.service_changed.store(false, Ordering::Release);
            if let Some(service) = &*lock(&self.extra().service) {
                return Arc::clone(service);
            }
        }
        Arc::clone(&self.hub.service)
    }

    /// Gives the session handlers of its own, or takes them away.
    pub(crate) fn set_service(&self, service: Option<Arc<dyn Service>>) {
        let replaced = std::mem::replace(&mut *lock(&self.extra().service), service);
        // Its destructor is the application's: not under the lock.
        drop(replaced);
        self.has_own_service.store(true, Ordering::Release);
        self.service_changed.store(true, Ordering::Release);
    }

    /// Whether the rest of a batch belongs to other handlers than those that it was begun with.
    #[inline]
    pub(crate) fn has_service_changed(&self) -> bool {
        self.service_changed.load(Ordering::Relaxed)
    }

    // Scheduling

    /// Puts the session into its worker's ready queue, unless it is there already.
    #[inline]
    pub(crate) fn schedule(&self) {
        if !self.scheduled.swap(true, Ordering::AcqRel) {
            self.worker.push_ready(self.slot);
        }
    }

    /// The worker has taken the session out of the ready queue.
    #[inline]
    pub(crate) fn begin_turn(&self) {
        self.scheduled.swap(false, Ordering::AcqRel);
    }

    pub(crate) fn signal(&self, bits: u8) {
        self.signals.fetch_or(bits, Ordering::AcqRel);
        self.schedule();
    }

    #[inline]
    pub(crate) fn take_signals(&self) -> u8 {
        if self.signals.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.signals.swap(0, Ordering::AcqRel)
    }

    // Outbox

    /// Whether frames wait in the outbox.
    #[inline]
    pub(crate) fn has_queued(&self) -> bool {
        self.queued.load(Ordering::Acquire) & !OUTBOX_CLOSED != 0
    }

    /// Whether what is sent now has to ask the outbox: frames wait there, or it takes no more.
    #[inline]
    pub(crate) fn must_queue(&self) -> bool {
        self.queued.load(Ordering::Acquire) != 0
    }

    pub(crate) fn queued(&self) -> (usize, usize) {
        let outbox = lock(&self.outbox);
        (outbox.len(), outbox.bytes())
    }

    /// Frames in the outbox, and those of them that are the protocol's own, if they are more than `most`.
    #[inline]
    pub(crate) fn queued_over(&self, most: usize) -> Option<(usize, usize)> {
        let count = (self.queued.load(Ordering::Acquire) & !OUTBOX_CLOSED) as usize;
        (count > most).then(|| (count, lock(&self.outbox).control()))
    }

    fn with_outbox<T>(&self, change: impl FnOnce(&mut Outbox) -> T) -> T {
        let mut outbox = lock(&self.outbox);
        let before = outbox.held();
        let is_over = self.is_over_share(&outbox);
        outbox.set_tight(is_over);
        let result = change(&mut outbox);
        let is_tight = outbox.note(&self.hub.budget);
        if let Some(memory) = self.hub.recorder.memory() {
            // Under the lock, so that nothing is given back before it was taken.
            memory.queue_changed(before, outbox.held());
        }
        let closed = if outbox.is_closed() { OUTBOX_CLOSED } else { 0 };
        self.queued
            .store(outbox.len() as u32 | closed, Ordering::Release);
        if is_tight {
            drop(outbox);
            self.hub.budget.relieve();
        }
        result
    }

    /// Offers a frame to the outbox and wakes the driver when it was queued.
    pub(crate) fn offer(
        &self,
        len: usize,
        policy: QueuePolicy,
        make: impl FnOnce() -> Frame,
    ) -> Offered {
        let offered = self.with_outbox(|outbox| outbox.offer(len, self.limits(), policy, make));
        self.after_offer(offered);
        offered
    }

    pub(crate) fn offer_encoded(&self, encoded: &Encoded, policy: QueuePolicy) -> Offered {
        let offered =
            self.with_outbox(|outbox| outbox.offer_encoded(encoded, self.limits(), policy));
        self.after_offer(offered);
        offered
    }

    fn after_offer(&self, offered: Offered) {
        match offered {
            Offered::Queued { dropped } => {
                self.note_dropped(dropped);
                self.schedule();
            }
            Offered::Dropped => self.note_dropped(1),
            Offered::Overflow => {
                self.request_close(CloseReason::with_code(
                    crate::error::ErrorCode::SlowConsumer,
                    "the peer reads too slowly: its outbox is full",
                ));
            }
            Offered::Full | Offered::Closed => {}
        }
    }

    fn note_dropped(&self, dropped: u32) {
        if dropped > 0 {
            let session = self.id.as_u64();
            events::messages_dropped { session, dropped }.emit();
            let before = self.counters.dropped.fetch_add(dropped, Ordering::Relaxed);
            let now = before.wrapping_add(dropped);
            // The first, and whenever they have doubled: where messages are dropped, they are many.
            if now.checked_ilog2() > before.checked_ilog2() {
                self.hub.recorder.note(Note {
                    level: EventLevel::Warning,
                    kind: "messages_dropped",
                    session: Some(self.id),
                    code: None,
                    text: format_args!("{now} by now"),
                });
            }
            self.hub
                .recorder
                .totals
                .dropped
                .fetch_add(dropped.into(), Ordering::Relaxed);
        }
    }

    /// Registers `waker` unless there is room by now; true when it waits.
    pub(crate) fn wait_for_room(&self, len: usize, waker: &Waker) -> bool {
        let mut outbox = lock(&self.outbox);
        let is_over = self.is_over_share(&outbox);
        outbox.set_tight(is_over);
        let wait = !outbox.is_closed() && !outbox.would_fit(len, self.limits());
        let stale = if wait { outbox.wait(waker) } else { Vec::new() };
        drop(outbox);
        stale.into_iter().for_each(Waker::wake);
        wait
    }

    /// Queues a frame of the protocol, which no limit holds back.
    pub(crate) fn push_protocol_frame(&self, frame: Frame) {
        self.with_outbox(|outbox| outbox.push_frame(frame));
        self.schedule();
    }

    /// Queues a frame of the protocol that comes before everything which waits.
    pub(crate) fn push_first(&self, frame: Frame) {
        self.with_outbox(|outbox| outbox.push_first(frame));
        self.schedule();
    }

    /// Moves queued frames to `output` until that holds `most` bytes.
    pub(crate) fn drain_outbox(&self, output: &mut Output, most: usize, room: Room) {
        if !self.has_queued() {
            return;
        }
        let wakers =
            self.with_outbox(|outbox| outbox.drain_into(output, self.collecting(), most, room));
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether something is queued for which there is room.
    pub(crate) fn can_drain(&self, room: Room) -> bool {
        self.has_queued() && lock(&self.outbox).can_drain(room)
    }

    /// Accepts nothing more for sending; what is queued still leaves.
    pub(crate) fn close_outbox(&self) {
        self.outbox_closed.store(true, Ordering::Release);
        let wakers = self.with_outbox(Outbox::close);
        wakers.into_iter().for_each(Waker::wake);
    }

    #[inline]
    pub(crate) fn is_outbox_closed(&self) -> bool {
        self.outbox_closed.load(Ordering::Acquire)
    }

    /// Forgets what is queued; returns the number of messages lost.
    pub(crate) fn clear_outbox(&self) -> usize {
        self.with_outbox(Outbox::clear)
    }

    /// Forgets what is queued and whatever comes: there is no link any more. Returns the number of messages lost.
    pub(crate) fn abandon_outbox(&self) -> usize {
        let (lost, wakers) = self.with_outbox(Outbox::abandon);
        self.outbox_closed.store(true, Ordering::Release);
        wakers.into_iter().for_each(Waker::wake);
        lost
    }

    /// Takes the messages out of the outbox.
    pub(crate) fn take_queued_messages(&self) -> Vec<Message> {
        self.with_outbox(Outbox::take_messages)
    }

    /// Forgets queued frames that are about the link that is gone.
    pub(crate) fn forget_control(&self) {
        self.with_outbox(Outbox::forget_control);
    }

    /// What a reliable session shares; `None` when the session is not reliable.
    pub(crate) fn resumption(&self) -> Option<&Arc<Resumption>> {
        self.extra_if_any()?.resumption.get()
    }

    /// A suspended session is not waited for any more.
    pub(crate) fn expire(&self, reason: CloseReason) {
        if let Some(resumption) = self.resumption() {
            resumption.set_expired(reason);
            self.signal(signal::EXPIRE);
        }
    }

    // Memory

    /// Bytes that the driver held at the end of its last turn.
    pub(crate) fn buffered_bytes(&self) -> usize {
        Held::unpack(self.buffered.load(Ordering::Relaxed)).bytes
    }

    /// The driver, and nobody else, says what it holds.
    #[inline]
    pub(crate) fn set_buffered(&self, held: Held) {
        let now = held.pack();
        let before = self.buffered.load(Ordering::Relaxed);
        if now != before {
            self.buffered.store(now, Ordering::Relaxed);
            self.note_buffered(Held::unpack(before), Held::unpack(now));
        }
    }

    #[cold]
    fn note_buffered(&self, before: Held, now: Held) {
        if let Some(memory) = self.hub.recorder.memory() {
            memory.session_changed(before, now);
        }
        let mut counted = self.buffered_counted.load(Ordering::Relaxed);
        let is_tight = self.hub.budget.note(&mut counted, now.bytes);
        self.buffered_counted.store(counted, Ordering::Relaxed);
        if is_tight {
            self.hub.budget.relieve();
        }
    }

    /// Whether the budget is used up, and this session has much of it.
    #[inline]
    fn is_over_share(&self, outbox: &Outbox) -> bool {
        let budget = &self.hub.budget;
        budget.is_full() && !budget.is_little(outbox.memory() + self.buffered_bytes())
    }

    /// Bytes that the session holds, as the budget counts them.
    pub(crate) fn held(&self) -> usize {
        lock(&self.outbox).memory() + self.buffered_bytes()
    }

    pub(crate) fn is_shed(&self) -> bool {
        self.is_shed.load(Ordering::Relaxed)
    }

    /// Chooses the session to go. False when it has been chosen before.
    pub(crate) fn choose_to_shed(&self) -> bool {
        !self.is_shed.swap(true, Ordering::AcqRel)
    }

    /// Gives up what is queued, and asks the driver to give up the rest.
    pub(crate) fn shed(&self) {
        self.close_outbox();
        // The application may ask a reliable session for what was not acknowledged.
        if self.resumption().is_none() {
            let lost = self.clear_outbox() as u64;
            let totals = &self.hub.recorder.totals;
            totals.lost.fetch_add(lost, Ordering::Relaxed);
        }
        self.signal(signal::SHED);
    }

    // Closing

    /// Asks for an orderly close. The first reason counts.
    pub(crate) fn request_close(&self, reason: CloseReason) {
        if self.extra().close_request.set(reason).is_ok() {
            self.close_outbox();
            self.signal(signal::CLOSE);
        }
    }

    /// Why the session ended, once it has.
    pub(crate) fn close_reason(&self) -> Option<&CloseReason> {
        self.extra_if_any()?.closed.get()
    }
}

impl Drop for Shared {
    /// What was queued after the end of the session is given back with it.
    fn drop(&mut self) {
        let mut outbox = lock(&self.outbox);
        if let Some(memory) = self.hub.recorder.memory() {
            memory.queue_changed(outbox.held(), Held::default());
        }
        outbox.clear();
        // Less than before never means that something is to be done.
        let _ = outbox.note(&self.hub.budget);
        drop(outbox);
        self.hub.budget.remove(self);
    }
}

/// Waking a session puts it into its worker's ready queue: no task of its own is needed.
impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.schedule();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.schedule();
    }
}
