//! The breaker that callers share.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::builder::CircuitBreakerBuilder;
use super::circuit::{Circuit, CircuitState, CircuitStats, Settings};
use super::verdict::{CallError, CircuitOpen, Coded, Verdict, Wait};
use crate::error::ErrorCode;
use crate::events;
use crate::session::shared::lock;

pub(super) type Judge = dyn Fn(ErrorCode) -> Verdict + Send + Sync;
pub(super) type OnChange = dyn Fn(CircuitState, CircuitState) + Send + Sync;

/// Refuses calls while what is called does not work.
///
/// A breaker is a handle: cheap to clone, all clones are the same breaker. Share it among all that call the same
/// service (clients, pools, calls of your own), so that each learns from the others. It guards the service as a whole, not
/// one of several endpoints.
///
/// # States
///
/// **Closed**, it lets calls through and counts how they end. It opens after so many failures in a row, or when the
/// share of failures within a sliding window is too high and there were calls enough to tell.
///
/// **Open**, it refuses calls at once with [`CircuitOpen`]. For how long is random within a bound, which doubles with
/// each time up to a cap; it starts anew once the breaker has been closed for as long as it was open.
///
/// **Half-open**, it lets a few calls through at a time. A failure opens it again; enough successes close it.
///
/// Time passes for a breaker when somebody calls or looks: it has no task and no timer. What counts as a
/// failure is decided by [`CircuitBreakerBuilder::judge`], by default [`Verdict::of`].
///
/// While nothing fails, a call costs some atomic operations; a clock and a lock for every few calls. Up to a
/// quarter of [`minimum_calls`](CircuitBreakerBuilder::minimum_calls), at most 64, are counted that much later.
///
/// ```
/// use network_system::resilience::{CircuitBreaker, CircuitState};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let breaker = CircuitBreaker::default();
/// match breaker.try_acquire() {
///     Ok(permit) => {
///         // Make the call, and say how it went. A permit that is dropped says nothing.
///         permit.success();
///     }
///     Err(open) => println!("{open}, come back in {:?}", open.retry_after()),
/// }
/// assert_eq!(breaker.stats().successes, 1);
///
/// // For maintenance, say.
/// breaker.force_open();
/// assert!(breaker.try_acquire().is_err());
/// breaker.reset();
/// assert_eq!(breaker.state(), CircuitState::Closed);
/// # }
/// ```
#[derive(Clone)]
pub struct CircuitBreaker {
    shared: Arc<Shared>,
}

struct Shared {
    name: Arc<str>,
    /// What a call of a closed breaker has to know, see [`Gate`]. Written under the lock.
    gate: AtomicU64,
    /// Successes that are not counted yet. They are as soon as somebody takes the lock, before anything else, and
    /// at the latest when there are `batch` of them.
    waiting: AtomicU64,
    batch: u64,
    circuit: Mutex<Circuit>,
    /// Notified when a call may be let through that was refused before.
    changed: Notify,
    judge: Box<Judge>,
    on_change: Option<Box<OnChange>>,
}

impl CircuitBreaker {
    /// Begins the configuration of a breaker.
    pub fn builder() -> CircuitBreakerBuilder {
        CircuitBreakerBuilder::new()
    }

    pub(super) fn new(
        name: Arc<str>,
        settings: Settings,
        judge: Box<Judge>,
        on_change: Option<Box<OnChange>>,
    ) -> Self {
        let circuit = Circuit::new(settings, Instant::now());
        CircuitBreaker {
            shared: Arc::new(Shared {
                name,
                gate: AtomicU64::new(Gate::of(&circuit).0),
                waiting: AtomicU64::new(0),
                batch: circuit.batch(),
                circuit: Mutex::new(circuit),
                changed: Notify::new(),
                judge,
                on_change,
            }),
        }
    }

    /// The name, for logs and errors.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    // Calls

    /// Makes a call, unless the breaker is open, and judges it by the code of its error.
    ///
    /// Refused calls do not begin. Dropping the future, and a panic, end the call without a verdict.
    ///
    /// # Errors
    /// [`CallError::Open`], or what the call came to.
    pub async fn call<T, E: Coded>(
        &self,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, CallError<E>> {
        self.call_judged(call, |error| self.judge(error)).await
    }

    /// Makes a call, unless the breaker is open, and judges its error by `judge`: for errors without an
    /// [`ErrorCode`]. Otherwise as [`call`](Self::call).
    ///
    /// # Errors
    /// [`CallError::Open`], or what the call came to.
    pub async fn call_judged<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
        judge: impl FnOnce(&E) -> Verdict,
    ) -> Result<T, CallError<E>> {
        let permit = self.try_acquire().map_err(CallError::Open)?;
        let result = call.await;
        permit.record(match &result {
            Ok(_) => Verdict::Success,
            Err(error) => judge(error),
        });
        result.map_err(CallError::Failed)
    }

    /// Asks for leave to make a call. How it went is to be said to the permit.
    ///
    /// # Errors
    /// The breaker is open, or half-open with enough calls under way.
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit, CircuitOpen> {
        let gate = self.shared.gate();
        let generation = match gate.lets_all_through() {
            true => gate.generation(),
            false => self.ask(Circuit::acquire)?,
        };
        Ok(Permit {
            shared: Arc::clone(&self.shared),
            generation,
            is_judged: false,
        })
    }

    /// Whether a call would be let through at this moment. A refusal is counted.
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire).
    pub fn check(&self) -> Result<(), CircuitOpen> {
        match self.shared.gate().lets_all_through() {
            true => Ok(()),
            false => self.ask(Circuit::check),
        }
    }

    fn ask<T>(
        &self,
        ask: impl FnOnce(&mut Circuit, Instant) -> Result<T, Wait>,
    ) -> Result<T, CircuitOpen> {
        self.shared.with(ask).map_err(|wait| CircuitOpen {
            name: Arc::clone(&self.shared.name),
            wait,
        })
    }

    /// Waits until a call would be let through. Many that wait are told together, and not all of them may be let
    /// through then: ask again.
    ///
    /// Dropping the future has no effect.
    pub async fn ready(&self) {
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            match self.shared.with(Circuit::look) {
                Ok(()) => return,
                Err(Wait::For(left)) => tokio::select! {
                    () = changed => {}
                    () = sleep(left) => {}
                },
                Err(Wait::Probes | Wait::Forced) => changed.await,
            }
        }
    }

    /// What an error says, as this breaker judges.
    pub(crate) fn judge(&self, error: &impl Coded) -> Verdict {
        error
            .error_code()
            .map_or(Verdict::Failure, |code| (self.shared.judge)(code))
    }

    // State

    /// Where the breaker stands at this moment.
    pub fn state(&self) -> CircuitState {
        self.shared.with(|circuit, now| {
            circuit.advance(now);
            circuit.state()
        })
    }

    /// What it has counted since it was made.
    pub fn stats(&self) -> CircuitStats {
        self.shared.with(Circuit::stats)
    }

    // By hand

    /// Opens it until [`force_close`](Self::force_close) or [`reset`](Self::reset).
    pub fn force_open(&self) {
        self.shared.with(|circuit, _| circuit.force_open());
    }

    /// Closes it, and keeps it closed whatever happens, until [`force_open`](Self::force_open) or
    /// [`reset`](Self::reset).
    pub fn force_close(&self) {
        self.shared.with(|circuit, _| circuit.force_close());
    }

    /// Closes it, forgets failures and how often it opened, and leaves it to itself. Counters of
    /// [`stats`](Self::stats) go on.
    pub fn reset(&self) {
        self.shared.with(|circuit, _| circuit.reset());
    }
}

/// The generation; bit 1: a success need not be counted at once; bit 0: all calls are let through.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Gate(u64);

impl Gate {
    fn of(circuit: &Circuit) -> Self {
        let flags = u64::from(circuit.is_well()) << 1 | u64::from(circuit.lets_all_through());
        Gate(circuit.generation() << 2 | flags)
    }

    fn generation(self) -> u64 {
        self.0 >> 2
    }

    fn is_well(self) -> bool {
        self.0 & 2 != 0
    }

    fn lets_all_through(self) -> bool {
        self.0 & 1 != 0
    }
}

impl Shared {
    fn gate(&self) -> Gate {
        Gate(self.gate.load(Ordering::Acquire))
    }

    /// Does something with the circuit; what has changed by that is told.
    fn with<T>(&self, action: impl FnOnce(&mut Circuit, Instant) -> T) -> T {
        let now = Instant::now();
        let mut circuit = lock(&self.circuit);
        let before = circuit.generation();
        let waiting = self.waiting.swap(0, Ordering::Relaxed);
        if waiting > 0 {
            circuit.count_successes(waiting, now);
        }
        let result = action(&mut circuit, now);
        let has_changed = circuit.generation() != before;
        let gate = Gate::of(&circuit);
        if gate != self.gate() {
            self.gate.store(gate.0, Ordering::Release);
        }
        drop(circuit);
        if has_changed {
            self.changed.notify_waiters();
            self.tell();
        }
        result
    }

    /// Tells of changes, one after the other: by whichever thread comes first, for all.
    #[cold]
    fn tell(&self) {
        loop {
            let change = {
                let mut circuit = lock(&self.circuit);
                if circuit.is_telling {
                    return;
                }
                let Some(change) = circuit.changes.pop_front() else {
                    return;
                };
                circuit.is_telling = true;
                change
            };
            // No text of the application's leaves here, and a panic of its handler must not end the caller.
            let call = AssertUnwindSafe(|| self.announce(change.from, change.to, change.open_for));
            if catch_unwind(call).is_err() {
                events::circuit_handler_panicked {}.emit();
            }
            lock(&self.circuit).is_telling = false;
        }
    }

    fn announce(
        &self,
        from: CircuitState,
        to: CircuitState,
        open_for: Option<std::time::Duration>,
    ) {
        let circuit = &*self.name;
        match to {
            CircuitState::Open => {
                let open_ms = open_for.map(|duration| duration.as_millis() as u64);
                events::circuit_opened { circuit, open_ms }.emit();
            }
            CircuitState::HalfOpen => events::circuit_half_open { circuit }.emit(),
            CircuitState::Closed => events::circuit_closed { circuit }.emit(),
        }
        if let Some(on_change) = &self.on_change {
            on_change(from, to);
        }
    }

    #[inline]
    fn end(&self, generation: u64, verdict: Verdict) {
        let gate = self.gate();
        if verdict == Verdict::Success && gate.is_well() && gate.generation() == generation {
            if self.waiting.fetch_add(1, Ordering::Relaxed) + 1 >= self.batch {
                // Whoever takes the lock counts them.
                self.with(|_, _| ());
            }
            return;
        }
        self.count(generation, verdict);
    }

    fn count(&self, generation: u64, verdict: Verdict) {
        if self.with(|circuit, now| circuit.end(generation, verdict, now)) {
            self.changed.notify_waiters();
        }
    }
}

/// With the defaults of the builder.
impl Default for CircuitBreaker {
    fn default() -> Self {
        CircuitBreaker::builder().make()
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("name", &self.name())
            .field("state", &lock(&self.shared.circuit).state())
            .finish_non_exhaustive()
    }
}

/// Leave to make one call.
///
/// Dropped without a verdict, the call counts as given up: that says nothing about what was called, and in a half-open
/// breaker another call may be made in its place. A verdict that comes after the breaker has changed its
/// state is counted and changes nothing.
#[must_use = "dropping a permit gives the call up"]
pub struct Permit {
    shared: Arc<Shared>,
    generation: u64,
    is_judged: bool,
}

impl Permit {
    /// The call succeeded.
    pub fn success(self) {
        self.record(Verdict::Success);
    }

    /// The call failed.
    pub fn failure(self) {
        self.record(Verdict::Failure);
    }

    /// The call has ended so.
    #[inline]
    pub fn record(mut self, verdict: Verdict) {
        self.is_judged = true;
        self.shared.end(self.generation, verdict);
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        if !self.is_judged {
            self.shared.end(self.generation, Verdict::Neutral);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("circuit", &self.shared.name)
            .finish_non_exhaustive()
    }
}
