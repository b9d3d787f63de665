//! Where a server can be reached.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use network_system::Endpoint;
use serde::Serialize;

use crate::answer::{self, Refusal};
use crate::query::Parameters;
use crate::site::Shared;

#[derive(Serialize)]
struct Listeners {
    listeners: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    url: String,
    transport: &'static str,
    addr: Option<String>,
    accepted: u64,
    refused: u64,
    accepting: bool,
}

pub(crate) async fn list(State(site): Shared, parameters: Parameters) -> Result<Response, Refusal> {
    parameters.finish()?;
    let listeners = site
        .inner
        .server
        .listeners()
        .into_iter()
        .map(|listener| Row {
            transport: transport(&listener.url),
            url: listener.url,
            addr: listener.addr.map(|addr| addr.to_string()),
            accepted: listener.accepted,
            refused: listener.refused,
            accepting: listener.is_accepting,
        });
    let listeners = Listeners {
        listeners: listeners.collect(),
    };
    Ok(answer::json(StatusCode::OK, &listeners))
}

/// What the sessions that come in by a URL call their transport.
fn transport(url: &str) -> &'static str {
    match Endpoint::parse(url).map(|endpoint| endpoint.scheme()) {
        Ok("ws+unix") => "ws",
        Ok(scheme) => scheme,
        // A listener's URL can be read.
        Err(_) => "unknown",
    }
}
