//! The server as a whole.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use network_system::{Rate, Reliability};
use serde::Serialize;

use super::now_millis;
use crate::access::Admin;
use crate::answer::{self, Refusal};
use crate::query::Parameters;
use crate::site::{Shared, Site};

#[derive(Serialize)]
struct Status<'a> {
    name: &'a str,
    version: &'static str,
    state: &'static str,
    at: u64,
    started_at: Option<u64>,
    uptime_seconds: Option<f64>,
    admin: bool,
    read_only: bool,
    limits: Limits,
}

#[derive(Serialize)]
struct Limits {
    max_connections: usize,
    message_size: usize,
    outbox_bytes: usize,
    outbox_messages: usize,
    when_full: &'static str,
    session_rate: Option<RateLimit>,
    ip_rate: Option<RateLimit>,
    server_rate: Option<RateLimit>,
    handshakes_per_second: u32,
    handshakes_per_second_per_ip: u32,
    memory_budget: Option<usize>,
    reliable: Option<Reliable>,
}

/// 0 for any number.
#[derive(Serialize)]
struct RateLimit {
    messages_per_second: u64,
    bytes_per_second: u64,
    burst_seconds: f64,
    when_exceeded: &'static str,
}

impl RateLimit {
    fn of(rate: Rate) -> Self {
        RateLimit {
            messages_per_second: rate.messages_per_second,
            bytes_per_second: rate.bytes_per_second,
            burst_seconds: rate.burst.as_secs_f64(),
            when_exceeded: rate.when_exceeded.name(),
        }
    }
}

#[derive(Serialize)]
struct Reliable {
    window: usize,
    resume_seconds: f64,
    suspended_sessions: usize,
}

impl Reliable {
    fn of(reliability: &Reliability) -> Self {
        Reliable {
            window: reliability.window,
            resume_seconds: reliability.resume.as_secs_f64(),
            suspended_sessions: reliability.suspended_sessions,
        }
    }
}

fn state(site: &Site) -> &'static str {
    let server = &site.inner.server;
    match (server.is_running(), server.is_draining()) {
        (true, false) => "running",
        (true, true) => "draining",
        (false, _) => "stopped",
    }
}

pub(crate) async fn status(
    State(site): Shared,
    Extension(admin): Extension<Admin>,
    parameters: Parameters,
) -> Result<Response, Refusal> {
    parameters.finish()?;
    let server = &site.inner.server;
    let at = now_millis();
    let state = state(&site);
    let started_at = server.stats().started_at.filter(|_| state != "stopped");
    let uptime = started_at.map(|started_at| started_at.elapsed());
    let limits = server.limits();
    let status = Status {
        name: server.name(),
        version: env!("CARGO_PKG_VERSION"),
        state,
        at,
        started_at: uptime.map(|uptime| at.saturating_sub(uptime.as_millis() as u64)),
        uptime_seconds: uptime.map(|uptime| uptime.as_secs_f64()),
        admin: admin.0,
        read_only: site.access.token.is_none(),
        limits: Limits {
            max_connections: limits.max_connections,
            message_size: limits.message_size,
            outbox_bytes: limits.outbox_bytes,
            outbox_messages: limits.outbox_messages,
            when_full: limits.when_full.name(),
            session_rate: limits.session_rate.map(RateLimit::of),
            ip_rate: limits.ip_rate.map(RateLimit::of),
            server_rate: limits.server_rate.map(RateLimit::of),
            handshakes_per_second: limits.handshakes_per_second,
            handshakes_per_second_per_ip: limits.handshakes_per_second_per_ip,
            memory_budget: Some(server.memory_budget().limit()).filter(|&limit| limit < usize::MAX),
            reliable: server.reliability().map(Reliable::of),
        },
    };
    Ok(answer::json(StatusCode::OK, &status))
}

pub(crate) async fn ready(State(site): Shared) -> Response {
    match state(&site) {
        "running" => answer::text(StatusCode::OK, "ready"),
        state => answer::text(StatusCode::SERVICE_UNAVAILABLE, state),
    }
}

pub(crate) async fn metrics(
    State(site): Shared,
    parameters: Parameters,
) -> Result<Response, Refusal> {
    parameters.finish()?;
    Ok(answer::json(StatusCode::OK, &site.inner.monitor.metrics()))
}

pub(crate) async fn prometheus(State(site): Shared) -> Response {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    answer::answer(StatusCode::OK, kind, site.inner.monitor.to_prometheus())
}
