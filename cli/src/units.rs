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
