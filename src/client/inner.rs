//! What a client's handles and its task share.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::aim::Target;
use super::backoff::Jitter;
use super::offline::{Closed, Offline};
use super::resilient::Guard;
use super::stream::Inbox;
use super::supervise::StopRequest;
use super::token::Token;
use super::{
    ClientState, ClientStats, ClientStopReport, OnStateChange, ReconnectPolicy, Resolver,
    SystemResolver, after,
};
use crate::codec::{FrameType, Framing};
use crate::config::SocketOptions;
use crate::error::{CloseReason, ErrorCode, SendError};
use crate::group::GroupName;
use crate::hub::Hub;
use crate::message::{Message, MessageKind};
use crate::resilience::RetryPolicy;
use crate::session::Session;
use crate::session::shared::lock;
use crate::transport::{ClientOptions, LinkConfig};

pub(super) struct Inner {
    pub(super) hub: Arc<Hub>,
    pub(super) target: Target,
    pub(super) client_id: Option<String>,
    pub(super) token: Token,
    pub(super) link: LinkConfig,
    pub(super) options: ClientOptions,
    pub(super) reconnect: ReconnectPolicy,
    pub(super) guard: Guard,
    pub(super) retry: RetryPolicy,
    pub(super) resolver: Arc<dyn Resolver>,
    pub(super) on_state_change: Option<Box<OnStateChange>>,
    pub(super) offline: Offline,
    /// `None` with a message handler.
    pub(super) inbox: Option<Arc<Inbox>>,
    pub(super) state: watch::Sender<ClientState>,
    /// `Some` while the client's task runs: where it learns by when to have stopped.
    pub(super) running: Mutex<Option<watch::Sender<Option<StopRequest>>>>,
    /// Why the last session or attempt ended.
    pub(super) reason: Mutex<Option<CloseReason>>,
    pub(super) report: Mutex<ClientStopReport>,
    /// Groups to join again.
    pub(super) groups: Mutex<BTreeSet<GroupName>>,
    /// What the counters were when the statistics were last reset.
    pub(super) baseline: Mutex<ClientStats>,
}

impl Inner {
    /// What the delays between its attempts are drawn from.
    pub(super) fn jitter(&self) -> Jitter {
        match &self.options.network {
            None => Jitter::from_system(),
            Some(network) => Jitter::from(network.0.seed()),
        }
    }

    /// With everything that a configuration does not say.
    pub(super) fn new(hub: Hub, offline: Offline) -> Self {
        Inner {
            target: Target::default(),
            client_id: None,
            token: Token::default(),
            link: LinkConfig {
                message_limit: hub.frame_limit(),
                socket: SocketOptions::default(),
                udp: Default::default(),
            },
            options: ClientOptions::default(),
            hub: Arc::new(hub),
            reconnect: ReconnectPolicy::default(),
            guard: Guard::default(),
            retry: RetryPolicy::default(),
            resolver: Arc::new(SystemResolver),
            on_state_change: None,
            offline,
            inbox: None,
            state: watch::Sender::new(ClientState::Idle),
            running: Mutex::new(None),
            reason: Mutex::new(None),
            report: Mutex::new(ClientStopReport::default()),
            groups: Mutex::new(BTreeSet::new()),
            baseline: Mutex::new(ClientStats::default()),
        }
    }

    /// Asks the client's task to have stopped within `deadline`. A second call can only shorten it.
    pub(super) fn request_stop(&self, deadline: Duration, inside: bool) {
        let request = StopRequest {
            at: after(deadline),
            inside,
        };
        if let Some(stop) = &*lock(&self.running) {
            stop.send_modify(|stop| {
                let before = stop.unwrap_or(request);
                *stop = Some(StopRequest {
                    at: request.at.min(before.at),
                    inside: request.inside || before.inside,
                });
            });
        }
    }

    /// The session has gone: takes the message back, and lets the following ones queue. What the session has not
    /// sent is still its own.
    pub(super) fn take_back(&self, session: &Session, error: SendError) -> Message {
        self.offline.pause(session);
        error.into_message()
    }

    /// The error of a message that no session will send.
    pub(super) fn refuse(&self, (code, text): Closed, message: Option<Message>) -> SendError {
        self.unsent(code, text, message.unwrap_or_default())
    }

    pub(super) fn unsent(
        &self,
        code: ErrorCode,
        text: impl Into<Cow<'static, str>>,
        message: Message,
    ) -> SendError {
        self.hub.recorder.totals.unsent(code);
        SendError::new(code, text, message)
    }

    pub(super) fn taken(&self, dropped: u64) -> Result<(), SendError> {
        self.hub
            .recorder
            .totals
            .dropped
            .fetch_add(dropped, Ordering::Relaxed);
        Ok(())
    }

    /// Refuses at once what no session would take.
    pub(super) fn check(&self, message: Message) -> Result<Message, SendError> {
        let limit = self.hub.limits.message_size;
        if message.len() > limit {
            let text = format!(
                "a message of {} bytes is over the limit of {limit} bytes",
                message.len()
            );
            return Err(self.unsent(ErrorCode::MessageTooLarge, text, message));
        }
        let frame_type = match message.kind() {
            MessageKind::Application(number) => FrameType(number),
            _ => FrameType::DATA,
        };
        let refused = self
            .target
            .find_codec(|codec| Framing::from(codec).refuses(frame_type, message.payload()));
        match refused {
            Some(text) => Err(self.unsent(ErrorCode::NotSupported, text, message)),
            None => Ok(message),
        }
    }

    pub(super) fn totals(&self) -> ClientStats {
        let hub = &self.hub;
        let (queued_messages, queued_bytes) = self.offline.queued();
        let session = self.offline.session().filter(Session::is_connected);
        let mut stats = ClientStats {
            connections: hub.recorder.totals.connections(),
            failed_attempts: hub.recorder.totals.failed_attempts.load(Ordering::Relaxed),
            errors: hub.recorder.totals.errors.load(Ordering::Relaxed),
            dropped: hub.recorder.totals.dropped.load(Ordering::Relaxed),
            lost: hub.recorder.totals.lost.load(Ordering::Relaxed),
            unknown_responses: hub
                .recorder
                .totals
                .unknown_responses
                .load(Ordering::Relaxed),
            queued_messages,
            queued_bytes,
            connected_at: session.as_ref().map(Session::connected_at),
            round_trip: session.and_then(|session| session.stats().round_trip),
            ..ClientStats::default()
        };
        let traffic = hub.recorder.traffic();
        stats.messages_sent = traffic.messages_sent;
        stats.messages_received = traffic.messages_received;
        stats.bytes_sent = traffic.bytes_sent;
        stats.bytes_received = traffic.bytes_received;
        let last = traffic.last_activity;
        stats.last_activity = (last > 0).then(|| hub.clock.instant(last));
        stats
    }
}
