//! One publisher at full speed, many subscribers, some of which never read.
//!
//! `slow_subscribers [--seconds 30] [--subscribers 1000] [--stalled 100] [--size 1024] [--when-full POLICY]
//! [--budget-mib 64] [--outbox-kib 1024] [--window N]` runs a server and its subscribers in one process, over loopback,
//! and prints one line of JSON. The publisher broadcasts as fast as the subscribers that read take it: at most so many
//! messages ahead of the last of them. It ends with 1 when one of those has missed a message, when the memory of queues
//! has exceeded its budget by more than a message for each session, or when what became of the others was not counted.
//!
//! Those that read are certain to get everything as long as the window fits into half of an equal share of the budget, and
//! by default it does. With a larger one they have to keep up.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its output is what it is for"
)]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use network_system::{
    Client, Handler, Limits, MemoryBudget, Message, QueuePolicy, ReconnectPolicy, Server, Session,
    SocketOptions, Timeouts,
};
use network_system_perf::args::Args;
use serde_json::json;

/// More than sockets and a client that reads nothing hold of what has left a queue.
const ON_THE_WAY: u64 = 1 << 20;

/// More than a queue's entry for a message takes beside its payload.
const ENTRY: usize = 128;

/// Bytes of the number that begins each message.
const NUMBER: usize = 8;

struct Plan {
    seconds: u64,
    subscribers: usize,
    stalled: usize,
    size: usize,
    when_full: QueuePolicy,
    budget: usize,
    outbox: usize,
    /// How many messages the publisher may be ahead of the slowest subscriber that reads.
    window: u64,
}

impl Plan {
    fn parse() -> Result<Self, String> {
        let valued = [
            "seconds",
            "subscribers",
            "stalled",
            "size",
            "when-full",
            "budget-mib",
            "outbox-kib",
            "window",
        ];
        let args = Args::parse(std::env::args().skip(1), &valued, &[])?;
        let policy = args.text("when-full").unwrap_or("drop-newest");
        let mut plan = Plan {
            seconds: args.parsed("seconds", 30)?,
            subscribers: args.parsed("subscribers", 1_000)?,
            stalled: args.parsed("stalled", 100)?,
            size: args.parsed("size", 1_024)?,
            when_full: policy.parse().map_err(|error| format!("{error}"))?,
            budget: args.parsed::<usize>("budget-mib", 64)? << 20,
            outbox: args.parsed::<usize>("outbox-kib", 1_024)? << 10,
            window: args.parsed("window", 0)?,
        };
        if plan.subscribers == 0 || plan.stalled >= plan.subscribers || plan.size < NUMBER {
            return Err("some subscribers have to read, and a message has at least 8 bytes".into());
        }
        if plan.window == 0 {
            let share = plan.budget / plan.subscribers;
            // A buffer may be larger than what is in it.
            let fit = share / 3 / (plan.size + ENTRY);
            plan.window = fit.clamp(1, 128) as u64;
        }
        Ok(plan)
    }
}

/// What a subscriber has got: the messages in order, and how many were missing.
#[derive(Default)]
struct Got {
    next: AtomicU64,
    missed: AtomicU64,
}

struct Reading(Arc<Got>);

impl Handler for Reading {
    async fn on_message(&self, _: &Session, message: &Message) {
        let Some(number) = message.payload().first_chunk::<NUMBER>() else {
            return;
        };
        let number = u64::from_be_bytes(*number);
        let expected = self.0.next.swap(number + 1, Relaxed);
        self.0.missed.fetch_add(number.abs_diff(expected), Relaxed);
    }
}

/// What the system holds is not the library's, and hides for long that somebody does not read.
fn small_buffers() -> SocketOptions {
    let mut options = SocketOptions::default();
    options.send_buffer_size = 64 * 1024;
    options.receive_buffer_size = 64 * 1024;
    options
}

async fn subscribe(url: &str, got: &Arc<Got>, budget: &MemoryBudget) -> Result<Client, String> {
    let client = Client::builder()
        .endpoint(url)
        .memory_budget(budget)
        .socket(small_buffers())
        .reconnect(ReconnectPolicy::disabled())
        .handler(Reading(Arc::clone(got)))
        .build()
        .map_err(|error| error.to_string())?;
    client.connect().await.map_err(|error| error.to_string())?;
    Ok(client)
}

async fn run(plan: &Plan) -> Result<bool, String> {
    let budget = MemoryBudget::new(plan.budget);
    let others = MemoryBudget::new(1 << 30);
    let mut limits = Limits::default();
    limits.max_connections = plan.subscribers + 10;
    limits.when_full = plan.when_full;
    limits.outbox_bytes = plan.outbox;
    limits.outbox_messages = 1 << 20;
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .limits(limits)
        .timeouts(Timeouts::default())
        .memory_budget(&budget)
        .socket(small_buffers())
        .build()
        .map_err(|error| error.to_string())?;
    server.start().await.map_err(|error| error.to_string())?;
    let url = server.urls().remove(0);

    let mut clients = Vec::with_capacity(plan.subscribers);
    let mut readers = Vec::with_capacity(plan.subscribers - plan.stalled);
    for index in 0..plan.subscribers {
        let got = Arc::new(Got::default());
        let client = subscribe(&url, &got, &others).await?;
        if index < plan.stalled {
            if let Some(session) = client.session() {
                session.pause_reading();
            }
        } else {
            readers.push(got);
        }
        clients.push(client);
    }

    let began = Instant::now();
    let (mut number, mut resident_peak) = (0_u64, 0);
    let resident_before = resident();
    // Looking at all of them for each message would be most of the work.
    let batch = (plan.window / 4).clamp(1, 32);
    while began.elapsed() < Duration::from_secs(plan.seconds) {
        let mut message = vec![0; plan.size];
        message[..NUMBER].copy_from_slice(&number.to_be_bytes());
        let sent = server.broadcast(message).await;
        sent.map_err(|error| error.to_string())?;
        number += 1;
        if number.is_multiple_of(32) {
            resident_peak = resident_peak.max(resident());
        }
        if number.is_multiple_of(batch) {
            let waiting = Instant::now();
            while behind(&readers) + plan.window < number + batch {
                if waiting.elapsed() > Duration::from_secs(20) {
                    return Err("a subscriber that reads gets nothing any more".into());
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    let took = began.elapsed();
    let end = Instant::now();
    while behind(&readers) < number && end.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    // Those that are shed have a second in which they are told.
    let gone = || plan.subscribers - server.session_count();
    while (gone() as u64) < server.stats().shed && end.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let stats = server.stats();
    let complete = readers
        .iter()
        .filter(|got| got.next.load(Relaxed) == number && got.missed.load(Relaxed) == 0)
        .count();
    let ended = gone();
    let most = budget.limit() + plan.subscribers * plan.size;
    // More than fits into a queue was dropped, or its session has ended.
    let took_all = number * (plan.size as u64) < plan.outbox as u64 + ON_THE_WAY;
    let counted = stats.dropped > 0 || ended > 0 || took_all;
    let passed = complete == readers.len()
        && budget.peak() <= most
        && ended <= plan.stalled
        && stats.shed <= plan.stalled as u64
        && counted;
    let result = json!({
        "passed": passed,
        "seconds": took.as_secs_f64(),
        "when_full": plan.when_full.name(),
        "subscribers": plan.subscribers,
        "stalled": plan.stalled,
        "messages": number,
        "message_bytes": plan.size,
        "deliveries_per_second": (number as f64 * readers.len() as f64 / took.as_secs_f64()).round(),
        "complete": complete,
        "sessions_ended": ended,
        "sessions_shed": stats.shed,
        "messages_dropped": stats.dropped,
        "budget_limit_bytes": budget.limit(),
        "budget_peak_bytes": budget.peak(),
        "budget_used_bytes": budget.used(),
        "resident_before_bytes": resident_before,
        "resident_peak_bytes": resident_peak,
    });
    println!("{result}");
    for client in &clients {
        client.stop_within(Duration::ZERO).await;
    }
    let _ = server.stop_within(Duration::ZERO).await;
    Ok(passed)
}

/// How many messages the last of them has got.
fn behind(readers: &[Arc<Got>]) -> u64 {
    let all = readers.iter().map(|got| got.next.load(Relaxed));
    all.min().unwrap_or(0)
}

/// Bytes of the process that are in memory, its clients included.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_ascii_whitespace().nth(1);
    pages
        .and_then(|pages| pages.parse::<u64>().ok())
        .unwrap_or(0)
        * 4_096
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let result = match Plan::parse() {
        Ok(plan) => run(&plan).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("slow_subscribers: {error}");
            ExitCode::from(2)
        }
    }
}
