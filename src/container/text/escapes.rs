//! What dialects write in place of characters and bytes.

/// A string in which the Python port has written `\];` for `];`, as it was.
pub(super) fn unescape_python(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        // Without the backslash, what follows stays.
        if !rest.starts_with(b"\\];") {
            plain.push(*first);
        }
        rest = after;
    }
    plain
}

/// A string with the four characters that the older C++ library escapes, as it was.
pub(super) fn unescape_legacy(bytes: &[u8]) -> Vec<u8> {
    const LENGTH: usize = "</0x0A;>".len();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        let escaped = match rest.first_chunk::<LENGTH>() {
            Some(b"</0x0A;>") => Some(b'\r'),
            Some(b"</0x0B;>") => Some(b'\n'),
            Some(b"</0x0C;>") => Some(b' '),
            Some(b"</0x0D;>") => Some(b'\t'),
            _ => None,
        };
        plain.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() {
            &rest[LENGTH..]
        } else {
            after
        };
    }
    plain
}

/// The bytes that these hexadecimal digits are.
pub(super) fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    pairs
        .iter()
        .map(|[high, low]| Some((digit(*high)? << 4 | digit(*low)?) as u8))
        .collect()
}
