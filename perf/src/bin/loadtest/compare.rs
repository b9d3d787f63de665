//! New results beside those of a baseline, by the rules of `netsys bench --compare`.

use crate::outcome::Outcome;

/// How much of a change is noise, in percent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tolerance {
    /// Of messages a second.
    pub(crate) rate: f64,
    /// Of the percentiles 50 and 99.
    pub(crate) latency: f64,
}

/// More lost messages than before, in percent of all, that are noise.
const LOST: f64 = 1.0;

/// One case, old and new.
#[derive(Debug)]
pub(crate) struct Comparison<'a> {
    pub(crate) old: &'a Outcome,
    pub(crate) new: &'a Outcome,
    /// What got worse, each with its figures.
    pub(crate) regressions: Vec<String>,
}

/// Compares the cases that both have.
pub(crate) fn compare<'a>(
    old: &'a [Outcome],
    new: &'a [Outcome],
    tolerance: Tolerance,
) -> Vec<Comparison<'a>> {
    new.iter()
        .filter_map(|new| {
            let old = old.iter().find(|old| old.name() == new.name())?;
            Some(Comparison {
                old,
                new,
                regressions: regressions(old, new, tolerance),
            })
        })
        .collect()
}

/// How much `new` is above `old`, in percent; `None` where there is nothing to compare with.
pub(crate) fn change(old: f64, new: f64) -> Option<f64> {
    (old > 0.0).then(|| 100.0 * (new - old) / old)
}

fn regressions(old: &Outcome, new: &Outcome, tolerance: Tolerance) -> Vec<String> {
    let mut regressions = Vec::new();
    let mut check = |what: &str, (old, new): (f64, f64), is_worse: bool| {
        if is_worse {
            let change =
                change(old, new).map_or(String::new(), |change| format!(" ({change:+.1} %)"));
            regressions.push(format!("{what} {old:.0} → {new:.0}{change}"));
        }
    };
    let rates = (old.rate(), new.rate());
    check(
        "a second",
        rates,
        change(rates.0, rates.1).is_some_and(|change| change < -tolerance.rate),
    );
    for which in ["p50", "p99"] {
        if let (Some(old), Some(new)) = (old.latency(which), new.latency(which)) {
            let is_worse = change(old, new).is_some_and(|change| change > tolerance.latency);
            check(&format!("{which} µs"), (old, new), is_worse);
        }
    }
    let errors = (old.errors(), new.errors());
    check("errors", errors, errors.1 > errors.0);
    if let (Some(old), Some(new)) = (old.lost_percent(), new.lost_percent()) {
        check("lost %", (old, new), new > old + LOST);
    }
    regressions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::tests::outcome;

    const TOLERANCE: Tolerance = Tolerance {
        rate: 10.0,
        latency: 25.0,
    };

    fn found(new: Outcome) -> Vec<String> {
        let old = [outcome("a", 1_000.0, 100.0, 200.0, 0)];
        let new = [new];
        compare(&old, &new, TOLERANCE)
            .into_iter()
            .flat_map(|comparison| comparison.regressions)
            .collect()
    }

    #[test]
    fn what_is_within_the_tolerance_is_no_regression() {
        assert!(found(outcome("a", 901.0, 124.0, 249.0, 0)).is_empty());
        assert!(found(outcome("a", 5_000.0, 1.0, 2.0, 0)).is_empty());
    }

    #[test]
    fn rates_percentiles_and_errors_are_judged() {
        let worse = found(outcome("a", 899.0, 126.0, 251.0, 1));
        assert_eq!(worse.len(), 4, "{worse:?}");
        assert!(worse[0].contains("1000 → 899 (-10.1 %)"), "{worse:?}");
    }

    #[test]
    fn cases_that_only_one_side_has_are_not_compared() {
        assert!(found(outcome("b", 1.0, 1_000.0, 2_000.0, 9)).is_empty());
    }
}
