//! How much has arrived, and how much of it was handled.

use std::collections::VecDeque;

/// The frames that have arrived on a session, in order. What waits for the handler is come past in order;
/// answers, which are dealt with on arrival, stand between.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    decoded: u64,
    /// Frames at the front that nothing waits for.
    passed: u64,
    passed_bytes: u64,
    /// What comes after them. Neighbours differ in kind.
    runs: VecDeque<Run>,
    /// The frames in the lane, and their bytes.
    waiting_frames: u64,
    waiting: u64,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    /// Whether these frames are in the handler's lane; otherwise they are done.
    lane: bool,
    frames: u64,
    bytes: u64,
}

impl Arrivals {
    /// Frames that have arrived: queued for the handler, or dealt with.
    pub(crate) fn decoded(&self) -> u64 {
        self.decoded
    }

    /// How many frames, from the first one on, the lane has come past.
    pub(crate) fn passed(&self) -> u64 {
        self.passed
    }

    /// Their bytes, estimated where frames of a run differ in length.
    pub(crate) fn passed_bytes(&self) -> u64 {
        self.passed_bytes
    }

    /// Frames that are in the lane.
    pub(crate) fn waiting_frames(&self) -> u64 {
        self.waiting_frames
    }

    /// Bytes that are in the lane.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.waiting
    }

    /// Frames have arrived for the handler's lane.
    #[inline]
    pub(crate) fn arrive(&mut self, frames: u64, bytes: u64) {
        self.waiting_frames += frames;
        self.waiting += bytes;
        self.push(true, frames, bytes);
    }

    /// Frames have arrived and are dealt with.
    pub(crate) fn arrive_done(&mut self, frames: u64, bytes: u64) {
        self.push(false, frames, bytes);
        self.settle();
    }

    #[inline]
    fn push(&mut self, lane: bool, frames: u64, bytes: u64) {
        if frames == 0 {
            return;
        }
        self.decoded += frames;
        match self.runs.back_mut() {
            Some(run) if run.lane == lane => {
                run.frames += frames;
                run.bytes += bytes;
            }
            _ => self.runs.push_back(Run {
                lane,
                frames,
                bytes,
            }),
        }
    }

    /// The lane has come past its next `frames` frames.
    #[inline]
    pub(crate) fn pass(&mut self, mut frames: u64) {
        while frames > 0
            && let Some(run) = self.runs.front_mut()
        {
            debug_assert!(run.lane, "what is done is settled");
            let count = frames.min(run.frames);
            let bytes = match count == run.frames {
                true => run.bytes,
                false => {
                    (u128::from(run.bytes) * u128::from(count) / u128::from(run.frames)) as u64
                }
            };
            run.frames -= count;
            run.bytes -= bytes;
            frames -= count;
            self.passed += count;
            self.passed_bytes += bytes;
            self.waiting_frames -= count;
            self.waiting -= bytes;
            if run.frames == 0 {
                self.runs.pop_front();
                self.settle();
            }
        }
        debug_assert_eq!(frames, 0, "more was handled than has arrived");
    }

    /// Comes past what is done.
    fn settle(&mut self) {
        while let Some(run) = self.runs.front()
            && !run.lane
        {
            self.passed += run.frames;
            self.passed_bytes += run.bytes;
            self.runs.pop_front();
        }
        if self.runs.is_empty() && self.runs.capacity() > 16 {
            self.runs = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_behind_a_message_counts_when_the_message_is_handled() {
        let mut arrivals = Arrivals::default();
        arrivals.arrive(2, 20);
        arrivals.arrive_done(1, 5);
        arrivals.arrive(1, 10);
        assert_eq!((arrivals.decoded(), arrivals.passed()), (4, 0));
        arrivals.pass(1);
        assert_eq!(arrivals.passed(), 1);
        arrivals.pass(1);
        assert_eq!(arrivals.passed(), 3, "the answer behind it was dealt with");
        arrivals.pass(1);
        assert_eq!((arrivals.passed(), arrivals.passed_bytes()), (4, 35));
        assert_eq!(arrivals.waiting_bytes(), 0);
    }

    proptest! {
        #[test]
        fn the_count_is_that_of_a_list_of_all_frames(
            steps in prop::collection::vec((0..3_u8, 1..5_u64), 0..80)
        ) {
            let mut arrivals = Arrivals::default();
            // Whether each frame waits.
            let mut all: Vec<bool> = Vec::new();
            for (kind, count) in steps {
                match kind {
                    0 => {
                        arrivals.arrive(count, count * 10);
                        all.extend((0..count).map(|_| true));
                    }
                    1 => {
                        arrivals.arrive_done(count, count * 3);
                        all.extend((0..count).map(|_| false));
                    }
                    _ => {
                        let waiting = all.iter().filter(|&&waits| waits).count() as u64;
                        let count = count.min(waiting);
                        arrivals.pass(count);
                        for waits in all.iter_mut().filter(|waits| **waits).take(count as usize) {
                            *waits = false;
                        }
                    }
                }
                let passed = all.iter().take_while(|&&waits| !waits).count() as u64;
                prop_assert_eq!(arrivals.passed(), passed);
                prop_assert_eq!(arrivals.decoded(), all.len() as u64);
                let waiting = all.iter().filter(|&&waits| waits).count() as u64;
                prop_assert_eq!(arrivals.waiting_bytes(), waiting * 10);
                prop_assert_eq!(arrivals.waiting_frames(), waiting);
            }
        }
    }
}
