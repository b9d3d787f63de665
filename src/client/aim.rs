//! Which endpoint a client goes to next, and what it reports of each.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::Inner;
use super::backoff::{Jitter, Random};
use crate::balance::{Endpoints, Lease, Pick, Wish};
use crate::endpoint::{Address, CodecKind, Endpoint, Host, Place};
use crate::error::{CloseReason, ConnectError, ErrorCode, RequestError};
use crate::session::Session;
use crate::session::shared::lock;

/// How often in a row an address has to be missing from its name. Some resolvers give only a part of the addresses at a
/// time.
const MISSING: u32 = 2;

/// Where a client goes, and what it is connected to.
#[derive(Default)]
pub(super) struct Target {
    pub(super) endpoints: Endpoints,
    /// The key for consistent hashing.
    pub(super) key: Vec<u8>,
    /// How often the name of the connection's endpoint is looked up again.
    pub(super) re_resolve: Option<Duration>,
    lease: Mutex<Option<Arc<Lease>>>,
}

impl Target {
    pub(super) fn new(endpoints: Endpoints, key: Vec<u8>, re_resolve: Option<Duration>) -> Self {
        Target {
            endpoints,
            key,
            re_resolve,
            lease: Mutex::default(),
        }
    }

    /// Lets a request count at the endpoint of the current connection.
    pub(super) async fn measure<T>(
        &self,
        request: impl Future<Output = Result<T, RequestError>>,
    ) -> Result<T, RequestError> {
        let exchange = lock(&self.lease).as_ref().map(|lease| lease.request());
        let result = request.await;
        if let Some(exchange) = exchange {
            exchange.settle(&result);
        }
        result
    }

    /// What a function finds for the codec of any endpoint.
    pub(super) fn find_codec<T>(&self, find: impl Fn(CodecKind) -> Option<T>) -> Option<T> {
        let mut found = None;
        self.endpoints.any(|endpoint| {
            found = endpoint.codec().and_then(&find);
            found.is_some()
        });
        found
    }
}

/// The choice of endpoints in one run of a client.
pub(super) struct Aim {
    inner: Arc<Inner>,
    /// The attempt that is under way.
    pick: Option<Pick>,
    /// The endpoint that is used, or was tried last.
    current: Option<(u64, Endpoint)>,
    /// The id from which on endpoints are tried in order.
    start: u64,
    /// The id of the last connection's endpoint.
    home: u64,
    /// What has failed since the last connection, so that others have their turn.
    tried: Vec<u64>,
    /// Whether the session is being closed because its address has changed.
    moving: AtomicBool,
}

impl Aim {
    pub(super) fn new(inner: &Arc<Inner>) -> Self {
        Aim {
            inner: Arc::clone(inner),
            pick: None,
            current: None,
            start: 0,
            home: 0,
            tried: Vec::new(),
            moving: AtomicBool::new(false),
        }
    }

    fn with_wish<T>(&self, last_resort: bool, ask: impl FnOnce(&Endpoints, Wish<'_>) -> T) -> T {
        let target = &self.inner.target;
        let wish = Wish {
            key: Some(&target.key),
            start: self.start,
            tried: &self.tried,
            fits: &|endpoint| self.inner.fits(endpoint),
            last_resort,
        };
        ask(&target.endpoints, wish)
    }

    /// Chooses an endpoint for the first connection, each one once, and gives its share of the time.
    pub(super) async fn next_of_all(
        &mut self,
        deadline: Instant,
    ) -> Result<Duration, ConnectError> {
        let left = || deadline.saturating_duration_since(Instant::now());
        self.pick = None;
        self.budget(left()).await?;
        let untried = self.with_wish(true, Endpoints::untried);
        let pick = self.with_wish(true, Endpoints::pick_for);
        self.take(pick)?;
        Ok(left() / u32::try_from(untried.max(1)).unwrap_or(u32::MAX))
    }

    /// Chooses an endpoint for the next attempt, and gives the time that is left for it.
    pub(super) async fn next(&mut self, within: Duration) -> Result<Duration, ConnectError> {
        let begun = Instant::now();
        self.pick = None;
        self.budget(within).await?;
        let mut pick = self.with_wish(false, Endpoints::pick_for);
        if pick.is_none() {
            // All have had their turn. It begins anew.
            self.tried.clear();
            pick = self.with_wish(false, Endpoints::pick_for);
        }
        let pick = pick.or_else(|| self.with_wish(true, Endpoints::pick_for));
        self.take(pick)?;
        Ok(within.saturating_sub(begun.elapsed()))
    }

    /// Chooses this endpoint again, whatever is thought of it, if it is still among them; otherwise the next one.
    pub(super) async fn next_at(
        &mut self,
        home: Option<&Endpoint>,
        within: Duration,
    ) -> Result<Duration, ConnectError> {
        let begun = Instant::now();
        self.pick = None;
        self.budget(within).await?;
        let target = &self.inner.target;
        let at_home = home.and_then(|home| {
            target.endpoints.pick_for(Wish {
                key: Some(&target.key),
                start: self.start,
                tried: &[],
                fits: &|endpoint| endpoint == home,
                last_resort: true,
            })
        });
        let pick = at_home.or_else(|| self.with_wish(true, Endpoints::pick_for));
        self.take(pick)?;
        Ok(within.saturating_sub(begun.elapsed()))
    }

    /// Waits for the budget, half of the time at most: an attempt needs some too, and an endpoint must not look as if it
    /// had not answered.
    async fn budget(&self, within: Duration) -> Result<(), ConnectError> {
        let budget = self.inner.target.endpoints.attempt_budget();
        budget.acquire(within / 2).await
    }

    /// The endpoint that is used, or was tried last.
    pub(super) fn current(&self) -> Option<Endpoint> {
        self.current.as_ref().map(|(_, endpoint)| endpoint.clone())
    }

    fn take(&mut self, pick: Option<Pick>) -> Result<(), ConnectError> {
        let Some(pick) = pick else {
            self.current = None;
            let text = "there is no endpoint that this client can use";
            return Err(ConnectError::new(ErrorCode::ConnectionFailed, text));
        };
        self.current = Some((pick.id(), pick.endpoint().clone()));
        self.pick = Some(pick);
        Ok(())
    }

    /// The endpoint that is used or tried.
    pub(super) fn endpoint(&self) -> Result<&Endpoint, ConnectError> {
        let endpoint = self.current.as_ref().map(|(_, endpoint)| endpoint);
        endpoint
            .ok_or_else(|| ConnectError::new(ErrorCode::ConnectionFailed, "there is no endpoint"))
    }

    /// The same for logs.
    pub(super) fn place(&self) -> Shown<'_> {
        Shown(self.current.as_ref().map(|(_, endpoint)| endpoint))
    }

    /// How the attempt went.
    pub(super) fn settle(&mut self, result: &Result<Session, ConnectError>) {
        self.moving.store(false, Ordering::Relaxed);
        let Some(pick) = self.pick.take() else {
            return;
        };
        match result {
            Ok(_) => {
                self.tried.clear();
                self.start = pick.id();
                self.home = pick.id();
                *lock(&self.inner.target.lease) = Some(Arc::new(pick.connected()));
            }
            Err(error) => {
                pick.failed(error.code());
                self.turn_away();
            }
        }
    }

    /// The current endpoint has failed, or might as well have: others have their turn first.
    pub(super) fn turn_away(&mut self) {
        if let Some((id, _)) = self.current {
            self.tried.push(id);
            self.start = id + 1;
        }
    }

    /// Whether [`next_of_all`](Self::next_of_all) has any left.
    pub(super) fn has_untried(&self) -> bool {
        self.with_wish(true, Endpoints::untried) > 0
    }

    /// Whether there is another endpoint to go to than the current one.
    pub(super) fn has_other(&self) -> bool {
        let tried: &[u64] = &self.current.as_ref().map_or([u64::MAX], |(id, _)| [*id]);
        self.with_wish(false, |endpoints, wish| {
            endpoints.has_available(Wish { tried, ..wish })
        })
    }

    /// The session has ended.
    pub(super) fn ended(&mut self, reason: &CloseReason) {
        // Whatever was tried to resume it, the next one begins where it was.
        self.tried.clear();
        self.start = self.home;
        let Some(lease) = lock(&self.inner.target.lease).take() else {
            return;
        };
        match self.inner.hub.goaway() {
            // It has said that it would stop.
            Some(retry) => lease.rest(Duration::from_millis(retry)),
            None => lease.report_end(reason),
        }
    }

    /// The client ends: nothing is used or tried any more.
    pub(super) fn release(&mut self) {
        self.pick = None;
        lock(&self.inner.target.lease).take();
    }

    /// Whether the session was closed because its address has changed.
    pub(super) fn is_moving(&self) -> bool {
        self.moving.load(Ordering::Relaxed)
    }

    /// Closes the session when its address is no longer among those of its name, if that is wanted.
    pub(super) async fn watch_name(&self, session: &Session) {
        let inner = &self.inner;
        let (Some(every), Some((name, port)), Some(remote)) =
            (inner.target.re_resolve, self.name(), session.remote_addr())
        else {
            return;
        };
        let mut jitter = Jitter::from_system();
        let mut missing = 0;
        while missing < MISSING {
            // Spread, so that a change does not move all clients at once.
            let part = jitter.next_u64() as f64 / u64::MAX as f64;
            sleep(every.mul_f64(0.5 + part)).await;
            let lookup = inner.resolver.resolve(name, port);
            match timeout(inner.hub.timeouts.connect, lookup).await {
                Ok(Ok(found)) if found.iter().any(|address| is_same(*address, remote)) => {
                    missing = 0
                }
                Ok(Ok(found)) if !found.is_empty() => missing += 1,
                // A resolver that fails is no reason to give up what works.
                _ => {}
            }
        }
        self.moving.store(true, Ordering::Relaxed);
        session.disconnect(CloseReason::new(
            "the name of the server has other addresses now",
        ));
    }

    /// The name whose addresses the current connection goes to, unless a proxy looks it up.
    fn name(&self) -> Option<(&str, u16)> {
        let (_, endpoint) = self.current.as_ref()?;
        let (host, port) = match endpoint.address() {
            Address::Tcp { host, port }
            | Address::Tls { host, port }
            | Address::Udp { host, port }
            | Address::WebSocket { host, port, .. } => (host, *port),
            _ => return None,
        };
        let proxy = self.inner.options.proxy.as_ref();
        match host {
            Host::Name(name) if !proxy.is_some_and(|proxy| proxy.applies_to(host)) => {
                Some((name, port))
            }
            _ => None,
        }
    }
}

/// Whether two addresses are the same, an IPv4 address inside IPv6 included.
fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    one.ip().to_canonical() == other.ip().to_canonical() && one.port() == other.port()
}

/// An endpoint as logs show it, if there is one.
pub(super) struct Shown<'a>(Option<&'a Endpoint>);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(endpoint) => Place(endpoint).fmt(f),
            None => f.write_str("none"),
        }
    }
}
