//! What breaks on real sockets: connections that are cut, stalled and split, servers that are killed and started
//! again, descriptors that run out.
//!
//! `tests/simulation` tries far more, under a network of its own. Here it is seen that the system's behaves so.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, and the process of a server talks to the test that started it"
)]
#![allow(missing_docs, reason = "a test's name is its documentation")]
#![allow(unreachable_pub, reason = "nothing is public in a test binary")]

mod cuts;
mod processes;
mod proxy;
mod server;
