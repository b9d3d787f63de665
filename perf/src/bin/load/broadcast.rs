//! `broadcast`: one connection sends, and every other one must receive all of
//! it in order. Messages are sent in bursts: the next one goes out when all
//! receivers have the one before.
//!
//! A burst leaves in one write, so that every server gets the same work: what
//! it reads at once, and what it can write at once, does not depend on its
//! own pace.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use network_system_perf::report::Report;
use network_system_perf::sys::{Epoll, Events, Interest};

use crate::echo::TICK_MS;
use crate::incoming::Taken;
use crate::outgoing::Scratch;
use crate::peer::{self, Opening, PATIENCE, Peer};
use crate::shape::{PROBE, Shape};
use crate::{KEEP_ALIVE, Options, READ_BUFFER};

/// How often the sender asks whether all receivers hear it.
const PROBE_INTERVAL: Duration = Duration::from_millis(200);

pub(crate) fn run(options: &Options) -> io::Result<Report> {
    let mut run = Run::open(options)?;
    run.probe()?;

    let mut window = options.window();
    let burst = options.outstanding;
    let mut kept_alive = Instant::now();
    loop {
        let sent = Instant::now();
        let sender = run.peers.first_mut().expect("there is a sender");
        sender.outgoing.queue(burst);
        sender.write(&run.shape, &mut run.scratch)?;
        let mut missing = burst * options.connections as u64;
        while missing > 0 {
            run.turn(|_, taken| {
                missing -= taken.messages;
                window.count(taken.messages, sent, Instant::now());
            })?;
            if let Some(report) = window.check()? {
                return Ok(report);
            }
        }
        if kept_alive.elapsed() >= KEEP_ALIVE {
            kept_alive = Instant::now();
            run.keep_alive()?;
        }
    }
}

/// The sender, which is the first of the peers, and the receivers.
struct Run {
    shape: Shape,
    epoll: Epoll,
    peers: Vec<Peer>,
    events: Events,
    buffer: Vec<u8>,
    scratch: Scratch,
}

impl Run {
    fn open(options: &Options) -> io::Result<Self> {
        let shape = Shape::new(options.format(), options.size);
        let peers = peer::open(
            &options.target,
            options.connections + 1,
            Opening::Ping,
            &shape,
            false,
        )?;
        let epoll = Epoll::new()?;
        for (index, peer) in peers.iter().enumerate() {
            peer.stream.socket().set_nonblocking(true)?;
            epoll.add(peer.stream.socket(), index as u64, Interest::Stream)?;
        }
        Ok(Self {
            shape,
            epoll,
            peers,
            events: Events::with_capacity(1024),
            buffer: vec![0; READ_BUFFER],
            scratch: Scratch::default(),
        })
    }

    /// Reads what has come once, and calls `received` for each receiver that
    /// got something. What the sender gets back is checked and not counted.
    fn turn(&mut self, mut received: impl FnMut(usize, Taken)) -> io::Result<()> {
        self.epoll.wait(&mut self.events, TICK_MS)?;
        for event in self.events.iter() {
            let index = event.token as usize;
            let peer = &mut self.peers[index];
            if index == 0 && event.writable() {
                peer.write(&self.shape, &mut self.scratch)?;
            }
            // A burst bounds this loop.
            let mut more = event.readable();
            while more {
                let taken;
                (taken, more) = peer.read(&self.shape, &mut self.buffer)?;
                if index > 0 && taken.messages + taken.probes > 0 {
                    received(index, taken);
                }
            }
        }
        Ok(())
    }

    /// Sends messages that do not count, until each receiver got one.
    fn probe(&mut self) -> io::Result<()> {
        let begin = Instant::now();
        let mut heard = vec![false; self.peers.len()];
        heard[0] = true;
        while heard.contains(&false) {
            if begin.elapsed() > PATIENCE {
                return Err(io::Error::other("a receiver gets no messages"));
            }
            let probe = self.shape.sent.message(PROBE);
            self.peers[0].stream.write_all(&probe)?;
            let sent = Instant::now();
            while sent.elapsed() < PROBE_INTERVAL && heard.contains(&false) {
                self.turn(|index, _| heard[index] = true)?;
            }
        }
        Ok(())
    }

    /// Shows the server that the receivers, which send nothing else, are alive.
    fn keep_alive(&mut self) -> io::Result<()> {
        for peer in &mut self.peers[1..] {
            peer.stream.write_all(&self.shape.keep_alive())?;
        }
        Ok(())
    }
}
