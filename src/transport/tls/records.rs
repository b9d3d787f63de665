//! rustls's unbuffered connections of both sides, driven in one way: records in, payloads and records out.

use std::io::IoSlice;

use bytes::BytesMut;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus,
};
use rustls::{CommonState, Error};

use crate::session::link::Scratch;

/// The longest payload of a record.
pub(super) const RECORD: usize = 16 * 1024;

/// The longest record with its head: TLS 1.2 allows 2 KiB beyond the payload.
pub(super) const MAX_RECORD: usize = 5 + RECORD + 2 * 1024;

/// What a record adds to its payload, at most: head, explicit nonce, tag.
pub(super) const OVERHEAD: usize = 5 + 8 + 16;

/// The connection of one side.
pub(super) enum Connection {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// How far the records that were there have led.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// How many bytes at the front of the records are used up.
    pub(super) used: usize,
    /// Whether the peer has said that nothing more comes.
    pub(super) peer_closed: bool,
}

/// Records to be sent: the front of a buffer whose memory stays initialised.
pub(super) struct Sealed {
    buffer: Vec<u8>,
    len: usize,
}

impl Sealed {
    /// Uses the worker's buffer. [`give_back`](Self::give_back) returns it.
    pub(super) fn take(scratch: &mut Scratch) -> Self {
        Sealed {
            buffer: std::mem::take(&mut scratch.outgoing),
            len: 0,
        }
    }

    pub(super) fn give_back(self, scratch: &mut Scratch) {
        scratch.outgoing = self.buffer;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// Lets `write` write behind what is there. It says how many bytes it wrote, or how many it needs.
    fn append(
        &mut self,
        mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), EncryptError> {
        loop {
            match write(&mut self.buffer[self.len..]) {
                Ok(written) => {
                    self.len += written;
                    return Ok(());
                }
                Err(EncryptError::InsufficientSize(size)) => {
                    self.buffer.resize(self.len + size.required_size, 0);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn encode<D>(&mut self, mut data: EncodeTlsData<'_, D>) {
        // The other error is that it was encoded before, which does not happen here.
        let _ = self.append(|buffer| match data.encode(buffer) {
            Ok(written) => Ok(written),
            Err(EncodeError::InsufficientSize(size)) => Err(EncryptError::InsufficientSize(size)),
            Err(EncodeError::AlreadyEncoded) => Ok(0),
        });
    }
}

impl Connection {
    pub(super) fn common(&self) -> &CommonState {
        match self {
            Connection::Server(connection) => connection,
            Connection::Client(connection) => connection,
        }
    }

    /// Takes all records at the front of `incoming`, which must be what the last call left and what has
    /// arrived since. Payloads are appended to `plain`.
    ///
    /// An error is final. What tells the peer of it is in `sealed`.
    pub(super) fn receive(
        &mut self,
        incoming: &mut [u8],
        plain: &mut BytesMut,
        sealed: &mut Sealed,
    ) -> Result<Progress, Error> {
        match self {
            Connection::Server(connection) => receive(connection, incoming, plain, sealed),
            Connection::Client(connection) => receive(connection, incoming, plain, sealed),
        }
    }

    /// Makes records of `slices`, up to `limit` bytes, a multiple of [`RECORD`]. Returns how many bytes it
    /// took, or `None` when nothing can be sent any more. `incoming` is what `receive` has left.
    pub(super) fn seal(
        &mut self,
        incoming: &mut [u8],
        slices: &[IoSlice<'_>],
        limit: usize,
        gather: &mut BytesMut,
        sealed: &mut Sealed,
    ) -> Option<usize> {
        let what = What::Data(slices, limit, gather);
        match self {
            Connection::Server(connection) => send(connection, incoming, what, sealed),
            Connection::Client(connection) => send(connection, incoming, what, sealed),
        }
    }

    /// Says that nothing more comes from this side.
    pub(super) fn close(&mut self, incoming: &mut [u8], sealed: &mut Sealed) {
        let _ = match self {
            Connection::Server(connection) => send(connection, incoming, What::Close, sealed),
            Connection::Client(connection) => send(connection, incoming, What::Close, sealed),
        };
    }
}

/// What the two sides have in common.
trait Records {
    type Data;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// Whether the next state is a record to be encoded.
    fn has_unsent(&self) -> bool;
}

impl Records for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn has_unsent(&self) -> bool {
        self.wants_write()
    }
}

impl Records for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn has_unsent(&self) -> bool {
        self.wants_write()
    }
}

fn receive<C: Records>(
    connection: &mut C,
    incoming: &mut [u8],
    plain: &mut BytesMut,
    sealed: &mut Sealed,
) -> Result<Progress, Error> {
    let mut progress = Progress::default();
    loop {
        let status = connection.process(&mut incoming[progress.used..]);
        progress.used += status.discard;
        match status.state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    progress.used += record.discard;
                    plain.extend_from_slice(record.payload);
                }
                // Nothing is left to look at: what was after the payload would not be used up.
                if progress.used == incoming.len() && !connection.has_unsent() {
                    return Ok(progress);
                }
            }
            // Never offered, so never there; but left alone it would be there for ever.
            Ok(ConnectionState::ReadEarlyData(_)) => {
                return Err(Error::General("early data that was not offered".into()));
            }
            Ok(ConnectionState::EncodeTlsData(data)) => sealed.encode(data),
            // What was encoded leaves in order, and nothing is read before it has.
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => progress.peer_closed = true,
            Ok(ConnectionState::Closed) => {
                progress.peer_closed = true;
                return Ok(progress);
            }
            Ok(_) => return Ok(progress),
            Err(error) => {
                // The alert comes next. Not further: nothing may be taken after an error.
                while connection.has_unsent()
                    && let Ok(ConnectionState::EncodeTlsData(data)) =
                        connection.process(&mut incoming[progress.used..]).state
                {
                    sealed.encode(data);
                }
                return Err(error);
            }
        }
    }
}

enum What<'a, 'b> {
    Data(&'a [IoSlice<'b>], usize, &'a mut BytesMut),
    Close,
}

fn send<C: Records>(
    connection: &mut C,
    incoming: &mut [u8],
    what: What<'_, '_>,
    sealed: &mut Sealed,
) -> Option<usize> {
    loop {
        match connection.process(incoming).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                return match what {
                    What::Close => sealed
                        .append(|buffer| traffic.queue_close_notify(buffer))
                        .map(|()| 0),
                    What::Data(slices, limit, gather) => {
                        let encrypt = |plain: &[u8], sealed: &mut Sealed| {
                            sealed.append(|buffer| traffic.encrypt(plain, buffer))
                        };
                        in_records(slices, limit, gather, sealed, encrypt)
                    }
                }
                .ok();
            }
            Ok(ConnectionState::EncodeTlsData(data)) => sealed.encode(data),
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => {}
            // All complete records have been received, so there are no payloads.
            Ok(_) | Err(_) => return None,
        }
    }
}

/// Cuts `slices` into full records, whichever slices their bytes are in.
fn in_records(
    slices: &[IoSlice<'_>],
    limit: usize,
    gather: &mut BytesMut,
    sealed: &mut Sealed,
    mut encrypt: impl FnMut(&[u8], &mut Sealed) -> Result<(), EncryptError>,
) -> Result<usize, EncryptError> {
    if let [single] = slices {
        let taken = single.len().min(limit);
        encrypt(&single[..taken], sealed)?;
        return Ok(taken);
    }
    gather.clear();
    let mut taken = 0;
    for slice in slices {
        let mut rest = &slice[..slice.len().min(limit - taken)];
        taken += rest.len();
        while !rest.is_empty() {
            // What fills records by itself need not be copied.
            let whole = rest.len() - rest.len() % RECORD;
            if gather.is_empty() && whole > 0 {
                encrypt(&rest[..whole], sealed)?;
                rest = &rest[whole..];
                continue;
            }
            let (now, later) = rest.split_at(rest.len().min(RECORD - gather.len()));
            gather.extend_from_slice(now);
            rest = later;
            if gather.len() == RECORD {
                encrypt(gather, sealed)?;
                gather.clear();
            }
        }
    }
    if !gather.is_empty() {
        encrypt(gather, sealed)?;
        gather.clear();
    }
    Ok(taken)
}
