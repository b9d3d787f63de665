//! The classic session manager.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use super::session::{messaging_session, wait_to_send};
use crate::message::Message;
use crate::session::shared::lock;

/// A set of sessions that the application keeps.
///
/// A server knows its sessions and groups itself (`get_session`, `add_session_to_group`); a manager is
/// for sets of another kind. Sessions are told apart by their ids, so one manager is for the sessions
/// of one server.
#[derive(Default)]
pub struct session_manager {
    sessions: Mutex<HashMap<String, Arc<messaging_session>>>,
}

impl session_manager {
    /// An empty set.
    pub fn new() -> Self {
        session_manager::default()
    }

    /// Adds a session. One with the same id is replaced.
    pub fn add_session(&self, session: Arc<messaging_session>) {
        let _replaced = lock(&self.sessions).insert(session.session_id(), session);
    }

    /// Adds a session if there are fewer than `limit`, or one with the same id; says whether it did.
    pub(super) fn add_within(&self, session: Arc<messaging_session>, limit: usize) -> bool {
        let mut sessions = lock(&self.sessions);
        let id = session.session_id();
        let fits = sessions.len() < limit || sessions.contains_key(&id);
        let _replaced = fits.then(|| sessions.insert(id, session));
        fits
    }

    /// Removes all sessions.
    pub(super) fn clear(&self) {
        let _removed = std::mem::take(&mut *lock(&self.sessions));
    }

    /// Removes a session; returns it if it was there. It stays connected.
    pub fn remove_session(&self, session_id: &str) -> Option<Arc<messaging_session>> {
        lock(&self.sessions).remove(session_id)
    }

    /// The session with this id.
    pub fn get_session(&self, session_id: &str) -> Option<Arc<messaging_session>> {
        lock(&self.sessions).get(session_id).cloned()
    }

    /// All sessions of the set, in no particular order.
    pub fn get_all_sessions(&self) -> Vec<Arc<messaging_session>> {
        lock(&self.sessions).values().cloned().collect()
    }

    /// Sends a message to the sessions that are connected; returns how many took it.
    ///
    /// Blocks while the outbox of one is full, after the others have the message.
    pub fn broadcast_message(&self, message: impl AsRef<[u8]>) -> usize {
        self.broadcast(&Message::binary(message.as_ref().to_vec()))
    }

    pub(super) fn broadcast(&self, message: &Message) -> usize {
        let mut sent = 0;
        let mut full = Vec::new();
        // The lock is not held while sending: a callback may come in between and need it.
        for session in self.get_all_sessions() {
            match session.try_send(message.clone()) {
                Ok(()) => sent += 1,
                Err(error) if error.is_full() => full.push(session),
                Err(_) => {}
            }
        }
        let late = full.iter().filter(|session| {
            let message = message.clone();
            wait_to_send(session.native(), message).is_ok()
        });
        sent + late.count()
    }

    /// How many sessions there are.
    pub fn session_count(&self) -> usize {
        lock(&self.sessions).len()
    }
}

impl fmt::Debug for session_manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("session_manager")
            .field("sessions", &self.session_count())
            .finish()
    }
}
