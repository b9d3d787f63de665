//! What one link remembers of its encryption.

use aws_lc_rs::digest::{SHA256, digest};

use super::derive::{SALT, Suite, TAG, Way, WireKey};
use super::keys::{Keys, Ring};
use crate::pipeline::{Handshake, LinkContext, Secret, Stage, StageError};

/// Bytes of the key's id before the ciphertext.
const ID: usize = 4;

/// Bytes that every frame has more than its message.
pub(super) const OVERHEAD: usize = ID + TAG;

/// Frames that one key encrypts on one link in one direction.
pub(super) const FRAMES_MAX: u64 = 1 << 32;

/// How many counts are tried where frames may be lost: the expected one and those behind it.
const WINDOW: u64 = 64;

/// The stage of one link.
pub(super) struct LinkCipher {
    keys: Keys,
    suite: &'static Suite,
    /// The associated data of the first frame under each key.
    first: [u8; 32],
    is_lossy: bool,
    /// Of the ring, when this link last looked at it.
    generation: u64,
    active: u32,
    pub(super) sending: Direction,
    pub(super) receiving: Direction,
}

/// One direction of a link.
pub(super) struct Direction {
    pub(super) salt: [u8; SALT],
    /// Whether the salt stands before the next frame.
    pub(super) is_salt_due: bool,
    pub(super) keys: DirectionKeys,
}

/// The keys of one direction of a link.
pub(super) struct DirectionKeys {
    way: Way,
    /// The key of the last frame.
    pub(super) current: Option<CountedKey>,
    /// The counts of other keys of the ring, which are derived anew when they come back.
    pub(super) counts: Vec<(u32, u64)>,
}

pub(super) struct CountedKey {
    id: u32,
    key: WireKey,
    /// Frames so far under this key.
    pub(super) count: u64,
}

impl LinkCipher {
    pub(super) fn new(
        keys: &Keys,
        suite: &'static Suite,
        context: &LinkContext<'_>,
    ) -> Result<Self, StageError> {
        let (sent, received) = match context.is_client {
            true => (Way::ClientToServer, Way::ServerToClient),
            false => (Way::ServerToClient, Way::ClientToServer),
        };
        let (sending, receiving, first) = match context.handshake {
            Some(handshake) => {
                let salt = salt(handshake);
                let direction = |way| Direction::new(way, salt, false);
                (direction(sent), direction(received), handshake.transcript)
            }
            None if context.is_lossy => {
                let text = "encryption needs hello where messages can be lost, use codec=msgi";
                return Err(StageError::new(text));
            }
            None => {
                let mut salt = [0; SALT];
                getrandom::fill(&mut salt)
                    .map_err(|_| StageError::new("the system gives no random bytes"))?;
                let (sending, receiving) = (
                    Direction::new(sent, salt, true),
                    Direction::new(received, [0; SALT], true),
                );
                (sending, receiving, sha256_of_nothing())
            }
        };
        let ring = keys.ring();
        Ok(LinkCipher {
            keys: keys.clone(),
            suite,
            first,
            is_lossy: context.is_lossy,
            generation: ring.generation(),
            active: ring.active().0,
            sending,
            receiving,
        })
    }

    /// Follows what has changed in the ring.
    fn refresh(&mut self) {
        if self.keys.generation() != self.generation {
            let ring = self.keys.ring();
            self.generation = ring.generation();
            self.active = ring.active().0;
            self.sending.keys.forget_removed(&ring);
            self.receiving.keys.forget_removed(&ring);
        }
    }
}

impl Stage for LinkCipher {
    fn encode(&mut self, message: &[u8], output: &mut Vec<u8>) -> Result<(), StageError> {
        self.refresh();
        let direction = &mut self.sending;
        let key = match &mut direction.keys.current {
            Some(key) if key.id == self.active => key,
            _ => {
                // Asked for together: by now another one may be active than when the link looked.
                let (id, secret) = self.keys.ring().active().clone();
                let key = direction
                    .keys
                    .derive(self.suite, id, &secret, &direction.salt)?;
                direction.keys.switch(key)
            }
        };
        if key.count >= FRAMES_MAX {
            return Err(used_up(key.id));
        }
        let start = output.len();
        let salt = match direction.is_salt_due {
            true => &direction.salt[..],
            false => &[],
        };
        output.reserve(salt.len() + OVERHEAD + message.len());
        output.extend_from_slice(salt);
        output.extend_from_slice(&key.id.to_be_bytes());
        let body = output.len();
        output.resize(body + message.len() + TAG, 0);
        let (ciphertext, tag) = output[body..].split_at_mut(message.len());
        let count = key.count.to_be_bytes();
        let associated = associated(&self.first, &count);
        match key
            .key
            .seal(key.count, associated, message, ciphertext, tag)
        {
            Ok(()) => {
                key.count += 1;
                direction.is_salt_due = false;
                Ok(())
            }
            Err(error) => {
                output.truncate(start);
                Err(error)
            }
        }
    }

    fn decode(
        &mut self,
        encoded: &[u8],
        limit: usize,
        output: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        self.refresh();
        let direction = &mut self.receiving;
        let (salt, frame) = match direction.is_salt_due {
            true => match encoded.split_first_chunk::<SALT>() {
                Some((salt, frame)) => (salt, frame),
                None => return Err(too_short(encoded)),
            },
            false => (&direction.salt, encoded),
        };
        let Some((id, ciphertext, tag)) = split(frame) else {
            return Err(too_short(encoded));
        };
        if ciphertext.len() > limit {
            return Err(StageError::too_large(ciphertext.len(), limit));
        }
        let opening = Opening {
            first: &self.first,
            window: if self.is_lossy { WINDOW } else { 1 },
            ciphertext,
            tag,
        };
        if let Some(key) = &mut direction.keys.current
            && key.id == id
        {
            return key.open(&opening, output);
        }
        // A key becomes the link's with the first frame that fits it: what others send changes nothing.
        let secret = self.keys.ring().secret(id).cloned();
        let secret = secret.ok_or_else(|| unknown(id))?;
        let salt = *salt;
        let mut key = direction.keys.derive(self.suite, id, &secret, &salt)?;
        key.open(&opening, output)?;
        direction.keys.switch(key);
        direction.salt = salt;
        direction.is_salt_due = false;
        Ok(())
    }
}

/// A frame that is to be decrypted.
struct Opening<'a> {
    /// The associated data of the first frame under a key.
    first: &'a [u8; 32],
    /// How many counts are tried.
    window: u64,
    ciphertext: &'a [u8],
    tag: &'a [u8; TAG],
}

impl CountedKey {
    /// Appends the message of a frame, and counts on behind it.
    fn open(&mut self, frame: &Opening<'_>, output: &mut Vec<u8>) -> Result<(), StageError> {
        if self.count >= FRAMES_MAX {
            return Err(used_up(self.id));
        }
        let start = output.len();
        output.resize(start + frame.ciphertext.len(), 0);
        let message = &mut output[start..];
        for count in self.count..FRAMES_MAX.min(self.count + frame.window) {
            let bytes = count.to_be_bytes();
            let associated = associated(frame.first, &bytes);
            let key = &self.key;
            if key.open(count, associated, frame.ciphertext, frame.tag, message) {
                self.count = count + 1;
                return Ok(());
            }
        }
        output.truncate(start);
        Err(StageError::new(REFUSED))
    }
}

impl Direction {
    fn new(way: Way, salt: [u8; SALT], is_salt_due: bool) -> Self {
        Direction {
            salt,
            is_salt_due,
            keys: DirectionKeys {
                way,
                current: None,
                counts: Vec::new(),
            },
        }
    }
}

impl DirectionKeys {
    /// The link's key of a secret, with as many frames as were counted under its id.
    fn derive(
        &self,
        suite: &Suite,
        id: u32,
        secret: &Secret,
        salt: &[u8; SALT],
    ) -> Result<CountedKey, StageError> {
        let counted = self.counts.iter().find(|(other, _)| *other == id);
        Ok(CountedKey {
            id,
            key: WireKey::derive(suite, secret, salt, self.way)?,
            count: counted.map_or(0, |(_, count)| *count),
        })
    }

    /// Makes `key` the current one and keeps the count of the former.
    fn switch(&mut self, key: CountedKey) -> &mut CountedKey {
        self.counts.retain(|(id, _)| *id != key.id);
        if let Some(former) = self.current.take() {
            self.counts.push((former.id, former.count));
        }
        self.current.insert(key)
    }

    /// Drops what belongs to keys that are no longer in the ring. They never come back, so that no count
    /// begins again.
    fn forget_removed(&mut self, ring: &Ring) {
        self.counts.retain(|(id, _)| ring.secret(*id).is_some());
        if let Some(key) = &self.current
            && ring.secret(key.id).is_none()
        {
            self.current = None;
        }
    }
}

/// Nothing more is said, because nobody but an attacker would learn from it.
const REFUSED: &str =
    "the message was changed, repeated or reordered on its way, or the sides have different keys";

fn unknown(id: u32) -> StageError {
    StageError::new(format!("there is no key with the id {id}"))
}

fn used_up(id: u32) -> StageError {
    let text = format!(
        "the key {id} has encrypted {FRAMES_MAX} messages on this link and has to be changed"
    );
    StageError::new(text)
}

fn too_short(encoded: &[u8]) -> StageError {
    let len = encoded.len();
    StageError::new(format!("{len} bytes are too few for an encrypted message"))
}

/// The id of the key, the ciphertext and the tag.
fn split(frame: &[u8]) -> Option<(u32, &[u8], &[u8; TAG])> {
    let (id, rest) = frame.split_first_chunk::<ID>()?;
    let (ciphertext, tag) = rest.split_last_chunk::<TAG>()?;
    Some((u32::from_be_bytes(*id), ciphertext, tag))
}

fn associated<'a>(first: &'a [u8; 32], count: &'a [u8; 8]) -> &'a [u8] {
    match u64::from_be_bytes(*count) {
        0 => first,
        _ => count,
    }
}

/// Both nonces, the client's first.
fn salt(handshake: &Handshake) -> [u8; SALT] {
    let mut salt = [0; SALT];
    let (client, server) = salt.split_at_mut(handshake.client_nonce.len());
    client.copy_from_slice(&handshake.client_nonce);
    server.copy_from_slice(&handshake.server_nonce);
    salt
}

/// What stands in for the transcript where there is none.
fn sha256_of_nothing() -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, &[]).as_ref());
    bytes
}
