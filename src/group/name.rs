//! The name of a group.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::ErrorCode;

/// The name of a group: text of 1 to [`GroupName::MAX_BYTES`] bytes. Cloning shares the text.
///
/// Names are compared byte by byte: case counts, and nothing is normalised.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupName(Arc<str>);

/// A text that cannot be the name of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupNameError {
    /// The text is empty.
    #[error("a group name cannot be empty")]
    Empty,
    /// The text is longer than [`GroupName::MAX_BYTES`].
    #[error("a group name of {bytes} bytes is too long, at most {max} are allowed", max = GroupName::MAX_BYTES)]
    TooLong {
        /// The length of the text in bytes.
        bytes: usize,
    },
}

impl GroupName {
    /// The longest name, in bytes of UTF-8. The protocol sets it, so that every server agrees.
    pub const MAX_BYTES: usize = 128;

    /// Makes a name of the text.
    ///
    /// # Errors
    ///
    /// The text is empty or longer than [`GroupName::MAX_BYTES`].
    pub fn new(name: impl AsRef<str> + Into<Arc<str>>) -> Result<Self, GroupNameError> {
        // The length is judged before anything is copied: names come from the network.
        match name.as_ref().len() {
            0 => Err(GroupNameError::Empty),
            bytes if bytes > Self::MAX_BYTES => Err(GroupNameError::TooLong { bytes }),
            _ => Ok(GroupName(name.into())),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl GroupNameError {
    /// The code of the error, as `refused` carries it to a client.
    pub fn code(self) -> ErrorCode {
        ErrorCode::RequestFailed
    }
}

impl TryFrom<&str> for GroupName {
    type Error = GroupNameError;

    fn try_from(name: &str) -> Result<Self, Self::Error> {
        GroupName::new(name)
    }
}

impl TryFrom<String> for GroupName {
    type Error = GroupNameError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        GroupName::new(name)
    }
}

impl FromStr for GroupName {
    type Err = GroupNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        GroupName::new(name)
    }
}

impl AsRef<str> for GroupName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

/// Lets a map with names as keys be searched with text.
impl Borrow<str> for GroupName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn names_have_1_to_128_bytes() {
        let longest = "ä".repeat(64);
        assert_eq!(
            GroupName::new(longest.as_str()).map(|name| name.to_string()),
            Ok(longest)
        );
        assert_eq!(
            GroupName::new("a".repeat(129)),
            Err(GroupNameError::TooLong { bytes: 129 })
        );
        assert_eq!(GroupName::try_from(""), Err(GroupNameError::Empty));
        let text = GroupNameError::TooLong { bytes: 129 }.to_string();
        assert_eq!(
            text,
            "a group name of 129 bytes is too long, at most 128 are allowed"
        );
    }

    #[test]
    fn maps_are_searched_with_text() {
        let name = GroupName::try_from("room".to_owned()).expect("a valid name");
        let map = HashMap::from([(name, 1)]);
        assert_eq!(map.get("room"), Some(&1));
    }

    #[test]
    fn clones_share_the_text() {
        let name = GroupName::try_from("room").expect("a valid name");
        assert_eq!(name.as_str().as_ptr(), name.clone().as_str().as_ptr());
    }
}
