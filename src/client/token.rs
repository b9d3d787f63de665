//! What a client authenticates with: a token that is set, or a source that is asked.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use super::Inner;
use crate::error::{ConfigError, ConnectError, ErrorCode, RequestError};
use crate::events::{self, shown};
use crate::handler::BoxFuture;
use crate::session::Session;
use crate::session::shared::lock;

/// The longest token, in bytes. With it, hello fits into a CONTROL frame of 64 KiB however many characters JSON has
/// to escape.
const TOKEN_MAX: usize = 8 * 1024;

/// How long before its end an identity is made to last longer: a fifth of its time, and at most this.
const MARGIN_MAX: Duration = Duration::from_secs(300);

/// The shortest time to the next refresh after one that failed; a tenth of it after one that did not.
const PAUSE_MIN: Duration = Duration::from_secs(1);

pub(super) type Source = dyn Fn() -> BoxFuture<'static, Result<String, RequestError>> + Send + Sync;

/// The token of a client.
#[derive(Default)]
pub(super) struct Token {
    set: Mutex<Option<Arc<str>>>,
    source: Option<Box<Source>>,
}

impl Token {
    pub(super) fn new(set: Option<String>, source: Option<Box<Source>>) -> Self {
        Token {
            set: Mutex::new(set.map(Into::into)),
            source,
        }
    }

    /// Uses this one from the next connection on.
    pub(super) fn set(&self, token: &str) {
        *lock(&self.set) = Some(token.into());
    }

    /// Uses this one from the next connection on, unless it is taken back.
    fn try_out(&self, token: &str) -> Trial {
        let new: Arc<str> = token.into();
        let before = lock(&self.set).replace(Arc::clone(&new));
        Trial { new, before }
    }

    /// Uses again what was used before the trial, unless another one was set meanwhile.
    fn take_back(&self, trial: Trial) {
        let mut set = lock(&self.set);
        if set.as_ref().is_some_and(|set| Arc::ptr_eq(set, &trial.new)) {
            *set = trial.before;
        }
    }

    /// Whether the client authenticates with anything.
    pub(super) fn is_any(&self) -> bool {
        self.has_source() || lock(&self.set).is_some()
    }

    /// Whether a new connection may have another token than the last one.
    pub(super) fn has_source(&self) -> bool {
        self.source.is_some()
    }

    /// The token of a new connection.
    pub(super) async fn for_connection(&self) -> Result<Option<String>, ConnectError> {
        let Some(source) = &self.source else {
            return Ok(lock(&self.set).as_deref().map(str::to_owned));
        };
        match ask(&**source).await {
            Ok(token) => Ok(Some(token)),
            Err(error) => {
                let text = "there is no token to authenticate with";
                Err(ConnectError::with_source(error.code(), text, error))
            }
        }
    }

    /// Keeps the identity of an open session from expiring, when there is a source. Ends with the session only.
    pub(super) async fn keep_fresh(
        &self,
        session: &Session,
        within: Duration,
    ) -> std::convert::Infallible {
        let Some(source) = &self.source else {
            return std::future::pending().await;
        };
        let mut has_failed = false;
        loop {
            // Waits for the moment, which moves when the end of the identity does.
            loop {
                let changed = session.shared.extra().state_changed.notified();
                let mut changed = std::pin::pin!(changed);
                changed.as_mut().enable();
                let due = session.expires_at().map(|at| due(at, has_failed));
                match due {
                    None => changed.await,
                    Some(due) => tokio::select! {
                        () = sleep_until(due) => break,
                        () = changed => {}
                    },
                }
            }
            let refreshed = match ask(&**source).await {
                Ok(token) => exchange(session, &token, within)
                    .await
                    .map_err(Failed::error),
                Err(error) => Err(error),
            };
            has_failed = refreshed.is_err();
            if let Err(error) = refreshed {
                events::refresh_failed {
                    session: session.id().as_u64(),
                    code: error.code().as_i32(),
                    error: shown(&error),
                }
                .emit();
                if error.code() == ErrorCode::NotSupported {
                    return std::future::pending().await;
                }
            }
        }
    }
}

/// A token that its server has not judged yet.
struct Trial {
    new: Arc<str>,
    before: Option<Arc<str>>,
}

/// Shows whether there is a token, not which.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("set", &lock(&self.set).is_some())
            .field("source", &self.source.is_some())
            .finish()
    }
}

/// When to refresh what expires `at`. After a failure that is several times before the end.
fn due(at: Instant, has_failed: bool) -> Instant {
    let now = Instant::now();
    let left = at.saturating_duration_since(now);
    match has_failed {
        false => now + (left - (left / 5).min(MARGIN_MAX)).max(PAUSE_MIN / 10),
        true => now + (left / 4).max(PAUSE_MIN),
    }
}

/// Why a session was not refreshed.
pub(super) enum Failed {
    /// The server has refused the token.
    Refused(RequestError),
    /// Nobody has judged it.
    Unanswered(RequestError),
}

impl Failed {
    pub(super) fn error(self) -> RequestError {
        match self {
            Failed::Refused(error) | Failed::Unanswered(error) => error,
        }
    }
}

/// Sends the server of an open session a new token, and waits for its answer.
async fn exchange(session: &Session, token: &str, within: Duration) -> Result<(), Failed> {
    let answer = session.refresh(token).map_err(Failed::Unanswered)?;
    match timeout(within, answered(session, answer)).await {
        Ok(result) => result,
        Err(_) => {
            let text = format!("no answer within {within:?}: the server may know no refresh");
            let error = RequestError::with_code(ErrorCode::NotSupported, text);
            Err(Failed::Unanswered(error))
        }
    }
}

async fn answered(
    session: &Session,
    answer: oneshot::Receiver<Result<(), RequestError>>,
) -> Result<(), Failed> {
    tokio::select! {
        biased;
        answer = answer => match answer {
            Ok(answer) => answer.map_err(Failed::Refused),
            Err(_) => {
                let text = "the connection was lost before the answer came";
                let error = RequestError::with_code(ErrorCode::ConnectionClosed, text);
                Err(Failed::Unanswered(error))
            }
        },
        reason = session.closed() => Err(Failed::Unanswered(RequestError::closed(&reason))),
    }
}

/// Asks the application for a token.
async fn ask(source: &Source) -> Result<String, RequestError> {
    let token = shielded(source).await?;
    match check(&token) {
        Ok(()) => Ok(token),
        Err(error) => Err(RequestError::with_code(error.code(), error.to_string())),
    }
}

/// A panic in the application's source must not end the client.
async fn shielded(source: &Source) -> Result<String, RequestError> {
    let panicked = || RequestError::failed("the token source panicked");
    let begun = catch_unwind(AssertUnwindSafe(source)).map_err(|_| panicked())?;
    let mut future = begun;
    poll_fn(|context| {
        let poll = || future.as_mut().poll(context);
        catch_unwind(AssertUnwindSafe(poll)).unwrap_or_else(|_| Poll::Ready(Err(panicked())))
    })
    .await
}

/// Checks that a token can be sent.
///
/// # Errors
/// `invalid_configuration` when it is too long.
pub(super) fn check(token: &str) -> Result<(), ConfigError> {
    match token.len() {
        0..=TOKEN_MAX => Ok(()),
        len => Err(ConfigError::option(
            "token",
            format_args!("{len} bytes"),
            "at most 8 KiB",
        )),
    }
}

/// A source of tokens, as the builder takes it.
pub(super) fn source<F, R>(ask: F) -> Box<Source>
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = Result<String, RequestError>> + Send + 'static,
{
    Box::new(move || Box::pin(ask()))
}

impl super::Client {
    /// Sets what the client authenticates with from its next connection on. A connection that there is stays as it
    /// is; [`refresh_token`](Self::refresh_token) concerns that too. With a
    /// [`token_source`](super::ClientBuilder::token_source) it has no effect.
    ///
    /// # Errors
    /// `invalid_configuration` when it is longer than 8 KiB.
    pub fn set_token(&self, token: impl AsRef<str>) -> Result<(), ConfigError> {
        let token = token.as_ref();
        check(token)?;
        self.inner().token.set(token);
        Ok(())
    }

    /// Authenticates the session that there is with a new token, and waits for the server's answer, at most
    /// [`Timeouts::request`](crate::Timeouts). The session goes on meanwhile, and does not change but for
    /// [`Session::expires_at`]. Later connections use the token too, unless the server has refused it. While there is
    /// no connection, the token is only kept for the next one.
    ///
    /// When the server refuses, what held before still holds. The identity must stay the same: a token of somebody
    /// else is refused. Dropping the future gives up waiting; the server may have taken the token.
    ///
    /// # Errors
    /// The server's code when it refuses, such as `authentication_failed` or `access_denied`; `rate_limited` when
    /// another refresh is under way, or was refused a moment ago; `not_supported` when no answer comes or the server
    /// does not authenticate; `connection_closed` when the session ends before; `invalid_configuration` when the token
    /// is longer than 8 KiB.
    pub async fn refresh_token(&self, token: impl Into<String>) -> Result<(), RequestError> {
        let token = token.into();
        if let Err(error) = check(&token) {
            return Err(RequestError::with_code(error.code(), error.to_string()));
        }
        self.inner().refresh_token(&token).await
    }
}

impl Inner {
    async fn refresh_token(&self, token: &str) -> Result<(), RequestError> {
        let Some(session) = self.offline.session().filter(Session::is_connected) else {
            self.token.set(token);
            return Ok(());
        };
        // A connection that is made again meanwhile uses the new one.
        let trial = self.token.try_out(token);
        let result = exchange(&session, token, self.hub.timeouts.request).await;
        if matches!(result, Err(Failed::Refused(_))) {
            self.token.take_back(trial);
        }
        result.map_err(Failed::error)
    }
}
