//! What the clients of a run do with what comes: they measure it, and make room for the next.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use network_system::{CloseReason, Handler, Message, Session};

use super::plan::{Plan, stamp_of, stamped};
use super::recorder::Recorder;
use super::run::{Run, lock};

/// When the messages that are on their way left, or should have left, in order.
pub(super) type InFlight = Arc<Mutex<VecDeque<Instant>>>;

/// What every handler has.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) plan: Arc<Plan>,
    pub(super) run: Arc<Run>,
    pub(super) recorder: Arc<Recorder>,
}

impl Common {
    /// A connection that ends while the load goes on is an error.
    fn ended(&self, reason: &CloseReason) {
        if self.run.is_on(Instant::now()) {
            self.recorder.error(format!("a connection ended: {reason}"));
        }
    }
}

/// Takes echoes, and in a closed loop answers each with the next message.
pub(super) struct Echo {
    pub(super) common: Common,
    pub(super) in_flight: InFlight,
}

/// Which message an answer is for.
enum Answered {
    /// The one that left then.
    This(Instant),
    /// One that was given up as lost.
    Late,
    None,
}

impl Echo {
    fn take_answered(&self, answer: &Message) -> Answered {
        let mut in_flight = lock(&self.in_flight);
        if !self.common.plan.is_lossy {
            return in_flight.pop_front().map_or(Answered::None, Answered::This);
        }
        let Some(stamp) = stamp_of(answer.payload()) else {
            return Answered::None;
        };
        let begun = self.common.run.instant(stamp);
        match in_flight.iter().position(|&other| other == begun) {
            Some(at) => {
                in_flight.remove(at);
                Answered::This(begun)
            }
            None => Answered::Late,
        }
    }
}

impl Handler for Echo {
    async fn on_message(&self, session: &Session, message: &Message) {
        let now = Instant::now();
        let Common {
            plan,
            run,
            recorder,
        } = &self.common;
        let begun = match self.take_answered(message) {
            Answered::This(begun) => begun,
            Answered::Late => return,
            Answered::None => {
                recorder.error(
                    "a message came that answers none; does the server run the handler echo?",
                );
                return;
            }
        };
        if message.len() != plan.payload.len() {
            recorder.error(format!("a message came back with {} bytes", message.len()));
        }
        recorder.done(begun, now);
        if plan.rate.is_none() && run.is_on(now) {
            lock(&self.in_flight).push_back(now);
            if session.send(plan.question(run, now)).await.is_err() {
                // Why the session ended is counted once, when it has.
                lock(&self.in_flight).pop_back();
            }
        }
    }

    async fn on_disconnect(&self, _: &Session, reason: &CloseReason) {
        self.common.ended(reason);
    }
}

/// Expects nothing: modes that only send, or only hold connections, and the sender of broadcasts.
pub(super) struct Quiet {
    pub(super) common: Common,
}

impl Handler for Quiet {
    async fn on_disconnect(&self, _: &Session, reason: &CloseReason) {
        self.common.ended(reason);
    }
}

/// Connections that come and go.
pub(super) struct Passing;

impl Handler for Passing {}

/// Takes broadcasts. In a closed loop, the last receiver of one lets the next one go.
pub(super) struct Receiver {
    pub(super) common: Common,
}

impl Handler for Receiver {
    async fn on_message(&self, _: &Session, message: &Message) {
        let now = Instant::now();
        let Common {
            plan,
            run,
            recorder,
        } = &self.common;
        let Some(begun) = stamp_of(message.payload()) else {
            recorder.error("a message came that this run did not send");
            return;
        };
        recorder.done(run.instant(begun), now);
        let broadcast = &run.broadcast;
        let received = broadcast.received.fetch_add(1, Ordering::Relaxed) + 1;
        let receivers = broadcast.receivers.get().copied().unwrap_or(1);
        if plan.rate.is_none()
            && received.is_multiple_of(receivers)
            && run.is_on(now)
            && let Some(sender) = broadcast.sender.get()
        {
            broadcast.sent.fetch_add(1, Ordering::Relaxed);
            if sender.send(stamped(plan, run.stamp(now))).await.is_err() {
                broadcast.sent.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    async fn on_disconnect(&self, _: &Session, reason: &CloseReason) {
        self.common.ended(reason);
    }
}
