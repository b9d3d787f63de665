//! The promises of the dashboard, checked over sockets.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails, and says where"
)]
#![allow(missing_docs, reason = "a test's name is its documentation")]
#![allow(unreachable_pub, reason = "nothing is public in a test binary")]

mod support;

mod abuse;
mod access;
mod actions;
mod life;
mod lists;
mod mounted;
mod reference;
mod routes;
