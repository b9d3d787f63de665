//! Which endpoint a key belongs to: rendezvous hashing.
//!
//! Every endpoint has a weight for every key, and the highest weight wins. An endpoint that leaves takes only its own
//! keys along, which spread over all others; one that comes takes its share from all others.

use siphasher::{sip, sip128};

/// The key of the hash of URLs. Fixed and published, so that every process computes the same.
const SEED: &[u8; 16] = b"network_system\0\x01";

/// What stands for an endpoint, computed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    low: u64,
    high: u64,
}

impl Place {
    /// The place of a canonical URL.
    pub(super) fn of(url: &str) -> Self {
        let hash = sip128::SipHasher13::new_with_key(SEED).hash(url.as_bytes());
        Place {
            low: hash.h1,
            high: hash.h2,
        }
    }

    /// The weight that the endpoint has for a key: SipHash-1-3 of the key, keyed by the place.
    pub(super) fn weight(self, key: &[u8]) -> u64 {
        sip::SipHasher13::new_with_keys(self.low, self.high).hash(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn owner(places: &[Place], key: &[u8]) -> usize {
        let best = (0..places.len()).max_by_key(|&index| places[index].weight(key));
        best.expect("there is a place")
    }

    #[allow(
        clippy::print_stdout,
        reason = "the figure is for whoever reads the test's output"
    )]
    #[test]
    fn of_100_000_keys_at_most_11_percent_move_when_one_of_10_endpoints_leaves() {
        let urls: Vec<_> = (0..10).map(|n| format!("tcp://10.0.0.{n}:8080")).collect();
        let places: Vec<_> = urls.iter().map(|url| Place::of(url)).collect();
        let keys: Vec<_> = (0..100_000).map(|n| format!("client-{n}")).collect();
        let before: Vec<_> = keys
            .iter()
            .map(|key| owner(&places, key.as_bytes()))
            .collect();
        let mut worst = 0;
        for leaving in 0..places.len() {
            let mut left = places.clone();
            left.remove(leaving);
            let mut moved = 0;
            for (key, &before) in keys.iter().zip(&before) {
                let after = owner(&left, key.as_bytes());
                let after = after + usize::from(after >= leaving);
                if after != before {
                    assert_eq!(before, leaving, "only keys of the leaving endpoint move");
                    moved += 1;
                }
            }
            worst = worst.max(moved);
        }
        let share = f64::from(worst) / keys.len() as f64 * 100.0;
        #[allow(clippy::print_stdout, reason = "the figure is what is asked for")]
        {
            println!("consistent hash: worst endpoint of 10 moves {share:.2} % of 100,000 keys");
        }
        assert!(share <= 11.0, "{share} %");
    }

    #[test]
    fn weights_are_the_same_in_every_process() {
        let place = Place::of("tcp://10.0.0.1:8080");
        let weights = [place.weight(b""), place.weight(b"client-1")];
        let expected = [5_195_052_505_500_781_882, 12_984_855_439_287_037_536];
        assert_eq!(weights, expected);
    }

    proptest! {
        #[test]
        fn only_keys_of_what_leaves_move(
            names in prop::collection::btree_set("[a-z]{1,8}", 2..20),
            keys in prop::collection::vec(any::<Vec<u8>>(), 1..50),
            leaving: prop::sample::Index,
        ) {
            let places: Vec<_> = names.iter().map(|name| Place::of(&format!("mem://{name}"))).collect();
            let leaving = leaving.index(places.len());
            let mut left = places.clone();
            left.remove(leaving);
            for key in &keys {
                let before = owner(&places, key);
                if before != leaving {
                    prop_assert_eq!(left[owner(&left, key)], places[before]);
                }
            }
        }

        #[test]
        fn every_endpoint_has_its_share(names in prop::collection::btree_set("[a-z]{1,8}", 2..12)) {
            let places: Vec<_> = names.iter().map(|name| Place::of(&format!("mem://{name}"))).collect();
            let mut counts = vec![0_u32; places.len()];
            let keys = 2_000 * places.len() as u32;
            for key in 0..keys {
                counts[owner(&places, &key.to_be_bytes())] += 1;
            }
            // More than eight standard deviations.
            prop_assert!(counts.iter().all(|count| (1_600..2_400).contains(count)), "{:?}", counts);
        }
    }
}
