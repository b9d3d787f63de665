//! The application's side: what is called when something happens on a session.
//!
//! [`Handler`] is a trait whose messages are lent: the fast form. Closures over owned messages are set on
//! the builders of server and client: the convenient form, which costs one allocation and two reference
//! counts a message (`perf/`, cases echo-64 with the closure server).

mod authentication;
mod closures;
mod guard;
mod router;
mod service;

use std::future::Future;
use std::pin::Pin;

pub(crate) use authentication::{Authenticate, Closure, Granting};
pub use authentication::{Authentication, Authenticator, Credentials, Purpose};
pub(crate) use closures::Closures;
pub use guard::GroupGuard;
pub(crate) use guard::Guard;
pub use router::Router;
pub(crate) use service::{HandlerService, Service, Wants};

use crate::error::{CloseReason, ErrorCode, RequestError};
use crate::message::Message;
use crate::session::Session;

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What an application does with its sessions.
///
/// For one session, `on_connect`, `on_message` and `on_disconnect` run one after the other, in the order
/// in which things happened; different sessions run side by side. A handler that awaits holds up only its
/// own session: its outbox is still written, PING and answers are still processed, and after 64 KiB of
/// waiting messages it stops reading, so that back-pressure reaches the peer.
///
/// Requests start in order and up to 32 of one session run at once.
///
/// A panic in a handler ends its session and no other. A handler that computes for long without awaiting
/// stalls all sessions of its worker; move such work to a blocking task or give an
/// [`Executor`](crate::Executor). With one, everything above holds as well.
///
/// When a session's connection breaks, a handler that is running finishes; it is dropped only when the
/// drain deadline of a stopping server passes.
pub trait Handler: Send + Sync + 'static {
    /// The session is open. Messages wait until this returns.
    fn on_connect(&self, session: &Session) -> impl Future<Output = ()> + Send {
        let _ = session;
        async {}
    }

    /// A message came.
    fn on_message(&self, session: &Session, message: &Message) -> impl Future<Output = ()> + Send {
        let _ = (session, message);
        async {}
    }

    /// The peer asks; what this returns is its answer.
    fn on_request(
        &self,
        session: &Session,
        request: &Message,
    ) -> impl Future<Output = Result<Message, RequestError>> + Send {
        let _ = (session, request);
        async { Err(no_request_handler()) }
    }

    /// The session has ended, once, whatever the reason.
    fn on_disconnect(
        &self,
        session: &Session,
        reason: &CloseReason,
    ) -> impl Future<Output = ()> + Send {
        let _ = (session, reason);
        async {}
    }

    /// Something went wrong: a frame was refused, a handler panicked, a deadline passed. Called before
    /// the close that follows, if one does. Must not block.
    fn on_error(&self, session: &Session, code: ErrorCode, text: &str) {
        let _ = (session, code, text);
    }
}

pub(crate) fn no_request_handler() -> RequestError {
    RequestError::failed("there is no request handler")
}
