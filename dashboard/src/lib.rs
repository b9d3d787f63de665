//! A web page, an HTTP API and Prometheus metrics for servers of network-system.
//!
//! ```
//! use network_system::Server;
//! use network_system::metrics::PerformanceMonitor;
//! use network_system_dashboard::Dashboard;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let monitor = PerformanceMonitor::new();
//! let server = Server::builder()
//!     .listen("tcp://127.0.0.1:0")
//!     .monitor(&monitor)
//!     .build()?;
//! server.start().await?;
//!
//! let dashboard = Dashboard::builder(&server, &monitor).build()?;
//! let page = dashboard.bind("127.0.0.1:0".parse()?).await?;
//! println!("dashboard {}", page.url());
//!
//! page.shutdown().await;
//! server.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Dashboard::bind`] serves it by a listener of its own; [`Dashboard::router`] is for an application that has an
//! HTTP server on axum already. `docs/dashboard-api.md` is the reference of the API, and says who may do what.
//!
//! ```text
//! socket ──▶ serve ──▶ connection ──▶ access ──▶ site ──▶ api, assets
//!            64 at     deadlines of   Host,       routes   reads the server and the monitor
//!            a time    heads, bodies  Origin,
//!                      and readers    token
//! ```
//!
//! No request can make the messaging side wait: the dashboard asks by the same handles as any application, never
//! waits for room in a queue, and computes long lists on threads for blocking work, two at a time.

mod access;
mod answer;
mod api;
mod assets;
mod connection;
mod dashboard;
mod error;
mod history;
mod query;
mod serve;
mod site;

pub use dashboard::{Dashboard, DashboardBuilder};
pub use error::DashboardError;
pub use serve::DashboardServer;

/// The examples in these texts are compiled as tests.
#[cfg(doctest)]
mod texts {
    #[doc = include_str!("../../docs/dashboard.md")]
    struct Guide;
}
