//! Numbers as people read them.

use std::time::{Duration, SystemTime};

/// What is shown where there is nothing.
const NOTHING: &str = "-";

/// `1,234`; from a million on `1.23M`, `12.3G`.
pub(super) fn count(number: f64) -> String {
    if number < 10.0 && number.fract().abs() > 0.05 {
        return format!("{number:.1}");
    }
    if number < 999_999.5 {
        let digits = format!("{:.0}", number.max(0.0));
        let mut text = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        return text;
    }
    scaled(number / 1e6, 1000.0, &["M", "G", "T", "P", "E"])
}

/// `512 B`, `1.50 KiB`.
pub(super) fn bytes(number: f64) -> String {
    if number < 1023.5 {
        return format!("{:.0} B", number.max(0.0));
    }
    scaled(
        number / 1024.0,
        1024.0,
        &[" KiB", " MiB", " GiB", " TiB", " PiB", " EiB"],
    )
}

/// Microseconds with a unit that suits: `0.95 µs`, `12.3 ms`.
pub(super) fn micros(number: Option<f64>) -> String {
    match number {
        None => NOTHING.to_owned(),
        Some(number) if number < 999.5 => format!("{} µs", three(number)),
        Some(number) if number < 999_500.0 => format!("{} ms", three(number / 1e3)),
        Some(number) => format!("{} s", three(number / 1e6)),
    }
}

/// `0.5 s`, `12 s`, `3m 04s`, `2h 03m`, `5d 02h`.
pub(super) fn span(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{:.1}s", seconds.max(0.0));
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole}s"),
        60..3_600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3_600..86_400 => format!("{}h{:02}m", whole / 3_600, whole / 60 % 60),
        _ => format!("{}d{:02}h", whole / 86_400, whole / 3_600 % 24),
    }
}

/// The time of day in UTC: `12:34:56`.
pub(super) fn clock(millis: u64) -> String {
    let second = millis / 1000 % 86_400;
    format!(
        "{:02}:{:02}:{:02}",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

/// Milliseconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or(Duration::ZERO).as_millis()).unwrap_or_default()
}

fn scaled(mut number: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while number >= step * 0.9995 && unit + 1 < units.len() {
        number /= step;
        unit += 1;
    }
    format!("{}{}", three(number), units[unit])
}

/// Three digits.
fn three(number: f64) -> String {
    match number {
        ..9.995 => format!("{number:.2}"),
        9.995..99.95 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        for (number, text) in [
            (0.0, "0"),
            (0.25, "0.2"),
            (999.0, "999"),
            (12_345.6, "12,346"),
            (999_999.0, "999,999"),
            (1_000_000.0, "1.00M"),
            (12_345_678_901.0, "12.3G"),
        ] {
            assert_eq!(count(number), text);
        }
        for (number, text) in [
            (0.0, "0 B"),
            (1023.0, "1023 B"),
            (1024.0, "1.00 KiB"),
            (1536.0 * 1024.0, "1.50 MiB"),
            (1e18, "888 PiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
        for (number, text) in [
            (None, "-"),
            (Some(0.95), "0.95 µs"),
            (Some(41.3), "41.3 µs"),
            (Some(1_200.0), "1.20 ms"),
            (Some(2_345_000.0), "2.35 s"),
        ] {
            assert_eq!(micros(number), text);
        }
        for (seconds, text) in [
            (0.24, "0.2s"),
            (59.0, "59s"),
            (184.0, "3m04s"),
            (7_380.0, "2h03m"),
            (439_200.0, "5d02h"),
        ] {
            assert_eq!(span(seconds), text);
        }
        assert_eq!(clock(45_296_000), "12:34:56");
    }

    #[test]
    fn no_number_is_too_much() {
        for number in [f64::MAX, f64::MIN, f64::NAN, f64::INFINITY, -1.0] {
            for text in [
                count(number),
                bytes(number),
                micros(Some(number)),
                span(number),
            ] {
                assert!(!text.is_empty());
            }
        }
        assert_eq!(clock(u64::MAX).len(), 8);
    }
}
