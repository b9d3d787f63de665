//! What a seed stands for: how servers, clients and network are, what is sent, and what goes wrong when.

use std::time::Duration;

use crate::network::{Break, Links};
use crate::random::Random;

/// Everything that a run is made of. Printed when it fails.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub reliable: Option<Reliable>,
    pub transports: Vec<Transport>,
    pub stages: Stages,
    pub links: Links,
    pub workers: usize,
    pub outbox_bytes: usize,
    pub outbox_messages: usize,
    pub heartbeat: Duration,
    pub drain: Duration,
    pub clients: Vec<Load>,
    pub events: Vec<(Duration, Event)>,
    /// From when on nothing breaks any more.
    pub calm: Duration,
    pub end: End,
    /// Whether nothing goes wrong, so that nothing may be lost whatever the sessions are.
    pub is_gentle: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Reliable {
    pub window: usize,
    pub client_window: usize,
    pub resume: Duration,
    pub suspended_sessions: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    WebSocket,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stages {
    None,
    Lz4,
    Aes,
    Both,
}

/// What one client and the server's sessions with it do.
#[derive(Clone, Debug)]
pub struct Load {
    /// Messages to the server.
    pub up: u32,
    /// Requests to the server.
    pub requests: u32,
    /// Messages from the server, on each session.
    pub down: u32,
    /// Requests from the server, on each session.
    pub asks: u32,
    /// The longest pause between two of them.
    pub pause: Duration,
    /// How many of a hundred are sent without a pause.
    pub burst: u64,
    /// The longest message.
    pub longest: u64,
    /// How long a handler takes at most, on either side.
    pub handling: Duration,
    /// How many of a hundred messages take that long.
    pub slow: u64,
}

/// What goes wrong, or is done, at a certain time.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// Nothing passes between a client and the servers for a while.
    Partition(usize, Duration),
    /// Every connection breaks.
    BreakAll(Break),
    /// Nobody gets a connection for a while.
    Refuse(Duration),
    /// The clock jumps, as when a machine was asleep.
    Clock(Duration),
    /// The server stops in order and a new one starts after a while.
    Restart(Duration),
    /// The server is stopped without time to say anything, and a new one starts after a while.
    Cut(Duration),
}

/// In which order the end comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All has been said, then the clients stop, then the server.
    ClientsFirst,
    /// All has been said, then the server stops.
    ServerFirst,
    /// The clients stop in the middle.
    ClientsEarly,
    /// The server stops in the middle.
    ServerEarly,
    /// Nobody stops the clients: their last handles are dropped.
    Dropped,
}

impl Plan {
    /// The plan of a seed. `reliable` says what sessions are; otherwise the seed does.
    pub fn new(seed: u64, reliable: Option<bool>) -> Self {
        let random = &mut Random::new(seed);
        let by_seed = random.chance(75);
        let is_reliable = reliable.unwrap_or(by_seed);
        let calm = random.millis(500..=15_000);
        let transports = random.pick(&[
            &[Transport::Tcp][..],
            &[Transport::Tcp],
            &[Transport::WebSocket],
            &[Transport::Tcp, Transport::WebSocket],
        ]);
        let clients: Vec<Load> = (0..random.between(1..=3))
            .map(|_| Load::new(random))
            .collect();
        let mut events: Vec<_> = (0..random.between(0..=4))
            .map(|_| {
                (
                    random.millis(0..=calm.as_millis() as u64),
                    Event::new(random, clients.len() as u64),
                )
            })
            .collect();
        events.sort_by_key(|(at, _)| *at);
        let plan = Plan {
            seed,
            reliable: is_reliable.then(|| Reliable::new(random)),
            transports: transports.to_vec(),
            stages: random.pick(&[
                Stages::None,
                Stages::None,
                Stages::Lz4,
                Stages::Aes,
                Stages::Both,
            ]),
            links: Links::new(random),
            workers: random.between(1..=2) as usize,
            outbox_bytes: random.pick(&[2_000, 20_000, 1_000_000]),
            outbox_messages: random.pick(&[4, 64, 1_024]),
            heartbeat: random.millis(200..=5_000),
            drain: random.millis(200..=5_000),
            clients,
            events,
            calm,
            is_gentle: false,
            end: random.pick(&[
                End::ClientsFirst,
                End::ClientsFirst,
                End::ServerFirst,
                End::ServerFirst,
                End::ClientsEarly,
                End::ServerEarly,
                End::Dropped,
            ]),
        };
        match random.chance(12) {
            true => plan.gentle(),
            false => plan,
        }
    }

    /// The same with a network that does nothing wrong, and time enough to end in order.
    fn gentle(mut self) -> Self {
        self.is_gentle = true;
        self.events.clear();
        self.links.broken = 0;
        self.links.window = (16_000, 64_000);
        self.drain = Duration::from_secs(30);
        for load in &mut self.clients {
            load.longest = load.longest.min(5_000);
            load.handling = load.handling.min(Duration::from_millis(50));
        }
        self
    }

    /// How long the slowest client may need for all that it and its sessions say: at most a window is under way.
    pub fn slowest(&self) -> Duration {
        let bytes = |load: &Load| {
            let messages = load.up + load.requests + load.down + load.asks;
            u64::from(messages) * 2 * (load.longest + 100)
        };
        let most = self.clients.iter().map(bytes).max().unwrap_or(0);
        let trips = most / self.links.window.0.max(1);
        // Writes that are split, and short reads.
        4 * self.links.latency.1 * trips as u32
    }

    /// Whether something ends in the middle.
    pub fn ends_early(&self) -> bool {
        matches!(self.end, End::ClientsEarly | End::ServerEarly)
    }

    /// Whether no session can be lost: no server ends, and none is away for too long.
    pub fn keeps_sessions(&self) -> bool {
        let away = |event: &Event| match event {
            Event::Partition(_, lasts) | Event::Refuse(lasts) | Event::Clock(lasts) => *lasts,
            Event::BreakAll(_) => Duration::ZERO,
            Event::Restart(_) | Event::Cut(_) => Duration::MAX,
        };
        let longest = self.events.iter().map(|(_, event)| away(event)).max();
        // As long as a lost link is not noticed, and as attempts take.
        let slack = 4 * self.heartbeat + Duration::from_secs(10);
        !self.ends_early()
            && self.reliable.is_some_and(|reliable| {
                let longest = longest.unwrap_or_default();
                // A session whose welcome was lost has a place too, and nobody who comes back to it.
                reliable.suspended_sessions > 2 * self.clients.len()
                    && reliable.resume > longest.saturating_mul(3).saturating_add(slack)
            })
    }
}

impl Reliable {
    fn new(random: &mut Random) -> Self {
        Reliable {
            window: random.pick(&[1_024, 4_096, 65_536, 1_048_576]),
            client_window: random.pick(&[1_024, 4_096, 65_536, 1_048_576]),
            resume: random.pick(&[500, 3_000, 30_000, 300_000, 300_000].map(Duration::from_millis)),
            suspended_sessions: random.pick(&[1, 10, 10, 10, 10_000]),
        }
    }
}

impl Load {
    fn new(random: &mut Random) -> Self {
        let mut count = |most: u64| random.scaled(most) as u32;
        let (up, requests, down, asks) = (count(60), count(12), count(60), count(8));
        Load {
            up,
            requests,
            down,
            asks,
            pause: random.millis(1..=400),
            burst: random.pick(&[0, 50, 95]),
            longest: random.pick(&[64, 600, 600, 5_000, 40_000]),
            handling: random.millis(1..=500),
            slow: random.pick(&[0, 0, 5, 30, 100]),
        }
    }
}

impl Event {
    fn new(random: &mut Random, clients: u64) -> Self {
        match random.below(9) {
            0 | 1 => Event::Partition(random.below(clients) as usize, random.millis(1..=10_000)),
            2 | 3 => Event::BreakAll(random.pick(&[
                Break::Reset,
                Break::End,
                Break::BothSilent,
                Break::ResetHere,
                Break::ResetThere,
            ])),
            4 => Event::Refuse(random.millis(1..=10_000)),
            5 => Event::Clock(random.millis(1..=60_000)),
            6 => Event::Restart(random.millis(0..=2_000)),
            _ => Event::Cut(random.millis(0..=2_000)),
        }
    }
}

impl Links {
    fn new(random: &mut Random) -> Self {
        let least = random.pick(&[0, 100, 1_000, 20_000]);
        let most = least + random.pick(&[0, 0, 500, 30_000]);
        let window = random.pick(&[64, 1_000, 16_000, 200_000]);
        Links {
            latency: (Duration::from_micros(least), Duration::from_micros(most)),
            window: (window, window * random.pick(&[1, 4])),
            short_writes: random.pick(&[0, 0, 20]),
            splits: random.pick(&[0, 20, 60]),
            short_reads: random.pick(&[0, 0, 20]),
            broken: random.pick(&[0, 30, 80, 95]),
            break_within: random.pick(&[300, 3_000, 30_000]),
        }
    }
}

impl Reliable {
    pub fn server(&self) -> network_system::Reliability {
        let mut reliability = network_system::Reliability::default();
        reliability.window = self.window;
        reliability.resume = self.resume;
        reliability.suspended_sessions = self.suspended_sessions;
        reliability
    }

    pub fn client(&self) -> network_system::Reliability {
        let mut reliability = network_system::Reliability::default();
        reliability.window = self.client_window;
        reliability
    }
}
