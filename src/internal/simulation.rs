//! Servers and clients on a simulated network.

use std::sync::Arc;

pub use crate::transport::simulated::{Arrivals, Connected, Network, Socket};

use crate::client::ClientBuilder;
use crate::server::ServerBuilder;
use crate::transport::simulated::Simulated;

/// Lets a server listen on this network instead of the system's. It concerns `tcp`, `tls`, `ws` and `wss` with IP
/// addresses; PROXY headers are not understood there.
pub fn server(builder: ServerBuilder, network: Arc<dyn Network>) -> ServerBuilder {
    builder.simulated(Simulated(network))
}

/// Lets a client connect through this network instead of the system's, and wait between its attempts as the network's
/// seed says.
pub fn client(builder: ClientBuilder, network: Arc<dyn Network>) -> ClientBuilder {
    builder.simulated(Simulated(network))
}
