//! LZ4 blocks.

use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
};

use super::pool::{self, Pool};

/// The most bytes that one byte of a block can stand for.
const EXPANSION: usize = 255;
/// From this length on, a table needs entries of 32 bits.
const LARGE: usize = u16::MAX as usize;

thread_local! {
    /// The key is whether the table is a large one: a small one would be replaced by a large one for good.
    static TABLES: Pool<bool, CompressTable> = const { Pool::new(Vec::new()) };
}

pub(super) fn compress(message: &[u8], most: usize, output: &mut Vec<u8>) -> bool {
    let start = output.len();
    // The library asks for that much, even if it is not to become longer.
    output.resize(start + get_maximum_output_size(message.len()), 0);
    let is_large = message.len() >= LARGE;
    let table = || match is_large {
        true => CompressTable::large(),
        false => CompressTable::small(),
    };
    let work = |table: &mut _| compress_into_with_table(message, &mut output[start..], table);
    match pool::with(&TABLES, is_large, || Some(table()), work, |_| true) {
        Some(Ok(written)) if written <= most => {
            output.truncate(start + written);
            true
        }
        _ => false,
    }
}

/// Whether a block of this length can stand for `len` bytes.
pub(super) fn expands_to(compressed: &[u8], len: usize) -> bool {
    compressed.len().saturating_mul(EXPANSION) >= len
}

/// A block has no end of its own: it takes all of `compressed`, or something is wrong.
pub(super) fn decompress(compressed: &[u8], room: &mut [u8]) -> Option<usize> {
    decompress_into(compressed, room).ok()
}
