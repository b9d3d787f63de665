//! The upgrade of a connection, as a handshake of its link.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};

use super::encode::Encoder;
use super::poll_write_all;
use crate::codec::Framing;
use crate::codec::websocket::decoder::DecoderConfig;
use crate::codec::websocket::deflate::{Agreed, Deflate, Deflater, negotiation};
use crate::codec::websocket::upgrade::UpgradeLimits;
use crate::codec::websocket::upgrade::client::{Accepted, ClientUpgrade, UpgradeError};
use crate::codec::websocket::upgrade::origin::{host_allowed, origin_allowed};
use crate::codec::websocket::upgrade::request::{
    UpgradeRequest, parse_request, response_accept, response_refuse,
};
use crate::endpoint::{Address, Endpoint};
use crate::error::{ConfigError, ErrorCode};
use crate::events::{self, shown};
use crate::session::link::{Buffers, Established, OpenError};
use crate::transport::stream::{Stream, broken};
use crate::transport::{ClientOptions, LinkConfig, ServerOptions};
use crate::websocket::{
    Accept, MSGI, Reject, Speak, Upgrade, WebSocketClient, WebSocketInfo, WebSocketServer,
};

/// How much is read at a time. Requests are some hundred bytes.
const READ: usize = 4 * 1024;

/// Limits of the answer that a client reads.
const RESPONSE_LIMITS: UpgradeLimits = UpgradeLimits {
    max_bytes: 16 * 1024,
    max_headers: 128,
};

/// What a listener's connections are upgraded by.
#[derive(Debug)]
pub(crate) struct ServerSide {
    options: WebSocketServer,
    /// The only path that there is; `None` for any.
    path: Option<String>,
    /// Whether only programs of this machine reach the listener.
    loopback: bool,
    needs_hello: bool,
    message_limit: usize,
}

impl ServerSide {
    pub(crate) fn new(
        options: &ServerOptions,
        target: &str,
        bound: Option<SocketAddr>,
        config: &LinkConfig,
    ) -> Self {
        let path = target.split('?').next().unwrap_or_default();
        ServerSide {
            options: options.websocket.clone(),
            path: (path != "/").then(|| path.to_owned()),
            loopback: bound.is_some_and(|addr| addr.ip().to_canonical().is_loopback()),
            needs_hello: options.needs_hello,
            message_limit: config.message_limit,
        }
    }

    fn limits(&self) -> UpgradeLimits {
        UpgradeLimits {
            max_bytes: self.options.header_bytes,
            max_headers: self.options.header_count,
        }
    }

    /// Decides about a request.
    fn judge(
        &self,
        request: &UpgradeRequest,
        remote: Option<SocketAddr>,
    ) -> Result<(Accept, bool), Reject> {
        if self
            .path
            .as_deref()
            .is_some_and(|path| path != request.path())
        {
            return Err(Reject::new(404, "there is nothing here"));
        }
        let origins = &self.options.origins;
        if !host_allowed(request.host(), self.loopback, origins) {
            return Err(Reject::new(403, "this host is not served here"));
        }
        if !origin_allowed(request.origin(), request.host(), self.loopback, origins) {
            return Err(Reject::new(403, "pages of this origin may not connect"));
        }
        let offered = request.subprotocols();
        let msgi = offered.contains(&MSGI);
        let mut accept = match &self.options.hook {
            None => Accept::new(),
            Some(hook) => {
                let upgrade = Upgrade {
                    request,
                    remote,
                    msgi,
                };
                let call = || hook(&upgrade);
                let called = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
                called.unwrap_or_else(|_| Err(Reject::new(500, "the upgrade failed")))?
            }
        };
        match &accept.subprotocol {
            Some(chosen) if !offered.contains(&chosen.as_str()) => {
                events::subprotocol_not_offered {
                    chosen: shown(chosen),
                }
                .emit();
                return Err(Reject::new(500, "the upgrade failed"));
            }
            Some(_) => {}
            None if msgi => accept.subprotocol = Some(MSGI.to_owned()),
            None => {}
        }
        let msgi = accept.subprotocol.as_deref() == Some(MSGI);
        if self.needs_hello && !msgi && accept.identity.is_none() {
            let text = "the subprotocol msgi.v1 is needed to say who one is";
            return Err(Reject::new(401, text));
        }
        Ok((accept, msgi))
    }
}

/// What a client's connection is upgraded by.
#[derive(Debug)]
pub(crate) struct ClientSide {
    options: WebSocketClient,
    host: String,
    target: String,
    needs_hello: bool,
    message_limit: usize,
}

impl ClientSide {
    pub(crate) fn new(
        options: &ClientOptions,
        endpoint: &Endpoint,
        target: &str,
        config: &LinkConfig,
    ) -> Result<Self, ConfigError> {
        let host = match endpoint.address() {
            Address::WebSocket {
                secure, host, port, ..
            } => match (secure, port) {
                (false, 80) | (true, 443) => host.to_string(),
                (_, port) => format!("{host}:{port}"),
            },
            _ => "localhost".to_owned(),
        };
        Ok(ClientSide {
            options: options.websocket.clone(),
            host,
            target: target.to_owned(),
            needs_hello: options.needs_hello,
            message_limit: config.message_limit,
        })
    }

    /// Judges what the server agreed to. Says whether MSGI is spoken, and what was agreed on compression.
    fn judge(&self, accepted: &Accepted) -> Result<(bool, Option<Agreed>), OpenError> {
        let msgi = accepted.subprotocol.as_deref() == Some(MSGI);
        if !msgi && (self.options.speak == Speak::Msgi || self.needs_hello) {
            let text = "the server does not speak msgi.v1 inside of WebSocket";
            return Err(OpenError::new(ErrorCode::NotSupported, text));
        }
        let answers = accepted.extensions.as_deref();
        let agreed = match &self.options.deflate {
            Some(options) => negotiation::judge_answer(options, answers),
            None if answers.is_some() => Err("an extension that was not offered".to_owned()),
            None => Ok(None),
        };
        match agreed {
            Ok(agreed) => Ok((msgi, agreed)),
            Err(text) => {
                let text = format!("the server's answer to the upgrade: {text}");
                Err(OpenError::new(ErrorCode::InvalidFrame, text))
            }
        }
    }
}

/// Which side this is.
enum Side {
    Server {
        side: Arc<ServerSide>,
        remote: Option<SocketAddr>,
    },
    Client {
        side: Arc<ClientSide>,
        upgrade: ClientUpgrade,
    },
}

/// An upgrade that is under way.
pub(super) struct Upgrading {
    side: Side,
    /// Whether what is below WebSocket is open.
    below: bool,
    /// What has arrived.
    input: BytesMut,
    /// What is left to write.
    output: Bytes,
    /// What the connection becomes once `output` is written.
    done: Option<Upgraded>,
}

/// What a connection has become.
pub(super) struct Upgraded {
    pub(super) decoder: DecoderConfig,
    pub(super) framing: Framing,
    pub(super) encoder: Option<Encoder>,
    /// What has arrived behind the request or the answer.
    pub(super) rest: BytesMut,
}

impl Upgrading {
    pub(super) fn server(side: Arc<ServerSide>, remote: Option<SocketAddr>) -> Self {
        Upgrading::new(Side::Server { side, remote })
    }

    pub(super) fn client(side: Arc<ClientSide>) -> Self {
        let upgrade = ClientUpgrade::new();
        Upgrading::new(Side::Client { side, upgrade })
    }

    fn new(side: Side) -> Self {
        Upgrading {
            side,
            below: false,
            input: BytesMut::new(),
            output: Bytes::new(),
            done: None,
        }
    }

    /// Whether what is below WebSocket still has to be opened.
    pub(super) fn is_below_closed(&self) -> bool {
        !self.below
    }

    pub(super) fn open_below(&mut self) {
        self.below = true;
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory(&self) -> usize {
        let rest = self.done.as_ref().map_or(0, |done| done.rest.capacity());
        self.input.capacity() + self.output.len() + rest
    }

    /// The response that refuses a connection before its request was judged.
    pub(super) fn refusal(&self, code: ErrorCode, text: &str, below_needs_opening: bool) -> Bytes {
        let Side::Server { .. } = self.side else {
            return Bytes::new();
        };
        if (below_needs_opening && !self.below) || self.done.is_some() {
            return Bytes::new();
        }
        let status = match code {
            ErrorCode::ConnectionTimeout => 408,
            ErrorCode::RateLimited => 429,
            _ => 503,
        };
        Bytes::from(response_refuse(status, text, &[]))
    }

    /// Exchanges request and answer.
    pub(super) fn poll<S: Stream>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
        established: &mut Established,
    ) -> Poll<Result<Upgraded, OpenError>> {
        if let Side::Client { side, upgrade } = &mut self.side
            && self.output.is_empty()
            && self.input.capacity() == 0
        {
            let request = side.options.request(upgrade, &side.host, &side.target);
            let refused =
                |error: UpgradeError| OpenError::new(ErrorCode::InvalidConfiguration, error.text);
            self.output = Bytes::from(request.map_err(refused)?);
            self.input.reserve(READ);
        }
        loop {
            let scratch = &mut buffers.scratch;
            let written = poll_write_all(stream, context, &mut self.output, scratch);
            ready!(written).map_err(|error| broken(&error))?;
            if let Some(done) = self.done.take() {
                return Poll::Ready(Ok(done));
            }
            self.input.reserve(READ);
            let read = stream.poll_read(context, &mut self.input, READ, scratch);
            let count = ready!(read).map_err(|error| broken(&error))?;
            if count == 0 {
                let text = "the peer ended the connection before it was upgraded";
                return Poll::Ready(Err(OpenError::new(ErrorCode::ConnectionClosed, text)));
            }
            self.judge(established)?;
        }
    }

    /// Looks at what has arrived.
    fn judge(&mut self, established: &mut Established) -> Result<(), OpenError> {
        match &self.side {
            Side::Server { side, remote } => {
                let (side, remote) = (Arc::clone(side), established.remote.or(*remote));
                self.judge_request(&side, remote, established)
            }
            Side::Client { side, upgrade } => {
                let judged = upgrade.judge_response(&self.input, &RESPONSE_LIMITS);
                let Some((accepted, len)) = judged.map_err(refused)? else {
                    return Ok(());
                };
                let (msgi, agreed) = side.judge(&accepted)?;
                established.websocket = info(&side.target, accepted.subprotocol).map(Arc::new);
                let rest = self.take_rest(len);
                let options = side.options.deflate.as_ref();
                let fragments = side.options.fragment_size;
                let limit = side.message_limit;
                self.done = Some(upgraded(
                    true, msgi, agreed, options, fragments, limit, rest,
                ));
                Ok(())
            }
        }
    }

    /// What has arrived behind the first `len` bytes, in memory of its own: the buffer is not kept.
    fn take_rest(&self, len: usize) -> BytesMut {
        BytesMut::from(&self.input[len..])
    }

    fn judge_request(
        &mut self,
        side: &ServerSide,
        remote: Option<SocketAddr>,
        established: &mut Established,
    ) -> Result<(), OpenError> {
        let (request, len) = match parse_request(&self.input, &side.limits()) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return Ok(()),
            Err(rejection) => {
                let text = format!("no upgrade: {}", rejection.reason);
                return Err(OpenError {
                    answer: Bytes::from(rejection.response()),
                    ..OpenError::new(ErrorCode::InvalidFrame, text)
                });
            }
        };
        let (accept, msgi) = side.judge(&request, remote).map_err(|reject| {
            let code = match reject.status {
                401 | 407 => ErrorCode::AuthenticationFailed,
                503 => ErrorCode::TooManyConnections,
                _ => ErrorCode::AccessDenied,
            };
            OpenError {
                answer: Bytes::from(response_refuse(reject.status, &reject.text, &[])),
                ..OpenError::new(code, format!("upgrade refused: {}", reject.text))
            }
        })?;
        let options = side.options.deflate.as_ref();
        let agreed = options.and_then(|options| negotiation::accept(options, request.extensions()));
        let (agreed, answer) = agreed.unzip();
        let subprotocol = accept.subprotocol;
        let response = response_accept(&request, subprotocol.as_deref(), answer.as_deref());
        self.output = Bytes::from(response);
        let target = match request.query() {
            Some(query) => format!("{}?{query}", request.path()),
            None => request.path().to_owned(),
        };
        established.websocket = info(&target, subprotocol).map(Arc::new);
        established.identity = accept.identity;
        established.data = accept.data;
        established.upgrade = (side.needs_hello && msgi).then(|| Box::new(request));
        let rest = self.take_rest(len);
        let fragments = side.options.fragment_size;
        let limit = side.message_limit;
        self.done = Some(upgraded(
            false, msgi, agreed, options, fragments, limit, rest,
        ));
        Ok(())
    }
}

/// What a session remembers; nothing when there is nothing to tell apart.
fn info(target: &str, subprotocol: Option<String>) -> Option<WebSocketInfo> {
    let subprotocol = subprotocol.filter(|name| name != MSGI);
    (target != "/" || subprotocol.is_some()).then(|| WebSocketInfo {
        target: target.to_owned(),
        subprotocol,
    })
}

fn refused(error: UpgradeError) -> OpenError {
    let code = match error.status {
        401 | 407 => ErrorCode::AuthenticationFailed,
        403 => ErrorCode::AccessDenied,
        408 => ErrorCode::ConnectionTimeout,
        429 => ErrorCode::RateLimited,
        503 => ErrorCode::TooManyConnections,
        _ => ErrorCode::ConnectionFailed,
    };
    OpenError::new(code, error.text)
}

/// How frames stand on an upgraded connection, and who encodes them.
fn upgraded(
    client: bool,
    msgi: bool,
    agreed: Option<Agreed>,
    options: Option<&Deflate>,
    fragment_size: usize,
    message_limit: usize,
    rest: BytesMut,
) -> Upgraded {
    let decoder = DecoderConfig {
        client,
        msgi,
        message_limit,
        inflate: agreed.map(|agreed| agreed.inflate()),
    };
    let level = options.map_or(1, |options| options.level);
    let threshold = options.map_or(usize::MAX, |options| options.threshold);
    let deflater = agreed.map(|agreed| Deflater::new(&agreed, level));
    let usual = Deflate::default();
    // What every connection would compress to the same bytes is compressed once for a broadcast.
    let alone = agreed.is_some_and(|agreed| {
        agreed.own_no_context_takeover
            && agreed.own_window_bits == usual.server_max_window_bits
            && level == usual.level
            && threshold == usual.threshold
    });
    let framing = match (client, msgi, &deflater) {
        _ if fragment_size > 0 => None,
        (false, false, None) => Some(Framing::WebSocket),
        (false, true, None) => Some(Framing::WebSocketMsgi),
        (true, false, None) => Some(Framing::WebSocketMasked),
        (true, true, None) => Some(Framing::WebSocketMsgiMasked),
        (false, false, Some(_)) if alone => Some(Framing::WebSocketDeflated),
        _ => None,
    };
    let (framing, encoder) = match framing {
        Some(framing) => (framing, None),
        None => {
            let encoder = Encoder::new(deflater, threshold, fragment_size, msgi, client);
            let framing = match msgi {
                true => Framing::Frames,
                false => Framing::WebSocketFrames,
            };
            (framing, Some(encoder))
        }
    };
    Upgraded {
        decoder,
        framing,
        encoder,
        rest,
    }
}
