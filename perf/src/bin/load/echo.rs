//! `echo`: every connection keeps a number of messages outstanding.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use network_system_perf::report::Report;
use network_system_perf::scheme::Scheme;
use network_system_perf::sys::{Epoll, Events, Interest};

use crate::outgoing::Scratch;
use crate::peer::{self, Opening, Peer};
use crate::shape::Shape;
use crate::{Options, READ_BUFFER, datagrams};

/// How long to wait for events before the clock is looked at again.
pub(crate) const TICK_MS: i32 = 100;

pub(crate) fn run(options: &Options) -> io::Result<Report> {
    let Options {
        target,
        connections,
        size,
        ..
    } = options;
    if target.scheme == Scheme::Udp {
        return datagrams::run(options);
    }
    let shape = Shape::new(options.format(), *size);
    let peers = peer::open(
        target,
        *connections,
        Opening::Echo,
        &shape,
        options.reliable,
    )?;
    let epoll = Epoll::new()?;
    let mut echoes = Vec::new();
    for (index, peer) in peers.into_iter().enumerate() {
        peer.stream.socket().set_nonblocking(true)?;
        epoll.add(peer.stream.socket(), index as u64, Interest::Stream)?;
        echoes.push(Echo {
            peer,
            sent: VecDeque::new(),
        });
    }

    let mut window = options.window();
    let mut scratch = Scratch::default();
    for echo in &mut echoes {
        echo.send(options.outstanding, Instant::now(), &shape, &mut scratch)?;
    }
    let mut buffer = vec![0; READ_BUFFER];
    let mut events = Events::with_capacity(1024);
    loop {
        epoll.wait(&mut events, TICK_MS)?;
        for event in events.iter() {
            let echo = &mut echoes[event.token as usize];
            if event.writable() {
                echo.peer.write(&shape, &mut scratch)?;
            }
            // What is outstanding bounds this loop.
            let mut more = event.readable();
            while more {
                let taken;
                (taken, more) = echo.peer.read(&shape, &mut buffer)?;
                if taken.messages > 0 {
                    let now = Instant::now();
                    echo.arrived(taken.messages, |messages, sent| {
                        window.count(messages, sent, now);
                    });
                    echo.send(taken.messages, now, &shape, &mut scratch)?;
                }
            }
        }
        if let Some(report) = window.check()? {
            return Ok(report);
        }
    }
}

struct Echo {
    peer: Peer,
    /// How many messages were sent at what time, the oldest first.
    sent: VecDeque<(u64, Instant)>,
}

impl Echo {
    fn send(
        &mut self,
        messages: u64,
        now: Instant,
        shape: &Shape,
        scratch: &mut Scratch,
    ) -> io::Result<()> {
        self.sent.push_back((messages, now));
        self.peer.outgoing.queue(messages);
        self.peer.write(shape, scratch)
    }

    /// Calls `each` with the numbers of messages that were sent together.
    fn arrived(&mut self, mut messages: u64, mut each: impl FnMut(u64, Instant)) {
        while messages > 0
            && let Some((left, sent)) = self.sent.front_mut()
        {
            let count = messages.min(*left);
            each(count, *sent);
            messages -= count;
            *left -= count;
            if *left == 0 {
                self.sent.pop_front();
            }
        }
    }
}
