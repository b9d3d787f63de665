//! The client against real servers and against hand-written ones.

mod connecting;
mod lifecycle;
mod messages;
mod pool;
mod reconnecting;
mod support;
mod transports;
