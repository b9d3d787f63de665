//! What a bridge has in common with what it has made.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;

use super::member::Made;
use super::metrics::Metrics;
use crate::compat::callback::{Slot, Task, Threads, thread_pool_interface};
use crate::compat::container::{value_container, value_factory};
use crate::compat::result::{VoidResult, error};
use crate::error::ErrorCode;
use crate::events;
use crate::message::Message;
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
    entries: Mutex<Vec<Weak<dyn Made>>>,
    metrics: Metrics,
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

impl Shared {
    pub(super) fn new(id: String) -> Self {
        Shared {
            id,
            phase: Mutex::new(Phase::New),
            entries: Mutex::default(),
            metrics: Metrics::new(),
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

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
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

    pub(super) fn add(&self, made: Weak<dyn Made>) {
        let mut entries = lock(&self.entries);
        entries.retain(|known| known.strong_count() > 0);
        entries.push(made);
    }

    /// What there is. It may be the last that holds one, so it is not to be dropped under a lock.
    pub(super) fn made(&self) -> Vec<Arc<dyn Made>> {
        let entries = lock(&self.entries);
        entries.iter().filter_map(Weak::upgrade).collect()
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
