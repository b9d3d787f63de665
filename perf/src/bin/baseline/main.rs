//! Servers written straight on sockets, as the measure for other servers.
//!
//! Each runs on one thread and prints `listening tcp://ADDRESS` once it
//! accepts connections. Linux only.
#![allow(clippy::print_stdout, clippy::print_stderr)] // This is a program.

mod broadcast;
mod bytes;
mod msgi;
mod server;
mod tokio_framed;

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::{env, io};

use network_system_perf::args::Args;
use network_system_perf::sys;

const USAGE: &str =
    "usage: baseline epoll-bytes|epoll-msgi|epoll-broadcast|tokio-framed [--listen ADDRESS:PORT]";

fn main() -> ExitCode {
    let (run, listen) = match options() {
        Ok(options) => options,
        Err(text) => {
            eprintln!("baseline: {text}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match serve(run, listen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("baseline: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves the listener; returns on failure only.
type Run = fn(TcpListener) -> io::Result<()>;

fn options() -> Result<(Run, SocketAddr), String> {
    let args = Args::parse(env::args().skip(1), &["listen"], &[])?;
    let run: Run = match args.positional(0) {
        Some("epoll-bytes") => |listener| server::run(listener, bytes::Echo),
        Some("epoll-msgi") => |listener| server::run(listener, msgi::Echo::default()),
        Some("epoll-broadcast") => {
            |listener| server::run(listener, broadcast::Broadcast::default())
        }
        Some("tokio-framed") => tokio_framed::run,
        Some(other) => return Err(format!("unknown server \"{other}\"")),
        None => return Err("the server to run is missing".to_owned()),
    };
    let listen = args.parsed("listen", SocketAddr::from(([127, 0, 0, 1], 0)))?;
    Ok((run, listen))
}

fn serve(run: Run, address: SocketAddr) -> io::Result<()> {
    sys::raise_descriptor_limit()?;
    let listener = sys::listen(address)?;
    println!("listening tcp://{}", listener.local_addr()?);
    run(listener)
}
