//! Messages from a client to a server's handler.

use std::sync::Arc;

use bytes::Bytes;
use network_system::pipeline::Pipeline;
use network_system::{Client, Handler, Message, ReconnectPolicy, Reliability, Server, Session};
use tokio::runtime::Runtime;

use super::{Tally, limits, runtime, timeouts};

/// Messages that are on their way at a time: what a busy sender queues in one go.
const WINDOW: u64 = 64;

struct Count(Arc<Tally>);

impl Handler for Count {
    async fn on_message(&self, _: &Session, message: &Message) {
        std::hint::black_box(message.payload());
        self.0.add();
    }
}

/// A server that counts messages, and a client with a session to it, both on the caller's thread.
///
/// A message goes all its way: the client's `send` checks and queues it, its worker makes a frame of it and gives it to
/// the link, the server's worker takes it off, finds the message and calls the handler. Over `tcp://` the frame is
/// bytes that go through the system; over `mem://` it stays a value, as it does for applications that use that.
pub(crate) struct Throughput {
    runtime: Runtime,
    received: Arc<Tally>,
    client: Client,
    server: Server,
    session: Session,
    payload: Bytes,
}

/// What sessions are to have beyond the defaults.
#[derive(Clone, Default)]
pub(crate) struct Extras {
    pub(crate) reliability: Option<Reliability>,
    pub(crate) pipeline: Option<Pipeline>,
}

impl Throughput {
    pub(crate) fn new(url: &str, size: usize) -> Self {
        Self::with(url, size, &Extras::default())
    }

    pub(crate) fn with(url: &str, size: usize, extras: &Extras) -> Self {
        let runtime = runtime();
        let received = Arc::new(Tally::default());
        let (server, client, session) = runtime.block_on(async {
            let mut server = Server::builder()
                .listen(url)
                .limits(limits())
                .timeouts(timeouts())
                .handler(Count(Arc::clone(&received)));
            if let Some(reliability) = &extras.reliability {
                server = server.reliable(reliability.clone());
            }
            if let Some(pipeline) = &extras.pipeline {
                server = server.pipeline(pipeline.clone());
            }
            let server = server.build().unwrap();
            server.start().await.unwrap();
            let mut client = Client::builder()
                .endpoint(&server.urls()[0])
                .limits(limits())
                .timeouts(timeouts())
                .reconnect(ReconnectPolicy::disabled());
            if let Some(reliability) = &extras.reliability {
                client = client.reliable(reliability.clone());
            }
            if let Some(pipeline) = &extras.pipeline {
                client = client.pipeline(pipeline.clone());
            }
            let client = client.build().unwrap();
            client.connect().await.unwrap();
            let session = client.session().unwrap();
            assert_eq!(session.is_reliable(), extras.reliability.is_some());
            (server, client, session)
        });
        let mut throughput = Throughput {
            runtime,
            received,
            client,
            server,
            session,
            payload: vec![b'x'; size].into(),
        };
        // What is made when first needed is there.
        throughput.run(WINDOW);
        throughput
    }

    /// Sends so many messages and waits until the handler has had them all.
    pub(crate) fn run(&mut self, messages: u64) {
        let Throughput {
            runtime,
            received,
            session,
            payload,
            ..
        } = self;
        runtime.block_on(async {
            let mut left = messages;
            while left > 0 {
                let burst = left.min(WINDOW);
                let expected = received.count() + burst;
                for _ in 0..burst {
                    session.send(payload.clone()).await.unwrap();
                }
                received.reach(expected).await;
                left -= burst;
            }
        });
    }

    pub(crate) fn end(self) {
        self.runtime.block_on(async {
            self.client.stop().await;
            self.server.stop().await.unwrap();
        });
    }
}
