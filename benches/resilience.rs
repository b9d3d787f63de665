//! What a closed circuit breaker costs a call: `cargo bench --bench resilience`.

#![allow(clippy::print_stdout, reason = "the figures are what is wanted")]
#![allow(missing_docs, reason = "nothing is public here")]

use std::hint::black_box;
use std::time::Instant;

use network_system::resilience::{CircuitBreaker, RetryBudget};

/// Nanoseconds of a thread for a round, with so many threads side by side.
fn nanos(threads: usize, round: impl Fn() + Sync) -> f64 {
    const ROUNDS: usize = 2_000_000;
    let mut best = f64::MAX;
    for _ in 0..5 {
        let began = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..ROUNDS).for_each(|_| round()));
            }
        });
        best = best.min(began.elapsed().as_nanos() as f64 / ROUNDS as f64);
    }
    best
}

fn main() {
    let breaker = CircuitBreaker::default();
    let budget = RetryBudget::default();
    for threads in [1, 2] {
        let clock = nanos(threads, || {
            black_box(Instant::now());
        });
        let call = nanos(threads, || {
            if let Ok(permit) = black_box(&breaker).try_acquire() {
                permit.success();
            }
        });
        let deposit = nanos(threads, || black_box(&budget).deposit());
        println!(
            "{threads} threads: a call {call:.1} ns, a deposit {deposit:.1} ns, a clock alone {clock:.1} ns"
        );
    }
    breaker.force_open();
    let refused = nanos(1, || {
        let _ = black_box(black_box(&breaker).try_acquire());
    });
    println!("1 thread: a refusal {refused:.1} ns");
}
