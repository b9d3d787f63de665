//! Both sides of the Autobahn test suite: an echo server for its fuzzing client, and a client for its
//! fuzzing server. `tests/autobahn/run` starts them.
//!
//! ```text
//! autobahn server                        prints a line for each of its servers: a name, a space, a URL; ends with stdin
//! autobahn client URL NAME FIRST LAST    runs the cases of a fuzzing server, numbered from 1; LAST 0 is the last one
//! autobahn count URL                     prints how many there are
//! ```
//!
//! NAME is `takeover` or `alone`: whether windows of compression are carried over from message to message.
//! It is also the name in the suite's reports.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a script"
)]

use std::error::Error;
use std::io::Read;
use std::time::Duration;

use network_system::websocket::{Deflate, Speak, WebSocketClient, WebSocketServer};
use network_system::{Client, Limits, Message, ReconnectPolicy, Server, Session, Timeouts};

type Failure = Box<dyn Error + Send + Sync>;

/// The longest message of the suite has 16 MiB.
const MESSAGE_SIZE: usize = 32 * 1024 * 1024;

/// The longest case takes this long at most.
const CASE: Duration = Duration::from_secs(300);

const USAGE: &str = "autobahn server | client URL NAME FIRST LAST | count URL";

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["server"] => serve().await,
        ["client", url, name, first, last] => {
            run_cases(url, name, first.parse()?, last.parse()?).await
        }
        ["count", url] => {
            println!("{}", case_count(url).await?);
            Ok(())
        }
        _ => Err(USAGE.into()),
    }
}

/// Every message is compressed, however short.
fn deflate(name: &str) -> Result<Deflate, Failure> {
    let alone = match name {
        "takeover" => false,
        "alone" => true,
        _ => return Err(USAGE.into()),
    };
    let mut deflate = Deflate::default();
    deflate.threshold = 0;
    deflate.server_no_context_takeover = alone;
    deflate.client_no_context_takeover = alone;
    Ok(deflate)
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

async fn serve() -> Result<(), Failure> {
    let mut servers = Vec::new();
    for name in ["takeover", "alone"] {
        let server = Server::builder()
            .listen("ws://127.0.0.1:0")
            .websocket(WebSocketServer::new().deflate(Some(deflate(name)?)))
            .limits(limits())
            .timeouts(timeouts(Timeouts::default()))
            .on_message(echo)
            .build()?;
        server.start().await?;
        for url in server.urls() {
            println!("{name} {url}");
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

/// Asks the fuzzing server for something that it answers with one message.
async fn case_count(url: &str) -> Result<u32, Failure> {
    let client = plain(url, "getCaseCount", None).build()?;
    client.connect().await?;
    let mut messages = client.messages().ok_or("there is no message handler")?;
    let count = messages.next().await.ok_or("the fuzzing server is silent")?;
    client.stop().await;
    Ok(count.as_text().unwrap_or_default().parse()?)
}

async fn run_cases(url: &str, name: &str, first: u32, last: u32) -> Result<(), Failure> {
    let last = match last {
        0 => case_count(url).await?,
        last => last,
    };
    for case in first..=last {
        let target = format!("runCase?case={case}&agent={name}");
        let client = plain(url, &target, Some(deflate(name)?))
            .on_message(echo)
            .build()?;
        // The report tells whether a refused connection was right.
        if let Err(error) = client.connect().await {
            eprintln!("case number {case}: {error}");
            continue;
        }
        let ended = tokio::time::timeout(CASE, client.wait_for_stop()).await;
        if ended.is_err() {
            return Err(format!("case number {case} did not end").into());
        }
    }
    let client = plain(url, &format!("updateReports?agent={name}"), None).build()?;
    client.connect().await?;
    client.wait_for_stop().await;
    Ok(())
}

fn plain(url: &str, target: &str, deflate: Option<Deflate>) -> network_system::ClientBuilder {
    Client::builder()
        .endpoint(format!("{url}/{target}"))
        .websocket(
            WebSocketClient::new()
                .speak(Speak::Plain)
                .deflate(deflate),
        )
        .limits(limits())
        .timeouts(timeouts(Timeouts::client()))
        .reconnect(ReconnectPolicy::disabled())
}
