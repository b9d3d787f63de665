//! The handle that applications hold.

mod data;
mod send;
mod stats;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::shared::{Shared, lock, signal};
use super::{SessionId, State, Transport};
use crate::error::CloseReason;
use crate::handler::{Handler, HandlerService};
use crate::message::Message;
use crate::tls::TlsInfo;
use crate::websocket::WebSocketInfo;

pub use send::Sending;
pub use stats::SessionStats;

/// A handle to a session: cheap to clone, usable from any task or thread.
///
/// Dropping handles does not end the session. After it has ended, the handle still answers questions;
/// sending fails with `connection_closed`.
#[derive(Clone)]
pub struct Session {
    pub(crate) shared: Arc<Shared>,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Session { shared }
    }

    // Identity

    /// The id, unique on this server or client.
    pub fn id(&self) -> SessionId {
        self.shared.id()
    }

    /// The client id from the peer's hello, or the session id.
    pub fn client_id(&self) -> String {
        self.shared
            .extra_if_any()
            .and_then(|extra| extra.client_id.get().cloned())
            .unwrap_or_else(|| self.id().to_string())
    }

    /// Who the peer is: what the authentication hook has said, or what the opening of the link has shown (a
    /// client's certificate, the user of a Unix socket). It changes when the peer authenticates anew.
    pub fn identity(&self) -> Option<Arc<str>> {
        self.shared.identity()
    }

    /// Whether what is sent is kept until the other side has handled it, and sent again when the connection breaks
    /// ([`Reliability`](crate::Reliability)). Known once the session is connected.
    pub fn is_reliable(&self) -> bool {
        self.shared.resumption().is_some()
    }

    /// After the end of a reliable session: the messages that it had accepted and that the other side has not
    /// acknowledged, in the order in which they were sent. They may or may not have been handled there. They are
    /// given once.
    ///
    /// Requests are not among them, whose callers were told, nor is what a [`Client`](crate::Client) takes over to
    /// its next session, because it was never sent. Empty while the session lasts, and on ordinary sessions.
    pub fn take_unacknowledged(&self) -> Vec<Message> {
        match self.shared.resumption() {
            Some(resumption) => resumption.take_rest(),
            None => Vec::new(),
        }
    }

    /// What carries the session. A session that was [resumed](State::Suspended) may be carried by another
    /// transport than before, and so have other addresses.
    pub fn transport(&self) -> Transport {
        self.shared.transport()
    }

    /// The peer's address, when the transport has addresses.
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.shared.remote()
    }

    /// This side's address, when the transport has addresses.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.shared.local()
    }

    /// How the connection is secured, and the peer's certificate; `None` without TLS.
    pub fn tls(&self) -> Option<Arc<TlsInfo>> {
        self.shared.established()?.tls.clone()
    }

    /// What the upgrade of a WebSocket connection came to; `None` on other transports, and when nothing
    /// but `/` was asked for and no subprotocol of the application's was chosen.
    pub fn websocket(&self) -> Option<Arc<WebSocketInfo>> {
        self.shared.established()?.websocket.clone()
    }

    /// The names of the pipeline's stages that the session's messages go through, in the order in which they
    /// are applied to what is sent. Empty without a pipeline.
    pub fn pipeline(&self) -> Arc<[String]> {
        self.shared
            .extra_if_any()
            .map(|extra| Arc::clone(&lock(&extra.pipeline)))
            .unwrap_or_default()
    }

    /// Where the session stands.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// Whether messages flow.
    pub fn is_connected(&self) -> bool {
        self.state() == State::Connected
    }

    /// Waits until the state is another one than `from` and returns it.
    ///
    /// States that pass quickly can be missed. Dropping the future has no effect.
    pub async fn state_changed(&self, from: State) -> State {
        loop {
            let changed = self.shared.extra().state_changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            std::sync::atomic::fence(Ordering::SeqCst);
            let state = self.state();
            if state != from {
                return state;
            }
            changed.await;
        }
    }

    /// Waits until the session has ended and says why.
    ///
    /// In a handler of this session it waits for the connection's end, which waits for the handler at
    /// most as long as [`Timeouts::drain`](crate::Timeouts) says. Dropping the future has no effect.
    pub async fn closed(&self) -> CloseReason {
        let mut state = self.state();
        loop {
            if let Some(reason) = self.shared.close_reason() {
                return reason.clone();
            }
            state = self.state_changed(state).await;
        }
    }

    /// Why the session ended, once it has.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.shared.close_reason().cloned()
    }

    /// Ends the session in order: what is queued leaves first, then the reason, which reaches the
    /// disconnect handler of the other side. Returns at once; see [`closed`](Self::closed).
    ///
    /// The first reason counts. Messages sent after this are refused.
    pub fn disconnect(&self, reason: CloseReason) {
        self.shared.request_close(reason);
    }

    /// Ends the session at once; what is queued is lost.
    pub fn abort(&self) {
        self.shared.close_outbox();
        self.shared.signal(signal::ABORT);
    }

    /// Stops reading from the link, so that back-pressure reaches the peer. What has been read is still
    /// delivered. While it is paused, liveness and idle deadlines do not run.
    pub fn pause_reading(&self) {
        self.shared.pause_reading(true);
    }

    /// Reads on after [`pause_reading`](Self::pause_reading).
    pub fn resume_reading(&self) {
        self.shared.pause_reading(false);
    }

    /// When the session began.
    pub fn connected_at(&self) -> Instant {
        self.shared.hub().clock.instant(self.shared.connected_at)
    }

    /// When something was last received.
    pub fn last_activity(&self) -> Instant {
        let last = self.shared.last_received.load(Ordering::Relaxed);
        self.shared.hub().clock.instant(last)
    }

    // Handlers

    /// Gives this session a handler of its own, from its next message on. It takes the place of all
    /// handlers of the server or client for this session, and runs where they would.
    pub fn set_handler<H: Handler>(&self, handler: H) {
        let service = Arc::new(HandlerService(handler));
        self.shared
            .set_service(Some(match &self.shared.hub().execution {
                Some(execution) => execution.of(service),
                None => service,
            }));
    }

    /// Takes the session's own handler away: the server's or client's are called again, from the next
    /// message on.
    pub fn reset_handler(&self) {
        self.shared.set_service(None);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id().as_u64())
            .field("transport", &self.transport())
            .field("remote", &self.remote_addr())
            .field("state", &self.state())
            .finish()
    }
}

impl PartialEq for Session {
    /// Whether two handles are of the same session.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for Session {}
