//! Messaging servers and clients with one session model over every transport.

mod endpoint;
pub mod error;
mod message;

// Nothing in the crate uses these parts yet; each exception goes with the first use.
#[allow(dead_code)]
mod codec {
    pub(crate) mod control;
}
#[allow(dead_code)]
mod transport {
    pub(crate) mod happy_eyeballs;
}
mod group;
#[allow(dead_code)]
mod client {
    pub(crate) mod backoff;
    mod resolve;

    pub use backoff::ReconnectPolicy;
    pub use resolve::{BoxFuture, Resolver, SystemResolver};
}

pub use client::{BoxFuture, ReconnectPolicy, Resolver, SystemResolver};
pub use endpoint::{Address, CodecKind, Endpoint, Host};
pub use error::{
    CloseReason, ClosedBy, ConfigError, ConnectError, ErrorCode, RequestError, SendError,
    ServerError,
};
pub use group::{GroupName, GroupNameError};
pub use message::{Message, MessageKind, MessageRef, Outgoing};
