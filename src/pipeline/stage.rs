//! The seam between a pipeline and its stages.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::error::ErrorCode;

/// One step of a pipeline, as a user writes it: an owned value of one link, which sees every message of the
/// link in both directions, in order.
///
/// Both methods append to `output`, whose contents before that belong to others. They are called on the
/// thread that owns the session and must not block.
///
/// ```
/// use network_system::pipeline::{CustomStage, Pipeline, Stage, StageError};
///
/// /// Turns every byte round; of no use but as an example.
/// #[derive(Clone)]
/// struct Inverted;
///
/// impl Stage for Inverted {
///     fn encode(&mut self, message: &[u8], output: &mut Vec<u8>) -> Result<(), StageError> {
///         output.extend(message.iter().map(|byte| !byte));
///         Ok(())
///     }
///
///     fn decode(
///         &mut self,
///         encoded: &[u8],
///         _limit: usize,
///         output: &mut Vec<u8>,
///     ) -> Result<(), StageError> {
///         output.extend(encoded.iter().map(|byte| !byte));
///         Ok(())
///     }
/// }
///
/// let pipeline = Pipeline::builder()
///     .require(CustomStage::new("inverted", Inverted))
///     .build()?;
/// # Ok::<(), network_system::ConfigError>(())
/// ```
pub trait Stage: Send + 'static {
    /// Appends to `output` what is sent in place of `message`.
    ///
    /// # Errors
    /// Whatever the stage refuses; the message is then not sent, and the session hears `pipeline_failed`
    /// with the stage's name.
    fn encode(&mut self, message: &[u8], output: &mut Vec<u8>) -> Result<(), StageError>;

    /// Appends to `output` the message that `encoded` stands for, at most `limit` bytes.
    ///
    /// # Errors
    /// When `encoded` cannot have come from this stage's other side, or stands for more than `limit` bytes.
    fn decode(
        &mut self,
        encoded: &[u8],
        limit: usize,
        output: &mut Vec<u8>,
    ) -> Result<(), StageError>;

    /// Looks at a message that stays as it is. Called instead of the other two, and only for stages that
    /// [observe](CustomStage::observes).
    fn observe(&mut self, direction: Direction, message: &[u8]) {
        let _ = (direction, message);
    }
}

/// Which way a message goes, seen from the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the peer.
    Sent,
    /// From the peer.
    Received,
}

impl Direction {
    /// `sent` or `received`.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::Sent => "sent",
            Direction::Received => "received",
        }
    }
}

/// Why a stage refused a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageError {
    code: ErrorCode,
    text: Cow<'static, str>,
}

impl StageError {
    /// A failure with a text for people, which must not hold secrets or payloads.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        StageError {
            code: ErrorCode::PipelineFailed,
            text: text.into(),
        }
    }

    /// The message would be longer than it may be.
    pub fn too_large(len: usize, limit: usize) -> Self {
        StageError {
            code: ErrorCode::MessageTooLarge,
            text: format!("a message of {len} bytes is over the limit of {limit} bytes").into(),
        }
    }

    /// `pipeline_failed` or `message_too_large`.
    pub fn code(&self) -> ErrorCode {
        self.code
    }
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for StageError {}

/// What a stage is for. Both sides use at most one stage of each of the protocol's kinds on a link, and apply
/// them in this order when a configuration does not keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum StageKind {
    /// Makes messages shorter.
    Compression,
    /// Keeps messages secret and unchanged.
    Encryption,
    /// Keeps messages unchanged.
    Authentication,
    /// The application's own.
    Custom,
    /// Only looks on: leaves messages as they are, is not negotiated, and is not on the wire.
    Observer,
}

/// A stage as it is configured: what makes one for each link.
///
/// [`Compression`](super::Compression), [`Encryption`](super::Encryption),
/// [`HmacSha256`](super::HmacSha256), [`MessageLog`](super::MessageLog) and [`CustomStage`] become one.
#[derive(Clone)]
pub struct StageDefinition {
    pub(crate) name: Cow<'static, str>,
    pub(crate) kind: StageKind,
    /// The most bytes by which the stage makes a message longer.
    pub(crate) overhead: usize,
    /// Whether what the stage makes of a message is the same on every link.
    pub(crate) is_shareable: bool,
    /// Whether the result of `encode` is no text, even for a text.
    pub(crate) is_binary: bool,
    /// Whether the stage needs every message of the link, in order.
    pub(crate) needs_order: bool,
    /// What is wrong with how the stage is configured; building the pipeline says so.
    pub(crate) fault: Option<Cow<'static, str>>,
    pub(crate) make: Arc<MakeStage>,
}

/// Makes the stage of one link.
pub(crate) type MakeStage =
    dyn Fn(&LinkContext<'_>) -> Result<Box<dyn Stage>, StageError> + Send + Sync;

impl fmt::Debug for StageDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StageDefinition")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// What a stage is told about the link that it is made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkContext<'a> {
    /// Whether this side is the client: it sends in the direction `c2s`.
    pub(crate) is_client: bool,
    /// What hello and welcome agreed on; `None` when both sides are configured instead.
    pub(crate) handshake: Option<&'a Handshake>,
    /// Whether messages may be lost on the link.
    pub(crate) is_lossy: bool,
    /// The id of the session, for logging.
    pub(crate) session: u64,
}

/// What hello and welcome leave for the keys of a link (protocol section 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handshake {
    pub(crate) client_nonce: [u8; 16],
    pub(crate) server_nonce: [u8; 16],
    /// SHA-256 over the payload of hello, then that of welcome.
    pub(crate) transcript: [u8; 32],
}

/// A stage of the application's own, with the name by which both sides know it.
#[derive(Clone, Debug)]
pub struct CustomStage(StageDefinition);

impl CustomStage {
    /// A stage of which each link has a clone.
    pub fn new<S: Stage + Clone + Sync>(name: impl Into<Cow<'static, str>>, stage: S) -> Self {
        CustomStage::with(name, move || stage.clone())
    }

    /// A stage that is made anew for each link.
    pub fn with<S: Stage>(
        name: impl Into<Cow<'static, str>>,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> Self {
        CustomStage(StageDefinition {
            name: name.into(),
            kind: StageKind::Custom,
            overhead: 0,
            is_shareable: false,
            is_binary: true,
            needs_order: false,
            fault: None,
            make: Arc::new(move |_| Ok(Box::new(make()))),
        })
    }

    /// The most bytes by which the stage makes a message longer. Default 0; all stages together may add 64.
    #[must_use]
    pub fn overhead(mut self, bytes: usize) -> Self {
        self.0.overhead = bytes;
        self
    }

    /// Says that text stays text, so that transports with text messages keep the kind.
    #[must_use]
    pub fn keeps_text(mut self) -> Self {
        self.0.is_binary = false;
        self
    }

    /// Says that the stage only looks on: messages go to [`Stage::observe`] and nowhere else, without a copy.
    /// The stage is neither negotiated nor on the wire, so the other side needs not have it.
    #[must_use]
    pub fn observes(mut self) -> Self {
        self.0.kind = StageKind::Observer;
        self.0.is_binary = false;
        self
    }

    /// Says that the stage has no state, so that a broadcast goes through it once for many sessions.
    #[must_use]
    pub fn stateless(mut self) -> Self {
        self.0.is_shareable = true;
        self
    }
}

impl From<CustomStage> for StageDefinition {
    fn from(stage: CustomStage) -> Self {
        stage.0
    }
}
