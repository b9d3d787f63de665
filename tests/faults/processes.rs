//! Servers that are stopped or killed, and started again, under a crowd of clients; and too few descriptors.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use network_system::{Client, Message, ReconnectPolicy, Reliability, Session, Timeouts};
use tokio::task::JoinHandle;

use crate::server::{Log, ServerProcess, record};

/// Clients, if there are descriptors for so many.
const CLIENTS: usize = 1_000;

/// Between two messages of a client.
const PAUSE: Duration = Duration::from_millis(250);

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Descriptors for everything that is no client.
const OTHERS: usize = 200;

/// How many clients this process can have.
fn clients() -> usize {
    let limit = Command::new("sh")
        .args(["-c", "ulimit -n"])
        .output()
        .unwrap();
    let limit = String::from_utf8(limit.stdout).unwrap();
    // `unlimited` is no number.
    let limit: usize = limit.trim().parse().unwrap_or(usize::MAX);
    CLIENTS.min(limit.saturating_sub(OTHERS))
}

/// One client, what it has sent, and what it does not know the fate of.
struct Member {
    client: Client,
    accepted: Arc<Mutex<Vec<u32>>>,
    unknown: Arc<Mutex<Vec<u32>>>,
    sending: JoinHandle<()>,
}

/// A thousand connect at the same time, and others may have the cores.
fn patient() -> Timeouts {
    let mut timeouts = Timeouts::client();
    timeouts.connect = PATIENCE;
    timeouts
}

fn numbers(messages: Vec<Message>) -> impl Iterator<Item = u32> {
    messages.into_iter().map(|message| {
        let number = message.payload()[4..].try_into().unwrap();
        u32::from_be_bytes(number)
    })
}

impl Member {
    async fn join(index: usize, url: String, stop: Arc<AtomicBool>) -> Member {
        let unknown = Arc::<Mutex<Vec<u32>>>::default();
        let told = Arc::clone(&unknown);
        let client = Client::builder()
            .endpoint(url)
            .timeouts(patient())
            .reconnect(ReconnectPolicy::default())
            .reliable(Reliability::default())
            .on_disconnect(move |session: Session, _| {
                told.lock()
                    .unwrap()
                    .extend(numbers(session.take_unacknowledged()));
                async {}
            })
            .on_message(|_, _| async {})
            .build()
            .unwrap();
        client.connect().await.unwrap();
        let accepted = Arc::<Mutex<Vec<u32>>>::default();
        let (sender, sent) = (client.clone(), Arc::clone(&accepted));
        let sending = tokio::spawn(async move {
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                sender.send(record(index as u32, number)).await.unwrap();
                sent.lock().unwrap().push(number);
                tokio::time::sleep(PAUSE).await;
            }
        });
        Member {
            client,
            accepted,
            unknown,
            sending,
        }
    }

    /// Stops sending, and waits until all has been handled.
    async fn leave(self) -> (Vec<u32>, Vec<u32>) {
        self.sending.await.unwrap();
        self.client.request("the last", PATIENCE).await.unwrap();
        self.client.stop().await;
        let mut unknown = std::mem::take(&mut *self.unknown.lock().unwrap());
        unknown.extend(numbers(self.client.take_unsent()));
        let accepted = std::mem::take(&mut *self.accepted.lock().unwrap());
        (accepted, unknown)
    }
}

/// All clients of a server.
struct Crowd {
    members: Vec<Member>,
    stop: Arc<AtomicBool>,
}

impl Crowd {
    async fn gather(url: &str) -> Crowd {
        let stop = Arc::<AtomicBool>::default();
        let began = Instant::now();
        let joining: Vec<_> = (0..clients())
            .map(|index| tokio::spawn(Member::join(index, url.to_owned(), Arc::clone(&stop))))
            .collect();
        let mut members = Vec::new();
        for member in joining {
            members.push(member.await.unwrap());
        }
        eprintln!(
            "{} clients connected in {:?}",
            members.len(),
            began.elapsed()
        );
        Crowd { members, stop }
    }

    /// Attempts to connect so far.
    fn attempts(&self) -> u64 {
        let attempts = |member: &Member| {
            let stats = member.client.stats();
            stats.connections + stats.failed_attempts
        };
        self.members.iter().map(attempts).sum()
    }

    fn connected(&self) -> usize {
        self.members
            .iter()
            .filter(|member| member.client.is_connected())
            .count()
    }

    /// Waits until all are connected; says how long that took, how many attempts all of them needed, and how many
    /// there were in one second at the most.
    async fn returned(&self) -> Return {
        let began = Instant::now();
        let before = self.attempts();
        let mut history = vec![before];
        let step = Duration::from_millis(100);
        while self.connected() < self.members.len() {
            assert!(began.elapsed() < PATIENCE, "{} are back", self.connected());
            tokio::time::sleep(step).await;
            history.push(self.attempts());
        }
        let last = history.len() - 1;
        let peak = (0..=last)
            .map(|at| history[(at + 10).min(last)] - history[at])
            .max();
        Return {
            within: began.elapsed(),
            attempts: history[last] - before,
            peak: peak.unwrap_or_default(),
        }
    }

    /// Stops all; for each, what was accepted and what it does not know the fate of.
    async fn leave(self) -> Vec<(Vec<u32>, Vec<u32>)> {
        self.stop.store(true, Ordering::Relaxed);
        let leaving: Vec<_> = self
            .members
            .into_iter()
            .map(|member| tokio::spawn(member.leave()))
            .collect();
        let mut left = Vec::new();
        for member in leaving {
            left.push(member.await.unwrap());
        }
        left
    }
}

#[derive(Debug)]
struct Return {
    within: Duration,
    attempts: u64,
    peak: u64,
}

/// Each message at most once and in order; those that are missing.
fn missing(accepted: &[u32], handled: &[u32]) -> Vec<u32> {
    assert!(
        handled.windows(2).all(|pair| pair[0] < pair[1]),
        "{handled:?}"
    );
    let is_handled = |number: &u32| handled.binary_search(number).is_ok();
    accepted
        .iter()
        .copied()
        .filter(|number| !is_handled(number))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_lose_nothing_when_their_server_is_restarted_in_order() {
    let log = Log::new();
    let first = ServerProcess::start("tcp://127.0.0.1:0", log.path(), 4_096);
    let url = first.url.clone();
    let crowd = Crowd::gather(&url).await;
    tokio::time::sleep(4 * PAUSE).await;
    let began = Instant::now();
    let report = tokio::task::spawn_blocking(|| first.drain()).await.unwrap();
    let drained = began.elapsed();
    let second = ServerProcess::start(&url, log.path(), 4_096);
    let back = crowd.returned().await;
    let count = crowd.members.len();
    let left = crowd.leave().await;
    drop(second);
    let handled = log.read(count);
    let sent: usize = left.iter().map(|(accepted, _)| accepted.len()).sum();
    eprintln!("stopped in {drained:?} ({report}); {count} back: {back:?}; {sent} messages");
    for (index, (accepted, unknown)) in left.iter().enumerate() {
        let missing = missing(accepted, &handled[index]);
        assert!(
            missing.is_empty() && unknown.is_empty(),
            "client {index}: {missing:?}, {unknown:?}"
        );
    }
    // Within 5 s where nothing else runs, which the line above says; here others may have the cores.
    assert!(back.within < PATIENCE / 2, "{back:?}");
    // Each once, and nobody in vain. They come back over the time for which they were asked.
    assert!(
        back.attempts <= 3 * count as u64 && back.peak <= 2 * count as u64,
        "{back:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_know_what_may_be_lost_when_their_server_is_killed() {
    let log = Log::new();
    let first = ServerProcess::start("tcp://127.0.0.1:0", log.path(), 4_096);
    let url = first.url.clone();
    let crowd = Crowd::gather(&url).await;
    tokio::time::sleep(4 * PAUSE).await;
    first.kill();
    let second = ServerProcess::start(&url, log.path(), 4_096);
    let back = crowd.returned().await;
    let count = crowd.members.len();
    let left = crowd.leave().await;
    drop(second);
    let handled = log.read(count);
    let (mut sent, mut lost, mut reported) = (0, 0, 0);
    for (index, (accepted, unknown)) in left.iter().enumerate() {
        let missing = missing(accepted, &handled[index]);
        let untold: Vec<_> = missing
            .iter()
            .filter(|number| !unknown.contains(number))
            .collect();
        assert!(
            untold.is_empty(),
            "client {index}: {untold:?} were lost without a word; reported: {unknown:?}"
        );
        sent += accepted.len();
        lost += missing.len();
        reported += unknown.len();
    }
    eprintln!(
        "{count} back: {back:?}; of {sent} messages {reported} reported, {lost} of these lost"
    );
    assert!(
        back.attempts <= 6 * count as u64 && back.peak <= 4 * count as u64,
        "{back:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_descriptors_serves_who_is_there_and_accepts_again_later() {
    /// So few that they run out.
    const DESCRIPTORS: usize = 64;
    let log = Log::new();
    let server = ServerProcess::start("tcp://127.0.0.1:0", log.path(), DESCRIPTORS);
    let connect = async |index, patience| {
        let client = Client::builder()
            .endpoint(&server.url)
            .client_id(format!("{index}"))
            .timeouts(patient())
            .reconnect(ReconnectPolicy::disabled())
            .on_message(|_, _| async {})
            .build()
            .unwrap();
        let connecting = tokio::time::timeout(patience, client.connect());
        matches!(connecting.await, Ok(Ok(()))).then_some(client)
    };
    let mut clients = Vec::new();
    for index in 0..DESCRIPTORS {
        // The one for which there is none waits so long.
        match connect(index, Duration::from_secs(5)).await {
            Some(client) => clients.push(client),
            None => break,
        }
    }
    assert!(clients.len() < DESCRIPTORS, "they did not run out");
    assert!(clients.len() > DESCRIPTORS / 2, "{}", clients.len());
    eprintln!("{} clients with {DESCRIPTORS} descriptors", clients.len());
    for client in &clients {
        client.request("still there?", PATIENCE).await.unwrap();
    }
    for client in clients.drain(..10) {
        client.stop().await;
    }
    for index in 0..5 {
        let client = connect(index, PATIENCE).await;
        let client = client.expect("there is room again");
        client.request("there?", PATIENCE).await.unwrap();
        clients.push(client);
    }
    for client in clients {
        client.stop().await;
    }
}
