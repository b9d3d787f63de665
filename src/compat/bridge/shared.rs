//! What a bridge has in common with what it has made.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::member::{Entry, Made};
use super::metrics::{Baseline, Counts, Errors, Tally, performance_metrics};
use crate::compat::callback::{Slot, Task, Threads, thread_pool_interface};
use crate::compat::container::{value_container, value_factory};
use crate::compat::result::{VoidResult, error};
use crate::error::ErrorCode;
use crate::events;
use crate::message::Message;
use crate::session::round_trips::RoundTrips;
use crate::session::shared::lock;
use crate::session::{Session, Transport};

type OnConnection = dyn Fn(&str, bool) + Send + Sync;
type OnError = dyn Fn(&str, i32) + Send + Sync;
type OnContainer = dyn Fn(Arc<value_container>) + Send + Sync;

/// Where a bridge stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not started yet; what it makes can be started.
    New,
    Running,
    /// What it has made cannot be started.
    Stopped,
}

pub(super) struct Shared {
    id: String,
    phase: Mutex<Phase>,
    registry: Mutex<Registry>,
    round_trips: Arc<RoundTrips>,
    errors: Errors,
    /// The threads of the application's, and whether callbacks are handed to other threads at all.
    pool: Mutex<Option<Arc<dyn thread_pool_interface>>>,
    inline: AtomicBool,
    reads_containers: AtomicBool,
    debug: AtomicBool,
    factory: Mutex<Arc<value_factory>>,
    pub(super) on_connection: Slot<OnConnection>,
    pub(super) on_error: Slot<OnError>,
    pub(super) on_container: Slot<OnContainer>,
}

struct Registry {
    entries: Vec<Entry>,
    /// What those that are gone have counted.
    gone: Counts,
    baseline: Baseline,
}

impl Registry {
    fn counts(&self) -> Counts {
        let tallies = self.entries.iter().filter_map(|entry| entry.tally.as_ref());
        tallies.fold(self.gone, |sum, tally| sum.and(tally.read()))
    }
}

impl Shared {
    pub(super) fn new(id: String) -> Self {
        let errors = Errors::default();
        Shared {
            id,
            phase: Mutex::new(Phase::New),
            registry: Mutex::new(Registry {
                entries: Vec::new(),
                gone: Counts::default(),
                baseline: Baseline::new(Counts::default(), &errors),
            }),
            round_trips: Arc::default(),
            errors,
            pool: Mutex::new(None),
            inline: AtomicBool::new(false),
            reads_containers: AtomicBool::new(false),
            debug: AtomicBool::new(false),
            factory: Mutex::default(),
            on_connection: Slot::default(),
            on_error: Slot::default(),
            on_container: Slot::default(),
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn round_trips(&self) -> &Arc<RoundTrips> {
        &self.round_trips
    }

    pub(super) fn errors(&self) -> &Errors {
        &self.errors
    }

    // Lifecycle

    pub(super) fn phase(&self) -> Phase {
        *lock(&self.phase)
    }

    /// Sets the phase and returns the one before.
    pub(super) fn enter(&self, phase: Phase) -> Phase {
        std::mem::replace(&mut *lock(&self.phase), phase)
    }

    pub(super) fn has_stopped(&self) -> bool {
        self.phase() == Phase::Stopped
    }

    // What was made

    pub(super) fn add(&self, entry: Entry) {
        let mut registry = lock(&self.registry);
        // Those without a tally have not taken themselves out.
        registry
            .entries
            .retain(|entry| entry.tally.is_some() || entry.made.strong_count() > 0);
        registry.entries.push(entry);
    }

    pub(super) fn retire(&self, tally: &Arc<Tally>) {
        let mut registry = lock(&self.registry);
        let is_its = |entry: &Entry| {
            let other = entry.tally.as_ref();
            other.is_some_and(|other| Arc::ptr_eq(other, tally))
        };
        if let Some(index) = registry.entries.iter().position(is_its) {
            registry.entries.remove(index);
            registry.gone = registry.gone.and(tally.total());
        }
    }

    /// What there is. It may be the last that holds one, so it is not to be dropped under a lock.
    pub(super) fn made(&self) -> Vec<Arc<dyn Made>> {
        let registry = lock(&self.registry);
        let made = registry.entries.iter();
        made.filter_map(|entry| entry.made.upgrade()).collect()
    }

    // Metrics

    pub(super) fn metrics(&self) -> performance_metrics {
        let registry = lock(&self.registry);
        let latency = self.round_trips.read();
        registry
            .baseline
            .metrics(registry.counts(), latency, &self.errors)
    }

    pub(super) fn reset_metrics(&self) {
        let mut registry = lock(&self.registry);
        let counts = registry.counts();
        self.round_trips.reset();
        registry.baseline = Baseline::new(counts, &self.errors);
    }

    // Threads

    pub(super) fn set_pool(&self, pool: Arc<dyn thread_pool_interface>) {
        let _replaced = lock(&self.pool).replace(pool);
    }

    pub(super) fn pool_size(&self) -> Option<usize> {
        let pool = lock(&self.pool).clone();
        pool.map(|pool| pool.size())
    }

    pub(super) fn set_inline(&self, inline: bool) {
        self.inline.store(inline, Ordering::Release);
    }

    pub(super) fn is_inline(&self) -> bool {
        self.inline.load(Ordering::Acquire)
    }

    pub(super) fn threads(&self) -> Threads {
        match self.is_inline() {
            true => Threads::inline(),
            false => Threads::new(lock(&self.pool).clone()),
        }
    }

    // Containers

    pub(super) fn set_factory(&self, factory: Arc<value_factory>) {
        let _replaced = std::mem::replace(&mut *lock(&self.factory), factory);
    }

    pub(super) fn factory(&self) -> Arc<value_factory> {
        Arc::clone(&lock(&self.factory))
    }

    pub(super) fn read_containers(&self, enable: bool) {
        self.reads_containers.store(enable, Ordering::Release);
    }

    pub(super) fn reads_containers(&self) -> bool {
        self.reads_containers.load(Ordering::Acquire)
    }

    /// Hands a message over if it is a container.
    ///
    /// # Errors
    /// It should be one, and is none; the event handler knows.
    pub(super) fn message(&self, message: &Message) -> VoidResult {
        if !self.reads_containers() {
            return Ok(());
        }
        let Some(handler) = self.on_container.get() else {
            return Ok(());
        };
        let data: Bytes = message.clone().into_payload();
        match self.factory().deserialize(data) {
            Ok(container) => {
                handler(Arc::new(container));
                Ok(())
            }
            Err(broken) => {
                // A format that cannot be read was refused when it was set.
                self.error(&broken);
                Err(broken)
            }
        }
    }

    // Events

    pub(super) fn set_debug(&self, enable: bool) {
        self.debug.store(enable, Ordering::Release);
    }

    pub(super) fn is_debug(&self) -> bool {
        self.debug.load(Ordering::Acquire)
    }

    pub(super) fn connection(&self, session: &Session, connected: bool) {
        let handler = self.on_connection.get();
        if handler.is_none() && !self.is_debug() {
            return;
        }
        let endpoint = endpoint(session);
        if self.is_debug() {
            events::bridge_connection {
                bridge: &*self.id,
                endpoint: &*endpoint,
                connected,
            }
            .emit();
        }
        if let Some(handler) = handler {
            handler(&endpoint, connected);
        }
    }

    fn debug_error(&self, code: i32) {
        if self.is_debug() {
            let bridge = &*self.id;
            events::bridge_error { bridge, code }.emit();
        }
    }

    fn error(&self, error: &error) {
        self.debug_error(error.code);
        if let Some(handler) = self.on_error.get() {
            handler(&error.message, error.code);
        }
    }

    pub(super) fn about_error(&self, code: ErrorCode, text: &str) -> Option<Task> {
        self.debug_error(code.as_i32());
        let handler = self.on_error.get()?;
        let text = text.to_owned();
        Some(Box::new(move || handler(&text, code.as_i32())))
    }
}

/// Where the peer is; without an address, what connects it.
fn endpoint(session: &Session) -> String {
    match (session.remote_addr(), session.transport()) {
        (Some(address), _) => address.to_string(),
        (None, Transport::Unix) => "unix".to_owned(),
        (None, _) => "local".to_owned(),
    }
}
