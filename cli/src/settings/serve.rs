//! What a server works with.

use std::path::PathBuf;
use std::time::Duration;

use network_system::tls::{ClientAuth, TlsAuthorities, TlsIdentity, TlsVersion};
use network_system::websocket::{Deflate, WebSocketServer};
use network_system::{
    Address, Endpoint, Host, Limits, MemoryBudget, ProxyProtocol, Reliability, SocketOptions,
    Timeouts, UdpOptions,
};

use super::{
    A_YEAR, MESSAGE_SIZE_MAX, PipelineSettings, ShowSettings, has_hello, out_of_range, rates,
    reliable, unlimited, within_a_year,
};
use crate::args::{ClientAuthMode, HandlerName, Listen, ServeArgs, cores};
use crate::exit::{ExitStatus, Failure};

/// What `serve` works with.
#[derive(Debug)]
pub(crate) struct ServeSettings {
    pub(crate) listen: Vec<Listen>,
    pub(crate) handler: HandlerName,
    pub(crate) groups: bool,
    pub(crate) token: Option<String>,
    pub(crate) limits: Limits,
    /// `None` for that of the process.
    pub(crate) memory_budget: Option<MemoryBudget>,
    pub(crate) timeouts: Timeouts,
    pub(crate) socket: SocketOptions,
    pub(crate) websocket: WebSocketServer,
    pub(crate) udp: UdpOptions,
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    pub(crate) pipeline: Option<PipelineSettings>,
    pub(crate) reliable: Option<Reliability>,
    /// There when a listener needs it.
    pub(crate) tls: Option<TlsSettings>,
    pub(crate) show: ShowSettings,
    pub(crate) goaway: Option<Duration>,
    /// At least one.
    pub(crate) workers: usize,
    pub(crate) pin_workers: bool,
}

impl ServeSettings {
    pub(crate) fn new(mut args: ServeArgs) -> Result<Self, Failure> {
        let pipeline = PipelineSettings::new(&args.pipeline)?;
        let mut listen = std::mem::take(&mut args.listen);
        if listen.is_empty() {
            let suits = |known: &PipelineSettings| known.suits_plain_datagrams();
            let is_plain = args.token.is_none() && pipeline.as_ref().is_none_or(suits);
            listen = default_listeners(!is_plain)?;
        }
        if let Some(pipeline) = &pipeline {
            let endpoints = listen.iter().map(Listen::endpoint);
            pipeline.check(endpoints.map(|endpoint| (endpoint, has_hello(endpoint))))?;
        }
        let endpoints = listen.iter().map(Listen::endpoint);
        let reliable = reliable::of_server(&args.reliable, args.when_full, endpoints)?;
        let tls = TlsSettings::new(&args, &listen)?;
        let websocket = websocket(&args);
        let udp = udp(&args, &listen)?;
        let proxy_protocol = proxy_protocol(&args, &listen)?;
        let show = ShowSettings::new(args.dashboard)?;

        let mut limits = Limits::default();
        limits.max_connections = args.max_connections;
        limits.max_connections_per_ip = args.max_connections_per_ip;
        limits.message_size = match args.message_size_limit.0 {
            0 => MESSAGE_SIZE_MAX as usize,
            size if size <= MESSAGE_SIZE_MAX => size as usize,
            _ => {
                return Err(out_of_range(
                    "message-size-limit",
                    "1 byte to 1GiB, or 0 for 1GiB",
                ));
            }
        };
        limits.outbox_bytes = unlimited(usize::try_from(args.outbox_limit.0).unwrap_or(0));
        limits.outbox_messages = unlimited(args.outbox_messages);
        limits.when_full = args.when_full;
        limits.groups_per_session = unlimited(args.groups_per_session);
        let endpoints = listen.iter().map(Listen::endpoint);
        rates::apply(&args.rates, &mut limits, reliable.is_some(), endpoints)?;
        let memory_budget = rates::budget(&args.rates)?;

        let mut timeouts = Timeouts::default();
        for (name, value) in [
            ("idle-timeout", args.idle_timeout),
            ("first-byte-timeout", args.first_byte_timeout),
            ("mid-frame-timeout", args.mid_frame_timeout),
            ("heartbeat", args.heartbeat),
            ("drain-timeout", args.drain_timeout),
            ("goaway", args.goaway),
        ] {
            within_a_year(name, value)?;
        }
        timeouts.idle = args.idle_timeout.0;
        timeouts.first_byte = args.first_byte_timeout.0;
        timeouts.mid_frame = args.mid_frame_timeout.0;
        timeouts.heartbeat = args.heartbeat.0;
        timeouts.drain = match args.drain_timeout.0 {
            Duration::ZERO => A_YEAR,
            drain => drain,
        };

        let mut socket = SocketOptions::default();
        socket.nodelay = args.nodelay.is_on();
        socket.keep_alive = args.keep_alive.is_on();
        for (name, value, target) in [
            (
                "receive-buffer-size",
                args.receive_buffer_size,
                &mut socket.receive_buffer_size,
            ),
            (
                "send-buffer-size",
                args.send_buffer_size,
                &mut socket.send_buffer_size,
            ),
        ] {
            if value.0 > MESSAGE_SIZE_MAX {
                return Err(out_of_range(name, "at most 1GiB, or 0 for the system's"));
            }
            *target = value.0 as usize;
        }

        if args.token.is_some()
            && let Some(endpoint) = listen
                .iter()
                .map(Listen::endpoint)
                .find(|endpoint| !has_hello(endpoint))
        {
            return Err(Failure::new(
                ExitStatus::Usage,
                format_args!(
                    "--token needs the codec msgi, which carries it: {endpoint} has another codec"
                ),
            ));
        }
        Ok(ServeSettings {
            listen,
            handler: args.handler,
            groups: args.groups.is_on(),
            token: args.token,
            limits,
            memory_budget,
            timeouts,
            socket,
            websocket,
            udp,
            proxy_protocol,
            pipeline,
            reliable,
            tls,
            show,
            pin_workers: args.pin_workers.is_on(),
            goaway: Some(args.goaway.0).filter(|retry| !retry.is_zero()),
            workers: if args.workers == 0 {
                cores()
            } else {
                args.workers
            },
        })
    }
}

/// Where a server listens that is not told. A token and most pipelines need hello, which plain datagrams do
/// not have.
fn default_listeners(needs_hello: bool) -> Result<Vec<Listen>, Failure> {
    let udp = match needs_hello {
        true => "udp://127.0.0.1:7602?codec=msgi",
        false => "udp://127.0.0.1:7602",
    };
    let urls = ["tcp://127.0.0.1:7600", "ws://127.0.0.1:7601", udp];
    let endpoints = urls.into_iter().map(Endpoint::parse);
    Ok(endpoints
        .map(|endpoint| endpoint.map(Listen::At))
        .collect::<Result<_, _>>()?)
}

/// Certificates, and what is asked of clients.
#[derive(Debug)]
pub(crate) struct TlsSettings {
    /// Chains and keys. Empty: the server makes one for itself.
    pub(crate) files: Vec<(PathBuf, PathBuf)>,
    /// The names of the certificate that the server makes for itself.
    pub(crate) hosts: Vec<String>,
    pub(crate) client_auth: ClientAuth,
    pub(crate) min_version: TlsVersion,
}

impl TlsSettings {
    fn new(args: &ServeArgs, listen: &[Listen]) -> Result<Option<Self>, Failure> {
        if args.cert.len() != args.key.len() {
            return Err(Failure::usage(format_args!(
                "each --cert needs its --key: there are {} and {}",
                args.cert.len(),
                args.key.len()
            )));
        }
        if args.client_auth.is_some() && args.client_ca.is_none() {
            let text = "--client-auth needs --client-ca, the authorities of the clients";
            return Err(Failure::usage(text));
        }
        let hosts: Vec<_> = listen
            .iter()
            .filter_map(|listen| secure_host(listen.endpoint()))
            .collect();
        if hosts.is_empty() {
            // Options that would have no effect are not taken for protection.
            for (option, given) in [
                ("cert", !args.cert.is_empty()),
                ("client-ca", args.client_ca.is_some()),
            ] {
                if given {
                    return Err(Failure::usage(format_args!(
                        "--{option} needs a listener with TLS: tls:// or wss://"
                    )));
                }
            }
            return Ok(None);
        }
        let client_auth = match (&args.client_ca, args.client_auth) {
            (None, _) => ClientAuth::None,
            (Some(path), Some(ClientAuthMode::Optional)) => {
                ClientAuth::Optional(TlsAuthorities::pem_file(path))
            }
            (Some(path), _) => ClientAuth::Required(TlsAuthorities::pem_file(path)),
        };
        let files = args.cert.iter().cloned().zip(args.key.iter().cloned());
        Ok(Some(TlsSettings {
            files: files.collect(),
            hosts: hosts.into_iter().flatten().collect(),
            client_auth,
            min_version: args.tls_min,
        }))
    }

    pub(crate) fn identities(&self) -> impl Iterator<Item = TlsIdentity> {
        let files = self.files.iter();
        files.map(|(chain, key)| TlsIdentity::pem_files(chain, key))
    }
}

/// The host of an endpoint with TLS; the inner `None` for one that stands for all addresses.
#[allow(clippy::option_option, reason = "no TLS, and TLS on every address")]
fn secure_host(endpoint: &Endpoint) -> Option<Option<String>> {
    let host = match endpoint.address() {
        Address::Tls { host, .. }
        | Address::WebSocket {
            secure: true, host, ..
        } => host,
        _ => return None,
    };
    Some(match host {
        Host::Ip(ip) if ip.is_unspecified() => None,
        Host::Ip(ip) => Some(ip.to_string()),
        Host::Name(name) => Some(name.clone()),
    })
}

fn websocket(args: &ServeArgs) -> WebSocketServer {
    let deflate = args.compression.is_on().then(|| {
        let mut deflate = Deflate::default();
        deflate.threshold = usize::try_from(args.compression_threshold.0).unwrap_or(usize::MAX);
        deflate
    });
    let server = WebSocketServer::new().deflate(deflate);
    args.origin
        .iter()
        .fold(server, WebSocketServer::allow_origin)
}

fn udp(args: &ServeArgs, listen: &[Listen]) -> Result<UdpOptions, Failure> {
    // Where a listener has an address of this machine, the system passes on nothing that is for a group.
    let hears_groups = |listen: &Listen| match (listen, listen.endpoint().address()) {
        (Listen::On(_), Address::Udp { .. }) => true,
        (Listen::At(_), Address::Udp { host, .. }) => {
            matches!(host, Host::Ip(ip) if ip.is_unspecified() || ip.is_multicast())
        }
        _ => false,
    };
    if !args.multicast.is_empty() && !listen.iter().any(hears_groups) {
        return Err(Failure::usage(
            "--multicast needs a listener at udp://0.0.0.0:PORT, udp://[::]:PORT or the group",
        ));
    }
    let mut udp = UdpOptions::default();
    udp.datagram_size = super::datagram_size(args.udp_datagram_size)?;
    if !(1..=10_000_000).contains(&args.udp_sessions) {
        return Err(out_of_range("udp-sessions", "1 to 10000000"));
    }
    udp.max_sessions = args.udp_sessions;
    udp.new_sessions = args.udp_new_sessions;
    udp.new_sessions_per_address = args.udp_new_sessions_per_ip;
    udp.multicast.clone_from(&args.multicast);
    Ok(udp)
}

fn proxy_protocol(args: &ServeArgs, listen: &[Listen]) -> Result<Option<ProxyProtocol>, Failure> {
    let mut networks = args.proxy_protocol.iter().copied().peekable();
    if networks.peek().is_none() {
        return Ok(None);
    }
    let carries = |listen: &Listen| {
        matches!(
            listen.endpoint().address(),
            Address::Tcp { .. } | Address::Tls { .. } | Address::WebSocket { .. }
        )
    };
    if !listen.iter().any(carries) {
        return Err(Failure::usage(
            "--proxy-protocol needs a listener of TCP, TLS or WebSocket with an address",
        ));
    }
    Ok(Some(
        networks.fold(ProxyProtocol::required(), ProxyProtocol::trust),
    ))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn listeners(arguments: &[&str]) -> Vec<String> {
        let line = ["netsys", "serve"].iter().chain(arguments);
        let cli = Cli::try_parse_from(line).expect("valid arguments");
        let Command::Serve(args) = cli.command else {
            panic!("not serve");
        };
        let settings = ServeSettings::new(*args).expect("valid settings");
        let listen = settings.listen.iter();
        listen.map(|listen| listen.endpoint().to_string()).collect()
    }

    #[test]
    fn a_server_that_is_not_told_listens_by_tcp_websocket_and_udp_on_loopback() {
        assert_eq!(
            listeners(&[]),
            [
                "tcp://127.0.0.1:7600",
                "ws://127.0.0.1:7601",
                "udp://127.0.0.1:7602"
            ]
        );
        // Everywhere it is asked for the token.
        assert_eq!(
            listeners(&["--token", "x"]).last().map(String::as_str),
            Some("udp://127.0.0.1:7602?codec=msgi")
        );
        assert_eq!(
            listeners(&["--listen", "tcp://127.0.0.1:1"]),
            ["tcp://127.0.0.1:1"]
        );
    }
}
