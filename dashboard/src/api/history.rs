//! What was in the last 15 minutes.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use crate::answer::{self, Refusal};
use crate::query::Parameters;
use crate::site::Shared;

pub(crate) async fn list(
    State(site): Shared,
    mut parameters: Parameters,
) -> Result<Response, Refusal> {
    let since = parameters.number("since", 0, 0, u64::MAX)?;
    parameters.finish()?;
    let samples = site.inner.history().since(since);
    Ok(answer::json(StatusCode::OK, &samples))
}
