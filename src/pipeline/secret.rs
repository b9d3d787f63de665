//! Secrets that both sides of a link have, and what can be wrong with them.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

use crate::error::{ConfigError, ErrorCode};

/// The bytes of a secret that both sides have, from which keys are made.
///
/// Clones share the bytes, which are overwritten when the last clone is dropped. They are in no text that this
/// crate makes: `Debug` shows none of them, and errors do not either.
///
/// A secret is random bytes, not a password: nothing here makes guessing slow.
#[derive(Clone)]
pub struct Secret {
    bytes: Arc<Zeroizing<Vec<u8>>>,
}

/// A secret or a ring of keys cannot be used in this way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The secret is too short.
    #[error("a secret has at least {min} bytes, this one has {bytes}", min = Secret::MIN_BYTES)]
    ShortSecret {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The text is not pairs of hexadecimal digits.
    #[error("a secret in hexadecimal has an even number of digits and nothing else")]
    InvalidHex,
    /// The system has no random bytes.
    #[error("the system gives no random bytes")]
    NoRandomness,
    /// The ring has no key with this id.
    #[error("there is no key with the id {id}")]
    UnknownKey {
        /// The id.
        id: u32,
    },
    /// The id belongs to another secret, or did before its key was removed.
    #[error("the key id {id} was used before, and an id is never used for a second key")]
    ReusedId {
        /// The id.
        id: u32,
    },
    /// The secret belongs to another id, or did before its key was removed.
    #[error("the secret for the key id {id} was used before with another id")]
    ReusedSecret {
        /// The id that it was to have.
        id: u32,
    },
    /// What is sent uses this key.
    #[error(
        "the key with the id {id} is in use for sending; activate another one before removing it"
    )]
    ActiveKey {
        /// The id.
        id: u32,
    },
    /// A ring is to hold no key.
    #[error("there is no key, and a ring has at least one")]
    NoKeys,
    /// The ring holds as many keys as it may.
    #[error("the ring holds {limit} keys already, remove one first")]
    TooManyKeys {
        /// The limit.
        limit: usize,
    },
    /// The ring has taken as many keys as it may in its life.
    #[error("the ring has taken {limit} keys in its life, the most that it can keep apart")]
    Exhausted {
        /// The limit.
        limit: usize,
    },
}

impl KeyError {
    /// The code of the error: `invalid_configuration`.
    pub fn code(self) -> ErrorCode {
        ErrorCode::InvalidConfiguration
    }
}

impl From<KeyError> for ConfigError {
    fn from(error: KeyError) -> Self {
        ConfigError::new(error.code(), error.to_string())
    }
}

impl Secret {
    /// The fewest bytes of a secret.
    pub const MIN_BYTES: usize = 16;

    /// Bytes of a secret that [`random`](Self::random) makes.
    const RANDOM_BYTES: usize = 32;

    /// A secret of these bytes. A vector is taken as it is, without a copy; of anything else the caller keeps
    /// the original, and wipes it.
    ///
    /// # Errors
    /// There are fewer than [`Secret::MIN_BYTES`] bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, KeyError> {
        Secret::wiped(Zeroizing::new(bytes.into()))
    }

    /// A secret of bytes in hexadecimal, two digits each, of either case.
    ///
    /// # Errors
    /// Anything but pairs of digits, or fewer than [`Secret::MIN_BYTES`] of them.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        let digit = |byte: u8| match char::from(byte).to_digit(16) {
            Some(digit) => Ok(digit as u8),
            None => Err(KeyError::InvalidHex),
        };
        // As large as it becomes: growing would leave bytes behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() / 2));
        for pair in text.as_bytes().chunks(2) {
            let [high, low] = pair else {
                return Err(KeyError::InvalidHex);
            };
            bytes.push(digit(*high)? << 4 | digit(*low)?);
        }
        Secret::wiped(bytes)
    }

    /// A new secret of 32 random bytes.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn random() -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new(vec![0; Secret::RANDOM_BYTES]);
        getrandom::fill(&mut bytes).map_err(|_| KeyError::NoRandomness)?;
        Secret::wiped(bytes)
    }

    /// The bytes in hexadecimal, as [`from_hex`](Self::from_hex) reads them: for bringing a new secret to the other
    /// side. Whoever sees the text has the secret; the caller keeps it safe, and wipes it.
    pub fn to_hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        // As large as it becomes: growing would leave digits behind.
        let mut text = String::with_capacity(2 * self.bytes.len());
        for byte in self.bytes.iter() {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        text
    }

    fn wiped(bytes: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        match bytes.len() {
            len if len < Secret::MIN_BYTES => Err(KeyError::ShortSecret { bytes: len }),
            _ => Ok(Secret {
                bytes: Arc::new(bytes),
            }),
        }
    }

    /// The bytes, for deriving and keying only.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many share the bytes.
    #[cfg(test)]
    pub(crate) fn handles(&self) -> usize {
        Arc::strong_count(&self.bytes)
    }

    /// Whether both are the same bytes, in a time that does not depend on them.
    pub(crate) fn is_same(&self, other: &Secret) -> bool {
        verify_slices_are_equal(&self.bytes, &other.bytes).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    use zeroize::ZeroizeOnDrop;

    #[test]
    fn a_secret_has_at_least_sixteen_bytes() {
        let error = Secret::new([7; 15]).map(drop);
        assert_eq!(error, Err(KeyError::ShortSecret { bytes: 15 }));
        assert_eq!(Secret::new([7; 16]).unwrap().as_bytes(), [7; 16]);
        let error = Secret::from_hex("00ff").map(drop);
        assert_eq!(error, Err(KeyError::ShortSecret { bytes: 2 }));
        assert!(Secret::from_hex("").is_err());
    }

    #[test]
    fn hexadecimal_is_pairs_of_digits_of_either_case() {
        let text = "000102030405060708090a0B0c0D0e0F";
        let secret = Secret::from_hex(text).unwrap();
        assert_eq!(secret.as_bytes(), (0..16).collect::<Vec<u8>>());
        assert_eq!(secret.to_hex(), text.to_lowercase());
        for bad in [
            "0",
            "0x000102030405060708090a0b0c0d0e0f",
            "g0",
            "é",
            " 00",
            "+1",
        ] {
            let text = format!("{text}{bad}");
            assert_eq!(
                Secret::from_hex(&text).map(drop),
                Err(KeyError::InvalidHex),
                "{bad}"
            );
        }
    }

    #[test]
    fn random_secrets_differ() {
        let (one, other) = (Secret::random().unwrap(), Secret::random().unwrap());
        assert_eq!(one.as_bytes().len(), 32);
        assert!(!one.is_same(&other));
        assert!(one.is_same(&one.clone()));
    }

    #[test]
    fn no_text_shows_a_secret() {
        let secret = Secret::new(*b"correct horse battery").unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        let error = Secret::from_hex("correct horse").map(drop).unwrap_err();
        assert!(!error.to_string().contains("horse"));
    }

    #[test]
    fn clones_share_bytes_that_are_wiped_with_the_last() {
        fn is_wiped<T: ZeroizeOnDrop>(_: &T) {}
        let secret = Secret::random().unwrap();
        is_wiped::<Zeroizing<Vec<u8>>>(&secret.bytes);
        let clone = secret.clone();
        let bytes = Arc::downgrade(&secret.bytes);
        drop(secret);
        assert!(bytes.upgrade().is_some());
        drop(clone);
        assert!(bytes.upgrade().is_none());
    }

    #[test]
    fn errors_are_configuration_errors() {
        let error = ConfigError::from(KeyError::UnknownKey { id: 7 });
        assert_eq!(error.code(), ErrorCode::InvalidConfiguration);
        assert!(error.to_string().contains("id 7"));
    }
}
