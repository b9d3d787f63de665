//! Numbers as C writes and reads them: `%f`, and the rules of `strtol` and `strtod`.
//!
//! What C takes without a word and gets wrong is an error here: digits that are followed by something else, values
//! that do not fit, `-1` as an unsigned number.

use std::fmt::Write;
use std::str;

/// Why a text is not the number that it should be.
pub(super) type Refused = &'static str;

const NO_NUMBER: Refused = "is not a number";
const OUT_OF_RANGE: Refused = "is out of the type's range";

/// A number as `%f` writes it: six decimals, never an exponent.
pub(super) fn write_fixed(out: &mut Vec<u8>, number: f64) {
    if number.is_nan() {
        out.extend_from_slice(b"nan");
    } else if number.is_infinite() {
        out.extend_from_slice(if number > 0.0 { b"inf" } else { b"-inf" });
    } else {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = write!(text, "{number:.6}");
        out.extend_from_slice(text.as_bytes());
    }
}

/// Whether `number` is the same, to the bit, when it is read back from six decimals. A NaN is when it is the usual
/// one, because its text says no more.
pub(super) fn is_exact_fixed(number: f64) -> bool {
    if number.is_nan() {
        return number.to_bits() == f64::NAN.to_bits();
    }
    let mut text = Vec::new();
    write_fixed(&mut text, number);
    read_f64(&text).is_ok_and(|back| back.to_bits() == number.to_bits())
}

/// As [`is_exact_fixed`], for a number that is written as the double of the same value.
pub(super) fn is_exact_fixed_f32(number: f32) -> bool {
    if number.is_nan() {
        return number.to_bits() == f32::NAN.to_bits();
    }
    let mut text = Vec::new();
    write_fixed(&mut text, f64::from(number));
    read_f32(&text).is_ok_and(|back| back.to_bits() == number.to_bits())
}

/// A decimal integer: white space around it and a sign are fine.
///
/// # Errors
/// The text has anything else in it, or the number does not fit.
pub(super) fn read_integer<T: TryFrom<i128>>(text: &[u8]) -> Result<T, Refused> {
    let (negative, digits) = sign(trim(text));
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(NO_NUMBER);
    }
    let mut number = 0_i128;
    for digit in digits {
        number = number
            .checked_mul(10)
            .and_then(|tens| tens.checked_add(i128::from(digit - b'0')))
            .ok_or(OUT_OF_RANGE)?;
    }
    T::try_from(if negative { -number } else { number }).map_err(|_| OUT_OF_RANGE)
}

/// A double: decimal or hexadecimal, `inf`, `infinity` or `nan` in any case.
///
/// # Errors
/// The text is something else, or the number becomes infinite or zero without being it.
pub(crate) fn read_f64(text: &[u8]) -> Result<f64, Refused> {
    let (negative, digits) = sign(trim(text));
    let number = match Digits::of(digits)? {
        Digits::Infinite => f64::INFINITY,
        Digits::NotANumber => f64::NAN,
        Digits::Decimal(text) => checked(text, text.parse::<f64>().map_err(|_| NO_NUMBER)?)?,
        Digits::Hexadecimal(hex) => hex.checked(hex.mantissa as f64, f64::MIN_POSITIVE)?,
    };
    Ok(if negative { -number } else { number })
}

/// As [`read_f64`], rounded once.
///
/// # Errors
/// As of [`read_f64`].
pub(crate) fn read_f32(text: &[u8]) -> Result<f32, Refused> {
    let (negative, digits) = sign(trim(text));
    let number = match Digits::of(digits)? {
        Digits::Infinite => f32::INFINITY,
        Digits::NotANumber => f32::NAN,
        Digits::Decimal(text) => {
            let number = text.parse::<f32>().map_err(|_| NO_NUMBER)?;
            checked(text, f64::from(number))?;
            number
        }
        Digits::Hexadecimal(hex) => {
            let rounded = f64::from(hex.mantissa as f32);
            let number = hex.checked(rounded, f64::from(f32::MIN_POSITIVE))?;
            if number > f64::from(f32::MAX) {
                return Err(OUT_OF_RANGE);
            }
            // Exact: the mantissa is rounded already, and the range is that of normal numbers.
            number as f32
        }
    };
    Ok(if negative { -number } else { number })
}

/// White space of C's `isspace`.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// A floating-point number without its sign.
enum Digits<'a> {
    Infinite,
    NotANumber,
    Decimal(&'a str),
    Hexadecimal(Hexadecimal),
}

impl<'a> Digits<'a> {
    fn of(text: &'a [u8]) -> Result<Self, Refused> {
        if text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity") {
            return Ok(Digits::Infinite);
        }
        if text.eq_ignore_ascii_case(b"nan") {
            return Ok(Digits::NotANumber);
        }
        if let [b'0', b'x' | b'X', digits @ ..] = text {
            return Hexadecimal::of(digits).map(Digits::Hexadecimal);
        }
        // A second sign, `inf` and `nan` are what the parser below would take as well.
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
        match str::from_utf8(text) {
            Ok(digits)
                if !text.starts_with(b"+")
                    && !text.starts_with(b"-")
                    && text.iter().all(is_digit) =>
            {
                Ok(Digits::Decimal(digits))
            }
            _ => Err(NO_NUMBER),
        }
    }
}

/// `mantissa` times two to the power of `exponent`. A mantissa with more digits than fit has its lowest bit set when
/// a digit is lost, so that it rounds to the right side.
#[derive(Clone, Copy)]
struct Hexadecimal {
    mantissa: u64,
    exponent: i64,
}

impl Hexadecimal {
    fn of(text: &[u8]) -> Result<Self, Refused> {
        let (digits, exponent) = match text.iter().position(|byte| matches!(byte, b'p' | b'P')) {
            Some(at) => (&text[..at], exponent_of(&text[at + 1..])?),
            None => (text, 0),
        };
        let mut number = Hexadecimal {
            mantissa: 0,
            exponent,
        };
        let mut is_fraction = false;
        let mut has_digit = false;
        for byte in digits {
            if *byte == b'.' && !is_fraction {
                is_fraction = true;
                continue;
            }
            let digit = char::from(*byte).to_digit(16).ok_or(NO_NUMBER)?;
            has_digit = true;
            if number.mantissa >> 60 == 0 {
                number.mantissa = number.mantissa << 4 | u64::from(digit);
                number.exponent -= if is_fraction { 4 } else { 0 };
            } else {
                number.mantissa |= u64::from(digit != 0);
                number.exponent += if is_fraction { 0 } else { 4 };
            }
        }
        if has_digit {
            Ok(number)
        } else {
            Err(NO_NUMBER)
        }
    }

    /// The number with this rounded mantissa. Those below `smallest`, which would be rounded a second time, are refused,
    /// as C++ refuses them.
    fn checked(self, rounded: f64, smallest: f64) -> Result<f64, Refused> {
        if rounded == 0.0 {
            return Ok(0.0);
        }
        let exponent = self.exponent.clamp(-2_000, 2_000) as i32;
        // In two steps: two to the power of -1074 is a number, its inverse is not.
        let half = exponent / 2;
        let number = rounded * 2_f64.powi(half) * 2_f64.powi(exponent - half);
        if number.is_finite() && number >= smallest {
            Ok(number)
        } else {
            Err(OUT_OF_RANGE)
        }
    }
}

fn exponent_of(text: &[u8]) -> Result<i64, Refused> {
    let (negative, digits) = sign(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(NO_NUMBER);
    }
    let mut number = 0_i64;
    for digit in digits {
        // Larger ones are all too large.
        number = (number * 10 + i64::from(digit - b'0')).min(1 << 40);
    }
    Ok(if negative { -number } else { number })
}

/// Refuses a number that rounding has made infinite or zero.
fn checked(text: &str, number: f64) -> Result<f64, Refused> {
    let digits = text.split(['e', 'E']).next().unwrap_or(text);
    let is_zero = !digits.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    if number.is_finite() && (number != 0.0 || is_zero) {
        Ok(number)
    } else {
        Err(OUT_OF_RANGE)
    }
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_space(*first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_space(*last)
    {
        text = rest;
    }
    text
}

/// Whether there is a minus, and what follows the sign.
fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fixed(number: f64) -> String {
        let mut out = Vec::new();
        write_fixed(&mut out, number);
        String::from_utf8(out).expect("digits")
    }

    #[test]
    fn six_decimals_as_c_writes_them() {
        for (number, text) in [
            (0.0, "0.000000"),
            (-0.0, "-0.000000"),
            (99.5, "99.500000"),
            (1e-7, "0.000000"),
            (-1e-7, "-0.000000"),
            (std::f64::consts::PI, "3.141593"),
            (1e22, "10000000000000000000000.000000"),
            // A tie goes to the even digit.
            (0.007_812_5, "0.007812"),
            (0.023_437_5, "0.023438"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(fixed(number), text);
        }
    }

    #[test]
    fn what_six_decimals_lose_is_known() {
        assert!(is_exact_fixed(99.5) && is_exact_fixed(-0.0) && is_exact_fixed(f64::NAN));
        assert!(is_exact_fixed(0.1) && is_exact_fixed(f64::MAX));
        assert!(!is_exact_fixed(1e-7) && !is_exact_fixed(1.0 / 3.0));
        assert!(!is_exact_fixed(f64::from_bits(1)) && !is_exact_fixed(-f64::NAN));
        assert!(is_exact_fixed_f32(0.1) && !is_exact_fixed_f32(1e-7));
        assert!(!is_exact_fixed_f32(f32::from_bits(0x7fc0_0001)));
    }

    #[test]
    fn integers_are_read_whole_or_refused() {
        assert_eq!(read_integer::<i16>(b" \t+12 "), Ok(12));
        assert_eq!(read_integer::<i16>(b"-32768"), Ok(i16::MIN));
        assert_eq!(read_integer::<u64>(b"18446744073709551615"), Ok(u64::MAX));
        assert_eq!(read_integer::<u16>(b"-0"), Ok(0));
        for text in ["", "-", "12abc", "0x10", "1.0", "1 2", "--1", "\u{661}"] {
            assert_eq!(
                read_integer::<i32>(text.as_bytes()),
                Err(NO_NUMBER),
                "{text}"
            );
        }
        assert_eq!(read_integer::<i16>(b"70000"), Err(OUT_OF_RANGE));
        assert_eq!(read_integer::<u16>(b"-1"), Err(OUT_OF_RANGE));
        assert_eq!(read_integer::<u64>(&[b'9'; 100]), Err(OUT_OF_RANGE));
    }

    #[test]
    fn floats_are_read_in_every_notation_of_c() {
        for (text, number) in [
            ("1e300", 1e300),
            (" +.5", 0.5),
            ("5.", 5.0),
            ("-INF", f64::NEG_INFINITY),
            ("infinity", f64::INFINITY),
            ("0x1p3", 8.0),
            ("0X.8P+1", 1.0),
            ("-0x1.fffffffffffffp1023", -f64::MAX),
            ("0x10000000000000800000p0", 2_f64.powi(76)),
            ("0x10000000000000800001p0", 2_f64.powi(76) + 2_f64.powi(24)),
            ("0x0p99999999999999999999", 0.0),
            ("4.9e-324", f64::from_bits(1)),
        ] {
            assert_eq!(read_f64(text.as_bytes()), Ok(number), "{text}");
        }
        assert_eq!(read_f64(b"nan").map(f64::to_bits), Ok(f64::NAN.to_bits()));
        assert_eq!(read_f32(b"16777217"), Ok(16_777_216.0));
        assert_eq!(read_f32(b"0x1.000001p0"), Ok(1.0));
        for text in [
            "", ".", "e5", "1e", "1f", "0x", "0xp1", "0x1p", "+-1", "nan(1)", "1_0",
        ] {
            assert_eq!(read_f64(text.as_bytes()), Err(NO_NUMBER), "{text}");
            assert_eq!(read_f32(text.as_bytes()), Err(NO_NUMBER), "{text}");
        }
        for text in ["1e400", "1e-400", "0x1p1024", "0x1p-1074"] {
            assert_eq!(read_f64(text.as_bytes()), Err(OUT_OF_RANGE), "{text}");
        }
        for text in ["1e39", "1e-60", "0x1p128", "0x1.ffffffp127"] {
            assert_eq!(read_f32(text.as_bytes()), Err(OUT_OF_RANGE), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_exact_double_is_read_as_written(bits: u64) {
            let number = f64::from_bits(bits);
            if is_exact_fixed(number) {
                let back = read_f64(fixed(number).as_bytes()).map(f64::to_bits);
                prop_assert_eq!(back, Ok(bits));
            }
            if number.is_finite() {
                let shortest = read_f64(format!("{number:e}").as_bytes());
                prop_assert_eq!(shortest.map(f64::to_bits), Ok(bits));
            }
        }
    }
}
