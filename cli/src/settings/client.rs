//! What the clients of `connect` and `bench` work with.

use network_system::tls::{TlsAuthorities, TlsClient, TlsIdentity};
use network_system::websocket::{Deflate, Speak, WebSocketClient};
use network_system::{Address, ClientBuilder, Endpoint, Proxy, Reliability, UdpOptions};
use serde_json::json;

use super::{KeyFile, PipelineSettings, datagram_size, reliable};
use crate::args::{ClientArgs, ProxyChoice};
use crate::exit::Failure;
use crate::output::Output;

/// How servers are trusted and reached, checked against the URL: an option that would have no effect is
/// refused.
#[derive(Debug)]
pub(crate) struct ClientSettings {
    tls: Option<TlsClient>,
    websocket: WebSocketClient,
    proxy: Option<Proxy>,
    udp: UdpOptions,
    pipeline: Option<PipelineSettings>,
    is_reliable: bool,
    /// Nobody vouches for the server, neither an authority nor a pin.
    is_blind: bool,
}

impl ClientSettings {
    /// `resumes` says whether later connections may take up the TLS session of earlier ones.
    pub(crate) fn new(args: &ClientArgs, url: &Endpoint, resumes: bool) -> Result<Self, Failure> {
        let is_plain = args.plain && is_websocket(url);
        if args.reliable {
            reliable::check_client(url, is_plain)?;
        }
        let pipeline = PipelineSettings::new(&args.pipeline)?;
        if let Some(pipeline) = &pipeline {
            pipeline.check_client(url, is_plain, args.msgi || !is_websocket(url))?;
        }
        Ok(ClientSettings {
            tls: tls(args, url, resumes)?,
            websocket: websocket(args, url)?,
            proxy: proxy(args, url)?,
            udp: udp(args, url)?,
            pipeline,
            is_reliable: args.reliable,
            is_blind: args.insecure && args.pin.is_empty(),
        })
    }

    /// Speaks MSGI inside of WebSocket, or not at all.
    pub(crate) fn insist_on_msgi(&mut self) {
        self.websocket = std::mem::take(&mut self.websocket).speak(Speak::Msgi);
    }

    /// Allows datagrams of this size, if they can be.
    pub(crate) fn fit_datagrams(&mut self, size: usize) {
        self.udp.datagram_size = self.udp.datagram_size.max(size);
    }

    pub(crate) fn datagram_size(&self) -> usize {
        self.udp.datagram_size
    }

    pub(crate) fn has_pipeline(&self) -> bool {
        self.pipeline.is_some()
    }

    pub(crate) fn is_reliable(&self) -> bool {
        self.is_reliable
    }

    /// The keys of encryption, if there is any.
    pub(crate) fn keys(&self) -> Option<&KeyFile> {
        self.pipeline.as_ref()?.keys.as_ref()
    }

    pub(crate) fn apply(&self, builder: ClientBuilder) -> ClientBuilder {
        let mut builder = builder
            .websocket(self.websocket.clone())
            .udp(self.udp.clone());
        if let Some(tls) = &self.tls {
            builder = builder.tls(tls.clone());
        }
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(proxy.clone());
        }
        if let Some(settings) = &self.pipeline {
            builder = builder.pipeline(settings.pipeline.clone());
        }
        if self.is_reliable {
            builder = builder.reliable(Reliability::default());
        }
        builder
    }

    /// Says what may surprise.
    pub(crate) fn warn(&self, output: Output) {
        if self.is_blind {
            let text = "warning: --insecure: the server's certificate is not verified; anyone on \
                the way can read and change everything";
            output.note(&json!({ "event": "insecure", "text": text }), text);
        }
    }
}

/// Refuses the options that are given and mean nothing for the URL.
fn refuse(options: &[(&str, bool)], needs: &str) -> Result<(), Failure> {
    match options.iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(Failure::usage(format_args!("--{option} needs {needs}"))),
        None => Ok(()),
    }
}

pub(crate) fn is_websocket(url: &Endpoint) -> bool {
    matches!(
        url.address(),
        Address::WebSocket { .. } | Address::WebSocketUnix { .. }
    )
}

fn is_secure(url: &Endpoint) -> bool {
    matches!(
        url.address(),
        Address::Tls { .. } | Address::WebSocket { secure: true, .. }
    )
}

fn tls(args: &ClientArgs, url: &Endpoint, resumes: bool) -> Result<Option<TlsClient>, Failure> {
    if !is_secure(url) {
        let given = [
            ("ca", args.ca.is_some()),
            ("cert", args.cert.is_some()),
            ("insecure", args.insecure),
            ("pin", !args.pin.is_empty()),
            ("server-name", args.server_name.is_some()),
        ];
        refuse(&given, "a URL with TLS: tls:// or wss://")?;
        return Ok(None);
    }
    let mut builder = TlsClient::builder()
        .min_version(args.tls_min)
        .session_resumption(resumes);
    if let Some(path) = &args.ca {
        builder = builder.authorities(TlsAuthorities::pem_file(path));
    }
    if let (Some(chain), Some(key)) = (&args.cert, &args.key) {
        builder = builder.identity(TlsIdentity::pem_files(chain, key));
    }
    for pin in &args.pin {
        builder = builder.pin(pin);
    }
    if let Some(name) = &args.server_name {
        builder = builder.server_name(name);
    }
    if args.insecure {
        builder = builder.dangerous_accept_any_certificate();
    }
    Ok(Some(builder.build()?))
}

fn websocket(args: &ClientArgs, url: &Endpoint) -> Result<WebSocketClient, Failure> {
    if !is_websocket(url) {
        let given = [
            ("header", !args.header.is_empty()),
            ("origin", args.origin.is_some()),
            ("subprotocol", !args.subprotocol.is_empty()),
            ("plain", args.plain),
            ("msgi", args.msgi),
            ("compression", args.compression.is_on()),
        ];
        refuse(&given, "a URL of WebSocket: ws:// or wss://")?;
    }
    let mut client = WebSocketClient::new().speak(match (args.plain, args.msgi) {
        (true, _) => Speak::Plain,
        (_, true) => Speak::Msgi,
        _ => Speak::Either,
    });
    for (name, value) in &args.header {
        client = client.header(name, value);
    }
    if let Some(origin) = &args.origin {
        client = client.header("Origin", origin);
    }
    for name in &args.subprotocol {
        client = client.subprotocol(name);
    }
    Ok(client.deflate(args.compression.is_on().then(Deflate::default)))
}

fn proxy(args: &ClientArgs, url: &Endpoint) -> Result<Option<Proxy>, Failure> {
    let proxy = match &args.proxy {
        None => return Ok(None),
        Some(ProxyChoice::Environment) => Proxy::from_env()?,
        Some(ProxyChoice::This(proxy)) => Some(proxy.clone()),
    };
    let goes_through = matches!(
        url.address(),
        Address::Tcp { .. } | Address::Tls { .. } | Address::WebSocket { .. }
    );
    refuse(
        &[("proxy", !goes_through)],
        "a URL of TCP, TLS or WebSocket with an address",
    )?;
    Ok(proxy)
}

fn udp(args: &ClientArgs, url: &Endpoint) -> Result<UdpOptions, Failure> {
    let mut udp = UdpOptions::default();
    // Whoever names a broadcast address means it.
    udp.broadcast = true;
    if let Some(size) = args.udp_datagram_size {
        let is_udp = matches!(url.address(), Address::Udp { .. });
        refuse(&[("udp-datagram-size", !is_udp)], "a URL of UDP: udp://")?;
        udp.datagram_size = datagram_size(size)?;
    }
    Ok(udp)
}
