//! Both sides of the Autobahn test suite: an echo server for its fuzzing client, and a client for its
//! fuzzing server. `tests/autobahn/run` starts them.
//!
//! ```text
//! autobahn certificate DIR               writes cert.pem and key.pem for 127.0.0.1
//! autobahn server DIR                    prints a line for each of its servers: NAME, a space, URL; ends with stdin
//! autobahn count DIR URL                 prints how many cases a fuzzing server has
//! autobahn client DIR URL NAME FIRST LAST   runs these cases, numbered from 1, and has it write its report
//! ```
//!
//! NAME says how messages are sent; it is also the name in the suite's reports. With `wss` it is followed by
//! `-wss`.
//!
//! - `takeover`: every message is compressed, and windows are carried over from message to message;
//! - `alone`: every message is compressed by itself;
//! - `default`: as without configuration, long ones by themselves;
//! - `fragments`: as `takeover`, in fragments.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a script"
)]

use std::error::Error;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use network_system::tls::{TlsAuthorities, TlsClient, TlsServer};
use network_system::websocket::{Deflate, Speak, WebSocketClient, WebSocketServer};
use network_system::{
    Client, ClientBuilder, Limits, Message, ReconnectPolicy, Server, Session, Timeouts,
};

type Failure = Box<dyn Error + Send + Sync>;

/// The longest message of the suite has 16 MiB.
const MESSAGE_SIZE: usize = 32 * 1024 * 1024;

/// Bytes in a fragment, where messages are sent in fragments.
const FRAGMENT: usize = 1_000;

/// The longest case takes this long at most.
const CASE: Duration = Duration::from_secs(300);

const USAGE: &str =
    "autobahn certificate DIR | server DIR | count DIR URL | client DIR URL NAME FIRST LAST";

const CERTIFICATE: &str = "cert.pem";
const KEY: &str = "key.pem";

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["certificate", dir] => write_certificate(Path::new(dir)),
        ["server", dir] => serve(Path::new(dir)).await,
        ["count", dir, url] => {
            let fuzzer = Fuzzer::new(url, dir)?;
            println!("{}", fuzzer.case_count().await?);
            Ok(())
        }
        ["client", dir, url, name, first, last] => {
            let fuzzer = Fuzzer::new(url, dir)?;
            fuzzer.run_cases(name, first.parse()?, last.parse()?).await
        }
        _ => Err(USAGE.into()),
    }
}

/// How a side with this name compresses, and its fragments.
fn options(name: &str) -> Result<(Deflate, usize), Failure> {
    let mut deflate = Deflate::default();
    let takeover = match name.trim_end_matches("-wss") {
        "takeover" | "fragments" => true,
        "alone" => false,
        "default" => return Ok((deflate, 0)),
        _ => return Err(USAGE.into()),
    };
    deflate.threshold = 0;
    deflate.server_no_context_takeover = !takeover;
    deflate.client_no_context_takeover = !takeover;
    Ok((deflate, if name == "fragments" { FRAGMENT } else { 0 }))
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.message_size = MESSAGE_SIZE;
    limits
}

/// No pings of our own: the suite compares all that comes with what it expects.
fn timeouts(mut timeouts: Timeouts) -> Timeouts {
    timeouts.heartbeat = Duration::ZERO;
    timeouts
}

async fn echo(session: Session, message: Message) {
    // A peer that is gone is what many cases are about.
    let _ = session.send(message).await;
}

fn write_certificate(dir: &Path) -> Result<(), Failure> {
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names)?;
    std::fs::write(dir.join(CERTIFICATE), made.cert.pem())?;
    std::fs::write(dir.join(KEY), made.signing_key.serialize_pem())?;
    Ok(())
}

async fn serve(dir: &Path) -> Result<(), Failure> {
    let tls = TlsServer::from_pem_files(dir.join(CERTIFICATE), dir.join(KEY))?;
    let mut servers = Vec::new();
    for name in ["takeover", "alone", "default", "fragments"] {
        let (deflate, fragment_size) = options(name)?;
        let websocket = WebSocketServer::new()
            .deflate(Some(deflate))
            .fragment_size(fragment_size);
        let server = Server::builder()
            .listen("ws://127.0.0.1:0")
            .listen("wss://127.0.0.1:0")
            .tls(tls.clone())
            .websocket(websocket)
            .limits(limits())
            .timeouts(timeouts(Timeouts::default()))
            .on_message(echo)
            .build()?;
        server.start().await?;
        for url in server.urls() {
            let suffix = if url.starts_with("wss") { "-wss" } else { "" };
            println!("{name}{suffix} {url}");
        }
        servers.push(server);
    }
    println!("ready");
    // A script that dies takes its server with it.
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    for server in servers {
        server.stop().await?;
    }
    Ok(())
}

/// A fuzzing server.
struct Fuzzer<'a> {
    url: &'a str,
    /// For `wss`, where its certificate has to be the one that we made.
    tls: Option<TlsClient>,
}

impl<'a> Fuzzer<'a> {
    fn new(url: &'a str, dir: &str) -> Result<Self, Failure> {
        let tls = match url.starts_with("wss") {
            true => {
                let authorities = TlsAuthorities::pem_file(Path::new(dir).join(CERTIFICATE));
                Some(TlsClient::builder().authorities(authorities).build()?)
            }
            false => None,
        };
        Ok(Fuzzer { url, tls })
    }

    fn client(&self, target: &str, websocket: WebSocketClient) -> ClientBuilder {
        let builder = Client::builder()
            .endpoint(format!("{}/{target}", self.url))
            .websocket(websocket.speak(Speak::Plain))
            .limits(limits())
            .timeouts(timeouts(Timeouts::client()))
            .reconnect(ReconnectPolicy::disabled());
        match &self.tls {
            Some(tls) => builder.tls(tls.clone()),
            None => builder,
        }
    }

    async fn case_count(&self) -> Result<u32, Failure> {
        let client = self
            .client("getCaseCount", WebSocketClient::new())
            .build()?;
        client.connect().await?;
        let mut messages = client.messages().ok_or("there is no message handler")?;
        let count = messages.next().await.ok_or("no answer")?;
        client.stop().await;
        Ok(count.as_text().unwrap_or_default().parse()?)
    }

    async fn run_cases(&self, name: &str, first: u32, last: u32) -> Result<(), Failure> {
        let (deflate, fragment_size) = options(name)?;
        let websocket = WebSocketClient::new()
            .deflate(Some(deflate))
            .fragment_size(fragment_size);
        for case in first..=last {
            let target = format!("runCase?case={case}&agent={name}");
            let client = self
                .client(&target, websocket.clone())
                .on_message(echo)
                .build()?;
            // The report tells whether it was right to refuse the connection.
            if let Err(error) = client.connect().await {
                eprintln!("case number {case}: {error}");
                continue;
            }
            let ended = tokio::time::timeout(CASE, client.wait_for_stop()).await;
            if ended.is_err() {
                return Err(format!("case number {case} did not end").into());
            }
        }
        let target = format!("updateReports?agent={name}");
        let client = self.client(&target, WebSocketClient::new()).build()?;
        client.connect().await?;
        client.wait_for_stop().await;
        Ok(())
    }
}
