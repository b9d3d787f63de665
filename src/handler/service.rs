//! Handlers as the session core sees them: one dynamic call for each batch of messages.

use std::sync::Arc;

use super::{BoxFuture, Handler};
use crate::error::{CloseReason, ErrorCode, RequestError};
use crate::message::Message;
use crate::session::Session;
use crate::session::inbound::Inbound;

/// Which calls a service wants; the others are skipped without making a future.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wants {
    pub(crate) connect: bool,
    pub(crate) message: bool,
    pub(crate) request: bool,
    pub(crate) disconnect: bool,
}

impl Wants {
    pub(crate) const ALL: Wants = Wants {
        connect: true,
        message: true,
        request: true,
        disconnect: true,
    };
}

/// A handler of any kind.
pub(crate) trait Service: Send + Sync {
    fn wants(&self) -> Wants;
    fn connect(self: Arc<Self>, session: Session) -> BoxFuture<'static, ()>;
    /// Handles messages up to the first frame of another kind, and returns the rest.
    fn messages(self: Arc<Self>, session: Session, inbound: Inbound)
    -> BoxFuture<'static, Inbound>;
    fn request(
        self: Arc<Self>,
        session: Session,
        request: Message,
    ) -> BoxFuture<'static, Result<Message, RequestError>>;
    fn disconnect(self: Arc<Self>, session: Session, reason: CloseReason)
    -> BoxFuture<'static, ()>;
    fn error(&self, session: &Session, code: ErrorCode, text: &str);
}

/// A [`Handler`] as a service.
pub(crate) struct HandlerService<H>(pub(crate) H);

impl<H: Handler> Service for HandlerService<H> {
    fn wants(&self) -> Wants {
        Wants::ALL
    }

    fn connect(self: Arc<Self>, session: Session) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.0.on_connect(&session).await })
    }

    fn messages(
        self: Arc<Self>,
        session: Session,
        mut inbound: Inbound,
    ) -> BoxFuture<'static, Inbound> {
        Box::pin(async move {
            while let Some(message) = inbound.next_message() {
                self.0.on_message(&session, message).await;
                if session.shared.has_service_changed() {
                    break;
                }
            }
            inbound
        })
    }

    fn request(
        self: Arc<Self>,
        session: Session,
        request: Message,
    ) -> BoxFuture<'static, Result<Message, RequestError>> {
        Box::pin(async move { self.0.on_request(&session, &request).await })
    }

    fn disconnect(
        self: Arc<Self>,
        session: Session,
        reason: CloseReason,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.0.on_disconnect(&session, &reason).await })
    }

    fn error(&self, session: &Session, code: ErrorCode, text: &str) {
        self.0.on_error(session, code, text);
    }
}
