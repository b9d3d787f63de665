//! gzip members and zlib streams.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::pool::{self, Pool};

/// What stands around the deflated bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrapper {
    Gzip,
    Zlib,
}

/// The largest window, as a power of two.
const WINDOW_BITS: u8 = 15;

thread_local! {
    static COMPRESSORS: Pool<(Wrapper, u8), Compress> = const { Pool::new(Vec::new()) };
    static DECOMPRESSORS: Pool<Wrapper, Decompress> = const { Pool::new(Vec::new()) };
}

pub(super) fn compress(
    wrapper: Wrapper,
    level: u8,
    message: &[u8],
    most: usize,
    output: &mut Vec<u8>,
) -> bool {
    let start = output.len();
    output.reserve(most);
    let make = || {
        let level = Compression::new(level.into());
        Some(match wrapper {
            Wrapper::Gzip => Compress::new_gzip(level, WINDOW_BITS),
            Wrapper::Zlib => Compress::new_with_window_bits(level, true, WINDOW_BITS),
        })
    };
    let work = |stream: &mut Compress| {
        stream.reset();
        stream.compress_vec(message, output, FlushCompress::Finish)
    };
    let result = pool::with(&COMPRESSORS, (wrapper, level), make, work, |_| true);
    // Without an end it did not fit.
    matches!(result, Some(Ok(Status::StreamEnd))) && output.len() - start <= most
}

/// Needs the whole room at once, and then no window of its own.
pub(super) fn decompress(wrapper: Wrapper, compressed: &[u8], room: &mut [u8]) -> Option<usize> {
    let make = || {
        Some(match wrapper {
            Wrapper::Gzip => Decompress::new_gzip(WINDOW_BITS),
            Wrapper::Zlib => Decompress::new_with_window_bits(true, WINDOW_BITS),
        })
    };
    let work = |stream: &mut Decompress| {
        stream.reset(true);
        let status = stream.decompress(compressed, room, FlushDecompress::Finish);
        let takes_all = stream.total_in() == compressed.len() as u64;
        match status {
            Ok(Status::StreamEnd) if takes_all => usize::try_from(stream.total_out()).ok(),
            _ => None,
        }
    };
    pool::with(&DECOMPRESSORS, wrapper, make, work, |_| true).flatten()
}
