//! What servers and clients know of the bridge that made them.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::config::Settings;
use super::shared::Shared;
use crate::client::ClientBuilder;
use crate::compat::callback::{Task, Threads, Unique};
use crate::compat::client::messaging_client;
use crate::compat::config::refuse;
use crate::compat::result::{VoidResult, error};
use crate::compat::server::messaging_server;
use crate::error::ErrorCode;
use crate::message::Message;
use crate::server::ServerBuilder;
use crate::session::Session;

/// What a server or client asks of its bridge, and tells it.
pub(in crate::compat) struct Member {
    shared: Arc<Shared>,
    settings: Arc<Settings>,
}

impl Member {
    pub(super) fn new(shared: Arc<Shared>, settings: Arc<Settings>) -> Self {
        Member { shared, settings }
    }

    /// Has the bridge know a client that was made for a pool.
    pub(in crate::compat) fn adopt(&self, client: &Arc<messaging_client>) {
        let made: Arc<dyn Made> = Arc::clone(client) as _;
        self.shared.add(Arc::downgrade(&made));
    }

    // Starting

    /// Whether a start is allowed.
    pub(in crate::compat) fn admit(&self) -> VoidResult {
        match self.shared.has_stopped() {
            true => Err(error::new(
                ErrorCode::ShuttingDown,
                format!("the bridge \"{}\" has stopped", self.shared.id()),
            )),
            false => Ok(()),
        }
    }

    /// Which threads run the callbacks of what starts now.
    pub(in crate::compat) fn threads(&self) -> Threads {
        self.shared.threads()
    }

    /// Stages that peers are asked about need a codec that can ask.
    fn check(&self, has_hello: bool) -> VoidResult {
        match self.settings.negotiated() {
            Some(field) if !has_hello => {
                let text = "needs the codec MSGI, with which peers agree on it";
                Err(refuse(ErrorCode::NotSupported, field, text))
            }
            _ => Ok(()),
        }
    }

    fn is_counted(&self) -> bool {
        self.settings.config.enable_performance_monitoring
    }

    pub(in crate::compat) fn server(
        &self,
        builder: ServerBuilder,
        has_hello: bool,
    ) -> crate::compat::result::Result<ServerBuilder> {
        self.check(has_hello)?;
        let mut builder = builder.request_timeout(self.settings.config.message_timeout);
        if let Some(pipeline) = &self.settings.pipeline {
            builder = builder.pipeline(pipeline.clone());
        }
        if self.is_counted() {
            builder = builder.monitor(self.shared.metrics().monitor());
        }
        Ok(builder)
    }

    pub(in crate::compat) fn client(
        &self,
        builder: ClientBuilder,
        has_hello: bool,
    ) -> crate::compat::result::Result<ClientBuilder> {
        self.check(has_hello)?;
        let mut builder = builder.request_timeout(self.settings.config.message_timeout);
        if let Some(pipeline) = &self.settings.pipeline {
            builder = builder.pipeline(pipeline.clone());
        }
        if self.is_counted() {
            builder = builder.monitor(self.shared.metrics().monitor());
        }
        Ok(builder)
    }

    /// A client could not connect.
    pub(in crate::compat) fn not_connected(&self, error: &error) {
        if self.is_counted() && error.error_code() == Some(ErrorCode::ConnectionTimeout) {
            self.shared.metrics().errors.timeout();
        }
    }

    // Sending

    /// How long sending waits for room.
    pub(in crate::compat) fn message_timeout(&self) -> Duration {
        self.settings.config.message_timeout
    }

    /// Counts a message that could not be sent; `late` when it waited for too long.
    pub(in crate::compat) fn sent(&self, result: VoidResult, waited: bool) -> VoidResult {
        result.inspect_err(|error| {
            if self.is_counted() {
                let late = waited && error.error_code() == Some(ErrorCode::QueueFull);
                self.shared.metrics().errors.send(late);
            }
        })
    }

    // Callbacks

    /// A connection is open, or has ended. Called on the threads for callbacks.
    pub(in crate::compat) fn connection(&self, session: &Session, connected: bool) {
        self.shared.connection(session, connected);
    }

    /// A message came. Called on the threads for callbacks, before the callbacks for messages.
    pub(in crate::compat) fn message(&self, message: &Message) {
        if let Err(_no_container) = self.shared.message(message)
            && self.is_counted()
        {
            self.shared.metrics().errors.receive();
        }
    }

    /// What is to be called about an error, later, beside the other callbacks.
    pub(in crate::compat) fn about_error(&self, code: ErrorCode, text: &str) -> Option<Task> {
        if self.is_counted() {
            self.shared.metrics().errors.on_session(code);
        }
        self.shared.about_error(code, text)
    }
}

/// What a bridge asks of what it has made.
pub(super) trait Made: Send + Sync {
    fn owner(&self) -> Unique;
    fn is_server(&self) -> bool;
    /// For the status report.
    fn line(&self) -> String;
    /// Begins to stop, and returns what ends when it has.
    fn begin_stop(&self) -> Option<JoinHandle<()>>;
}

impl Made for messaging_server {
    fn owner(&self) -> Unique {
        self.unique()
    }

    fn is_server(&self) -> bool {
        true
    }

    fn line(&self) -> String {
        let id = self.server_id();
        match self.is_running() {
            true => format!(
                "server \"{}\": running on {}:{}, connections {}",
                id.escape_debug(),
                self.bind_address(),
                self.port(),
                self.connection_count()
            ),
            false => format!("server \"{}\": stopped", id.escape_debug()),
        }
    }

    fn begin_stop(&self) -> Option<JoinHandle<()>> {
        self.stop_beside()
    }
}

impl Made for messaging_client {
    fn owner(&self) -> Unique {
        self.unique()
    }

    fn is_server(&self) -> bool {
        false
    }

    fn line(&self) -> String {
        let id = self.client_id();
        let state = match (self.is_connected(), self.is_running()) {
            (true, _) => "connected",
            (false, true) => "connecting",
            (false, false) => "stopped",
        };
        format!("client \"{}\": {state}", id.escape_debug())
    }

    fn begin_stop(&self) -> Option<JoinHandle<()>> {
        self.stop_beside()
    }
}
