//! permessage-deflate, RFC 7692: options, compressing; agreeing on it is in [`negotiation`], the other
//! direction in [`inflate`].

pub(crate) mod inflate;
pub(crate) mod negotiation;

use std::cell::RefCell;

use flate2::{Compress, Compression, FlushCompress};

pub(crate) use self::inflate::InflateConfig;
use self::inflate::TAIL;
pub(crate) use self::negotiation::Agreed;
use crate::error::ConfigError;

/// How messages are compressed on WebSocket (permessage-deflate, RFC 7692).
///
/// By default each message is compressed by itself. Then an idle connection needs no memory for compression,
/// whereas carrying the window over from message to message costs about 300 KiB for what this side sends and
/// about 50 KiB for what it receives, for each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deflate {
    /// Whether the server compresses each message by itself. Default true.
    pub server_no_context_takeover: bool,
    /// Whether the client compresses each message by itself. Default true.
    pub client_no_context_takeover: bool,
    /// The largest window of the server as a power of two, 9 to 15. Default 15, which is 32 KiB.
    pub server_max_window_bits: u8,
    /// The largest window of the client as a power of two, 9 to 15. Default 15, which is 32 KiB.
    pub client_max_window_bits: u8,
    /// How hard this side tries, 1 (fast) to 9 (small). Default 3.
    ///
    /// Measured on messages of about 900 bytes of JSON only: level 1 leaves 37 % of the size and takes 2.3 µs,
    /// levels 2 to 9 all leave 28 to 29 % and take 6.6 to 8.7 µs. Larger messages were not measured.
    pub level: u8,
    /// Messages below this many bytes are sent as they are. Default 1,024.
    pub threshold: usize,
}

impl Default for Deflate {
    fn default() -> Self {
        Deflate {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: MAX_BITS,
            client_max_window_bits: MAX_BITS,
            level: 3,
            threshold: 1_024,
        }
    }
}

impl Deflate {
    /// Checks that every value is in its range.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        for (name, bits) in [
            ("server_max_window_bits", self.server_max_window_bits),
            ("client_max_window_bits", self.client_max_window_bits),
        ] {
            if !(MIN_BITS..=MAX_BITS).contains(&bits) {
                return Err(ConfigError::option(name, bits, "9 to 15"));
            }
        }
        match self.level {
            1..=9 => Ok(()),
            level => Err(ConfigError::option("level", level, "1 to 9")),
        }
    }
}

/// The window that is used when nothing else was agreed on, and the largest.
const MAX_BITS: u8 = 15;
/// The smallest window that the library compresses with.
const MIN_BITS: u8 = 9;
/// Compressors that a thread keeps for its sessions, about 300 KiB each.
const POOLED: usize = 2;
/// Output is reserved in steps, so that a large message that shrinks does not take its whole size.
const STEP: usize = 16 * 1024;

/// A compressor that can be used for any message of any session with the same settings.
struct Pooled {
    level: u8,
    bits: u8,
    stream: Compress,
}

thread_local! {
    static POOL: RefCell<Vec<Pooled>> = const { RefCell::new(Vec::new()) };
}

/// Compresses what one side of a connection sends.
#[derive(Debug)]
pub(crate) enum Deflater {
    /// Each message by itself; nothing is held in between.
    Stateless { level: u8, bits: u8 },
    /// The window is carried over.
    Takeover(Box<Compress>),
    /// The peer allows only a window that the library does not have, or compressing failed. Messages go out
    /// as they are, which is always allowed.
    Never,
}

impl Deflater {
    pub(crate) fn new(agreed: &Agreed, level: u8) -> Self {
        let (level, bits) = (level.clamp(1, 9), agreed.own_window_bits);
        match bits {
            MIN_BITS..=MAX_BITS if agreed.own_no_context_takeover => {
                Deflater::Stateless { level, bits }
            }
            MIN_BITS..=MAX_BITS => Deflater::Takeover(Box::new(compressor(level, bits))),
            _ => Deflater::Never,
        }
    }

    /// Appends the compressed payload to `out`. When this returns false, nothing is appended and the message
    /// is to be sent as it is. A payload that was compressed has to be sent, because the peer's window
    /// follows it.
    #[must_use]
    pub(crate) fn compress(&mut self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        match self {
            Deflater::Never => false,
            Deflater::Stateless { level, bits } => {
                compress_alone(payload, *level, *bits, out, true)
            }
            Deflater::Takeover(stream) => {
                let done = run(stream, payload, out, usize::MAX);
                if !done {
                    *self = Deflater::Never;
                }
                done
            }
        }
    }
}

/// Compresses a message by itself with the largest window and appends it to `out`. When this returns false,
/// it would not become shorter and nothing is appended.
#[must_use]
pub(crate) fn compress_once(payload: &[u8], level: u8, out: &mut Vec<u8>) -> bool {
    compress_alone(payload, level, MAX_BITS, out, true)
}

fn compress_alone(
    payload: &[u8],
    level: u8,
    bits: u8,
    out: &mut Vec<u8>,
    only_shorter: bool,
) -> bool {
    let level = level.clamp(1, 9);
    let most = match only_shorter {
        true => payload.len(),
        false => usize::MAX,
    };
    let mut pooled = take_pooled(level, bits);
    let done = run(&mut pooled.stream, payload, out, most);
    put_pooled(pooled);
    done
}

fn compressor(level: u8, bits: u8) -> Compress {
    Compress::new_with_window_bits(Compression::new(level.into()), false, bits)
}

fn take_pooled(level: u8, bits: u8) -> Pooled {
    let fits = |pooled: &Pooled| (pooled.level, pooled.bits) == (level, bits);
    POOL.try_with(|pool| {
        let mut pool = pool.try_borrow_mut().ok()?;
        let index = pool.iter().position(fits)?;
        Some(pool.swap_remove(index))
    })
    .ok()
    .flatten()
    .unwrap_or_else(|| Pooled {
        level,
        bits,
        stream: compressor(level, bits),
    })
}

fn put_pooled(mut pooled: Pooled) {
    // A thread that is ending has no pool any more.
    let _ = POOL.try_with(|pool| {
        if let Ok(mut pool) = pool.try_borrow_mut() {
            if pool.len() == POOLED {
                pool.remove(0);
            }
            pooled.stream.reset();
            pool.push(pooled);
        }
    });
}

/// Appends the compressed `payload` without the end of its last block. False, with nothing appended, when that
/// fails or when it does not have fewer than `most` bytes.
fn run(stream: &mut Compress, payload: &[u8], out: &mut Vec<u8>, most: usize) -> bool {
    let before = out.len();
    let mut input = payload;
    let done = loop {
        if out.capacity() - out.len() < 64 {
            out.reserve((input.len() / 2 + 64).min(STEP));
        }
        let taken = stream.total_in();
        if stream
            .compress_vec(input, out, FlushCompress::Sync)
            .is_err()
        {
            break false;
        }
        input = &input[(stream.total_in() - taken) as usize..];
        if out.len() - before >= most.saturating_add(TAIL.len()) {
            break false;
        }
        // Room is left, so all has come out.
        if input.is_empty() && out.len() < out.capacity() {
            break true;
        }
    };
    let len = out.len() - before;
    if !done || (len > 0 && !out[before..].ends_with(&TAIL)) {
        out.truncate(before);
        return false;
    }
    out.truncate(before + len.saturating_sub(TAIL.len()));
    if out.len() == before {
        // An empty message is the first byte of an empty block (RFC 7692 section 7.2.3.6).
        out.push(0);
    }
    if out.len() - before >= most {
        out.truncate(before);
        return false;
    }
    true
}
