//! A network in memory: hosts, connections of two byte streams each, and what goes wrong with them.
//!
//! It behaves as TCP does where that matters to who uses it: bytes arrive in order, after a delay, cut anywhere; who
//! closes with unread bytes resets; what is sent to nobody is answered by a reset; a lost route is noticed by nobody.

mod ends;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use network_system::BoxFuture;
use network_system::internal::simulation::{Arrivals, Connected, Network, Socket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use self::ends::Host;
use crate::random::Random;
use crate::trace::Trace;

/// How connections are, before anything breaks.
#[derive(Clone, Debug)]
pub struct Links {
    /// From one end to the other.
    pub latency: (Duration, Duration),
    /// Bytes that may be under way and unread in one direction.
    pub window: (u64, u64),
    /// How many of a hundred writes are taken in part only.
    pub short_writes: u64,
    /// How many of a hundred writes travel in several pieces.
    pub splits: u64,
    /// How many of a hundred reads get less than there is.
    pub short_reads: u64,
    /// How many of a hundred connections break by themselves, before the calm.
    pub broken: u64,
    /// How far into a direction that is at the most, in bytes. Small numbers are as likely as large ones.
    pub break_within: u64,
}

/// How a connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Both ends get a reset; the one that wrote at once.
    Reset,
    /// Both ends see the end of the stream, as behind a proxy that closes.
    End,
    /// What is written from here on never arrives, and nobody is told.
    Silent,
    /// Nothing arrives at either end any more, and nobody is told.
    BothSilent,
    /// The writer gets a reset, the other end nothing.
    ResetHere,
    /// The other end gets a reset, the writer nothing.
    ResetThere,
}

pub const BREAKS: &[Break] = &[
    Break::Reset,
    Break::End,
    Break::Silent,
    Break::BothSilent,
    Break::ResetHere,
    Break::ResetThere,
];

/// One direction of a connection.
struct Pipe {
    segments: VecDeque<(Instant, Bytes)>,
    /// Bytes that were written and not read.
    held: u64,
    window: u64,
    written: u64,
    last_arrival: Instant,
    /// Where it breaks, and how.
    fault: Option<(u64, Break)>,
    silent: bool,
    /// When the end of the stream arrives.
    end: Option<Instant>,
    /// Whether the writer said that it was the end.
    shut: bool,
    /// The reader has gone.
    abandoned: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// A connection: pipe 0 leads from the client to the server.
struct Connection {
    client: IpAddr,
    pipes: [Pipe; 2],
    /// When each end learns that the connection was reset.
    reset: [Option<Instant>; 2],
    latency: Duration,
    closed: [bool; 2],
}

struct State {
    random: Random,
    links: Links,
    trace: Trace,
    calm: bool,
    listeners: BTreeMap<SocketAddr, Backlog>,
    connections: BTreeMap<u64, Connection>,
    next: u64,
    /// Until when nothing passes between a host and the servers.
    partitions: BTreeMap<IpAddr, Instant>,
    /// Until when connecting is refused.
    refused: Option<Instant>,
    /// What is to break: which connection, in which direction, after how many bytes.
    scripted: BTreeMap<(u64, usize), (u64, Break)>,
    /// Bytes written on each connection in each direction.
    written: BTreeMap<(u64, usize), u64>,
    broken: u64,
}

#[derive(Default)]
struct Backlog {
    arrived: VecDeque<(u64, SocketAddr)>,
    waker: Option<Waker>,
}

/// The network. Cheap to clone.
#[derive(Clone)]
pub struct Net(Arc<Mutex<State>>);

/// How many connections wait to be accepted.
const BACKLOG: usize = 64;

impl Net {
    pub fn new(links: Links, random: Random, keep_lines: bool) -> Self {
        Net(Arc::new(Mutex::new(State {
            random,
            links,
            trace: Trace::new(keep_lines),
            calm: false,
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            next: 0,
            partitions: BTreeMap::new(),
            refused: None,
            scripted: BTreeMap::new(),
            written: BTreeMap::new(),
            broken: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic is the end of the run; what it leaves is looked at for its trace only.
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The network as one host sees it.
    pub fn host(&self, ip: IpAddr, seed: u64) -> Arc<dyn Network> {
        Arc::new(Host {
            net: self.clone(),
            ip,
            seed,
        })
    }

    pub fn note(&self, what: &'static str, numbers: &[u64]) {
        self.lock().trace.note(what, numbers);
    }

    /// The hash of all that happened, how much that was, and what, if lines were kept.
    pub fn trace(&self) -> (u64, u64, Vec<String>) {
        let mut state = self.lock();
        let lines = state.trace.take_lines();
        (state.trace.hash(), state.trace.events(), lines)
    }

    /// How many connections were made, and how many of them broke.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.lock();
        (state.next, state.broken)
    }

    /// Breaks one connection, counted from 0, after so many bytes in one direction: 0 is the client's.
    pub fn script(&self, connection: u64, side: usize, at: u64, how: Break) {
        self.lock().scripted.insert((connection, side), (at, how));
    }

    /// How many bytes were written on a connection in one direction.
    pub fn written(&self, connection: u64, side: usize) -> u64 {
        let written = &self.lock().written;
        written
            .get(&(connection, side))
            .copied()
            .unwrap_or_default()
    }

    /// From now on nothing breaks by itself, and every partition has healed.
    pub fn calm(&self) {
        let mut state = self.lock();
        state.calm = true;
        state.refused = None;
        state.partitions.clear();
        for connection in state.connections.values_mut() {
            for pipe in &mut connection.pipes {
                pipe.fault = None;
            }
        }
        state.trace.note("calm", &[]);
    }

    /// Nothing passes between a host and the servers for a while. What is sent meanwhile arrives late.
    pub fn partition(&self, host: IpAddr, lasts: Duration) {
        let mut state = self.lock();
        let until = Instant::now() + lasts;
        state.partitions.insert(host, until);
        state.trace.note("partition", &[lasts.as_millis() as u64]);
    }

    /// Connecting is refused for a while.
    pub fn refuse(&self, lasts: Duration) {
        let mut state = self.lock();
        state.refused = Some(Instant::now() + lasts);
        state.trace.note("refuse", &[lasts.as_millis() as u64]);
    }

    /// Breaks every connection that there is.
    pub fn break_all(&self, how: Break) {
        let mut state = self.lock();
        let ids: Vec<u64> = state.connections.keys().copied().collect();
        for id in ids {
            state.break_at(id, 0, how);
        }
    }
}

impl State {
    fn heals(&self, host: IpAddr) -> Instant {
        let now = Instant::now();
        self.partitions
            .get(&host)
            .map_or(now, |&until| until.max(now))
    }

    fn pipe(&mut self, now: Instant) -> Pipe {
        let (least, most) = self.links.window;
        let window = self.random.between(least..=most);
        let fault = (!self.calm && self.random.chance(self.links.broken / 2)).then(|| {
            let at = self.random.scaled(self.links.break_within);
            (at, self.random.pick(BREAKS))
        });
        Pipe {
            segments: VecDeque::new(),
            held: 0,
            window,
            written: 0,
            last_arrival: now,
            fault,
            silent: false,
            end: None,
            shut: false,
            abandoned: false,
            reader: None,
            writer: None,
        }
    }

    fn latency(&mut self) -> Duration {
        let (least, most) = self.links.latency;
        let range = least.as_micros() as u64..=most.as_micros() as u64;
        Duration::from_micros(self.random.between(range))
    }

    fn connect(&mut self, from: SocketAddr, to: SocketAddr) -> io::Result<u64> {
        let refused = self.refused.is_some_and(|until| until > Instant::now());
        let backlog = self.listeners.get_mut(&to).filter(|_| !refused);
        let Some(backlog) = backlog.filter(|backlog| backlog.arrived.len() < BACKLOG) else {
            self.trace.note("refused", &[u64::from(from.port())]);
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let id = self.next;
        self.next += 1;
        backlog.arrived.push_back((id, from));
        wake(&mut backlog.waker);
        let now = Instant::now();
        let mut connection = Connection {
            client: from.ip(),
            pipes: [self.pipe(now), self.pipe(now)],
            reset: [None; 2],
            latency: self.latency(),
            closed: [false; 2],
        };
        for (side, pipe) in connection.pipes.iter_mut().enumerate() {
            pipe.fault = self.scripted.remove(&(id, side)).or(pipe.fault);
        }
        let faults = connection
            .pipes
            .each_ref()
            .map(|pipe| pipe.fault.map_or(0, |fault| fault.0 + 1));
        self.trace.note("connect", &[id, faults[0], faults[1]]);
        self.connections.insert(id, connection);
        Ok(id)
    }

    /// Breaks a connection, as seen by the end that writes pipe `side`.
    fn break_at(&mut self, id: u64, side: usize, how: Break) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        self.broken += 1;
        self.trace.note("break", &[id, side as u64, how as u64]);
        let now = Instant::now();
        let late = now + connection.latency;
        let there = 1 - side;
        match how {
            Break::Reset => {
                connection.reset_at(side, now);
                connection.reset_at(there, late.max(connection.pipes[side].last_arrival));
            }
            Break::End => {
                for pipe in &mut connection.pipes {
                    pipe.end.get_or_insert(late.max(pipe.last_arrival));
                    pipe.silent = true;
                }
            }
            Break::Silent => connection.pipes[side].silent = true,
            Break::BothSilent => connection
                .pipes
                .iter_mut()
                .for_each(|pipe| pipe.silent = true),
            Break::ResetHere => {
                connection
                    .pipes
                    .iter_mut()
                    .for_each(|pipe| pipe.silent = true);
                connection.reset_at(side, now);
            }
            Break::ResetThere => {
                connection
                    .pipes
                    .iter_mut()
                    .for_each(|pipe| pipe.silent = true);
                connection.reset_at(there, late.max(connection.pipes[side].last_arrival));
            }
        }
        connection.wake_all();
    }

    fn write(
        &mut self,
        id: u64,
        side: usize,
        bytes: &[u8],
        waker: &Waker,
    ) -> Poll<io::Result<usize>> {
        let now = Instant::now();
        let Some(connection) = self.connections.get_mut(&id) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if connection.is_reset(side, now) || connection.pipes[side].shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let pipe = &mut connection.pipes[side];
        let mut count = (bytes.len() as u64).min(pipe.window.saturating_sub(pipe.held));
        if count == 0 {
            pipe.writer = Some(waker.clone());
            return Poll::Pending;
        }
        if self.random.chance(self.links.short_writes) {
            count = self.random.between(1..=count);
        }
        let mut breaks = None;
        if let Some((at, how)) = pipe.fault
            && pipe.written + count >= at
        {
            // At most what comes before; if that is nothing, what is written now is lost at once.
            count = at - pipe.written;
            pipe.fault = None;
            breaks = Some(how);
        }
        pipe.written += count;
        self.written.insert((id, side), pipe.written);
        self.trace.note("write", &[id, side as u64, count]);
        if count > 0 && pipe.abandoned && !pipe.silent {
            // Nobody is there any more: a reset comes back.
            let back = now + 2 * connection.latency;
            connection.reset_at(side, back);
        } else if count > 0 {
            self.send(id, side, &bytes[..count as usize]);
        }
        if let Some(how) = breaks {
            self.break_at(id, side, how);
            if count == 0 {
                return self.write(id, side, bytes, waker);
            }
        }
        Poll::Ready(Ok(count as usize))
    }

    /// Puts bytes on their way.
    fn send(&mut self, id: u64, side: usize, mut bytes: &[u8]) {
        let client = self.connections[&id].client;
        let leaves = self.heals(client);
        while !bytes.is_empty() {
            let count = match self.random.chance(self.links.splits) {
                true => self.random.between(1..=bytes.len() as u64) as usize,
                false => bytes.len(),
            };
            let jitter = self.latency();
            let Some(connection) = self.connections.get_mut(&id) else {
                return;
            };
            let pipe = &mut connection.pipes[side];
            pipe.held += count as u64;
            if !pipe.silent {
                let arrival = (leaves + jitter).max(pipe.last_arrival);
                pipe.last_arrival = arrival;
                pipe.segments
                    .push_back((arrival, bytes[..count].iter().copied().collect()));
                wake(&mut pipe.reader);
            }
            bytes = &bytes[count..];
        }
    }

    /// Reads what has arrived; if that is nothing, says when to look again, if that is known.
    fn read(&mut self, id: u64, side: usize, into: &mut ReadBuf<'_>, waker: &Waker) -> Read {
        let now = Instant::now();
        let Some(connection) = self.connections.get_mut(&id) else {
            return Read::Failed(io::ErrorKind::ConnectionReset);
        };
        let reset = connection.reset[side];
        let pipe = &mut connection.pipes[1 - side];
        let mut room = into.remaining() as u64;
        if room == 0 {
            return Read::Some;
        }
        if self.random.chance(self.links.short_reads) {
            room = self.random.between(1..=room);
        }
        let mut count = 0;
        while count < room
            && let Some((arrival, bytes)) = pipe.segments.front_mut()
            && *arrival <= now
        {
            let part = (room - count).min(bytes.len() as u64) as usize;
            into.put_slice(&bytes.split_to(part));
            if bytes.is_empty() {
                pipe.segments.pop_front();
            }
            count += part as u64;
        }
        if count > 0 {
            pipe.held -= count;
            wake(&mut pipe.writer);
            self.trace.note("read", &[id, side as u64, count]);
            return Read::Some;
        }
        if reset.is_some_and(|at| at <= now) {
            return Read::Failed(io::ErrorKind::ConnectionReset);
        }
        let front = pipe.segments.front().map(|(arrival, _)| *arrival);
        if front.is_none() && pipe.end.is_some_and(|end| end <= now) {
            return Read::Some;
        }
        pipe.reader = Some(waker.clone());
        let end = pipe.end.filter(|_| front.is_none());
        Read::Later([front, end, reset].into_iter().flatten().min())
    }

    fn shut(&mut self, id: u64, side: usize) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let client = connection.client;
        let leaves = self.heals(client);
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let arrival = leaves + connection.latency;
        let pipe = &mut connection.pipes[side];
        if !std::mem::replace(&mut pipe.shut, true) && !pipe.silent {
            pipe.end.get_or_insert(arrival.max(pipe.last_arrival));
            wake(&mut pipe.reader);
            self.trace.note("shut", &[id, side as u64]);
        }
    }

    fn close(&mut self, id: u64, side: usize) {
        self.shut(id, side);
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        self.trace.note("close", &[id, side as u64]);
        connection.closed[side] = true;
        let late = Instant::now() + connection.latency;
        let own = &connection.pipes[side];
        let (silent, arrival) = (own.silent, own.last_arrival);
        let pipe = &mut connection.pipes[1 - side];
        pipe.abandoned = true;
        let unread = !pipe.segments.is_empty();
        pipe.segments.clear();
        pipe.held = 0;
        wake(&mut pipe.writer);
        if unread && !silent {
            connection.reset_at(1 - side, late.max(arrival));
            connection.wake_all();
        }
        if connection.closed == [true; 2] {
            self.connections.remove(&id);
        }
    }
}

enum Read {
    /// Also at the end of the stream, when nothing was read.
    Some,
    Failed(io::ErrorKind),
    Later(Option<Instant>),
}

impl Connection {
    fn is_reset(&self, side: usize, now: Instant) -> bool {
        self.reset[side].is_some_and(|at| at <= now)
    }

    fn reset_at(&mut self, side: usize, at: Instant) {
        let known = self.reset[side].get_or_insert(at);
        *known = at.min(*known);
        self.wake_all();
    }

    fn wake_all(&mut self) {
        for pipe in &mut self.pipes {
            wake(&mut pipe.reader);
            wake(&mut pipe.writer);
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
