//! Sizes, durations and switches as people write them: `64KiB`, `1m`, `500ms`, `on`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

/// A span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// What may come in a second. 0 is any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PerSecond {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl PerSecond {
    /// The most that the library keeps a rate of.
    const MESSAGES_MAX: u64 = 1_000_000_000;
    const BYTES_MAX: u64 = 1024 * GIB;

    pub(crate) fn is_unlimited(self) -> bool {
        self == PerSecond::default()
    }
}

/// Cuts a text into its number and its unit.
fn split(text: &str) -> Option<(u64, String)> {
    let text = text.trim();
    let at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    Some((number.parse().ok()?, unit.trim_start().to_ascii_lowercase()))
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            "expected bytes, or a number with K, M or G (powers of 1024), such as 64KiB".to_owned()
        };
        let (number, unit) = split(text).ok_or_else(expected)?;
        let factor = match unit.as_str() {
            "" | "b" => 1,
            "k" | "kib" => KIB,
            "m" | "mib" => MIB,
            "g" | "gib" => GIB,
            _ => return Err(expected()),
        };
        number
            .checked_mul(factor)
            .map(Size)
            .ok_or_else(|| "the number is too large".to_owned())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0;
        for (factor, unit) in [(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")] {
            if bytes > 0 && bytes.is_multiple_of(factor) {
                return write!(f, "{}{unit}", bytes / factor);
            }
        }
        write!(f, "{bytes}")
    }
}

impl FromStr for PerSecond {
    type Err = String;

    /// `1000msg`, `10MiB`, both with a comma between them, each with `/s` or without; `0` for no limit.
    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected messages, bytes or both in a second, such as 1000msg, 10MiB or \
            1000msg,10MiB, or 0 for no limit";
        let mut rate = PerSecond::default();
        if text.trim() == "0" {
            return Ok(rate);
        }
        for part in text.split(',') {
            let part = part.trim().to_ascii_lowercase();
            let part = part.strip_suffix("/s").unwrap_or(&part);
            let (number, unit) = split(part).ok_or_else(|| EXPECTED.to_owned())?;
            let (kind, value, target, most) = match unit.as_str() {
                "msg" => {
                    let most = (PerSecond::MESSAGES_MAX, "1000000000msg");
                    ("messages", number, &mut rate.messages, most)
                }
                "" => {
                    return Err(format!(
                        "it does not say of what: {number}msg are messages and {number}B are bytes in a second"
                    ));
                }
                _ => {
                    let bytes: Size = part.parse().map_err(|_| EXPECTED.to_owned())?;
                    let most = (PerSecond::BYTES_MAX, "1024GiB");
                    ("bytes", bytes.0, &mut rate.bytes, most)
                }
            };
            if value == 0 {
                return Err("expected more than 0, or 0 alone for no limit".to_owned());
            }
            if value > most.0 {
                return Err(format!("expected at most {}", most.1));
            }
            if std::mem::replace(target, value) != 0 {
                return Err(format!("{kind} are given twice"));
            }
        }
        Ok(rate)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || "expected a number with us, ms, s, m or h, such as 500ms, or 0".to_owned();
        let (number, unit) = split(text).ok_or_else(expected)?;
        let micros_in_unit = match unit.as_str() {
            "us" => 1,
            "ms" => 1_000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            // Only nothing is the same in every unit.
            "" if number == 0 => 0,
            _ => return Err(expected()),
        };
        let micros = number.checked_mul(micros_in_unit);
        let span = micros.map(|micros| Span(Duration::from_micros(micros)));
        span.ok_or_else(|| "the number is too large".to_owned())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        let units = [
            (3_600_000_000, "h"),
            (60_000_000, "m"),
            (1_000_000, "s"),
            (1_000, "ms"),
            (1, "us"),
        ];
        for (factor, unit) in units {
            if micros > 0 && micros.is_multiple_of(factor) {
                return write!(f, "{}{unit}", micros / factor);
            }
        }
        f.write_str("0")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024_and_print_as_they_parse() {
        for (text, bytes) in [
            ("0", 0),
            ("100", 100),
            ("64KiB", 65_536),
            ("1m", MIB),
            ("1MiB", MIB),
            ("2 G", 2 * GIB),
        ] {
            let size: Size = text.parse().expect(text);
            assert_eq!(size.0, bytes, "{text}");
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        for text in ["", "KiB", "1KB", "1.5M", "-1", "99999999999G"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn rates_say_of_what() {
        for (text, messages, bytes) in [
            ("1000msg", 1_000, 0),
            ("10MiB", 0, 10 * MIB),
            ("1000msg,10MiB", 1_000, 10 * MIB),
            ("64k/s, 5 msg/s", 5, 65_536),
            ("100B", 0, 100),
            ("1000000000msg,1024GiB", 1_000_000_000, 1024 * GIB),
            ("0", 0, 0),
        ] {
            let rate = PerSecond { messages, bytes };
            assert_eq!(text.parse(), Ok(rate), "{text}");
        }
        for (text, word) in [
            ("", "1000msg,10MiB"),
            ("msg", "1000msg,10MiB"),
            ("-5msg", "1000msg,10MiB"),
            ("1.5msg", "1000msg,10MiB"),
            ("5 apples", "1000msg,10MiB"),
            ("10MiB/m", "1000msg,10MiB"),
            ("5msg,", "1000msg,10MiB"),
            ("1000", "1000msg are messages"),
            ("0msg", "0 alone"),
            ("5msg,0B", "0 alone"),
            ("5msg,6msg", "messages are given twice"),
            ("1K,1M", "bytes are given twice"),
            ("1000000001msg", "at most 1000000000msg"),
            ("1025GiB", "at most 1024GiB"),
            ("99999999999999999999msg", "1000msg,10MiB"),
            ("18446744073709551615GiB", "1000msg,10MiB"),
        ] {
            let error = text.parse::<PerSecond>().expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn spans_need_a_unit_unless_they_are_zero() {
        for (text, millis) in [("0", 0), ("500ms", 500), ("30s", 30_000), ("2m", 120_000)] {
            let span: Span = text.parse().expect(text);
            assert_eq!(span.0, Duration::from_millis(millis), "{text}");
            assert_eq!(span.to_string().parse(), Ok(span));
        }
        for text in ["", "30", "s", "1d", "-1s", "99999999999999h"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
