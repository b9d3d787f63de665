//! A broadcast through stages without state, which see it once.

use network_system::pipeline::{CustomStage, Pipeline, Stage, StageError};

use super::Numbered;
use crate::support::{Over, within};

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
