//! Stages between sessions and links: what both sides agree on, and what becomes of messages.

use std::time::Duration;

use network_system::pipeline::{CustomStage, OnFailure, Pipeline, Stage, StageError};
use network_system::{Client, ErrorCode, Message, Session};

use crate::support::{Over, within};

over_all! {
    session:
        messages_come_back_through_the_agreed_stages;
}

/// Counts messages and sends the count along, so that a lost, doubled or reordered one shows. The length of
/// what it makes differs from the message's.
#[derive(Clone)]
struct Numbered {
    sent: u64,
    received: u64,
    key: u8,
}

impl Numbered {
    fn stage(key: u8) -> CustomStage {
        let stage = Numbered {
            sent: 0,
            received: 0,
            key,
        };
        CustomStage::new("numbered", stage).overhead(8)
    }
}

impl Stage for Numbered {
    fn encode(&mut self, message: &[u8], output: &mut Vec<u8>) -> Result<(), StageError> {
        if message == b"unspeakable" {
            return Err(StageError::new("this is not said"));
        }
        output.extend(self.sent.to_be_bytes());
        output.extend(message.iter().map(|byte| byte ^ self.key));
        self.sent += 1;
        Ok(())
    }

    fn decode(
        &mut self,
        encoded: &[u8],
        limit: usize,
        output: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        let Some((number, message)) = encoded.split_first_chunk() else {
            return Err(StageError::new("too short"));
        };
        if u64::from_be_bytes(*number) != self.received {
            return Err(StageError::new("out of order"));
        }
        if message.len() > limit {
            return Err(StageError::too_large(message.len(), limit));
        }
        self.received += 1;
        output.extend(message.iter().map(|byte| byte ^ self.key));
        Ok(())
    }
}

fn pipeline(key: u8) -> Pipeline {
    Pipeline::builder()
        .require(Numbered::stage(key))
        .build()
        .unwrap()
}

async fn messages_come_back_through_the_agreed_stages(over: Over) {
    let server = over
        .server()
        .pipeline(pipeline(7))
        .on_message(|session: Session, message: Message| async move {
            let _ = session.send(message).await;
        })
        .on_request(|_: Session, message: Message| async move { Ok(message) })
        .build()
        .unwrap();
    server.start().await.unwrap();
    let builder = over.client(&server.urls()[0]);
    let client = builder.pipeline(pipeline(7)).build().unwrap();
    let mut stream = client.messages().unwrap();
    within("connect", client.connect()).await.unwrap();
    let session = client.session().unwrap();
    assert_eq!(session.pipeline(), ["numbered"]);
    for round in 0..20_usize {
        for size in 0..5 {
            let payload = vec![round as u8; size * 250];
            client.send(payload).await.unwrap();
        }
        let answer = client
            .request(vec![9; round], Duration::from_secs(10))
            .await;
        assert_eq!(answer.unwrap().payload(), vec![9; round]);
        for size in 0..5 {
            let message = within("an answer", stream.next()).await.unwrap();
            assert_eq!(message.payload(), vec![round as u8; size * 250]);
        }
    }
    within("the client to stop", client.stop()).await;
    within("the server to stop", server.stop()).await.unwrap();
}

#[tokio::test]
async fn a_stage_that_refuses_ends_the_session_with_its_name() {
    let server = Over::Tcp.server().pipeline(pipeline(7)).build().unwrap();
    server.start().await.unwrap();
    let client = Client::builder()
        .endpoint(&server.urls()[0])
        .pipeline(
            Pipeline::builder()
                .require(Numbered::stage(7))
                .on_failure(OnFailure::Disconnect)
                .build()
                .unwrap(),
        )
        .build()
        .unwrap();
    within("connect", client.connect()).await.unwrap();
    let session = client.session().unwrap();
    session.send("unspeakable").await.unwrap();
    let reason = within("the end", session.closed()).await;
    assert_eq!(reason.code(), Some(ErrorCode::PipelineFailed));
    assert!(reason.text().contains("numbered: this is not said"));
    within("the client to stop", client.stop()).await;
    within("the server to stop", server.stop()).await.unwrap();
}

/// Says how often it was asked, for all links together.
#[derive(Clone, Default)]
struct Tally(std::sync::Arc<std::sync::atomic::AtomicUsize>);

impl Stage for Tally {
    fn encode(&mut self, message: &[u8], output: &mut Vec<u8>) -> Result<(), StageError> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        output.push(b'+');
        output.extend_from_slice(message);
        Ok(())
    }

    fn decode(
        &mut self,
        encoded: &[u8],
        _limit: usize,
        output: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        output.extend_from_slice(&encoded[1..]);
        Ok(())
    }
}

#[tokio::test]
async fn a_broadcast_goes_once_through_stages_without_state_and_to_each_through_the_others() {
    let shared = Tally::default();
    let of = |tally: &Tally| {
        let stateless = CustomStage::new("tally", tally.clone());
        Pipeline::builder()
            .require(stateless.overhead(1).stateless())
            .require(Numbered::stage(7))
            .build()
            .unwrap()
    };
    let server = Over::Tcp.server().pipeline(of(&shared)).build().unwrap();
    server.start().await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..5 {
        let client = Over::Tcp.client(&server.urls()[0]);
        let client = client.pipeline(of(&Tally::default())).build().unwrap();
        let stream = client.messages().unwrap();
        within("connect", client.connect()).await.unwrap();
        clients.push((client, stream));
    }
    for number in 0..10_u8 {
        within("broadcast", server.broadcast(vec![number; 5_000]))
            .await
            .unwrap();
    }
    for (client, stream) in &mut clients {
        for number in 0..10_u8 {
            let message = within("a broadcast", stream.next()).await.unwrap();
            assert_eq!(message.payload(), vec![number; 5_000]);
        }
        within("the client to stop", client.stop()).await;
    }
    assert_eq!(shared.0.load(std::sync::atomic::Ordering::Relaxed), 10);
    within("the server to stop", server.stop()).await.unwrap();
}
