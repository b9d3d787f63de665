//! Many callers on few clients.

mod crowd;

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use self::crowd::{Inner, Slot, Waiting};
use super::builder::within;
use super::{Clients, PoolBuilder, PoolReport, PoolStats, after};
use crate::client::Client;
use crate::error::{ConfigError, ErrorCode, PoolError, RequestError};
use crate::message::{Message, Outgoing};
use crate::resilience::Coded;
use crate::session::shared::lock;

/// How many requests a client has outstanding when another one is opened, unless the builder says otherwise. With
/// that many, each read and each write carries several, and the answers still come soon.
const OUTSTANDING: usize = 32;
const OUTSTANDING_MAX: usize = 1_048_576;

/// Few clients that many callers share: each request goes to the client with the fewest outstanding.
///
/// When all have as many outstanding as [`MultiplexerBuilder::outstanding`] says, another client is opened in the
/// background, up to the maximum; nobody waits for it but those who come while there is none at all. A client that has
/// not been needed for the idle limit is closed, when its last request has been answered.
///
/// ```
/// use std::time::Duration;
/// use network_system::{Client, Message, Server, pool::ClientPool};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder()
/// #     .listen("tcp://127.0.0.1:0")
/// #     .on_request(|_, question: Message| async move { Ok(question) })
/// #     .build()?;
/// # server.start().await?;
/// # let url = server.urls().remove(0);
/// let backend = ClientPool::clients(move || Client::builder().endpoint(&url))
///     .maximum(4)
///     .multiplexed()
///     .build()?;
/// let (one, two) = tokio::join!(
///     backend.request("one", Duration::from_secs(5)),
///     backend.request("two", Duration::from_secs(5)),
/// );
/// assert_eq!((one?.payload(), two?.payload()), (&b"one"[..], &b"two"[..]));
/// assert_eq!(backend.stats().clients, 1);
/// backend.close().await;
/// # server.stop().await?;
/// # Ok(())
/// # }
/// ```
///
/// A multiplexer is a handle: cheap to clone, all clones are the same. Dropping the last one closes its clients.
#[derive(Clone)]
pub struct Multiplexer {
    inner: Arc<Inner>,
}

/// A share of a client, which counts as one outstanding request until it is dropped.
pub struct Lease {
    slot: Arc<Slot>,
}

impl Lease {
    /// The client that is shared.
    pub fn client(&self) -> &Client {
        self
    }
}

impl Deref for Lease {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.slot.client()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.slot.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(self.client()).finish()
    }
}

/// A multiplexer at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MultiplexerStats {
    /// Clients that new requests can go to.
    pub clients: usize,
    /// Clients that are being opened.
    pub opening: usize,
    /// Leases that have not ended, requests included.
    pub outstanding: usize,
    /// Callers that wait for the first client.
    pub waiting: usize,
    /// Leases and requests so far.
    pub leased: u64,
    /// The pool that the clients come from.
    pub pool: PoolStats,
}

/// Configures a [`Multiplexer`]. Made by [`PoolBuilder::multiplexed`].
#[must_use = "a builder does nothing before `build`"]
#[derive(Debug)]
pub struct MultiplexerBuilder {
    pool: PoolBuilder<Clients>,
    outstanding: usize,
}

impl PoolBuilder<Clients> {
    /// Makes this the configuration of a multiplexer, whose clients are shared instead of lent.
    ///
    /// The minimum and maximum are those of clients; the idle limit says when a client is closed that the others
    /// do not need; the waiters are those who wait for the first client. The age limit is obeyed when the clients are
    /// looked at, every few seconds. Checks are not: heartbeats show whether a shared client works.
    pub fn multiplexed(self) -> MultiplexerBuilder {
        MultiplexerBuilder {
            pool: self,
            outstanding: OUTSTANDING,
        }
    }
}

impl MultiplexerBuilder {
    /// Sets how many requests each client has outstanding before another one is opened, 1 to 1,048,576. Default 32.
    ///
    /// At the maximum of clients it is no limit: that is [`Limits::pending_requests`](crate::Limits) of each client.
    pub fn outstanding(mut self, requests: usize) -> Self {
        self.outstanding = requests;
        self
    }

    /// Checks the configuration and makes the multiplexer, which opens no client before it is used.
    ///
    /// # Errors
    /// `invalid_configuration`, with the option and what is valid.
    pub fn build(self) -> Result<Multiplexer, ConfigError> {
        within("outstanding", self.outstanding, 1, OUTSTANDING_MAX)?;
        let config = self.pool.config().clone();
        // What is idle or too few is decided here.
        let pool = self.pool.build_lending(&config)?;
        let inner = Inner {
            pool,
            config,
            outstanding: self.outstanding,
            state: Mutex::default(),
            changed: watch::Sender::new(()),
        };
        Ok(Multiplexer {
            inner: Arc::new(inner),
        })
    }
}

impl Multiplexer {
    /// Sends a request on the client with the fewest outstanding and waits for the answer; opens the first client if
    /// there is none. All of it within `timeout`.
    ///
    /// Dropping the future gives up waiting. A request that was in flight when its connection was lost fails with the
    /// reason, as it may have been carried out.
    ///
    /// # Errors
    /// As [`lease`](Self::lease) and [`Client::request`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn request<M: Outgoing>(
        &self,
        message: M,
        timeout: Duration,
    ) -> Result<Message, RequestError> {
        let deadline = after(timeout);
        let lease = self.lease_timeout(timeout).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        lease.request(message, left).await
    }

    /// Sends a request that may be carried out more than once, and waits for its answer; if need be, sends it again,
    /// each time on the client that has the fewest outstanding then. A request that was in flight when its connection
    /// was lost goes to another client. All of it within `timeout`.
    ///
    /// Which failures are tried again, and how often, says the [`RetryPolicy`](crate::resilience::RetryPolicy) of the
    /// first client that is asked, that of [`ClientBuilder::retry`](crate::ClientBuilder::retry). Every client has a
    /// budget of its own, unless all are built with one policy, whose clones share theirs. Dropping the future gives up
    /// waiting, and there is no further attempt.
    ///
    /// ```
    /// use std::time::Duration;
    /// use network_system::{Client, Message, Server, pool::ClientPool, resilience::RetryPolicy};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = Server::builder()
    /// #     .listen("tcp://127.0.0.1:0")
    /// #     .on_request(|_, _| async { Ok(Message::text("21 °C")) })
    /// #     .build()?;
    /// # server.start().await?;
    /// # let url = server.urls().remove(0);
    /// let retry = RetryPolicy::new().attempts(3);
    /// let backend = ClientPool::clients(move || Client::builder().endpoint(&url).retry(retry.clone()))
    ///     .multiplexed()
    ///     .build()?;
    /// let answer = backend
    ///     .request_idempotent("temperature?", Duration::from_secs(10))
    ///     .await?;
    /// assert_eq!(answer.as_text(), Some("21 °C"));
    /// # backend.close().await;
    /// # server.stop().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// That of the last attempt, as [`request`](Self::request). When there is no first client, why.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn request_idempotent<M: Outgoing>(
        &self,
        message: M,
        timeout: Duration,
    ) -> Result<Message, RequestError> {
        let message = message.into_message();
        let deadline = after(timeout);
        let first = self.lease_timeout(timeout).await?;
        let policy = first.client().retry_policy().clone();
        let mut retries = policy.begin(deadline);
        let mut lease = Ok(first);
        loop {
            let result = match lease {
                Ok(lease) => lease.request(message.clone(), retries.within()).await,
                Err(error) => Err(RequestError::from(error)),
            };
            let error = match result {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let attempts = retries.attempts();
            match retries.pause(error.error_code(), None) {
                Some(pause) => sleep(pause).await,
                None => return Err(error.after(attempts)),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            lease = self.lease_timeout(left).await;
        }
    }

    /// Takes a share of the client with the fewest outstanding requests. It is for requests; messages that belong
    /// together have to be sent on one lease.
    ///
    /// # Errors
    /// `connection_timeout` when no client could be opened in the [pool's time](PoolBuilder::acquire_timeout),
    /// `queue_full` when too many wait for the first one, `shutting_down` after [`close`](Self::close), and why the
    /// first client could not be opened.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn lease(&self) -> Result<Lease, PoolError> {
        self.lease_timeout(self.inner.config.acquire_timeout).await
    }

    /// The same with another time.
    ///
    /// # Errors
    /// As [`lease`](Self::lease).
    ///
    /// # Panics
    /// As [`lease`](Self::lease).
    pub async fn lease_timeout(&self, timeout: Duration) -> Result<Lease, PoolError> {
        let inner = &self.inner;
        let failures = lock(&inner.state).failures;
        if let Some(lease) = inner.pick()? {
            return Ok(lease);
        }
        let deadline = after(timeout);
        let mut changed = inner.changed.subscribe();
        let _waiting = Waiting::new(inner)?;
        loop {
            changed.borrow_and_update();
            inner.failed_since(failures)?;
            if let Some(lease) = inner.pick()? {
                return Ok(lease);
            }
            // The sender lives as long as this.
            if timeout_at(deadline, changed.changed()).await.is_err() {
                let text = format!("no client within {timeout:?}");
                return Err(PoolError::new(ErrorCode::ConnectionTimeout, text));
            }
        }
    }

    /// Closes the clients, within 10 s unless the builder says otherwise: see [`close_within`](Self::close_within).
    pub async fn close(&self) -> PoolReport {
        self.close_within(self.inner.config.drain).await
    }

    /// Lets nobody in any more, waits for the requests that are outstanding, and closes the clients. When this
    /// returns, all tasks have ended. Dropping the future does not take it back.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn close_within(&self, deadline: Duration) -> PoolReport {
        let inner = &self.inner;
        let slots = {
            let mut state = lock(&inner.state);
            state.closed = true;
            std::mem::take(&mut state.slots)
        };
        drop(slots);
        inner.changed.send_replace(());
        let report = inner.pool.close_within(deadline).await;
        let mut changed = inner.changed.subscribe();
        while lock(&inner.state).tasks > 0 {
            // The sender lives as long as this.
            let _ = changed.changed().await;
        }
        report
    }

    /// How many there are, and what was counted.
    pub fn stats(&self) -> MultiplexerStats {
        let pool = self.inner.pool.stats();
        let state = lock(&self.inner.state);
        MultiplexerStats {
            clients: state.slots.len(),
            opening: state.growing,
            outstanding: state.slots.iter().map(|slot| slot.outstanding()).sum(),
            waiting: state.waiting,
            leased: state.leased,
            pool,
        }
    }
}

impl fmt::Debug for Multiplexer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.inner.state);
        f.debug_struct("Multiplexer")
            .field("clients", &state.slots.len())
            .field("opening", &state.growing)
            .finish_non_exhaustive()
    }
}
