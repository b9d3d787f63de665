//! Messages that have no answer, where the transport may lose them.

use std::time::{Duration, Instant};

use network_system::Session;

use super::handlers::{Common, InFlight};
use super::run::lock;

/// After this long an answer does not come any more.
const LOST_AFTER: Duration = Duration::from_millis(500);

/// How long the server has for its part of an orderly end.
pub(super) const END: Duration = Duration::from_secs(1);

/// How often it is looked.
const TICK: Duration = Duration::from_millis(10);

/// Counts what is lost and, in a closed loop, sends the next in its place, until the run is over.
pub(super) async fn give_up_lost(common: Common, connections: Vec<(Session, InFlight)>) {
    let Common {
        plan,
        run,
        recorder,
    } = &common;
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        if !run.is_on(Instant::now()) {
            return;
        }
        for (session, in_flight) in &connections {
            while let Some(begun) = take_lost(in_flight) {
                recorder.lost(begun);
                let now = Instant::now();
                if plan.rate.is_none() && run.is_on(now) {
                    lock(in_flight).push_back(now);
                    if session.send(plan.question(run, now)).await.is_err() {
                        // Why the session ended is counted once, when it has.
                        lock(in_flight).pop_back();
                        break;
                    }
                }
            }
        }
    }
}

/// The oldest message, if it is lost.
fn take_lost(in_flight: &InFlight) -> Option<Instant> {
    let mut in_flight = lock(in_flight);
    let begun = *in_flight.front()?;
    (begun.elapsed() >= LOST_AFTER)
        .then(|| in_flight.pop_front())
        .flatten()
}

/// Waits for the last answers. What has not come then is lost.
pub(super) async fn await_last(common: &Common, connections: &[(Session, InFlight)]) {
    let over = Instant::now() + LOST_AFTER;
    let is_waiting = || {
        let mut all = connections.iter();
        all.any(|(session, in_flight)| session.is_connected() && !lock(in_flight).is_empty())
    };
    while is_waiting() && Instant::now() < over {
        tokio::time::sleep(TICK / 5).await;
    }
    for (_, in_flight) in connections {
        for begun in lock(in_flight).drain(..) {
            common.recorder.lost(begun);
        }
    }
}
