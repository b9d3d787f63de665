//! How much is too much: rates of messages and of connections, and the memory that queues may take.
//!
//! ```text
//! accept ──▶ Admission, Pace (connections a second) ──▶ session ──▶ Meter (messages and bytes a second) ──▶ handler
//!                                                          │
//!                  outboxes, buffers, frames that are held ─▶ MemoryBudget (bytes, of the whole process)
//! ```
//!
//! Rates are kept as the generic cell rate algorithm has them: one number for each says until when what was let
//! in lasts. There is nothing to refill and no timer. A session has a timer of its own only while it waits.

mod address;
mod admission;
mod budget;
mod gcra;
mod handshakes;
mod meter;
mod process;
mod rate;

pub(crate) use self::budget::BudgetAccount;
pub use self::budget::MemoryBudget;
pub use self::rate::{Rate, RatePolicy};

pub(crate) use self::admission::Admission;
pub(crate) use self::handshakes::Handshakes;
pub(crate) use self::meter::{Batch, Meter, Rates, Verdict};
