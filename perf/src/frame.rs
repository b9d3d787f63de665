//! MSGI frames: a header of ten bytes in network order (magic, length of the
//! whole frame, type), then the payload.

use std::fmt;

/// The first four bytes of every frame.
pub const MAGIC: u32 = 0x4D53_4749;
/// The length of a header.
pub const HEADER_LEN: usize = 10;
/// The longest frame that is accepted: a message of 1 MiB and its header.
pub const MAX_FRAME_LEN: usize = HEADER_LEN + (1 << 20);

/// Asks for a `PONG` with the same payload.
pub const PING: u16 = 0x0001;
/// Answers a `PING`.
pub const PONG: u16 = 0x0002;
/// Carries a message.
pub const DATA: u16 = 0x0010;
/// Carries session control as JSON.
pub const CONTROL: u16 = 0x0020;
/// Shows that the sender is alive.
pub const HEARTBEAT: u16 = 0x0040;

/// Builds the header of a frame whose payload has `payload_len` bytes.
///
/// # Panics
///
/// Panics when the frame would be longer than its length field can say.
pub fn header(kind: u16, payload_len: usize) -> [u8; HEADER_LEN] {
    let length = u32::try_from(HEADER_LEN + payload_len).expect("the length fits its field");
    let mut header = [0; HEADER_LEN];
    header[..4].copy_from_slice(&MAGIC.to_be_bytes());
    header[4..8].copy_from_slice(&length.to_be_bytes());
    header[8..].copy_from_slice(&kind.to_be_bytes());
    header
}

/// Reads a header and gives the type and the length of the whole frame.
///
/// # Errors
///
/// Fails on a wrong magic and on a length outside of the limits.
#[inline]
pub fn parse_header(header: &[u8; HEADER_LEN]) -> Result<(u16, usize), Malformed> {
    let [m0, m1, m2, m3, l0, l1, l2, l3, k0, k1] = *header;
    let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    if u32::from_be_bytes([m0, m1, m2, m3]) != MAGIC
        || !(HEADER_LEN..=MAX_FRAME_LEN).contains(&length)
    {
        return Err(Malformed);
    }
    Ok((u16::from_be_bytes([k0, k1]), length))
}

/// Calls `each` with the type and the bytes of every frame which `bytes`
/// completes. The unfinished rest goes to `partial`, which the next call
/// continues; whole frames are handed out in place.
///
/// # Errors
///
/// Fails on the first malformed header; the stream cannot be read any further.
#[inline]
pub fn split(
    partial: &mut Vec<u8>,
    mut bytes: &[u8],
    mut each: impl FnMut(u16, &[u8]),
) -> Result<(), Malformed> {
    if !partial.is_empty() {
        match complete(partial, &mut bytes)? {
            Some(kind) => each(kind, partial),
            None => return Ok(()),
        }
        partial.clear();
    }
    while let Some(header) = bytes.first_chunk() {
        let (kind, length) = parse_header(header)?;
        let Some((frame, rest)) = bytes.split_at_checked(length) else {
            break;
        };
        each(kind, frame);
        bytes = rest;
    }
    partial.extend_from_slice(bytes);
    Ok(())
}

/// Moves what is missing of the frame in `partial` from the front of `bytes`,
/// and gives the type of the frame once it is whole.
fn complete(partial: &mut Vec<u8>, bytes: &mut &[u8]) -> Result<Option<u16>, Malformed> {
    fn fill(partial: &mut Vec<u8>, bytes: &mut &[u8], length: usize) {
        let missing = length.saturating_sub(partial.len()).min(bytes.len());
        let (taken, rest) = bytes.split_at(missing);
        partial.extend_from_slice(taken);
        *bytes = rest;
    }

    fill(partial, bytes, HEADER_LEN);
    let Some(header) = partial.first_chunk() else {
        return Ok(None);
    };
    let (kind, length) = parse_header(header)?;
    fill(partial, bytes, length);
    Ok((partial.len() == length).then_some(kind))
}

/// A header with a wrong magic or an impossible length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed frame header")
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_has_the_documented_bytes() {
        assert_eq!(header(DATA, 5), *b"MSGI\0\0\0\x0f\0\x10");
        assert_eq!(parse_header(&header(PING, 0)), Ok((PING, HEADER_LEN)));
    }

    #[test]
    fn wrong_magic_and_impossible_lengths_are_refused() {
        assert_eq!(parse_header(b"MSGJ\0\0\0\x0f\0\x10"), Err(Malformed));
        assert_eq!(parse_header(b"MSGI\0\0\0\x09\0\x10"), Err(Malformed));
        assert_eq!(parse_header(b"MSGI\xff\0\0\0\0\x10"), Err(Malformed));
    }

    #[test]
    fn any_split_gives_the_same_frames() {
        let payloads: [&[u8]; 4] = [b"", b"a", b"0123456789abcdef", b"xyz"];
        let mut stream = Vec::new();
        for payload in payloads {
            stream.extend_from_slice(&header(DATA, payload.len()));
            stream.extend_from_slice(payload);
        }
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let mut partial = Vec::new();
                let mut found = Vec::new();
                for piece in [&stream[..first], &stream[first..second], &stream[second..]] {
                    split(&mut partial, piece, |kind, frame| {
                        assert_eq!(kind, DATA);
                        found.push(frame[HEADER_LEN..].to_vec());
                    })
                    .expect("the stream is well formed");
                }
                assert!(partial.is_empty());
                assert_eq!(found, payloads);
            }
        }
    }
}
