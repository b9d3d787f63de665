#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::{Instant, advance, timeout};

use super::circuit::{Circuit, Settings};
use super::verdict::Wait;
use super::window::Window;
use super::*;
use crate::error::{ConnectError, ErrorCode, RequestError};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// Opens after three failures in a row, for exactly 1 s, 2 s, 4 s, 4 s.
fn strict() -> CircuitBreakerBuilder {
    CircuitBreaker::builder()
        .name("test")
        .consecutive_failures(Some(3))
        .failure_rate(None)
        .open_for(S, 4 * S)
        .jitter(0.0)
}

fn fail(breaker: &CircuitBreaker, times: u32) {
    for _ in 0..times {
        breaker.try_acquire().unwrap().failure();
    }
}

fn succeed(breaker: &CircuitBreaker, times: u32) {
    for _ in 0..times {
        breaker.try_acquire().unwrap().success();
    }
}

fn refused_for(breaker: &CircuitBreaker) -> Option<Duration> {
    breaker.try_acquire().unwrap_err().retry_after()
}

// Transitions

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_open_it_and_a_success_in_between_does_not() {
    let breaker = strict().build().unwrap();
    fail(&breaker, 2);
    succeed(&breaker, 1);
    fail(&breaker, 2);
    assert_eq!(breaker.state(), CircuitState::Closed);
    assert_eq!(breaker.stats().consecutive_failures, 2);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), CircuitState::Open);
    assert_eq!(refused_for(&breaker), Some(S));
    let stats = breaker.stats();
    assert_eq!((stats.calls, stats.failures, stats.successes), (6, 5, 1));
    assert_eq!((stats.refused, stats.opened), (1, 1));
    assert_eq!(stats.open_for, Some(S));
}

#[tokio::test(start_paused = true)]
async fn the_rate_of_failures_opens_it_once_there_are_calls_enough() {
    let builder = strict().consecutive_failures(None).failure_rate(Some(0.5));
    let breaker = builder.minimum_calls(10).window(10 * S).build().unwrap();
    fail(&breaker, 5);
    succeed(&breaker, 4);
    assert_eq!(breaker.state(), CircuitState::Closed);
    // The tenth call is the one with which there are enough, however it ends.
    succeed(&breaker, 1);
    assert_eq!(breaker.state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn failures_that_have_left_the_window_do_not_count() {
    let builder = strict().consecutive_failures(None).failure_rate(Some(0.5));
    let breaker = builder.minimum_calls(4).window(10 * S).build().unwrap();
    fail(&breaker, 3);
    advance(11 * S).await;
    assert_eq!(breaker.stats().window_calls, 0);
    succeed(&breaker, 3);
    fail(&breaker, 2);
    assert_eq!(breaker.state(), CircuitState::Closed);
    let stats = breaker.stats();
    assert_eq!((stats.window_calls, stats.window_failures), (5, 2));
    fail(&breaker, 1);
    assert_eq!(breaker.state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn every_success_is_counted_also_of_many_threads() {
    let breaker = CircuitBreaker::default();
    succeed(&breaker, 3);
    assert_eq!(breaker.stats().successes, 3);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| succeed(&breaker, 10_000));
        }
    });
    fail(&breaker, 1);
    succeed(&breaker, 7);
    let stats = breaker.stats();
    assert_eq!((stats.successes, stats.failures), (40_010, 1));
    assert_eq!((stats.window_calls, stats.window_failures), (40_011, 1));
    assert_eq!(stats.consecutive_failures, 0);
}

#[tokio::test(start_paused = true)]
async fn it_is_half_open_when_its_time_is_over_and_not_before() {
    let breaker = strict().build().unwrap();
    fail(&breaker, 3);
    advance(S - MS).await;
    assert_eq!(refused_for(&breaker), Some(MS));
    assert_eq!(breaker.state(), CircuitState::Open);
    advance(MS).await;
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn a_half_open_breaker_lets_its_probes_through_at_a_time() {
    let breaker = strict().probes(2).successes(3).build().unwrap();
    fail(&breaker, 3);
    advance(S).await;
    let first = breaker.try_acquire().unwrap();
    let second = breaker.try_acquire().unwrap();
    let refused = breaker.try_acquire().unwrap_err();
    assert_eq!(refused.retry_after(), None);
    assert!(refused.to_string().contains("half-open"), "{refused}");
    first.success();
    let third = breaker.try_acquire().unwrap();
    assert!(breaker.try_acquire().is_err());
    second.success();
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    third.success();
    assert_eq!(breaker.state(), CircuitState::Closed);
    assert_eq!(breaker.stats().consecutive_failures, 0);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_given_up_gives_its_place_back_and_says_nothing() {
    let breaker = strict().build().unwrap();
    fail(&breaker, 3);
    advance(S).await;
    let probe = breaker.try_acquire().unwrap();
    assert!(breaker.try_acquire().is_err());
    drop(probe);
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    let probe = breaker.try_acquire().unwrap();
    probe.record(Verdict::Neutral);
    assert_eq!(breaker.stats().neutral, 2);
    succeed(&breaker, 1);
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn it_is_open_for_twice_as_long_each_time_up_to_the_cap() {
    let breaker = strict().build().unwrap();
    fail(&breaker, 3);
    for expected in [1, 2, 4, 4] {
        assert_eq!(refused_for(&breaker), Some(expected * S));
        advance(expected * S).await;
        fail(&breaker, 1);
    }
    assert_eq!(breaker.stats().opened, 5);
}

#[tokio::test(start_paused = true)]
async fn the_open_time_starts_anew_after_it_was_closed_for_as_long_as_it_was_open() {
    let breaker = strict().build().unwrap();
    fail(&breaker, 3);
    advance(S).await;
    succeed(&breaker, 1);
    // Closed, but not for long: it flaps.
    fail(&breaker, 3);
    assert_eq!(refused_for(&breaker), Some(2 * S));
    advance(2 * S).await;
    succeed(&breaker, 1);
    advance(2 * S).await;
    fail(&breaker, 3);
    assert_eq!(refused_for(&breaker), Some(S));
}

#[tokio::test(start_paused = true)]
async fn jitter_shortens_the_open_time_by_its_share_at_most() {
    let breaker = strict().jitter(0.5).build().unwrap();
    let mut shortest = S;
    for _ in 0..200 {
        fail(&breaker, 3);
        let open = refused_for(&breaker).unwrap();
        assert!(open >= S / 2 && open <= S, "{open:?}");
        shortest = shortest.min(open);
        breaker.reset();
    }
    assert!(shortest < S * 6 / 10, "{shortest:?}");
}

#[tokio::test(start_paused = true)]
async fn verdicts_from_before_a_change_change_nothing() {
    let breaker = strict().build().unwrap();
    let (late, later) = (
        breaker.try_acquire().unwrap(),
        breaker.try_acquire().unwrap(),
    );
    fail(&breaker, 3);
    late.success();
    assert_eq!(breaker.state(), CircuitState::Open);
    advance(S).await;
    let probe = breaker.try_acquire().unwrap();
    later.failure();
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    assert!(breaker.try_acquire().is_err());
    probe.success();
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn by_hand_it_stays_as_it_is_until_told_otherwise() {
    let breaker = strict().build().unwrap();
    breaker.force_open();
    advance(1000 * S).await;
    let refused = breaker.try_acquire().unwrap_err();
    assert_eq!(refused.retry_after(), None);
    assert!(refused.to_string().contains("by hand"), "{refused}");
    assert!(breaker.stats().forced);
    breaker.force_close();
    fail(&breaker, 100);
    assert_eq!(breaker.state(), CircuitState::Closed);
    assert!(breaker.stats().forced);
    breaker.reset();
    assert!(!breaker.stats().forced);
    fail(&breaker, 2);
    assert_eq!(breaker.state(), CircuitState::Closed);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), CircuitState::Open);
}

// What is told

#[tokio::test(start_paused = true)]
async fn every_change_is_told_in_order_and_the_handler_may_use_the_breaker() {
    let told: Arc<Mutex<Vec<_>>> = Arc::default();
    let slot: Arc<std::sync::OnceLock<CircuitBreaker>> = Arc::default();
    let (list, own) = (Arc::clone(&told), Arc::clone(&slot));
    let breaker = strict()
        .on_change(move |from, to| {
            list.lock().unwrap().push((from, to));
            if let Some(breaker) = own.get() {
                let _ = breaker.stats();
            }
            assert!(to != CircuitState::HalfOpen, "a panic stays in the handler");
        })
        .build()
        .unwrap();
    let _ = slot.set(breaker.clone());
    fail(&breaker, 3);
    advance(S).await;
    fail(&breaker, 1);
    advance(2 * S).await;
    succeed(&breaker, 1);
    use CircuitState::{Closed, HalfOpen, Open};
    let expected = [
        (Closed, Open),
        (Open, HalfOpen),
        (HalfOpen, Open),
        (Open, HalfOpen),
        (HalfOpen, Closed),
    ];
    assert_eq!(*told.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn errors_say_until_when() {
    let breaker = strict().build().unwrap();
    fail(&breaker, 3);
    let open = breaker.try_acquire().unwrap_err();
    let text = "the circuit breaker `test` is open for another 1s";
    assert_eq!(open.to_string(), text);
    let error = RequestError::from(open.clone());
    assert_eq!(
        (error.code(), error.to_string()),
        (open.code(), text.into())
    );
    let error = ConnectError::from(open);
    assert_eq!(error.code(), ErrorCode::CircuitOpen);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_when_it_is_ready() {
    let breaker = strict().build().unwrap();
    let start = Instant::now();
    fail(&breaker, 3);
    breaker.ready().await;
    assert_eq!(start.elapsed(), S);
    let probe = breaker.try_acquire().unwrap();
    let waiting = tokio::spawn({
        let breaker = breaker.clone();
        async move { breaker.ready().await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(probe);
    waiting.await.unwrap();
    breaker.force_open();
    let waiting = tokio::spawn({
        let breaker = breaker.clone();
        async move { breaker.ready().await }
    });
    advance(100 * S).await;
    assert!(!waiting.is_finished());
    breaker.force_close();
    waiting.await.unwrap();
}

// Calls

#[tokio::test(start_paused = true)]
async fn calls_are_judged_by_their_code() {
    for code in ErrorCode::ALL {
        let breaker = strict().build().unwrap();
        let error = RequestError::with_code(*code, "");
        let _ = breaker.call(async { Err::<(), _>(error) }).await;
        let stats = breaker.stats();
        let expected = match Verdict::of(*code) {
            Verdict::Success => (1, 0, 0),
            Verdict::Failure => (0, 1, 0),
            Verdict::Neutral => (0, 0, 1),
        };
        let counted = (stats.successes, stats.failures, stats.neutral);
        assert_eq!(counted, expected, "{code}");
    }
    let own = strict().judge(|_| Verdict::Neutral).build().unwrap();
    for _ in 0..10 {
        let timed_out = RequestError::with_code(ErrorCode::RequestTimeout, "");
        let _ = own.call(async { Err::<(), _>(timed_out) }).await;
    }
    assert_eq!(own.stats().neutral, 10);
}

#[tokio::test(start_paused = true)]
async fn the_callers_own_mistakes_and_answers_do_not_open_it() {
    let breaker = strict().build().unwrap();
    let answers = [ErrorCode::RequestFailed, ErrorCode::AccessDenied];
    let mistakes = [ErrorCode::MessageTooLarge, ErrorCode::NotSupported];
    for code in answers.iter().chain(&mistakes).cycle().take(40) {
        let error = RequestError::with_code(*code, "");
        let result = breaker.call(async { Err::<(), _>(error) }).await;
        assert!(matches!(result, Err(CallError::Failed(_))));
    }
    let stats = breaker.stats();
    assert_eq!(
        (stats.successes, stats.neutral, stats.failures),
        (20, 20, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_refused_does_not_begin() {
    let breaker = strict().build().unwrap();
    for _ in 0..3 {
        let broken = async { Err::<(), _>(io::Error::other("broken")) };
        assert!(breaker.call(broken).await.is_err());
    }
    let never = async { panic!("it was polled") };
    let result: Result<(), CallError<io::Error>> = breaker.call(never).await;
    assert!(matches!(result, Err(CallError::Open(open)) if open.retry_after() == Some(S)));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_or_panics_gives_its_place_back() {
    let breaker = strict().build().unwrap();
    fail(&breaker, 3);
    advance(S).await;
    let hangs = breaker.call(pending::<Result<(), io::Error>>());
    assert!(timeout(S, hangs).await.is_err());
    let panics = tokio::spawn({
        let breaker = breaker.clone();
        async move {
            let call = async { panic!("in the call") };
            let _: Result<(), CallError<io::Error>> = breaker.call(call).await;
        }
    });
    assert!(panics.await.is_err());
    let works = breaker.call(async { Ok::<_, io::Error>(5) }).await;
    assert_eq!(works.unwrap(), 5);
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[test]
fn a_panic_of_a_handler_over_there_is_no_answer() {
    let reason = crate::CloseReason::with_code(ErrorCode::RequestFailed, "panicked");
    let lost = RequestError::closed(&reason);
    assert!(lost.is_connection_lost());
    assert_eq!(lost.error_code(), Some(ErrorCode::ConnectionClosed));
    let answered = RequestError::failed("no such thing");
    assert!(!answered.is_connection_lost());
    assert_eq!(answered.error_code(), Some(ErrorCode::RequestFailed));
}

#[test]
fn configurations_that_make_no_sense_are_refused() {
    let refused = [
        strict().consecutive_failures(None),
        strict().consecutive_failures(Some(0)),
        strict().failure_rate(Some(0.0)),
        strict().failure_rate(Some(1.1)),
        strict().failure_rate(Some(f64::NAN)),
        strict().window(Duration::ZERO),
        strict().window(Duration::MAX),
        strict().minimum_calls(0),
        strict().open_for(Duration::ZERO, S),
        strict().open_for(2 * S, S),
        strict().open_for(S, Duration::MAX),
        strict().jitter(-0.1),
        strict().jitter(f64::NAN),
        strict().probes(0),
        strict().successes(0),
    ];
    for builder in refused {
        let shown = format!("{builder:?}");
        let error = builder.build().expect_err(&shown);
        assert_eq!(error.code(), ErrorCode::InvalidConfiguration);
        assert!(error.to_string().starts_with("circuit breaker"), "{error}");
    }
    for (ratio, minimum, window) in [
        (-0.1, 1, S),
        (f64::NAN, 1, S),
        (0.0, 0, S),
        (1.0, 1, Duration::ZERO),
        (1.0, 1, Duration::MAX),
    ] {
        assert!(RetryBudget::new(ratio, minimum, window).is_err());
    }
    for policy in [
        RetryPolicy::new().attempts(0),
        RetryPolicy::new().attempts(101),
        RetryPolicy::new().base(Duration::ZERO),
        RetryPolicy::new().base(2 * S).cap(S),
        RetryPolicy::new().attempt_timeout(Some(Duration::ZERO)),
    ] {
        assert!(policy.check().is_err(), "{policy:?}");
    }
    assert!(RetryPolicy::new().check().is_ok());
}

// Properties

#[derive(Clone, Copy, Debug)]
enum Step {
    Call,
    End(usize, Verdict),
    Pass(u16),
    ForceOpen,
    ForceClose,
    Reset,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let verdict = prop_oneof![
        1 => Just(Verdict::Success),
        3 => Just(Verdict::Failure),
        1 => Just(Verdict::Neutral)
    ];
    let step = prop_oneof![
        40 => Just(Step::Call),
        30 => (any::<usize>(), verdict).prop_map(|(index, verdict)| Step::End(index, verdict)),
        20 => (0..3000_u16).prop_map(Step::Pass),
        1 => Just(Step::ForceOpen),
        1 => Just(Step::ForceClose),
        1 => Just(Step::Reset),
    ];
    proptest::collection::vec(step, 0..400)
}

proptest! {
    #[test]
    fn never_more_than_the_probes_while_half_open_and_none_while_open(
        steps in steps(), probes in 1..4_u32, successes in 1..4_u32, jitter in 0.0..1.0_f64,
    ) {
        let mut now = Instant::now();
        let settings = Settings {
            consecutive: Some(3),
            rate: Some(0.5),
            window: S,
            minimum: 4,
            open: S,
            cap: 8 * S,
            jitter,
            probes,
            successes,
        };
        let mut circuit = Circuit::new(settings, now);
        let mut under_way: Vec<u64> = Vec::new();
        for step in steps {
            let before = (circuit.state(), circuit.generation());
            match step {
                Step::Call => {
                    let looked = circuit.look(now).is_ok();
                    let result = circuit.acquire(now);
                    prop_assert_eq!(looked, result.is_ok());
                    match (circuit.state(), result) {
                        (CircuitState::Closed, result) => under_way.push(result.expect("closed")),
                        (CircuitState::Open, result) => match result.expect_err("open") {
                            Wait::For(left) => prop_assert!(!left.is_zero() && left <= 8 * S),
                            wait => prop_assert_eq!(wait, Wait::Forced),
                        },
                        (CircuitState::HalfOpen, Ok(generation)) => under_way.push(generation),
                        (CircuitState::HalfOpen, Err(wait)) => {
                            prop_assert_eq!(wait, Wait::Probes);
                            let same = under_way.iter().filter(|&&own| own == circuit.generation());
                            prop_assert_eq!(same.count(), probes as usize, "no place is lost");
                        }
                    }
                }
                Step::End(index, verdict) if !under_way.is_empty() => {
                    let generation = under_way.swap_remove(index % under_way.len());
                    circuit.end(generation, verdict, now);
                    if generation != before.1 {
                        prop_assert_eq!((circuit.state(), circuit.generation()), before);
                    }
                }
                Step::End(..) => {}
                Step::Pass(millis) => now += u32::from(millis) * MS,
                Step::ForceOpen => circuit.force_open(),
                Step::ForceClose => circuit.force_close(),
                Step::Reset => circuit.reset(),
            }
            if circuit.state() == CircuitState::HalfOpen {
                let same = under_way.iter().filter(|&&own| own == circuit.generation());
                prop_assert!(same.count() <= probes as usize);
            }
            prop_assert!(circuit.changes.len() <= 64);
        }
        let stats = circuit.stats(now);
        prop_assert_eq!(stats.calls, stats.successes + stats.failures + stats.neutral);
    }

    #[test]
    fn a_window_forgets_within_its_length_and_not_before_nine_tenths(
        steps in proptest::collection::vec((0..3000_u64, 0..5_u64, 0..5_u64), 0..200),
    ) {
        let mut now = Instant::now();
        let mut window = Window::new(10 * S, now);
        let mut all = Vec::new();
        for (millis, calls, marked) in steps {
            now += Duration::from_millis(millis);
            window.add(now, calls, marked);
            all.push((now, calls, marked));
            let since = |age: Duration| {
                let recent = all.iter().filter(|(at, ..)| now - *at < age);
                recent.fold((0, 0), |sum, (_, calls, marked)| (sum.0 + calls, sum.1 + marked))
            };
            let counts = window.total(now);
            let (least, most) = (since(9 * S), since(10 * S));
            prop_assert!((least.0..=most.0).contains(&counts.calls));
            prop_assert!((least.1..=most.1).contains(&counts.marked));
        }
    }
}

#[test]
fn threads_never_get_more_than_the_probes() {
    let breaker = strict()
        .open_for(MS, MS)
        .probes(3)
        .successes(1_000_000)
        .build()
        .unwrap();
    fail(&breaker, 3);
    while breaker.state() == CircuitState::Open {
        std::thread::yield_now();
    }
    let (under_way, most, made) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    if let Ok(permit) = breaker.try_acquire() {
                        most.fetch_max(
                            under_way.fetch_add(1, Ordering::SeqCst) + 1,
                            Ordering::SeqCst,
                        );
                        made.fetch_add(1, Ordering::SeqCst);
                        under_way.fetch_sub(1, Ordering::SeqCst);
                        permit.success();
                    }
                }
            });
        }
    });
    assert!(most.into_inner() <= 3);
    assert!(made.into_inner() >= 20_000);
}

// Retries

fn io_error() -> Result<(), io::Error> {
    Err(io::Error::other("broken"))
}

#[tokio::test(start_paused = true)]
async fn a_call_is_made_as_often_as_the_policy_says() {
    let calls = AtomicU32::new(0);
    let policy = RetryPolicy::new().attempts(4);
    let result = policy
        .run(60 * S, |_| {
            calls.fetch_add(1, Ordering::Relaxed);
            async { io_error() }
        })
        .await;
    assert!(result.is_err());
    assert_eq!(calls.into_inner(), 4);
    let stats = policy.retry_budget().stats();
    assert_eq!((stats.requests, stats.retries), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn pauses_double_up_to_the_cap() {
    let policy = RetryPolicy::new().attempts(10).base(100 * MS).cap(400 * MS);
    let mut retries = policy.begin(Instant::now() + 600 * S);
    for bound in [100, 200, 400, 400, 400] {
        let pause = retries.pause(None, None).unwrap();
        assert!(pause <= bound * MS, "{pause:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_retry_begins_after_the_deadline() {
    let start = Instant::now();
    let calls = AtomicU32::new(0);
    let policy = RetryPolicy::new()
        .attempts(100)
        .attempt_timeout(Some(S))
        .base(100 * MS);
    let result = policy
        .run(5 * S, |within| {
            calls.fetch_add(1, Ordering::Relaxed);
            assert!(within <= S);
            async move {
                tokio::time::sleep(within).await;
                io_error()
            }
        })
        .await;
    assert!(result.is_err());
    assert!(start.elapsed() <= 5 * S);
    assert!((2..=5).contains(&calls.into_inner()));
}

#[tokio::test(start_paused = true)]
async fn errors_that_are_not_to_be_tried_again_end_it() {
    for (code, expected) in [
        (ErrorCode::RequestFailed, 1),
        (ErrorCode::MessageTooLarge, 1),
        (ErrorCode::CircuitOpen, 1),
        (ErrorCode::ConnectionClosed, 3),
        (ErrorCode::RequestTimeout, 3),
        (ErrorCode::ShuttingDown, 3),
    ] {
        let calls = AtomicU32::new(0);
        let call = |_| {
            calls.fetch_add(1, Ordering::Relaxed);
            async move { Err::<(), _>(RequestError::with_code(code, "")) }
        };
        let _ = RetryPolicy::new().run(60 * S, call).await;
        assert_eq!(calls.into_inner(), expected, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_circuit_open_among_the_codes_a_call_waits_for_the_breaker() {
    let breaker = strict().build().unwrap();
    fail(&breaker, 3);
    let policy = RetryPolicy::new().retry_on(|_| true);
    let start = Instant::now();
    let call = |_| breaker.call(async { Ok::<_, io::Error>(7) });
    assert_eq!(policy.run(5 * S, call).await.unwrap(), 7);
    assert!(start.elapsed() >= S && start.elapsed() < 2 * S);
    // It was no load, and is not taken out of the budget.
    assert_eq!(policy.retry_budget().stats().retries, 0);
    breaker.reset();
    fail(&breaker, 3);
    let start = Instant::now();
    assert!(policy.run(S / 2, call).await.is_err());
    assert_eq!(start.elapsed(), Duration::ZERO, "there is no time to wait");
}

#[tokio::test(start_paused = true)]
async fn retries_are_a_share_of_requests_and_some_in_addition() {
    let budget = RetryBudget::new(0.2, 1, 10 * S).unwrap();
    let take = || (0..1000).take_while(|_| budget.try_withdraw()).count();
    assert_eq!(take(), 10);
    for _ in 0..100 {
        budget.deposit();
    }
    assert_eq!(budget.stats().available, 20);
    assert_eq!(take(), 20);
    assert!(!budget.try_withdraw());
    // What was requested and retried leaves the window together.
    advance(11 * S).await;
    assert_eq!(take(), 10);
    let stats = budget.stats();
    assert_eq!((stats.requests, stats.retries), (100, 40));
    assert!(stats.refused >= 4);
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_is_shared_bounds_all_that_share_it() {
    let budget = RetryBudget::new(0.1, 0, 10 * S).unwrap();
    let policies = [
        RetryPolicy::new().attempts(10).budget(&budget),
        RetryPolicy::new().attempts(10).budget(&budget),
    ];
    let calls = AtomicU32::new(0);
    for policy in policies.iter().cycle().take(1000) {
        let call = |_| {
            calls.fetch_add(1, Ordering::Relaxed);
            async { io_error() }
        };
        let _ = policy.run(60 * S, call).await;
    }
    let calls = calls.into_inner();
    assert!((1000..=1100).contains(&calls), "{calls}");
}
