//! Messaging servers and clients with one session model over every transport.

// Where the architecture is checked, see `clippy.toml`.
#![warn(clippy::disallowed_types, clippy::disallowed_methods)]

pub mod balance;
mod buffer;
mod config;
pub mod container;
pub mod error;
pub mod executor;
mod message;
pub mod metrics;
pub mod pipeline;
pub mod resilience;

mod client;
mod codec;
mod endpoint;
mod events;
mod group;
mod handler;
mod hub;
mod limits;
pub mod pool;
mod server;
mod session;
mod transport;
mod worker;

pub mod compat;
#[doc(hidden)]
pub mod internal;
pub mod logging;
pub mod tls;
pub mod websocket;

pub use balance::{AttemptBudget, Ejection, Endpoints, Strategy};
pub use buffer::SegmentedBuffer;
pub use client::{
    Client, ClientBuilder, ClientState, ClientStats, ClientStopReport, MessageStream,
    ReconnectPolicy, Resolver, SystemResolver,
};
pub use config::{
    Limits, MulticastGroup, MulticastInterface, QueuePolicy, Reliability, SocketOptions, Timeouts,
    UdpOptions, WorkerThreads,
};
pub use endpoint::{Address, CodecKind, Endpoint, Host};
pub use error::{
    CloseReason, ClosedBy, ConfigError, ConnectError, ErrorCode, PoolError, RequestError,
    SendError, ServerError,
};
pub use executor::Executor;
pub use group::{GroupError, GroupName, GroupNameError, GroupStats};
pub use handler::{
    Authentication, Authenticator, BoxFuture, Credentials, GroupGuard, Handler, Purpose, Router,
};
pub use limits::{MemoryBudget, Rate, RatePolicy};
pub use message::{Message, MessageKind, Outgoing};
pub use pool::{ClientPool, Multiplexer, Pool};
pub use server::{
    BroadcastReport, ListenerStats, Server, ServerBuilder, ServerStats, StopReport, UdpStats,
};
pub use session::{Sending, Session, SessionId, SessionStats, State, Transport};
pub use transport::BoundSocket;
#[cfg(unix)]
pub use transport::activation;
pub use transport::network::Network;
pub use transport::proxy::Proxy;
pub use transport::proxy_protocol::ProxyProtocol;

/// The examples in these texts are compiled and run as tests.
#[cfg(doctest)]
mod texts {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/guide.md")]
    struct Guide;
    #[doc = include_str!("../docs/authentication.md")]
    struct Authentication;
    #[doc = include_str!("../docs/clients.md")]
    struct Clients;
    #[doc = include_str!("../docs/guarantees.md")]
    struct Guarantees;
    #[doc = include_str!("../docs/reconnection.md")]
    struct Reconnection;
    #[doc = include_str!("../docs/back-pressure.md")]
    struct BackPressure;
    #[doc = include_str!("../docs/containers.md")]
    struct Containers;
    #[doc = include_str!("../docs/metrics.md")]
    struct Metrics;
    #[doc = include_str!("../docs/pools.md")]
    struct Pools;
}
