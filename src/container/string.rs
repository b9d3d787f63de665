//! The strings of a container: bytes that are usually UTF-8.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::Bytes;

/// As many bytes as fit beside a length without making the type larger than [`Bytes`] is.
const INLINE: usize = 23;

/// A name or a string of a container: bytes, usually UTF-8, as the formats check no encoding.
///
/// Up to 23 bytes are stored in place. Longer ones share a buffer, often the received one, so a clone copies
/// no text, and a part that is kept keeps the whole buffer alive.
#[derive(Clone)]
pub struct Text(Repr);

#[derive(Clone)]
enum Repr {
    Inline { len: u8, data: [u8; INLINE] },
    Shared(Bytes),
}

impl Text {
    /// The empty text.
    pub const fn new() -> Self {
        Text(Repr::Inline {
            len: 0,
            data: [0; INLINE],
        })
    }

    /// A short text, in place.
    pub(crate) const fn inline(text: &'static str) -> Self {
        let bytes = text.as_bytes();
        let mut data = [0; INLINE];
        let mut at = 0;
        while at < bytes.len() {
            data[at] = bytes[at];
            at += 1;
        }
        Text(Repr::Inline {
            len: bytes.len() as u8,
            data,
        })
    }

    /// A text that lives as long as the program. Nothing is copied.
    pub const fn from_static(text: &'static str) -> Self {
        Text(Repr::Shared(Bytes::from_static(text.as_bytes())))
    }

    /// The part of `source` from `start` to `end`: copied when short, shared when not.
    ///
    /// `None` when the part does not lie inside.
    pub(crate) fn part(source: &Bytes, start: usize, end: usize) -> Option<Self> {
        let mut text = Text::new();
        text.set_part(source, start, end).then_some(text)
    }

    /// Becomes the part of `source` from `start` to `end`. False, and nothing changed, when it does not lie
    /// inside.
    ///
    /// Writing a short text where it stays, and not moving it there, takes a fifth of the time of reading a
    /// container: a processor has to wait before it can load what it has just stored in other portions.
    #[inline(always)]
    pub(crate) fn set_part(&mut self, source: &Bytes, start: usize, end: usize) -> bool {
        if start > end || end > source.len() {
            return false;
        }
        let new_len = end - start;
        if new_len <= INLINE
            && let Repr::Inline { len, data } = &mut self.0
            // A copy of constant length is three moves; what stands behind the text is masked by `len`.
            && let Some(chunk) = source[start..].first_chunk::<INLINE>()
        {
            *len = new_len as u8;
            data.copy_from_slice(chunk);
        } else {
            self.set_long_part(source, start, end);
        }
        true
    }

    #[inline(never)]
    fn set_long_part(&mut self, source: &Bytes, start: usize, end: usize) {
        *self = match end - start <= INLINE {
            true => Text::copied(&source[start..end]),
            false => Text(Repr::Shared(source.slice(start..end))),
        };
    }

    /// A copy of the bytes.
    fn copied(bytes: &[u8]) -> Self {
        if bytes.len() <= INLINE {
            let mut data = [0; INLINE];
            data[..bytes.len()].copy_from_slice(bytes);
            Text(Repr::Inline {
                len: bytes.len() as u8,
                data,
            })
        } else {
            Text(Repr::Shared(Bytes::copy_from_slice(bytes)))
        }
    }

    /// The bytes.
    #[inline(always)]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, data } => &data[..usize::from(*len).min(INLINE)],
            Repr::Shared(bytes) => bytes,
        }
    }

    /// The text, when it is valid UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes()).ok()
    }

    /// The text, with U+FFFD in place of what is not UTF-8.
    pub fn to_string_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.as_bytes())
    }

    /// The length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Inline { len, .. } => usize::from(*len),
            Repr::Shared(bytes) => bytes.len(),
        }
    }

    /// Whether there is no byte.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes as a handle of their own; shared when the text is longer than 23 bytes.
    pub fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Repr::Inline { .. } => Bytes::copy_from_slice(self.as_bytes()),
            Repr::Shared(bytes) => bytes.clone(),
        }
    }
}

impl Default for Text {
    fn default() -> Self {
        Text::new()
    }
}

impl From<&str> for Text {
    #[inline]
    fn from(text: &str) -> Self {
        Text::copied(text.as_bytes())
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Self {
        Text::copied(text.as_bytes())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Text::from(text.into_bytes())
    }
}

impl From<Cow<'_, str>> for Text {
    fn from(text: Cow<'_, str>) -> Self {
        match text {
            Cow::Borrowed(text) => Text::from(text),
            Cow::Owned(text) => Text::from(text),
        }
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Text::copied(bytes)
    }
}

impl From<Vec<u8>> for Text {
    fn from(bytes: Vec<u8>) -> Self {
        Text::from(Bytes::from(bytes))
    }
}

impl From<Bytes> for Text {
    fn from(bytes: Bytes) -> Self {
        match bytes.len() <= INLINE {
            true => Text::copied(&bytes),
            false => Text(Repr::Shared(bytes)),
        }
    }
}

impl From<&Text> for Text {
    fn from(text: &Text) -> Self {
        text.clone()
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for Text {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Text {}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<[u8]> for Text {
    fn eq(&self, other: &[u8]) -> bool {
        self.as_bytes() == other
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By bytes, which for UTF-8 is by code points.
impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_string_lossy())
    }
}
