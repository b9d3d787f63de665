//! A set of endpoints in use: who is chosen, who is left alone, who comes back. Time is tokio's, and paused.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{advance, sleep};

use super::*;
use crate::endpoint::Endpoint;
use crate::error::{CloseReason, ErrorCode};

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn set(strategy: Strategy, count: usize) -> Endpoints {
    with(strategy, count, Ejection::default())
}

fn with(strategy: Strategy, count: usize, ejection: Ejection) -> Endpoints {
    (0..count)
        .map(|number| format!("mem://{number}"))
        .fold(Endpoints::builder(), EndpointsBuilder::endpoint)
        .strategy(strategy)
        .ejection(ejection)
        .build()
        .expect("valid")
}

fn pick(set: &Endpoints) -> Pick {
    set.pick(None).expect("there is one")
}

/// The number in the URL.
fn number(endpoint: &Endpoint) -> usize {
    let url = endpoint.to_string();
    url.trim_start_matches("mem://").parse().expect("a number")
}

fn state(set: &Endpoints, index: usize) -> EndpointState {
    set.stats()[index].state
}

/// Lets picks of one endpoint fail and of all others succeed, and counts them.
fn picks(set: &Endpoints, count: usize, dead: usize) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..count {
        let pick = pick(set);
        let number = number(pick.endpoint());
        *counts.entry(number).or_default() += 1;
        match number == dead {
            true => pick.failed(ErrorCode::ConnectionRefused),
            false => drop(pick.connected()),
        }
    }
    counts
}

/// Lets one endpoint fail until it is ejected, while the others have more and more load.
fn eject(set: &Endpoints, index: usize) {
    let mut leases = Vec::new();
    while state(set, index) != EndpointState::Ejected {
        let pick = pick(set);
        match number(pick.endpoint()) == index {
            true => pick.failed(ErrorCode::ConnectionRefused),
            false => leases.push(pick.connected()),
        }
        assert!(leases.len() < 1_000, "{:?}", set.stats());
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_endpoint_is_ejected_under_every_strategy_that_meets_it() {
    for &strategy in Strategy::ALL {
        let set = set(strategy, 4);
        let counts = picks(&set, 400, 0);
        let tried = counts.get(&0).copied().unwrap_or_default();
        assert!((1..=5).contains(&tried), "{strategy}: {counts:?}");
        // These need no ejection as long as others have nothing to do: a failure is as bad as load.
        let avoids = [Strategy::LeastLoaded, Strategy::PowerOfTwoChoices];
        if !avoids.contains(&strategy) {
            assert_eq!(state(&set, 0), EndpointState::Ejected, "{strategy}");
        }
        assert_eq!(set.stats()[0].failures, tried as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn one_probe_at_a_time_decides_and_success_brings_it_back() {
    let set = set(Strategy::LeastLoaded, 3);
    eject(&set, 1);
    let leases: Vec<_> = (0..20).map(|_| pick(&set).connected()).collect();
    assert!(leases.iter().all(|lease| number(lease.endpoint()) != 1));
    advance(10 * S).await;
    assert_eq!(state(&set, 1), EndpointState::Probing);
    let probe = pick(&set);
    assert!(probe.is_probe() && number(probe.endpoint()) == 1);
    for _ in 0..20 {
        assert_ne!(number(pick(&set).endpoint()), 1, "one at a time");
    }
    // One that is given up leaves the place to the next.
    drop(probe);
    let probe = pick(&set);
    assert!(probe.is_probe());
    probe.failed(ErrorCode::ConnectionTimeout);
    advance(19 * S).await;
    assert_eq!(state(&set, 1), EndpointState::Ejected, "for twice as long");
    advance(S).await;
    let back = pick(&set).connected();
    assert_eq!(number(back.endpoint()), 1);
    assert_eq!(state(&set, 1), EndpointState::Available);
    let more: Vec<_> = (0..6).map(|_| pick(&set).connected()).collect();
    assert!(more.iter().all(|lease| number(lease.endpoint()) == 1));
}

#[tokio::test(start_paused = true)]
async fn half_of_the_endpoints_are_ejected_at_most_and_when_all_are_sick_all_are_tried() {
    let set = set(Strategy::RoundRobin, 4);
    for _ in 0..100 {
        pick(&set).failed(ErrorCode::ConnectionRefused);
    }
    let ejected = set
        .stats()
        .iter()
        .filter(|stats| stats.state == EndpointState::Ejected)
        .count();
    assert_eq!(ejected, 2);
    let mut tried: Vec<_> = (0..4).map(|_| number(pick(&set).endpoint())).collect();
    tried.sort_unstable();
    assert_eq!(tried, [0, 1, 2, 3]);
    // Whichever works is back at once, and the ejected ones are left alone again.
    let back = (0..4)
        .map(|_| pick(&set))
        .find(|pick| number(pick.endpoint()) == 0);
    drop(back.expect("all are tried").connected());
    assert_eq!(state(&set, 0), EndpointState::Available);
    let ejected = |stats: &EndpointStats| stats.state == EndpointState::Ejected;
    let alone: Vec<_> = set
        .stats()
        .into_iter()
        .filter(ejected)
        .map(|stats| stats.endpoint)
        .collect();
    assert!(!alone.is_empty());
    for _ in 0..20 {
        assert!(!alone.contains(pick(&set).endpoint()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_endpoint_is_never_ejected() {
    let set = set(Strategy::InOrder, 1);
    for _ in 0..100 {
        pick(&set).failed(ErrorCode::ConnectionRefused);
    }
    assert_eq!(state(&set, 0), EndpointState::Available);
    assert_eq!(set.stats()[0].ejections, 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_without_room_or_about_to_stop_is_passed_over_without_a_mark() {
    let set = set(Strategy::InOrder, 2);
    for _ in 0..20 {
        pick(&set).failed(ErrorCode::TooManyConnections);
        pick(&set).failed(ErrorCode::TooManyConnections);
        advance(2 * S).await;
    }
    assert!(
        set.stats()
            .iter()
            .all(|stats| stats.failures == 0 && stats.ejections == 0)
    );
    pick(&set).failed(ErrorCode::TooManyConnections);
    assert_eq!(state(&set, 0), EndpointState::Resting);
    let lease = pick(&set).connected();
    assert_eq!(number(lease.endpoint()), 1);
    // Both: better one that rests than none.
    lease.rest(60 * S);
    assert_eq!(number(pick(&set).endpoint()), 0);
    advance(S).await;
    assert_eq!(number(pick(&set).endpoint()), 0);
    assert_eq!(state(&set, 1), EndpointState::Resting);
    advance(59 * S).await;
    assert_eq!(state(&set, 1), EndpointState::Available);
}

#[tokio::test(start_paused = true)]
async fn refusals_that_concern_the_client_do_not_count_against_the_server() {
    let set = set(Strategy::RoundRobin, 2);
    for code in [ErrorCode::AuthenticationFailed, ErrorCode::AccessDenied] {
        for _ in 0..20 {
            pick(&set).failed(code);
        }
    }
    assert!(set.stats().iter().all(|stats| stats.failures == 0));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_accepts_and_drops_is_ejected() {
    let set = set(Strategy::InOrder, 2);
    let broken = CloseReason::transport(ErrorCode::ConnectionClosed, "reset");
    for _ in 0..5 {
        pick(&set).connected().ended(&broken);
    }
    assert_eq!(state(&set, 0), EndpointState::Ejected);
    // Orderly ends are no failures, nor is the loss of a connection that has lasted, on its own.
    for _ in 0..20 {
        pick(&set).connected().ended(&CloseReason::new("done"));
        let lease = pick(&set).connected();
        advance(5 * S).await;
        lease.ended(&broken);
        if number(pick(&set).endpoint()) == 0 {
            break;
        }
    }
    assert_eq!(set.stats()[1].ejections, 0);
}

#[tokio::test(start_paused = true)]
async fn requests_without_an_answer_count_against_the_endpoint_and_answers_for_it() {
    let set = set(Strategy::InOrder, 2);
    let lease = pick(&set).connected();
    for _ in 0..4 {
        lease.request().failed();
    }
    lease.request().answered();
    for _ in 0..4 {
        lease.request().failed();
        drop(lease.request());
    }
    assert_eq!(state(&set, 0), EndpointState::Available);
    lease.request().failed();
    assert_eq!(state(&set, 0), EndpointState::Ejected);
    // A late answer is no probe.
    lease.request().answered();
    assert_eq!(state(&set, 0), EndpointState::Ejected);
}

#[tokio::test(start_paused = true)]
async fn a_rate_of_failures_ejects_too() {
    let ejection = Ejection::disabled().failure_rate(Some((0.5, 10, 10 * S)));
    let set = with(Strategy::InOrder, 2, ejection);
    let lease = pick(&set).connected();
    for _ in 0..4 {
        lease.request().answered();
        lease.request().failed();
        assert_eq!(state(&set, 0), EndpointState::Available);
    }
    lease.request().failed();
    lease.request().failed();
    assert_eq!(state(&set, 0), EndpointState::Ejected);
}

#[tokio::test(start_paused = true)]
async fn load_goes_where_there_is_least() {
    let set = set(Strategy::LeastLoaded, 3);
    let mut leases: Vec<_> = (0..9).map(|_| pick(&set).connected()).collect();
    assert!(set.stats().iter().all(|stats| stats.connections == 3));
    leases.retain(|lease| number(lease.endpoint()) != 2);
    assert_eq!(set.stats()[2].connections, 0);
    let more: Vec<_> = (0..3).map(|_| pick(&set)).collect();
    assert!(more.iter().all(|pick| number(pick.endpoint()) == 2));
    assert_eq!(set.stats()[2].connecting, 3);
    drop(more);
    let busy: Vec<_> = (0..2).map(|_| leases[0].request()).collect();
    let at = number(leases[0].endpoint());
    assert_eq!(set.stats()[at].requests, 2);
    let lease = pick(&set).connected();
    assert_eq!(number(lease.endpoint()), 2);
    drop((busy, lease, leases));
    assert!(
        set.stats()
            .iter()
            .all(|stats| stats.connections + stats.connecting + stats.requests == 0)
    );
}

#[tokio::test(start_paused = true)]
async fn two_choices_prefer_the_fast_one_and_notice_one_that_hangs() {
    let set = set(Strategy::PowerOfTwoChoices, 2);
    // Who answers how quickly; each is tried, because nothing is known of it yet.
    for _ in 0..2 {
        let pick = pick(&set);
        sleep(if number(pick.endpoint()) == 0 { 5 } else { 50 } * MS).await;
        drop(pick.connected());
    }
    for _ in 0..20 {
        assert_eq!(number(pick(&set).endpoint()), 0);
    }
    let stats = set.stats();
    assert_eq!(stats[0].connect_time.expect("known").as_millis(), 5);
    assert_eq!(stats[1].connect_time.expect("known").as_millis(), 50);
    let hanging = pick(&set);
    sleep(100 * MS).await;
    for _ in 0..20 {
        assert_eq!(number(pick(&set).endpoint()), 1, "the other one hangs");
    }
    drop(hanging);
    // With time the peak is forgotten.
    sleep(120 * S).await;
    let chosen: Vec<_> = (0..40).map(|_| number(pick(&set).endpoint())).collect();
    assert!(chosen.contains(&0) && chosen.contains(&1), "{chosen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_key_sticks_to_its_endpoint_as_others_come_and_go() {
    let set = set(Strategy::ConsistentHash, 5);
    let keys: Vec<_> = (0..200).map(|number| format!("client-{number}")).collect();
    let owners = |set: &Endpoints| -> Vec<_> {
        let picks = keys
            .iter()
            .map(|key| set.pick(Some(key.as_bytes())).expect("there is one"));
        picks.map(|pick| number(pick.endpoint())).collect()
    };
    let before = owners(&set);
    let leaving = Endpoint::memory("3").expect("a name");
    assert!(set.remove(&leaving) && !set.remove(&leaving));
    for (before, after) in before.iter().zip(owners(&set)) {
        assert!(*before == 3 || *before == after);
    }
    assert!(set.add(leaving.clone()) && !set.add(leaving));
    assert_eq!(owners(&set), before);
    // An ejected one is stood in for by the same others, and has its keys back afterwards.
    let key = before
        .iter()
        .position(|&owner| owner == 3)
        .expect("40 or so of 200");
    let key = Some(keys[key].as_bytes());
    for _ in 0..5 {
        set.pick(key)
            .expect("there is one")
            .failed(ErrorCode::ConnectionRefused);
    }
    for (before, after) in before.iter().zip(owners(&set)) {
        assert!((*before == 3) != (*before == after));
    }
    advance(10 * S).await;
    drop(set.pick(key).expect("the probe").connected());
    assert_eq!(owners(&set), before);
}

#[tokio::test(start_paused = true)]
async fn endpoints_come_and_go_while_in_use() {
    let set = Endpoints::new(["mem://0", "mem://1", "mem://0"]).expect("valid");
    assert_eq!(set.len(), 2, "each is in it once");
    let (zero, two) = (Endpoint::memory("0"), Endpoint::memory("2"));
    let (zero, two) = (zero.expect("a name"), two.expect("a name"));
    let (pick_of_zero, lease_of_zero) = (pick(&set), pick(&set).connected());
    set.replace([two.clone(), Endpoint::memory("1").expect("a name")]);
    assert_eq!(number(pick(&set).endpoint()), 1);
    assert_eq!(
        set.endpoints(),
        [Endpoint::memory("1").expect("a name"), two]
    );
    // What is under way there harms nobody.
    pick_of_zero.failed(ErrorCode::ConnectionRefused);
    lease_of_zero.request().answered();
    drop(lease_of_zero);
    assert!(set.add(zero));
    assert_eq!(set.stats()[2].failures, 0, "it is a new one");
    set.replace([]);
    assert!(set.is_empty() && set.pick(None).is_none());
}

#[tokio::test(start_paused = true)]
async fn neither_names_nor_counts_show_the_query_of_a_url() {
    let set = Endpoints::new(["ws://127.0.0.1:80/chat?token=secret"]).expect("valid");
    let lease = pick(&set).connected();
    let exchange = lease.request();
    let shown = format!("{set:?} {lease:?} {exchange:?} {:?}", pick(&set));
    assert!(
        !shown.contains("secret") && shown.contains("/chat"),
        "{shown}"
    );
}

#[test]
fn picking_among_many_from_many_threads_leaves_nothing_behind() {
    let set = set(Strategy::PowerOfTwoChoices, 8);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let set = &set;
            scope.spawn(move || {
                for round in 0..500 {
                    let pick = pick(set);
                    match (thread + round) % 4 {
                        0 => pick.failed(ErrorCode::ConnectionRefused),
                        1 => drop(pick),
                        2 => pick.connected().request().answered(),
                        _ => pick.connected().request().failed(),
                    }
                }
            });
        }
    });
    let stats = set.stats();
    assert_eq!(stats.iter().map(|stats| stats.attempts).sum::<u64>(), 2_000);
    assert!(
        stats
            .iter()
            .all(|stats| stats.connections + stats.connecting + stats.requests == 0)
    );
}
