//! Calls that may fail: when to stop making them, and when to make them again.
//!
//! - A [`CircuitBreaker`] stands between callers and what they call. After too many failures it refuses calls at
//!   once, with `circuit_open`, instead of letting each of them find out again.
//! - A [`RetryPolicy`] says which failures of idempotent calls are tried again, how often and after how long.
//! - A [`RetryBudget`] bounds retries as a share of the calls, so that they cannot multiply the load of a server that
//!   is down already.
//!
//! A client obeys them by [`ClientBuilder::circuit_breaker`](crate::ClientBuilder::circuit_breaker) and
//! [`ClientBuilder::retry`](crate::ClientBuilder::retry), see [`Client::request_idempotent`]; but they guard
//! any future:
//!
//! ```
//! use std::time::Duration;
//! use network_system::resilience::{CallError, CircuitBreaker, CircuitState};
//! use tokio::io::{self, Error};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let breaker = CircuitBreaker::builder()
//!     .name("stock")
//!     .consecutive_failures(Some(2))
//!     .open_for(Duration::from_secs(5), Duration::from_secs(60))
//!     .build()?;
//!
//! for _ in 0..2 {
//!     let broken = async { Err::<(), _>(Error::other("out of order")) };
//!     assert!(matches!(breaker.call(broken).await, Err(CallError::Failed(_))));
//! }
//! assert_eq!(breaker.state(), CircuitState::Open);
//!
//! // What is called does not even begin.
//! let refused = breaker.call(async { Ok::<_, Error>(()) }).await;
//! assert!(matches!(refused, Err(CallError::Open(_))));
//! # Ok(())
//! # }
//! ```
//!
//! [`Client::request_idempotent`]: crate::Client::request_idempotent

mod breaker;
mod budget;
mod builder;
mod circuit;
mod retry;
mod verdict;
mod window;

#[cfg(test)]
mod tests;

pub use breaker::{CircuitBreaker, Permit};
pub use budget::{RetryBudget, RetryBudgetStats};
pub use builder::CircuitBreakerBuilder;
pub use circuit::{CircuitState, CircuitStats};
pub use retry::RetryPolicy;
pub use verdict::{CallError, CircuitOpen, Coded, Verdict};
