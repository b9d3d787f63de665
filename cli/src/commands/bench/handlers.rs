//! What the clients of a run do with what comes: they measure it, and make room for the next.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use network_system::{CloseReason, Handler, Message, Session};

use super::plan::{Plan, STAMP_DIGITS};
use super::run::{Recorder, Run, lock};

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

impl Handler for Echo {
    async fn on_message(&self, session: &Session, message: &Message) {
        let now = Instant::now();
        let Common {
            plan,
            run,
            recorder,
        } = &self.common;
        let Some(begun) = lock(&self.in_flight).pop_front() else {
            recorder
                .error("a message came that answers none; does the server run the handler echo?");
            return;
        };
        if message.len() != plan.payload.len() {
            recorder.error(format!("a message came back with {} bytes", message.len()));
        }
        recorder.done(run, begun, now);
        if plan.rate.is_none() && run.is_on(now) {
            lock(&self.in_flight).push_back(now);
            if session.send(plan.payload.clone()).await.is_err() {
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
        recorder.done(run, run.instant(begun), now);
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

/// A message that says when it left.
pub(super) fn stamped(plan: &Plan, stamp: u64) -> Bytes {
    let mut payload = plan.payload.to_vec();
    for (digit, byte) in payload[..STAMP_DIGITS].iter_mut().enumerate() {
        let shift = 4 * (STAMP_DIGITS - 1 - digit);
        *byte = b"0123456789abcdef"[(stamp >> shift & 15) as usize];
    }
    payload.into()
}

fn stamp_of(payload: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(payload.get(..STAMP_DIGITS)?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}
