//! Handlers given as closures, one for each event.

use std::future::Future;
use std::sync::Arc;

use super::service::{Service, Wants};
use super::{BoxFuture, no_request_handler};
use crate::error::{CloseReason, ErrorCode, RequestError};
use crate::message::Message;
use crate::session::Session;
use crate::session::inbound::Inbound;

type OnConnect = dyn Fn(Session) -> BoxFuture<'static, ()> + Send + Sync;
type OnMessages = dyn Fn(Session, Inbound) -> BoxFuture<'static, Inbound> + Send + Sync;
type OnRequest =
    dyn Fn(Session, Message) -> BoxFuture<'static, Result<Message, RequestError>> + Send + Sync;
type OnDisconnect = dyn Fn(Session, CloseReason) -> BoxFuture<'static, ()> + Send + Sync;
type OnError = dyn Fn(&Session, ErrorCode, &str) + Send + Sync;

/// A handler made of closures; what is not set is not called.
#[derive(Default)]
pub(crate) struct Closures {
    connect: Option<Box<OnConnect>>,
    messages: Option<Box<OnMessages>>,
    request: Option<Box<OnRequest>>,
    disconnect: Option<Box<OnDisconnect>>,
    error: Option<Box<OnError>>,
}

impl Closures {
    pub(crate) fn on_connect<F, R>(&mut self, handler: F)
    where
        F: Fn(Session) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.connect = Some(Box::new(move |session| Box::pin(handler(session))));
    }

    pub(crate) fn on_message<F, R>(&mut self, handler: F)
    where
        F: Fn(Session, Message) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        // The loop is inside the box, so that a batch costs one dynamic call and a message none.
        let handler = Arc::new(handler);
        self.messages = Some(Box::new(move |session, mut inbound| {
            let handler = Arc::clone(&handler);
            Box::pin(async move {
                while let Some(message) = inbound.next_message() {
                    let message = message.clone();
                    handler(session.clone(), message).await;
                    if session.shared.has_service_changed() {
                        break;
                    }
                }
                inbound
            })
        }));
    }

    pub(crate) fn on_request<F, R>(&mut self, handler: F)
    where
        F: Fn(Session, Message) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Message, RequestError>> + Send + 'static,
    {
        self.request = Some(Box::new(move |session, request| {
            Box::pin(handler(session, request))
        }));
    }

    pub(crate) fn on_disconnect<F, R>(&mut self, handler: F)
    where
        F: Fn(Session, CloseReason) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.disconnect = Some(Box::new(move |session, reason| {
            Box::pin(handler(session, reason))
        }));
    }

    pub(crate) fn on_error<F>(&mut self, handler: F)
    where
        F: Fn(&Session, ErrorCode, &str) + Send + Sync + 'static,
    {
        self.error = Some(Box::new(handler));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.connect.is_none()
            && self.messages.is_none()
            && self.request.is_none()
            && self.disconnect.is_none()
            && self.error.is_none()
    }
}

impl Service for Closures {
    fn wants(&self) -> Wants {
        Wants {
            connect: self.connect.is_some(),
            message: self.messages.is_some(),
            request: self.request.is_some(),
            disconnect: self.disconnect.is_some(),
        }
    }

    fn connect(self: Arc<Self>, session: Session) -> BoxFuture<'static, ()> {
        match &self.connect {
            Some(handler) => handler(session),
            None => Box::pin(async {}),
        }
    }

    fn messages(
        self: Arc<Self>,
        session: Session,
        mut inbound: Inbound,
    ) -> BoxFuture<'static, Inbound> {
        match &self.messages {
            Some(handler) => handler(session, inbound),
            None => Box::pin(async {
                inbound.skip_messages();
                inbound
            }),
        }
    }

    fn request(
        self: Arc<Self>,
        session: Session,
        request: Message,
    ) -> BoxFuture<'static, Result<Message, RequestError>> {
        match &self.request {
            Some(handler) => handler(session, request),
            None => Box::pin(async { Err(no_request_handler()) }),
        }
    }

    fn disconnect(
        self: Arc<Self>,
        session: Session,
        reason: CloseReason,
    ) -> BoxFuture<'static, ()> {
        match &self.disconnect {
            Some(handler) => handler(session, reason),
            None => Box::pin(async {}),
        }
    }

    fn error(&self, session: &Session, code: ErrorCode, text: &str) {
        if let Some(handler) = &self.error {
            handler(session, code, text);
        }
    }
}
