//! The set of endpoints that clients and pools share.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tracing::field::display;

use super::budget::AttemptBudget;
use super::ejection::{Ejection, EndpointState, Verdict};
use super::entry::{Entry, State};
use super::guards::Pick;
use super::strategy::{Candidate, Chooser, Question, Strategy};
use crate::client::backoff::Jitter;
use crate::endpoint::{Endpoint, Place};
use crate::error::ConfigError;
use crate::events;
use crate::session::shared::lock;

/// How long a server that has no room is passed over.
pub(super) const REST: Duration = Duration::from_secs(1);

/// How long a server that is stopping is passed over at most, whatever it says.
const LONGEST_REST: Duration = Duration::from_secs(300);

/// Several endpoints of one service, with what is known of each: its load, its latency, whether it is sick.
///
/// It is a handle: clones are the same set. Given to several clients ([`ClientBuilder::endpoints`]) it lets all of them
/// know what one has found out. Endpoints can be added and removed while it is in use.
///
/// Whoever makes connections of another kind can use it too: [`pick`](Self::pick) chooses an endpoint, and the guards
/// that follow from it count and report.
///
/// ```
/// use network_system::balance::{Endpoints, Strategy};
///
/// let endpoints = Endpoints::builder()
///     .endpoint("mem://one")
///     .endpoint("mem://two")
///     .strategy(Strategy::LeastLoaded)
///     .build()?;
/// let pick = endpoints.pick(None).expect("there are two");
/// // … connect to pick.endpoint() …
/// let lease = pick.connected();
/// let other = endpoints.pick(None).expect("there are two");
/// assert_ne!(other.endpoint(), lease.endpoint());
/// # Ok::<(), network_system::ConfigError>(())
/// ```
///
/// [`ClientBuilder::endpoints`]: crate::ClientBuilder::endpoints
#[derive(Clone)]
pub struct Endpoints {
    inner: Arc<Inner>,
}

struct Inner {
    strategy: Strategy,
    ejection: Ejection,
    budget: AttemptBudget,
    /// Locked before the state of an entry, never after.
    set: Mutex<Set>,
}

struct Set {
    /// In the order in which they were added, which is that of their ids.
    entries: Vec<Arc<Entry>>,
    next_id: u64,
    chooser: Chooser<Jitter>,
    /// What the strategy is asked about, kept for its memory.
    candidates: Vec<Candidate>,
    indices: Vec<usize>,
}

/// What somebody wants an endpoint for.
#[derive(Clone, Copy)]
pub(crate) struct Wish<'a> {
    /// The key, for consistent hashing.
    pub(crate) key: Option<&'a [u8]>,
    /// The id from which on endpoints are tried in order.
    pub(crate) start: u64,
    /// The ids of those that were tried already.
    pub(crate) tried: &'a [u64],
    /// Whether an endpoint can be used at all.
    pub(crate) fits: &'a (dyn Fn(&Endpoint) -> bool + Sync),
    /// Whether ejected endpoints are tried when there is no other.
    pub(crate) last_resort: bool,
}

impl Wish<'_> {
    fn takes(&self, entry: &Entry) -> bool {
        !self.tried.contains(&entry.id) && (self.fits)(&entry.endpoint)
    }
}

impl Endpoints {
    /// A set with the default settings: in order, with the default [`Ejection`] and [`AttemptBudget`].
    ///
    /// # Errors
    /// As [`Endpoint::parse`]. A set may be empty at first.
    pub fn new<U: AsRef<str>>(urls: impl IntoIterator<Item = U>) -> Result<Self, ConfigError> {
        urls.into_iter()
            .fold(Endpoints::builder(), EndpointsBuilder::endpoint)
            .build()
    }

    /// Begins the configuration of a set.
    pub fn builder() -> EndpointsBuilder {
        EndpointsBuilder::default()
    }

    fn with(strategy: Strategy, ejection: Ejection, budget: AttemptBudget) -> Self {
        Endpoints {
            inner: Arc::new(Inner {
                strategy,
                ejection,
                budget,
                set: Mutex::new(Set {
                    entries: Vec::new(),
                    next_id: 0,
                    chooser: Chooser::new(Jitter::from_system()),
                    candidates: Vec::new(),
                    indices: Vec::new(),
                }),
            }),
        }
    }

    /// How endpoints are chosen.
    pub fn strategy(&self) -> Strategy {
        self.inner.strategy
    }

    /// When endpoints are left alone.
    pub fn ejection(&self) -> &Ejection {
        &self.inner.ejection
    }

    /// What bounds the attempts.
    pub fn attempt_budget(&self) -> &AttemptBudget {
        &self.inner.budget
    }

    /// Adds an endpoint at the end; says whether it was not there yet.
    ///
    /// A client that cannot use it, because it has no TLS configuration, say, passes it over.
    pub fn add(&self, endpoint: Endpoint) -> bool {
        let mut set = lock(&self.inner.set);
        if set.entries.iter().any(|entry| entry.endpoint == endpoint) {
            return false;
        }
        let id = set.next_id;
        set.next_id += 1;
        set.entries.push(Arc::new(Entry::new(id, endpoint)));
        true
    }

    /// Removes an endpoint; says whether it was there. Connections to it stay; no further ones are made.
    pub fn remove(&self, endpoint: &Endpoint) -> bool {
        let mut set = lock(&self.inner.set);
        let before = set.entries.len();
        set.entries.retain(|entry| entry.endpoint != *endpoint);
        set.entries.len() < before
    }

    /// Adds what is missing and removes what is not among `endpoints`; what stays keeps what is known of it.
    pub fn replace(&self, endpoints: impl IntoIterator<Item = Endpoint>) {
        let wanted: Vec<_> = endpoints.into_iter().collect();
        lock(&self.inner.set)
            .entries
            .retain(|entry| wanted.contains(&entry.endpoint));
        for endpoint in wanted {
            self.add(endpoint);
        }
    }

    /// The endpoints, in the order in which they were added.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let set = lock(&self.inner.set);
        set.entries
            .iter()
            .map(|entry| entry.endpoint.clone())
            .collect()
    }

    /// How many endpoints there are.
    pub fn len(&self) -> usize {
        lock(&self.inner.set).entries.len()
    }

    /// Whether there is no endpoint.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Chooses an endpoint for an attempt to connect; `None` when there is none in the set. The key is what
    /// [`Strategy::ConsistentHash`] goes by; without one it chooses at random.
    ///
    /// This does not wait for the budget: see [`attempt_budget`](Self::attempt_budget).
    pub fn pick(&self, key: Option<&[u8]>) -> Option<Pick> {
        self.pick_for(Wish {
            key,
            start: 0,
            tried: &[],
            fits: &|_| true,
            last_resort: true,
        })
    }

    pub(crate) fn pick_for(&self, wish: Wish<'_>) -> Option<Pick> {
        let now = Instant::now();
        let mut set = lock(&self.inner.set);
        let Set {
            entries,
            chooser,
            candidates,
            indices,
            ..
        } = &mut *set;
        let ill = none_is_well(entries, wish.fits);
        // First those that are as they should be; then those that rest; then, if anything is better than nothing, those
        // that are ejected.
        for tier in 0..if wish.last_resort { 3 } else { 2 } {
            candidates.clear();
            indices.clear();
            for (index, entry) in entries.iter().enumerate() {
                if !wish.takes(entry) {
                    continue;
                }
                let state = entry.state();
                let fits = match tier {
                    0 => (ill || state.health.admits(now)) && !state.health.is_resting(now),
                    1 => ill || state.health.admits(now),
                    _ => true,
                };
                if fits {
                    candidates.push(entry.candidate(&state, now));
                    indices.push(index);
                }
            }
            let question = Question {
                key: wish.key,
                start: wish.start,
            };
            if let Some(choice) = chooser.choose(self.inner.strategy, candidates, question) {
                return Some(Pick::new(self, &entries[indices[choice]], now));
            }
        }
        None
    }

    /// How many of the endpoints that somebody can use were not tried yet.
    pub(crate) fn untried(&self, wish: Wish<'_>) -> usize {
        let set = lock(&self.inner.set);
        set.entries.iter().filter(|entry| wish.takes(entry)).count()
    }

    /// Whether an endpoint takes connections that was not tried yet.
    pub(crate) fn has_available(&self, wish: Wish<'_>) -> bool {
        let now = Instant::now();
        let set = lock(&self.inner.set);
        set.entries.iter().any(|entry| {
            wish.takes(entry) && {
                let state = entry.state();
                state.health.admits(now) && !state.health.is_resting(now)
            }
        })
    }

    /// Whether a function says yes to any endpoint.
    pub(crate) fn any(&self, says: impl FnMut(&Endpoint) -> bool) -> bool {
        let set = lock(&self.inner.set);
        set.entries.iter().map(|entry| &entry.endpoint).any(says)
    }

    /// What is known of each endpoint, in the order in which they were added.
    pub fn stats(&self) -> Vec<EndpointStats> {
        let now = Instant::now();
        let set = lock(&self.inner.set);
        set.entries.iter().map(|entry| entry.stats(now)).collect()
    }

    /// The state of an entry changes: it fails, and may be ejected for it.
    pub(super) fn failed(
        &self,
        entry: &Arc<Entry>,
        probe: bool,
        change: impl FnOnce(&mut State, Instant),
    ) {
        let now = Instant::now();
        let ejection = &self.inner.ejection;
        let set = lock(&self.inner.set);
        let others = set.entries.iter().filter(|other| other.id != entry.id);
        let ejected = others
            .filter(|other| other.state().health.ejected.is_some())
            .count();
        let room = ejected < ejection.room(set.entries.len());
        let mut state = entry.state();
        change(&mut state, now);
        state.failures += 1;
        let sick = state.health.failed(now, ejection);
        let again = probe && state.health.ejected.is_some();
        if !(again || sick && room) {
            return;
        }
        let pause = state.health.eject(now, ejection);
        drop((state, set));
        events::endpoint_ejected {
            endpoint: display(Place(&entry.endpoint)),
            pause_ms: pause.as_millis() as u64,
        }
        .emit();
    }

    /// An error says what it says of an endpoint.
    pub(super) fn judge(
        &self,
        entry: &Arc<Entry>,
        verdict: Verdict,
        probe: bool,
        change: impl FnOnce(&mut State, Instant),
    ) {
        if verdict == Verdict::Sick {
            return self.failed(entry, probe, change);
        }
        let now = Instant::now();
        let mut state = entry.state();
        change(&mut state, now);
        let ejected = state.health.ejected.is_some();
        match verdict {
            Verdict::Well => state.health.succeeded(now, &self.inner.ejection),
            Verdict::Elsewhere => {
                state.health.succeeded(now, &self.inner.ejection);
                state.health.rest(now + REST);
            }
            Verdict::Unknown | Verdict::Sick if probe => state.health.end_probe(),
            Verdict::Unknown | Verdict::Sick => {}
        }
        let is_back = ejected && state.health.ejected.is_none();
        drop(state);
        if is_back {
            events::endpoint_returned {
                endpoint: display(Place(&entry.endpoint)),
            }
            .emit();
        }
    }

    /// The server is stopping, and wants to be left alone for as long.
    pub(super) fn rest(&self, entry: &Entry, retry: Duration) {
        let rest = retry.clamp(REST, LONGEST_REST);
        entry.state().health.rest(Instant::now() + rest);
    }
}

/// Whether every endpoint that can be used is sick, so that all are as good as any.
fn none_is_well(entries: &[Arc<Entry>], fits: &dyn Fn(&Endpoint) -> bool) -> bool {
    let mut usable = entries.iter().filter(|entry| fits(&entry.endpoint));
    usable.all(|entry| entry.state().health.is_sick())
}

/// An empty set with the default settings.
impl Default for Endpoints {
    fn default() -> Self {
        Endpoints::with(
            Strategy::default(),
            Ejection::default(),
            AttemptBudget::default(),
        )
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoints")
            .field("strategy", &self.inner.strategy)
            .field("ejection", &self.inner.ejection)
            .field("attempt_budget", &self.inner.budget)
            .field("endpoints", &lock(&self.inner.set).entries)
            .finish()
    }
}

/// Configures [`Endpoints`].
#[derive(Debug, Default)]
#[must_use = "a builder does nothing before `build`"]
pub struct EndpointsBuilder {
    endpoints: Vec<Result<Endpoint, ConfigError>>,
    strategy: Strategy,
    ejection: Ejection,
    budget: AttemptBudget,
}

impl EndpointsBuilder {
    /// Adds an endpoint by its URL.
    pub fn endpoint(mut self, url: impl AsRef<str>) -> Self {
        self.endpoints.push(Endpoint::parse(url.as_ref()));
        self
    }

    /// Adds an endpoint.
    pub fn add_endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoints.push(Ok(endpoint));
        self
    }

    /// Sets how endpoints are chosen. In order by default.
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Sets when endpoints are left alone.
    pub fn ejection(mut self, ejection: Ejection) -> Self {
        self.ejection = ejection;
        self
    }

    /// Sets what bounds the attempts to connect.
    pub fn attempt_budget(mut self, budget: AttemptBudget) -> Self {
        self.budget = budget;
        self
    }

    /// Checks the configuration and makes the set. An endpoint that was added twice is in it once.
    ///
    /// # Errors
    /// As [`Endpoint::parse`]; `invalid_configuration` for an [`Ejection`] that cannot be.
    pub fn build(self) -> Result<Endpoints, ConfigError> {
        self.ejection.check()?;
        let endpoints = self.endpoints.into_iter().collect::<Result<Vec<_>, _>>()?;
        let set = Endpoints::with(self.strategy, self.ejection, self.budget);
        for endpoint in endpoints {
            set.add(endpoint);
        }
        Ok(set)
    }
}

/// What is known of an endpoint at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointStats {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Where it stands.
    pub state: EndpointState,
    /// Connections that are open.
    pub connections: usize,
    /// Attempts to connect that are under way.
    pub connecting: usize,
    /// Requests that wait for an answer.
    pub requests: usize,
    /// Attempts to connect that were begun.
    pub attempts: u64,
    /// Failures of every kind that count for the ejection.
    pub failures: u64,
    /// How often it was ejected.
    pub ejections: u64,
    /// The latency average of attempts that led to a connection, and of failures, which count as a second at least.
    /// `None` before the first.
    pub connect_time: Option<Duration>,
    /// The latency average of requests, and of failures. `None` before the first answer.
    pub round_trip: Option<Duration>,
    /// Until when it is left alone, or was, if no probe has succeeded since.
    pub ejected_until: Option<Instant>,
}
