//! The classic manager of WebSocket connections.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::ws_connection;
use crate::compat::manager::session_manager;
use crate::compat::result::{Result, error};
use crate::error::ErrorCode;
use crate::message::Message;

/// A set of WebSocket connections that the application keeps, with a limit.
///
/// A server has a limit of its own ([`max_connections`](super::ws_server_config::max_connections)) and
/// knows its connections itself; a manager is for sets of another kind.
pub struct ws_session_manager {
    connections: session_manager,
    max_connections: usize,
    accepted: AtomicU64,
    rejected: AtomicU64,
}

impl Default for ws_session_manager {
    fn default() -> Self {
        ws_session_manager::with_limit(1_000)
    }
}

impl ws_session_manager {
    /// An empty set of at most 1,000 connections.
    pub fn new() -> Self {
        ws_session_manager::default()
    }

    /// An empty set of at most so many connections; 0 for no limit.
    pub fn with_limit(max_connections: usize) -> Self {
        ws_session_manager {
            connections: session_manager::new(),
            max_connections: match max_connections {
                0 => usize::MAX,
                limit => limit,
            },
            accepted: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
        }
    }

    /// Whether there is room for another connection.
    pub fn can_accept_connection(&self) -> bool {
        self.get_connection_count() < self.max_connections
    }

    /// Adds a connection; returns its id. One with the same id is replaced.
    ///
    /// # Errors
    /// `too_many_connections` when there is no room. The connection stays open.
    pub fn add_connection(&self, connection: Arc<ws_connection>) -> Result<String> {
        let id = connection.session_id();
        if !self
            .connections
            .add_within(connection, self.max_connections)
        {
            self.rejected.fetch_add(1, Ordering::Relaxed);
            let text = format!("there are {} connections already", self.max_connections);
            return Err(error::new(ErrorCode::TooManyConnections, text));
        }
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Ok(id)
    }

    /// Removes a connection; says whether it was there. It stays open.
    pub fn remove_connection(&self, connection_id: &str) -> bool {
        self.connections.remove_session(connection_id).is_some()
    }

    /// The connection with this id.
    pub fn get_connection(&self, connection_id: &str) -> Option<Arc<ws_connection>> {
        self.connections.get_session(connection_id)
    }

    /// All connections of the set, in no particular order.
    pub fn get_all_connections(&self) -> Vec<Arc<ws_connection>> {
        self.connections.get_all_sessions()
    }

    /// The ids of all connections of the set, in no particular order.
    pub fn get_all_connection_ids(&self) -> Vec<String> {
        let connections = self.get_all_connections();
        let ids = connections.iter().map(|connection| connection.session_id());
        ids.collect()
    }

    /// How many connections there are.
    pub fn get_connection_count(&self) -> usize {
        self.connections.session_count()
    }

    /// How many connections were added.
    pub fn get_total_accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// How many connections were refused.
    pub fn get_total_rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Removes all connections. They stay open.
    pub fn clear_all_connections(&self) {
        self.connections.clear();
    }

    /// Sends a text to the connections, as [`session_manager::broadcast_message`].
    pub fn broadcast_text(&self, text: impl Into<String>) -> usize {
        self.connections.broadcast(&Message::text(text))
    }

    /// Sends bytes to the connections, as [`session_manager::broadcast_message`].
    pub fn broadcast_binary(&self, data: Vec<u8>) -> usize {
        self.connections.broadcast(&Message::binary(data))
    }
}

impl fmt::Debug for ws_session_manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ws_session_manager")
            .field("connections", &self.get_connection_count())
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}
