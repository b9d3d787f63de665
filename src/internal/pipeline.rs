//! Stages by themselves, for benches and fuzzing.

use std::fmt;

use crate::pipeline::{Handshake, LinkContext, Stage, StageDefinition, StageError};

/// A stage of one side of a link, whose hello and welcome are always the same.
pub struct StageLink {
    stage: Box<dyn Stage>,
}

impl StageLink {
    /// The stages of a client and of its server.
    ///
    /// # Errors
    /// The stage cannot be used on a link.
    pub fn pair(stage: impl Into<StageDefinition>) -> Result<(Self, Self), StageError> {
        let definition = stage.into();
        let handshake = Handshake {
            client_nonce: [1; 16],
            server_nonce: [2; 16],
            transcript: [3; 32],
        };
        let side = |is_client| {
            let context = LinkContext {
                is_client,
                handshake: Some(&handshake),
                is_lossy: false,
                session: 1,
            };
            let stage = (definition.make)(&context)?;
            Ok(StageLink { stage })
        };
        Ok((side(true)?, side(false)?))
    }

    /// Appends what is sent in place of `message`.
    ///
    /// # Errors
    /// What the stage refuses.
    pub fn encode(&mut self, message: &[u8], output: &mut Vec<u8>) -> Result<(), StageError> {
        self.stage.encode(message, output)
    }

    /// Appends what `encoded` stands for, at most `limit` bytes.
    ///
    /// # Errors
    /// What the stage refuses.
    pub fn decode(
        &mut self,
        encoded: &[u8],
        limit: usize,
        output: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        self.stage.decode(encoded, limit, output)
    }
}

impl fmt::Debug for StageLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StageLink").finish_non_exhaustive()
    }
}
