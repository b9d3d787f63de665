//! Handlers that run elsewhere than on the session's worker.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::BoxFuture;
use super::service::{Service, Wants};
use crate::error::{CloseReason, ErrorCode, RequestError};
use crate::message::Message;
use crate::session::Session;
use crate::session::inbound::Inbound;

/// Runs handlers, in place of the workers.
///
/// Use one for handlers that compute or block. The order of one session's messages is kept: a session's
/// next batch is handed over when its last is done, so an executor that is full is back-pressure on the
/// peers. What a handler sends from there goes through the session's outbox, which costs a lock a message.
///
/// ```
/// use network_system::{BoxFuture, Executor, Server, Session, Message};
///
/// /// Runs handlers as tasks of the runtime.
/// struct Tasks(tokio::runtime::Handle);
///
/// impl Executor for Tasks {
///     fn execute(&self, task: BoxFuture<'static, ()>) {
///         self.0.spawn(task);
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::builder()
///     .executor(Tasks(tokio::runtime::Handle::current()))
///     .on_message(|session: Session, message: Message| async move {
///         let _ = session.send(message).await;
///     })
///     .build()?;
/// # Ok(())
/// # }
/// ```
pub trait Executor: Send + Sync + 'static {
    /// Runs `task` to its end, some time soon. Must not block. Dropping the task ends its session.
    fn execute(&self, task: BoxFuture<'static, ()>);
}

/// A service whose handlers run on an executor.
pub(crate) struct Executed {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) executor: Arc<dyn Executor>,
}

impl Executed {
    /// Hands a handler's future over and waits for its end here.
    fn hand_over<T: Send + 'static>(&self, future: BoxFuture<'static, T>) -> BoxFuture<'static, T> {
        let (sender, receiver) = oneshot::channel();
        self.executor.execute(Box::pin(async move {
            // The session may have been cut off meanwhile; then nobody waits.
            let _ = sender.send(future.await);
        }));
        Box::pin(async move {
            match receiver.await {
                Ok(result) => result,
                // The handler panicked there, or its executor dropped it. It ends its session as a panic
                // here would, without a second report of the same panic.
                Err(_) => std::panic::resume_unwind(Box::new("the executor dropped a handler")),
            }
        })
    }
}

impl Service for Executed {
    fn wants(&self) -> Wants {
        self.service.wants()
    }

    fn connect(self: Arc<Self>, session: Session) -> BoxFuture<'static, ()> {
        self.hand_over(Arc::clone(&self.service).connect(session))
    }

    fn messages(
        self: Arc<Self>,
        session: Session,
        mut inbound: Inbound,
    ) -> BoxFuture<'static, Inbound> {
        // It may take long, and should not keep the worker's buffer from being used again.
        inbound.detach();
        self.hand_over(Arc::clone(&self.service).messages(session, inbound))
    }

    fn request(
        self: Arc<Self>,
        session: Session,
        request: Message,
    ) -> BoxFuture<'static, Result<Message, RequestError>> {
        self.hand_over(Arc::clone(&self.service).request(session, request))
    }

    fn disconnect(
        self: Arc<Self>,
        session: Session,
        reason: CloseReason,
    ) -> BoxFuture<'static, ()> {
        self.hand_over(Arc::clone(&self.service).disconnect(session, reason))
    }

    fn error(&self, session: &Session, code: ErrorCode, text: &str) {
        self.service.error(session, code, text);
    }
}
