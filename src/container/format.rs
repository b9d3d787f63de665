//! Which formats there are, and what a reader may take.

use std::fmt;
use std::str::FromStr;

use super::text::TextDialect;
use crate::ConfigError;

/// A form in which containers travel. It is agreed on by configuration, never guessed from the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// MessagePack, the default. Carries everything but the exact integer types.
    #[default]
    MessagePack,
    /// The C++ family's text, `@header={{…}};@data={{…}};`. Carries numbers, bools and plain strings.
    Text,
    /// Typed JSON 2.0. Carries all types.
    Json,
    /// JSON as the C++ library writes it. Carries numbers, bools and strings, without their exact types.
    CppJson,
    /// XML, which is only written.
    Xml,
    /// The low-level binary form of the C++ library's inner classes.
    Binary,
}

impl Format {
    /// All formats.
    pub const ALL: &'static [Format] = &[
        Format::MessagePack,
        Format::Text,
        Format::Json,
        Format::CppJson,
        Format::Xml,
        Format::Binary,
    ];

    /// The name in configurations and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Format::MessagePack => "msgpack",
            Format::Text => "text",
            Format::Json => "json",
            Format::CppJson => "cpp-json",
            Format::Xml => "xml",
            Format::Binary => "binary",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = ConfigError;

    fn from_str(name: &str) -> Result<Self, ConfigError> {
        let found = Format::ALL.iter().find(|format| format.name() == name);
        found.copied().ok_or_else(|| {
            ConfigError::option(
                "format",
                name,
                "msgpack, text, json, cpp-json, xml or binary",
            )
        })
    }
}

/// How deep containers and arrays may be nested unless something else is asked for.
pub(crate) const DEFAULT_DEPTH: usize = 64;
/// What the stack of any thread has room for.
pub(crate) const MAX_DEPTH: usize = 128;

/// How many values there may be unless that is changed.
const DEFAULT_VALUES: usize = 1_000_000;

/// What a reader takes.
///
/// Whatever these say, no format allocates by a length that the input declares: memory and time grow with the
/// length of the input. A value of one byte takes 40 bytes in memory, so that a container may need some forty
/// times the memory of its encoded form; [`max_values`](Self::max_values) limits that.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DecodeOptions {
    /// How deep containers and arrays may be nested, the outermost container included. 64 unless changed;
    /// 128 at most.
    pub max_depth: usize,
    /// How many values there may be, those inside of others included. 1,000,000 unless changed, which take some 40 MB.
    pub max_values: usize,
    /// MessagePack: whether bytes that are, entirely and in the one form that a writer produces, a container
    /// are read as that container, as the C++ library does. On unless changed; off, they are bytes.
    pub nested_containers: bool,
    /// Text: who wrote it. [`TextDialect::Detect`] unless changed.
    pub text_dialect: TextDialect,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        DecodeOptions {
            max_depth: DEFAULT_DEPTH,
            max_values: DEFAULT_VALUES,
            nested_containers: true,
            text_dialect: TextDialect::Detect,
        }
    }
}

impl DecodeOptions {
    /// The defaults.
    pub fn new() -> Self {
        DecodeOptions::default()
    }

    /// Changes [`max_depth`](Self#structfield.max_depth); more than 128 is 128.
    pub fn max_depth(mut self, depth: usize) -> Self {
        self.max_depth = depth;
        self
    }

    /// Changes [`max_values`](Self#structfield.max_values).
    pub fn max_values(mut self, values: usize) -> Self {
        self.max_values = values;
        self
    }

    /// Changes [`nested_containers`](Self#structfield.nested_containers).
    pub fn nested_containers(mut self, on: bool) -> Self {
        self.nested_containers = on;
        self
    }

    /// Changes [`text_dialect`](Self#structfield.text_dialect).
    pub fn text_dialect(mut self, dialect: TextDialect) -> Self {
        self.text_dialect = dialect;
        self
    }

    /// The depth that is obeyed.
    pub(crate) fn depth(&self) -> usize {
        self.max_depth.min(MAX_DEPTH)
    }
}
