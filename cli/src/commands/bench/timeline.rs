//! What the recorders of all threads have counted, put together second by second.
//!
//! Only what is shown of an interval is kept of it, so that a long run needs no more memory than a short one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::recorder::{Interval, Recorder};
use super::run::{Run, histogram};
use crate::results::INTERVALS_MAX;

/// How long the intervals of a run are: whole seconds, and as many as make not too many of them.
pub(super) fn width(duration: Duration) -> Duration {
    let seconds = duration.as_nanos().div_ceil(1_000_000_000) as u64;
    Duration::from_secs(seconds.div_ceil(INTERVALS_MAX as u64).max(1))
}

/// What is kept of an interval. Times are in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) messages: u64,
    pub(super) lost: u64,
    pub(super) errors: u64,
    /// Not there when nothing was timed.
    pub(super) latency: Option<SummaryLatency>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SummaryLatency {
    pub(super) p50: u64,
    pub(super) p99: u64,
    pub(super) max: u64,
}

impl Summary {
    fn of(interval: &Interval) -> Self {
        let latency = &interval.latency;
        Summary {
            messages: interval.messages,
            lost: interval.lost,
            errors: interval.errors,
            latency: (!latency.is_empty()).then(|| SummaryLatency {
                p50: latency.value_at_quantile(0.5),
                p99: latency.value_at_quantile(0.99),
                max: latency.max(),
            }),
        }
    }
}

pub(super) struct Timeline {
    summaries: Vec<Summary>,
    /// Nanoseconds, of all intervals that are over.
    latency: Histogram<u64>,
}

impl Timeline {
    pub(super) fn new() -> Self {
        Timeline {
            summaries: Vec::new(),
            latency: histogram(),
        }
    }

    /// Takes over what is over. Has to be called once in an interval or more often.
    pub(super) fn collect(&mut self, recorders: &[Arc<Recorder>]) {
        let now = Instant::now();
        self.put(recorders, |recorder| recorder.take_finished(now));
    }

    /// Takes over all that is left, when nothing comes any more, and fills up what nothing happened in.
    pub(super) fn finish(&mut self, recorders: &[Arc<Recorder>], run: &Run, elapsed: Duration) {
        self.put(recorders, Recorder::take_all);
        let count = elapsed.as_nanos().div_ceil(run.width.as_nanos());
        self.summaries.resize(count as usize, Summary::default());
    }

    /// After this no recorder has anything left that belongs to the intervals which were put.
    fn put(&mut self, recorders: &[Arc<Recorder>], take: impl Fn(&Recorder) -> Vec<Interval>) {
        let mut open: Vec<Interval> = Vec::new();
        for recorder in recorders {
            for mut interval in take(recorder) {
                match open.iter_mut().find(|it| it.index == interval.index) {
                    Some(same) => {
                        same.add(&interval);
                        interval.latency.reset();
                        recorder.give_back(interval.latency);
                    }
                    None => open.push(interval),
                }
            }
        }
        for mut interval in open {
            if self.summaries.len() <= interval.index {
                self.summaries
                    .resize(interval.index + 1, Summary::default());
            }
            self.summaries[interval.index] = Summary::of(&interval);
            let _ = self.latency.add(&interval.latency);
            if let Some(recorder) = recorders.first() {
                interval.latency.reset();
                recorder.give_back(interval.latency);
            }
        }
    }

    pub(super) fn summaries(&self) -> &[Summary] {
        &self.summaries
    }

    /// Nanoseconds, of all intervals that are over.
    pub(super) fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn intervals_are_seconds_and_longer_where_there_were_too_many() {
        for (duration, expected) in [
            (Duration::from_millis(200), 1),
            (SECOND, 1),
            (3_600 * SECOND, 1),
            (3_601 * SECOND, 2),
            (24 * 3_600 * SECOND, 24),
            (365 * 24 * 3_600 * SECOND, 8_760),
        ] {
            assert_eq!(width(duration).as_secs(), expected, "{duration:?}");
        }
    }

    /// A run that began 10 s ago and takes 5.5 s.
    fn run() -> (Arc<Run>, Instant) {
        let run = Run::new(SECOND);
        let from = Instant::now() - 10 * SECOND;
        run.start(from, from + SECOND.mul_f64(5.5));
        (Arc::new(run), from)
    }

    #[test]
    fn every_message_is_in_the_interval_in_which_it_was_done() {
        let (run, from) = run();
        let recorders: Vec<_> = (0..2)
            .map(|_| Arc::new(Recorder::new(Arc::clone(&run))))
            .collect();
        let mut timeline = Timeline::new();
        let at = |millis| from + Duration::from_millis(millis);
        recorders[0].done(at(100), at(200));
        recorders[1].done(at(100), at(900));
        // The thread does nothing for a while.
        recorders[0].left(at(3_100));
        recorders[1].done(at(900), at(1_000));
        timeline.collect(&recorders);
        // What began before counts without its time, and what ends after the end with nothing else.
        recorders[0].done(from - SECOND, at(3_200));
        recorders[1].done(at(5_400), at(9_000));
        timeline.finish(&recorders, &run, run.elapsed());
        let counts: Vec<_> = timeline.summaries().iter().map(|it| it.messages).collect();
        assert_eq!(counts, [2, 1, 0, 2, 0, 0]);
        assert_eq!(recorders[0].messages() + recorders[1].messages(), 5);
        let timed: Vec<_> = timeline
            .summaries()
            .iter()
            .map(|it| it.latency.is_some())
            .collect();
        assert_eq!(timed, [true, true, false, false, false, true]);
        assert_eq!(timeline.latency().len(), 4);
        let first = timeline.summaries()[0].latency.clone();
        let first = first.map(|latency| latency.max / 1_000_000);
        assert_eq!(first, Some(800));
    }

    #[test]
    fn nothing_is_kept_of_a_run_that_ended_before_it_was_measured() {
        let run = Run::new(SECOND);
        let from = Instant::now() + 100 * SECOND;
        run.start(from, from + SECOND);
        run.stop();
        let run = Arc::new(run);
        let recorders = [Arc::new(Recorder::new(Arc::clone(&run)))];
        recorders[0].done(from, from + SECOND);
        let mut timeline = Timeline::new();
        timeline.finish(&recorders, &run, run.elapsed());
        assert!(timeline.summaries().is_empty());
    }
}
