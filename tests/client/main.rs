//! The client against real servers and against hand-written ones.

mod balance;
mod connecting;
mod lifecycle;
mod messages;
mod pool;
mod reconnecting;
mod resilience;
mod support;
mod transports;
