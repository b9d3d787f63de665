//! Connecting to a host with several addresses (RFC 8305, "Happy Eyeballs").
//!
//! The addresses are tried one after the other, but an attempt that takes long does not hold up the
//! next: it goes on beside it, and whoever connects first wins. A host whose IPv6 is announced and
//! broken then costs a fraction of a second, not a connect timeout.

use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The pause before the next address is tried beside a slow one, as RFC 8305 section 8 recommends.
pub(crate) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// How many addresses are tried.
///
/// Names with more are rare, and one call must not open sockets without bound because a DNS answer
/// says so. At 250 ms each, 16 fit well into the connect deadline of 10 s.
pub(crate) const MAX_ADDRESSES: usize = 16;

/// Connects to whichever address answers first.
///
/// The families alternate, IPv6 first; within a family the order given is kept. The next attempt starts
/// when one has failed, or `attempt_delay` after the last one started. At most [`MAX_ADDRESSES`]
/// different addresses are tried. There is no deadline here: the caller sets one.
///
/// Dropping the future drops every attempt, as does success with the attempts that came too late.
///
/// # Errors
///
/// Every address failed, or there was none. The error has the kind of the failure that tells the most
/// and a text with all addresses and their failures.
pub(crate) async fn connect_any<S, C, F>(
    addresses: Vec<SocketAddr>,
    attempt_delay: Duration,
    connect: C,
) -> io::Result<S>
where
    C: Fn(SocketAddr) -> F,
    F: Future<Output = io::Result<S>>,
{
    let mut queue = interleave(addresses);
    let skipped = queue.len().saturating_sub(MAX_ADDRESSES);
    queue.truncate(MAX_ADDRESSES);
    let mut race = Race {
        queue: queue.into_iter(),
        attempts: Vec::new(),
        failures: Vec::new(),
        timer: None,
        attempt_delay,
    };
    match poll_fn(|context| race.poll(context, &connect)).await {
        Some(stream) => Ok(stream),
        None => Err(most_telling(race.failures, skipped)),
    }
}

/// The attempts of one [`connect_any`].
struct Race<F> {
    /// The addresses not tried yet.
    queue: std::vec::IntoIter<SocketAddr>,
    /// The attempts under way, the oldest first.
    attempts: Vec<(SocketAddr, Pin<Box<F>>)>,
    failures: Vec<(SocketAddr, io::Error)>,
    /// When the next attempt starts. `None` means now, or never when the queue is empty.
    timer: Option<Pin<Box<Sleep>>>,
    attempt_delay: Duration,
}

impl<S, F: Future<Output = io::Result<S>>> Race<F> {
    /// Ready with a stream, or with `None` once every address has failed.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        connect: impl Fn(SocketAddr) -> F,
    ) -> Poll<Option<S>> {
        loop {
            if let Poll::Ready(stream) = self.poll_attempts(context) {
                return Poll::Ready(Some(stream));
            }
            if let Some(timer) = &mut self.timer
                && timer.as_mut().poll(context).is_pending()
            {
                return Poll::Pending;
            }
            // Each round takes an address out of the queue, so the loop ends.
            self.timer = None;
            match self.queue.next() {
                Some(address) => self.start(address, connect(address)),
                None if self.attempts.is_empty() => return Poll::Ready(None),
                None => return Poll::Pending,
            }
        }
    }

    fn start(&mut self, address: SocketAddr, attempt: F) {
        self.attempts.push((address, Box::pin(attempt)));
        if !self.queue.as_slice().is_empty() {
            let next = Instant::now() + self.attempt_delay;
            self.timer = Some(Box::pin(sleep_until(next)));
        }
    }

    /// Polls every attempt. One that fails is put aside and lets the next one start at once.
    fn poll_attempts(&mut self, context: &mut Context<'_>) -> Poll<S> {
        let mut index = 0;
        while let Some((address, attempt)) = self.attempts.get_mut(index) {
            match attempt.as_mut().poll(context) {
                Poll::Ready(Ok(stream)) => return Poll::Ready(stream),
                Poll::Ready(Err(error)) => {
                    self.failures.push((*address, error));
                    self.attempts.remove(index);
                    self.timer = None;
                }
                Poll::Pending => index += 1,
            }
        }
        Poll::Pending
    }
}

/// Alternates between the families, IPv6 first, and leaves out what occurs twice.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let count = addresses.len();
    let (six, four): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv6);
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    let mut order: Vec<SocketAddr> = Vec::with_capacity(count);
    let mut seen = std::collections::HashSet::with_capacity(count);
    loop {
        let pair = [six.next(), four.next()];
        if pair == [None, None] {
            return order;
        }
        let new = pair
            .into_iter()
            .flatten()
            .filter(|address| seen.insert(*address));
        order.extend(new);
    }
}

/// One error for all failures. It keeps the kind, so that a refused connection stays recognisable.
fn most_telling(failures: Vec<(SocketAddr, io::Error)>, skipped: usize) -> io::Error {
    // The first of the best: `max_by_key` would take the last.
    let Some((_, best)) = failures
        .iter()
        .rev()
        .max_by_key(|(_, error)| weight(error.kind()))
    else {
        return io::Error::new(io::ErrorKind::NotFound, "there is no address to connect to");
    };
    let mut text = String::new();
    for (address, error) in &failures {
        let separator = if text.is_empty() { "" } else { "; " };
        let _ = write!(text, "{separator}{address}: {error}");
    }
    if skipped > 0 {
        let _ = write!(text, "; {skipped} more addresses were not tried");
    }
    io::Error::new(best.kind(), text)
}

/// How much a failure says about the host, rather than about the way there.
fn weight(kind: io::ErrorKind) -> u8 {
    use io::ErrorKind;
    match kind {
        // Nothing: this side has no route for the family.
        ErrorKind::NetworkUnreachable
        | ErrorKind::HostUnreachable
        | ErrorKind::AddrNotAvailable
        | ErrorKind::NetworkDown => 0,
        ErrorKind::TimedOut => 1,
        // The host has answered.
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => 3,
        ErrorKind::ConnectionRefused => 4,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::io::ErrorKind;
    use std::rc::Rc;
    use tokio::time::sleep;

    const MS: Duration = Duration::from_millis(1);

    /// What an address does when it is connected to.
    #[derive(Clone, Copy)]
    enum Act {
        Accept(u32),
        Fail(u32, ErrorKind),
        Hang,
    }

    /// The attempts in the order in which they started, with the milliseconds since the beginning.
    type Log = Rc<RefCell<Vec<(SocketAddr, u128)>>>;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    /// Races the addresses and says who won and when attempts started.
    async fn race(acts: &[(&str, Act)]) -> (io::Result<SocketAddr>, Vec<(String, u128)>) {
        let acts: Vec<_> = acts
            .iter()
            .map(|&(text, act)| (address(text), act))
            .collect();
        let log = Log::default();
        let begin = Instant::now();
        let connect = |address: SocketAddr| {
            log.borrow_mut()
                .push((address, begin.elapsed().as_millis()));
            let act = acts
                .iter()
                .find(|(known, _)| *known == address)
                .expect("a known address")
                .1;
            async move {
                match act {
                    Act::Accept(after) => {
                        sleep(after * MS).await;
                        Ok(address)
                    }
                    Act::Fail(after, kind) => {
                        sleep(after * MS).await;
                        Err(kind.into())
                    }
                    Act::Hang => std::future::pending().await,
                }
            }
        };
        let addresses = acts.iter().map(|(address, _)| *address).collect();
        let result = connect_any(addresses, ATTEMPT_DELAY, connect).await;
        let log = log
            .borrow()
            .iter()
            .map(|(address, at)| (address.to_string(), *at))
            .collect();
        (result, log)
    }

    fn starts(list: &[(&str, u128)]) -> Vec<(String, u128)> {
        list.iter()
            .map(|&(address, at)| (address.to_owned(), at))
            .collect()
    }

    #[test]
    fn families_alternate_and_ipv6_comes_first() {
        let list = [
            "1.0.0.1:1",
            "1.0.0.2:1",
            "[::1]:1",
            "1.0.0.1:1",
            "[::2]:1",
            "1.0.0.3:1",
        ];
        let order = interleave(list.map(address).to_vec());
        let expected = ["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "1.0.0.3:1"];
        assert_eq!(order, expected.map(address));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_first_address_is_the_only_one_tried() {
        let (winner, log) = race(&[("[::1]:1", Act::Accept(249)), ("1.0.0.1:1", Act::Hang)]).await;
        assert_eq!(winner.expect("a winner"), address("[::1]:1"));
        assert_eq!(log, starts(&[("[::1]:1", 0)]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_costs_one_delay() {
        let begin = Instant::now();
        let (winner, log) = race(&[("[::1]:1", Act::Hang), ("1.0.0.1:1", Act::Accept(10))]).await;
        assert_eq!(winner.expect("a winner"), address("1.0.0.1:1"));
        assert_eq!(log, starts(&[("[::1]:1", 0), ("1.0.0.1:1", 250)]));
        assert_eq!(begin.elapsed().as_millis(), 260);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_starts_the_next_attempt_at_once() {
        let refused = Act::Fail(5, ErrorKind::ConnectionRefused);
        let acts = [
            ("[::1]:1", refused),
            ("1.0.0.1:1", Act::Hang),
            ("1.0.0.2:1", Act::Accept(1)),
        ];
        let (winner, log) = race(&acts).await;
        assert_eq!(winner.expect("a winner"), address("1.0.0.2:1"));
        assert_eq!(
            log,
            starts(&[("[::1]:1", 0), ("1.0.0.1:1", 5), ("1.0.0.2:1", 255)])
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_attempt_can_still_win() {
        let (winner, log) = race(&[("[::1]:1", Act::Accept(300)), ("1.0.0.1:1", Act::Hang)]).await;
        assert_eq!(winner.expect("a winner"), address("[::1]:1"));
        assert_eq!(log.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_error_tells_the_most_and_names_every_address() {
        let (result, _) = race(&[
            ("[::1]:1", Act::Fail(0, ErrorKind::NetworkUnreachable)),
            ("1.0.0.1:1", Act::Fail(900, ErrorKind::ConnectionRefused)),
            ("1.0.0.2:1", Act::Fail(0, ErrorKind::TimedOut)),
        ])
        .await;
        let error = result.expect_err("every address failed");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let text = error.to_string();
        for address in ["[::1]:1: ", "1.0.0.1:1: ", "1.0.0.2:1: "] {
            assert!(text.contains(address), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_equally_telling_failures_the_first_counts() {
        let (result, _) = race(&[
            ("[::1]:1", Act::Fail(0, ErrorKind::AddrNotAvailable)),
            ("1.0.0.1:1", Act::Fail(0, ErrorKind::NetworkUnreachable)),
        ])
        .await;
        let error = result.expect_err("every address failed");
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    }

    #[tokio::test(start_paused = true)]
    async fn without_addresses_there_is_an_error() {
        let (result, _) = race(&[]).await;
        assert_eq!(
            result.expect_err("nothing to try").kind(),
            ErrorKind::NotFound
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_attempts_is_bounded_and_both_families_get_some() {
        let mut addresses: Vec<_> = (0..20)
            .map(|n| SocketAddr::from(([1, 0, 0, n], 1)))
            .collect();
        addresses.extend((0..20).map(|n| SocketAddr::from(([0, 0, 0, 0, 0, 0, 1, n], 1))));
        let tried = RefCell::new(Vec::new());
        let connect = |address: SocketAddr| {
            tried.borrow_mut().push(address);
            std::future::ready(Err::<(), _>(ErrorKind::ConnectionRefused.into()))
        };
        let error = connect_any(addresses, ATTEMPT_DELAY, connect)
            .await
            .expect_err("all refuse");
        assert_eq!(tried.borrow().len(), MAX_ADDRESSES);
        let six = tried
            .borrow()
            .iter()
            .filter(|address| address.is_ipv6())
            .count();
        assert_eq!(six, MAX_ADDRESSES / 2);
        assert!(
            error
                .to_string()
                .contains("24 more addresses were not tried"),
            "{error}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_losers_are_dropped_when_one_wins() {
        struct OnDrop(Rc<RefCell<u32>>);
        impl Drop for OnDrop {
            fn drop(&mut self) {
                *self.0.borrow_mut() += 1;
            }
        }
        let dropped = Rc::new(RefCell::new(0));
        let connect = |address: SocketAddr| {
            let guard = OnDrop(dropped.clone());
            async move {
                let _guard = guard;
                sleep(if address.is_ipv6() { 100_000 * MS } else { MS }).await;
                Ok(())
            }
        };
        let addresses = ["[::1]:1", "1.0.0.1:1"].map(address).to_vec();
        connect_any(addresses, ATTEMPT_DELAY, connect)
            .await
            .expect("a winner");
        assert_eq!(*dropped.borrow(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_delay_all_start_together() {
        let started = RefCell::new(0);
        let connect = |_| {
            *started.borrow_mut() += 1;
            std::future::pending::<io::Result<()>>()
        };
        let addresses = ["[::1]:1", "1.0.0.1:1", "1.0.0.2:1"].map(address).to_vec();
        let race = connect_any(addresses, Duration::ZERO, connect);
        let outcome = tokio::time::timeout(10 * MS, race).await;
        assert!(outcome.is_err());
        assert_eq!(*started.borrow(), 3);
    }

    #[test]
    fn the_race_can_move_between_threads() {
        fn is_send<T: Send>(_: &T) {}
        is_send(&connect_any(Vec::new(), ATTEMPT_DELAY, |_| {
            std::future::ready(Ok(()))
        }));
    }
}
