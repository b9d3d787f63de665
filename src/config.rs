//! Limits, timeouts and policies: plain values with defaults, checked once when a server or client is built.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::error::ConfigError;
use crate::limits::{Rate, RatePolicy};

/// What happens to a message that finds the outbox of its session full.
///
/// Responses and failures of requests are never dropped by a policy; they wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QueuePolicy {
    /// `send` waits for room, `try_send` fails with `queue_full`. Nothing is lost.
    #[default]
    Wait,
    /// The message is dropped and counted; what is queued stays.
    DropNewest,
    /// The oldest queued messages are dropped and counted until the new one fits.
    DropOldest,
    /// The session is closed with `slow_consumer`.
    Disconnect,
}

impl QueuePolicy {
    /// The names that [`FromStr`](std::str::FromStr) takes.
    pub const NAMES: &'static [&'static str] =
        &["wait", "drop-newest", "drop-oldest", "disconnect"];

    /// The name in configuration files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            QueuePolicy::Wait => "wait",
            QueuePolicy::DropNewest => "drop-newest",
            QueuePolicy::DropOldest => "drop-oldest",
            QueuePolicy::Disconnect => "disconnect",
        }
    }
}

impl std::str::FromStr for QueuePolicy {
    type Err = ConfigError;

    fn from_str(name: &str) -> Result<Self, ConfigError> {
        match name {
            "wait" => Ok(QueuePolicy::Wait),
            "drop-newest" => Ok(QueuePolicy::DropNewest),
            "drop-oldest" => Ok(QueuePolicy::DropOldest),
            "disconnect" => Ok(QueuePolicy::Disconnect),
            _ => Err(ConfigError::option(
                "when_full",
                name,
                &QueuePolicy::NAMES.join(", "),
            )),
        }
    }
}

/// Sizes and counts that are never exceeded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections at a time; 0 for no limit. Default 1,000. Sessions over UDP are not counted, see
    /// [`UdpOptions::max_sessions`].
    pub max_connections: usize,
    /// Connections at a time from one IP address; 0, the default, for no limit.
    pub max_connections_per_ip: usize,
    /// The longest message in bytes, received or sent. Default 1 MiB, at most 1 GiB.
    pub message_size: usize,
    /// Bytes that wait in the outbox of one session. Default 1 MiB. One message is always allowed.
    pub outbox_bytes: usize,
    /// Messages that wait in the outbox of one session. Default 1,024.
    pub outbox_messages: usize,
    /// What happens when an outbox is full. Default [`QueuePolicy::Wait`].
    pub when_full: QueuePolicy,
    /// Requests of this side that wait for an answer, for each session. Default 65,536.
    pub pending_requests: usize,
    /// Groups that one session can be in. Default 64.
    pub groups_per_session: usize,
    /// What one session may receive in a second. Default: no limit.
    pub session_rate: Option<Rate>,
    /// What all sessions from one IP address, or one /64 network of IPv6, may receive in a second. Default: no
    /// limit. Sessions without an address are not counted. Who comes back goes on where it was.
    pub ip_rate: Option<Rate>,
    /// What all sessions of the server, or client, may receive in a second. Default: no limit. With
    /// [`RatePolicy::Wait`](crate::RatePolicy::Wait), sessions that wait have their turn one after the other.
    pub server_rate: Option<Rate>,
    /// Connections that a server accepts in a second; 0, the default, for no limit. Beyond it none are accepted
    /// for a moment: they wait in the system's queue. A tenth of them may come at once, so that a burst of
    /// handshakes leaves time for the sessions that there are. UDP has [`UdpOptions::new_sessions`].
    pub handshakes_per_second: u32,
    /// Connections in a second from one IP address, or one /64 network of IPv6; 0, the default, for no limit. As
    /// many may come at once. What comes beyond that is refused with `rate_limited`, so that nobody else has to
    /// wait for it, and does not count for [`handshakes_per_second`](Self::handshakes_per_second).
    pub handshakes_per_second_per_ip: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_connections: 1_000,
            max_connections_per_ip: 0,
            message_size: 1024 * 1024,
            outbox_bytes: 1024 * 1024,
            outbox_messages: 1_024,
            when_full: QueuePolicy::Wait,
            pending_requests: 65_536,
            groups_per_session: 64,
            session_rate: None,
            ip_rate: None,
            server_rate: None,
            handshakes_per_second: 0,
            handshakes_per_second_per_ip: 0,
        }
    }
}

/// The longest message that can be configured.
pub(crate) const MESSAGE_SIZE_MAX: usize = 1024 * 1024 * 1024;

impl Limits {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.message_size == 0 || self.message_size > MESSAGE_SIZE_MAX {
            let expected = "1 byte to 1 GiB";
            return Err(ConfigError::option(
                "message_size",
                self.message_size,
                expected,
            ));
        }
        for (name, value) in [
            ("outbox_bytes", self.outbox_bytes),
            ("outbox_messages", self.outbox_messages),
            ("pending_requests", self.pending_requests),
        ] {
            if value == 0 {
                return Err(ConfigError::option(name, value, "at least 1"));
            }
        }
        for (name, rate) in [
            ("session_rate", &self.session_rate),
            ("ip_rate", &self.ip_rate),
            ("server_rate", &self.server_rate),
        ] {
            if let Some(rate) = rate {
                rate.check(name)?;
            }
        }
        Ok(())
    }

    /// A reliable session drops nothing.
    pub(crate) fn check_reliable(&self) -> Result<(), ConfigError> {
        for (name, rate) in [
            ("session_rate", &self.session_rate),
            ("ip_rate", &self.ip_rate),
            ("server_rate", &self.server_rate),
        ] {
            if rate.is_some_and(|rate| rate.when_exceeded == RatePolicy::Drop) {
                let expected = "wait or disconnect: a reliable session drops nothing";
                return Err(ConfigError::option(name, "drop", expected));
            }
        }
        Ok(())
    }
}

/// How long to wait for what. A duration of zero switches the deadline off, where that is said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// Nothing received for this long ends the session with `idle_timeout`. Zero: never. Default 30 s.
    pub idle: Duration,
    /// The first frame of a new connection arrives within this time. Zero: no limit. Default 10 s.
    pub first_byte: Duration,
    /// A frame that has begun is complete within this time. Zero: no limit. Default 30 s.
    pub mid_frame: Duration,
    /// Queued messages are flushed, and the peer has closed, within this time. Default 10 s.
    pub drain: Duration,
    /// A side that has sent nothing for this long sends a PING; one that has received nothing for three
    /// times this long closes with `heartbeat_timeout`. Zero: no heartbeat. Default 10 s.
    pub heartbeat: Duration,
    /// The answer to a request, where the call names no other time. Default 30 s.
    pub request: Duration,
    /// A connection is made, its opening included, within this time. Default 10 s.
    pub connect: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            idle: Duration::from_secs(30),
            first_byte: Duration::from_secs(10),
            mid_frame: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            heartbeat: Duration::from_secs(10),
            request: Duration::from_secs(30),
            connect: Duration::from_secs(10),
        }
    }
}

impl Timeouts {
    /// The defaults of a client: those of [`Default`], without an idle timeout. A client may well say
    /// and hear nothing for long, and one whose codec has no heartbeat would be closed for it; with
    /// heartbeats, a dead server is noticed by those.
    pub fn client() -> Self {
        Timeouts {
            idle: Duration::ZERO,
            ..Timeouts::default()
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        // A year is beyond every sensible deadline and far from where adding to a clock overflows.
        let most = Duration::from_secs(365 * 24 * 3600);
        for (name, value) in [
            ("idle", self.idle),
            ("first_byte", self.first_byte),
            ("mid_frame", self.mid_frame),
            ("drain", self.drain),
            ("heartbeat", self.heartbeat),
            ("request", self.request),
            ("connect", self.connect),
        ] {
            if value > most {
                return Err(ConfigError::option(
                    name,
                    format!("{value:?}"),
                    "at most a year",
                ));
            }
        }
        for (name, value) in [("request", self.request), ("connect", self.connect)] {
            if value.is_zero() {
                return Err(ConfigError::option(name, "0", "a time above zero"));
            }
        }
        Ok(())
    }
}

/// What reliable sessions need: how much is kept, and for how long (protocol section 4).
///
/// On a reliable session each side keeps what it has sent until the other side's handler has returned. When the
/// link breaks, the session is [suspended](crate::State::Suspended); the client makes another link, of any
/// transport, and what has not arrived is sent again. Handlers see each message once, in order, and notice
/// nothing but the state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reliability {
    /// Bytes that are sent and not acknowledged, for each session and direction; the smaller one of the two sides
    /// counts. When they are used up, messages wait in the outbox. One message is always allowed. Default 1 MiB,
    /// 1 KiB to 1 GiB.
    pub window: usize,
    /// How long a session is kept after its link is lost. Default 30 s, at most a day. A client takes the server's
    /// word for it.
    pub resume: Duration,
    /// Sessions without a link that a server keeps; beyond that, the one that has waited longest is given up.
    /// Default 10,000.
    pub suspended_sessions: usize,
    /// Whether a client insists: a server that cannot is refused with `not_supported`. Without it the session is
    /// then an ordinary one, see [`Session::is_reliable`](crate::Session::is_reliable). Default on. Servers serve
    /// both kinds, as their clients ask.
    pub required: bool,
}

impl Default for Reliability {
    fn default() -> Self {
        Reliability {
            window: 1024 * 1024,
            resume: Duration::from_secs(30),
            suspended_sessions: 10_000,
            required: true,
        }
    }
}

impl Reliability {
    /// The longest time that a session is kept without a link.
    pub(crate) const LONGEST: Duration = Duration::from_secs(24 * 3600);

    pub(crate) fn check(&self, when_full: QueuePolicy) -> Result<(), ConfigError> {
        if !(1024..=MESSAGE_SIZE_MAX).contains(&self.window) {
            return Err(ConfigError::option("window", self.window, "1 KiB to 1 GiB"));
        }
        if self.resume.is_zero() || self.resume > Reliability::LONGEST {
            let value = format!("{:?}", self.resume);
            return Err(ConfigError::option(
                "resume",
                value,
                "above 0, at most a day",
            ));
        }
        if matches!(when_full, QueuePolicy::DropNewest | QueuePolicy::DropOldest) {
            let expected = "wait or disconnect: a reliable session drops nothing";
            return Err(ConfigError::option("when_full", when_full.name(), expected));
        }
        Ok(())
    }
}

/// Which threads run the workers that own the sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WorkerThreads {
    /// The threads of the runtime that the server is started on.
    #[default]
    Runtime,
    /// Threads of their own, each with a current-thread runtime. Handlers run there too.
    Dedicated,
    /// As [`Dedicated`](Self::Dedicated), each pinned to one core. On Linux only; elsewhere refused with
    /// `not_supported`.
    Pinned,
}

/// Options of sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketOptions {
    /// Small messages leave at once (`TCP_NODELAY`). Default on.
    pub nodelay: bool,
    /// The system probes silent connections (`SO_KEEPALIVE`). Default on.
    pub keep_alive: bool,
    /// Bytes of the system's receive buffer (`SO_RCVBUF`); 0, the default, leaves it to the system.
    pub receive_buffer_size: usize,
    /// Bytes of the system's send buffer (`SO_SNDBUF`); 0, the default, leaves it to the system.
    pub send_buffer_size: usize,
}

impl Default for SocketOptions {
    fn default() -> Self {
        SocketOptions {
            nodelay: true,
            keep_alive: true,
            receive_buffer_size: 0,
            send_buffer_size: 0,
        }
    }
}

impl SocketOptions {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        for (name, value) in [
            ("receive_buffer_size", self.receive_buffer_size),
            ("send_buffer_size", self.send_buffer_size),
        ] {
            if value > MESSAGE_SIZE_MAX {
                return Err(ConfigError::option(name, value, "at most 1 GiB, or 0"));
            }
        }
        Ok(())
    }
}

/// Options of UDP, for servers and clients.
///
/// ```
/// use network_system::{MulticastGroup, UdpOptions};
///
/// let mut options = UdpOptions::default();
/// options.datagram_size = 8 * 1024;
/// options.multicast = vec![MulticastGroup::new([239, 1, 2, 3])];
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpOptions {
    /// The largest datagram that is sent, in bytes of its payload, 256 to 65,507. A message that does not
    /// fit is refused with `message_too_large`; `codec=msgi` needs 18 of these bytes. Received datagrams
    /// are only bound by [`Limits::message_size`].
    ///
    /// Default 1,452: what fits into one packet on nearly every path. Larger datagrams travel in
    /// fragments, each of which can be lost and takes the others with it; over IPv6 they are only sent
    /// where the interface takes them whole.
    pub datagram_size: usize,
    /// Sessions of one UDP listener at a time. Default 10,000. It takes the place of
    /// [`Limits::max_connections`], which does not count them.
    ///
    /// When all are taken, a session whose peer has never answered gives way to a new one: whoever sends
    /// under false addresses cannot push out a peer that is really there. A session whose peer has
    /// answered never gives way.
    pub max_sessions: usize,
    /// New sessions a second on one UDP listener; beyond it, datagrams of unknown addresses are dropped
    /// and counted. 0 for no limit. Default 5,000.
    pub new_sessions: u32,
    /// New sessions a second from one IP address, or one /64 network of IPv6. 0 for no limit. Default 500.
    pub new_sessions_per_address: u32,
    /// Bytes that the system holds for the one socket of a UDP listener; it may allow less. Default 4 MiB.
    /// [`SocketOptions::receive_buffer_size`] takes precedence when it is not 0.
    pub receive_buffer: usize,
    /// Groups that a server receives from. The port is the listener's, whose address has to be the
    /// unspecified one (`udp://0.0.0.0:port`, `udp://[::]:port`) or the group itself. Other programs can
    /// then listen on the same port.
    pub multicast: Vec<MulticastGroup>,
    /// Where datagrams to a group leave. Default: as the system decides.
    pub multicast_interface: MulticastInterface,
    /// How many networks datagrams to a group cross. Default 1: the local one.
    pub multicast_ttl: u8,
    /// Whether datagrams to a group reach members on the same machine. Default on.
    pub multicast_loopback: bool,
    /// Whether a client may send to a broadcast address (`SO_BROADCAST`). Default off.
    pub broadcast: bool,
}

impl Default for UdpOptions {
    fn default() -> Self {
        UdpOptions {
            datagram_size: 1_452,
            max_sessions: 10_000,
            new_sessions: 5_000,
            new_sessions_per_address: 500,
            receive_buffer: 4 * 1024 * 1024,
            multicast: Vec::new(),
            multicast_interface: MulticastInterface::Default,
            multicast_ttl: 1,
            multicast_loopback: true,
            broadcast: false,
        }
    }
}

/// The payload of the largest datagram.
pub(crate) const DATAGRAM_SIZE_MAX: usize = 65_507;

/// The smallest limit: a welcome has to fit.
const DATAGRAM_SIZE_MIN: usize = 256;

/// The most sessions that can be configured.
const UDP_SESSIONS_MAX: usize = 10_000_000;

impl UdpOptions {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if !(DATAGRAM_SIZE_MIN..=DATAGRAM_SIZE_MAX).contains(&self.datagram_size) {
            let expected = "256 to 65,507 bytes";
            return Err(ConfigError::option(
                "datagram_size",
                self.datagram_size,
                expected,
            ));
        }
        if !(1..=UDP_SESSIONS_MAX).contains(&self.max_sessions) {
            let expected = "1 to 10,000,000";
            return Err(ConfigError::option(
                "max_sessions",
                self.max_sessions,
                expected,
            ));
        }
        if self.receive_buffer > MESSAGE_SIZE_MAX {
            let expected = "at most 1 GiB";
            return Err(ConfigError::option(
                "receive_buffer",
                self.receive_buffer,
                expected,
            ));
        }
        for MulticastGroup { group, interface } in &self.multicast {
            if !group.is_multicast() {
                let expected = "a multicast address, such as 239.1.2.3 or ff02::1234";
                return Err(ConfigError::option("multicast", group, expected));
            }
            if group.is_ipv6() && matches!(interface, MulticastInterface::V4(_)) {
                let expected = "an interface by its index, as IPv6 has it";
                return Err(ConfigError::option("multicast", group, expected));
            }
        }
        Ok(())
    }
}

/// A multicast group that a server receives from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct MulticastGroup {
    /// The address of the group, IPv4 or IPv6.
    pub group: IpAddr,
    /// On which network.
    pub interface: MulticastInterface,
}

impl MulticastGroup {
    /// A group, on the network that the system chooses.
    pub fn new(group: impl Into<IpAddr>) -> Self {
        MulticastGroup {
            group: group.into(),
            interface: MulticastInterface::Default,
        }
    }

    /// The same group on another network.
    #[must_use]
    pub fn on(self, interface: MulticastInterface) -> Self {
        MulticastGroup { interface, ..self }
    }
}

/// The network of a multicast group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MulticastInterface {
    /// The one that the system chooses.
    #[default]
    Default,
    /// By the index of the interface, for IPv6; for IPv4, where the system can.
    Index(u32),
    /// By the address that this machine has on it, for IPv4.
    V4(Ipv4Addr),
}
