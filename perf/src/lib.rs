//! What the programs of this package share.
//!
//! * `baseline` holds servers written straight on sockets, to compare with.
//! * `load` is a single-threaded load generator which checks every byte.
//! * `compare` runs servers and load in turns and reports the ratios.
//! * `loadtest` puts `netsys serve` under the load of `netsys bench`.
//!
//! The `README.md` beside this crate says how to run them and how the figures
//! are made.

pub mod args;
pub mod frame;
pub mod machine;
pub mod report;
pub mod scheme;
pub mod server;
pub mod stats;
pub mod sys;
pub mod websocket;
