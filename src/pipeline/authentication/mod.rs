//! A stage that shows whether messages were changed.

use std::sync::Arc;

use aws_lc_rs::hmac;

use super::secret::Secret;
use super::stage::{Stage, StageDefinition, StageError, StageKind};

/// Bytes behind a message.
const TAG: usize = 32;

/// A stage that puts 32 bytes behind each message, HMAC-SHA-256 over the message with a secret that both sides
/// have. A message to which they do not belong is refused.
///
/// It shows that a message comes from somebody who has the secret and was not changed. It does not keep
/// messages secret, and does not notice when one is repeated, left out or comes in another order, or when a
/// peer sends back what it was sent; [`Encryption`](super::Encryption) notices all of that.
///
/// ```
/// use network_system::pipeline::{HmacSha256, Pipeline, Secret};
///
/// let (new, old) = (Secret::random()?, Secret::random()?);
/// let pipeline = Pipeline::builder()
///     .require(HmacSha256::new(new).accept(old))
///     .build()?;
/// assert!(pipeline.names().eq(["hmac-sha256"]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct HmacSha256 {
    secret: Secret,
    accepted: Vec<Secret>,
}

impl HmacSha256 {
    /// Signs with this secret, and accepts what was signed with it.
    pub fn new(secret: Secret) -> Self {
        HmacSha256 {
            secret,
            accepted: Vec::new(),
        }
    }

    /// Accepts what was signed with another secret, too. To change the secret, first let every side accept the
    /// new one, then let each sign with it, and in the end accept the old one no more.
    ///
    /// Each further secret makes it as much dearer to refuse a message.
    #[must_use]
    pub fn accept(mut self, previous: Secret) -> Self {
        self.accepted.push(previous);
        self
    }
}

impl From<HmacSha256> for StageDefinition {
    fn from(stage: HmacSha256) -> Self {
        let key = |secret: &Secret| hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let keys = std::iter::once(&stage.secret).chain(&stage.accepted);
        let stage = HmacStage {
            keys: keys.map(key).collect(),
        };
        StageDefinition {
            name: "hmac-sha256".into(),
            kind: StageKind::Authentication,
            overhead: TAG,
            is_shareable: true,
            is_binary: true,
            needs_order: false,
            fault: None,
            make: Arc::new(move |_| Ok(Box::new(stage.clone()))),
        }
    }
}

/// The stage of a link.
#[derive(Clone)]
struct HmacStage {
    /// The first one signs; any is accepted.
    keys: Arc<[hmac::Key]>,
}

impl Stage for HmacStage {
    fn encode(&mut self, message: &[u8], output: &mut Vec<u8>) -> Result<(), StageError> {
        let Some(key) = self.keys.first() else {
            return Err(StageError::new("there is no secret to sign with"));
        };
        output.reserve(message.len() + TAG);
        output.extend_from_slice(message);
        output.extend_from_slice(hmac::sign(key, message).as_ref());
        Ok(())
    }

    fn decode(
        &mut self,
        encoded: &[u8],
        limit: usize,
        output: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        let Some((message, tag)) = encoded.split_last_chunk::<TAG>() else {
            return Err(StageError::new(
                "a message is too short to have been signed",
            ));
        };
        // Before the work of checking it.
        if message.len() > limit {
            return Err(StageError::too_large(message.len(), limit));
        }
        // In a time that does not depend on where tags differ.
        let is_signed = |key| hmac::verify(key, message, tag).is_ok();
        if !self.keys.iter().any(is_signed) {
            return Err(StageError::new(
                "a message was changed, or signed with another secret",
            ));
        }
        output.extend_from_slice(message);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
