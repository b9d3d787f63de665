//! The callbacks of a server or client, whatever its transport.

use std::sync::Arc;

use super::callback::Slot;
use super::result::error;
use crate::error::{CloseReason, ErrorCode};
use crate::message::{Message, MessageKind};

type On<S> = dyn Fn(&S) + Send + Sync;
type OnMessage<S> = dyn Fn(&S, &Message) + Send + Sync;
type OnDisconnect<S> = dyn Fn(&S, &CloseReason) + Send + Sync;
type OnError<S> = dyn Fn(&S, &error) + Send + Sync;

/// What is called for a session `S`. Setters adapt it to what the callbacks of each class get.
pub(super) struct Handlers<S> {
    pub(super) connect: Slot<On<S>>,
    pub(super) message: Slot<OnMessage<S>>,
    /// For text alone, beside `message`.
    pub(super) text: Slot<OnMessage<S>>,
    /// For everything but text, beside `message`.
    pub(super) binary: Slot<OnMessage<S>>,
    pub(super) disconnect: Slot<OnDisconnect<S>>,
    pub(super) error: Slot<OnError<S>>,
}

impl<S> Default for Handlers<S> {
    fn default() -> Self {
        Handlers {
            connect: Slot::default(),
            message: Slot::default(),
            text: Slot::default(),
            binary: Slot::default(),
            disconnect: Slot::default(),
            error: Slot::default(),
        }
    }
}

impl<S> Handlers<S> {
    pub(super) fn on_connect(&self, session: &S) {
        if let Some(handler) = self.connect.get() {
            handler(session);
        }
    }

    pub(super) fn on_message(&self, session: &S, message: &Message) {
        if let Some(handler) = self.message.get() {
            handler(session, message);
        }
        let kind = match message.kind() {
            MessageKind::Text => &self.text,
            _ => &self.binary,
        };
        if let Some(handler) = kind.get() {
            handler(session, message);
        }
    }

    pub(super) fn on_disconnect(&self, session: &S, reason: &CloseReason) {
        if let Some(handler) = self.disconnect.get() {
            handler(session, reason);
        }
    }
}

impl<S: Send + 'static> Handlers<S> {
    /// What is to be called about an error, later, beside the other callbacks.
    pub(super) fn about_error(
        &self,
        session: S,
        code: ErrorCode,
        text: &str,
    ) -> Option<Box<dyn FnOnce() + Send>> {
        let handler: Arc<OnError<S>> = self.error.get()?;
        let error = error::new(code, text);
        Some(Box::new(move || handler(&session, &error)))
    }
}
