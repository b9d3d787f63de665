//! The stages of one link, with what they remember of it.

use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use super::agreement::Agreed;
use super::{
    Configured, Direction, DirectionStats, LinkContext, OnFailure, Pipeline, Stage, StageError,
    StageKind,
};
use crate::error::ErrorCode;

/// A link's part of a pipeline: the stages that are agreed on, in order.
pub(crate) struct LinkPipeline {
    pipeline: Pipeline,
    stages: Vec<LinkStage>,
    is_lossy: bool,
    /// Whether a stage has counted a message that a later one refused, and that the other side will miss.
    is_out_of_step: bool,
}

struct LinkStage {
    /// Position in the configured pipeline.
    index: u8,
    stage: Box<dyn Stage>,
    /// Whether it leaves messages as they are, so that they need not be copied for it.
    is_observer: bool,
    /// Whether it is the application's own.
    is_custom: bool,
    /// Whether it has panicked: what it remembers of the link may be wrong from then on.
    is_broken: bool,
    sent: DirectionStats,
    received: DirectionStats,
}

/// Stages that make the same of a message on every link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shareable {
    /// Which they are: a bit for each position in the configured pipeline.
    pub(crate) key: u16,
    pub(crate) count: u8,
}

/// Memory for what is between two stages, lent by the worker.
#[derive(Debug, Default)]
pub(crate) struct StageScratch {
    /// The result of a whole pass.
    pub(crate) result: Vec<u8>,
    front: Vec<u8>,
    back: Vec<u8>,
}

/// The most that a buffer of the scratch keeps between two batches.
const SCRATCH_KEEP: usize = 256 * 1024;

impl StageScratch {
    /// The result as a value of its own, which keeps little more memory than it is counted with.
    pub(crate) fn take_result(&mut self) -> Bytes {
        // What compression was ready for is as long as the message was, and may wait in a queue for long.
        if self.result.capacity() / 2 > self.result.len() {
            return Bytes::copy_from_slice(&self.result);
        }
        Bytes::from(std::mem::take(&mut self.result))
    }

    /// Bytes of memory that it takes.
    pub(crate) fn memory(&self) -> usize {
        self.result.capacity() + self.front.capacity() + self.back.capacity()
    }

    /// Gives back what a large message has left behind.
    pub(crate) fn shrink(&mut self) {
        for buffer in [&mut self.result, &mut self.front, &mut self.back] {
            buffer.clear();
            if buffer.capacity() > SCRATCH_KEEP {
                *buffer = Vec::new();
            }
        }
    }
}

/// A stage refused a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PipelineFailure {
    stage: Cow<'static, str>,
    error: StageError,
}

impl PipelineFailure {
    pub(crate) fn code(&self) -> ErrorCode {
        self.error.code()
    }
}

impl fmt::Display for PipelineFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.stage, self.error)
    }
}

impl LinkStage {
    fn observe(&mut self, direction: Direction, message: &[u8]) {
        // What an onlooker does wrong is no reason to stop.
        let _ = shielded(|| self.stage.observe(direction, message));
        let stats = match direction {
            Direction::Sent => &mut self.sent,
            Direction::Received => &mut self.received,
        };
        stats.count(message.len(), message.len());
    }

    fn encode(&mut self, message: &[u8], output: &mut Vec<u8>) -> Result<(), StageError> {
        shielded(|| self.stage.encode(message, output)).unwrap_or_else(|_| Err(self.panicked()))
    }

    fn decode(
        &mut self,
        encoded: &[u8],
        limit: usize,
        output: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        shielded(|| self.stage.decode(encoded, limit, output))
            .unwrap_or_else(|_| Err(self.panicked()))
    }

    #[cold]
    fn panicked(&mut self) -> StageError {
        self.is_broken = true;
        StageError::new(PANICKED)
    }
}

const PANICKED: &str = "the stage panicked";

/// Calls into a stage, which may be the application's: a panic there ends no more than the session.
fn shielded<T>(call: impl FnOnce() -> T) -> std::thread::Result<T> {
    catch_unwind(AssertUnwindSafe(call))
}

impl LinkPipeline {
    /// Makes the agreed stages for a link.
    pub(crate) fn new(
        pipeline: &Pipeline,
        agreed: &Agreed,
        context: &LinkContext<'_>,
    ) -> Result<Self, PipelineFailure> {
        let make = |index: &u8| {
            let Configured { definition, .. } = &pipeline.inner.stages[usize::from(*index)];
            let made = shielded(|| (definition.make)(context));
            match made.unwrap_or_else(|_| Err(StageError::new(PANICKED))) {
                Ok(stage) => Ok(LinkStage {
                    index: *index,
                    stage,
                    is_observer: definition.kind == StageKind::Observer,
                    is_custom: definition.kind == StageKind::Custom,
                    is_broken: false,
                    sent: DirectionStats::default(),
                    received: DirectionStats::default(),
                }),
                Err(error) => Err(PipelineFailure {
                    stage: definition.name.clone(),
                    error,
                }),
            }
        };
        Ok(LinkPipeline {
            pipeline: pipeline.clone(),
            stages: agreed.iter().map(make).collect::<Result<_, _>>()?,
            is_lossy: context.is_lossy,
            is_out_of_step: false,
        })
    }

    /// What becomes of the session when a message is refused.
    pub(crate) fn on_failure(&self) -> OnFailure {
        match self.is_lossy {
            _ if self.stages.iter().any(|stage| stage.is_broken) => OnFailure::Disconnect,
            false if self.is_out_of_step => OnFailure::Disconnect,
            true => OnFailure::Drop,
            false => self.pipeline.on_failure(),
        }
    }

    fn definition(&self, index: u8) -> &Configured {
        &self.pipeline.inner.stages[usize::from(index)]
    }

    /// Whether a text that goes through these stages is still text.
    pub(crate) fn keeps_text(&self) -> bool {
        self.stages
            .iter()
            .all(|stage| !self.definition(stage.index).definition.is_binary)
    }

    /// The stages at the front that make the same of a message on every link, if there are any.
    pub(crate) fn shareable(&self) -> Option<Shareable> {
        let stages = self.stages.iter();
        let shareable = stages
            .map(|stage| stage.index)
            .take_while(|index| self.definition(*index).definition.is_shareable);
        let (mut key, mut count) = (0, 0);
        for index in shareable {
            key |= 1 << index;
            count += 1;
        }
        (count > 0).then_some(Shareable { key, count })
    }

    /// Whether `done` stages are all that there are.
    pub(crate) fn has_done_all(&self, done: u8) -> bool {
        usize::from(done) == self.stages.len()
    }

    /// Sends `message` through the stages that are [`shareable`](Self::shareable) only. False when one
    /// refuses it.
    pub(crate) fn encode_shareable(
        &mut self,
        message: &[u8],
        most: usize,
        scratch: &mut StageScratch,
    ) -> bool {
        let count = self
            .shareable()
            .map_or(0, |stages| usize::from(stages.count));
        let encoded = encode(&mut self.stages[..count], message, scratch).is_ok();
        encoded && scratch.result.len() <= most
    }

    /// Puts into `scratch.result` what is sent in place of `message`, which has gone through `done` stages
    /// already: at most `most` bytes.
    pub(crate) fn encode(
        &mut self,
        message: &[u8],
        done: usize,
        most: usize,
        scratch: &mut StageScratch,
    ) -> Result<(), PipelineFailure> {
        let left = self.stages.get_mut(done..).unwrap_or_default();
        let mut failed = encode(left, message, scratch).err();
        if let Some((refused_by, _)) = &failed {
            self.note_counted(done, Some(*refused_by));
        } else if scratch.result.len() > most {
            self.note_counted(done, None);
            let error = StageError::too_large(scratch.result.len(), most);
            failed = self.stages.last().map(|stage| (stage.index, error));
        }
        self.outcome(failed)
    }

    /// A message that does not leave has gone through the stages behind the first `done`, up to the one that
    /// refused it. Those may have counted it.
    fn note_counted(&mut self, done: usize, refused_by: Option<u8>) {
        let before = self
            .stages
            .iter()
            .take_while(|stage| Some(stage.index) != refused_by);
        self.is_out_of_step |= before.skip(done).any(|stage| {
            !stage.is_observer && !self.definition(stage.index).definition.is_shareable
        });
    }

    /// Appends to `output` the message that `encoded` stands for, at most `limit` bytes.
    pub(crate) fn decode(
        &mut self,
        encoded: &[u8],
        limit: usize,
        scratch: &mut StageScratch,
        output: &mut Vec<u8>,
    ) -> Result<(), PipelineFailure> {
        let before = output.len();
        let mut failed = None;
        // As they are met on the way in.
        let first = self.stages.iter().rposition(|stage| !stage.is_observer);
        let last = self.stages.iter().position(|stage| !stage.is_observer);
        for (position, stage) in self.stages.iter_mut().enumerate().rev() {
            let StageScratch { front, back, .. } = scratch;
            if stage.is_observer {
                let seen = match (first, last) {
                    (_, Some(last)) if position < last => &output[before..],
                    (Some(first), _) if position < first => &front[..],
                    _ => encoded,
                };
                stage.observe(Direction::Received, seen);
                continue;
            }
            let input = if Some(position) == first {
                encoded
            } else {
                &front[..]
            };
            let is_last = Some(position) == last;
            // Between two stages a message has what the stages before it on the way out have added.
            let most = if is_last {
                limit
            } else {
                limit + super::OVERHEAD_MAX
            };
            // What stands in `output` belongs to other messages: only stages of this crate get at it.
            let is_direct = is_last && !stage.is_custom;
            let out = if is_direct { &mut *output } else { &mut *back };
            let start = if is_direct { before } else { 0 };
            out.truncate(start);
            let decoded = stage.decode(input, most, out);
            let len = out.len() - start;
            let error = match decoded {
                Ok(()) if len > most => StageError::too_large(len, most),
                Ok(()) => {
                    stage.received.count(len, input.len());
                    match (is_last, is_direct) {
                        (false, _) => std::mem::swap(front, back),
                        (true, false) => output.extend_from_slice(back),
                        (true, true) => {}
                    }
                    continue;
                }
                Err(error) => error,
            };
            failed = Some((stage.index, error));
            break;
        }
        if last.is_none() {
            output.extend_from_slice(encoded);
        }
        if failed.is_some() {
            output.truncate(before);
        }
        self.outcome(failed)
    }

    fn outcome(&self, failed: Option<(u8, StageError)>) -> Result<(), PipelineFailure> {
        match failed {
            None => Ok(()),
            Some((index, error)) => {
                let configured = self.definition(index);
                for counters in self.pipeline.counters(index) {
                    counters.add_failure();
                }
                Err(PipelineFailure {
                    stage: configured.definition.name.clone(),
                    error,
                })
            }
        }
    }

    /// The most bytes that these stages add to a message.
    pub(crate) fn overhead(&self) -> usize {
        let stages = self.stages.iter();
        stages
            .map(|stage| self.definition(stage.index).definition.overhead)
            .sum()
    }

    /// What the stages behind the first `done` have made of a message cannot stand on the link.
    #[cold]
    pub(crate) fn refuse_result(&mut self, done: usize, text: &'static str) -> PipelineFailure {
        self.note_counted(done, None);
        PipelineFailure {
            stage: self.last_name(),
            error: StageError::new(text),
        }
    }

    /// The name of the stage that is next to the link.
    fn last_name(&self) -> Cow<'static, str> {
        match self.stages.last() {
            Some(stage) => self.definition(stage.index).definition.name.clone(),
            None => "pipeline".into(),
        }
    }

    /// What came is longer than any message can be made.
    pub(crate) fn refuse_length(&self, len: usize, limit: usize) -> PipelineFailure {
        PipelineFailure {
            stage: self.last_name(),
            error: StageError::too_large(len, limit),
        }
    }

    /// Adds what was counted to the pipeline's statistics.
    pub(crate) fn flush_stats(&mut self) {
        for stage in &mut self.stages {
            let sent = std::mem::take(&mut stage.sent);
            let received = std::mem::take(&mut stage.received);
            for counters in self.pipeline.counters(stage.index) {
                counters.add_sent(sent);
                counters.add_received(received);
            }
        }
    }
}

/// Sends `message` through `stages`. Says which of them refuses it.
fn encode(
    stages: &mut [LinkStage],
    message: &[u8],
    scratch: &mut StageScratch,
) -> Result<(), (u8, StageError)> {
    let StageScratch {
        result,
        front,
        back,
    } = scratch;
    result.clear();
    // The first and the last stage that change messages.
    let first = stages.iter().position(|stage| !stage.is_observer);
    let last = stages.iter().rposition(|stage| !stage.is_observer);
    for (position, stage) in stages.iter_mut().enumerate() {
        if stage.is_observer {
            let seen = match (first, last) {
                (_, Some(last)) if position > last => &result[..],
                (Some(first), _) if position > first => &front[..],
                _ => message,
            };
            stage.observe(Direction::Sent, seen);
            continue;
        }
        let is_first = Some(position) == first;
        let is_last = Some(position) == last;
        // What goes in is in `front`, but for the first; what comes out is in `back`, but for the last.
        let input = if is_first { message } else { &front[..] };
        let output = if is_last { &mut *result } else { &mut *back };
        output.clear();
        let encoded = stage.encode(input, output);
        encoded.map_err(|error| (stage.index, error))?;
        stage.sent.count(input.len(), output.len());
        if !is_last {
            std::mem::swap(front, back);
        }
    }
    if last.is_none() {
        result.extend_from_slice(message);
    }
    Ok(())
}
