//! What the program promises, tried on the built program over real sockets.
//!
//! Nothing sleeps to wait: tests read lines and frames, which come or run into a deadline.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

#[cfg(target_os = "linux")]
mod activation;
mod bench;
mod bench_compare;
mod bench_result;
mod cert;
mod connect;
mod container;
#[cfg(unix)]
mod dashboard;
mod documents;
mod limits;
mod peer;
mod pipeline;
mod program;
mod report;
mod serve;
#[cfg(unix)]
mod stop;
mod tls;
#[cfg(unix)]
mod top;
mod udp;
mod usage;
mod usage_clients;
mod websocket;
