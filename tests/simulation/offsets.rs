//! The connection breaks at every byte of an exchange.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use network_system::internal::simulation;
use network_system::{Client, Message, ReconnectPolicy, Reliability, Server, Session, Timeouts};
use tokio::time::{sleep, timeout};

use crate::network::{BREAKS, Break, Links, Net};
use crate::random::Random;

/// Messages in each direction.
const MESSAGES: u32 = 200;

/// Where the exchange is broken.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Which connection, from 0.
    pub connection: u64,
    /// 0 for what the client writes.
    pub side: usize,
    /// After how many bytes.
    pub at: u64,
    pub how: Break,
}

/// What an exchange came to.
#[derive(Debug, Default)]
pub struct Exchange {
    /// What the server got: the session on which it came, and its number.
    up: Vec<(u64, u32)>,
    /// What the client got: the server's session that sent it, and its number.
    down: Vec<(u64, u32)>,
    /// Sessions that the client had.
    sessions: Vec<u64>,
    /// Bytes of the first and the second connection, in each direction.
    pub bytes: [[u64; 2]; 2],
    alive: usize,
}

/// Plays the exchange with these cuts.
pub fn exchange(url: &'static str, is_reliable: bool, cuts: &[Cut]) -> Exchange {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let result = talk(url, is_reliable, cuts).await;
        let metrics = tokio::runtime::Handle::current().metrics();
        for _ in 0..600 {
            if metrics.num_alive_tasks() == 0 {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
        Exchange {
            alive: metrics.num_alive_tasks(),
            ..result
        }
    })
}

fn host(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

async fn talk(url: &str, is_reliable: bool, cuts: &[Cut]) -> Exchange {
    let links = Links {
        latency: (Duration::from_millis(1), Duration::from_millis(1)),
        window: (64 * 1024, 64 * 1024),
        short_writes: 0,
        splits: 0,
        short_reads: 0,
        broken: 0,
        break_within: 1,
    };
    let net = Net::new(links, Random::new(0), false);
    for cut in cuts {
        net.script(cut.connection, cut.side, cut.at, cut.how);
    }
    let result = Arc::new(Mutex::new(Exchange::default()));
    let (got_up, got_down, opened) = (
        Arc::clone(&result),
        Arc::clone(&result),
        Arc::clone(&result),
    );
    let mut reliability = Reliability::default();
    reliability.resume = Duration::from_secs(60);
    let mut timeouts = Timeouts::default();
    timeouts.heartbeat = Duration::from_secs(2);
    timeouts.drain = Duration::from_secs(5);
    let mut server = Server::builder()
        .listen(url)
        .workers(1)
        .timeouts(timeouts)
        .on_connect(|session| {
            tokio::spawn(push(session));
            async {}
        })
        .on_message(move |session: Session, message: Message| {
            let number = u32::from_be_bytes(message.payload().try_into().unwrap());
            got_up
                .lock()
                .unwrap()
                .up
                .push((session.id().as_u64(), number));
            async {}
        });
    let mut timeouts = Timeouts::client();
    timeouts.heartbeat = Duration::from_secs(2);
    timeouts.drain = Duration::from_secs(5);
    let reconnect = ReconnectPolicy::new()
        .base(Duration::from_millis(20))
        .cap(Duration::from_millis(200));
    let mut client = Client::builder()
        .endpoint(url)
        .timeouts(timeouts)
        .reconnect(reconnect)
        .client_id("scripted")
        .on_connect(move |session| {
            opened.lock().unwrap().sessions.push(session.id().as_u64());
            async {}
        })
        .on_message(move |_, message: Message| {
            let (session, number) = message.payload().split_at(8);
            let session = u64::from_be_bytes(session.try_into().unwrap());
            let number = u32::from_be_bytes(number.try_into().unwrap());
            got_down.lock().unwrap().down.push((session, number));
            async {}
        });
    if is_reliable {
        server = server.reliable(reliability.clone());
        client = client.reliable(reliability);
    }
    let server = simulation::server(server, net.host(host(1), 1))
        .build()
        .unwrap();
    let client = simulation::client(client, net.host(host(2), 2))
        .build()
        .unwrap();
    server.start().await.unwrap();
    // It cannot be refused for ever: there are as many cuts as were asked for.
    while client.connect().await.is_err() {}
    for number in 0..MESSAGES {
        if client.send(number.to_be_bytes().to_vec()).await.is_err() {
            break;
        }
        if number % 20 == 19 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    // What an ordinary session has lost does not come any more.
    let patience = Duration::from_secs(if is_reliable { 120 } else { 12 });
    let _ = timeout(patience, async {
        while !result.lock().unwrap().is_complete() {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let bytes = [0, 1].map(|connection| [0, 1].map(|side| net.written(connection, side)));
    client.stop().await;
    server.stop().await.unwrap();
    Exchange {
        bytes,
        ..std::mem::take(&mut *result.lock().unwrap())
    }
}

/// What the server sends on each session.
async fn push(session: Session) {
    let id = session.id().as_u64().to_be_bytes();
    for number in 0..MESSAGES {
        let message = [&id[..], &number.to_be_bytes()].concat();
        if session.send(message).await.is_err() {
            break;
        }
        if number % 20 == 19 {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Exchange {
    fn is_complete(&self) -> bool {
        let most = MESSAGES as usize;
        self.up.len() >= most && self.down.len() >= most
    }

    /// What is not as promised.
    pub fn faults(&self, is_reliable: bool) -> Vec<String> {
        let mut faults = Vec::new();
        if self.alive > 0 {
            faults.push(format!("{} tasks have not ended", self.alive));
        }
        for (name, got) in [("up", &self.up), ("down", &self.down)] {
            let mut sessions: Vec<u64> = got.iter().map(|(session, _)| *session).collect();
            sessions.sort_unstable();
            sessions.dedup();
            for session in sessions {
                let numbers: Vec<u32> = got
                    .iter()
                    .filter(|(of, _)| *of == session)
                    .map(|(_, number)| *number)
                    .collect();
                let first = numbers[0];
                let in_order = numbers
                    .iter()
                    .enumerate()
                    .all(|(at, &number)| number == first + at as u32);
                if !in_order {
                    faults.push(format!("{name}, session {session}: {numbers:?}"));
                }
                if is_reliable && (first, numbers.len()) != (0, MESSAGES as usize) {
                    faults.push(format!(
                        "{name}, session {session}: {} from {first} on",
                        numbers.len()
                    ));
                }
            }
        }
        if is_reliable && (!self.is_complete() || self.sessions.len() != 1) {
            faults.push(format!(
                "{} up, {} down, sessions of the client: {:?}",
                self.up.len(),
                self.down.len(),
                self.sessions
            ));
        }
        faults
    }
}

/// How densely offsets are tried: all in the opening, and every so many behind it.
fn step() -> usize {
    crate::variable("SIMULATION_OFFSET_STEP").map_or(37, |step| step as usize)
}

/// Plays the exchange with each list of cuts, on all cores.
fn play_all(url: &'static str, is_reliable: bool, all: &[Vec<Cut>]) {
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let Some(cuts) = all.get(next.fetch_add(1, Ordering::Relaxed) as usize) else {
                        break;
                    };
                    let result = exchange(url, is_reliable, cuts);
                    let faults = result.faults(is_reliable);
                    if !faults.is_empty() {
                        failed.store(true, Ordering::Relaxed);
                        panic!("{url}, {cuts:?}:\n  {}", faults.join("\n  "));
                    }
                }
            });
        }
    });
}

/// Cuts at every offset of one direction of the first connection, each in another way.
fn everywhere(side: usize, bytes: u64, opening: u64) -> impl Iterator<Item = Cut> {
    let offsets = (0..=opening.min(bytes)).chain((opening..=bytes).step_by(step()));
    offsets.map(move |at| Cut {
        connection: 0,
        side,
        at,
        how: BREAKS[at as usize % BREAKS.len()],
    })
}

/// How long the opening is, at most, in bytes.
const OPENING: u64 = 420;

fn cut_everywhere(url: &'static str, is_reliable: bool) {
    let began = std::time::Instant::now();
    let whole = exchange(url, is_reliable, &[]);
    assert_eq!(whole.faults(true), Vec::<String>::new(), "{whole:?}");
    let all: Vec<Vec<Cut>> = [0, 1]
        .into_iter()
        .flat_map(|side| everywhere(side, whole.bytes[0][side], OPENING))
        .map(|cut| vec![cut])
        .collect();
    play_all(url, is_reliable, &all);
    eprintln!(
        "{url}: {} cuts in {:?} of the client's and the server's bytes, {:.1} s",
        all.len(),
        whole.bytes[0],
        began.elapsed().as_secs_f64()
    );
}

#[test]
fn a_break_at_any_byte_leaves_ordinary_sessions_in_order() {
    cut_everywhere("tcp://10.0.0.1:1", false);
}

#[test]
fn a_break_at_any_byte_loses_nothing_of_a_reliable_session() {
    cut_everywhere("tcp://10.0.0.1:1", true);
}

#[test]
fn a_break_at_any_byte_loses_nothing_of_a_reliable_session_over_websocket() {
    cut_everywhere("ws://10.0.0.1:1", true);
}

#[test]
fn a_break_at_any_byte_of_the_resumption_loses_nothing_either() {
    let began = std::time::Instant::now();
    for url in ["tcp://10.0.0.1:1", "ws://10.0.0.1:1"] {
        // In the middle, where the other side has taken some of what is not acknowledged.
        let first = Cut {
            connection: 0,
            side: 0,
            at: 1_500,
            how: Break::Reset,
        };
        let all: Vec<Vec<Cut>> = (0..=OPENING)
            .flat_map(|at| [(at, 0), (at, 1)])
            .map(|(at, side)| {
                let how = BREAKS[at as usize % BREAKS.len()];
                let connection = 1;
                vec![
                    first,
                    Cut {
                        connection,
                        side,
                        at,
                        how,
                    },
                ]
            })
            .collect();
        play_all(url, true, &all);
        eprintln!(
            "{url}: {} cuts of the resumption, {:.1} s",
            all.len(),
            began.elapsed().as_secs_f64()
        );
    }
}
