//! From values to places on an axis, and which values are written there.

use super::super::text::Escaped;
use crate::numbers::grouped;

/// What the numbers of an axis are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Unit {
    /// Messages or connections a second.
    PerSecond,
    Seconds,
}

/// A mark on an axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    /// From 0, where the axis begins, to 1.
    pub(super) at: f64,
    pub(super) text: String,
}

#[derive(Clone, Debug)]
pub(in super::super) enum Scale {
    /// From 0.
    Linear { max: f64, step: f64, unit: Unit },
    /// Microseconds; values of the same ratio are at the same distance.
    Latency { min: f64, max: f64 },
    /// By how many nines a percentile has; to so many.
    Nines { max: f64 },
}

impl Scale {
    /// From 0 to a round number above `max`.
    pub(in super::super) fn linear(max: f64, unit: Unit) -> Self {
        let max = if max > 0.0 { max } else { 1.0 };
        let step = round_up(max / 5.0);
        Scale::Linear {
            max: (max / step).ceil() * step,
            step,
            unit,
        }
    }

    /// From nothing to exactly `max`.
    pub(in super::super) fn time(max: f64) -> Self {
        let max = if max > 0.0 { max } else { 1.0 };
        let step = match max {
            ..=10.0 => round_up(max / 10.0),
            ..=100.0 => 10.0 * round_up(max / 100.0),
            ..=600.0 => 60.0,
            _ => 60.0 * round_up(max / 600.0).max(1.0),
        };
        Scale::Linear {
            max,
            step,
            unit: Unit::Seconds,
        }
    }

    /// Around the values from `min` to `max`.
    pub(in super::super) fn latency(min: f64, max: f64) -> Self {
        let max = round_up(max.max(1e-3));
        let min = round_down(min.max(1e-3)).min(max / 10.0);
        Scale::Latency { min, max }
    }

    /// From 0 to 1; what is outside of the axis is at its end.
    pub(super) fn place(&self, value: f64) -> f64 {
        let place = match *self {
            Scale::Linear { max, .. } => value / max,
            Scale::Latency { min, max } => (value.max(min) / min).log10() / (max / min).log10(),
            Scale::Nines { max } => nines(value) / max,
        };
        place.clamp(0.0, 1.0)
    }

    pub(super) fn ticks(&self) -> Vec<Tick> {
        let values: Vec<f64> = match *self {
            Scale::Linear { max, step, .. } => {
                let count = (max / step + 1e-9).floor() as usize;
                (0..=count.min(50)).map(|tick| tick as f64 * step).collect()
            }
            Scale::Latency { min, max } => {
                let digits: &[f64] = match (max / min).log10() {
                    ..2.5 => &[1.0, 2.0, 5.0],
                    _ => &[1.0],
                };
                let decades = min.log10().floor() as i32..=max.log10().ceil() as i32;
                let all = decades.flat_map(|it| digits.iter().map(move |d| d * 10_f64.powi(it)));
                all.filter(|value| (min * 0.999..=max * 1.001).contains(value))
                    .collect()
            }
            Scale::Nines { max } => {
                let whole =
                    (1..=max.floor() as i32).map(|count| 100.0 - 100.0 / 10_f64.powi(count));
                [0.0, 50.0].into_iter().chain(whole).collect()
            }
        };
        let tick = |value: f64| Tick {
            at: self.place(value),
            text: Escaped(&self.text(value)).to_string(),
        };
        values.into_iter().map(tick).collect()
    }

    fn text(&self, value: f64) -> String {
        match self {
            Scale::Linear { unit, max, .. } => match unit {
                Unit::PerSecond => grouped(value.round() as u64),
                Unit::Seconds if *max > 600.0 => format!("{} min", trimmed(value / 60.0)),
                Unit::Seconds => format!("{} s", trimmed(value)),
            },
            Scale::Latency { .. } => latency(value),
            Scale::Nines { .. } => format!("{} %", trimmed(value)),
        }
    }
}

/// How often the distance to 100 % is divided by 10 up to this percentile.
pub(super) fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).max(1e-12).log10()
}

fn latency(us: f64) -> String {
    match us {
        ..1e3 => format!("{} µs", trimmed(us)),
        1e3..1e6 => format!("{} ms", trimmed(us / 1e3)),
        _ => format!("{} s", trimmed(us / 1e6)),
    }
}

/// Without zeros at the end.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The next of 1, 2, 5, 10, 20, …
fn round_up(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    let digits = [1.0, 2.0, 5.0, 10.0];
    let fits = digits
        .into_iter()
        .find(|it| it * decade >= value * 0.999_999);
    fits.unwrap_or(10.0) * decade
}

/// The last of 1, 2, 5, 10, 20, …
fn round_down(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    let digits = [5.0, 2.0, 1.0];
    let fits = digits
        .into_iter()
        .find(|it| it * decade <= value * 1.000_001);
    fits.unwrap_or(1.0) * decade
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(scale: &Scale) -> Vec<String> {
        scale.ticks().into_iter().map(|tick| tick.text).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        let linear = Scale::linear(43_210.0, Unit::PerSecond);
        assert_eq!(
            texts(&linear),
            ["0", "10,000", "20,000", "30,000", "40,000", "50,000"]
        );
        assert_eq!(texts(&Scale::time(0.2))[..2], ["0 s", "0.02 s"]);
        assert_eq!(texts(&Scale::time(3_600.0))[..2], ["0 min", "10 min"]);
        let log = Scale::latency(37.0, 4_100.0);
        assert_eq!(
            texts(&log),
            [
                "20 µs", "50 µs", "100 µs", "200 µs", "500 µs", "1 ms", "2 ms", "5 ms"
            ]
        );
        let nines = Scale::Nines { max: 5.3 };
        assert_eq!(
            texts(&nines),
            [
                "0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"
            ]
        );
    }

    #[test]
    fn every_value_has_a_place() {
        let values = [0.0, 1e-300, 1e-3, 1.0, 37.0, 99.999, 100.0, 1e9, 1e16];
        for max in values {
            for scale in [
                Scale::linear(max, Unit::PerSecond),
                Scale::time(max),
                Scale::latency(max / 3.0, max),
                Scale::latency(0.0, max),
                Scale::Nines { max: 7.0 },
            ] {
                for value in values {
                    let place = scale.place(value);
                    assert!((0.0..=1.0).contains(&place), "{scale:?} {value} {place}");
                }
                let ticks = scale.ticks().len();
                assert!((1..=51).contains(&ticks), "{scale:?} {ticks}");
            }
        }
    }
}
