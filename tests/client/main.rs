//! The client against real servers and against hand-written ones, over TCP on the loopback.

mod connecting;
mod lifecycle;
mod messages;
mod reconnecting;
mod support;
