//! The command line. Each option is defined here once.
//!
//! An option of `serve` is a key of its configuration file too, with the same name and the same values;
//! [`settings`](crate::settings) sees to that, so that nothing has to be written twice.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use network_system::{Address, Endpoint, Limits, QueuePolicy, SocketOptions, Timeouts};

use crate::units::{Size, Span};

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed
  2    wrong usage or configuration
  3    could not connect
  4    TLS failed
  130  interrupted";

/// Messaging servers, clients and load.
#[derive(Debug, Parser)]
#[command(
    name = "netsys",
    version,
    about = "Messaging servers, clients and load",
    after_help = EXIT_CODES,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    disable_help_flag = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct GlobalArgs {
    /// Say more: -v what happens, -vv details, -vvv everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Say nothing but data and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Log to stderr: off, error, warn, info, debug or trace [default: warn]
    #[arg(long, global = true, value_name = "LEVEL", hide_possible_values = true, conflicts_with_all = ["verbose", "quiet"])]
    pub(crate) log: Option<LogLevel>,

    /// Print help
    #[arg(short, long, global = true, action = clap::ArgAction::HelpShort)]
    pub(crate) help: Option<bool>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(Box<ServeArgs>),
    Connect(ConnectArgs),
    Bench(BenchArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Prints completions for a shell
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  netsys completions bash > ~/.local/share/bash-completion/completions/netsys
  netsys completions zsh > ~/.zfunc/_netsys
  netsys completions fish > ~/.config/fish/completions/netsys.fish")]
pub(crate) struct CompletionsArgs {
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

/// Prints the manual page of the program or of one command
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  netsys man | man -l -
  netsys man serve > /usr/local/share/man/man1/netsys-serve.1")]
pub(crate) struct ManArgs {
    /// The command; without it, the page of the program
    #[arg(value_name = "COMMAND")]
    pub(crate) command: Option<String>,
}

const SERVE_EXAMPLES: &str = "\
Sizes are bytes or have K, M or G (powers of 1024): 64KiB, 1m. Durations have a unit: 500ms, 30s, 2m.
0 switches a limit off.

A configuration file has the same options as keys, without the dashes; the command line wins over it:
  listen = [\"tcp://127.0.0.1:7600\", \"unix:///run/netsys.sock\"]
  handler = \"chat\"
  max-connections = 5000
  idle-timeout = \"2m\"

URLs: tcp://HOST:PORT and unix:///PATH, with ?codec=msgi|raw|lines|length. Port 0 takes a free one.

Signals: SIGINT and SIGTERM drain; a second one cuts off what is left.

Examples:
  netsys serve
  netsys serve --handler chat --idle-timeout 0 --listen 'tcp://0.0.0.0:7600?codec=lines'
    and then: nc HOST 7600
  netsys serve --listen tcp://127.0.0.1:0 --listen unix:///tmp/netsys.sock --json
  netsys serve --config /etc/netsys.toml --max-connections 0";

/// Runs a server until it is told to stop
#[derive(Args, Debug)]
#[command(after_help = SERVE_EXAMPLES, allow_negative_numbers = true)]
pub(crate) struct ServeArgs {
    /// Where to listen; can be given more than once
    #[arg(long, value_name = "URL", default_value = "tcp://127.0.0.1:7600", value_parser = listen_url,
        help_heading = "What to serve")]
    pub(crate) listen: Vec<Endpoint>,

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

    /// The dashboard's address; this version has none, so only `off`
    #[arg(long, value_name = "off", default_value = "off", value_parser = dashboard,
        help_heading = "What to serve")]
    pub(crate) dashboard: Off,

    /// Read options from a TOML file
    #[arg(long, value_name = "FILE", help_heading = "What to serve")]
    pub(crate) config: Option<PathBuf>,

    /// Print one JSON object a line
    #[arg(long, help_heading = "What to serve")]
    pub(crate) json: bool,

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

const CONNECT_EXAMPLES: &str = "\
After the end of stdin the connection is closed in order: what was typed is delivered, and what the
server still says is printed.

With --json, stdout has {\"event\":\"message\",\"text\":…} for each message, and \"answer\" for the answer to a
request; what is not text, and everything with --hex, stands in \"hex\" instead of \"text\".

Examples:
  netsys connect tcp://127.0.0.1:7600
  echo hello | netsys connect tcp://127.0.0.1:7600
  netsys connect unix:///run/netsys.sock --request < questions.txt
  netsys connect 'tcp://127.0.0.1:7600?codec=lines' --stay < /dev/null
  echo '48 65 79' | netsys connect tcp://127.0.0.1:7600 --hex";

/// Connects: lines of stdin are messages, messages are lines of stdout
#[derive(Args, Debug)]
#[command(after_help = CONNECT_EXAMPLES)]
pub(crate) struct ConnectArgs {
    /// The server: tcp://HOST:PORT or unix:///PATH, with ?codec=msgi|raw|lines|length
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

    /// Connect again when the connection is lost
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

    /// Time to connect, and for the answer to a request
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "10s",
        help_heading = "Time"
    )]
    pub(crate) timeout: Span,

    /// After the end of stdin, wait at most this long for the server to close; 0 for no limit
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "2s",
        help_heading = "Time"
    )]
    pub(crate) wait: Span,

    /// Stay after the end of stdin, until the server closes or a signal comes
    #[arg(long, help_heading = "Time")]
    pub(crate) stay: bool,
}

const BENCH_EXAMPLES: &str = "\
Modes:
  echo       each connection keeps --window messages on their way; the server runs the handler echo
  oneway     each connection sends as fast as the server takes; handler sink
  connect    each of --connections connects and closes, again and again; any handler
  idle       connections are held and say nothing; any handler
  broadcast  one more connection sends, and --connections receive; handler broadcast

With --rate, messages leave at their time whether or not answers have come (open loop), and latency
counts from the time at which a message should have left. Without, an answer makes room for the next.

--json writes one object:
  url, mode, connections, threads, size, window, rate   what was asked for; null where without meaning
  warmup_seconds, duration_seconds                      duration as measured
  connected                                             connections that were made for the run
  messages, bytes                                       round trips (echo), sent (oneway), received
                                                        (broadcast), connections made (connect)
  messages_per_second, bytes_per_second
  errors, first_error                                   failed connections, lost messages; its text
  latency_us                                            count, min, mean, p50, p90, p99, p99_9, max;
                                                        null for oneway and idle

Examples:
  netsys bench tcp://127.0.0.1:7600
  netsys bench tcp://127.0.0.1:7600 --connections 100 --window 64 --threads 2
  netsys bench tcp://127.0.0.1:7600 --rate 20000 --duration 30s --json result.json
  netsys bench unix:///run/netsys.sock --mode connect --json -";

/// Measures a server under load
#[derive(Args, Debug)]
#[command(after_help = BENCH_EXAMPLES, allow_negative_numbers = true)]
pub(crate) struct BenchArgs {
    /// The server: tcp://HOST:PORT or unix:///PATH, with ?codec=msgi|lines|length
    #[arg(value_name = "URL", value_parser = connect_url)]
    pub(crate) url: Endpoint,

    /// What to do
    #[arg(
        long,
        value_name = "MODE",
        default_value = "echo",
        help_heading = "Load"
    )]
    pub(crate) mode: BenchMode,

    /// Connections at a time
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = at_least_one,
        help_heading = "Load")]
    pub(crate) connections: usize,

    /// The size of a message [default: 64]
    #[arg(long, value_name = "SIZE", help_heading = "Load")]
    pub(crate) size: Option<Size>,

    /// Messages on their way, for each connection (echo) or in all (broadcast) [default: 1]
    #[arg(long, value_name = "N", value_parser = at_least_one, conflicts_with = "rate",
        help_heading = "Load")]
    pub(crate) window: Option<usize>,

    /// Messages a second of the whole run, sent at their time (open loop)
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = "Load")]
    pub(crate) rate: Option<usize>,

    /// Threads that make the load
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = threads,
        help_heading = "Load")]
    pub(crate) threads: usize,

    /// The token to authenticate with
    #[arg(
        long,
        value_name = "TOKEN",
        env = "NETSYS_TOKEN",
        hide_env_values = true,
        help_heading = "Load"
    )]
    pub(crate) token: Option<String>,

    /// How long to measure
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = some_time,
        help_heading = "Time")]
    pub(crate) duration: Span,

    /// Load before that, which does not count
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "1s",
        help_heading = "Time"
    )]
    pub(crate) warmup: Span,

    /// Time for each connection to be made, and for all to close in the end
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = some_time,
        help_heading = "Time")]
    pub(crate) timeout: Span,

    /// Write the result to a file as JSON; - for stdout, in place of the text
    #[arg(long, value_name = "FILE", help_heading = "Result")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchMode {
    /// round trips
    Echo,
    /// messages one way
    Oneway,
    /// connections one after the other
    Connect,
    /// connections that say nothing
    Idle,
    /// one sender, many receivers
    Broadcast,
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
pub(crate) enum Toggle {
    #[value(alias = "true")]
    On,
    #[value(alias = "false")]
    Off,
}

impl Toggle {
    pub(crate) fn is_on(self) -> bool {
        self == Toggle::On
    }
}

impl From<bool> for Toggle {
    fn from(on: bool) -> Self {
        if on { Toggle::On } else { Toggle::Off }
    }
}

/// The only value of an option that is there for later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Off;

fn dashboard(text: &str) -> Result<Off, String> {
    match text {
        "off" => Ok(Off),
        _ => Err("this version has no dashboard, expected off".to_owned()),
    }
}

/// An endpoint that other processes can reach.
fn url(text: &str) -> Result<Endpoint, String> {
    let endpoint = Endpoint::parse(text).map_err(|error| error.to_string())?;
    match endpoint.scheme() {
        "mem" => Err("mem:// reaches no other process, expected tcp or unix".to_owned()),
        _ => Ok(endpoint),
    }
}

fn listen_url(text: &str) -> Result<Endpoint, String> {
    url(text)
}

fn connect_url(text: &str) -> Result<Endpoint, String> {
    let endpoint = url(text)?;
    match endpoint.address() {
        Address::Tcp { port: 0, .. } => {
            Err("nobody listens at port 0, expected 1 to 65535".to_owned())
        }
        _ => Ok(endpoint),
    }
}

fn client_id(text: &str) -> Result<String, String> {
    match text.len() {
        1..=256 => Ok(text.to_owned()),
        _ => Err("expected 1 to 256 bytes".to_owned()),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number from 1".to_owned()),
        Ok(number) => Ok(number),
    }
}

fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=1024).contains(&count) => Ok(count),
        _ => Err("expected 1 to 1024".to_owned()),
    }
}

fn some_time(text: &str) -> Result<Span, String> {
    match text.parse()? {
        Span(Duration::ZERO) => Err("expected more than 0, such as 10s".to_owned()),
        span => Ok(span),
    }
}

fn when_full() -> impl clap::builder::TypedValueParser<Value = QueuePolicy> {
    use clap::builder::TypedValueParser;
    clap::builder::PossibleValuesParser::new(QueuePolicy::NAMES)
        .try_map(|name| QueuePolicy::from_str(&name))
}

fn count(text: &str) -> Result<usize, String> {
    text.parse()
        .map_err(|_| "expected a whole number from 0".to_owned())
}

fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count <= 1024 => Ok(count),
        _ => Err("expected 0 to 1024".to_owned()),
    }
}

/// How many cores there are.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}
