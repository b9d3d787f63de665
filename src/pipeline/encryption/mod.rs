//! Encryption of messages: with which key, which nonce, and what a receiver refuses.
//!
//! The bytes on the wire are described at [`Encryption`], for whoever writes the other side.

mod derive;
mod keys;
mod link;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::derive::{AES_256_GCM, CHACHA20_POLY1305, Suite};
pub use self::keys::Keys;
use self::link::{LinkCipher, OVERHEAD};
use super::{StageDefinition, StageKind};

/// Keeps messages secret and unchanged, with secrets that both sides have.
///
/// A receiver refuses messages that were changed, shortened, repeated, reordered or left out on their way, those
/// of another link or of the other direction, and any message of a link whose hello or welcome was changed. A
/// refused message changes nothing: the next right one is accepted.
///
/// Each link has keys of its own for each direction, made from the active secret of the ring and the random
/// numbers of hello and welcome. A [`Keys`] handle changes secrets while sessions are running.
///
/// ```
/// use network_system::pipeline::{Encryption, Keys, Pipeline, Secret};
///
/// let secret = Secret::from_hex("3f0c6cfa9e2b41d8a7756e21c04b9d13")?;
/// let keys = Keys::new(1, secret);
/// let pipeline = Pipeline::builder()
///     .require(Encryption::aes_256_gcm(&keys))
///     .build()?;
/// # Ok::<(), network_system::ConfigError>(())
/// ```
///
/// # What it does not do
///
/// - It protects messages, not hello with its token, CONTROL, errors, or the lengths and types of frames. TLS does.
/// - [Without hello](super::PipelineBuilder::without_hello), whoever has recorded a whole connection can send it
///   again, and it is accepted.
/// - There is no forward secrecy: whoever learns a secret can read what was recorded with it.
/// - A change of key is not tied to the messages before it. Whoever can change the bytes of a connection can,
///   at that moment only, leave out the last messages under the old key, or move them behind later ones under
///   the new key. That the end of a connection was cut off is not noticed either.
/// - Over UDP a message that was left out cannot be told from one that was lost, and one that arrives behind
///   a later one is refused. When the first one of a direction is lost, a changed hello or welcome goes
///   unnoticed in that direction.
///
/// # On the wire
///
/// ```text
/// frame = [ salt (32) ] ‖ key id (4) ‖ ciphertext ‖ tag (16)
/// ```
///
/// - *key id*: unsigned, big-endian; says which secret was used. A receiver accepts any secret that it has.
/// - *ciphertext*: as long as the message. An empty message has none, and a tag all the same.
/// - *salt*: stands only before the first frame of each direction, and only where there was no hello.
///
/// The *key* of a link and direction is HKDF-SHA-256 (RFC 5869), 32 bytes, of
///
/// - secret: the secret with the frame's key id;
/// - salt: the client's nonce, then the server's, 16 bytes each, decoded from the hexadecimal digits of hello and
///   welcome. Without hello: the 32 bytes before the first frame of the direction, random and chosen by its
///   sender, for every key id;
/// - info: the ASCII text `msgi1 `, the name of the stage, and ` c2s` for what the client sends or ` s2c` for what
///   the server sends; for example `msgi1 aes-256-gcm c2s`.
///
/// Each key counts its frames: those that were encrypted under it on this link in this direction, from 0. A key
/// that comes back after another one goes on where it was.
///
/// - The *nonce* is four zero bytes and the count, 8 bytes, big-endian.
/// - The *associated data* of count 0, the first frame under each key, is SHA-256 of the payload of hello followed by
///   that of welcome, as they were on the wire. Without hello: SHA-256 of nothing. That of every other count is the
///   count, 8 bytes, big-endian.
/// - A key encrypts 2^32 frames, the last with the count 2^32 - 1; then its sender has to use another one.
///
/// A receiver tries the next count only, and counts on only when the tag fits. Where frames may be lost, over UDP,
/// it tries the next 64 in ascending order and goes on behind the one that fits; there the stage needs a hello.
#[derive(Clone, Debug)]
pub struct Encryption {
    suite: &'static Suite,
    keys: Keys,
}

impl Encryption {
    /// AES with 256 bits in Galois/counter mode: the fastest on processors with instructions for it, which
    /// means nearly all servers and desktops. Name: `aes-256-gcm`.
    pub fn aes_256_gcm(keys: &Keys) -> Self {
        Encryption {
            suite: &AES_256_GCM,
            keys: keys.clone(),
        }
    }

    /// ChaCha20 with Poly1305: the fastest on processors without instructions for AES. Name:
    /// `chacha20-poly1305`.
    pub fn chacha20_poly1305(keys: &Keys) -> Self {
        Encryption {
            suite: &CHACHA20_POLY1305,
            keys: keys.clone(),
        }
    }
}

impl From<Encryption> for StageDefinition {
    fn from(encryption: Encryption) -> Self {
        let Encryption { suite, keys } = encryption;
        StageDefinition {
            name: suite.name.into(),
            kind: StageKind::Encryption,
            overhead: OVERHEAD,
            is_shareable: false,
            is_binary: true,
            needs_order: true,
            fault: None,
            make: Arc::new(move |context| Ok(Box::new(LinkCipher::new(&keys, suite, context)?))),
        }
    }
}
