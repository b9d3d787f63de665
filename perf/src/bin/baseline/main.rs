//! Servers written straight on sockets or on other libraries, as the measure
//! for other servers.
//!
//! Each runs on one thread and prints `listening SCHEME://ADDRESS` once it
//! accepts connections. Linux only.
#![allow(clippy::print_stdout, clippy::print_stderr)] // This is a program.

mod broadcast;
mod bytes;
mod datagrams;
mod fastwebsockets;
mod msgi;
mod server;
mod sockudo;
mod tls;
mod tokio_framed;
mod tokio_server;
mod tungstenite;
mod websocket;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::ExitCode;
use std::{env, io};

use network_system_perf::args::Args;
use network_system_perf::scheme::Scheme;
use network_system_perf::sys;

const SERVERS: [Server; 12] = [
    stream("epoll-bytes", Scheme::Tcp, |listener| {
        server::run(listener, bytes::Echo)
    }),
    stream("epoll-msgi", Scheme::Tcp, |listener| {
        server::run(listener, msgi::Echo::default())
    }),
    stream("epoll-broadcast", Scheme::Tcp, |listener| {
        server::run(listener, broadcast::Broadcast::default())
    }),
    stream("tokio-framed", Scheme::Tcp, tokio_framed::run),
    stream("epoll-ws", Scheme::Ws, |listener| {
        server::run(listener, websocket::Echo::default())
    }),
    stream("tungstenite-ws", Scheme::Ws, tungstenite::run),
    stream("fastwebsockets-ws", Scheme::Ws, fastwebsockets::run),
    stream("sockudo-ws", Scheme::Ws, sockudo::run),
    stream("tokio-rustls", Scheme::Tls, tls::run),
    stream("tokio-rustls-buffered", Scheme::Tls, tls::run_buffered),
    stream("tungstenite-wss", Scheme::Wss, tungstenite::run_encrypted),
    Server {
        name: "mmsg-udp",
        scheme: Scheme::Udp,
        run: Run::Datagrams(datagrams::run),
    },
];

struct Server {
    name: &'static str,
    scheme: Scheme,
    run: Run,
}

/// Serves a socket; returns on failure only.
#[derive(Clone, Copy)]
enum Run {
    Stream(fn(TcpListener) -> io::Result<()>),
    Datagrams(fn(&UdpSocket) -> io::Result<()>),
}

const fn stream(
    name: &'static str,
    scheme: Scheme,
    run: fn(TcpListener) -> io::Result<()>,
) -> Server {
    Server {
        name,
        scheme,
        run: Run::Stream(run),
    }
}

fn main() -> ExitCode {
    let (server, listen) = match options() {
        Ok(options) => options,
        Err(text) => {
            let names = SERVERS.map(|server| server.name).join("|");
            eprintln!("baseline: {text}\nusage: baseline {names} [--listen ADDRESS:PORT]");
            return ExitCode::from(2);
        }
    };
    match serve(&server, listen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("baseline: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<(Server, SocketAddr), String> {
    let args = Args::parse(env::args().skip(1), &["listen"], &[])?;
    let name = args.positional(0).ok_or("the server to run is missing")?;
    let server = SERVERS
        .into_iter()
        .find(|server| server.name == name)
        .ok_or_else(|| format!("unknown server \"{name}\""))?;
    let listen = args.parsed("listen", SocketAddr::from(([127, 0, 0, 1], 0)))?;
    Ok((server, listen))
}

fn serve(server: &Server, address: SocketAddr) -> io::Result<()> {
    sys::raise_descriptor_limit()?;
    match server.run {
        Run::Stream(run) => {
            let listener = sys::listen(address)?;
            println!("listening {}://{}", server.scheme, listener.local_addr()?);
            run(listener)
        }
        Run::Datagrams(run) => {
            let socket = UdpSocket::bind(address)?;
            println!("listening {}://{}", server.scheme, socket.local_addr()?);
            run(&socket)
        }
    }
}
