//! What a pool has to know about its items.

use std::future::Future;

use crate::error::PoolError;
use crate::handler::BoxFuture;

/// Makes, checks and closes the items of a [`Pool`](super::Pool).
///
/// ```
/// use network_system::pool::{Manage, Pool, PoolError};
///
/// /// Buffers, which are never broken and need no closing.
/// struct Buffers;
///
/// impl Manage for Buffers {
///     type Item = Vec<u8>;
///
///     async fn create(&self) -> Result<Vec<u8>, PoolError> {
///         Ok(Vec::with_capacity(64 * 1024))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = Pool::builder(Buffers).maximum(2).build()?;
/// let mut buffer = pool.acquire().await?;
/// buffer.clear();
/// buffer.extend_from_slice(b"hello");
/// # Ok(())
/// # }
/// ```
///
/// A panic in any of these costs its item and nothing else.
pub trait Manage: Send + Sync + 'static {
    /// What is kept.
    type Item: Send + 'static;

    /// Makes an item. Several can be made at once.
    ///
    /// It is dropped when it takes longer than [`PoolBuilder::create_timeout`](super::PoolBuilder::create_timeout),
    /// and when the pool closes meanwhile.
    ///
    /// # Errors
    /// Why there is none, such as a [`ConnectError`](crate::ConnectError), or [`PoolError::failed`].
    fn create(&self) -> impl Future<Output = Result<Self::Item, PoolError>> + Send;

    /// Whether it is known already that the item is of no use any more. Asked whenever an item is lent or given
    /// back, so it must be cheap and must not block. `false` unless told otherwise.
    fn is_broken(&self, item: &Self::Item) -> bool {
        let _ = item;
        false
    }

    /// Ends when the item is broken, so that the pool notices while it is idle: the pool then closes it, and makes
    /// another if it has too few. `None`, the default: there is nothing to watch. It costs one task for each item.
    fn watch(&self, item: &Self::Item) -> Option<BoxFuture<'static, ()>> {
        let _ = item;
        None
    }

    /// When the item is of no use at the moment and may be again by itself: what waits for that, and says whether it
    /// is. Meanwhile it is not lent and counts as being checked; then it is checked, or closed as broken. Asked whenever
    /// an item is lent or given back, before [`is_broken`](Self::is_broken). `None` unless told otherwise.
    ///
    /// The future is dropped when the pool closes.
    fn recover(&self, item: &Self::Item) -> Option<BoxFuture<'static, bool>> {
        let _ = item;
        None
    }

    /// Whether the item works: when the builder says that it is to be asked. `true` unless told otherwise.
    ///
    /// When it is dropped before it is ready, the item is closed.
    fn check(&self, item: &mut Self::Item) -> impl Future<Output = bool> + Send {
        let _ = item;
        std::future::ready(true)
    }

    /// Closes an item. It is dropped at the deadline of [`Pool::close`](super::Pool::close). The default drops the
    /// item.
    fn close(&self, item: Self::Item) -> impl Future<Output = ()> + Send {
        drop(item);
        std::future::ready(())
    }
}
