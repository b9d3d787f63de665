//! The routes, and what holds for all of them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, OriginalUri, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

use crate::access::Access;
use crate::answer::{self, Refusal};
use crate::api::{actions, events, groups, history, listeners, session, sessions, status};
use crate::dashboard::Inner;

/// A dashboard at one place.
pub(crate) struct Site {
    pub(crate) inner: Arc<Inner>,
    pub(crate) access: Access,
}

pub(crate) type Shared = State<Arc<Site>>;

/// Every path that there is, with what answers it. The reference names them all, which a test checks.
fn routes() -> Vec<(&'static str, MethodRouter<Arc<Site>>)> {
    vec![
        ("/", get(page)),
        ("/assets/{name}", get(asset)),
        (
            "/healthz",
            get(|| async { answer::text(StatusCode::OK, "ok") }),
        ),
        ("/readyz", get(status::ready)),
        ("/metrics", get(status::prometheus)),
        ("/api/v1/status", get(status::status)),
        ("/api/v1/metrics", get(status::metrics)),
        ("/api/v1/history", get(history::list)),
        ("/api/v1/sessions", get(sessions::list)),
        ("/api/v1/sessions/{id}", get(session::detail)),
        (
            "/api/v1/sessions/{id}/disconnect",
            post(actions::disconnect),
        ),
        ("/api/v1/sessions/{id}/messages", post(actions::send)),
        ("/api/v1/groups", get(groups::list)),
        ("/api/v1/groups/{name}", get(groups::members)),
        ("/api/v1/listeners", get(listeners::list)),
        ("/api/v1/events", get(events::list)),
    ]
}

pub(crate) fn router(inner: Arc<Inner>, access: Access) -> Router {
    let site = Arc::new(Site { inner, access });
    let mut router = Router::new();
    for (path, route) in routes() {
        router = router.route(path, route);
    }
    router
        .fallback(unknown)
        .layer(from_fn_with_state(Arc::clone(&site), guard))
        .layer(from_fn(finish))
        .with_state(site)
}

/// Lets in who may come in, and does not wait for ever.
async fn guard(State(site): Shared, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let admin = match site.access.admit(&parts) {
        Ok(admin) => admin,
        Err(refusal) => return refusal.into_response(),
    };
    parts.extensions.insert(admin);
    let answered = next.run(Request::from_parts(parts, body));
    tokio::time::timeout(site.inner.deadlines.answer, answered)
        .await
        .unwrap_or_else(|_| {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            Refusal::unread(status, "the dashboard has too much to do").into_response()
        })
}

/// What all answers have in common, those of axum itself included.
async fn finish(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let mut response = next.run(request).await;
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response = Refusal::method(&method).into_response();
    }
    for (name, value) in answer::HEADERS {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

async fn unknown(site: Shared, uri: OriginalUri, request: Request) -> Response {
    // As a service nested below a path, that path with a slash behind it arrives here.
    if request.uri().path() == "/" {
        return page(site, uri, request.headers().clone()).await;
    }
    let path = answer::quoted(request.uri().path());
    Refusal::not_found(format!("there is no {path}")).into_response()
}

async fn page(State(site): Shared, OriginalUri(uri): OriginalUri, headers: HeaderMap) -> Response {
    let Some(index) = site.inner.assets.index() else {
        return Refusal::not_found("there is no page").into_response();
    };
    // Nested, the path may end without a slash; then what the page asks for is below its last segment.
    match uri.path().rsplit_once('/') {
        Some((_, last)) if !last.is_empty() => index.answer_below(last),
        _ => index.answer(&headers),
    }
}

async fn asset(State(site): Shared, Text(name): Text, headers: HeaderMap) -> Response {
    match site.inner.assets.file(&name) {
        Some(file) => file.answer(&headers),
        None => Refusal::not_found(format!("there is no asset {}", answer::quoted(&name)))
            .into_response(),
    }
}

/// The part of the path that stands for something, decoded.
pub(crate) struct Text(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Text {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(text)) => Ok(Text(text)),
            Err(_) => Err(Refusal::bad_request("the path cannot be read")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_reference_has_each_route_and_no_other() {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/dashboard-api.md");
        let reference = std::fs::read_to_string(path).unwrap();
        let headings = reference
            .lines()
            .filter_map(|line| line.strip_prefix("### "));
        let mut documented: Vec<&str> = headings
            .map(|heading| heading.split_once(' ').unwrap().1)
            .collect();
        let mut known: Vec<&str> = routes().iter().map(|(path, _)| *path).collect();
        documented.sort_unstable();
        known.sort_unstable();
        assert_eq!(documented, known);
    }
}
