//! Pools of clients.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::{Manage, Pool, PoolBuilder, Pooled, after};
use crate::client::{Client, ClientBuilder, ReconnectPolicy};
use crate::error::{ConfigError, PoolError, RequestError};
use crate::handler::BoxFuture;
use crate::message::{Message, Outgoing};
use crate::session::State;

/// A pool of connected clients, each lent to one caller at a time. Made by [`clients`](Pool::clients).
///
/// There is an example at the [module](super).
pub type ClientPool = Pool<Clients>;

/// Makes the clients of a [`ClientPool`].
///
/// A client is broken when it is not connected. A server that closes while the client is idle is noticed at once. One
/// whose [reliable session](ClientBuilder::reliable) has lost its connection is not lent until it has another one, and
/// is replaced when the session is over.
pub struct Clients {
    make: Box<dyn Fn() -> Result<Client, ConfigError> + Send + Sync>,
    probe: Option<Probe>,
}

/// A request that every server answers that works.
struct Probe {
    message: Message,
    timeout: Duration,
}

impl Clients {
    pub(super) fn of_builders(make: impl Fn() -> ClientBuilder + Send + Sync + 'static) -> Self {
        // Whoever waits is better served by another client than by one that comes back some day.
        Self::of_clients(move || match make() {
            // It does not lose what it was told, for which it has to connect again.
            builder if builder.is_reliable() => builder.build(),
            builder => builder.reconnect(ReconnectPolicy::disabled()).build(),
        })
    }

    fn of_clients(make: impl Fn() -> Result<Client, ConfigError> + Send + Sync + 'static) -> Self {
        Clients {
            make: Box::new(make),
            probe: None,
        }
    }
}

impl Manage for Clients {
    type Item = Client;

    async fn create(&self) -> Result<Client, PoolError> {
        let client = (self.make)()?;
        client.connect().await?;
        Ok(client)
    }

    fn is_broken(&self, client: &Client) -> bool {
        !client.is_connected()
    }

    fn watch(&self, client: &Client) -> Option<BoxFuture<'static, ()>> {
        // Of the client itself a clone would keep it alive.
        let session = client.session()?;
        Some(Box::pin(async move {
            session.closed().await;
        }))
    }

    fn recover(&self, client: &Client) -> Option<BoxFuture<'static, bool>> {
        let session = client.suspended_session()?;
        Some(Box::pin(async move {
            session.state_changed(State::Suspended).await == State::Connected
        }))
    }

    async fn check(&self, client: &mut Client) -> bool {
        if !client.is_connected() {
            return false;
        }
        match &self.probe {
            None => true,
            Some(probe) => {
                let answer = client.request(probe.message.clone(), probe.timeout);
                answer.await.is_ok()
            }
        }
    }

    async fn close(&self, client: Client) {
        client.stop().await;
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").finish_non_exhaustive()
    }
}

impl Pool<Clients> {
    /// Begins the configuration of a pool of clients. `make` is called for each client and says how it connects;
    /// reconnecting is switched off, because the pool replaces what is broken. Not so where sessions are
    /// [reliable](ClientBuilder::reliable): a client that has lost its connection is not lent until it goes on with its
    /// session, and is replaced when that is over.
    ///
    /// Handlers that the builder is given are those of every client.
    pub fn clients(
        make: impl Fn() -> ClientBuilder + Send + Sync + 'static,
    ) -> PoolBuilder<Clients> {
        PoolBuilder::new(Clients::of_builders(make))
    }

    /// The same from clients that are built already. They should not reconnect: a client that has lost its
    /// connection is replaced, whether it would come back or not, unless its session is reliable and goes on.
    pub fn from_clients(
        make: impl Fn() -> Result<Client, ConfigError> + Send + Sync + 'static,
    ) -> PoolBuilder<Clients> {
        PoolBuilder::new(Clients::of_clients(make))
    }

    /// Takes a client, sends a request, waits for the answer, and gives the client back; all within `timeout`.
    ///
    /// A [`Multiplexer`](super::Multiplexer) does the same with fewer connections. Dropping the future gives up
    /// waiting.
    ///
    /// # Errors
    /// As [`acquire`](Pool::acquire) and [`Client::request`].
    ///
    /// # Panics
    /// As [`acquire`](Pool::acquire).
    pub async fn request<M: Outgoing>(
        &self,
        message: M,
        timeout: Duration,
    ) -> Result<Message, RequestError> {
        let deadline = after(timeout);
        let client = self.acquire_timeout(timeout).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        client.request(message, left).await
    }
}

impl PoolBuilder<Clients> {
    /// Sets the request that a check sends, and how long its answer may take. A client passes when the server
    /// answers and does not fail it. Without one, a check asks only whether the client is connected, which
    /// heartbeats keep true.
    pub fn probe(mut self, message: impl Outgoing, timeout: Duration) -> Self {
        self.manager.probe = Some(Probe {
            message: message.into_message(),
            timeout,
        });
        self
    }
}

impl Pooled<Clients> {
    /// The client. A clone of it still works when the guard was given back; do not keep one.
    pub fn client(&self) -> &Client {
        self
    }
}
