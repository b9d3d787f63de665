//! What is kept of addresses for their rates.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use super::meter::{Level, Spent};
use crate::session::shared::lock;

/// Addresses that are kept before those are forgotten that matter no more.
const KEPT_MIN: usize = 1_024;

/// What counts as one address: whoever has one of IPv6 has its /64 network.
pub(super) fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        ip => ip,
    }
}

/// What addresses with sessions have received, and those whose last session has not been gone for long: whoever
/// comes back at once goes on where it was.
#[derive(Default)]
pub(super) struct Addresses {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    spent: HashMap<IpAddr, Arc<Spent>>,
    /// How many there may be before it is looked which of them matter.
    most: usize,
}

impl Addresses {
    /// What sessions from `ip` share.
    pub(super) fn of(&self, ip: IpAddr, level: &Level, now: u64) -> Arc<Spent> {
        let mut known = lock(&self.known);
        let ip = network(ip);
        if let Some(spent) = known.spent.get(&ip) {
            return Arc::clone(spent);
        }
        if known.spent.len() >= known.most {
            // One with its whole burst left is like one that was never seen.
            known
                .spent
                .retain(|_, spent| Arc::strong_count(spent) > 1 || !level.is_rested(spent, now));
            known.most = (2 * known.spent.len()).max(KEPT_MIN);
        }
        Arc::clone(known.spent.entry(ip).or_default())
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        lock(&self.known).spent.len()
    }
}
