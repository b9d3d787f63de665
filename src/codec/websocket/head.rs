//! Heads of frames, RFC 6455 section 5.2, and masks.

use std::cell::RefCell;
use std::hash::{BuildHasher, Hasher, RandomState};

/// The longest payload of a control frame.
pub(crate) const CONTROL_MAX: usize = 125;
/// The first bytes of whole messages that are not compressed.
pub(crate) const TEXT: u8 = 0x80 | Opcode::Text as u8;
pub(crate) const BINARY: u8 = 0x80 | Opcode::Binary as u8;
/// The longest head.
pub(crate) const HEAD_MAX: usize = 14;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    #[inline]
    pub(crate) fn is_control(self) -> bool {
        self as u8 >= Opcode::Close as u8
    }
}

impl TryFrom<u8> for Opcode {
    /// The opcode, which is reserved.
    type Error = u8;

    #[inline]
    fn try_from(number: u8) -> Result<Self, u8> {
        Ok(match number {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            other => return Err(other),
        })
    }
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Whether it is the last frame of its message.
    pub(crate) fin: bool,
    /// RSV1: whether the message is compressed.
    pub(crate) compressed: bool,
    pub(crate) opcode: Opcode,
    pub(crate) len: usize,
    pub(crate) mask: Option<[u8; 4]>,
}

impl Head {
    /// Writes the head, with the shortest form of the length, and says how many bytes it has.
    #[inline]
    pub(crate) fn encode(&self, out: &mut [u8; HEAD_MAX]) -> usize {
        let masked = u8::from(self.mask.is_some()) << 7;
        out[0] = u8::from(self.fin) << 7 | u8::from(self.compressed) << 6 | self.opcode as u8;
        let mut size = if self.len <= CONTROL_MAX {
            out[1] = masked | self.len as u8;
            2
        } else if let Ok(len) = u16::try_from(self.len) {
            out[1] = masked | 126;
            out[2..4].copy_from_slice(&len.to_be_bytes());
            4
        } else {
            out[1] = masked | 127;
            out[2..10].copy_from_slice(&(self.len as u64).to_be_bytes());
            10
        };
        if let Some(key) = self.mask {
            out[size..size + 4].copy_from_slice(&key);
            size += 4;
        }
        size
    }
}

/// Bytes that are masked at a time. The compiler makes vector instructions of the loop.
const BLOCK: usize = 32;

/// Masks or unmasks `bytes`, which stand at `offset` in the payload.
#[inline]
pub(crate) fn apply_mask(bytes: &mut [u8], key: [u8; 4], offset: usize) {
    let word = u32::from_le_bytes(key).rotate_right((offset as u32 % 4) * 8);
    let wide = u64::from(word) << 32 | u64::from(word);
    let (blocks, rest) = bytes.as_chunks_mut::<BLOCK>();
    for block in blocks {
        for word in block.as_chunks_mut::<8>().0 {
            *word = (u64::from_le_bytes(*word) ^ wide).to_le_bytes();
        }
    }
    let (words, rest) = rest.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_le_bytes(*word) ^ wide).to_le_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(wide.to_le_bytes()) {
        *byte ^= key;
    }
}

/// Random bytes that are fetched from the system at a time: 256 keys for one system call.
const POOL: usize = 1024;

/// Random bytes of a thread, used from the back.
struct Pool {
    bytes: [u8; POOL],
    left: usize,
}

thread_local! {
    static POOLS: RefCell<Pool> = const {
        RefCell::new(Pool {
            bytes: [0; POOL],
            left: 0,
        })
    };
}

/// A masking key that nobody can predict (RFC 6455 section 10.3).
#[inline]
pub(crate) fn next_mask() -> [u8; 4] {
    POOLS
        .try_with(|pool| pool.try_borrow_mut().ok()?.next())
        .ok()
        .flatten()
        .unwrap_or_else(without_pool)
}

impl Pool {
    #[inline]
    fn next(&mut self) -> Option<[u8; 4]> {
        if self.left == 0 {
            getrandom::fill(&mut self.bytes).ok()?;
            self.left = POOL;
        }
        let key = self.bytes[..self.left].last_chunk().copied();
        self.left -= 4;
        key
    }
}

/// When the thread is ending, or the system gives no random bytes. The keys of the standard library's hash
/// maps come from the system too, and from its older interface where there is one.
#[cold]
fn without_pool() -> [u8; 4] {
    let mut key = [0; 4];
    if getrandom::fill(&mut key).is_err() {
        let hash = RandomState::new().build_hasher().finish();
        key.copy_from_slice(&hash.to_le_bytes()[..4]);
    }
    key
}
