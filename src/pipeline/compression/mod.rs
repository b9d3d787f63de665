//! Stages that make messages shorter.
//!
//! On the wire (protocol section 6) a message begins with one byte. After 0 follows the message as it is.
//! After 1 follow its length, 4 bytes in big-endian order, and what the algorithm made of it: one LZ4 block,
//! one zstd frame without a dictionary, one gzip member or one zlib stream, and nothing behind it.
//!
//! Each message is compressed by itself, so that none is needed to read another. What an algorithm works with
//! belongs to the thread, not to the session: an idle session needs no memory for compression.

mod expand;
mod lz4;
mod pool;
mod zlib;
mod zstd;

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::Arc;

use self::expand::expand;
use super::stage::{Stage, StageDefinition, StageError, StageKind};

/// A message as it is.
const PLAIN: u8 = 0;
/// A message's length and what the algorithm made of it.
const COMPRESSED: u8 = 1;
/// Bytes before a message that is compressed.
const HEAD: usize = 5;
/// Bytes before a message as it is.
const OVERHEAD: usize = 1;
/// Below this many bytes there is little to gain.
const THRESHOLD: usize = 1_024;

/// A stage that compresses messages.
///
/// Messages below the [threshold](Self::threshold), and those that would not become shorter, are sent as they
/// are, with one byte before them.
///
/// | algorithm | levels | default | memory of a thread at work |
/// |---|---|---|---|
/// | [`lz4`](Self::lz4) | – | | 24 KiB |
/// | [`zstd`](Self::zstd) | 1 to 22 | 3 | messages of 4 KiB: 0.2 MiB; of 1 MiB: 1.4 MiB at level 3, 18 MiB at level 22. Up to 4 MiB are kept |
/// | [`gzip`](Self::gzip), [`deflate`](Self::deflate) | 1 to 9 | 3 | 350 KiB each |
///
/// ```
/// use network_system::pipeline::{Compression, Pipeline};
///
/// let pipeline = Pipeline::builder()
///     .offer(Compression::zstd().level(5))
///     .offer(Compression::lz4().threshold(256))
///     .build()?;
/// assert!(pipeline.names().eq(["zstd", "lz4"]));
/// # Ok::<(), network_system::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compression {
    algorithm: Algorithm,
    level: Option<u8>,
    threshold: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Lz4,
    Zstd,
    Gzip,
    Deflate,
}

impl Compression {
    /// LZ4, the fastest.
    pub fn lz4() -> Self {
        Compression::new(Algorithm::Lz4)
    }

    /// Zstandard, smaller than LZ4 and faster than gzip.
    pub fn zstd() -> Self {
        Compression::new(Algorithm::Zstd)
    }

    /// gzip, which everything can read.
    pub fn gzip() -> Self {
        Compression::new(Algorithm::Gzip)
    }

    /// A zlib stream: gzip with 12 bytes less.
    pub fn deflate() -> Self {
        Compression::new(Algorithm::Deflate)
    }

    fn new(algorithm: Algorithm) -> Self {
        Compression {
            algorithm,
            level: None,
            threshold: THRESHOLD,
        }
    }

    /// Sends messages below this many bytes as they are. Default 1,024.
    #[must_use]
    pub fn threshold(mut self, bytes: usize) -> Self {
        self.threshold = bytes;
        self
    }

    /// How hard to try: 1 is fast, the highest level makes messages smallest. A level that the algorithm does
    /// not have is refused when the pipeline is built.
    #[must_use]
    pub fn level(mut self, level: u8) -> Self {
        self.level = Some(level);
        self
    }

    /// What is wrong with the level.
    fn fault(&self) -> Option<Cow<'static, str>> {
        let (name, level) = (self.algorithm.name(), self.level?);
        match self.algorithm.levels() {
            None => Some(format!("{name} has no levels").into()),
            Some(levels) if !levels.contains(&level) => {
                let (first, last) = levels.into_inner();
                Some(format!("{name} has the levels {first} to {last}, not {level}").into())
            }
            Some(_) => None,
        }
    }
}

impl From<Compression> for StageDefinition {
    fn from(compression: Compression) -> Self {
        let algorithm = compression.algorithm;
        let stage = CompressionStage {
            algorithm,
            level: compression.level.unwrap_or(algorithm.default_level()),
            threshold: compression.threshold,
        };
        StageDefinition {
            name: algorithm.name().into(),
            kind: StageKind::Compression,
            overhead: OVERHEAD,
            is_shareable: true,
            is_binary: true,
            needs_order: false,
            fault: compression.fault(),
            make: Arc::new(move |_| Ok(Box::new(stage))),
        }
    }
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Algorithm::Lz4 => "lz4",
            Algorithm::Zstd => "zstd",
            Algorithm::Gzip => "gzip",
            Algorithm::Deflate => "deflate",
        }
    }

    fn levels(self) -> Option<RangeInclusive<u8>> {
        match self {
            Algorithm::Lz4 => None,
            Algorithm::Zstd => Some(1..=22),
            Algorithm::Gzip | Algorithm::Deflate => Some(1..=9),
        }
    }

    fn default_level(self) -> u8 {
        match self {
            Algorithm::Lz4 => 0,
            Algorithm::Zstd | Algorithm::Gzip | Algorithm::Deflate => 3,
        }
    }

    /// Appends what the algorithm makes of `message`, at most `most` bytes. When this returns false, it would
    /// be more, or there is no memory for it, and anything may be behind what was there.
    #[must_use]
    fn compress(self, level: u8, message: &[u8], most: usize, output: &mut Vec<u8>) -> bool {
        match self {
            Algorithm::Lz4 => lz4::compress(message, most, output),
            Algorithm::Zstd => zstd::compress(level, message, most, output),
            Algorithm::Gzip => zlib::compress(zlib::Wrapper::Gzip, level, message, most, output),
            Algorithm::Deflate => zlib::compress(zlib::Wrapper::Zlib, level, message, most, output),
        }
    }

    /// Appends what was compressed, which must be exactly `len` bytes and take all of `compressed`.
    fn decompress(
        self,
        compressed: &[u8],
        len: usize,
        output: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        let is_whole = match self {
            Algorithm::Lz4 => lz4::expands_to(compressed, len),
            Algorithm::Zstd => zstd::is_one_frame(compressed, len),
            Algorithm::Gzip | Algorithm::Deflate => true,
        };
        let done = is_whole
            && expand(compressed, len, output, |room| match self {
                Algorithm::Lz4 => lz4::decompress(compressed, room),
                Algorithm::Zstd => zstd::decompress(compressed, room),
                Algorithm::Gzip => zlib::decompress(zlib::Wrapper::Gzip, compressed, room),
                Algorithm::Deflate => zlib::decompress(zlib::Wrapper::Zlib, compressed, room),
            });
        match done {
            true => Ok(()),
            false => Err(StageError::new(
                "a compressed message is damaged, or is not as long as it says",
            )),
        }
    }
}

/// The stage of a link. It has no state: any message can be read by itself.
#[derive(Clone, Copy, Debug)]
struct CompressionStage {
    algorithm: Algorithm,
    level: u8,
    threshold: usize,
}

impl Stage for CompressionStage {
    fn encode(&mut self, message: &[u8], output: &mut Vec<u8>) -> Result<(), StageError> {
        let before = output.len();
        // Compressed, it has to be shorter than as it is, both with what stands before them.
        let most = (message.len() + OVERHEAD).saturating_sub(HEAD + 1);
        if let (true, true, Ok(len)) = (
            message.len() >= self.threshold,
            most > 0,
            u32::try_from(message.len()),
        ) {
            output.push(COMPRESSED);
            output.extend_from_slice(&len.to_be_bytes());
            let Self {
                algorithm, level, ..
            } = *self;
            if algorithm.compress(level, message, most, output) {
                return Ok(());
            }
            output.truncate(before);
        }
        output.reserve(OVERHEAD + message.len());
        output.push(PLAIN);
        output.extend_from_slice(message);
        Ok(())
    }

    fn decode(
        &mut self,
        encoded: &[u8],
        limit: usize,
        output: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        match encoded.split_first() {
            Some((&PLAIN, message)) if message.len() > limit => {
                Err(StageError::too_large(message.len(), limit))
            }
            Some((&PLAIN, message)) => {
                output.extend_from_slice(message);
                Ok(())
            }
            Some((&COMPRESSED, rest)) => {
                let Some((len, compressed)) = rest.split_first_chunk() else {
                    return Err(StageError::new("a compressed message is cut short"));
                };
                // Where it does not fit, it is over the limit as well.
                let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
                if len > limit {
                    return Err(StageError::too_large(len, limit));
                }
                self.algorithm.decompress(compressed, len, output)
            }
            Some(_) => Err(StageError::new(
                "a message neither is compressed nor says that it is as it was",
            )),
            None => Err(StageError::new(
                "an empty message, without the byte that says whether it is compressed",
            )),
        }
    }
}

#[cfg(test)]
mod tests;
