//! What of the samples is a leak.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};

use crate::child::Stopped;
use crate::load::Counts;
use crate::sample::{Process, Sample};

/// What a figure may grow by in all before its slope counts: less is noise of allocators.
const GROWTH_KIB: f64 = 2_048.0;

/// Over a shorter time memory grows because everything is used for the first time.
const LEAST_MINUTES: f64 = 1.0;

/// The most points between which slopes are counted.
const POINTS: usize = 600;

/// Tasks and descriptors that may be there more than at first, such as a connection that is just accepted.
const SPARE: u64 = 2;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Thresholds {
    pub(crate) memory_kib_per_minute: f64,
}

/// Everything that was seen.
pub(crate) struct Evidence {
    /// Seconds at the begin that do not count.
    pub(crate) warm_up: f64,
    pub(crate) base: Sample,
    pub(crate) own_base: Process,
    /// With their seconds since the begin.
    pub(crate) samples: Vec<(f64, Sample)>,
    pub(crate) own_samples: Vec<(f64, Process)>,
    /// When the load had ended.
    pub(crate) after: Sample,
    pub(crate) own_after: Process,
    pub(crate) counts: Arc<Counts>,
    pub(crate) stopped: Stopped,
}

/// How a figure went on after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Trend {
    pub(crate) kib_per_minute: f64,
    pub(crate) minutes: f64,
}

impl Trend {
    /// The slope that half of all pairs exceed (Theil and Sen): single peaks do not bend it.
    pub(crate) fn of(points: &[(f64, f64)]) -> Option<Self> {
        let points = thinned(points);
        let mut slopes: Vec<f64> = points
            .iter()
            .enumerate()
            .flat_map(|(index, begin)| points[index + 1..].iter().map(move |end| (begin, end)))
            .filter(|(begin, end)| end.0 > begin.0)
            .map(|(begin, end)| (end.1 - begin.1) / (end.0 - begin.0))
            .collect();
        let (first, last) = (points.first()?, points.last()?);
        Some(Trend {
            kib_per_minute: median(&mut slopes)? * 60.0 / 1024.0,
            minutes: (last.0 - first.0) / 60.0,
        })
    }

    fn is_leak(self, thresholds: &Thresholds) -> bool {
        self.minutes >= LEAST_MINUTES
            && self.kib_per_minute > thresholds.memory_kib_per_minute
            && self.kib_per_minute * self.minutes > GROWTH_KIB
    }
}

/// Medians of neighbours, when there are more points than can be compared with each other.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let width = points.len().div_ceil(POINTS).max(1);
    points
        .chunks(width)
        .filter_map(|chunk| {
            let mut values: Vec<f64> = chunk.iter().map(|point| point.1).collect();
            Some((chunk[chunk.len() / 2].0, median(&mut values)?))
        })
        .collect()
}

fn median(values: &mut [f64]) -> Option<f64> {
    let middle = values.len() / 2;
    let count = values.len();
    (count > 0).then(|| *values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

impl Evidence {
    /// The trends of what grows when something is not given back.
    fn trends(&self) -> Vec<(&'static str, Trend)> {
        type Figure<'a> = (&'static str, Box<dyn Fn(&Process) -> Option<u64>>, bool);
        let figures: [Figure<'_>; 4] = [
            (
                "server, resident",
                Box::new(|it| Some(it.resident_bytes)),
                true,
            ),
            ("server, allocated", Box::new(|it| it.allocated_bytes), true),
            (
                "clients, resident",
                Box::new(|it| Some(it.resident_bytes)),
                false,
            ),
            (
                "clients, allocated",
                Box::new(|it| it.allocated_bytes),
                false,
            ),
        ];
        let server: Vec<_> = self
            .samples
            .iter()
            .map(|(at, it)| (*at, it.process))
            .collect();
        figures
            .into_iter()
            .filter_map(|(name, figure, is_server)| {
                let samples = if is_server {
                    &server
                } else {
                    &self.own_samples
                };
                let points: Option<Vec<_>> = samples
                    .iter()
                    .filter(|(at, _)| *at >= self.warm_up)
                    .map(|(at, process)| Some((*at, figure(process)? as f64)))
                    .collect();
                Some((name, Trend::of(&points?)?))
            })
            .collect()
    }

    /// What both sides have in the end that they had not at first.
    fn leftovers(&self) -> Vec<String> {
        let (base, after) = (&self.base.process, &self.after.process);
        let (own_base, own_after) = (&self.own_base, &self.own_after);
        let figures = [
            ("server, descriptors", base.descriptors, after.descriptors),
            ("server, tasks", base.tasks, after.tasks),
            ("server, sessions", self.base.sessions, self.after.sessions),
            ("server, suspended sessions", 0, self.after.suspended),
            ("server, groups", self.base.groups, self.after.groups),
            ("server, queued bytes", 0, self.after.queued_bytes),
            (
                "server, bytes in sessions",
                0,
                self.after.session_buffer_bytes,
            ),
            (
                "clients, descriptors",
                own_base.descriptors,
                own_after.descriptors,
            ),
            ("clients, tasks", own_base.tasks, own_after.tasks),
            ("server, tasks when stopped", 0, self.stopped.process.tasks),
            (
                "server, sessions cut off by its stop",
                0,
                self.stopped.aborted,
            ),
        ];
        let left = figures.into_iter().filter(|(name, base, after)| {
            let spare = match *name {
                name if name.ends_with("descriptors") || name.ends_with("tasks") => SPARE,
                _ => 0,
            };
            *after > base + spare
        });
        left.map(|(name, base, after)| format!("{name}: {after} are left, {base} at first"))
            .collect()
    }
}

/// Whether everything is as it was before the load.
pub(crate) fn is_at_rest(
    base: &Sample,
    after: &Sample,
    own_base: &Process,
    own_after: &Process,
) -> bool {
    after.sessions == base.sessions
        && after.groups == base.groups
        && after.queued_bytes == 0
        && after.session_buffer_bytes == 0
        && after.process.descriptors <= base.process.descriptors
        && after.process.tasks <= base.process.tasks
        && own_after.descriptors <= own_base.descriptors
        && own_after.tasks <= own_base.tasks
}

/// What is wrong; nothing, if all is well.
pub(crate) fn judge(evidence: &Evidence, thresholds: &Thresholds) -> Vec<String> {
    let mut faults: Vec<String> = evidence
        .trends()
        .into_iter()
        .filter(|(_, trend)| trend.is_leak(thresholds))
        .map(|(name, trend)| {
            let limit = thresholds.memory_kib_per_minute;
            format!(
                "{name}: grows by {:.0} KiB a minute, {limit} are allowed",
                trend.kib_per_minute
            )
        })
        .collect();
    faults.extend(evidence.leftovers());
    if evidence.after.resumed == 0 {
        faults.push("no session was resumed".to_owned());
    }
    let counts = &evidence.counts;
    match counts.faults.load(Relaxed) {
        0 => {}
        count => faults.push(format!(
            "{count} faults of the load: {}",
            counts.texts().join("; ")
        )),
    }
    // A load that does nothing proves nothing. Nothing may be lost, and a short run may end no slow reader.
    for (name, count) in counts.parts() {
        if count == 0 && !matches!(name, "lost with sessions" | "slow readers ended") {
            faults.push(format!("the load has no {name}"));
        }
    }
    faults
}

pub(crate) fn to_text(evidence: &Evidence, faults: &[String], seed: u64) -> String {
    let mut text = String::new();
    let seconds = evidence.samples.last().map_or(0.0, |(at, _)| *at);
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{seconds:.0} s, of which {:.0} s are warm-up; seed {seed}",
        evidence.warm_up
    );
    for (name, count) in evidence.counts.parts() {
        let _ = writeln!(text, "{name:<20} {count}");
    }
    let Sample {
        resumed, expired, ..
    } = evidence.after;
    let _ = writeln!(
        text,
        "{:<20} {resumed}, {expired} given up",
        "sessions resumed"
    );
    let (after, base) = (&evidence.after.process, &evidence.base.process);
    let kib = |bytes: u64| bytes / 1024;
    for (name, trend) in evidence.trends() {
        let _ = writeln!(
            text,
            "{name:<20} {:+.0} KiB a minute over {:.1} minutes",
            trend.kib_per_minute, trend.minutes
        );
    }
    let peak = evidence
        .samples
        .iter()
        .map(|(_, it)| it.process.resident_bytes)
        .max();
    let queued = evidence.samples.iter().map(|(_, it)| it.queued_bytes).max();
    let _ = writeln!(
        text,
        "server, resident     {} KiB at first, {} at most, {} in the end; {} KiB queued at most",
        kib(base.resident_bytes),
        kib(peak.unwrap_or(0)),
        kib(after.resident_bytes),
        kib(queued.unwrap_or(0)),
    );
    if let (Some(before), Some(now)) = (base.allocated_bytes, after.allocated_bytes) {
        let _ = writeln!(
            text,
            "server, allocated    {} KiB at first, {} in the end",
            kib(before),
            kib(now)
        );
    }
    let _ = writeln!(
        text,
        "in the end           {} sessions, {} descriptors ({} at first), {} tasks ({}), {} threads ({})",
        evidence.after.sessions,
        after.descriptors,
        base.descriptors,
        after.tasks,
        base.tasks,
        after.threads,
        base.threads,
    );
    let errors = evidence.stopped.errors.iter();
    let errors: Vec<_> = errors
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    let _ = writeln!(text, "errors of the server {}", errors.join(", "));
    match faults {
        [] => text += "nothing leaked\n",
        faults => {
            for fault in faults {
                let _ = writeln!(text, "LEAK OR FAULT: {fault}");
            }
        }
    }
    text
}

pub(crate) fn to_json(evidence: &Evidence, faults: &[String], seed: u64) -> Value {
    let trends = evidence.trends().into_iter().map(|(name, trend)| {
        json!({ "name": name, "kib_per_minute": trend.kib_per_minute, "minutes": trend.minutes })
    });
    let errors = evidence.stopped.errors.iter().cloned();
    let errors: serde_json::Map<_, _> = errors.map(|(name, count)| (name, json!(count))).collect();
    json!({
        "type": "verdict",
        "is_well": faults.is_empty(),
        "faults": faults,
        "seed": seed,
        "warm_up_seconds": evidence.warm_up,
        "trends": trends.collect::<Vec<_>>(),
        "server": { "base": evidence.base.to_json(), "after": evidence.after.to_json() },
        "client": { "base": evidence.own_base.to_json(), "after": evidence.own_after.to_json() },
        "stopped": {
            "drained": evidence.stopped.drained,
            "aborted": evidence.stopped.aborted,
            "process": evidence.stopped.process.to_json(),
            "errors": errors,
        },
        "load": evidence.counts.to_json(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds {
        memory_kib_per_minute: 256.0,
    };

    fn points(count: usize, value: impl Fn(usize) -> f64) -> Vec<(f64, f64)> {
        (0..count).map(|at| (at as f64, value(at))).collect()
    }

    #[test]
    fn what_goes_up_and_down_is_no_leak() {
        let noisy = points(540, |at| 50e6 + ((at * 7_919) % 1_000) as f64 * 20e3);
        let trend = Trend::of(&noisy).expect("a trend");
        assert!(!trend.is_leak(&THRESHOLDS), "{trend:?}");
        assert!((trend.minutes - 9.0).abs() < 0.1);
    }

    #[test]
    fn peaks_do_not_hide_what_grows_and_do_not_grow_by_themselves() {
        // 1 MiB a minute, under peaks of 20 MiB.
        let peak = |at: usize| if at.is_multiple_of(10) { 20e6 } else { 0.0 };
        let growing = points(540, |at| 50e6 + at as f64 * 1_048_576.0 / 60.0 + peak(at));
        let trend = Trend::of(&growing).expect("a trend");
        assert!((trend.kib_per_minute - 1_024.0).abs() < 100.0, "{trend:?}");
        assert!(trend.is_leak(&THRESHOLDS));
        let late = points(540, |at| if at > 500 { 90e6 } else { 50e6 });
        assert!(!Trend::of(&late).expect("a trend").is_leak(&THRESHOLDS));
    }

    #[test]
    fn long_runs_are_judged_by_medians_of_neighbours() {
        let long = points(36_000, |at| 50e6 + at as f64 * 1_048_576.0 / 60.0);
        let trend = Trend::of(&long).expect("a trend");
        assert!((trend.kib_per_minute - 1_024.0).abs() < 1.0, "{trend:?}");
        let short = points(50, |at| 50e6 + at as f64 * 1e6);
        assert!(!Trend::of(&short).expect("a trend").is_leak(&THRESHOLDS));
        assert_eq!(Trend::of(&[]), None);
        assert_eq!(Trend::of(&[(0.0, 1.0)]), None);
    }

    fn evidence() -> Evidence {
        let counts = Counts::default();
        for count in [
            &counts.connections,
            &counts.echoes,
            &counts.requests,
            &counts.published,
            &counts.received,
            &counts.cuts,
            &counts.bad_peers,
            &counts.joins,
        ] {
            count.store(1, Relaxed);
        }
        let (base, process) = (Sample::default(), Process::default());
        let after = Sample { resumed: 1, ..base };
        Evidence {
            warm_up: 1.0,
            base,
            own_base: process,
            samples: (0..10).map(|at| (at.into(), base)).collect(),
            own_samples: (0..10).map(|at| (at.into(), process)).collect(),
            after,
            own_after: process,
            counts: Arc::new(counts),
            stopped: Stopped::default(),
        }
    }

    #[test]
    fn everything_that_is_left_is_named() {
        assert_eq!(judge(&evidence(), &THRESHOLDS), Vec::<String>::new());
        let judged = |change: fn(&mut Evidence), word: &str| {
            let mut evidence = evidence();
            change(&mut evidence);
            let faults = judge(&evidence, &THRESHOLDS);
            assert_eq!(faults.len(), 1, "{word}: {faults:?}");
            assert!(faults[0].contains(word), "{word}: {faults:?}");
            assert!(to_text(&evidence, &faults, 7).contains("LEAK OR FAULT"));
            assert_eq!(to_json(&evidence, &faults, 7)["is_well"], false);
        };
        judged(|it| it.after.sessions = 1, "server, sessions");
        judged(|it| it.after.queued_bytes = 1, "queued bytes");
        judged(|it| it.after.process.descriptors = 5, "server, descriptors");
        judged(|it| it.own_after.tasks = 5, "clients, tasks");
        judged(|it| it.stopped.process.tasks = 1, "when stopped");
        judged(|it| it.counts.fault("wrong".to_owned()), "wrong");
        judged(|it| it.after.suspended = 1, "suspended");
        judged(|it| it.after.resumed = 0, "resumed");
        judged(|it| it.counts.cuts.store(0, Relaxed), "no cuts");
    }
}
