//! Stages between sessions and links: what both sides agree on, and what becomes of messages.

pub mod attacks;
mod bombs;
mod bounds;
mod broadcast;
pub mod combinations;
mod failures;
pub mod negotiation;
pub mod staging;
pub mod wire;

use network_system::pipeline::{
    CustomStage, Keys, OnFailure, Pipeline, PipelineBuilder, Secret, Stage, StageDefinition,
    StageError,
};

/// Counts messages and sends the count along, so that a lost, doubled or reordered one shows. The length of
/// what it makes differs from the message's. Some messages it refuses, and at some it panics.
#[derive(Clone)]
pub struct Numbered {
    sent: u64,
    received: u64,
    key: u8,
}

/// What [`Numbered`] refuses to send.
pub const UNSPEAKABLE: &[u8] = b"unspeakable";
/// What [`Numbered`] panics at when it is sent.
pub const EXPLOSIVE: &[u8] = b"explosive";
/// What [`Numbered`] panics at when it is received.
pub const MINE: &[u8] = b"a mine";

impl Numbered {
    pub fn stage(key: u8) -> CustomStage {
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
        assert!(message != EXPLOSIVE, "as asked");
        if message == UNSPEAKABLE {
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
        output.extend(message.iter().map(|byte| byte ^ self.key));
        assert!(output != MINE, "as asked");
        self.received += 1;
        Ok(())
    }
}

/// What [`Numbered`] makes of a message.
pub fn numbered_as(number: u64, key: u8, message: &[u8]) -> Vec<u8> {
    let mut encoded = number.to_be_bytes().to_vec();
    encoded.extend(message.iter().map(|byte| byte ^ key));
    encoded
}

/// A pipeline that requires these stages.
pub fn requiring(stages: Vec<StageDefinition>) -> Pipeline {
    with_fate(OnFailure::Disconnect, stages)
}

pub fn with_fate(fate: OnFailure, stages: Vec<StageDefinition>) -> Pipeline {
    let all = stages.into_iter();
    let builder = all.fold(Pipeline::builder(), PipelineBuilder::require);
    builder.on_failure(fate).build().unwrap()
}

/// A secret that both sides of a test have.
pub fn secret(byte: u8) -> Secret {
    Secret::new(vec![byte; 32]).unwrap()
}

pub fn keys(id: u32, byte: u8) -> Keys {
    Keys::new(id, secret(byte))
}

/// A hello that offers these stages, with a nonce of these bytes.
pub fn hello(stages: &[&str], nonce: Option<[u8; 16]>) -> String {
    let mut hello = serde_json::json!({"op": "hello", "version": 1, "pipeline": stages});
    if let Some(nonce) = nonce {
        hello["nonce"] = hex(&nonce).into();
    }
    hello.to_string()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
