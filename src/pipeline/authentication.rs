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
mod tests {
    use super::*;

    use proptest::prelude::*;

    use crate::error::ErrorCode;
    use crate::pipeline::LinkContext;

    fn secret(byte: u8) -> Secret {
        Secret::new([byte; 32]).unwrap()
    }

    fn stage(stage: HmacSha256) -> Box<dyn Stage> {
        let context = LinkContext {
            is_client: true,
            handshake: None,
            is_lossy: false,
            session: 1,
        };
        (StageDefinition::from(stage).make)(&context).unwrap()
    }

    fn decode(stage: &mut Box<dyn Stage>, encoded: &[u8]) -> Result<Vec<u8>, StageError> {
        let mut message = b"before".to_vec();
        let decoded = stage.decode(encoded, 1_000, &mut message);
        let message = message.split_off(6);
        assert!(decoded.is_ok() || message.is_empty());
        decoded.map(|()| message)
    }

    fn encode(stage: &mut Box<dyn Stage>, message: &[u8]) -> Vec<u8> {
        let mut encoded = b"before".to_vec();
        stage.encode(message, &mut encoded).unwrap();
        encoded.split_off(6)
    }

    #[test]
    fn the_tag_is_that_of_rfc_4231() {
        // Test case 4, whose key is the only one that is long enough here and short enough for a block.
        let key: Vec<u8> = (1..=25).collect();
        let mut stage = stage(HmacSha256::new(Secret::new(key).unwrap()));
        let encoded = encode(&mut stage, &[0xCD; 50]);
        let tag: String = encoded[50..].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            tag,
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"
        );
    }

    #[test]
    fn a_secret_can_be_changed_while_both_are_accepted() {
        let mut old = stage(HmacSha256::new(secret(1)));
        let mut both = stage(HmacSha256::new(secret(1)).accept(secret(2)));
        let mut new = stage(HmacSha256::new(secret(2)).accept(secret(1)));
        let mut last = stage(HmacSha256::new(secret(2)));
        let by_old = encode(&mut old, b"message");
        let by_new = encode(&mut new, b"message");
        assert_eq!(encode(&mut both, b"message"), by_old);
        let passes = |stage: &mut Box<dyn Stage>| {
            [&by_old, &by_new].map(|encoded| decode(stage, encoded).is_ok())
        };
        assert_eq!(passes(&mut old), [true, false]);
        assert_eq!(passes(&mut both), [true, true]);
        assert_eq!(passes(&mut new), [true, true]);
        assert_eq!(passes(&mut last), [false, true]);
    }

    #[test]
    fn a_message_over_the_limit_is_refused() {
        let mut stage = stage(HmacSha256::new(secret(1)));
        let encoded = encode(&mut stage, &[0; 1_001]);
        let error = decode(&mut stage, &encoded).unwrap_err();
        assert_eq!(error.code(), ErrorCode::MessageTooLarge);
    }

    #[test]
    fn no_text_shows_a_secret() {
        let text = Secret::new(*b"correct horse battery").unwrap();
        let stage = HmacSha256::new(text.clone()).accept(text);
        assert!(!format!("{stage:?}").contains("horse"));
        assert!(!format!("{:?}", StageDefinition::from(stage)).contains("horse"));
    }

    proptest! {
        #[test]
        fn any_message_comes_back_and_any_change_is_refused(
            message in prop::collection::vec(any::<u8>(), 0..200),
            index in any::<prop::sample::Index>(),
            bit in 0..8,
        ) {
            let mut stage = stage(HmacSha256::new(secret(1)).accept(secret(2)));
            let encoded = encode(&mut stage, &message);
            prop_assert_eq!(encoded.len(), message.len() + TAG);
            prop_assert_eq!(decode(&mut stage, &encoded), Ok(message));
            let mut changed = encoded.clone();
            changed[index.index(encoded.len())] ^= 1_u8 << bit;
            prop_assert!(decode(&mut stage, &changed).is_err());
            prop_assert!(decode(&mut stage, &encoded[..index.index(encoded.len())]).is_err());
            prop_assert!(decode(&mut stage, &[&encoded[..], &[0]].concat()).is_err());
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(decode(&mut stage(HmacSha256::new(secret(1))), &bytes).is_err());
        }
    }
}
