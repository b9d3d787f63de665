//! The client: one session at a time, made again when it is lost.
//!
//! - [`builder`]: configuration, checked once.
//! - [`supervise`]: the task that connects, reconnects with [`backoff`], and stops.
//! - [`aim`]: which endpoint is next, and what is reported of each.
//! - [`offline`]: the way of a message to the session, and the queue while there is none.
//! - [`stream`]: messages as a stream instead of a handler.
//! - [`resilient`]: connecting and asking through a circuit breaker, and asking again.
//! - [`resolve`]: names to addresses.
//! - [`token`]: what is shown to servers, and renewed.

mod aim;
pub(crate) mod backoff;
mod builder;
mod inner;
mod offline;
mod resilient;
mod resolve;
mod state;
mod stream;
mod supervise;
mod token;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

pub use backoff::ReconnectPolicy;
pub use builder::ClientBuilder;
pub use resolve::{Resolver, SystemResolver};
pub use state::{ClientState, ClientStats, ClientStopReport};
pub use stream::MessageStream;

use self::inner::Inner;
use self::offline::Offer;
use crate::error::{CloseReason, ConnectError, ErrorCode, RequestError, SendError};
use crate::group::GroupName;
use crate::message::{Message, Outgoing};
use crate::session::shared::lock;
use crate::session::{Session, State, current};

type OnStateChange = dyn Fn(ClientState, ClientState) + Send + Sync;

/// A client: one session with a server, which is made again when its connection is lost.
///
/// ```
/// use network_system::{Client, Server, Session, Message};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder()
/// #     .listen("tcp://127.0.0.1:0")
/// #     .on_message(|session: Session, message: Message| async move {
/// #         let _ = session.send(message).await;
/// #     })
/// #     .build()?;
/// # server.start().await?;
/// # let url = server.urls().remove(0);
/// let client = Client::connect_to(url).await?;
/// let mut messages = client.messages().expect("there is no message handler");
/// client.send("hello").await?;
/// let echo = messages.next().await.expect("the client is connected");
/// assert_eq!(echo.payload(), b"hello");
/// client.stop().await;
/// # server.stop().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Handles
///
/// A client is a handle: cheap to clone, all clones are the same client. Dropping the last one, a
/// [`MessageStream`] included, stops the client in order, as [`stop`](Self::stop) does. A clone inside one
/// of the client's own handlers counts too: such a client runs until it is stopped.
///
/// # The connection
///
/// The first connection is made by [`connect`](Self::connect), which tries each endpoint once and
/// reports failure. A connection that is lost later is made again under the [`ReconnectPolicy`]: after a
/// broken link, a close by the server, or silence. It is not made again
///
/// - after [`stop`](Self::stop), and after the application has ended the client's session with
///   [`Session::disconnect`] ([`Session::abort`] only drops the connection);
/// - after an error that will not go away by itself: `authentication_failed`, `access_denied`,
///   `unsupported_version`, `not_supported`, `invalid_configuration`, `tls_handshake_failed`. With a
///   [`token_source`](ClientBuilder::token_source), a session that ends with `authentication_failed` is made again
///   with another token;
/// - when the policy's attempts or time are used up.
///
/// A connection counts as a success, and the back-off starts anew, once it has lasted as long as the
/// delay before the next attempt could have been; a server that accepts and soon closes is asked less
/// and less often. A server's `goaway` is obeyed.
///
/// # Messages and lost connections
///
/// What is sent while a connection is made again is queued ([`ClientBuilder::offline_queue`]) and goes
/// out in order, before anything that is sent through the client afterwards. Handlers have the session
/// itself: what they send on it does not wait behind the queue. Messages that were handed to a
/// connection before it was found to be lost may or may not have arrived, and are not sent again.
/// Requests in flight fail with the reason of the close. Groups joined with [`join`](Self::join) are
/// joined again.
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

/// What the user's handles share. The client's own task has no part in it.
struct Handle {
    inner: Arc<Inner>,
}

impl Client {
    /// Begins the configuration of a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// Makes a client with the defaults and connects it.
    ///
    /// Dropping the future ends the attempt.
    ///
    /// # Errors
    /// As [`ClientBuilder::build`] and [`connect`](Self::connect).
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn connect_to(url: impl AsRef<str>) -> Result<Client, ConnectError> {
        let client = Client::builder().endpoint(url).build()?;
        client.connect().await?;
        Ok(client)
    }

    fn new(inner: Inner) -> Self {
        Client {
            handle: Arc::new(Handle {
                inner: Arc::new(inner),
            }),
        }
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.handle.inner
    }

    /// Connects, on the current tokio runtime, within [`Timeouts::connect`](crate::Timeouts).
    ///
    /// It tries the endpoints in the order of their [`Strategy`](crate::Strategy), each with its share of the
    /// time that is left and with every address that its name has, until one has answered hello. It does not try twice: when this fails,
    /// nothing is left running, and the client can be told to connect again.
    ///
    /// A client that is connected stays so; one that is connecting or reconnecting already is waited
    /// for, at most as long. Dropping the future ends the attempt that it began.
    ///
    /// # Errors
    /// The failure of the last endpoint, such as `connection_refused`, `connection_timeout` or
    /// `authentication_failed`; `rate_limited` when the [`AttemptBudget`](crate::AttemptBudget) allowed no
    /// attempt within half of the time; `shutting_down` when the client was stopped meanwhile; `circuit_open`, without an
    /// attempt, when a [circuit breaker](ClientBuilder::circuit_breaker) refuses it.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn connect(&self) -> Result<(), ConnectError> {
        let inner = self.inner();
        let (reply, answer) = oneshot::channel();
        if supervise::start(inner, reply) {
            return answer.await.unwrap_or_else(|_| {
                Err(ConnectError::new(
                    ErrorCode::ConnectionClosed,
                    "the client's task has ended",
                ))
            });
        }
        let mut state = inner.state.subscribe();
        let settled = state.wait_for(|state| *state == ClientState::Connected || state.is_ended());
        let within = inner.hub.timeouts.connect;
        match timeout_at(after(within), settled).await {
            Ok(Ok(state)) if *state == ClientState::Connected => Ok(()),
            Ok(Ok(state)) if *state == ClientState::Failed => Err(match self.close_reason() {
                Some(reason) => {
                    let code = reason.code().unwrap_or(ErrorCode::ConnectionFailed);
                    ConnectError::new(code, reason.text().to_owned())
                }
                None => ConnectError::new(ErrorCode::ConnectionFailed, "the client gave up"),
            }),
            Ok(_) => Err(ConnectError::new(
                ErrorCode::ShuttingDown,
                "the client was stopped",
            )),
            Err(_) => Err(ConnectError::new(
                ErrorCode::ConnectionTimeout,
                format!("not connected within {within:?}"),
            )),
        }
    }

    /// Stops the client in order, within [`Timeouts::drain`](crate::Timeouts). See
    /// [`stop_within`](Self::stop_within).
    pub async fn stop(&self) -> ClientStopReport {
        self.stop_within(self.inner().hub.timeouts.drain).await
    }

    /// Stops the client in order: handlers that are running finish, what was sent leaves, the server is
    /// told, and the connection closes. What is left at the deadline is cut off. A client that is not
    /// connected at the moment stops at once; what it has queued is reported.
    ///
    /// When this returns, the client's tasks have ended. In a handler of the client it returns when the
    /// connection has closed. Dropping the future does not take the stop back. A second call can only
    /// shorten the deadline. A client that does not run returns the report of its last stop at once.
    pub async fn stop_within(&self, deadline: Duration) -> ClientStopReport {
        let inner = self.inner();
        let inside = current::is_inside_hub(&inner.hub);
        inner.request_stop(deadline, inside);
        if !inside {
            return self.wait_for_stop().await;
        }
        for session in inner.hub.sessions() {
            session.closed().await;
        }
        *lock(&inner.report)
    }

    /// Waits until the client has stopped or failed; returns at once when it does not run.
    ///
    /// Dropping the future has no effect.
    pub async fn wait_for_stop(&self) -> ClientStopReport {
        let mut state = self.inner().state.subscribe();
        // The sender lives as long as the client does.
        let _ = state.wait_for(|state| state.is_ended()).await;
        *lock(&self.inner().report)
    }

    // Sending

    /// Sends a message, as [`Session::send`] does; while the connection is made again, queues it.
    ///
    /// Messages sent one after the other by one task arrive in that order. Dropping the future before
    /// it is ready sends nothing.
    ///
    /// # Errors
    /// `connection_closed` before the first connection and after the last, `shutting_down` while the
    /// client stops, `message_too_large`, `not_supported` when the codec cannot carry the message. The
    /// error gives the message back.
    pub async fn send<M: Outgoing>(&self, message: M) -> Result<(), SendError> {
        self.send_by(message, None).await
    }

    /// Sends a message if that is possible without waiting; while the connection is made again, queues
    /// it.
    ///
    /// # Errors
    /// As [`send`](Self::send), and `queue_full` when the policy is to wait and there is no room.
    pub fn try_send<M: Outgoing>(&self, message: M) -> Result<(), SendError> {
        let inner = self.inner();
        let message = match inner.offline.direct() {
            None => message.into_message(),
            Some(session) => match session.try_send(message) {
                Err(error) if has_gone(&error) => inner.take_back(&session, error),
                result => return result,
            },
        };
        let mut message = Some(inner.check(message)?);
        loop {
            match inner.offline.offer(&mut message) {
                Offer::Taken { dropped } => return inner.taken(dropped),
                Offer::Direct(session) => {
                    match session.try_send(message.take().unwrap_or_default()) {
                        Err(error) if has_gone(&error) => {
                            message = Some(inner.take_back(&session, error));
                        }
                        result => return result,
                    }
                }
                Offer::Full => {
                    let text = "the queue for the time without a connection is full";
                    let message = message.take().unwrap_or_default();
                    return Err(inner.unsent(ErrorCode::QueueFull, text, message));
                }
                Offer::Closed(closed) => return Err(inner.refuse(closed, message)),
            }
        }
    }

    /// Sends a message, waiting at most `timeout` for room.
    ///
    /// Dropping the future before it is ready sends nothing.
    ///
    /// # Errors
    /// As [`send`](Self::send), and `queue_full` when there was no room in that time.
    pub async fn send_timeout<M: Outgoing>(
        &self,
        message: M,
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.send_by(message, Some(after(timeout))).await
    }

    async fn send_by<M: Outgoing>(
        &self,
        message: M,
        deadline: Option<Instant>,
    ) -> Result<(), SendError> {
        let inner = self.inner();
        let message = match inner.offline.direct() {
            None => message.into_message(),
            Some(session) => match send_on(&session, message, deadline).await {
                Err(error) if has_gone(&error) => inner.take_back(&session, error),
                result => return result,
            },
        };
        let mut message = Some(inner.check(message)?);
        loop {
            let offered = inner
                .offline
                .wait_for(|| match inner.offline.offer(&mut message) {
                    Offer::Full => None,
                    other => Some(other),
                });
            let offered = match deadline {
                None => offered.await,
                Some(at) => match timeout_at(at, offered).await {
                    Ok(offered) => offered,
                    Err(_) => {
                        let text = "no room in the queue for the time without a connection";
                        let message = message.take().unwrap_or_default();
                        return Err(inner.unsent(ErrorCode::QueueFull, text, message));
                    }
                },
            };
            match offered {
                Offer::Taken { dropped } => return inner.taken(dropped),
                Offer::Closed(closed) => return Err(inner.refuse(closed, message)),
                Offer::Direct(session) => {
                    let lent = message.take().unwrap_or_default();
                    match send_on(&session, lent, deadline).await {
                        Err(error) if has_gone(&error) => {
                            message = Some(inner.take_back(&session, error));
                        }
                        result => return result,
                    }
                }
                // It is waited for above.
                Offer::Full => {}
            }
        }
    }

    /// Sends a request and waits for its answer; while the connection is made again, waits for that.
    ///
    /// Both have to come within `timeout`. A request goes out after what is queued. A request in flight
    /// when the connection is lost fails with the reason, as it may have been carried out. Dropping the
    /// future gives up waiting. It is sent once at most; see [`request_idempotent`](Self::request_idempotent).
    ///
    /// # Errors
    /// `request_timeout`, the server's code when it failed the request, the reason of the close;
    /// `connection_closed` or `shutting_down` as soon as no connection will be made any more; `circuit_open` when a
    /// [circuit breaker](ClientBuilder::circuit_breaker) refuses it.
    pub async fn request<M: Outgoing>(
        &self,
        message: M,
        timeout: Duration,
    ) -> Result<Message, RequestError> {
        let inner = self.inner();
        if inner.guard.has_breaker() {
            return self.request_guarded(message, timeout).await;
        }
        if let Some(session) = inner.offline.direct().filter(Session::is_connected) {
            return inner
                .target
                .measure(session.request(message, timeout))
                .await;
        }
        let message = message.into_message();
        let deadline = after(timeout);
        match timeout_at(deadline, inner.offline.connected()).await {
            Ok(Ok(session)) => {
                let left = deadline.duration_since(Instant::now());
                inner.target.measure(session.request(message, left)).await
            }
            Ok(Err((code, text))) => Err(RequestError::with_code(code, text)),
            Err(_) => {
                let text = format!("no connection within {timeout:?}");
                Err(RequestError::with_code(ErrorCode::RequestTimeout, text))
            }
        }
    }

    /// The stream of messages, the alternative to a message handler.
    ///
    /// `None` when the client has a message handler or its stream is in use. While there is no stream,
    /// the first 64 KiB of messages wait for one; what comes beyond that is dropped and counted, so that
    /// a client that only sends is not held up.
    ///
    /// A reliable session drops nothing: beyond 64 KiB messages wait in it, not acknowledged, until there is a stream. When
    /// they fill its window, the server sends nothing more, answers to requests included. A message is acknowledged as soon as it waits here. One that must not be lost with the process needs a
    /// [handler](ClientBuilder::on_message), which is awaited first.
    pub fn messages(&self) -> Option<MessageStream> {
        let inbox = self.inner().inbox.as_ref()?;
        MessageStream::take(self.clone(), Arc::clone(inbox))
    }

    // Groups

    /// Asks the server to put this client into a group, and waits for its answer, at most
    /// [`Timeouts::request`](crate::Timeouts).
    ///
    /// After a lost connection the group is joined again, before queued messages leave. Dropping the
    /// future gives up waiting; the server may have done it.
    ///
    /// # Errors
    /// The server's code when it refuses (`access_denied` when it does not allow it at all), otherwise
    /// as [`request`](Self::request).
    pub async fn join(&self, group: &GroupName) -> Result<(), RequestError> {
        // Remembered before the answer: the connection may be lost right after it.
        let is_new = lock(&self.inner().groups).insert(group.clone());
        let result = self.change_group(true, group).await;
        if result.is_err() && is_new {
            lock(&self.inner().groups).remove(group);
        }
        result
    }

    /// Asks the server to take this client out of a group, and waits for its answer, at most
    /// [`Timeouts::request`](crate::Timeouts). Leaving a group that one is not in succeeds.
    ///
    /// Dropping the future gives up waiting; the server may have done it.
    ///
    /// # Errors
    /// As [`join`](Self::join).
    pub async fn leave(&self, group: &GroupName) -> Result<(), RequestError> {
        // Whatever the answer, the group is not wanted back.
        lock(&self.inner().groups).remove(group);
        self.change_group(false, group).await
    }

    async fn change_group(&self, join: bool, group: &GroupName) -> Result<(), RequestError> {
        let timeout = self.inner().hub.timeouts.request;
        let exchange = async {
            let session = match self.inner().offline.connected().await {
                Ok(session) => session,
                Err((code, text)) => return Err(RequestError::with_code(code, text)),
            };
            let answer = session.change_group(join, group)?;
            answer.await.unwrap_or_else(|_| {
                let text = "the session ended before the answer came";
                Err(RequestError::with_code(ErrorCode::ConnectionClosed, text))
            })
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or_else(|_| {
                let text = format!("no answer within {timeout:?}");
                Err(RequestError::with_code(ErrorCode::RequestTimeout, text))
            })
    }

    // State

    /// The session, while there is one. Another connection is another session, unless the session is reliable: that
    /// one stays, [suspended](State::Suspended) meanwhile, when its connection is lost.
    pub fn session(&self) -> Option<Session> {
        let is_there = |it: &Session| matches!(it.state(), State::Connected | State::Suspended);
        self.inner().offline.session().filter(is_there)
    }

    /// The session, while it has no link and waits for another one.
    pub(crate) fn suspended_session(&self) -> Option<Session> {
        let session = self.inner().offline.session();
        session.filter(|session| session.state() == crate::session::State::Suspended)
    }

    /// Whether messages flow.
    pub fn is_connected(&self) -> bool {
        self.session().is_some_and(|it| it.is_connected())
    }

    /// Where the client stands.
    pub fn state(&self) -> ClientState {
        *self.inner().state.borrow()
    }

    /// Waits until the state is another one than `from` and returns it.
    ///
    /// States that pass quickly can be missed; [`ClientBuilder::on_state_change`] sees all. Dropping the
    /// future has no effect.
    pub async fn state_changed(&self, from: ClientState) -> ClientState {
        let mut state = self.inner().state.subscribe();
        match state.wait_for(|state| *state != from).await {
            Ok(state) => *state,
            // The sender lives as long as the client does.
            Err(_) => from,
        }
    }

    fn has_ended(&self) -> bool {
        matches!(self.state(), ClientState::Stopped | ClientState::Failed)
    }

    /// The id that the client gives itself, when it was configured with one.
    pub fn client_id(&self) -> Option<&str> {
        self.inner().client_id.as_deref()
    }

    /// Why the last connection ended or the last attempt failed; `None` before that.
    pub fn close_reason(&self) -> Option<CloseReason> {
        lock(&self.inner().reason).clone()
    }

    /// After the client has stopped or failed: the messages that were still queued, in order. They are
    /// given once, and forgotten at the next [`connect`](Self::connect). Empty while the client runs.
    pub fn take_unsent(&self) -> Vec<Message> {
        match self.state().is_ended() {
            true => self.inner().offline.take_queue(),
            false => Vec::new(),
        }
    }

    // Statistics

    /// Counters at this moment.
    pub fn stats(&self) -> ClientStats {
        let mut stats = self.inner().totals();
        let baseline = lock(&self.inner().baseline).clone();
        stats.connections -= baseline.connections;
        stats.failed_attempts -= baseline.failed_attempts;
        stats.messages_sent -= baseline.messages_sent;
        stats.messages_received -= baseline.messages_received;
        stats.bytes_sent -= baseline.bytes_sent;
        stats.bytes_received -= baseline.bytes_received;
        stats.errors -= baseline.errors;
        stats.dropped -= baseline.dropped;
        stats.lost -= baseline.lost;
        stats.unknown_responses -= baseline.unknown_responses;
        stats
    }

    /// Counts from zero again.
    pub fn reset_stats(&self) {
        *lock(&self.inner().baseline) = self.inner().totals();
    }
}

/// Sends on the session, by the deadline if there is one.
async fn send_on<M: Outgoing>(
    session: &Session,
    message: M,
    deadline: Option<Instant>,
) -> Result<(), SendError> {
    match deadline {
        None => session.send(message).await,
        Some(at) => {
            session
                .send_timeout(message, at.duration_since(Instant::now()))
                .await
        }
    }
}

/// Whether the session was closing when the message came, so that another one may take it.
fn has_gone(error: &SendError) -> bool {
    error.code() == ErrorCode::ConnectionClosed
}

/// The moment `duration` from now; for a duration beyond every clock, a year from now.
pub(crate) fn after(duration: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(duration)
        .unwrap_or(now + Duration::from_secs(365 * 24 * 3600))
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("client_id", &self.client_id())
            .field("state", &self.state())
            .field("session", &self.session())
            .finish()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inner
            .request_stop(self.inner.hub.timeouts.drain, false);
    }
}
