//! What stands between the native handler of a connection and the callbacks.

use std::sync::Arc;

use crate::compat::bridge::Member;
use crate::compat::callback::{Inside, Lane};
use crate::compat::handlers::Handlers;
use crate::error::{CloseReason, ErrorCode};
use crate::handler::Handler;
use crate::message::Message;
use crate::session::Session;

/// The native handler. Its futures are never pending, and run on the threads for callbacks.
pub(super) struct Adapter {
    pub(super) inside: Inside,
    pub(super) handlers: Arc<Handlers<Session>>,
    pub(super) lane: Arc<Lane>,
    pub(super) member: Option<Arc<Member>>,
}

impl Adapter {
    fn call(&self, session: &Session, callback: impl FnOnce()) {
        Inside {
            session: Some(session.id()),
            ..self.inside
        }
        .call(callback);
    }
}

impl Handler for Adapter {
    async fn on_connect(&self, session: &Session) {
        self.call(session, || {
            if let Some(member) = &self.member {
                member.connection(session, true);
            }
            self.handlers.on_connect(session);
        });
    }

    async fn on_message(&self, session: &Session, message: &Message) {
        self.call(session, || {
            if let Some(member) = &self.member {
                member.message(message);
            }
            self.handlers.on_message(session, message);
        });
    }

    async fn on_disconnect(&self, session: &Session, reason: &CloseReason) {
        self.call(session, || {
            if let Some(member) = &self.member {
                member.connection(session, false);
            }
            self.handlers.on_disconnect(session, reason);
        });
    }

    /// Called where bytes are moved.
    fn on_error(&self, session: &Session, code: ErrorCode, text: &str) {
        let member = self.member.as_ref();
        if let Some(callback) = member.and_then(|member| member.about_error(code, text)) {
            self.lane.push(session, callback);
        }
        if let Some(callback) = self.handlers.about_error(session.clone(), code, text) {
            self.lane.push(session, callback);
        }
    }
}
