//! Several endpoints of one service: which one a connection goes to, and which ones are left alone.
//!
//! - [`Endpoints`] is the set. Every client has one; several clients can share one, and then what one of them finds out,
//!   all know.
//! - [`Strategy`] says which endpoint is chosen: in order (the default), one after the other, the least loaded, the better
//!   of two, or the one to which a key belongs.
//! - [`Ejection`] says when an endpoint that fails is left alone, and how it comes back.
//! - [`AttemptBudget`] bounds the attempts to connect of all who share it.
//!
//! ```
//! use network_system::balance::{AttemptBudget, Ejection, Endpoints, Strategy};
//! use network_system::{Client, Message, Server};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let mut servers = Vec::new();
//! # for name in ["balance-doc-one", "balance-doc-two"] {
//! #     let server = Server::builder()
//! #         .listen(format!("mem://{name}"))
//! #         .on_request(|_, request: Message| async move { Ok(request) })
//! #         .build()?;
//! #     server.start().await?;
//! #     servers.push(server);
//! # }
//! let endpoints = Endpoints::builder()
//!     .endpoint("mem://balance-doc-one")
//!     .endpoint("mem://balance-doc-two")
//!     .strategy(Strategy::LeastLoaded)
//!     .ejection(Ejection::default().consecutive_failures(Some(3)))
//!     .attempt_budget(AttemptBudget::new(200, 50)?)
//!     .build()?;
//! let mut clients = Vec::new();
//! for _ in 0..4 {
//!     let client = Client::builder().endpoints(endpoints.clone()).build()?;
//!     client.connect().await?;
//!     clients.push(client);
//! }
//! for endpoint in endpoints.stats() {
//!     assert_eq!(endpoint.connections, 2);
//! }
//! # for client in clients { client.stop().await; }
//! # for server in servers { server.stop().await?; }
//! # Ok(())
//! # }
//! ```
//!
//! A client that has a connection keeps it: strategies are asked when one is made. The names of endpoints are resolved
//! anew for each attempt, and all addresses of a name are tried; see [`Resolver`](crate::Resolver).

mod budget;
mod ejection;
mod endpoints;
mod entry;
mod guards;
mod latency;
mod rendezvous;
mod strategy;
#[cfg(test)]
mod tests;

pub use budget::AttemptBudget;
pub use ejection::{Ejection, EndpointState};
pub(crate) use endpoints::Wish;
pub use endpoints::{EndpointStats, Endpoints, EndpointsBuilder};
pub use guards::{Exchange, Lease, Pick};
pub use strategy::Strategy;
