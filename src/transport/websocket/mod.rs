//! WebSocket over any byte stream: the upgrade, then messages.
//!
//! - [`upgrade`]: the HTTP request and its answer, as a handshake of the link.
//! - [`encode`]: what the session core does not encode itself: compression with a window that is carried
//!   over, and fragments.
//!
//! With the subprotocol `msgi.v1` a close frame is the end of the stream; without, it is a DISCONNECT
//! (protocol section 7). So the link writes one itself in the first case and leaves it to the session in the
//! second.

mod encode;
mod upgrade;

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};

use self::encode::Encoder;
pub(crate) use self::upgrade::{ClientSide, ServerSide};
use self::upgrade::{Upgraded, Upgrading};
use super::stream::{Codec, Split, Stream, StreamLink};
use crate::codec::websocket::decoder::{Decoder, DecoderConfig, Source};
use crate::codec::websocket::head::Opcode;
use crate::codec::websocket::{NO_STATUS, mapping};
use crate::codec::{EndOfStream, Framing, Span};
use crate::error::ErrorCode;
use crate::session::inbound::Inbound;
use crate::session::link::{
    Buffers, Established, Link, Moving, OpenError, Received, Scratch, Then,
};
use crate::session::output::Output;

/// A WebSocket connection.
pub(crate) struct WebSocketLink<S: Stream> {
    inner: StreamLink<S, Messages>,
    /// The upgrade, until it is done.
    upgrading: Option<Box<Upgrading>>,
    /// Encodes frames, when the session core does not.
    encoder: Option<Box<Encoder>>,
    /// What is left to write of the close frame, once it is being written.
    closing: Option<Bytes>,
    client: bool,
}

impl<S: Stream> WebSocketLink<S> {
    /// The server's side of a connection.
    pub(crate) fn server(stream: S, side: Arc<ServerSide>, remote: Option<SocketAddr>) -> Self {
        WebSocketLink::new(stream, Upgrading::server(side, remote), false)
    }

    /// The client's side of a connection.
    pub(crate) fn client(stream: S, side: Arc<ClientSide>) -> Self {
        WebSocketLink::new(stream, Upgrading::client(side), true)
    }

    fn new(stream: S, upgrading: Upgrading, client: bool) -> Self {
        // The decoder of an upgraded connection takes this one's place.
        let messages = Messages::new(DecoderConfig {
            client,
            msgi: false,
            message_limit: 0,
            inflate: None,
        });
        WebSocketLink {
            inner: StreamLink::new(stream, messages),
            upgrading: Some(Box::new(upgrading)),
            encoder: None,
            closing: None,
            client,
        }
    }

    fn install(&mut self, upgraded: Upgraded) {
        let Upgraded {
            decoder,
            framing,
            encoder,
            rest,
        } = upgraded;
        let codec = self.inner.codec_mut();
        codec.msgi = decoder.msgi;
        codec.decoder = Decoder::new(decoder);
        codec.framing = framing;
        self.encoder = encoder.map(Box::new);
        self.inner.put_back(rest);
        self.upgrading = None;
    }

    /// The close frame that stands for the end of the stream.
    fn close_frame(&self) -> Bytes {
        let code = self.inner.codec().close_code();
        let payload = mapping::close_payload(code, "");
        let mut output = Output::default();
        output.push_control(Opcode::Close, &payload, self.client);
        output.into_bytes()
    }
}

impl<S: Stream> Link for WebSocketLink<S> {
    fn framing(&self) -> Framing {
        self.inner.framing()
    }

    fn needs_opening(&self) -> bool {
        true
    }

    fn poll_open(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
        established: &mut Established,
    ) -> Poll<Result<(), OpenError>> {
        let Some(upgrading) = &mut self.upgrading else {
            return Poll::Ready(Ok(()));
        };
        let stream = self.inner.stream_mut();
        if upgrading.is_below_closed() {
            ready!(stream.poll_open(context, buffers, established))?;
            upgrading.open_below();
        }
        let upgraded = ready!(upgrading.poll(stream, context, buffers, established))?;
        self.install(upgraded);
        Poll::Ready(Ok(()))
    }

    fn refusal(&self, code: ErrorCode, text: &str) -> Bytes {
        match &self.upgrading {
            Some(upgrading) => upgrading.refusal(code, text, self.inner.needs_opening()),
            None => Bytes::new(),
        }
    }

    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
        room: usize,
    ) -> Poll<io::Result<Received>> {
        self.inner.poll_receive(context, buffers, room)
    }

    fn poll_transmit(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
        output: &mut Output,
    ) -> Poll<io::Result<()>> {
        let Some(encoder) = &mut self.encoder else {
            return self.inner.poll_transmit(context, buffers, output);
        };
        loop {
            ready!(self.inner.poll_transmit(context, buffers, encoder.output()))?;
            if !encoder.encode_some(output) {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_transmit_encoded(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
        bytes: &Bytes,
    ) -> Option<Poll<io::Result<usize>>> {
        match self.encoder {
            Some(_) => None,
            None => self.inner.poll_transmit_encoded(context, buffers, bytes),
        }
    }

    fn is_flushed(&self) -> bool {
        self.inner.is_flushed()
    }

    fn held(&self) -> usize {
        let encoded = self.encoder.as_ref().map_or(0, |encoder| encoder.held());
        encoded + self.inner.held()
    }

    fn buffered(&self) -> usize {
        let encoded = self.encoder.as_ref().map_or(0, |encoder| encoder.memory());
        let upgrading = self.upgrading.as_ref();
        encoded + upgrading.map_or(0, |upgrading| upgrading.memory()) + self.inner.buffered()
    }

    fn poll_shutdown(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
    ) -> Poll<io::Result<()>> {
        if self.upgrading.is_some() {
            return self.inner.poll_shutdown(context, buffers);
        }
        if self.inner.codec().msgi {
            let frame = match self.closing.take() {
                Some(frame) => frame,
                None => self.close_frame(),
            };
            let frame = self.closing.insert(frame);
            let stream = self.inner.stream_mut();
            ready!(poll_write_all(stream, context, frame, &mut buffers.scratch))?;
        }
        if self.client {
            // The server closes the connection first, RFC 6455 section 7.1.1.
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_shutdown(context, buffers)
    }

    fn poll_discard(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_discard(context, buffers)
    }

    fn is_mid_frame(&self) -> bool {
        self.inner.is_mid_frame()
    }

    fn leave_runtime(self: Box<Self>) -> io::Result<Moving> {
        let WebSocketLink {
            inner,
            upgrading,
            encoder,
            closing,
            client,
        } = *self;
        let join = inner.leave()?;
        Ok(Box::new(move || {
            Ok(Box::new(WebSocketLink {
                inner: join()?,
                upgrading,
                encoder,
                closing,
                client,
            }))
        }))
    }

    fn shrink(&mut self) {
        self.inner.shrink();
    }
}

/// Writes until nothing is left and everything has been passed on.
fn poll_write_all<S: Stream>(
    stream: &mut S,
    context: &mut Context<'_>,
    bytes: &mut Bytes,
    scratch: &mut Scratch,
) -> Poll<io::Result<()>> {
    while bytes.has_remaining() {
        let written = ready!(stream.poll_write(context, &[IoSlice::new(bytes)], scratch))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        bytes.advance(written);
    }
    stream.poll_flush(context)
}

/// The messages of a connection.
pub(crate) struct Messages {
    decoder: Decoder,
    framing: Framing,
    msgi: bool,
    /// The code of what was refused.
    refused: Option<u16>,
}

impl Messages {
    fn new(config: DecoderConfig) -> Self {
        Messages {
            msgi: config.msgi,
            decoder: Decoder::new(config),
            framing: Framing::WebSocket,
            refused: None,
        }
    }

    /// What this side closes with.
    fn close_code(&self) -> u16 {
        let answered = self.decoder.close_received();
        self.refused
            .or(answered.filter(|&code| code != NO_STATUS))
            .unwrap_or(mapping::NORMAL)
    }
}

impl Codec for Messages {
    fn framing(&self) -> Framing {
        self.framing
    }

    fn split(&mut self, buffer: &mut BytesMut, list: &mut Vec<Span>) -> Split {
        let mut spans = std::mem::take(list);
        let mut copied = BytesMut::new();
        let pass = self.decoder.decode(buffer, &mut spans, &mut copied);
        let data = match pass.source {
            Source::Copied => {
                buffer.advance(pass.consumed);
                copied.freeze()
            }
            Source::Buffer if pass.consumed == 0 => Bytes::new(),
            Source::Buffer => buffer.split_to(pass.consumed).freeze(),
        };
        let then = match pass.error {
            Some(error) => {
                self.refused = Some(error.websocket.unwrap_or(mapping::code_of(error.code)));
                Then::Invalid(error)
            }
            None if pass.ended && self.msgi => Then::End(EndOfStream::Boundary),
            None => Then::More,
        };
        if pass.ended || matches!(then, Then::Invalid(_)) {
            buffer.clear();
        }
        Split {
            frames: Inbound::new(data, spans),
            needed: pass.needed,
            then,
            again: pass.again,
        }
    }

    fn finish(&mut self, rest: BytesMut) -> Received {
        Received {
            frames: Inbound::default(),
            bytes: 0,
            then: Then::End(self.decoder.finish(&rest)),
        }
    }

    /// Text is checked as it arrives.
    fn wants_every_byte(&self) -> bool {
        true
    }

    fn is_mid_frame(&self) -> bool {
        self.decoder.is_mid_message()
    }

    fn buffered(&self) -> usize {
        self.decoder.held()
    }

    fn shrink(&mut self) {
        self.decoder.shrink();
    }
}
