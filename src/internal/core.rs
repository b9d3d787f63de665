//! The session core without a server: sessions over byte streams in memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::task::JoinSet;

use crate::codec::{Decoder, Framing};
use crate::config::{Limits, Timeouts};
use crate::endpoint::CodecKind;
use crate::handler::{Handler, HandlerService};
use crate::hub::Hub;
use crate::metrics::Role;
use crate::session::shared::PeerInfo;
use crate::session::{Session, Transport};
use crate::transport::stream::{StreamLink, socket_stream};
use crate::worker::pool::Workers;
use crate::worker::{NewSession, Placed};

/// One worker and its sessions, the server's side of each.
pub struct Core {
    hub: Arc<Hub>,
    workers: Workers,
    tasks: JoinSet<()>,
}

impl Core {
    /// Starts the worker on the current runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(limits: Limits, timeouts: Timeouts, handler: impl Handler) -> Self {
        let service = Arc::new(HandlerService(handler));
        let hub = Arc::new(Hub::new(
            Role::Server,
            limits,
            timeouts,
            service,
            None,
            None,
            None,
        ));
        hub.recorder.ensure_workers(1);
        let mut tasks = JoinSet::new();
        let workers = Workers::start(1, &hub, &mut tasks);
        Core {
            hub,
            workers,
            tasks,
        }
    }

    /// Gives the worker a connection.
    pub fn accept(&self, stream: DuplexStream, codec: CodecKind) {
        let decoder = Decoder::new(Framing::from(codec), self.hub.limits.message_size);
        let link = Placed::Here(Box::new(StreamLink::new(stream, decoder)));
        let peer = PeerInfo {
            transport: Transport::Memory,
            remote: None,
            local: None,
        };
        let new = NewSession {
            link,
            peer,
            permit: None,
            opened: None,
            refused: None,
        };
        self.workers.open(&self.hub, new);
    }

    /// The open sessions.
    pub fn sessions(&self) -> Vec<Session> {
        self.hub.sessions()
    }

    /// Sessions that have not ended, those included that are not open yet.
    pub fn live(&self) -> usize {
        self.hub.live()
    }

    /// Closes all sessions in order within `deadline` and waits until the worker has ended.
    ///
    /// # Panics
    /// When the worker panicked, or does not end.
    pub async fn stop(mut self, deadline: Duration) {
        self.hub.set_drain_millis(deadline.as_millis() as u64);
        self.workers.drain();
        self.workers.stop();
        let grace = deadline + Duration::from_secs(1);
        if tokio::time::timeout(grace, join(&mut self.tasks))
            .await
            .is_err()
        {
            // As a server does with handlers that do not end.
            self.workers.abort();
            let ended = tokio::time::timeout(grace, join(&mut self.tasks)).await;
            ended.expect("the worker ends once its sessions are cut off");
        }
        assert_eq!(self.live(), 0, "sessions left after the worker has ended");
        assert!(
            self.sessions().is_empty(),
            "ended sessions that can still be found"
        );
    }
}

// It is of no runtime.
socket_stream!(DuplexStream, |this| Ok(Box::new(|| Ok(this))));

async fn join(tasks: &mut JoinSet<()>) {
    while let Some(joined) = tasks.join_next().await {
        joined.expect("the worker does not panic");
    }
}
