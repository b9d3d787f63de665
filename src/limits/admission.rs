//! Which addresses may open a session, decided before anything is kept of them.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use super::address::network;
use super::gcra::Pace;

/// Cells of the table of addresses. Addresses that share one share its rate; which do, nobody outside can
/// know.
const CELLS: usize = 4_096;

/// In which time as many may come at once as come in it otherwise.
const BURST: Duration = Duration::from_secs(1);

/// Limits how often sessions begin: in all, and for each address. Its memory does not depend on how many
/// addresses there are.
#[derive(Debug)]
pub(crate) struct Admission {
    each: Option<Pace>,
    all: Option<Pace>,
    hasher: RandomState,
    cells: Vec<u64>,
    total: u64,
}

impl Admission {
    /// So many new sessions a second in all, and for each address; 0 for no limit. As many may come at once.
    pub(crate) fn new(all: u32, each: u32) -> Self {
        Admission {
            each: Pace::new(each.into(), BURST),
            all: Pace::new(all.into(), BURST),
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
    pub(crate) fn admits(&mut self, ip: IpAddr, now: u64) -> bool {
        if !self.cells.is_empty() {
            let cell = self.hasher.hash_one(network(ip)) as usize % CELLS;
            // First, so that one address that asks too often takes nothing from the others.
            if !takes(self.each, &mut self.cells[cell], now) {
                return false;
            }
        }
        takes(self.all, &mut self.total, now)
    }
}

/// Whether one more is let in at `now`; `ahead` is until when what was let in before lasts.
fn takes(pace: Option<Pace>, ahead: &mut u64, now: u64) -> bool {
    let Some(pace) = pace else { return true };
    let let_in = pace.room(*ahead, now) > 0;
    if let_in {
        *ahead = pace.after(*ahead, 1, now);
    }
    let_in
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::limits::gcra::SECOND;

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
