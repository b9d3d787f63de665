//! A server from a start to the end of its stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::adapter::Adapter;
use crate::compat::callback::Unique;
use crate::config::Timeouts;
use crate::error::ServerError;
use crate::server::{Server, StopReport};
use crate::session::SessionId;

/// From a start to the end of its stop.
pub(super) struct Run {
    pub(super) id: Unique,
    pub(super) server: Server,
    pub(super) adapter: Arc<Adapter>,
    /// Set when a stop begins.
    pub(super) stopping: watch::Sender<bool>,
    /// Sessions whose callbacks wait in a stop.
    pub(super) stoppers: watch::Sender<Vec<SessionId>>,
    /// Set when a stop has returned.
    pub(super) stopped: AtomicBool,
}

impl Run {
    pub(super) fn new(server: Server, adapter: Arc<Adapter>) -> Self {
        Run {
            id: adapter.run(),
            server,
            adapter,
            stopping: watch::Sender::new(false),
            stoppers: watch::Sender::new(Vec::new()),
            stopped: AtomicBool::new(false),
        }
    }

    pub(super) fn is_running(&self) -> bool {
        !self.stopped.load(Ordering::Acquire) && self.server.is_running()
    }

    /// Stops in order, side callbacks included.
    pub(super) async fn stop(&self) -> Result<StopReport, ServerError> {
        let report = self.server.stop().await;
        let within = Timeouts::default().drain;
        let _late = tokio::time::timeout(within, self.adapter.pending().none()).await;
        self.stopped.store(true, Ordering::Release);
        report
    }

    /// Waits until every session has closed but those whose callbacks wait in a stop.
    pub(super) async fn others_closed(&self) {
        let mut stoppers = self.stoppers.subscribe();
        loop {
            let waiting = stoppers.borrow_and_update().clone();
            let mut sessions = self.server.sessions().into_iter();
            let open = sessions.find(|session| {
                session.close_reason().is_none() && !waiting.contains(&session.id())
            });
            let Some(open) = open else { return };
            tokio::select! {
                _ = open.closed() => {}
                // The sender is here, so that it cannot fail.
                _ = stoppers.changed() => {}
            }
        }
    }
}
