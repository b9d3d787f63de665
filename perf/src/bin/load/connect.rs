//! `connect`: opens a connection, exchanges one message, closes, and repeats.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Instant;

use network_system_perf::report::Report;
use network_system_perf::scheme::Scheme;
use network_system_perf::sys::{self, Epoll, Events, Interest};

use crate::echo::TICK_MS;
use crate::outgoing::Scratch;
use crate::peer::{Peer, first_sequence};
use crate::shape::Shape;
use crate::stream::Stream;
use crate::{Options, READ_BUFFER};

/// Connections come from this many loopback addresses in turn, because a
/// closed one keeps its port for a while.
const SOURCES: usize = 200;

pub(crate) fn run(options: &Options) -> io::Result<Report> {
    let server = match options.target.address {
        SocketAddr::V4(server) if server.ip().is_loopback() => server,
        _ => return Err(io::Error::other("connect needs an IPv4 loopback address")),
    };
    if options.target.scheme != Scheme::Tcp {
        return Err(io::Error::other("connect is for tcp:// only"));
    }
    let mut run = Run {
        server,
        epoll: Epoll::new()?,
        shape: Shape::new(options.format(), options.size),
        opened: 0,
        scratch: Scratch::default(),
    };
    let mut window = options.window();
    let mut buffer = vec![0; READ_BUFFER];
    let mut events = Events::with_capacity(1024);
    let mut slots = Vec::new();
    for index in 0..options.in_flight {
        slots.push(run.open(index)?);
    }
    loop {
        run.epoll.wait(&mut events, TICK_MS)?;
        for event in events.iter() {
            let index = event.token as usize;
            let (peer, begun) = &mut slots[index];
            if event.writable() {
                peer.write(&run.shape, &mut run.scratch)?;
            }
            if event.readable() {
                let (taken, _) = peer.read(&run.shape, &mut buffer)?;
                if taken.messages > 0 {
                    window.count(1, *begun, Instant::now());
                    // The assignment closes the old connection.
                    slots[index] = run.open(index)?;
                }
            }
        }
        if let Some(report) = window.check()? {
            return Ok(report);
        }
    }
}

struct Run {
    server: SocketAddrV4,
    epoll: Epoll,
    shape: Shape,
    opened: usize,
    scratch: Scratch,
}

impl Run {
    /// Opens a connection for slot `index` and sends its message.
    fn open(&mut self, index: usize) -> io::Result<(Peer, Instant)> {
        let begun = Instant::now();
        let source = Ipv4Addr::new(127, 0, 1, (self.opened % SOURCES) as u8 + 1);
        let stream = sys::connect_from(source, self.server)?;
        self.epoll.add(&stream, index as u64, Interest::Stream)?;
        let mut peer = Peer::new(Stream::Plain(stream), first_sequence(self.opened));
        self.opened += 1;
        peer.outgoing.queue(1);
        peer.write(&self.shape, &mut self.scratch)?;
        Ok((peer, begun))
    }
}
