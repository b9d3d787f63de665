//! The textual signature of the C++ library: `message|signature`.
//!
//! The signature is HMAC-SHA-256 over the message, in base64 with padding, 44 characters. It stands behind the
//! last `|`, so a message may hold that character itself.
//!
//! ```
//! use network_system::pipeline::signature;
//!
//! let signed = signature::sign("transfer 100", "a key of many random bytes");
//! assert!(signed.starts_with("transfer 100|"));
//! let message = signature::verify(&signed, "a key of many random bytes");
//! assert_eq!(message, Some("transfer 100"));
//! assert_eq!(signature::verify(&signed, "another key"), None);
//! ```
//!
//! For every message of a session there is [`HmacSha256`](super::HmacSha256), which is shorter and needs no
//! text.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Between a message and its signature.
const SEPARATOR: u8 = b'|';

/// Signs a text. The key may be any bytes; fewer than 16 random ones can be guessed.
pub fn sign(message: &str, key: impl AsRef<[u8]>) -> String {
    let signature = signature(message.as_bytes(), key.as_ref());
    format!("{message}{}{signature}", char::from(SEPARATOR))
}

/// The text that was signed with this key; `None` when it was not, or has been changed since. How long that
/// takes does not depend on where signatures differ.
pub fn verify(signed: &str, key: impl AsRef<[u8]>) -> Option<&str> {
    let message = verify_bytes(signed.as_bytes(), key)?;
    // The separator is one byte, so this is where a character ends.
    signed.get(..message.len())
}

/// Signs bytes, as [`sign`] does a text.
pub fn sign_bytes(message: &[u8], key: impl AsRef<[u8]>) -> Vec<u8> {
    let signature = signature(message, key.as_ref());
    [message, &[SEPARATOR], signature.as_bytes()].concat()
}

/// The bytes that were signed with this key, as [`verify`] does for a text.
pub fn verify_bytes(signed: &[u8], key: impl AsRef<[u8]>) -> Option<&[u8]> {
    let separator = signed.iter().rposition(|byte| *byte == SEPARATOR)?;
    let (message, given) = (&signed[..separator], &signed[separator + 1..]);
    let expected = signature(message, key.as_ref());
    // Texts are compared, so no other text stands for the same signature.
    verify_slices_are_equal(expected.as_bytes(), given).ok()?;
    Some(message)
}

fn signature(message: &[u8], key: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    STANDARD.encode(hmac::sign(&key, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn the_signature_is_that_of_openssl() {
        // printf hello | openssl dgst -sha256 -hmac secret_key -binary | base64
        let signed = sign("hello", "secret_key");
        assert_eq!(signed, "hello|DxZqVSs4rrEq0HBV572n+KsvIqOjUuSB3pe4bxe+a8Y=");
        assert_eq!(verify(&signed, "secret_key"), Some("hello"));
    }

    #[test]
    fn what_is_not_exactly_what_was_signed_is_refused() {
        let signed = sign("hello", "key");
        for changed in [
            "".to_owned(),
            "|".to_owned(),
            "hello".to_owned(),
            "hello|".to_owned(),
            signed.replace('h', "H"),
            signed.replace('=', ""),
            signed.replace('=', " "),
            format!("{signed}="),
            format!("{signed}\n"),
            format!(" {signed}"),
            format!("{signed}|"),
            signed.replacen('|', "||", 1),
        ] {
            assert_eq!(verify(&changed, "key"), None, "{changed:?}");
        }
        assert_eq!(verify(&signed, "kez"), None);
        assert_eq!(verify(&signed, ""), None);
    }

    #[test]
    fn the_last_separator_counts() {
        let signed = sign("a|b|", "key");
        assert_eq!(verify(&signed, "key"), Some("a|b|"));
        let twice = sign(&signed, "key");
        assert_eq!(verify(&twice, "key"), Some(&*signed));
        assert_eq!(verify(&sign("", ""), ""), Some(""));
    }

    proptest! {
        #[test]
        fn any_text_comes_back(message in any::<String>(), key in any::<Vec<u8>>()) {
            let signed = sign(&message, &key);
            prop_assert_eq!(signed.as_bytes(), sign_bytes(message.as_bytes(), &key));
            prop_assert_eq!(verify(&signed, &key), Some(&*message));
        }

        #[test]
        fn any_bytes_come_back_and_any_change_is_refused(
            message in any::<Vec<u8>>(),
            index in any::<prop::sample::Index>(),
            bit in 0..8,
        ) {
            let mut signed = sign_bytes(&message, "key");
            prop_assert_eq!(verify_bytes(&signed, "key"), Some(&*message));
            let index = index.index(signed.len());
            signed[index] ^= 1_u8 << bit;
            prop_assert_eq!(verify_bytes(&signed, "key"), None);
        }
    }
}
