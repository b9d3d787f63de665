//! zstd frames.

use std::io::Cursor;

use zstd::zstd_safe::{
    CCtx, CParameter, DCtx, find_frame_compressed_size, get_dict_id_from_frame,
    get_frame_content_size,
};

use super::pool::{self, Pool};

/// How a frame begins. Legacy formats and frames to be skipped begin otherwise.
const MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
/// A compressor keeps what its largest message needed. Above this it is freed.
const KEEP: usize = 4 * 1024 * 1024;

thread_local! {
    static COMPRESSORS: Pool<u8, CCtx<'static>> = const { Pool::new(Vec::new()) };
    static DECOMPRESSORS: Pool<(), DCtx<'static>> = const { Pool::new(Vec::new()) };
}

pub(super) fn compress(level: u8, message: &[u8], most: usize, output: &mut Vec<u8>) -> bool {
    let start = output.len();
    output.reserve(most);
    let work = |context: &mut CCtx<'_>| {
        // Written behind what is there, into memory that needs no zeros.
        let mut cursor = Cursor::new(std::mem::take(output));
        cursor.set_position(start as u64);
        let result = context.compress2(&mut cursor, message);
        *output = cursor.into_inner();
        result
    };
    let keep = |context: &CCtx<'_>| context.sizeof() <= KEEP;
    match pool::with(&COMPRESSORS, level, || compressor(level), work, keep) {
        Some(Ok(written)) => written <= most,
        _ => false,
    }
}

fn compressor(level: u8) -> Option<CCtx<'static>> {
    let mut context = CCtx::try_create()?;
    let level = CParameter::CompressionLevel(level.into());
    context.set_parameter(level).ok()?;
    Some(context)
}

/// Whether this is exactly one frame, without a dictionary, that does not say another length.
pub(super) fn is_one_frame(compressed: &[u8], len: usize) -> bool {
    compressed.starts_with(&MAGIC)
        && find_frame_compressed_size(compressed) == Ok(compressed.len())
        && get_dict_id_from_frame(compressed).is_none()
        && match get_frame_content_size(compressed) {
            Ok(Some(said)) => said == len as u64,
            Ok(None) => true,
            Err(_) => false,
        }
}

/// The room is the window as well, so a frame may ask for a window of any size: nothing is allocated for it.
pub(super) fn decompress(compressed: &[u8], room: &mut [u8]) -> Option<usize> {
    let work = |context: &mut DCtx<'_>| context.decompress(room, compressed).ok();
    pool::with(&DECOMPRESSORS, (), DCtx::try_create, work, |_| true).flatten()
}
