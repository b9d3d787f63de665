//! What goes wrong with containers: writing, reading, access.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use super::{Format, Text, ValueType};
use crate::ErrorCode;

/// A value that the chosen format cannot carry. The text names the value and the formats that can.
#[derive(Clone, PartialEq, Eq)]
pub struct EncodeError(Box<EncodeInner>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct EncodeInner {
    format: Format,
    code: ErrorCode,
    what: Cow<'static, str>,
    path: Path,
    carriers: &'static [Format],
}

impl EncodeError {
    /// `format` cannot carry `what` (a noun phrase, without the content); `carriers` can.
    ///
    /// The place is added by [`inside`](Self::inside), from the innermost name outwards.
    pub(crate) fn new(
        format: Format,
        what: impl Into<Cow<'static, str>>,
        carriers: &'static [Format],
    ) -> Self {
        EncodeError(Box::new(EncodeInner {
            format,
            code: ErrorCode::NotSupported,
            what: what.into(),
            path: Path::default(),
            carriers,
        }))
    }

    /// Something is longer than the format's lengths can say.
    pub(crate) fn too_long(format: Format) -> Self {
        let mut error = EncodeError::new(format, "more than 4 GiB", &[]);
        error.0.code = ErrorCode::MessageTooLarge;
        error
    }

    /// Nested deeper than any reader takes.
    pub(crate) fn too_deep(format: Format) -> Self {
        EncodeError::new(format, "more than 128 levels", &[])
    }

    /// The error is in a value, or header field, of this name.
    pub(crate) fn inside(mut self, name: &Text) -> Self {
        self.0.path.enter(&name.to_string_lossy());
        self
    }

    /// The error is in the element of an array at this index.
    pub(crate) fn at_index(mut self, index: usize) -> Self {
        self.0.path.enter(&index.to_string());
        self
    }

    /// `not_supported`, or `message_too_large` when a length is beyond what the format can say.
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// The format that was asked for.
    pub fn format(&self) -> Format {
        self.0.format
    }

    /// The path of the value, as [`Container::at`](super::Container::at) takes it; empty when it is the
    /// container as a whole.
    pub fn path(&self) -> &str {
        &self.0.path.0
    }

    /// The formats that can carry it.
    pub fn carriers(&self) -> &[Format] {
        self.0.carriers
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EncodeInner {
            format,
            what,
            path,
            carriers,
            ..
        } = &*self.0;
        write!(f, "the {format} format cannot carry {what}")?;
        if !path.0.is_empty() {
            write!(f, " (\"{}\")", path.0.escape_debug())?;
        }
        match carriers {
            [] => Ok(()),
            [one] => write!(f, "; {one} can"),
            [first @ .., last] => {
                for (index, format) in first.iter().enumerate() {
                    write!(f, "{}{format}", if index == 0 { "; " } else { ", " })?;
                }
                write!(f, " and {last} can")
            }
        }
    }
}

impl fmt::Debug for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for EncodeError {}

/// Bytes that are not a container in the given format.
#[derive(Clone, PartialEq, Eq)]
pub struct DecodeError(Box<DecodeInner>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct DecodeInner {
    format: Format,
    code: ErrorCode,
    position: usize,
    what: Cow<'static, str>,
    path: Path,
}

impl DecodeError {
    /// What is wrong at `position`, a sentence without a dot and without the input's content.
    #[cold]
    pub(crate) fn new(format: Format, position: usize, what: impl Into<Cow<'static, str>>) -> Self {
        DecodeError(Box::new(DecodeInner {
            format,
            code: ErrorCode::InvalidFrame,
            position,
            what: what.into(),
            path: Path::default(),
        }))
    }

    /// The format cannot be read.
    pub(crate) fn not_supported(format: Format) -> Self {
        let mut error = DecodeError::new(format, 0, "this format can only be written");
        error.0.code = ErrorCode::NotSupported;
        error
    }

    /// More levels than the options allow.
    pub(crate) fn too_deep(format: Format, position: usize) -> Self {
        DecodeError::new(format, position, "nested too deep")
    }

    /// More values than the options allow.
    pub(crate) fn too_many(format: Format, position: usize) -> Self {
        DecodeError::new(format, position, "too many values")
    }

    /// The error is in a value, or header field, of this name.
    #[cold]
    pub(crate) fn inside(mut self, name: &Text) -> Self {
        self.0.path.enter(&name.to_string_lossy());
        self
    }

    /// The error is in the element of an array at this index.
    #[cold]
    pub(crate) fn at_index(mut self, index: usize) -> Self {
        self.0.path.enter(&index.to_string());
        self
    }

    /// `invalid_frame`, or `not_supported` for a format that can only be written.
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// The format that was asked for.
    pub fn format(&self) -> Format {
        self.0.format
    }

    /// Where in the input the error was noticed, in bytes from its start.
    pub fn position(&self) -> usize {
        self.0.position
    }

    /// The path of the value, as [`Container::at`](super::Container::at) takes it; empty when it is the
    /// container as a whole.
    pub fn path(&self) -> &str {
        &self.0.path.0
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if inner.code == ErrorCode::NotSupported {
            return write!(f, "the {} format can only be written", inner.format);
        }
        write!(f, "{} at byte {}", inner.what, inner.position)?;
        if !inner.path.0.is_empty() {
            write!(f, " (\"{}\")", inner.path.0.escape_debug())?;
        }
        write!(f, ": not a container in the {} format", inner.format)
    }
}

impl fmt::Debug for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for DecodeError {}

/// A value that is not there, or not of the wanted type.
#[derive(Clone, PartialEq, Eq)]
pub struct GetError {
    path: Box<str>,
    wanted: &'static str,
    found: Option<ValueType>,
}

impl GetError {
    pub(crate) fn missing(path: &str, wanted: &'static str) -> Self {
        GetError {
            path: path.into(),
            wanted,
            found: None,
        }
    }

    pub(crate) fn mismatch(path: &str, wanted: &'static str, found: ValueType) -> Self {
        GetError {
            path: path.into(),
            wanted,
            found: Some(found),
        }
    }

    /// `request_failed`: whoever sent the container asked for something that cannot be answered.
    pub fn code(&self) -> ErrorCode {
        ErrorCode::RequestFailed
    }

    /// Whether there is no such value.
    pub fn is_missing(&self) -> bool {
        self.found.is_none()
    }

    /// The type that was found.
    pub fn found(&self) -> Option<ValueType> {
        self.found
    }

    /// The name or path that was asked for.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.escape_debug();
        match self.found {
            None => write!(f, "there is no value \"{path}\""),
            Some(found) => write!(
                f,
                "the value \"{path}\" is a {found} and no {}",
                self.wanted
            ),
        }
    }
}

impl fmt::Debug for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GetError({self})")
    }
}

impl StdError for GetError {}

/// How long a path in an error gets; names come from peers.
const PATH_LIMIT: usize = 256;

/// Where in a container an error is, gathered from the inside outwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path(String);

impl Path {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn enter(&mut self, name: &str) {
        let mut path = String::new();
        let short = name.char_indices().nth(64).map(|(end, _)| &name[..end]);
        super::access::push_step(&mut path, short.unwrap_or(name));
        if short.is_some() {
            path.push('…');
        }
        if self.0.is_empty() {
            self.0 = path;
        } else if self.0.starts_with("…/") {
            // The outer names are left out, this one too.
        } else if path.len() + self.0.len() < PATH_LIMIT {
            self.0.insert(0, '/');
            self.0.insert_str(0, &path);
        } else {
            self.0.insert_str(0, "…/");
        }
    }
}
