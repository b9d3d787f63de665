//! Room for what comes out of a decompressor.

/// Room that is made without more ado.
const FIRST: usize = 64 * 1024;
/// Messages that shrink to less than one part in so many are begun again with more room.
const USUAL: usize = 16;
/// By how much the room grows then. All attempts together take at most a third more time than the last.
const GROWTH: usize = 4;

/// Appends the `len` bytes that `compressed` stands for. When this returns false, it is something else, and
/// nothing is appended.
///
/// A peer can say any length, so memory is not taken because of what it says: the room follows from the length
/// of `compressed`, and grows only when that has filled it. An algorithm that is given the whole room at once
/// needs no window of its own, which is worth more than not to begin again now and then.
///
/// `decompress` writes from the start of the room that it is given, and returns how much it has written; `None`
/// when the room does not suffice or something is wrong.
pub(super) fn expand(
    compressed: &[u8],
    len: usize,
    output: &mut Vec<u8>,
    mut decompress: impl FnMut(&mut [u8]) -> Option<usize>,
) -> bool {
    let before = output.len();
    let mut room = len.min(compressed.len().saturating_mul(USUAL).max(FIRST));
    loop {
        output.resize(before + room, 0);
        match decompress(&mut output[before..]) {
            Some(written) if written == len => return true,
            None if room < len => {
                room = len.min(room.saturating_mul(GROWTH));
                output.truncate(before);
                // Otherwise it might be doubled, which is more than the length that is said.
                output.reserve_exact(room);
            }
            _ => {
                output.truncate(before);
                return false;
            }
        }
    }
}
