//! The classic pool of clients.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::bridge::Member;
use super::client::messaging_client;
use super::config::client_config;
use super::result::{Result, VoidResult, error};
use super::runtime;
use crate::error::{ErrorCode, PoolError};
use crate::handler::BoxFuture;
use crate::pool::{Manage, Pool, PoolStats, Pooled};
use crate::session::shared::lock;

/// A pool of clients that are connected to one server, each lent to one caller at a time.
///
/// ```
/// use network_system::compat::{client_pool, messaging_server};
///
/// let server = messaging_server::new("server");
/// server.start_server(("127.0.0.1", 0))?;
///
/// let pool = client_pool::new(2, "127.0.0.1", server.port())?;
/// let client = pool.acquire().expect("two are connected");
/// client.send_message("hello")?;
/// pool.release(client)?;
/// # Ok::<(), network_system::compat::error>(())
/// ```
///
/// A client that has lost its connection is closed, and another one is connected. One that was acquired and dropped
/// without [`release`](Self::release) is found by the next `acquire`, and back in the pool. Handlers that are set on a client
/// stay with it.
///
/// Dropping the pool stops its clients, but not those that are lent: these belong to those who have them.
pub struct client_pool {
    pool: Pool<Makers>,
    /// At most as many as the pool has.
    lent: Mutex<Vec<Pooled<Makers>>>,
    /// Whether a client that is released is kept.
    keeps: bool,
    size: usize,
}

impl client_pool {
    /// Connects `pool_size` clients, named `pooled_client_0` and so on. What cannot be connected is left out, and
    /// tried again.
    ///
    /// # Errors
    /// `invalid_configuration` for a pool without clients, or of more than 65,536.
    pub fn new(pool_size: usize, host: impl Into<String>, port: u16) -> Result<Self> {
        Self::with_config(pool_size, host, port, client_config::default())
    }

    /// The same with a configuration. Its `auto_reconnect` has no meaning: the pool replaces what has lost its
    /// connection.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_config(
        pool_size: usize,
        host: impl Into<String>,
        port: u16,
        config: client_config,
    ) -> Result<Self> {
        let makers = Makers::new("pooled_client".to_owned(), (host.into(), port), config);
        let pool = Self::of(makers, pool_size, pool_size, true)?;
        let warming = pool.pool.clone();
        // What could not be connected has been logged, and is tried again.
        let _some_are_missing = runtime::wait(async move { warming.warm_up().await })?;
        Ok(pool)
    }

    /// A pool that a bridge makes.
    pub(super) fn of_bridge(
        id: String,
        place: (String, u16),
        config: client_config,
        member: Arc<Member>,
        size: usize,
        keeps: bool,
    ) -> Result<Self> {
        let mut makers = Makers::new(id, place, config);
        makers.member = Some(member);
        Self::of(makers, 0, size, keeps)
    }

    fn of(makers: Makers, minimum: usize, size: usize, keeps: bool) -> Result<Self> {
        let pool = Pool::builder(makers)
            .minimum(minimum)
            .maximum(size)
            .waiters(size.max(1_024))
            .build()?;
        Ok(client_pool {
            pool,
            lent: Mutex::default(),
            keeps,
            size,
        })
    }

    /// Takes a client; `None` when all are lent, or when none is left and none can be connected.
    ///
    /// It waits only while a client is being connected. A callback that runs inline cannot wait.
    pub fn acquire(&self) -> Option<Arc<messaging_client>> {
        self.find_lost();
        let guard = match self.pool.try_acquire() {
            Ok(guard) => guard,
            Err(_) => {
                let stats = self.pool.stats();
                if stats.size + stats.waiting >= self.size {
                    return None;
                }
                let pool = self.pool.clone();
                runtime::wait(async move { pool.acquire().await })
                    .ok()?
                    .ok()?
            }
        };
        Some(self.lend(guard))
    }

    /// Takes a client, and waits for one while all are lent.
    ///
    /// # Errors
    /// `connection_timeout` when there was none in time, and why none could be connected when none is lent.
    pub fn acquire_within(&self, timeout: Duration) -> Result<Arc<messaging_client>> {
        self.find_lost();
        let guard = match self.pool.try_acquire() {
            Ok(guard) => guard,
            Err(_) => {
                let pool = self.pool.clone();
                runtime::wait(async move { pool.acquire_timeout(timeout).await })??
            }
        };
        Ok(self.lend(guard))
    }

    /// Gives a client back. The index of the classic function is not needed.
    ///
    /// # Errors
    /// `session_not_found` when the client is not one that the pool has lent.
    pub fn release(&self, client: Arc<messaging_client>) -> VoidResult {
        let guard = {
            let mut lent = lock(&self.lent);
            let at = lent.iter().position(|guard| guard.is(&client));
            at.map(|at| lent.swap_remove(at))
        };
        // Before it is given back, so that nobody holds it who should not.
        drop(client);
        match guard {
            Some(guard) if self.keeps => drop(guard),
            Some(guard) => guard.discard(),
            None => {
                let text = "the client is not one that the pool has lent";
                return Err(error::new(ErrorCode::SessionNotFound, text));
            }
        }
        Ok(())
    }

    /// How many clients the pool has at most.
    pub fn size(&self) -> usize {
        self.size
    }

    /// How many clients wait to be acquired.
    pub fn available(&self) -> usize {
        self.pool.stats().idle
    }

    /// What the native pool counts.
    pub fn stats(&self) -> PoolStats {
        self.pool.stats()
    }

    fn lend(&self, guard: Pooled<Makers>) -> Arc<messaging_client> {
        let client = guard.client();
        lock(&self.lent).push(guard);
        client
    }

    /// Takes back what was dropped without being released.
    fn find_lost(&self) {
        let mut lost = Vec::new();
        {
            let mut lent = lock(&self.lent);
            let mut at = 0;
            while at < lent.len() {
                match lent[at].is_lost() {
                    true => lost.push(lent.swap_remove(at)),
                    false => at += 1,
                }
            }
        }
        for guard in lost {
            match self.keeps {
                true => drop(guard),
                false => guard.discard(),
            }
        }
    }
}

impl Drop for client_pool {
    fn drop(&mut self) {
        for guard in std::mem::take(&mut *lock(&self.lent)) {
            match guard.is_lost() {
                true => drop(guard),
                false => drop(guard.detach()),
            }
        }
        let pool = self.pool.clone();
        // In a callback that runs inline the pool closes beside it: that was its last handle.
        let _ = runtime::wait(async move { pool.close().await });
    }
}

impl fmt::Debug for client_pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("client_pool")
            .field("size", &self.size)
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

/// Connects clients to one server.
struct Makers {
    id: String,
    host: String,
    port: u16,
    config: client_config,
    member: Option<Arc<Member>>,
    made: AtomicU64,
}

impl Makers {
    fn new(id: String, (host, port): (String, u16), mut config: client_config) -> Self {
        config.auto_reconnect = false;
        Makers {
            id,
            host,
            port,
            config,
            member: None,
            made: AtomicU64::new(0),
        }
    }

    fn client(&self) -> Arc<messaging_client> {
        let id = format!("{}_{}", self.id, self.made.fetch_add(1, Ordering::Relaxed));
        let config = self.config.clone();
        let Some(member) = &self.member else {
            return Arc::new(messaging_client::with_config(id, config));
        };
        let client = messaging_client::of_bridge(id, config, Arc::clone(member));
        let client = Arc::new(client);
        member.adopt(&client);
        client
    }
}

impl Manage for Makers {
    type Item = Kept;

    async fn create(&self) -> std::result::Result<Kept, PoolError> {
        let kept = Kept(Some(self.client()));
        if let Some(client) = &kept.0 {
            let started = client.start_beside(&self.host, self.port).await;
            started.map_err(|error| {
                let code = error.error_code().unwrap_or(ErrorCode::ConnectionFailed);
                PoolError::with_code(code, error.message)
            })?;
        }
        Ok(kept)
    }

    fn is_broken(&self, kept: &Kept) -> bool {
        !kept.0.as_ref().is_some_and(|client| client.is_connected())
    }

    fn watch(&self, kept: &Kept) -> Option<BoxFuture<'static, ()>> {
        let session = kept.0.as_ref()?.session()?;
        Some(Box::pin(async move {
            session.closed().await;
        }))
    }

    async fn close(&self, mut kept: Kept) {
        let Some(client) = kept.0.take() else { return };
        if let Some(stopped) = client.stop_beside() {
            // That a stop panicked is no reason to keep the client.
            let _ = stopped.await;
        }
        drop(Kept(Some(client)));
    }
}

/// A client, which blocks the thread that drops it: that must not be one that moves bytes.
struct Kept(Option<Arc<messaging_client>>);

impl Drop for Kept {
    fn drop(&mut self) {
        let Some(client) = self.0.take() else { return };
        if let Ok(runtime) = runtime::runtime() {
            runtime.spawn_blocking(move || drop(client));
        }
    }
}

impl Pooled<Makers> {
    #[allow(clippy::expect_used, reason = "it is taken only when it is closed")]
    fn client(&self) -> Arc<messaging_client> {
        Arc::clone(self.0.as_ref().expect("the client has not been closed"))
    }

    fn is(&self, client: &Arc<messaging_client>) -> bool {
        self.0
            .as_ref()
            .is_some_and(|mine| Arc::ptr_eq(mine, client))
    }

    /// Whether nobody has the client who could release it.
    fn is_lost(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|mine| Arc::strong_count(mine) == 1)
    }
}
