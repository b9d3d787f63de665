//! A server with many sessions whose peers are in the same process.

use std::sync::Arc;

use bytes::Bytes;
use network_system::internal::{MemoryPeer, RawFrame};
use network_system::{CloseReason, GroupName, Handler, Server, Session};
use tokio::runtime::Runtime;

use super::{Tally, limits, mem_url, runtime, timeouts};

/// The type of the frames of messages.
const DATA: u16 = 0x10;

#[derive(Default)]
struct Lives {
    begun: Tally,
    ended: Tally,
}

struct Watch(Arc<Lives>);

impl Handler for Watch {
    async fn on_connect(&self, _: &Session) {
        self.0.begun.add();
    }

    async fn on_disconnect(&self, _: &Session, _: &CloseReason) {
        self.0.ended.add();
    }
}

/// The server's sessions are whole ones. Their peers are bare ends of links, which cost next to nothing, so that what is
/// measured is the server.
pub(crate) struct Crowd {
    runtime: Runtime,
    server: Server,
    url: String,
    lives: Arc<Lives>,
    peers: Vec<MemoryPeer>,
    sessions: Vec<Session>,
    group: GroupName,
    payload: Bytes,
}

/// Does something so many times.
pub(crate) type Run = fn(&mut Crowd, u64);

fn message(payload: Bytes) -> RawFrame {
    RawFrame {
        frame_type: DATA,
        text: false,
        id: 0,
        payload,
    }
}

async fn open(url: &str, lives: &Lives) -> MemoryPeer {
    let mut peer = MemoryPeer::connect(url).await.unwrap();
    let expected = lives.begun.count() + 1;
    peer.send(message(Bytes::from_static(b"hello")))
        .await
        .unwrap();
    lives.begun.reach(expected).await;
    peer
}

impl Crowd {
    /// A server with so many sessions.
    pub(crate) fn new(sessions: usize) -> Self {
        let runtime = runtime();
        let lives = Arc::new(Lives::default());
        let url = mem_url();
        let name = url.trim_start_matches("mem://").to_owned();
        let (server, peers) = runtime.block_on(async {
            let server = Server::builder()
                .listen(&url)
                .limits(limits())
                .timeouts(timeouts())
                .handler(Watch(Arc::clone(&lives)))
                .build()
                .unwrap();
            server.start().await.unwrap();
            let mut peers = Vec::with_capacity(sessions);
            for _ in 0..sessions {
                peers.push(open(&name, &lives).await);
            }
            (server, peers)
        });
        let mut sessions = server.sessions();
        sessions.sort_by_key(Session::id);
        Crowd {
            runtime,
            server,
            url: name,
            lives,
            peers,
            sessions,
            group: GroupName::new("bench").unwrap(),
            payload: vec![b'x'; 64].into(),
        }
    }

    /// Opens sessions and ends them, one after the other: the link, the session with its entries, `on_connect`, and
    /// after the peer's end `on_disconnect`.
    pub(crate) fn create(&mut self, times: u64) {
        let Crowd {
            runtime,
            url,
            lives,
            ..
        } = self;
        runtime.block_on(async {
            for _ in 0..times {
                let expected = lives.ended.count() + 1;
                drop(open(url, lives).await);
                lives.ended.reach(expected).await;
            }
        });
    }

    /// Sends a message of 64 B on one session and takes it off at its peer, one after the other.
    pub(crate) fn send(&mut self, times: u64) {
        let Crowd {
            runtime,
            peers,
            sessions,
            payload,
            ..
        } = self;
        runtime.block_on(async {
            for _ in 0..times {
                sessions[0].send(payload.clone()).await.unwrap();
                peers[0].receive().await.unwrap();
            }
        });
    }

    /// Sends a message of 64 B to all sessions and takes it off at each peer.
    pub(crate) fn broadcast(&mut self, times: u64) {
        let Crowd {
            runtime,
            server,
            peers,
            payload,
            ..
        } = self;
        runtime.block_on(async {
            for _ in 0..times {
                let report = server.broadcast(payload.clone()).await.unwrap();
                assert_eq!(report.sent, peers.len());
                for peer in peers.iter_mut() {
                    peer.receive().await.unwrap();
                }
            }
        });
    }

    /// A session joins a group and leaves it. The sessions take turns.
    pub(crate) fn join_and_leave(&mut self, times: u64) {
        for turn in 0..times {
            let session = &self.sessions[turn as usize % self.sessions.len()];
            session.join(&self.group).unwrap();
            assert!(session.leave(&self.group));
        }
    }

    /// Sets an attribute of a session, reads it and removes it.
    pub(crate) fn attributes(&mut self, times: u64) {
        for turn in 0..times {
            let session = &self.sessions[turn as usize % self.sessions.len()];
            session.set_data("user", "ada.lovelace");
            std::hint::black_box(session.data("user"));
            session.remove_data("user");
        }
    }

    /// Finds sessions by their ids, in an order that no cache foresees.
    pub(crate) fn lookup(&mut self, times: u64) {
        let count = self.sessions.len();
        for turn in 0..times {
            // A prime, so that every session has its turn.
            let id = self.sessions[turn as usize * 7_919 % count].id();
            assert!(self.server.session(id).is_some());
        }
    }

    pub(crate) fn end(self) {
        self.runtime.block_on(async {
            drop(self.peers);
            self.server.stop().await.unwrap();
        });
    }
}
