//! What a classic session has for WebSocket.

use super::close_reason;
use crate::compat::result::VoidResult;
use crate::compat::session::{messaging_session, send};
use crate::message::Message;

/// A session of a [`messaging_ws_server`](super::messaging_ws_server). It has everything that sessions of
/// other transports have, and can be in the same groups.
pub type ws_connection = messaging_session;

/// The names of WebSocket connections.
impl messaging_session {
    /// Sends a text. Blocks while the session's outbox is full.
    ///
    /// # Errors
    /// As [`send_message`](Self::send_message).
    pub fn send_text(&self, text: impl Into<String>) -> VoidResult {
        send(self.native(), Message::text(text))
    }

    /// The same as [`send_packet`](Self::send_packet).
    ///
    /// # Errors
    /// As [`send_message`](Self::send_message).
    pub fn send_binary(&self, data: Vec<u8>) -> VoidResult {
        self.send_packet(data)
    }

    /// Ends the session in order, with a code of [`ws_close_code`](super::ws_close_code) or of the
    /// application's and a reason; what was sent leaves first. Returns at once. Other transports than
    /// WebSocket have no code and leave it out.
    ///
    /// # Errors
    /// `invalid_configuration` for a code that must not be sent.
    pub fn close(&self, code: u16, reason: &str) -> VoidResult {
        self.native().disconnect(close_reason(code, reason)?);
        Ok(())
    }

    /// The same as [`session_id`](Self::session_id).
    pub fn connection_id(&self) -> String {
        self.session_id()
    }

    /// The address and port of the peer, as `192.0.2.1:54321`; empty when the transport has none.
    pub fn remote_endpoint(&self) -> String {
        let address = self.native().remote_addr();
        address
            .map(|address| address.to_string())
            .unwrap_or_default()
    }
}
