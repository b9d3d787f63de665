//! One connection of the load generator.

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use network_system_perf::frame::HEADER_LEN;

use crate::incoming::{Incoming, Taken};
use crate::outgoing::{Outgoing, Scratch};
use crate::reliable::Acks;
use crate::shape::Shape;
use crate::stream::{Connector, Stream};
use crate::target::Target;

/// How many connections are opened before the first of them is waited for; well
/// under the backlog of any server.
const OPEN_TOGETHER: usize = 64;
/// How long a server may stay silent before the run fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A connection with both of its directions.
pub(crate) struct Peer {
    pub(crate) stream: Stream,
    pub(crate) outgoing: Outgoing,
    incoming: Incoming,
    /// Only on a reliable session.
    acks: Option<Acks>,
}

impl Peer {
    /// A connection whose messages count up from `first` in both directions.
    pub(crate) fn new(stream: Stream, first: u64) -> Self {
        Self {
            stream,
            outgoing: Outgoing::new(first),
            incoming: Incoming::new(first),
            acks: None,
        }
    }

    /// Reads once and checks what came. The flag says that the buffer was
    /// filled, so that there may be more.
    pub(crate) fn read(&mut self, shape: &Shape, buffer: &mut [u8]) -> io::Result<(Taken, bool)> {
        let mut taken = Taken::default();
        let Self {
            stream, incoming, ..
        } = self;
        match stream.read(buffer, |bytes| incoming.take(bytes, shape, &mut taken)) {
            Ok(is_filled) => {
                self.received(taken);
                Ok((taken, is_filled))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.received(taken);
                Ok((taken, false))
            }
            Err(error) => Err(error),
        }
    }

    fn received(&mut self, taken: Taken) {
        if let Some(acks) = &mut self.acks {
            acks.count(taken.messages + taken.probes);
        }
    }

    /// Writes queued messages until none is left or the socket is full.
    pub(crate) fn write(&mut self, shape: &Shape, scratch: &mut Scratch) -> io::Result<()> {
        self.stream.flush()?;
        let mut none = Vec::new();
        let lead = match &mut self.acks {
            Some(acks) if self.outgoing.is_between_frames() => acks.due(),
            _ => &mut none,
        };
        let gather = self.stream.gather();
        self.outgoing
            .write(&mut self.stream, gather, lead, shape, scratch)
    }
}

/// The first number of the connection with index `index`. Connections count in
/// ranges of their own, so that an answer on the wrong one is noticed.
pub(crate) fn first_sequence(index: usize) -> u64 {
    (index as u64) << 32
}

/// What opens a connection.
#[derive(Clone, Copy)]
pub(crate) enum Opening {
    /// A message, which the server echoes.
    Echo,
    /// A ping, which the server answers.
    Ping,
}

/// Opens `count` connections, and waits on each for the answer to its first
/// frame. Connections opened with [`Opening::Echo`] count in ranges of their
/// own, the others from zero. The sockets are left blocking.
pub(crate) fn open(
    target: &Target,
    count: usize,
    opening: Opening,
    shape: &Shape,
    reliable: bool,
) -> io::Result<Vec<Peer>> {
    let connector = Connector::new(target, shape.format, reliable)?;
    let mut peers = Vec::with_capacity(count);
    let mut buffer = vec![0; crate::READ_BUFFER];
    let mut scratch = Scratch::default();
    while peers.len() < count {
        let opened = peers.len();
        for index in opened..count.min(opened + OPEN_TOGETHER) {
            let stream = connector.open()?;
            let mut peer = match opening {
                Opening::Echo => {
                    let mut peer = Peer::new(stream, first_sequence(index));
                    peer.outgoing.queue(1);
                    peer.write(shape, &mut scratch)?;
                    peer
                }
                Opening::Ping => {
                    let mut peer = Peer::new(stream, 0);
                    peer.stream.write_all(&shape.ping())?;
                    peer
                }
            };
            if reliable {
                peer.acks = Some(Acks::new(shape.received.len() - HEADER_LEN));
            }
            peers.push(peer);
        }
        for peer in &mut peers[opened..] {
            wait_for_answer(peer, shape, &mut buffer)?;
        }
    }
    Ok(peers)
}

/// Reads a blocking socket until it brought an answer.
pub(crate) fn wait_for_answer(peer: &mut Peer, shape: &Shape, buffer: &mut [u8]) -> io::Result<()> {
    let Peer {
        stream, incoming, ..
    } = peer;
    let mut taken = Taken::default();
    while taken.messages + taken.pongs == 0 {
        stream
            .read(buffer, |bytes| incoming.take(bytes, shape, &mut taken))
            .map_err(|error| match error.kind() {
                ErrorKind::WouldBlock => io::Error::other("the server did not answer"),
                _ => error,
            })?;
    }
    peer.received(taken);
    Ok(())
}
