//! One endpoint of a set, and what is known of it.

use std::fmt;
use std::sync::{Mutex, MutexGuard};

use tokio::time::Instant;

use super::ejection::Health;
use super::endpoints::EndpointStats;
use super::latency::Latency;
use super::rendezvous::Place;
use super::strategy::Candidate;
use crate::endpoint::{self, Endpoint};
use crate::session::shared::lock;

/// An endpoint of a set.
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) endpoint: Endpoint,
    place: Place,
    state: Mutex<State>,
}

/// What changes.
#[derive(Default)]
pub(super) struct State {
    pub(super) connections: usize,
    pub(super) attempts: u64,
    pub(super) failures: u64,
    pub(super) connect: Latency,
    pub(super) request: Latency,
    pub(super) health: Health,
}

impl Entry {
    pub(super) fn new(id: u64, endpoint: Endpoint) -> Self {
        Entry {
            id,
            place: Place::of(&endpoint.to_string()),
            endpoint,
            state: Mutex::default(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn candidate(&self, state: &State, now: Instant) -> Candidate {
        Candidate {
            id: self.id,
            place: self.place,
            load: state.connections + state.connect.outstanding() + state.request.outstanding(),
            failures: state.health.recent_failures(now),
            connect: state.connect.value(now),
            request: state.request.value(now),
        }
    }

    pub(super) fn stats(&self, now: Instant) -> EndpointStats {
        let state = self.state();
        EndpointStats {
            endpoint: self.endpoint.clone(),
            state: state.health.state(now),
            connections: state.connections,
            connecting: state.connect.outstanding(),
            requests: state.request.outstanding(),
            attempts: state.attempts,
            failures: state.failures,
            ejections: state.health.ejections,
            connect_time: state.connect.average(),
            round_trip: state.request.average(),
            ejected_until: state.health.ejected,
        }
    }
}

/// Without the query of a WebSocket's target, where tokens stand.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state().health.state(Instant::now());
        write!(f, "{} {state:?}", endpoint::Place(&self.endpoint))
    }
}
