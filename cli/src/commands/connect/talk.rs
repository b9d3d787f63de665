//! What the server says, and what is said about the connection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use network_system::{
    ClientState, CloseReason, ClosedBy, ErrorCode, Handler, Message, RequestError, SendError,
    Session,
};
use serde_json::json;
use tokio::sync::{Notify, mpsc};

use super::format::Style;
use crate::certificates::{names, pin};
use crate::output::Output;

/// What is said besides the messages.
#[derive(Clone, Copy)]
pub(super) struct Talk {
    pub(super) style: Style,
    pub(super) output: Output,
    /// Someone or something follows how the connection is.
    pub(super) interactive: bool,
}

impl Talk {
    pub(super) fn note(self, event: &str, text: &str) {
        if self.interactive {
            self.output
                .note(&json!({ "event": event, "text": text }), text);
        }
    }

    pub(super) fn state(self, state: ClientState, url: &str) {
        if state == ClientState::Reconnecting {
            self.note("reconnecting", &format!("reconnecting to {url}"));
        }
    }

    /// What the connection came to.
    fn connected(self, url: &str, session: &Session) {
        if !self.interactive {
            return;
        }
        let mut event = json!({ "event": "connected", "text": format!("connected to {url}") });
        let mut details = Vec::new();
        if let Some(tls) = session.tls() {
            let version = tls.version().name();
            details.push(format!("TLS {version}, {}", tls.cipher_suite()));
            event["tls"] = json!({ "version": version, "cipher_suite": tls.cipher_suite() });
            if let Some(peer) = tls.peer_certificate() {
                let (names, pin) = (names(peer), pin(peer));
                details.push(format!("{pin} of {}", names.join(", ")));
                event["tls"]["names"] = json!(names);
                event["tls"]["pin"] = json!(pin);
            }
        }
        let upgrade = session.websocket();
        if let Some(subprotocol) = upgrade.as_ref().and_then(|info| info.subprotocol.as_ref()) {
            details.push(format!("subprotocol {subprotocol}"));
            event["subprotocol"] = json!(subprotocol);
        }
        let stages = session.pipeline();
        if !stages.is_empty() {
            details.push(stages.join(", "));
            event["pipeline"] = json!(*stages);
        }
        let mut text = format!("connected to {url}");
        if !details.is_empty() {
            text += &format!(" ({})", details.join("; "));
        }
        self.output.note(&event, &text);
    }

    pub(super) fn refused(self, code: ErrorCode, text: &str) {
        if self.output.json {
            let event = json!({
                "event": "error", "code": code.as_i32(), "name": code.name(), "text": text
            });
            self.output.problem(&event, text);
        } else {
            self.output.error(text);
        }
    }
}

/// Hands messages to the printing thread.
pub(super) struct Receiver {
    pub(super) printer: mpsc::Sender<Vec<u8>>,
    pub(super) talk: Talk,
    pub(super) url: String,
    pub(super) arrived: Arc<Notify>,
    /// Why a message did not get through the pipeline, for the first that did not.
    pub(super) refused: Arc<OnceLock<String>>,
    /// Whether a reliable session has ended without having acknowledged all.
    pub(super) unacknowledged: Arc<AtomicBool>,
    /// The session that began last.
    pub(super) session: Arc<Mutex<Option<Session>>>,
}

impl Handler for Receiver {
    async fn on_connect(&self, session: &Session) {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(session.clone());
        self.talk.connected(&self.url, session);
    }

    async fn on_message(&self, _: &Session, message: &Message) {
        self.arrived.notify_one();
        // Nobody reads stdout any more: that is noticed elsewhere.
        let _ = self
            .printer
            .send(self.talk.style.show("message", message.payload()))
            .await;
    }

    fn on_error(&self, _: &Session, code: ErrorCode, text: &str) {
        if code == ErrorCode::PipelineFailed {
            let _ = self.refused.set(format!("{}: {text}", code.name()));
        }
    }

    async fn on_disconnect(&self, session: &Session, reason: &CloseReason) {
        let count = session.take_unacknowledged().len();
        if count > 0 {
            self.unacknowledged.store(true, Ordering::Relaxed);
            let s = if count == 1 { "" } else { "s" };
            let text = format!("{count} message{s} not acknowledged, handled or not: {reason}");
            let code = reason.code().unwrap_or(ErrorCode::ConnectionClosed);
            self.talk.refused(code, &text);
        }
        if reason.closed_by() != ClosedBy::Local && !reason.is_orderly() {
            self.talk
                .note("disconnected", &format!("disconnected: {reason}"));
        }
    }
}

pub(super) fn request_text(error: &RequestError) -> String {
    format!("no answer: {error}")
}

pub(super) fn send_text(error: &SendError) -> String {
    format!("not sent: {error}")
}
