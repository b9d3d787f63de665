//! The promises of the library, checked from outside, over every transport.
//!
//! `suite` and its neighbours are written once; [`support::over`] instantiates each test for every
//! transport that has the capability which the test names. `TRANSPORTS.md` is the resulting table.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails, and says where"
)]
#![allow(missing_docs, reason = "a test's name is its documentation")]
#![allow(unreachable_pub, reason = "nothing is public in a test binary")]

#[macro_use]
mod support;

mod backpressure;
mod codecs;
mod dual_stack;
mod facts;
mod handlers;
mod hostile;
mod identity;
mod lifecycle;
mod limits;
mod logging;
mod memory;
mod memory_budget;
mod metrics;
mod opening;
mod pipeline;
mod prometheus;
mod proxies;
mod rates;
mod reliable;
mod requests;
mod routes;
mod shutdown;
mod suite;
mod table;
mod timers;
mod turmoil;
mod turns;
mod udp;
mod websocket_hostile;
mod websocket_session;
mod websocket_upgrade;
