//! What holds for the length of messages, for memory and for other sessions when stages stand in between.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use network_system::pipeline::{
    Compression, CustomStage, Direction, Encryption, MessageLog, OnFailure, Pipeline, Stage,
    StageError,
};
use network_system::{Client, ErrorCode, Message, QueuePolicy, Session};
use tokio::sync::Semaphore;

use super::{hello, keys, requiring, with_fate};
use crate::support::{Frame, Over, alloc, eventually, kind, limits, serve, within};

/// The message limit of these tests.
const LIMIT: usize = 1024 * 1024;

#[tokio::test]
async fn a_message_over_the_limit_is_refused_where_stages_only_look_on() {
    for over in [Over::Tcp, Over::Ws] {
        for offered in [None, Some("{\"op\":\"hello\"}")] {
            let onlookers = Pipeline::builder().offer(MessageLog::new(tracing::Level::TRACE));
            let onlookers = onlookers.offer(Compression::lz4()).build().unwrap();
            let net = serve(over, |builder| {
                builder
                    .limits(limits(|limits| limits.message_size = 1_024))
                    .pipeline(onlookers)
                    .on_message(|session: Session, message: Message| async move {
                        let _ = session.send(message).await;
                    })
            })
            .await;
            let mut peer = net.peer().await;
            if let Some(hello) = offered {
                peer.control(hello.to_owned()).await;
                peer.expect(kind::CONTROL).await;
            }
            peer.data(vec![1; 1_024]).await;
            assert_eq!(peer.expect_data().await.len(), 1_024);
            peer.data(vec![1; 1_025]).await;
            let (code, text) = peer.expect_error_and_end().await;
            assert_eq!(code, ErrorCode::MessageTooLarge.as_i32(), "{text}");
            net.stop().await;
        }
    }
}

/// Makes a message twice as long, and does not say so when it is configured.
#[derive(Clone)]
struct Doubled;

impl Stage for Doubled {
    fn encode(&mut self, message: &[u8], output: &mut Vec<u8>) -> Result<(), StageError> {
        output.extend(message.iter().flat_map(|byte| [*byte; 2]));
        Ok(())
    }

    fn decode(
        &mut self,
        encoded: &[u8],
        _limit: usize,
        output: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        output.extend(encoded.iter().step_by(2));
        Ok(())
    }
}

#[tokio::test]
async fn a_message_that_has_become_too_long_ends_the_session_where_it_was_counted() {
    // Encryption has counted it, so that the other side would refuse everything after it.
    let stages = || {
        with_fate(
            OnFailure::Drop,
            vec![
                CustomStage::new("doubled", Doubled).stateless().into(),
                Encryption::aes_256_gcm(&keys(1, 1)).into(),
            ],
        )
    };
    let net = serve(Over::Tcp, |builder| {
        builder
            .limits(limits(|limits| limits.message_size = 1_024))
            .pipeline(stages())
    })
    .await;
    let client = Client::builder().endpoint(&net.url).pipeline(stages());
    let client = client.build().unwrap();
    within("connect", client.connect()).await.unwrap();
    let session = client.session().unwrap();
    for len in [10, 1_000, 10] {
        session.send(vec![1; len]).await.unwrap();
    }
    let reason = within("the end", session.closed()).await;
    assert_eq!(reason.code(), Some(ErrorCode::MessageTooLarge), "{reason}");
    within("stop", client.stop()).await;
    net.stop().await;
}

/// Says how many errors there were when a message was sent.
struct Onlooker {
    errors: Arc<AtomicUsize>,
    at: Arc<AtomicUsize>,
}

impl Stage for Onlooker {
    fn encode(&mut self, _: &[u8], _: &mut Vec<u8>) -> Result<(), StageError> {
        Ok(())
    }

    fn decode(&mut self, _: &[u8], _: usize, _: &mut Vec<u8>) -> Result<(), StageError> {
        Ok(())
    }

    fn observe(&mut self, direction: Direction, _: &[u8]) {
        if direction == Direction::Sent {
            let errors = self.errors.load(Ordering::Relaxed);
            self.at.fetch_min(errors, Ordering::Relaxed);
        }
    }
}

#[tokio::test]
async fn messages_that_are_dropped_after_much_work_do_not_keep_other_sessions_waiting() {
    // Each of these is decompressed, found to be shorter than it says, and dropped.
    let mut liar = vec![1];
    liar.extend((LIMIT as u32).to_be_bytes());
    let mut encoder = flate2::write::ZlibEncoder::new(liar, flate2::Compression::best());
    encoder.write_all(&vec![0; LIMIT - 1]).unwrap();
    let liar = encoder.finish().unwrap();
    let liar = Frame::new(kind::DATA, liar).encode();
    let count = 200;

    let (errors, at) = (
        Arc::<AtomicUsize>::default(),
        Arc::new(AtomicUsize::new(usize::MAX)),
    );
    let onlooker = {
        let (errors, at) = (errors.clone(), at.clone());
        let make = move || Onlooker {
            errors: errors.clone(),
            at: at.clone(),
        };
        CustomStage::with("onlooker", make).observes()
    };
    let pipeline = Pipeline::builder()
        .offer(onlooker)
        .offer(Compression::deflate())
        .on_failure(OnFailure::Drop)
        .build()
        .unwrap();
    let other = Arc::new(std::sync::OnceLock::<Session>::new());
    let told = other.clone();
    let seen = errors.clone();
    let net = serve(Over::Tcp, |builder| {
        builder
            .workers(1)
            .limits(limits(|limits| limits.message_size = LIMIT))
            .pipeline(pipeline)
            .on_error(move |_, _, _| {
                if seen.fetch_add(1, Ordering::Relaxed) == 0 {
                    told.get().unwrap().try_send("the first error").unwrap();
                }
            })
    })
    .await;
    let mut bystander = net.open_peer().await;
    let _ = other.set(net.server.sessions().remove(0));
    let mut peer = net.peer().await;
    peer.control(hello(&["deflate"], None)).await;
    peer.expect(kind::CONTROL).await;
    peer.write(&liar.repeat(count)).await;
    assert_eq!(bystander.expect_data().await, b"the first error"[..]);
    eventually("all are dropped", || {
        errors.load(Ordering::Relaxed) == count
    })
    .await;
    let at = at.load(Ordering::Relaxed);
    assert!(
        at < 10,
        "{at} messages were looked at before another session"
    );
    net.stop().await;
}

#[tokio::test]
async fn a_compressed_broadcast_that_waits_takes_the_memory_that_it_is_counted_with() {
    let server = Over::Mem
        .server()
        .workers(1)
        .pipeline(requiring(vec![Compression::lz4().into()]))
        .limits(limits(|limits| limits.when_full = QueuePolicy::DropNewest));
    let server = server.build().unwrap();
    server.start().await.unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let client = Client::builder()
        .endpoint(&server.urls()[0])
        .pipeline(requiring(vec![Compression::lz4().into()]))
        .on_message(move |_, _| {
            let gate = opened.clone();
            async move { gate.acquire().await.unwrap().forget() }
        });
    let client = client.build().unwrap();
    within("connect", client.connect()).await.unwrap();
    eventually("it is open", || !server.sessions().is_empty()).await;
    let before = alloc::held();
    for _ in 0..100 {
        within("broadcast", server.broadcast(vec![0; LIMIT]))
            .await
            .unwrap();
    }
    let held = alloc::held() - before;
    assert!(held < 8 * LIMIT as isize, "{held} bytes");
    gate.add_permits(1_000);
    within("stop", client.stop()).await;
    within("stop", server.stop()).await.unwrap();
}
