//! Every event that the library logs, in one list: names, levels and fields are promises to whoever filters
//! or counts them. `docs/logging.md` has the table, which a test keeps equal to this list.
//!
//! An event is made and emitted with its fields by name:
//!
//! ```text
//! events::listener_bound { url: listener.url() }.emit();
//! ```
//!
//! Nothing is formatted unless somebody listens: what costs something to print is handed over as
//! [`shown`] or [`display`](tracing::field::display). Payloads, tokens and keys are not handed over at
//! all, nor are texts that an application gives with the failure of a request.

use std::fmt;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::time::Instant;
use tracing::Span;
use tracing::field::{Value, display};

use crate::error::{CloseReason, ClosedBy};

macro_rules! events {
    ($(
        $target:literal {
            $(
                $(#[doc = $when:literal])+
                $name:ident: $level:ident $($limited:ident)? $message:literal { $($field:ident),* $(,)? }
            )+
        }
    )+) => {
        $($(
            $(#[doc = $when])+
            #[allow(non_camel_case_types, reason = "the name of the event, and each field with its own type")]
            pub(crate) struct $name<$($field),*> {
                $(pub(crate) $field: $field,)*
            }

            #[allow(non_camel_case_types, reason = "the name of the event, and each field with its own type")]
            impl<$($field: Value),*> $name<$($field),*> {
                /// Tells whoever listens.
                #[inline]
                pub(crate) fn emit(self) {
                    let Self { $($field),* } = self;
                    emit!(
                        [$($limited)?] stringify!($name), concat!("network_system::", $target), $level,
                        $message, $($field)*
                    );
                }
            }
        )+)+

        /// What there is, for the table.
        #[cfg(test)]
        const ALL: &[Known] = &[$($(
            Known {
                name: stringify!($name),
                target: concat!("network_system::", $target),
                level: stringify!($level),
                limited: !stringify!($($limited)?).is_empty(),
                fields: &[$(stringify!($field)),*],
                when: concat!($($when),+),
            },
        )+)+];
    };
}

macro_rules! emit {
    ([] $name:expr, $target:expr, $level:ident, $message:literal, $($field:ident)*) => {
        tracing::event!(
            name: $name, target: $target, tracing::Level::$level,
            { $($field = $field),* }, $message
        )
    };
    ([limited] $name:expr, $target:expr, $level:ident, $message:literal, $($field:ident)*) => {{
        static LIMITER: Limiter = Limiter::new();
        if tracing::enabled!(target: $target, tracing::Level::$level)
            && let Some(suppressed) = LIMITER.admit()
        {
            tracing::event!(
                name: $name, target: $target, tracing::Level::$level,
                { $($field = $field,)* suppressed = suppressed }, $message
            )
        }
    }};
}

events! {
    "server" {
        /// A server has begun to accept.
        server_started: INFO "server started" { listeners, workers }
        /// A listener is bound, with its real port.
        listener_bound: INFO "listening" { url }
        /// A listener has closed.
        listener_closed: INFO "no longer listening" { url }
        /// Nothing can be accepted for now: no descriptors or no memory.
        accept_failed: WARN limited "cannot accept; trying again" { url, error }
        /// A connection ended before it was accepted.
        connection_aborted: DEBUG "a connection ended before it was accepted" { url, error }
        /// A connection is over a limit.
        connection_refused: WARN limited "connection refused" { url, peer, code, reason }
        /// A server has begun to stop.
        drain_began: INFO "stopping" { sessions, deadline_ms }
        /// A server has stopped: how many sessions ended in order, and how many were cut off.
        server_stopped: INFO "stopped" { drained, aborted }
        /// A task of a server panicked, which is a defect of the library.
        server_task_panicked: ERROR "a task of the server panicked" {}
    }
    "session" {
        /// The opening is complete.
        session_opened: DEBUG "session open" { session, side, transport, peer }
        /// A session has ended, whether it was open or not.
        session_closed: DEBUG "session closed" {
            session, by, code, reason, opened, duration_ms,
            messages_received, messages_sent, bytes_received, bytes_sent, dropped, lost,
        }
        /// A reliable session has lost its link and waits for another one.
        session_suspended: DEBUG "session suspended" { session, reason }
        /// A reliable session goes on with another link.
        session_resumed: DEBUG "session resumed" { session, transport }
        /// Something went wrong; most errors end the session.
        session_error: DEBUG "session error" { session, code, reason }
        /// A peer was silent for too long: its first byte, the rest of a frame, a heartbeat, anything.
        session_timed_out: DEBUG "session timed out" { session, code, reason }
        /// A hello asks for what this side does not do.
        hello_refused: DEBUG "hello refused" { session, code }
        /// The authenticator let a client in.
        authenticated: DEBUG "authenticated" { session }
        /// The authenticator did not.
        authentication_failed: DEBUG "authentication failed" { session, code }
        /// A client has authenticated anew, in a session that is open.
        refreshed: DEBUG "authenticated anew" { session }
        /// It was not let in anew; what held before still does.
        refresh_refused: DEBUG "not authenticated anew" { session, code }
        /// A client did not authenticate anew in time: its session ends.
        identity_expired: DEBUG "the identity has expired" { session }
        /// A request of the peer was answered with a failure.
        request_failed: DEBUG "request failed" { session, code }
        /// What one read brought.
        messages_received: TRACE "messages received" { session, messages, bytes }
        /// What was handed to the link together.
        messages_sent: TRACE "messages sent" { session, messages, bytes }
        /// The policy of a full outbox dropped messages.
        messages_dropped: WARN limited "messages dropped" { session, dropped }
        /// The policy of a full outbox ends the session.
        slow_consumer: WARN limited "the peer reads too slowly" { session }
        /// A rate was exceeded, and messages were dropped for it.
        rate_limited: WARN limited "messages came too fast" { session, messages }
        /// A handler panicked: its session ends.
        handler_panicked: ERROR limited "a handler panicked" { session }
        /// A session panicked, which is a defect of the library.
        session_panicked: ERROR limited "a session panicked" { session }
    }
    "client" {
        /// An attempt begins.
        connecting: DEBUG "connecting" { endpoint, attempt }
        /// A session is open.
        connected: INFO "connected" { endpoint, session }
        /// An attempt failed.
        connect_failed: DEBUG "not connected" { endpoint, code, error }
        /// The session has ended.
        disconnected: INFO "disconnected" { session, by, code, reason }
        /// The next attempt begins after a pause.
        reconnecting: DEBUG "reconnecting" { attempt, pause_ms }
        /// There are no more attempts.
        reconnect_gave_up: WARN "gave up reconnecting" { attempts }
        /// The identity of the session could not be made to last longer. It is tried again.
        refresh_failed: WARN "could not authenticate anew" { session, code, error }
        /// The server did not let the client back into a group.
        rejoin_failed: WARN "could not join the group again" { group, code, error }
        /// An endpoint has failed too often and is left alone for a while.
        endpoint_ejected: WARN limited "an endpoint is left alone" { endpoint, pause_ms }
        /// An endpoint that was left alone works again.
        endpoint_returned: INFO "an endpoint is back" { endpoint }
        /// A client has ended.
        client_stopped: INFO "client ended" { state }
        /// A task of a client panicked, which is a defect of the library.
        client_task_panicked: ERROR "a task of the client panicked" {}
        /// The application's handler of state changes panicked.
        state_handler_panicked: ERROR "the state handler panicked" {}
    }
    "resilience" {
        /// A circuit breaker refuses calls from now on; without a time it was opened by hand.
        circuit_opened: WARN "the circuit breaker opened" { circuit, open_ms }
        /// A circuit breaker lets a few calls through, to find out.
        circuit_half_open: INFO "the circuit breaker is half-open" { circuit }
        /// A circuit breaker lets calls through again.
        circuit_closed: INFO "the circuit breaker closed" { circuit }
        /// The application's handler of a breaker's changes panicked.
        circuit_handler_panicked: ERROR "the handler of a circuit breaker panicked" {}
    }
    "pool" {
        /// An item of a pool could not be made.
        item_not_made: WARN limited "an item of the pool could not be made" { code, error }
        /// A pool has closed: whether all was given back in time, and how many items were not.
        pool_closed: DEBUG "pool closed" { in_order, left }
    }
    "executor" {
        /// An executor dropped a handler without running it: its session ends.
        handler_not_run: ERROR limited "the executor dropped a handler" { session }
        /// A task that an application has posted to a thread pool panicked.
        call_panicked: ERROR limited "a call on a thread pool panicked" {}
    }
    "worker" {
        /// A worker has begun.
        worker_started: DEBUG "worker started" { worker }
        /// A worker has ended.
        worker_stopped: DEBUG "worker stopped" { worker }
        /// A worker runs on any core, because the system did not let it choose one.
        worker_not_pinned: WARN "the worker could not be pinned to a core" { worker, error }
        /// A connection could not be taken to the runtime of its worker.
        connection_lost: WARN limited "a connection could not be handed to its worker" { error }
    }
    "transport" {
        /// A listener for both families accepts IPv6 only.
        ipv6_only: WARN "accepts IPv6 only" { addr, error }
        /// The application chose a WebSocket subprotocol that the client had not offered.
        subprotocol_not_offered: WARN limited "a subprotocol was chosen that was not offered" { chosen }
        /// There was no room for a datagram, or no session for its sender.
        datagram_dropped: WARN limited "a datagram was dropped" { peer, cause }
        /// A datagram is nothing that the protocol knows.
        datagram_malformed: DEBUG limited "a datagram is malformed" { peer }
        /// The system did not send a datagram.
        datagram_unsent: DEBUG limited "a datagram could not be sent" { peer, error }
        /// A frame of the protocol is longer than a datagram may be.
        frame_too_long: DEBUG limited "a frame does not fit into a datagram" { peer, size, limit }
        /// A socket that is being closed can no longer be read.
        datagrams_ended: DEBUG "no datagrams can be received" { error }
    }
    "tls" {
        /// A handshake is complete.
        tls_established: DEBUG "TLS established" { version, cipher_suite, resumed }
        /// A handshake failed.
        tls_handshake_failed: DEBUG "a TLS handshake failed" { reason }
        /// A server has new certificates.
        tls_reloaded: INFO "TLS certificates exchanged" { certificates }
        /// New certificates cannot be used; the old ones stay.
        tls_reload_failed: WARN "TLS certificates not exchanged" { error }
        /// A client connects without checking who the server is, as it was told.
        tls_unverified: WARN "the certificate of the server is not verified" {}
    }
    "compat" {
        /// A classic server listens on every interface, which is its default.
        listening_everywhere: WARN "listening on every interface of the machine; set bind_address to choose one" {
            server, address,
        }
        /// The stop of a classic server did not wait for some sessions any longer.
        sessions_cut_off: WARN "sessions were cut off" { server, sessions }
        /// A configuration was set while its server or client runs.
        configuration_deferred: WARN "the configuration takes effect at the next start" { id }
        /// A callback panicked: its session ends.
        callback_panicked: ERROR limited "a callback panicked" { session }
        /// There are too many error callbacks for one session.
        callback_dropped: WARN limited "an error callback was dropped" { session }
        /// There is no runtime to run a callback.
        callback_lost: ERROR limited "a callback was lost" { error }
        /// The application's thread pool dropped a callback.
        callback_not_run: ERROR limited "the thread pool did not run a callback" {}
        /// There is no runtime to wait for the end of a server or client.
        wait_failed: ERROR "cannot wait for the end" { id, error }
        /// There is no runtime to watch the states of a session.
        states_unwatched: ERROR limited "states are not watched" { error }
        /// A bridge has made a server or client, while its debug logging is on.
        bridge_made: INFO "a bridge made something" { bridge, kind, id }
        /// A bridge has been started or stopped, while its debug logging is on.
        bridge_state: INFO "a bridge changed its state" { bridge, state }
        /// A connection of a bridge has opened or ended, while its debug logging is on.
        bridge_connection: INFO "a connection of a bridge" { bridge, endpoint, connected }
        /// Something went wrong on a session of a bridge, while its debug logging is on.
        bridge_error: INFO "an error on a bridge" { bridge, code }
    }
}

/// The span of a session's life, if somebody listens.
pub(crate) fn session_span(
    session: u64,
    side: &str,
    transport: &str,
    peer: Option<SocketAddr>,
) -> Option<Box<Span>> {
    // It has no parent: whatever the worker's thread does besides has nothing to do with it.
    let span = tracing::span!(
        target: "network_system::session", parent: None, tracing::Level::DEBUG, "session",
        session, side, transport, peer = peer.map(display)
    );
    (!span.is_disabled()).then(|| Box::new(span))
}

/// A row of the table.
#[cfg(test)]
struct Known {
    name: &'static str,
    target: &'static str,
    level: &'static str,
    limited: bool,
    fields: &'static [&'static str],
    when: &'static str,
}

/// Which side ended a session, as a word.
pub(crate) fn ended_by(reason: &CloseReason) -> &'static str {
    match reason.closed_by() {
        ClosedBy::Local => "local",
        ClosedBy::Remote => "remote",
        ClosedBy::Transport => "transport",
    }
}

/// An error with what caused it.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut error = self.0;
        while let Some(source) = error.source() {
            write!(f, ": {source}")?;
            error = source;
        }
        Ok(())
    }
}

/// The longest text that is logged, in characters. Peers choose some of them.
const SHOWN_CHARS: usize = 256;

/// A text of which a part may come from a peer: in one line, and not without end.
pub(crate) fn shown(text: impl fmt::Display) -> impl Value {
    display(Shown(text))
}

struct Shown<T>(T);

impl<T: fmt::Display> fmt::Display for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;

        struct Clip<'a, 'b>(&'a mut fmt::Formatter<'b>, usize);
        impl Write for Clip<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                for char in text.chars() {
                    match self.1 {
                        0 => return Ok(()),
                        1 => self.0.write_char('…')?,
                        _ if is_harmful(char) => write!(self.0, "{}", char.escape_default())?,
                        _ => self.0.write_char(char)?,
                    }
                    self.1 -= 1;
                }
                Ok(())
            }
        }
        write!(Clip(f, SHOWN_CHARS), "{}", self.0)
    }
}

/// Whether a character could end a line of a log, command a terminal, or turn the order of what is read.
pub(crate) fn is_harmful(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{061c}' | '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Events of one kind that are told in each [`WINDOW_MILLIS`].
const BURST: u32 = 10;

const WINDOW_MILLIS: u64 = 10_000;

/// Keeps peers from filling a log. Of one kind of event, a few are told, and then how many were not.
struct Limiter {
    /// The number of the current window, plus 1.
    window: AtomicU64,
    told: AtomicU32,
    suppressed: AtomicU64,
}

impl Limiter {
    const fn new() -> Self {
        Limiter {
            window: AtomicU64::new(0),
            told: AtomicU32::new(0),
            suppressed: AtomicU64::new(0),
        }
    }

    /// Whether one more is told; if so, how many were not since the last one.
    fn admit(&self) -> Option<u64> {
        static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
        self.admit_at(EPOCH.elapsed().as_millis() as u64)
    }

    fn admit_at(&self, millis: u64) -> Option<u64> {
        let window = millis / WINDOW_MILLIS + 1;
        // Two threads that both begin a window may tell a few more. That does no harm.
        if self.window.load(Ordering::Relaxed) != window {
            self.window.store(window, Ordering::Relaxed);
            self.told.store(0, Ordering::Relaxed);
        }
        if self.told.load(Ordering::Relaxed) < BURST {
            self.told.fetch_add(1, Ordering::Relaxed);
            return Some(self.suppressed.swap(0, Ordering::Relaxed));
        }
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests;
