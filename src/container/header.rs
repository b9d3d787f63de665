//! Who sends a container to whom, and what it is.

use super::Text;

/// The message type that stands for no type.
pub(crate) const NO_TYPE: &str = "data_container";
/// The version of a new container.
pub(crate) const NEW_VERSION: Text = Text::inline("1.0.0.0");
/// The version of a container that was read from input without one.
const READ_VERSION: Text = Text::inline("1.0");

/// The header of a container. Every field is free text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// Who sends it (`source_id` in the formats).
    pub source: Text,
    /// Which part of the sender (`source_sub_id`).
    pub source_sub: Text,
    /// Who shall receive it (`target_id`).
    pub target: Text,
    /// Which part of the receiver (`target_sub_id`).
    pub target_sub: Text,
    /// What it is; `data_container` stands for no particular type.
    pub message_type: Text,
    /// The version of its contents: `1.0.0.0` in a new one, `1.0` in one that was read without a version.
    pub version: Text,
}

/// No ids, type `data_container`, version `1.0.0.0`.
impl Default for Header {
    fn default() -> Self {
        Header::with_type(Text::inline(NO_TYPE), NEW_VERSION)
    }
}

impl Header {
    pub(crate) const fn with_type(message_type: Text, version: Text) -> Self {
        Header {
            source: Text::new(),
            source_sub: Text::new(),
            target: Text::new(),
            target_sub: Text::new(),
            message_type,
            version,
        }
    }

    /// What a reader begins with: fields that the input does not have stay like this.
    pub(crate) fn before_reading() -> Self {
        const HEADER: Header = Header::with_type(Text::inline(NO_TYPE), READ_VERSION);
        HEADER
    }

    /// Exchanges source and target, for an answer.
    pub fn swap(&mut self) {
        std::mem::swap(&mut self.source, &mut self.target);
        std::mem::swap(&mut self.source_sub, &mut self.target_sub);
    }

    /// Whether the formats write the four ids.
    ///
    /// Without a type and without ids they are left out, as the C++ library does. It leaves them out whenever
    /// there is no type, and loses them; readers take them all the same, so here they are written.
    pub(crate) fn has_ids(&self) -> bool {
        self.message_type != NO_TYPE
            || !(self.source.is_empty()
                && self.source_sub.is_empty()
                && self.target.is_empty()
                && self.target_sub.is_empty())
    }

    /// The fields as the formats MessagePack, text, C++-style JSON and XML write them, in order: the number
    /// in the text format, the key in the others, the content.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (u8, &'static str, &Text)> {
        [
            (1, "target_id", &self.target),
            (2, "target_sub_id", &self.target_sub),
            (3, "source_id", &self.source),
            (4, "source_sub_id", &self.source_sub),
            (5, "message_type", &self.message_type),
            (6, "version", &self.version),
        ]
        .into_iter()
        .skip(if self.has_ids() { 0 } else { 4 })
    }

    /// The field with this key, and a bit for it; a field that is written before has a lower one.
    pub(crate) fn field_mut(&mut self, key: &[u8]) -> Option<(u8, &mut Text)> {
        Some(match key {
            b"target_id" => (1, &mut self.target),
            b"target_sub_id" => (1 << 1, &mut self.target_sub),
            b"source_id" => (1 << 2, &mut self.source),
            b"source_sub_id" => (1 << 3, &mut self.source_sub),
            b"message_type" => (1 << 4, &mut self.message_type),
            b"version" => (1 << 5, &mut self.version),
            _ => return None,
        })
    }
}
