//! Stages that refuse what this side sends, that panic, or that cannot be made.

use std::sync::Arc;
use std::time::Duration;

use network_system::pipeline::{CustomStage, Encryption, OnFailure, Stage, StageError};
use network_system::{Client, ErrorCode, Message, Session};

use super::{Numbered, hello, keys, numbered_as, requiring, with_fate};
use crate::support::{Event, Over, eventually, kind, log, record, serve, within};

#[tokio::test]
async fn what_a_stage_of_this_side_refuses_is_not_sent_and_what_follows_depends() {
    for fate in [OnFailure::Disconnect, OnFailure::Drop] {
        let (log, mut events) = log();
        let net = serve(Over::Tcp, |builder| {
            builder
                .on_error(move |_, code, _| drop(log.send(Event::Error(code))))
                .pipeline(with_fate(fate, vec![Numbered::stage(7).into()]))
        })
        .await;
        let mut peer = net.peer().await;
        peer.control(hello(&["numbered"], None)).await;
        peer.expect(kind::CONTROL).await;
        let session = net.server.sessions().remove(0);
        for message in ["one", "unspeakable", "two"] {
            session.send(message).await.unwrap();
        }
        assert_eq!(peer.expect_data().await, numbered_as(0, 7, b"one"));
        if fate == OnFailure::Drop {
            assert_eq!(peer.expect_data().await, numbered_as(1, 7, b"two"));
            // A request ends at its caller; the peer does not hear of it.
            let asked = session
                .request("unspeakable", Duration::from_secs(20))
                .await;
            assert_eq!(asked.unwrap_err().code(), ErrorCode::PipelineFailed);
            session.send("three").await.unwrap();
            assert_eq!(peer.expect_data().await, numbered_as(2, 7, b"three"));
        } else {
            // Nothing that was sent later arrives without it.
            let (code, text) = peer.expect_error_and_end().await;
            assert_eq!((code, text.as_str()), (-646, "numbered: this is not said"));
            peer.shutdown().await;
            let reason = within("the end", session.closed()).await;
            assert_eq!(reason.code(), Some(ErrorCode::PipelineFailed));
        }
        assert!(matches!(
            events.next().await,
            Event::Error(ErrorCode::PipelineFailed)
        ));
        net.stop().await;
    }
}

#[tokio::test]
async fn an_answer_that_a_stage_refuses_becomes_a_failure() {
    let net = serve(Over::Tcp, |builder| {
        builder
            .pipeline(with_fate(OnFailure::Drop, vec![Numbered::stage(7).into()]))
            .on_request(|_: Session, message: Message| async move { Ok(message) })
    })
    .await;
    let mut peer = net.peer().await;
    peer.control(hello(&["numbered"], None)).await;
    peer.expect(kind::CONTROL).await;
    peer.request(1, numbered_as(0, 7, super::UNSPEAKABLE)).await;
    let failure = peer.expect(kind::FAILURE).await;
    assert_eq!((failure.id, failure.code_and_text().0), (1, -646));
    peer.request(2, numbered_as(1, 7, b"fine")).await;
    assert_eq!(
        peer.expect(kind::RESPONSE).await.payload,
        numbered_as(0, 7, b"fine")
    );
    net.stop().await;
}

#[tokio::test]
async fn a_stage_that_panics_ends_its_session_only() {
    for fate in [OnFailure::Disconnect, OnFailure::Drop] {
        let (log, mut events) = log();
        let net = serve(Over::Tcp, |builder| {
            let stages = vec![Numbered::stage(7).into()];
            record(crate::support::echo(builder), &log).pipeline(with_fate(fate, stages))
        })
        .await;
        let connect = async || {
            let mut peer = net.peer().await;
            peer.control(hello(&["numbered"], None)).await;
            peer.expect(kind::CONTROL).await;
            peer
        };
        let mut other = connect().await;
        // When it is sent, and when it is received.
        for (received, is_sent) in [("sent", true), ("received", false)] {
            let known: Vec<_> = net.server.sessions().iter().map(Session::id).collect();
            let mut peer = connect().await;
            let all = net.server.sessions();
            let session = all
                .into_iter()
                .find(|one| !known.contains(&one.id()))
                .unwrap();
            match is_sent {
                true => session.send(super::EXPLOSIVE).await.unwrap(),
                false => peer.data(numbered_as(0, 7, super::MINE)).await,
            }
            let (code, text) = peer.expect_error_and_end().await;
            assert_eq!(code, -646, "{received}: {text}");
            assert_eq!(text, "numbered: the stage panicked");
            drop(peer);
            let reason = events.disconnected().await;
            assert_eq!(reason.code(), Some(ErrorCode::PipelineFailed));
        }
        other.data(numbered_as(0, 7, b"unharmed")).await;
        assert_eq!(other.expect_data().await, numbered_as(0, 7, b"unharmed"));
        net.stop().await;
    }
}

#[tokio::test]
async fn a_stage_that_cannot_be_made_ends_the_connection_only() {
    struct Never;
    impl network_system::pipeline::Stage for Never {
        fn encode(
            &mut self,
            _: &[u8],
            _: &mut Vec<u8>,
        ) -> Result<(), network_system::pipeline::StageError> {
            Ok(())
        }
        fn decode(
            &mut self,
            _: &[u8],
            _: usize,
            _: &mut Vec<u8>,
        ) -> Result<(), network_system::pipeline::StageError> {
            Ok(())
        }
    }
    let made = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = made.clone();
    let stage = network_system::pipeline::CustomStage::with("never", move || -> Never {
        match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            1 => panic!("as asked"),
            _ => Never,
        }
    });
    let net = serve(Over::Tcp, |builder| {
        builder.pipeline(requiring(vec![stage.into()]))
    })
    .await;
    for is_made in [true, false, true] {
        let mut peer = net.peer().await;
        peer.control(hello(&["never"], None)).await;
        match is_made {
            true => drop(peer.expect(kind::CONTROL).await),
            false => assert_eq!(peer.expect_error_and_end().await.0, -646),
        }
    }
    eventually("all three were tried", || {
        made.load(std::sync::atomic::Ordering::Relaxed) == 3
    })
    .await;
    net.stop().await;
}

/// Refuses the second message that is sent.
#[derive(Clone)]
struct Fussy(usize);

impl Stage for Fussy {
    fn encode(&mut self, message: &[u8], output: &mut Vec<u8>) -> Result<(), StageError> {
        self.0 += 1;
        if self.0 == 2 {
            return Err(StageError::new("not this one"));
        }
        output.extend_from_slice(message);
        Ok(())
    }

    fn decode(
        &mut self,
        encoded: &[u8],
        _limit: usize,
        output: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        output.extend_from_slice(encoded);
        Ok(())
    }
}

#[tokio::test]
async fn a_message_that_was_counted_and_not_sent_ends_the_session_whatever_is_configured() {
    // Encryption has counted it, so that the other side would refuse everything after it.
    let stages = || {
        with_fate(
            OnFailure::Drop,
            vec![
                Encryption::aes_256_gcm(&keys(1, 1)).into(),
                CustomStage::new("fussy", Fussy(0)).into(),
            ],
        )
    };
    let net = serve(Over::Tcp, |builder| builder.pipeline(stages())).await;
    let client = Client::builder().endpoint(&net.url).pipeline(stages());
    let client = client.build().unwrap();
    within("connect", client.connect()).await.unwrap();
    let session = client.session().unwrap();
    for message in ["one", "two", "three"] {
        session.send(message).await.unwrap();
    }
    let reason = within("the end", session.closed()).await;
    assert_eq!(reason.code(), Some(ErrorCode::PipelineFailed), "{reason}");
    within("stop", client.stop()).await;
    net.stop().await;
}
