//! What is under way at an endpoint. Guards count, and report how it went.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ejection::Verdict;
use super::endpoints::Endpoints;
use super::entry::Entry;
use crate::endpoint::{self, Endpoint};
use crate::error::{CloseReason, ClosedBy, ErrorCode, RequestError};

/// An endpoint that was picked for one attempt to connect.
///
/// It counts as load until it is used up by [`connected`](Self::connected) or [`failed`](Self::failed). The time in
/// between is that of the attempt. Dropped, it was given up, and nothing is known.
#[must_use = "dropped, it says that the attempt was given up"]
pub struct Pick {
    endpoints: Endpoints,
    entry: Arc<Entry>,
    ticket: u64,
    probe: bool,
    done: bool,
}

impl Pick {
    pub(super) fn new(endpoints: &Endpoints, entry: &Arc<Entry>, now: Instant) -> Self {
        let mut state = entry.state();
        state.attempts += 1;
        let ticket = state.connect.begin(now);
        let probe = state.health.begin(now);
        drop(state);
        Pick {
            endpoints: endpoints.clone(),
            entry: Arc::clone(entry),
            ticket,
            probe,
            done: false,
        }
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Endpoint {
        &self.entry.endpoint
    }

    /// Whether the endpoint was ejected, and this is the attempt that decides whether it comes back.
    pub fn is_probe(&self) -> bool {
        self.probe
    }

    pub(crate) fn id(&self) -> u64 {
        self.entry.id
    }

    /// The attempt has led to a connection, which counts as long as the lease is held.
    pub fn connected(mut self) -> Lease {
        self.done = true;
        let ticket = self.ticket;
        self.endpoints
            .judge(&self.entry, Verdict::Well, self.probe, |state, now| {
                state.connect.succeeded(ticket, now);
                state.connections += 1;
            });
        Lease {
            endpoints: self.endpoints.clone(),
            entry: Arc::clone(&self.entry),
        }
    }

    /// The attempt has failed. What that says of the endpoint depends on the code, see [`Ejection`](super::Ejection).
    pub fn failed(mut self, code: ErrorCode) {
        self.done = true;
        let ticket = self.ticket;
        let verdict = Verdict::of(code);
        self.endpoints
            .judge(&self.entry, verdict, self.probe, |state, now| {
                match verdict {
                    Verdict::Sick => {
                        state.connect.failed(ticket, now);
                        // What answered quickly as long as it lived is not quick any more.
                        if state.request.is_known() {
                            state.request.punish(Duration::ZERO, now);
                        }
                    }
                    _ => state.connect.cancelled(ticket, now),
                }
            });
    }
}

impl Drop for Pick {
    fn drop(&mut self) {
        if !self.done {
            let ticket = self.ticket;
            self.endpoints
                .judge(&self.entry, Verdict::Unknown, self.probe, |state, now| {
                    state.connect.cancelled(ticket, now);
                });
        }
    }
}

/// A connection to an endpoint. Dropped, it has ended in order.
#[must_use = "dropped, it says that the connection has ended"]
pub struct Lease {
    endpoints: Endpoints,
    entry: Arc<Entry>,
}

impl Lease {
    /// The endpoint.
    pub fn endpoint(&self) -> &Endpoint {
        &self.entry.endpoint
    }

    /// A request goes out on the connection.
    pub fn request(&self) -> Exchange {
        let ticket = self.entry.state().request.begin(Instant::now());
        Exchange {
            endpoints: self.endpoints.clone(),
            entry: Arc::clone(&self.entry),
            ticket,
            done: false,
        }
    }

    /// The connection has ended so. A broken one, and one whose server fell silent, counts against the endpoint; an
    /// orderly end does not.
    pub fn ended(self, reason: &CloseReason) {
        self.report_end(reason);
    }

    pub(crate) fn report_end(&self, reason: &CloseReason) {
        let verdict = verdict_of_end(reason);
        self.endpoints
            .judge(&self.entry, verdict, false, |state, now| {
                if verdict == Verdict::Sick {
                    state.connect.punish(Duration::ZERO, now);
                    if state.request.is_known() {
                        state.request.punish(Duration::ZERO, now);
                    }
                }
            });
    }

    /// The server is stopping: it is passed over for about as long, a second at least, without a mark against it.
    pub fn rest(&self, retry: Duration) {
        self.endpoints.rest(&self.entry, retry);
    }
}

/// What the end of a connection says. An end in order says nothing: not even that the endpoint is well.
fn verdict_of_end(reason: &CloseReason) -> Verdict {
    let Some(code) = reason.code() else {
        return match reason.closed_by() {
            ClosedBy::Transport => Verdict::Sick,
            _ => Verdict::Unknown,
        };
    };
    match (Verdict::of(code), reason.closed_by()) {
        // This side was idle for too long, in the eyes of the server.
        (Verdict::Sick, ClosedBy::Remote) if code == ErrorCode::IdleTimeout => Verdict::Unknown,
        (Verdict::Well, _) => Verdict::Unknown,
        // The client itself stops.
        (Verdict::Elsewhere, ClosedBy::Local) => Verdict::Unknown,
        (verdict, _) => verdict,
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.entry.state().connections -= 1;
    }
}

/// A request at an endpoint. Dropped, nobody waits for the answer any more.
#[must_use = "dropped, it says that nobody waits any more"]
pub struct Exchange {
    endpoints: Endpoints,
    entry: Arc<Entry>,
    ticket: u64,
    done: bool,
}

impl Exchange {
    /// An answer has come, even if it says that the request failed: the endpoint works.
    pub fn answered(mut self) {
        self.done = true;
        let now = Instant::now();
        let mut state = self.entry.state();
        state.request.succeeded(self.ticket, now);
        state.health.answered(now, self.endpoints.ejection());
    }

    /// No answer came in time. It counts against the endpoint.
    pub fn failed(mut self) {
        self.done = true;
        let ticket = self.ticket;
        self.endpoints
            .judge(&self.entry, Verdict::Sick, false, |state, now| {
                state.request.failed(ticket, now);
            });
    }

    /// Tells apart what the server has answered, what it has not, and what it was not asked.
    pub(crate) fn settle<T>(self, result: &Result<T, RequestError>) {
        match result.as_ref().map_err(RequestError::code) {
            Ok(_) | Err(ErrorCode::RequestFailed | ErrorCode::AccessDenied) => self.answered(),
            Err(ErrorCode::RequestTimeout) => self.failed(),
            // The loss of the connection is reported once, not for each request.
            Err(_) => drop(self),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.done {
            self.entry
                .state()
                .request
                .cancelled(self.ticket, Instant::now());
        }
    }
}

macro_rules! shows_its_endpoint {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), endpoint::Place(&self.entry.endpoint))
            }
        }
    )*};
}

shows_its_endpoint!(Pick, Lease, Exchange);
