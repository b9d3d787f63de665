//! UDP: one socket and a session for each address that sends to it.
//!
//! The listener receives for all its peers, many datagrams a call, and puts them into the queues of their
//! links; links send by themselves. Sessions know nothing of it.
//!
//! - [`socket`]: the system's side: batches, offloads, groups.
//! - [`peer`]: what waits for a session, and what its peer may be sent.
//! - [`link`]: a peer, or a client's server, as the session core sees it.
//!
//! An address proves nothing: whoever sends can write down any. So little is kept of an unknown one, nothing
//! is answered that is not a message of a session, and until something has come from an address after
//! something was sent there, no more goes there than came.

mod link;
mod peer;
mod socket;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tokio::time::Instant;
use tracing::field::display;

use self::link::UdpLink;
pub(crate) use self::peer::Counters;
use self::peer::{Arrivals, Fate, Opening, Peer, Queue, count};
use self::socket::{Batch, Run, Socket};
use super::{Incoming, LinkConfig, Listener};
use crate::codec::Framing;
use crate::config::UdpOptions;
use crate::endpoint::CodecKind;
use crate::events::{self, shown};
use crate::limits::Admission;
use crate::session::Transport;
use crate::session::link::Link;
use crate::session::shared::{PeerInfo, lock};

/// Calls for datagrams in one poll, before other tasks have their turn.
const BATCHES: usize = 16;

/// Links that may be left of sessions that gave way, on top of the limit of sessions.
const LEAVING: usize = 1_024;

/// What UDP needs to know beyond other transports.
#[derive(Clone, Debug, Default)]
pub(crate) struct UdpConfig {
    pub(crate) options: UdpOptions,
    pub(crate) counters: Arc<Counters>,
}

/// What a listener and its links have in common.
struct Shared {
    socket: Arc<Socket>,
    /// What waits for all sessions.
    queued: AtomicUsize,
    /// How many links there are.
    links: AtomicUsize,
    /// Addresses whose links have ended since the listener last looked.
    ended: Mutex<Vec<SocketAddr>>,
    /// Whether the listener waits for the last link.
    finishing: AtomicBool,
    finished: Mutex<Option<Waker>>,
}

impl Shared {
    /// Datagrams no longer wait.
    fn release(&self, cost: usize) {
        if cost > 0 {
            self.queued.fetch_sub(cost, Ordering::Relaxed);
        }
    }

    /// Whether the server stops.
    fn is_finishing(&self) -> bool {
        self.finishing.load(Ordering::Acquire)
    }

    fn link_ended(&self, peer: &Peer) {
        lock(&self.ended).push(peer.addr);
        if self.links.fetch_sub(1, Ordering::AcqRel) == 1
            && self.is_finishing()
            && let Some(waker) = lock(&self.finished).take()
        {
            waker.wake();
        }
    }
}

/// A UDP socket with many peers.
pub(crate) struct Udp {
    shared: Arc<Shared>,
    local: SocketAddr,
    framing: Framing,
    config: LinkConfig,
    peers: HashMap<SocketAddr, Arc<Peer>>,
    /// Peers in the order in which they came. Those that have answered or ended are taken out when there
    /// are as many of them as of the others.
    unproven: VecDeque<Arc<Peer>>,
    admission: Admission,
    epoch: Instant,
    /// Links that are to be handed out. Never more than the datagrams of one call.
    incoming: VecDeque<Incoming>,
    /// Sessions that have something new, each woken once for each call.
    wakers: Vec<Waker>,
}

impl Udp {
    /// Binds. Must be called inside a runtime.
    pub(crate) fn bind(addr: SocketAddr, codec: CodecKind, config: LinkConfig) -> io::Result<Self> {
        let socket = Socket::bind(addr, &config.udp.options, &config.socket)?;
        Self::new(socket, codec, config)
    }

    /// Takes a socket that is bound. Its options stay as they are.
    pub(crate) fn from_std(
        socket: std::net::UdpSocket,
        codec: CodecKind,
        config: LinkConfig,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Self::new(Socket::from_std(socket)?, codec, config)
    }

    fn new(socket: Socket, codec: CodecKind, config: LinkConfig) -> io::Result<Self> {
        let options = &config.udp.options;
        let local = socket.local_addr()?;
        Ok(Udp {
            shared: Arc::new(Shared {
                socket: Arc::new(socket),
                queued: AtomicUsize::new(0),
                links: AtomicUsize::new(0),
                ended: Mutex::new(Vec::new()),
                finishing: AtomicBool::new(false),
                finished: Mutex::new(None),
            }),
            local,
            framing: framing(codec),
            peers: HashMap::new(),
            unproven: VecDeque::new(),
            admission: Admission::new(options.new_sessions, options.new_sessions_per_address),
            epoch: Instant::now(),
            incoming: VecDeque::new(),
            wakers: Vec::new(),
            config,
        })
    }

    /// Receives until there is nothing left or others have to have their turn. Returns once there are new
    /// peers.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..BATCHES {
            self.forget_ended();
            let received = Batch::with(|batch| {
                let received = self.shared.socket.poll_receive(context, batch);
                if let Poll::Ready(Ok(())) = received {
                    batch.runs().for_each(|run| self.deliver(&run));
                }
                received
            });
            self.wakers.drain(..).for_each(Waker::wake);
            match received {
                Poll::Pending => return Poll::Pending,
                // Somebody has gone. It is nobody's error here, and the next call brings what there is.
                Poll::Ready(Err(error)) if link::is_unreachable(&error) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) if !self.incoming.is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => {}
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes out those peers whose links have ended.
    fn forget_ended(&mut self) {
        let mut ended = lock(&self.shared.ended);
        if ended.is_empty() {
            return;
        }
        let addrs = mem::take(&mut *ended);
        drop(ended);
        for addr in addrs {
            // A new session may have begun there.
            if let Some(peer) = self.peers.get(&addr)
                && lock(&peer.queue).ended
            {
                self.peers.remove(&addr);
            }
        }
    }

    /// Hands datagrams to the session of their peer, or begins one.
    fn deliver(&mut self, run: &Run<'_>) {
        let mut datagrams = run.datagrams();
        if let Some(peer) = self.peers.get(&run.from) {
            let mut queue = lock(&peer.queue);
            if !queue.ended {
                for datagram in datagrams {
                    self.note(run.from, queue.push(datagram, &self.shared.queued));
                }
                let waker = queue.take_waker();
                drop(queue);
                self.wakers.extend(waker);
                return;
            }
        }
        if self.shared.is_finishing() {
            return;
        }
        let mut queue = self.new_queue();
        let begins = datagrams.by_ref().any(|datagram| {
            let fate = queue.push(datagram, &self.shared.queued);
            self.note(run.from, fate);
            fate == Fate::Kept
        });
        if !begins {
            return;
        }
        if !self.admits(run.from.ip()) {
            self.shared.release(queue.end());
            count(&self.counters().refused);
            note_dropped(run.from, "no session");
            return;
        }
        for datagram in datagrams {
            self.note(run.from, queue.push(datagram, &self.shared.queued));
        }
        self.begin(run, queue);
    }

    fn new_queue(&self) -> Queue {
        let limit = self.config.message_limit;
        Queue::new(Arrivals::new(self.framing, limit, Opening::Awaited))
    }

    fn counters(&self) -> &Counters {
        &self.config.udp.counters
    }

    fn note(&self, from: SocketAddr, fate: Fate) {
        note(self.counters(), from, fate);
    }

    /// Whether an unknown address may begin a session. Another one may have to give way to it.
    fn admits(&mut self, ip: IpAddr) -> bool {
        let now = self.epoch.elapsed().as_nanos() as u64;
        if !self.admission.admits(ip, now) {
            return false;
        }
        let most = self.config.udp.options.max_sessions;
        if self.shared.links.load(Ordering::Acquire) >= most + LEAVING {
            return false;
        }
        self.peers.len() < most || self.evict()
    }

    /// Makes room: the oldest session gives way whose peer has never answered, and of those one from which
    /// nothing has come lately.
    fn evict(&mut self) -> bool {
        for _ in 0..2 * self.unproven.len() {
            let Some(peer) = self.unproven.pop_front() else {
                return false;
            };
            let mut queue = lock(&peer.queue);
            if queue.ended || queue.has_answered() {
                continue;
            }
            if !queue.is_silent() {
                drop(queue);
                self.unproven.push_back(peer);
                continue;
            }
            queue.evicted = true;
            let waker = queue.take_waker();
            drop(queue);
            self.wakers.extend(waker);
            self.peers.remove(&peer.addr);
            return true;
        }
        false
    }

    fn begin(&mut self, run: &Run<'_>, queue: Queue) {
        let peer = Arc::new(Peer {
            addr: run.from,
            source: self.source(run),
            queue: Mutex::new(queue),
        });
        self.peers.insert(run.from, Arc::clone(&peer));
        if self.unproven.len() >= 64.max(2 * self.peers.len()) {
            self.unproven.retain(|peer| {
                let queue = lock(&peer.queue);
                !queue.ended && !queue.has_answered()
            });
        }
        self.unproven.push_back(Arc::clone(&peer));
        self.shared.links.fetch_add(1, Ordering::AcqRel);
        let local = match peer.source.or(run.to) {
            Some(ip) if !ip.is_multicast() => SocketAddr::new(ip, self.local.port()),
            _ => self.local,
        };
        let shared = Arc::clone(&self.shared);
        let link = UdpLink::of_peer(peer, shared, self.framing, self.config.udp.clone());
        self.incoming.push_back(Incoming {
            link: Box::new(link),
            peer: PeerInfo {
                transport: Transport::Udp,
                remote: Some(run.from),
                local: Some(local),
            },
        });
    }

    /// The address from which the peer expects answers, when the socket has several.
    fn source(&self, run: &Run<'_>) -> Option<IpAddr> {
        let to = run.to?;
        let is_group = match to {
            IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
            IpAddr::V6(ip) => ip.is_multicast(),
        };
        (self.local.ip().is_unspecified() && !is_group).then_some(to)
    }
}

impl Listener for Udp {
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Incoming>> {
        loop {
            if let Some(incoming) = self.incoming.pop_front() {
                return Poll::Ready(Ok(incoming));
            }
            match self.poll_receive(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => {}
            }
        }
    }

    fn url(&self) -> String {
        let codec = match self.framing {
            Framing::Datagrams => "",
            _ => "?codec=msgi",
        };
        format!("udp://{}{codec}", self.local)
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        Some(self.local)
    }

    fn has_own_limit(&self) -> bool {
        true
    }

    /// Sessions that close in order still have to hear from their peers, whom only the listener hears.
    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.incoming.clear();
        if !self.shared.finishing.swap(true, Ordering::AcqRel) {
            // What waited for an answer of its peer does so no longer.
            let queues = self
                .peers
                .values()
                .map(|peer| lock(&peer.queue).take_waker());
            queues.flatten().for_each(Waker::wake);
        }
        *lock(&self.shared.finished) = Some(context.waker().clone());
        if self.shared.links.load(Ordering::Acquire) == 0 {
            return Poll::Ready(());
        }
        match self.poll_receive(context) {
            Poll::Pending => {}
            // Newcomers are turned away, and the others are heard on.
            Poll::Ready(Ok(())) => {
                self.incoming.clear();
                context.waker().wake_by_ref();
            }
            Poll::Ready(Err(error)) => {
                // The sessions have deadlines.
                events::datagrams_ended {
                    error: shown(error),
                }
                .emit();
            }
        }
        Poll::Pending
    }
}

/// Makes a link to one address. That sends nothing, so that nobody knows whether anyone is there.
pub(crate) fn connect(
    addr: SocketAddr,
    codec: CodecKind,
    config: &LinkConfig,
) -> io::Result<(Box<dyn Link>, PeerInfo)> {
    let framing = framing(codec);
    let socket = Socket::connect(addr, &config.udp.options, &config.socket)?;
    let peer = PeerInfo {
        transport: Transport::Udp,
        remote: Some(addr),
        local: socket.local_addr().ok(),
    };
    let arrivals = Arrivals::new(framing, config.message_limit, Opening::Welcome);
    let link = UdpLink::of_client(socket, addr, arrivals, framing, config.udp.clone());
    Ok((Box::new(link), peer))
}

/// Counts a datagram that is not kept.
fn note(counters: &Counters, from: SocketAddr, fate: Fate) {
    match fate {
        Fate::Kept => {}
        Fate::Malformed => {
            count(&counters.malformed);
            let peer = display(from);
            events::datagram_malformed { peer }.emit();
        }
        Fate::Dropped => {
            count(&counters.dropped);
            note_dropped(from, "no room");
        }
    }
}

fn note_dropped(from: SocketAddr, cause: &str) {
    let peer = display(from);
    events::datagram_dropped { peer, cause }.emit();
}

fn framing(codec: CodecKind) -> Framing {
    match codec {
        CodecKind::Msgi => Framing::Frames,
        _ => Framing::Datagrams,
    }
}
