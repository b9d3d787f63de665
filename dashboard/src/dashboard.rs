//! What applications make.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use network_system::Server;
use network_system::metrics::PerformanceMonitor;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use crate::access::{Access, Name, Place, Token, is_loopback};
use crate::assets::Assets;
use crate::error::DashboardError;
use crate::history::{self, History};
use crate::serve::{self, DashboardServer, Deadlines};
use crate::site;

/// How many long lists are computed at a time. Two, so that one of 10,000 sessions does not keep a small one waiting,
/// and those who ask for many do not take the processor from the messaging side.
const LISTS_AT_A_TIME: usize = 2;

/// Shows what a server does: a page, an API and Prometheus metrics over HTTP.
///
/// A handle: cheap to clone, all clones are the same dashboard. While one of them, a router or a
/// [`DashboardServer`] exists, it takes a sample of the monitor once a second and keeps those of 15 minutes. Dropping all ends that.
/// It does not keep the server running, and works while the server is stopped.
#[derive(Clone)]
pub struct Dashboard {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) server: Server,
    pub(crate) monitor: PerformanceMonitor,
    pub(crate) history: Mutex<History>,
    pub(crate) assets: Assets,
    pub(crate) lists: Arc<Semaphore>,
    token: Option<Token>,
    names: Vec<Name>,
    pub(crate) deadlines: Deadlines,
    sampler: OnceLock<AbortHandle>,
}

/// Configures a [`Dashboard`].
#[must_use = "a builder does nothing until `build`"]
pub struct DashboardBuilder {
    server: Server,
    monitor: PerformanceMonitor,
    token: Option<String>,
    names: Vec<String>,
    deadlines: Deadlines,
}

impl Dashboard {
    /// Begins the configuration of a dashboard for a server and the monitor that is attached to it
    /// ([`ServerBuilder::monitor`](network_system::ServerBuilder::monitor)).
    ///
    /// Sessions, groups and listeners are the server's; numbers and plots are of everything that the monitor watches.
    pub fn builder(server: &Server, monitor: &PerformanceMonitor) -> DashboardBuilder {
        DashboardBuilder {
            server: server.clone(),
            monitor: monitor.clone(),
            token: None,
            names: Vec::new(),
            deadlines: Deadlines::default(),
        }
    }

    /// The dashboard as a part of an application's own HTTP server on axum.
    ///
    /// `Host`, `Origin` and `Sec-Fetch-Site` are checked as on a listener of its own, but for what is not known here: any IP
    /// address and `localhost` are right as host, other names have to be
    /// [configured](DashboardBuilder::allowed_host), and pages may come by `https`. With a token, reading needs it too; without one,
    /// everybody who reaches the application can read, and nobody can change anything. Limits of heads, time and
    /// connections are the application's.
    ///
    /// The page asks by relative URLs, so that it can be nested below any path. `nest_service` takes the path with and
    /// without a slash at its end, `nest` only as it is given.
    ///
    /// ```
    /// # use network_system::{Server, metrics::PerformanceMonitor};
    /// # use network_system_dashboard::Dashboard;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let monitor = PerformanceMonitor::new();
    /// # let server = Server::builder().listen("tcp://127.0.0.1:0").monitor(&monitor).build()?;
    /// let dashboard = Dashboard::builder(&server, &monitor).build()?;
    /// let application: axum::Router = axum::Router::new().nest_service("/dashboard", dashboard.router());
    /// # drop(application);
    /// # Ok(())
    /// # }
    /// ```
    pub fn router(&self) -> axum::Router {
        self.router_at(Place::Mounted)
    }

    fn router_at(&self, place: Place) -> axum::Router {
        let access = Access {
            place,
            token: self.inner.token.clone(),
            names: self.inner.names.clone(),
        };
        site::router(Arc::clone(&self.inner), access)
    }

    /// Serves the dashboard on an address; port 0 takes a free one. Begins at once, on the current tokio runtime.
    ///
    /// At most 64 connections are open at a time; one more is answered 503 and closed. On an address that other
    /// machines can reach, everything but the empty page, `/healthz` and `/readyz` needs the token. There is no TLS: put a proxy in front
    /// of it, and [allow](DashboardBuilder::allowed_host) its name.
    ///
    /// # Errors
    /// `bind_failed`, and `invalid_configuration` when the address is not a loopback one and there is no token.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn bind(&self, addr: SocketAddr) -> Result<DashboardServer, DashboardError> {
        if !is_loopback(addr.ip()) && self.inner.token.is_none() {
            return Err(DashboardError::configuration(format!(
                "a dashboard on {addr} can be reached by others and needs an admin token; on a loopback address \
                 it needs none"
            )));
        }
        serve::bind(addr, self.inner.deadlines, |bound| {
            self.router_at(Place::Bound(bound))
        })
        .await
    }
}

impl DashboardBuilder {
    /// Allows whoever has this token to disconnect sessions and to send messages to them. Default: nobody may.
    ///
    /// 16 to 1,024 visible ASCII characters; take 32 random ones. It travels as `Authorization: Bearer TOKEN`.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Lets clients ask by another name, `name` or `name:port`: one in DNS, or that of a proxy. Without a port, any port
    /// is right. The bound address, and on a loopback address `localhost`, are allowed without this.
    pub fn allowed_host(mut self, name: impl Into<String>) -> Self {
        self.names.push(name.into());
        self
    }

    /// Other deadlines, for tests.
    #[doc(hidden)]
    pub fn deadlines_divided_by(mut self, divisor: u32) -> Self {
        self.deadlines = self.deadlines.divided_by(divisor);
        self
    }

    /// Makes the dashboard and begins to take samples, on the current tokio runtime.
    ///
    /// # Errors
    /// `invalid_configuration`: the token is too short, too long or has other characters, a name is not one, or
    /// there is no tokio runtime.
    pub fn build(self) -> Result<Dashboard, DashboardError> {
        let runtime = Handle::try_current()
            .map_err(|_| DashboardError::configuration("a dashboard needs a tokio runtime"))?;
        let names = self.names.iter().map(|text| {
            Name::parse(text).ok_or_else(|| {
                DashboardError::configuration(format!(
                    "{text:?} is not the name of a host, with or without a port"
                ))
            })
        });
        let inner = Arc::new(Inner {
            history: Mutex::new(History::new(&self.monitor)),
            assets: Assets::new(),
            lists: Arc::new(Semaphore::new(LISTS_AT_A_TIME)),
            token: self.token.as_deref().map(Token::new).transpose()?,
            names: names.collect::<Result<_, _>>()?,
            server: self.server,
            monitor: self.monitor,
            deadlines: self.deadlines,
            sampler: OnceLock::new(),
        });
        let sampler = runtime.spawn(history::sample(Arc::downgrade(&inner)));
        // It is set nowhere else.
        let _ = inner.sampler.set(sampler.abort_handle());
        Ok(Dashboard { inner })
    }
}

impl Inner {
    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        // What a panic left behind is a ring of samples all the same.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(sampler) = self.sampler.get() {
            sampler.abort();
        }
    }
}

impl fmt::Debug for Dashboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dashboard")
            .field("server", &self.inner.server)
            .field("has_token", &self.inner.token.is_some())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DashboardBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DashboardBuilder")
            .field("server", &self.server)
            .field("has_token", &self.token.is_some())
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}
