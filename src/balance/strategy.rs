//! Which of several endpoints the next connection goes to.

use std::fmt;
use std::str::FromStr;

use tokio::time::Instant;

use super::rendezvous::Place;
use crate::client::backoff::Random;
use crate::error::ConfigError;

/// How the next endpoint is chosen from those that are not ejected.
///
/// A client that resumes a reliable session goes back to where it was first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Strategy {
    /// The first one in the order in which they were added. A client that has lost its connection tries the same
    /// endpoint again, and after a failure the next one.
    #[default]
    InOrder,
    /// One after the other.
    RoundRobin,
    /// The one with the fewest connections and requests in flight; a failure in a row counts as one more. Among
    /// equals, one after the other.
    LeastLoaded,
    /// The better of two that are chosen at random: the one whose latency average times its load is lower. The average
    /// takes peaks at once and forgets them within some ten seconds; failures and what is under way for long count
    /// as slow. Many clients that choose so do not all run to the same endpoint.
    PowerOfTwoChoices,
    /// The one to which the key belongs, by rendezvous hashing of key and URL: the same in every process, and when an
    /// endpoint leaves, only its keys move. The key of a client is its id, unless it was given another one.
    ConsistentHash,
}

impl Strategy {
    /// Every strategy.
    pub const ALL: &'static [Strategy] = &[
        Strategy::InOrder,
        Strategy::RoundRobin,
        Strategy::LeastLoaded,
        Strategy::PowerOfTwoChoices,
        Strategy::ConsistentHash,
    ];

    /// The name, as it is written in configurations: `in-order`, `round-robin`, `least-loaded`,
    /// `power-of-two-choices` or `consistent-hash`.
    pub const fn name(self) -> &'static str {
        match self {
            Strategy::InOrder => "in-order",
            Strategy::RoundRobin => "round-robin",
            Strategy::LeastLoaded => "least-loaded",
            Strategy::PowerOfTwoChoices => "power-of-two-choices",
            Strategy::ConsistentHash => "consistent-hash",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Strategy {
    type Err = ConfigError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Strategy::ALL
            .iter()
            .find(|strategy| strategy.name() == name);
        found.copied().ok_or_else(|| {
            let names: Vec<_> = Strategy::ALL
                .iter()
                .map(|strategy| strategy.name())
                .collect();
            ConfigError::option("strategy", name, &names.join(", "))
        })
    }
}

/// What the product of latency and load is counted from: an endpoint that answers within this is as quick as any, and
/// its load decides. A tenth of a millisecond, about the round trip within a data centre.
const QUICK: f64 = 1e-4;

/// What an endpoint counts as of which nothing is known but that somebody is trying it: slow, so that not all run to it
/// before the first one knows more.
const UNPROVEN: f64 = 1.0;

/// What a strategy knows of an endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) id: u64,
    pub(super) place: Place,
    /// Connections, attempts and requests.
    pub(super) load: usize,
    /// Failures in a row.
    pub(super) failures: u32,
    /// What to expect of an attempt and of a request, in seconds.
    pub(super) connect: Option<f64>,
    pub(super) request: Option<f64>,
}

/// What a strategy is asked with.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Question<'a> {
    /// The key, for consistent hashing.
    pub(super) key: Option<&'a [u8]>,
    /// The id from which on the order goes, round about.
    pub(super) start: u64,
}

/// What strategies remember between two choices.
#[derive(Debug)]
pub(super) struct Chooser<R> {
    turn: u64,
    random: R,
}

impl<R: Random> Chooser<R> {
    pub(super) fn new(random: R) -> Self {
        Chooser { turn: 0, random }
    }

    /// The index of the candidate that is chosen; `None` without candidates.
    pub(super) fn choose(
        &mut self,
        strategy: Strategy,
        candidates: &[Candidate],
        question: Question<'_>,
    ) -> Option<usize> {
        let indices = 0..candidates.len();
        match strategy {
            _ if candidates.len() < 2 => indices.last(),
            Strategy::InOrder => indices.min_by_key(|&index| {
                let id = candidates[index].id;
                (id < question.start, id)
            }),
            Strategy::RoundRobin => Some(self.next(candidates.len())),
            Strategy::LeastLoaded => {
                let first = self.next(candidates.len());
                // The minimum that comes first from there on.
                let round = indices.map(|index| (first + index) % candidates.len());
                round.min_by_key(|&index| {
                    let candidate = &candidates[index];
                    candidate.load.saturating_add(candidate.failures as usize)
                })
            }
            Strategy::PowerOfTwoChoices => {
                let one = self.below(candidates.len());
                let other = self.below(candidates.len() - 1);
                let other = other + usize::from(other >= one);
                let (a, b) = cost(&candidates[one], &candidates[other]);
                Some(if b < a { other } else { one })
            }
            Strategy::ConsistentHash => match question.key {
                Some(key) => indices.max_by_key(|&index| {
                    let candidate = &candidates[index];
                    // With equal weights, any order that does not depend on the process.
                    (candidate.place.weight(key), candidate.place)
                }),
                None => Some(self.below(candidates.len())),
            },
        }
    }

    /// The next one of `count`, one after the other.
    fn next(&mut self, count: usize) -> usize {
        let turn = self.turn;
        self.turn = turn.wrapping_add(1);
        (turn % count as u64) as usize
    }

    /// A random number below `count`, which is above zero.
    fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.random.next_u64()) * count as u128) >> 64) as usize
    }
}

/// What a connection to either would cost. Like is compared with like: answers with answers, if both have given any.
fn cost(a: &Candidate, b: &Candidate) -> (f64, f64) {
    let (left, right) = match (a.request, b.request, a.connect, b.connect) {
        (Some(left), Some(right), ..) | (_, _, Some(left), Some(right)) => {
            (Some(left), Some(right))
        }
        _ => (a.request.or(a.connect), b.request.or(b.connect)),
    };
    (times_load(left, a.load), times_load(right, b.load))
}

fn times_load(latency: Option<f64>, load: usize) -> f64 {
    let latency = match latency {
        Some(latency) => latency.max(QUICK),
        // Nobody is there: worth a try.
        None if load == 0 => QUICK,
        None => UNPROVEN,
    };
    latency * (load as f64 + 1.0)
}

/// When something is over, for what `now` may be after.
pub(super) fn is_over(until: Option<Instant>, now: Instant) -> bool {
    until.is_none_or(|until| until <= now)
}

#[cfg(test)]
mod tests {
    // By name: proptest has a trait of the same name.
    use super::Strategy;
    use super::*;
    use crate::client::backoff::Jitter;
    use proptest::prelude::*;

    fn candidate(id: u64) -> Candidate {
        Candidate {
            id,
            place: Place::of(&format!("mem://{id}")),
            load: 0,
            failures: 0,
            connect: None,
            request: None,
        }
    }

    fn chooser() -> Chooser<Jitter> {
        Chooser::new(Jitter::from_system())
    }

    fn counts(strategy: Strategy, candidates: &[Candidate], picks: usize) -> Vec<usize> {
        let mut chooser = chooser();
        let mut counts = vec![0; candidates.len()];
        for _ in 0..picks {
            let choice = chooser.choose(strategy, candidates, Question::default());
            counts[choice.expect("there is one")] += 1;
        }
        counts
    }

    #[test]
    fn names_are_read_back() {
        for strategy in Strategy::ALL {
            assert_eq!(
                strategy.to_string().parse::<Strategy>().ok(),
                Some(*strategy)
            );
        }
        let error = "fastest".parse::<Strategy>().expect_err("no such strategy");
        assert!(error.to_string().contains("round-robin"), "{error}");
    }

    #[test]
    fn nothing_is_chosen_from_nothing_and_the_one_from_one() {
        for &strategy in Strategy::ALL {
            let choose = |of: &[Candidate]| chooser().choose(strategy, of, Question::default());
            assert_eq!(choose(&[]), None);
            assert_eq!(choose(&[candidate(7)]), Some(0));
        }
    }

    #[test]
    fn in_order_begins_where_it_is_told_and_goes_round() {
        let candidates = [candidate(2), candidate(5), candidate(9)];
        let choose = |start| {
            let question = Question { start, key: None };
            chooser().choose(Strategy::InOrder, &candidates, question)
        };
        assert_eq!([0, 2, 3, 6, 10].map(choose), [0, 0, 1, 2, 0].map(Some));
    }

    #[test]
    fn round_robin_gives_each_the_same() {
        let candidates = [0, 1, 2, 3].map(candidate);
        assert_eq!(counts(Strategy::RoundRobin, &candidates, 400), [100; 4]);
    }

    #[test]
    fn two_choices_are_even_among_equals() {
        let candidates: Vec<_> = (0..5).map(candidate).collect();
        let counts = counts(Strategy::PowerOfTwoChoices, &candidates, 10_000);
        assert!(
            counts.iter().all(|count| (1_700..2_300).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn an_unknown_endpoint_is_tried_but_not_by_all_at_once() {
        let known = Candidate {
            connect: Some(0.005),
            ..candidate(0)
        };
        let new = candidate(1);
        let choose = |candidates: &[Candidate]| {
            chooser().choose(Strategy::PowerOfTwoChoices, candidates, Question::default())
        };
        assert_eq!(choose(&[known, new]), Some(1));
        assert_eq!(choose(&[known, Candidate { load: 1, ..new }]), Some(0));
    }

    #[test]
    fn answers_are_compared_with_answers() {
        // Slow to connect, quick to answer.
        let a = Candidate {
            connect: Some(0.5),
            request: Some(0.001),
            ..candidate(0)
        };
        let b = Candidate {
            connect: Some(0.002),
            request: Some(0.01),
            ..candidate(1)
        };
        let mut chooser = chooser();
        for _ in 0..20 {
            let choice = chooser.choose(Strategy::PowerOfTwoChoices, &[a, b], Question::default());
            assert_eq!(choice, Some(0));
        }
        let b = Candidate { request: None, ..b };
        let choice = chooser.choose(Strategy::PowerOfTwoChoices, &[a, b], Question::default());
        assert_eq!(choice, Some(1));
    }

    proptest! {
        #[test]
        fn the_least_loaded_is_chosen(loads in prop::collection::vec(0_usize..100, 1..20)) {
            let candidates: Vec<_> = loads
                .iter()
                .enumerate()
                .map(|(id, &load)| Candidate { load, ..candidate(id as u64) })
                .collect();
            let choice = chooser().choose(Strategy::LeastLoaded, &candidates, Question::default());
            prop_assert_eq!(choice.map(|index| loads[index]), loads.iter().min().copied());
        }

        #[test]
        fn of_two_choices_the_worst_is_never_taken_and_the_best_whenever_it_is_seen(
            costs in prop::collection::btree_set(1_u32..1_000_000, 2..10),
            turn: usize,
        ) {
            let mut costs: Vec<_> = costs.into_iter().collect();
            let count = costs.len();
            costs.rotate_left(turn % count);
            let candidates: Vec<_> = costs
                .iter()
                .enumerate()
                .map(|(id, &cost)| Candidate { request: Some(f64::from(cost)), ..candidate(id as u64) })
                .collect();
            let picks = 2_000;
            let counts = counts(Strategy::PowerOfTwoChoices, &candidates, picks);
            // The one of rank r, the best being 0, wins against the n - 1 - r that are worse.
            for (index, cost) in costs.iter().enumerate() {
                let rank = costs.iter().filter(|other| *other < cost).count();
                let expected = 2.0 * (count - 1 - rank) as f64 / (count * (count - 1)) as f64;
                let share = counts[index] as f64 / picks as f64;
                prop_assert!((share - expected).abs() < 0.08, "rank {}: {} for {}", rank, share, expected);
            }
            let worst = (0..count).max_by_key(|&index| costs[index]).expect("two at least");
            prop_assert_eq!(counts[worst], 0);
        }
    }
}
