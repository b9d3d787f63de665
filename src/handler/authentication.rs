//! Who a peer is, and for how long.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::BoxFuture;
use crate::codec::websocket::upgrade::request::UpgradeRequest;
use crate::error::RequestError;
use crate::session::{Session, Transport};
use crate::tls::TlsInfo;

/// Why a peer says who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// To open a session.
    Open,
    /// To take a session that was suspended over another connection.
    Resume,
    /// To go on with a session that is open, before its identity expires.
    Refresh,
}

impl Purpose {
    /// The name: `open`, `resume` or `refresh`.
    pub const fn name(self) -> &'static str {
        match self {
            Purpose::Open => "open",
            Purpose::Resume => "resume",
            Purpose::Refresh => "refresh",
        }
    }
}

/// What a peer says of itself, and what is known of its connection.
///
/// Debug output shows neither the token nor what the fields of the upgrade say.
#[derive(Clone)]
#[non_exhaustive]
pub struct Credentials {
    /// The client id that the peer asks for. A refresh has the session's.
    pub client_id: Option<String>,
    /// The token. It is never logged. Whoever compares it with a secret does so in constant time.
    pub token: Option<String>,
    /// Why the peer says who it is.
    pub purpose: Purpose,
    /// What carries the connection.
    pub transport: Transport,
    /// The peer's address, when the transport has addresses.
    pub remote: Option<SocketAddr>,
    /// How the connection is secured, and the peer's certificate; `None` without TLS.
    pub tls: Option<Arc<TlsInfo>>,
    /// Who the peer is as far as that is known already: by the upgrade hook or a certificate before hello, and by the
    /// last authentication when this is a refresh.
    pub identity: Option<Arc<str>>,
    /// The request that opened a WebSocket, with its path, query and fields. `None` on other transports and in a
    /// refresh: it is not kept.
    pub upgrade: Option<Box<UpgradeRequest>>,
}

impl Credentials {
    /// The first field of the upgrade with this name, in any case, such as `Authorization`.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.upgrade.as_ref()?.header(name)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Taken apart, so that the compiler asks about each field that is added.
        let Credentials {
            client_id,
            token,
            purpose,
            transport,
            remote,
            tls,
            identity,
            upgrade,
        } = self;
        let token = token.as_ref().map(|_| format_args!("[hidden]"));
        f.debug_struct("Credentials")
            .field("client_id", client_id)
            .field("token", &token)
            .field("purpose", purpose)
            .field("transport", transport)
            .field("remote", remote)
            .field("tls", tls)
            .field("identity", identity)
            .field("upgrade", upgrade)
            .finish()
    }
}

/// A peer is let in: who it is, for how long, and what its session shall know.
///
/// ```
/// use std::time::Duration;
/// use network_system::Authentication;
///
/// let granted = Authentication::new("anna")
///     .expires_in(Duration::from_secs(3600))
///     .data("tenant", "north");
/// assert_eq!(granted.identity(), Some("anna"));
/// ```
///
/// The short forms are converted: a text is an identity without end, `Some` text the same, and `None` lets the peer
/// in without a name.
#[derive(Clone, Default)]
pub struct Authentication {
    pub(crate) identity: Option<Arc<str>>,
    pub(crate) expires: Option<Instant>,
    /// Values for the session's data.
    pub(crate) data: Vec<(String, String)>,
}

impl Authentication {
    /// Lets the peer in under a name, which [`Session::identity`] then says.
    pub fn new(identity: impl Into<Arc<str>>) -> Self {
        Authentication {
            identity: Some(identity.into()),
            ..Authentication::default()
        }
    }

    /// Lets the peer in without a name. It keeps the one that the opening of its link has shown, if that did.
    pub fn anonymous() -> Self {
        Authentication::default()
    }

    /// Says for how long that holds from now on. A time beyond every clock is none.
    pub fn expires_in(mut self, duration: Duration) -> Self {
        self.expires = Instant::now().checked_add(duration);
        self
    }

    /// Says until when that holds.
    pub fn expires_at(mut self, at: Instant) -> Self {
        self.expires = Some(at);
        self
    }

    /// Says until when that holds by the clock on the wall, as tokens do. What is left at this moment counts from
    /// now on, whatever becomes of that clock.
    pub fn expires_at_time(self, at: SystemTime) -> Self {
        let left = at.duration_since(SystemTime::now()).unwrap_or_default();
        self.expires_in(left)
    }

    /// Puts a value into the session's data ([`Session::data`]), in place of one with the same key.
    pub fn data(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.data.push((key.into(), value.into()));
        self
    }

    /// The name, if there is one.
    pub fn identity(&self) -> Option<&str> {
        self.identity.as_deref()
    }
}

/// Shows the keys of the data, not their values.
impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.data.iter().map(|(key, _)| key).collect();
        f.debug_struct("Authentication")
            .field("identity", &self.identity)
            .field("expires", &self.expires)
            .field("data", &keys)
            .finish()
    }
}

impl From<Option<String>> for Authentication {
    fn from(identity: Option<String>) -> Self {
        Authentication {
            identity: identity.map(Into::into),
            ..Authentication::default()
        }
    }
}

impl From<String> for Authentication {
    fn from(identity: String) -> Self {
        Authentication::new(identity)
    }
}

impl From<&str> for Authentication {
    fn from(identity: &str) -> Self {
        Authentication::new(identity)
    }
}

/// Decides whether a peer may open a session, resume one, or go on with one.
///
/// With an authenticator, a server refuses peers that do not begin with hello. `G` is what is granted: an
/// [`Authentication`], or something that converts to one, such as a name or none, which is the default.
pub trait Authenticator<G = Option<String>>: Send + Sync + 'static {
    /// Returns who the peer is, which [`Session::identity`] then says, or why it is refused.
    ///
    /// It runs within the first-byte timeout; dropping the future must be safe. For a refresh it runs beside the
    /// session's handlers, and at most once at a time for each session. Must not block.
    fn authenticate<'a>(
        &'a self,
        session: &'a Session,
        credentials: Credentials,
    ) -> BoxFuture<'a, Result<G, RequestError>>;
}

/// An authenticator of any kind.
pub(crate) trait Authenticate: Send + Sync {
    fn authenticate(
        self: Arc<Self>,
        session: Session,
        credentials: Credentials,
    ) -> BoxFuture<'static, Result<Authentication, RequestError>>;
}

/// An [`Authenticator`], whatever it grants.
pub(crate) struct Granting<A, G>(A, PhantomData<fn() -> G>);

impl<A, G> Granting<A, G> {
    pub(crate) fn new(authenticator: A) -> Self {
        Granting(authenticator, PhantomData)
    }
}

impl<A, G> Authenticate for Granting<A, G>
where
    A: Authenticator<G>,
    G: Into<Authentication> + 'static,
{
    fn authenticate(
        self: Arc<Self>,
        session: Session,
        credentials: Credentials,
    ) -> BoxFuture<'static, Result<Authentication, RequestError>> {
        Box::pin(async move {
            let granted = self.0.authenticate(&session, credentials).await?;
            Ok(granted.into())
        })
    }
}

/// An authenticator given as a closure.
pub(crate) struct Closure<F>(pub(crate) F);

impl<F, R, G> Authenticate for Closure<F>
where
    F: Fn(Credentials) -> R + Send + Sync,
    R: Future<Output = Result<G, RequestError>> + Send + 'static,
    G: Into<Authentication>,
{
    fn authenticate(
        self: Arc<Self>,
        _: Session,
        credentials: Credentials,
    ) -> BoxFuture<'static, Result<Authentication, RequestError>> {
        let future = (self.0)(credentials);
        Box::pin(async move { future.await.map(Into::into) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_forms_are_converted() {
        assert_eq!(Authentication::from("anna").identity(), Some("anna"));
        assert_eq!(
            Authentication::from(Some("anna".to_owned())).identity(),
            Some("anna")
        );
        assert_eq!(Authentication::from(None).identity(), None);
    }

    #[test]
    fn debug_output_shows_no_values_of_data() {
        let granted = Authentication::new("anna").data("key", "secret");
        let shown = format!("{granted:?}");
        assert!(
            shown.contains("key") && !shown.contains("secret"),
            "{shown}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn times_beyond_every_clock_and_in_the_past_do_not_panic() {
        let granted = Authentication::anonymous().expires_in(Duration::MAX);
        assert_eq!(granted.expires, None);
        let granted = granted.expires_at_time(SystemTime::UNIX_EPOCH);
        assert_eq!(granted.expires, Some(Instant::now()));
    }
}
