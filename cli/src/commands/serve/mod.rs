//! `netsys serve`: runs a server until a signal stops it.
//!
//! - [`certificates`]: what it shows on TLS; [`descriptors`]: sockets of systemd's; [`dashboard`]: what it shows
//!   of itself; [`reload`]: what it reads again on SIGHUP.

mod certificates;
mod dashboard;
mod descriptors;
mod reload;

use std::time::Duration;

use network_system::metrics::PerformanceMonitor;
use network_system::{
    Authenticator, BoxFuture, Credentials, ErrorCode, GroupName, RequestError, Server,
    ServerBuilder, Session, StopReport, WorkerThreads,
};
use serde_json::json;

use self::certificates::Certificates;
use self::descriptors::Place;
use self::reload::Reload;
use super::limits;
use super::signals::{Hangup, Signals};
use crate::args::{HandlerName, ServeArgs};
use crate::exit::{ExitStatus, Failure};
use crate::handlers::{Broadcast, Chat, Echo, ServerSlot, Sink};
use crate::output::Output;
use crate::settings::ServeSettings;

pub(crate) fn run(args: ServeArgs, output: Output) -> Result<ExitStatus, Failure> {
    let mut settings = ServeSettings::new(args)?;
    let certificates = Certificates::new(settings.tls.as_ref(), output)?;
    // Before there are threads.
    let places = descriptors::places(std::mem::take(&mut settings.listen), output)?;
    limits::raise();
    // One worker has the thread to itself, without the cost of handing tasks over. Pinned workers have
    // threads of their own, and the runtime only accepts.
    let runtime = if settings.workers == 1 || settings.pin_workers {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
    } else {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(settings.workers)
            .enable_all()
            .build()?
    };
    runtime.block_on(serve(settings, places, certificates, output))
}

async fn serve(
    mut settings: ServeSettings,
    places: Vec<Place>,
    certificates: Certificates,
    output: Output,
) -> Result<ExitStatus, Failure> {
    let mut signals = Signals::new()?;
    let reload = Reload::new(settings.pipeline.as_ref(), output);
    let mut hangup = Hangup::new(certificates.has_files() || reload.has_keys())?;
    let monitor = settings.show.metrics.then(PerformanceMonitor::new);
    let shown = settings.show.dashboard.take();
    let server = build(settings, places, &certificates, monitor.as_ref())?;
    let plan = match (&shown, &monitor) {
        (Some(shown), Some(monitor)) => Some(dashboard::Plan::new(shown, &server, monitor)?),
        _ => None,
    };
    server.start().await?;
    // After the listeners: an address that nobody asked for must not take one of theirs.
    let dashboard = match plan {
        Some(plan) => plan.start(output).await,
        None => Ok(None),
    };
    let dashboard = match dashboard {
        Ok(dashboard) => dashboard,
        Err(failure) => {
            let _ = server.stop_within(Duration::ZERO).await;
            return Err(failure);
        }
    };
    for url in server.urls() {
        let event = json!({ "event": "listening", "url": url });
        output.event(&event, &format!("listening {url}"))?;
    }
    if let Some(dashboard) = &dashboard {
        dashboard.tell(output);
    }
    loop {
        tokio::select! {
            () = signals.next() => break,
            () = hangup.next() => reload.all(&certificates).await,
        }
    }
    let sessions = server.session_count();
    let suspended = server.stats().suspended;
    let s = if sessions == 1 { "" } else { "s" };
    output.note(
        &json!({ "event": "draining", "sessions": sessions, "suspended": suspended }),
        &match suspended {
            0 => format!("draining {sessions} session{s}; a second signal cuts them off"),
            _ => format!(
                "draining {sessions} session{s}, {suspended} of them suspended; a second signal cuts them off"
            ),
        },
    );
    let mut interrupted = false;
    let mut stop = std::pin::pin!(server.stop());
    let report = loop {
        tokio::select! {
            report = &mut stop => break report?,
            () = signals.next(), if !interrupted => {
                interrupted = true;
                // The deadline of the stop that is waited for comes nearer with it.
                let _ = server.stop_within(Duration::ZERO).await;
            }
        }
    };
    if let Some(dashboard) = dashboard {
        dashboard.stop().await;
    }
    tell_end(&server, report, monitor.as_ref(), output);
    let is_complete = report.aborted == 0 && report.unacknowledged == 0;
    Ok(match (interrupted, is_complete) {
        (true, _) => ExitStatus::Interrupted,
        (false, true) => ExitStatus::Done,
        (false, false) => ExitStatus::Failed,
    })
}

fn build(
    settings: ServeSettings,
    places: Vec<Place>,
    certificates: &Certificates,
    monitor: Option<&PerformanceMonitor>,
) -> Result<Server, Failure> {
    let mut builder = Server::builder()
        .limits(settings.limits)
        .timeouts(settings.timeouts)
        .socket(settings.socket)
        .websocket(settings.websocket)
        .udp(settings.udp)
        .workers(settings.workers)
        .worker_threads(match settings.pin_workers {
            true => WorkerThreads::Pinned,
            false => WorkerThreads::Runtime,
        });
    if let Some(budget) = &settings.memory_budget {
        builder = builder.memory_budget(budget);
    }
    for place in places {
        builder = match place {
            Place::Unbound(endpoint) => builder.listen_on(endpoint),
            Place::Bound(socket, url) => builder.listen_bound(socket, url),
        };
    }
    if let Some(monitor) = monitor {
        builder = builder.monitor(monitor);
    }
    if let Some(tls) = &certificates.tls {
        builder = builder.tls(tls.clone());
    }
    if let Some(proxies) = settings.proxy_protocol {
        builder = builder.proxy_protocol(proxies);
    }
    if let Some(settings) = settings.pipeline {
        builder = builder.pipeline(settings.pipeline);
    }
    if let Some(reliability) = settings.reliable {
        builder = builder.reliable(reliability);
    }
    if let Some(retry) = settings.goaway {
        builder = builder.goaway(retry);
    }
    if let Some(token) = settings.token {
        builder = builder.authenticator(Token(token));
    }
    if settings.groups {
        builder = builder.group_guard(|_: &Session, _: &GroupName| true);
    }
    let slot = ServerSlot::default();
    let server = with_handler(builder, settings.handler, &slot).build()?;
    slot.set(&server);
    Ok(server)
}

fn with_handler(builder: ServerBuilder, name: HandlerName, slot: &ServerSlot) -> ServerBuilder {
    match name {
        HandlerName::Echo => builder.handler(Echo),
        HandlerName::Broadcast => builder.handler(Broadcast::new(slot.clone())),
        HandlerName::Chat => builder.handler(Chat::new(slot.clone())),
        HandlerName::Sink => builder.handler(Sink),
    }
}

fn tell_end(
    server: &Server,
    report: StopReport,
    monitor: Option<&PerformanceMonitor>,
    output: Output,
) {
    let stats = server.stats();
    let (drained, aborted) = (report.drained, report.aborted);
    let mut event = json!({
        "event": "stopped",
        "drained": drained,
        "aborted": aborted,
        "connections": stats.total_connections,
        "refused": stats.refused_connections,
        "messages_received": stats.messages_received,
        "messages_sent": stats.messages_sent,
        "bytes_received": stats.bytes_received,
        "bytes_sent": stats.bytes_sent,
        "dropped": stats.dropped,
        "rate_limited": stats.rate_limited,
        "throttled": stats.throttled,
        "shed": stats.shed,
        "resumed": stats.resumed,
        "expired": stats.expired,
        "unacknowledged": stats.unacknowledged,
        "errors": stats.errors,
    });
    if let Some(monitor) = monitor {
        event["handler_time"] = json!(monitor.metrics().handler_time);
    }
    let mut text = format!(
        "drained {drained}, aborted {aborted}; {} connections, {} messages in, {} out",
        stats.total_connections, stats.messages_received, stats.messages_sent
    );
    // What most servers never see is told where it was.
    let troubles = [
        (stats.rate_limited, "messages rate limited"),
        (stats.throttled, "waits for a rate"),
        (stats.shed, "sessions shed"),
        (stats.resumed, "resumes"),
        (stats.expired, "sessions expired"),
        (stats.unacknowledged, "messages not acknowledged"),
    ];
    for (count, what) in troubles.into_iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!(", {count} {what}"));
    }
    output.note(&event, &text);
}

/// Lets in who knows the token.
struct Token(String);

impl Authenticator for Token {
    fn authenticate<'a>(
        &'a self,
        _: &'a Session,
        credentials: Credentials,
    ) -> BoxFuture<'a, Result<Option<String>, RequestError>> {
        let given = credentials.token.unwrap_or_default();
        let known = same(self.0.as_bytes(), given.as_bytes());
        Box::pin(async move {
            if known {
                Ok(credentials.client_id)
            } else {
                let code = ErrorCode::AuthenticationFailed;
                Err(RequestError::with_code(
                    code,
                    "the token is missing or wrong",
                ))
            }
        })
    }
}

/// Compares in a time that depends on the given length alone, so that a token cannot be found byte by
/// byte.
fn same(secret: &[u8], given: &[u8]) -> bool {
    let mut different = u8::from(secret.len() != given.len());
    for (index, byte) in given.iter().enumerate() {
        let expected = secret[index % secret.len().max(1)];
        different |= std::hint::black_box(byte ^ expected);
    }
    std::hint::black_box(different) == 0
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn only_the_whole_token_is_the_token() {
        assert!(same(b"secret", b"secret"));
        for wrong in ["", "s", "secre", "secret ", "secretsecret", "Secret"] {
            assert!(!same(b"secret", wrong.as_bytes()), "{wrong}");
        }
    }
}
