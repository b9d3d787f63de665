//! Who may join a group.

use std::future::Future;
use std::sync::Arc;

use super::BoxFuture;
use crate::error::RequestError;
use crate::group::GroupName;
use crate::session::Session;

/// Decides at once whether a peer may join a group by itself, with the `join` of PROTOCOL section 3. A decision that
/// has to wait for something is one of [`ServerBuilder::authorize_join`](crate::ServerBuilder::authorize_join).
pub trait GroupGuard: Send + Sync + 'static {
    /// Whether the session may join. Must not block.
    fn may_join(&self, session: &Session, group: &GroupName) -> bool;
}

impl<F> GroupGuard for F
where
    F: Fn(&Session, &GroupName) -> bool + Send + Sync + 'static,
{
    fn may_join(&self, session: &Session, group: &GroupName) -> bool {
        self(session, group)
    }
}

type AuthorizeJoin =
    dyn Fn(Session, GroupName) -> BoxFuture<'static, Result<(), RequestError>> + Send + Sync;

/// Who decides about joins.
#[derive(Clone)]
pub(crate) enum Guard {
    AtOnce(Arc<dyn GroupGuard>),
    Later(Arc<AuthorizeJoin>),
}

impl Guard {
    pub(crate) fn later<F, R>(authorize: F) -> Self
    where
        F: Fn(Session, GroupName) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), RequestError>> + Send + 'static,
    {
        Guard::Later(Arc::new(move |session, group| {
            Box::pin(authorize(session, group))
        }))
    }
}
