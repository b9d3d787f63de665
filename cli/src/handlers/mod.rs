//! What `netsys serve` can do with messages.

mod chat;

use std::sync::{Arc, OnceLock};

use network_system::{Handler, Message, RequestError, Server, Session};

pub(crate) use chat::Chat;

/// Where a handler finds its server, which is made after it.
#[derive(Clone, Default)]
pub(crate) struct ServerSlot(Arc<OnceLock<Server>>);

impl ServerSlot {
    pub(crate) fn set(&self, server: &Server) {
        let _ = self.0.set(server.clone());
    }

    /// The server; `None` only before it could have a session.
    pub(crate) fn server(&self) -> Option<&Server> {
        self.0.get()
    }
}

/// Sends each message back, and answers a request with its own payload.
pub(crate) struct Echo;

impl Handler for Echo {
    async fn on_message(&self, session: &Session, message: &Message) {
        // A session that has ended needs no answer.
        let _ = session.send(message).await;
    }

    async fn on_request(&self, _: &Session, request: &Message) -> Result<Message, RequestError> {
        Ok(request.clone())
    }
}

/// Sends each message to every other session.
pub(crate) struct Broadcast {
    server: ServerSlot,
}

impl Broadcast {
    pub(crate) fn new(server: ServerSlot) -> Self {
        Broadcast { server }
    }
}

impl Handler for Broadcast {
    async fn on_message(&self, session: &Session, message: &Message) {
        let Some(server) = self.server.server() else {
            return;
        };
        if let Err(error) = server.broadcast_except(message, &[session.id()]).await {
            tracing::debug!(%error, "not broadcast");
        }
    }
}

/// Takes messages and requests; the server's statistics count them.
pub(crate) struct Sink;

impl Handler for Sink {
    async fn on_request(&self, _: &Session, _: &Message) -> Result<Message, RequestError> {
        Ok(Message::default())
    }
}
