//! Messaging servers and clients with one session model over every transport.

pub mod error;
mod message;

pub use error::{
    CloseReason, ClosedBy, ConfigError, ConnectError, ErrorCode, RequestError, SendError,
    ServerError,
};
pub use message::{Message, MessageKind, MessageRef, Outgoing};
