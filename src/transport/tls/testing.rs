//! Two ends of a connection in memory, polled by hand.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use rustls::{ClientConfig, ServerConfig};

use super::Tls;
use crate::endpoint::Host;
use crate::session::link::{Buffers, Established, OpenError, READ_CHUNK, Scratch};
use crate::tls::{Alpn, TlsClient, TlsInfo, TlsServer};
use crate::transport::stream::Stream;

/// One direction.
#[derive(Default)]
struct Way {
    bytes: VecDeque<u8>,
    ended: bool,
    /// How many bytes it holds at most.
    room: usize,
    /// How many bytes have gone through.
    total: usize,
    writes: usize,
}

/// One end of a stream in memory. It never wakes anyone.
pub(crate) struct Pipe {
    inward: Arc<Mutex<Way>>,
    outward: Arc<Mutex<Way>>,
    /// How many bytes one read brings at most.
    pub(crate) read_size: usize,
}

fn lock(way: &Mutex<Way>) -> MutexGuard<'_, Way> {
    way.lock().unwrap()
}

impl Pipe {
    pub(crate) fn pair() -> (Pipe, Pipe) {
        let way = || {
            let room = usize::MAX;
            Arc::new(Mutex::new(Way {
                room,
                ..Way::default()
            }))
        };
        let (one, other) = (way(), way());
        let end = |inward: &Arc<_>, outward: &Arc<_>| Pipe {
            inward: Arc::clone(inward),
            outward: Arc::clone(outward),
            read_size: usize::MAX,
        };
        (end(&one, &other), end(&other, &one))
    }

    pub(crate) fn set_room(&self, room: usize) {
        lock(&self.outward).room = room;
    }

    /// How many bytes and in how many writes this end has sent.
    pub(crate) fn sent(&self) -> (usize, usize) {
        let way = lock(&self.outward);
        (way.total, way.writes)
    }

    /// Puts bytes in as if the other end had sent them.
    pub(crate) fn inject(&self, bytes: &[u8]) {
        lock(&self.inward).bytes.extend(bytes);
    }

    /// Changes what is on its way to this end.
    pub(crate) fn tamper(&self, change: impl FnOnce(&mut VecDeque<u8>)) {
        change(&mut lock(&self.inward).bytes);
    }

    /// Ends the direction to this end, whatever the other end says.
    pub(crate) fn cut_off(&self) {
        lock(&self.inward).ended = true;
    }
}

impl Stream for Pipe {
    fn poll_read(
        &mut self,
        _context: &mut Context<'_>,
        into: &mut BytesMut,
        room: usize,
        _scratch: &mut Scratch,
    ) -> Poll<io::Result<usize>> {
        let mut way = lock(&self.inward);
        let count = way.bytes.len().min(room).min(self.read_size);
        if count == 0 && !way.ended {
            return Poll::Pending;
        }
        let bytes: Vec<u8> = way.bytes.drain(..count).collect();
        into.extend_from_slice(&bytes);
        Poll::Ready(Ok(count))
    }

    fn poll_write(
        &mut self,
        _context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        _scratch: &mut Scratch,
    ) -> Poll<io::Result<usize>> {
        let mut way = lock(&self.outward);
        if way.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = way.room.saturating_sub(way.bytes.len());
        if room == 0 {
            return Poll::Pending;
        }
        let bytes: Vec<u8> = slices
            .iter()
            .flat_map(|s| s.iter())
            .copied()
            .take(room)
            .collect();
        way.bytes.extend(&bytes);
        way.total += bytes.len();
        way.writes += 1;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_shutdown(
        &mut self,
        _context: &mut Context<'_>,
        _scratch: &mut Scratch,
    ) -> Poll<io::Result<()>> {
        lock(&self.outward).ended = true;
        Poll::Ready(Ok(()))
    }

    fn leave_runtime(self) -> io::Result<Box<dyn FnOnce() -> io::Result<Self> + Send>> {
        Ok(Box::new(move || Ok(self)))
    }
}

/// One end of a TLS connection with the buffers of its worker.
pub(crate) struct End {
    pub(crate) tls: Tls<Pipe>,
    pub(crate) buffers: Buffers,
    pub(crate) established: Established,
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl End {
    pub(crate) fn server(pipe: Pipe, server: &TlsServer, alpn: Alpn) -> Self {
        Self::new(Tls::server(pipe, server.config(alpn)).unwrap())
    }

    pub(crate) fn client(pipe: Pipe, client: &TlsClient, host: &str, alpn: Alpn) -> Self {
        let host = match host.parse() {
            Ok(address) => Host::Ip(address),
            Err(_) => Host::Name(host.into()),
        };
        let name = client.server_name(&host).unwrap();
        Self::new(Tls::client(pipe, client.config(alpn), name).unwrap())
    }

    /// A server with a configuration of rustls's.
    pub(crate) fn server_with(pipe: Pipe, config: Arc<ServerConfig>) -> Self {
        Self::new(Tls::server(pipe, config).unwrap())
    }

    /// A client with a configuration of rustls's.
    pub(crate) fn client_with(pipe: Pipe, config: Arc<ClientConfig>) -> Self {
        let name = "localhost".try_into().unwrap();
        Self::new(Tls::client(pipe, config, name).unwrap())
    }

    fn new(tls: Tls<Pipe>) -> Self {
        End {
            tls,
            buffers: Buffers::default(),
            established: Established::default(),
        }
    }

    pub(crate) fn open(&mut self) -> Poll<Result<(), OpenError>> {
        let End {
            tls,
            buffers,
            established,
        } = self;
        tls.poll_open(&mut context(), buffers, established)
    }

    pub(crate) fn info(&self) -> &TlsInfo {
        self.established.tls.as_deref().unwrap()
    }

    /// One read.
    pub(crate) fn read(&mut self, into: &mut BytesMut, room: usize) -> Poll<io::Result<usize>> {
        let scratch = &mut self.buffers.scratch;
        self.tls.poll_read(&mut context(), into, room, scratch)
    }

    /// Reads until nothing is there. Says whether the stream has ended.
    pub(crate) fn read_all(&mut self) -> io::Result<(Vec<u8>, bool)> {
        let mut bytes = BytesMut::new();
        loop {
            let before = bytes.len();
            match self.read(&mut bytes, READ_CHUNK) {
                Poll::Pending => return Ok((bytes.to_vec(), false)),
                Poll::Ready(Ok(0)) => return Ok((bytes.to_vec(), true)),
                Poll::Ready(Ok(count)) => assert_eq!(bytes.len(), before + count),
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
    }

    /// One write.
    pub(crate) fn write(&mut self, slices: &[&[u8]]) -> Poll<io::Result<usize>> {
        let slices: Vec<_> = slices.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let scratch = &mut self.buffers.scratch;
        self.tls.poll_write(&mut context(), &slices, scratch)
    }

    pub(crate) fn write_all(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.write(&[bytes]) {
                Poll::Ready(Ok(taken)) => bytes = &bytes[taken..],
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) fn flush(&mut self) -> Poll<io::Result<()>> {
        self.tls.poll_flush(&mut context())
    }

    pub(crate) fn shutdown(&mut self) -> Poll<io::Result<()>> {
        let scratch = &mut self.buffers.scratch;
        self.tls.poll_shutdown(&mut context(), scratch)
    }
}

/// What became of the two ends of a handshake.
pub(crate) struct Handshake {
    pub(crate) server: End,
    pub(crate) client: End,
    pub(crate) server_result: Result<(), OpenError>,
    pub(crate) client_result: Result<(), OpenError>,
}

/// Shakes hands until neither side goes on. A side that still waits then is told that the stream has ended.
pub(crate) fn handshake(server: &TlsServer, client: &TlsClient, host: &str) -> Handshake {
    let (one, other) = Pipe::pair();
    let server = End::server(one, server, Alpn::Stream);
    let client = End::client(other, client, host, Alpn::Stream);
    finish(server, client)
}

pub(crate) fn finish(mut server: End, mut client: End) -> Handshake {
    let mut results = [None, None];
    // Each turn of the loop is a flight; no handshake has that many.
    for flight in 0.. {
        for (end, result) in [&mut client, &mut server].into_iter().zip(&mut results) {
            if result.is_none()
                && let Poll::Ready(ready) = end.open()
            {
                *result = Some(ready);
            }
        }
        if results.iter().all(Option::is_some) {
            break;
        }
        if flight > 10_000 {
            server.tls.stream.cut_off();
            client.tls.stream.cut_off();
        }
    }
    let [client_result, server_result] = results.map(Option::unwrap);
    Handshake {
        server,
        client,
        server_result,
        client_result,
    }
}

/// Two open ends.
pub(crate) fn open(server: &TlsServer, client: &TlsClient) -> (End, End) {
    let done = handshake(server, client, "localhost");
    done.client_result.unwrap();
    done.server_result.unwrap();
    (done.server, done.client)
}
