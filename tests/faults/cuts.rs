//! A scripted exchange over TCP, cut at chosen bytes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use network_system::{Client, Message, ReconnectPolicy, Reliability, Server, Session, Timeouts};
use tokio::sync::Notify;

use crate::proxy::{Break, Proxy, Script};

/// Messages in each direction.
const MESSAGES: u32 = 200;

/// How long an exchange may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Exchanges at the same time.
const AT_ONCE: usize = 8;

const MS: Duration = Duration::from_millis(1);

/// What has arrived at one end, and on which session of the server.
#[derive(Default)]
struct Arrived {
    numbers: Mutex<Vec<(u64, u32)>>,
    new: Notify,
}

impl Arrived {
    fn note(&self, session: u64, number: u32) {
        self.numbers.lock().unwrap().push((session, number));
        self.new.notify_one();
    }

    /// Waits until one session has all of them.
    async fn all(&self) {
        while self.numbers.lock().unwrap().len() < MESSAGES as usize {
            self.new.notified().await;
        }
    }

    /// What one session got, once each and in order, and no other session anything.
    fn check(&self) -> Result<(), String> {
        let numbers = self.numbers.lock().unwrap();
        let session = numbers.first().map_or(0, |first| first.0);
        let expected = (0..MESSAGES).map(|number| (session, number));
        match expected.eq(numbers.iter().copied()) {
            true => Ok(()),
            false => Err(format!("{numbers:?}")),
        }
    }
}

fn timeouts(mut timeouts: Timeouts) -> Timeouts {
    timeouts.heartbeat = 150 * MS;
    timeouts.first_byte = 500 * MS;
    timeouts
}

async fn push(session: Session) {
    let id = session.id().as_u64().to_be_bytes();
    for number in 0..MESSAGES {
        let message = [&id[..], &number.to_be_bytes()].concat();
        if session.send(message).await.is_err() {
            break;
        }
    }
}

/// Plays the exchange over connections that do as their scripts say; the last script is for all further ones.
async fn exchange(scripts: Vec<Script>) -> Result<(), String> {
    let (up, down) = (Arc::<Arrived>::default(), Arc::<Arrived>::default());
    let sessions = Arc::<AtomicUsize>::default();
    let opened = Arc::clone(&sessions);
    let (got_up, got_down) = (Arc::clone(&up), Arc::clone(&down));
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .workers(1)
        .timeouts(timeouts(Timeouts::default()))
        .reliable(Reliability::default())
        .on_connect(|session| {
            tokio::spawn(push(session));
            async {}
        })
        .on_message(move |session: Session, message: Message| {
            let number = u32::from_be_bytes(message.payload().try_into().unwrap());
            got_up.note(session.id().as_u64(), number);
            async {}
        })
        .build()
        .unwrap();
    server.start().await.unwrap();
    let target: SocketAddr = server.local_addrs()[0];
    let proxy = Proxy::start(target, move |count| {
        let last = scripts.len().saturating_sub(1);
        scripts
            .get((count as usize).min(last))
            .copied()
            .unwrap_or_default()
    })
    .await;
    let client = Client::builder()
        .endpoint(&proxy.url)
        .timeouts(timeouts(Timeouts::client()))
        .reconnect(ReconnectPolicy::new().base(2 * MS).cap(20 * MS))
        .reliable(Reliability::default())
        .on_connect(move |_| {
            opened.fetch_add(1, Ordering::Relaxed);
            async {}
        })
        .on_message(move |_, message: Message| {
            let (session, number) = message.payload().split_at(8);
            let session = u64::from_be_bytes(session.try_into().unwrap());
            got_down.note(session, u32::from_be_bytes(number.try_into().unwrap()));
            async {}
        })
        .build()
        .unwrap();
    let talk = async {
        while client.connect().await.is_err() {}
        for number in 0..MESSAGES {
            client
                .send(number.to_be_bytes().to_vec())
                .await
                .map_err(|error| error.to_string())?;
        }
        tokio::join!(up.all(), down.all());
        match sessions.load(Ordering::Relaxed) {
            1 => Ok(()),
            more => Err(format!("the client had {more} sessions")),
        }
    };
    let talked = tokio::time::timeout(PATIENCE, talk).await;
    talked.unwrap_or_else(|_| Err("not all has arrived".into()))?;
    client.stop().await;
    server.stop().await.unwrap();
    up.check().map_err(|got| format!("up: {got}"))?;
    down.check().map_err(|got| format!("down: {got}"))
}

/// Plays all of them, some at a time, and says which fail.
async fn play_all(all: Vec<Vec<Script>>) {
    let began = Instant::now();
    let all = Arc::new(all);
    let next = Arc::new(AtomicUsize::new(0));
    let players: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (all, next) = (Arc::clone(&all), Arc::clone(&next));
            tokio::spawn(async move {
                while let Some(scripts) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(fault) = exchange(scripts.clone()).await {
                        panic!(
                            "{:?}: {fault}",
                            scripts.iter().map(|script| script.cut).collect::<Vec<_>>()
                        );
                    }
                }
            })
        })
        .collect();
    for player in players {
        player.await.unwrap();
    }
    eprintln!(
        "{} exchanges of {MESSAGES} messages each way in {:?}",
        all.len(),
        began.elapsed()
    );
}

fn cut(side: usize, at: u64, how: Break) -> Script {
    Script {
        cut: Some((side, at, how)),
        ..Script::default()
    }
}

/// Reset and close in turns: they are noticed at once.
fn how(at: u64) -> Break {
    match at % 2 {
        0 => Break::Reset,
        _ => Break::Close,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_tcp_is_cut_at_any_byte_of_the_opening_and_at_some_behind_it() {
    // Hello is 84 bytes, welcome about 250; then 14 and 22 bytes for each message, and acknowledgements.
    let sizes = [(0, 2_900), (1, 4_650)];
    let offsets = |most: u64| (0..300_u64.min(most)).chain((300..most).step_by(61));
    let all = sizes.into_iter().flat_map(|(side, most)| {
        offsets(most).map(move |at| vec![cut(side, at, how(at)), Script::default()])
    });
    play_all(all.collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_resumption_is_cut_too() {
    let first = cut(0, 1_500, Break::Reset);
    let again = |at: u64| {
        [(0, at), (1, at)].map(|(side, at)| vec![first, cut(side, at, how(at)), Script::default()])
    };
    play_all((0..300).step_by(3).flat_map(again).collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_tcp_stands_still_and_nobody_says_so() {
    let offsets = [0, 1, 50, 84, 85, 200, 1_000, 2_000];
    let all = offsets
        .into_iter()
        .flat_map(|at| [0, 1].map(|side| vec![cut(side, at, Break::Stall), Script::default()]));
    play_all(all.collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_byte_may_come_alone_and_late() {
    let slow = Script {
        piece: 7,
        pause: Duration::from_micros(50),
        ..Script::default()
    };
    let single = Script {
        piece: 1,
        ..Script::default()
    };
    let broken = Script {
        cut: Some((1, 777, Break::Reset)),
        ..single
    };
    play_all(vec![vec![slow], vec![single], vec![broken, single]]).await;
}
