//! Stages of a pipeline that judge a message on one link in another way than on the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use network_system::pipeline::{CustomStage, Pipeline, Stage, StageError};
use network_system::{ErrorCode, Session};
use serde_json::json;

use super::{
    CONNECTED, Ticket, begin_with, code, lose, next_data, resume_hello, resumed, serve_reliable,
};
use crate::support::{Over, Peer, kind, log, record, record_messages, within};

/// Lets everything through as it is, until it is told to refuse `two`.
#[derive(Clone)]
struct Fussy(Arc<AtomicBool>);

impl Fussy {
    fn judge(&self, message: &[u8], output: &mut Vec<u8>) -> Result<(), StageError> {
        if message == b"two" && self.0.load(Ordering::Relaxed) {
            return Err(StageError::new("not any more"));
        }
        output.extend(message);
        Ok(())
    }
}

impl Stage for Fussy {
    fn encode(&mut self, message: &[u8], output: &mut Vec<u8>) -> Result<(), StageError> {
        self.judge(message, output)
    }

    fn decode(&mut self, message: &[u8], _: usize, output: &mut Vec<u8>) -> Result<(), StageError> {
        self.judge(message, output)
    }
}

fn fussy() -> (Pipeline, Arc<AtomicBool>) {
    let refuses = Arc::new(AtomicBool::new(false));
    let stage = CustomStage::new("fussy", Fussy(Arc::clone(&refuses)));
    let pipeline = crate::pipeline::requiring(vec![stage.into()]);
    (pipeline, refuses)
}

async fn begin(url: &str) -> (Peer, Ticket) {
    let (peer, welcome) = begin_with(url, json!({"pipeline": ["fussy"]})).await;
    (peer, Ticket::of(&welcome))
}

async fn ask(url: &str, ticket: &Ticket, received: u64) -> Peer {
    let mut hello = resume_hello(ticket, received);
    hello["pipeline"] = json!(["fussy"]);
    let mut peer = Peer::connect(url).await;
    peer.control(hello.to_string()).await;
    peer
}

async fn resume(url: &str, ticket: &Ticket, received: u64) -> (Peer, u64) {
    let mut peer = ask(url, ticket, received).await;
    let welcome = peer.expect(kind::CONTROL).await.json();
    (peer, resumed(&welcome, ticket).0)
}

async fn is_over(url: &str, session: &Session, ticket: &Ticket) {
    let reason = within("the end", session.closed()).await;
    assert_eq!(reason.code(), Some(ErrorCode::PipelineFailed));
    let mut peer = ask(url, ticket, 0).await;
    assert_eq!(
        code(peer.expect_error_and_end().await),
        ErrorCode::SessionExpired
    );
}

#[tokio::test]
async fn what_cannot_be_sent_again_on_the_next_link_ends_the_session_and_is_given_back() {
    for &over in CONNECTED {
        let (pipeline, refuses) = fussy();
        let net = serve_reliable(over, |builder| builder.pipeline(pipeline)).await;
        let (mut peer, ticket) = begin(&net.url).await;
        let session = net.server.sessions().remove(0);
        for message in ["one", "two", "three"] {
            session.send(message).await.unwrap();
            assert_eq!(next_data(&mut peer).await, message.as_bytes());
        }
        lose(&net, peer).await;
        refuses.store(true, Ordering::Relaxed);
        let (mut peer, _) = resume(&net.url, &ticket, 0).await;
        // Nothing comes in the place of what is missing.
        assert_eq!(next_data(&mut peer).await, b"one", "{over:?}");
        assert_eq!(
            code(peer.expect_error_and_end().await),
            ErrorCode::PipelineFailed
        );
        drop(peer);
        is_over(&net.url, &session, &ticket).await;
        let rest = session.take_unacknowledged();
        let rest: Vec<_> = rest.iter().map(|message| message.payload()).collect();
        assert_eq!(rest, [&b"one"[..], b"two", b"three"]);
        net.stop().await;
    }
}

#[tokio::test]
async fn what_is_refused_when_it_comes_again_ends_the_session_and_is_not_acknowledged() {
    let (pipeline, refuses) = fussy();
    let (log, mut events) = log();
    let net = serve_reliable(Over::Tcp, |builder| {
        record_messages(record(builder, &log), &log).pipeline(pipeline)
    })
    .await;
    let (mut peer, ticket) = begin(&net.url).await;
    let session = net.server.sessions().remove(0);
    peer.data("one").await;
    super::ack_of(&mut peer, 1).await;
    lose(&net, peer).await;
    refuses.store(true, Ordering::Relaxed);
    let (mut peer, count) = resume(&net.url, &ticket, 0).await;
    assert_eq!(count, 1);
    peer.data("two").await;
    peer.data("three").await;
    loop {
        let frame = peer.receive().await.expect("an ERROR");
        match super::acked(&frame) {
            Some(count) => assert_eq!(count, 1),
            None => {
                assert_eq!(frame.kind, kind::ERROR, "{frame:?}");
                assert_eq!(code(frame.code_and_text()), ErrorCode::PipelineFailed);
                break;
            }
        }
    }
    drop(peer);
    is_over(&net.url, &session, &ticket).await;
    assert_eq!(events.message().await.payload(), b"one");
    net.stop().await;
    while let Some(event) = events.try_next() {
        let is_message = matches!(event, crate::support::Event::Message(_));
        assert!(!is_message, "{event:?}");
    }
}
