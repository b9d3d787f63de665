//! Sends messages at their times, whatever comes back (open loop).
//!
//! It has a thread of its own: the runtime's timer counts in milliseconds, which is longer than the
//! latencies to be measured.

use std::time::{Duration, Instant};

use network_system::{SendError, Session};
use tokio::runtime::Handle;

use super::handlers::{Common, InFlight};
use super::plan::stamped;
use super::run::lock;
use crate::args::BenchMode;

/// How long a send may wait before the end of the run is looked for.
const PATIENCE: Duration = Duration::from_millis(100);

/// Whoever sends at times: some sessions, one after the other.
pub(super) struct Pacer {
    pub(super) common: Common,
    pub(super) targets: Vec<(Session, InFlight)>,
    /// From one message to the next.
    pub(super) interval: Duration,
    pub(super) start: Instant,
}

impl Pacer {
    /// Sends until the run is over.
    pub(super) fn run(self, runtime: &Handle) {
        let Common {
            plan,
            run,
            recorder,
        } = &self.common;
        let mut number = 0_u32;
        let mut start = self.start;
        for (session, in_flight) in self.targets.iter().cycle() {
            let due = start + self.interval * number;
            // The product would overflow one day.
            (start, number) = if number > 1 << 30 {
                (due + self.interval, 0)
            } else {
                (start, number + 1)
            };
            let left = due.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                std::thread::sleep(left);
            }
            if !run.is_on(Instant::now()) {
                return;
            }
            let sent = match plan.mode {
                BenchMode::Broadcast => {
                    let payload = stamped(plan, run.stamp(due));
                    let sent = self.send(session, payload, runtime);
                    if sent {
                        run.broadcast
                            .sent
                            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                    sent
                }
                BenchMode::Oneway => {
                    let sent = self.send(session, plan.payload.clone(), runtime);
                    if sent {
                        recorder.left(Instant::now());
                    }
                    sent
                }
                _ => {
                    lock(in_flight).push_back(due);
                    let sent = self.send(session, plan.question(run, due), runtime);
                    if !sent {
                        lock(in_flight).pop_back();
                    }
                    sent
                }
            };
            if !sent
                && self
                    .targets
                    .iter()
                    .all(|(session, _)| !session.is_connected())
            {
                return;
            }
        }
    }

    /// Whether the message left. It may wait for room: the time at which it was due stays.
    fn send(&self, session: &Session, payload: bytes::Bytes, runtime: &Handle) -> bool {
        let mut result = session.try_send(payload);
        while let Err(error) = result {
            if !SendError::is_full(&error) || !self.common.run.is_on(Instant::now()) {
                return false;
            }
            result = runtime.block_on(session.send_timeout(error.into_message(), PATIENCE));
        }
        true
    }
}
