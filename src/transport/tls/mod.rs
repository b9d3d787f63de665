//! TLS as a filter over any stream of bytes.
//!
//! Everything large belongs to the worker: records are read into its buffer and decrypted there in place, and
//! what is sent becomes records in another buffer of its. The connection keeps only an unfinished record and
//! what the stream below has not taken, so an idle one holds nothing but rustls's state.

mod records;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{CertificateError, ClientConfig, Error, InvalidMessage, ServerConfig};

use self::records::{Connection, MAX_RECORD, OVERHEAD, Progress, RECORD, Sealed};
use super::stream::{Stream, broken};
use crate::error::ErrorCode;
use crate::events::{self, shown};
use crate::session::link::{Buffers, Established, LinkError, OpenError, READ_CHUNK, Scratch};
use crate::tls::{TlsInfo, take_requested_name};

/// The most that is kept of what the peer sent and that leads nowhere yet: an unfinished record, or an
/// unfinished handshake message with the records it came in.
const KEPT_LIMIT: usize = 64 * 1024;

/// The most that is encrypted at once. It is what a connection keeps when the stream below takes nothing.
/// Half of it costs a sixth more at messages of 64 KiB (`perf/`, case tls-64k).
const WRITE_CHUNK: usize = 8 * RECORD;

/// TLS over a stream.
pub(crate) struct Tls<S> {
    stream: S,
    connection: Box<Connection>,
    /// What was received and is not used up.
    received: Vec<u8>,
    /// Records that the stream below has not taken.
    unsent: Vec<u8>,
    /// Payload that came together with the end of the handshake.
    early: BytesMut,
    failure: Option<Box<LinkError>>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// The stream below is open.
    below_open: bool,
    /// The handshake is done.
    open: bool,
    /// The peer has sent application data.
    heard: bool,
    /// The peer sends nothing more, and said so.
    peer_closed: bool,
    /// The stream below has ended and the peer had not said so.
    cut_off: bool,
    /// This side has said that it sends nothing more.
    closed: bool,
    /// The failure has been told.
    told: bool,
}

impl<S: Stream> Tls<S> {
    /// The server's side of a new connection.
    ///
    /// # Errors
    ///
    /// When rustls refuses the configuration.
    pub(crate) fn server(stream: S, config: Arc<ServerConfig>) -> Result<Self, Error> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self::new(stream, Connection::Server(connection)))
    }

    /// The client's side of a new connection to a server that must have a certificate for `name`.
    ///
    /// # Errors
    ///
    /// When rustls refuses the configuration or has no randomness.
    pub(crate) fn client(
        stream: S,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, Error> {
        let connection = UnbufferedClientConnection::new(config, name)?;
        let mut tls = Self::new(stream, Connection::Client(connection));
        let mut scratch = Scratch::default();
        let mut sealed = Sealed::take(&mut scratch);
        tls.connection
            .receive(&mut [], &mut tls.early, &mut sealed)?;
        tls.unsent = sealed.bytes().to_vec();
        Ok(tls)
    }

    fn new(stream: S, connection: Connection) -> Self {
        Tls {
            stream,
            connection: Box::new(connection),
            received: Vec::new(),
            unsent: Vec::new(),
            early: BytesMut::new(),
            failure: None,
            state: State::default(),
        }
    }

    /// Reads once, behind what is left of earlier reads. 0 is the end of the stream below.
    ///
    /// `room` is for payload: somewhat more is read, so that it is enough for the records of it and never
    /// less than what completes a record.
    fn poll_fill(
        &mut self,
        context: &mut Context<'_>,
        incoming: &mut BytesMut,
        room: usize,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<usize>> {
        incoming.clear();
        incoming.reserve(READ_CHUNK + MAX_RECORD);
        incoming.extend_from_slice(&self.received);
        let kept = self.received.len();
        let records = room.saturating_add((room / RECORD + 1) * OVERHEAD);
        let missing = match *self.received {
            // While a handshake message is unfinished, this is not where a record begins.
            _ if kept >= MAX_RECORD => MAX_RECORD,
            [_, _, _, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([high, low]));
                (5 + length).clamp(kept + 1, kept + MAX_RECORD) - kept
            }
            _ => OVERHEAD,
        };
        let wanted = records.saturating_sub(kept).max(missing);
        self.stream.poll_read(context, incoming, wanted, scratch)
    }

    /// Takes the records in `incoming` and keeps the rest. What they call for is sent, as far as the stream
    /// below takes it.
    fn process(
        &mut self,
        context: &mut Context<'_>,
        incoming: &mut [u8],
        plain: &mut BytesMut,
        scratch: &mut Scratch,
    ) -> Result<(), Error> {
        let mut sealed = Sealed::take(scratch);
        let result = self.connection.receive(incoming, plain, &mut sealed);
        // A failed write shows again at the next one, and what has arrived still counts.
        let _ = self.pass_on(context, sealed.bytes(), scratch);
        sealed.give_back(scratch);
        self.received.clear();
        let Progress { used, peer_closed } = result?;
        self.state.peer_closed |= peer_closed;
        let rest = incoming.get(used..).unwrap_or_default();
        if self.state.peer_closed || rest.is_empty() {
            self.received = Vec::new();
        } else if rest.len() > KEPT_LIMIT {
            return Err(Error::InvalidMessage(
                InvalidMessage::HandshakePayloadTooLarge,
            ));
        } else {
            self.received.extend_from_slice(rest);
        }
        Ok(())
    }

    /// Writes `records` as far as the stream below takes them, and keeps the rest.
    fn pass_on(
        &mut self,
        context: &mut Context<'_>,
        mut records: &[u8],
        scratch: &mut Scratch,
    ) -> io::Result<()> {
        while self.unsent.is_empty() && !records.is_empty() {
            let slices = [IoSlice::new(records)];
            match self.stream.poll_write(context, &slices, scratch) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => records = &records[written..],
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        self.unsent.extend_from_slice(records);
        Ok(())
    }

    fn poll_unsent(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<()>> {
        let mut written = 0;
        let result = loop {
            let rest = &self.unsent[written..];
            if rest.is_empty() {
                break Poll::Ready(Ok(()));
            }
            match self
                .stream
                .poll_write(context, &[IoSlice::new(rest)], scratch)
            {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => written += count,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        if written == self.unsent.len() {
            self.unsent = Vec::new();
        } else {
            self.unsent.drain(..written);
        }
        result
    }

    /// The handshake did not succeed; the alert for the peer is among what is to be sent.
    fn fail_open(&mut self, error: &Error) -> OpenError {
        let text = describe(error);
        let code = ErrorCode::TlsHandshakeFailed;
        events::tls_handshake_failed {
            reason: shown(&text),
        }
        .emit();
        self.failure = Some(Box::new(LinkError::new(code, text.clone())));
        self.state.told = true;
        OpenError::new(code, format!("TLS handshake failed: {text}"))
    }

    fn is_handshaking(&self) -> bool {
        self.connection.common().is_handshaking()
    }

    /// A failed connection has nothing to say. What still arrives is taken, so that the peer gets to read
    /// why.
    fn poll_failed(
        &mut self,
        context: &mut Context<'_>,
        failure: &LinkError,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<usize>> {
        if !std::mem::replace(&mut self.state.told, true) {
            return Poll::Ready(Err(io::Error::other(failure.clone())));
        }
        let mut forgotten = std::mem::take(&mut scratch.incoming);
        forgotten.clear();
        forgotten.reserve(READ_CHUNK);
        let read = self
            .stream
            .poll_read(context, &mut forgotten, READ_CHUNK, scratch);
        forgotten.clear();
        scratch.incoming = forgotten;
        read
    }
}

/// The longest text of rustls's that is repeated, in characters: a certificate may list any number of names.
const SHOWN_CHARS: usize = 512;

/// Says what went wrong, for the texts of errors.
fn describe(error: &Error) -> String {
    match error {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the peer does not speak TLS".into()
        }
        Error::NoCertificatesPresented => "the peer showed no certificate".into(),
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the certificate of the peer is not from an authority that is trusted (UnknownIssuer)"
                .into()
        }
        Error::InvalidCertificate(CertificateError::Other(error)) => error.0.to_string(),
        error => error.to_string().chars().take(SHOWN_CHARS).collect(),
    }
}

impl<S: Stream> Stream for Tls<S> {
    fn needs_opening(&self) -> bool {
        !self.state.open
    }

    fn poll_open(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
        established: &mut Established,
    ) -> Poll<Result<(), OpenError>> {
        if !self.state.below_open {
            if self.stream.needs_opening() {
                ready!(self.stream.poll_open(context, buffers, established))?;
            }
            self.state.below_open = true;
        }
        let scratch = &mut buffers.scratch;
        loop {
            ready!(self.poll_unsent(context, scratch)).map_err(|error| broken(&error))?;
            if !self.is_handshaking() {
                break;
            }
            let mut incoming = std::mem::take(&mut scratch.incoming);
            let read = self.poll_fill(context, &mut incoming, MAX_RECORD, scratch);
            let result = match read {
                Poll::Ready(Ok(1..)) => {
                    take_requested_name();
                    let mut plain = std::mem::take(&mut self.early);
                    let result = self.process(context, &mut incoming, &mut plain, scratch);
                    self.early = plain;
                    if let Some(name) = take_requested_name() {
                        established.requested_name = Some(name);
                    }
                    Poll::Ready(Ok(result))
                }
                Poll::Ready(Ok(_)) => {
                    let text = "the peer closed the connection during the TLS handshake";
                    Poll::Ready(Err(OpenError::new(ErrorCode::ConnectionClosed, text)))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(broken(&error))),
                Poll::Pending => Poll::Pending,
            };
            incoming.clear();
            scratch.incoming = incoming;
            if let Err(error) = ready!(result)? {
                return Poll::Ready(Err(self.fail_open(&error)));
            }
            if self.state.peer_closed && self.is_handshaking() {
                let text = "the peer gave the TLS handshake up";
                let error = OpenError::new(ErrorCode::ConnectionClosed, text);
                return Poll::Ready(Err(error));
            }
        }
        self.state.open = true;
        let name = match &*self.connection {
            Connection::Server(_) => established.requested_name.take(),
            Connection::Client(_) => None,
        };
        let info = TlsInfo::new(self.connection.common(), name);
        events::tls_established {
            version: info.version().name(),
            cipher_suite: info.cipher_suite(),
            resumed: info.is_resumed(),
        }
        .emit();
        established.tls = Some(Arc::new(info));
        Poll::Ready(Ok(()))
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        into: &mut BytesMut,
        room: usize,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<usize>> {
        if let Some(failure) = self.failure.take() {
            let result = self.poll_failed(context, &failure, scratch);
            self.failure = Some(failure);
            return result;
        }
        if !self.early.is_empty() {
            let early = std::mem::take(&mut self.early);
            into.extend_from_slice(&early);
            self.state.heard = true;
            return Poll::Ready(Ok(early.len()));
        }
        // An answer to a key update may wait, and nothing else may be written for long.
        if !self.unsent.is_empty() {
            let _ = self.poll_unsent(context, scratch);
        }
        let before = into.len();
        let mut fruitless = 0;
        while !self.state.peer_closed {
            if fruitless >= READ_CHUNK {
                // The turn is over; records without payload are no reason to stay longer.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let mut incoming = std::mem::take(&mut scratch.incoming);
            let read = self.poll_fill(context, &mut incoming, room, scratch);
            let result = match read {
                Poll::Ready(Ok(1..)) => self.process(context, &mut incoming, into, scratch),
                _ => Ok(()),
            };
            incoming.clear();
            scratch.incoming = incoming;
            fruitless += match ready!(read)? {
                0 => {
                    self.state.cut_off = true;
                    return Poll::Ready(Ok(0));
                }
                bytes => bytes,
            };
            let payload = into.len() - before;
            self.state.heard |= payload > 0;
            if let Err(error) = result {
                // Before the first byte it is the handshake that failed: a TLS 1.3 server judges the
                // certificate of its client when the client is done.
                let code = match self.state.heard {
                    true => ErrorCode::ReceiveFailed,
                    false => ErrorCode::TlsHandshakeFailed,
                };
                let failure = LinkError::new(code, describe(&error));
                if payload == 0 {
                    self.state.told = true;
                    self.failure = Some(Box::new(failure.clone()));
                    return Poll::Ready(Err(io::Error::other(failure)));
                }
                self.failure = Some(Box::new(failure));
            }
            if payload > 0 {
                return Poll::Ready(Ok(payload));
            }
        }
        Poll::Ready(Ok(0))
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        scratch: &mut Scratch,
    ) -> Poll<io::Result<usize>> {
        if self.failure.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(self.poll_unsent(context, scratch))?;
        let mut gather = std::mem::take(&mut scratch.incoming);
        let mut sealed = Sealed::take(scratch);
        let taken = self.connection.seal(
            &mut self.received,
            slices,
            WRITE_CHUNK,
            &mut gather,
            &mut sealed,
        );
        gather.clear();
        let result = match taken {
            Some(taken) => self
                .pass_on(context, sealed.bytes(), scratch)
                .map(|()| taken),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        sealed.give_back(scratch);
        scratch.incoming = gather;
        Poll::Ready(result)
    }

    fn is_flushed(&self) -> bool {
        self.unsent.is_empty() && self.stream.is_flushed()
    }

    fn held(&self) -> usize {
        self.unsent.len()
    }

    fn buffered(&self) -> usize {
        self.received.capacity()
            + self.unsent.capacity()
            + self.early.capacity()
            + self.stream.buffered()
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(context, &mut Scratch::default()))?;
        self.stream.poll_flush(context)
    }

    fn poll_shutdown(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.state.closed, true)
            && self.state.open
            && self.failure.is_none()
        {
            let mut sealed = Sealed::take(scratch);
            self.connection.close(&mut self.received, &mut sealed);
            let result = self.pass_on(context, sealed.bytes(), scratch);
            sealed.give_back(scratch);
            result?;
        }
        ready!(self.poll_unsent(context, scratch))?;
        self.stream.poll_shutdown(context, scratch)
    }

    fn was_cut_off(&self) -> bool {
        self.state.cut_off || self.stream.was_cut_off()
    }

    fn leave_runtime(self) -> io::Result<Box<dyn FnOnce() -> io::Result<Self> + Send>> {
        let Tls {
            stream,
            connection,
            received,
            unsent,
            early,
            failure,
            state,
        } = self;
        let join = stream.leave_runtime()?;
        Ok(Box::new(move || {
            Ok(Tls {
                stream: join()?,
                connection,
                received,
                unsent,
                early,
                failure,
                state,
            })
        }))
    }

    fn shrink(&mut self) {
        self.stream.shrink();
    }
}
