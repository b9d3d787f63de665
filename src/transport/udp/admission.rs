//! Which unknown addresses may open a session, decided before anything is kept of them.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};

/// Cells of the table of addresses. Addresses that share one share its rate; which do, nobody outside can
/// know.
const CELLS: usize = 4_096;

const SECOND: u64 = 1_000_000_000;

/// A rate as the generic cell rate algorithm has it: one number says how far what was let in is ahead of
/// time. Up to one second's worth may come at once.
#[derive(Clone, Copy, Debug)]
struct Rate {
    /// Nanoseconds that each one takes; 0 for no limit.
    interval: u64,
}

impl Rate {
    fn per_second(count: u32) -> Self {
        let interval = match count {
            0 => 0,
            count => (SECOND / u64::from(count)).max(1),
        };
        Rate { interval }
    }

    /// Whether one more is let in at `now`; `ahead` is until when what was let in before lasts.
    fn takes(self, ahead: &mut u64, now: u64) -> bool {
        if self.interval == 0 {
            return true;
        }
        let from = now.max(*ahead);
        if from + self.interval - now > SECOND.max(self.interval) {
            return false;
        }
        *ahead = from + self.interval;
        true
    }
}

/// Limits how often sessions begin: in all, and for each address. Its memory does not depend on how many
/// addresses there are.
#[derive(Debug)]
pub(super) struct Admission {
    each: Rate,
    all: Rate,
    hasher: RandomState,
    cells: Vec<u64>,
    total: u64,
}

impl Admission {
    /// So many new sessions a second in all, and for each address; 0 for no limit.
    pub(super) fn new(all: u32, each: u32) -> Self {
        Admission {
            each: Rate::per_second(each),
            all: Rate::per_second(all),
            hasher: RandomState::new(),
            cells: if each == 0 {
                Vec::new()
            } else {
                vec![0; CELLS]
            },
            total: 0,
        }
    }

    /// Whether a session from `ip` may begin `now`, in nanoseconds.
    pub(super) fn admits(&mut self, ip: IpAddr, now: u64) -> bool {
        if !self.cells.is_empty() {
            let cell = self.hasher.hash_one(network(ip)) as usize % CELLS;
            // First, so that one address that asks too often takes nothing from the others.
            if !self.each.takes(&mut self.cells[cell], now) {
                return false;
            }
        }
        self.all.takes(&mut self.total, now)
    }
}

/// What counts as one address: whoever has one of IPv6 has its /64 network.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn v4(last: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x7f00_0000 + last).into()
    }

    fn admitted(admission: &mut Admission, ip: IpAddr, times: usize, now: u64) -> usize {
        (0..times).filter(|_| admission.admits(ip, now)).count()
    }

    #[test]
    fn an_address_has_a_burst_of_one_second_and_then_its_rate() {
        let mut admission = Admission::new(0, 10);
        assert_eq!(admitted(&mut admission, v4(1), 100, 0), 10);
        assert_eq!(admitted(&mut admission, v4(1), 100, SECOND / 2), 5);
        assert_eq!(admitted(&mut admission, v4(1), 100, 100 * SECOND), 10);
    }

    #[test]
    fn one_that_asks_too_often_takes_nothing_from_the_others() {
        let mut admission = Admission::new(30, 10);
        assert_eq!(admitted(&mut admission, v4(1), 1_000, 0), 10);
        let others: usize = (2..6)
            .map(|last| admitted(&mut admission, v4(last), 5, 0))
            .sum();
        assert!(
            others >= 15,
            "only {others}, so cells collide more than they should"
        );
    }

    #[test]
    fn all_together_are_limited_however_many_addresses_they_have() {
        let mut admission = Admission::new(50, 10);
        let sum: usize = (0..100_000)
            .map(|last| admitted(&mut admission, v4(last), 1, 0))
            .sum();
        assert_eq!(sum, 50);
        assert_eq!(admission.cells.len(), CELLS);
    }

    #[test]
    fn no_limit_is_no_limit() {
        let mut admission = Admission::new(0, 0);
        assert_eq!(admitted(&mut admission, v4(1), 100_000, 0), 100_000);
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let mut admission = Admission::new(0, 1);
        let at = |last: u128| IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) + last));
        assert!(admission.admits(at(1), 0));
        assert!(!admission.admits(at(2), 0));
        // An IPv4 address on a dual-stack socket is the same address as elsewhere.
        assert!(admission.admits(v4(1), 0));
        let IpAddr::V4(plain) = v4(1) else { return };
        assert!(!admission.admits(plain.to_ipv6_mapped().into(), 0));
    }
}
