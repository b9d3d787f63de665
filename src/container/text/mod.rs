//! The text format of the C++ family, `@header={{…}};@data={{[name,id,value];…}};`.
//!
//! It has no lengths and no escapes, so that much cannot be written: the writer refuses whatever a reader of the
//! family would lose, cut off or change. The reader goes through the text once. It takes what the family's readers
//! take and get right, and refuses what they skip, wrap or guess.

mod escapes;
mod read;
mod write;

pub(super) use self::read::decode;
pub(super) use self::write::encode;

/// Who wrote a text container, which decides what the numbers of types and the text of bytes mean.
///
/// Ports of the C++ library write the same brackets with another meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TextDialect {
    /// The C++ library of today, unless the text says without doubt that a port wrote it: by names in place of the
    /// numbers of types ([`Ports`](Self::Ports)), or by a header section without a semicolon
    /// ([`Python`](Self::Python)). What is still open then is an error: bytes that are not empty, and `\];`.
    #[default]
    Detect,
    /// The C++ library since November 2025. The text of bytes is what the bytes are; containers and arrays are
    /// not in the text, and an error.
    Cpp,
    /// The C++ library before: type 12 is bytes, in base64, and 13 is a string with escapes such as `</0x0A;>`; types may
    /// be one hexadecimal digit. Containers and arrays are a count, and their values follow.
    CppLegacy,
    /// The Python port: bytes in base64, `\];` stands for `];`. Containers and arrays are a count, and their values
    /// follow. A string that ends in a backslash is not what it was: that port writes it as it writes `];`.
    Python,
    /// The Rust and Go ports: types by name, bytes in hexadecimal digits. What is inside containers and arrays is not
    /// in the text, which makes all but an empty array an error.
    Ports,
}
