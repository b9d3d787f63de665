//! The options of `serve`, which are the keys of its configuration file too.

#![allow(
    rustdoc::bare_urls,
    rustdoc::broken_intra_doc_links,
    reason = "the texts are those of --help"
)]

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use network_system::tls::TlsVersion;
use network_system::websocket::Deflate;
use network_system::{
    Limits, MulticastGroup, Network, QueuePolicy, SocketOptions, Timeouts, UdpOptions,
};

use super::dashboard::DashboardArgs;
use super::listen::{Listen, listen};
use super::pipeline::PipelineArgs;
use super::rates::RateArgs;
use super::reliable::ReliableArgs;
use super::values::{
    Toggle, allowed_origin, count, multicast_group, network, rate, tls_version, when_full, workers,
};
use crate::units::{Size, Span};

const SERVE_EXAMPLES: &str = "\
Sizes are bytes or have K, M or G (powers of 1024): 64KiB, 1m. Durations have a unit: 500ms, 30s, 2m.
0 switches a limit off. A rate is what may come in a second: 100msg, 1MiB or both, 100msg,1MiB.

A configuration file has the same options as keys, without the dashes; the command line wins over it:
  listen = [\"tcp://127.0.0.1:7600\", \"unix:///run/netsys.sock\"]
  handler = \"chat\"
  max-connections = 5000
  idle-timeout = \"2m\"

URLs, where port 0 takes a free one:
  tcp://HOST:PORT  tls://HOST:PORT  unix:///PATH      with ?codec=msgi|raw|lines|length
  ws://HOST:PORT/PATH  wss://HOST:PORT/PATH  ws+unix:///SOCKET:/PATH
  udp://HOST:PORT                                     with ?codec=raw|msgi
  fd://NAME?scheme=tcp|tls|unix|ws|wss|ws+unix|udp    a socket of systemd's, by FileDescriptorName= or by
                                                      number from 0; &codec=… and for WebSocket &path=/…

tls and wss show the certificates of --cert and --key; without them, one that the server makes for itself
at each start, and whose pin it prints. On SIGHUP they are read again; when they are bad, the old ones stay.

The dashboard is a web page about the server, with an API, /metrics for Prometheus, and /healthz and /readyz.
When its default port is taken, the server runs without it and says so. On other addresses than those of
loopback it needs a token, and it has no TLS: put a proxy before it, and name the proxy's --dashboard-host.

Signals: SIGINT and SIGTERM drain; a second one cuts off what is left.

Examples:
  netsys serve
  netsys cert certs && netsys serve --listen tls://0.0.0.0:7643 --cert certs/server.pem --key certs/server.key
  netsys serve --handler chat --listen wss://0.0.0.0:443/chat --cert web.pem --key web.key --origin https://example.org
  netsys serve --handler chat --idle-timeout 0 --listen 'tcp://0.0.0.0:7600?codec=lines'
    and then: nc HOST 7600
  netsys serve --listen tcp://127.0.0.1:0 --listen unix:///tmp/netsys.sock --json
  netsys serve --dashboard 0.0.0.0:7680 --dashboard-token-file token --dashboard-host status.example.org
  netsys serve --listen tcp://0.0.0.0:7600 --reliable --resume-timeout 5m --goaway 1s
  netsys serve --session-rate 100msg,1MiB --ip-rate 1000msg --handshakes-per-second-per-ip 20
  netsys serve --config /etc/netsys.toml --max-connections 0";

/// Runs a server until it is told to stop
#[derive(Args, Debug)]
#[command(after_help = SERVE_EXAMPLES, allow_negative_numbers = true)]
pub(crate) struct ServeArgs {
    /// Where to listen; can be given more than once [default: tcp://127.0.0.1:7600,
    /// ws://127.0.0.1:7601 and udp://127.0.0.1:7602]
    #[arg(long, value_name = "URL", value_parser = listen, help_heading = "What to serve")]
    pub(crate) listen: Vec<Listen>,

    /// What to do with messages: send them back, send them to all others, rooms for people, or count
    #[arg(
        long,
        value_name = "HANDLER",
        default_value = "echo",
        help_heading = "What to serve"
    )]
    pub(crate) handler: HandlerName,

    /// Let clients join and leave groups by themselves
    #[arg(long, value_name = "on|off", default_value_t = Toggle::Off, value_enum,
        hide_possible_values = true, help_heading = "What to serve")]
    pub(crate) groups: Toggle,

    /// Refuse clients whose hello does not carry this token
    #[arg(long, value_name = "TOKEN", env = "NETSYS_TOKEN", hide_env_values = true,
        value_parser = clap::builder::NonEmptyStringValueParser::new(),
        help_heading = "What to serve")]
    pub(crate) token: Option<String>,

    /// Read options from a TOML file
    #[arg(long, value_name = "FILE", help_heading = "What to serve")]
    pub(crate) config: Option<PathBuf>,

    /// Print one JSON object a line
    #[arg(long, help_heading = "What to serve")]
    pub(crate) json: bool,

    /// The certificate chain to show on tls and wss (PEM); with several, the one with the name that a
    /// client asks for, and else the first
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub(crate) cert: Vec<PathBuf>,

    /// The private key of each --cert, in their order (PEM)
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub(crate) key: Vec<PathBuf>,

    /// Ask clients for a certificate of these authorities (PEM)
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub(crate) client_ca: Option<PathBuf>,

    /// Whether a client may show none: required or optional [default: required with --client-ca]
    #[arg(
        long,
        value_name = "MODE",
        hide_possible_values = true,
        help_heading = "TLS"
    )]
    pub(crate) client_auth: Option<ClientAuthMode>,

    /// The oldest version of TLS: 1.2 or 1.3
    #[arg(long, value_name = "VERSION", default_value = "1.2", value_parser = tls_version(),
        hide_possible_values = true, help_heading = "TLS")]
    pub(crate) tls_min: TlsVersion,

    /// Let pages of this origin connect too, such as https://example.org; * for all. Pages of the same
    /// host always may
    #[arg(long, value_name = "URL", value_parser = allowed_origin, help_heading = "WebSocket")]
    pub(crate) origin: Vec<String>,

    /// Compress messages where a client offers it (permessage-deflate)
    #[arg(long, value_name = "on|off", value_enum, hide_possible_values = true,
        default_value_t = Toggle::On, help_heading = "WebSocket")]
    pub(crate) compression: Toggle,

    /// Messages below this size are not compressed
    #[arg(long, value_name = "SIZE", default_value_t = Size(Deflate::default().threshold as u64),
        help_heading = "WebSocket")]
    pub(crate) compression_threshold: Size,

    /// The largest datagram that is sent, 256 to 65507
    #[arg(long, value_name = "SIZE", help_heading = "UDP",
        default_value_t = Size(UdpOptions::default().datagram_size as u64))]
    pub(crate) udp_datagram_size: Size,

    /// Sessions of one listener at a time, in place of --max-connections
    #[arg(long, value_name = "N", default_value_t = UdpOptions::default().max_sessions,
        value_parser = count, help_heading = "UDP")]
    pub(crate) udp_sessions: usize,

    /// New sessions a second
    #[arg(long, value_name = "N", default_value_t = UdpOptions::default().new_sessions,
        value_parser = rate, help_heading = "UDP")]
    pub(crate) udp_new_sessions: u32,

    /// New sessions a second from one IP address
    #[arg(long, value_name = "N", value_parser = rate, help_heading = "UDP",
        default_value_t = UdpOptions::default().new_sessions_per_address)]
    pub(crate) udp_new_sessions_per_ip: u32,

    /// Receive from a multicast group too, on a listener at 0.0.0.0, [::] or the group: GROUP or
    /// GROUP%INTERFACE
    #[arg(long, value_name = "GROUP", value_parser = multicast_group, help_heading = "UDP")]
    pub(crate) multicast: Vec<MulticastGroup>,

    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,

    #[command(flatten)]
    pub(crate) reliable: ReliableArgs,

    #[command(flatten)]
    pub(crate) dashboard: DashboardArgs,

    /// Connections at a time
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_connections,
        value_parser = count, help_heading = "Limits")]
    pub(crate) max_connections: usize,

    /// Connections at a time from one IP address
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_connections_per_ip,
        value_parser = count, help_heading = "Limits")]
    pub(crate) max_connections_per_ip: usize,

    /// The longest message; 0 for the most there is, 1GiB
    #[arg(long, value_name = "SIZE", default_value_t = Size(Limits::default().message_size as u64),
        help_heading = "Limits")]
    pub(crate) message_size_limit: Size,

    /// Bytes that wait for one session
    #[arg(long, value_name = "SIZE", default_value_t = Size(Limits::default().outbox_bytes as u64),
        help_heading = "Limits")]
    pub(crate) outbox_limit: Size,

    /// Messages that wait for one session
    #[arg(long, value_name = "N", default_value_t = Limits::default().outbox_messages,
        value_parser = count, help_heading = "Limits")]
    pub(crate) outbox_messages: usize,

    /// A message for which there is no room holds up whoever sends it, is dropped, drops the oldest, or
    /// ends the session
    #[arg(long, value_name = "POLICY", default_value = Limits::default().when_full.name(),
        value_parser = when_full(), help_heading = "Limits")]
    pub(crate) when_full: QueuePolicy,

    /// Groups that one session can be in
    #[arg(long, value_name = "N", default_value_t = Limits::default().groups_per_session,
        value_parser = count, help_heading = "Limits")]
    pub(crate) groups_per_session: usize,

    #[command(flatten)]
    pub(crate) rates: RateArgs,

    /// A session that sends nothing for this long ends
    #[arg(long, value_name = "DURATION", default_value_t = Span(Timeouts::default().idle),
        help_heading = "Timeouts")]
    pub(crate) idle_timeout: Span,

    /// A new connection's first frame comes within this time
    #[arg(long, value_name = "DURATION", default_value_t = Span(Timeouts::default().first_byte),
        help_heading = "Timeouts")]
    pub(crate) first_byte_timeout: Span,

    /// A frame that has begun is complete within this time
    #[arg(long, value_name = "DURATION", default_value_t = Span(Timeouts::default().mid_frame),
        help_heading = "Timeouts")]
    pub(crate) mid_frame_timeout: Span,

    /// A PING goes out after this long without sending; three missed end the session
    #[arg(long, value_name = "DURATION", default_value_t = Span(Timeouts::default().heartbeat),
        help_heading = "Timeouts")]
    pub(crate) heartbeat: Span,

    /// When stopping, what is queued is delivered within this time
    #[arg(long, value_name = "DURATION", default_value_t = Span(Timeouts::default().drain),
        help_heading = "Timeouts")]
    pub(crate) drain_timeout: Span,

    /// When stopping, tell clients to come back after about this long; 0 says nothing
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "0",
        help_heading = "Timeouts"
    )]
    pub(crate) goaway: Span,

    /// Expect the PROXY protocol (v1 or v2) on every connection, from proxies in this network, such as
    /// 10.0.0.0/8; all others are refused
    #[arg(long, value_name = "CIDR", value_parser = network, help_heading = "System")]
    pub(crate) proxy_protocol: Vec<Network>,

    /// Threads that share the sessions; 0 for one for each core
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = workers,
        help_heading = "System")]
    pub(crate) workers: usize,

    /// Give each worker a thread pinned to a core (Linux)
    #[arg(long, value_name = "on|off", value_enum, hide_possible_values = true,
        default_value_t = Toggle::Off, help_heading = "System")]
    pub(crate) pin_workers: Toggle,

    /// Send small messages at once (TCP_NODELAY)
    #[arg(long, value_name = "on|off", value_enum, hide_possible_values = true,
        default_value_t = Toggle::from(SocketOptions::default().nodelay), help_heading = "System")]
    pub(crate) nodelay: Toggle,

    /// Let the system probe silent connections (SO_KEEPALIVE)
    #[arg(long, value_name = "on|off", value_enum, hide_possible_values = true,
        default_value_t = Toggle::from(SocketOptions::default().keep_alive), help_heading = "System")]
    pub(crate) keep_alive: Toggle,

    /// The system's receive buffer (SO_RCVBUF); 0 leaves it to the system
    #[arg(long, value_name = "SIZE", help_heading = "System",
        default_value_t = Size(SocketOptions::default().receive_buffer_size as u64))]
    pub(crate) receive_buffer_size: Size,

    /// The system's send buffer (SO_SNDBUF); 0 leaves it to the system
    #[arg(long, value_name = "SIZE", help_heading = "System",
        default_value_t = Size(SocketOptions::default().send_buffer_size as u64))]
    pub(crate) send_buffer_size: Size,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HandlerName {
    /// sends each message back, and answers a request with its own payload
    Echo,
    /// sends each message to every other session
    Broadcast,
    /// rooms for people: /join ROOM, /leave, /who, /nick NAME, /msg NAME TEXT
    Chat,
    /// takes and counts
    Sink,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClientAuthMode {
    /// a client without a certificate is refused
    Required,
    /// a client may show a certificate
    Optional,
}
