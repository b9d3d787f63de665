//! WebSocket frames (RFC 6455, section 5.2): only what the bare server and the
//! load generator need of them.

use crate::frame::Malformed;

/// A message in one frame, whose payload is bytes.
pub const BINARY: u8 = 0x2;
/// The end of the connection.
pub const CLOSE: u8 = 0x8;
/// Asks for a [`PONG`] with the same payload.
pub const PING: u8 = 0x9;
/// Answers a [`PING`], or shows that the sender is alive.
pub const PONG: u8 = 0xA;

/// The flag of a message that is compressed by permessage-deflate.
pub const COMPRESSED: u8 = 0x40;
/// The length of the longest header: two bytes, a length of eight, a mask.
pub const MAX_HEADER_LEN: usize = 14;
/// The longest payload that is accepted.
pub const MAX_PAYLOAD_LEN: usize = 2 << 20;

/// The flag of a frame that ends its message.
pub const FINAL: u8 = 0x80;

const MASKED: u8 = 0x80;

/// A key that masks the payload of a client's frames.
pub type Mask = [u8; 4];

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The opcode with its flags.
    pub first: u8,
    /// The mask, which all frames of clients have.
    pub mask: Option<Mask>,
    /// The length of the header itself.
    pub len: usize,
    /// The length of the payload.
    pub payload_len: usize,
}

impl Header {
    /// The kind of the frame, or 0 for a message that goes on.
    pub fn opcode(&self) -> u8 {
        self.first & 0x0F
    }

    /// The length of the whole frame.
    pub fn frame_len(&self) -> usize {
        self.len + self.payload_len
    }
}

/// Appends the header of a frame. `first` is its opcode with its flags.
pub fn put_header(target: &mut Vec<u8>, first: u8, payload_len: usize, mask: Option<Mask>) {
    let masked = if mask.is_some() { MASKED } else { 0 };
    target.push(first);
    if payload_len < 126 {
        target.push(masked | payload_len as u8);
    } else if let Ok(len) = u16::try_from(payload_len) {
        target.push(masked | 126);
        target.extend_from_slice(&len.to_be_bytes());
    } else {
        target.push(masked | 127);
        target.extend_from_slice(&(payload_len as u64).to_be_bytes());
    }
    target.extend_from_slice(mask.as_ref().map_or(&[], |mask| mask.as_slice()));
}

/// What the beginning of a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The header is whole.
    Header(Header),
    /// The header has this many bytes, as far as can be told.
    Needs(usize),
}

/// Reads the header at the front of `bytes`.
///
/// # Errors
///
/// Fails on a payload that is longer than [`MAX_PAYLOAD_LEN`].
#[inline]
pub fn parse_header(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let &[first, second, ref rest @ ..] = bytes else {
        return Ok(Parsed::Needs(2));
    };
    let is_masked = second & MASKED != 0;
    let len_len = match second & !MASKED {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let len = 2 + len_len + if is_masked { 4 } else { 0 };
    if bytes.len() < len {
        return Ok(Parsed::Needs(len));
    }
    let payload_len = match (len_len, rest) {
        (0, _) => u64::from(second & !MASKED),
        (2, &[high, low, ..]) => u64::from(u16::from_be_bytes([high, low])),
        // Of `len` bytes, those of the length are there.
        (_, long) => long
            .first_chunk()
            .map_or(u64::MAX, |len| u64::from_be_bytes(*len)),
    };
    if payload_len > MAX_PAYLOAD_LEN as u64 {
        return Err(Malformed);
    }
    let mask = match rest.get(len_len..) {
        Some(&[a, b, c, d, ..]) if is_masked => Some([a, b, c, d]),
        _ => None,
    };
    Ok(Parsed::Header(Header {
        first,
        mask,
        len,
        payload_len: payload_len as usize,
    }))
}

/// Calls `each` with the header and the payload of every frame which `bytes`
/// completes. The unfinished rest goes to `partial`, which the next call
/// continues; whole frames are handed out in place, masked as they came.
///
/// # Errors
///
/// Fails on the first malformed header; the stream cannot be read any further.
#[inline]
pub fn split(
    partial: &mut Vec<u8>,
    mut bytes: &[u8],
    mut each: impl FnMut(Header, &[u8]),
) -> Result<(), Malformed> {
    if !partial.is_empty() {
        let Some(header) = complete(partial, &mut bytes)? else {
            return Ok(());
        };
        each(header, &partial[header.len..]);
        partial.clear();
    }
    while let Parsed::Header(header) = parse_header(bytes)? {
        let Some((frame, rest)) = bytes.split_at_checked(header.frame_len()) else {
            break;
        };
        each(header, &frame[header.len..]);
        bytes = rest;
    }
    partial.extend_from_slice(bytes);
    Ok(())
}

/// Moves what is missing of the frame in `partial` from the front of `bytes`,
/// and gives its header once it is whole.
fn complete(partial: &mut Vec<u8>, bytes: &mut &[u8]) -> Result<Option<Header>, Malformed> {
    loop {
        let (header, length) = match parse_header(partial)? {
            Parsed::Header(header) => (Some(header), header.frame_len()),
            Parsed::Needs(length) => (None, length),
        };
        if partial.len() >= length && header.is_some() {
            return Ok(header);
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        let missing = length.saturating_sub(partial.len()).min(bytes.len());
        let (taken, rest) = bytes.split_at(missing);
        partial.extend_from_slice(taken);
        *bytes = rest;
    }
}

/// Applies a mask, or takes it away, from the first byte of a payload on.
#[inline]
pub fn mask(payload: &mut [u8], mask: Mask) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_the_documented_bytes() {
        let header = |first, len, mask| {
            let mut bytes = Vec::new();
            put_header(&mut bytes, first, len, mask);
            bytes
        };
        // The examples of RFC 6455, section 5.7.
        assert_eq!(header(FINAL | 0x1, 5, None), [0x81, 0x05]);
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        assert_eq!(
            header(FINAL | PONG, 5, Some(mask)),
            [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d]
        );
        assert_eq!(header(FINAL | BINARY, 256, None), [0x82, 0x7e, 0x01, 0x00]);
        assert_eq!(
            header(FINAL | BINARY, 65_536, None),
            [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]
        );
    }

    #[test]
    fn every_header_is_read_as_it_was_written() {
        for payload_len in [0, 125, 126, 65_535, 65_536, MAX_PAYLOAD_LEN] {
            for mask in [None, Some([1, 2, 3, 4])] {
                let mut bytes = Vec::new();
                put_header(&mut bytes, BINARY | COMPRESSED, payload_len, mask);
                let header = Header {
                    first: BINARY | COMPRESSED,
                    mask,
                    len: bytes.len(),
                    payload_len,
                };
                assert_eq!(parse_header(&bytes), Ok(Parsed::Header(header)));
                for end in 0..bytes.len() {
                    let wanted = if end < 2 { 2 } else { bytes.len() };
                    assert_eq!(parse_header(&bytes[..end]), Ok(Parsed::Needs(wanted)));
                }
            }
        }
    }

    #[test]
    fn any_split_gives_the_same_frames() {
        let mut stream = Vec::new();
        let lens = [0, 1, 125, 126, 3];
        for len in lens {
            put_header(&mut stream, FINAL | BINARY, len, Some([1, 2, 3, 4]));
            stream.resize(stream.len() + len, len as u8);
        }
        for first in 0..=stream.len() {
            for second in [first, first + 1, first + 5, stream.len()] {
                let second = second.min(stream.len());
                let mut partial = Vec::new();
                let mut found = Vec::new();
                for piece in [&stream[..first], &stream[first..second], &stream[second..]] {
                    split(&mut partial, piece, |header, payload| {
                        assert_eq!(header.opcode(), BINARY);
                        assert!(
                            payload
                                .iter()
                                .all(|&byte| usize::from(byte) == payload.len())
                        );
                        found.push(payload.len());
                    })
                    .expect("the stream is well formed");
                }
                assert!(partial.is_empty());
                assert_eq!(found, lens);
            }
        }
    }

    #[test]
    fn impossible_lengths_are_refused() {
        assert_eq!(
            parse_header(&[0x82, 0x7f, 0x80, 0, 0, 0, 0, 0, 0, 0]),
            Err(Malformed)
        );
        assert_eq!(
            parse_header(&[0x82, 0x7f, 0, 0, 0, 0, 0, 0x20, 0, 1]),
            Err(Malformed)
        );
    }

    #[test]
    fn masking_twice_changes_nothing() {
        for len in 0..40 {
            let payload: Vec<u8> = (0..len).collect();
            let mut masked = payload.clone();
            mask(&mut masked, [9, 8, 7, 6]);
            for (index, byte) in masked.iter().enumerate() {
                assert_eq!(*byte, payload[index] ^ [9, 8, 7, 6][index % 4]);
            }
            mask(&mut masked, [9, 8, 7, 6]);
            assert_eq!(masked, payload);
        }
    }
}
