//! Messaging servers and clients with one session model over every transport.

pub mod error;
mod config;
mod message;

mod endpoint;
mod transport;
mod codec;
mod session;
mod worker;
mod handler;
mod group;
mod hub;
mod server;
mod client;

pub use client::{
    Client, ClientBuilder, ClientState, ClientStats, ClientStopReport, MessageStream,
    ReconnectPolicy, Resolver, SystemResolver,
};
pub use config::{Limits, QueuePolicy, SocketOptions, Timeouts};
pub use endpoint::{Address, CodecKind, Endpoint, Host};
pub use error::{
    CloseReason, ClosedBy, ConfigError, ConnectError, ErrorCode, RequestError, SendError,
    ServerError,
};
pub use group::{GroupError, GroupName, GroupNameError};
pub use handler::{Authenticator, BoxFuture, Credentials, GroupGuard, Handler};
pub use message::{Message, MessageKind, MessageRef, Outgoing};
pub use server::{BroadcastReport, Server, ServerBuilder, ServerStats, StopReport};
pub use session::{Sending, Session, SessionId, SessionStats, State, Transport};
