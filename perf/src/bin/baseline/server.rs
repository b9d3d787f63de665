//! The epoll loop that the bare servers share.
//!
//! One read buffer serves all connections. A connection owns memory only for a
//! frame that is not complete and for output that its socket did not take;
//! while there is such output, the connection is not read.

use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use network_system_perf::frame::Malformed;
use network_system_perf::sys::{self, Epoll, Events, Interest};

/// The size of the shared read buffer. Smaller ones cost more system calls for
/// large messages, larger ones leave the second-level cache.
const READ_BUFFER: usize = 256 * 1024;
const EVENTS: usize = 1024;
const LISTENER: u64 = u64::MAX;

/// What a server does with the bytes that it receives.
pub(crate) trait Service {
    /// Takes what one read brought from connection `from`; an error closes it.
    fn received(
        &mut self,
        connections: &mut Connections,
        from: usize,
        bytes: &[u8],
    ) -> Result<(), Malformed>;
}

/// Accepts and serves connections; returns on failure only.
pub(crate) fn run(listener: TcpListener, mut service: impl Service) -> io::Result<()> {
    let epoll = Epoll::new()?;
    epoll.add(&listener, LISTENER, Interest::Read)?;
    let mut events = Events::with_capacity(EVENTS);
    let mut buffer = vec![0; READ_BUFFER];
    let mut connections = Connections::default();
    // Connections that may have more to read although no new edge will say so:
    // those whose read filled the buffer, and those whose peer has closed. They
    // get their next turn after the other ready connections had theirs. A blocked
    // one gets it from the edge that unblocks it, which shows its whole state.
    let mut unfinished = Vec::new();
    let mut turns = Vec::new();
    loop {
        epoll.wait(&mut events, if unfinished.is_empty() { -1 } else { 0 })?;
        mem::swap(&mut unfinished, &mut turns);
        for event in events.iter() {
            if event.token == LISTENER {
                accept(&epoll, &listener, &mut connections)?;
                continue;
            }
            let token = event.token as usize;
            if event.closed() {
                connections.note_end(token);
            }
            if event.writable() {
                connections.flush(token);
            }
            if event.readable() && read(&mut connections, token, &mut buffer, &mut service) {
                unfinished.push(token);
            }
        }
        for token in turns.drain(..) {
            if read(&mut connections, token, &mut buffer, &mut service) {
                unfinished.push(token);
            }
        }
    }
}

fn accept(epoll: &Epoll, listener: &TcpListener, connections: &mut Connections) -> io::Result<()> {
    loop {
        match sys::accept(listener) {
            Ok(stream) => {
                epoll.add(&stream, stream.as_raw_fd() as u64, Interest::Stream)?;
                connections.insert(stream);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads once. Says whether there may be more to read.
fn read(
    connections: &mut Connections,
    token: usize,
    buffer: &mut [u8],
    service: &mut impl Service,
) -> bool {
    let Some(connection) = connections.get(token) else {
        return false;
    };
    if connection.is_blocked() {
        return false;
    }
    match connection.stream.read(buffer) {
        Ok(0) => connections.close(token),
        Ok(len) => match service.received(connections, token, &buffer[..len]) {
            Ok(()) => return len == buffer.len() || connections.has_ended(token),
            Err(Malformed) => connections.close(token),
        },
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        Err(error) if error.kind() == ErrorKind::Interrupted => return true,
        Err(_) => connections.close(token),
    }
    false
}

/// The open connections. Their tokens are their descriptors, which are small
/// and dense numbers.
#[derive(Default)]
pub(crate) struct Connections {
    slots: Vec<Option<Connection>>,
}

struct Connection {
    stream: TcpStream,
    /// The beginning of a frame whose end has not come yet.
    partial: Vec<u8>,
    /// Output that the socket did not take; empty unless it is blocked.
    unsent: Vec<u8>,
    /// How much of `unsent` the socket has taken since.
    sent: usize,
    /// The peer has shut down its side, or the connection is broken.
    ended: bool,
    /// The upgrade to WebSocket is done; of no meaning to other services.
    upgraded: bool,
}

impl Connections {
    /// Writes `bytes` to a connection, or keeps what the socket does not take.
    pub(crate) fn send(&mut self, to: usize, bytes: &[u8]) {
        let Some(connection) = self.get(to) else {
            return;
        };
        let mut taken = 0;
        if !connection.is_blocked() {
            match write(&mut connection.stream, bytes) {
                Ok(len) => taken = len,
                Err(_) => return self.close(to),
            }
        }
        connection.unsent.extend_from_slice(&bytes[taken..]);
    }

    /// Sends `bytes` to every connection but one.
    pub(crate) fn send_to_others(&mut self, except: usize, bytes: &[u8]) {
        for token in 0..self.slots.len() {
            if token != except {
                self.send(token, bytes);
            }
        }
    }

    /// The unfinished frame of a connection, taken out; to be put back.
    pub(crate) fn take_partial(&mut self, token: usize) -> Vec<u8> {
        self.get(token)
            .map(|connection| mem::take(&mut connection.partial))
            .unwrap_or_default()
    }

    /// Puts the unfinished frame of a connection back.
    pub(crate) fn put_partial(&mut self, token: usize, partial: Vec<u8>) {
        if let Some(connection) = self.get(token) {
            connection.partial = partial;
        }
    }

    /// Whether [`Connections::set_upgraded`] was called for a connection.
    pub(crate) fn is_upgraded(&mut self, token: usize) -> bool {
        self.get(token)
            .is_some_and(|connection| connection.upgraded)
    }

    /// Remembers that the upgrade of a connection is done.
    pub(crate) fn set_upgraded(&mut self, token: usize) {
        if let Some(connection) = self.get(token) {
            connection.upgraded = true;
        }
    }

    fn insert(&mut self, stream: TcpStream) {
        let token = stream.as_raw_fd() as usize;
        if self.slots.len() <= token {
            self.slots.resize_with(token + 1, || None);
        }
        self.slots[token] = Some(Connection {
            stream,
            partial: Vec::new(),
            unsent: Vec::new(),
            sent: 0,
            ended: false,
            upgraded: false,
        });
    }

    fn get(&mut self, token: usize) -> Option<&mut Connection> {
        self.slots.get_mut(token)?.as_mut()
    }

    /// Remembers that the peer sends no more, so that what it sent is read to
    /// the end.
    fn note_end(&mut self, token: usize) {
        if let Some(connection) = self.get(token) {
            connection.ended = true;
        }
    }

    fn has_ended(&mut self, token: usize) -> bool {
        self.get(token).is_some_and(|connection| connection.ended)
    }

    fn close(&mut self, token: usize) {
        self.slots[token] = None;
    }

    /// Writes what is unsent.
    fn flush(&mut self, token: usize) {
        let Some(connection) = self.get(token) else {
            return;
        };
        if !connection.is_blocked() {
            return;
        }
        match write(
            &mut connection.stream,
            &connection.unsent[connection.sent..],
        ) {
            Ok(len) => connection.sent += len,
            Err(_) => return self.close(token),
        }
        if connection.sent == connection.unsent.len() {
            connection.unsent.clear();
            connection.sent = 0;
        }
    }
}

impl Connection {
    fn is_blocked(&self) -> bool {
        !self.unsent.is_empty()
    }
}

/// Writes once. A short write means that the socket is full, and that the
/// kernel will tell when it no longer is.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match stream.write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
