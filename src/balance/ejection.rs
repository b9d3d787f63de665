//! When an endpoint is sick, and for how long it is left alone.

use std::time::Duration;

use tokio::time::Instant;

use super::strategy::is_over;
use crate::error::{ConfigError, ErrorCode};

/// A connection that has lasted this long has shown that its endpoint works. One that is accepted and soon lost does not.
const PROOF: Duration = Duration::from_secs(5);

/// How long a failure makes an endpoint look more loaded than it is.
const MEMORY: Duration = Duration::from_secs(10);

/// When an endpoint that fails is left alone, and for how long.
///
/// What counts as a failure: an attempt to connect that fails or takes too long, a connection that breaks or whose server
/// falls silent, and a request that is not answered in time. What does not: a server that has no room
/// (`too_many_connections`, `rate_limited`), that is stopping (`goaway`, `shutting_down`), or that refuses this client
/// (`authentication_failed`, `access_denied` and the like); an answer that says that a request failed. Servers without
/// room and those that are stopping are passed over for a while, if there are others, without a mark against them.
///
/// An endpoint that is ejected comes back by a probe: when its time is over, one attempt at a time is let through. If it
/// succeeds, the endpoint is back; if it fails, the endpoint is ejected for twice as long, up to the cap. When no
/// endpoint is well, all are tried.
///
/// ```
/// use std::time::Duration;
/// use network_system::balance::Ejection;
///
/// let ejection = Ejection::default()
///     .consecutive_failures(Some(3))
///     .failure_rate(Some((0.5, 20, Duration::from_secs(30))))
///     .base(Duration::from_secs(5));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Ejection {
    consecutive: Option<u32>,
    rate: Option<(f64, u32, Duration)>,
    base: Duration,
    cap: Duration,
    at_most: f64,
}

impl Ejection {
    /// No endpoint is ejected.
    pub fn disabled() -> Self {
        Ejection {
            consecutive: None,
            ..Ejection::default()
        }
    }

    /// How many failures in a row make an endpoint sick. 5 by default; `None` switches this condition off.
    #[must_use]
    pub fn consecutive_failures(mut self, failures: Option<u32>) -> Self {
        self.consecutive = failures;
        self
    }

    /// Which share of failures makes an endpoint sick, above 0 and at most 1; of how many outcomes at least; and
    /// within which time, to about an eighth of it. `None`, the default, switches this condition off.
    #[must_use]
    pub fn failure_rate(mut self, rate: Option<(f64, u32, Duration)>) -> Self {
        self.rate = rate;
        self
    }

    /// How long an endpoint is ejected at first; each further time is twice as long. 10 s by default. It begins anew
    /// after the endpoint has been well for as long as it was last ejected.
    #[must_use]
    pub fn base(mut self, base: Duration) -> Self {
        self.base = base;
        self
    }

    /// The longest time that an endpoint is ejected. 5 min by default.
    #[must_use]
    pub fn cap(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// Which share of the endpoints may be ejected at once, from 0 to 1. 0.5 by default. Of two or more endpoints one
    /// may always be, unless this is 0, and never all.
    #[must_use]
    pub fn at_most(mut self, share: f64) -> Self {
        self.at_most = share;
        self
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let bad = |option: &str, value: String, expected| {
            Err(ConfigError::option(
                &format!("ejection {option}"),
                value,
                expected,
            ))
        };
        if self.consecutive == Some(0) {
            return bad("consecutive_failures", "0".into(), "at least 1");
        }
        if let Some((share, least, window)) = self.rate {
            if !(share > 0.0 && share <= 1.0) {
                return bad("failure_rate", share.to_string(), "above 0 and at most 1");
            }
            if least == 0 || window.is_zero() {
                let value = format!("{least} in {window:?}");
                return bad(
                    "failure_rate",
                    value,
                    "at least one outcome in more than no time",
                );
            }
        }
        if self.base.is_zero() || self.cap < self.base {
            let value = format!("{:?} to {:?}", self.base, self.cap);
            return bad("base", value, "more than zero and at most the cap");
        }
        if self.cap > Duration::from_secs(365 * 24 * 3600) {
            return bad("cap", format!("{:?}", self.cap), "at most a year");
        }
        if !(0.0..=1.0).contains(&self.at_most) {
            return bad("at_most", self.at_most.to_string(), "0 to 1");
        }
        Ok(())
    }

    /// How many of `count` endpoints may be ejected at once.
    pub(super) fn room(&self, count: usize) -> usize {
        if self.at_most == 0.0 || count < 2 {
            return 0;
        }
        let share = (self.at_most * count as f64).floor() as usize;
        share.clamp(1, count - 1)
    }
}

/// Five failures in a row eject for 10 s to 5 min, half of the endpoints at most.
impl Default for Ejection {
    fn default() -> Self {
        Ejection {
            consecutive: Some(5),
            rate: None,
            base: Duration::from_secs(10),
            cap: Duration::from_secs(300),
            at_most: 0.5,
        }
    }
}

/// What an error of an attempt, or the end of a connection, says of the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Something is wrong with it.
    Sick,
    /// It works, and cannot take this client now.
    Elsewhere,
    /// It works.
    Well,
    /// Nothing.
    Unknown,
}

impl Verdict {
    pub(super) fn of(code: ErrorCode) -> Self {
        match code {
            ErrorCode::TooManyConnections | ErrorCode::RateLimited | ErrorCode::ShuttingDown => {
                Verdict::Elsewhere
            }
            ErrorCode::AuthenticationFailed
            | ErrorCode::AccessDenied
            | ErrorCode::UnsupportedVersion
            | ErrorCode::SessionNotFound
            | ErrorCode::SessionExpired
            | ErrorCode::InvalidSession
            | ErrorCode::SlowConsumer => Verdict::Well,
            ErrorCode::ConnectionFailed
            | ErrorCode::ConnectionRefused
            | ErrorCode::ConnectionTimeout
            | ErrorCode::ConnectionClosed
            | ErrorCode::TlsHandshakeFailed
            | ErrorCode::IdleTimeout
            | ErrorCode::HeartbeatTimeout
            | ErrorCode::SendFailed
            | ErrorCode::ReceiveFailed
            | ErrorCode::InvalidFrame
            | ErrorCode::RequestTimeout => Verdict::Sick,
            // This side's own, mostly: its configuration, its messages, its stages, the source of its tokens.
            _ => Verdict::Unknown,
        }
    }
}

/// Where an endpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndpointState {
    /// It takes connections.
    Available,
    /// It has no room or is stopping: passed over if there are others.
    Resting,
    /// It is sick and left alone.
    Ejected,
    /// It was ejected long enough: the next attempt, or one that is under way, decides.
    Probing,
}

/// The health of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Failures since the last proof that it works, and when the last one was.
    failures: u32,
    failed_at: Option<Instant>,
    window: Window,
    /// When it first worked after the last failure.
    well_since: Option<Instant>,
    sick: bool,
    /// Until when it is left alone. Stays when that is over, until a probe has succeeded.
    pub(super) ejected: Option<Instant>,
    probing: bool,
    /// Ejections in a row, and how long the last one was.
    row: u32,
    last: Duration,
    /// Ejections altogether.
    pub(super) ejections: u64,
    /// Until when it is passed over.
    resting: Option<Instant>,
}

impl Health {
    pub(super) fn state(&self, now: Instant) -> EndpointState {
        match self.ejected {
            Some(until) if until > now => EndpointState::Ejected,
            Some(_) => EndpointState::Probing,
            None if is_over(self.resting, now) => EndpointState::Available,
            None => EndpointState::Resting,
        }
    }

    /// Whether the next attempt may go there.
    pub(super) fn admits(&self, now: Instant) -> bool {
        is_over(self.ejected, now) && !self.probing
    }

    pub(super) fn is_resting(&self, now: Instant) -> bool {
        !is_over(self.resting, now)
    }

    /// Failures in a row, unless they are long ago.
    pub(super) fn recent_failures(&self, now: Instant) -> u32 {
        match is_over(self.failed_at.map(|at| at + MEMORY), now) {
            true => 0,
            false => self.failures,
        }
    }

    /// Whether it has met a condition of the ejection, ejected or not.
    pub(super) fn is_sick(&self) -> bool {
        self.sick || self.ejected.is_some()
    }

    /// An attempt begins; says whether it is the probe.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        let probe = self.ejected.is_some() && self.admits(now);
        self.probing |= probe;
        probe
    }

    /// The probe ended without a verdict: the next attempt is the probe.
    pub(super) fn end_probe(&mut self) {
        self.probing = false;
    }

    /// It works.
    pub(super) fn succeeded(&mut self, now: Instant, ejection: &Ejection) {
        self.window.count(now, ejection, false);
        self.sick = false;
        self.ejected = None;
        self.probing = false;
        self.resting = None;
        self.well_since.get_or_insert(now);
    }

    /// It has answered on a connection that it had already. That proves that it works, but whether it comes back from an
    /// ejection is for the probe to say.
    pub(super) fn answered(&mut self, now: Instant, ejection: &Ejection) {
        self.window.count(now, ejection, false);
        if self.ejected.is_none() {
            self.failures = 0;
            self.sick = false;
            self.well_since.get_or_insert(now);
        }
    }

    /// It is passed over until then, at least.
    pub(super) fn rest(&mut self, until: Instant) {
        self.resting = self.resting.max(Some(until));
    }

    /// It failed; says whether it is to be ejected, if there is room for that.
    pub(super) fn failed(&mut self, now: Instant, ejection: &Ejection) -> bool {
        if let Some(since) = self.well_since.take() {
            let well = now.saturating_duration_since(since);
            if well >= PROOF {
                self.failures = 0;
            }
            if well >= self.last {
                self.row = 0;
            }
        }
        self.failures = self.failures.saturating_add(1);
        self.failed_at = Some(now);
        self.window.count(now, ejection, true);
        let row = ejection
            .consecutive
            .is_some_and(|most| self.failures >= most);
        self.sick |= row || self.window.is_over(ejection);
        self.sick && self.ejected.is_none()
    }

    /// Leaves it alone, longer each time; says for how long.
    pub(super) fn eject(&mut self, now: Instant, ejection: &Ejection) -> Duration {
        let factor = 1_u32.checked_shl(self.row).unwrap_or(u32::MAX);
        self.last = ejection.base.saturating_mul(factor).min(ejection.cap);
        self.row = self.row.saturating_add(1);
        self.ejections += 1;
        self.ejected = Some(now + self.last);
        self.probing = false;
        // What led to this has been dealt with.
        self.window = Window::default();
        self.last
    }
}

/// Outcomes of the last time, in eighths of it.
#[derive(Debug, Default)]
struct Window {
    /// All outcomes and the failures, by eighth.
    eighths: [(u32, u32); 8],
    /// When the current eighth began, and which it is.
    began: Option<Instant>,
    current: usize,
}

impl Window {
    fn count(&mut self, now: Instant, ejection: &Ejection, failed: bool) {
        let Some((_, _, window)) = ejection.rate else {
            return;
        };
        let width = (window / 8).max(Duration::from_nanos(1));
        let began = *self.began.get_or_insert(now);
        let passed = now.saturating_duration_since(began).as_nanos() / width.as_nanos();
        if passed >= 8 {
            self.eighths = Default::default();
            self.began = Some(now);
        } else if passed > 0 {
            for _ in 0..passed {
                self.current = (self.current + 1) % 8;
                self.eighths[self.current] = (0, 0);
            }
            self.began = Some(began + width * passed as u32);
        }
        let (all, failures) = &mut self.eighths[self.current];
        *all = all.saturating_add(1);
        *failures = failures.saturating_add(u32::from(failed));
    }

    fn is_over(&self, ejection: &Ejection) -> bool {
        let Some((share, least, _)) = ejection.rate else {
            return false;
        };
        let sum = |of: fn(&(u32, u32)) -> u32| -> u64 {
            self.eighths
                .iter()
                .map(|eighth| u64::from(of(eighth)))
                .sum()
        };
        let (all, failures) = (sum(|eighth| eighth.0), sum(|eighth| eighth.1));
        all >= u64::from(least) && failures as f64 >= share * all as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn rate(share: f64, least: u32) -> Ejection {
        Ejection::disabled().failure_rate(Some((share, least, 8 * S)))
    }

    #[test]
    fn failures_in_a_row_make_sick_and_success_in_between_does_not_help_a_server_that_drops() {
        let ejection = Ejection::default();
        let mut health = Health::default();
        let mut now = Instant::now();
        for _ in 0..4 {
            // Accepted and soon lost.
            health.succeeded(now, &ejection);
            now += S;
            assert!(!health.failed(now, &ejection));
        }
        health.succeeded(now, &ejection);
        assert!(health.failed(now + S, &ejection));
    }

    #[test]
    fn a_connection_that_lasts_and_an_answer_are_proof() {
        let ejection = Ejection::default();
        let start = Instant::now();
        for answered in [false, true] {
            let mut health = Health::default();
            (0..4).for_each(|_| assert!(!health.failed(start, &ejection)));
            health.succeeded(start, &ejection);
            if answered {
                health.answered(start, &ejection);
            }
            let later = start + if answered { S } else { PROOF };
            assert!(!health.failed(later, &ejection));
            assert_eq!(health.failures, 1);
        }
    }

    #[test]
    fn the_time_doubles_up_to_the_cap_and_begins_anew_after_as_long_a_time_well() {
        let ejection = Ejection::default().base(S).cap(5 * S);
        let mut health = Health::default();
        let mut now = Instant::now();
        for expected in [1, 2, 4, 5, 5] {
            health.eject(now, &ejection);
            assert_eq!(health.ejected, Some(now + expected * S));
            assert!(!health.admits(now) && health.state(now) == EndpointState::Ejected);
            now += expected * S;
            assert!(health.admits(now) && health.state(now) == EndpointState::Probing);
        }
        assert!(
            health.begin(now) && !health.admits(now),
            "one probe at a time"
        );
        health.succeeded(now, &ejection);
        assert_eq!(health.state(now), EndpointState::Available);
        now += 5 * S;
        health.failed(now, &ejection);
        health.eject(now, &ejection);
        assert_eq!(health.ejected, Some(now + S));
        assert_eq!(health.ejections, 6);
    }

    #[test]
    fn a_rate_needs_enough_outcomes_and_forgets_old_ones() {
        let ejection = rate(0.5, 10);
        let mut health = Health::default();
        let start = Instant::now();
        for _ in 0..9 {
            assert!(!health.failed(start, &ejection), "too few");
        }
        assert!(health.failed(start, &ejection));
        let mut health = Health::default();
        for _ in 0..9 {
            assert!(!health.failed(start, &ejection));
        }
        assert!(
            !health.failed(start + 9 * S, &ejection),
            "the others are old"
        );
        let mut health = Health::default();
        for second in 0..100 {
            let now = start + second * S;
            (0..2).for_each(|_| health.succeeded(now, &ejection));
            assert!(!health.failed(now, &ejection), "a third is below a half");
        }
    }

    #[test]
    fn never_all_are_ejected() {
        let most = |share: f64| {
            [0, 1, 2, 3, 10].map(|count| Ejection::default().at_most(share).room(count))
        };
        assert_eq!(most(0.5), [0, 0, 1, 1, 5]);
        assert_eq!(most(1.0), [0, 0, 1, 2, 9]);
        assert_eq!(most(0.01), [0, 0, 1, 1, 1]);
        assert_eq!(most(0.0), [0; 5]);
    }

    #[test]
    fn contradictory_settings_are_refused() {
        let default = Ejection::default;
        assert!(default().check().is_ok() && Ejection::disabled().check().is_ok());
        for bad in [
            default().consecutive_failures(Some(0)),
            rate(0.0, 1),
            rate(f64::NAN, 1),
            rate(1.5, 1),
            rate(0.5, 0),
            default().failure_rate(Some((0.5, 1, Duration::ZERO))),
            default().base(Duration::ZERO),
            default().cap(S),
            default().cap(Duration::MAX),
            default().at_most(1.1),
            default().at_most(f64::NAN),
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_code_has_a_verdict_on_purpose() {
        for &code in ErrorCode::ALL {
            let unknown = matches!(
                code,
                ErrorCode::CircuitOpen
                    | ErrorCode::MessageTooLarge
                    | ErrorCode::QueueFull
                    | ErrorCode::PipelineFailed
                    | ErrorCode::RequestFailed
                    | ErrorCode::NotSupported
                    | ErrorCode::ServerNotStarted
                    | ErrorCode::ServerAlreadyRunning
                    | ErrorCode::BindFailed
                    | ErrorCode::InvalidConfiguration
            );
            assert_eq!(Verdict::of(code) == Verdict::Unknown, unknown, "{code}");
        }
    }
}
