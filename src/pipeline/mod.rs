//! What happens to messages between a session and its link: compression, encryption, authentication,
//! logging, and stages of the application's own (protocol section 6).
//!
//! ```text
//! session ── message ──▶ stage 1 ──▶ … ──▶ stage n ──▶ frame ──▶ link
//! session ◀── message ── stage 1 ◀── … ◀── stage n ◀── frame ◀── link
//! ```
//!
//! A [`Pipeline`] is given to a server or a client. Peers that say hello agree on stages: the client offers
//! what it has, and the server chooses, in its own order of preference, at most one stage of each kind and
//! every custom stage that both have. Stages that are [required](PipelineBuilder::require) must be among
//! those, or the connection is closed. For peers without hello both sides can be configured alike, see
//! [`PipelineBuilder::without_hello`].
//!
//! A session without stages pays nothing for them.

mod agreement;
mod authentication;
mod compression;
mod encryption;
mod link;
mod log;
mod secret;
pub mod signature;
mod stage;
mod stats;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

pub use self::authentication::HmacSha256;
pub use self::compression::Compression;
pub use self::encryption::{Encryption, Keys};
pub(crate) use self::link::{LinkPipeline, PipelineFailure, StageScratch};
pub use self::log::MessageLog;
pub use self::secret::{KeyError, Secret};
pub use self::stage::{CustomStage, Direction, Stage, StageDefinition, StageError, StageKind};
pub(crate) use self::stage::{Handshake, LinkContext};
use self::stats::Counters;
pub use self::stats::{DirectionStats, StageStats};
use crate::error::ConfigError;

/// The most that all stages together may add to a message (protocol section 1).
pub(crate) const OVERHEAD_MAX: usize = 64;

/// Bytes of salt before the first message of a direction, where there is no hello (protocol section 6).
pub(crate) const SALT: usize = 32;

/// Stages that one pipeline can have.
const STAGES_MAX: usize = 16;

/// The longest name of a stage.
const NAME_MAX: usize = 64;

/// The stages that a server or client has, in the order in which they are applied to what is sent.
///
/// Cheap to clone; clones share their statistics.
#[derive(Clone)]
pub struct Pipeline {
    inner: Arc<Inner>,
    /// Statistics of one server or client alone, beside those that all clones share.
    apart: Option<Arc<Vec<Counters>>>,
}

struct Inner {
    stages: Vec<Configured>,
    without_hello: bool,
    on_failure: OnFailure,
}

struct Configured {
    definition: StageDefinition,
    is_required: bool,
    counters: Counters,
}

/// What becomes of a session whose pipeline refuses a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnFailure {
    /// The session is closed with `pipeline_failed`. Over UDP the message is dropped instead.
    #[default]
    Disconnect,
    /// The message is dropped, counted, and reported to the error handler; the session goes on. A request
    /// that cannot be read is answered with FAILURE. Refused together with reliable sessions.
    Drop,
}

/// Puts a [`Pipeline`] together.
#[derive(Debug, Default)]
pub struct PipelineBuilder {
    stages: Vec<(StageDefinition, bool)>,
    without_hello: bool,
    on_failure: OnFailure,
}

impl Pipeline {
    /// A pipeline without stages, to be filled.
    pub fn builder() -> PipelineBuilder {
        PipelineBuilder::default()
    }

    /// The names of the stages, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.inner
            .stages
            .iter()
            .map(|stage| &*stage.definition.name)
    }

    /// Whether there are no stages.
    pub fn is_empty(&self) -> bool {
        self.inner.stages.is_empty()
    }

    /// What each stage has done so far, on all links of all servers and clients that share this pipeline.
    pub fn stats(&self) -> Vec<StageStats> {
        self.inner
            .stages
            .iter()
            .map(|stage| stage.counters.read(&stage.definition.name))
            .collect()
    }

    /// Sets the statistics to zero.
    pub fn reset_stats(&self) {
        for stage in &self.inner.stages {
            stage.counters.reset();
        }
    }

    /// The same for one server or client, which has statistics of its own besides.
    pub(crate) fn counted_apart(mut self) -> Pipeline {
        let stages = self.inner.stages.iter();
        let counters = stages.map(|_| Counters::default()).collect();
        self.apart = Some(Arc::new(counters));
        self
    }

    /// What each stage has done for the one server or client.
    pub(crate) fn stats_apart(&self) -> Vec<StageStats> {
        let counters = self.apart.iter().flat_map(|apart| apart.iter());
        let stages = self.names().zip(counters);
        stages.map(|(name, counters)| counters.read(name)).collect()
    }

    /// Where a stage is counted.
    fn counters(&self, stage: u8) -> impl Iterator<Item = &Counters> {
        let index = usize::from(stage);
        let apart = self.apart.as_ref().and_then(|apart| apart.get(index));
        [&self.inner.stages[index].counters]
            .into_iter()
            .chain(apart)
    }

    pub(crate) fn on_failure(&self) -> OnFailure {
        self.inner.on_failure
    }

    /// Whether peers without hello are taken to use every stage.
    pub(crate) fn works_without_hello(&self) -> bool {
        self.inner.without_hello
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl PipelineBuilder {
    /// Adds a stage that is used when the other side has it too.
    #[must_use]
    pub fn offer(mut self, stage: impl Into<StageDefinition>) -> Self {
        self.stages.push((stage.into(), false));
        self
    }

    /// Adds a stage without which there is no session. Where several of one kind are required, one of them
    /// suffices.
    #[must_use]
    pub fn require(mut self, stage: impl Into<StageDefinition>) -> Self {
        self.stages.push((stage.into(), true));
        self
    }

    /// Takes peers without hello to use every stage: both sides have to be configured alike. Without this,
    /// such peers use none, and are refused when a stage is required.
    ///
    /// It applies to codecs without hello, and to a server's peers on MSGI whose first frame is no hello.
    /// Encryption then cannot refuse the replay of a whole connection.
    #[must_use]
    pub fn without_hello(mut self) -> Self {
        self.without_hello = true;
        self
    }

    /// Sets what becomes of a session whose pipeline refuses a message.
    #[must_use]
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = on_failure;
        self
    }

    /// Checks the stages.
    ///
    /// # Errors
    /// `invalid_configuration`: names that are empty, longer than 64 bytes, not printable ASCII or used
    /// twice; a stage that is configured in a way that it does not have; encryption before compression; more than 16 stages; stages that together add more than 64
    /// bytes to a message; several stages of one kind [without hello](Self::without_hello).
    pub fn build(self) -> Result<Pipeline, ConfigError> {
        self.check()?;
        let stages = self.stages.into_iter();
        Ok(Pipeline {
            apart: None,
            inner: Arc::new(Inner {
                stages: stages
                    .map(|(definition, is_required)| Configured {
                        definition,
                        is_required,
                        counters: Counters::default(),
                    })
                    .collect(),
                without_hello: self.without_hello,
                on_failure: self.on_failure,
            }),
        })
    }

    fn check(&self) -> Result<(), ConfigError> {
        let invalid = |text: Cow<'static, str>| {
            Err(ConfigError::new(
                crate::error::ErrorCode::InvalidConfiguration,
                format!("pipeline: {text}"),
            ))
        };
        if self.stages.len() > STAGES_MAX {
            return invalid(format!("has more than {STAGES_MAX} stages").into());
        }
        for (index, (stage, _)) in self.stages.iter().enumerate() {
            let name = &*stage.name;
            if name.is_empty()
                || name.len() > NAME_MAX
                || !name.bytes().all(|byte| byte.is_ascii_graphic())
            {
                let text = format!("a stage's name is 1 to {NAME_MAX} printable ASCII characters");
                return invalid(text.into());
            }
            if let Some(fault) = &stage.fault {
                return invalid(fault.clone());
            }
            let before = &self.stages[..index];
            if before.iter().any(|(other, _)| other.name == stage.name) {
                return invalid(format!("there are two stages with the name {name}").into());
            }
            if stage.kind == StageKind::Compression
                && before
                    .iter()
                    .any(|(other, _)| other.kind == StageKind::Encryption)
            {
                let text =
                    format!("{name} stands behind encryption, which leaves nothing to compress");
                return invalid(text.into());
            }
        }
        let kinds = [
            StageKind::Compression,
            StageKind::Encryption,
            StageKind::Authentication,
        ];
        let mut overhead: usize = self.of_kind(StageKind::Custom).map(|s| s.overhead).sum();
        for kind in kinds {
            overhead += self.of_kind(kind).map(|s| s.overhead).max().unwrap_or(0);
            if self.without_hello && self.of_kind(kind).count() > 1 {
                let text = format!("without hello there is no choice among stages of {kind:?}");
                return invalid(text.into());
            }
        }
        if overhead > OVERHEAD_MAX {
            let text =
                format!("the stages add {overhead} bytes to a message, more than {OVERHEAD_MAX}");
            return invalid(text.into());
        }
        Ok(())
    }

    fn of_kind(&self, kind: StageKind) -> impl Iterator<Item = &StageDefinition> {
        let stages = self.stages.iter().map(|(stage, _)| stage);
        stages.filter(move |stage| stage.kind == kind)
    }
}
