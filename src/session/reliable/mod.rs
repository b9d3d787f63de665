//! Reliable sessions: what has to be known so that nothing is lost when a link is (protocol section 4).
//!
//! Pure bookkeeping, without I/O, time or tasks. The driver feeds it and does what follows:
//!
//! - [`replay`]: what was sent and is not acknowledged, to be sent again on the next link.
//! - [`arrivals`]: how much has arrived, and how much of it was handled.
//! - [`resumption`]: what a session and the connections that ask for it share: tokens and figures.

pub(crate) mod arrivals;
pub(crate) mod replay;
pub(crate) mod resumption;

use std::sync::Arc;

use self::arrivals::Arrivals;
use self::replay::{Kept, Replay};
use self::resumption::Resumption;
use crate::codec::{FrameType, msgi};

/// The window of a side that names none.
pub(crate) const DEFAULT_WINDOW: u64 = 1024 * 1024;

/// Frames that are handled before they are acknowledged.
const ACK_FRAMES: u64 = 256;

/// How long, in milliseconds, something handled waits for its acknowledgement.
pub(crate) const ACK_MILLIS: u64 = 100;

/// What the driver of a reliable session keeps.
pub(crate) struct Reliable {
    pub(crate) shared: Arc<Resumption>,
    pub(crate) replay: Replay,
    pub(crate) arrivals: Arrivals,
    /// Bytes that may be sent and not acknowledged, and that may be received and not handled.
    window: usize,
    /// How long the session outlives a link, in milliseconds.
    pub(crate) resume_millis: u64,
    /// The next frame that goes to a new link again; `None` once all have.
    replaying: Option<u64>,
    /// Frames and bytes that were acknowledged to the other side.
    acknowledged: u64,
    acknowledged_bytes: u64,
    /// When the next acknowledgement is due; 0 when none is.
    ack_due: u64,
    /// Whether nothing was received yet on the newest link.
    pub(crate) is_fresh: bool,
    /// On a client: the server's id of the session, and the token that it takes.
    pub(crate) remote: Option<(String, String)>,
    /// Frames of the batch in work that the handler had not asked for when it was last looked at.
    pub(crate) left_in_batch: u64,
}

impl Reliable {
    pub(crate) fn new(shared: Arc<Resumption>, window: usize, resume_millis: u64) -> Self {
        Reliable {
            shared,
            replay: Replay::default(),
            arrivals: Arrivals::default(),
            window,
            resume_millis,
            replaying: None,
            acknowledged: 0,
            acknowledged_bytes: 0,
            ack_due: 0,
            is_fresh: true,
            remote: None,
            left_in_batch: 0,
        }
    }

    pub(crate) fn window(&self) -> usize {
        self.window
    }

    /// Holds what the other side says that it has against what was sent.
    pub(crate) fn judge(&self, received: u64) -> Claim {
        if received > self.replay.sent() {
            Claim::TooMuch
        } else if received < self.replay.acknowledged() {
            Claim::TooLittle
        } else {
            Claim::Fits
        }
    }

    /// The other side has handled the first `received` frames, which are not more than were sent. An
    /// acknowledgement that is older than another one says nothing.
    pub(crate) fn free(&mut self, received: u64) {
        self.replay.free(received);
        if let Some(next) = self.replaying {
            self.begin_replay(next.max(received));
        }
    }

    /// A new link is there, and the other side has the first `received` frames: the others go there again.
    pub(crate) fn begin_replay(&mut self, received: u64) {
        self.replaying = (received < self.replay.sent()).then_some(received);
    }

    /// Whether something has to be sent again before anything new is.
    #[inline]
    pub(crate) fn is_replaying(&self) -> bool {
        self.replaying.is_some()
    }

    /// Hands frames that have to be sent again on to `visit`, until that says to stop.
    pub(crate) fn replay(&mut self, visit: impl FnMut(Kept<'_>) -> bool) {
        if let Some(first) = self.replaying {
            let next = self.replay.visit_from(first, visit);
            self.begin_replay(next);
        }
    }

    /// The link is lost: nothing more goes there, and what was said on it may not have arrived.
    pub(crate) fn lose_link(&mut self) {
        self.replaying = None;
        self.acknowledge_again();
    }

    /// What may be sent now.
    #[inline]
    pub(crate) fn room(&self) -> Room {
        if self.is_replaying() {
            return Room {
                left: 0,
                is_empty: false,
            };
        }
        Room {
            left: self.window.saturating_sub(self.replay.bytes()),
            is_empty: self.replay.is_empty(),
        }
    }

    /// Whether so much has arrived and waits that nothing more is read. Twice the window: it is the other side
    /// that keeps it, and it may count without heads. A message that is longer than the window comes alone, and what
    /// follows it are acknowledgements, which its handler may be waiting for.
    pub(crate) fn is_full(&self, slack: usize) -> bool {
        let most = 2 * self.window as u64 + slack as u64;
        self.arrivals.waiting_bytes() >= most && self.arrivals.waiting_frames() > 1
    }

    /// The acknowledgement that has to leave now, if one has to.
    #[inline]
    pub(crate) fn ack(&mut self, handled: u64, now: u64) -> Option<u64> {
        if handled == self.acknowledged {
            if self.ack_due <= now {
                self.ack_due = 0;
            }
            return None;
        }
        let bytes = self.arrivals.passed_bytes() - self.acknowledged_bytes;
        let is_due = handled - self.acknowledged >= ACK_FRAMES
            || bytes >= self.window as u64 / 4
            || (self.ack_due != 0 && self.ack_due <= now);
        is_due.then(|| self.acknowledge(handled))
    }

    /// Whether nothing is due by itself: no acknowledgement, and nothing that goes to a new link again.
    #[inline]
    pub(crate) fn is_at_rest(&self, now: u64) -> bool {
        !self.is_replaying() && (self.ack_due == 0 || self.ack_due > now)
    }

    /// Something is to be acknowledged in a while, or may be handled in silence meanwhile: when. Once for each time.
    pub(crate) fn next_ack(&mut self, handled: u64, is_silent: bool, now: u64) -> Option<u64> {
        if (handled == self.acknowledged && !is_silent) || self.ack_due != 0 {
            return None;
        }
        self.ack_due = now + ACK_MILLIS;
        Some(self.ack_due)
    }

    /// Everything that was handled is acknowledged now.
    pub(crate) fn acknowledge(&mut self, handled: u64) -> u64 {
        self.acknowledged = handled;
        self.acknowledged_bytes = self.arrivals.passed_bytes();
        self.ack_due = 0;
        handled
    }

    /// What was acknowledged may not have arrived with the link that was lost: it is said at once on the next one.
    fn acknowledge_again(&mut self) {
        self.acknowledged = 0;
        self.acknowledged_bytes = 0;
        // Long over.
        self.ack_due = 1;
    }

    pub(crate) fn has_unacknowledged_arrivals(&self, handled: u64) -> bool {
        handled > self.acknowledged
    }

    /// Tells handles how much is not acknowledged.
    #[inline]
    pub(crate) fn publish(&self) {
        self.shared.publish(self.replay.len(), self.replay.bytes());
    }
}

/// What a count of the other side is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    Fits,
    /// More than was sent.
    TooMuch,
    /// Less than it has acknowledged: what is missing is gone.
    TooLittle,
}

/// What may be sent before the window is used up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) left: usize,
    /// Whether nothing is unacknowledged: then one frame is allowed, however long.
    pub(crate) is_empty: bool,
}

impl Room {
    /// Room without a limit.
    pub(crate) const UNLIMITED: Room = Room {
        left: usize::MAX,
        is_empty: true,
    };

    /// Whether any frame may be sent.
    #[inline]
    pub(crate) fn has_any(&self) -> bool {
        self.left > 0 || self.is_empty
    }

    /// Takes the room of a frame, if there is so much.
    #[inline]
    pub(crate) fn take(&mut self, frame_type: FrameType, payload: usize) -> bool {
        if !is_application(frame_type) {
            return true;
        }
        let len = wire_len(frame_type, payload);
        let fits = len <= self.left || self.is_empty;
        if fits {
            self.left = self.left.saturating_sub(len);
            self.is_empty = false;
        }
        fits
    }
}

/// Whether a frame counts (protocol section 2).
#[inline]
pub(crate) fn is_application(frame_type: FrameType) -> bool {
    frame_type.is_message() || frame_type.has_id()
}

/// The length of a frame as MSGI, whatever the link makes of it.
#[inline]
pub(crate) fn wire_len(frame_type: FrameType, payload: usize) -> usize {
    let id = if frame_type.has_id() { msgi::ID } else { 0 };
    msgi::HEADER + id + payload
}

#[cfg(test)]
mod tests;
