//! `echo` over UDP: every peer keeps a number of datagrams outstanding. A
//! datagram that is not answered in time is given up, counted, and another one
//! sent in its place.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use network_system_perf::report::Report;
use network_system_perf::sys::{Datagrams, Epoll, Events, Interest, Wait};

use crate::Options;
use crate::echo::TICK_MS;
use crate::peer::first_sequence;
use crate::shape::{Format, Shape, mismatch};
use crate::window::Window;

/// When an answer counts as lost. Servers take some milliseconds at most.
const DEADLINE: Duration = Duration::from_millis(100);
/// How often deadlines are looked at.
const SWEEP: Duration = Duration::from_millis(20);
/// How many datagrams a call takes.
const BATCH: usize = 64;
/// The payload of the largest datagram (IPv4).
pub(crate) const MAX_SIZE: usize = 65_507;

pub(crate) fn run(options: &Options) -> io::Result<Report> {
    let shape = Shape::new(Format::Datagram, options.size);
    let epoll = Epoll::new()?;
    let mut peers = Vec::new();
    for index in 0..options.connections {
        let peer = Peer::new(options, index)?;
        epoll.add(&peer.socket, index as u64, Interest::Read)?;
        peers.push(peer);
    }
    // One byte more than expected, so that a longer datagram is noticed.
    let mut received = Datagrams::new(BATCH, options.size + 1);
    let mut sent = Datagrams::new(BATCH, options.size);
    for index in 0..BATCH {
        let room = sent.get_mut(index, options.size);
        room.copy_from_slice(&shape.sent.message(0));
    }

    let mut window = options.window();
    for peer in &mut peers {
        peer.send(&shape, &mut sent)?;
    }
    let mut events = Events::with_capacity(1024);
    let mut swept = Instant::now();
    loop {
        epoll.wait(&mut events, TICK_MS)?;
        for event in events.iter() {
            let peer = &mut peers[event.token as usize];
            peer.receive(&shape, &mut received, &mut window)?;
            peer.send(&shape, &mut sent)?;
        }
        if swept.elapsed() >= SWEEP {
            swept = Instant::now();
            for peer in &mut peers {
                window.lose(peer.give_up(swept));
                peer.send(&shape, &mut sent)?;
            }
        }
        if let Some(report) = window.check()? {
            return Ok(report);
        }
    }
}

struct Peer {
    socket: UdpSocket,
    /// The number of its first datagram.
    first: u64,
    slots: Vec<Slot>,
    /// The slots whose datagram may be sent.
    free: Vec<usize>,
}

/// A datagram that is outstanding. Every slot has numbers of its own, so that
/// the number of an answer says where it belongs.
struct Slot {
    sequence: u64,
    sent: Option<Instant>,
}

impl Peer {
    fn new(options: &Options, index: usize) -> io::Result<Self> {
        let server = options.target.address;
        let socket = if server.is_ipv4() {
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?
        } else {
            UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?
        };
        socket.connect(server)?;
        let first = first_sequence(index);
        let outstanding = options.outstanding;
        Ok(Self {
            socket,
            first,
            slots: (0..outstanding)
                .map(|slot| Slot {
                    sequence: first + slot,
                    sent: None,
                })
                .collect(),
            free: (0..outstanding as usize).collect(),
        })
    }

    /// Receives once and checks what came.
    fn receive(
        &mut self,
        shape: &Shape,
        datagrams: &mut Datagrams,
        window: &mut Window,
    ) -> io::Result<()> {
        let count = match datagrams.receive(&self.socket, Wait::Never) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let now = Instant::now();
        for index in 0..count {
            let (sequence, pattern) = datagrams
                .get(index)
                .split_first_chunk()
                .ok_or_else(|| mismatch("a datagram has the wrong length"))?;
            if pattern != shape.received.tail() {
                return Err(mismatch("the payload of a datagram differs"));
            }
            let sequence = u64::from_be_bytes(*sequence);
            let outstanding = self.slots.len() as u64;
            let index = (sequence.wrapping_sub(self.first) % outstanding) as usize;
            let slot = &mut self.slots[index];
            match slot.sent {
                Some(sent) if slot.sequence == sequence => {
                    window.count(1, sent, now);
                    slot.free(outstanding);
                    self.free.push(index);
                }
                // The answer came after it was given up, or twice, as datagrams may.
                _ if (self.first..slot.sequence).contains(&sequence) => {}
                _ => return Err(mismatch("an answer was never asked for")),
            }
        }
        Ok(())
    }

    /// Sends a datagram for every free slot, as far as the socket takes them.
    fn send(&mut self, shape: &Shape, datagrams: &mut Datagrams) -> io::Result<()> {
        while !self.free.is_empty() {
            let batch = &self.free[..self.free.len().min(datagrams.capacity())];
            let size = shape.sent.len();
            for (index, &slot) in batch.iter().enumerate() {
                let datagram = datagrams.get_mut(index, size);
                shape.sent.patch(datagram, self.slots[slot].sequence);
            }
            let sent = match datagrams.send(&self.socket, batch.len()) {
                Ok(sent) => sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let now = Instant::now();
            for slot in self.free.drain(..sent) {
                self.slots[slot].sent = Some(now);
            }
        }
        Ok(())
    }

    /// Frees the slots whose answer is overdue, and gives their number.
    fn give_up(&mut self, now: Instant) -> u64 {
        let outstanding = self.slots.len() as u64;
        let mut lost = 0;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot
                .sent
                .is_some_and(|sent| now.duration_since(sent) > DEADLINE)
            {
                slot.free(outstanding);
                self.free.push(index);
                lost += 1;
            }
        }
        lost
    }
}

impl Slot {
    fn free(&mut self, outstanding: u64) {
        self.sequence += outstanding;
        self.sent = None;
    }
}
