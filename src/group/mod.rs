//! Groups: named sets of sessions.

mod name;

pub use name::{GroupName, GroupNameError};
