//! How often connections are accepted.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::time::Instant;

use super::Admission;
use super::gcra::Pace;
use crate::config::Limits;
use crate::hub::Clock;
use crate::session::shared::lock;

/// In which time as many may come at once as come in it otherwise. A handshake of TLS takes about a millisecond of
/// a core: a second's worth of them at once would be felt by the sessions that there are.
const BURST: Duration = Duration::from_millis(100);

/// The pace of new connections, over all listeners of a server.
pub(crate) struct Handshakes {
    clock: Clock,
    all: Option<Pace>,
    ahead: AtomicU64,
    each: Option<Mutex<Admission>>,
}

impl Handshakes {
    pub(crate) fn new(limits: &Limits, clock: Clock) -> Self {
        let each = limits.handshakes_per_second_per_ip;
        Handshakes {
            clock,
            all: Pace::new(limits.handshakes_per_second.into(), BURST),
            ahead: AtomicU64::new(0),
            each: (each > 0).then(|| Mutex::new(Admission::new(0, each))),
        }
    }

    /// Takes leave to accept one more, or says from when on there is one.
    pub(crate) fn take(&self) -> Result<(), Instant> {
        let Some(pace) = self.all else { return Ok(()) };
        let taken = pace.take(&self.ahead, self.now());
        taken.map_err(|nanos| self.clock.instant(nanos.div_ceil(1_000_000) + 1))
    }

    /// Whether one more from this address is let in.
    pub(crate) fn admits(&self, ip: IpAddr) -> bool {
        let each = self.each.as_ref();
        each.is_none_or(|each| lock(each).admits(ip, self.now()))
    }

    /// Nanoseconds.
    fn now(&self) -> u64 {
        self.clock.micros().saturating_mul(1_000)
    }
}
