//! The system calls that the standard library does not offer. This is the only
//! module with `unsafe` code.
#![allow(unsafe_code)]

mod datagrams;

use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

use libc::c_int;

pub use datagrams::{Datagrams, Wait};

/// Connections that wait for `accept`. The kernel cuts it to its own limit.
const BACKLOG: c_int = 4096;

/// An epoll instance whose sockets are named by tokens.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

/// What a socket is watched for.
#[derive(Clone, Copy, Debug)]
pub enum Interest {
    /// Level-triggered readiness to read; for listeners and datagram sockets.
    /// Readiness to write would wake up for every datagram that left.
    Read,
    /// Edge-triggered readiness to read and write; for connections. It is
    /// registered once and never changed, which saves the calls that switch
    /// interest in writing on and off.
    Stream,
}

impl Epoll {
    /// Makes an instance that watches nothing yet.
    ///
    /// # Errors
    ///
    /// Fails when the process is out of descriptors.
    pub fn new() -> io::Result<Self> {
        // SAFETY: The call takes no pointers.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: The descriptor was made just now and nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Watches `socket`, until it is closed, under the name `token`.
    ///
    /// # Errors
    ///
    /// Fails when the socket is watched already or the kernel's limit is met.
    pub fn add(&self, socket: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        let flags = match interest {
            Interest::Read => libc::EPOLLIN,
            Interest::Stream => libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET,
        };
        let mut event = libc::epoll_event {
            events: flags as u32,
            u64: token,
        };
        let fd = socket.as_fd().as_raw_fd();
        // SAFETY: The event lives through the call, and both descriptors are open.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) })?;
        Ok(())
    }

    /// Waits until something is ready, or `timeout_ms` has passed (-1: forever).
    ///
    /// # Errors
    ///
    /// Passes on what the kernel says; an interrupted wait gives no events.
    pub fn wait(&self, events: &mut Events, timeout_ms: i32) -> io::Result<()> {
        events.len = 0;
        let capacity = events.buffer.len() as c_int;
        let buffer = events.buffer.as_mut_ptr();
        // SAFETY: The kernel writes at most `capacity` events, and the buffer holds that many.
        match check(unsafe { libc::epoll_wait(self.0.as_raw_fd(), buffer, capacity, timeout_ms) }) {
            Ok(len) => events.len = len as usize,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// The events of one [`Epoll::wait`].
pub struct Events {
    buffer: Vec<libc::epoll_event>,
    len: usize,
}

impl Events {
    /// Makes room for `capacity` events for each wait.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            buffer: vec![libc::epoll_event { events: 0, u64: 0 }; capacity],
            len: 0,
        }
    }

    /// The number of events.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the wait ended without an event.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The events in the order in which the sockets became ready.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.buffer[..self.len].iter().map(|event| Event {
            token: event.u64,
            flags: event.events,
        })
    }
}

/// A socket that became ready.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The name under which the socket was added.
    pub token: u64,
    flags: u32,
}

impl Event {
    /// There is something to read: bytes, the end of the stream or an error.
    pub fn readable(self) -> bool {
        self.flags & (libc::EPOLLIN as u32) != 0 || self.closed()
    }

    /// The socket takes more output.
    pub fn writable(self) -> bool {
        self.flags & (libc::EPOLLOUT as u32) != 0
    }

    /// The peer has shut down its side, or the connection is broken.
    pub fn closed(self) -> bool {
        self.flags & ((libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32) != 0
    }
}

/// Listens on `address` with a long backlog, non-blocking and with
/// `TCP_NODELAY`, which accepted sockets inherit.
///
/// # Errors
///
/// Fails when the address cannot be bound.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    set_option(&listener, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    // SAFETY: The descriptor is an open, listening socket; a second call only changes the backlog.
    check(unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) })?;
    Ok(listener)
}

/// Accepts one connection, which is made non-blocking by the same call.
///
/// # Errors
///
/// Gives `WouldBlock` when nobody waits, else what the kernel says.
pub fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: Null pointers say that the peer's address is not wanted.
    let fd = check(unsafe {
        libc::accept4(
            listener.as_raw_fd(),
            ptr::null_mut(),
            ptr::null_mut(),
            flags,
        )
    })?;
    // SAFETY: The descriptor was made just now and nobody else owns it.
    Ok(TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Begins a non-blocking connection from `source` to `target`, with
/// `TCP_NODELAY`. The kernel chooses the port when it knows both ends, so that
/// each source address brings a full range of ports.
///
/// # Errors
///
/// Fails when no port is left or the connection is refused at once.
pub fn connect_from(source: Ipv4Addr, target: SocketAddrV4) -> io::Result<TcpStream> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: The call takes no pointers.
    let fd = check(unsafe { libc::socket(libc::AF_INET, kind, 0) })?;
    // SAFETY: The descriptor was made just now and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    set_option(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    set_option(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    let (address, len) = socket_address(SocketAddrV4::new(source, 0));
    // SAFETY: `address` is a whole IPv4 socket address of `len` bytes.
    check(unsafe { libc::bind(fd, (&raw const address).cast(), len) })?;
    let (address, len) = socket_address(target);
    // SAFETY: `address` is a whole IPv4 socket address of `len` bytes.
    match check(unsafe { libc::connect(fd, (&raw const address).cast(), len) }) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from(socket)),
    }
}

/// Raises the soft limit of open descriptors to the hard one, and gives it.
///
/// # Errors
///
/// Passes on what the kernel says.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: The kernel writes one `rlimit`, which lives through the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: The kernel reads one `rlimit`, which lives through the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    Ok(limit.rlim_max)
}

/// The CPU time, in nanoseconds, that all threads of process `pid` have used
/// so far, ended threads included.
///
/// This is the sum that the kernel also shows thread by thread in
/// `/proc/PID/task/*/schedstat`, brought up to date at the moment of the call.
///
/// # Errors
///
/// Fails when there is no such process.
pub fn process_cpu_ns(pid: u32) -> io::Result<u64> {
    let mut clock = 0;
    // SAFETY: The clock's id is written to a variable that lives through the call.
    let status = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) };
    if status != 0 {
        return Err(io::Error::from_raw_os_error(status));
    }
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: The time is written to a variable that lives through the call.
    check(unsafe { libc::clock_gettime(clock, &mut time) })?;
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Makes the child run on core `cpu` only, and end when its parent does.
pub fn pin(command: &mut Command, cpu: Option<usize>) {
    let prepare = move || {
        if let Some(cpu) = cpu {
            // SAFETY: A zeroed set is a valid, empty one, `CPU_SET` checks its bounds, and
            // the kernel reads no more than the size that is given.
            check(unsafe {
                let mut set: libc::cpu_set_t = mem::zeroed();
                libc::CPU_SET(cpu, &mut set);
                libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
            })?;
        }
        // SAFETY: The call takes no pointers.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
        Ok(())
    };
    // SAFETY: Between fork and exec the closure makes system calls only; it neither allocates nor locks.
    unsafe { command.pre_exec(prepare) };
}

/// Asks process `pid` to end.
///
/// # Errors
///
/// Fails when there is no such process.
pub fn terminate(pid: u32) -> io::Result<()> {
    // SAFETY: The call takes no pointers.
    check(unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) })?;
    Ok(())
}

/// Asks for a receive buffer of `bytes`; the kernel cuts it to its own limit.
///
/// # Errors
///
/// Passes on what the kernel says.
pub fn set_receive_buffer(socket: impl AsFd, bytes: u32) -> io::Result<()> {
    let bytes = c_int::try_from(bytes).unwrap_or(c_int::MAX);
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes)
}

/// Sets a socket option that is a number or a switch.
fn set_option(socket: impl AsFd, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let len = size_of::<c_int>() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: The kernel reads one `c_int`, which lives through the call.
    check(unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), len) })?;
    Ok(())
}

fn socket_address(address: SocketAddrV4) -> (libc::sockaddr_in, libc::socklen_t) {
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes(address.ip().octets()),
        },
        sin_zero: [0; 8],
    };
    (address, size_of::<libc::sockaddr_in>() as libc::socklen_t)
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
