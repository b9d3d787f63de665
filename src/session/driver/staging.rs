//! Between session and link: the stages of a pipeline, when there are any (protocol section 6).
//!
//! What is sent is collected as values and goes through the stages just before the link takes it, in the
//! order in which it leaves: what a policy drops, or what waits for another link, has not been encoded. What
//! is received goes through them when it arrives, in the order of the wire, whatever waits for the handler.

use std::borrow::Cow;
use std::collections::VecDeque;

use aws_lc_rs::digest;
use bytes::Bytes;

use super::lane::failure_payload;
use super::{Driver, TurnContext};
use crate::codec::control::{Hello, Nonce, Welcome};
use crate::codec::{FrameType, Framing, ProtocolError, Span};
use crate::error::RequestError;
use crate::message::SHARE_THRESHOLD;
use crate::pipeline::{
    Handshake, LinkContext, LinkPipeline, OVERHEAD_MAX, OnFailure, PipelineFailure, SALT,
    StageScratch,
};
use crate::session::inbound::{Inbound, Rebuilt};
use crate::session::link::{Received, Then};
use crate::session::output::{Frame, Output};
use crate::session::reliable::is_application;
use crate::worker::BroadcastFrames;

/// What a driver has between its session and its link.
pub(super) struct Staging {
    pipeline: LinkPipeline,
    /// Frames that arrived and have not gone through the stages, because what came before them has
    /// become large; and what comes after them.
    pub(super) waiting: Option<Received>,
    /// Why a message could not be sent, when that ends the session.
    pub(super) failed: Option<PipelineFailure>,
    /// Whether that was so: nothing that was sent later may leave without it.
    has_gap: bool,
    keeps_text: bool,
    /// Whether there are stages that change messages.
    is_agreed: bool,
}

/// What is remembered of hello until welcome answers it, or of the hello that was sent.
#[derive(Default)]
pub(super) struct Greeted {
    /// The payload as it was on the wire.
    pub(super) hello: Bytes,
    pub(super) nonce: Option<Nonce>,
    /// The stages that a server has chosen; unused on a client.
    pub(super) agreed: Vec<u8>,
}

impl Driver {
    /// What a client adds to its hello.
    pub(super) fn offer_pipeline(&mut self, hello: &mut Hello) {
        if let Some(pipeline) = &self.shared.hub().pipeline {
            hello.pipeline = pipeline.offered();
            hello.nonce = (!hello.pipeline.is_empty()).then(random_nonce).flatten();
        }
    }

    /// A client keeps what its keys will depend on.
    pub(super) fn remember_hello(&mut self, payload: Bytes, nonce: Option<Nonce>) {
        if self.shared.hub().pipeline.is_some() {
            self.greeted = Some(Box::new(Greeted {
                hello: payload,
                nonce,
                agreed: Vec::new(),
            }));
        }
    }

    /// A server chooses from what a client offers. Returns why it cannot.
    pub(super) fn choose_pipeline(
        &mut self,
        hello: &Hello,
        payload: &[u8],
    ) -> Result<(), Cow<'static, str>> {
        let Some(pipeline) = &self.shared.hub().pipeline else {
            return Ok(());
        };
        let agreed = pipeline.choose(&hello.pipeline, hello.nonce.is_some())?;
        self.greeted = Some(Box::new(Greeted {
            hello: Bytes::copy_from_slice(payload),
            nonce: hello.nonce,
            agreed,
        }));
        Ok(())
    }

    /// What a server adds to its welcome.
    pub(super) fn agree_pipeline(&self, welcome: &mut Welcome) {
        if let (Some(greeted), Some(pipeline)) = (&self.greeted, &self.shared.hub().pipeline) {
            welcome.pipeline = pipeline.wire_names(&greeted.agreed);
            if !welcome.pipeline.is_empty() && greeted.nonce.is_some() {
                welcome.nonce = random_nonce();
            }
        }
    }

    /// Welcome is known on both sides: the stages begin.
    pub(super) fn begin_agreed(
        &mut self,
        agreed: Vec<u8>,
        welcome: &Welcome,
        payload: &[u8],
    ) -> Result<(), Cow<'static, str>> {
        let Some(greeted) = self.greeted.take() else {
            return Ok(());
        };
        let handshake = match (greeted.nonce, welcome.nonce) {
            (Some(client_nonce), Some(server_nonce)) => {
                let mut transcript = digest::Context::new(&digest::SHA256);
                transcript.update(&greeted.hello);
                transcript.update(payload);
                let mut sum = [0; digest::SHA256_OUTPUT_LEN];
                sum.copy_from_slice(transcript.finish().as_ref());
                Some(Handshake {
                    client_nonce,
                    server_nonce,
                    transcript: sum,
                })
            }
            _ => None,
        };
        if let Some(pipeline) = &self.shared.hub().pipeline
            && handshake.is_none()
            && pipeline.has_encryption(&agreed)
        {
            return Err("encryption was agreed on without a nonce of each side".into());
        }
        self.begin_stages(agreed, handshake.as_ref())
    }

    /// The peer says no hello: what is configured for that begins. Returns why the peer is refused.
    pub(super) fn begin_without_hello(&mut self) -> Result<(), Cow<'static, str>> {
        let Some(pipeline) = &self.shared.hub().pipeline else {
            return Ok(());
        };
        let agreed = if pipeline.works_without_hello() {
            pipeline.all()
        } else if pipeline.has_required() {
            return Err("the pipeline has stages without which nobody is let in: say hello".into());
        } else {
            pipeline.observers()
        };
        self.begin_stages(agreed, None)
    }

    fn begin_stages(
        &mut self,
        agreed: Vec<u8>,
        handshake: Option<&Handshake>,
    ) -> Result<(), Cow<'static, str>> {
        let hub = self.shared.hub();
        let Some(pipeline) = &hub.pipeline else {
            return Ok(());
        };
        if agreed.is_empty() {
            return Ok(());
        }
        let is_lossy = self.shared.transport().is_lossy();
        let context = LinkContext {
            is_client: matches!(hub.role, crate::metrics::Role::Client),
            handshake,
            is_lossy,
            session: self.shared.id().as_u64(),
        };
        let link = LinkPipeline::new(pipeline, &agreed, &context)
            .map_err(|failure| failure.to_string())?;
        if let Some(room) = self.datagram_room() {
            // A datagram does not grow.
            let room = room.saturating_sub(link.overhead());
            self.shared.lower_message_limit(room as u64);
        }
        let names = pipeline.wire_names(&agreed);
        let is_agreed = !names.is_empty();
        self.shared.set_pipeline(names);
        self.staging = Some(Box::new(Staging {
            is_agreed,
            keeps_text: link.keeps_text(),
            pipeline: link,
            waiting: None,
            failed: None,
            has_gap: false,
        }));
        Ok(())
    }

    /// The longest message that the link takes whatever the limits, where there is such a length.
    fn datagram_room(&self) -> Option<usize> {
        self.shared.established()?.message_limit
    }

    /// Sends what was collected through the stages.
    pub(super) fn stage(&mut self, output: &mut Output, scratch: &mut StageScratch) {
        if self.shared.collecting() == Framing::Frames {
            let frames = output.take_values();
            self.stage_frames(output, frames, scratch, true);
        }
    }

    /// Sends frames through the stages, if there are any. New ones are kept on a reliable session.
    pub(super) fn stage_frames(
        &mut self,
        output: &mut Output,
        mut frames: VecDeque<Frame>,
        scratch: &mut StageScratch,
        are_new: bool,
    ) {
        let framing = self.shared.framing();
        let mut replay = self.reliable.as_mut().filter(|_| are_new);
        let mut keep = |frame: &Frame| {
            if let Some(reliable) = &mut replay
                && is_application(frame.frame_type)
            {
                reliable.replay.keep(frame.clone());
            }
        };
        let Some(staging) = &mut self.staging else {
            for frame in frames.drain(..) {
                keep(&frame);
                output.place(framing, frame);
            }
            output.recycle_values(frames);
            output.set_staged();
            return;
        };
        let most = self.shared.message_limit() + OVERHEAD_MAX + SALT;
        let mut refused = Vec::new();
        while let Some(mut frame) = frames.pop_front() {
            if !is_staged(frame.frame_type) {
                keep(&frame);
                output.place(framing, frame);
                continue;
            }
            if staging.has_gap {
                continue;
            }
            frame.text &= staging.keeps_text;
            if staging.pipeline.has_done_all(frame.stages_done)
                && framing.refuses(frame.frame_type, &frame.payload).is_none()
            {
                keep(&frame);
                output.place(framing, frame);
                continue;
            }
            let done = usize::from(frame.stages_done);
            let encoded = staging.pipeline.encode(&frame.payload, done, most, scratch);
            let refusal = framing.refuses(frame.frame_type, &scratch.result);
            let encoded = encoded.and_then(|()| match refusal {
                None => Ok(()),
                Some(text) => Err(staging.pipeline.refuse_result(done, text)),
            });
            match encoded {
                Ok(()) if scratch.result.len() < SHARE_THRESHOLD && !framing.is_values() => {
                    keep(&frame);
                    let Frame {
                        frame_type,
                        text,
                        id,
                        ..
                    } = frame;
                    output.place_slice(framing, frame_type, text, id, &scratch.result);
                }
                Ok(()) => {
                    keep(&frame);
                    frame.payload = scratch.take_result();
                    output.place(framing, frame);
                }
                Err(failure) => {
                    if frame.frame_type == FrameType::RESPONSE {
                        let error = RequestError::with_code(failure.code(), failure.to_string());
                        let payload = Bytes::from(failure_payload(&error));
                        let answer = Frame::new(FrameType::FAILURE, false, frame.id, payload);
                        keep(&answer);
                        output.place(framing, answer);
                    }
                    staging.has_gap = staging.pipeline.on_failure() == OnFailure::Disconnect;
                    refused.push((frame.frame_type, frame.id, failure));
                }
            }
        }
        output.recycle_values(frames);
        output.set_staged();
        staging.pipeline.flush_stats();
        scratch.shrink();
        for (frame_type, id, failure) in refused {
            self.on_refused_output(frame_type, id, failure);
        }
    }

    #[cold]
    fn on_refused_output(&mut self, frame_type: FrameType, id: u64, failure: PipelineFailure) {
        if frame_type == FrameType::REQUEST {
            let error = RequestError::with_code(failure.code(), failure.to_string());
            self.complete_request(id, Err(error));
        }
        let is_closing = self.is_closing();
        let Some(staging) = &mut self.staging else {
            return;
        };
        if staging.has_gap && !is_closing {
            // The session ends in its next turn, not in the middle of writing.
            staging.failed.get_or_insert(failure);
            self.shared.schedule();
            return;
        }
        if staging.has_gap {
            self.fail_goodbye(failure.code(), &failure.to_string());
        }
        self.report_error(failure.code(), &failure.to_string());
    }

    /// Ends the session when a message could not be sent and that is to be its end.
    pub(super) fn check_staging(&mut self, now: u64) {
        if let Some(staging) = &mut self.staging
            && let Some(failure) = staging.failed.take()
        {
            if self.is_closing() {
                self.fail_goodbye(failure.code(), &failure.to_string());
                self.report_error(failure.code(), &failure.to_string());
            }
            self.fail(failure.code(), failure.to_string(), now);
        }
    }

    /// Sends what was received back through the stages, about `room` bytes of it. The rest waits. Returns
    /// how much work that was, in bytes.
    pub(super) fn unstage(
        &mut self,
        received: &mut Received,
        room: usize,
        turn: &mut TurnContext<'_>,
    ) -> usize {
        let Some(staging) = &mut self.staging else {
            return 0;
        };
        if received.frames.is_empty() {
            return 0;
        }
        let limit = self.shared.limits().message_size;
        let frames = std::mem::take(&mut received.frames);
        let scratch = &mut turn.buffers.stages;
        let mut refused = Vec::new();
        let mut ends = false;
        let mut too_long = None;
        let keeps_text = staging.keeps_text;
        let (decoded, mut rest) = frames.rebuild(room, |span, payload, output| {
            if !is_staged(span.frame_type) {
                output.extend_from_slice(payload);
                return Rebuilt::Kept;
            }
            span.text &= keeps_text;
            if !staging.is_agreed && payload.len() > limit {
                // The link takes a little more, which is for stages that are not there.
                too_long = Some(ProtocolError::too_large(payload.len(), limit));
                return Rebuilt::Stopped;
            }
            let result = match payload.len() > limit + OVERHEAD_MAX + SALT {
                true => Err(staging.pipeline.refuse_length(payload.len(), limit)),
                false => staging.pipeline.decode(payload, limit, scratch, output),
            };
            match result {
                Ok(()) => Rebuilt::Kept,
                Err(failure) => {
                    ends = staging.pipeline.on_failure() == OnFailure::Disconnect;
                    refused.push((*span, failure));
                    match ends {
                        true => Rebuilt::Stopped,
                        // It may have become a message of any length before it was found to be wrong.
                        false => Rebuilt::Dropped { work: limit },
                    }
                }
            }
        });
        staging.pipeline.flush_stats();
        scratch.shrink();
        let work = decoded.buffer_len() + refused.len() * limit;
        received.frames = decoded;
        if let Some(error) = too_long {
            received.then = Then::Invalid(error);
        } else if ends {
            if let Some((_, failure)) = refused.pop() {
                if self.is_closing() {
                    // The close goes on with its own reason, and the message is lost all the same.
                    self.report_error(failure.code(), &failure.to_string());
                }
                received.then = Then::Invalid(ProtocolError {
                    code: failure.code(),
                    text: failure.to_string().into(),
                    websocket: None,
                });
            }
        } else if !rest.is_empty() {
            if received.bytes > 0 {
                rest.detach();
            }
            staging.waiting = Some(Received {
                frames: rest,
                bytes: 0,
                then: std::mem::replace(&mut received.then, Then::More),
            });
        }
        for (span, failure) in refused {
            self.on_refused_input(span, &failure);
        }
        work
    }

    #[cold]
    fn on_refused_input(&mut self, span: Span, failure: &PipelineFailure) {
        let error = RequestError::with_code(failure.code(), failure.to_string());
        match span.frame_type {
            FrameType::REQUEST => {
                let payload = Bytes::from(failure_payload(&error));
                let answer = Frame::new(FrameType::FAILURE, false, span.id, payload);
                self.shared.push_protocol_frame(answer);
            }
            FrameType::RESPONSE => self.complete_request(span.id, Err(error)),
            _ => {}
        }
        self.report_error(failure.code(), &failure.to_string());
    }

    /// On links without stages whose frames may be a little longer than a message: judges the messages.
    pub(super) fn check_lengths(&self, received: &mut Received) {
        if self.shared.hub().pipeline.is_none() || self.staging.is_some() {
            return;
        }
        let limit = self.shared.limits().message_size;
        if let Some(len) = received.frames.cut_before_longer(limit) {
            received.then = Then::Invalid(ProtocolError::too_large(len, limit));
        }
    }

    /// Whether a peer has sent messages before the welcome that says how to read and count them.
    pub(super) fn has_early_messages(&self, frames: &Inbound) -> bool {
        let is_agreed = self.staging.as_ref().is_some_and(|known| known.is_agreed);
        (is_agreed && frames.has_any(is_staged))
            || (self.reliable.is_some() && frames.has_any(is_application))
    }

    /// Sends frames that were held, and that nothing was agreed about, past the stages that look on.
    pub(super) fn observe(&mut self, frames: Inbound, turn: &mut TurnContext<'_>) -> Inbound {
        let mut received = Received {
            frames,
            bytes: 0,
            then: Then::More,
        };
        self.unstage(&mut received, usize::MAX, turn);
        received.frames
    }

    /// A message for many sessions, as a frame of this one: sent through the stages that make the same of it
    /// for all, which happens once.
    pub(super) fn frame_of(
        &mut self,
        message: &BroadcastFrames,
        scratch: &mut StageScratch,
    ) -> Frame {
        let plain = || {
            let payload = message.payload.clone();
            Frame::new(message.frame_type, message.text, 0, payload)
        };
        if self.reliable.is_some() {
            // It is kept as it is, for another link may have other stages.
            return plain();
        }
        let Some(staging) = &mut self.staging else {
            return plain();
        };
        let Some(stages) = staging.pipeline.shareable() else {
            return plain();
        };
        let most = self.shared.limits().message_size + OVERHEAD_MAX;
        let made = message.staged(stages.key, || {
            let made = staging
                .pipeline
                .encode_shareable(&message.payload, most, scratch);
            made.then(|| scratch.take_result())
        });
        match made {
            // A stage refused the message. It does so again when its turn comes, and that is reported.
            None => plain(),
            Some(payload) => Frame {
                payload,
                stages_done: stages.count,
                ..plain()
            },
        }
    }

    /// What was received and has not gone through the stages.
    pub(super) fn take_waiting(&mut self) -> Option<Received> {
        self.staging.as_mut()?.waiting.take()
    }
}

/// Whether the message of such a frame goes through the stages.
fn is_staged(frame_type: FrameType) -> bool {
    frame_type.is_message() || matches!(frame_type, FrameType::REQUEST | FrameType::RESPONSE)
}

/// `None` without a source of random numbers: then there is no encryption either.
fn random_nonce() -> Option<Nonce> {
    let mut nonce = Nonce::default();
    getrandom::fill(&mut nonce).ok()?;
    Some(nonce)
}
