//! The callbacks of a classic client.

use std::sync::Arc;

use super::classic_client;
use crate::compat::result::{error, reason_text};
use crate::error::CloseReason;
use crate::message::Message;
use crate::session::Session;

impl<C: Clone> classic_client<C> {
    /// Sets what happens to messages, in the order in which they came, one at a time.
    pub fn set_message_handler(&self, handler: impl Fn(&[u8]) + Send + Sync + 'static) {
        let callback = move |_: &Session, message: &Message| handler(message.payload());
        self.handlers.message.set(Arc::new(callback));
    }

    /// The same as [`set_message_handler`](Self::set_message_handler).
    pub fn on_receive(&self, handler: impl Fn(&[u8]) + Send + Sync + 'static) {
        self.set_message_handler(handler);
    }

    /// Sets what happens when a connection is open, the first one and each later one. Its messages wait
    /// until this returns.
    pub fn set_connect_handler(&self, handler: impl Fn() + Send + Sync + 'static) {
        let callback = move |_: &Session| handler();
        self.handlers.connect.set(Arc::new(callback));
    }

    /// Sets what happens when a connection has ended, with the reason as a text: what the closing side
    /// said, or the name of an error code. The handler may start the client again.
    pub fn set_disconnect_handler(&self, handler: impl Fn(&str) + Send + Sync + 'static) {
        let callback = move |_: &Session, reason: &CloseReason| handler(&reason_text(reason));
        self.handlers.disconnect.set(Arc::new(callback));
    }

    /// Sets what is called with a text and a code when something goes wrong on a connection.
    ///
    /// Calls come in order, but beside those of the other handlers. When more than 256 wait, further
    /// ones are dropped and logged. What a method returns as an error does not come here too.
    pub fn set_error_handler(&self, handler: impl Fn(&str, i32) + Send + Sync + 'static) {
        self.on_error(move |error| handler(&error.message, error.code));
    }

    /// The same as [`set_error_handler`](Self::set_error_handler), for a handler that takes the error as
    /// one value.
    pub fn on_error(&self, handler: impl Fn(&error) + Send + Sync + 'static) {
        let callback = move |_: &Session, error: &error| handler(error);
        self.handlers.error.set(Arc::new(callback));
    }
}
