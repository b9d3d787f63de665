//! What goes wrong between containers and structs.

use std::fmt;

use serde::de::{Expected, Unexpected};

use crate::ErrorCode;
use crate::container::Text;
use crate::container::error::Path;

/// A struct that does not become a container, or a container that does not become a struct.
///
/// The text names the place and the types, and shows no contents.
#[derive(Clone, PartialEq, Eq)]
pub struct StructError(Box<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    what: String,
    path: Path,
}

impl StructError {
    pub(super) fn new(what: impl Into<String>) -> Self {
        StructError(Box::new(Inner {
            what: what.into(),
            path: Path::default(),
        }))
    }

    pub(super) fn too_deep() -> Self {
        StructError::new("nested in more than 128 levels")
    }

    pub(super) fn inside(mut self, name: &Text) -> Self {
        self.0.path.enter(&name.to_string_lossy());
        self
    }

    pub(super) fn at_index(mut self, index: usize) -> Self {
        self.0.path.enter(&index.to_string());
        self
    }

    /// `request_failed`: the container is not what the program works with.
    pub fn code(&self) -> ErrorCode {
        ErrorCode::RequestFailed
    }

    /// The path of the value, as [`Container::at`](crate::container::Container::at) takes it; empty when it is
    /// the container as a whole.
    pub fn path(&self) -> &str {
        self.0.path.as_str()
    }
}

impl fmt::Display for StructError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.what)?;
        match self.path() {
            "" => Ok(()),
            path => write!(f, " (\"{}\")", path.escape_debug()),
        }
    }
}

impl fmt::Debug for StructError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StructError({self})")
    }
}

impl std::error::Error for StructError {}

impl serde::ser::Error for StructError {
    fn custom<T: fmt::Display>(what: T) -> Self {
        StructError::new(what.to_string())
    }
}

/// The texts of serde show contents, which may be secret; these do not.
impl serde::de::Error for StructError {
    fn custom<T: fmt::Display>(what: T) -> Self {
        StructError::new(what.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        StructError::new(format!("found {}, expected {expected}", kind(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        StructError::new(format!(
            "found {} of another value, expected {expected}",
            kind(found)
        ))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        StructError::new(format!("an unknown variant, expected one of {expected:?}"))
    }
}

fn kind(found: Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "a bool",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
        Unexpected::Float(_) => "a floating-point number",
        Unexpected::Char(_) | Unexpected::Str(_) => "a string",
        Unexpected::Bytes(_) => "bytes",
        Unexpected::Unit | Unexpected::Option => "null",
        Unexpected::Seq => "an array",
        Unexpected::Map | Unexpected::StructVariant => "a container",
        _ => "something else",
    }
}
