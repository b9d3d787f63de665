//! From a secret to what is on the wire: key, nonce and associated data.

use std::fmt;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use zeroize::Zeroizing;

use crate::pipeline::{Secret, StageError};

/// Bytes of the tag after the ciphertext.
pub(super) const TAG: usize = 16;

/// Bytes of what goes into HKDF as salt: both nonces, or the random bytes of a direction.
pub(super) const SALT: usize = crate::pipeline::SALT;

const KEY: usize = 32;

/// An algorithm with its name in hello and welcome.
pub(super) struct Suite {
    pub(super) name: &'static str,
    algorithm: &'static aead::Algorithm,
}

pub(super) static AES_256_GCM: Suite = Suite {
    name: "aes-256-gcm",
    algorithm: &aead::AES_256_GCM,
};

pub(super) static CHACHA20_POLY1305: Suite = Suite {
    name: "chacha20-poly1305",
    algorithm: &aead::CHACHA20_POLY1305,
};

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The way of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    ClientToServer,
    ServerToClient,
}

impl Way {
    fn label(self) -> &'static str {
        match self {
            Way::ClientToServer => " c2s",
            Way::ServerToClient => " s2c",
        }
    }
}

/// The key of one link and direction. AWS-LC overwrites what it holds of it when it is dropped.
pub(super) struct WireKey(LessSafeKey);

impl WireKey {
    pub(super) fn derive(
        suite: &Suite,
        secret: &Secret,
        salt: &[u8; SALT],
        way: Way,
    ) -> Result<Self, StageError> {
        let failed = |_| StageError::new("the key of the link cannot be derived");
        let bytes = derive_bytes(suite, secret, salt, way).map_err(failed)?;
        let key = UnboundKey::new(suite.algorithm, &*bytes).map_err(failed)?;
        Ok(WireKey(LessSafeKey::new(key)))
    }

    /// Encrypts into `ciphertext`, which is as long as `message`.
    pub(super) fn seal(
        &self,
        count: u64,
        associated: &[u8],
        message: &[u8],
        ciphertext: &mut [u8],
        tag: &mut [u8],
    ) -> Result<(), StageError> {
        let associated = Aad::from(associated);
        self.0
            .seal_out_of_place_scatter(nonce(count), associated, message, ciphertext, &[], tag)
            .map_err(|_| StageError::new("the message cannot be encrypted"))
    }

    /// Decrypts into `message`, which is as long as `ciphertext`; false when the tag does not fit.
    pub(super) fn open(
        &self,
        count: u64,
        associated: &[u8],
        ciphertext: &[u8],
        tag: &[u8; TAG],
        message: &mut [u8],
    ) -> bool {
        let associated = Aad::from(associated);
        self.0
            .open_separate_gather(nonce(count), associated, ciphertext, tag, message)
            .is_ok()
    }
}

fn derive_bytes(
    suite: &Suite,
    secret: &Secret,
    salt: &[u8; SALT],
    way: Way,
) -> Result<Zeroizing<[u8; KEY]>, aws_lc_rs::error::Unspecified> {
    let info = [b"msgi1 ", suite.name.as_bytes(), way.label().as_bytes()];
    let mut bytes = Zeroizing::new([0; KEY]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(secret.as_bytes())
        .expand(&info, suite.algorithm)?
        .fill(&mut *bytes)?;
    Ok(bytes)
}

/// Four zero bytes and the count.
fn nonce(count: u64) -> Nonce {
    let mut bytes = [0; aead::NONCE_LEN];
    bytes[4..].copy_from_slice(&count.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}
