//! What all clients take: how they trust a server, and how they get there.

use std::path::PathBuf;

use clap::Args;
use network_system::Proxy;
use network_system::tls::TlsVersion;

use super::pipeline::PipelineArgs;
use super::values::{Toggle, origin, tls_version};
use crate::units::Size;

#[derive(Args, Clone, Debug)]
pub(crate) struct ClientArgs {
    /// Trust servers whose certificate these authorities have issued, and no others (PEM) [default: the
    /// system's]
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub(crate) ca: Option<PathBuf>,

    /// The certificate chain to show to a server that asks for one (PEM)
    #[arg(long, value_name = "FILE", requires = "key", help_heading = "TLS")]
    pub(crate) cert: Option<PathBuf>,

    /// The private key of --cert (PEM)
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = "TLS")]
    pub(crate) key: Option<PathBuf>,

    /// Accept any certificate: anyone on the way can read and change everything, unless there is a --pin
    #[arg(long, help_heading = "TLS")]
    pub(crate) insecure: bool,

    /// Expect the server to have the public key with this SHA-256, in hexadecimal or base64; several can
    /// be given
    #[arg(long, value_name = "HASH", help_heading = "TLS")]
    pub(crate) pin: Vec<String>,

    /// The name that the server is asked for and its certificate has [default: the host of the URL]
    #[arg(long, value_name = "NAME", help_heading = "TLS")]
    pub(crate) server_name: Option<String>,

    /// The oldest version of TLS: 1.2 or 1.3
    #[arg(long, value_name = "VERSION", default_value = "1.2", value_parser = tls_version(),
        hide_possible_values = true, help_heading = "TLS")]
    pub(crate) tls_min: TlsVersion,

    /// A field of the request, as `Name: value`; can be given more than once
    #[arg(long, value_name = "FIELD", value_parser = header, help_heading = "WebSocket")]
    pub(crate) header: Vec<(String, String)>,

    /// The origin to claim, as the page of a browser would
    #[arg(long, value_name = "URL", value_parser = origin, help_heading = "WebSocket")]
    pub(crate) origin: Option<String>,

    /// A subprotocol to offer; can be given more than once, best first
    #[arg(long, value_name = "NAME", help_heading = "WebSocket")]
    pub(crate) subprotocol: Vec<String>,

    /// Exchange text and binary messages only [default: MSGI, if the server speaks it]
    #[arg(long, conflicts_with = "msgi", help_heading = "WebSocket")]
    pub(crate) plain: bool,

    /// Leave a server that does not speak MSGI
    #[arg(long, help_heading = "WebSocket")]
    pub(crate) msgi: bool,

    /// Offer to compress messages (permessage-deflate)
    #[arg(long, value_name = "on|off", value_enum, hide_possible_values = true,
        default_value_t = Toggle::Off, help_heading = "WebSocket")]
    pub(crate) compression: Toggle,

    /// Lose nothing when the connection breaks: the session goes on over another one. A server that cannot
    /// is left
    #[arg(long, help_heading = "Session")]
    pub(crate) reliable: bool,

    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,

    /// Connect through a proxy: http://, socks5:// or socks5h:// with USER:PASSWORD@HOST:PORT; `env` for
    /// the one that https_proxy or all_proxy names
    #[arg(long, value_name = "URL|env", value_parser = proxy, help_heading = "Network")]
    pub(crate) proxy: Option<ProxyChoice>,

    /// The largest datagram that is sent by UDP, 256 to 65507 [default: 1452; with bench, what
    /// --size needs]
    #[arg(long, value_name = "SIZE", help_heading = "Network")]
    pub(crate) udp_datagram_size: Option<Size>,
}

/// Which proxy.
#[derive(Clone, Debug)]
pub(crate) enum ProxyChoice {
    /// The one that the environment names, if it does.
    Environment,
    This(Proxy),
}

fn proxy(text: &str) -> Result<ProxyChoice, String> {
    match text {
        "env" => Ok(ProxyChoice::Environment),
        url => Proxy::parse(url)
            .map(ProxyChoice::This)
            .map_err(|error| format!("{error}, or env")),
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("expected a name, a colon and a value".to_owned()),
    }
}
