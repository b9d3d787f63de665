//! What the clients do: some of everything, for as long as it lasts.
//!
//! - [`echo`]: round trips on connections that stay or that come and go; [`requests`]: requests in both directions, by
//!   UDP too.
//! - [`feed`]: publishers, readers in groups, and readers that do not read.
//! - [`resume`]: clients whose connections are cut by a [`proxy`].
//! - [`hostile`]: peers that break the protocol.

mod echo;
mod feed;
mod hostile;
mod proxy;
mod requests;
mod resume;

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use network_system::tls::TlsClient;
use network_system::{
    Client, ClientBuilder, ConnectError, Limits, ReconnectPolicy, Reliability, Timeouts,
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::random::Random;

/// How long clients may take to end.
const END: Duration = Duration::from_secs(30);

/// Faults whose texts are kept.
const FAULTS_KEPT: usize = 10;

/// What was done, and what went wrong.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) connections: AtomicU64,
    pub(crate) echoes: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) published: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) slow_readers_ended: AtomicU64,
    pub(crate) cuts: AtomicU64,
    /// Messages that were lost with their session, because it was away for too long.
    pub(crate) gaps: AtomicU64,
    pub(crate) bad_peers: AtomicU64,
    pub(crate) joins: AtomicU64,
    /// Everything that must not be.
    pub(crate) faults: AtomicU64,
    texts: Mutex<Vec<String>>,
}

impl Counts {
    pub(crate) fn fault(&self, text: String) {
        self.faults.fetch_add(1, Relaxed);
        if let Ok(mut texts) = self.texts.lock()
            && texts.len() < FAULTS_KEPT
        {
            texts.push(text);
        }
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        self.texts
            .lock()
            .map(|texts| texts.clone())
            .unwrap_or_default()
    }

    /// What each part of the load has done.
    pub(crate) fn parts(&self) -> [(&'static str, u64); 10] {
        [
            ("connections", self.connections.load(Relaxed)),
            ("echoes", self.echoes.load(Relaxed)),
            ("requests", self.requests.load(Relaxed)),
            ("published", self.published.load(Relaxed)),
            ("received", self.received.load(Relaxed)),
            ("slow readers ended", self.slow_readers_ended.load(Relaxed)),
            ("cuts", self.cuts.load(Relaxed)),
            ("lost with sessions", self.gaps.load(Relaxed)),
            ("bad peers", self.bad_peers.load(Relaxed)),
            ("joins", self.joins.load(Relaxed)),
        ]
    }

    pub(crate) fn faults_to_text(&self) -> String {
        match self.faults.load(Relaxed) {
            0 => "no faults".to_owned(),
            faults => format!("{faults} FAULTS, the first: {}", self.texts()[..1].concat()),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let parts = self.parts().into_iter();
        let mut object: serde_json::Map<_, _> = parts
            .map(|(name, count)| (name.replace(' ', "_"), json!(count)))
            .collect();
        object.insert("faults".to_owned(), json!(self.faults.load(Relaxed)));
        object.insert("fault_texts".to_owned(), json!(self.texts()));
        Value::Object(object)
    }
}

/// What all parts of the load share.
struct World {
    tcp: String,
    ws: String,
    tls: String,
    udp: String,
    counts: Arc<Counts>,
    stop: watch::Receiver<bool>,
    trust: TlsClient,
}

impl World {
    fn is_on(&self) -> bool {
        !*self.stop.borrow()
    }

    /// Waits so many milliseconds, or until the load is over.
    async fn rest(&self, millis: u64) {
        let mut stop = self.stop.clone();
        let over = stop.wait_for(|stop| *stop);
        let _ = tokio::time::timeout(Duration::from_millis(millis), over).await;
    }

    /// A URL of any byte stream.
    fn any_url(&self, random: &mut Random) -> &str {
        let urls: [&str; 3] = [&self.tcp, &self.ws, &self.tls];
        urls[random.within(0, 3) as usize]
    }

    /// A client that connects once.
    fn client(&self, url: &str, random: &mut Random) -> ClientBuilder {
        let mut limits = Limits::default();
        limits.message_size = 256 * 1024;
        let mut timeouts = Timeouts::client();
        timeouts.connect = Duration::from_secs(5);
        timeouts.drain = Duration::from_secs(3);
        timeouts.heartbeat = Duration::from_secs(2);
        let mut builder = Client::builder()
            .endpoint(url)
            .limits(limits)
            .timeouts(timeouts)
            .reconnect(ReconnectPolicy::disabled());
        if url.starts_with("tls:") {
            builder = builder.tls(self.trust.clone());
        }
        if !url.starts_with("udp:") && random.one_in(2) {
            builder = builder.reliable(reliability());
        }
        builder
    }

    /// Connects, and counts it.
    async fn connect(&self, builder: ClientBuilder) -> Result<Client, ConnectError> {
        let client = builder.build()?;
        client.connect().await?;
        self.counts.connections.fetch_add(1, Relaxed);
        Ok(client)
    }

    /// The same where it has to work. Otherwise it is a fault, and a pause.
    async fn must_connect(&self, builder: ClientBuilder) -> Option<Client> {
        match self.connect(builder).await {
            Ok(client) => Some(client),
            Err(error) => {
                self.counts.fault(format!("not connected: {error}"));
                self.rest(200).await;
                None
            }
        }
    }

    /// What a client's end was, when it was not wanted.
    fn lost(&self, what: &str, client: &Client) {
        let reason = match client.close_reason() {
            Some(reason) => reason.to_string(),
            None => "no reason".to_owned(),
        };
        self.counts.fault(format!("{what}: {reason}"));
    }
}

fn reliability() -> Reliability {
    let mut reliability = Reliability::default();
    reliability.window = 256 * 1024;
    reliability
}

/// The clients, at work.
pub(crate) struct Load {
    world: Arc<World>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Load {
    /// Sets `clients` to work, about.
    pub(crate) async fn start(urls: &[String], clients: usize, seed: u64) -> io::Result<Self> {
        let url = |scheme: &str| {
            let found = urls.iter().find(|url| url.starts_with(scheme));
            found
                .cloned()
                .ok_or_else(|| io::Error::other(format!("the server has no {scheme}")))
        };
        let (stop, stopped) = watch::channel(false);
        let trust = TlsClient::builder().dangerous_accept_any_certificate();
        let world = Arc::new(World {
            tcp: url("tcp:")?,
            ws: url("ws:")?,
            tls: url("tls:")?,
            udp: url("udp:")?,
            counts: Arc::default(),
            stop: stopped,
            trust: trust.build().map_err(io::Error::other)?,
        });
        let mut load = Load {
            world,
            stop,
            tasks: JoinSet::new(),
        };
        let mut random = Random::new(seed);
        let share = |percent: usize| (clients * percent / 100).max(1);
        load.spawn(share(20), &mut random, |world, random| {
            echo::run(world, random, true)
        });
        load.spawn(share(15), &mut random, |world, random| {
            echo::run(world, random, false)
        });
        load.spawn(share(10), &mut random, requests::run);
        load.spawn(share(5), &mut random, requests::run_datagrams);
        load.spawn(share(20), &mut random, feed::read);
        load.spawn(share(10), &mut random, feed::read_slowly);
        load.spawn(share(10), &mut random, resume::run);
        load.spawn(share(10), &mut random, hostile::run);
        for number in 0..feed::FEEDS {
            load.spawn(1, &mut random, |world, random| {
                feed::publish(world, random, number)
            });
        }
        Ok(load)
    }

    fn spawn<F>(
        &mut self,
        count: usize,
        random: &mut Random,
        part: impl Fn(Arc<World>, Random) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        for _ in 0..count {
            let world = Arc::clone(&self.world);
            self.tasks.spawn(part(world, random.fork()));
        }
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.world.counts
    }

    /// Ends everything, and says what was done.
    pub(crate) async fn stop(mut self) -> Arc<Counts> {
        let counts = Arc::clone(&self.world.counts);
        self.stop.send_replace(true);
        let ended = async {
            while let Some(end) = self.tasks.join_next().await {
                if let Err(error) = end {
                    counts.fault(format!("a part of the load has ended: {error}"));
                }
            }
        };
        if tokio::time::timeout(END, ended).await.is_err() {
            counts.fault(format!("clients did not end within {END:?}"));
        }
        counts
    }
}
