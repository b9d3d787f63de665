//! A load generator on one thread, which speaks MSGI as a plain peer and
//! checks every byte that it receives. It prints its result as one line of
//! JSON. Linux only.

mod broadcast;
mod connect;
mod echo;
mod idle;
mod peer;
mod window;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, io};

use network_system_perf::args::Args;
use network_system_perf::frame::{HEADER_LEN, MAX_FRAME_LEN};
use network_system_perf::report::Report;
use network_system_perf::sys;

use crate::window::Window;

const USAGE: &str = "\
usage: load MODE --server ADDRESS:PORT [options]
modes
  echo       keep messages outstanding on every connection
  connect    open a connection, exchange one message, close, repeat
  idle       open connections, exchange one message, hold them until standard
             input brings a line or ends
  broadcast  one sender, and receivers which must get everything in order
options
  --connections N   connections, or receivers of a broadcast (100)
  --size BYTES      payload of a message, at least 8 (64)
  --outstanding N   messages under way on a connection, or in a burst (1; 8)
  --in-flight N     connections that connect opens at a time (32)
  --warmup SECONDS  time before the measured window (1)
  --seconds SECONDS length of the measured window (3)
  --pid PID         server process whose CPU time is measured";

/// The size of the read buffer: no server can write more in one piece.
const READ_BUFFER: usize = 256 * 1024;
/// How often connections that only listen send a sign of life.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

struct Options {
    server: SocketAddr,
    connections: usize,
    size: usize,
    outstanding: u64,
    in_flight: usize,
    warmup: f64,
    seconds: f64,
    pid: Option<u32>,
}

impl Options {
    fn window(&self) -> Window {
        Window::new(self.warmup, self.seconds, self.pid)
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
    match sys::raise_descriptor_limit().and_then(|()| mode(&options)) {
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
    let args = Args::parse(env::args().skip(1), &flags, &[])?;
    let (mode, outstanding): (Mode, u64) = match args.positional(0) {
        Some("echo") => (echo::run, 1),
        Some("connect") => (connect::run, 1),
        Some("idle") => (idle::run, 1),
        Some("broadcast") => (broadcast::run, 8),
        Some(other) => return Err(format!("unknown mode \"{other}\"")),
        None => return Err("the mode is missing".to_owned()),
    };
    let server = args.text("server").ok_or("--server is missing")?;
    let options = Options {
        server: server
            .trim_start_matches("tcp://")
            .parse()
            .map_err(|_| format!("--server: \"{server}\" is not an address with a port"))?,
        connections: args.parsed("connections", 100)?,
        size: args.parsed("size", 64)?,
        outstanding: args.parsed("outstanding", outstanding)?,
        in_flight: args.parsed("in-flight", 32)?,
        warmup: args.parsed("warmup", 1.0)?,
        seconds: args.parsed("seconds", 3.0)?,
        pid: match args.text("pid") {
            Some(_) => Some(args.parsed("pid", 0)?),
            None => None,
        },
    };
    let sizes = peer::MIN_SIZE..=MAX_FRAME_LEN - HEADER_LEN;
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
