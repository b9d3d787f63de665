//! The client.

pub(crate) mod backoff;
mod resolve;

pub use backoff::ReconnectPolicy;
pub use resolve::{Resolver, SystemResolver};
