//! Inflating messages as they arrive.

use std::cell::RefCell;

use flate2::{Decompress, FlushDecompress, Status};

/// How the peer compresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InflateConfig {
    /// Whether the peer begins each message with an empty window.
    pub(crate) no_context_takeover: bool,
    /// The size of the peer's window as a power of two, 8 to 15.
    pub(crate) window_bits: u8,
}

/// Why compressed bytes are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// What comes out is over the limit.
    TooLarge,
    /// They cannot be inflated.
    Invalid(&'static str),
}

const INVALID: Refused = Refused::Invalid("a compressed message cannot be inflated");
const CUT_SHORT: Refused = Refused::Invalid("a compressed message is cut short");

/// The end of a message's last block, which is not sent (RFC 7692 section 7.2.2).
pub(super) const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];
/// An empty final block. It is understood only where a block can begin, so it shows that none was cut short.
const FINAL: [u8; 5] = [0x01, 0x00, 0x00, 0xFF, 0xFF];

/// How often one message may end the compressed stream and begin another. Once is an encoder that compresses
/// each message by itself; beginning anew is too dear to be asked for with every second byte.
const RESTARTS: u8 = 16;
/// What the output grows by at least.
const STEP: usize = 512;
/// The default size of a window, and the largest.
const MAX_BITS: u8 = 15;
/// The smallest window that the library has. A larger one than the peer's does as well.
const MIN_BITS: u8 = 9;
/// Inflaters that a thread keeps for its sessions, about 50 KiB each.
const POOLED: usize = 4;

thread_local! {
    static POOL: RefCell<Vec<Decompress>> = const { RefCell::new(Vec::new()) };
}

/// The compressed stream of one connection, or of one message when nothing is carried over.
#[derive(Debug)]
pub(crate) struct Inflater {
    /// `None` only while it is dropped.
    stream: Option<Decompress>,
    /// Whether it goes back to the thread's pool after the message.
    pooled: bool,
    /// Whether a final block has ended the stream, so that the next byte begins a new one.
    ended: bool,
    /// Whether the message had any byte so far.
    begun: bool,
    restarts: u8,
}

impl Inflater {
    pub(crate) fn new(config: InflateConfig) -> Self {
        let pooled = config.no_context_takeover;
        let stream = match pooled {
            true => POOL
                .try_with(|pool| pool.try_borrow_mut().ok()?.pop())
                .ok()
                .flatten()
                .unwrap_or_else(|| Decompress::new_with_window_bits(false, MAX_BITS)),
            false => {
                let bits = config.window_bits.clamp(MIN_BITS, MAX_BITS);
                Decompress::new_with_window_bits(false, bits)
            }
        };
        Inflater {
            stream: Some(stream),
            pooled,
            ended: false,
            begun: false,
            restarts: 0,
        }
    }

    /// Appends what `input` holds to `output`, which has at most a little more than `limit` bytes then.
    pub(crate) fn inflate(
        &mut self,
        mut input: &[u8],
        output: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), Refused> {
        let Some(stream) = &mut self.stream else {
            return Err(INVALID);
        };
        self.begun |= !input.is_empty();
        loop {
            if self.ended {
                if input.is_empty() {
                    return Ok(());
                }
                if self.restarts == RESTARTS {
                    return Err(INVALID);
                }
                self.restarts += 1;
                self.ended = false;
                stream.reset(false);
            }
            if output.len() == output.capacity() {
                // In proportion to what has arrived and come out, and one byte more than the limit, so that
                // going over it shows.
                let room = output.len().max(input.len() * 2).max(STEP);
                output.reserve_exact(room.min(limit + 1 - output.len()));
            }
            let (taken, made) = (stream.total_in(), output.len());
            let status = stream
                .decompress_vec(input, output, FlushDecompress::None)
                .map_err(|_| INVALID)?;
            let taken = (stream.total_in() - taken) as usize;
            input = &input[taken..];
            if output.len() > limit {
                return Err(Refused::TooLarge);
            }
            if status == Status::StreamEnd {
                self.ended = true;
            } else if output.len() < output.capacity() {
                // Room is left, so all has come out that can.
                return match input.is_empty() {
                    true => Ok(()),
                    false if taken == 0 && made == output.len() => Err(INVALID),
                    false => continue,
                };
            }
        }
    }

    /// The message is complete.
    pub(crate) fn finish(&mut self, output: &mut Vec<u8>, limit: usize) -> Result<(), Refused> {
        let begun = std::mem::take(&mut self.begun);
        self.restarts = 0;
        // Nothing at all is how some encoders put an empty message; and a final block ends by itself.
        if !begun || self.ended {
            return Ok(());
        }
        let made = output.len();
        self.inflate(&TAIL, output, limit)?;
        let mut at_block = !self.ended && self.restarts == 0;
        if self.pooled && at_block {
            self.inflate(&FINAL, output, limit)?;
            at_block = self.ended && self.restarts == 0;
        }
        self.begun = false;
        match at_block && output.len() == made {
            true => Ok(()),
            false => Err(CUT_SHORT),
        }
    }
}

impl Drop for Inflater {
    fn drop(&mut self) {
        if !self.pooled {
            return;
        }
        if let Some(mut stream) = self.stream.take() {
            // A thread that is ending has no pool any more.
            let _ = POOL.try_with(|pool| {
                if let Ok(mut pool) = pool.try_borrow_mut()
                    && pool.len() < POOLED
                {
                    stream.reset(false);
                    pool.push(stream);
                }
            });
        }
    }
}
