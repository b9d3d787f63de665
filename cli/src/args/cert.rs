//! The options of `cert`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

const CERT_EXAMPLES: &str = "\
It makes an authority (ca.pem, ca.key), and certificates by it for a server (server.pem, server.key) and a
client (client.pem, client.key), with ECDSA keys on P-256. An authority that is there already is used.
Keys can be read by you alone. Whoever has ca.key can pretend to be any server to all who trust ca.pem, so it
is for development, and ca.key for nobody else.

Examples:
  netsys cert certs
  netsys cert certs --name chat.example.org --name 192.168.1.5
  netsys serve --listen tls://0.0.0.0:7643 --cert certs/server.pem --key certs/server.key --client-ca certs/ca.pem
  netsys connect tls://localhost:7643 --ca certs/ca.pem --cert certs/client.pem --key certs/client.key
  netsys cert alice --only client --ca certs --client-name alice
  netsys cert certs --only server --days 30 --force && pkill -HUP -x netsys";

/// Makes certificates for development: an authority, a server's and a client's
#[derive(Args, Debug)]
#[command(after_help = CERT_EXAMPLES, allow_negative_numbers = true)]
pub(crate) struct CertArgs {
    /// The folder to write to; it is made when it is missing
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) folder: PathBuf,

    /// Make these alone: ca, server or client; can be given more than once
    #[arg(long, value_name = "KIND", hide_possible_values = true)]
    pub(crate) only: Vec<CertKind>,

    /// A DNS name or IP address of the server; can be given more than once [default: localhost,
    /// 127.0.0.1 and ::1]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Vec<String>,

    /// The name of the client
    #[arg(long, value_name = "NAME", default_value = "client")]
    pub(crate) client_name: String,

    /// Use the authority in this folder, made by this command [default: DIR]
    #[arg(long, value_name = "DIR")]
    pub(crate) ca: Option<PathBuf>,

    /// How long certificates are valid; an authority ten times as long
    #[arg(long, value_name = "N", default_value_t = 365,
        value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) days: u32,

    /// Replace files that are there
    #[arg(long)]
    pub(crate) force: bool,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CertKind {
    /// an authority
    Ca,
    /// a certificate of a server
    Server,
    /// a certificate of a client
    Client,
}
