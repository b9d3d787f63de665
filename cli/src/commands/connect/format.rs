//! How messages look on stdin and stdout.

use network_system::Message;
use serde_json::json;

/// How a message is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Lines,
    Binary,
    Hex,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) format: Format,
    pub(super) json: bool,
    /// stdout is a terminal, which obeys what it should show.
    pub(super) guarded: bool,
}

impl Style {
    /// What was read from stdin, as it is sent: lines are text, where they are.
    pub(super) fn message(self, payload: Vec<u8>) -> Message {
        if self.format != Format::Lines {
            return Message::binary(payload);
        }
        match String::from_utf8(payload) {
            Ok(text) => Message::text(text),
            Err(error) => Message::binary(error.into_bytes()),
        }
    }

    /// A received payload as it stands on stdout.
    pub(super) fn show(self, event: &str, payload: &[u8]) -> Vec<u8> {
        let mut shown = if self.json {
            let object = match std::str::from_utf8(payload) {
                Ok(text) if self.format != Format::Hex => json!({ "event": event, "text": text }),
                _ => json!({ "event": event, "hex": to_hex(payload) }),
            };
            object.to_string().into_bytes()
        } else {
            match self.format {
                Format::Binary => return payload.to_vec(),
                Format::Hex => to_hex(payload).into_bytes(),
                Format::Lines if self.guarded => harmless(payload).into_bytes(),
                Format::Lines => payload.to_vec(),
            }
        };
        shown.push(b'\n');
        shown
    }
}

/// Text for a terminal: what it would obey is spelled out.
fn harmless(payload: &[u8]) -> String {
    let mut shown = String::with_capacity(payload.len());
    for c in String::from_utf8_lossy(payload).chars() {
        match c {
            '\n' | '\t' => shown.push(c),
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

pub(super) fn from_hex(line: &[u8]) -> Option<Vec<u8>> {
    let digits = line.iter().filter(|byte| !byte.is_ascii_whitespace());
    let digits: Option<Vec<u8>> = digits
        .map(|&byte| char::from(byte).to_digit(16).map(|digit| digit as u8))
        .collect();
    let digits = digits?;
    digits.len().is_multiple_of(2).then(|| {
        digits
            .chunks_exact(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_come_back_as_they_were() {
        assert_eq!(from_hex(b"00 fF\t10"), Some(vec![0, 255, 16]));
        assert_eq!(to_hex(&[0, 255, 16]), "00ff10");
        assert_eq!(from_hex(b""), Some(vec![]));
        assert_eq!(from_hex(b"123"), None);
        assert_eq!(from_hex(b"xy"), None);
    }

    #[test]
    fn a_terminal_obeys_nothing() {
        assert_eq!(harmless(b"a\x1b[31mb\tc\n\x07"), "a\\u{1b}[31mb\tc\n\\u{7}");
    }
}
