//! The deadlines of a session, as a pure function of time.

use crate::config::Timeouts;

/// Timeouts in milliseconds; 0 switches one off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    first_byte: u64,
    mid_frame: u64,
    idle: u64,
    heartbeat: u64,
}

impl Timing {
    pub(crate) fn new(timeouts: &Timeouts) -> Self {
        Timing {
            first_byte: timeouts.first_byte.as_millis() as u64,
            mid_frame: timeouts.mid_frame.as_millis() as u64,
            idle: timeouts.idle.as_millis() as u64,
            heartbeat: timeouts.heartbeat.as_millis() as u64,
        }
    }

    /// How often sessions are looked at: often enough that a deadline is met within a twentieth of the
    /// shortest timeout, and at least twice a second.
    pub(crate) fn granularity(&self) -> u64 {
        [self.first_byte, self.mid_frame, self.idle, self.heartbeat]
            .into_iter()
            .filter(|&millis| millis > 0)
            .fold(10_000, u64::min)
            .div_ceil(20)
            .clamp(1, 500)
    }
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// The first frame did not come.
    FirstByte,
    /// A frame that had begun was not completed.
    MidFrame,
    /// Nothing was received for the idle time.
    Idle,
    /// Nothing was received for three heartbeats.
    HeartbeatTimeout,
    /// Nothing was sent for a heartbeat.
    Ping,
}

/// When what happened last, in milliseconds of the hub's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Liveness {
    pub(crate) began: u64,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// Since when a frame is unfinished, 0 when none is.
    pub(crate) mid_frame: u64,
    pub(crate) open: bool,
}

impl Liveness {
    pub(crate) fn new(now: u64) -> Self {
        Liveness {
            began: now,
            received: now,
            sent: now,
            mid_frame: 0,
            open: false,
        }
    }

    /// The most urgent thing that is due at `now`, or else when to look again.
    ///
    /// `heartbeats` says whether the link has PING at all.
    pub(crate) fn check(&self, now: u64, timing: &Timing, heartbeats: bool) -> Result<Due, u64> {
        let mut next = u64::MAX;
        let mut due = None;
        let mut at = |from: u64, after: u64, what: Due| {
            if after > 0 && due.is_none() {
                let deadline = from + after;
                if deadline <= now {
                    due = Some(what)
                } else {
                    next = next.min(deadline)
                }
            }
        };
        if self.mid_frame > 0 {
            at(self.mid_frame, timing.mid_frame, Due::MidFrame);
        }
        if !self.open {
            at(self.began, timing.first_byte, Due::FirstByte);
        } else {
            if heartbeats {
                at(self.received, 3 * timing.heartbeat, Due::HeartbeatTimeout);
            }
            at(self.received, timing.idle, Due::Idle);
            if heartbeats {
                at(self.sent, timing.heartbeat, Due::Ping);
            }
        }
        due.ok_or(next)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn timing() -> Timing {
        Timing::new(&Timeouts {
            idle: Duration::from_secs(30),
            first_byte: Duration::from_secs(10),
            mid_frame: Duration::from_secs(5),
            heartbeat: Duration::from_secs(10),
            ..Timeouts::default()
        })
    }

    #[test]
    fn a_silent_newcomer_is_due_after_the_first_byte_timeout_and_not_before() {
        let liveness = Liveness::new(1_000);
        assert_eq!(liveness.check(10_999, &timing(), true), Err(11_000));
        assert_eq!(liveness.check(11_000, &timing(), true), Ok(Due::FirstByte));
    }

    #[test]
    fn an_unfinished_frame_is_due_even_while_bytes_trickle_in() {
        let liveness = Liveness {
            open: true,
            mid_frame: 1_000,
            received: 5_999,
            ..Liveness::new(1_000)
        };
        assert_eq!(liveness.check(6_000, &timing(), true), Ok(Due::MidFrame));
    }

    #[test]
    fn a_quiet_session_pings_and_is_given_up_after_three_heartbeats() {
        let mut liveness = Liveness {
            open: true,
            ..Liveness::new(1_000)
        };
        assert_eq!(liveness.check(10_999, &timing(), true), Err(11_000));
        assert_eq!(liveness.check(11_000, &timing(), true), Ok(Due::Ping));
        liveness.sent = 30_500;
        assert_eq!(
            liveness.check(31_000, &timing(), true),
            Ok(Due::HeartbeatTimeout)
        );
    }

    #[test]
    fn a_link_without_heartbeats_is_only_ever_idle() {
        let liveness = Liveness {
            open: true,
            ..Liveness::new(1_000)
        };
        assert_eq!(liveness.check(30_999, &timing(), false), Err(31_000));
        assert_eq!(liveness.check(31_000, &timing(), false), Ok(Due::Idle));
    }

    #[test]
    fn zero_switches_a_deadline_off() {
        let off = Timing {
            first_byte: 0,
            mid_frame: 0,
            idle: 0,
            heartbeat: 0,
        };
        let liveness = Liveness {
            mid_frame: 1,
            ..Liveness::new(1)
        };
        assert_eq!(liveness.check(u64::MAX / 2, &off, true), Err(u64::MAX));
    }
}
