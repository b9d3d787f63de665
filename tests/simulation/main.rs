//! Servers and clients in a network that breaks, under a clock that does not wait: for each seed the same.
//!
//! `SIMULATION_SEED=7 cargo test --test simulation` plays one seed, `SIMULATION_TRACE=1` with all that happens in it,
//! `SIMULATION_SEEDS=10000` plays so many.
//!
//! What it sees, by the first seed that fails when a promise is broken on purpose:
//!
//! | broken | seed |
//! |---|---|
//! | the unacknowledged, or what was never sent, is forgotten at the end; the outbox is lost with the link | 1 |
//! | control frames count as arrived | 2 |
//! | the window does not bound what is sent, nothing is acknowledged after a while | 5 |
//! | a frame longer than the window never leaves | 19 |
//! | acknowledged before the handler has it; what was never sent does not go to the next session, or goes last | 22 |
//! | nothing is sent again, or from one frame too late | 38 |
//! | sent again from one frame too early, or kept again | 46 |
//! | what waits for the handler, or its call, is lost with the link, or asked for again | 69 |
//! | a session expires at once, the token never changes, a link that looks alive is not taken over | 106 |
//! | what was acknowledged is not said again on the next link | 117 |
//! | one frame too many is freed | 172 |
//! | the token before is forgotten at once | 292 |
//! | any token is good: another session is resumed after a restart | 355 |
//! | a take-over leaves the old link's state | 750 |
//!
//! What it does not see, and `tests/it/reliable` does: lies about counts, other identities, old tokens and tables without
//! a bound, as its clients are honest; which session gets what is sent after a goaway; and replays of several chunks.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, and a seed that does says how it is played again"
)]
#![allow(missing_docs, reason = "a test's name is its documentation")]
#![allow(unreachable_pub, reason = "nothing is public in a test binary")]

mod flow;
mod network;
mod offsets;
mod plan;
mod random;
mod trace;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use self::plan::Plan;
use self::world::{Counts, Outcome, run};

/// How many seeds are played unless `SIMULATION_SEEDS` says otherwise.
const SEEDS: u64 = 300;

/// A run in which virtual time stands still would not end by itself.
const PATIENCE: Duration = Duration::from_secs(60);

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}: not a number: {value}")),
    )
}

/// Whether sessions are reliable, unless each seed is to say so.
fn reliable() -> Option<bool> {
    variable("SIMULATION_RELIABLE").map(|value| value != 0)
}

/// Plays one seed, on a thread of its own: what threads keep for the next session differs otherwise.
fn play(seed: u64, keep_lines: bool) -> (Plan, Outcome) {
    let plan = Plan::new(seed, reliable());
    let of_thread = plan.clone();
    let (ended, end) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new()
        .name(format!("seed {seed}"))
        .spawn(move || {
            let _ = ended.send(run(&of_thread, keep_lines));
        })
        .unwrap();
    let outcome = match end.recv_timeout(PATIENCE) {
        Ok(outcome) => {
            let _ = thread.join();
            outcome
        }
        Err(RecvTimeoutError::Disconnected) => Outcome::broken("the run panicked"),
        // The thread stays behind.
        Err(RecvTimeoutError::Timeout) => Outcome::broken("the run does not come to an end"),
    };
    (plan, outcome)
}

/// What to show of a seed that fails.
fn report(plan: &Plan, outcome: &Outcome) -> String {
    let seed = plan.seed;
    let faults = outcome.faults.join("\n  ");
    format!(
        "seed {seed} breaks promises:\n  {faults}\n{plan:?}\nto see all that happens:\n  \
         SIMULATION_SEED={seed} SIMULATION_TRACE=1 cargo test -p network-system --test simulation -- --nocapture seeds"
    )
}

#[test]
fn no_seed_breaks_a_promise() {
    if let Some(seed) = variable("SIMULATION_SEED") {
        let keep_lines = std::env::var_os("SIMULATION_TRACE").is_some();
        let (plan, outcome) = play(seed, keep_lines);
        for line in &outcome.lines {
            eprintln!("{line}");
        }
        assert!(outcome.faults.is_empty(), "{}", report(&plan, &outcome));
        return;
    }
    let first = variable("SIMULATION_FROM").unwrap_or(0);
    let count = variable("SIMULATION_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(first);
    let total = Mutex::new(Counts::default());
    let failed = Mutex::new(Vec::new());
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || failed.lock().unwrap().len() >= 3 {
                        break;
                    }
                    let (plan, outcome) = play(seed, false);
                    total.lock().unwrap().add(&outcome.counts);
                    if !outcome.faults.is_empty() {
                        failed.lock().unwrap().push((seed, report(&plan, &outcome)));
                    }
                }
            });
        }
    });
    let (total, seconds) = (total.into_inner().unwrap(), began.elapsed().as_secs_f64());
    eprintln!(
        "{count} seeds in {seconds:.1} s, {:.0} a second: {total:?}",
        count as f64 / seconds
    );
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    let texts: Vec<_> = failed.into_iter().map(|(_, text)| text).collect();
    assert!(texts.is_empty(), "{}", texts.join("\n\n"));
    assert!(
        total.messages > count && total.broken > count / 10,
        "{total:?}"
    );
}

/// Otherwise a seed that fails would not fail again.
#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 1_000_000..1_000_015 {
        let (_, first) = play(seed, true);
        let (plan, second) = play(seed, true);
        if first.hash != second.hash {
            let differs = first
                .lines
                .iter()
                .zip(&second.lines)
                .position(|(first, second)| first != second);
            let at = differs.unwrap_or(first.lines.len().min(second.lines.len()));
            let around = |lines: &[String]| {
                lines[at.saturating_sub(5)..(at + 3).min(lines.len())].join("\n")
            };
            panic!(
                "seed {seed} was played twice, and differs from event {at}:\n{}\n\n{}\n{plan:?}",
                around(&first.lines),
                around(&second.lines)
            );
        }
        assert!(first.events > 0);
    }
}
