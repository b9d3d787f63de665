//! The socket: many datagrams a system call, both ways.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::coop::unconstrained;

use crate::config::{MulticastGroup, MulticastInterface, SocketOptions, UdpOptions};

/// Room for one receive: the system may put many datagrams of one peer into it. The distance is not a power
/// of two, so that the datagrams' beginnings do not all fall into the same few lines of the cache.
const ROOM: usize = 64 * 1024;
const STRIDE: usize = ROOM + 192;

/// The longest datagrams that are sent many at a time. Longer ones may not fit into a packet, and the
/// system cuts only what does.
const SEGMENT_MOST: usize = 1_452;

/// Bytes that are sent at a time.
pub(super) const RUN_BYTES: usize = 60 * 1024;

thread_local! {
    /// Where the thread receives, so that no link and no listener keeps a buffer.
    static BATCH: Cell<Option<Box<Batch>>> = const { Cell::new(None) };
}

/// Datagrams that one call received.
pub(super) struct Batch {
    bytes: Vec<u8>,
    metas: [RecvMeta; BATCH_SIZE],
    count: usize,
}

/// Datagrams of one peer in a row.
pub(super) struct Run<'a> {
    pub(super) from: SocketAddr,
    /// Where they arrived.
    pub(super) to: Option<IpAddr>,
    metas: &'a [RecvMeta],
    bytes: &'a [u8],
}

impl Batch {
    /// Takes the thread's batch, and lends it for the time of a call.
    pub(super) fn with<T>(call: impl FnOnce(&mut Batch) -> T) -> T {
        let mut batch = BATCH.take().unwrap_or_else(|| {
            Box::new(Batch {
                bytes: vec![0; BATCH_SIZE * STRIDE],
                metas: [RecvMeta::default(); BATCH_SIZE],
                count: 0,
            })
        });
        let result = call(&mut batch);
        BATCH.set(Some(batch));
        result
    }

    /// What was received, in order, by peer.
    pub(super) fn runs(&self) -> impl Iterator<Item = Run<'_>> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let metas = &self.metas[next..self.count];
            let from = metas.first()?.addr;
            let same = metas.iter().take_while(|meta| meta.addr == from).count();
            let bytes = &self.bytes[next * STRIDE..];
            next += same;
            Some(Run {
                from: canonical(from),
                to: metas[0].dst_ip,
                metas: &metas[..same],
                bytes,
            })
        })
    }
}

/// Without the flow label, which is not part of who the peer is.
fn canonical(mut addr: SocketAddr) -> SocketAddr {
    if let SocketAddr::V6(addr) = &mut addr {
        addr.set_flowinfo(0);
    }
    addr
}

impl<'a> Run<'a> {
    /// The datagrams, in order.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let rooms = self.bytes.chunks(STRIDE);
        self.metas.iter().zip(rooms).flat_map(|(meta, room)| {
            let all = &room[..meta.len.min(ROOM)];
            // An empty datagram has no length to cut by, and is one all the same.
            let one = all.is_empty().then_some(all);
            one.into_iter().chain(all.chunks(meta.stride.max(1)))
        })
    }
}

/// A socket on its runtime.
#[derive(Debug)]
pub(super) struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    /// The one address that it talks to, if so.
    connected: Option<SocketAddr>,
}

/// Something that a link waits for. Many links wait for one socket, which wakes only one task when it is
/// asked directly.
pub(super) type Waiting = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

impl Socket {
    fn new(socket: socket2::Socket, connected: Option<SocketAddr>) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let local = socket.local_addr()?.as_socket();
        forget_what_is_not_asked(&socket, local.is_some_and(|addr| addr.is_ipv4()));
        Ok(Socket {
            io: UdpSocket::from_std(socket.into())?,
            state,
            connected,
        })
    }

    /// A socket that hears from anyone.
    pub(super) fn bind(
        addr: SocketAddr,
        options: &UdpOptions,
        system: &SocketOptions,
    ) -> io::Result<Self> {
        let socket = open(addr, options, system)?;
        if system.receive_buffer_size == 0 && options.receive_buffer > 0 {
            // What the system allows is enough to go on with.
            let _ = socket.set_recv_buffer_size(options.receive_buffer);
        }
        if !options.multicast.is_empty() && cfg!(not(windows)) {
            socket.set_reuse_address(true)?;
        }
        socket.bind(&addr.into())?;
        for group in &options.multicast {
            join(&socket, group)?;
        }
        Socket::new(socket, None)
    }

    /// A socket that somebody else has bound.
    pub(super) fn from_std(socket: std::net::UdpSocket) -> io::Result<Self> {
        Socket::new(socket.into(), None)
    }

    /// A socket that talks to one address; to a group, it hears from every member.
    pub(super) fn connect(
        addr: SocketAddr,
        options: &UdpOptions,
        system: &SocketOptions,
    ) -> io::Result<Self> {
        let socket = open(addr, options, system)?;
        socket.set_broadcast(options.broadcast)?;
        let any = match addr {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        socket.bind(&any.into())?;
        let many = addr.ip().is_multicast() || options.broadcast;
        if !many {
            socket.connect(&addr.into())?;
        }
        Socket::new(socket, (!many).then_some(addr))
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// How many datagrams of `size` bytes are sent at a time.
    pub(super) fn most_at_once(&self, size: usize) -> usize {
        match size {
            1..=SEGMENT_MOST if self.takes_addresses() => {
                self.state.max_gso_segments().min(RUN_BYTES / size)
            }
            _ => 1,
        }
    }

    /// Whether an address may be given for each datagram: elsewhere than on Linux, a connected socket
    /// refuses that.
    fn takes_addresses(&self) -> bool {
        self.connected.is_none() || cfg!(any(target_os = "linux", target_os = "android"))
    }

    /// Receives what is there. Only one task may wait at a time.
    pub(super) fn poll_receive(
        &self,
        context: &mut Context<'_>,
        batch: &mut Batch,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(
                pin!(unconstrained(std::future::poll_fn(|context| {
                    self.io.poll_recv_ready(context)
                })))
                .poll(context)
            )?;
            batch.count = 0;
            let result = self.io.try_io(Interest::READABLE, || {
                let mut rooms = batch.bytes.chunks_mut(STRIDE);
                let mut slices: [IoSliceMut<'_>; BATCH_SIZE] = std::array::from_fn(|_| {
                    IoSliceMut::new(rooms.next().map_or(&mut [], |room| &mut room[..ROOM]))
                });
                let socket = UdpSockRef::from(&self.io);
                batch.count = self.state.recv(socket, &mut slices, &mut batch.metas)?;
                match batch.count < BATCH_SIZE {
                    // That was all. Nobody has to ask the system again until more comes.
                    true => Err(io::ErrorKind::WouldBlock.into()),
                    false => Ok(()),
                }
            });
            match result {
                _ if batch.count > 0 => return Poll::Ready(Ok(())),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                _ => {}
            }
        }
    }

    /// Sends `bytes`, cut into datagrams of `segment` bytes.
    pub(super) fn try_send(
        &self,
        to: SocketAddr,
        source: Option<IpAddr>,
        bytes: &[u8],
        segment: usize,
    ) -> io::Result<()> {
        // The plain calls cost the system less.
        match (self.connected, source) {
            _ if segment < bytes.len() => {}
            (Some(_), _) => return self.io.try_send(bytes).map(drop),
            (None, None) => return self.io.try_send_to(bytes, to).map(drop),
            (None, Some(_)) => {}
        }
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents: bytes,
            segment_size: (segment < bytes.len()).then_some(segment),
            src_ip: source,
        };
        self.io.try_io(Interest::WRITABLE, || {
            self.state.try_send(UdpSockRef::from(&self.io), &transmit)
        })
    }

    /// Waits for the network to say that a datagram did not arrive. The system tells those that wait to
    /// receive of it only when they ask for it.
    pub(super) async fn failed(&self) -> io::Result<()> {
        loop {
            self.io.ready(Interest::ERROR).await?;
            let taken = self
                .io
                .try_io(Interest::ERROR, || match self.io.take_error()? {
                    Some(error) => Ok(error),
                    None => Err(io::ErrorKind::WouldBlock.into()),
                });
            match taken {
                Ok(error) => return Err(error),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Becomes ready when the socket takes datagrams again.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.io.writable().await
    }
}

/// A socket of the family of `addr`, with its options.
fn open(
    addr: SocketAddr,
    options: &UdpOptions,
    system: &SocketOptions,
) -> io::Result<socket2::Socket> {
    let domain = Domain::for_address(addr);
    let socket = socket2::Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if system.receive_buffer_size > 0 {
        socket.set_recv_buffer_size(system.receive_buffer_size)?;
    }
    if system.send_buffer_size > 0 {
        socket.set_send_buffer_size(system.send_buffer_size)?;
    }
    if addr.is_ipv4() {
        socket.set_multicast_ttl_v4(options.multicast_ttl.into())?;
        socket.set_multicast_loop_v4(options.multicast_loopback)?;
        match options.multicast_interface {
            MulticastInterface::Default => {}
            MulticastInterface::V4(interface) => socket.set_multicast_if_v4(&interface)?,
            MulticastInterface::Index(_) => return Err(no_index()),
        }
    } else {
        socket.set_multicast_hops_v6(options.multicast_ttl.into())?;
        socket.set_multicast_loop_v6(options.multicast_loopback)?;
        if let MulticastInterface::Index(index) = options.multicast_interface {
            socket.set_multicast_if_v6(index)?;
        }
    }
    Ok(socket)
}

fn no_index() -> io::Error {
    let text = "multicast_interface: IPv4 names the interface by its address, not by its index";
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

fn join(socket: &socket2::Socket, group: &MulticastGroup) -> io::Result<()> {
    match (group.group, group.interface) {
        (IpAddr::V4(group), MulticastInterface::Default) => {
            socket.join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED)
        }
        (IpAddr::V4(group), MulticastInterface::V4(interface)) => {
            socket.join_multicast_v4(&group, &interface)
        }
        (IpAddr::V4(group), MulticastInterface::Index(index)) => {
            socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index))
        }
        (IpAddr::V6(group), MulticastInterface::Index(index)) => {
            socket.join_multicast_v6(&group, index)
        }
        (IpAddr::V6(group), _) => socket.join_multicast_v6(&group, 0),
    }
}

/// `quinn-udp` asks the system for what QUIC needs. Datagrams of applications may be fragmented, as nobody
/// here looks for a path's limits, and nobody reads their ECN bits.
#[cfg(target_os = "linux")]
fn forget_what_is_not_asked(socket: &socket2::Socket, is_ipv4: bool) {
    use rustix::net::sockopt;

    // A dual-stack socket has both halves. Where one is missing, there is nothing to switch off.
    let _ = sockopt::set_ip_mtu_discover(socket, sockopt::Ipv4PathMtuDiscovery::DONT);
    let _ = socket.set_recv_tos_v4(false);
    if !is_ipv4 {
        let _ = sockopt::set_ipv6_mtu_discover(socket, sockopt::Ipv6PathMtuDiscovery::DONT);
        let _ = socket.set_recv_tclass_v6(false);
    }
}

#[cfg(not(target_os = "linux"))]
fn forget_what_is_not_asked(_socket: &socket2::Socket, _is_ipv4: bool) {}
