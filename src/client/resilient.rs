//! Connecting and asking through a circuit breaker, and asking again.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::{Client, after};
use crate::error::{ClosedBy, ConnectError, ErrorCode, RequestError};
use crate::message::{Message, Outgoing};
use crate::resilience::{CircuitBreaker, CircuitOpen, CircuitState, Coded, RetryPolicy, Verdict};
use crate::session::Session;

/// What stands between a client and the network, if anything does.
#[derive(Debug, Default)]
pub(super) struct Guard {
    breaker: Option<CircuitBreaker>,
    /// The last session whose end has counted as a failure. Their ids begin with 1.
    lost: AtomicU64,
}

impl Guard {
    pub(super) fn new(breaker: Option<CircuitBreaker>) -> Self {
        Guard {
            breaker,
            lost: AtomicU64::new(0),
        }
    }

    pub(super) fn has_breaker(&self) -> bool {
        self.breaker.is_some()
    }

    /// Connects, unless the breaker is open.
    pub(super) async fn connect<T>(
        &self,
        attempt: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        let Some(breaker) = &self.breaker else {
            return attempt.await;
        };
        let permit = breaker.try_acquire()?;
        let result = attempt.await;
        permit.record(match &result {
            Ok(_) => Verdict::Success,
            Err(error) => breaker.judge(error),
        });
        result
    }

    /// Connects as soon as the breaker lets it. Clients that have waited for the breaker to close do not all
    /// come at once: each waits for its `spread` in addition.
    pub(super) async fn reconnect<T>(
        &self,
        spread: Duration,
        attempt: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        let Some(breaker) = &self.breaker else {
            return attempt.await;
        };
        let permit = loop {
            if let Ok(permit) = breaker.try_acquire() {
                break permit;
            }
            breaker.ready().await;
            if breaker.state() == CircuitState::Closed {
                sleep(spread).await;
            }
        };
        let result = attempt.await;
        permit.record(match &result {
            Ok(_) => Verdict::Success,
            Err(error) => breaker.judge(error),
        });
        result
    }

    /// What the end of a request says about the server.
    fn verdict(
        &self,
        breaker: &CircuitBreaker,
        session: &Session,
        result: &Result<Message, RequestError>,
    ) -> Verdict {
        let Err(error) = result else {
            return Verdict::Success;
        };
        let verdict = breaker.judge(error);
        let reason = session.close_reason();
        if verdict != Verdict::Failure || !(error.is_connection_lost() || reason.is_some()) {
            return verdict;
        }
        let is_wanted = reason
            .is_some_and(|reason| reason.is_orderly() && reason.closed_by() == ClosedBy::Local);
        // A connection that breaks is one failure, however many requests were under way.
        let id = session.id().as_u64();
        match is_wanted || self.lost.swap(id, Ordering::Relaxed) == id {
            true => Verdict::Neutral,
            false => Verdict::Failure,
        }
    }
}

/// What to do about a breaker that refuses.
enum WhenOpen {
    Fail,
    /// Wait for it, unless that would take too long.
    Wait,
}

/// Why an attempt has no answer.
enum Failed {
    /// There was none: no connection, or no leave to make it.
    ForGood(RequestError),
    Asked(RequestError),
}

impl From<CircuitOpen> for Failed {
    fn from(open: CircuitOpen) -> Self {
        Failed::ForGood(open.into())
    }
}

impl Client {
    /// Sends a request that may be carried out more than once, and waits for its answer; if need be, sends it again.
    ///
    /// Which failures are tried again, and how often, says the [`RetryPolicy`](crate::resilience::RetryPolicy) of
    /// [`ClientBuilder::retry`](super::ClientBuilder::retry). A request that is in flight when the connection is lost is
    /// one of them: it is sent again on the next connection. All attempts, the pauses between them and waiting for
    /// connections have to fit into `timeout`; no retry begins that would not. Dropping the future gives up waiting,
    /// and there is no further attempt.
    ///
    /// An answer of the server's is an answer: `request_failed` is not tried again, unless the policy says so. An
    /// open [circuit breaker](super::ClientBuilder::circuit_breaker) refuses the first attempt at once; a retry waits for
    /// it, unless it stays open for longer than there is time.
    ///
    /// ```
    /// # use network_system::{Client, Message, Server};
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = Server::builder()
    /// #     .listen("tcp://127.0.0.1:0")
    /// #     .on_request(|_, _| async { Ok(Message::text("21 °C")) })
    /// #     .build()?;
    /// # server.start().await?;
    /// # let client = Client::connect_to(server.urls().remove(0)).await?;
    /// let answer = client
    ///     .request_idempotent("temperature?", Duration::from_secs(10))
    ///     .await?;
    /// assert_eq!(answer.as_text(), Some("21 °C"));
    /// # client.stop().await;
    /// # server.stop().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// That of the last attempt, as [`request`](Self::request).
    pub async fn request_idempotent<M: Outgoing>(
        &self,
        message: M,
        timeout: Duration,
    ) -> Result<Message, RequestError> {
        let message = message.into_message();
        let deadline = after(timeout);
        let mut retries = self.inner().retry.begin(deadline);
        loop {
            // The first attempt is refused at once, as every other call. One that was let through before waits.
            let when_open = match retries.attempts() > 1 || retries.is_tried(ErrorCode::CircuitOpen)
            {
                true => WhenOpen::Wait,
                false => WhenOpen::Fail,
            };
            let within = || retries.within();
            let attempt = self.attempt(message.clone(), deadline, when_open, within);
            let error = match attempt.await {
                Ok(answer) => return Ok(answer),
                Err(Failed::ForGood(error)) => return Err(error.after(retries.attempts())),
                Err(Failed::Asked(error)) => error,
            };
            let attempts = retries.attempts();
            match retries.pause(error.error_code(), None) {
                Some(pause) => sleep(pause).await,
                None => return Err(error.after(attempts)),
            }
        }
    }

    /// How the client tries requests again.
    pub(crate) fn retry_policy(&self) -> &RetryPolicy {
        &self.inner().retry
    }

    /// Sends a request once, unless the breaker is open.
    pub(super) async fn request_guarded<M: Outgoing>(
        &self,
        message: M,
        timeout: Duration,
    ) -> Result<Message, RequestError> {
        let deadline = after(timeout);
        let left = || deadline.saturating_duration_since(Instant::now());
        let message = message.into_message();
        match self.attempt(message, deadline, WhenOpen::Fail, left).await {
            Ok(answer) => Ok(answer),
            Err(Failed::ForGood(error) | Failed::Asked(error)) => Err(error),
        }
    }

    /// Waits for a connection until `deadline`, and then `within` for an answer.
    async fn attempt(
        &self,
        message: Message,
        deadline: Instant,
        when_open: WhenOpen,
        within: impl FnOnce() -> Duration,
    ) -> Result<Message, Failed> {
        let guard = &self.inner().guard;
        let Some(breaker) = &guard.breaker else {
            let session = self.session_by(deadline).await?;
            let request = session.request(message, within());
            let result = self.inner().target.measure(request).await;
            return result.map_err(Failed::Asked);
        };
        let (session, permit) = loop {
            when_open.pass(breaker, deadline).await?;
            let session = self.session_by(deadline).await?;
            // Not before there is a connection: to make it may take the very permit.
            match (breaker.try_acquire(), &when_open) {
                (Ok(permit), _) => break (session, permit),
                (Err(open), WhenOpen::Fail) => return Err(open.into()),
                (Err(_), WhenOpen::Wait) => {}
            }
        };
        let request = session.request(message, within());
        let result = self.inner().target.measure(request).await;
        permit.record(guard.verdict(breaker, &session, &result));
        result.map_err(Failed::Asked)
    }

    /// The session, once there is one.
    async fn session_by(&self, deadline: Instant) -> Result<Session, Failed> {
        match timeout_at(deadline, self.inner().offline.connected()).await {
            Ok(Ok(session)) => Ok(session),
            Ok(Err((code, text))) => Err(Failed::ForGood(RequestError::with_code(code, text))),
            Err(_) => {
                let text = "no connection in the time for the request";
                let error = RequestError::with_code(ErrorCode::RequestTimeout, text);
                Err(Failed::ForGood(error))
            }
        }
    }
}

impl WhenOpen {
    /// Returns when the breaker would let a call through.
    async fn pass(&self, breaker: &CircuitBreaker, deadline: Instant) -> Result<(), CircuitOpen> {
        loop {
            let Err(open) = breaker.check() else {
                return Ok(());
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let is_in_time = open.retry_after().is_none_or(|wait| wait < left);
            if matches!(self, WhenOpen::Fail) || !is_in_time {
                return Err(open);
            }
            if timeout_at(deadline, breaker.ready()).await.is_err() {
                return Err(open);
            }
        }
    }
}
