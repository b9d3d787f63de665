#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails, and says where"
)]

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

const MILLI: u64 = SECOND / 1_000;

struct Lengths(Vec<usize>);

impl Batch for Lengths {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn bytes(&self) -> usize {
        self.0.iter().sum()
    }

    fn lengths(&self) -> impl Iterator<Item = usize> {
        self.0.iter().copied()
    }
}

fn rates(configure: impl FnOnce(&mut Limits)) -> Box<Rates> {
    let mut limits = Limits::default();
    configure(&mut limits);
    Rates::new(&limits).unwrap()
}

fn ask(meter: &mut Meter, rates: &Rates, lengths: &[usize], now: u64) -> (Verdict, u64) {
    meter.admit(rates, &Lengths(lengths.to_vec()), || None, now)
}

#[test]
fn without_a_rate_there_is_nothing_to_ask() {
    assert!(Rates::new(&Limits::default()).is_none());
}

#[test]
fn a_burst_passes_and_the_rest_waits_for_its_turn() {
    let rates = rates(|limits| limits.session_rate = Some(Rate::new(100, 0)));
    let meter = &mut Meter::default();
    assert_eq!(ask(meter, &rates, &[1; 130], SECOND).0, Verdict::Part(100));
    assert_eq!(
        ask(meter, &rates, &[1; 30], SECOND),
        (Verdict::Later(1), SECOND + 10 * MILLI)
    );
    // The one that waits has been counted.
    assert_eq!(
        ask(meter, &rates, &[1; 29], SECOND + 15 * MILLI),
        (Verdict::Later(1), SECOND + 20 * MILLI)
    );
    assert_eq!(ask(meter, &rates, &[1; 28], 9 * SECOND).0, Verdict::All);
}

#[test]
fn what_is_dropped_does_not_count() {
    let rate = Rate::new(10, 0).when_exceeded(RatePolicy::Drop);
    let rates = rates(|limits| limits.session_rate = Some(rate));
    let meter = &mut Meter::default();
    let first = |count| Verdict::First { count, ends: false };
    assert_eq!(ask(meter, &rates, &[1; 1_000], SECOND).0, first(10));
    assert_eq!(
        ask(meter, &rates, &[1; 1_000], SECOND + 500 * MILLI).0,
        first(5)
    );
}

#[test]
fn bytes_are_counted_message_by_message() {
    let rate = Rate::new(0, 1_000).when_exceeded(RatePolicy::Drop);
    let rates = rates(|limits| limits.session_rate = Some(rate));
    let meter = &mut Meter::default();
    let (verdict, _) = ask(meter, &rates, &[400, 400, 400, 1], SECOND);
    assert_eq!(
        verdict,
        Verdict::First {
            count: 2,
            ends: false
        }
    );
}

#[test]
fn a_message_longer_than_a_burst_passes_alone_and_is_made_up_for() {
    let rate = Rate::new(0, 1_000).when_exceeded(RatePolicy::Drop);
    let rates = rates(|limits| limits.session_rate = Some(rate));
    let meter = &mut Meter::default();
    let first = |count| Verdict::First { count, ends: false };
    assert_eq!(ask(meter, &rates, &[5_000, 1], SECOND).0, first(1));
    assert_eq!(ask(meter, &rates, &[1], 4 * SECOND).0, first(0));
    assert_eq!(ask(meter, &rates, &[1], 6 * SECOND).0, Verdict::All);
}

#[test]
fn where_several_rates_are_exceeded_the_strictest_counts() {
    let rates = rates(|limits| {
        limits.session_rate = Some(Rate::new(10, 0));
        limits.server_rate = Some(Rate::new(10, 0).when_exceeded(RatePolicy::Disconnect));
    });
    let (verdict, _) = ask(&mut Meter::default(), &rates, &[1; 11], SECOND);
    assert_eq!(
        verdict,
        Verdict::First {
            count: 10,
            ends: true
        }
    );
}

#[test]
fn sessions_that_wait_for_a_common_rate_have_their_turns_one_after_the_other() {
    let rates = rates(|limits| limits.server_rate = Some(Rate::new(1_000, 0)));
    let mut meters: Vec<Meter> = (0..10).map(|_| Meter::default()).collect();
    assert_eq!(
        ask(&mut meters[0], &rates, &[1; 1_000], SECOND).0,
        Verdict::All
    );
    for round in 0..5 {
        for (index, meter) in meters.iter_mut().enumerate() {
            let (verdict, due) = ask(meter, &rates, &[1; 50], SECOND);
            assert_eq!(verdict, Verdict::Later(1));
            assert_eq!(due, SECOND + (round * 10 + index as u64 + 1) * MILLI);
        }
    }
}

#[test]
fn sessions_of_one_address_share_its_rate_and_those_of_others_do_not() {
    let rate = Rate::new(10, 0).when_exceeded(RatePolicy::Drop);
    let rates = rates(|limits| limits.ip_rate = Some(rate));
    let ask = |last: u8| {
        let ip = || Some(IpAddr::from(Ipv4Addr::new(10, 0, 0, last)));
        Meter::default()
            .admit(&rates, &Lengths(vec![1; 10]), ip, SECOND)
            .0
    };
    assert_eq!(ask(1), Verdict::All);
    // It is another session, and the first is gone.
    assert_eq!(
        ask(1),
        Verdict::First {
            count: 0,
            ends: false
        }
    );
    assert_eq!(ask(2), Verdict::All);
}

#[test]
fn addresses_that_matter_no_more_are_forgotten() {
    let rates = rates(|limits| limits.ip_rate = Some(Rate::new(10, 0)));
    for index in 0..100_000u32 {
        let ip = || Some(IpAddr::from(Ipv4Addr::from_bits(index)));
        let now = SECOND + u64::from(index) * MILLI;
        Meter::default().admit(&rates, &Lengths(vec![1]), ip, now);
    }
    assert!(rates.addresses.len() <= 2_048, "{}", rates.addresses.len());
}

#[test]
fn frames_that_are_no_messages_have_a_rate_of_their_own() {
    let rates = rates(|limits| limits.session_rate = Some(Rate::new(1, 0)));
    let meter = &mut Meter::default();
    assert_eq!(
        meter.note_control(&rates, 9_000, 90_000, || None, SECOND),
        None
    );
    assert_eq!(ask(meter, &rates, &[1], SECOND).0, Verdict::All);
    let (until, ends) = meter
        .note_control(&rates, 9_000, 90_000, || None, SECOND)
        .unwrap();
    assert!(
        until > SECOND + 700 * MILLI && until < 2 * SECOND,
        "{until}"
    );
    assert!(!ends);
}

proptest! {
    #[test]
    fn whatever_comes_no_more_is_let_in_than_burst_and_rate(
        per_second in 1..10_000u64,
        burst in 10..3_000u64,
        policy in prop::sample::select(vec![RatePolicy::Wait, RatePolicy::Drop]),
        batches in prop::collection::vec((0..500u64, prop::collection::vec(0..100usize, 1..300)), 1..30),
    ) {
        let rate = Rate::new(per_second, 0)
            .burst(Duration::from_millis(burst))
            .when_exceeded(policy);
        let rates = rates(|limits| limits.session_rate = Some(rate));
        let meter = &mut Meter::default();
        let (mut now, mut passed) = (SECOND, 0u64);
        let allowed = |now: u64| (u128::from(now - SECOND + burst * MILLI)
            * u128::from(per_second) / u128::from(SECOND)) + 1;
        for (pause, mut lengths) in batches {
            now += pause * MILLI;
            while !lengths.is_empty() {
                let (verdict, due) = ask(meter, &rates, &lengths, now);
                let taken = match verdict {
                    Verdict::All => lengths.len(),
                    Verdict::Part(count) => count,
                    Verdict::First { count, ends } => {
                        prop_assert!(!ends && policy == RatePolicy::Drop);
                        lengths.truncate(count);
                        count
                    }
                    Verdict::Later(count) => {
                        prop_assert!(due > now && count > 0 && policy == RatePolicy::Wait);
                        now = due;
                        count
                    }
                };
                passed += taken as u64;
                prop_assert!(u128::from(passed) <= allowed(now), "{passed} at {now}");
                lengths.drain(..taken);
            }
        }
    }
}
