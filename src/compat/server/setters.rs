//! The callbacks of a classic server.

use std::sync::Arc;

use super::classic_server;
use crate::compat::config::ServerConfig;
use crate::compat::result::{error, reason_text};
use crate::compat::session::messaging_session;
use crate::error::CloseReason;
use crate::message::Message;

impl<C: ServerConfig> classic_server<C> {
    /// Sets what happens to messages. Those of one session are handled in order, one at a time;
    /// those of different sessions side by side.
    pub fn set_message_handler(
        &self,
        handler: impl Fn(Arc<messaging_session>, &[u8]) + Send + Sync + 'static,
    ) {
        let callback = move |session: &Arc<messaging_session>, message: &Message| {
            handler(Arc::clone(session), message.payload());
        };
        self.handlers.message.set(Arc::new(callback));
    }

    /// The same as [`set_message_handler`](Self::set_message_handler).
    pub fn on_receive(
        &self,
        handler: impl Fn(Arc<messaging_session>, &[u8]) + Send + Sync + 'static,
    ) {
        self.set_message_handler(handler);
    }

    /// Sets what happens when a session opens. Its messages wait until this returns.
    pub fn set_connect_handler(
        &self,
        handler: impl Fn(Arc<messaging_session>) + Send + Sync + 'static,
    ) {
        let callback = move |session: &Arc<messaging_session>| handler(Arc::clone(session));
        self.handlers.connect.set(Arc::new(callback));
    }

    /// Sets what happens when a session has ended, with the reason as a text: what the closing side
    /// said, or the name of an error code.
    pub fn set_disconnect_handler(
        &self,
        handler: impl Fn(Arc<messaging_session>, &str) + Send + Sync + 'static,
    ) {
        let callback = move |session: &Arc<messaging_session>, reason: &CloseReason| {
            handler(Arc::clone(session), &reason_text(reason));
        };
        self.handlers.disconnect.set(Arc::new(callback));
    }

    /// Sets what is called with a text and a code when something goes wrong on a session.
    ///
    /// Calls about one session come in order, but beside its other callbacks. When more than 256 wait,
    /// further ones are dropped and logged.
    pub fn set_error_handler(&self, handler: impl Fn(&str, i32) + Send + Sync + 'static) {
        self.on_error(move |error| handler(&error.message, error.code));
    }

    /// The same as [`set_error_handler`](Self::set_error_handler), for a handler that takes the error as
    /// one value.
    pub fn on_error(&self, handler: impl Fn(&error) + Send + Sync + 'static) {
        let callback = move |_session: &Arc<messaging_session>, error: &error| handler(error);
        self.handlers.error.set(Arc::new(callback));
    }
}
