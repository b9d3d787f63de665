//! Handlers on an executor, as the session core sees them.

use std::future::Future;
use std::sync::Arc;

use super::task::Handover;
use super::{Executor, Room, Task};
use crate::error::{CloseReason, ErrorCode, RequestError};
use crate::handler::{BoxFuture, Service, Wants};
use crate::message::Message;
use crate::session::Session;
use crate::session::inbound::Inbound;

/// An executor, and who waits for it.
pub(crate) struct Execution {
    executor: Box<dyn Executor>,
    room: Room,
}

impl Execution {
    pub(crate) fn new(executor: impl Executor) -> Arc<Self> {
        Arc::new(Execution {
            room: executor.room(),
            executor: Box::new(executor),
        })
    }

    /// The same handlers, on this executor.
    pub(crate) fn of(self: &Arc<Self>, service: Arc<dyn Service>) -> Arc<dyn Service> {
        Arc::new(Executed {
            service,
            execution: Arc::clone(self),
        })
    }

    pub(super) fn room(&self) -> &Room {
        &self.room
    }

    /// Hands a task over if there is room, and nobody waits for it.
    pub(super) fn offer(&self, task: Task) -> Result<(), Task> {
        match self.room.has_waiters() {
            true => Err(task),
            false => self.executor.execute(task),
        }
    }

    /// Hands a task over when there is room, after those that wait already.
    pub(super) async fn queue(&self, task: Task) {
        self.room.hand_over(&*self.executor, task).await;
    }
}

/// A service whose handlers run on an executor.
struct Executed {
    service: Arc<dyn Service>,
    execution: Arc<Execution>,
}

impl Executed {
    /// Runs `handler` on the executor. It is called there too, because closures may do their work
    /// before they return a future.
    fn hand_over<T, F>(
        &self,
        session: Session,
        handler: impl FnOnce(Arc<dyn Service>, Session) -> F + Send + 'static,
    ) -> BoxFuture<'static, T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (service, shared) = (Arc::clone(&self.service), Arc::clone(&session.shared));
        let handler = Box::pin(async move { handler(service, session).await });
        Box::pin(Handover::new(Arc::clone(&self.execution), shared, handler))
    }
}

impl Service for Executed {
    fn wants(&self) -> Wants {
        self.service.wants()
    }

    fn connect(self: Arc<Self>, session: Session) -> BoxFuture<'static, ()> {
        self.hand_over(session, |service, session| service.connect(session))
    }

    fn messages(
        self: Arc<Self>,
        session: Session,
        mut inbound: Inbound,
    ) -> BoxFuture<'static, Inbound> {
        // It may take long, and should not keep the worker's buffer from being used again.
        inbound.detach();
        self.hand_over(session, |service, session| {
            service.messages(session, inbound)
        })
    }

    fn request(
        self: Arc<Self>,
        session: Session,
        request: Message,
    ) -> BoxFuture<'static, Result<Message, RequestError>> {
        self.hand_over(session, |service, session| {
            service.request(session, request)
        })
    }

    fn disconnect(
        self: Arc<Self>,
        session: Session,
        reason: CloseReason,
    ) -> BoxFuture<'static, ()> {
        self.hand_over(session, |service, session| {
            service.disconnect(session, reason)
        })
    }

    fn error(&self, session: &Session, code: ErrorCode, text: &str) {
        self.service.error(session, code, text);
    }
}
