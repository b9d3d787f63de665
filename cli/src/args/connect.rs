//! The options of `connect`.

use clap::Args;
use network_system::{Endpoint, Limits};

use super::client::ClientArgs;
use super::values::{client_id, connect_url, some_time};
use crate::units::{Size, Span};

const CONNECT_EXAMPLES: &str = "\
After the end of stdin the connection is closed in order: what was typed is delivered, and what the
server still says is printed.

With --json, stdout has {\"event\":\"message\",\"text\":…} for each message, and \"answer\" for the answer to a
request; what is not text, and everything with --hex, stands in \"hex\" instead of \"text\".

WebSocket knows text and binary: lines are sent as text, and with --binary and --hex as binary. If the
server agrees, MSGI is spoken inside of WebSocket, with requests and a token; --plain asks for WebSocket
alone, which is what other servers than this one expect.

With --reliable the session outlives its connection: what was on its way is sent again, once and in
order. The server has to offer it, and keeps the session for its --resume-timeout. What it had not
acknowledged when a session is over for good is counted and said, and the exit code is 1.

Examples:
  netsys connect tcp://127.0.0.1:7600
  echo hello | netsys connect tcp://127.0.0.1:7600
  netsys connect unix:///run/netsys.sock --request < questions.txt
  netsys connect 'tcp://127.0.0.1:7600?codec=lines' --stay < /dev/null
  netsys connect tls://example.org:7643 --ca certs/ca.pem --cert certs/client.pem --key certs/client.key
  netsys connect wss://example.org/feed --plain --subprotocol v2.feed --header 'Authorization: Bearer …'
  netsys connect ws://127.0.0.1:7601 --ping 1s --stay
  netsys connect tcp://127.0.0.1:7600 --reliable < orders.txt
  netsys connect wss://10.0.0.7/ --insecure --proxy socks5h://proxy:1080
  echo status | netsys connect udp://127.0.0.1:7602 --wait 500ms
  echo '48 65 79' | netsys connect tcp://127.0.0.1:7600 --hex";

/// Connects: lines of stdin are messages, messages are lines of stdout
#[derive(Args, Debug)]
#[command(after_help = CONNECT_EXAMPLES)]
pub(crate) struct ConnectArgs {
    /// The server: tcp://, tls://, ws://, wss:// or udp:// with HOST:PORT, unix:///PATH or
    /// ws+unix:///SOCKET:/PATH; ?codec=msgi|raw|lines|length says what is spoken, but on WebSocket
    #[arg(value_name = "URL", value_parser = connect_url)]
    pub(crate) url: Endpoint,

    /// What is read from stdin at a time is a message, and messages are written as they are
    #[arg(long, conflicts_with_all = ["hex", "json"], help_heading = "Format")]
    pub(crate) binary: bool,

    /// Lines are hexadecimal digits
    #[arg(long, help_heading = "Format")]
    pub(crate) hex: bool,

    /// Print one JSON object a line
    #[arg(long, help_heading = "Format")]
    pub(crate) json: bool,

    /// Send each line as a request and print its answer
    #[arg(long, help_heading = "Session")]
    pub(crate) request: bool,

    /// Connect again when the connection is lost; --reliable does so too
    #[arg(long, help_heading = "Session")]
    pub(crate) reconnect: bool,

    /// The name to give to the server
    #[arg(long, value_name = "ID", value_parser = client_id, help_heading = "Session")]
    pub(crate) client_id: Option<String>,

    /// The token to authenticate with
    #[arg(
        long,
        value_name = "TOKEN",
        env = "NETSYS_TOKEN",
        hide_env_values = true,
        help_heading = "Session"
    )]
    pub(crate) token: Option<String>,

    /// The longest message, either way
    #[arg(long, value_name = "SIZE", default_value_t = Size(Limits::default().message_size as u64),
        help_heading = "Session")]
    pub(crate) message_size_limit: Size,

    #[command(flatten)]
    pub(crate) client: ClientArgs,

    /// Time to connect, and for the answer to a request
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "10s",
        help_heading = "Time"
    )]
    pub(crate) timeout: Span,

    /// After the end of stdin, wait at most this long for the server to close; 0 for no limit. Plain
    /// UDP has no close: there it is the time for answers, and a quarter of it without any is enough
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "2s",
        help_heading = "Time"
    )]
    pub(crate) wait: Span,

    /// Send a PING after this long without sending, and print round trips; three missed end the
    /// connection [default: 10s, without printing]
    #[arg(long, value_name = "DURATION", value_parser = some_time, help_heading = "Time")]
    pub(crate) ping: Option<Span>,

    /// Stay after the end of stdin, until the server closes or a signal comes
    #[arg(long, help_heading = "Time")]
    pub(crate) stay: bool,
}
