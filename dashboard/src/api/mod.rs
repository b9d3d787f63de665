//! What the API answers, one module for each kind of thing.

pub(crate) mod actions;
pub(crate) mod events;
pub(crate) mod groups;
pub(crate) mod history;
pub(crate) mod listeners;
pub(crate) mod session;
pub(crate) mod sessions;
pub(crate) mod status;

use std::sync::Arc;

use axum::response::Response;

use crate::answer::Refusal;
use crate::dashboard::Inner;
use crate::query::Parameters;

/// Milliseconds since 1970, now.
pub(crate) fn now_millis() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

/// Where a page of a list begins, and how long it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    pub(crate) offset: usize,
    pub(crate) limit: usize,
}

impl Page {
    pub(crate) fn of(parameters: &mut Parameters) -> Result<Page, Refusal> {
        Ok(Page {
            offset: parameters.number("offset", 0, 0, u32::MAX.into())? as usize,
            limit: parameters.number("limit", 50, 1, 1_000)? as usize,
        })
    }

    /// The page of a list, in the list's order. Only as much of the list is sorted as that takes.
    pub(crate) fn cut<T>(
        self,
        mut list: Vec<T>,
        mut order: impl FnMut(&T, &T) -> std::cmp::Ordering,
    ) -> Vec<T> {
        let end = self.offset.saturating_add(self.limit).min(list.len());
        if self.offset >= end {
            return Vec::new();
        }
        if end < list.len() {
            list.select_nth_unstable_by(end, &mut order);
            list.truncate(end);
        }
        if self.offset > 0 {
            list.select_nth_unstable_by(self.offset, &mut order);
            list.drain(..self.offset);
        }
        list.sort_unstable_by(order);
        list
    }
}

/// Computes a long list away from the threads that move messages.
pub(crate) async fn compute(
    inner: &Arc<Inner>,
    list: impl FnOnce(&Inner) -> Result<Response, Refusal> + Send + 'static,
) -> Result<Response, Refusal> {
    use axum::http::StatusCode;
    let failed = |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the list was not made");
    let inner = Arc::clone(inner);
    // Nobody closes it.
    let permit = Arc::clone(&inner.lists).acquire_owned().await.ok();
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        list(&inner)
    })
    .await
    .unwrap_or_else(|error| Err(failed(error)))
}
