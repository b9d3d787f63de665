//! The loop that accepts connections of one listener.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::field::display;

use super::{Listening, Running, Server};
use crate::error::{CloseReason, ErrorCode};
use crate::events::{self, shown};
use crate::metrics::{EventLevel, Note};
use crate::session::shared::lock;
use crate::transport::{Incoming, Listener};
use crate::worker::{NewSession, Place, Placed};

/// Refusals a second that are told why; beyond that the connection is only closed.
const TOLD_REFUSALS: u32 = 100;

/// How long to wait when the process is out of descriptors, before accepting is tried again.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// Where connections go, and what is counted of them.
pub(super) struct Accepting {
    pub(super) server: Server,
    pub(super) running: Arc<Running>,
    pub(super) listening: Arc<Listening>,
}

/// Accepts until told to stop. The listener closes when this returns.
pub(super) async fn accept(
    accepting: Accepting,
    mut listener: Box<dyn Listener>,
    stop: watch::Receiver<bool>,
) {
    accepting.accept_until(&mut *listener, stop).await;
    accepting.listening.closed.store(true, Ordering::Relaxed);
    std::future::poll_fn(|context| listener.poll_finish(context)).await;
    drop(listener);
    let url = &*accepting.listening.url;
    events::listener_closed { url }.emit();
    let server = &accepting.server.inner;
    server.note(EventLevel::Info, "listener_closed", format_args!("{url}"));
}

impl Accepting {
    async fn accept_until(&self, listener: &mut dyn Listener, mut stop: watch::Receiver<bool>) {
        let url = &*self.listening.url;
        let mut refusals = Refusals::new();
        let mut exhausted = false;
        let counted = !listener.has_own_limit();
        let handshakes = &self.server.inner.handshakes;
        // Whether the next connection may come.
        let mut may_accept = !counted;
        loop {
            if !may_accept {
                if let Err(at) = handshakes.take() {
                    tokio::select! {
                        _ = stop.wait_for(|stop| *stop) => return,
                        () = tokio::time::sleep_until(at) => {}
                    }
                    continue;
                }
                may_accept = true;
            }
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                accepted = std::future::poll_fn(|context| listener.poll_accept(context)) => accepted,
            };
            match accepted {
                Ok(incoming) => {
                    exhausted = false;
                    // One that its address has too many of does not count.
                    may_accept = !self.admit(incoming, counted, &mut refusals) || !counted;
                }
                Err(error) if is_connection_error(&error) => {
                    let error = shown(error);
                    events::connection_aborted { url, error }.emit();
                }
                Err(error) => {
                    // Out of descriptors or memory. The connections wait in the system's queue.
                    if !exhausted {
                        events::accept_failed {
                            url,
                            error: shown(&error),
                        }
                        .emit();
                        let text = format_args!("{url}: {error}");
                        self.server
                            .inner
                            .note(EventLevel::Warning, "accept_failed", text);
                        exhausted = true;
                    }
                    tokio::select! {
                        biased;
                        _ = stop.wait_for(|stop| *stop) => return,
                        () = tokio::time::sleep(EXHAUSTED_PAUSE) => {}
                    }
                }
            }
        }
    }

    /// Lets a connection in, or refuses it. False when it is one too many from its address lately.
    fn admit(&self, incoming: Incoming, counted: bool, refusals: &mut Refusals) -> bool {
        let url = &*self.listening.url;
        let hub = &self.server.inner.hub;
        let Incoming { link, peer } = incoming;
        // Behind a proxy it is known once the link is open.
        let ip = peer.remote.map(|addr| addr.ip());
        let (permit, refused) = match Permit::take(&self.server, ip, counted) {
            Ok(permit) => {
                self.listening.accepted.fetch_add(1, Ordering::Relaxed);
                (Some(permit), None)
            }
            Err(reason) => {
                let totals = &hub.recorder.totals;
                totals.refused.fetch_add(1, Ordering::Relaxed);
                totals.error(reason.code().unwrap_or(ErrorCode::TooManyConnections));
                self.listening.refused.fetch_add(1, Ordering::Relaxed);
                hub.recorder.note(Note {
                    level: EventLevel::Warning,
                    kind: "connection_refused",
                    session: None,
                    code: reason.code(),
                    text: format_args!("{url}: {}", reason.text()),
                });
                events::connection_refused {
                    url,
                    peer: peer.remote.map(display),
                    code: reason.code().map(ErrorCode::as_i32),
                    reason: reason.text(),
                }
                .emit();
                if !refusals.may_tell() {
                    return reason.code() != Some(ErrorCode::RateLimited);
                }
                (None, Some(reason))
            }
        };
        let code = refused.as_ref().and_then(CloseReason::code);
        let permit = permit.map(|permit| Box::new(permit) as Box<dyn Place>);
        self.running.workers.open(
            hub,
            NewSession {
                link: Placed::Here(link),
                peer,
                permit,
                opened: None,
                refused,
            },
        );
        code != Some(ErrorCode::RateLimited)
    }
}

/// Errors of one connection, not of the listener.
fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// A place among the connections, freed when it is dropped.
pub(super) struct Permit {
    server: Server,
    /// Whether it counts against the limit of all connections.
    counted: bool,
    ip: Option<IpAddr>,
}

impl Permit {
    fn take(server: &Server, ip: Option<IpAddr>, counted: bool) -> Result<Self, CloseReason> {
        let hub = &server.inner.hub;
        let limits = &hub.limits;
        let full = |text: String| Err(CloseReason::with_code(ErrorCode::TooManyConnections, text));
        if counted && !hub.take_place() {
            return full(format!(
                "the limit of {} connections is reached",
                limits.max_connections
            ));
        }
        let mut permit = Permit {
            server: server.clone(),
            counted,
            ip: None,
        };
        match ip {
            Some(ip) => permit.locate(ip).map(|()| permit),
            None => Ok(permit),
        }
    }
}

impl Place for Permit {
    fn locate(&mut self, ip: IpAddr) -> Result<(), CloseReason> {
        if self.counted && self.ip.is_none() && !self.server.inner.handshakes.admits(ip) {
            let text = "too many connections from one address lately";
            return Err(CloseReason::with_code(ErrorCode::RateLimited, text));
        }
        let most = self.server.inner.hub.limits.max_connections_per_ip;
        if most == 0 || self.ip.is_some() {
            return Ok(());
        }
        let mut per_ip = lock(&self.server.inner.per_ip);
        let count = per_ip.entry(ip).or_default();
        if *count >= most {
            let text = format!("the limit of {most} connections from one address is reached");
            return Err(CloseReason::with_code(ErrorCode::TooManyConnections, text));
        }
        *count += 1;
        self.ip = Some(ip);
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.counted {
            self.server.inner.hub.free_place();
        }
        let Some(ip) = self.ip else { return };
        let mut per_ip = lock(&self.server.inner.per_ip);
        if let Some(count) = per_ip.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                per_ip.remove(&ip);
            }
        }
    }
}

/// Bounds what refusing costs.
struct Refusals {
    second: Instant,
    told: u32,
}

impl Refusals {
    fn new() -> Self {
        Refusals {
            second: Instant::now(),
            told: 0,
        }
    }

    fn may_tell(&mut self) -> bool {
        let now = Instant::now();
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.told = 0;
        }
        self.told += 1;
        self.told <= TOLD_REFUSALS
    }
}
