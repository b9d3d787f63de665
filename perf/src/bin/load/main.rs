//! A load generator on one thread, which checks every byte that it receives. It
//! speaks MSGI as a plain peer, WebSocket without a subprotocol, both in TLS,
//! and UDP. It prints its result as one line of JSON. Linux only.

mod broadcast;
mod connect;
mod datagrams;
mod echo;
mod idle;
mod incoming;
mod outgoing;
mod peer;
mod reliable;
mod shape;
mod stream;
mod target;
mod tls;
mod upgrade;
mod window;

use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, io};

use network_system_perf::args::Args;
use network_system_perf::frame::{HEADER_LEN, MAX_FRAME_LEN};
use network_system_perf::report::Report;
use network_system_perf::scheme::Scheme;
use network_system_perf::sys;

use crate::shape::Format;
use crate::target::Target;
use crate::window::Window;

const USAGE: &str = "\
usage: load MODE --server URL [options]
URL is tcp://ADDRESS:PORT, or with ws, tls, wss or udp instead of tcp
modes
  echo       keep messages outstanding on every connection
  connect    open a connection, exchange one message, close, repeat (tcp)
  idle       open connections, exchange one message, hold them until standard
             input brings a line or ends
  broadcast  one sender, and receivers which must get everything in order
options
  --connections N   connections, or receivers of a broadcast (100)
  --size BYTES      payload of a message, at least 8 (64)
  --outstanding N   messages under way on a connection, or in a burst (1; 8)
  --reliable        ask for reliable sessions, and acknowledge (echo and idle by
                    tcp and tls)
  --deflate         compress messages by permessage-deflate (ws, wss)
  --in-flight N     connections that connect opens at a time (32)
  --warmup SECONDS  time before the measured window (1)
  --seconds SECONDS length of the measured window (3)
  --pid PID         server process whose CPU time is measured";

/// The size of the read buffer: no server can write more in one piece.
const READ_BUFFER: usize = 256 * 1024;
/// How often connections that only listen send a sign of life.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

struct Options {
    target: Target,
    connections: usize,
    size: usize,
    outstanding: u64,
    deflate: bool,
    reliable: bool,
    in_flight: usize,
    warmup: f64,
    seconds: f64,
    pid: Option<u32>,
}

impl Options {
    fn window(&self) -> Window {
        Window::new(self.warmup, self.seconds, self.pid)
    }

    fn format(&self) -> Format {
        match self.target.scheme {
            Scheme::Tcp | Scheme::Tls => Format::Msgi,
            Scheme::Ws | Scheme::Wss if self.deflate => Format::Deflate,
            Scheme::Ws | Scheme::Wss => Format::WebSocket,
            Scheme::Udp => Format::Datagram,
        }
    }

    /// The messages that can be sent.
    fn sizes(&self) -> RangeInclusive<usize> {
        let max = match self.format() {
            Format::Msgi | Format::WebSocket => MAX_FRAME_LEN - HEADER_LEN,
            Format::Deflate => shape::MAX_STORED,
            Format::Datagram => datagrams::MAX_SIZE,
        };
        shape::MIN_SIZE..=max
    }
}

/// Runs one mode to its end.
type Mode = fn(&Options) -> io::Result<Report>;

#[allow(clippy::print_stdout, clippy::print_stderr)] // This is a program.
fn main() -> ExitCode {
    let (mode, options) = match options() {
        Ok(options) => options,
        Err(text) => {
            eprintln!("load: {text}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match sys::raise_descriptor_limit().and_then(|_| mode(&options)) {
        Ok(report) => {
            println!("{}", report.to_json());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<(Mode, Options), String> {
    let flags = [
        "server",
        "connections",
        "size",
        "outstanding",
        "in-flight",
        "warmup",
        "seconds",
        "pid",
    ];
    let args = Args::parse(env::args().skip(1), &flags, &["deflate", "reliable"])?;
    let (mode, outstanding): (Mode, u64) = match args.positional(0) {
        Some("echo") => (echo::run, 1),
        Some("connect") => (connect::run, 1),
        Some("idle") => (idle::run, 1),
        Some("broadcast") => (broadcast::run, 8),
        Some(other) => return Err(format!("unknown mode \"{other}\"")),
        None => return Err("the mode is missing".to_owned()),
    };
    let target: Target = args
        .text("server")
        .ok_or("--server is missing")?
        .parse()
        .map_err(|text| format!("--server: {text}"))?;
    let options = Options {
        target,
        connections: args.parsed("connections", 100)?,
        size: args.parsed("size", 64)?,
        outstanding: args.parsed("outstanding", outstanding)?,
        deflate: args.has("deflate"),
        reliable: args.has("reliable"),
        in_flight: args.parsed("in-flight", 32)?,
        warmup: args.parsed("warmup", 1.0)?,
        seconds: args.parsed("seconds", 3.0)?,
        pid: match args.text("pid") {
            Some(_) => Some(args.parsed("pid", 0)?),
            None => None,
        },
    };
    let scheme = options.target.scheme;
    if options.deflate && !scheme.is_websocket() {
        return Err(format!("{scheme} knows no --deflate"));
    }
    if scheme == Scheme::Udp && args.positional(0) != Some("echo") {
        return Err("udp is for echo only".to_owned());
    }
    if options.reliable {
        let can_acknowledge = matches!(args.positional(0), Some("echo" | "idle"));
        if !can_acknowledge || !matches!(scheme, Scheme::Tcp | Scheme::Tls) {
            return Err("--reliable is for echo and idle by tcp and tls".to_owned());
        }
        if options.size as u64 * options.outstanding > reliable::MAX_OUTSTANDING as u64 {
            let most = reliable::MAX_OUTSTANDING;
            return Err(format!(
                "--reliable allows {most} bytes under way on a connection"
            ));
        }
    }
    let sizes = options.sizes();
    if !sizes.contains(&options.size) {
        return Err(format!(
            "--size must be {} to {}",
            sizes.start(),
            sizes.end()
        ));
    }
    if options.connections == 0 || options.outstanding == 0 || options.in_flight == 0 {
        return Err("--connections, --outstanding and --in-flight must be positive".to_owned());
    }
    let seconds = 0.0..=1e6;
    if !seconds.contains(&options.warmup) || !seconds.contains(&options.seconds) {
        return Err("--warmup and --seconds must be 0 to 1000000".to_owned());
    }
    Ok((mode, options))
}
